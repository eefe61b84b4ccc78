//! The connection and one method per call that the kubelet makes.

use std::pin::Pin;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status, Streaming};
use traces::Traces;
use traces::grpc::Traced;

use crate::brief;
use crate::brief::runtime_service_client::RuntimeServiceClient as BriefClient;
use crate::v1::image_service_client::ImageServiceClient;
use crate::v1::runtime_service_client::RuntimeServiceClient;
use crate::{Error, Result, v1};

/// Largest message taken from the runtime; lists on nodes with many pods outgrow gRPC's default of 4 MiB.
pub const GRPC_MESSAGE_LIMIT: usize = 16 << 20;

/// The runtime's stream of container events.
pub type Events = Streaming<v1::ContainerEventResponse>;

/// A connection to the runtime and image services. Clones share the connection.
#[derive(Clone, Debug)]
pub struct Client {
    runtime: RuntimeServiceClient<Traced<Channel>>,
    brief: BriefClient<Traced<Channel>>,
    image: ImageServiceClient<Traced<Channel>>,
    timeout: Duration,
}

/// Calls with the connection's usual deadline.
macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident: $service:ident . $call:ident ($request:ident) -> $response:ident;)*) => {
        $($(#[$doc])*
        /// # Errors
        /// As the runtime answers, or when it takes longer than the connection's deadline.
        pub async fn $name(&self, message: v1::$request) -> Result<v1::$response> {
            let mut request = Request::new(message);
            request.set_timeout(self.timeout);
            let mut service = self.$service.clone();
            observed(stringify!($name), Box::pin(async move { service.$call(request).await })).await
        })*
    };
}

impl Client {
    /// Prepares a connection to the runtime at `unix:///path`; the first call opens it.
    ///
    /// # Errors
    /// If the endpoint is not a unix socket address.
    pub fn connect(endpoint: &str, timeout: Duration) -> Result<Self> {
        Self::connect_both(endpoint, "", timeout, None)
    }

    /// As [`Client::connect`], with the image service at its own address, and calls told to `traces`.
    ///
    /// # Errors
    /// If an endpoint is not a unix socket address.
    pub fn connect_both(
        runtime: &str,
        image: &str,
        timeout: Duration,
        traces: Option<&Traces>,
    ) -> Result<Self> {
        let first = channel(runtime, traces)?;
        if image.is_empty() || image == runtime {
            return Ok(Self::over(first.clone(), first, timeout));
        }
        Ok(Self::over(first, channel(image, traces)?, timeout))
    }

    fn over(runtime: Traced<Channel>, image: Traced<Channel>, timeout: Duration) -> Self {
        Self {
            brief: BriefClient::new(runtime.clone()).max_decoding_message_size(GRPC_MESSAGE_LIMIT),
            runtime: RuntimeServiceClient::new(runtime).max_decoding_message_size(GRPC_MESSAGE_LIMIT),
            image: ImageServiceClient::new(image).max_decoding_message_size(GRPC_MESSAGE_LIMIT),
            timeout,
        }
    }

