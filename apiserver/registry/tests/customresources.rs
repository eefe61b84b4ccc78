//! Custom resources through the contract: served, pruned, defaulted, validated, stored, converted, and let go.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use common::{at, body, create, registry, tree};
use futures::StreamExt;
use machinery::Value as Tree;
use registry::ApiRegistry;
use registry::admission::Operation;
use registry::admission::webhook::{Backend, CallFailed, ClientConfig, Observation, Phase};
use registry::api::{
    DeleteOptions, Format, ListOptions, Patch, PatchType, Registry, RequestContext, WatchEvent,
};
use registry::errors::ApiError;
use serde_json::{Value, json};

const CRD: &str = "apiextensions.k8s.io/v1 /customresourcedefinitions";
const FOOS: &str = "ex.com/v1 d/foos";

fn definition(names_accepted: bool) -> Value {
    let spec = json!({"type": "object", "required": ["a"], "properties": {
        "a": {"type": "string", "maxLength": 3}, "b": {"type": "integer", "default": 7},
        "keys": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "required": ["k"], "properties": {
                "k": {"type": "string"}, "v": {"type": "integer"}}}},
        "replicas": {"type": "integer"}}});
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {
        "spec": spec, "status": {"type": "object", "properties": {"n": {"type": "integer"}}}}}});
    let scale = json!({"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.n"});
    let names = json!({"plural": "foos", "singular": "foo", "kind": "Foo", "listKind": "FooList"});
    let version = |name: &str, storage: bool| {
        json!({"name": name, "served": true, "storage": storage, "schema": schema,
            "selectableFields": [{"jsonPath": ".spec.a"}], "subresources": {"status": {}, "scale": scale}})
    };
    let mut out = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "foos.ex.com"},
        "spec": {"group": "ex.com", "scope": "Namespaced", "names": names,
            "versions": [version("v1", true), version("v2", false)]}});
    if names_accepted {
        let condition = |kind: &str| json!({"type": kind, "status": "True"});
        out["metadata"]["uid"] = json!("u");
        out["status"] = json!({"acceptedNames": names, "storedVersions": ["v1"],
            "conditions": [condition("NamesAccepted"), condition("Established")]});
    }
    out
}

/// A registry that serves foos.
fn serving(dir: &std::path::Path) -> ApiRegistry {
    let r = registry(dir);
    r.core().custom().set(&Tree::from(definition(true)));
    r
}

fn foo(spec: &Value) -> Value {
    json!({"apiVersion": "ex.com/v1", "kind": "Foo", "metadata": {"name": "x"}, "spec": spec})
}

async fn patch(r: &ApiRegistry, path: &str, kind: PatchType, text: &Value) -> Result<Value, ApiError> {
    let patch = Patch { kind, bytes: Bytes::from(text.to_string()), force: None };
    r.patch(&at(path), patch).await.map(|w| tree(&w.object))
}

#[tokio::test]
async fn definitions_are_stored_as_upstream_does() {
    let dir = tempfile::tempdir().unwrap();
    let r = registry(dir.path());
    let created = create(&r, CRD, &definition(false)).await.unwrap();
    assert_eq!(created["status"]["storedVersions"], json!(["v1"]));
    let key = "/registry/apiextensions.k8s.io/customresourcedefinitions/foos.ex.com";
    let stored = r.core().store().get(key, 0).await.unwrap().kv.unwrap();
    let stored: Value = serde_json::from_slice(&stored.value).unwrap();
    assert_eq!(stored["apiVersion"], "apiextensions.k8s.io/v1beta1");
    assert_eq!(stored["spec"]["version"], "v1");
    assert!(stored["spec"]["validation"].is_object() && stored["spec"]["versions"][0]["schema"].is_null());
    let refused = create(&r, CRD, &json!({"metadata": {"name": "x"}, "spec": {"group": "ex.com"}})).await;
    assert_eq!(refused.unwrap_err().code, 422);
}

