//! A proxy in front of an API server that disturbs one daemon: it loses answers, refuses writes, holds back events of
//! watches, or keeps them to itself for a while.
//!
//! The daemon speaks plain HTTP to it; the proxy speaks to the API server with a client's credentials. Reads are passed
//! on untouched, and leases and events are no writes here. Start reading at [`Fault`], then [`Proxy::start`].

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use client::{Client, Options, Request as Call};
use http::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::frames::{Frames, Framing, ends_initial, is_bookmark};

/// How long an event may be kept from the daemon.
const MISSED: Duration = Duration::from_secs(3);
/// How long a watch stands still.
const FROZEN: Duration = Duration::from_millis(1500);

type Failure = Box<dyn std::error::Error + Send + Sync>;
type Body = UnsyncBoxBody<Bytes, Failure>;

/// What is done to the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    /// The write of this number, from 1, is done and its answer never arrives: the daemon is to be killed then.
    CrashAt(u64),
    /// One event of four stops its watch for a while; nothing is lost.
    Frozen,
    /// One event of three is kept back; a little later the watch ends and its version is gone, so that it must list.
    Missed,
    /// One write of two fails: in its answer, by conflict, by overload, or after it was done.
    Storm,
    /// Every write fails.
    Refused,
}

/// What becomes of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Pass,
    /// It is done; no answer ever comes.
    Silence,
    /// It is done; the connection breaks.
    Cut,
    Fail(StatusCode, &'static str),
}