    calls! {
        /// Name and versions of the runtime.
        version: runtime.version(VersionRequest) -> VersionResponse;
        /// Conditions, handlers and features of the runtime.
        status: runtime.status(StatusRequest) -> StatusResponse;
        /// The runtime's cgroup driver; older runtimes do not know the call.
        runtime_config: runtime.runtime_config(RuntimeConfigRequest) -> RuntimeConfigResponse;
        /// Tells the runtime the node's pod address range.
        update_runtime_config: runtime.update_runtime_config(UpdateRuntimeConfigRequest) -> UpdateRuntimeConfigResponse;
        /// Stops a sandbox and releases its network.
        stop_pod_sandbox: runtime.stop_pod_sandbox(StopPodSandboxRequest) -> StopPodSandboxResponse;
        /// Removes a stopped sandbox.
        remove_pod_sandbox: runtime.remove_pod_sandbox(RemovePodSandboxRequest) -> RemovePodSandboxResponse;
        /// State, addresses and namespaces of a sandbox.
        pod_sandbox_status: runtime.pod_sandbox_status(PodSandboxStatusRequest) -> PodSandboxStatusResponse;
        /// Sandboxes that match a filter.
        list_pod_sandbox: runtime.list_pod_sandbox(ListPodSandboxRequest) -> ListPodSandboxResponse;
        /// Creates a container in a sandbox.
        create_container: runtime.create_container(CreateContainerRequest) -> CreateContainerResponse;
        /// Starts a created container.
        start_container: runtime.start_container(StartContainerRequest) -> StartContainerResponse;
        /// Removes a stopped container.
        remove_container: runtime.remove_container(RemoveContainerRequest) -> RemoveContainerResponse;
        /// Containers that match a filter.
        list_containers: runtime.list_containers(ListContainersRequest) -> ListContainersResponse;
        /// State, exit code, image and mounts of a container.
        container_status: runtime.container_status(ContainerStatusRequest) -> ContainerStatusResponse;
        /// Changes the limits of a running container.
        update_container_resources: runtime.update_container_resources(UpdateContainerResourcesRequest) -> UpdateContainerResourcesResponse;
        /// Tells the runtime that a pod's cgroup limits changed.
        update_pod_sandbox_resources: runtime.update_pod_sandbox_resources(UpdatePodSandboxResourcesRequest) -> UpdatePodSandboxResourcesResponse;
        /// Makes the runtime write a container's log to a fresh file.
        reopen_container_log: runtime.reopen_container_log(ReopenContainerLogRequest) -> ReopenContainerLogResponse;
        /// Address of a streaming exec session.
        exec: runtime.exec(ExecRequest) -> ExecResponse;
        /// Address of a streaming attach session.
        attach: runtime.attach(AttachRequest) -> AttachResponse;
        /// Address of a streaming port-forward session.
        port_forward: runtime.port_forward(PortForwardRequest) -> PortForwardResponse;
        /// Usage of one container.
        container_stats: runtime.container_stats(ContainerStatsRequest) -> ContainerStatsResponse;
        /// Usage of containers that match a filter.
        list_container_stats: runtime.list_container_stats(ListContainerStatsRequest) -> ListContainerStatsResponse;
        /// Usage of one pod.
        pod_sandbox_stats: runtime.pod_sandbox_stats(PodSandboxStatsRequest) -> PodSandboxStatsResponse;
        /// Usage of pods that match a filter.
        list_pod_sandbox_stats: runtime.list_pod_sandbox_stats(ListPodSandboxStatsRequest) -> ListPodSandboxStatsResponse;
        /// Images on the node.
        list_images: image.list_images(ListImagesRequest) -> ListImagesResponse;
        /// One image, if present.
        image_status: image.image_status(ImageStatusRequest) -> ImageStatusResponse;
        /// Removes an image.
        remove_image: image.remove_image(RemoveImageRequest) -> RemoveImageResponse;
        /// Usage of the file systems that hold images and container layers.
        image_fs_info: image.image_fs_info(ImageFsInfoRequest) -> ImageFsInfoResponse;
    }

    /// All sandboxes, in short.
    ///
    /// # Errors
    /// As the runtime answers, or when it takes longer than the connection's deadline.
    pub async fn sandboxes(&self) -> Result<Vec<brief::PodSandbox>> {
        let mut request = Request::new(brief::ListPodSandboxRequest {});
        request.set_timeout(self.timeout);
        let mut service = self.brief.clone();
        let call = Box::pin(async move { service.list_pod_sandbox(request).await });
        Ok(observed("list_pod_sandbox", call).await?.items)
    }

    /// All containers, in short.
    ///
    /// # Errors
    /// As the runtime answers, or when it takes longer than the connection's deadline.
    pub async fn containers(&self) -> Result<Vec<brief::Container>> {
        let mut request = Request::new(brief::ListContainersRequest {});
        request.set_timeout(self.timeout);
        let mut service = self.brief.clone();
        let call = Box::pin(async move { service.list_containers(request).await });
        Ok(observed("list_containers", call).await?.containers)
    }

    /// Creates and starts a sandbox. Setting up its network may be slow, so it gets twice the usual deadline.
    ///
    /// # Errors
    /// As the runtime answers.
    pub async fn run_pod_sandbox(
        &self,
        message: v1::RunPodSandboxRequest,
    ) -> Result<v1::RunPodSandboxResponse> {
        let mut request = Request::new(message);
        request.set_timeout(self.timeout.saturating_mul(2));
        let mut service = self.runtime.clone();
        observed("run_pod_sandbox", Box::pin(async move { service.run_pod_sandbox(request).await })).await
    }

