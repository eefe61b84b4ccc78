//! Services: type, ports, traffic policies, load balancer. Cluster addresses and families in
//! [`super::service_addresses`].

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec, SessionAffinityConfig};

use super::container::{validate_port, validate_port_or_name};
use super::ip::{validate_cidr, validate_ip};
use super::service_addresses as addresses;
use crate::validation::field::{Bad, Error, Path};
use crate::validation::objectmeta::{name_is_label, validate_kube_object_meta, validate_labels};
use crate::validation::{content, dns_label, dns_subdomain, items, one_of, refusals, supported, text};

const TOPOLOGY_MODE: &str = "service.kubernetes.io/topology-mode";
const TOPOLOGY_HINTS: &str = "service.kubernetes.io/topology-aware-hints";
const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";

/// A new service. Its name needs to be a DNS label only (`RelaxedServiceNameValidation`).
pub fn validate_service(service: &Service) -> Vec<Error> {
    let mut errors =
        validate_kube_object_meta(&service.metadata, true, name_is_label, &Path::new("metadata"));
    errors.extend(validate(service, None));
    errors
}

/// A changed service.
pub fn validate_service_update(new: &Service, old: &Service) -> Vec<Error> {
    let none = ServiceSpec::default();
    let (spec, before) = (new.spec.as_ref().unwrap_or(&none), old.spec.as_ref().unwrap_or(&none));
    let path = Path::new("spec");
    let mut errors = addresses::validate_update(spec, before, &path);
    let class = |s: &ServiceSpec| s.load_balancer_class.clone();
    if is_balanced(spec) && is_balanced(before) && class(spec) != class(before) {
        let bad = class(spec).map_or(Bad::Raw("null".into()), Bad::Text);
        errors.push(Error::invalid(&path.child("loadBalancerClass"), bad, "may not change once set"));
    }
    errors.extend(validate_class(spec, &path));
    let port = |s: &ServiceSpec| s.health_check_node_port.unwrap_or(0);
    if needs_health_check(spec) && needs_health_check(before) && port(spec) != port(before) {
        errors.push(Error::forbidden(&path.child("healthCheckNodePort"), "field is immutable"));
    }
    errors.extend(validate(new, Some(old)));
    errors
}

fn kind(spec: &ServiceSpec) -> &str {
    text(&spec.type_)
}

fn is_balanced(spec: &ServiceSpec) -> bool {
    kind(spec) == "LoadBalancer"
}

/// Whether the service has no cluster address by choice.
pub(super) fn is_headless(spec: &ServiceSpec) -> bool {
    items(&spec.cluster_ips) == ["None"]
}

fn is_external(spec: &ServiceSpec) -> bool {
    matches!(kind(spec), "NodePort" | "LoadBalancer")
        || kind(spec) == "ClusterIP" && !items(&spec.external_ips).is_empty()
}

fn needs_health_check(spec: &ServiceSpec) -> bool {
    is_balanced(spec) && text(&spec.external_traffic_policy) == "Local"
}

/// `validateService`, in its order.
fn validate(service: &Service, old: Option<&Service>) -> Vec<Error> {
    let none = ServiceSpec::default();
    let spec = service.spec.as_ref().unwrap_or(&none);
    let before = old.and_then(|o| o.spec.as_ref());
    let path = Path::new("spec");
    let mut errors = Vec::from_iter(validate_topology(service.metadata.annotations.as_ref()));
    errors.extend(validate_type(spec, &path));
    let (at, ports) = (path.child("ports"), items(&spec.ports));
    let mut names = Vec::new();
    for (i, port) in ports.iter().enumerate() {
        errors.extend(validate_service_port(port, ports.len() > 1, &mut names, &at.index(i)));
    }
    errors.extend(validate_labels(spec.selector.as_ref(), &path.child("selector")));
    errors.extend(validate_affinity(spec, &path));
    errors.extend(addresses::validate(spec, before, &path));
    let kept: Vec<&str> =
        before.map(|b| items(&b.external_ips)).unwrap_or_default().iter().map(String::as_str).collect();
    let list = path.child("externalIPs");
    for (i, ip) in items(&spec.external_ips).iter().enumerate() {
        let refused = validate_ip(ip, &kept, &list.index(i));
        errors.extend(if refused.is_empty() { validate_endpoint_ip(ip, &list.index(i)) } else { refused });
    }
    let types = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
    errors.extend(one_of(kind(spec), &types, &path.child("type")));
    errors.extend(validate_port_pairs(spec, &at));
    errors.extend(validate_source_ranges(service, old, spec, &path));
    if spec.allocate_load_balancer_node_ports.is_some() && !is_balanced(spec) {
        let detail = "may only be used when `type` is 'LoadBalancer'";
        errors.push(Error::forbidden(&path.child("allocateLoadBalancerNodePorts"), detail));
    }
    if spec.allocate_load_balancer_node_ports.is_none() && is_balanced(spec) {
        errors.push(Error::required(&Path::new("allocateLoadBalancerNodePorts"), ""));
    }
    errors.extend(validate_class(spec, &path));
    errors.extend(validate_traffic(spec, &path));
    errors
}

