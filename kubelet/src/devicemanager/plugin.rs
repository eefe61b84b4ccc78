//! The socket that plugins register at, and the connections to them. Upstream: plugin/v1beta1 and endpoint.go.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use deviceplugin::v1beta1::device_plugin_client::DevicePluginClient;
use deviceplugin::v1beta1::registration_server::{Registration, RegistrationServer};
use deviceplugin::v1beta1::{
    AllocateRequest, ContainerAllocateRequest, ContainerAllocateResponse,
    ContainerPreferredAllocationRequest, DevicePluginOptions, Empty, PreStartContainerRequest,
    PreferredAllocationRequest, RegisterRequest,
};
use futures::TryStreamExt as _;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use super::DeviceManager;
use super::choose::Question;
use super::state::Ids;
use crate::authority::AnyAuthority;
use crate::metrics::devices as metrics;
use crate::node::resources::is_extended;
use crate::rpc::{dial, error_text};

/// The only version of the interface.
pub(super) const VERSION: &str = "v1beta1";
/// Name of the socket to register at.
pub const SOCKET: &str = "kubelet.sock";
/// How long a plugin that registers may take to be reached.
const DIAL: Duration = Duration::from_secs(10);
const PRE_START: Duration = Duration::from_secs(30);
/// Resources of a plugin that is gone are shown this long, so that a plugin may come back.
pub const GRACE: Duration = Duration::from_secs(5 * 60);

/// A plugin, or what is left of one.
#[derive(Clone, Debug)]
pub struct Plugin {
    /// Its socket.
    pub socket: PathBuf,
    /// The connection; none to a plugin that was there before the kubelet started.
    client: Option<DevicePluginClient<Channel>>,
    /// What it can do.
    pub options: DevicePluginOptions,
    /// Since when it is gone.
    pub stopped: Option<Instant>,
}

impl Plugin {
    /// A plugin that was registered before the kubelet started.
    pub fn gone(now: Instant) -> Self {
        Self {
            socket: PathBuf::new(),
            client: None,
            options: DevicePluginOptions::default(),
            stopped: Some(now),
        }
    }

    /// True once its resources need not be shown any longer.
    pub fn is_over(&self, now: Instant) -> bool {
        self.stopped.is_some_and(|at| now.duration_since(at) > GRACE)
    }

    pub(super) async fn connect(socket: &Path) -> Result<Self, Status> {
        // A plugin may register before it listens.
        let channel = dial(socket, DIAL)
            .await
            .map_err(|e| Status::unknown(format!("failed to dial device plugin: {e}")))?;
        let mut client = DevicePluginClient::new(channel);
        let options = client.get_device_plugin_options(Empty {}).await.map_err(|e| {
            Status::unknown(format!("failed to get device plugin options: {}", error_text(&e)))
        })?;
        Ok(Self {
            socket: socket.to_owned(),
            client: Some(client),
            options: options.into_inner(),
            stopped: None,
        })
    }

    fn client(&self) -> Result<DevicePluginClient<Channel>, String> {
        let client = self.client.clone().filter(|_| self.stopped.is_none());
        client.ok_or_else(|| format!("endpoint {} has been stopped", self.socket.display()))
    }

    /// Asks which devices the plugin would take.
    pub async fn preferred(&self, question: &Question) -> Result<Ids, String> {
        if !self.options.get_preferred_allocation_available {
            return Ok(Ids::new());
        }
        let failed = |e: String| format!("device plugin GetPreferredAllocation rpc failed with err: {e}");
        let request = PreferredAllocationRequest {
            container_requests: vec![ContainerPreferredAllocationRequest {
                available: question.available.iter().cloned().collect(),
                must_include: question.taken.iter().cloned().collect(),
                allocation_size: i32::try_from(question.count).unwrap_or(i32::MAX),
            }],
        };
        let mut client = self.client().map_err(failed)?;
        let answer = client.get_preferred_allocation(request).await.map_err(|e| failed(error_text(&e)))?;
        let first = answer.into_inner().container_responses.into_iter().next();
        Ok(first.map(|a| a.devices_ids.into_iter().collect()).unwrap_or_default())
    }

    /// Asks what a container needs for these devices.
    pub async fn allocate(&self, ids: &Ids) -> Result<ContainerAllocateResponse, String> {
        let request = AllocateRequest {
            container_requests: vec![ContainerAllocateRequest { devices_ids: ids.iter().cloned().collect() }],
        };
        let answer = self.client()?.allocate(request).await.map_err(|e| error_text(&e))?.into_inner();
        let first = answer.container_responses.into_iter().next();
        first.ok_or_else(|| "no containers return in allocation response".to_owned())
    }

    /// Tells the plugin that a container with these devices is about to start.
    pub async fn before_start(&self, ids: &Ids) -> Result<(), String> {
        let failed = |e: String| format!("device plugin PreStartContainer rpc failed with err: {e}");
        let mut request =
            Request::new(PreStartContainerRequest { devices_ids: ids.iter().cloned().collect() });
        request.set_timeout(PRE_START);
        let mut client = self.client().map_err(failed)?;
        client.pre_start_container(request).await.map_err(|e| failed(error_text(&e)))?;
        Ok(())
    }
}

