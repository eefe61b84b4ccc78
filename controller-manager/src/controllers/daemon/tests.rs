//! Daemons on a handful of nodes: what each situation calls for, and where repeated rounds end.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet};
use k8s_openapi::api::core::v1::{Node, Pod as WholePod, PodTemplateSpec};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::history::{keep, surplus};
use super::node::{Fit, Placement, is_updated, pin, target, template};
use super::plan::{ByNode, Plan, View, backoff_key, plan};
use super::{by_node, rolling, status};
use crate::controllers::shared::backoff::Backoff;
use crate::kept::Pod;
use crate::scenario;

const NOW: i64 = 1_790_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(NOW + second).expect("a time")
}

fn set(surge: Value, unavailable: Value) -> DaemonSet {
    serde_json::from_value(json!({
        "metadata": {"name": "agent", "namespace": "n", "uid": "u", "generation": 4},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "revisionHistoryLimit": 2,
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": []}}},
    }))
    .expect("a daemon set")
}

/// `"n1 taint=NoSchedule zone=a"`
fn node(text: &str) -> Arc<Node> {
    let (name, words) = text.split_once(' ').unwrap_or((text, ""));
    let value = |p: &str| words.split(' ').find_map(|w| w.strip_prefix(p));
    let taints: Vec<Value> = value("taint=").map(|e| json!({"key": "t", "effect": e})).into_iter().collect();
    Arc::new(
        serde_json::from_value(json!({
            "metadata": {"name": name, "labels": {"zone": value("zone=").unwrap_or_default()}}, "spec": {"taints": taints},
        }))
        .expect("a node"),
    )
}

/// `"n1 old ready"`: a pod on n1; `new` or `old`, `ready`, `failed`, `succeeded`, `dying`; `#2` tells it from another.
fn pod(text: &str) -> Arc<Pod> {
    let words: Vec<&str> = text.split(' ').collect();
    let has = |w: &str| words.contains(&w);
    let phase = match () {
        () if has("failed") => "Failed",
        () if has("succeeded") => "Succeeded",
        () => "Running",
    };
    let number = words.iter().find_map(|w| w.strip_prefix('#')).unwrap_or("1");
    let hash = if has("new") { "new" } else { "old" };
    let created = at(number.parse::<i64>().expect("a number") - 100).to_string();
    let mut pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": format!("{}-{hash}-{number}", words[0]), "namespace": "n", "creationTimestamp": created,
            "labels": {"a": "b", "controller-revision-hash": hash}},
        "spec": {"nodeName": words[0], "containers": []},
        "status": {"phase": phase, "conditions": [{"type": "Ready", "status": if has("ready") { "True" } else { "False" }, "lastTransitionTime": created}]},
    }))
    .expect("a pod");
    if has("dying") {
        pod.metadata.deletion_timestamp = Some(at(0).into());
    }
    Arc::new(pod)
}

fn pods(all: &[&str]) -> ByNode {
    by_node(&all.iter().map(|p| pod(p)).collect::<Vec<_>>())
}

fn nodes(all: &[&str]) -> Vec<Arc<Node>> {
    all.iter().map(|n| node(n)).collect()
}

fn view<'a>(set: &'a DaemonSet, nodes: &'a [Arc<Node>], pods: &'a ByNode) -> View<'a> {
    View { set, nodes, pods, hash: "new", now: at(0) }
}

fn fresh() -> Backoff {
    Backoff::new(Duration::from_secs(1), Duration::from_secs(900))
}

/// What the main plan makes and deletes.
fn check(set: &DaemonSet, on: &[&str], have: &[&str], create: &[&str], delete: &[&str]) {
    let (nodes, pods) = (nodes(on), pods(have));
    let plan = plan(&view(set, &nodes, &pods), &fresh());
    assert_eq!(
        (plan.create, plan.delete),
        (create.iter().map(ToString::to_string).collect(), delete.iter().map(ToString::to_string).collect()),
        "{have:?}"
    );
}

