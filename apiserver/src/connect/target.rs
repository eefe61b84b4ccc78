//! Where a request is passed on to. Upstream: `pkg/registry/core/pod/strategy.go`, `pkg/kubelet/client`.

use std::net::IpAddr;
use std::sync::Arc;

use machinery::Value;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use registry::errors::ApiError;

use crate::local::{Gvr, Local};
use crate::server::{Call, Server};

/// How the connection is secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    /// TLS with the kubelet client certificate, verified by the kubelet CA.
    Kubelet,
    /// The same without verification, as the client asked (`insecureSkipTLSVerifyBackend`).
    KubeletUnverified,
    /// TLS without verification: pods and services have no names that could be verified.
    Tls,
    /// No TLS.
    Plain,
}

/// Where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) transport: Transport,
    pub(super) host: String,
    pub(super) port: u16,
    /// Path and query.
    pub(super) path: String,
    /// Prefix of the API path that stands for the target's root, for redirects.
    pub(super) prefix: String,
    /// A proxied root that was asked for without a slash at its end.
    pub(super) is_bare_root: bool,
    /// The node declares that its kubelet translates WebSockets.
    pub(super) translates: bool,
}

/// What must be escaped in a query value.
const VALUE: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'&')
    .add(b'+')
    .add(b'=')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b';')
    .add(b'/')
    .add(b'?')
    .add(b':')
    .add(b'@');

struct Params(String);

impl Params {
    fn add(&mut self, name: &str, value: &str) {
        let separator = if self.0.is_empty() { '?' } else { '&' };
        self.0 += &format!("{separator}{name}={}", utf8_percent_encode(value, VALUE));
    }
}

fn bad(text: String) -> ApiError {
    ApiError::bad_request(text)
}

/// Finds the target of a request; `None` for the log of a pod that has no node yet.
pub(super) async fn find(server: &Server, local: &Local, call: &Call) -> Result<Option<Target>, ApiError> {
    let info = &call.info;
    match (info.resource.as_str(), info.subresource.as_str()) {
        ("pods", "proxy") => pod_proxy(local, call).await.map(Some),
        ("services", _) => service_proxy(local, call).await.map(Some),
        ("nodes", _) => node_proxy(server, local, call).await.map(Some),
        _ => pod_stream(server, local, call).await,
    }
}

async fn pod_of(local: &Local, namespace: &str, name: &str) -> Result<Arc<Value>, ApiError> {
    local.get(Gvr::PODS, namespace, name).await?.ok_or_else(|| ApiError::not_found("", "pods", name))
}

async fn node_of(local: &Local, name: &str) -> Result<Arc<Value>, ApiError> {
    local.get(Gvr::NODES, "", name).await?.ok_or_else(|| ApiError::not_found("", "nodes", name))
}

/// Address and port of a node's kubelet.
fn kubelet_address(server: &Server, node: &Value) -> Result<(String, u16), ApiError> {
    let addresses: Vec<(&str, &str)> = node
        .list_at(&["status", "addresses"])
        .into_iter()
        .flat_map(|l| l.iter())
        .filter_map(|a| Some((a.str_at(&["type"])?, a.str_at(&["address"])?)))
        .collect();
    let preferred = server.dialer.address_types.iter();
    let found = preferred.flat_map(|t| addresses.iter().filter(move |(kind, _)| kind == t)).next();
    let Some((_, address)) = found else {
        return Err(no_address(&addresses));
    };
    let port = node.i64_at(&["status", "daemonEndpoints", "kubeletEndpoint", "Port"]);
    let port = port.and_then(|p| u16::try_from(p).ok()).filter(|p| *p != 0).unwrap_or(10250);
    Ok(((*address).to_owned(), port))
}

/// Upstream: `NoMatchError` of pkg/util/node, an error of no kind.
fn no_address(known: &[(&str, &str)]) -> ApiError {
    let known: Vec<String> = known.iter().map(|(kind, address)| format!("{{{kind} {address}}}")).collect();
    ApiError::internal_plain(format!("no preferred addresses found; known addresses: [{}]", known.join(" ")))
}

