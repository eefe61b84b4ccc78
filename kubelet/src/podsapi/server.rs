//! Serves at the socket `pods-api/pods-api.sock`.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use client::limiter::Bucket;
use component::app::Process;
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use pluginapi::pods::v1alpha1::pods_server::{Pods, PodsServer};
use pluginapi::pods::v1alpha1::{
    EventType, GetPodRequest, GetPodResponse, ListPodsRequest, ListPodsResponse, WatchPodsEvent,
    WatchPodsRequest,
};
use tokio::net::UnixListener;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status};

use super::hub::{Event, Kind};
use super::view;
use crate::authority::AnyAuthority;
use crate::metrics::podsapi as metrics;
use crate::podresources;

/// Name of the socket in its folder.
pub const SOCKET: &str = "pods-api.sock";
/// Questions per second and at once, as upstream; watches do not count.
const RATE: (f64, u32) = (100.0, 10);

/// What the answers are made from.
pub trait Node: Send + Sync {
    /// True once all sources of pods have spoken.
    fn is_complete(&self) -> bool;
    /// All pods with their statuses.
    fn pods(&self) -> Vec<Pod>;
    /// One pod with its status.
    fn pod(&self, uid: &str) -> Option<Pod>;
    /// What happens from now on.
    fn watch(&self) -> broadcast::Receiver<Event>;
}

struct Server {
    node: Arc<dyn Node>,
    start: Instant,
    bucket: Mutex<Bucket>,
    stop: CancellationToken,
}

fn message(pod: &Pod) -> Result<Vec<u8>, Status> {
    view::message(pod).map_err(|e| Status::internal(format!("failed to marshal pod: {e}")))
}

impl Server {
    fn limit(&self) -> Result<(), Status> {
        match self.bucket.lock().try_take(self.start.elapsed()) {
            true => Ok(()),
            false => Err(Status::resource_exhausted("rejected by rate limit")),
        }
    }

    fn check(&self) -> Result<(), Status> {
        match self.node.is_complete() {
            true => Ok(()),
            false => Err(Status::failed_precondition("Kubelet is initializing")),
        }
    }

    fn list(&self) -> Result<Vec<Vec<u8>>, Status> {
        self.check()?;
        let mut pods = self.node.pods();
        pods.sort_by(|a, b| a.metadata.uid.cmp(&b.metadata.uid));
        pods.iter().map(message).collect()
    }

    fn get(&self, uid: &str) -> Result<Vec<u8>, Status> {
        self.check()?;
        let pod =
            self.node.pod(uid).ok_or_else(|| Status::not_found(format!("pod with UID {uid} not found")))?;
        message(&pod)
    }
}

fn counted<T>(call: metrics::Call, result: Result<T, Status>) -> Result<T, Status> {
    metrics::answered(call, result.as_ref().map_or_else(Status::code, |_| Code::Ok));
    result
}

fn event(kind: EventType, pod: Vec<u8>) -> WatchPodsEvent {
    WatchPodsEvent { r#type: kind.into(), pod }
}

/// Counts a watch when it ends, however it does.
struct Watch {
    events: broadcast::Receiver<Event>,
    stop: CancellationToken,
    end: Code,
}

impl Drop for Watch {
    fn drop(&mut self) {
        metrics::answered(metrics::Call::Watch, self.end);
    }
}

impl Watch {
    async fn next(&mut self) -> Option<Result<WatchPodsEvent, Status>> {
        let received = tokio::select! {
            () = self.stop.cancelled() => return None,
            received = self.events.recv() => received,
        };
        let result = match received {
            Ok(Event { kind, pod }) => message(&pod).map(|pod| {
                let kind = match kind {
                    Kind::Added => EventType::Added,
                    Kind::Modified => EventType::Modified,
                    Kind::Deleted => EventType::Deleted,
                };
                event(kind, pod)
            }),
            Err(RecvError::Closed) => return None,
            Err(RecvError::Lagged(_)) => {
                metrics::dropped();
                Err(Status::resource_exhausted("watch client channel closed"))
            }
        };
        if let Err(error) = &result {
            self.end = error.code();
        }
        Some(result)
    }
}

#[tonic::async_trait]
impl Pods for Server {
    type WatchPodsStream = Pin<Box<dyn Stream<Item = Result<WatchPodsEvent, Status>> + Send>>;

    async fn watch_pods(
        &self,
        _: Request<WatchPodsRequest>,
    ) -> Result<Response<Self::WatchPodsStream>, Status> {
        // Before the list, so that nothing is missed in between.
        let events = self.node.watch();
        let pods = match self.list() {
            Ok(pods) => pods,
            Err(error) => return counted(metrics::Call::Watch, Err(error)),
        };
        let first = pods.into_iter().map(|pod| event(EventType::Added, pod));
        let first = first.chain([event(EventType::InitialSyncComplete, Vec::new())]).map(Ok);
        let watch = Watch { events, stop: self.stop.clone(), end: Code::Cancelled };
        let rest = stream::unfold(Some(watch), |watch| async {
            let mut watch = watch?;
            let next = watch.next().await?;
            let more = next.is_ok().then_some(watch);
            Some((next, more))
        });
        Ok(Response::new(Box::pin(stream::iter(first).chain(rest))))
    }

    async fn list_pods(&self, _: Request<ListPodsRequest>) -> Result<Response<ListPodsResponse>, Status> {
        self.limit()?;
        let pods = counted(metrics::Call::List, self.list())?;
        Ok(Response::new(ListPodsResponse { pods }))
    }

    async fn get_pod(&self, request: Request<GetPodRequest>) -> Result<Response<GetPodResponse>, Status> {
        self.limit()?;
        let pod = counted(metrics::Call::Get, self.get(&request.into_inner().pod_uid))?;
        Ok(Response::new(GetPodResponse { pod }))
    }
}

/// Opens the socket in `folder` and serves there as long as the process lives.
///
/// # Errors
/// If the folder or the socket cannot be made.
pub fn start(folder: &Path, node: Arc<dyn Node>, process: &Process) -> Result<(), String> {
    let listener = podresources::server::open(folder, SOCKET)
        .map_err(|e| format!("failed to create listener for pods API endpoint: {e}"))?;
    process.tasks.spawn("pods-api", serve(node, listener, process.shutdown.clone()));
    Ok(())
}

/// Serves until `stop`.
pub async fn serve(node: Arc<dyn Node>, listener: UnixListener, stop: CancellationToken) {
    let (rate, burst) = RATE;
    let bucket = Mutex::new(Bucket::new(rate, burst));
    let server = Server { node, start: Instant::now(), bucket, stop: stop.clone() };
    let served = tonic::transport::Server::builder()
        .add_service(PodsServer::new(server))
        .serve_with_incoming_shutdown(
            UnixListenerStream::new(listener).map_ok(AnyAuthority::new),
            stop.cancelled_owned(),
        )
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "Failed to serve pods");
    }
}
