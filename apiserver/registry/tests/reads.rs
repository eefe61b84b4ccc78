//! Reads from the watch cache: forms spliced from stored bytes, lists, pages, watches.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use common::{at, body, create, registry, tree};
use futures::StreamExt;
use registry::ApiRegistry;
use registry::api::{Format, List, ListOptions, Object, Registry, WatchEvent, WatchStream};
use registry::errors::ApiError;
use serde_json::{Value, json};

const FORMATS: [Format; 4] = [Format::Json, Format::JsonItem, Format::Protobuf, Format::ProtobufItem];

fn pod(name: &str, app: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": app}, "annotations": {"note": "<\u{e9}&>"}},
        "spec": {"nodeName": format!("node-{app}"), "containers": [{"name": "c", "image": "i",
            "resources": {"requests": {"cpu": "0.5", "memory": "1Gi"}},
            "env": [{"name": "A", "value": "1"}]}]}
    })
}

/// One object of each of several kinds: stored in protobuf, stored as JSON, served in another version than stored.
/// From upstream's test/integration/etcd/data.go.
const ANCHOR: &str = "-----BEGIN CERTIFICATE-----\nMIIBBDCBt6ADAgECAgEAMAUGAytlcDAQMQ4wDAYDVQQDEwVyb290MTAiGA8wMDAx\nMDEwMTAwMDAwMFoYDzAwMDEwMTAxMDAwMDAwWjAQMQ4wDAYDVQQDEwVyb290MTAq\nMAUGAytlcAMhAF2MoFeGa97gK2NGT1h6p1/a1GlMXAXbcjI/OShyIobPozIwMDAP\nBgNVHRMBAf8EBTADAQH/MB0GA1UdDgQWBBTWDdK2CNQiHqRjPaAWYPPtIykQgjAF\nBgMrZXADQQCtom9WGl7m2SAa4tXM9Soo/mbInBsRhn187BMoqTAHInHchKup5/3y\nl1tYJSZZsEXnXrCvw2qLCBNif6+2YYgE\n-----END CERTIFICATE-----\n";

fn samples() -> Vec<(&'static str, Value)> {
    let labels = json!({"matchLabels": {"app": "a"}});
    let template = json!({"metadata": {"labels": {"app": "a"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]}});
    vec![
        ("v1 d/pods", pod("a", "x")),
        (
            "v1 d/configmaps",
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"},
            "data": {"k": "<v>"}, "binaryData": {"b": "AAEC"}}),
        ),
        (
            "v1 d/secrets",
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"},
            "stringData": {"k": "v"}}),
        ),
        (
            "apps/v1 d/deployments",
            json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "a"}, "spec": {"selector": labels, "template": template}}),
        ),
        (
            "batch/v1 d/cronjobs",
            json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "a"},
            "spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": {
                "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}}}}),
        ),
        (
            "coordination.k8s.io/v1 d/leases",
            json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": "a"}, "spec": {"renewTime": "2030-01-01T00:00:00.123456Z"}}),
        ),
        (
            "certificates.k8s.io/v1 /clustertrustbundles",
            json!({"apiVersion": "certificates.k8s.io/v1",
            "kind": "ClusterTrustBundle", "metadata": {"name": "a"}, "spec": {"trustBundle": ANCHOR}}),
        ),
    ]
}

fn encodings(object: &dyn Object) -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = FORMATS.iter().map(|f| object.encode(*f).unwrap().to_vec()).collect();
    all.extend([false, true].map(|protobuf| object.metadata(protobuf).unwrap().to_vec()));
    all
}

#[test]
fn spliced_forms_are_what_encoding_the_object_gives() {
    let dir = tempfile::tempdir().unwrap();
    for reopened in [false, true] {
        // After a restart nothing is known of the stored bytes but that they are ours. The end of the runtime ends the
        // watch caches, and with them the store.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(compare_forms(dir.path(), reopened));
    }
}

