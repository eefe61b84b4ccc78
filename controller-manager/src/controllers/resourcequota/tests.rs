//! What quotas count.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, ResourceQuota, Service};
use k8s_openapi::api::resource::v1::{DeviceClass, ResourceClaim};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::evaluators::{Classes, Evaluator, Kind, Objects};
use super::plan::{Plan, plan};
use super::resources::{Resources, equal};
use crate::kept::Pod;
use crate::scenario::{self, Given};

const NOW: &str = "2026-01-01T00:00:00Z";

fn now() -> Timestamp {
    NOW.parse().expect("a time")
}

fn evaluators() -> Vec<Evaluator> {
    [
        ("", "pods"),
        ("", "services"),
        ("", "persistentvolumeclaims"),
        ("", "configmaps"),
        ("example.org", "widgets"),
        ("resource.k8s.io", "resourceclaims"),
    ]
    .map(|(group, resource)| Evaluator::new(group, resource))
    .to_vec()
}

fn decide(given: &Given) -> Plan {
    let classes = Classes::new(&given.shared::<DeviceClass>());
    let objects = |evaluator: &Evaluator| -> Result<Objects, String> {
        if given.setting::<String>("unknown").as_deref() == Some(evaluator.name()) {
            return Err(format!("{} not yet synced", evaluator.name()));
        }
        Ok(match evaluator.kind {
            Kind::Pods => Objects::Pods(given.shared::<Pod>()),
            Kind::Services => Objects::Services(given.shared::<Service>()),
            Kind::Claims => Objects::Claims(given.shared::<PersistentVolumeClaim>()),
            Kind::ResourceClaims => {
                Objects::ResourceClaims(given.shared::<ResourceClaim>(), given.shared::<Pod>())
            }
            Kind::Count if evaluator.name() == "count/configmaps" => {
                Objects::Counted(given.all::<ConfigMap>().len())
            }
            Kind::Count => Objects::Counted(given.setting("widgets").unwrap_or(0)),
        })
    };
    plan(&given.one::<ResourceQuota>(), &evaluators(), &classes, objects, now())
}

#[test]
fn scenarios() {
    scenario::check("resourcequota/testdata", |given| {
        let plan = decide(given);
        let mut out = match plan.update {
            Some(new) => scenario::yaml(&new.status),
            None => "nothing to write\n".to_string(),
        };
        plan.failures.iter().for_each(|f| out.push_str(&format!("failed: {f}\n")));
        out
    });
}

fn read<T: serde::de::DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).expect("a recorded object")
}

/// Recorded by `e2e/oracle/controllers usage`.
#[test]
fn usage_is_upstreams() {
    let mut count = 0;
    for line in include_str!("testdata/usage.jsonl").lines() {
        let record: Value = serde_json::from_str(line).expect("a record");
        let (name, objects) = if record["pod"].is_object() {
            ("pods", Objects::Pods(vec![Arc::new(read(&record["pod"]))]))
        } else if record["service"].is_object() {
            ("services", Objects::Services(vec![Arc::new(read(&record["service"]))]))
        } else {
            ("persistentvolumeclaims", Objects::Claims(vec![Arc::new(read(&record["claim"]))]))
        };
        let evaluator = Evaluator::new("", name);
        let usage =
            evaluator.usage(&objects, &Default::default(), &Classes::default(), now()).expect("usage");
        let expected: Resources = super::resources::read(Some(&read(&record["usage"])));
        assert!(equal(&usage, &expected), "{usage:?}\n{line}");
        count += 1;
    }
    assert!(count >= 300, "{count} records");
}

fn quota(hard: Value, scopes: Value) -> ResourceQuota {
    read(&json!({"metadata": {"name": "q", "namespace": "n"}, "spec": {"hard": hard, "scopes": scopes}}))
}

