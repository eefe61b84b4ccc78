//! Drivers of claimed devices, and calls to them. Upstream: plugin/dra_plugin.go and plugin/dra_plugin_manager.go.
//!
//! A driver may be there more than once, while a new version of it takes the place of the old one.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use machinery::golang::quote;
use parking_lot::Mutex;
use pluginapi::dra::v1::dra_plugin_client::DraPluginClient;
use pluginapi::dra::v1::{
    Claim, NodePrepareResourceResponse, NodePrepareResourcesRequest, NodeUnprepareResourceResponse,
    NodeUnprepareResourcesRequest,
};
use pluginapi::dra::v1beta1::dra_plugin_client::DraPluginClient as OldClient;
use pluginapi::health::v1::dra_resource_health_client::DraResourceHealthClient;
use pluginapi::health::v1::{NodeWatchResourcesRequest, NodeWatchResourcesResponse};
use pluginapi::health::v1alpha1::dra_resource_health_client::DraResourceHealthClient as OldHealthClient;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::link::Link;
use super::wipe::Wiper;
use crate::metrics::dra as metrics;
use crate::pluginmanager::{Handler, PluginInfo};
use crate::rpc::{code_name, error_text};

/// How long a call may take: half of the time after which the kubelet tries again.
const CALL: Duration = Duration::from_secs(45);
/// Names of the versions of the interface, the newest one first.
const SERVICES: [(&str, Version); 2] =
    [("v1.DRAPlugin", Version::V1), ("v1beta1.DRAPlugin", Version::V1beta1)];

/// Names of the versions in which a driver may tell how its devices are, the newest one first.
const HEALTH: [(&str, Version); 2] =
    [("v1.DRAResourceHealth", Version::V1), ("v1alpha1.DRAResourceHealth", Version::V1beta1)];
/// Pause after a driver has stopped telling.
const HEALTH_PAUSE: Duration = Duration::from_secs(5);

/// Hears how devices are.
pub trait Listener: Send + Sync {
    /// A driver tells how all its devices are.
    fn report(&self, driver: &str, report: NodeWatchResourcesResponse);
    /// A driver tells no more.
    fn silent(&self, driver: &str);
}

/// A version of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V1,
    /// The one before it.
    V1beta1,
}

/// One place where a driver is called.
pub struct Driver {
    name: String,
    endpoint: PathBuf,
    version: Version,
    link: Arc<Link>,
    connected: AtomicBool,
}

impl Driver {
    /// True while it can be reached.
    pub fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Acquire)
    }

    fn request<T>(message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(CALL);
        request
    }

    async fn call<T>(
        &self,
        operation: &str,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, String> {
        let begin = Instant::now();
        let late = |_| Err(Status::deadline_exceeded("context deadline exceeded"));
        let result = tokio::time::timeout(CALL, call).await.unwrap_or_else(late);
        let code = result.as_ref().err().map_or(tonic::Code::Ok, Status::code);
        let version = if self.version == Version::V1 { "v1" } else { "v1beta1" };
        let method = format!("/k8s.io.kubelet.pkg.apis.dra.{version}.DRAPlugin/{operation}");
        metrics::called(&self.name, &method, &code_name(code), begin.elapsed());
        result.map(Response::into_inner).map_err(|status| error_text(&status))
    }

    /// Has claims prepared; the answers by uid.
    ///
    /// # Errors
    /// If the call fails.
    pub async fn prepare(
        &self,
        claims: Vec<Claim>,
    ) -> Result<BTreeMap<String, NodePrepareResourceResponse>, String> {
        let request = Self::request(NodePrepareResourcesRequest { claims });
        let call = async {
            let channel = self.link.channel().await?;
            match self.version {
                Version::V1 => DraPluginClient::new(channel).node_prepare_resources(request).await,
                Version::V1beta1 => OldClient::new(channel).node_prepare_resources(request).await,
            }
        };
        Ok(self.call("NodePrepareResources", call).await?.claims)
    }

    /// Has claims taken back; the answers by uid.
    ///
    /// # Errors
    /// If the call fails.
    pub async fn unprepare(
        &self,
        claims: Vec<Claim>,
    ) -> Result<BTreeMap<String, NodeUnprepareResourceResponse>, String> {
        let request = Self::request(NodeUnprepareResourcesRequest { claims });
        let call = async {
            let channel = self.link.channel().await?;
            match self.version {
                Version::V1 => DraPluginClient::new(channel).node_unprepare_resources(request).await,
                Version::V1beta1 => OldClient::new(channel).node_unprepare_resources(request).await,
            }
        };
        Ok(self.call("NodeUnprepareResources", call).await?.claims)
    }
}

impl Driver {
    /// Hears how the devices are until the driver says no more.
    async fn hear(&self, version: Version, listener: &dyn Listener) -> Result<(), Status> {
        let channel = self.link.channel().await?;
        let request = NodeWatchResourcesRequest {};
        let answer = match version {
            Version::V1 => DraResourceHealthClient::new(channel).node_watch_resources(request).await,
            Version::V1beta1 => OldHealthClient::new(channel).node_watch_resources(request).await,
        };
        let mut stream = answer?.into_inner();
        while let Some(report) = stream.message().await? {
            listener.report(&self.name, report);
        }
        Ok(())
    }

