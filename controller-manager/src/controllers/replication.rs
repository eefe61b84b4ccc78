//! ReplicationController: a ReplicaSet under its older name, so all of its work is that controller's.
//! Upstream: pkg/controller/replication/replication_controller.go, conversion.go.

use std::borrow::Cow;

use component::app::Error;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetSpec, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{
    ReplicationController, ReplicationControllerCondition, ReplicationControllerStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::replicaset::{self, Set};
use crate::context::Context;
use crate::descriptor::Running;

/// Builds the controller.
pub fn build(context: &Context) -> Result<Running, Error> {
    Ok(replicaset::start::<ReplicationController>(context))
}

impl Set for ReplicationController {
    const QUEUE: &'static str = "replicationmanager";
    const COMPONENT: &'static str = "replication-controller";
    const WORKERS: &'static str = "concurrent-rc-syncs";
    const RESOURCE: &'static str = "replicationcontrollers";

    fn as_set(&self) -> Cow<'_, ReplicaSet> {
        let spec = self.spec.clone().unwrap_or_default();
        let selector = LabelSelector { match_labels: spec.selector, match_expressions: None };
        Cow::Owned(ReplicaSet {
            metadata: self.metadata.clone(),
            spec: ReplicaSetSpec {
                replicas: spec.replicas,
                min_ready_seconds: spec.min_ready_seconds,
                selector,
                template: spec.template,
            },
            status: self.status.as_ref().map(to_set_status),
        })
    }

    fn with_status(&self, status: ReplicaSetStatus) -> Self {
        ReplicationController { status: Some(from_set_status(status)), ..self.clone() }
    }

    fn tells_terminating() -> bool {
        false
    }
}

fn to_set_status(status: &ReplicationControllerStatus) -> ReplicaSetStatus {
    let condition = |c: &ReplicationControllerCondition| ReplicaSetCondition {
        type_: Some(c.type_.clone()),
        status: Some(c.status.clone()),
        last_transition_time: c.last_transition_time.clone(),
        reason: c.reason.clone(),
        message: c.message.clone(),
    };
    ReplicaSetStatus {
        replicas: status.replicas,
        fully_labeled_replicas: status.fully_labeled_replicas,
        ready_replicas: status.ready_replicas,
        available_replicas: status.available_replicas,
        observed_generation: status.observed_generation,
        conditions: status.conditions.as_ref().map(|all| all.iter().map(condition).collect()),
        terminating_replicas: None,
    }
}

