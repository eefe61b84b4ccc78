//! ResourceQuota: keeps the use that quotas show equal to what is there.
//!
//! Does not refuse anything: that is the API server's admission, which also charges what it lets in. Here deletions are
//! found out, and everything else in time. Start reading at [`plan`], then `evaluators`.
//! Upstream: pkg/controller/resourcequota.

mod evaluators;
mod monitors;
mod plan;
mod pod_resources;
mod resources;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use client::{Client, Meta};
use component::app::Error;
use controller::WorkQueue;
use informer::{Event, Options, Store};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ResourceQuota;

use self::evaluators::{Classes, Evaluator};
use self::monitors::Monitors;
use self::plan::is_urgent;
use self::resources::{equal, read};
use crate::context::Context;
use crate::descriptor::Running;

struct Shell {
    client: Client,
    quotas: Store<ResourceQuota>,
    /// Everything.
    queue: WorkQueue<String>,
    /// Quotas that tell less than they should; they do not wait for the others.
    urgent: WorkQueue<String>,
    monitors: Monitors,
    /// Held while informers of new resources fill.
    pause: tokio::sync::RwLock<()>,
}

/// Builds the controller.
pub fn build(context: &Context) -> Result<Running, Error> {
    let quotas = context.factory.informer::<ResourceQuota>(Options::default());
    let (queue, urgent) = (WorkQueue::new("resourcequota_primary"), WorkQueue::new("resourcequota_priority"));
    let (known, to) = (quotas.store(), queue.clone());
    // Nobody but the quotas of that namespace that track the resource.
    let replenish = move |evaluator: &Evaluator, classes: &Classes, namespace: &str| {
        for quota in known.list_namespace(namespace) {
            let hard = quota.status.as_ref().and_then(|s| s.hard.as_ref());
            if hard.into_iter().flatten().any(|(name, _)| evaluator.matches(name, classes)) {
                to.add(quota.key());
            }
        }
    };
    let shell = Arc::new(Shell {
        client: context.client(),
        quotas: quotas.store(),
        queue,
        urgent,
        monitors: Monitors::new(context.factory.clone(), replenish),
        pause: tokio::sync::RwLock::default(),
    });
    let to = shell.clone();
    quotas.subscribe(move |event| to.quota_changed(&event));
    let (workers, token) = (context.workers("concurrent-resource-quota-syncs"), context.token.clone());
    let period = context.flags.duration("resource-quota-sync-period");
    Ok(Box::pin(async move {
        if !quotas.wait_synced(&token).await {
            return;
        }
        let run = |queue: &WorkQueue<String>| {
            let (queue, token, shell) = (queue.clone(), token.clone(), shell.clone());
            async move {
                queue
                    .run(workers, &token, move |key: String| {
                        let shell = shell.clone();
                        async move { shell.sync(&key).await.map(|()| None) }
                    })
                    .await;
            }
        };
        let recount = async {
            loop {
                tokio::select! {
                    () = token.cancelled() => return,
                    () = tokio::time::sleep(period), if !period.is_zero() => {
                        shell.quotas.keys().iter().for_each(|key| shell.queue.add(key.to_string()));
                    }
                }
            }
        };
        tokio::join!(
            shell.monitors.run(&shell.client, &shell.pause, &token),
            run(&shell.queue),
            run(&shell.urgent),
            recount,
        );
    }))
}

impl Shell {
    fn quota_changed(&self, event: &Event<ResourceQuota>) {
        let hard = |q: &ResourceQuota| read(q.spec.as_ref().and_then(|s| s.hard.as_ref()));
        let quota = event.object();
        match event {
            // A status is written by ourselves or by admission.
            Event::Updated { old, new } if equal(&hard(old), &hard(new)) => {}
            Event::Deleted(_) => self.queue.add(quota.key()),
            _ if is_urgent(quota, &self.monitors.evaluators(), &self.monitors.classes()) => {
                self.urgent.add(quota.key());
            }
            _ => self.queue.add(quota.key()),
        }
    }

    async fn sync(&self, key: &str) -> Result<(), String> {
        let _running = self.pause.read().await;
        let Some(quota) = self.quotas.get(key) else { return Ok(()) };
        let (evaluators, classes) = (self.monitors.evaluators(), self.monitors.classes());
        let objects = |evaluator: &Evaluator| self.monitors.objects(evaluator, quota.namespace());
        let plan = plan::plan(&quota, &evaluators, &classes, objects, Timestamp::now());
        let mut failures = plan.failures;
        if let Some(new) = plan.update {
            let api = self.client.namespaced::<ResourceQuota>(quota.namespace());
            match api.replace_status(&new).await {
                Err(error) if !error.is_not_found() => failures.push(error.to_string()),
                _ => {}
            }
        }
        if failures.is_empty() { Ok(()) } else { Err(format!("quota {key}: {}", failures.join(", "))) }
    }
}
