//! Logs of containers. Upstream: getContainerLogs in pkg/kubelet/server/server.go and kubelet_pods.go, v1.37.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use component::serving::body::{self, Body};
use futures::StreamExt as _;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::StreamBody;
use hyper::body::Incoming;
use inotify::{Inotify, WatchMask};
use k8s_openapi::api::core::v1::{ContainerStatus, PodStatus};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc;

use super::streams::Query;
use crate::kubelet::Kubelet;
use crate::logs::read::{Filter, Progress, Reader};
use crate::pod::view::PodView;
use crate::runtime::model::{ContainerId, ContainerState};
use crate::runtime::query;

/// Bytes per piece of the answer.
const PIECE: usize = 32 << 10;
/// Pieces that wait for a slow reader.
const WAITING: usize = 4;
/// A container that has ended is noticed at the latest after this time.
const LOOK: Duration = Duration::from_secs(1);

/// What is asked for.
#[derive(Debug, Default)]
struct Options {
    follow: bool,
    previous: bool,
    filter: Filter,
}

impl Options {
    fn parse(query: &Query, now: Timestamp) -> Result<Self, &'static str> {
        const BAD: &str = "{\"message\": \"Unable to decode query.\"}";
        const INVALID: &str = "{\"message\": \"Invalid request.\"}";
        // Upstream: `Convert_Slice_string_To_bool`.
        let flag = |name: &str| query.get(name).is_some_and(|t| t != "0" && !t.eq_ignore_ascii_case("false"));
        let number = |name: &str| {
            query.get(name).filter(|t| !t.is_empty()).map(|t| t.parse::<i64>().map_err(|_| BAD)).transpose()
        };
        let mut options =
            Self { follow: flag("follow"), previous: flag("previous"), filter: Filter::default() };
        options.filter.timestamps = flag("timestamps");
        let tail = match query.get("tail") {
            Some("all") => None,
            Some(text) if !text.is_empty() => Some(text.parse::<i64>().map_err(|_| BAD)?),
            _ => number("tailLines")?,
        };
        options.filter.tail = tail.map(|n| u64::try_from(n).map_err(|_| INVALID)).transpose()?;
        let limit = number("limitBytes")?;
        options.filter.limit =
            limit.map(|n| u64::try_from(n).ok().filter(|n| *n > 0).ok_or(INVALID)).transpose()?;
        if let Some(seconds) = number("sinceSeconds")? {
            if seconds < 1 {
                return Err(INVALID);
            }
            options.filter.since = now.checked_sub(SignedDuration::from_secs(seconds)).ok();
        }
        if let Some(text) = query.get("sinceTime").filter(|t| !t.is_empty()) {
            options.filter.since = Some(text.parse().map_err(|_| BAD)?);
        }
        Ok(options)
    }
}