#[tokio::test]
async fn instances_follow_their_schema() {
    let dir = tempfile::tempdir().unwrap();
    let r = serving(dir.path());
    let refused = create(&r, FOOS, &foo(&json!({"a": "long", "keys": [{"k": "1"}, {"k": "1"}]}))).await;
    let text = refused.unwrap_err().message;
    assert_eq!(
        text,
        "Foo.ex.com \"x\" is invalid: [spec.a: Too long: may not be more than 3 bytes, spec.keys[1]: Duplicate value: {\"k\":\"1\"}]"
    );
    let mut sent = foo(&json!({"a": "one", "unknown": 1}));
    sent["status"] = json!({"n": 1});
    let context = at(FOOS);
    let stored = r.create(&context, body(&sent)).await.map(|w| tree(&w.object)).unwrap();
    assert_eq!(stored["spec"], json!({"a": "one", "b": 7}));
    assert!(stored["status"].is_null());
    assert_eq!(context.warnings.take(), ["unknown field \"spec.unknown\""]);
    let key = r.core().store().get("/registry/ex.com/foos/d/x", 0).await.unwrap().kv.unwrap();
    assert!(key.value.ends_with(b"}\n"));
    let other = r.get(&at("ex.com/v2 d/foos/x"), "").await.unwrap();
    assert_eq!(tree(&other)["apiVersion"], "ex.com/v2");
    assert_eq!(other.encode(Format::Protobuf).unwrap_err().code, 406);
    let selected = |field: &str| ListOptions { field_selector: field.into(), ..Default::default() };
    assert_eq!(r.list(&at(FOOS), &selected("spec.a=one")).await.unwrap().items.len(), 1);
    assert_eq!(r.list(&at(FOOS), &selected("spec.a=two")).await.unwrap().items.len(), 0);
    assert_eq!(r.list(&at(FOOS), &selected("spec.b=7")).await.err().unwrap().code, 400);
}

#[tokio::test]
async fn instances_change_in_all_ways_but_one() {
    let dir = tempfile::tempdir().unwrap();
    let r = serving(dir.path());
    create(&r, FOOS, &foo(&json!({"a": "one", "keys": [{"k": "1", "v": 1}]}))).await.unwrap();
    let x = "ex.com/v1 d/foos/x";
    let merged = patch(&r, x, PatchType::Merge, &json!({"spec": {"b": 8}})).await.unwrap();
    assert_eq!((&merged["spec"]["b"], &merged["metadata"]["generation"]), (&json!(8), &json!(2)));
    let strategic = patch(&r, x, PatchType::Strategic, &json!({})).await;
    assert_eq!(strategic.unwrap_err().code, 415);
    let applied =
        patch(&r, x, PatchType::Apply, &foo(&json!({"a": "one", "keys": [{"k": "2"}]}))).await.unwrap();
    assert_eq!(applied["spec"]["keys"], json!([{"k": "1", "v": 1}, {"k": "2"}]));
    let sent = json!({"status": {"n": 2}, "spec": null});
    let status = patch(&r, "ex.com/v1 d/foos/x/status", PatchType::Merge, &sent).await.unwrap();
    assert_eq!((&status["status"]["n"], &status["spec"]["a"]), (&json!(2), &json!("one")));
    let scale = "ex.com/v1 d/foos/x/scale";
    assert_eq!(r.get(&at(scale), "").await.err().unwrap().code, 500);
    let scaled = patch(&r, scale, PatchType::Merge, &json!({"spec": {"replicas": 3}})).await.unwrap();
    assert_eq!((&scaled["spec"]["replicas"], &scaled["status"]["replicas"]), (&json!(3), &json!(2)));
    assert_eq!(tree(&r.get(&at(x), "").await.unwrap())["spec"]["replicas"], 3);
}

