//! The generic operations through the contract, on the embedded store.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use bytes::Bytes;
use common::{at, body, create, registry, tree};
use futures::StreamExt;
use registry::api::{DeleteOptions, Deleted, ListOptions, Patch, PatchType, Registry, WatchEvent};
use serde_json::{Value, json};

fn config_map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"n": name}},
        "data": {"a": "b"}})
}

/// Upstream answers a create with what it reads back, so that the labels generated for the template, and by default the
/// job's own, are in the answer too.
#[tokio::test]
async fn a_job_without_labels_has_its_template_s() {
    let dir = tempfile::tempdir().unwrap();
    let r = registry(dir.path());
    let container = json!({"name": "c", "image": "i"});
    let template = json!({"spec": {"restartPolicy": "Never", "containers": [container]}});
    let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"}, "spec": {"template": template}});
    let made = create(&r, "batch/v1 d/jobs", &job).await.unwrap();
    assert_eq!(made["metadata"]["labels"]["job-name"], "j");
    assert_eq!(made["metadata"]["labels"], made["spec"]["template"]["metadata"]["labels"]);
    let read = tree(&r.get(&at("batch/v1 d/jobs/j"), "").await.unwrap());
    assert_eq!(read["metadata"], made["metadata"]);
}

#[tokio::test]
async fn create_get_update_patch_delete() {
    let dir = tempfile::tempdir().unwrap();
    let r = registry(dir.path());
    let made = create(&r, "v1 d/configmaps", &config_map("a")).await.unwrap();
    assert_eq!(made["metadata"]["namespace"], "d");
    assert_eq!(made["metadata"]["creationTimestamp"], "2030-01-01T00:00:00Z");
    assert_eq!(made["metadata"]["uid"].as_str().unwrap().len(), 36);
    let again = create(&r, "v1 d/configmaps", &config_map("a")).await.unwrap_err();
    assert_eq!(again.message, "configmaps \"a\" already exists");

    let got = tree(&r.get(&at("v1 d/configmaps/a"), "").await.unwrap());
    assert_eq!(got, made);

    let mut stale = made.clone();
    stale["metadata"]["resourceVersion"] = "1".into();
    let error = r.update(&at("v1 d/configmaps/a"), body(&stale)).await.err().unwrap();
    assert_eq!(
        error.message,
        "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to the latest version and try again"
    );

    let same = r.update(&at("v1 d/configmaps/a"), body(&made)).await.unwrap();
    assert_eq!(
        *same.object.resource_version(),
        made["metadata"]["resourceVersion"],
        "a no-op keeps its version"
    );

    let patch = Patch { kind: PatchType::Merge, bytes: Bytes::from(r#"{"data":{"a":"c"}}"#), force: None };
    let patched = r.patch(&at("v1 d/configmaps/a"), patch).await.unwrap();
    assert_eq!(tree(&patched.object)["data"]["a"], "c");
    assert_ne!(*patched.object.resource_version(), made["metadata"]["resourceVersion"]);

    let gone = r.delete(&at("v1 d/configmaps/a"), DeleteOptions::default()).await.unwrap();
    let Deleted::Status { name, kind, uid, .. } = gone else { panic!("a Status was expected") };
    assert_eq!(
        (name.as_str(), kind.as_str(), Value::from(uid)),
        ("a", "configmaps", made["metadata"]["uid"].clone())
    );
    let missing = r.get(&at("v1 d/configmaps/a"), "").await.err().unwrap();
    assert_eq!((missing.code, missing.message.as_str()), (404, "configmaps \"a\" not found"));
}

#[tokio::test]
async fn names_are_generated_and_checked() {
    let dir = tempfile::tempdir().unwrap();
    let r = registry(dir.path());
    let mut value = config_map("");
    value["metadata"] = json!({"generateName": "web-"});
    let made = create(&r, "v1 d/configmaps", &value).await.unwrap();
    let name = made["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("web-") && name.len() == 9, "{name}");

    let error = create(&r, "v1 d/configmaps", &config_map("A_b")).await.unwrap_err();
    assert_eq!(error.code, 422);
    assert!(error.message.starts_with("ConfigMap \"A_b\" is invalid: metadata.name: Invalid value: \"A_b\": a lowercase RFC 1123 subdomain"), "{}", error.message);
    let mut other = config_map("a");
    other["metadata"]["namespace"] = "x".into();
    assert_eq!(create(&r, "v1 d/configmaps", &other).await.unwrap_err().code, 400);
}

#[tokio::test]
async fn finalizers_hold_objects() {
    let dir = tempfile::tempdir().unwrap();
    let r = registry(dir.path());
    let mut value = config_map("a");
    value["metadata"]["finalizers"] = json!(["x/y"]);
    create(&r, "v1 d/configmaps", &value).await.unwrap();
    let held = r.delete(&at("v1 d/configmaps/a"), DeleteOptions::default()).await.unwrap();
    let Deleted::Object(object, _) = held else { panic!("the object was expected") };
    let mut object = tree(&object);
    assert_eq!(object["metadata"]["deletionTimestamp"], "2030-01-01T00:00:00Z");
    object["metadata"].as_object_mut().unwrap().remove("finalizers");
    r.update(&at("v1 d/configmaps/a"), body(&object)).await.unwrap();
    assert_eq!(r.get(&at("v1 d/configmaps/a"), "").await.err().unwrap().code, 404);
}

#[tokio::test]
async fn lists_page_and_select() {
    let dir = tempfile::tempdir().unwrap();
    let r = registry(dir.path());
    for name in ["a", "b", "c"] {
        create(&r, "v1 d/configmaps", &config_map(name)).await.unwrap();
    }
    let list = |options: ListOptions| {
        let r = r.clone();
        async move { r.list(&at("v1 /configmaps"), &options).await.unwrap() }
    };
    let names = |l: &registry::api::List| l.items.iter().map(|i| i.name().to_owned()).collect::<Vec<_>>();
    let first = list(ListOptions { limit: 2, ..Default::default() }).await;
    assert_eq!((names(&first), first.remaining_item_count), (vec!["a".into(), "b".into()], Some(1)));
    let rest =
        list(ListOptions { limit: 2, continue_token: first.continue_token, ..Default::default() }).await;
    assert_eq!((names(&rest), rest.continue_token.as_str()), (vec!["c".to_owned()], ""));
    let selected = list(ListOptions { label_selector: "n in (b)".into(), ..Default::default() }).await;
    assert_eq!(names(&selected), ["b"]);
    let deleted = r
        .delete_collection(&at("v1 d/configmaps"), DeleteOptions::default(), &ListOptions::default())
        .await
        .unwrap();
    assert_eq!(deleted.items.len(), 3);
    assert!(list(ListOptions::default()).await.items.is_empty());
}

#[tokio::test]
async fn watch_sees_changes_through_its_selector() {
    let dir = tempfile::tempdir().unwrap();
    let r = registry(dir.path());
    let made = create(&r, "v1 d/configmaps", &config_map("a")).await.unwrap();
    let options = ListOptions { label_selector: "n=a".into(), ..Default::default() };
    let mut watch = r.watch(&at("v1 d/configmaps"), &options).await.unwrap();
    let kind = |e: Option<WatchEvent>| match e.unwrap() {
        WatchEvent::Added(o) => ("ADDED", o.name().to_owned()),
        WatchEvent::Modified(o) => ("MODIFIED", o.name().to_owned()),
        WatchEvent::Deleted(o) => ("DELETED", o.name().to_owned()),
        WatchEvent::Bookmark(_) => ("BOOKMARK", String::new()),
        WatchEvent::Error(e) => ("ERROR", e.message),
    };
    assert_eq!(kind(watch.next().await), ("ADDED", "a".into()));
    create(&r, "v1 d/configmaps", &config_map("b")).await.unwrap();
    let mut changed = made.clone();
    changed["data"]["a"] = "z".into();
    let changed = tree(&r.update(&at("v1 d/configmaps/a"), body(&changed)).await.unwrap().object);
    assert_eq!(kind(watch.next().await), ("MODIFIED", "a".into()));
    let mut unlabelled = changed.clone();
    unlabelled["metadata"]["labels"] = json!({});
    r.update(&at("v1 d/configmaps/a"), body(&unlabelled)).await.unwrap();
    assert_eq!(kind(watch.next().await), ("DELETED", "a".into()));
}

/// What a strategic patch says of the kind is not looked at; the other formats make a document, which has one.
#[tokio::test]
async fn patches_of_other_kinds() {
    let dir = tempfile::tempdir().unwrap();
    let r = registry(dir.path());
    create(&r, "v1 d/configmaps", &config_map("a")).await.unwrap();
    let bytes = Bytes::from(r#"{"kind":"Scale","apiVersion":"autoscaling/v1","spec":{"replicas":-1}}"#);
    for (kind, want) in [(PatchType::Strategic, Ok("b")), (PatchType::Merge, Err(422))] {
        let patch = Patch { kind, bytes: bytes.clone(), force: None };
        let got = r.patch(&at("v1 d/configmaps/a"), patch).await.map(|written| tree(&written.object));
        let got = got.as_ref().map(|o| o["data"]["a"].as_str().unwrap()).map_err(|e| e.code);
        assert_eq!(got, want, "{kind:?}");
    }
}

/// A path may have an empty namespace; what then needs one says so in its own way.
#[tokio::test]
async fn an_empty_namespace_is_found_late() {
    let dir = tempfile::tempdir().unwrap();
    let r = registry(dir.path());
    let show = |error: Option<registry::errors::ApiError>| error.map(|e| (e.code, e.message));
    let required = Some((400, "Namespace parameter required.".to_owned()));
    let collection = at("v1 /configmaps");
    let (all, everything) = (ListOptions::default(), DeleteOptions::default());

    let made = r.create(&collection, body(&config_map("a"))).await.err();
    let text = "ConfigMap \"a\" is invalid: metadata.namespace: Required value";
    assert_eq!(show(made), Some((422, text.to_owned())));
    assert_eq!(show(r.get(&at("v1 /configmaps/a"), "").await.err()), required);
    assert_eq!(show(r.delete(&at("v1 /configmaps/a"), everything.clone()).await.err()), required);
    assert_eq!(show(r.delete_collection(&collection, everything.clone(), &all).await.err()), None);
    create(&r, "v1 d/configmaps", &config_map("a")).await.unwrap();
    assert_eq!(show(r.delete_collection(&collection, everything, &all).await.err()), required);
    assert!(r.get(&at("v1 d/configmaps/a"), "").await.is_ok());

    let spec = json!({"user": "u", "resourceAttributes": {"verb": "get", "resource": "pods"}});
    let review =
        json!({"apiVersion": "authorization.k8s.io/v1", "kind": "LocalSubjectAccessReview", "spec": spec});
    let refused = create(&r, "authorization.k8s.io/v1 /localsubjectaccessreviews", &review).await.err();
    assert_eq!(show(refused), Some((400, "namespace is required on this type: ".to_owned())));
}

fn owners(object: &Value) -> Vec<(String, String)> {
    let text = |v: &Value| v.as_str().unwrap_or("").to_owned();
    let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    entries.iter().map(|e| (text(&e["manager"]), text(&e["operation"]))).collect()
}

#[tokio::test]
async fn apply_creates_merges_and_conflicts() {
    let dir = tempfile::tempdir().unwrap();
    let r = registry(dir.path());
    let apply = |manager: &'static str, value: &'static str, force: bool| {
        let r = r.clone();
        let text = format!(
            r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"a","namespace":"d"}},"data":{{"k":"{value}"}}}}"#
        );
        async move {
            let mut context = at("v1 d/configmaps/a");
            context.field_manager = manager.into();
            let patch = Patch { kind: PatchType::Apply, bytes: Bytes::from(text), force: Some(force) };
            r.patch(&context, patch).await.map(|w| (w.created, tree(&w.object)))
        }
    };
    let (created, made) = apply("one", "x", false).await.unwrap();
    assert!(created);
    assert_eq!(owners(&made), [("one".to_owned(), "Apply".to_owned())]);
    let (_, same) = apply("one", "x", false).await.unwrap();
    assert_eq!(same["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"]);
    let conflict = apply("two", "y", false).await.unwrap_err();
    assert_eq!(conflict.code, 409);
    assert_eq!(conflict.message, "Apply failed with 1 conflict: conflict with \"one\": .data.k");
    assert_eq!(conflict.details.unwrap().causes[0].reason, "FieldManagerConflict");
    let (_, taken) = apply("two", "y", true).await.unwrap();
    assert_eq!(taken["data"]["k"], "y");
    let created = create(&r, "v1 d/configmaps", &config_map("b")).await.unwrap();
    assert_eq!(owners(&created), [("test".to_owned(), "Update".to_owned())]);
}
