//! A small path router for the daemons' own pages. Exact paths win over prefixes, longer prefixes over shorter.
//! Upstream: apiserver/pkg/server/mux/pathrecorder.go.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use futures::future::BoxFuture;
use http::{Request, Response};

use super::body::{self, Body};

/// Answers one request.
pub type Handler = Arc<dyn Fn(Request<Body>) -> BoxFuture<'static, Response<Body>> + Send + Sync>;

/// Paths and their handlers. Build it, then share it in an `Arc`.
#[derive(Default, Clone)]
pub struct Mux {
    exact: BTreeMap<String, Handler>,
    prefixes: BTreeMap<String, Handler>,
    fallback: Option<Handler>,
}

impl std::fmt::Debug for Mux {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.paths()).finish()
    }
}

/// Wraps an async function as a [`Handler`].
pub fn handler<F, Fut>(function: F) -> Handler
where
    F: Fn(Request<Body>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Response<Body>> + Send + 'static,
{
    Arc::new(move |request| Box::pin(function(request)))
}

/// Wraps a plain function as a [`Handler`].
pub fn immediate<F>(function: F) -> Handler
where
    F: Fn(&Request<Body>) -> Response<Body> + Send + Sync + 'static,
{
    Arc::new(move |request| {
        let response = function(&request);
        Box::pin(std::future::ready(response))
    })
}

impl Mux {
    /// Serves exactly this path; the last registration wins.
    pub fn handle(&mut self, path: impl Into<String>, handler: Handler) {
        self.exact.insert(path.into(), handler);
    }

    /// Serves every path that starts with `prefix` (ending in a slash).
    pub fn handle_prefix(&mut self, prefix: impl Into<String>, handler: Handler) {
        self.prefixes.insert(prefix.into(), handler);
    }

    /// Serves what nothing else does, instead of Go's "404 page not found".
    pub fn fallback(&mut self, handler: Handler) {
        self.fallback = Some(handler);
    }

    /// Registered paths in order, for an index page.
    pub fn paths(&self) -> Vec<String> {
        let mut paths: Vec<String> = self.exact.keys().chain(self.prefixes.keys()).cloned().collect();
        paths.sort();
        paths
    }

    /// The handler of a path.
    pub fn find(&self, path: &str) -> Option<&Handler> {
        if let Some(exact) = self.exact.get(path) {
            return Some(exact);
        }
        let candidates = self.prefixes.range(..=path.to_string()).rev();
        candidates
            .clone()
            .find(|(prefix, _)| path.starts_with(prefix.as_str()))
            .map(|(_, h)| h)
            .or(self.fallback.as_ref())
    }

    /// Answers one request.
    pub async fn call(&self, request: Request<Body>) -> Response<Body> {
        match self.find(request.uri().path()) {
            Some(handler) => handler(request).await,
            None => body::not_found(),
        }
    }
}

/// Values of a query parameter, percent-decoded; present without a value is an empty text.
pub fn query_values(request: &Request<Body>, name: &str) -> Vec<String> {
    let query = request.uri().query().unwrap_or("");
    let pairs = query.split('&').filter(|p| !p.is_empty());
    pairs
        .filter_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key) == name).then(|| decode(value))
        })
        .collect()
}

fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&b) = bytes.get(at) {
        let hex = |i: usize| bytes.get(i).and_then(|b| char::from(*b).to_digit(16));
        match (b, hex(at + 1), hex(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 3;
            }
            (b'+', _, _) => {
                out.push(b' ');
                at += 1;
            }
            _ => {
                out.push(b);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
