//! Has claims prepared before a pod starts and taken back once it has stopped. Upstream: manager.go.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use client::{Client, DeleteParams, ListParams};
use component::metrics::default_registry;
use cri::v1;
use informer::Store;
use k8s_openapi::api::core::v1::{Container, Node, Pod, PodStatus};
use k8s_openapi::api::resource::v1::{ResourceClaim, ResourceSlice};
use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;
use pluginapi::health::v1::NodeWatchResourcesResponse;
use tokio_util::sync::CancellationToken;

use super::checkpoint;
use super::claims::{ClaimInfo, Claims, Plan, unknown, unprepared};
use super::drivers::{Driver, Drivers, Listener, Registry};
use super::health::{self, HealthStore};
use super::resolve::{self, Gates};
use super::wipe::{Wiper, selector};
use crate::cpumanager::checkpoint::replace;
use crate::metrics::dra as metrics;
use crate::pluginmanager::Handler;
use crate::pod::view::PodView;

/// What pods left behind is looked for so often, as upstream.
const RECONCILE: Duration = Duration::from_secs(60);

/// What is needed of the API server.
#[async_trait]
pub trait Api: Send + Sync {
    /// A claim.
    async fn claim(&self, namespace: &str, name: &str) -> Result<ResourceClaim, String>;
    /// Deletes what a driver, or all of them, offer on this node.
    async fn delete_slices(&self, driver: Option<&str>) -> Result<(), String>;
}

/// The API server of a cluster, as this node sees it.
pub struct Cluster {
    /// The client.
    pub client: Client,
    /// The node's own object.
    pub node: Store<Node>,
}

#[async_trait]
impl Api for Cluster {
    async fn claim(&self, namespace: &str, name: &str) -> Result<ResourceClaim, String> {
        self.client.namespaced::<ResourceClaim>(namespace).get(name).await.map_err(|e| e.to_string())
    }

    async fn delete_slices(&self, driver: Option<&str>) -> Result<(), String> {
        let node = self.node.list().into_iter().next().ok_or("the node is not known yet")?;
        let which = ListParams::fields(&selector(node.metadata.name.as_deref().unwrap_or_default(), driver));
        match self.client.all::<ResourceSlice>().delete_collection(&DeleteParams::default(), &which).await {
            Err(error) if !error.is_not_found() => Err(error.to_string()),
            _ => Ok(()),
        }
    }
}

/// Called with a pod.
type Changed = Box<dyn Fn(&str) + Send + Sync>;

/// Hears how devices are.
pub(super) struct Ear {
    store: HealthStore,
    claims: Arc<Mutex<Claims>>,
    /// Called with pods whose devices are no longer as they were.
    changed: OnceLock<Changed>,
}

impl Listener for Ear {
    fn report(&self, driver: &str, report: NodeWatchResourcesResponse) {
        let devices = self.store.report(driver, report);
        let users = health::users(&self.claims.lock(), driver, &devices);
        if let Some(changed) = self.changed.get() {
            users.iter().for_each(|uid| changed(uid));
        }
    }

    fn silent(&self, driver: &str) {
        self.store.clear(driver);
    }
}

/// All claims of the node's pods, and their drivers.
pub struct DraManager {
    file: PathBuf,
    claims: Arc<Mutex<Claims>>,
    pub(super) health: Arc<Ear>,
    api: Option<Arc<dyn Api>>,
    pub(super) drivers: Arc<Drivers>,
    wiper: Arc<Wiper>,
    gates: Gates,
    /// All pods are known: what others hold is taken back only then.
    complete: AtomicBool,
}