    /// Stops a container, first politely for `grace`, then by force. The call may take that long plus the usual deadline.
    ///
    /// # Errors
    /// As the runtime answers.
    pub async fn stop_container(&self, id: &str, grace: Duration) -> Result<()> {
        let seconds = i64::try_from(grace.as_secs()).unwrap_or(i64::MAX);
        let mut request =
            Request::new(v1::StopContainerRequest { container_id: id.to_owned(), timeout: seconds });
        request.set_timeout(self.timeout.saturating_add(grace));
        let mut service = self.runtime.clone();
        let call = Box::pin(async move { service.stop_container(request).await });
        observed("stop_container", call).await.map(drop)
    }

    /// Runs a command in a container to its end; `limit` of zero means no limit.
    ///
    /// # Errors
    /// As the runtime answers; a command that exits with an error is no error here.
    pub async fn exec_sync(
        &self,
        id: &str,
        cmd: Vec<String>,
        limit: Duration,
    ) -> Result<v1::ExecSyncResponse> {
        let seconds = i64::try_from(limit.as_secs()).unwrap_or(i64::MAX);
        let mut request =
            Request::new(v1::ExecSyncRequest { container_id: id.to_owned(), cmd, timeout: seconds });
        // The runtime ends the command after `limit`; the call itself gets the usual deadline on top, as upstream does.
        if !limit.is_zero() {
            request.set_timeout(self.timeout.saturating_add(limit));
        }
        let mut service = self.runtime.clone();
        observed("exec_sync", Box::pin(async move { service.exec_sync(request).await })).await
    }

    /// Pulls an image. Pulls have no deadline: a large image over a slow line is not an error.
    ///
    /// # Errors
    /// As the runtime answers.
    pub async fn pull_image(&self, message: v1::PullImageRequest) -> Result<v1::PullImageResponse> {
        let mut service = self.image.clone();
        observed("pull_image", Box::pin(async move { service.pull_image(message).await })).await
    }

    /// Container lifecycle events; runtimes without them answer `Unimplemented`.
    ///
    /// # Errors
    /// As the runtime answers.
    pub async fn container_events(&self) -> Result<Events> {
        Ok(self.runtime.clone().get_container_events(v1::GetEventsRequest {}).await?.into_inner())
    }

    /// Writes a checkpoint of a container to a file; `timeout` of zero is the usual deadline.
    ///
    /// # Errors
    /// As the runtime answers.
    pub async fn checkpoint_container(&self, id: &str, location: &str, timeout: Duration) -> Result<()> {
        let seconds = i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX);
        let mut request = Request::new(v1::CheckpointContainerRequest {
            container_id: id.to_owned(),
            location: location.to_owned(),
            timeout: seconds,
        });
        request.set_timeout(if timeout.is_zero() {
            self.timeout
        } else {
            self.timeout.saturating_add(timeout)
        });
        let mut service = self.runtime.clone();
        let call = Box::pin(async move { service.checkpoint_container(request).await });
        observed("checkpoint_container", call).await.map(drop)
    }
}

