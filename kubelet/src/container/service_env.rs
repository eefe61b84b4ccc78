//! Environment variables that tell a container where services are.
//!
//! Upstream: pkg/kubelet/envvars/envvars.go and pkg/kubelet/kubelet_pods.go getServiceEnvVarMap, v1.37.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Service;

/// Variables for the services that a pod in `namespace` sees; without links only `default/kubernetes`.
pub fn service_env<'a>(
    services: impl Iterator<Item = &'a Service>,
    namespace: &str,
    links: bool,
) -> BTreeMap<String, String> {
    let mut chosen: BTreeMap<&str, &Service> = BTreeMap::new();
    for service in services {
        let (Some(name), Some(own)) = (&service.metadata.name, &service.metadata.namespace) else { continue };
        if cluster_ip(service).is_none() {
            continue;
        }
        if own == namespace && links {
            chosen.insert(name, service);
        } else if own == "default" && name == "kubernetes" {
            chosen.entry(name).or_insert(service);
        }
    }
    let mut out = BTreeMap::new();
    for (name, service) in chosen {
        variables(name, service, &mut out);
    }
    out
}

fn cluster_ip(service: &Service) -> Option<&str> {
    let ip = service.spec.as_ref()?.cluster_ip.as_deref()?;
    (!ip.is_empty() && ip != "None").then_some(ip)
}

fn variables(name: &str, service: &Service, out: &mut BTreeMap<String, String>) {
    let Some(ip) = cluster_ip(service) else { return };
    let prefix = variable_name(name);
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    let Some(first) = ports.first() else { return };
    out.insert(format!("{prefix}_SERVICE_HOST"), ip.to_owned());
    out.insert(format!("{prefix}_SERVICE_PORT"), first.port.to_string());
    let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
    for (index, port) in ports.iter().enumerate() {
        if let Some(port_name) = port.name.as_deref().filter(|n| !n.is_empty()) {
            out.insert(format!("{prefix}_SERVICE_PORT_{}", variable_name(port_name)), port.port.to_string());
        }
        let protocol = port.protocol.as_deref().filter(|p| !p.is_empty()).unwrap_or("TCP");
        let lower = protocol.to_lowercase();
        let url = format!("{lower}://{host}:{}", port.port);
        if index == 0 {
            out.insert(format!("{prefix}_PORT"), url.clone());
        }
        let port_prefix = format!("{prefix}_PORT_{}_{}", port.port, protocol.to_uppercase());
        out.insert(format!("{port_prefix}_PROTO"), lower);
        out.insert(format!("{port_prefix}_PORT"), port.port.to_string());
        out.insert(format!("{port_prefix}_ADDR"), ip.to_owned());
        out.insert(port_prefix, url);
    }
}

fn variable_name(text: &str) -> String {
    text.replace('-', "_").to_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn service(namespace: &str, name: &str, ip: &str) -> Service {
        serde_json::from_value(json!({"metadata": {"name": name, "namespace": namespace},
            "spec": {"clusterIP": ip, "ports": [{"name": "http-alt", "port": 80, "protocol": "TCP"}]}}))
        .unwrap()
    }

    #[test]
    fn links() {
        let services = [
            service("default", "kubernetes", "10.0.0.1"),
            service("n", "a-b", "10.0.0.2"),
            service("n", "h", "None"),
        ];
        let with = service_env(services.iter(), "n", true);
        assert_eq!(with["A_B_SERVICE_HOST"], "10.0.0.2");
        assert_eq!(with["A_B_SERVICE_PORT_HTTP_ALT"], "80");
        assert_eq!(with["A_B_PORT_80_TCP"], "tcp://10.0.0.2:80");
        assert_eq!(with["KUBERNETES_SERVICE_HOST"], "10.0.0.1");
        assert_eq!(with.len(), 16);
        assert_eq!(service_env(services.iter(), "n", false).len(), 8);
    }
}
