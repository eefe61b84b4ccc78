//! HTTP: paths to verbs, answers, watch streams.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::{Method, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::state::{Event, key, merge};
use super::{Fault, Shared};

type Body = BoxBody<Bytes, std::io::Error>;
type Answer = Result<Response<Body>, std::io::Error>;

struct Target {
    collection: String,
    namespace: String,
    name: String,
    subresource: String,
}

impl Target {
    fn parse(path: &str) -> Option<Self> {
        let mut parts: Vec<String> = path
            .split('/')
            .filter(|p| !p.is_empty())
            .map(|p| percent_encoding::percent_decode_str(p).decode_utf8_lossy().into_owned())
            .collect();
        let root = if parts.first()? == "api" { 2 } else { 3 };
        if parts.len() <= root {
            return None;
        }
        let rest = parts.split_off(root);
        let root = format!("/{}", parts.join("/"));
        let namespaced = rest.len() >= 3 && rest[0] == "namespaces";
        let (namespace, rest) =
            if namespaced { (rest[1].clone(), &rest[2..]) } else { (String::new(), &rest[..]) };
        Some(Self {
            collection: format!("{root}/{}", rest.first()?),
            namespace,
            name: rest.get(1).cloned().unwrap_or_default(),
            subresource: rest.get(2).cloned().unwrap_or_default(),
        })
    }

    fn key(&self) -> String {
        if self.namespace.is_empty() {
            self.name.clone()
        } else {
            format!("{}/{}", self.namespace, self.name)
        }
    }
}

struct Query(Vec<(String, String)>);

impl Query {
    fn parse(text: &str) -> Self {
        let decode = |s: &str| percent_encoding::percent_decode_str(s).decode_utf8_lossy().into_owned();
        Self(text.split('&').filter_map(|p| p.split_once('=')).map(|(k, v)| (decode(k), decode(v))).collect())
    }
    fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(k, _)| k == name).map_or("", |(_, v)| v)
    }
}

fn full(text: impl Into<Bytes>) -> Body {
    http_body_util::Full::new(text.into()).map_err(|e: Infallible| match e {}).boxed()
}

fn reply(code: u16, value: &Value) -> Response<Body> {
    let mut response = Response::new(full(value.to_string()));
    *response.status_mut() = http::StatusCode::from_u16(code).unwrap_or_default();
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
    response
}

fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code})
}

fn failure(code: u16, reason: &str, message: &str) -> Response<Body> {
    reply(code, &status(code, reason, message))
}

pub(super) async fn handle(shared: Arc<Shared>, request: Request<Incoming>) -> Answer {
    let (parts, body) = request.into_parts();
    let query = Query::parse(parts.uri.query().unwrap_or(""));
    let Some(target) = Target::parse(parts.uri.path()) else {
        return Ok(failure(404, "NotFound", "the server could not find the requested resource"));
    };
    let verb = verb(&parts.method, &target, &query);
    shared.seen.lock().push(format!("{verb} {}", parts.uri.path_and_query().map_or("", |p| p.as_str())));
    let fault = {
        let mut faults = shared.faults.lock();
        faults.iter().position(|(v, _)| v == verb).map(|i| faults.remove(i).1)
    };
    match fault {
        Some(Fault::Drop) => return Err(std::io::Error::other("scripted")),
        Some(Fault::Delay(pause)) => tokio::time::sleep(pause).await,
        Some(Fault::Garbage) => return Ok(reply(200, &json!("}{ no object"))),
        Some(Fault::Truncate) => {
            let frames =
                [Ok(Frame::data(Bytes::from_static(b"{\"kind\""))), Err(std::io::Error::other("scripted"))];
            return Ok(Response::new(BodyExt::boxed(StreamBody::new(futures::stream::iter(frames)))));
        }
        Some(Fault::Status(code, reason, retry)) => {
            let mut response = failure(code, reason, "scripted");
            if let Some(seconds) = retry {
                response.headers_mut().insert("retry-after", seconds.into());
            }
            return Ok(response);
        }
        None => {}
    }
    let media = parts.headers.get("content-type").and_then(|v| v.to_str().ok()).unwrap_or("");
    if media.contains("protobuf") {
        return Ok(failure(415, "UnsupportedMediaType", "this server reads JSON only"));
    }
    let body = body.collect().await.map(|b| b.to_bytes()).unwrap_or_default();
    Ok(match verb {
        "list" => list(&shared, &target, &query),
        "watch" => watch(shared, target, &query),
        _ => write(&shared, verb, &target, &body),
    })
}

