//! When pods leave tainted devices, and what rules say of that.

use std::sync::Arc;

use client::Meta;
use jiff::Timestamp;
use k8s_openapi::api::resource::v1::{
    DeviceTaintRule as Rule, ResourceClaim as Claim, ResourceSlice as Slice,
};
use proptest::prelude::*;
use serde_json::json;

use super::plan::{Eviction, NO_EXECUTE, Source, View, of_pod};
use super::status::{self, Counts, DRY};
use crate::kept::Pod;
use crate::scenario;

fn now() -> Timestamp {
    "2026-01-01T00:01:00Z".parse().expect("a time")
}

struct World {
    pods: Vec<Arc<Pod>>,
    claims: Vec<Arc<Claim>>,
    slices: Vec<Arc<Slice>>,
    rules: Vec<Arc<Rule>>,
}

impl World {
    fn with_view<T>(&self, rules: &[Arc<Rule>], call: impl FnOnce(&View<'_>) -> T) -> T {
        let claim = |namespace: &str, name: &str| {
            self.claims.iter().find(|c| (c.namespace(), c.name()) == (namespace, name)).cloned()
        };
        let slices = |driver: &str, pool: &str| {
            let is = |s: &&Arc<Slice>| s.spec.driver == driver && s.spec.pool.name == pool;
            self.slices.iter().filter(is).cloned().collect()
        };
        call(&View { claim: &claim, slices: &slices, rules })
    }

    fn eviction(&self, pod: &Pod) -> Option<Eviction> {
        self.with_view(&self.rules, |view| of_pod(pod, view))
    }

    fn counts(&self, rule: &Rule) -> Counts {
        let mut acting = rule.clone();
        acting.spec.taint.effect = NO_EXECUTE.into();
        let acting = [Arc::new(acting)];
        let mut counts = self.with_view(&acting, |view| status::count_pods(rule, self.pods.iter(), view));
        if rule.spec.taint.effect == DRY {
            let current = super::plan::current(&self.slices);
            status::count_devices(rule, current, &self.claims, &mut counts);
        }
        counts
    }
}

fn shown(source: &Source) -> String {
    match source {
        Source::Rule { name, .. } => format!("rule {name}"),
        Source::Slice { driver, pool, device, taint } => format!("{driver}/{pool}/{device} taint #{taint}"),
    }
}

#[test]
fn scenarios() {
    scenario::check("devicetainteviction/testdata", |given| {
        let (pods, claims) = (given.shared(), given.shared());
        let world = World { pods, claims, slices: given.shared(), rules: given.shared() };
        let mut out = Vec::new();
        for pod in &world.pods {
            out.push(match world.eviction(pod) {
                None => format!("{} stays", pod.name()),
                Some(eviction) => {
                    let reasons: Vec<String> = eviction.reasons.iter().map(shown).collect();
                    format!("{} leaves at {}: {}", pod.name(), eviction.when, reasons.join(", "))
                }
            });
        }
        let evicted = given.setting("evicted").unwrap_or(0);
        for rule in &world.rules {
            if let Some(left) = status::wait(rule, now()) {
                out.push(format!("{} waits {left:?}", rule.name()));
                continue;
            }
            let counts = Counts { evicted, ..world.counts(rule) };
            out.push(match status::condition(rule, &counts, now()) {
                Some(condition) => scenario::yaml(&condition),
                None => format!("{} says so", rule.name()),
            });
        }
        out.join("\n")
    });
}

fn one<T: serde::de::DeserializeOwned>(v: serde_json::Value) -> Vec<Arc<T>> {
    vec![Arc::new(serde_json::from_value(v).expect("an object"))]
}

/// A pod that uses some devices of one pool, each with these tolerations.
fn world(devices: &[(bool, Option<Option<i64>>)], ruled: bool) -> World {
    let taint = json!({"key": "k", "effect": NO_EXECUTE, "timeAdded": "2026-01-01T00:00:00Z"});
    let offered: Vec<_> = devices
        .iter()
        .enumerate()
        .map(|(i, (tainted, _))| json!({"name": format!("d{i}"), "taints": if *tainted { json!([taint]) } else { json!([]) }}))
        .collect();
    let results: Vec<_> = devices
        .iter()
        .enumerate()
        .map(|(i, (_, tolerated))| {
            let all = tolerated
                .map(|s| json!([{"operator": "Exists", "effect": NO_EXECUTE, "tolerationSeconds": s}]));
            json!({"driver": "d", "pool": "p", "device": format!("d{i}"), "request": "r", "tolerations": all})
        })
        .collect();
    let pool = json!({"name": "p", "generation": 1, "resourceSliceCount": 1});
    let slice = json!({"metadata": {"name": "s"}, "spec": {"driver": "d", "pool": pool, "devices": offered}});
    let claim = json!({"metadata": {"name": "c", "namespace": "n"}, "spec": {}, "status": {
        "allocation": {"devices": {"results": results}},
        "reservedFor": [{"resource": "pods", "name": "p", "uid": "u"}]}});
    let pod = json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": {"nodeName": "node",
        "containers": [], "resourceClaims": [{"name": "x", "resourceClaimName": "c"}]}});
    let rule = json!({"metadata": {"name": "r", "uid": "ru", "generation": 1},
        "spec": {"deviceSelector": {"driver": "d"}, "taint": taint}});
    World {
        pods: one(pod),
        claims: one(claim),
        slices: one(slice),
        rules: if ruled { one(rule) } else { Vec::new() },
    }
}

proptest! {
    /// A pod whose devices have no taints, or which tolerates them all for ever, stays.
    #[test]
    fn a_satisfied_view_needs_nothing(
        tainted in prop::collection::vec(any::<bool>(), 0..5), ruled: bool, tolerated: bool,
    ) {
        let devices: Vec<_> = tainted.iter().map(|t| (*t && tolerated, tolerated.then_some(None))).collect();
        let world = world(&devices, ruled && tolerated);
        prop_assert_eq!(world.eviction(&world.pods[0]), None);
    }

    /// Once evicted pods are gone and rules say so, nothing is left to do.
    #[test]
    fn plan_then_apply_settles(
        devices in prop::collection::vec((any::<bool>(), prop::option::of(prop::option::of(0i64..100))), 0..5),
        ruled: bool,
    ) {
        let mut world = world(&devices, ruled);
        let leaves = world.eviction(&world.pods[0]);
        let untolerated = |(tainted, t): &(bool, Option<Option<i64>>)| (*tainted || ruled) && *t != Some(None);
        prop_assert_eq!(leaves.is_some(), devices.iter().any(untolerated));
        if let Some(eviction) = leaves {
            let earliest = devices.iter().filter(|d| untolerated(d)).map(|(_, t)| t.flatten().unwrap_or(0)).min();
            let start: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
            prop_assert_eq!(eviction.when.duration_since(start).as_secs(), earliest.unwrap_or(0));
            world.pods.clear();
        }
        for rule in &world.rules {
            let counts = world.counts(rule);
            let condition = status::condition(rule, &counts, now()).expect("news");
            let mut told = (**rule).clone();
            told.status.get_or_insert_default().conditions = Some(vec![condition]);
            prop_assert_eq!(status::condition(&told, &world.counts(&told), now()), None);
            prop_assert!(status::wait(&told, now()).is_some());
        }
    }
}
