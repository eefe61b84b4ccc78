//! Roll-outs, step by step, against a small model of the ReplicaSet controller.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use proptest::prelude::*;
use serde_json::json;

use super::plan::{Action, View, plan};
use super::revision::same_template;
use super::size::{max_surge, max_unavailable, replicas, wanted};
use crate::scenario;

fn deployment(count: i32, image: &str, surge: &str, unavailable: &str) -> Deployment {
    let bound = |text: &str| text.parse::<i32>().map_or_else(|_| json!(text), |number| json!(number));
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "n", "uid": "d", "generation": 1},
        "spec": {"replicas": count, "selector": {"matchLabels": {"a": "b"}}, "progressDeadlineSeconds": 600, "revisionHistoryLimit": 2,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": bound(surge), "maxUnavailable": bound(unavailable)}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": image}]}}},
    }))
    .expect("a deployment")
}

fn now() -> Timestamp {
    Timestamp::from_second(1_790_000_000).expect("a time")
}

/// A cluster of one Deployment: sets get the pods they ask for, `ready` of which become available per round.
struct World {
    deployment: Deployment,
    sets: Vec<Arc<ReplicaSet>>,
    made: i64,
}

impl World {
    fn new(deployment: Deployment) -> Self {
        Self { deployment, sets: Vec::new(), made: 0 }
    }

    /// One round; false when nothing was to be done.
    fn round(&mut self) -> bool {
        let view = View { deployment: &self.deployment, sets: &self.sets, old_pods_running: false };
        let plan = plan(&view, now());
        let idle = plan.actions.is_empty();
        for action in plan.actions {
            match action {
                Action::Create(mut set) => {
                    self.made += 1;
                    set.metadata.uid = Some(format!("s{}", self.made));
                    let time = Timestamp::from_second(1_700_000_000 + self.made).expect("a time");
                    set.metadata.creation_timestamp =
                        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(time));
                    self.sets.push(Arc::new(set));
                }
                Action::Update { set, .. } => {
                    let at =
                        self.sets.iter().position(|s| s.metadata.uid == set.metadata.uid).expect("the set");
                    self.sets[at] = Arc::new(set);
                }
                Action::Delete(name) => self.sets.retain(|s| s.metadata.name.as_ref() != Some(&name)),
            }
        }
        self.deployment.status = Some(plan.status);
        if let Some(revision) = plan.revision {
            let annotations = self.deployment.metadata.annotations.get_or_insert_default();
            annotations.insert(super::revision::REVISION.to_string(), revision);
        }
        !idle
    }

    /// Every set gets its pods; up to `ready` more of each become available.
    fn pods(&mut self, ready: i32) {
        for set in &mut self.sets {
            let mut new = (**set).clone();
            let size = replicas(&new);
            let status = new.status.get_or_insert_default();
            status.replicas = size;
            let up = (status.available_replicas.unwrap_or(0) + ready).min(size);
            (status.ready_replicas, status.available_replicas) = (Some(up), Some(up));
            *set = Arc::new(new);
        }
    }

    fn settle(&mut self) -> usize {
        for round in 0..500 {
            let busy = self.round();
            let before = self.sets.clone();
            self.pods(2);
            if !busy && before == self.sets {
                return round;
            }
        }
        panic!("the roll-out never ends");
    }

    fn sizes(&self) -> Vec<i32> {
        self.sets.iter().map(|s| replicas(s)).collect()
    }

    fn reason(&self) -> String {
        let status = self.deployment.status.clone().unwrap_or_default();
        super::status::find_progressing(&status).and_then(|c| c.reason.clone()).unwrap_or_default()
    }
}

/// What becomes of a deployment.
#[derive(serde::Deserialize)]
struct Change {
    replicas: i32,
    image: String,
    #[serde(default)]
    paused: bool,
    /// Pods of each set that become available per round.
    #[serde(default = "two")]
    ready: i32,
    /// Rounds to look at; without, until there is rest.
    rounds: Option<usize>,
}

fn two() -> i32 {
    2
}

