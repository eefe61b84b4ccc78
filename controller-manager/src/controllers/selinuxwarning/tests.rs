//! Who is warned of whom.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

use client::Meta;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim as Claim, Volume};
use k8s_openapi::api::storage::v1::CSIDriver;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::cache::{Cache, Conflict, Policy, Use};
use super::plan::{Plan, View, plan};
use super::pod::Pod;
use super::{label, metrics, mounts_labels, names};
use crate::controllers::shared::key;
use crate::scenario::{self, Given};

fn decide(given: &Given) -> Vec<(Arc<Pod>, Plan)> {
    let (claims, volumes) = (given.shared::<Claim>(), given.shared::<PersistentVolume>());
    let drivers = given.all::<CSIDriver>();
    let view = View {
        claim: &|key| claims.iter().find(|c| c.key() == key).cloned(),
        volume: &|name| volumes.iter().find(|v| v.name() == name).cloned(),
        mounts_labels: &|name| drivers.iter().any(|d| d.name() == name && mounts_labels(d)),
    };
    given.shared::<Pod>().into_iter().map(|pod| (pod.clone(), plan(&pod, &view))).collect()
}

#[test]
fn scenarios() {
    scenario::check("selinuxwarning/testdata", |given| {
        let mut cache = Cache::default();
        let mut out = String::new();
        for (pod, plan) in decide(given) {
            let _ = writeln!(out, "pod {}", key(&*pod));
            for name in &plan.torn {
                let _ = writeln!(out, "  its containers disagree about {name}");
            }
            for of in &plan.uses {
                let _ = writeln!(out, "  {} {:?} {:?}", of.volume, of.policy, of.label);
            }
            for conflict in cache.set(&key(&*pod), plan.uses) {
                let _ = writeln!(out, "  tell {}: {}", conflict.pod, conflict.message());
            }
        }
        let _ = writeln!(out, "series: {}", metrics::family(&cache).samples.len());
        out
    });
}

/// Table of selinux_translator_test.go.
#[test]
fn labels_conflict() {
    let check = |a: &str, b: &str, expected: bool| {
        assert_eq!(label::conflict(a, b), expected, "{a:?} {b:?}");
        assert_eq!(label::conflict(b, a), expected, "{b:?} {a:?}");
    };
    let full = "system_u:system_r:container_t:s0:c1,c2";
    check(full, full, false);
    check(full, ":system_r:container_t:s0:c1,c2", false);
    check(full, "::container_t:s0:c1,c2", false);
    check(full, ":::s0:c1,c2", false);
    check(full, ":::s0:c98,c99", true);
    check(full, "user_u:system_r:container_t:s0:c1,c2", true);
    check(full, "system_u:object_r:container_t:s0:c1,c2", true);
    check(full, "system_u:system_r:spc_t:s0:c1,c2", true);
    check(full, "", true);
    check(":::s0:c1,c2", "", true);
    check("", "system_u:system_r:container_t", false);
}

fn told<'a>(all: impl IntoIterator<Item = &'a Conflict>, full: bool) -> Vec<String> {
    let one = |c: &Conflict| {
        let (name, reason) = (c.property.name(), c.property.reason());
        let short = format!("{name} {} {:?} {} {:?}", c.pod, c.value, c.other, c.other_value);
        if full { format!("{short} {reason}: {}", c.message()) } else { short }
    };
    let mut told: Vec<_> = all.into_iter().map(one).collect();
    told.sort();
    told
}

/// Recorded by `e2e/oracle/controllers conflicts`: one cache, operation after operation.
#[test]
fn conflicts_are_upstreams() {
    let mut cache = Cache::default();
    let records = include_str!("testdata/conflicts.jsonl").lines();
    for (at, line) in records.enumerate() {
        let record: Value = serde_json::from_str(line).expect("a record");
        let text = |of: &Value, name: &str| of[name].as_str().unwrap_or_default().to_owned();
        if record["add"].is_object() {
            let add = &record["add"];
            let policy = if add["policy"] == "Recursive" { Policy::Recursive } else { Policy::MountOption };
            let (volume, driver, label) = (text(add, "volume"), text(add, "driver"), text(add, "label"));
            let found = cache.add(&text(add, "pod"), Use { volume, driver, label, policy });
            assert_eq!(json!(told(&found, at < 30)), record["found"], "{line}");
        } else if record["delete"].is_string() {
            drop(cache.set(&text(&record, "delete"), Vec::new()));
        } else {
            let pods: Vec<String> =
                cache.pods_of(&text(&record, "driver")).iter().map(|p| p.to_string()).collect();
            // Upstream names a pod once per volume.
            let mut expected: Vec<String> =
                serde_json::from_value(record["pods"].clone()).expect("recorded pods");
            expected.dedup();
            assert_eq!(pods, expected, "{line}");
        }
        let all = cache.conflicts(10_000);
        assert_eq!(json!(all.len()), record["count"], "{line}");
        if at % 25 == 24 {
            assert_eq!(json!(told(&all, false)), record["all"], "{line}");
        }
    }
}

