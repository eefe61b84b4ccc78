//! Pod garbage collector: removes pods that nobody will finish: too many ended ones, those of nodes that are gone or
//! out of service, and terminating ones that never got a node.
//!
//! Looks every 20 s, as upstream; a node must have been missing for 40 s, and missing at the server, before its pods
//! go. Upstream: pkg/controller/podgc/gc_controller.go.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use client::{Client, DeleteParams, Meta};
use component::app::Error;
use futures::StreamExt;
use informer::Options;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, PodCondition};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::shared::{fail_pod, key};
use crate::context::Context;
use crate::descriptor::Running;
use crate::kept::Pod;
use crate::pods;

const PERIOD: Duration = Duration::from_secs(20);
const QUARANTINE: Duration = Duration::from_secs(40);
/// Deletions under way at once.
const PARALLEL: usize = 16;

/// Why a pod goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    Terminated,
    OutOfService,
    Unscheduled,
    Orphaned,
}

fn is_lost(node: &Node) -> bool {
    let ready = node.status.iter().flat_map(|s| s.conditions.iter().flatten());
    let ready = ready.clone().any(|c| c.type_ == "Ready" && c.status == "True");
    let mut taints = node.spec.iter().flat_map(|s| s.taints.iter().flatten());
    !ready && taints.any(|t| t.key == "node.kubernetes.io/out-of-service")
}

/// Ended pods above the threshold: evicted ones first, then the oldest.
fn surplus<'a>(all: &'a [Arc<Pod>], threshold: usize) -> Vec<&'a Arc<Pod>> {
    let mut ended: Vec<&Arc<Pod>> =
        all.iter().filter(|p| !matches!(pods::phase(p), "Pending" | "Running" | "Unknown")).collect();
    if threshold == 0 || ended.len() <= threshold {
        return Vec::new();
    }
    let evicted = |p: &Pod| {
        pods::phase(p) == "Failed" && p.status.as_ref().and_then(|s| s.reason.as_deref()) == Some("Evicted")
    };
    ended.sort_by(|a, b| {
        let age = |p: &'a Arc<Pod>| (p.metadata.creation_timestamp, p.name());
        evicted(b).cmp(&evicted(a)).then_with(|| age(a).cmp(&age(b)))
    });
    ended.truncate(ended.len() - threshold);
    ended
}

/// Everything that goes in one round. `gone` are nodes verified to be absent.
fn plan<'a>(
    all: &'a [Arc<Pod>],
    nodes: &BTreeMap<String, Arc<Node>>,
    gone: &HashSet<String>,
    threshold: usize,
) -> Vec<(&'a Arc<Pod>, Reason)> {
    let mut going: Vec<_> = surplus(all, threshold).into_iter().map(|p| (p, Reason::Terminated)).collect();
    for pod in all {
        let node = pods::node_name(pod);
        let terminating = pod.metadata.deletion_timestamp.is_some();
        if terminating && nodes.get(node).is_some_and(|n| is_lost(n)) {
            going.push((pod, Reason::OutOfService));
        } else if gone.contains(node) {
            going.push((pod, Reason::Orphaned));
        } else if terminating && node.is_empty() {
            going.push((pod, Reason::Unscheduled));
        }
    }
    going
}

/// What is to be written to the pod's status before it goes; nothing if it has ended already.
fn failed(pod: &Pod, reason: Reason, now: Timestamp) -> Option<Value> {
    if pods::is_terminal(pod) {
        return None;
    }
    let mut changes = json!({"phase": "Failed"});
    if let Some(generation) = pod.metadata.generation {
        changes["observedGeneration"] = json!(generation);
    }
    if reason == Reason::Orphaned {
        let condition = PodCondition {
            type_: "DisruptionTarget".to_string(),
            status: "True".to_string(),
            reason: Some("DeletionByPodGC".to_string()),
            message: Some("PodGC: node no longer exists".to_string()),
            ..PodCondition::default()
        };
        if let Some(condition) = fail_pod::condition(pod, condition, now) {
            changes["conditions"] = json!([condition]);
        }
    }
    Some(changes)
}

