//! Commands in containers, attached terminals and forwarded ports: asked from the runtime, then bytes both ways.
//!
//! What the caller proposes (SPDY, or WebSocket with the protocols that the runtime knows) is proposed to the runtime's
//! streaming server, and its answer handed back. What runtimes do not know is translated (`websockets`).
//! Upstream: pkg/kubelet/server/server.go getExec, getAttach, getPortForward; apimachinery/pkg/util/proxy, v1.37.

use std::time::Duration;

use bytes::Bytes;
use component::serving::body::{self, Body};
use cri::v1;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{Server, websockets};
use crate::kubelet::Kubelet;
use crate::metrics::streams::count;
use crate::pod::view::PodView;
use crate::runtime::query;

/// The runtime's server is on this machine and has to answer soon.
pub(super) const CONNECT: Duration = Duration::from_secs(10);

/// A request's query, decoded.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn of<B>(request: &Request<B>) -> Self {
        Self::parse(request.uri().query().unwrap_or_default())
    }

    pub(super) fn parse(text: &str) -> Self {
        let decode = |part: &str| super::decode(&part.replace('+', " "));
        let pairs = text.split('&').filter(|p| !p.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        });
        Self(pairs.collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    pub(super) fn all(&self, name: &str) -> Vec<String> {
        self.0.iter().filter(|(n, _)| n == name).map(|(_, v)| v.clone()).collect()
    }
}

/// Streams that a caller wants.
struct Wanted {
    stdin: bool,
    stdout: bool,
    stderr: bool,
    tty: bool,
}

impl Wanted {
    fn parse(query: &Query) -> Result<Self, &'static str> {
        let on = |name: &str| query.get(name) == Some("1");
        let mut wanted =
            Self { stdin: on("input"), stdout: on("output"), stderr: on("error"), tty: on("tty") };
        if wanted.tty {
            // A terminal has one output.
            wanted.stderr = false;
        }
        if !wanted.stdin && !wanted.stdout && !wanted.stderr {
            return Err("you must specify at least 1 of stdin, stdout, stderr");
        }
        Ok(wanted)
    }

    /// For the translation, where `tty` says whether there is a terminal.
    fn streams(&self, tty: bool) -> streaming::translate::Wanted {
        let &Self { stdin, stdout, stderr, .. } = self;
        streaming::translate::Wanted { stdin, stdout, stderr: stderr && !tty, tty }
    }
}

fn refuse(code: StatusCode, text: impl Into<String>) -> Response<Body> {
    body::text(code, format!("{}\n", text.into()))
}

/// The runtime's id of a running container; parts are namespace, pod, optionally uid, container.
async fn container(kubelet: &Kubelet, parts: &[String]) -> Result<String, Response<Body>> {
    let (namespace, name, uid, container) = match parts {
        [namespace, name, container] => (namespace, name, None, container),
        [namespace, name, uid, container] => (namespace, name, Some(uid), container),
        _ => return Err(body::not_found()),
    };
    let pod = kubelet.pods.find(namespace, name);
    let Some(pod) = pod.filter(|p| uid.is_none_or(|uid| uid == p.uid())) else {
        return Err(refuse(StatusCode::NOT_FOUND, "pod does not exist"));
    };
    let status = query::pod_status(&kubelet.runtime.cri, &kubelet.runtime.name, pod.uid()).await;
    let status = status.map_err(|e| refuse(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))?;
    match status.running().find(|c| c.name == *container) {
        Some(found) => Ok(found.id.id.clone()),
        None => {
            let text = format!("container not found ({container:?})");
            Err(refuse(StatusCode::INTERNAL_SERVER_ERROR, text))
        }
    }
}

fn runtime_refused(error: &cri::Error) -> Response<Body> {
    let code = if error.is_not_found() { StatusCode::NOT_FOUND } else { StatusCode::INTERNAL_SERVER_ERROR };
    refuse(code, error.to_string())
}

/// Answers `/exec/...`.
pub(super) async fn exec(server: &Server, request: Request<Incoming>, parts: &[String]) -> Response<Body> {
    let query = Query::of(&request);
    let wanted = match Wanted::parse(&query) {
        Ok(wanted) => wanted,
        Err(text) => return refuse(StatusCode::BAD_REQUEST, text),
    };
    let container_id = match container(&server.kubelet, parts).await {
        Ok(id) => id,
        Err(answer) => return answer,
    };
    let message = v1::ExecRequest {
        container_id,
        cmd: query.all("command"),
        tty: wanted.tty,
        stdin: wanted.stdin,
        stdout: wanted.stdout,
        stderr: wanted.stderr,
    };
    match server.kubelet.runtime.cri.exec(message).await {
        Ok(answer) if websockets::wants_channels(request.headers()) => {
            websockets::channels(request, answer.url, "exec", wanted.streams(wanted.tty))
        }
        Ok(answer) => pass_through(server, request, &answer.url, None).await,
        Err(error) => runtime_refused(&error),
    }
}

