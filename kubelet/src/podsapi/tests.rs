//! The server over a real socket, with a node of its own, and what the status manager tells watchers.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use parking_lot::Mutex;
use pluginapi::pods::v1alpha1::pods_client::PodsClient;
use pluginapi::pods::v1alpha1::*;
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::transport::Channel;

use super::hub::{Event, Hub, Kind};
use super::server::{self, Node};
use super::view;
use crate::pod::store::PodStore;
use crate::pod::view::PodView;
use crate::podresources;
use crate::status::manager::StatusManager;

fn pod(uid: &str, phase: &str) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"namespace": "n", "name": uid, "uid": uid, "labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c"}]},
        "status": {"phase": phase, "conditions": [{"type": "Ready", "status": "True"}]}}))
    .unwrap()
}

#[derive(Default)]
struct Fake {
    complete: Mutex<bool>,
    hub: Hub,
}

impl Node for Fake {
    fn is_complete(&self) -> bool {
        *self.complete.lock()
    }
    fn pods(&self) -> Vec<Pod> {
        vec![pod("v", "Pending"), pod("u", "Running")]
    }
    fn pod(&self, uid: &str) -> Option<Pod> {
        self.pods().into_iter().find(|pod| pod.uid() == uid)
    }
    fn watch(&self) -> broadcast::Receiver<Event> {
        self.hub.watch()
    }
}

fn start() -> (tempfile::TempDir, Arc<Fake>, PodsClient<Channel>, CancellationToken) {
    let (dir, node, stop) =
        (tempfile::tempdir().unwrap(), Arc::new(Fake::default()), CancellationToken::new());
    let listener = podresources::server::open(dir.path(), server::SOCKET).unwrap();
    tokio::spawn(server::serve(node.clone(), listener, stop.clone()));
    let address = format!("unix://{}", dir.path().join(server::SOCKET).display());
    let channel = tonic::transport::Endpoint::from_shared(address).unwrap().connect_lazy();
    (dir, node, PodsClient::new(channel), stop)
}

/// What upstream's `Pod.Unmarshal` would read.
fn read(message: &[u8]) -> Pod {
    let sealed = machinery::proto::seal("v1", "Pod", message);
    api::decode(api::MediaType::Protobuf, &sealed).unwrap()
}

#[tokio::test]
async fn answers() {
    let (_dir, node, mut client, _stop) = start();
    let early = client.list_pods(ListPodsRequest {}).await.unwrap_err();
    assert_eq!((early.code(), early.message()), (Code::FailedPrecondition, "Kubelet is initializing"));
    assert_eq!(client.watch_pods(WatchPodsRequest {}).await.unwrap_err().code(), Code::FailedPrecondition);
    *node.complete.lock() = true;
    let all = client.list_pods(ListPodsRequest {}).await.unwrap().into_inner().pods;
    // Reading back gives empty texts where nothing was said.
    let told = |message: &[u8]| {
        let pod = read(message);
        (pod.metadata, pod.status.unwrap_or_default().phase.unwrap_or_default())
    };
    let expected = |uid: &str, phase: &str| (pod(uid, phase).metadata, phase.to_owned());
    let all: Vec<_> = all.iter().map(|message| told(message)).collect();
    assert_eq!(all, [expected("u", "Running"), expected("v", "Pending")]);
    let get = |uid: &str| GetPodRequest { pod_uid: uid.to_owned() };
    assert_eq!(told(&client.get_pod(get("v")).await.unwrap().into_inner().pod), expected("v", "Pending"));
    let none = client.get_pod(get("w")).await.unwrap_err();
    assert_eq!((none.code(), none.message()), (Code::NotFound, "pod with UID w not found"));
}