/// The container a request means. Upstream: `validateContainer`.
fn container_of(pod: &Value, wanted: &str) -> Result<String, ApiError> {
    let name = pod.str_at(&["metadata", "name"]).unwrap_or_default();
    let names = |field: &str| -> Vec<String> {
        let list = pod.list_at(&["spec", field]).into_iter().flat_map(|l| l.iter());
        list.filter_map(|c| c.str_at(&["name"])).map(str::to_owned).collect()
    };
    let mut all = names("initContainers");
    let main = names("containers");
    all.extend(main.iter().cloned());
    all.extend(names("ephemeralContainers"));
    match (wanted, main.as_slice()) {
        ("", [one]) => Ok(one.clone()),
        ("", []) => Err(bad(format!("a container name must be specified for pod {name}"))),
        ("", _) => Err(bad(format!(
            "a container name must be specified for pod {name}, choose one of: [{}]",
            all.join(" ")
        ))),
        (wanted, _) if all.iter().any(|n| n == wanted) => Ok(wanted.to_owned()),
        (wanted, _) => Err(bad(format!("container {wanted} is not valid for pod {name}"))),
    }
}

async fn pod_stream(server: &Server, local: &Local, call: &Call) -> Result<Option<Target>, ApiError> {
    let (namespace, name) = (&call.info.namespace, &call.info.name);
    let subresource = call.info.subresource.as_str();
    let pod = pod_of(local, namespace, name).await?;
    let container = match subresource {
        "portforward" => String::new(),
        _ => container_of(&pod, &call.query.text("container"))?,
    };
    let node = pod.str_at(&["spec", "nodeName"]).unwrap_or_default();
    if node.is_empty() {
        if subresource == "log" {
            return Ok(None);
        }
        return Err(bad(format!("pod {name} does not have a host assigned")));
    }
    let node = node_of(local, node).await?;
    let (host, port) = kubelet_address(server, &node)?;
    let mut params = Params(String::new());
    let (path, transport) = match subresource {
        "log" => {
            log_params(call, &mut params)?;
            let skip = call.query.flag("insecureSkipTLSVerifyBackend") == Some(true);
            let transport = if skip { Transport::KubeletUnverified } else { Transport::Kubelet };
            (format!("/containerLogs/{namespace}/{name}/{container}"), transport)
        }
        "portforward" => {
            let ports: Vec<&str> = call.query.all("ports").collect();
            if !ports.is_empty() {
                params.add("port", &ports.join(","));
            }
            (format!("/portForward/{namespace}/{name}"), Transport::Kubelet)
        }
        _ => {
            stream_params(call, subresource, &mut params)?;
            (format!("/{subresource}/{namespace}/{name}/{container}"), Transport::Kubelet)
        }
    };
    let path = path + &params.0;
    let (prefix, translates) = (String::new(), declares_websockets(&node));
    Ok(Some(Target { transport, host, port, path, prefix, is_bare_root: false, translates }))
}

fn declares_websockets(node: &Value) -> bool {
    let features = node.list_at(&["status", "declaredFeatures"]).into_iter().flat_map(|l| l.iter());
    features.filter_map(|f| f.as_str()).any(|f| f == "ExtendWebSocketsToKubelet")
}

fn log_params(call: &Call, params: &mut Params) -> Result<(), ApiError> {
    let query = &call.query;
    for name in ["follow", "previous", "timestamps"] {
        if query.flag(name) == Some(true) {
            params.add(name, "true");
        }
    }
    for name in ["sinceSeconds", "tailLines", "limitBytes"] {
        if let Some(value) = query.int(name)? {
            check_log_number(name, value)?;
            params.add(name, &value.to_string());
        }
    }
    if let Some(time) = query.get("sinceTime").filter(|t| !t.is_empty()) {
        params.add("sinceTime", time);
    }
    Ok(())
}

/// Upstream: `validation.ValidatePodLogOptions`.
fn check_log_number(name: &str, value: i64) -> Result<(), ApiError> {
    let (least, why) = match name {
        "tailLines" => (0, "must be greater than or equal to 0"),
        _ => (1, "must be greater than 0"),
    };
    if value >= least {
        return Ok(());
    }
    let cause = registry::errors::Cause {
        reason: "FieldValueInvalid".into(),
        message: format!("Invalid value: {value}: {why}"),
        field: name.into(),
    };
    Err(ApiError::invalid("", "PodLogOptions", "", vec![cause]))
}

