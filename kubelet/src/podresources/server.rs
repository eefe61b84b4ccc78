//! Serves the answers at the socket `pod-resources/kubelet.sock`.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use client::limiter::Bucket;
use futures::TryStreamExt as _;
use parking_lot::Mutex;
use pluginapi::podresources::v1::pod_resources_lister_server::{
    PodResourcesLister, PodResourcesListerServer,
};
use pluginapi::podresources::v1::{
    AllocatableResourcesRequest, AllocatableResourcesResponse, GetPodResourcesRequest,
    GetPodResourcesResponse, ListPodResourcesRequest, ListPodResourcesResponse,
};
use pluginapi::podresources::v1alpha1 as old;
use pluginapi::podresources::v1alpha1::pod_resources_lister_server::{
    PodResourcesLister as OldLister, PodResourcesListerServer as OldServer,
};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::service::Interceptor;
use tonic::{Request, Response, Status};

use super::{Node, answer};
use crate::authority::AnyAuthority;
use crate::metrics::podresources as metrics;

/// Name of the socket in its folder.
pub const SOCKET: &str = "kubelet.sock";
/// Requests per second and at once, as upstream: no known agent asks more often.
const RATE: (f64, u32) = (100.0, 10);

/// Turns away who asks too often; all versions count together.
#[derive(Clone)]
struct Limiter {
    start: Instant,
    bucket: Arc<Mutex<Bucket>>,
}

impl Interceptor for Limiter {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        match self.bucket.lock().try_take(self.start.elapsed()) {
            true => Ok(request),
            false => Err(Status::resource_exhausted("rejected by rate limit")),
        }
    }
}

#[derive(Clone)]
struct Lister {
    node: Arc<dyn Node>,
    /// Pods that are over are not shown (KubeletPodResourcesListUseActivePods).
    only_active: bool,
}

#[tonic::async_trait]
impl PodResourcesLister for Lister {
    async fn list(
        &self,
        _: Request<ListPodResourcesRequest>,
    ) -> Result<Response<ListPodResourcesResponse>, Status> {
        metrics::asked("v1", Some(metrics::Call::List));
        let pods = if self.only_active { self.node.active() } else { self.node.pods() };
        self.node.refresh();
        let pod_resources = pods.iter().map(|pod| answer::pod(self.node.as_ref(), pod)).collect();
        Ok(Response::new(ListPodResourcesResponse { pod_resources }))
    }

    async fn get_allocatable_resources(
        &self,
        _: Request<AllocatableResourcesRequest>,
    ) -> Result<Response<AllocatableResourcesResponse>, Status> {
        metrics::asked("v1", Some(metrics::Call::GetAllocatable));
        Ok(Response::new(answer::allocatable(self.node.as_ref())))
    }

    async fn get(
        &self,
        request: Request<GetPodResourcesRequest>,
    ) -> Result<Response<GetPodResourcesResponse>, Status> {
        metrics::asked("v1", Some(metrics::Call::Get));
        let GetPodResourcesRequest { pod_name, pod_namespace } = request.into_inner();
        let Some(pod) = self.node.pod(&pod_namespace, &pod_name) else {
            metrics::not_found("v1");
            return Err(Status::unknown(format!("pod {pod_name} in namespace {pod_namespace} not found")));
        };
        let pod_resources = Some(answer::pod(self.node.as_ref(), &pod));
        Ok(Response::new(GetPodResourcesResponse { pod_resources }))
    }
}

#[tonic::async_trait]
impl OldLister for Lister {
    async fn list(
        &self,
        _: Request<old::ListPodResourcesRequest>,
    ) -> Result<Response<old::ListPodResourcesResponse>, Status> {
        metrics::asked("v1alpha1", None);
        self.node.refresh();
        let pods = self.node.pods();
        let pod_resources = pods.iter().map(|pod| answer::old_pod(self.node.as_ref(), pod)).collect();
        Ok(Response::new(old::ListPodResourcesResponse { pod_resources }))
    }
}

/// Opens a socket in `folder`, in the place of one that an earlier kubelet left. Upstream: CreateListener in
/// k8s.io/cri-client.
///
/// # Errors
/// If the folder or the socket cannot be made.
pub fn open(folder: &Path, name: &str) -> io::Result<UnixListener> {
    crate::paths::make_dir(folder, 0o750)?;
    let socket = folder.join(name);
    match std::fs::remove_file(&socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => UnixListener::bind(socket),
    }
}

/// Serves until `stop`.
pub async fn serve(node: Arc<dyn Node>, only_active: bool, listener: UnixListener, stop: CancellationToken) {
    let (rate, burst) = RATE;
    let limiter = Limiter { start: Instant::now(), bucket: Arc::new(Mutex::new(Bucket::new(rate, burst))) };
    let lister = Lister { node, only_active };
    let served = tonic::transport::Server::builder()
        .add_service(OldServer::with_interceptor(lister.clone(), limiter.clone()))
        .add_service(PodResourcesListerServer::with_interceptor(lister, limiter))
        .serve_with_incoming_shutdown(
            UnixListenerStream::new(listener).map_ok(AnyAuthority::new),
            stop.cancelled_owned(),
        )
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "Failed to serve pod resources");
    }
}