fn validate_topology(annotations: Option<&BTreeMap<String, String>>) -> Option<Error> {
    let annotations = annotations?;
    let (mode, hints) = (annotations.get(TOPOLOGY_MODE)?, annotations.get(TOPOLOGY_HINTS)?);
    (mode != hints).then(|| {
        let metadata = Path::new("metadata");
        let at = metadata.child("annotations");
        let detail = format!("must match annotations[{TOPOLOGY_HINTS}] when both are specified");
        Error::invalid(&at.key(TOPOLOGY_MODE), mode, detail)
    })
}

fn validate_type(spec: &ServiceSpec, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let kind = kind(spec);
    if items(&spec.ports).is_empty() && !is_headless(spec) && kind != "ExternalName" {
        errors.push(Error::required(&path.child("ports"), ""));
    }
    match kind {
        "LoadBalancer" | "NodePort" if is_headless(spec) => {
            let at = path.child("clusterIPs");
            let detail = format!("may not be set to 'None' for {kind} services");
            errors.push(Error::invalid(&at.index(0), "None", detail));
        }
        "ExternalName" => {
            let detail = "may not be set for ExternalName services";
            let set = [
                ("clusterIPs", !items(&spec.cluster_ips).is_empty()),
                ("ipFamilies", !items(&spec.ip_families).is_empty()),
                ("ipFamilyPolicy", spec.ip_family_policy.is_some()),
            ];
            errors.extend(
                set.iter().filter(|(_, s)| *s).map(|(f, _)| Error::forbidden(&path.child(f), detail)),
            );
            let name = text(&spec.external_name);
            let (name, at) = (name.strip_suffix('.').unwrap_or(name), path.child("externalName"));
            if name.is_empty() {
                errors.push(Error::required(&at, ""));
            } else {
                errors.extend(dns_subdomain(name, &at));
            }
        }
        _ => {}
    }
    errors
}

fn validate_service_port<'a>(
    port: &'a ServicePort,
    need_name: bool,
    names: &mut Vec<&'a str>,
    path: &Path,
) -> Vec<Error> {
    let mut errors = Vec::new();
    let (name, at) = (text(&port.name), path.child("name"));
    if !name.is_empty() {
        errors.extend(dns_label(name, &at));
        if names.contains(&name) {
            errors.push(Error::duplicate(&at, name));
        } else {
            names.push(name);
        }
    } else if need_name {
        errors.push(Error::required(&at, ""));
    }
    errors.extend(validate_port(i64::from(port.port), &path.child("port")));
    errors.extend(one_of(text(&port.protocol), &["SCTP", "TCP", "UDP"], &path.child("protocol")));
    let zero = k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::Int(0);
    let target = port.target_port.as_ref().unwrap_or(&zero);
    errors.extend(validate_port_or_name(target, &path.child("targetPort")));
    if let Some(protocol) = port.app_protocol.as_deref() {
        errors.extend(refusals(&path.child("appProtocol"), protocol, content::qualified_name(protocol)));
    }
    errors
}

fn validate_affinity(spec: &ServiceSpec, path: &Path) -> Vec<Error> {
    let affinity = text(&spec.session_affinity);
    let mut errors: Vec<Error> =
        one_of(affinity, &["ClientIP", "None"], &path.child("sessionAffinity")).into_iter().collect();
    let (at, config) = (path.child("sessionAffinityConfig"), spec.session_affinity_config.as_ref());
    match affinity {
        "ClientIP" => errors.extend(validate_client_ip(config, &at)),
        "None" if config.is_some() => {
            errors.push(Error::forbidden(&at, "must not be set when session affinity is None"));
        }
        _ => {}
    }
    errors
}

