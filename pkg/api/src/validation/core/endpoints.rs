//! Endpoints.

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, Endpoints};

use super::ip::{validate_endpoint_ip, validate_ip};
use crate::validation::field::{Error, Path};
use crate::validation::objectmeta::{
    name_is_subdomain, validate_kube_object_meta, validate_object_meta_update,
};
use crate::validation::{content, dns_label, dns_subdomain, items, refusals, semantic_eq, supported, text};

/// `ValidateEndpointsCreate`.
pub fn validate(endpoints: &Endpoints) -> Vec<Error> {
    let mut errors = validate_metadata(endpoints);
    errors.extend(validate_subsets(endpoints));
    errors
}

/// `ValidateEndpointsUpdate`: subsets that stay as they were are not judged again.
pub fn validate_update(new: &Endpoints, old: &Endpoints) -> Vec<Error> {
    let mut errors = validate_object_meta_update(&new.metadata, &old.metadata, &Path::new("metadata"));
    errors.extend(validate_metadata(new));
    if !semantic_eq(&new.subsets, &old.subsets) {
        errors.extend(validate_subsets(new));
    }
    errors
}

fn validate_metadata(endpoints: &Endpoints) -> Vec<Error> {
    validate_kube_object_meta(&endpoints.metadata, true, name_is_subdomain, &Path::new("metadata"))
}

fn validate_subsets(endpoints: &Endpoints) -> Vec<Error> {
    let path = Path::new("subsets");
    let mut errors = Vec::new();
    for (i, subset) in items(&endpoints.subsets).iter().enumerate() {
        let at = path.index(i);
        let (ready, rest) = (items(&subset.addresses), items(&subset.not_ready_addresses));
        if ready.is_empty() && rest.is_empty() {
            errors.push(Error::required(&at, "must specify `addresses` or `notReadyAddresses`"));
        }
        for (list, name) in [(ready, "addresses"), (rest, "notReadyAddresses")] {
            for (j, address) in list.iter().enumerate() {
                errors.extend(validate_address(address, &at.child(name).index(j)));
            }
        }
        let ports = items(&subset.ports);
        for (j, port) in ports.iter().enumerate() {
            errors.extend(validate_port(port, ports.len() > 1, &at.child("ports").index(j)));
        }
    }
    errors
}

fn validate_address(address: &EndpointAddress, path: &Path) -> Vec<Error> {
    let at = path.child("ip");
    let mut errors = validate_ip(&address.ip, &[], &at);
    if let Some(host) = address.hostname.as_deref().filter(|h| !h.is_empty()) {
        errors.extend(dns_label(host, &path.child("hostname")));
    }
    if let Some(node) = &address.node_name {
        errors.extend(dns_subdomain(node, &path.child("nodeName")));
    }
    errors.extend(validate_endpoint_ip(&address.ip, &at));
    errors
}

fn validate_port(port: &EndpointPort, named: bool, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    match text(&port.name) {
        "" if named => errors.push(Error::required(&path.child("name"), "")),
        "" => {}
        name => errors.extend(dns_label(name, &path.child("name"))),
    }
    let wrong = content::port_number(i64::from(port.port)).into_iter();
    errors.extend(wrong.map(|m| Error::invalid(&path.child("port"), port.port, m)));
    let at = path.child("protocol");
    match text(&port.protocol) {
        "" => errors.push(Error::required(&at, "")),
        protocol => errors.extend(supported(protocol, &["SCTP", "TCP", "UDP"], &at)),
    }
    if let Some(protocol) = &port.app_protocol {
        let wrong = content::qualified_name(protocol);
        errors.extend(refusals(&path.child("appProtocol"), protocol, wrong));
    }
    errors
}