fn stream_params(call: &Call, subresource: &str, params: &mut Params) -> Result<(), ApiError> {
    let attach = subresource == "attach";
    let query = &call.query;
    let streams = [("stdin", "input", false), ("stdout", "output", attach), ("stderr", "error", attach)];
    let mut any = false;
    for (name, kubelet, default) in streams {
        if query.flag(name).unwrap_or(default) {
            params.add(kubelet, "1");
            any = true;
        }
    }
    if query.flag("tty") == Some(true) {
        params.add("tty", "1");
    }
    for command in query.all("command") {
        params.add("command", command);
    }
    if !any {
        return Err(bad("you must specify at least 1 of stdin, stdout, stderr".to_owned()));
    }
    if !attach && query.all("command").next().is_none() {
        return Err(bad("you must specify at least 1 command for the container".to_owned()));
    }
    Ok(())
}

/// `name`, `name:port` or `scheme:name:port`. Upstream: `utilnet.SplitSchemeNamePort`.
fn split(id: &str) -> Option<(&str, &str, &str)> {
    let parts: Vec<&str> = id.split(':').collect();
    let (scheme, name, port) = match parts.as_slice() {
        [name] => ("", *name, ""),
        [name, port] => ("", *name, *port),
        [scheme @ ("" | "http" | "https"), name, port] => (*scheme, *name, *port),
        _ => return None,
    };
    (!name.is_empty()).then_some((scheme, name, port))
}

/// Everything after `/proxy` in the path as sent, with its leading slash; empty for the root without one.
pub(super) fn proxied_path(call: &Call) -> &str {
    let raw = call.parts.uri.path();
    let marker = format!("/{}/proxy", call.info.name);
    let at = raw.find(&marker).map(|at| at + marker.len());
    at.and_then(|at| raw.get(at..)).unwrap_or_default()
}

fn with_query(call: &Call, mut path: String) -> String {
    if let Some(query) = call.parts.uri.query() {
        path.push('?');
        path.push_str(query);
    }
    path
}

fn proxy_target(call: &Call, transport: Transport, host: String, port: u16) -> Target {
    let raw = call.parts.uri.path();
    let path = proxied_path(call);
    let prefix = raw.strip_suffix(path).unwrap_or(raw).to_owned();
    let is_bare_root = path.is_empty();
    let path = if is_bare_root { "/" } else { path };
    let path = with_query(call, path.to_owned());
    Target { transport, host, port, path, prefix, is_bare_root, translates: false }
}

/// Only addresses that can be a pod's: nothing local, nothing multicast.
fn allowed(ip: IpAddr) -> bool {
    let link_local = match ip {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => (v6.segments()[0] & 0xffc0) == 0xfe80,
    };
    !(ip.is_loopback() || ip.is_multicast() || ip.is_unspecified() || link_local)
}

fn transport_of(scheme: &str) -> (Transport, u16) {
    if scheme == "https" { (Transport::Tls, 443) } else { (Transport::Plain, 80) }
}

async fn pod_proxy(local: &Local, call: &Call) -> Result<Target, ApiError> {
    let id = &call.info.name;
    let (scheme, name, port) = split(id).ok_or_else(|| bad(format!("invalid pod request {id:?}")))?;
    let pod = pod_of(local, &call.info.namespace, name).await?;
    let ip = pod.str_at(&["status", "podIP"]).unwrap_or_default();
    if !ip.parse().is_ok_and(allowed) {
        return Err(bad("address not allowed".to_owned()));
    }
    let (transport, default) = transport_of(scheme);
    let first = || {
        let containers = pod.list_at(&["spec", "containers"]).into_iter().flat_map(|l| l.iter());
        let mut ports = containers.filter_map(|c| c.list_at(&["ports"])).flat_map(|l| l.iter());
        ports.find_map(|p| p.i64_at(&["containerPort"])).and_then(|p| u16::try_from(p).ok())
    };
    let port = match port {
        "" => first().unwrap_or(default),
        text => text.parse().map_err(|_| bad(format!("invalid pod request {id:?}")))?,
    };
    Ok(proxy_target(call, transport, ip.to_owned(), port))
}