async fn compare_forms(dir: &std::path::Path, reopened: bool) {
    let r = registry(dir);
    for (path, sample) in samples() {
        if !reopened {
            let made = r.create(&at(path), body(&sample)).await.unwrap();
            let got = r.get(&at(&format!("{path}/a")), "").await.unwrap();
            assert_eq!(encodings(&*got), encodings(&*made.object), "{path}");
        }
        let (got, list) = (r.get(&at(&format!("{path}/a")), "").await.unwrap(), list(&r, path, "").await);
        let item = &list.unwrap().items[0];
        assert_eq!(encodings(&**item), encodings(&*got), "{path}");
        for format in FORMATS {
            let wire = item.wire(format, true).unwrap();
            assert_eq!(wire.head.len() + wire.body.len(), item.wire_len(format).unwrap(), "{path}");
            assert_eq!(wire.join(), got.encode(format).unwrap(), "{path}");
        }
    }
}

async fn list(r: &ApiRegistry, path: &str, query: &str) -> Result<List, ApiError> {
    r.list(&at(path), &options(query)).await
}

/// Options from `key=value` pairs separated by `&`.
fn options(query: &str) -> ListOptions {
    let mut options = ListOptions::default();
    for (key, value) in query.split('&').filter_map(|pair| pair.split_once(':')) {
        let value = value.to_owned();
        match key {
            "labels" => options.label_selector = value,
            "fields" => options.field_selector = value,
            "rv" => options.resource_version = value,
            "match" => options.resource_version_match = value,
            "limit" => options.limit = value.parse().unwrap(),
            "continue" => options.continue_token = value,
            "bookmarks" => options.allow_watch_bookmarks = value == "1",
            "initial" => options.send_initial_events = Some(value == "1"),
            other => panic!("{other}"),
        }
    }
    options
}

fn names(list: &List) -> Vec<String> {
    list.items.iter().map(|i| i.name().to_owned()).collect()
}

#[tokio::test]
async fn lists_select_and_page() {
    let dir = tempfile::tempdir().unwrap();
    let r = registry(dir.path());
    for (name, app) in [("a", "x"), ("b", "y"), ("c", "x"), ("d", "y")] {
        create(&r, "v1 d/pods", &pod(name, app)).await.unwrap();
    }
    create(&r, "v1 e/pods", &pod("z", "x")).await.unwrap();
    let check = async |path: &str, query: &str, want: &[&str]| {
        assert_eq!(names(&list(&r, path, query).await.unwrap()), want, "{path} {query}");
    };
    check("v1 d/pods", "", &["a", "b", "c", "d"]).await;
    check("v1 /pods", "", &["a", "b", "c", "d", "z"]).await;
    check("v1 /pods", "labels:app=x", &["a", "c", "z"]).await;
    check("v1 /pods", "fields:spec.nodeName=node-y", &["b", "d"]).await;
    check("v1 /pods", "fields:metadata.namespace=e", &["z"]).await;
    check("v1 d/pods", "fields:metadata.name=c", &["c"]).await;
    check("v1 d/pods", "fields:metadata.name=c,spec.nodeName=node-y", &[]).await;
    check("v1 d/pods", "rv:0&limit:1", &["a", "b", "c", "d"]).await;
    let first = list(&r, "v1 d/pods", "limit:3").await.unwrap();
    assert_eq!((names(&first).len(), first.remaining_item_count), (3, Some(1)));
    create(&r, "v1 d/pods", &pod("e", "x")).await.unwrap();
    let rest = list(&r, "v1 d/pods", &format!("limit:3&continue:{}", first.continue_token)).await.unwrap();
    assert_eq!(names(&rest), ["d"], "a page is of the first page's moment");
    assert_eq!((rest.resource_version, rest.continue_token), (first.resource_version.clone(), String::new()));
    let exact = format!("rv:{}&match:Exact", first.resource_version);
    check("v1 d/pods", &exact, &["a", "b", "c", "d"]).await;
}

#[tokio::test]
async fn refusals_are_upstreams() {
    let dir = tempfile::tempdir().unwrap();
    let r = registry(dir.path());
    create(&r, "v1 d/pods", &pod("a", "x")).await.unwrap();
    let check = async |query: &str, code: u16, text: &str| {
        let error = list(&r, "v1 d/pods", query).await.err().map(|e| (e.code, e.message));
        let (got, message) = error.unwrap();
        assert!(got == code && message.contains(text), "{query}: {got} {message}");
    };
    check("rv:x", 400, "invalid syntax").await;
    check("match:Exact", 422, "forbidden unless resourceVersion is provided").await;
    check("rv:0&match:Exact", 422, "forbidden for resourceVersion").await;
    check("continue:x&rv:7", 400, "specifying resource version is not allowed when using continue").await;
    check("continue:%", 400, "continue key is not valid").await;
    check("initial:1&rv:1&match:NotOlderThan", 422, "sendInitialEvents is forbidden for list").await;
    check("labels:a b", 400, "").await;
    check("rv:99999", 504, "Too large resource version: 99999").await;
    let error = list(&r, "v1 d/pods", "rv:1&match:Exact").await.err().map(|e| e.code);
    assert!(matches!(error, None | Some(410)), "{error:?}");
}