/// What the roll-out makes and deletes.
fn roll(set: &DaemonSet, on: &[&str], have: &[&str], create: &[&str], delete: &[&str]) {
    let (nodes, pods) = (nodes(on), pods(have));
    let plan = rolling::plan(&view(set, &nodes, &pods)).expect("a plan");
    assert_eq!(
        (plan.create, plan.delete),
        (create.iter().map(ToString::to_string).collect(), delete.iter().map(ToString::to_string).collect()),
        "{have:?}"
    );
}

/// What a plan makes and deletes, in words.
fn words(plan: &Plan) -> String {
    let mut out = Vec::new();
    out.extend((!plan.create.is_empty()).then(|| format!("make on {}", plan.create.join(", "))));
    out.extend((!plan.delete.is_empty()).then(|| format!("delete {}", plan.delete.join(", "))));
    out.extend(plan.look_again.map(|pause| format!("look again in {pause:?}")));
    out.extend(plan.events.iter().map(|(_, reason, message)| format!("{reason}: {message}")));
    if out.is_empty() { "nothing to do".to_string() } else { out.join("; ") }
}

#[test]
fn scenarios() {
    scenario::check("daemon/testdata", |given| {
        let set =
            set(given.setting("surge").unwrap_or(json!(0)), given.setting("unavailable").unwrap_or(json!(1)));
        let on: Vec<String> = given.setting("nodes").expect("nodes");
        let nodes: Vec<_> = on.iter().map(|n| node(n)).collect();
        let mut out = String::new();
        for texts in given.setting::<Vec<Vec<String>>>("pods").expect("situations") {
            let pods = by_node(&texts.iter().map(|p| pod(p)).collect::<Vec<_>>());
            let view = view(&set, &nodes, &pods);
            let first = plan(&view, &fresh());
            let rests = first == Plan::default();
            out.push_str(&format!(
                "{}\n",
                if texts.is_empty() { "no pods".to_string() } else { texts.join(", ") }
            ));
            out.push_str(&format!("  {}\n", words(&first)));
            if rests {
                let next = rolling::plan(&view).expect("a plan");
                out.push_str(&format!("  roll-out: {}\n", words(&next)));
            }
        }
        out
    });
}

#[test]
fn every_fitting_node_gets_one_pod() {
    let set = set(json!(0), json!(1));
    check(&set, &["n1", "n2", "n3"], &["n2 new ready"], &["n1", "n3"], &[]);
    check(&set, &["n1"], &["n1 new #1", "n1 new #2", "n1 new #3"], &[], &["n1-new-2", "n1-new-3"]);
    check(&set, &["n1"], &["n1 new dying"], &[], &[]);
}

#[test]
fn a_taint_for_newcomers_keeps_pods_that_are_there() {
    let set = set(json!(0), json!(1));
    check(&set, &["n1 taint=NoSchedule", "n2 taint=NoSchedule"], &["n1 new ready"], &[], &[]);
    check(&set, &["n1 taint=NoExecute", "n2"], &["n1 new ready"], &["n2"], &["n1-new-1"]);
    check(&set, &["n1 taint=PreferNoSchedule"], &[], &["n1"], &[]);
}

#[test]
fn daemons_tolerate_what_ails_nodes() {
    let mut set = set(json!(0), json!(1));
    let sick = |key: &str, effect: &str| -> Node {
        serde_json::from_value(
            json!({"metadata": {"name": "n"}, "spec": {"taints": [{"key": key, "effect": effect}]}}),
        )
        .expect("a node")
    };
    for (key, effect, fit) in [
        ("node.kubernetes.io/not-ready", "NoExecute", Fit::Run),
        ("node.kubernetes.io/unschedulable", "NoSchedule", Fit::Run),
        ("node.kubernetes.io/network-unavailable", "NoSchedule", Fit::Keep),
        ("node.kubernetes.io/not-ready", "NoSchedule", Fit::Keep),
    ] {
        assert_eq!(Placement::new(&set).fit(&sick(key, effect)), fit, "{key} {effect}");
    }
    set.spec.template.spec.as_mut().expect("a pod").host_network = Some(true);
    assert_eq!(
        Placement::new(&set).fit(&sick("node.kubernetes.io/network-unavailable", "NoSchedule")),
        Fit::Run
    );
}

