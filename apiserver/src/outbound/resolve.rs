//! From a service reference to an address. Upstream: `kube-aggregator/pkg/apiserver/resolvers.go`,
//! `apiserver/pkg/util/proxy/proxy.go`.

use std::net::SocketAddr;
use std::sync::Arc;

use machinery::Value;

use crate::local::{Gvr, Local};

/// Resolves services to their cluster IP, or to an endpoint of theirs.
#[derive(Clone)]
pub(crate) struct Resolver {
    local: Local,
    /// `--enable-aggregator-routing`: endpoints rather than cluster IPs.
    endpoints: bool,
    /// Where this server itself is reached.
    own: SocketAddr,
}

fn items<'a>(object: &'a Value, path: &[&str]) -> impl Iterator<Item = &'a Value> {
    object.list_at(path).into_iter().flat_map(|l| l.iter())
}

impl Resolver {
    pub(crate) fn new(local: Local, endpoints: bool, own: SocketAddr) -> Self {
        Self { local, endpoints, own }
    }

    /// Host and port.
    pub(crate) async fn resolve(
        &self,
        namespace: &str,
        name: &str,
        port: u16,
    ) -> Result<(String, u16), String> {
        if (namespace, name, port) == ("default", "kubernetes", 443) {
            return Ok((self.own.ip().to_string(), self.own.port()));
        }
        let service = self.local.get(Gvr::SERVICES, namespace, name).await.map_err(|e| e.message)?;
        let service: Arc<Value> = service.ok_or_else(|| format!("service {name:?} not found"))?;
        if self.endpoints {
            let port_name = checked(&service, name, port)?;
            let selector = format!("kubernetes.io/service-name={name}");
            let slices = self.local.list(Gvr::SLICES, namespace, &selector).await.map_err(|e| e.message)?;
            let preferred = items(&service, &["spec", "ipFamilies"]).next().and_then(Value::as_str);
            return endpoint(&slices, &port_name, preferred.unwrap_or_default())
                .ok_or_else(|| format!("no endpoints available for service {name:?}"));
        }
        cluster_address(&service, name, port)
    }
}

fn kind(service: &Value) -> &str {
    service.str_at(&["spec", "type"]).unwrap_or_default()
}

/// Name of the service port, of services that have endpoints.
fn checked(service: &Value, name: &str, port: u16) -> Result<String, String> {
    if !matches!(kind(service), "ClusterIP" | "NodePort" | "LoadBalancer") {
        return Err(format!("unsupported service type {:?}", kind(service)));
    }
    let mut ports = items(service, &["spec", "ports"]);
    let found = ports.find(|p| p.i64_at(&["port"]) == Some(i64::from(port)));
    let found = found.ok_or_else(|| format!("no service port {port} found for service {name:?}"))?;
    Ok(found.str_at(&["name"]).unwrap_or_default().to_owned())
}

fn cluster_address(service: &Value, name: &str, port: u16) -> Result<(String, u16), String> {
    let ip = service.str_at(&["spec", "clusterIP"]).unwrap_or_default();
    match kind(service) {
        "ClusterIP" if ip == "None" => Err("cannot route to service with ClusterIP \"None\"".to_owned()),
        "ExternalName" => {
            let host = service.str_at(&["spec", "externalName"]).unwrap_or_default();
            Ok((host.to_owned(), port))
        }
        _ => checked(service, name, port).map(|_| (ip.to_owned(), port)),
    }
}

/// A random ready endpoint, of the preferred family if there is one.
fn endpoint(slices: &[Arc<Value>], port_name: &str, preferred: &str) -> Option<(String, u16)> {
    let mut best: Vec<(String, u16)> = Vec::new();
    let mut rest = Vec::new();
    for slice in slices {
        let named = |p: &&Value| p.str_at(&["name"]).unwrap_or_default() == port_name;
        let port = items(slice, &["ports"]).filter(named).find_map(|p| p.i64_at(&["port"]));
        let Some(port) = port.and_then(|p| u16::try_from(p).ok()) else { continue };
        let list = if slice.str_at(&["addressType"]) == Some(preferred) { &mut best } else { &mut rest };
        for e in items(slice, &["endpoints"]) {
            // An endpoint without a statement counts as ready.
            let ready = e.bool_at(&["conditions", "ready"]).unwrap_or(true);
            if let Some(ip) = items(e, &["addresses"]).next().and_then(Value::as_str).filter(|_| ready) {
                list.push((ip.to_owned(), port));
            }
        }
    }
    let mut all = if best.is_empty() { rest } else { best };
    (!all.is_empty()).then(|| all.swap_remove(rand::random_range(0..all.len())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn service(kind: &str, ip: &str) -> Value {
        Value::from(json!({"spec": {"type": kind, "clusterIP": ip, "externalName": "x.y",
            "ports": [{"name": "a", "port": 443}]}}))
    }

    #[test]
    fn cluster_addresses() {
        let check = |kind: &str, ip: &str, port: u16, want: Result<&str, &str>| {
            let got = cluster_address(&service(kind, ip), "s", port).map(|(host, _)| host);
            assert_eq!(got, want.map(str::to_owned).map_err(str::to_owned));
        };
        check("ClusterIP", "10.0.0.9", 443, Ok("10.0.0.9"));
        check("NodePort", "10.0.0.9", 444, Err("no service port 444 found for service \"s\""));
        check("ClusterIP", "None", 443, Err("cannot route to service with ClusterIP \"None\""));
        check("ExternalName", "", 1, Ok("x.y"));
        check("?", "", 443, Err("unsupported service type \"?\""));
    }

    #[test]
    fn endpoints() {
        let slice = |family: &str, ip: &str, ready: bool| {
            Arc::new(Value::from(json!({"addressType": family, "ports": [{"name": "a", "port": 8443}],
                "endpoints": [{"addresses": [ip], "conditions": {"ready": ready}}]})))
        };
        let slices =
            [slice("IPv4", "1.1.1.1", true), slice("IPv6", "::1", true), slice("IPv4", "2.2.2.2", false)];
        assert_eq!(endpoint(&slices, "a", "IPv4"), Some(("1.1.1.1".into(), 8443)));
        assert_eq!(endpoint(&slices, "a", "IPv6"), Some(("::1".into(), 8443)));
        assert_eq!(endpoint(&slices, "b", "IPv4"), None);
        assert_eq!(endpoint(&slices[2..], "a", "IPv4"), None);
    }
}