async fn watch(r: &ApiRegistry, path: &str, query: &str) -> WatchStream {
    r.watch(&at(path), &options(query)).await.unwrap()
}

/// The next event, short: type, name, and whether it ends the initial events.
async fn next(events: &mut WatchStream) -> String {
    let event = tokio::time::timeout(Duration::from_secs(10), events.next()).await.unwrap().unwrap();
    match event {
        WatchEvent::Added(o) => format!("+{}", o.name()),
        WatchEvent::Modified(o) => format!("~{}", o.name()),
        WatchEvent::Deleted(o) => format!("-{}", o.name()),
        WatchEvent::Bookmark(o) => {
            let end = tree(&o)["metadata"]["annotations"]["k8s.io/initial-events-end"] == "true";
            format!("bookmark{}", if end { " end" } else { "" })
        }
        WatchEvent::Error(e) => format!("error {}", e.code),
    }
}

#[tokio::test]
async fn watches_show_selections_come_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let r = registry(dir.path());
    let made = create(&r, "v1 d/pods", &pod("a", "x")).await.unwrap();
    let start = made["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let mut all = watch(&r, "v1 d/pods", &format!("rv:{start}")).await;
    let mut x = watch(&r, "v1 d/pods", "initial:1&match:NotOlderThan&bookmarks:1&labels:app=x").await;
    assert_eq!([next(&mut x).await, next(&mut x).await], ["+a", "bookmark end"]);
    let mut changed = made.clone();
    changed["metadata"]["labels"]["app"] = "y".into();
    r.update(&at("v1 d/pods/a"), body(&changed)).await.unwrap();
    assert_eq!([next(&mut all).await, next(&mut x).await], ["~a", "-a"]);
    create(&r, "v1 d/pods", &pod("b", "x")).await.unwrap();
    assert_eq!([next(&mut all).await, next(&mut x).await], ["+b", "+b"]);
}

#[tokio::test]
async fn events_are_watched_without_being_cached() {
    let dir = tempfile::tempdir().unwrap();
    let r = registry(dir.path());
    let event = |name: &str, reason: &str| {
        json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": name, "namespace": "d"},
            "involvedObject": {"namespace": "d", "name": "p"}, "reason": reason, "type": "Normal"})
    };
    create(&r, "v1 d/events", &event("a", "Made")).await.unwrap();
    let mut watched = watch(&r, "v1 d/events", "fields:reason=Made").await;
    create(&r, "v1 d/events", &event("b", "Other")).await.unwrap();
    create(&r, "v1 d/events", &event("c", "Made")).await.unwrap();
    assert_eq!([next(&mut watched).await, next(&mut watched).await], ["+a", "+c"]);
    let other = list(&r, "events.k8s.io/v1 d/events", "fields:reason=Other").await.unwrap();
    assert_eq!(tree(&other.items[0])["regarding"]["name"], "p");
    let page = list(&r, "v1 d/events", "limit:2").await.unwrap();
    let rest = list(&r, "v1 d/events", &format!("limit:2&continue:{}", page.continue_token)).await.unwrap();
    assert_eq!((names(&page), names(&rest)), (vec!["a".into(), "b".into()], vec!["c".into()]));
}

#[tokio::test]
async fn a_watch_event_is_framed_once_for_all_watches() {
    let dir = tempfile::tempdir().unwrap();
    let r = registry(dir.path());
    let mut two = [watch(&r, "v1 d/pods", "rv:0").await, watch(&r, "v1 d/pods", "rv:0").await];
    create(&r, "v1 d/pods", &pod("a", "x")).await.unwrap();
    let mut made = 0;
    for events in &mut two {
        let Some(WatchEvent::Added(object)) = events.next().await else { panic!("an event") };
        let frame = object.frame(7, &mut || {
            made += 1;
            object.encode(Format::Json)
        });
        assert_eq!(frame.unwrap(), object.encode(Format::Json).unwrap());
    }
    assert_eq!(made, 1);
}