#[test]
fn scenarios() {
    scenario::check("deployment/testdata", |given| {
        let bound = |name: &str| given.setting::<String>(name).unwrap_or_else(|| "1".to_string());
        let (surge, unavailable) = (bound("surge"), bound("unavailable"));
        let make = |change: &Change| {
            let mut new = deployment(change.replicas, &change.image, &surge, &unavailable);
            new.spec.paused = Some(change.paused);
            if let Some(strategy) = given.setting::<String>("strategy") {
                new.spec.strategy =
                    Some(serde_json::from_value(json!({"type": strategy})).expect("a strategy"));
            }
            new
        };
        let changes: Vec<Change> = given.setting("changes").expect("changes");
        let mut world = World::new(make(&changes[0]));
        let mut out = String::new();
        for change in &changes {
            world.deployment.spec = make(change).spec;
            let paused = if change.paused { ", paused" } else { "" };
            out.push_str(&format!("{} of {}{paused}\n", change.replicas, change.image));
            for round in 1..=change.rounds.unwrap_or(50) {
                let told = world.deployment.status.clone();
                let (busy, before) = (world.round(), world.sets.clone());
                world.pods(change.ready);
                if !busy && before == world.sets && told == world.deployment.status {
                    break;
                }
                let up =
                    |s: &Arc<ReplicaSet>| s.status.as_ref().and_then(|s| s.available_replicas).unwrap_or(0);
                let up: Vec<i32> = world.sets.iter().map(up).collect();
                out.push_str(&format!(
                    "  {round}: sets of {:?}, available {up:?} ({})\n",
                    world.sizes(),
                    world.reason()
                ));
            }
        }
        out
    });
}

#[test]
fn the_first_set_is_made_in_full() {
    let mut world = World::new(deployment(3, "v1", "25%", "25%"));
    world.round();
    assert_eq!(world.sizes(), [3]);
    world.settle();
    assert_eq!(world.reason(), "NewReplicaSetAvailable");
}

#[test]
fn a_new_template_comes_in_steps() {
    let mut world = World::new(deployment(4, "v1", "1", "1"));
    world.settle();
    world.deployment.spec = deployment(4, "v2", "1", "1").spec;
    world.round();
    assert_eq!(world.sizes(), [4, 1]);
    world.pods(0);
    world.round();
    assert_eq!(world.sizes(), [3, 1], "one may be missing");
    world.settle();
    assert_eq!(world.sizes(), [0, 4]);
    assert_eq!(
        world.deployment.metadata.annotations.as_ref().expect("annotations")["deployment.kubernetes.io/revision"],
        "2"
    );
}

#[test]
fn an_earlier_template_reuses_its_set() {
    let mut world = World::new(deployment(2, "v1", "1", "0"));
    world.settle();
    for image in ["v2", "v1"] {
        world.deployment.spec = deployment(2, image, "1", "0").spec;
        world.settle();
    }
    assert_eq!(world.sizes(), [2, 0]);
    let annotations = world.sets[0].metadata.annotations.clone().expect("annotations");
    assert_eq!(annotations["deployment.kubernetes.io/revision"], "3");
    assert_eq!(annotations["deployment.kubernetes.io/revision-history"], "1");
}

#[test]
fn scaling_in_the_middle_keeps_proportions() {
    let mut world = World::new(deployment(10, "v1", "3", "2"));
    world.settle();
    world.deployment.spec = deployment(10, "v2", "3", "2").spec;
    world.round();
    world.pods(0);
    world.round();
    assert_eq!(world.sizes(), [8, 3]);
    world.deployment.spec.replicas = Some(15);
    world.round();
    assert_eq!(world.sizes().iter().sum::<i32>(), 18, "{:?}", world.sizes());
    world.settle();
    assert_eq!(world.sizes(), [0, 15]);
}

#[test]
fn a_paused_deployment_only_scales() {
    let mut world = World::new(deployment(2, "v1", "1", "1"));
    world.settle();
    let mut next = deployment(3, "v2", "1", "1");
    next.spec.paused = Some(true);
    world.deployment.spec = next.spec;
    world.settle();
    assert_eq!(world.sizes(), [3]);
    assert_eq!(world.reason(), "DeploymentPaused");
}

