//! The route of a request, which names its span. Pages that are no routes upstream have none, and a span without a name.
//! Upstream: pkg/kubelet/server/server.go, the paths given to go-restful; `OTelFilter` of otelrestful.

use std::net::SocketAddr;
use std::sync::Arc;

use component::serving::ConnInfo;
use component::serving::body::Body;
use http::{Method, Request, Response};
use hyper::body::Incoming;
use traces::{Scope, Span, Traces};

/// The template of a path.
fn route(method: &Method, path: &str) -> &'static str {
    let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
    let get = method == Method::GET;
    let streams = get || method == Method::POST;
    match (parts.first().copied().unwrap_or_default(), parts.len()) {
        ("pods", 1) if get => "/pods/",
        ("runningpods", 1) if get => "/runningpods/",
        ("stats", 2) if get && parts.last() == Some(&"summary") => "/stats/summary",
        ("containerLogs", 4) if get => "/containerLogs/{podNamespace}/{podID}/{containerName}",
        ("run", 4) if method == Method::POST => "/run/{podNamespace}/{podID}/{containerName}",
        ("run", 5) if method == Method::POST => "/run/{podNamespace}/{podID}/{uid}/{containerName}",
        ("exec", 4) if streams => "/exec/{podNamespace}/{podID}/{containerName}",
        ("exec", 5) if streams => "/exec/{podNamespace}/{podID}/{uid}/{containerName}",
        ("attach", 4) if streams => "/attach/{podNamespace}/{podID}/{containerName}",
        ("attach", 5) if streams => "/attach/{podNamespace}/{podID}/{uid}/{containerName}",
        ("portForward", 3) if streams => "/portForward/{podNamespace}/{podID}",
        ("portForward", 4) if streams => "/portForward/{podNamespace}/{podID}/{uid}",
        ("checkpoint", 4) if method == Method::POST => "/checkpoint/{podNamespace}/{podID}/{containerName}",
        ("logs", 1) if get => "/logs/",
        ("logs", _) if get => "/logs/{logpath:*}",
        _ => "",
    }
}

/// The span of a request that was let through. Nobody may say what it belongs to, as upstream, which looks for no parent.
pub fn span(traces: Option<&Traces>, request: &Request<Incoming>, tls: bool) -> Span {
    let Some(traces) = traces else { return Span::none() };
    let route = route(request.method(), request.uri().path());
    let peer = request.extensions().get::<Arc<ConnInfo>>();
    let peer: Option<SocketAddr> = peer.map(|info| info.remote);
    let told = traces::http::Request {
        server: "kubelet",
        method: request.method(),
        uri: request.uri(),
        headers: request.headers(),
        version: request.version(),
        tls,
        peer,
    };
    let mut attributes = told.attributes();
    if !route.is_empty() {
        attributes.push(traces::KeyValue::new("http.route", route));
    }
    let name = route.to_owned();
    let scope = Scope::Restful;
    traces.request(traces::Incoming { scope, name, headers: None, trusted: false, began: None, attributes })
}

/// Tells the span of the answer.
pub fn answered(span: &Span, response: &Response<Body>) {
    traces::http::answered(span, response.status().as_u16(), 0, 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes() {
        for (method, path, want) in [
            (Method::GET, "/pods", "/pods/"),
            (Method::GET, "/pods/", "/pods/"),
            (Method::POST, "/pods", ""),
            (Method::GET, "/stats/summary", "/stats/summary"),
            (Method::GET, "/containerLogs/n/p/c", "/containerLogs/{podNamespace}/{podID}/{containerName}"),
            (Method::POST, "/exec/n/p/u/c", "/exec/{podNamespace}/{podID}/{uid}/{containerName}"),
            (Method::POST, "/portForward/n/p", "/portForward/{podNamespace}/{podID}"),
            (Method::GET, "/logs/a/b", "/logs/{logpath:*}"),
            (Method::GET, "/metrics", ""),
            (Method::GET, "/metrics/cadvisor", ""),
            (Method::GET, "/healthz", ""),
        ] {
            assert_eq!(route(&method, path), want, "{method} {path}");
        }
    }
}