#[test]
fn ended_pods_are_replaced_and_failing_ones_ever_more_slowly() {
    let set = set(json!(0), json!(1));
    check(&set, &["n1"], &["n1 new succeeded"], &[], &["n1-new-1"]);
    let (nodes, pods) = (nodes(&["n1"]), pods(&["n1 new failed"]));
    let (mut backoff, view) = (fresh(), view(&set, &nodes, &pods));
    let first = plan(&view, &backoff);
    assert_eq!((first.delete.len(), first.failed.as_slice()), (1, ["n1".to_string()].as_slice()));
    assert_eq!(first.events[0].2, "Found failed daemon pod n/n1-new-1 on node n1, will try to kill it");
    backoff.next(&backoff_key(&set, "n1"), view.now);
    let second = plan(&view, &backoff);
    assert_eq!(second, Plan { look_again: Some(Duration::from_secs(1)), ..Plan::default() });
}

fn of_template(template: PodTemplateSpec) -> Pod {
    let PodTemplateSpec { metadata, spec } = template;
    Pod::of(&WholePod { metadata: metadata.unwrap_or_default(), spec, status: None }).expect("a pod")
}

#[test]
fn a_pod_is_meant_for_one_node() {
    let mut template = template(&set(json!(0), json!(1)), "h");
    pin(&mut template, "n7");
    let pod = of_template(template);
    assert_eq!(target(&pod), Some("n7"));
    assert!(is_updated(&pod, "h", None) && !is_updated(&pod, "g", None));
}

#[test]
fn pods_meant_for_a_lost_node_go() {
    let mut lost = (*pod("n9 new")).clone();
    let mut template = template(&set(json!(0), json!(1)), "new");
    pin(&mut template, "n9");
    lost.spec = of_template(template).spec;
    let (set, nodes, pods) = (set(json!(0), json!(1)), nodes(&[]), by_node(&[Arc::new(lost)]));
    assert_eq!(plan(&view(&set, &nodes, &pods), &fresh()).delete, ["n9-new-1"]);
}

#[test]
fn old_pods_go_as_far_as_others_serve() {
    let set = set(json!(0), json!(1));
    let on = ["n1", "n2", "n3"];
    roll(&set, &on, &["n1 old ready", "n2 old ready", "n3 old ready"], &[], &["n1-old-1"]);
    roll(&set, &on, &["n1 new", "n2 old ready", "n3 old ready"], &[], &[]);
    roll(&set, &on, &["n1 new ready", "n2 old", "n3 old"], &[], &["n2-old-1", "n3-old-1"]);
    roll(&set, &on, &["n2 old ready", "n3 old ready"], &[], &[]);
}

#[test]
fn a_surge_puts_the_new_pod_beside_the_old_one() {
    let set = set(json!(1), json!(0));
    let on = ["n1", "n2"];
    roll(&set, &on, &["n1 old ready", "n2 old ready"], &["n1"], &[]);
    roll(&set, &on, &["n1 old ready", "n1 new #2", "n2 old ready"], &[], &[]);
    roll(&set, &on, &["n1 old ready", "n1 new ready #2", "n2 old ready"], &["n2"], &["n1-old-1"]);
    roll(&set, &on, &["n1 old", "n2 old"], &["n1", "n2"], &[]);
    check(&set, &on, &["n1 old", "n1 new #2", "n2 new"], &[], &["n1-old-1"]);
    check(&set, &on, &["n1 old ready", "n1 new #2", "n2 new"], &[], &[]);
}

#[test]
fn a_surging_set_leaves_a_node_when_others_serve() {
    let set = set(json!(1), json!(0));
    let on = ["n1 taint=NoSchedule", "n2"];
    roll(&set, &on, &["n1 old ready"], &[], &[]);
    roll(&set, &on, &["n1 old ready", "n2 new ready"], &[], &["n1-old-1"]);
}