#[test]
fn old_sets_beyond_the_limit_are_removed() {
    let mut world = World::new(deployment(1, "v1", "1", "0"));
    for image in ["v1", "v2", "v3", "v4", "v5"] {
        world.deployment.spec = deployment(1, image, "1", "0").spec;
        world.settle();
    }
    world.settle();
    assert_eq!(world.sizes(), [0, 0, 1]);
}

#[test]
fn a_rollback_brings_an_earlier_template_back_once() {
    let mut world = World::new(deployment(1, "v1", "1", "0"));
    world.settle();
    world.deployment.spec = deployment(1, "v2", "1", "0").spec;
    world.settle();
    let ask = |world: &mut World, revision: &str| {
        let annotations = world.deployment.metadata.annotations.get_or_insert_default();
        annotations.insert(super::rollback::ROLLBACK_TO.to_string(), revision.to_string());
        let view = View { deployment: &world.deployment, sets: &world.sets, old_pods_running: false };
        let back = super::rollback::plan(&view).expect("a rollback");
        assert_eq!(super::rollback::wanted(&back.deployment), None);
        world.deployment = back.deployment;
        (
            back.event.1,
            world.deployment.spec.template.spec.as_ref().expect("a spec").containers[0].image.clone(),
        )
    };
    assert_eq!(ask(&mut world, "7"), ("RollbackRevisionNotFound", Some("v2".to_string())));
    assert_eq!(ask(&mut world, "2"), ("RollbackTemplateUnchanged", Some("v2".to_string())));
    assert_eq!(ask(&mut world, "0"), ("DeploymentRollback", Some("v1".to_string())));
    world.settle();
    assert_eq!(world.sizes(), [1, 0]);
}

#[test]
fn templates_are_compared_without_the_hash_label() {
    let mut world = World::new(deployment(1, "v1", "1", "0"));
    world.round();
    let made = world.sets[0].spec.template.clone().expect("a template");
    let wanted = world.deployment.spec.template.clone();
    assert!(made != wanted && same_template(&made, &wanted));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// Whatever the bounds, a roll-out ends, and on its way there are never too many pods nor too few available ones.
    #[test]
    fn roll_outs_end_within_bounds(count in 0i32..25, surge in 0i32..120, unavailable in 0i32..100, ready in 1i32..4) {
        let make = |image: &str| deployment(count, image, &format!("{surge}%"), &format!("{unavailable}%"));
        let mut world = World::new(make("v1"));
        world.settle();
        world.deployment.spec = make("v2").spec;
        for _ in 0..300 {
            world.round();
            let all: i32 = world.sizes().iter().sum();
            prop_assert!(all <= wanted(&world.deployment) + max_surge(&world.deployment).max(0), "{:?}", world.sizes());
            let up: i32 = world.sets.iter().map(|s| s.status.as_ref().and_then(|s| s.available_replicas).unwrap_or(0).min(replicas(s))).sum();
            prop_assert!(up >= wanted(&world.deployment) - max_unavailable(&world.deployment), "{up} of {:?}", world.sizes());
            world.pods(ready);
        }
        prop_assert_eq!(world.sizes().last().copied(), Some(count));
        prop_assert_eq!(world.sizes().iter().sum::<i32>(), count);
    }

    /// A deployment that is rolled out is left alone, whatever its bounds.
    #[test]
    fn a_satisfied_view_needs_nothing(count in 0i32..25, surge in 0i32..5, unavailable in 0i32..5) {
        let mut world = World::new(deployment(count, "v1", &surge.to_string(), &unavailable.to_string()));
        world.settle();
        let view = View { deployment: &world.deployment, sets: &world.sets, old_pods_running: false };
        let plan = plan(&view, now());
        prop_assert!(plan.actions.is_empty());
        prop_assert_eq!(Some(&plan.status), world.deployment.status.as_ref());
    }
}