async fn service_proxy(local: &Local, call: &Call) -> Result<Target, ApiError> {
    let id = &call.info.name;
    let namespace = &call.info.namespace;
    let (scheme, name, port) = split(id).ok_or_else(|| bad(format!("invalid service request {id:?}")))?;
    let mut port_name = port.to_owned();
    if let Ok(number) = port.parse::<i64>() {
        let service = local.get(Gvr::SERVICES, namespace, name).await?;
        let service = service.ok_or_else(|| ApiError::not_found("", "services", name))?;
        let ports = service.list_at(&["spec", "ports"]).into_iter().flat_map(|l| l.iter());
        let mut named = ports.filter(|p| p.i64_at(&["port"]) == Some(number));
        let text = format!("no service port {number} found for service {name:?}");
        let found = named.next().ok_or_else(|| ApiError::service_unavailable(text))?;
        port_name = found.str_at(&["name"]).unwrap_or_default().to_owned();
    }
    if namespace.is_empty() {
        return Err(bad("missing required namespace".to_owned()));
    }
    let none = || ApiError::service_unavailable(format!("no endpoints available for service {name:?}"));
    let selector = format!("kubernetes.io/service-name={name}");
    let slices = local.list(Gvr::SLICES, namespace, &selector).await?;
    let mut candidates = Vec::new();
    for slice in &slices {
        let ports = slice.list_at(&["ports"]).into_iter().flat_map(|l| l.iter());
        let Some(port) = ports
            .filter(|p| port_name.is_empty() || p.str_at(&["name"]).unwrap_or_default() == port_name)
            .find_map(|p| p.i64_at(&["port"]).and_then(|p| u16::try_from(p).ok()))
        else {
            continue;
        };
        for endpoint in slice.list_at(&["endpoints"]).into_iter().flat_map(|l| l.iter()) {
            // An endpoint without a statement counts as ready.
            let ready = endpoint.bool_at(&["conditions", "ready"]).unwrap_or(true);
            let address = endpoint.list_at(&["addresses"]).and_then(|l| l.first()).and_then(|a| a.as_str());
            if let (true, Some(address), true) =
                (ready, address, endpoint.str_at(&["targetRef", "kind"]) == Some("Pod"))
            {
                let pod = endpoint.str_at(&["targetRef", "name"]).unwrap_or_default();
                candidates.push((address.to_owned(), port, pod.to_owned()));
            }
        }
    }
    candidates.retain(|(ip, ..)| ip.parse().is_ok_and(allowed));
    while !candidates.is_empty() {
        let index = rand::random_range(0..candidates.len());
        let (host, port, pod) = candidates.swap_remove(index);
        if is_pod_address(local, namespace, &pod, &host).await {
            return Ok(proxy_target(call, transport_of(scheme).0, host, port));
        }
    }
    Err(none())
}

/// Only addresses that really are a pod's: endpoints are written by users, and this connection is made by the server.
/// Upstream: `isValidAddress`.
async fn is_pod_address(local: &Local, namespace: &str, pod: &str, ip: &str) -> bool {
    let Ok(Some(pod)) = local.get(Gvr::PODS, namespace, pod).await else { return false };
    let all = pod.list_at(&["status", "podIPs"]).into_iter().flat_map(|l| l.iter());
    all.filter_map(|p| p.str_at(&["ip"])).any(|own| own == ip)
}

async fn node_proxy(server: &Server, local: &Local, call: &Call) -> Result<Target, ApiError> {
    let id = &call.info.name;
    let (scheme, name, port) = split(id).ok_or_else(|| bad(format!("invalid node request {id:?}")))?;
    let node = node_of(local, name).await?;
    let (host, kubelet) = kubelet_address(server, &node)?;
    if port.is_empty() || port == kubelet.to_string() {
        return Ok(proxy_target(call, Transport::Kubelet, host, kubelet));
    }
    let port = port.parse().map_err(|_| bad(format!("invalid node request {id:?}")))?;
    Ok(proxy_target(call, transport_of(scheme).0, host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids() {
        for (id, want) in [
            ("a", Some(("", "a", ""))),
            ("a:80", Some(("", "a", "80"))),
            ("https:a:web", Some(("https", "a", "web"))),
            ("https:a:", Some(("https", "a", ""))),
            ("ftp:a:1", None),
            ("", None),
            ("a:b:c:d", None),
        ] {
            assert_eq!(split(id), want, "{id}");
        }
    }

    #[test]
    fn nodes_without_address() {
        for (known, want) in [(&[][..], "[]"), (&[("A", "1"), ("B", "2")][..], "[{A 1} {B 2}]")] {
            let text = format!("no preferred addresses found; known addresses: {want}");
            assert_eq!(no_address(known).message, text);
        }
    }

    #[test]
    fn addresses() {
        for (ip, want) in [
            ("10.0.0.1", true),
            ("127.0.0.1", false),
            ("169.254.169.254", false),
            ("::1", false),
            ("fd00::1", true),
        ] {
            assert_eq!(allowed(ip.parse().unwrap()), want, "{ip}");
        }
    }
}
