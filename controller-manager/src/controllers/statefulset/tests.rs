//! Stateful sets, situation by situation: what comes next, and where repeated rounds end.

use std::sync::Arc;

use client::Kept;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::identity::{self, new_pod, ordinal, revision};
use super::plan::{Plan, Step, Version, View, plan};
use super::revisions::{Choice, choose, surplus, template_of};
use super::{claims, status};
use crate::controllers::shared::revisions as shared;
use crate::kept::Pod;
use crate::scenario;

const NOW: i64 = 1_790_000_000;

fn now() -> Timestamp {
    Timestamp::from_second(NOW).expect("a time")
}

fn set(replicas: i32, policy: &str, spec: Value) -> StatefulSet {
    let mut set: Value = json!({
        "metadata": {"name": "db", "namespace": "n", "uid": "u", "generation": 2},
        "spec": {"replicas": replicas, "serviceName": "svc", "podManagementPolicy": policy, "selector": {"matchLabels": {"a": "b"}},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": []}},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}}]},
    });
    for (key, value) in spec.as_object().expect("fields") {
        set["spec"][key] = value.clone();
    }
    serde_json::from_value(set).expect("a stateful set")
}

fn version(name: &str) -> Version {
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": []}});
    Version { name: name.to_string(), template: serde_json::from_value(template).expect("a template") }
}

/// `"2 old ready"`: pod 2; `new` or `old`, `ready`, `pending`, `failed`, `dying`.
fn pod(set: &StatefulSet, text: &str) -> Arc<Pod> {
    let words: Vec<&str> = text.split(' ').collect();
    let has = |w: &str| words.contains(&w);
    let name = if has("new") { "new" } else { "old" };
    let mut pod = new_pod(set, &version(name).template, name, words[0].parse().expect("an ordinal"));
    let phase = match () {
        () if has("failed") => "Failed",
        () if has("pending") => "Pending",
        () => "Running",
    };
    let ready = if has("ready") { "True" } else { "False" };
    let time = Timestamp::from_second(NOW - 60).expect("a time").to_string();
    pod.metadata.uid = Some(format!("uid-{}", words[0]));
    pod.status = serde_json::from_value(json!({
        "phase": phase, "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": time}]
    }))
    .expect("a status");
    if has("dying") {
        pod.metadata.deletion_timestamp = Some(now().into());
    }
    Arc::new(Pod::of(&pod).expect("a pod"))
}

fn claim_of(set: &StatefulSet, pod: &impl Kept, owner: Option<(&str, &str, &str)>) -> PersistentVolumeClaim {
    let mut claim = identity::claims(set, pod).remove(0);
    claim.metadata.owner_references = owner.map(|(kind, name, uid)| {
        let version = if kind == "Pod" { "v1" } else { "apps/v1" };
        serde_json::from_value(
            json!([{"apiVersion": version, "kind": kind, "name": name, "uid": uid, "controller": true}]),
        )
        .expect("a reference")
    });
    claim
}

fn round(set: &StatefulSet, pods: &[Arc<Pod>]) -> Plan {
    let claim = |name: &str| {
        let ordinal = name.rsplit('-').next()?.parse().ok()?;
        let owner = new_pod(set, &version("new").template, "new", ordinal);
        Some(Arc::new(claim_of(set, &owner, None)))
    };
    let (current, update) = (version("old"), version("new"));
    let view =
        View { set, pods, current: &current, update: &update, collisions: 0, claim: &claim, now: now() };
    plan(&view).expect("a plan")
}

/// The plan in words: `create 1 old`, `delete 2`, `replace 2`, ...
fn words(plan: &Plan) -> Vec<String> {
    let word = |step: &Step| match step {
        Step::Create(pod) => format!("create {} {}", ordinal(&**pod).expect("an ordinal"), revision(&**pod)),
        Step::Delete(pod) => format!("delete {}", ordinal(&**pod).expect("an ordinal")),
        Step::Replace(pod) => format!("replace {}", ordinal(&**pod).expect("an ordinal")),
        Step::Claims(pod) => format!("claims {}", ordinal(&**pod).expect("an ordinal")),
        Step::Restore(pod) => format!("restore {}", ordinal(&**pod).expect("an ordinal")),
        Step::Owners(pod) => format!("owners {}", ordinal(&**pod).expect("an ordinal")),
    };
    plan.phases.iter().flatten().flatten().map(word).collect()
}