#[tokio::test]
async fn a_changed_definition_ends_watches_and_instances_can_be_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let r = serving(dir.path());
    create(&r, FOOS, &foo(&json!({"a": "one"}))).await.unwrap();
    let mut events = r.watch(&at(FOOS), &ListOptions::default()).await.unwrap();
    assert!(matches!(events.next().await, Some(WatchEvent::Added(_))));
    let mut changed = definition(true);
    changed["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["description"] = json!("new");
    r.core().custom().set(&Tree::from(changed));
    assert!(events.next().await.is_none());
    let context: RequestContext = at(FOOS);
    r.delete_instances(&context, "ex.com", "foos").await.unwrap();
    r.await_no_instances(&context, "ex.com", "foos", Duration::from_secs(10)).await.unwrap();
    r.core().custom().remove("foos.ex.com");
    assert_eq!(r.get(&at("ex.com/v1 d/foos/x"), "").await.err().unwrap().code, 404);
    let gone = r.delete(&at("ex.com/v1 d/foos/x"), DeleteOptions::default()).await;
    assert_eq!(gone.err().unwrap().code, 404);
}

/// Converts; while `together`, a call ends only when another one is under way too.
struct Converter {
    together: AtomicBool,
    two: tokio::sync::Barrier,
}

#[async_trait::async_trait]
impl Backend for Converter {
    async fn call(&self, _: &ClientConfig, review: Bytes, _: Duration) -> Result<Bytes, CallFailed> {
        if self.together.load(Ordering::SeqCst) {
            let both = tokio::time::timeout(Duration::from_secs(5), self.two.wait()).await;
            both.map_err(|_| CallFailed { why: "the other call never began".to_owned(), code: 503 })?;
        }
        let mut review: Value = serde_json::from_slice(&review).unwrap();
        let mut objects = review["request"]["objects"].take();
        objects[0]["apiVersion"] = review["request"]["desiredAPIVersion"].clone();
        review["response"] = json!({"uid": review["request"]["uid"], "convertedObjects": objects,
            "result": {"status": "Success"}});
        Ok(review.to_string().into())
    }

    fn observe(&self, _: Observation<'_>) {}

    fn excluded(&self, _: &str, _: Phase, _: Operation) {}
}

/// Watches that wait for a webhook must not wait for each other: their threads are those that drive the call.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn watches_wait_for_conversions_side_by_side() {
    let dir = tempfile::tempdir().unwrap();
    let r = registry(dir.path());
    let converter =
        Arc::new(Converter { together: AtomicBool::new(false), two: tokio::sync::Barrier::new(2) });
    r.core().custom().set_backend(converter.clone());
    let mut with_webhook = definition(true);
    with_webhook["spec"]["conversion"] = json!({"strategy": "Webhook", "webhook": {
        "conversionReviewVersions": ["v1"], "clientConfig": {"url": "https://converter.example"}}});
    r.core().custom().set(&Tree::from(with_webhook));
    let second = "ex.com/v2 d/foos";
    let mut watches = Vec::new();
    for _ in 0..2 {
        watches.push(r.watch(&at(second), &ListOptions::default()).await.unwrap());
    }
    create(&r, FOOS, &foo(&json!({"a": "one"}))).await.unwrap();
    let mut frames = Vec::new();
    for (slot, mut watch) in (0..).zip(watches) {
        let Some(WatchEvent::Added(object)) = watch.next().await else { panic!("no event") };
        frames.push((slot, watch, object));
    }
    converter.together.store(true, Ordering::SeqCst);
    let tasks = frames.into_iter().map(|(slot, watch, object)| {
        tokio::spawn(async move {
            let mut make = || object.encode(Format::Json);
            let frame = object.frame(slot, &mut make).unwrap();
            drop(watch);
            frame
        })
    });
    for frame in futures::future::join_all(tasks).await {
        let frame: Value = serde_json::from_slice(&frame.unwrap()).unwrap();
        assert_eq!(frame["apiVersion"], "ex.com/v2");
    }
}