fn validate_client_ip(config: Option<&SessionAffinityConfig>, path: &Path) -> Option<Error> {
    let detail = "when session affinity type is ClientIP";
    let Some(config) = config else { return Some(Error::required(path, detail)) };
    let at = path.child("clientIP");
    let Some(client) = &config.client_ip else { return Some(Error::required(&at, detail)) };
    let at = at.child("timeoutSeconds");
    let Some(seconds) = client.timeout_seconds else { return Some(Error::required(&at, detail)) };
    (seconds <= 0 || seconds > 86400)
        .then(|| Error::invalid(&at, seconds, "must be greater than 0 and less than 86400"))
}

/// An address that can be an endpoint: not one of this machine or link.
pub(super) fn validate_endpoint_ip(ip: &str, path: &Path) -> Vec<Error> {
    let Some(address) = net::parse_ip(ip) else {
        let detail = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
        return vec![Error::invalid(path, ip, detail)];
    };
    let mapped = address.to_canonical();
    let (link_unicast, link_multicast) = match mapped {
        std::net::IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        std::net::IpAddr::V6(v6) => {
            (v6.segments()[0] & 0xffc0 == 0xfe80, v6.segments()[0] & 0xff0f == 0xff02)
        }
    };
    let mut errors = Vec::new();
    let mut refuse = |is: bool, detail: String| {
        if is {
            errors.push(Error::invalid(path, ip, detail));
        }
    };
    refuse(mapped.is_unspecified(), format!("may not be unspecified ({ip})"));
    refuse(mapped.is_loopback(), "may not be in the loopback range (127.0.0.0/8, ::1/128)".into());
    refuse(link_unicast, "may not be in the link-local range (169.254.0.0/16, fe80::/10)".into());
    refuse(link_multicast, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".into());
    errors
}

/// Node ports, and pairs of protocol and port.
fn validate_port_pairs(spec: &ServiceSpec, path: &Path) -> Vec<Error> {
    let ports = items(&spec.ports);
    let node = |p: &ServicePort| p.node_port.unwrap_or(0);
    let mut errors = Vec::new();
    for (i, _) in ports.iter().enumerate().filter(|(_, p)| kind(spec) == "ClusterIP" && node(p) != 0) {
        let detail = "may not be used when `type` is 'ClusterIP'";
        errors.push(Error::forbidden(&path.index(i).child("nodePort"), detail));
    }
    for (i, port) in ports.iter().enumerate().filter(|(_, p)| node(p) != 0) {
        if ports[..i].iter().any(|p| node(p) == node(port) && text(&p.protocol) == text(&port.protocol)) {
            errors.push(Error::duplicate(&path.index(i).child("nodePort"), node(port)));
        }
    }
    for (i, port) in ports.iter().enumerate() {
        if ports[..i].iter().any(|p| p.port == port.port && text(&p.protocol) == text(&port.protocol)) {
            // Upstream prints its internal struct.
            let key = format!(
                "{{\"Name\":\"\",\"Protocol\":\"{}\",\"AppProtocol\":null,\"Port\":{},\"TargetPort\":0,\"NodePort\":0}}",
                text(&port.protocol),
                port.port
            );
            errors.push(Error::duplicate(&path.index(i), Bad::Raw(key)));
        }
    }
    errors
}

fn validate_source_ranges(
    service: &Service,
    old: Option<&Service>,
    spec: &ServiceSpec,
    path: &Path,
) -> Vec<Error> {
    let only = "may only be used when `type` is 'LoadBalancer'";
    let mut errors = Vec::new();
    let ranges = items(&spec.load_balancer_source_ranges);
    if !ranges.is_empty() {
        let at = path.child("LoadBalancerSourceRanges");
        if !is_balanced(spec) {
            errors.push(Error::forbidden(&at, only));
        }
        let before = old.and_then(|o| o.spec.as_ref()).map(|s| items(&s.load_balancer_source_ranges));
        let kept: Vec<&str> = before.unwrap_or_default().iter().map(|r| r.trim()).collect();
        for (i, range) in ranges.iter().enumerate() {
            errors.extend(validate_cidr(range.trim(), &kept, &at.index(i)));
        }
        return errors;
    }
    let said = |s: &Service| s.metadata.annotations.as_ref().and_then(|a| a.get(SOURCE_RANGES)).cloned();
    let Some(value) = said(service) else { return errors };
    let metadata = Path::new("metadata");
    let annotations = metadata.child("annotations");
    let at = annotations.key(SOURCE_RANGES);
    if !is_balanced(spec) {
        errors.push(Error::forbidden(&at, only));
    }
    if old.and_then(said).as_ref() != Some(&value) && !value.trim().is_empty() {
        errors.extend(value.trim().split(',').flat_map(|range| validate_cidr(range.trim(), &[], &at)));
    }
    errors
}

fn validate_class(spec: &ServiceSpec, path: &Path) -> Vec<Error> {
    let Some(class) = spec.load_balancer_class.as_deref() else { return Vec::new() };
    let at = path.child("loadBalancerClass");
    if is_balanced(spec) {
        return refusals(&at, class, content::qualified_name(class));
    }
    vec![Error::forbidden(&at, "may only be used when `type` is 'LoadBalancer'")]
}

fn validate_traffic(spec: &ServiceSpec, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let (policy, at) = (text(&spec.external_traffic_policy), path.child("externalTrafficPolicy"));
    if is_external(spec) {
        errors.extend(one_of(policy, &["Cluster", "Local"], &at));
    } else if !policy.is_empty() {
        errors.push(Error::invalid(&at, policy, "may only be set for externally-accessible services"));
    }
    let (port, at) = (spec.health_check_node_port.unwrap_or(0), path.child("healthCheckNodePort"));
    match (needs_health_check(spec), port) {
        (true, 0) => errors.push(Error::required(&at, "")),
        (true, port) => errors.extend(validate_port(i64::from(port), &at)),
        (false, 0) => {}
        (false, port) => {
            let detail =
                "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            errors.push(Error::invalid(&at, port, detail));
        }
    }
    let at = path.child("internalTrafficPolicy");
    match spec.internal_traffic_policy.as_deref() {
        None if matches!(kind(spec), "NodePort" | "LoadBalancer" | "ClusterIP") => {
            errors.push(Error::required(&at, ""));
        }
        None => {}
        Some(policy) => errors.extend(supported(policy, &["Cluster", "Local"], &at)),
    }
    if let Some(distribution) = spec.traffic_distribution.as_deref() {
        let known = ["PreferClose", "PreferSameZone", "PreferSameNode"];
        if !known.contains(&distribution) {
            errors.push(Error::not_supported(&path.child("trafficDistribution"), distribution, &known));
        }
    }
    errors
}

/// A service's changed status.
pub fn validate_service_status_update(new: &Service, old: &Service) -> Vec<Error> {
    let none = ServiceSpec::default();
    let spec = new.spec.as_ref().unwrap_or(&none);
    let list = |s: &Service| {
        let balancer = s.status.as_ref().and_then(|s| s.load_balancer.as_ref());
        balancer.and_then(|l| l.ingress.clone()).unwrap_or_default()
    };
    let (ingress, before) = (list(new), list(old));
    let status = Path::new("status");
    let balancer = status.child("loadBalancer");
    let at = balancer.child("ingress");
    if !is_balanced(spec) && !ingress.is_empty() {
        return vec![Error::forbidden(&at, "may only be used when `spec.type` is 'LoadBalancer'")];
    }
    let kept: Vec<&str> = before.iter().map(|i| text(&i.ip)).filter(|ip| !ip.is_empty()).collect();
    let mut errors = Vec::new();
    for (i, one) in ingress.iter().enumerate() {
        let (at, ip, host) = (at.index(i), text(&one.ip), text(&one.hostname));
        if !ip.is_empty() {
            errors.extend(validate_ip(ip, &kept, &at.child("ip")));
        }
        let mode = at.child("ipMode");
        match one.ip_mode.as_deref() {
            None if !ip.is_empty() => {
                errors.push(Error::required(&mode, "must be specified when `ip` is set"))
            }
            None => {}
            Some(_) if ip.is_empty() => {
                errors.push(Error::forbidden(&mode, "may not be specified when `ip` is not set"));
            }
            Some(value) => errors.extend(supported(value, &["Proxy", "VIP"], &mode)),
        }
        if !host.is_empty() {
            errors.extend(dns_subdomain(host, &at.child("hostname")));
            if net::parse_ip(host).is_some() {
                let detail = "must be a DNS name, not an IP address";
                errors.push(Error::invalid(&at.child("hostname"), host, detail));
            }
        }
    }
    errors
}