fn check(set: &StatefulSet, pods: &[&str], expected: &[&str]) {
    let all: Vec<Arc<Pod>> = pods.iter().map(|p| pod(set, p)).collect();
    assert_eq!(words(&round(set, &all)), expected, "{pods:?}");
}

#[test]
fn scenarios() {
    scenario::check("statefulset/testdata", |given| {
        let policy: String = given.setting("policy").unwrap_or_else(|| "OrderedReady".to_string());
        let set = set(
            given.setting("replicas").expect("a size"),
            &policy,
            given.setting("spec").unwrap_or(json!({})),
        );
        let mut out = String::new();
        for texts in given.setting::<Vec<Vec<String>>>("pods").expect("situations") {
            let pods: Vec<Arc<Pod>> = texts.iter().map(|p| pod(&set, p)).collect();
            let what = words(&round(&set, &pods)).join(", ");
            let have = if texts.is_empty() { "no pods".to_string() } else { texts.join(", ") };
            out.push_str(&format!("{have}\n  {}\n", if what.is_empty() { "nothing to do" } else { &what }));
        }
        out
    });
}

#[test]
fn ordered_sets_grow_one_available_pod_after_another() {
    let set = set(3, "OrderedReady", json!({}));
    check(&set, &[], &["create 0 new"]);
    check(&set, &["0 new"], &[]);
    check(&set, &["0 new ready"], &["create 1 new"]);
    check(&set, &["0 new ready", "2 new ready"], &["create 1 new"]);
    check(&set, &["0 new dying ready", "1 new ready", "2 new ready"], &[]);
}

#[test]
fn parallel_sets_do_all_at_once() {
    let set = set(3, "Parallel", json!({}));
    check(&set, &[], &["create 0 new", "create 1 new", "create 2 new"]);
    check(
        &set,
        &["0 new", "3 new", "4 new ready"],
        &["create 1 new", "create 2 new", "delete 4", "delete 3"],
    );
}

#[test]
fn ordered_sets_shrink_from_the_top_and_only_while_all_are_well() {
    let set = set(1, "OrderedReady", json!({}));
    check(&set, &["0 new ready", "1 new ready", "2 new ready"], &["delete 2"]);
    check(&set, &["0 new ready", "1 new", "2 new ready"], &["delete 2"]);
    check(&set, &["0 new ready", "1 new", "2 new"], &[]);
    check(&set, &["0 new ready", "1 new ready", "2 new"], &["delete 2"]);
    check(&set, &["0 new ready", "1 new ready", "2 new dying"], &[]);
    check(&set, &["0 new", "1 new ready"], &[]);
}

#[test]
fn ended_pods_are_replaced() {
    let set = set(2, "OrderedReady", json!({}));
    check(&set, &["0 new failed", "1 new ready"], &["delete 0"]);
    check(&set, &["0 new failed dying", "1 new ready"], &[]);
}

#[test]
fn a_new_template_comes_from_the_top_down() {
    let ordered = set(3, "OrderedReady", json!({}));
    check(&ordered, &["0 old ready", "1 old ready", "2 old ready"], &["replace 2"]);
    check(&ordered, &["0 old ready", "1 old ready", "2 new"], &[]);
    check(&ordered, &["0 old ready", "1 old ready", "2 new ready"], &["replace 1"]);
    check(&ordered, &["0 old ready", "1 old ready"], &["create 2 new"]);
}

#[test]
fn below_the_partition_the_old_template_stays() {
    let partition = json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}});
    let set = set(3, "OrderedReady", partition);
    check(&set, &["0 old ready", "1 old ready", "2 old ready"], &["replace 2"]);
    check(&set, &["0 old ready", "1 old ready", "2 new ready"], &[]);
    check(&set, &["0 old ready", "2 new ready"], &["create 1 old"]);
}

#[test]
fn several_may_be_unavailable_at_once() {
    let two = json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0, "maxUnavailable": 2}}});
    check(
        &set(4, "OrderedReady", two.clone()),
        &["0 old ready", "1 old ready", "2 old ready", "3 old ready"],
        &["replace 3", "replace 2"],
    );
    let parallel = set(4, "Parallel", two);
    check(&parallel, &["0 old ready", "1 old ready", "2 old ready", "3 new"], &["replace 2"]);
    check(&parallel, &["0 old", "1 old", "2 old ready", "3 old ready"], &["replace 1", "replace 0"]);
    check(&parallel, &["0 old ready", "1 old ready", "2 new", "3 new"], &[]);
}

