//! Endpoint slices. Upstream: `pkg/apis/discovery/validation/validation.go`.

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointHints, EndpointPort, EndpointSlice};

use super::core::ip::{validate_endpoint_ip, validate_ip, validate_ip_strict};
use super::field::{Bad, Error, Path};
use super::objectmeta::{name_is_subdomain, validate_kube_object_meta, validate_labels};
use super::{content, dns_label, dns_subdomain, items, one_of, refusals, semantic_eq, supported};

const TOPOLOGY_MAX: usize = 16;
const PORTS_MAX: usize = 20_000;
const ENDPOINTS_MAX: usize = 1000;
const HINTS_MAX: usize = 8;
const ZONE: &str = "topology.kubernetes.io/zone";

/// `ValidateEndpointSliceCreate`; the number of addresses is told by the type's own rules.
pub fn validate(slice: &EndpointSlice) -> Vec<Error> {
    let mut errors = validate_parts(slice);
    errors.extend(validate_endpoints(slice));
    errors
}

/// `ValidateEndpointSliceUpdate`: endpoints that stay as they were are not judged again.
pub fn validate_update(new: &EndpointSlice, old: &EndpointSlice) -> Vec<Error> {
    let mut errors = validate_parts(new);
    if !semantic_eq(&new.endpoints, &old.endpoints) {
        errors.extend(validate_endpoints(new));
    }
    errors
}

fn validate_parts(slice: &EndpointSlice) -> Vec<Error> {
    let mut errors =
        validate_kube_object_meta(&slice.metadata, true, name_is_subdomain, &Path::new("metadata"));
    let family = one_of(&slice.address_type, &["FQDN", "IPv4", "IPv6"], &Path::new("addressType"));
    errors.extend(family.map(Error::covered));
    errors.extend(validate_ports(items(&slice.ports), &Path::new("ports")));
    errors
}

fn validate_endpoints(slice: &EndpointSlice) -> Vec<Error> {
    let (endpoints, path) = (items(&slice.endpoints), Path::new("endpoints"));
    if endpoints.len() > ENDPOINTS_MAX {
        return vec![Error::too_many(&path, endpoints.len(), ENDPOINTS_MAX)];
    }
    let each = endpoints.iter().enumerate();
    each.flat_map(|(i, e)| validate_endpoint(e, &slice.address_type, &path.index(i))).collect()
}

fn validate_endpoint(endpoint: &Endpoint, family: &str, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let list = path.child("addresses");
    for (i, address) in endpoint.addresses.iter().enumerate() {
        errors.extend(validate_address(address, family, &list, &list.index(i)));
    }
    if let Some(node) = &endpoint.node_name {
        errors.extend(dns_subdomain(node, &path.child("nodeName")));
    }
    if let Some(topology) = &endpoint.deprecated_topology {
        let at = path.child("deprecatedTopology");
        if topology.len() > TOPOLOGY_MAX {
            errors.push(Error::too_many(&at, topology.len(), TOPOLOGY_MAX));
        }
        errors.extend(validate_labels(Some(topology), &at));
        if topology.contains_key(ZONE) {
            errors.push(Error::internal(&at.key(ZONE), "reserved key was not removed in conversion"));
        }
    }
    if let Some(host) = &endpoint.hostname {
        errors.extend(dns_label(host, &path.child("hostname")));
    }
    if let Some(hints) = &endpoint.hints {
        errors.extend(validate_hints(hints, &path.child("hints")));
    }
    errors
}

fn validate_address(address: &str, family: &str, list: &Path, path: &Path) -> Vec<Error> {
    let (errors, is_v4) = match family {
        "IPv4" => (validate_ip(address, &[], path), true),
        "IPv6" => (validate_ip_strict(address, path), false),
        "FQDN" => return content::full_domain_name(address, path),
        _ => return Vec::new(),
    };
    if !errors.is_empty() {
        return errors;
    }
    let mut errors = Vec::new();
    if net::parse_ip(address).is_some_and(|ip| ip.is_ipv4() != is_v4) {
        errors.push(Error::invalid(list, address, format!("must be an {family} address")));
    }
    errors.extend(validate_endpoint_ip(address, path));
    errors
}

fn validate_ports(ports: &[EndpointPort], path: &Path) -> Vec<Error> {
    if ports.len() > PORTS_MAX {
        return vec![Error::too_many(path, ports.len(), PORTS_MAX)];
    }
    let mut errors = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for (i, port) in ports.iter().enumerate() {
        let at = path.index(i);
        let name = super::text(&port.name);
        if !name.is_empty() {
            errors.extend(dns_label(name, &at.child("name")));
        }
        if !seen.insert(name) {
            errors.push(Error::duplicate(&at.child("name"), Bad::from(name)));
        }
        match &port.protocol {
            None => errors.push(Error::required(&at.child("protocol"), "")),
            Some(protocol) => {
                errors.extend(supported(protocol, &["SCTP", "TCP", "UDP"], &at.child("protocol")));
            }
        }
        if let Some(protocol) = &port.app_protocol {
            let wrong = content::qualified_name(protocol);
            errors.extend(refusals(&at.child("appProtocol"), protocol, wrong));
        }
    }
    errors
}

fn validate_hints(hints: &EndpointHints, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let zones: Vec<&str> = items(&hints.for_zones).iter().map(|z| z.name.as_str()).collect();
    let nodes: Vec<&str> = items(&hints.for_nodes).iter().map(|n| n.name.as_str()).collect();
    let lists = [
        (zones, "forZones", content::label_value as fn(&str) -> content::Refusals),
        (nodes, "forNodes", content::dns_subdomain),
    ];
    for (names, list, rule) in lists {
        let at = path.child(list);
        if names.len() > HINTS_MAX {
            errors.push(Error::too_many(&at, names.len(), HINTS_MAX));
            return errors;
        }
        for (i, name) in names.iter().enumerate() {
            let at = at.index(i);
            let at = at.child("name");
            if names.iter().take(i).any(|n| n == name) {
                errors.push(Error::duplicate(&at, *name));
            }
            errors.extend(refusals(&at, name, rule(name)));
        }
    }
    errors
}
