//! When the change happened that endpoints are written for; network programmers measure their latency from it.
//!
//! A wrong time is possible when an object changes twice between two syncs, as upstream accepts.
//! Upstream: k8s.io/endpointslice/util/trigger_time_tracker.go.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Service;
use parking_lot::Mutex;

use crate::kept::Pod;
use crate::pods;

/// The annotation of endpoints and slices.
pub const ANNOTATION: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// Times that were known at the last sync of a Service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Known {
    service: Option<Timestamp>,
    pods: HashMap<String, Timestamp>,
}

/// The time to tell, and what is known from now on.
fn advance(known: Option<&Known>, service: &Service, all_pods: &[Arc<Pod>]) -> (Option<Timestamp>, Known) {
    let created = service.metadata.creation_timestamp.as_ref().map(|t| t.0);
    let ready = |pod: &Arc<Pod>| {
        let since = pods::condition(pod, "Ready")?.last_transition_time?.at();
        Some((pod.name().to_string(), since))
    };
    let next = Known { service: created, pods: all_pods.iter().filter_map(ready).collect() };
    let Some(known) = known else { return (created, next) };
    let newer = next.pods.iter().filter(|(name, at)| known.pods.get(*name).is_none_or(|before| before < at));
    let own = created.filter(|at| known.service.is_none_or(|before| before < *at));
    (newer.map(|(_, at)| *at).chain(own).min(), next)
}

/// What is known of all Services.
#[derive(Default)]
pub struct Tracker(Mutex<HashMap<String, Known>>);

impl Tracker {
    /// The time that endpoints written now should tell.
    pub fn observe(&self, key: &str, service: &Service, pods: &[Arc<Pod>]) -> Option<Timestamp> {
        let mut all = self.0.lock();
        let (time, next) = advance(all.get(key), service, pods);
        all.insert(key.to_string(), next);
        time
    }

    /// The Service is gone.
    pub fn forget(&self, key: &str) {
        self.0.lock().remove(key);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn service(created: i64) -> Service {
        serde_json::from_value(json!({"metadata": {"name": "s", "creationTimestamp": at(created)}}))
            .expect("a service")
    }

    fn pod(name: &str, ready: i64) -> Arc<Pod> {
        let condition = json!({"type": "Ready", "status": "True", "lastTransitionTime": at(ready)});
        let pod = json!({"metadata": {"name": name}, "status": {"conditions": [condition]}});
        Arc::new(serde_json::from_value(pod).expect("a pod"))
    }

    #[test]
    fn the_first_time_is_the_services_own() {
        let tracker = Tracker::default();
        assert_eq!(tracker.observe("s", &service(3), &[pod("a", 9)]), Some(at(3)));
    }

    #[test]
    fn then_the_earliest_change_since_counts() {
        let tracker = Tracker::default();
        tracker.observe("s", &service(3), &[pod("a", 9)]);
        assert_eq!(
            tracker.observe("s", &service(3), &[pod("a", 9), pod("b", 12), pod("c", 11)]),
            Some(at(11))
        );
        assert_eq!(
            tracker.observe("s", &service(3), &[pod("a", 9), pod("b", 12)]),
            None,
            "a pod that left has no time"
        );
        tracker.forget("s");
        assert_eq!(tracker.observe("s", &service(3), &[]), Some(at(3)));
    }
}