/// Recorded by `e2e/oracle/controllers volumes`.
#[test]
fn names_are_upstreams() {
    let mut named = 0;
    for line in include_str!("testdata/volumes.jsonl").lines() {
        let record: Value = serde_json::from_str(line).expect("a record");
        let identity = if record["pv"].is_object() {
            let volume: PersistentVolume = serde_json::from_value(record["pv"].clone()).expect("a volume");
            names::of_persistent(&volume)
        } else {
            let volume: Volume = serde_json::from_value(record["volume"].clone()).expect("a volume");
            names::of_inline(&volume, "ns")
        };
        let name = identity.map(|i| i.name).unwrap_or_default();
        named += usize::from(!name.is_empty());
        assert_eq!(json!(name), record["name"], "{line}");
    }
    assert!(named >= 250, "{named} names");
}

/// A scrape does not grow with the square of the pods of a volume.
#[test]
fn series_are_bounded() {
    let mut cache = Cache::default();
    for n in 0..40 {
        cache.add(&format!("ns/p{n}"), using(0, &format!(":::s0:c{n}"), false));
    }
    assert_eq!(cache.conflicts(10_000).len(), 40 * 39);
    assert!((97..=100).contains(&cache.conflicts(100).len()));
}

fn using(volume: u8, label: &str, recursive: bool) -> Use {
    let policy = if recursive { Policy::Recursive } else { Policy::MountOption };
    Use {
        volume: format!("v{volume}"),
        driver: "csi.example.org".to_owned(),
        label: label.to_owned(),
        policy,
    }
}

/// What pods use: of each volume at most one entry.
fn pods() -> impl Strategy<Value = Vec<Vec<Use>>> {
    let of = prop_oneof![
        Just((":::s0:c1", false)),
        Just(("u:r:t:s0:c1", false)),
        Just(("", true)),
        Just((":::s0:c2", false))
    ];
    let uses = proptest::collection::btree_map(0u8..4, of, 0..4).prop_map(|uses| {
        uses.into_iter().map(|(v, (label, recursive))| using(v, label, recursive)).collect()
    });
    proptest::collection::vec(uses, 1..8)
}

fn filled(pods: &[Vec<Use>]) -> Cache {
    let mut cache = Cache::default();
    for (at, uses) in pods.iter().enumerate() {
        cache.set(&format!("ns/p{at}"), uses.clone());
    }
    cache
}

proptest! {
    /// What is known depends on what pods use now, not on what they used before or on the order; and is told once.
    #[test]
    fn taking_in_settles(before in pods(), now in pods()) {
        let mut cache = filled(&before);
        for (at, uses) in now.iter().enumerate().rev() {
            cache.set(&format!("ns/p{at}"), uses.clone());
        }
        (now.len()..before.len()).for_each(|gone| drop(cache.set(&format!("ns/p{gone}"), Vec::new())));
        prop_assert_eq!(&cache, &filled(&now));
        for (at, uses) in now.iter().enumerate() {
            let told = cache.set(&format!("ns/p{at}"), uses.clone());
            prop_assert!(told.is_empty());
        }
    }

    /// What was told when it came is what there is when nothing has gone; both pods of each conflict know.
    #[test]
    fn told_is_what_there_is(now in pods()) {
        let mut cache = Cache::default();
        let told: BTreeSet<Conflict> =
            now.iter().enumerate().flat_map(|(at, uses)| cache.set(&format!("ns/p{at}"), uses.clone())).collect();
        prop_assert_eq!(told, cache.conflicts(10_000));
    }

    /// Pods that agree are not bothered.
    #[test]
    fn a_satisfied_view_needs_nothing(volumes in proptest::collection::btree_set(0u8..4, 0..4), count in 1usize..8, recursive: bool) {
        let label = if recursive { "" } else { ":::s0:c1" };
        let uses: Vec<Use> = volumes.into_iter().map(|v| using(v, label, recursive)).collect();
        let mut cache = filled(&vec![uses.clone(); count]);
        prop_assert!(cache.set("ns/new", uses).is_empty());
        prop_assert!(cache.conflicts(10_000).is_empty());
    }
}