/// Answers `/containerLogs/{namespace}/{pod}/{container}`.
pub(super) async fn container_logs(
    kubelet: &Arc<Kubelet>,
    request: &Request<Incoming>,
    parts: &[String],
) -> Response<Body> {
    let text = |code, text: String| body::text(code, text);
    let [namespace, name, container] = parts else {
        return body::not_found();
    };
    let options = match Options::parse(&Query::of(request), Timestamp::now()) {
        Ok(options) => options,
        Err(message) if message.contains("Invalid") => {
            return text(StatusCode::UNPROCESSABLE_ENTITY, message.into());
        }
        Err(message) => return text(StatusCode::BAD_REQUEST, message.into()),
    };
    let Some(pod) = kubelet.pods.find(namespace, name) else {
        return text(StatusCode::NOT_FOUND, format!("pod {name:?} does not exist\n"));
    };
    if pod.find_container(container).is_none() {
        return text(StatusCode::NOT_FOUND, format!("container {container:?} not found in pod {name:?}\n"));
    }
    let status = kubelet.status.get(pod.uid());
    let id = match choose(status.as_deref().unwrap_or(pod.api_status()), name, container, options.previous) {
        Ok(id) => id,
        Err(message) => return text(StatusCode::BAD_REQUEST, message),
    };
    let found = query::container_status(&kubelet.runtime.cri, &kubelet.runtime.name, &id.id).await;
    let found = match found {
        Ok(found) => found,
        Err(_) => {
            return text(StatusCode::BAD_REQUEST, format!("unable to retrieve container logs for {id}"));
        }
    };
    let path = PathBuf::from(&found.log_path);
    // A log file on the node must not be a link to something else: the path is the runtime's, inside the log folder.
    let reader = match Reader::open(&path, options.filter) {
        Ok(reader) => reader,
        Err(error) => {
            return text(
                StatusCode::BAD_REQUEST,
                format!("failed to try resolving symlinks in path {:?}: {error}", path.display()),
            );
        }
    };
    let follow = options.follow && found.state == ContainerState::Running;
    let (sender, receiver) = mpsc::channel::<Result<Frame<Bytes>, body_error::Error>>(WAITING);
    let kubelet = kubelet.clone();
    tokio::spawn(async move {
        let mut source = Source { kubelet, id, path, reader, sender };
        if let Err(error) = source.send(follow).await {
            tracing::error!(%error, path = %source.path.display(), "Failed reading container log");
        }
    });
    let stream = StreamBody::new(tokio_stream::wrappers::ReceiverStream::new(receiver));
    let mut response = Response::new(body::boxed(stream));
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("text/plain"));
    response
}

mod body_error {
    /// Error type of the body.
    pub(super) type Error = component::serving::BoxError;
}

struct Source {
    kubelet: Arc<Kubelet>,
    id: ContainerId,
    path: PathBuf,
    reader: Reader,
    sender: mpsc::Sender<Result<Frame<Bytes>, body_error::Error>>,
}

impl Source {
    /// Sends until the end, or, following, until the container has ended or nobody listens.
    async fn send(&mut self, follow: bool) -> io::Result<()> {
        let mut changes = if follow { watch(&self.path) } else { None };
        let mut ended = !follow;
        loop {
            let mut out = Vec::with_capacity(PIECE);
            let progress = self.reader.read_some(&mut out, PIECE)?;
            if progress == Progress::End && ended {
                self.reader.finish(&mut out);
            }
            if !out.is_empty() && self.sender.send(Ok(Frame::data(out.into()))).await.is_err() {
                return Ok(());
            }
            match progress {
                Progress::More => {}
                Progress::Done => return Ok(()),
                Progress::End if self.reader.reopen_if_rotated()? => {}
                Progress::End if ended => return Ok(()),
                Progress::End => {
                    let change = async {
                        match &mut changes {
                            Some(stream) => drop(stream.next().await),
                            None => std::future::pending().await,
                        }
                    };
                    tokio::select! {
                        () = change => {}
                        () = tokio::time::sleep(LOOK) => ended = !self.running().await,
                        () = self.sender.closed() => return Ok(()),
                    }
                }
            }
        }
    }

    async fn running(&self) -> bool {
        let status = query::container_status(&self.kubelet.runtime.cri, &self.id.runtime, &self.id.id).await;
        match status {
            Ok(status) => status.state == ContainerState::Running,
            // A runtime that is down for a moment does not end the log.
            Err(error) => !error.is_not_found(),
        }
    }
}

/// Changes in the folder of a log; without them the log is looked at every second.
fn watch(path: &Path) -> Option<inotify::EventStream<[u8; 4096]>> {
    let inotify = Inotify::init().ok()?;
    inotify.watches().add(path.parent()?, WatchMask::MODIFY | WatchMask::CREATE | WatchMask::MOVE).ok()?;
    inotify.into_event_stream([0u8; 4096]).ok()
}

