//! Spans of HTTP requests: what they say of requests and answers, and when they end.
//! Upstream: go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp v0.69.0, internal/semconv.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Buf;
use http::{HeaderMap, Method, Uri, Version};
use http_body::{Body, Frame, SizeHint};
use opentelemetry::KeyValue;

use crate::span::text;
use crate::{Scope, Span, Traces};

/// What the server's side of a request says.
#[derive(Debug)]
pub struct Request<'a> {
    /// The server's name where it has one; else what the client calls it.
    pub server: &'a str,
    /// Method.
    pub method: &'a Method,
    /// URI and headers as they came.
    pub uri: &'a Uri,
    /// Headers.
    pub headers: &'a HeaderMap,
    /// HTTP's version.
    pub version: Version,
    /// Whether the connection is secured.
    pub tls: bool,
    /// The other side.
    pub peer: Option<SocketAddr>,
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
}

/// Host and port of an authority; the port only where it is not the scheme's own.
fn host_port(authority: &str, tls: bool) -> (&str, Option<u16>) {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()),
        _ => (authority, None),
    };
    let usual = if tls { 443 } else { 80 };
    (host.trim_start_matches('[').trim_end_matches(']'), port.filter(|p| *p != usual && *p != 0))
}

fn method(method: &Method) -> [Option<KeyValue>; 2] {
    const KEY: &str = "http.request.method";
    let known = |m: &str| {
        ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"]
            .into_iter()
            .find(|k| *k == m)
    };
    if let Some(known) = known(method.as_str()) {
        return [Some(KeyValue::new(KEY, known)), None];
    }
    let meant = known(&method.as_str().to_ascii_uppercase()).unwrap_or("_OTHER");
    [
        Some(KeyValue::new(KEY, meant)),
        Some(KeyValue::new("http.request.method_original", text(method.as_str()))),
    ]
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "2.0",
        Version::HTTP_10 => "1.0",
        _ => "1.1",
    }
}

impl Request<'_> {
    /// What is known when it comes in.
    pub fn attributes(&self) -> Vec<KeyValue> {
        let named = match self.uri.authority() {
            Some(authority) => authority.as_str(),
            None => header(self.headers, "host"),
        };
        let (host, port) = match self.server {
            "" => host_port(named, self.tls),
            server => (server, host_port(named, self.tls).1),
        };
        let mut out = Vec::with_capacity(14);
        out.push(KeyValue::new("server.address", text(host)));
        out.extend(method(self.method).into_iter().flatten());
        out.push(KeyValue::new("url.scheme", if self.tls { "https" } else { "http" }));
        out.extend(port.map(|port| KeyValue::new("server.port", i64::from(port))));
        let peer = self.peer.map(|peer| peer.ip().to_canonical().to_string());
        if let (Some(address), Some(peer)) = (&peer, self.peer) {
            out.push(KeyValue::new("network.peer.address", address.clone()));
            out.push(KeyValue::new("network.peer.port", i64::from(peer.port())));
        }
        let agent = header(self.headers, "user-agent");
        if !agent.is_empty() {
            out.push(KeyValue::new("user_agent.original", text(agent)));
        }
        let forwarded = header(self.headers, "x-forwarded-for").split(',').next().unwrap_or_default();
        let client = if forwarded.is_empty() { peer.as_deref().unwrap_or_default() } else { forwarded };
        if !client.is_empty() {
            out.push(KeyValue::new("client.address", text(client)));
        }
        if !self.uri.path().is_empty() {
            out.push(KeyValue::new("url.path", text(self.uri.path())));
        }
        out.push(KeyValue::new("network.protocol.version", version(self.version)));
        out
    }
}

/// Tells a server's span of the answer. Upstream: `HTTPServer.ResponseTraceAttrs` and `Status`.
pub fn answered(span: &Span, status: u16, read: u64, written: u64) {
    let size = |key: &'static str, size: u64| {
        (size > 0).then(|| KeyValue::new(key, i64::try_from(size).unwrap_or(i64::MAX)))
    };
    span.set(|| {
        let sizes = [size("http.request.body.size", read), size("http.response.body.size", written)];
        let code = KeyValue::new("http.response.status_code", i64::from(status));
        sizes.into_iter().flatten().chain([code]).collect()
    });
    if status >= 500 {
        span.fail(String::new);
    }
}

/// A request to another server on behalf of the current span; see [`call`].
pub fn outgoing(method: Method, url: impl FnOnce() -> String, headers: &mut HeaderMap) -> Span {
    match crate::span::current_traces() {
        Some(traces) => call(&traces, &method, &url(), headers),
        None => Span::none(),
    }
}

