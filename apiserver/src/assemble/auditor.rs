//! Puts the auditor together; sends events to a webhook.
//! Upstream: `plugin/pkg/audit/webhook/webhook.go`.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use audit::{Auditor, Config, Event, Sink};
use component::app::{Error, Tasks};

use crate::outbound::endpoint::{Endpoint, TIMEOUT};

/// Events as lists, by POST; every failure is tried again.
struct Webhook {
    endpoint: Endpoint,
    initial_backoff: Duration,
}

#[async_trait]
impl Sink for Webhook {
    async fn process(&self, events: &[Arc<Event>]) -> bool {
        let sent = match audit::event::list(events) {
            Ok(list) => self.endpoint.post(list.into(), self.initial_backoff, |_| true).await,
            Err(error) => {
                audit::lost("webhook", &error.to_string(), events);
                return false;
            }
        };
        match sent {
            Ok(_) => true,
            Err(why) => {
                audit::lost("webhook", &why, events);
                false
            }
        }
    }
}

/// The auditor that the flags ask for.
pub(crate) fn start(config: &Config, tasks: &Tasks) -> Result<Option<Arc<Auditor>>, Error> {
    let webhook = config.webhook.as_ref().filter(|_| config.policy.is_some());
    let webhook = webhook
        .map(|w| Endpoint::load(&w.kubeconfig, TIMEOUT).map(|endpoint| (endpoint, w.initial_backoff)))
        .transpose()
        .map_err(|e| format!("initializing audit webhook: {e}"))?;
    let webhook = webhook
        .map(|(endpoint, initial_backoff)| Arc::new(Webhook { endpoint, initial_backoff }) as Arc<dyn Sink>);
    Ok(Auditor::start(config, webhook, tasks)?)
}