/// Builds the controller.
pub fn build(context: &Context) -> Result<Running, Error> {
    let nodes = context.factory.informer::<Node>(Options::default());
    let all = context.factory.informer::<Pod>(Options::default());
    let threshold = usize::try_from(context.flags.int("terminated-pod-gc-threshold")).unwrap_or(0);
    let (client, token) = (context.client(), context.token.clone());
    Ok(Box::pin(async move {
        if !(nodes.wait_synced(&token).await && all.wait_synced(&token).await) {
            return;
        }
        let work = async {
            let mut missing: BTreeMap<String, Instant> = BTreeMap::new();
            loop {
                let pods = all.store().list();
                let known: BTreeMap<String, Arc<Node>> =
                    nodes.store().list().into_iter().map(|n| (n.name().to_string(), n)).collect();
                let gone = verify(&client, &pods, &known, &mut missing).await;
                let going = plan(&pods, &known, &gone, threshold);
                futures::stream::iter(going)
                    .for_each_concurrent(PARALLEL, |(pod, reason)| remove(&client, pod, reason))
                    .await;
                tokio::time::sleep(PERIOD).await;
            }
        };
        tokio::select! {
            () = token.cancelled() => {}
            () = work => {}
        }
    }))
}

/// The nodes that pods name, that have been unknown for long enough, and that the server does not know either.
async fn verify(
    client: &Client,
    all: &[Arc<Pod>],
    known: &BTreeMap<String, Arc<Node>>,
    missing: &mut BTreeMap<String, Instant>,
) -> HashSet<String> {
    let named: HashSet<&str> =
        all.iter().map(|p| pods::node_name(p)).filter(|n| !n.is_empty() && !known.contains_key(*n)).collect();
    missing.retain(|name, _| named.contains(name.as_str()));
    let mut gone = HashSet::new();
    for name in named {
        let since = *missing.entry(name.to_string()).or_insert_with(Instant::now);
        if since.elapsed() < QUARANTINE {
            continue;
        }
        match client.all::<Node>().get_opt(name).await {
            Ok(None) => {
                gone.insert(name.to_string());
            }
            Ok(Some(_)) => {}
            Err(error) => {
                tracing::warn!(node = name, %error, "Reading a node that is not in the cache failed")
            }
        }
    }
    gone
}