impl DraManager {
    /// Reads what was prepared before, from the file in `root`. A driver may be away for `delay`.
    ///
    /// # Errors
    /// If the file is damaged: nobody knows then what is in use.
    pub fn new(
        root: &Path,
        api: Option<Arc<dyn Api>>,
        gates: Gates,
        delay: Duration,
        stop: CancellationToken,
    ) -> Result<Arc<Self>, String> {
        let file = root.join(checkpoint::FILE);
        let failed = |e: String| {
            let name = checkpoint::FILE;
            format!(
                "create ResourceClaim cache: GetOrCreate() on checkpoint state: failed to get checkpoint {name}: {e}"
            )
        };
        let claims = match std::fs::read(&file) {
            Ok(bytes) => checkpoint::read(&String::from_utf8_lossy(&bytes)).map_err(failed)?,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let empty = Claims::default();
                replace(&file, &checkpoint::write(&empty)).map_err(|e| failed(e.to_string()))?;
                empty
            }
            Err(error) => return Err(failed(error.to_string())),
        };
        let wiper = Wiper::new(api.clone(), delay, stop.clone());
        let claims = Arc::new(Mutex::new(claims));
        let store = HealthStore::new(root);
        let health = Arc::new(Ear { store, claims: claims.clone(), changed: OnceLock::new() });
        let listener = gates.health.then(|| health.clone() as Arc<dyn Listener>);
        Ok(Arc::new(Self {
            file,
            claims,
            health,
            api,
            drivers: Drivers::new(wiper.clone(), listener, stop),
            wiper,
            gates,
            complete: AtomicBool::new(false),
        }))
    }

    /// Takes drivers that register.
    pub fn registry(&self) -> Arc<dyn Handler> {
        Arc::new(Registry(self.drivers.clone()))
    }

    /// Shows how many claims are in use, for the rest of the process.
    pub fn show(self: &Arc<Self>) {
        let this = self.clone();
        default_registry().register_collector(Arc::new(move |out: &mut Vec<_>| {
            let claims = this.claims.lock();
            let (all, by_driver) = claims.in_use();
            out.push(metrics::in_use(all, &by_driver));
        }));
    }

    /// Calls `changed` with pods whose devices are no longer as they were, for the rest of the process.
    pub fn tell(&self, changed: impl Fn(&str) + Send + Sync + 'static) {
        let _ = self.health.changed.set(Box::new(changed));
    }

    /// Says of a pod's containers how their claimed devices are.
    pub fn show_health(&self, pod: &Pod, status: &mut PodStatus, now: Timestamp) {
        let healths = self.health.store.get();
        health::show(pod, status, &self.claims.lock(), &healths, self.gates.messages, now);
    }

    /// All sources of pods have spoken: what other pods hold is taken back from now on.
    pub fn sources_ready(&self) {
        self.complete.store(true, Ordering::Release);
    }

    /// Works until `stop`; `active` tells the uids of pods that count.
    pub async fn run(
        self: Arc<Self>,
        active: impl Fn() -> BTreeSet<String> + Send + Sync,
        stop: CancellationToken,
    ) {
        let reconcile = async {
            let mut tick = tokio::time::interval(RECONCILE);
            loop {
                tick.tick().await;
                if self.complete.load(Ordering::Acquire) {
                    self.reconcile(&active()).await;
                }
            }
        };
        stop.run_until_cancelled(async { tokio::join!(self.wiper.wipe(None), reconcile) }).await;
    }

    fn store(&self, claims: &Claims, what: &str) -> Result<(), String> {
        replace(&self.file, &checkpoint::write(claims)).map_err(|e| {
            format!("checkpoint ResourceClaim {what}: could not save checkpoint {}: {e}", checkpoint::FILE)
        })
    }

    /// Has a pod's claims prepared. All of them are checked before anything is noted: a pod whose driver never was on this
    /// node can be deleted then.
    ///
    /// # Errors
    /// Why the pod cannot start.
    pub async fn prepare(&self, pod: &Pod) -> Result<(), String> {
        let begin = Instant::now();
        let result = self.prepare_all(pod).await;
        metrics::operated("PrepareResources", result.is_err(), begin.elapsed());
        result.map_err(|e| format!("prepare dynamic resources: {e}"))
    }

    async fn prepare_all(&self, pod: &Pod) -> Result<(), String> {
        let (mut found, mut drivers) = (Vec::new(), BTreeMap::new());
        for name in resolve::names(pod) {
            found.push(self.check(pod, &name?, &mut drivers).await?);
        }
        if found.is_empty() {
            return Ok(());
        }
        let plan = {
            let mut claims = self.claims.lock();
            let plan = claims.attach(pod.uid(), found);
            // Before any driver is called, so that what it begins is taken back even after a crash.
            self.store(&claims, "cache")?;
            plan?
        };
        plan.skipped.iter().for_each(|driver| metrics::prepare_skipped(driver));
        for (name, asked) in &plan.asks {
            let driver = match drivers.remove(name) {
                Some(driver) => driver,
                // The cached claim may have other drivers than the one on the API server.
                None => self.drivers.get(name)?,
            };
            let answers =
                driver.prepare(asked.clone()).await.map_err(|e| format!("NodePrepareResources: {e}"))?;
            self.claims.lock().prepared_by(name, asked, answers)?;
        }
        let mut claims = self.claims.lock();
        claims.set_prepared(pod.namespace(), &plan.claims)?;
        self.store(&claims, "state")
    }

    /// Reads one claim; it must be the pod's, allocated, and its drivers must be there, even if it is prepared already.
    async fn check(
        &self,
        pod: &Pod,
        name: &resolve::Name,
        drivers: &mut BTreeMap<String, Arc<Driver>>,
    ) -> Result<ClaimInfo, String> {
        let resolve::Name { name, made } = name;
        let api = self.api.as_ref().ok_or_else(|| format!("fetch ResourceClaim {name}: no API server"))?;
        let claim =
            api.claim(pod.namespace(), name).await.map_err(|e| format!("fetch ResourceClaim {name}: {e}"))?;
        if *made {
            resolve::is_for(pod, &claim, self.gates)?;
        }
        let uid = claim.metadata.uid.as_deref().unwrap_or_default();
        if !resolve::is_reserved_for(pod, &claim, self.gates) {
            let (pod_name, pod_uid) = (pod.name(), pod.uid());
            return Err(format!(
                "pod {pod_name} ({pod_uid}) is not allowed to use ResourceClaim {name} ({uid})"
            ));
        }
        let info = resolve::info(&claim, self.gates).map_err(|e| format!("ResourceClaim {name}: {e}"))?;
        for (driver, _) in info.drivers.iter().filter(|(_, state)| state.prepares()) {
            drivers.insert(driver.clone(), self.drivers.get(driver)?);
        }
        Ok(info)
    }

    /// Has the claims of a stopped pod taken back, except those that others use. It may be called again and again.
    ///
    /// # Errors
    /// If a driver did not do it.
    pub async fn unprepare(&self, pod: &Pod) -> Result<(), String> {
        let begin = Instant::now();
        let result = self.unprepare_all(pod).await;
        metrics::operated("UnprepareResources", result.is_err(), begin.elapsed());
        result.map_err(|e| format!("unprepare dynamic resources: {e}"))
    }

    async fn unprepare_all(&self, pod: &Pod) -> Result<(), String> {
        let mut names = self.claims.lock().of_pod(pod.uid());
        if names.is_empty() {
            for name in resolve::names(pod) {
                names.push(name?.name);
            }
        }
        self.unprepare_claims(pod.uid(), pod.namespace(), &names).await
    }

    async fn unprepare_claims(&self, uid: &str, namespace: &str, names: &[String]) -> Result<(), String> {
        if names.is_empty() {
            return Ok(());
        }
        let Plan { asks, skipped, claims: done } = self.claims.lock().detach(uid, namespace, names);
        skipped.iter().for_each(|driver| metrics::unprepare_skipped(driver));
        for (name, asked) in &asks {
            let driver = self.drivers.get(name)?;
            let answers =
                driver.unprepare(asked.clone()).await.map_err(|e| format!("NodeUnprepareResources: {e}"))?;
            unprepared(asked, &answers)?;
        }
        let mut claims = self.claims.lock();
        claims.remove(namespace, &done);
        self.store(&claims, "state")
    }

    /// Takes back what pods hold that are not among `active`.
    pub async fn reconcile(&self, active: &BTreeSet<String>) {
        let left = self.claims.lock().left_behind(active);
        for (uid, namespace, names) in left {
            if let Err(error) = self.unprepare_claims(&uid, &namespace, &names).await {
                tracing::info!(
                    pod_uid = uid,
                    error,
                    "Unpreparing pod resources in reconcile loop failed, will retry"
                );
            }
        }
    }

    /// True if something of a pod is still to be taken back.
    pub fn has_pod(&self, uid: &str) -> bool {
        self.claims.lock().has_pod(uid)
    }

    /// Devices that a container gets.
    ///
    /// # Errors
    /// If one of its claims is not prepared.
    pub fn devices(&self, pod: &Pod, container: &Container) -> Result<Vec<v1::CdiDevice>, String> {
        let mut out = Vec::new();
        let uses = resolve::uses(pod, container)?;
        let claims = self.claims.lock();
        for (name, requests) in uses {
            let namespace = pod.namespace();
            let info = claims.get(namespace, &name).ok_or_else(|| unknown(namespace, &name))?;
            let names = requests.iter().flat_map(|request| info.cdi(request));
            out.extend(names.map(|name| v1::CdiDevice { name: name.clone() }));
        }
        Ok(out)
    }

    /// The claims that a container uses.
    ///
    /// # Errors
    /// If one is not there.
    pub fn claims_of(&self, pod: &Pod, container: &Container) -> Result<Vec<ClaimInfo>, String> {
        let (mut out, namespace) = (Vec::new(), pod.namespace());
        let claims = self.claims.lock();
        for claim in pod.spec().resource_claims.iter().flatten() {
            if !resolve::references(container).any(|(name, _)| name == claim.name) {
                continue;
            }
            let Some(found) = resolve::name(pod, claim)? else { continue };
            let info = claims.get(namespace, &found.name).cloned();
            out.push(
                info.ok_or_else(|| format!("unable to get information for ResourceClaim {}", found.name))?,
            );
        }
        let status = pod.api_status().extended_resource_claim_status.as_ref();
        if let Some(status) = status.filter(|_| resolve::is_extended_user(pod, &container.name)) {
            let name = &status.resource_claim_name;
            let info = claims.get(namespace, name).cloned();
            out.push(info.ok_or_else(|| {
                format!("unable to get claim info for claim {name} in namespace {namespace}")
            })?);
        }
        Ok(out)
    }
}
