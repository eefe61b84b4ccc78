//! MutatingAdmissionWebhook and ValidatingAdmissionWebhook: HTTP servers that the configurations name may change or
//! refuse a write. Upstream: `k8s.io/apiserver/pkg/admission/plugin/webhook`.
//!
//! [`Webhooks`] holds the configurations, parsed; a follower of the store keeps it up to date. [`hook`] says which
//! requests a webhook is called for, [`versioned`] in which version it sees the object, [`review`] what is asked and how
//! the answer is read, [`dispatch`] in which order and what becomes of failures. HTTP is behind [`Backend`].

mod annotations;
mod dispatch;
pub(super) mod hook;
pub(super) mod review;
pub(super) mod rules;
pub(super) mod versioned;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use machinery::Value;
use parking_lot::RwLock;
use tokio::sync::watch;

use super::{Attributes, Operation, Plugin};
use crate::audit::Layer;
use crate::errors::ApiError;
use ::api::validation::admissionregistration::EXCLUDED;

pub use hook::{ClientConfig, Hook, Target};
pub(crate) use rules::operation_text;

/// How long a request waits for the first complete state (upstream's `timeToWaitForReady`).
pub(super) const READY: Duration = Duration::from_secs(10);

/// The two phases of admission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// May change the object.
    Mutating,
    /// May only refuse it.
    Validating,
}

impl Phase {
    /// Upstream's label in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Phase::Mutating => "admit",
            Phase::Validating => "validating",
        }
    }
}

/// Why a webhook gave no answer.
#[derive(Debug, Clone)]
pub struct CallFailed {
    /// What failed and why, in the words of upstream's dispatcher and client.
    pub why: String,
    /// HTTP status of the answer; 503 when there was none.
    pub code: u16,
}

/// How a call ended, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Allowed.
    Allowed,
    /// Refused by the webhook, with this status.
    Rejected(u16),
    /// Not answered properly; the status of the failure, and whether the request was refused for it.
    Failed {
        /// Status.
        code: u16,
        /// Whether the failure was ignored.
        ignored: bool,
    },
    /// The server itself could not do its part.
    Internal,
}

/// A finished call, for metrics.
#[derive(Debug, Clone, Copy)]
pub struct Observation<'a> {
    /// The webhook's name.
    pub webhook: &'a str,
    /// The phase.
    pub phase: Phase,
    /// The operation.
    pub operation: Operation,
    /// How long it took.
    pub took: Duration,
    /// How it ended.
    pub ended: Ended,
}

/// Reaches webhooks.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// Posts a review and answers with the body of a successful answer. The future is dropped when the request ends.
    ///
    /// # Errors
    /// When there is no successful answer within `timeout`.
    async fn call(
        &self,
        client: &ClientConfig,
        review: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, CallFailed>;

    /// Counts a call.
    fn observe(&self, observation: Observation<'_>);

    /// Counts a request that match conditions kept from a webhook.
    fn excluded(&self, webhook: &str, phase: Phase, operation: Operation);
}

/// The configurations of one kind.
struct Registered {
    hooks: RwLock<Arc<Vec<Arc<Hook>>>>,
    complete: watch::Sender<bool>,
    backend: OnceLock<Arc<dyn Backend>>,
}

impl Default for Registered {
    fn default() -> Self {
        Registered { hooks: RwLock::default(), complete: watch::Sender::new(false), backend: OnceLock::new() }
    }
}

/// All webhooks, and the way to them. Without a backend there are none: parts of the server that run without HTTP.
#[derive(Default)]
pub struct Webhooks {
    mutating: Registered,
    validating: Registered,
}

impl Webhooks {
    /// Hands over the way to a phase's webhooks; from now on requests wait for the configurations. Only the first call
    /// counts.
    pub fn set_backend(&self, phase: Phase, backend: Arc<dyn Backend>) {
        let _ = self.of(phase).backend.set(backend);
    }

    fn of(&self, phase: Phase) -> &Registered {
        match phase {
            Phase::Mutating => &self.mutating,
            Phase::Validating => &self.validating,
        }
    }

    /// Replaces all configurations of a phase, sorted by name.
    pub fn set<'a>(&self, phase: Phase, configurations: impl Iterator<Item = &'a Value>) {
        let hooks: Vec<Arc<Hook>> = configurations.flat_map(Hook::all_of).map(Arc::new).collect();
        let registered = self.of(phase);
        *registered.hooks.write() = Arc::new(hooks);
        registered.complete.send_replace(true);
    }

    /// The webhooks once they are known, and the way to them; `None` when nothing can be called.
    async fn ready(&self, a: &Attributes<'_>, phase: Phase) -> Result<Option<Ready>, ApiError> {
        let registered = self.of(phase);
        let Some(backend) = registered.backend.get() else { return Ok(None) };
        let mut complete = registered.complete.subscribe();
        let waited = tokio::time::timeout(READY, complete.wait_for(|complete| *complete)).await;
        if !matches!(waited, Ok(Ok(_))) {
            return Err(a.forbidden("not yet ready to handle request"));
        }
        let hooks = registered.hooks.read().clone();
        Ok((!hooks.is_empty()).then(|| Ready { hooks, backend: backend.clone() }))
    }
}

struct Ready {
    hooks: Arc<Vec<Arc<Hook>>>,
    backend: Arc<dyn Backend>,
}

/// Whether no webhook sees this request: webhooks cannot lock out their own configuration, nor questions about users
/// (feature `ExcludeAdmissionWebhookVirtualResources`).
fn is_exempt(a: &Attributes<'_>) -> bool {
    const CONFIGURATIONS: [&str; 6] = [
        "ValidatingWebhookConfiguration",
        "MutatingWebhookConfiguration",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
        "MutatingAdmissionPolicy",
        "MutatingAdmissionPolicyBinding",
    ];
    (a.kind.group == "admissionregistration.k8s.io" && CONFIGURATIONS.contains(&a.kind.kind))
        || EXCLUDED.contains(&(a.group(), a.resource()))
}

/// The mutating plugin.
pub struct MutatingAdmissionWebhook;

#[async_trait]
impl Plugin for MutatingAdmissionWebhook {
    fn name(&self) -> &'static str {
        "MutatingAdmissionWebhook"
    }

    fn handles(&self, _operation: Operation) -> bool {
        true
    }

    async fn admit(&self, attributes: &mut Attributes<'_>) -> Result<(), ApiError> {
        if is_exempt(attributes) {
            return Ok(());
        }
        match attributes.call.core.webhooks.ready(attributes, Phase::Mutating).await? {
            Some(ready) => {
                let audit = attributes.call.request.audit.clone();
                let work = dispatch::mutate(attributes, &ready.hooks, &*ready.backend);
                audit.timed(Layer::MutatingWebhooks, work).await
            }
            None => Ok(()),
        }
    }
}

/// The validating plugin.
pub struct ValidatingAdmissionWebhook;

#[async_trait]
impl Plugin for ValidatingAdmissionWebhook {
    fn name(&self) -> &'static str {
        "ValidatingAdmissionWebhook"
    }

    fn handles(&self, _operation: Operation) -> bool {
        true
    }

    async fn validate(&self, attributes: &Attributes<'_>) -> Result<(), ApiError> {
        if is_exempt(attributes) {
            return Ok(());
        }
        match attributes.call.core.webhooks.ready(attributes, Phase::Validating).await? {
            Some(ready) => {
                let work = dispatch::validate(attributes, &ready.hooks, &*ready.backend);
                attributes.call.request.audit.timed(Layer::ValidatingWebhooks, work).await
            }
            None => Ok(()),
        }
    }
}