async fn remove(client: &Client, pod: &Pod, reason: Reason) {
    let api = client.namespaced::<Pod>(pod.namespace());
    tracing::info!(pod = key(pod), ?reason, "Deleting a pod by force");
    let work = async {
        if let Some(changes) = failed(pod, reason, Timestamp::now()) {
            fail_pod::patch(&api, pod, changes, false).await?;
        }
        let params = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::with_uid(pod.uid()) };
        api.delete(pod.name(), &params).await
    };
    if let Err(error) = work.await
        && !error.is_not_found()
    {
        tracing::warn!(pod = key(pod), %error, "Deleting a pod by force failed, trying again in the next round");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::scenario;

    /// `"name phase node=n1 age=5 evicted terminating"`.
    fn pod(text: &str) -> Arc<Pod> {
        let words: Vec<&str> = text.split(' ').collect();
        let value = |p: &str| words.iter().find_map(|w| w.strip_prefix(p)).unwrap_or_default();
        let time = |age: i64| Timestamp::from_second(1_790_000_000 - age).expect("a time").to_string();
        let terminating = words.contains(&"terminating").then(|| time(0));
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": words[0], "namespace": "n", "uid": words[0], "deletionTimestamp": terminating,
                    "creationTimestamp": time(value("age=").parse().unwrap_or(0))},
                "spec": {"nodeName": value("node="), "containers": []},
                "status": {"phase": words[1], "reason": if words.contains(&"evicted") { "Evicted" } else { "" }},
            }))
            .expect("a pod"),
        )
    }

    fn nodes() -> BTreeMap<String, Arc<Node>> {
        let lost = json!({"metadata": {"name": "lost"},
            "spec": {"taints": [{"key": "node.kubernetes.io/out-of-service", "effect": "NoExecute"}]}});
        let node = |v| Arc::new(serde_json::from_value::<Node>(v).expect("a node"));
        BTreeMap::from([
            ("n1".to_string(), node(json!({"metadata": {"name": "n1"}}))),
            ("lost".to_string(), node(lost)),
        ])
    }

    fn going(pods: &[&str], threshold: usize) -> Vec<(String, Reason)> {
        let pods: Vec<_> = pods.iter().map(|p| pod(p)).collect();
        let gone = HashSet::from(["gone".to_string()]);
        let plan = plan(&pods, &nodes(), &gone, threshold);
        plan.into_iter().map(|(p, r)| (p.name().to_string(), r)).collect()
    }

    fn check(pods: &[&str], threshold: usize, expected: &[(&str, Reason)]) {
        let expected: Vec<_> = expected.iter().map(|(n, r)| ((*n).to_string(), *r)).collect();
        assert_eq!(going(pods, threshold), expected, "{pods:?}");
    }

    #[test]
    fn scenarios() {
        scenario::check("podgc/testdata", |given| {
            let pods: Vec<Arc<Pod>> = given.shared();
            let nodes: BTreeMap<String, Arc<Node>> =
                given.shared::<Node>().into_iter().map(|n| (n.name().to_string(), n)).collect();
            let gone: HashSet<String> =
                given.setting::<Vec<String>>("gone").unwrap_or_default().into_iter().collect();
            let threshold = given.setting("threshold").unwrap_or(12_500);
            let mut out = String::new();
            for (pod, reason) in plan(&pods, &nodes, &gone, threshold) {
                out.push_str(&format!("delete {} ({reason:?})\n", key(&**pod)));
                if let Some(new) = failed(pod, reason, "2026-01-01T00:00:00Z".parse().expect("a time")) {
                    out.push_str(&format!("  before that: {new}\n"));
                }
            }
            if out.is_empty() { "nothing to delete".to_string() } else { out }
        });
    }

    #[test]
    fn of_too_many_ended_pods_evicted_ones_go_first_then_old_ones() {
        let ended = ["a Failed node=n1 age=1", "b Succeeded node=n1 age=9", "c Failed node=n1 age=2 evicted"];
        check(&ended, 3, &[]);
        check(&ended, 2, &[("c", Reason::Terminated)]);
        check(&ended, 1, &[("c", Reason::Terminated), ("b", Reason::Terminated)]);
        check(&ended, 0, &[]);
    }

    #[test]
    fn pods_of_absent_nodes_go() {
        check(&["a Running node=gone", "b Running node=n1", "c Pending"], 9, &[("a", Reason::Orphaned)]);
    }

    #[test]
    fn terminating_pods_go_when_no_kubelet_will_end_them() {
        check(&["a Pending terminating", "b Running node=n1 terminating"], 9, &[("a", Reason::Unscheduled)]);
        check(&["a Running node=lost terminating", "b Running node=lost"], 9, &[("a", Reason::OutOfService)]);
    }

    #[test]
    fn unfinished_pods_fail_before_they_go() {
        let now = Timestamp::UNIX_EPOCH;
        assert!(failed(&pod("a Succeeded"), Reason::Orphaned, now).is_none());
        let orphaned = failed(&pod("a Running node=gone"), Reason::Orphaned, now).expect("a change");
        assert_eq!(orphaned["phase"], "Failed");
        assert_eq!(orphaned["conditions"][0]["type"], "DisruptionTarget");
        let other = failed(&pod("a Running"), Reason::Unscheduled, now).expect("a change");
        assert!(other.get("conditions").is_none());
    }

    proptest! {
        /// Pods that run, wait or end on nodes that are there are left alone.
        #[test]
        fn a_satisfied_view_needs_nothing(all in prop::collection::vec(("Running n1|Running lost|Pending n1|Pending |Failed n1", any::<bool>()), 0..9)) {
            let texts: Vec<String> = all.iter().enumerate()
                .map(|(i, (what, dying))| {
                    let (phase, node) = what.split_once(' ').expect("two words");
                    let dying = if *dying && node == "n1" { " terminating" } else { "" };
                    format!("p{i} {phase} node={node}{dying}")
                })
                .collect();
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            prop_assert_eq!(going(&texts, 9), vec![]);
        }

        /// Pods on living nodes are left alone, and one round is enough.
        #[test]
        fn one_round_is_enough(all in prop::collection::vec(("Running|Failed|Pending", "n1|gone|lost|", any::<bool>()), 0..9)) {
            let texts: Vec<String> = all.iter().enumerate()
                .map(|(i, (phase, node, dying))| format!("p{i} {phase} node={node}{}", if *dying { " terminating" } else { "" }))
                .collect();
            let mut left: Vec<&str> = texts.iter().map(String::as_str).collect();
            let names: HashSet<String> = going(&left, 2).into_iter().map(|(n, _)| n).collect();
            left.retain(|t| !names.contains(t.split(' ').next().unwrap_or_default()));
            prop_assert_eq!(going(&left, 2), vec![]);
            let wrong = all.iter().enumerate().any(|(i, (phase, node, _))| {
                node == "n1" && phase != "Failed" && names.contains(&format!("p{i}"))
            });
            prop_assert!(!wrong);
        }
    }
}