/// A request to another server: the span, which the request's headers name.
/// Upstream: `Transport.RoundTrip` of otelhttp.
pub fn call(traces: &Traces, name: &Method, url: &str, headers: &mut HeaderMap) -> Span {
    let span = traces.call(Scope::Http, format!("HTTP {name}"), || {
        let uri: Uri = url.parse().unwrap_or_default();
        let tls = uri.scheme_str() == Some("https");
        let (host, port) = host_port(uri.authority().map_or("", |a| a.as_str()), tls);
        let mut out = Vec::with_capacity(8);
        out.extend(method(name).into_iter().flatten());
        out.push(KeyValue::new("url.full", text(url)));
        out.push(KeyValue::new("server.address", text(host)));
        out.extend(port.map(|port| KeyValue::new("server.port", i64::from(port))));
        // What Go's requests say before a connection is chosen.
        out.push(KeyValue::new("network.protocol.version", "1.1"));
        out
    });
    span.inject(headers);
    span
}

/// Tells a client's span of the answer. Upstream: `HTTPClient.ResponseTraceAttrs` and `Status`.
pub fn received(span: &Span, status: u16) {
    span.set(|| vec![KeyValue::new("http.response.status_code", i64::from(status))]);
    if status >= 400 {
        span.set(|| vec![KeyValue::new("error.type", status.to_string())]);
        span.fail(String::new);
    }
}

/// Tells a client's span that there is no answer.
pub fn failed(span: &Span, why: &dyn std::fmt::Display) {
    span.set(|| vec![KeyValue::new("error.type", "*net.OpError")]);
    span.fail(|| why.to_string());
}

/// What has been read of a request's body.
#[derive(Clone, Debug, Default)]
pub(crate) struct Read(Arc<AtomicU64>);

/// Tells the current request that so much of its body was read.
pub fn read(bytes: usize) {
    if crate::is_on() {
        opentelemetry::Context::map_current(|current| {
            if let Some(Read(so_far)) = current.get::<Read>() {
                so_far.fetch_add(bytes as u64, Ordering::Relaxed);
            }
        });
    }
}

/// A body whose span ends with it, or when the other side leaves.
#[derive(Debug)]
pub struct Spanned<B> {
    inner: B,
    span: Span,
    status: u16,
    written: u64,
}

impl<B> Spanned<B> {
    /// The body of the answer to a request.
    pub fn new(inner: B, span: Span, status: u16) -> Self {
        Self { inner, span, status, written: 0 }
    }
}

impl<B> Drop for Spanned<B> {
    fn drop(&mut self) {
        let read = self.span.value::<Read>().map_or(0, |Read(bytes)| bytes.load(Ordering::Relaxed));
        answered(&self.span, self.status, read, self.written);
    }
}

impl<B: Body + Unpin> Body for Spanned<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        poller: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = &mut *self;
        let _current = this.span.enter();
        let frame = ready!(Pin::new(&mut this.inner).poll_frame(poller));
        if let Some(Ok(frame)) = &frame {
            this.written += frame.data_ref().map_or(0, |data| data.remaining() as u64);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(attributes: &[KeyValue]) -> Vec<String> {
        attributes.iter().map(|kv| format!("{}={}", kv.key, kv.value)).collect()
    }

    #[test]
    fn requests_say_what_upstream_says() {
        let mut headers = HeaderMap::new();
        headers.insert("host", http::HeaderValue::from_static("api.example:6443"));
        headers.insert("user-agent", http::HeaderValue::from_static("kubectl"));
        headers.insert("x-forwarded-for", http::HeaderValue::from_static("192.0.2.9,10.0.0.1"));
        let uri = Uri::from_static("/api/v1/pods?limit=1");
        let mut request = Request {
            server: "",
            method: &Method::GET,
            uri: &uri,
            headers: &headers,
            version: Version::HTTP_11,
            tls: true,
            peer: "[::ffff:127.0.0.1]:5".parse().ok(),
        };
        assert_eq!(
            shown(&request.attributes()),
            [
                "server.address=api.example",
                "http.request.method=GET",
                "url.scheme=https",
                "server.port=6443",
                "network.peer.address=127.0.0.1",
                "network.peer.port=5",
                "user_agent.original=kubectl",
                "client.address=192.0.2.9",
                "url.path=/api/v1/pods",
                "network.protocol.version=1.1",
            ]
        );
        let odd = Method::from_bytes(b"get").unwrap();
        (request.method, request.server, request.peer) = (&odd, "kubelet", None);
        let all = shown(&request.attributes());
        assert_eq!(
            &all[..3],
            ["server.address=kubelet", "http.request.method=GET", "http.request.method_original=get"]
        );
    }

    #[test]
    fn ports_of_the_scheme_are_not_told() {
        for (authority, tls, want) in [
            ("a:443", true, ("a", None)),
            ("a:443", false, ("a", Some(443))),
            ("[::1]:80", false, ("::1", None)),
            ("[::1]", false, ("::1", None)),
            ("a", true, ("a", None)),
            ("", true, ("", None)),
        ] {
            assert_eq!(host_port(authority, tls), want, "{authority}");
        }
    }
}
