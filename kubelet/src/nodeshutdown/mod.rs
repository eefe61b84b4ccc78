//! Stopping pods in order before the machine is shut down: logind waits meanwhile.
//!
//! [`plan`] decides who gets how long, [`logind`] speaks to logind, [`NodeShutdown::run`] puts both together. Machines
//! without logind are not waited for. Start reading at [`NodeShutdown::run`]. Upstream: pkg/kubelet/nodeshutdown, v1.37.

pub mod logind;
pub mod plan;
pub mod pods;
mod record;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use component::features::{Gate, Gates};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::config::Settings;
use crate::pod::view::PodView;
use crate::status::generate::Eviction;
use logind::{Bus, Lock, Logind};
use plan::{Step, groups, steps, total};
use record::Record;

/// Pause before logind is asked again after the connection broke, as upstream.
const RECONNECT: Duration = Duration::from_secs(1);
/// Pauses while logind reads its configuration again: five looks, as upstream.
const RELOAD: [u64; 4] = [100, 200, 400, 800];
/// Why a pod is not taken.
pub const REJECTED: (&str, &str) = ("NodeShutdown", "Pod was rejected as the node is shutting down.");

/// What the node does for it.
#[async_trait]
pub trait Pods: Send + Sync {
    /// Pods that have not ended.
    fn active(&self) -> Vec<Arc<Pod>>;
    /// Begins to stop a pod that gets so many seconds.
    fn kill(&self, uid: &str, grace: i64, eviction: Eviction);
    /// Waits until these pods have ended and nothing of them is mounted.
    async fn gone(&self, uids: &[String]);
    /// Says something about the node, and that its status is another one now.
    fn tell(&self, message: &str);
}

/// Whether the machine is about to be shut down, and what to do then.
#[derive(Debug)]
pub struct NodeShutdown {
    steps: Vec<Step>,
    bus: Bus,
    /// Where logind's configuration is extended.
    logind_conf: PathBuf,
    /// When the last shutdown began and ended; absent without the gate.
    record: Option<PathBuf>,
    down: AtomicBool,
}

fn killed() -> Eviction {
    Eviction {
        reason: "Terminated".to_owned(),
        message: "Pod was terminated in response to imminent node shutdown.".to_owned(),
        is_disruption: true,
    }
}

impl NodeShutdown {
    /// Reads the configuration; `None` if pods are not waited for.
    pub fn new(settings: &Settings, gates: &Gates, root: &Path) -> Option<Self> {
        let by_priority = gates.enabled(Gate::GracefulNodeShutdownBasedOnPodPriority);
        let given = &settings.shutdown_grace_period_by_pod_priority;
        let steps = steps(
            settings.shutdown_grace_period,
            settings.shutdown_grace_period_critical_pods,
            if by_priority { given } else { &[] },
        );
        let wanted = gates.enabled(Gate::GracefulNodeShutdown) && !steps.is_empty();
        wanted.then(|| Self {
            steps,
            bus: Bus::System,
            logind_conf: PathBuf::from(logind::CONFIGURATION),
            record: by_priority.then(|| root.join(record::FILE)),
            down: AtomicBool::new(false),
        })
    }

    /// True if the machine is about to be shut down.
    pub fn is_down(&self) -> bool {
        self.down.load(Ordering::Acquire)
    }

    /// Waits for a shutdown, for ever. If logind does not answer at first, pods are not waited for.
    pub async fn run(self: Arc<Self>, pods: Arc<dyn Pods>, stop: CancellationToken) {
        if let Some(path) = &self.record {
            match Record::load(path) {
                Ok(last) => last.show(),
                Err(error) => tracing::error!(error, "Failed to load graceful shutdown state"),
            }
        }
        let mut first = true;
        loop {
            let watched = tokio::select! {
                () = stop.cancelled() => return,
                result = self.watch(pods.as_ref(), &mut first) => result,
            };
            match watched {
                Err(error) if first => {
                    tracing::error!(error, "Failed to start node shutdown manager");
                    return;
                }
                Err(error) => tracing::error!(error, "Unable to watch the node for shutdown events"),
                Ok(()) => tracing::error!("Ended to watching the node for shutdown events"),
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(RECONNECT) => {}
            }
        }
    }

    /// Watches over one connection until it ends; `first` becomes false once everything is in place.
    async fn watch(&self, pods: &dyn Pods, first: &mut bool) -> Result<(), String> {
        let logind = Logind::connect(&self.bus).await?;
        self.extend_delay(&logind).await?;
        // Before the lock, so that nothing is missed.
        let mut events = logind.events().await?;
        let mut lock: Option<Lock> = Some(logind.inhibit().await?);
        *first = false;
        while let Some(down) = events.next().await {
            let down = match down {
                Ok(down) => down,
                Err(error) => {
                    tracing::error!(error, "Failed obtaining shutdown event");
                    continue;
                }
            };
            self.down.store(down, Ordering::Release);
            let what = if down { "event" } else { "cancellation" };
            pods.tell(&format!("Shutdown manager detected shutdown {what}"));
            if down {
                self.stop_all(pods).await;
                // Now the machine may go.
                lock = None;
            } else if let Ok(new) = logind.inhibit().await {
                lock = Some(new);
            }
        }
        drop(lock);
        Ok(())
    }

    /// logind waits no longer than it is configured to; upstream changes that.
    async fn extend_delay(&self, logind: &Logind) -> Result<(), String> {
        let wanted = total(&self.steps);
        let mut current = logind.inhibit_delay().await?;
        if wanted <= current {
            return Ok(());
        }
        logind::override_delay(&self.logind_conf, wanted)
            .map_err(|e| format!("unable to override inhibit delay by shutdown manager: {e}"))?;
        logind.reload().await?;
        for pause in RELOAD {
            current = logind.inhibit_delay().await?;
            if wanted <= current {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        current = logind.inhibit_delay().await?;
        if wanted <= current {
            return Ok(());
        }
        Err(format!(
            "node shutdown manager was timed out after {} attempts waiting for logind InhibitDelayMaxSec to update to {wanted:?} (ShutdownGracePeriod), current value is {current:?}",
            RELOAD.len() + 1
        ))
    }

    async fn stop_all(&self, pods: &dyn Pods) {
        let began = Record { start: Some(Timestamp::now()), end: None };
        self.keep(&began);
        for group in groups(&self.steps, &pods.active()) {
            for (pod, grace) in &group.pods {
                tracing::debug!(pod = pod.log_name(), grace, "Shutdown manager killing pod with gracePeriod");
                pods.kill(pod.uid(), *grace, killed());
            }
            let uids: Vec<String> = group.pods.iter().map(|(pod, _)| pod.uid().to_owned()).collect();
            let longest = Duration::from_secs(group.step.grace.max(0).unsigned_abs());
            if tokio::time::timeout(longest, pods.gone(&uids)).await.is_err() {
                tracing::warn!(
                    priority = group.step.priority,
                    grace = group.step.grace,
                    "Shutdown manager pod killing time out"
                );
            }
        }
        self.keep(&Record { end: Some(Timestamp::now()), ..began });
        tracing::info!("Shutdown manager completed processing shutdown event, node will shutdown shortly");
    }

    fn keep(&self, record: &Record) {
        let Some(path) = &self.record else { return };
        record.show();
        if let Err(error) = record.store(path) {
            tracing::error!(%error, "Failed to store graceful shutdown state");
        }
    }
}

#[cfg(test)]
mod tests;