fn verb(method: &Method, target: &Target, query: &Query) -> &'static str {
    match (method.as_str(), target.name.is_empty()) {
        ("GET", true) if query.get("watch") == "true" => "watch",
        ("GET", true) => "list",
        ("GET", false) => "get",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        _ => "delete",
    }
}

fn write(shared: &Shared, verb: &str, target: &Target, body: &[u8]) -> Response<Body> {
    let mut state = shared.state.lock();
    let current = state.get(&target.collection, &target.key()).cloned();
    let sent: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let what = format!("{} {:?}", target.collection.rsplit('/').next().unwrap_or(""), target.name);
    let answer = match (verb, current) {
        ("create", _) if target.subresource.is_empty() => {
            let mut object = sent;
            if !target.namespace.is_empty() {
                object["metadata"]["namespace"] = json!(target.namespace);
            }
            if object["metadata"]["name"].as_str().unwrap_or("").is_empty() {
                let prefix = object["metadata"]["generateName"].as_str().unwrap_or("").to_string();
                object["metadata"]["name"] = json!(format!("{prefix}{:05}", state.version));
            }
            if state.get(&target.collection, &key(&object)).is_some() {
                return failure(409, "AlreadyExists", &format!("{} already exists", key(&object)));
            }
            reply(201, &state.put(&target.collection, object))
        }
        ("create", Some(_)) => reply(201, &json!({"kind": "Status", "status": "Success"})),
        (_, None) => return failure(404, "NotFound", &format!("{what} not found")),
        ("get", Some(object)) => reply(200, &object),
        ("update", Some(object)) => {
            let version = &sent["metadata"]["resourceVersion"];
            if version.is_string() && *version != object["metadata"]["resourceVersion"] {
                return failure(409, "Conflict", &format!("{what}: the object has been modified"));
            }
            reply(200, &state.put(&target.collection, sent))
        }
        ("patch", Some(mut object)) => {
            merge(&mut object, &sent);
            reply(200, &state.put(&target.collection, object))
        }
        (_, Some(_)) => {
            let wanted = sent["preconditions"]["uid"].as_str();
            let object = state.remove(&target.collection, &target.key()).unwrap_or_default();
            if wanted.is_some_and(|uid| object["metadata"]["uid"] != uid) {
                return failure(409, "Conflict", "precondition failed");
            }
            reply(200, &object)
        }
    };
    drop(state);
    shared.changed.notify_waiters();
    answer
}

fn matches(object: &Value, namespace: &str, name: &str) -> bool {
    let meta = &object["metadata"];
    (namespace.is_empty() || meta["namespace"] == namespace) && (name.is_empty() || meta["name"] == name)
}

fn only_name(query: &Query) -> String {
    query.get("fieldSelector").strip_prefix("metadata.name=").unwrap_or("").to_string()
}

/// A page token is "version:last key"; a list of past pages expires with compaction, as etcd's does.
fn list(shared: &Shared, target: &Target, query: &Query) -> Response<Body> {
    let state = shared.state.lock();
    let asked: u64 = query.get("resourceVersion").parse().unwrap_or(0);
    if asked > state.version {
        let mut value = status(504, "Timeout", "Too large resource version");
        value["details"] = json!({"causes": [{"reason": "ResourceVersionTooLarge"}], "retryAfterSeconds": 1});
        return reply(504, &value);
    }
    let (version, after) = match query.get("continue").split_once(':') {
        Some((version, after)) => (version.parse().unwrap_or(0), after.to_string()),
        None => (state.version, String::new()),
    };
    if version < state.compacted && version != state.version {
        return failure(410, "Expired", "The provided continue parameter is too old");
    }
    let mut objects = past(&state.objects(&target.collection), &state.log, version, &target.collection);
    objects.retain(|k, o| *k > after && matches(o, &target.namespace, &only_name(query)));
    let limit = query.get("limit").parse().unwrap_or(usize::MAX);
    let more = objects.len() > limit;
    let page: Vec<(String, Value)> = objects.into_iter().take(limit).collect();
    let mut meta = json!({"resourceVersion": version.to_string()});
    if let (true, Some((last, _))) = (more, page.last()) {
        meta["continue"] = json!(format!("{version}:{last}"));
    }
    let items: Vec<Value> = page.into_iter().map(|(_, o)| o).collect();
    reply(200, &json!({"kind": "List", "apiVersion": "v1", "metadata": meta, "items": items}))
}

