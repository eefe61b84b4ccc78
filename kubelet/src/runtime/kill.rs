//! Stopping containers and pods, in order and within their grace periods.
//!
//! Upstream: kuberuntime_container.go killContainer, kuberuntime_termination_order.go, v1.37.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cri::v1;
use futures::future::join_all;
use k8s_openapi::api::core::v1::{Container, Lifecycle, LifecycleHandler, Pod};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::actions::KillReason;
use super::labels::{self, container_info};
use super::manager::Runtime;
use super::model::{ContainerId, PodStatus};
use super::query;
use crate::hooks;
use crate::logs;
use crate::pod::view::{PodView, init_containers, is_sidecar};

/// Least time between the polite and the hard signal, in seconds.
const MINIMUM_GRACE: i64 = 2;

/// Who waits for whom when a pod with sidecars stops: sidecars after regular containers, in reverse order.
pub struct Ordering {
    ended: HashMap<String, CancellationToken>,
    before: HashMap<String, Vec<String>>,
}

impl Ordering {
    /// For the containers that run.
    pub fn new(pod: &Pod, running: &[String]) -> Self {
        let spec = pod.spec();
        let ended: HashMap<String, CancellationToken> =
            running.iter().map(|name| (name.clone(), CancellationToken::new())).collect();
        let regular: Vec<String> = spec.containers.iter().map(|c| c.name.clone()).collect();
        let mut before = HashMap::new();
        let mut later: Option<String> = None;
        for sidecar in init_containers(spec).iter().rev().filter(|c| is_sidecar(c)) {
            before.insert(sidecar.name.clone(), regular.iter().cloned().chain(later.take()).collect());
            later = Some(sidecar.name.clone());
        }
        Self { ended, before }
    }

    /// Waits until the container may stop, at most `limit`.
    async fn wait(&self, name: &str, limit: Duration) {
        let all = async {
            for other in self.before.get(name).into_iter().flatten() {
                if let Some(ended) = self.ended.get(other) {
                    ended.cancelled().await;
                }
            }
        };
        // Running out of time is no error: the container then stops out of turn.
        let _ = tokio::time::timeout(limit, all).await;
    }

    fn done(&self, name: &str) {
        if let Some(ended) = self.ended.get(name) {
            ended.cancel();
        }
    }
}

/// Seconds a container may take to stop.
pub fn grace_seconds(pod: &Pod, container: &Container, reason: KillReason) -> i64 {
    if let Some(seconds) = pod.metadata.deletion_grace_period_seconds {
        return seconds;
    }
    let Some(seconds) = pod.spec().termination_grace_period_seconds else { return MINIMUM_GRACE };
    let probe = match reason {
        KillReason::StartupProbe => container.startup_probe.as_ref(),
        KillReason::LivenessProbe => container.liveness_probe.as_ref(),
        _ => None,
    };
    probe.and_then(|p| p.termination_grace_period_seconds).unwrap_or(seconds)
}

