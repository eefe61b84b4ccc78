//! Calls against a scripted server: retries, limits, errors, formats. The clock is paused.

#![expect(clippy::unwrap_used, reason = "a test: failing is what it is for")]

use std::sync::Arc;
use std::time::Duration;

use client::{Client, Config, DeleteParams, Error, ListParams, Meta, Options, Patch, PatchParams};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;
use testing::fake_api::{FakeApi, Fault};
use tokio::time::Instant;

const MAPS: &str = "/api/v1/configmaps";

fn client(server: &FakeApi, options: Options) -> Client {
    let mut config = Config::new("http://fake");
    let server = server.clone();
    config.dialer = Some(Arc::new(move || {
        let io: Box<dyn client::transport::Io> = Box::new(server.connect());
        Box::pin(async move { Ok(io) })
    }));
    Client::new(config, options).unwrap()
}

fn unlimited(server: &FakeApi) -> Client {
    client(server, Options { qps: -1.0, ..Options::default() })
}

fn map(name: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.into()),
            namespace: Some("ns".into()),
            ..ObjectMeta::default()
        },
        ..ConfigMap::default()
    }
}

#[tokio::test(start_paused = true)]
async fn objects_go_round() {
    let server = FakeApi::new();
    let api = unlimited(&server).namespaced::<ConfigMap>("ns");
    let made = api.create(&map("a")).await.unwrap();
    assert_eq!((made.key().as_str(), made.resource_version()), ("ns/a", "2"));
    assert!(api.create(&map("a")).await.unwrap_err().is_already_exists());
    let mut changed = made.clone();
    changed.data = Some([("k".to_string(), "v".to_string())].into());
    let replaced = api.replace(&changed).await.unwrap();
    assert_eq!(replaced.data, changed.data);
    assert!(api.replace(&changed).await.unwrap_err().is_conflict());
    let patch = Patch::Merge(json!({"data": {"k": null, "x": "y"}}));
    let patched = api.patch("a", &patch, &PatchParams::default()).await.unwrap();
    assert_eq!(patched.data.unwrap().into_iter().collect::<Vec<_>>(), [("x".to_string(), "y".to_string())]);
    let listed = api.list(&ListParams { limit: 1, ..ListParams::default() }).await.unwrap();
    assert_eq!((listed.items.len(), listed.metadata.continue_), (1, None));
    assert!(api.delete("a", &DeleteParams::with_uid("other")).await.unwrap_err().is_conflict());
    assert!(api.get_opt("a").await.unwrap().is_none());
    let e = api.get("a").await.unwrap_err();
    assert!(e.is_not_found());
    assert_eq!(e.to_string(), "configmaps \"a\" not found");
    assert!(matches!(api.get("").await, Err(Error::Invalid(_))));
}

#[tokio::test(start_paused = true)]
async fn retries_what_upstream_retries() {
    let server = FakeApi::new();
    server.put(MAPS, json!({"metadata": {"name": "a", "namespace": "ns"}}));
    let api = unlimited(&server).namespaced::<ConfigMap>("ns");
    // (verb, fault, succeeds, seconds)
    let cases = [
        ("get", Fault::Status(429, "TooManyRequests", Some(3)), true, 3),
        ("get", Fault::Status(503, "ServiceUnavailable", Some(1)), true, 1),
        ("get", Fault::Status(500, "InternalError", None), false, 0),
        ("get", Fault::Drop, true, 1),
        ("get", Fault::Truncate, true, 1),
        ("create", Fault::Status(429, "TooManyRequests", Some(2)), true, 2),
        ("create", Fault::Drop, false, 0),
        ("create", Fault::Status(415, "UnsupportedMediaType", None), true, 0),
    ];
    for (i, (verb, fault, succeeds, seconds)) in cases.into_iter().enumerate() {
        let started = Instant::now();
        server.fail(verb, fault.clone());
        let result = match verb {
            "get" => api.get("a").await,
            _ => api.create(&map(&format!("new{i}"))).await,
        };
        assert_eq!(result.is_ok(), succeeds, "{verb} {fault:?}: {result:?}");
        assert_eq!(started.elapsed().as_secs(), seconds, "{verb} {fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn gives_up_after_ten_retries() {
    let server = FakeApi::new();
    for _ in 0..20 {
        server.fail("get", Fault::Status(429, "TooManyRequests", Some(1)));
    }
    let api = unlimited(&server).namespaced::<ConfigMap>("ns");
    assert!(api.get("a").await.unwrap_err().is_too_many_requests());
    assert_eq!(server.faults_left(), 9);
}

#[tokio::test(start_paused = true)]
async fn time_limits_hold() {
    let server = FakeApi::new();
    server.fail("get", Fault::Delay(Duration::from_secs(60)));
    let api = unlimited(&server).with_timeout(Duration::from_secs(5)).namespaced::<ConfigMap>("ns");
    let started = Instant::now();
    let e = api.get("a").await.unwrap_err();
    assert!(e.is_timeout() && started.elapsed() == Duration::from_secs(5), "{e}");
}

#[tokio::test(start_paused = true)]
async fn the_rate_is_limited_but_not_for_watches() {
    let server = FakeApi::new();
    let api = client(&server, Options { qps: 2.0, burst: 2, ..Options::default() }).all::<ConfigMap>();
    let started = Instant::now();
    for _ in 0..4 {
        api.list(&ListParams::default()).await.unwrap();
    }
    for _ in 0..4 {
        api.watch(&client::WatchParams::default()).await.unwrap();
    }
    assert_eq!(started.elapsed(), Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn garbage_is_an_error() {
    let server = FakeApi::new();
    server.fail("get", Fault::Garbage);
    let api = unlimited(&server).namespaced::<ConfigMap>("ns");
    assert!(matches!(api.get("a").await, Err(Error::Decode { .. })));
}