#[tokio::test]
async fn a_watch_begins_with_all_and_ends_for_who_does_not_listen() {
    let (_dir, node, mut client, _stop) = start();
    *node.complete.lock() = true;
    let mut watch = client.watch_pods(WatchPodsRequest {}).await.unwrap().into_inner();
    let mut next = async || {
        let WatchPodsEvent { r#type, pod } = watch.message().await?.unwrap();
        let name = if pod.is_empty() { String::new() } else { read(&pod).name().to_owned() };
        Ok::<_, tonic::Status>((EventType::try_from(r#type).unwrap(), name))
    };
    assert_eq!(next().await.unwrap(), (EventType::Added, "u".to_owned()));
    assert_eq!(next().await.unwrap(), (EventType::Added, "v".to_owned()));
    assert_eq!(next().await.unwrap(), (EventType::InitialSyncComplete, String::new()));
    for (kind, expected) in [
        (Kind::Added, EventType::Added),
        (Kind::Modified, EventType::Modified),
        (Kind::Deleted, EventType::Deleted),
    ] {
        node.hub.tell(kind, || pod("w", "Running"));
        assert_eq!(next().await.unwrap(), (expected, "w".to_owned()));
    }
    // More at once than may wait.
    for _ in 0..200 {
        node.hub.tell(Kind::Modified, || pod("w", "Running"));
    }
    let lost = loop {
        if let Err(error) = next().await {
            break error;
        }
    };
    assert_eq!((lost.code(), lost.message()), (Code::ResourceExhausted, "watch client channel closed"));
}

#[test]
fn what_nobody_has_looked_at_is_not_ready() {
    let seen = view::current(&pod("u", "Running"), None).status.unwrap();
    let ready = &seen.conditions.unwrap()[0];
    assert_eq!((ready.status.as_str(), ready.reason.as_deref()), ("False", Some("ContainersNotReady")));
    assert_eq!(view::current(&pod("u", ""), None).status.unwrap().phase.as_deref(), Some("Pending"));
    let known = PodStatus { phase: Some("Failed".to_owned()), ..PodStatus::default() };
    assert_eq!(view::current(&pod("u", "Running"), Some(&known)).status, Some(known));
}

#[tokio::test]
async fn watchers_hear_of_statuses_and_pods() {
    let store = Arc::new(PodStore::default());
    let manager = StatusManager::new(None, store.clone());
    let mut watch = manager.hub.watch();
    let mut heard = || {
        let Event { kind, pod } = watch.try_recv().ok()?;
        let label = pod.metadata.labels.as_ref().map(|l| l["a"].clone());
        Some((kind, label, pod.status.clone().and_then(|s| s.phase)))
    };
    let some = |text: &str| Some(text.to_owned());
    let put = |change: Value| {
        let mut all = serde_json::to_value(pod("u", "Pending")).unwrap();
        all["metadata"].as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let pod: Arc<Pod> = Arc::new(serde_json::from_value(all).unwrap());
        store.set(pod.clone());
        pod
    };
    let first = put(json!({}));
    manager.changed(&first);
    assert_eq!(heard(), None, "nothing is known of it yet");
    let running = PodStatus { phase: some("Running"), ..PodStatus::default() };
    manager.set(&first, running.clone());
    assert_eq!(heard(), Some((Kind::Added, some("b"), some("Running"))));
    manager.set(&first, running.clone());
    assert_eq!(heard(), None);
    let second = put(json!({"labels": {"a": "c"}}));
    manager.changed(&second);
    assert_eq!(heard(), Some((Kind::Modified, some("c"), some("Running"))));
    // A status that somebody found out with an older version of the pod.
    manager.set(&first, PodStatus { message: some("m"), ..running.clone() });
    assert_eq!(heard(), Some((Kind::Modified, some("c"), some("Running"))));
    manager.terminate(&first);
    assert_eq!(heard(), Some((Kind::Deleted, None, None)));
    manager.terminate(&first);
    manager.changed(&second);
    manager.set(&second, running);
    assert_eq!(heard(), None);
    let labelled = put(json!({"labels": {"a": "d"}}));
    assert!(view::differs(&first, &labelled) && !view::differs(&first, &pod("u", "Failed")));
}