impl Runtime {
    /// Stops a container: its hook first, then politely, then by force. Without the pod, what is needed is read from
    /// the container's annotations.
    ///
    /// # Errors
    /// If the runtime refuses; a container that is gone is no error.
    #[expect(clippy::too_many_arguments, reason = "each is a separate fact about the one act of stopping")]
    pub async fn kill_container(
        &self,
        pod: Option<&Arc<Pod>>,
        id: &ContainerId,
        name: &str,
        message: &str,
        reason: KillReason,
        grace_override: Option<i64>,
        ordering: Option<&Ordering>,
    ) -> Result<(), String> {
        let known = pod.and_then(|pod| Some((pod.clone(), pod.find_container(name)?.to_container())));
        let (pod, container) = match known {
            Some(found) => found,
            None => match self.restore(id).await {
                Ok(restored) => restored,
                Err(error) if error.is_not_found() => return Ok(()),
                Err(error) => return Err(error.to_string()),
            },
        };
        let own = grace_seconds(&pod, &container, reason);
        let text = if message.is_empty() { format!("Stopping container {name}") } else { message.to_owned() };
        self.events.container_normal(&pod, name, "Killing", &text);
        let grace = grace_override.unwrap_or(own).max(0);
        let begun = Instant::now();
        let limit = Duration::from_secs(grace.unsigned_abs());
        if let Some(handler) =
            container.lifecycle.as_ref().and_then(|l| l.pre_stop.as_ref()).filter(|_| grace > 0)
        {
            let mut hook = AbortOnDropHandle::new(tokio::spawn(self.pre_stop(&pod, &container, handler, id)));
            if tokio::time::timeout(limit, &mut hook).await.is_err() {
                tracing::info!(
                    pod = pod.log_name(),
                    container = name,
                    "PreStop hook not completed in grace period"
                );
                if handler.sleep.is_some() {
                    crate::metrics::pods::sleep_was_short();
                }
                // It goes on until its container ends.
                hook.detach();
            }
        }
        if let Some(ordering) = ordering {
            ordering.wait(name, limit.saturating_sub(begun.elapsed())).await;
        }
        // Whole seconds, rounded in favour of the container.
        let left = grace.saturating_sub(i64::try_from(begun.elapsed().as_secs()).unwrap_or(i64::MAX));
        let left = Duration::from_secs(left.max(MINIMUM_GRACE).unsigned_abs());
        match self.cri.stop_container(&id.id, left).await {
            Err(error) if !error.is_not_found() => {
                return Err(format!("failed to stop container {name}: {error}"));
            }
            _ => {}
        }
        if let Some(ordering) = ordering {
            ordering.done(name);
        }
        Ok(())
    }

    /// Runs the hook before a container's end.
    fn pre_stop(
        &self,
        pod: &Arc<Pod>,
        container: &Container,
        handler: &LifecycleHandler,
        id: &ContainerId,
    ) -> impl Future<Output = ()> + Send + use<> {
        let (cri, events, runtime) = (self.cri.clone(), self.events.clone(), self.name.clone());
        let (pod, container, handler) = (pod.clone(), container.clone(), handler.clone());
        let id = id.id.clone();
        async move {
            let status = query::pod_status(&cri, &runtime, pod.uid()).await.unwrap_or_default();
            let ip = status.ips.first().cloned().unwrap_or_default();
            if let Err(error) = hooks::run(&cri, &id, &pod, &container, &handler, &ip, &events).await {
                tracing::error!(
                    pod = pod.log_name(),
                    container = container.name,
                    error,
                    "PreStop hook failed"
                );
                events.container_warning(&pod, &container.name, "FailedPreStopHook", "PreStopHook failed");
            }
        }
    }

    /// A pod and container with just what stopping needs, from what was left on the container.
    async fn restore(&self, id: &ContainerId) -> cri::Result<(Arc<Pod>, Container)> {
        let request = v1::ContainerStatusRequest { container_id: id.id.clone(), verbose: false };
        let answer = self.cri.container_status(request).await?;
        let status =
            answer.status.ok_or(cri::Error::Incomplete { call: "ContainerStatus", part: "a status" })?;
        let info = container_info(&status.annotations.into_iter().collect());
        let label = |key: &str| status.labels.get(key).cloned();
        let container = Container {
            name: label(labels::CONTAINER_NAME).unwrap_or_default(),
            ports: (!info.ports.is_empty()).then_some(info.ports),
            lifecycle: info.pre_stop.map(|hook| Lifecycle { pre_stop: Some(hook), ..Lifecycle::default() }),
            ..Container::default()
        };
        let mut pod = Pod::default();
        pod.metadata.name = label(labels::POD_NAME);
        pod.metadata.namespace = label(labels::POD_NAMESPACE);
        pod.metadata.uid = label(labels::POD_UID);
        pod.metadata.deletion_grace_period_seconds = info.deletion_grace;
        let spec = pod.spec.get_or_insert_default();
        spec.termination_grace_period_seconds = info.termination_grace;
        spec.containers = vec![container.clone()];
        Ok((Arc::new(pod), container))
    }

