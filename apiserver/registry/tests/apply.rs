//! Managed fields and server-side apply through the contract, on the embedded store.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;

use bytes::Bytes;
use registry::ApiRegistry;
use registry::api::{Body, MediaType, Patch, PatchType, Registry, RequestContext};
use registry::errors::ApiError;
use serde_json::{Value, json};

struct Server {
    registry: ApiRegistry,
    _dir: tempfile::TempDir,
}

fn server() -> Server {
    let dir = tempfile::tempdir().unwrap();
    Server { registry: common::registry(dir.path()), _dir: dir }
}

/// A manager's request in the namespace d.
fn at(api_version: &str, path: &str, manager: &str) -> RequestContext {
    RequestContext { field_manager: manager.into(), ..common::at(&format!("{api_version} d/{path}")) }
}

async fn apply(s: &Server, context: RequestContext, config: &Value, force: bool) -> Result<Value, ApiError> {
    let bytes = Bytes::from(config.to_string());
    let patch = Patch { kind: PatchType::Apply, bytes, force: Some(force) };
    s.registry.patch(&context, patch).await.map(|w| Value::from(&*w.object.value().unwrap()))
}

/// `manager operation subresource set` of each entry.
fn owners(object: &Value) -> Vec<String> {
    let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let text = |e: &Value, k: &str| e[k].as_str().unwrap_or_default().to_owned();
    entries
        .iter()
        .map(|e| {
            format!(
                "{} {} {} {}",
                text(e, "manager"),
                text(e, "operation"),
                text(e, "subresource"),
                e["fieldsV1"]
            )
        })
        .collect()
}

fn deployment(spec: &Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}, "spec": spec})
}

#[tokio::test]
async fn applies_create_merge_conflict_and_force() {
    let s = server();
    let labels = json!({"app": "x"});
    let spec = json!({"replicas": 2, "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}}});
    let path = "deployments/a";
    let made = apply(&s, at("apps/v1", path, "m1"), &deployment(&spec), false).await.unwrap();
    assert_eq!(made["spec"]["template"]["spec"]["restartPolicy"], "Always", "defaults are there");
    assert_eq!(
        owners(&made),
        [
            r#"m1 Apply  {"f:spec":{"f:replicas":{},"f:selector":{},"f:template":{"f:metadata":{"f:labels":{"f:app":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:image":{},"f:name":{}}}}}}}"#
        ]
    );
    let again = apply(&s, at("apps/v1", path, "m1"), &deployment(&spec), false).await.unwrap();
    assert_eq!(again["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"], "nothing changed");

    let three = deployment(&json!({"replicas": 3}));
    let refused = apply(&s, at("apps/v1", path, "m2"), &three, false).await.unwrap_err();
    assert_eq!(refused.message, "Apply failed with 1 conflict: conflict with \"m1\": .spec.replicas");
    assert_eq!((refused.code, refused.details.unwrap().causes[0].field.as_str()), (409, ".spec.replicas"));
    let forced = apply(&s, at("apps/v1", path, "m2"), &three, true).await.unwrap();
    assert_eq!(forced["spec"]["replicas"], 3);
    assert_eq!(owners(&forced)[1], r#"m2 Apply  {"f:spec":{"f:replicas":{}}}"#);

    let bad =
        apply(&s, at("apps/v1", path, "m2"), &deployment(&json!({"replica": 3})), true).await.unwrap_err();
    assert!(
        bad.message.ends_with("(/a; apps/v1, Kind=Deployment): .spec.replica: field not declared in schema"),
        "{bad}"
    );
}

#[tokio::test]
async fn updates_are_tracked_per_subresource() {
    let s = server();
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"x": "1"}});
    let body = |v: &Value| Body { media_type: MediaType::Json, bytes: Bytes::from(v.to_string()) };
    let made = s.registry.create(&at("v1", "configmaps", "m1"), body(&map)).await.unwrap();
    let made = Value::from(&*made.object.value().unwrap());
    assert_eq!(owners(&made), [r#"m1 Update  {"f:data":{".":{},"f:x":{}}}"#]);
    assert_eq!(made["metadata"]["managedFields"][0]["time"], "2030-01-01T00:00:00Z");
    let patch = Patch { kind: PatchType::Merge, bytes: Bytes::from(r#"{"data":{"x":"2"}}"#), force: None };
    let patched = s.registry.patch(&at("v1", "configmaps/a", "m2"), patch).await.unwrap();
    let patched = Value::from(&*patched.object.value().unwrap());
    assert_eq!(owners(&patched), [r#"m1 Update  {"f:data":{}}"#, r#"m2 Update  {"f:data":{"f:x":{}}}"#]);

    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "labels": {"l": "v"}}});
    let mut context = at("v1", "nodes", "m1");
    Arc::make_mut(&mut context.info).namespace = String::new();
    s.registry.create(&context, body(&node)).await.unwrap();
    let mut context = at("v1", "nodes/n/status", "kubelet");
    Arc::make_mut(&mut context.info).namespace = String::new();
    let patch = Patch {
        kind: PatchType::Strategic,
        bytes: Bytes::from(r#"{"status":{"conditions":[{"type":"Ready","status":"True"}]}}"#),
        force: None,
    };
    let patched = s.registry.patch(&context, patch).await.unwrap();
    let patched = Value::from(&*patched.object.value().unwrap());
    assert_eq!(
        owners(&patched)[0],
        r#"kubelet Update status {"f:status":{"f:conditions":{".":{},"k:{\"type\":\"Ready\"}":{".":{},"f:lastHeartbeatTime":{},"f:lastTransitionTime":{},"f:status":{},"f:type":{}}}}}"#
    );
}

#[tokio::test]
async fn scale_owns_the_replicas() {
    let s = server();
    let labels = json!({"app": "x"});
    let spec = json!({"replicas": 2, "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}}});
    apply(&s, at("apps/v1", "deployments/a", "m1"), &deployment(&spec), false).await.unwrap();
    let patch =
        Patch { kind: PatchType::Merge, bytes: Bytes::from(r#"{"spec":{"replicas":5}}"#), force: None };
    s.registry.patch(&at("apps/v1", "deployments/a/scale", "hpa"), patch).await.unwrap();
    let got = s.registry.get(&at("apps/v1", "deployments/a", ""), "").await.unwrap();
    let got = Value::from(&*got.value().unwrap());
    assert_eq!(got["spec"]["replicas"], 5);
    let owners = owners(&got);
    assert!(!owners[0].contains("f:replicas"), "{owners:?}");
    assert_eq!(owners[1], r#"hpa Update scale {"f:spec":{"f:replicas":{}}}"#);
}
