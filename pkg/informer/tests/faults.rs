//! An informer against a server that misbehaves: whatever happens, the store ends equal to the server's state, and the
//! events a subscriber saw lead to the same state. The clock is paused, so back-off costs nothing.

#![expect(clippy::unwrap_used, reason = "a test: failing is what it is for")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use client::{Client, Config, Meta, Options as ClientOptions};
use informer::{Event, Factory, Informer, Options};
use k8s_openapi::api::core::v1::ConfigMap;
use parking_lot::Mutex;
use proptest::prelude::*;
use serde_json::json;
use testing::fake_api::{FakeApi, Fault};
use tokio_util::sync::CancellationToken;

const MAPS: &str = "/api/v1/configmaps";

fn client(server: &FakeApi) -> Client {
    let mut config = Config::new("http://fake");
    let server = server.clone();
    config.dialer = Some(Arc::new(move || {
        let io: Box<dyn client::transport::Io> = Box::new(server.connect());
        Box::pin(async move { Ok(io) })
    }));
    Client::new(config, ClientOptions { qps: -1.0, ..ClientOptions::default() }).unwrap()
}

fn map(name: &str, value: u32) -> serde_json::Value {
    json!({"metadata": {"name": name, "namespace": "ns"}, "data": {"v": value.to_string()}})
}

/// What a subscriber believes, built from events alone; a sequence that makes no sense is noted.
#[derive(Default)]
struct Mirror {
    objects: BTreeMap<String, String>,
    wrong: Vec<String>,
}

impl Mirror {
    fn apply(&mut self, event: Event<ConfigMap>) {
        let key = event.object().key();
        let version = event.object().resource_version().to_string();
        let known = self.objects.contains_key(&key);
        match event {
            Event::Added(_) if known => self.wrong.push(format!("{key} added twice")),
            Event::Updated { .. } if !known => self.wrong.push(format!("{key} updated before it was added")),
            Event::Deleted(_) if !known => self.wrong.push(format!("{key} deleted before it was added")),
            _ => {}
        }
        match event {
            Event::Deleted(_) => self.objects.remove(&key),
            _ => self.objects.insert(key, version),
        };
    }
}

fn server_state(server: &FakeApi) -> BTreeMap<String, String> {
    let version = |o: &serde_json::Value| o["metadata"]["resourceVersion"].as_str().unwrap().to_string();
    server.objects(MAPS).iter().map(|(k, o)| (k.clone(), version(o))).collect()
}

fn store_state(informer: &Informer<ConfigMap>) -> BTreeMap<String, String> {
    informer.store().list().iter().map(|o| (o.key(), o.resource_version().to_string())).collect()
}

#[derive(Debug, Clone)]
enum Step {
    Put(u8, u32),
    Remove(u8),
    Cut,
    Close,
    Compact,
    Bookmark,
    FailWatch(u8),
    FailList(u8),
    Wait,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..6u8, any::<u32>()).prop_map(|(n, v)| Step::Put(n, v)),
        3 => (0..6u8).prop_map(Step::Remove),
        2 => Just(Step::Cut),
        1 => Just(Step::Close),
        1 => Just(Step::Compact),
        1 => Just(Step::Bookmark),
        2 => (0..6u8).prop_map(Step::FailWatch),
        1 => (0..6u8).prop_map(Step::FailList),
        3 => Just(Step::Wait),
    ]
}

fn fault(n: u8) -> Fault {
    match n {
        0 => Fault::Status(429, "TooManyRequests", Some(1)),
        1 => Fault::Status(500, "InternalError", None),
        2 => Fault::Drop,
        3 => Fault::Garbage,
        4 => Fault::Truncate,
        _ => Fault::Status(410, "Expired", None),
    }
}

