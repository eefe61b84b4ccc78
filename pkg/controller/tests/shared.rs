//! Leader election, events and claims against a scripted server. The clock is paused.

#![expect(clippy::unwrap_used, reason = "a test: failing is what it is for")]

use std::sync::Arc;
use std::time::Duration;

use client::{Client, Config, Options};
use controller::{
    EventRecorder, LeaderConfig, LeaderElector, NORMAL, Outcome, RefManager, SeriesRecorder, WorkQueue,
    reference,
};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use serde_json::{Value, json};
use testing::fake_api::{FakeApi, Fault};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const LEASES: &str = "/apis/coordination.k8s.io/v1/leases";
const EVENTS: &str = "/api/v1/events";

fn client(server: &FakeApi) -> Client {
    let mut config = Config::new("http://fake");
    let server = server.clone();
    config.dialer = Some(Arc::new(move || {
        let io: Box<dyn client::transport::Io> = Box::new(server.connect());
        Box::pin(async move { Ok(io) })
    }));
    let options = Options {
        qps: -1.0,
        content_type: client::ContentType::Json,
        timeout: Duration::from_secs(5),
        ..Options::default()
    };
    Client::new(config, options).unwrap()
}

fn lease(server: &FakeApi) -> Value {
    server.objects(LEASES)["kube-system/x"]["spec"].clone()
}

struct Candidate {
    leading: Arc<Mutex<Option<CancellationToken>>>,
    token: CancellationToken,
    task: tokio::task::JoinHandle<Outcome>,
}

fn candidate(server: &FakeApi, identity: &str, release: bool) -> Candidate {
    let token = CancellationToken::new();
    let mut config = LeaderConfig::new("kube-system", "x", identity);
    config.release_on_cancel = release;
    config.recorder = Some(EventRecorder::new(&client(server), "x", "", &token));
    let elector = LeaderElector::new(&client(server), config).unwrap();
    let leading: Arc<Mutex<Option<CancellationToken>>> = Arc::default();
    let (seen, stop) = (leading.clone(), token.clone());
    let task = tokio::spawn(async move {
        let lead = move |token: CancellationToken| async move {
            *seen.lock() = Some(token.clone());
            token.cancelled().await;
        };
        elector.run(&stop, |_| {}, lead).await
    });
    Candidate { leading, token, task }
}

impl Candidate {
    fn leads(&self) -> bool {
        self.leading.lock().as_ref().is_some_and(|t| !t.is_cancelled())
    }
    async fn until_leading(&self) -> Duration {
        let started = Instant::now();
        while !self.leads() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        started.elapsed()
    }
}

#[tokio::test(start_paused = true)]
async fn one_leads_the_other_follows() {
    let server = FakeApi::new();
    let a = candidate(&server, "a", true);
    a.until_leading().await;
    let b = candidate(&server, "b", true);
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert!(a.leads() && !b.leads());
    let spec = lease(&server);
    assert_eq!((&spec["holderIdentity"], &spec["leaseTransitions"]), (&json!("a"), &json!(0)));
    assert_eq!(spec["leaseDurationSeconds"], 15);
    a.token.cancel();
    assert_eq!(a.task.await.unwrap(), Outcome::Cancelled);
    assert!(b.until_leading().await < Duration::from_secs(6), "a released lease is taken at once");
    assert_eq!(lease(&server)["leaseTransitions"], 1);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut messages: Vec<String> =
        server.objects(EVENTS).values().map(|e| e["message"].as_str().unwrap().to_string()).collect();
    messages.sort();
    assert_eq!(messages, ["a became leader", "a stopped leading", "b became leader"]);
    b.token.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_cannot_renew_stops_before_another_starts() {
    let server = FakeApi::new();
    let a = candidate(&server, "a", false);
    a.until_leading().await;
    for _ in 0..40 {
        for verb in ["update", "get"] {
            server.fail(verb, Fault::Status(403, "Forbidden", None));
        }
    }
    let started = Instant::now();
    assert_eq!(a.task.await.unwrap(), Outcome::Lost);
    let took = started.elapsed();
    assert!(took > Duration::from_secs(9) && took < Duration::from_secs(14), "{took:?}");
    assert!(a.leading.lock().as_ref().unwrap().is_cancelled());
}

fn pod(name: &str, owner: Option<&str>) -> Value {
    let mut pod = json!({"metadata": {"name": name, "namespace": "ns", "labels": {"a": "b"}}});
    if let Some(uid) = owner {
        pod["metadata"]["ownerReferences"] = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "rs", "uid": uid, "controller": true}]);
    }
    pod
}