#[test]
fn on_delete_waits_for_somebody_else_to_delete() {
    let set = set(2, "OrderedReady", json!({"updateStrategy": {"type": "OnDelete"}}));
    check(&set, &["0 old ready", "1 old ready"], &[]);
    check(&set, &["0 old ready"], &["create 1 new"]);
}

#[test]
fn ordinals_may_start_elsewhere() {
    let set = set(2, "Parallel", json!({"ordinals": {"start": 5}}));
    check(&set, &["0 new ready", "5 new ready"], &["create 6 new", "delete 0"]);
}

#[test]
fn pods_and_claims_have_their_names() {
    let set = set(1, "OrderedReady", json!({}));
    let pod = new_pod(&set, &version("new").template, "r", 7);
    let spec = pod.spec.as_ref().expect("a spec");
    assert_eq!((spec.hostname.as_deref(), spec.subdomain.as_deref()), (Some("db-7"), Some("svc")));
    assert_eq!(pod.metadata.labels.as_ref().expect("labels")["apps.kubernetes.io/pod-index"], "7");
    assert_eq!(identity::claim_names(&set, &pod), ["data-db-7"]);
    let kept = Pod::of(&pod).expect("a pod");
    assert!(identity::identity_matches(&set, &kept) && identity::storage_matches(&set, &kept));
    let mut other = pod.clone();
    other.metadata.labels = None;
    assert!(!identity::identity_matches(&set, &other));
    for (name, member) in [("db-1", true), ("db-x", false), ("db-more-1", false), ("db-99999999999", true)] {
        other.metadata.name = Some(name.to_string());
        assert_eq!(identity::is_member(&set, &other), member, "{name}");
    }
}

#[test]
fn claims_belong_to_whom_the_policy_says() {
    let policy = |deleted: &str, scaled: &str| json!({"persistentVolumeClaimRetentionPolicy": {"whenDeleted": deleted, "whenScaled": scaled}});
    for (deleted, scaled, ordinal, owner) in [
        ("Retain", "Retain", 0, ""),
        ("Delete", "Retain", 0, "StatefulSet"),
        ("Delete", "Delete", 0, "StatefulSet"),
        ("Delete", "Delete", 5, "Pod"),
        ("Retain", "Delete", 0, ""),
        ("Retain", "Delete", 5, "Pod"),
    ] {
        let set = set(1, "Parallel", policy(deleted, scaled));
        let pod = pod(&set, &format!("{ordinal} new ready"));
        for start in [
            None,
            Some(("StatefulSet", "db", "u")),
            Some(("Pod", pod.metadata.name.as_deref().expect("a name"), "uid-x")),
        ] {
            let mut claim = claim_of(&set, &*pod, start);
            if start.is_some_and(|s| s.2 == "uid-x") {
                assert!(claims::is_up_to_date(&claim, &set, &*pod), "an earlier pod's claim is left alone");
                continue;
            }
            claims::set_owners(&mut claim, &set, &*pod);
            let kinds: String =
                claim.metadata.owner_references.iter().flatten().map(|r| r.kind.as_str()).collect();
            assert_eq!(kinds, owner, "{deleted} {scaled} {ordinal}");
            assert!(claims::is_up_to_date(&claim, &set, &*pod));
        }
    }
}

#[test]
fn a_claim_of_an_earlier_pod_holds_its_successor_back() {
    let set = set(
        1,
        "OrderedReady",
        json!({"persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Delete"}}),
    );
    let (current, update) = (version("old"), version("new"));
    let owner = new_pod(&set, &update.template, "new", 0);
    let stale = Arc::new(claim_of(&set, &owner, Some(("Pod", "db-0", "gone"))));
    let claim = |_: &str| Some(stale.clone());
    let view = View {
        set: &set,
        pods: &[],
        current: &current,
        update: &update,
        collisions: 0,
        claim: &claim,
        now: now(),
    };
    assert_eq!(plan(&view).expect("a plan").phases, Vec::<Vec<Vec<Step>>>::new());
}

fn stored(number: i64, template: &Value) -> Arc<ControllerRevision> {
    let template = serde_json::from_value(template.clone()).expect("a template");
    let data = shared::data(&shared::patch(&template).expect("a patch")).expect("data");
    let mut revision: ControllerRevision =
        serde_json::from_value(json!({"metadata": {"name": format!("r{number}")}, "revision": number}))
            .expect("a revision");
    revision.data = data;
    Arc::new(revision)
}