struct Desk {
    manager: Arc<DeviceManager>,
    stop: CancellationToken,
}

#[tonic::async_trait]
impl Registration for Desk {
    async fn register(&self, request: Request<RegisterRequest>) -> Result<Response<Empty>, Status> {
        let request = request.into_inner();
        let resource = request.resource_name;
        tracing::info!(resource, "Got registration request from device plugin with resource");
        metrics::registered(&resource);
        let refused = |text: String| {
            tracing::error!(
                resource,
                err = text,
                "Bad registration request from device plugin with resource"
            );
            Status::unknown(text)
        };
        if request.version != VERSION {
            return Err(refused(format!(
                "requested API version {:?} is not supported by kubelet. Supported version is [{VERSION:?}]",
                request.version
            )));
        }
        if !is_valid_name(&resource) {
            return Err(refused(format!("the ResourceName {resource:?} is invalid")));
        }
        let plugin = Plugin::connect(&inside(self.manager.folder(), &request.endpoint)).await?;
        self.manager.connected(&resource, &plugin).map_err(Status::unknown)?;
        tokio::spawn(listen(self.manager.clone(), resource, plugin, self.stop.clone()));
        Ok(Response::new(Empty {}))
    }
}

/// Upstream: IsExtendedResourceName in pkg/apis/core/v1/helper/helpers.go; with the prefix that quotas give it, the name
/// must still be one.
pub(super) fn is_valid_name(resource: &str) -> bool {
    is_extended(resource) && machinery::content::qualified_name(&format!("requests.{resource}")).is_empty()
}

/// A path below the folder, as Go joins them: never one outside of it by a leading slash.
fn inside(folder: &Path, name: &str) -> PathBuf {
    let mut out = folder.to_owned();
    for part in Path::new(name).components() {
        match part {
            Component::Normal(part) => out.push(part),
            Component::ParentDir => drop(out.pop()),
            _ => {}
        }
    }
    out
}

/// Takes what the plugin says that it has until it ends.
pub(super) async fn listen(
    manager: Arc<DeviceManager>,
    resource: String,
    plugin: Plugin,
    stop: CancellationToken,
) {
    let Ok(mut client) = plugin.client() else { return };
    let receive = async {
        let mut stream = client.list_and_watch(Empty {}).await?.into_inner();
        while let Some(answer) = stream.message().await? {
            manager.offered(&resource, answer.devices);
        }
        Ok::<(), Status>(())
    };
    tokio::select! {
        result = receive => {
            let error = result.err().map_or_else(|| "EOF".to_owned(), |e| error_text(&e));
            tracing::error!(resource, error, "ListAndWatch ended unexpectedly for device plugin");
        }
        () = stop.cancelled() => return,
    }
    manager.disconnected(&resource, &plugin.socket);
}

/// Opens the socket to register at, after the sockets of plugins that must register anew are removed.
///
/// # Errors
/// If the folder or the socket cannot be made.
pub fn open(folder: &Path) -> std::io::Result<UnixListener> {
    use std::os::unix::fs::FileTypeExt as _;
    crate::paths::make_dir(folder, 0o750)?;
    for entry in std::fs::read_dir(folder)?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_socket()) {
            std::fs::remove_file(entry.path())?;
        }
    }
    UnixListener::bind(folder.join(SOCKET))
}

/// Serves registrations until `stop`.
pub async fn serve(manager: Arc<DeviceManager>, listener: UnixListener, stop: CancellationToken) {
    let desk = Desk { manager: manager.clone(), stop: stop.clone() };
    let served = tonic::transport::Server::builder()
        .add_service(RegistrationServer::new(desk))
        .serve_with_incoming_shutdown(
            UnixListenerStream::new(listener).map_ok(AnyAuthority::new),
            stop.cancelled_owned(),
        )
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "Error while serving device plugin registration grpc server");
        manager.broken(error.to_string());
    }
}

/// Of several plugins of one resource, the one that counts after another is gone: the first by socket.
pub fn successor(left: &std::collections::BTreeMap<PathBuf, Plugin>) -> Option<&Plugin> {
    left.values().next()
}

/// Names of resources whose plugin is gone for good, or was never seen.
pub fn over<'a>(
    resources: impl Iterator<Item = &'a String>,
    plugins: &std::collections::BTreeMap<String, Plugin>,
    now: Instant,
) -> BTreeSet<String> {
    resources.filter(|name| plugins.get(*name).is_none_or(|p| p.is_over(now))).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let valid = ["example.com/gpu", "nvidia.com/a_b"];
        let bad =
            ["gpu", "kubernetes.io/x", "a.kubernetes.io/x", "requests.a/b", "example.com/", "a b/c", "e/x y"];
        assert!(valid.iter().all(|name| is_valid_name(name)) && !bad.iter().any(|name| is_valid_name(name)));
    }

    #[test]
    fn sockets_are_in_the_folder() {
        let at = |name| inside(Path::new("/d"), name).display().to_string();
        assert_eq!([at("x.sock"), at("/x"), at("./a/../x")], ["/d/x.sock", "/d/x", "/d/x"]);
    }
}
