//! Where a pod is in its life on this node.

use k8s_openapi::api::core::v1::Pod;

use super::mailbox::Kill;
use crate::pod::view::PodView;

/// Phases of a worker, in this order; none is ever left backwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Containers are started and kept running. Left when the pod is deleted, has ended or is killed.
    Syncing,
    /// Containers are being stopped. Left when none runs any more.
    Terminating,
    /// Volumes and control groups are being removed. Left when they are gone.
    Terminated,
    /// Nothing is left to do.
    Finished,
}

impl Phase {
    /// The phase in which the latest pod is to be handled.
    pub(super) fn next(self, pod: &Pod, kill: Option<&Kill>) -> Self {
        let over = pod.is_deleted() || pod.is_api_terminal() || kill.is_some();
        if self == Phase::Syncing && over { Phase::Terminating } else { self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn one_way() {
        let pod = |value: serde_json::Value| -> Pod { serde_json::from_value(value).unwrap() };
        let alive = pod(json!({"metadata": {}}));
        let deleted = pod(json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}));
        let ended = pod(json!({"metadata": {}, "status": {"phase": "Failed"}}));
        assert_eq!(Phase::Syncing.next(&alive, None), Phase::Syncing);
        assert_eq!(Phase::Syncing.next(&alive, Some(&Kill::default())), Phase::Terminating);
        assert_eq!(Phase::Syncing.next(&deleted, None), Phase::Terminating);
        assert_eq!(Phase::Syncing.next(&ended, None), Phase::Terminating);
        assert_eq!(Phase::Terminated.next(&alive, None), Phase::Terminated);
    }
}