    /// Hears how the devices are until `stop`, unless the driver cannot tell after all.
    async fn keep_hearing(self: Arc<Self>, version: Version, to: Arc<dyn Listener>, stop: CancellationToken) {
        let hear = async {
            loop {
                let result = self.hear(version, to.as_ref()).await;
                to.silent(&self.name);
                if let Err(status) = result {
                    let error = error_text(&status);
                    tracing::debug!(driver = self.name, error, "WatchResources health stream has ended");
                    if status.code() == tonic::Code::Unimplemented {
                        return;
                    }
                }
                tokio::time::sleep(HEALTH_PAUSE).await;
            }
        };
        stop.run_until_cancelled(hear).await;
        to.silent(&self.name);
    }
}

/// All drivers.
pub struct Drivers {
    /// By name, in the order in which they came.
    all: Mutex<BTreeMap<String, Vec<Arc<Driver>>>>,
    wiper: Arc<Wiper>,
    /// Hears how devices are; absent if nobody wants to know.
    listener: Option<Arc<dyn Listener>>,
    stop: CancellationToken,
}

impl Drivers {
    /// Connections are kept until `stop`.
    pub fn new(wiper: Arc<Wiper>, listener: Option<Arc<dyn Listener>>, stop: CancellationToken) -> Arc<Self> {
        Arc::new(Self { all: Mutex::default(), wiper, listener, stop })
    }

    /// The driver to ask: the last one that came, of those that can be reached if there are some.
    ///
    /// # Errors
    /// If there is none.
    pub fn get(&self, name: &str) -> Result<Arc<Driver>, String> {
        if name.is_empty() {
            return Err("DRA driver name is empty".to_owned());
        }
        let all = self.all.lock();
        let known = all.get(name).map(Vec::as_slice).unwrap_or_default();
        let reached = known.iter().rev().find(|driver| driver.is_connected());
        let driver = reached.or(known.last());
        driver.cloned().ok_or_else(|| format!("DRA driver {name} is not registered"))
    }

    /// Notes whether a driver can be reached anywhere.
    fn look(&self, name: &str) {
        let all = self.all.lock();
        let is_there = all.get(name).is_some_and(|known| known.iter().any(|driver| driver.is_connected()));
        self.wiper.note(name, is_there);
    }

    fn add(self: &Arc<Self>, plugin: &PluginInfo, version: Version) -> Result<(), String> {
        let (name, endpoint) = (plugin.name.clone(), plugin.endpoint.clone());
        let stop = self.stop.child_token();
        let link = Link::new(&endpoint, stop.clone());
        let driver = Arc::new(Driver {
            name: name.clone(),
            endpoint: endpoint.clone(),
            version,
            link: link.clone(),
            connected: AtomicBool::new(false),
        });
        {
            let mut all = self.all.lock();
            let known = all.entry(name.clone()).or_default();
            // A driver cannot take the place of another one that is there.
            if known.iter().any(|other| other.endpoint == endpoint) {
                let at = endpoint.display();
                return Err(format!("endpoint {at} already registered for DRA driver plugin {name}"));
            }
            known.push(driver.clone());
        }
        self.look(&name);
        let tells = HEALTH.iter().find(|(name, _)| plugin.versions.iter().any(|v| v == name));
        if let Some(((_, version), listener)) = tells.zip(self.listener.clone()) {
            tokio::spawn(driver.clone().keep_hearing(*version, listener, stop));
        }
        let this = Arc::downgrade(self);
        tokio::spawn(link.keep(move |connected| {
            tracing::info!(driver = name, endpoint = %endpoint.display(), connected, "Connection changed");
            driver.connected.store(connected, Ordering::Release);
            if let Some(this) = this.upgrade() {
                this.look(&name);
            }
        }));
        Ok(())
    }

    fn remove(&self, plugin: &PluginInfo) {
        {
            let mut all = self.all.lock();
            let Some(known) = all.get_mut(&plugin.name) else { return };
            known.retain(|driver| {
                let stays = driver.endpoint != plugin.endpoint;
                if !stays {
                    driver.connected.store(false, Ordering::Release);
                    driver.link.close();
                }
                stays
            });
            if known.is_empty() {
                all.remove(&plugin.name);
            }
        }
        self.look(&plugin.name);
    }
}

/// Takes drivers that register.
pub struct Registry(pub Arc<Drivers>);

impl Registry {
    /// The version to use: the first one that the driver names and that is known.
    fn version(plugin: &PluginInfo) -> Result<Version, String> {
        let failed = |why: String| {
            let (name, at) = (&plugin.name, plugin.endpoint.display());
            format!("invalid supported gRPC versions of DRA driver plugin {name} at endpoint {at}: {why}")
        };
        if plugin.versions.is_empty() {
            return Err(failed("empty list of supported gRPC services (aka supported versions)".to_owned()));
        }
        let known = |named: &String| SERVICES.iter().find(|(name, _)| name == named).map(|(_, v)| *v);
        plugin.versions.iter().find_map(known).ok_or_else(|| {
            let list = |all: &[&str]| all.iter().map(|one| quote(one)).collect::<Vec<_>>().join(" ");
            let theirs = list(&plugin.versions.iter().map(String::as_str).collect::<Vec<_>>());
            let ours = list(&SERVICES.map(|(name, _)| name));
            failed(format!(
                "none of services supported by the plugin ([{theirs}]) are supported by the kubelet ([{ours}])"
            ))
        })
    }
}

#[async_trait]
impl Handler for Registry {
    fn validate(&self, plugin: &PluginInfo) -> Result<(), String> {
        Self::version(plugin).map(drop)
    }

    async fn register(&self, plugin: &PluginInfo) -> Result<(), String> {
        self.0.add(plugin, Self::version(plugin)?)
    }

    fn deregister(&self, plugin: &PluginInfo) {
        self.0.remove(plugin);
    }
}