/// Told of every finished call: upstream's name of the operation, how long it took, whether it failed.
pub type Observer = fn(&'static str, Duration, bool);

static OBSERVER: OnceLock<Observer> = OnceLock::new();

/// Sets the observer of all calls of this process; only the first one counts.
pub fn observe(observer: Observer) {
    OBSERVER.get_or_init(|| observer);
}

/// A call under way. It is boxed because it is far larger than all else that its callers, and theirs, keep meanwhile.
type Call<T> = Pin<Box<dyn Future<Output = std::result::Result<Response<T>, Status>> + Send>>;

async fn observed<T>(call: &'static str, work: Call<T>) -> Result<T> {
    let begin = Instant::now();
    let answer = work.await;
    if let Some(observer) = OBSERVER.get() {
        observer(operation(call), begin.elapsed(), answer.is_err());
    }
    Ok(answer?.into_inner())
}

/// Upstream's name where it differs from the call's.
fn operation(call: &'static str) -> &'static str {
    match call {
        "run_pod_sandbox" => "run_podsandbox",
        "stop_pod_sandbox" => "stop_podsandbox",
        "remove_pod_sandbox" => "remove_podsandbox",
        "pod_sandbox_status" => "podsandbox_status",
        "list_pod_sandbox" => "list_podsandbox",
        "pod_sandbox_stats" => "podsandbox_stats",
        "list_pod_sandbox_stats" => "list_podsandbox_stats",
        "update_container_resources" => "update_container",
        "update_pod_sandbox_resources" => "update_podsandbox_resources",
        other => other,
    }
}

fn channel(endpoint: &str, traces: Option<&Traces>) -> Result<Traced<Channel>> {
    let bad = || Error::Endpoint { endpoint: endpoint.to_owned() };
    // A bare path is taken as a socket path, as upstream (with a warning there) does.
    let address = if endpoint.starts_with('/') { format!("unix://{endpoint}") } else { endpoint.to_owned() };
    if !address.starts_with("unix:") {
        return Err(bad());
    }
    let socket = address.trim_start_matches("unix:").trim_start_matches("//").to_owned();
    let endpoint = Endpoint::from_shared(address).map_err(|_| bad())?;
    Ok(Traced::new(endpoint.connect_lazy(), traces, &socket))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn refuses_other_transports() {
        for bad in ["tcp://127.0.0.1:1", "http://x", ""] {
            assert!(
                matches!(Client::connect(bad, Duration::from_secs(1)), Err(Error::Endpoint { .. })),
                "{bad}"
            );
        }
        for good in ["unix:///run/x.sock", "/run/x.sock"] {
            assert!(Client::connect(good, Duration::from_secs(1)).is_ok(), "{good}");
        }
    }

    #[test]
    fn short_lists_skip_the_rest() {
        use prost::Message as _;
        let sandbox = crate::v1::PodSandbox {
            id: "s".into(),
            metadata: Some(crate::v1::PodSandboxMetadata {
                name: "p".into(),
                uid: "u".into(),
                namespace: "n".into(),
                attempt: 1,
            }),
            state: crate::v1::PodSandboxState::SandboxNotready.into(),
            created_at: 7,
            labels: [("a".into(), "b".into())].into(),
            annotations: [("c".into(), "d".into())].into(),
            runtime_handler: "h".into(),
        };
        let container = crate::v1::Container {
            id: "c".into(),
            pod_sandbox_id: "s".into(),
            metadata: Some(crate::v1::ContainerMetadata { name: "m".into(), attempt: 3 }),
            image: Some(crate::v1::ImageSpec { image: "i".into(), ..Default::default() }),
            image_ref: "r".into(),
            state: crate::v1::ContainerState::ContainerRunning.into(),
            created_at: 9,
            labels: [("a".into(), "b".into())].into(),
            annotations: [("c".into(), "d".into())].into(),
            image_id: "x".into(),
        };
        let list = crate::v1::ListPodSandboxResponse { items: vec![sandbox] }.encode_to_vec();
        let read = brief::ListPodSandboxResponse::decode(&*list).unwrap().items.remove(0);
        let who = read.metadata.unwrap();
        assert_eq!((&*read.id, read.state, read.created_at), ("s", 1, 7));
        assert_eq!((&*who.name, &*who.uid, &*who.namespace), ("p", "u", "n"));
        let list = crate::v1::ListContainersResponse { containers: vec![container] }.encode_to_vec();
        let read = brief::ListContainersResponse::decode(&*list).unwrap().containers.remove(0);
        let who = read.metadata.unwrap();
        assert_eq!((&*read.id, &*read.pod_sandbox_id, &*read.image_ref), ("c", "s", "r"));
        assert_eq!((read.state, read.created_at, &*who.name, who.attempt), (1, 9, "m", 3));
    }

    #[tokio::test]
    async fn absent_runtime_is_unavailable() {
        let client = Client::connect("unix:///nonexistent/x.sock", Duration::from_secs(1)).unwrap();
        let error = client.version(v1::VersionRequest::default()).await.unwrap_err();
        assert_eq!(error.code(), Some(tonic::Code::Unavailable), "{error}");
    }
}
