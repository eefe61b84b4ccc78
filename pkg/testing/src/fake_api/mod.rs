//! An API server in the process, with objects, versions, watches and faults.
//!
//! It knows no kinds: an object is what was written, with name, version and uid filled in. What it does of an API
//! server's contract (list in pages, watch from a version, bookmarks, streaming lists, 409, 410) it does strictly, so
//! that clients can be tested against it; validation, selectors other than `metadata.name=`, and formats other than JSON
//! it does not. It speaks HTTP/1.1 over in-memory pipes, so paused clocks work.
//! Start reading at [`FakeApi`]; `state.rs` holds the contract, `serve.rs` the HTTP.

mod serve;
mod state;

use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::io::DuplexStream;
use tokio::sync::Notify;

use state::State;

/// What goes wrong with a request.
#[derive(Debug, Clone)]
pub enum Fault {
    /// This code and reason, with `Retry-After` if given.
    Status(u16, &'static str, Option<u32>),
    /// The connection breaks before the answer.
    Drop,
    /// The answer takes this long.
    Delay(Duration),
    /// Text that is not the promised JSON.
    Garbage,
    /// An answer that stops in the middle.
    Truncate,
}

struct Shared {
    state: Mutex<State>,
    changed: Notify,
    /// (verb, fault), taken by the first request with the verb.
    faults: Mutex<Vec<(String, Fault)>>,
    seen: Mutex<Vec<String>>,
}

/// The server; clones are the same one.
#[derive(Clone)]
pub struct FakeApi(Arc<Shared>);

impl Default for FakeApi {
    fn default() -> Self {
        Self::new()
    }
}

impl FakeApi {
    /// An empty server at version 1.
    pub fn new() -> Self {
        Self(Arc::new(Shared {
            state: Mutex::new(State::default()),
            changed: Notify::new(),
            faults: Mutex::default(),
            seen: Mutex::default(),
        }))
    }

    /// A new connection; the server's end is served by a task.
    pub fn connect(&self) -> DuplexStream {
        let (near, far) = tokio::io::duplex(64 << 10);
        let shared = self.0.clone();
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request| serve::handle(shared.clone(), request));
            let builder = hyper::server::conn::http1::Builder::new();
            // Broken connections are what some tests are about.
            let _ = builder.serve_connection(TokioIo::new(far), service).with_upgrades().await;
        });
        near
    }

    /// Writes an object below a collection path such as `/api/v1/pods`, and returns it as stored.
    pub fn put(&self, collection: &str, object: Value) -> Value {
        let stored = self.0.state.lock().put(collection, object);
        self.0.changed.notify_waiters();
        stored
    }

    /// Removes an object by its key (`namespace/name` or `name`); says whether it was there.
    pub fn remove(&self, collection: &str, key: &str) -> bool {
        let removed = self.0.state.lock().remove(collection, key).is_some();
        self.0.changed.notify_waiters();
        removed
    }

    /// The objects of a collection, by key.
    pub fn objects(&self, collection: &str) -> std::collections::BTreeMap<String, Value> {
        self.0.state.lock().objects(collection)
    }

    /// The newest version.
    pub fn version(&self) -> u64 {
        self.0.state.lock().version
    }

    /// Sends a bookmark to every watch that asked for bookmarks.
    pub fn bookmark(&self) {
        self.0.state.lock().bookmarks += 1;
        self.0.changed.notify_waiters();
    }

    /// Breaks every open watch.
    pub fn cut(&self) {
        self.0.state.lock().cuts += 1;
        self.0.changed.notify_waiters();
    }

    /// Ends every open watch in order.
    pub fn close(&self) {
        self.0.state.lock().closes += 1;
        self.0.changed.notify_waiters();
    }

    /// Forgets past events: a watch from an older version is answered 410, in the head or as an event.
    pub fn compact(&self) {
        self.0.state.lock().compact();
    }

    /// Whether streaming lists are answered, or refused as servers without WatchList do.
    pub fn streaming(&self, on: bool) {
        self.0.state.lock().streaming = on;
    }

    /// The next request with this verb (get, list, watch, create, update, patch, delete) fails so.
    pub fn fail(&self, verb: &str, fault: Fault) {
        self.0.faults.lock().push((verb.to_string(), fault));
    }

    /// Faults that no request has met yet.
    pub fn faults_left(&self) -> usize {
        self.0.faults.lock().len()
    }

    /// `verb path?query` of every request so far.
    pub fn seen(&self) -> Vec<String> {
        self.0.seen.lock().clone()
    }
}