/// The state at a version: the log undone from the end.
fn past(
    now: &std::collections::BTreeMap<String, Value>,
    log: &[Event],
    version: u64,
    collection: &str,
) -> std::collections::BTreeMap<String, Value> {
    let mut objects = now.clone();
    for event in log.iter().rev().filter(|e| e.collection == collection && e.version > version) {
        let key = key(&event.object);
        objects.remove(&key);
        let before = log.iter().rev().find(|e| {
            e.version < event.version && e.collection == collection && super::state::key(&e.object) == key
        });
        if let Some(before) = before.filter(|b| b.kind != "DELETED") {
            objects.insert(key, before.object.clone());
        }
    }
    objects
}

struct Watcher {
    shared: Arc<Shared>,
    target: Target,
    name: String,
    position: u64,
    bookmarks: Option<u64>,
    cuts: u64,
    closes: u64,
    ready: std::collections::VecDeque<Value>,
}

fn watch(shared: Arc<Shared>, target: Target, query: &Query) -> Response<Body> {
    let state = shared.state.lock();
    let asked = query.get("resourceVersion");
    let initial = query.get("sendInitialEvents") == "true";
    if initial && !state.streaming {
        let message = "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for watch unless the WatchList \
                       feature gate is enabled";
        return failure(422, "Invalid", message);
    }
    let mut position = asked.parse().unwrap_or(0);
    let mut ready = std::collections::VecDeque::new();
    if initial || position == 0 {
        position = state.version;
        for object in state.objects(&target.collection).into_values() {
            if matches(&object, &target.namespace, &only_name(query)) {
                ready.push_back(json!({"type": "ADDED", "object": object}));
            }
        }
    } else if position < state.compacted {
        let gone = status(410, "Expired", "too old resource version");
        ready.push_back(json!({"type": "ERROR", "object": gone}));
    }
    if initial {
        let meta = json!({"resourceVersion": position.to_string(),
            "annotations": {"k8s.io/initial-events-end": "true"}});
        ready.push_back(json!({"type": "BOOKMARK", "object": {"metadata": meta}}));
    }
    let watcher = Watcher {
        name: only_name(query),
        position,
        bookmarks: (query.get("allowWatchBookmarks") == "true").then_some(state.bookmarks),
        cuts: state.cuts,
        closes: state.closes,
        ready,
        target,
        shared: shared.clone(),
    };
    drop(state);
    let mut response = Response::new(BodyExt::boxed(StreamBody::new(frames(watcher).boxed_sync())));
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
    response
}

trait BoxedSync: Stream + Sized {
    fn boxed_sync(self) -> SyncStream<Self>;
}

impl<S: Stream + Send + 'static> BoxedSync for S {
    fn boxed_sync(self) -> SyncStream<Self> {
        SyncStream(parking_lot::Mutex::new(Box::pin(self)))
    }
}

/// hyper's boxed body wants `Sync`; the lock is never contended.
struct SyncStream<S>(parking_lot::Mutex<std::pin::Pin<Box<S>>>);

impl<S: Stream> Stream for SyncStream<S> {
    type Item = S::Item;
    fn poll_next(
        self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<S::Item>> {
        self.0.lock().poll_next_unpin(cx)
    }
}

fn frames(watcher: Watcher) -> impl Stream<Item = Result<Frame<Bytes>, std::io::Error>> + Send {
    futures::stream::unfold(Some(watcher), |watcher| async move {
        let mut watcher = watcher?;
        loop {
            if let Some(value) = watcher.ready.pop_front() {
                return Some((Ok(Frame::data(format!("{value}\n").into())), Some(watcher)));
            }
            let shared = watcher.shared.clone();
            let changed = shared.changed.notified();
            match watcher.look() {
                Look::More => continue,
                Look::Cut => return Some((Err(std::io::Error::other("scripted")), None)),
                Look::Close => return None,
                Look::Wait => changed.await,
            }
        }
    })
}

enum Look {
    More,
    Cut,
    Close,
    Wait,
}

impl Watcher {
    fn look(&mut self) -> Look {
        let state = self.shared.state.lock();
        if state.cuts != self.cuts {
            return Look::Cut;
        }
        for event in
            state.log.iter().filter(|e| e.version > self.position && e.collection == self.target.collection)
        {
            if matches(&event.object, &self.target.namespace, &self.name) {
                self.ready.push_back(json!({"type": event.kind, "object": event.object}));
            }
        }
        self.position = state.version;
        if let Some(seen) = self.bookmarks.as_mut().filter(|b| **b != state.bookmarks) {
            *seen = state.bookmarks;
            let meta = json!({"resourceVersion": state.version.to_string()});
            self.ready.push_back(json!({"type": "BOOKMARK", "object": {"metadata": meta}}));
        }
        if !self.ready.is_empty() {
            return Look::More;
        }
        if state.closes != self.closes { Look::Close } else { Look::Wait }
    }
}
