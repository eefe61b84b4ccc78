//! The manager with drivers of its own over real sockets: what upstream's did in the same situations, and what only ours
//! has.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::{Container, Pod, ResourceStatus};
use k8s_openapi::api::resource::v1::ResourceClaim;
use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;
use pluginapi::dra::v1::dra_plugin_server::{DraPlugin, DraPluginServer};
use pluginapi::dra::v1::*;
use pluginapi::dra::v1beta1::dra_plugin_server::{DraPlugin as OldPlugin, DraPluginServer as OldServer};
use pluginapi::health::v1::*;
use pluginapi::health::v1alpha1::dra_resource_health_server::{
    DraResourceHealth as OldHealth, DraResourceHealthServer as OldHealthServer,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::drivers::Listener;
use super::manager::Api;
use super::resolve::Gates;
use super::{DraManager, checkpoint, health, wipe};
use crate::pluginmanager::{DRA_PLUGIN, PluginInfo};
use crate::pod::view::PodView;

/// An API server with claims by namespace and name. It tells which slices are deleted.
#[derive(Default)]
struct FakeApi {
    claims: Mutex<BTreeMap<String, ResourceClaim>>,
    deleted: Option<mpsc::UnboundedSender<String>>,
}

#[async_trait]
impl Api for FakeApi {
    async fn claim(&self, namespace: &str, name: &str) -> Result<ResourceClaim, String> {
        let found = self.claims.lock().get(&format!("{namespace}/{name}")).cloned();
        found.ok_or_else(|| format!("resourceclaims.resource.k8s.io \"{name}\" not found"))
    }

    async fn delete_slices(&self, driver: Option<&str>) -> Result<(), String> {
        if let Some(deleted) = &self.deleted {
            deleted.send(wipe::selector("node", driver)).unwrap();
        }
        Ok(())
    }
}

/// What a driver answers, as the stories have it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Does {
    name: String,
    versions: Vec<String>,
    prepare: BTreeMap<String, Answer>,
    unprepare: BTreeMap<String, Answer>,
    fails: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Answer {
    devices: Vec<Made>,
    error: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Made {
    requests: Vec<String>,
    pool: String,
    device: String,
    cdi: Vec<String>,
    share: Option<String>,
}

impl From<Made> for Device {
    fn from(made: Made) -> Self {
        Self {
            request_names: made.requests,
            pool_name: made.pool,
            device_name: made.device,
            cdi_device_ids: made.cdi,
            share_id: made.share,
        }
    }
}

#[derive(Default)]
struct Inner {
    does: Does,
    calls: Vec<String>,
}

#[derive(Clone, Default)]
struct Fake(Arc<Mutex<Inner>>);

impl Fake {
    fn note(&self, version: &str, operation: &str, claims: &[Claim]) -> Result<Does, Status> {
        let mut inner = self.0.lock();
        let mut names: Vec<String> =
            claims.iter().map(|c| format!("{}/{}={}", c.namespace, c.name, c.uid)).collect();
        names.sort();
        let call = format!("{} {version} {operation} {}", inner.does.name, names.join(" "));
        inner.calls.push(call);
        let does = inner.does.clone();
        if does.fails.is_empty() { Ok(does) } else { Err(Status::internal(does.fails)) }
    }

    fn prepare(
        &self,
        version: &str,
        request: Request<NodePrepareResourcesRequest>,
    ) -> Result<Response<NodePrepareResourcesResponse>, Status> {
        let asked = request.into_inner().claims;
        let does = self.note(version, "prepare", &asked)?;
        let one = |answer: Answer| NodePrepareResourceResponse {
            devices: answer.devices.into_iter().map(Into::into).collect(),
            error: answer.error,
        };
        let claims = wanted(does.prepare, &asked).map(|(uid, answer)| (uid, one(answer))).collect();
        Ok(Response::new(NodePrepareResourcesResponse { claims }))
    }

    fn unprepare(
        &self,
        version: &str,
        request: Request<NodeUnprepareResourcesRequest>,
    ) -> Result<Response<NodeUnprepareResourcesResponse>, Status> {
        let asked = request.into_inner().claims;
        let does = self.note(version, "unprepare", &asked)?;
        let one = |answer: Answer| NodeUnprepareResourceResponse { error: answer.error };
        let claims = wanted(does.unprepare, &asked).map(|(uid, answer)| (uid, one(answer))).collect();
        Ok(Response::new(NodeUnprepareResourcesResponse { claims }))
    }

    fn serve(&self, socket: &Path) -> CancellationToken {
        let stop = CancellationToken::new();
        let listener = UnixListener::bind(socket).unwrap();
        let server = tonic::transport::Server::builder()
            .add_service(DraPluginServer::new(self.clone()))
            .add_service(OldServer::new(self.clone()));
        let end = stop.clone().cancelled_owned();
        tokio::spawn(server.serve_with_incoming_shutdown(UnixListenerStream::new(listener), end));
        stop
    }
}

/// Answers about claims that were asked for, and those that come anyway.
fn wanted(all: BTreeMap<String, Answer>, asked: &[Claim]) -> impl Iterator<Item = (String, Answer)> {
    all.into_iter().filter_map(move |(uid, answer)| match uid.strip_prefix('!') {
        Some(rest) => Some((rest.to_owned(), answer)),
        None => asked.iter().any(|claim| claim.uid == uid).then_some((uid, answer)),
    })
}

#[tonic::async_trait]
impl DraPlugin for Fake {
    async fn node_prepare_resources(
        &self,
        request: Request<NodePrepareResourcesRequest>,
    ) -> Result<Response<NodePrepareResourcesResponse>, Status> {
        self.prepare("v1", request)
    }

    async fn node_unprepare_resources(
        &self,
        request: Request<NodeUnprepareResourcesRequest>,
    ) -> Result<Response<NodeUnprepareResourcesResponse>, Status> {
        self.unprepare("v1", request)
    }
}

#[tonic::async_trait]
impl OldPlugin for Fake {
    async fn node_prepare_resources(
        &self,
        request: Request<NodePrepareResourcesRequest>,
    ) -> Result<Response<NodePrepareResourcesResponse>, Status> {
        self.prepare("v1beta1", request)
    }

    async fn node_unprepare_resources(
        &self,
        request: Request<NodeUnprepareResourcesRequest>,
    ) -> Result<Response<NodeUnprepareResourcesResponse>, Status> {
        self.unprepare("v1beta1", request)
    }
}

#[derive(Deserialize)]
struct Story {
    name: String,
    #[serde(default)]
    gates: String,
    steps: Vec<Step>,
}

/// Something that happens, and what came of it with upstream's manager.
#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
struct Outcome {
    error: String,
    calls: Vec<String>,
    cdi: Vec<String>,
    infos: Vec<String>,
    told: Vec<String>,
    status: Vec<ResourceStatus>,
    healths: Value,
    might: bool,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Step {
    op: String,
    driver: Does,
    claim: Option<ResourceClaim>,
    pod: Option<Pod>,
    container: String,
    active: BTreeSet<String>,
    report: Vec<Reported>,
    file: String,
    kept: Value,
    #[serde(flatten)]
    outcome: Outcome,
}

/// How a driver says that a device is.
#[derive(Clone, Deserialize)]
struct Reported {
    pool: String,
    device: String,
    health: String,
    #[serde(default)]
    timeout: i64,
    #[serde(default)]
    message: String,
}

impl From<Reported> for DeviceHealth {
    fn from(said: Reported) -> Self {
        Self {
            device: Some(DeviceIdentifier { pool_name: said.pool, device_name: said.device }),
            health: HealthStatus::from_str_name(&said.health).unwrap().into(),
            health_check_timeout_seconds: said.timeout,
            message: said.message,
            ..Self::default()
        }
    }
}

/// A node.
struct World {
    dir: PathBuf,
    api: Arc<FakeApi>,
    gates: Gates,
    manager: Arc<DraManager>,
    drivers: BTreeMap<String, Fake>,
    told: Arc<Mutex<Vec<String>>>,
}

impl World {
    fn new(dir: &Path, gates: Gates) -> Self {
        let api = Arc::new(FakeApi::default());
        let manager = manager(dir, &api, gates, wipe::DELAY);
        let told = Arc::new(Mutex::new(Vec::new()));
        let to = told.clone();
        manager.tell(move |uid| to.lock().push(uid.to_owned()));
        Self { dir: dir.to_owned(), api, gates, manager, drivers: BTreeMap::new(), told }
    }

    fn plugin(&self, does: &Does) -> PluginInfo {
        PluginInfo {
            kind: DRA_PLUGIN.to_owned(),
            name: does.name.clone(),
            endpoint: self.dir.join(format!("{}.sock", does.name)),
            versions: does.versions.clone(),
        }
    }

    async fn run(&mut self, step: &Step, outcome: &mut Outcome) -> Result<(), String> {
        let none = Pod::default();
        let pod = step.pod.as_ref().unwrap_or(&none);
        let other = Container::default();
        let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
        let container = containers.into_iter().find(|c| c.name == step.container).unwrap_or(&other);
        match step.op.as_str() {
            "register" => {
                let plugin = self.plugin(&step.driver);
                if !self.drivers.contains_key(&step.driver.name) {
                    let fake = Fake::default();
                    fake.0.lock().does = step.driver.clone();
                    fake.serve(&plugin.endpoint);
                    self.drivers.insert(step.driver.name.clone(), fake);
                }
                self.manager.registry().register(&plugin).await?;
            }
            "driver" => self.drivers[&step.driver.name].0.lock().does = step.driver.clone(),
            "gone" => self.manager.registry().deregister(&self.plugin(&step.driver)),
            "claim" => {
                let claim = step.claim.clone().unwrap();
                let key = format!("n/{}", claim.metadata.name.as_deref().unwrap());
                self.api.claims.lock().insert(key, claim);
            }
            "prepare" => self.manager.prepare(pod).await?,
            "unprepare" => self.manager.unprepare(pod).await?,
            "resources" => {
                let devices = self.manager.devices(pod, container)?;
                outcome.cdi = devices.into_iter().map(|device| device.name).collect();
            }
            "infos" => {
                let claims = self.manager.claims_of(pod, container)?;
                outcome.infos = claims.into_iter().map(|c| format!("{}/{}", c.namespace, c.name)).collect();
            }
            "report" => {
                let devices = step.report.iter().cloned().map(Into::into).collect();
                self.manager.health.report(&step.driver.name, NodeWatchResourcesResponse { devices });
            }
            "silent" => self.manager.health.silent(&step.driver.name),
            "status" => {
                let mut status = pod.status.clone().unwrap();
                self.manager.show_health(pod, &mut status, Timestamp::now());
                let first = status.container_statuses.unwrap().remove(0);
                outcome.status = first.allocated_resources_status.unwrap_or_default();
                outcome.status.sort_by(|a, b| a.name.cmp(&b.name));
            }
            "restart" => self.manager = manager(&self.dir, &self.api, self.gates, wipe::DELAY),
            "reconcile" => self.manager.reconcile(&step.active).await,
            other => panic!("unknown {other}"),
        }
        Ok(())
    }

    /// What is kept of devices' health, without the times; nothing if it is nothing.
    fn healths(&self) -> Value {
        let text = std::fs::read_to_string(self.dir.join(health::FILE)).unwrap_or_else(|_| "{}".to_owned());
        let mut all: Value = serde_json::from_str(&text).unwrap();
        for driver in all.as_object_mut().unwrap().values_mut() {
            for device in driver["Devices"].as_object_mut().unwrap().values_mut() {
                device.as_object_mut().unwrap().remove("LastUpdated").unwrap();
            }
        }
        if all == json!({}) { Value::Null } else { all }
    }
}

fn manager(dir: &Path, api: &Arc<FakeApi>, gates: Gates, delay: Duration) -> Arc<DraManager> {
    DraManager::new(dir, Some(api.clone()), gates, delay, CancellationToken::new()).unwrap()
}

/// Stories that upstream's manager was told, recorded by `e2e/oracle/dra`.
#[tokio::test]
async fn does_what_upstreams_does() {
    let mut same_files = 0;
    for line in include_str!("testdata/stories.jsonl").lines() {
        let story: Story = serde_json::from_str(line).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let gates = Gates {
            groups: story.gates.contains("DRAWorkloadResourceClaims"),
            optional: story.gates.contains("DRAOptionalNodeOperations"),
            health: true,
            messages: true,
        };
        let mut world = World::new(dir.path(), gates);
        for (index, step) in story.steps.iter().enumerate() {
            let mut outcome = Outcome::default();
            if let Err(error) = world.run(step, &mut outcome).await {
                outcome.error = error.replace(&dir.path().display().to_string(), "DIR");
            }
            for fake in world.drivers.values() {
                outcome.calls.append(&mut fake.0.lock().calls);
            }
            outcome.told.append(&mut world.told.lock());
            outcome.healths = world.healths();
            outcome.might = step.pod.as_ref().is_some_and(|pod| world.manager.has_pod(pod.uid()));
            let at = format!("{}, step {index}: {}", story.name, step.op);
            assert_eq!(outcome, step.outcome, "{at}");
            let file = std::fs::read_to_string(dir.path().join(checkpoint::FILE)).unwrap();
            let ours: Value = serde_json::from_str(&file).unwrap();
            let ours: Value = serde_json::from_str(ours["Data"].as_str().unwrap()).unwrap();
            let kept = step.kept.as_array().cloned().unwrap_or_default();
            assert_eq!(ours["ClaimInfoStateList"], Value::Array(kept), "{at}");
            // Of several claims upstream leaves the order to chance.
            if step.kept.as_array().is_some_and(|all| all.len() == 1) {
                assert_eq!(file, step.file, "{at}");
                same_files += 1;
            }
        }
    }
    assert!(same_files > 50, "{same_files}");
}

/// What comes next; nothing takes that long.
async fn next(from: &mut mpsc::UnboundedReceiver<String>) -> String {
    tokio::time::timeout(Duration::from_secs(20), from.recv()).await.expect("nothing came").unwrap()
}

fn plugin(name: &str, endpoint: &Path) -> PluginInfo {
    let versions = vec!["v1.DRAPlugin".to_owned()];
    PluginInfo { kind: DRA_PLUGIN.to_owned(), name: name.to_owned(), endpoint: endpoint.to_owned(), versions }
}

#[tokio::test]
async fn what_a_driver_offers_goes_when_it_stays_away() {
    let dir = tempfile::tempdir().unwrap();
    let (sender, mut deleted) = mpsc::unbounded_channel();
    let api = Arc::new(FakeApi { deleted: Some(sender), ..FakeApi::default() });
    let manager = manager(dir.path(), &api, Gates::default(), Duration::from_millis(100));
    let stop = CancellationToken::new();
    let running = tokio::spawn(manager.clone().run(BTreeSet::new, stop.clone()));
    assert_eq!(next(&mut deleted).await, "spec.nodeName=node", "nobody has come yet");
    let (socket, fake) = (dir.path().join("d.sock"), Fake::default());
    let serving = fake.serve(&socket);
    let registry = manager.registry();
    registry.register(&plugin("d", &socket)).await.unwrap();
    // Its process ends without a word; another one that never listened is away from the start.
    registry.register(&plugin("e", &dir.path().join("e.sock"))).await.unwrap();
    assert_eq!(next(&mut deleted).await, "spec.driver=e,spec.nodeName=node");
    serving.cancel();
    assert_eq!(next(&mut deleted).await, "spec.driver=d,spec.nodeName=node");
    // It comes back, and is connected without being called; then it deregisters.
    std::fs::remove_file(&socket).unwrap();
    let _again = fake.serve(&socket);
    registry.deregister(&plugin("d", &socket));
    registry.register(&plugin("d", &socket)).await.unwrap();
    let driver = loop {
        let driver = manager.drivers.get("d").unwrap();
        if driver.is_connected() {
            break driver;
        }
        tokio::task::yield_now().await;
    };
    assert!(driver.prepare(Vec::new()).await.unwrap().is_empty());
    registry.deregister(&plugin("d", &socket));
    assert_eq!(next(&mut deleted).await, "spec.driver=d,spec.nodeName=node");
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn calls_reach_a_driver_that_just_came_back() {
    let dir = tempfile::tempdir().unwrap();
    let manager = manager(dir.path(), &Arc::default(), Gates::default(), wipe::DELAY);
    let socket = dir.path().join("d.sock");
    manager.registry().register(&plugin("d", &socket)).await.unwrap();
    let driver = manager.drivers.get("d").unwrap();
    let error = driver.prepare(Vec::new()).await.unwrap_err();
    let expected = format!(
        "rpc error: code = Unavailable desc = connection error: desc = \"transport: Error while dialing: dial unix {}: connect: ",
        socket.display()
    );
    assert!(error.starts_with(&expected), "{error}");
    let _serving = Fake::default().serve(&socket);
    driver.prepare(Vec::new()).await.unwrap();
}

type Reports = Pin<Box<dyn Stream<Item = Result<NodeWatchResourcesResponse, Status>> + Send>>;

/// Says once that device `x` is as it should be, and then nothing more.
struct Teller;

#[tonic::async_trait]
impl OldHealth for Teller {
    type NodeWatchResourcesStream = Reports;

    async fn node_watch_resources(
        &self,
        _: Request<NodeWatchResourcesRequest>,
    ) -> Result<Response<Reports>, Status> {
        let (pool, device, health) = ("pool".to_owned(), "x".to_owned(), "HEALTHY".to_owned());
        let said = Reported { pool, device, health, timeout: 0, message: "fine".to_owned() };
        let once =
            futures::stream::once(async { Ok(NodeWatchResourcesResponse { devices: vec![said.into()] }) });
        Ok(Response::new(Box::pin(once.chain(futures::stream::pending()))))
    }
}

#[tokio::test]
async fn hears_how_devices_are() {
    let dir = tempfile::tempdir().unwrap();
    let api = Arc::new(FakeApi::default());
    let claim = json!({"metadata": {"namespace": "n", "name": "a", "uid": "ua"}, "spec": {}, "status": {
        "reservedFor": [{"resource": "pods", "name": "p", "uid": "p"}],
        "allocation": {"devices": {"results": [{"driver": "d", "pool": "pool", "device": "x", "request": "r"}]}}}});
    api.claims.lock().insert("n/a".to_owned(), serde_json::from_value(claim).unwrap());
    let pod: Pod = serde_json::from_value(json!({"metadata": {"namespace": "n", "name": "p", "uid": "p"},
        "spec": {"resourceClaims": [{"name": "my", "resourceClaimName": "a"}],
            "containers": [{"name": "c", "resources": {"claims": [{"name": "my"}]}}]},
        "status": {"containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": true, "restartCount": 0}]}}))
    .unwrap();
    let gates = Gates { health: true, ..Gates::default() };
    let manager = manager(dir.path(), &api, gates, wipe::DELAY);
    let (sender, mut told) = mpsc::unbounded_channel();
    manager.tell(move |uid| sender.send(uid.to_owned()).unwrap());
    let made = Made { pool: "pool".to_owned(), device: "x".to_owned(), ..Made::default() };
    let fake = Fake::default();
    let answer = Answer { devices: vec![made], ..Answer::default() };
    fake.0.lock().does.prepare.insert("ua".to_owned(), answer);
    let socket = dir.path().join("d.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let server = tonic::transport::Server::builder()
        .add_service(DraPluginServer::new(fake))
        .add_service(OldHealthServer::new(Teller));
    let mut info = plugin("d", &socket);
    info.versions.push("v1alpha1.DRAResourceHealth".to_owned());
    tokio::spawn(server.serve_with_incoming(UnixListenerStream::new(listener)));
    // What it says before anybody uses the device changes no pod, so it is prepared first.
    manager.registry().register(&plugin("d", &socket)).await.unwrap();
    manager.prepare(&pod).await.unwrap();
    manager.registry().deregister(&info);
    manager.registry().register(&info).await.unwrap();
    assert_eq!(next(&mut told).await, "p");
    let mut status = pod.status.clone().unwrap();
    manager.show_health(&pod, &mut status, Timestamp::now());
    let shown =
        serde_json::to_value(&status.container_statuses.unwrap()[0].allocated_resources_status).unwrap();
    let expected =
        json!([{"name": "claim:my", "resources": [{"resourceID": "d/pool/x", "health": "Healthy"}]}]);
    assert_eq!(shown, expected);
}

#[test]
fn a_damaged_file_ends_the_start() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(checkpoint::FILE), "{\"Data\":\"x\",\"Checksum\":1}").unwrap();
    let made = DraManager::new(dir.path(), None, Gates::default(), wipe::DELAY, CancellationToken::new());
    let expected = "create ResourceClaim cache: GetOrCreate() on checkpoint state: failed to get checkpoint dra_manager_state: checkpoint is corrupted";
    assert_eq!(made.err().unwrap(), expected);
}
