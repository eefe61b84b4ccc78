//! Counters against counting anew, after every change of a made-up history.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::cycle::generate::Dice;

const ZONES: [&str; 3] = ["z1", "z2", "z3"];
const KEYS: [&str; 2] = ["zone", "kubernetes.io/hostname"];

fn node(d: &mut Dice, name: &str) -> Arc<WireNode> {
    let mut labels = json!({ "kubernetes.io/hostname": name });
    if !d.one_in(4) {
        labels["zone"] = d.pick(&ZONES).into();
    }
    Arc::new(serde_json::from_value(json!({ "metadata": { "name": name, "labels": labels } })).unwrap())
}

fn pod(d: &mut Dice, interner: &Interner, name: &str) -> Arc<PodInfo> {
    let like = |app: &str, key: &str| json!({ "labelSelector": { "matchLabels": { "app": app } }, "topologyKey": key });
    let mut spec: Value = json!({ "containers": [{ "name": "c" }] });
    if d.one_in(2) {
        let term = like(d.pick(&["a", "b"]), d.pick(&KEYS));
        spec["affinity"] =
            json!({ "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [term] } });
    }
    let metadata =
        json!({ "name": name, "namespace": "ns", "uid": name, "labels": { "app": d.pick(&["a", "b"]) } });
    let pod: WirePod = serde_json::from_value(json!({ "metadata": metadata, "spec": spec })).unwrap();
    Arc::new(PodInfo::new(interner, &pod))
}

/// Domain to number, counted over the rows.
fn counted(cache: &Cache, key: KeyId, of: impl Fn(&PodInfo) -> usize) -> BTreeMap<u32, usize> {
    let mut counts = BTreeMap::new();
    for row in cache.all_rows() {
        let sum: usize = row.pods.iter().map(|p| of(p)).sum();
        if row.domains[key] != NOWHERE && sum > 0 {
            *counts.entry(row.domains[key]).or_default() += sum;
        }
    }
    counts
}

fn kept(counts: &Counts) -> BTreeMap<u32, usize> {
    (0..).zip(counts.iter().map(|c| *c as usize)).filter(|(_, c)| *c > 0).collect()
}

fn check(cache: &mut Cache, asking: &[Arc<PodInfo>]) {
    for key in KEYS {
        cache.know_key(key);
    }
    for pod in asking {
        cache.know_terms(&pod.anti_affinity);
        cache.remember(pod);
        for term in &pod.anti_affinity {
            let key = cache.key(&term.topology_key).unwrap();
            let counter = cache.counters().matcher(&term.matcher).unwrap();
            let of = |p: &PodInfo| usize::from(term.matcher.matches(p, cache.namespaces()));
            let (counts, sum) = counter.domains(key).unwrap();
            assert_eq!(kept(counts), counted(cache, key, of));
            assert_eq!(sum as usize, kept(counts).values().sum::<usize>());
            for row in cache.all_rows() {
                assert_eq!(counter.row(row.at) as usize, row.pods.iter().filter(|p| of(p) == 1).count());
            }
        }
        for term in cache.counters().meaning(pod, cache.namespaces()) {
            let same = |t: &&AffinityTerm| {
                t.matcher.id == term.matcher.id && cache.key(&t.topology_key) == Some(term.key)
            };
            let of = |p: &PodInfo| p.anti_affinity.iter().filter(same).count();
            assert_eq!(kept(&term.counts), counted(cache, term.key, of));
        }
    }
}

#[test]
fn counters_stay_right() {
    for seed in 0..20 {
        let d = &mut Dice::new(seed);
        let interner = Interner::default();
        let mut cache = Cache::new(interner.clone());
        let asking: Vec<_> = (0..4).map(|i| pod(d, &interner, &format!("asking{i}"))).collect();
        for step in 0..150 {
            let name = format!("n{}", d.below(6));
            match d.below(6) {
                0 => cache.set_node(node(d, &name)),
                1 if d.one_in(3) => cache.remove_node(&name),
                2 | 3 => {
                    let uid: Uid = format!("p{}", d.below(40)).into();
                    cache.remove(&uid);
                }
                _ => {
                    let uid = format!("p{}", d.below(40));
                    cache.place(pod(d, &interner, &uid), &name, Place::Seen);
                }
            }
            if step % 3 == 0 {
                check(&mut cache, &asking);
            }
        }
        assert!(cache.rows().all(|r| cache.row(&r.name).is_some_and(|other| other.at == r.at)));
    }
}
