//! Services: ports, types, addresses.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};

use super::container::{validate_port, validate_port_or_name};
use crate::validation::content;
use crate::validation::field::{Bad, Error, Path};
use crate::validation::objectmeta::{name_is_dns1035_label, validate_labels, validate_object_meta};
use crate::validation::{immutable, one_of, refusals};

/// A new service.
pub fn validate_service(service: &Service) -> Vec<Error> {
    let mut errors =
        validate_object_meta(&service.metadata, true, name_is_dns1035_label, &Path::new("metadata"));
    if let Some(spec) = &service.spec {
        errors.extend(validate_spec(spec, &Path::new("spec")));
    }
    errors
}

fn is_headless(spec: &ServiceSpec) -> bool {
    spec.cluster_ip.as_deref() == Some("None")
}

fn validate_spec(spec: &ServiceSpec, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let kind = spec.type_.as_deref().unwrap_or("");
    let ports = spec.ports.as_deref().unwrap_or_default();
    if ports.is_empty() && !is_headless(spec) && kind != "ExternalName" {
        errors.push(Error::required(&path.child("ports"), ""));
    }
    if kind == "LoadBalancer" && is_headless(spec) {
        errors.push(Error::invalid(
            &path.child("clusterIPs").index(0),
            "None",
            "may not be set to 'None' for LoadBalancer services",
        ));
    }
    if kind == "NodePort" && is_headless(spec) {
        errors.push(Error::invalid(
            &path.child("clusterIPs").index(0),
            "None",
            "may not be set to 'None' for NodePort services",
        ));
    }
    if kind == "ExternalName" {
        errors.extend(validate_external_name(spec, path));
    }
    errors.extend(validate_ports(spec, ports, path));
    errors.extend(validate_labels(spec.selector.as_ref(), &path.child("selector")));
    let affinity = spec.session_affinity.as_deref().unwrap_or("");
    errors.extend(one_of(affinity, &["ClientIP", "None"], &path.child("sessionAffinity")));
    let types = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
    errors.extend(one_of(kind, &types, &path.child("type")));
    errors.extend(validate_addresses(spec, path));
    if let Some(policy) = spec.external_traffic_policy.as_deref().filter(|p| !p.is_empty()) {
        let at = path.child("externalTrafficPolicy");
        let external = matches!(kind, "NodePort" | "LoadBalancer")
            || spec.external_ips.as_ref().is_some_and(|i| !i.is_empty());
        if external {
            errors.extend(one_of(policy, &["Cluster", "Local"], &at));
        } else {
            errors.push(Error::invalid(&at, policy, "may only be set for externally-accessible services"));
        }
    }
    if let Some(policy) = spec.internal_traffic_policy.as_deref().filter(|p| !p.is_empty()) {
        errors.extend(one_of(policy, &["Cluster", "Local"], &path.child("internalTrafficPolicy")));
    }
    errors
}

fn validate_external_name(spec: &ServiceSpec, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    if spec.cluster_ip.as_deref().is_some_and(|ip| !ip.is_empty()) {
        errors.push(Error::forbidden(&path.child("clusterIPs"), "may not be set for ExternalName services"));
    }
    let name = spec.external_name.as_deref().unwrap_or("");
    let name = name.strip_suffix('.').unwrap_or(name);
    let at = path.child("externalName");
    if name.is_empty() {
        errors.push(Error::required(&at, ""));
    } else {
        errors.extend(refusals(&at, name, content::dns_subdomain(name)));
    }
    errors
}