fn from_set_status(status: ReplicaSetStatus) -> ReplicationControllerStatus {
    let condition = |c: ReplicaSetCondition| ReplicationControllerCondition {
        type_: c.type_.unwrap_or_default(),
        status: c.status.unwrap_or_default(),
        last_transition_time: c.last_transition_time,
        reason: c.reason,
        message: c.message,
    };
    ReplicationControllerStatus {
        replicas: status.replicas,
        fully_labeled_replicas: status.fully_labeled_replicas,
        ready_replicas: status.ready_replicas,
        available_replicas: status.available_replicas,
        observed_generation: status.observed_generation,
        conditions: status.conditions.map(|all| all.into_iter().map(condition).collect()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::scenario;

    #[test]
    fn scenarios() {
        scenario::check("replication/testdata", |given| {
            let controller: ReplicationController = given.one();
            replicaset::tests::situations(&controller.as_set(), given)
        });
    }

    fn controller() -> ReplicationController {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "n", "uid": "u"},
            "spec": {"replicas": 3, "selector": {"a": "b"}, "template": {"metadata": {"labels": {"a": "b"}}}},
            "status": {"replicas": 2, "readyReplicas": 1, "conditions": [{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate"}]},
        }))
        .expect("a replication controller")
    }

    #[test]
    fn it_is_a_set_under_another_name() {
        let controller = controller();
        let set = controller.as_set();
        assert_eq!(set.spec.replicas, Some(3));
        assert_eq!(set.spec.selector.match_labels.as_ref().expect("labels")["a"], "b");
        assert_eq!(set.metadata, controller.metadata);
    }

    #[test]
    fn its_status_survives_the_way_there_and_back() {
        let controller = controller();
        let status = controller.as_set().status.clone().expect("a status");
        assert_eq!(controller.with_status(status), controller);
    }

    #[test]
    fn its_pods_name_it_as_their_controller() {
        let reference = controller::controller_ref(&controller());
        assert_eq!(
            (reference.kind.as_str(), reference.api_version.as_str()),
            ("ReplicationController", "v1")
        );
    }

    proptest! {
        /// Rounds end with as many pods as are wanted, at most a burst per round, and then there is rest.
        #[test]
        fn plan_then_apply_settles(wanted in 0usize..1200, have in 0usize..1200) {
            use replicaset::plan::{Action, Count, View, plan};
            let mut controller = controller();
            controller.spec.get_or_insert_default().replicas = i32::try_from(wanted).ok();
            let pod = |n: usize| -> std::sync::Arc<crate::kept::Pod> {
                let mut pod = crate::kept::Pod::default();
                pod.metadata.name = Some(format!("web-{n}").into());
                std::sync::Arc::new(pod)
            };
            let (mut pods, mut serial, set) = ((0..have).map(pod).collect::<Vec<_>>(), have, controller.as_set());
            for _ in 0..4 {
                let count = Count::of(&set, &pods, 0, jiff::Timestamp::UNIX_EPOCH);
                let view = View { set: &set, count, active: &pods, related: &pods, settled: true };
                match plan(&view, jiff::Timestamp::UNIX_EPOCH) {
                    Action::Nothing => break,
                    Action::Create(count) => {
                        pods.extend((serial..serial + count).map(pod));
                        serial += count;
                    }
                    Action::Delete(names) => pods.retain(|p| !names.iter().any(|n| n == p.name())),
                }
            }
            prop_assert_eq!(pods.len(), wanted);
        }

        /// What a set decides about is the same after a status was written and read again: nothing is written twice, and
        /// what is decided about pods is theirs.
        #[test]
        fn a_written_status_is_read_again(wanted in 0i32..9, counts in prop::array::uniform4(0i32..9), failed: bool) {
            let mut controller = controller();
            controller.spec.get_or_insert_default().replicas = Some(wanted);
            let condition = ReplicaSetCondition {
                type_: Some("ReplicaFailure".to_string()),
                status: Some("True".to_string()),
                ..ReplicaSetCondition::default()
            };
            let status = ReplicaSetStatus {
                replicas: counts[0],
                fully_labeled_replicas: Some(counts[1]),
                ready_replicas: Some(counts[2]),
                available_replicas: Some(counts[3]),
                conditions: failed.then(|| vec![condition]),
                ..ReplicaSetStatus::default()
            };
            let written = controller.with_status(status.clone());
            prop_assert_eq!(written.as_set().status.clone(), Some(status));
            prop_assert_eq!(&written.as_set().spec, &controller.as_set().spec);
        }

        /// With as many pods as are wanted nothing is done.
        #[test]
        fn a_satisfied_view_needs_nothing(wanted in 0i32..30) {
            let mut controller = controller();
            controller.spec.get_or_insert_default().replicas = Some(wanted);
            let pods = vec![std::sync::Arc::default(); usize::try_from(wanted).expect("small")];
            let (set, settled) = (controller.as_set(), true);
            let count = replicaset::plan::Count::of(&set, &pods, 0, jiff::Timestamp::UNIX_EPOCH);
            let view = replicaset::plan::View { set: &set, count, active: &pods, related: &pods, settled };
            let plan = replicaset::plan::plan(&view, jiff::Timestamp::UNIX_EPOCH);
            prop_assert_eq!(plan, replicaset::plan::Action::Nothing);
        }
    }
}
