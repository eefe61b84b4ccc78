//! The manager with a plugin of its own over real sockets.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use deviceplugin::v1beta1::device_plugin_server::{DevicePlugin, DevicePluginServer};
use deviceplugin::v1beta1::registration_client::RegistrationClient;
use deviceplugin::v1beta1::*;
use futures::Stream;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use serde_json::json;
use tokio::net::UnixListener;
use tokio::sync::{Notify, watch};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::manager::{Around, Capacity};
use super::registry::Registry;
use super::state::State;
use super::{DeviceManager, checkpoint, plugin};
use crate::pluginmanager::{DEVICE_PLUGIN, Handler, PluginInfo};
use crate::pod::view::PodView;

const RESOURCE: &str = "example.com/gpu";

/// A plugin whose devices are what the channel says; it prefers those that are last by name.
struct Fake {
    devices: watch::Receiver<Vec<Device>>,
    calls: Arc<Mutex<Vec<String>>>,
    stop: CancellationToken,
}

type Devices = Pin<Box<dyn Stream<Item = Result<ListAndWatchResponse, Status>> + Send>>;

#[tonic::async_trait]
impl DevicePlugin for Fake {
    type ListAndWatchStream = Devices;

    async fn get_device_plugin_options(
        &self,
        _: Request<Empty>,
    ) -> Result<Response<DevicePluginOptions>, Status> {
        let all = DevicePluginOptions { pre_start_required: true, get_preferred_allocation_available: true };
        Ok(Response::new(all))
    }

    async fn list_and_watch(&self, _: Request<Empty>) -> Result<Response<Devices>, Status> {
        let mut receiver = self.devices.clone();
        receiver.mark_changed();
        let next = |(mut receiver, stop): (watch::Receiver<Vec<Device>>, CancellationToken)| async move {
            tokio::select! {
                changed = receiver.changed() => changed.ok()?,
                () = stop.cancelled() => return None,
            }
            let devices = receiver.borrow_and_update().clone();
            Some((Ok(ListAndWatchResponse { devices }), (receiver, stop)))
        };
        Ok(Response::new(Box::pin(futures::stream::unfold((receiver, self.stop.clone()), next))))
    }

    async fn get_preferred_allocation(
        &self,
        request: Request<PreferredAllocationRequest>,
    ) -> Result<Response<PreferredAllocationResponse>, Status> {
        let one = request.into_inner().container_requests.remove(0);
        let count = usize::try_from(one.allocation_size).unwrap();
        let devices_ids = one.available.into_iter().rev().take(count).collect();
        let answer = ContainerPreferredAllocationResponse { devices_ids };
        Ok(Response::new(PreferredAllocationResponse { container_responses: vec![answer] }))
    }

    async fn allocate(
        &self,
        request: Request<AllocateRequest>,
    ) -> Result<Response<AllocateResponse>, Status> {
        let ids = request.into_inner().container_requests.remove(0).devices_ids.join(",");
        self.calls.lock().push(format!("allocate {ids}"));
        let envs = [("GPU".to_owned(), ids)].into();
        let answer = ContainerAllocateResponse { envs, ..ContainerAllocateResponse::default() };
        Ok(Response::new(AllocateResponse { container_responses: vec![answer] }))
    }

    async fn pre_start_container(
        &self,
        request: Request<PreStartContainerRequest>,
    ) -> Result<Response<PreStartContainerResponse>, Status> {
        self.calls.lock().push(format!("start {}", request.into_inner().devices_ids.join(",")));
        Ok(Response::new(PreStartContainerResponse {}))
    }
}

fn devices(healthy: &str, sick: &str) -> Vec<Device> {
    let all = |ids: &str, health: &str| -> Vec<Device> {
        let one = |id: &str| Device { id: id.to_owned(), health: health.to_owned(), topology: None };
        ids.split_whitespace().map(one).collect()
    };
    [all(healthy, "Healthy"), all(sick, "Unhealthy")].concat()
}

fn pod(uid: &str) -> Pod {
    let limits = json!({"limits": {RESOURCE: "1"}});
    let containers = json!([{"name": "c", "resources": limits}]);
    serde_json::from_value(json!({"metadata": {"uid": uid}, "spec": {"containers": containers}})).unwrap()
}

/// A kubelet, as far as the manager sees one.
struct Kubelet {
    manager: Arc<DeviceManager>,
    report: Arc<Notify>,
    changed: Arc<Mutex<Vec<String>>>,
    stop: CancellationToken,
}