fn validate_ports(spec: &ServiceSpec, ports: &[ServicePort], path: &Path) -> Vec<Error> {
    let list = path.child("ports");
    let mut errors = Vec::new();
    for (i, port) in ports.iter().enumerate() {
        let at = list.index(i);
        errors.extend(validate_service_port(port, ports.len() > 1, is_headless(spec), &at));
        let name = port.name.as_deref().unwrap_or("");
        if !name.is_empty() && ports[..i].iter().any(|p| p.name.as_deref() == Some(name)) {
            errors.push(Error::duplicate(&at.child("name"), name));
        }
        let key = |p: &ServicePort| (p.protocol.clone().unwrap_or_default(), p.port);
        if ports[..i].iter().any(|p| key(p) == key(port)) {
            let bad = format!("{{\"protocol\":\"{}\",\"port\":{}}}", key(port).0, port.port);
            errors.push(Error::duplicate(&at, Bad::Raw(bad)));
        }
    }
    let kind = spec.type_.as_deref().unwrap_or("");
    if kind == "ClusterIP" || kind == "ExternalName" {
        for (i, port) in ports.iter().enumerate() {
            if port.node_port.unwrap_or(0) != 0 {
                let at = list.index(i);
                let detail = format!("may not be used when `type` is '{kind}'");
                errors.push(Error::forbidden(&at.child("nodePort"), detail));
            }
        }
    }
    let node = |p: &ServicePort| (p.node_port.unwrap_or(0), p.protocol.clone().unwrap_or_default());
    for (i, port) in ports.iter().enumerate() {
        if node(port).0 != 0 && ports[..i].iter().any(|p| node(p) == node(port)) {
            errors.push(Error::duplicate(&list.index(i).child("nodePort"), node(port).0));
        }
    }
    errors
}

fn validate_service_port(port: &ServicePort, need_name: bool, headless: bool, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let name = port.name.as_deref().unwrap_or("");
    if name.is_empty() {
        if need_name {
            errors.push(Error::required(&path.child("name"), ""));
        }
    } else {
        errors.extend(refusals(&path.child("name"), name, content::dns_label(name)));
    }
    errors.extend(validate_port(i64::from(port.port), &path.child("port")));
    errors.extend(one_of(
        port.protocol.as_deref().unwrap_or(""),
        &["SCTP", "TCP", "UDP"],
        &path.child("protocol"),
    ));
    if !headless && let Some(target) = &port.target_port {
        errors.extend(validate_port_or_name(target, &path.child("targetPort")));
    }
    if let Some(protocol) = port.app_protocol.as_deref() {
        errors.extend(refusals(&path.child("appProtocol"), protocol, content::qualified_name(protocol)));
    }
    errors
}

fn validate_addresses(spec: &ServiceSpec, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let ips = spec.cluster_ips.as_deref().unwrap_or_default();
    let at = path.child("clusterIPs");
    for (i, ip) in ips.iter().enumerate() {
        if ip != "None" && !ip.is_empty() && ip.parse::<std::net::IpAddr>().is_err() {
            errors.push(Error::invalid(
                &at.index(i),
                ip,
                "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            ));
        }
    }
    if ips.len() > 2 {
        errors.push(Error::invalid(&at, Bad::json(&ips), "may only hold up to 2 values"));
    }
    let list = path.child("externalIPs");
    for (i, ip) in spec.external_ips.iter().flatten().enumerate() {
        let at = list.index(i);
        match ip.parse::<std::net::IpAddr>() {
            Err(_) => errors.push(Error::invalid(
                &at,
                ip,
                "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            )),
            Ok(address) => {
                if address.is_unspecified() {
                    errors.push(Error::invalid(&at, ip, format!("may not be unspecified ({address})")));
                }
                if address.is_loopback() {
                    errors.push(Error::invalid(
                        &at,
                        ip,
                        "may not be in the loopback range (127.0.0.0/8, ::1/128)",
                    ));
                }
            }
        }
    }
    errors
}

/// A changed service: a cluster IP stays unless the type gives it up.
pub fn validate_service_update(new: &Service, old: &Service) -> Vec<Error> {
    let mut errors = Vec::new();
    let path = Path::new("spec");
    if let (Some(a), Some(b)) = (&new.spec, &old.spec) {
        let needs_ip = |s: &ServiceSpec| s.type_.as_deref() != Some("ExternalName");
        let had = b.cluster_ip.as_deref().is_some_and(|ip| !ip.is_empty());
        if needs_ip(a) && needs_ip(b) && had {
            let first = |s: &ServiceSpec| s.cluster_ips.iter().flatten().next().cloned();
            if first(a) != first(b) {
                let at = path.child("clusterIPs");
                let detail = "may not change once set";
                errors.push(Error::invalid(&at.index(0), Bad::json(&a.cluster_ips), detail));
            }
        }
        let class = |s: &ServiceSpec| s.load_balancer_class.clone();
        if a.type_ == b.type_ && a.type_.as_deref() == Some("LoadBalancer") {
            errors.extend(immutable(&class(a), &class(b), &path.child("loadBalancerClass")));
        }
    }
    errors.extend(validate_service(new));
    errors
}