#[test]
fn status_counts_nodes_not_pods() {
    let set = set(json!(0), json!(1));
    let nodes = nodes(&["n1", "n2", "n3", "n4 taint=NoSchedule"]);
    let pods = pods(&["n1 new ready", "n1 old #2", "n2 old ready", "n4 old ready"]);
    let status = status::status(&view(&set, &nodes, &pods), true);
    assert_eq!(
        (
            status.desired_number_scheduled,
            status.current_number_scheduled,
            status.number_misscheduled,
            status.number_ready
        ),
        (3, 2, 1, 2)
    );
    assert_eq!((status.updated_number_scheduled, status.number_unavailable), (Some(1), Some(1)));
    assert_eq!(status.observed_generation, Some(4));
}

#[test]
fn revisions_in_use_and_the_newest_others_stay() {
    let revision = |n: i64| -> Arc<ControllerRevision> {
        Arc::new(serde_json::from_value(json!({"metadata": {"name": format!("r{n}"), "labels": {"controller-revision-hash": format!("h{n}")}}, "revision": n})).expect("a revision"))
    };
    let old: Vec<_> = [3, 1, 4, 2].map(revision).into();
    let live = ["h1".to_string()].into();
    assert_eq!(surplus(&old, &live, 2), ["r2", "r3"]);
    assert_eq!(surplus(&old, &live, 10), Vec::<String>::new());
    assert_eq!(keep(&old).and_then(|r| r.revision), Some(4));
}

/// Carries a plan out: deleted pods vanish, new ones come up with `ready`.
fn apply(have: &mut Vec<Arc<Pod>>, plan: &Plan, round: usize) {
    have.retain(|p| !plan.delete.iter().any(|n| n == p.name()));
    have.extend(plan.create.iter().map(|n| pod(&format!("{n} new #{}", round + 10))));
}

fn ripen(have: &mut [Arc<Pod>]) {
    for pod in have {
        let mut new = (**pod).clone();
        for condition in new.status.iter_mut().flat_map(|s| s.conditions.iter_mut().flatten()) {
            condition.status = "True".into();
        }
        *pod = Arc::new(new);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Every roll-out ends with one new pod per node, and on the way never more nodes are without an available pod than
    /// may be.
    #[test]
    fn roll_outs_end_within_bounds(count in 1usize..12, surge in 0i32..4, unavailable in 0i32..4) {
        let set = set(json!(surge), json!(unavailable));
        let names: Vec<String> = (0..count).map(|i| format!("n{i}")).collect();
        let nodes: Vec<_> = names.iter().map(|n| node(n)).collect();
        let mut have: Vec<_> = names.iter().map(|n| pod(&format!("{n} old ready"))).collect();
        let most = if surge == 0 { unavailable.max(1) } else { 0 };
        for round in 0..60 {
            let grouped = by_node(&have);
            let first = plan(&view(&set, &nodes, &grouped), &fresh());
            apply(&mut have, &first, 2 * round);
            let grouped = by_node(&have);
            if first == Plan::default() {
                let next = rolling::plan(&view(&set, &nodes, &grouped)).expect("a plan");
                apply(&mut have, &next, 2 * round + 1);
            }
            let grouped = by_node(&have);
            let status = status::status(&view(&set, &nodes, &grouped), true);
            let up = names.iter().filter(|n| grouped.get(*n).is_some_and(|p| p.iter().any(|p| crate::pods::is_ready(p)))).count();
            prop_assert!(count - up <= usize::try_from(most).expect("small"), "{up} of {count}, {status:?}");
            ripen(&mut have);
        }
        let grouped = by_node(&have);
        prop_assert!(grouped.values().all(|p| p.len() == 1 && is_updated(&p[0], "new", None)));
        prop_assert_eq!(grouped.len(), count);
    }

    /// A pod of the current revision on every node and nowhere else is left alone.
    #[test]
    fn a_satisfied_view_gives_an_empty_plan(count in 0usize..20, surge in 0i32..3) {
        let set = set(json!(surge), json!(1 - surge.min(1)));
        let nodes: Vec<_> = (0..count).map(|i| node(&format!("n{i}"))).collect();
        let have = by_node(&(0..count).map(|i| pod(&format!("n{i} new ready"))).collect::<Vec<_>>());
        let view = view(&set, &nodes, &have);
        prop_assert_eq!(plan(&view, &fresh()), Plan::default());
        prop_assert_eq!(rolling::plan(&view).expect("a plan"), Plan::default());
    }
}