fn pod(cpu: u8, class: u8) -> Arc<Pod> {
    let requests = if cpu == 0 { json!({}) } else { json!({"cpu": format!("{cpu}m"), "memory": "64Mi"}) };
    let phase = if class == 2 { "Succeeded" } else { "Running" };
    Arc::new(read(&json!({
        "metadata": {"name": format!("p{cpu}-{class}")},
        "spec": {"containers": [{"name": "c", "resources": {"requests": requests}}],
                 "activeDeadlineSeconds": if class == 1 { json!(5) } else { Value::Null }},
        "status": {"phase": phase},
    })))
}

proptest! {
    /// A status that was written is right, whatever the quota tracks: nothing more is to be written.
    #[test]
    fn plan_then_apply_settles(
        pods in proptest::collection::vec((0u8..4, 0u8..3), 0..12),
        more in proptest::collection::vec((0u8..4, 0u8..3), 0..12),
        scope in 0usize..5,
        tracked in proptest::collection::vec(any::<bool>(), 6),
    ) {
        let names = ["pods", "requests.cpu", "cpu", "limits.memory", "count/configmaps", "secrets"];
        let hard: serde_json::Map<String, Value> =
            names.iter().zip(tracked).filter(|(_, t)| *t).map(|(n, _)| (n.to_string(), json!("7"))).collect();
        let scopes = [json!([]), json!(["Terminating"]), json!(["NotTerminating"]), json!(["BestEffort"]), json!(["NotBestEffort"])];
        let mut quota = quota(Value::Object(hard), scopes[scope].clone());
        for pods in [pods, more] {
            let pods: Vec<_> = pods.into_iter().map(|(cpu, class)| pod(cpu, class)).collect();
            let objects = |evaluator: &Evaluator| Ok(match evaluator.kind {
                Kind::Pods => Objects::Pods(pods.clone()),
                _ => Objects::Counted(3),
            });
            let evaluators = [Evaluator::new("", "pods"), Evaluator::new("", "configmaps")];
            let decide = |quota: &ResourceQuota| plan(quota, &evaluators, &Classes::default(), objects, now());
            if let Some(new) = decide(&quota).update {
                quota = *new;
            }
            prop_assert_eq!(decide(&quota), Plan::default());
        }
    }

    /// Pods are in exactly one of two scopes that exclude each other.
    #[test]
    fn opposite_scopes_share_all_pods(pods in proptest::collection::vec((0u8..4, 0u8..3), 0..12)) {
        let pods: Vec<_> = pods.into_iter().map(|(cpu, class)| pod(cpu, class)).collect();
        let used = |scope: &str| {
            let quota = quota(json!({"count/pods": "9"}), json!([scope]));
            let objects = |_: &Evaluator| Ok(Objects::Pods(pods.clone()));
            let plan = plan(&quota, &[Evaluator::new("", "pods")], &Classes::default(), objects, now());
            let status = plan.update.expect("a first status").status.expect("a status");
            status.used.expect("use")["count/pods"].0.parse::<usize>().expect("a number")
        };
        prop_assert_eq!(used("Terminating") + used("NotTerminating"), pods.len());
        prop_assert_eq!(used("BestEffort") + used("NotBestEffort"), pods.len());
    }

    /// A quota whose status tells the limits and the use that there are is left alone.
    #[test]
    fn a_satisfied_view_needs_nothing(cpus in proptest::collection::vec(1u8..4, 0..12), limit in 0u32..50) {
        let pods: Vec<_> = cpus.iter().map(|cpu| pod(*cpu, 0)).collect();
        let hard = json!({"pods": limit.to_string(), "requests.cpu": "1"});
        let used: u32 = cpus.iter().map(|c| u32::from(*c)).sum();
        let mut quota = quota(hard.clone(), json!([]));
        quota.status = Some(read(&json!({
            "hard": hard, "used": {"pods": cpus.len().to_string(), "requests.cpu": format!("{used}m")},
        })));
        let objects = |_: &Evaluator| Ok(Objects::Pods(pods.clone()));
        prop_assert_eq!(plan(&quota, &[Evaluator::new("", "pods")], &Classes::default(), objects, now()), Plan::default());
    }
}
