//! What the runtime says about itself, and how often it is asked. Upstream: updateRuntimeUp and fastStatusUpdateOnce in
//! pkg/kubelet/kubelet.go, runtimeState in pkg/kubelet/runtime.go, v1.37.

use std::time::Duration;

use cri::v1;
use k8s_openapi::api::core::v1::{NodeRuntimeHandler, NodeRuntimeHandlerFeatures};

/// The report is read so often, as upstream.
const PERIOD: Duration = Duration::from_secs(5);
/// So often while a node that has just started is not ready, so that it is as soon as it can be.
const STARTING: Duration = Duration::from_millis(100);
/// How long a node counts as just started. Upstream: nodeReadyGracePeriod.
const GRACE: Duration = Duration::from_secs(120);

/// What the runtime last said about itself.
#[derive(Clone, Debug)]
pub struct RuntimeHealth {
    /// Why the node is not ready; empty if it is.
    pub errors: Vec<String>,
    /// Handlers and what they can do.
    pub handlers: Vec<NodeRuntimeHandler>,
    /// Whether the runtime keeps to a pod's supplemental groups; `None` if it does not say.
    pub supplemental_groups_policy: Option<bool>,
}

impl RuntimeHealth {
    /// Before the runtime was asked.
    pub fn unknown() -> Self {
        Self::bad(vec![
            "container runtime status check may not have completed yet".to_owned(),
            "network state unknown".to_owned(),
        ])
    }

    fn bad(errors: Vec<String>) -> Self {
        Self { errors, handlers: Vec::new(), supplemental_groups_policy: None }
    }
}

/// When to ask the runtime next: `ready` is the node's last answer, `up` how long the kubelet has been running, `once` true
/// when the node was ready before.
pub fn next_look(ready: bool, once: bool, up: Duration) -> Duration {
    if ready || once || up >= GRACE { PERIOD } else { STARTING }
}

/// Reads the runtime's own report.
pub fn runtime_health(answer: Result<v1::StatusResponse, cri::Error>) -> (RuntimeHealth, Option<String>) {
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => {
            let text = format!("container runtime is down: {error}");
            return (RuntimeHealth::bad(vec![text]), None);
        }
    };
    let conditions = answer.status.map(|s| s.conditions).unwrap_or_default();
    let problem = |kind: &str| {
        let found = conditions.iter().find(|c| c.r#type == kind);
        match found {
            Some(c) if c.status => None,
            Some(c) => Some(format!("{kind}=false reason:{} message:{}", c.reason, c.message)),
            None => Some(format!("{kind}=false reason: message:condition not reported")),
        }
    };
    let mut errors = Vec::new();
    if let Some(problem) = problem("RuntimeReady") {
        errors.push(format!("container runtime not ready: {problem}"));
    }
    let network = problem("NetworkReady").map(|p| format!("container runtime network not ready: {p}"));
    errors.extend(network.clone());
    let handlers = answer.runtime_handlers.into_iter().map(|handler| {
        let features = handler.features.unwrap_or_default();
        NodeRuntimeHandler {
            name: Some(handler.name),
            features: Some(NodeRuntimeHandlerFeatures {
                recursive_read_only_mounts: Some(features.recursive_read_only_mounts),
                user_namespaces: Some(features.user_namespaces),
            }),
        }
    });
    let health = RuntimeHealth {
        errors,
        handlers: handlers.collect(),
        supplemental_groups_policy: answer.features.map(|features| features.supplemental_groups_policy),
    };
    (health, network)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_starts_is_looked_at_often() {
        let (young, old) = (Duration::from_secs(1), Duration::from_secs(120));
        for (ready, once, up, expected) in [
            (false, false, young, STARTING),
            (false, false, old, PERIOD),
            (true, false, young, PERIOD),
            (false, true, young, PERIOD),
        ] {
            assert_eq!(next_look(ready, once, up), expected, "{ready} {once} {up:?}");
        }
    }

    #[test]
    fn a_runtime_may_say_nothing_about_groups() {
        let said = |features| {
            let answer = v1::StatusResponse { features, ..v1::StatusResponse::default() };
            runtime_health(Ok(answer)).0.supplemental_groups_policy
        };
        let features =
            |keeps| v1::RuntimeFeatures { supplemental_groups_policy: keeps, ..Default::default() };
        assert_eq!(
            [None, Some(features(false)), Some(features(true))].map(said),
            [None, Some(false), Some(true)]
        );
    }

    #[test]
    fn nothing_is_ready_before_it_was_asked() {
        assert_eq!(RuntimeHealth::unknown().errors.len(), 2);
    }
}