/// Answers `/attach/...`.
pub(super) async fn attach(server: &Server, request: Request<Incoming>, parts: &[String]) -> Response<Body> {
    let wanted = match Wanted::parse(&Query::of(&request)) {
        Ok(wanted) => wanted,
        Err(text) => return refuse(StatusCode::BAD_REQUEST, text),
    };
    let container_id = match container(&server.kubelet, parts).await {
        Ok(id) => id,
        Err(answer) => return answer,
    };
    // Whether the container has a terminal is its own choice, not the caller's.
    let tty = (parts.first().zip(parts.get(1)).zip(parts.last()))
        .and_then(|((ns, name), c)| server.kubelet.pods.find(ns, name)?.find_container(c)?.to_container().tty)
        .unwrap_or(false);
    let message = v1::AttachRequest {
        container_id,
        stdin: wanted.stdin,
        tty,
        stdout: wanted.stdout,
        stderr: wanted.stderr && !tty,
    };
    match server.kubelet.runtime.cri.attach(message).await {
        Ok(answer) if websockets::wants_channels(request.headers()) => {
            // Upstream believes the caller, and waits for streams that the runtime does not take.
            websockets::channels(request, answer.url, "attach", wanted.streams(tty))
        }
        Ok(answer) => pass_through(server, request, &answer.url, None).await,
        Err(error) => runtime_refused(&error),
    }
}

/// Answers `/portForward/...`.
pub(super) async fn port_forward(
    server: &Server,
    request: Request<Incoming>,
    parts: &[String],
) -> Response<Body> {
    let (namespace, name, uid) = match parts {
        [namespace, name] => (namespace, name, None),
        [namespace, name, uid] => (namespace, name, Some(uid)),
        _ => return body::not_found(),
    };
    let Some(pod) = server.kubelet.pods.find(namespace, name) else {
        return refuse(StatusCode::NOT_FOUND, "pod does not exist");
    };
    if uid.is_some_and(|uid| uid != pod.uid()) {
        return refuse(StatusCode::NOT_FOUND, "pod not found");
    }
    // Through a tunnel, each stream names its port.
    let unwrapped = websockets::unwrapped(request.headers());
    let websocket = header(request.headers(), "upgrade").eq_ignore_ascii_case("websocket");
    let mut port = Vec::new();
    if websocket && unwrapped.is_none() {
        for text in Query::of(&request).all("port").iter().flat_map(|t| t.split(',')) {
            match text.parse::<u16>() {
                Ok(number) if number > 0 => port.push(i32::from(number)),
                _ => return refuse(StatusCode::BAD_REQUEST, format!("unable to parse {text:?} as a port")),
            }
        }
        if port.is_empty() {
            return refuse(StatusCode::BAD_REQUEST, "query parameter \"port\" is required");
        }
    }
    let cri = &server.kubelet.runtime.cri;
    let status = match query::pod_status(cri, &server.kubelet.runtime.name, pod.uid()).await {
        Ok(status) => status,
        Err(error) => return runtime_refused(&error),
    };
    let Some(sandbox) = status.active_sandbox() else {
        return refuse(StatusCode::INTERNAL_SERVER_ERROR, "pod not found");
    };
    let message = v1::PortForwardRequest { pod_sandbox_id: sandbox.to_owned(), port };
    match cri.port_forward(message).await {
        Ok(answer) => pass_through(server, request, &answer.url, unwrapped).await,
        Err(error) => runtime_refused(&error),
    }
}