impl Kubelet {
    fn start(folder: &Path, active: &'static [&'static str], running: &[&str]) -> Self {
        let manager = DeviceManager::new(folder, vec![0], Instant::now());
        let (report, stop) = (Arc::new(Notify::new()), CancellationToken::new());
        let changed = Arc::new(Mutex::new(Vec::new()));
        let told = changed.clone();
        let around = Around {
            active: Box::new(|| active.iter().map(|uid| (*uid).to_owned()).collect()),
            changed: Box::new(move |uid| told.lock().push(uid.to_owned())),
            report: report.clone(),
            running: running.iter().map(|uid| ((*uid).to_owned(), "c".to_owned())).collect::<HashSet<_>>(),
        };
        tokio::spawn(manager.start(around, stop.clone()).unwrap());
        Self { manager, report, changed, stop }
    }

    async fn admit(&self, uid: &str) -> Result<(), String> {
        self.admit_then(uid, || {}).await
    }

    /// The pod comes, then something happens, then it is its turn.
    async fn admit_then(&self, uid: &str, meanwhile: impl FnOnce()) -> Result<(), String> {
        let early = self.manager.is_early();
        meanwhile();
        let pod = pod(uid);
        let _turn = self.manager.turn().await;
        let result = self.manager.allocate(&pod, &pod.spec().containers[0], None, early).await;
        result.map_err(|rejection| format!("{}: {}", rejection.reason, rejection.message))
    }

    async fn env(&self, uid: &str) -> Result<String, String> {
        let pod = pod(uid);
        let settings = self.manager.settings(&pod, &pod.spec().containers[0]).await?;
        Ok(settings.envs.get("GPU").cloned().unwrap_or_default())
    }

    /// Waits until the node has so many devices, of which so many work.
    async fn until(&self, all: usize, healthy: usize) {
        let wanted = (Some(&all), Some(&healthy));
        loop {
            let now = self.manager.capacity(Instant::now());
            if (now.all.get(RESOURCE), now.healthy.get(RESOURCE)) == wanted {
                return;
            }
            self.report.notified().await;
        }
    }
}

/// Serves a plugin and registers it.
async fn register(folder: &Path, fake: Fake) -> Result<(), Status> {
    let listener = UnixListener::bind(folder.join("fake.sock")).unwrap();
    let stop = fake.stop.clone().cancelled_owned();
    let server = tonic::transport::Server::builder().add_service(DevicePluginServer::new(fake));
    tokio::spawn(server.serve_with_incoming_shutdown(UnixListenerStream::new(listener), stop));
    ask(folder, "v1beta1", RESOURCE).await
}

async fn ask(folder: &Path, version: &str, resource: &str) -> Result<(), Status> {
    let address = format!("unix://{}", folder.join(plugin::SOCKET).display());
    let channel = tonic::transport::Endpoint::from_shared(address).unwrap().connect().await.unwrap();
    let request = RegisterRequest {
        version: version.to_owned(),
        endpoint: "fake.sock".to_owned(),
        resource_name: resource.to_owned(),
        options: None,
    };
    RegistrationClient::new(channel).register(request).await.map(drop)
}

#[tokio::test]
async fn from_registration_to_the_container_and_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, calls) = (dir.path(), Arc::new(Mutex::new(Vec::new())));
    let kubelet = Kubelet::start(folder, &["u", "v"], &[]);
    kubelet.manager.sources_ready();
    assert!(!kubelet.manager.is_asked_by(&pod("u")) && !kubelet.manager.has_file());
    let (offer, receiver) = watch::channel(devices("1 2 3", ""));
    let plugin_stop = CancellationToken::new();
    let fake = |stop: &CancellationToken| Fake {
        devices: receiver.clone(),
        calls: calls.clone(),
        stop: stop.clone(),
    };
    register(folder, fake(&plugin_stop)).await.unwrap();
    kubelet.until(3, 3).await;
    let twice = ask(folder, "v1beta1", RESOURCE).await.unwrap_err();
    assert!(twice.message().starts_with("device plugin already connected: "), "{twice}");

    assert!(kubelet.manager.is_asked_by(&pod("u")));
    kubelet.admit("u").await.unwrap();
    assert_eq!(kubelet.env("u").await.unwrap(), "3");
    assert_eq!(*calls.lock(), ["allocate 3", "start 3"]);
    kubelet.admit("v").await.unwrap();

    offer.send(devices("1 2", "3")).unwrap();
    kubelet.until(3, 2).await;
    assert_eq!(*kubelet.changed.lock(), ["u"]);
    let expected = "UnexpectedAdmissionError: Allocate failed due to previously allocated devices are no longer \
                    healthy; cannot allocate unhealthy devices example.com/gpu, which is unexpected";
    assert_eq!(kubelet.admit("u").await.unwrap_err(), expected);

    plugin_stop.cancel();
    kubelet.until(3, 0).await;
    let later = Instant::now() + plugin::GRACE + Duration::from_secs(1);
    kubelet.stop.cancel();

    // The next kubelet knows who has what, but of no devices until the plugin comes again.
    let next = Kubelet::start(folder, &["u"], &["u"]);
    next.until(0, 0).await;
    next.admit("u").await.unwrap();
    let expected = "UnexpectedAdmissionError: Allocate failed due to no healthy devices present; cannot allocate \
                    unhealthy devices example.com/gpu, which is unexpected";
    assert_eq!(next.admit("w").await.unwrap_err(), expected);
    assert!(!folder.join("fake.sock").exists());
    offer.send(devices("1 2 3", "")).unwrap();
    register(folder, fake(&CancellationToken::new())).await.unwrap();
    next.until(3, 3).await;
    assert_eq!(next.env("u").await.unwrap(), "3");
    next.manager.sources_ready();
    drop(next.manager.session());
    next.admit("w").await.unwrap();
    assert_eq!(next.env("w").await.unwrap(), "2", "what v had is free again");
    let file = std::fs::read_to_string(folder.join(checkpoint::FILE)).unwrap();
    let holders: BTreeSet<String> = checkpoint::read(&file).unwrap().pods.into_keys().collect();
    assert_eq!(holders, ["u".to_owned(), "w".to_owned()].into());
    let gone = Kubelet::start(folder, &[], &[]).manager.capacity(later);
    assert_eq!(gone, Capacity { removed: [RESOURCE.to_owned()].into(), ..Capacity::default() });
}