    /// Stops all containers of a pod at once (sidecars last), then its sandboxes.
    ///
    /// # Errors
    /// If something cannot be stopped; all that can be is stopped all the same.
    pub async fn kill_pod(
        &self,
        pod: Option<&Arc<Pod>>,
        status: &PodStatus,
        grace_override: Option<i64>,
    ) -> Result<(), String> {
        let running: Vec<_> = status.running().collect();
        let names: Vec<String> = running.iter().map(|c| c.name.clone()).collect();
        let ordering = (pod.filter(|p| init_containers(p.spec()).iter().any(is_sidecar)))
            .map(|pod| Ordering::new(pod, &names));
        let kills = running.iter().map(|container| {
            let (id, name, ordering) = (&container.id, &container.name, ordering.as_ref());
            self.kill_container(pod, id, name, "", KillReason::Other, grace_override, ordering)
        });
        let mut errors: Vec<String> = join_all(kills).await.into_iter().filter_map(Result::err).collect();
        for sandbox in &status.sandboxes {
            let request = v1::StopPodSandboxRequest { pod_sandbox_id: sandbox.id.clone() };
            match self.cri.stop_pod_sandbox(request).await {
                Err(error) if !error.is_not_found() => {
                    errors.push(format!(
                        "failed to {:?} for {:?} with KillPodSandboxError: {error}",
                        "KillPodSandbox", status.uid
                    ));
                }
                _ => {}
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(errors.join(", ")) }
    }

    /// Removes a container and the link to its log.
    ///
    /// # Errors
    /// If the runtime refuses; a container that is gone is no error.
    pub async fn remove_container(&self, id: &str) -> Result<(), String> {
        self.remove_log_link(id);
        let request = v1::RemoveContainerRequest { container_id: id.to_owned() };
        match self.cri.remove_container(request).await {
            Err(error) if !error.is_not_found() => Err(format!("failed to remove container {id:?}: {error}")),
            _ => Ok(()),
        }
    }

    /// Stops and removes a sandbox; failures are logged, the next cleanup tries again.
    pub async fn remove_sandbox(&self, id: &str) {
        let pod_sandbox_id = id.to_owned();
        let stopped =
            self.cri.stop_pod_sandbox(v1::StopPodSandboxRequest { pod_sandbox_id: pod_sandbox_id.clone() });
        if let Err(error) = stopped.await {
            tracing::warn!(sandbox = id, %error, "Failed to stop sandbox before removing");
            return;
        }
        let removed = self.cri.remove_pod_sandbox(v1::RemovePodSandboxRequest { pod_sandbox_id });
        if let Err(error) = removed.await
            && !error.is_not_found()
        {
            tracing::error!(sandbox = id, %error, "Failed to remove sandbox");
        }
    }

    fn remove_log_link(&self, id: &str) {
        let end = format!("-{id}.log");
        let entries = std::fs::read_dir(logs::CONTAINER_LOGS_ROOT);
        for entry in entries.into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().ends_with(&end) {
                // A link that stays is only untidy; the next cleanup tries again.
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn grace() {
        let pod = |extra: serde_json::Value| -> Pod {
            let mut pod =
                json!({"metadata": {}, "spec": {"terminationGracePeriodSeconds": 30, "containers": []}});
            pod["metadata"] = extra;
            serde_json::from_value(pod).unwrap()
        };
        let container: Container = serde_json::from_value(
            json!({"name": "c", "livenessProbe": {"terminationGracePeriodSeconds": 5}}),
        )
        .unwrap();
        assert_eq!(grace_seconds(&pod(json!({})), &container, KillReason::Other), 30);
        assert_eq!(grace_seconds(&pod(json!({})), &container, KillReason::LivenessProbe), 5);
        let deleted = pod(json!({"deletionGracePeriodSeconds": 0}));
        assert_eq!(grace_seconds(&deleted, &container, KillReason::LivenessProbe), 0);
    }

    #[tokio::test]
    async fn sidecars_wait_for_their_turn() {
        let pod: Pod = serde_json::from_value(json!({"spec": {"containers": [{"name": "main"}],
            "initContainers": [{"name": "s1", "restartPolicy": "Always"}, {"name": "s2", "restartPolicy": "Always"}]}})).unwrap();
        let ordering = Ordering::new(&pod, &["main".into(), "s1".into(), "s2".into()]);
        assert_eq!(ordering.before["s2"], ["main"]);
        assert_eq!(ordering.before["s1"], ["main", "s2"]);
        ordering.done("main");
        ordering.wait("s2", Duration::from_secs(60)).await;
        ordering.wait("s1", Duration::from_millis(1)).await;
    }
}