impl Fault {
    /// `number` counts the writes since the fault was set; `salt` makes one round's storm differ from another's.
    fn fate(self, number: u64, salt: u64) -> Fate {
        match self {
            Self::CrashAt(at) if at == number => Fate::Silence,
            Self::Refused => Fate::Fail(StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
            Self::Storm => match mix(salt) % 10 {
                0 => Fate::Cut,
                1 => Fate::Fail(StatusCode::CONFLICT, "Conflict"),
                2 => Fate::Fail(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests"),
                3 => Fate::Fail(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable"),
                4 => Fate::Fail(StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
                _ => Fate::Pass,
            },
            _ => Fate::Pass,
        }
    }
}

/// A number spread over all bits. Source: splitmix64.
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

struct State {
    fault: Fault,
    /// Writes since the fault was set, and ever.
    writes: u64,
    ever: u64,
    /// Of the first, by method and path.
    by_path: BTreeMap<String, u64>,
    /// Events of watches, ever.
    events: u64,
    /// Watches whose next version is gone.
    expired: BTreeSet<String>,
}

struct Shared {
    client: Client,
    state: Mutex<State>,
    crash: Notify,
}

/// A running proxy.
#[derive(Clone)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Proxy {
    /// Listens on a free port.
    ///
    /// # Errors
    /// When there is none.
    pub async fn start(client: Client) -> Result<Self> {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.context("listening")?;
        let state = State {
            fault: Fault::None,
            writes: 0,
            ever: 0,
            by_path: BTreeMap::new(),
            events: 0,
            expired: BTreeSet::new(),
        };
        let shared = Arc::new(Shared { client, state: Mutex::new(state), crash: Notify::new() });
        let proxy = Self { address: listener.local_addr()?, shared: shared.clone() };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = shared.clone();
                let service = service_fn(move |request| answer(shared.clone(), request));
                tokio::spawn(async move {
                    // The daemon's end, or a connection cut on purpose.
                    let _ = auto::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Ok(proxy)
    }

    /// Writes a kubeconfig that leads here.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn kubeconfig(&self, path: &Path) -> Result<()> {
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: x\nclusters: [{{name: c, cluster: {{server: \"http://{}\"}}}}]\n\
             users: [{{name: u, user: {{}}}}]\ncontexts: [{{name: x, context: {{cluster: c, user: u}}}}]\n",
            self.address
        );
        std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
    }

    /// Disturbs from now on in this way; counts begin anew.
    pub fn set(&self, fault: Fault) {
        let mut state = self.shared.state.lock();
        state.fault = fault;
        state.writes = 0;
        state.by_path.clear();
        state.expired.clear();
    }

    /// Writes since the fault was set.
    pub fn writes(&self) -> u64 {
        self.shared.state.lock().writes
    }

    /// The most often tried write since the fault was set.
    pub fn most(&self) -> (String, u64) {
        let state = self.shared.state.lock();
        state.by_path.iter().max_by_key(|(_, n)| **n).map(|(p, n)| (p.clone(), *n)).unwrap_or_default()
    }

    /// Waits for the write after which the daemon is to be killed.
    pub async fn crash(&self) {
        self.shared.crash.notified().await;
    }
}

/// Writes that are counted and disturbed.
fn is_write(method: &Method, path: &str) -> bool {
    let aside = ["/leases", "/events", "reviews", "/token"];
    method != Method::GET && !aside.iter().any(|a| path.contains(a))
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Body>, Failure> {
    let (head, body) = request.into_parts();
    let call = Call {
        url: head.uri.path_and_query().map_or_else(|| "/".to_string(), ToString::to_string),
        method: head.method.clone(),
        accept: text(&head, ACCEPT).into(),
        headers: head.headers.get(CONTENT_TYPE).map(|v| (CONTENT_TYPE, v.clone())).into_iter().collect(),
        body: body.collect().await?.to_bytes(),
        streaming: true,
        ..Call::get("")
    };
    let options = Options { user_agent: text(&head, USER_AGENT), qps: -1.0, ..Options::default() };
    let client = shared.client.with_options(&options)?;
    if is_write(&head.method, head.uri.path()) {
        return write(&shared, &client, &call).await;
    }
    let watch = head.uri.query().is_some_and(|q| q.contains("watch=true") || q.contains("watch=1"));
    if !watch {
        return Ok(client.once(&call).await?.map(|b| b.map_err(Failure::from).boxed_unsync()));
    }
    // A list that streams starts from nothing; only what continues can be too old.
    let listing = call.url.contains("sendInitialEvents=true");
    let watch = identity(&call);
    if !listing && shared.state.lock().expired.remove(&watch) {
        return Ok(failure(StatusCode::GONE, "Expired"));
    }
    let (head, body) = client.once(&call).await?.into_parts();
    let media = head.headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let events = Events {
        shared,
        watch,
        frames: Frames::new(Framing::of(media)),
        body,
        initial: listing,
        missed: None,
    };
    let stream = futures::stream::unfold(events, Events::next);
    Ok(Response::from_parts(head, StreamBody::new(stream).boxed_unsync()))
}

/// What a watch has in common with the one that goes on where it ended: several may watch one kind.
fn identity(call: &Call) -> String {
    let (path, query) = call.url.split_once('?').unwrap_or((&call.url, ""));
    let selectors: Vec<&str> = query.split('&').filter(|p| p.contains("Selector=")).collect();
    format!("{path} {} {}", selectors.join("&"), call.accept)
}

fn text(head: &http::request::Parts, name: http::HeaderName) -> String {
    head.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_string()
}

async fn write(shared: &Shared, client: &Client, call: &Call) -> Result<Response<Body>, Failure> {
    let fate = {
        let mut state = shared.state.lock();
        state.writes += 1;
        state.ever += 1;
        let path = format!("{} {}", call.method, call.url);
        *state.by_path.entry(path).or_default() += 1;
        state.fault.fate(state.writes, state.ever)
    };
    if let Fate::Fail(code, reason) = fate {
        return Ok(failure(code, reason));
    }
    let answer = client.once(call).await?.map(|b| b.map_err(Failure::from).boxed_unsync());
    match fate {
        Fate::Silence => {
            shared.crash.notify_one();
            std::future::pending().await
        }
        Fate::Cut => Err("cut on purpose".into()),
        _ => Ok(answer),
    }
}

fn failure(code: StatusCode, reason: &str) -> Response<Body> {
    let details = json!({ "retryAfterSeconds": 1 });
    let status = json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code.as_u16(), "reason": reason,
        "message": "made up by a fault test", "details": details,
    });
    let body = Full::new(Bytes::from(status.to_string()));
    let mut response =
        Response::new(body.map_err(|e: Infallible| Failure::from(e.to_string())).boxed_unsync());
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    if code == StatusCode::TOO_MANY_REQUESTS || code == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(RETRY_AFTER, http::HeaderValue::from_static("1"));
    }
    response
}

/// A watch on its way to the daemon.
struct Events {
    shared: Arc<Shared>,
    watch: String,
    frames: Frames,
    body: client::transport::Body,
    /// The initial state of a streaming list is left alone.
    initial: bool,
    /// When the watch must end, because something was kept back.
    missed: Option<Instant>,
}

/// What becomes of an event.
enum Event {
    Pass,
    Keep,
    Freeze,
}

impl Events {
    async fn next(mut self) -> Option<(Result<Frame<Bytes>, Failure>, Self)> {
        loop {
            while let Some(frame) = self.frames.take() {
                match self.judge(&frame) {
                    Event::Keep => continue,
                    Event::Freeze => tokio::time::sleep(FROZEN).await,
                    Event::Pass => {}
                }
                return Some((Ok(Frame::data(frame)), self));
            }
            let more = match self.missed {
                None => self.body.frame().await,
                Some(end) => match tokio::time::timeout_at(end, self.body.frame()).await {
                    Ok(more) => more,
                    Err(_) => {
                        self.shared.state.lock().expired.insert(self.watch.clone());
                        return None;
                    }
                },
            };
            match more? {
                Ok(frame) => {
                    if let Ok(data) = frame.into_data() {
                        self.frames.push(&data);
                    }
                }
                Err(e) => return Some((Err(e), self)),
            }
        }
    }

    fn judge(&mut self, frame: &[u8]) -> Event {
        if is_bookmark(frame) || self.initial {
            self.initial &= !ends_initial(frame);
            return Event::Pass;
        }
        let mut state = self.shared.state.lock();
        state.events += 1;
        match state.fault {
            Fault::Frozen if mix(state.events).is_multiple_of(4) => Event::Freeze,
            Fault::Missed if mix(state.events).is_multiple_of(3) => {
                self.missed.get_or_insert_with(|| Instant::now() + MISSED);
                Event::Keep
            }
            _ => Event::Pass,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_hits_half_of_the_writes() {
        let hit = (1..=1000).filter(|n| Fault::Storm.fate(1, *n) != Fate::Pass).count();
        assert!((400..600).contains(&hit), "{hit}");
    }

    #[test]
    fn one_write_is_the_last() {
        let fates: Vec<Fate> = (1..=3).map(|n| Fault::CrashAt(2).fate(n, 0)).collect();
        assert_eq!(fates, [Fate::Pass, Fate::Silence, Fate::Pass]);
    }

    #[test]
    fn bookkeeping_is_no_write() {
        for (method, path, want) in [
            (Method::GET, "/api/v1/pods", false),
            (Method::POST, "/api/v1/namespaces/a/pods", true),
            (Method::PUT, "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/x", false),
            (Method::POST, "/api/v1/namespaces/a/events", false),
        ] {
            assert_eq!(is_write(&method, path), want, "{method} {path}");
        }
    }
}