/// Which container's log is meant.
fn choose(status: &PodStatus, pod: &str, container: &str, previous: bool) -> Result<ContainerId, String> {
    let lists =
        [&status.container_statuses, &status.init_container_statuses, &status.ephemeral_container_statuses];
    let found: Option<&ContainerStatus> = lists.into_iter().flatten().flatten().find(|s| s.name == container);
    let Some(found) = found else {
        return Err(format!("container {container:?} in pod {pod:?} is not available"));
    };
    let last = found.last_state.as_ref().and_then(|s| s.terminated.as_ref());
    let last_id = last.and_then(|t| t.container_id.as_deref()).filter(|id| !id.is_empty());
    let state = found.state.clone().unwrap_or_default();
    let id = if previous {
        last_id
            .ok_or_else(|| format!("previous terminated container {container:?} in pod {pod:?} not found"))?
            .to_owned()
    } else if state.running.is_some() {
        found.container_id.clone().unwrap_or_default()
    } else if let Some(ended) = state.terminated {
        let own = ended.container_id.filter(|id| !id.is_empty());
        own.or(last_id.map(str::to_owned))
            .ok_or_else(|| format!("container {container:?} in pod {pod:?} is terminated"))?
    } else if last.is_some() {
        last_id.ok_or_else(|| format!("container {container:?} in pod {pod:?} is terminated"))?.to_owned()
    } else if let Some(waiting) = state.waiting {
        let reason = waiting.reason.unwrap_or_default();
        let reason = match reason.as_str() {
            "ErrImagePull" => "image can't be pulled",
            "ImagePullBackOff" => "trying and failing to pull image",
            other => other,
        };
        return Err(format!("container {container:?} in pod {pod:?} is waiting to start: {reason}"));
    } else {
        return Err(format!("container {container:?} in pod {pod:?} is waiting to start - no logs yet"));
    };
    ContainerId::parse(&id).ok_or_else(|| format!("container {container:?} in pod {pod:?} is not available"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(status: serde_json::Value, previous: bool, expected: Result<&str, &str>) {
        let mut status = status;
        for (key, value) in [
            ("name", json!("c")),
            ("image", json!("")),
            ("imageID", json!("")),
            ("ready", json!(false)),
            ("restartCount", json!(0)),
        ] {
            status[key] = value;
        }
        let status: PodStatus = serde_json::from_value(json!({"containerStatuses": [status]})).unwrap();
        let got = choose(&status, "p", "c", previous).map(|id| id.id);
        assert_eq!(got.as_deref().map_err(String::as_str), expected);
    }

    #[test]
    fn chooses() {
        let ended = json!({"terminated": {"exitCode": 1, "containerID": "r://old"}});
        check(json!({"containerID": "r://new", "state": {"running": {}}}), false, Ok("new"));
        check(
            json!({"containerID": "r://new", "state": {"running": {}}, "lastState": ended}),
            true,
            Ok("old"),
        );
        check(
            json!({"state": {"running": {}}}),
            true,
            Err("previous terminated container \"c\" in pod \"p\" not found"),
        );
        check(
            json!({"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": ended}),
            false,
            Ok("old"),
        );
        check(
            json!({"state": {"waiting": {"reason": "ErrImagePull"}}}),
            false,
            Err("container \"c\" in pod \"p\" is waiting to start: image can't be pulled"),
        );
        check(
            json!({"state": {"waiting": {"reason": "ContainerCreating"}}}),
            false,
            Err("container \"c\" in pod \"p\" is waiting to start: ContainerCreating"),
        );
    }

    #[test]
    fn options() {
        let parse = |query: &str| Options::parse(&Query::parse(query), Timestamp::UNIX_EPOCH);
        let options = parse("follow=true&tailLines=5&limitBytes=10&timestamps=true").unwrap();
        assert!(options.follow && options.filter.timestamps);
        assert_eq!((options.filter.tail, options.filter.limit), (Some(5), Some(10)));
        assert_eq!(parse("tail=all").unwrap().filter.tail, None);
        for bad in ["tailLines=x", "tailLines=-1", "limitBytes=0", "sinceSeconds=0", "sinceTime=x"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