/// All pods may be known before it is the turn of the first.
#[tokio::test]
async fn who_ran_before_the_kubelet_keeps_its_devices() {
    let dir = tempfile::tempdir().unwrap();
    let mut before = State::default();
    before.offered(RESOURCE, Vec::new());
    before.give(("u", "c"), RESOURCE, &["3".to_owned()].into(), ContainerAllocateResponse::default());
    std::fs::write(dir.path().join(checkpoint::FILE), checkpoint::write(&before)).unwrap();
    let kubelet = Kubelet::start(dir.path(), &["u"], &["u"]);
    kubelet.admit_then("u", || kubelet.manager.sources_ready()).await.unwrap();
    let late = kubelet.admit("u").await.unwrap_err();
    assert!(late.contains("no healthy devices present"), "{late}");
}

#[tokio::test]
async fn refuses_what_is_no_plugin() {
    let dir = tempfile::tempdir().unwrap();
    let _kubelet = Kubelet::start(dir.path(), &[], &[]);
    let old = ask(dir.path(), "v1alpha", RESOURCE).await.unwrap_err();
    let expected =
        "requested API version \"v1alpha\" is not supported by kubelet. Supported version is [\"v1beta1\"]";
    assert_eq!((old.code(), old.message()), (tonic::Code::Unknown, expected));
    let native = ask(dir.path(), "v1beta1", "cpu").await.unwrap_err();
    assert_eq!(native.message(), "the ResourceName \"cpu\" is invalid");
}

#[tokio::test]
async fn registers_by_a_socket_of_its_own() {
    let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let kubelet = Kubelet::start(dir.path(), &[], &[]);
    let (_offer, receiver) = watch::channel(devices("1 2", "3"));
    let socket = elsewhere.path().join("a.sock");
    let fake = Fake { devices: receiver, calls: Arc::default(), stop: CancellationToken::new() };
    let server = tonic::transport::Server::builder().add_service(DevicePluginServer::new(fake));
    let listener = UnixListener::bind(&socket).unwrap();
    tokio::spawn(server.serve_with_incoming(UnixListenerStream::new(listener)));
    let plugin = |name: &str, version: &str| PluginInfo {
        kind: DEVICE_PLUGIN.to_owned(),
        name: name.to_owned(),
        endpoint: socket.clone(),
        versions: vec!["v0".to_owned(), version.to_owned()],
    };
    let registry = Registry::new(kubelet.manager.clone(), kubelet.stop.clone());
    let old = registry.validate(&plugin(RESOURCE, "v1")).unwrap_err();
    assert_eq!(old, "manager version, v1beta1, is not among plugin supported versions [v0 v1]");
    let native = registry.validate(&plugin("cpu", "v1beta1")).unwrap_err();
    assert_eq!(native, "invalid name of device plugin socket: the ResourceName \"cpu\" is invalid");
    let good = plugin(RESOURCE, "v1beta1");
    registry.validate(&good).unwrap();
    registry.register(&good).await.unwrap();
    kubelet.until(3, 2).await;
    assert!(registry.register(&good).await.unwrap_err().starts_with("device plugin already connected: "));
    // It still runs, but is not heard any more.
    registry.deregister(&good);
    kubelet.until(3, 0).await;
    registry.register(&good).await.unwrap();
    kubelet.until(3, 2).await;
}