/// Answers `/run/...`: a command without input, its output as text.
pub(super) async fn run(kubelet: &Kubelet, request: &Request<Incoming>, parts: &[String]) -> Response<Body> {
    let container_id = match container(kubelet, parts).await {
        Ok(id) => id,
        Err(answer) => return answer,
    };
    let command: Vec<String> =
        Query::of(request).get("cmd").unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    match kubelet.runtime.cri.exec_sync(&container_id, command, Duration::ZERO).await {
        Ok(answer) => {
            let mut output = answer.stdout;
            output.extend_from_slice(&answer.stderr);
            body::text(StatusCode::OK, output)
        }
        Err(error) => runtime_refused(&error),
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
}

/// Proposes the caller's upgrade to the runtime's server and joins the two connections. With `unwrapped`, the headers
/// of what is in the caller's tunnel, that is proposed instead.
async fn pass_through(
    server: &Server,
    request: Request<Incoming>,
    url: &str,
    unwrapped: Option<HeaderMap>,
) -> Response<Body> {
    if header(request.headers(), "upgrade").is_empty() {
        return refuse(StatusCode::BAD_REQUEST, "Upgrade request required");
    }
    if unwrapped.is_some() {
        count("portforward");
    }
    let idle = server.settings.streaming_connection_idle_timeout.to_std();
    match tokio::time::timeout(CONNECT, propose(request, url, unwrapped, idle)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => {
            refuse(StatusCode::INTERNAL_SERVER_ERROR, format!("error dialing backend: {error}"))
        }
        Err(_) => refuse(StatusCode::INTERNAL_SERVER_ERROR, "error dialing backend: i/o timeout"),
    }
}

/// A connection to the runtime's server.
pub(super) struct Place {
    pub(super) stream: TcpStream,
    pub(super) authority: String,
    /// Path and query.
    pub(super) target: String,
}

/// Connects to the address that the runtime has told.
pub(super) async fn connect(url: &str) -> Result<Place, component::app::Error> {
    let url: Uri = url.parse()?;
    let authority = url.authority().ok_or("the runtime's address has no host")?;
    let host = authority.host().trim_matches(['[', ']']);
    let stream = TcpStream::connect((host, authority.port_u16().unwrap_or(80))).await?;
    let target = url.path_and_query().map_or("/", |p| p.as_str()).to_owned();
    Ok(Place { stream, authority: authority.to_string(), target })
}

async fn propose(
    mut request: Request<Incoming>,
    url: &str,
    unwrapped: Option<HeaderMap>,
    idle: Duration,
) -> Result<Response<Body>, component::app::Error> {
    let place = connect(url).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(place.stream)).await?;
    tokio::spawn(async move {
        // Its end is noticed by whoever uses the connection.
        let _ = connection.with_upgrades().await;
    });
    let is_tunnel = unwrapped.is_some();
    let method = if is_tunnel { Method::POST } else { request.method().clone() };
    let mut outgoing = Request::builder().method(method).uri(place.target);
    for (name, value) in unwrapped.as_ref().unwrap_or(request.headers()) {
        // The runtime needs no credentials of the caller.
        if name != http::header::HOST && name != http::header::AUTHORIZATION {
            outgoing = outgoing.header(name, value);
        }
    }
    let outgoing = outgoing.header(http::header::HOST, place.authority).body(Empty::<Bytes>::new())?;
    let mut answer = sender.send_request(outgoing).await?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(answer.map(body::boxed));
    }
    let headers = if is_tunnel {
        streaming::tunnel::answer(request.headers(), answer.headers())?
    } else {
        std::mem::take(answer.headers_mut())
    };
    let caller = hyper::upgrade::on(&mut request);
    let runtime = hyper::upgrade::on(answer);
    tokio::spawn(async move {
        if let Err(error) = join(caller, runtime, is_tunnel, idle).await {
            tracing::debug!(%error, "Streaming connection ended");
        }
        drop(sender);
    });
    Ok(websockets::switching(headers))
}

async fn join(
    caller: hyper::upgrade::OnUpgrade,
    runtime: hyper::upgrade::OnUpgrade,
    is_tunnel: bool,
    idle: Duration,
) -> Result<(), component::app::Error> {
    let (caller, runtime) = tokio::try_join!(caller, runtime)?;
    // The runtime's server ends idle streams itself; this bound is for one that does not.
    let limit =
        if idle.is_zero() { Duration::from_secs(u64::from(u32::MAX)) } else { idle.saturating_mul(6) };
    websockets::join(TokioIo::new(caller), TokioIo::new(runtime), is_tunnel, limit).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        let query = Query::parse("command=sh&command=-c&command=echo+a%20b&input=1&tty=1&error=1");
        assert_eq!(query.all("command"), ["sh", "-c", "echo a b"]);
        let wanted = Wanted::parse(&query).unwrap();
        assert!(wanted.stdin && wanted.tty && !wanted.stderr && !wanted.stdout);
        assert!(Wanted::parse(&Query::parse("tty=1&error=1")).is_err());
    }
}