#[test]
fn going_back_renumbers_a_revision_and_a_new_template_makes_one() {
    let template = |image: &str| json!({"spec": {"containers": [{"name": "c", "image": image}]}});
    let all = [stored(1, &template("v1")), stored(2, &template("v2"))];
    let data = |image: &str| shared::stored_bytes(&stored(9, &template(image)));
    assert_eq!(choose(&all, &data("v2")), Choice::Newest);
    assert_eq!(choose(&all, &data("v1")), Choice::Renumber(0));
    assert_eq!(choose(&all, &data("v3")), Choice::New);
    let back = template_of(&all[0]).expect("a template");
    assert_eq!(back.spec.expect("a spec").containers[0].image.as_deref(), Some("v1"));
    let all: Vec<_> = (1..6).map(|n| stored(n, &template("v"))).collect();
    assert_eq!(surplus(&all, &["r2", "r5", ""].into(), 1), ["r1", "r3"]);
}

#[test]
fn status_tells_revisions_apart_and_completes() {
    let set = set(2, "Parallel", json!({}));
    let all = [pod(&set, "0 old ready"), pod(&set, "1 new"), pod(&set, "2 new ready dying")];
    let status = round(&set, &all).status;
    assert_eq!((status.replicas, status.ready_replicas), (3, Some(2)));
    assert_eq!((status.current_replicas, status.updated_replicas), (Some(1), Some(1)));
    let all = [pod(&set, "0 new ready"), pod(&set, "1 new ready")];
    let mut status = round(&set, &all).status;
    assert_eq!(status.current_revision.as_deref(), Some("old"));
    status::complete(&set, &mut status, now());
    assert_eq!((status.current_revision.as_deref(), status.current_replicas), (Some("new"), Some(2)));
}

/// Carries a plan out: deleted pods vanish, made ones come up unready.
fn apply(set: &StatefulSet, have: &mut Vec<Arc<Pod>>, plan: &Plan) {
    for step in plan.phases.iter().flatten().flatten() {
        match step {
            Step::Create(new) => {
                let text = format!("{} {}", ordinal(&**new).expect("an ordinal"), revision(&**new));
                have.push(pod(set, &text));
            }
            Step::Delete(gone) | Step::Replace(gone) => {
                have.retain(|p| p.metadata.name != gone.metadata.name)
            }
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// From any number of old pods, rounds end with exactly the wanted new ones; once all were well, never more than
    /// the limit are missing.
    #[test]
    fn rounds_reach_a_fixed_point(want in 0i32..7, have in 0i32..7, parallel: bool, most in 1i32..4) {
        let policy = if parallel { "Parallel" } else { "OrderedReady" };
        let strategy = json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0, "maxUnavailable": most}}});
        let set = set(want, policy, strategy);
        let mut pods: Vec<_> = (0..have).map(|i| pod(&set, &format!("{i} old ready"))).collect();
        let mut whole = false;
        for _ in 0..60 {
            let plan = round(&set, &pods);
            apply(&set, &mut pods, &plan);
            let up = pods.iter().filter(|p| crate::pods::is_ready(p) && identity::is_wanted(&set, &***p)).count();
            let up = i32::try_from(up).expect("small");
            prop_assert!(!whole || want - up <= most, "{up} of {want}");
            whole |= up == want;
            pods = pods.iter().map(|p| pod(&set, &format!("{} {} ready", ordinal(&**p).expect("an ordinal"), revision(&**p)))).collect();
        }
        let mut left: Vec<_> = pods.iter().map(|p| (ordinal(&**p).expect("an ordinal"), revision(&**p).to_string())).collect();
        left.sort();
        prop_assert_eq!(left, (0..want).map(|i| (i, "new".to_string())).collect::<Vec<_>>());
        prop_assert_eq!(words(&round(&set, &pods)), Vec::<String>::new());
    }

    /// A set whose pods are all there, new and well, is left alone.
    #[test]
    fn a_satisfied_view_gives_an_empty_plan(want in 0i32..20, parallel: bool) {
        let set = set(want, if parallel { "Parallel" } else { "OrderedReady" }, json!({}));
        let pods: Vec<_> = (0..want).map(|i| pod(&set, &format!("{i} new ready"))).collect();
        prop_assert_eq!(round(&set, &pods).phases, Vec::<Vec<Vec<Step>>>::new());
    }
}