async fn play(streaming: bool, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let server = FakeApi::new();
    server.streaming(streaming);
    let token = CancellationToken::new();
    let factory = Factory::new(client(&server));
    let index = |o: &ConfigMap| o.data.iter().flatten().map(|(_, v)| v.clone()).collect();
    let informer = factory.informer::<ConfigMap>(Options::default().index("v", index));
    let mirror = Arc::new(Mutex::new(Mirror::default()));
    let sink = mirror.clone();
    let subscription = informer.subscribe(move |event| sink.lock().apply(event));
    factory.start(&token);
    for step in steps {
        match step {
            Step::Put(n, v) => drop(server.put(MAPS, map(&format!("m{n}"), v))),
            Step::Remove(n) => drop(server.remove(MAPS, &format!("ns/m{n}"))),
            Step::Cut => server.cut(),
            Step::Close => server.close(),
            Step::Compact => server.compact(),
            Step::Bookmark => server.bookmark(),
            Step::FailWatch(n) => server.fail("watch", fault(n)),
            Step::FailList(n) => server.fail("list", fault(n)),
            Step::Wait => tokio::time::sleep(Duration::from_millis(700)).await,
        }
    }
    // Longer than any back-off; paused time makes it free.
    tokio::time::sleep(Duration::from_secs(600)).await;
    prop_assert!(informer.has_synced() && subscription.has_synced());
    let want = server_state(&server);
    prop_assert_eq!(&store_state(&informer), &want, "store");
    let mirror = mirror.lock();
    prop_assert_eq!(&mirror.wrong, &Vec::<String>::new());
    prop_assert_eq!(&mirror.objects, &want, "events");
    for object in informer.store().list() {
        let value = object.data.as_ref().unwrap()["v"].clone();
        let found = informer.store().by_index("v", &value);
        prop_assert!(found.iter().any(|o| o.key() == object.key()), "index");
    }
    let indexed: usize =
        informer.store().index_values("v").iter().map(|v| informer.store().by_index("v", v).len()).sum();
    prop_assert_eq!(indexed, want.len());
    token.cancel();
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn store_equals_server(streaming: bool, steps in prop::collection::vec(step(), 0..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(play(streaming, steps))?;
    }
}

fn requests(server: &FakeApi) -> Vec<String> {
    // Time limits are random.
    let seen = server.seen().into_iter();
    seen.map(|r| r.split("&timeoutSeconds").next().unwrap_or("").to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn asks_for_a_streaming_list_and_resumes_from_bookmarks() {
    let server = FakeApi::new();
    server.put(MAPS, map("a", 1));
    let token = CancellationToken::new();
    let factory = Factory::new(client(&server));
    let informer = factory.informer::<ConfigMap>(Options::default());
    factory.start(&token);
    assert!(factory.wait_synced(&token).await);
    server.put("/api/v1/secrets", map("s", 1));
    server.bookmark();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(informer.resource_version(), "3");
    server.cut();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let flags = "allowWatchBookmarks=true";
    assert_eq!(
        requests(&server),
        [
            format!(
                "watch {MAPS}?watch=true&{flags}&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"
            ),
            format!("watch {MAPS}?watch=true&resourceVersion=3&{flags}"),
        ]
    );
    token.cancel();
}

#[tokio::test(start_paused = true)]
async fn falls_back_to_lists() {
    let server = FakeApi::new();
    server.streaming(false);
    let token = CancellationToken::new();
    let factory = Factory::new(client(&server));
    let informer = factory.informer::<ConfigMap>(Options::default().namespace("ns").labels("a=b"));
    factory.start(&token);
    assert!(factory.wait_synced(&token).await);
    assert_eq!(informer.store().len(), 0);
    let path = "/api/v1/namespaces/ns/configmaps";
    assert_eq!(requests(&server)[1..2], [format!("list {path}?labelSelector=a%3Db&resourceVersion=0")],);
    token.cancel();
}

#[tokio::test(start_paused = true)]
async fn informers_are_shared_and_late_subscribers_see_everything() {
    let server = FakeApi::new();
    for n in 0..3 {
        server.put(MAPS, map(&format!("m{n}"), n));
    }
    let token = CancellationToken::new();
    let factory = Factory::new(client(&server));
    let one = factory.informer::<ConfigMap>(Options::default());
    let two = factory
        .informer::<ConfigMap>(Options::default().index("name", |o: &ConfigMap| vec![o.name().to_string()]));
    factory.start(&token);
    factory.start(&token);
    assert!(two.wait_synced(&token).await);
    assert_eq!(server.seen().len(), 1);
    assert_eq!(one.store().by_index("name", "m1").len(), 1);
    let mut events = one.events();
    let mut names = Vec::new();
    for _ in 0..3 {
        names.push(events.next().await.unwrap().object().name().to_string());
    }
    names.sort();
    assert_eq!(names, ["m0", "m1", "m2"]);
    server.remove(MAPS, "ns/m1");
    assert!(matches!(events.next().await, Some(Event::Deleted(o)) if o.name() == "m1"));
    assert!(events.has_synced());
    token.cancel();
    assert!(events.next().await.is_none());
}
