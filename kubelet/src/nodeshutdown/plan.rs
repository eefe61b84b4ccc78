//! Who is stopped when, and how long they get. Pure. Upstream: nodeshutdown_manager.go, v1.37.

use std::sync::Arc;
use std::time::Duration;

use component::duration::GoDuration;
use k8s_openapi::api::core::v1::Pod;
use serde::{Deserialize, Serialize};

use crate::pod::view::{PodView, SYSTEM_CRITICAL_PRIORITY};

/// Pods from a priority on, up to the next one, and the seconds that they get.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Step {
    /// Lowest priority.
    pub priority: i32,
    /// Seconds.
    #[serde(rename = "shutdownGracePeriodSeconds")]
    pub grace: i64,
}

/// The steps, lowest priority first: the given ones, else one for critical pods after one for all others.
pub fn steps(whole: GoDuration, critical: GoDuration, given: &[Step]) -> Vec<Step> {
    let mut out = given.to_vec();
    if out.is_empty() {
        let others = whole.0.saturating_sub(critical.0);
        if whole.0 == 0 || others < 0 || critical.0 < 0 {
            return Vec::new();
        }
        let seconds = |nanos: i64| nanos / 1_000_000_000;
        out = vec![
            Step { priority: 0, grace: seconds(others) },
            Step { priority: SYSTEM_CRITICAL_PRIORITY, grace: seconds(critical.0) },
        ];
    }
    out.sort_by_key(|step| step.priority);
    out
}

/// How long all steps take at most.
pub fn total(steps: &[Step]) -> Duration {
    let seconds = steps.iter().fold(0i64, |sum, step| sum.saturating_add(step.grace));
    Duration::from_secs(seconds.max(0).unsigned_abs())
}

/// Pods that are stopped at the same time.
#[derive(Clone, Debug)]
pub struct Group {
    /// Their step.
    pub step: Step,
    /// Each with the seconds that its containers get: no more than it asks for.
    pub pods: Vec<(Arc<Pod>, i64)>,
}

/// The pods by step. Steps without pods are left out: nobody waits for them.
pub fn groups(steps: &[Step], pods: &[Arc<Pod>]) -> Vec<Group> {
    let mut out: Vec<Group> = steps.iter().map(|step| Group { step: *step, pods: Vec::new() }).collect();
    for pod in pods {
        let spec = pod.spec();
        let priority = spec.priority.unwrap_or(0);
        // The first of those that fit, where several steps have the same priority.
        let at = steps.partition_point(|step| step.priority < priority);
        let exact = steps.get(at).is_some_and(|step| step.priority == priority);
        let at = if exact { at } else { at.saturating_sub(1) };
        let Some(group) = out.get_mut(at) else { continue };
        let own = spec.termination_grace_period_seconds;
        let grace = own.filter(|own| *own <= group.step.grace).unwrap_or(group.step.grace);
        group.pods.push((pod.clone(), grace));
    }
    out.retain(|group| !group.pods.is_empty());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const SECOND: i64 = 1_000_000_000;

    fn pods(priorities: &[i32]) -> Vec<Arc<Pod>> {
        let one = |priority: &i32| -> Arc<Pod> {
            let spec = json!({"containers": [], "priority": priority});
            Arc::new(serde_json::from_value(json!({"spec": spec})).unwrap())
        };
        priorities.iter().map(one).collect()
    }

    fn shown(steps: &[Step], priorities: &[i32]) -> Vec<(i32, i64, Vec<i32>)> {
        let of = |group: &Group| group.pods.iter().map(|(pod, _)| pod.spec().priority.unwrap()).collect();
        groups(steps, &pods(priorities)).iter().map(|g| (g.step.priority, g.step.grace, of(g))).collect()
    }

    /// The tables of upstream's own tests: `Test_migrateConfig` and `Test_groupByPriority`.
    #[test]
    fn steps_and_groups() {
        let of = |whole: i64, critical: i64| {
            let found = steps(GoDuration(whole * SECOND), GoDuration(critical * SECOND), &[]);
            found.iter().map(|s| (s.priority, s.grace)).collect::<Vec<_>>()
        };
        assert_eq!(of(300, 120), [(0, 180), (2_000_000_000, 120)]);
        assert_eq!(of(100, 0), [(0, 100), (2_000_000_000, 0)]);
        assert_eq!((of(0, 0), of(1, 100)), (vec![], vec![]));
        let two = steps(GoDuration(300 * SECOND), GoDuration(120 * SECOND), &[]);
        assert_eq!(
            shown(&two, &[0, 1_000_000_000, 2_000_000_000]),
            [(0, 180, vec![0, 1_000_000_000]), (2_000_000_000, 120, vec![2_000_000_000])]
        );
        let step = |priority: i32, grace: i64| Step { priority, grace };
        let four = steps(GoDuration(0), GoDuration(0), &[step(4, 40), step(1, 10), step(3, 30), step(2, 20)]);
        assert_eq!(
            shown(&four, &[0, 1, 2, 3, 4, 5]),
            [(1, 10, vec![0, 1]), (2, 20, vec![2]), (3, 30, vec![3]), (4, 40, vec![4, 5])]
        );
        assert_eq!(shown(&[step(10, 1), step(20, 2)], &[15, -5]), [(10, 1, vec![15, -5])]);
    }

    #[test]
    fn a_pod_gets_no_more_than_it_asks_for() {
        let pod = |grace: i64| -> Arc<Pod> {
            Arc::new(
                serde_json::from_value(
                    json!({"spec": {"containers": [], "terminationGracePeriodSeconds": grace}}),
                )
                .unwrap(),
            )
        };
        let steps = [Step { priority: 0, grace: 10 }];
        let found = groups(&steps, &[pod(5), pod(10), pod(30)]);
        assert_eq!(found[0].pods.iter().map(|(_, grace)| *grace).collect::<Vec<_>>(), [5, 10, 10]);
        assert_eq!(
            total(&[Step { priority: 0, grace: 10 }, Step { priority: 1, grace: -3 }]),
            Duration::from_secs(7)
        );
    }
}