#[tokio::test(start_paused = true)]
async fn orphans_are_adopted_after_asking_the_server() {
    let server = FakeApi::new();
    let sets = "/apis/apps/v1/replicasets";
    let stored = server.put(sets, json!({"metadata": {"name": "rs", "namespace": "ns"}}));
    let set: ReplicaSet = serde_json::from_value(stored).unwrap();
    let uid = set.metadata.uid.clone().unwrap();
    let pods: Vec<Arc<Pod>> = [pod("orphan", None), pod("mine", Some(&uid)), pod("other", Some("x"))]
        .into_iter()
        .map(|p| Arc::new(serde_json::from_value(server.put("/api/v1/pods", p)).unwrap()))
        .collect();
    let c = client(&server);
    let manager = RefManager::new(c.namespaced("ns"), c.namespaced::<Pod>("ns"), &set, |labels| {
        labels.label("a").is_some_and(|v| v == "b")
    });
    let claimed = manager.claim(pods.clone(), |_| true).await.unwrap();
    let names: Vec<_> = claimed.iter().map(|p| p.metadata.name.clone().unwrap()).collect();
    assert_eq!(names, ["orphan", "mine"]);
    let owner = &server.objects("/api/v1/pods")["ns/orphan"]["metadata"]["ownerReferences"][0];
    assert_eq!((&owner["uid"], &owner["controller"]), (&json!(uid), &json!(true)));

    server.remove(sets, "ns/rs");
    let manager = RefManager::new(c.namespaced("ns"), c.namespaced::<Pod>("ns"), &set, |_| true);
    let e = manager.claim(pods, |_| true).await.unwrap_err().to_string();
    assert!(e.starts_with("can't adopt ns/orphan"), "{e}");
}

#[tokio::test(start_paused = true)]
async fn equal_events_become_one_with_a_count() {
    let server = FakeApi::new();
    let token = CancellationToken::new();
    let recorder = EventRecorder::new(&client(&server), "c", "host", &token);
    let series = SeriesRecorder::new(&client(&server), "s", "host", &token);
    let pod: Pod =
        serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "ns", "uid": "u"}})).unwrap();
    server.fail("create", Fault::Drop);
    for _ in 0..3 {
        recorder.event(&reference(&pod), NORMAL, "Pulled", "image");
        series.event(reference(&pod), None, NORMAL, "Scheduled", "Binding", "done");
        tokio::time::sleep(Duration::from_secs(30)).await;
    }
    let events = server.objects(EVENTS);
    let event = events.values().next().unwrap();
    assert_eq!((events.len(), &event["count"], &event["source"]["host"]), (1, &json!(3), &json!("host")));
    let all = server.objects("/apis/events.k8s.io/v1/events");
    let one = all.values().next().unwrap();
    assert_eq!(
        (all.len(), &one["series"]["count"], &one["reportingInstance"]),
        (1, &json!(2), &json!("s-host"))
    );
    token.cancel();
}

#[tokio::test(start_paused = true)]
async fn metrics_have_upstreams_names() {
    let queue = WorkQueue::new("shared_test");
    queue.add(1);
    queue.get().await;
    let text = component::metrics::default_registry().text();
    for line in [
        "workqueue_adds_total{name=\"shared_test\"} 1",
        "workqueue_depth{name=\"shared_test\"} 0",
        "workqueue_retries_total{name=\"shared_test\"} 0",
        "workqueue_queue_duration_seconds_count{name=\"shared_test\"} 1",
        "workqueue_longest_running_processor_seconds{name=\"shared_test\"} 0",
        "workqueue_unfinished_work_seconds{name=\"shared_test\"} 0",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
    }
}
