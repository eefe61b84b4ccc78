//! Network policies.

use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::validation::core::ip::validate_cidr;
use crate::validation::field::{Bad, Error, Path};
use crate::validation::objectmeta::{
    name_is_subdomain, validate_kube_object_meta, validate_label_selector_with, validate_object_meta_update,
};
use crate::validation::{content, items, refusals, supported};

const TYPES: &[&str] = &["Ingress", "Egress"];

/// What an older version of the policy excuses.
#[derive(Default)]
struct Excuses<'a> {
    /// Selectors may have any values.
    values: bool,
    /// Networks that stay as they are, however odd.
    networks: Vec<&'a str>,
}

/// `ValidateNetworkPolicy`.
pub fn validate(policy: &NetworkPolicy) -> Vec<Error> {
    let mut errors =
        validate_kube_object_meta(&policy.metadata, true, name_is_subdomain, &Path::new("metadata"));
    errors.extend(validate_spec(policy, &Excuses::default()));
    errors
}

/// `ValidateNetworkPolicyUpdate`.
pub fn validate_update(new: &NetworkPolicy, old: &NetworkPolicy) -> Vec<Error> {
    let mut errors = validate_object_meta_update(&new.metadata, &old.metadata, &Path::new("metadata"));
    let mut excuses = Excuses::default();
    if let Some(spec) = &old.spec {
        let selector = spec.pod_selector.as_ref();
        excuses.values = !validate_label_selector_with(selector, false, &Path::ROOT).is_empty();
        excuses.networks = peers(spec)
            .filter_map(|p| p.ip_block.as_ref())
            .flat_map(|b| std::iter::once(b.cidr.as_str()).chain(items(&b.except).iter().map(String::as_str)))
            .collect();
    }
    errors.extend(validate_spec(new, &excuses));
    errors
}

fn peers(spec: &NetworkPolicySpec) -> impl Iterator<Item = &NetworkPolicyPeer> {
    let from = items(&spec.ingress).iter().flat_map(|r| items(&r.from));
    from.chain(items(&spec.egress).iter().flat_map(|r| items(&r.to)))
}

fn validate_spec(policy: &NetworkPolicy, excuses: &Excuses<'_>) -> Vec<Error> {
    let none = NetworkPolicySpec::default();
    let (spec, path) = (policy.spec.as_ref().unwrap_or(&none), Path::new("spec"));
    let at = path.child("podSelector");
    let mut errors = validate_label_selector_with(spec.pod_selector.as_ref(), excuses.values, &at);
    let rules = |list: &'static str| path.child(list);
    let mut rule = |at: &Path, ports: &[NetworkPolicyPort], side: &str, peers: &[NetworkPolicyPeer]| {
        for (i, port) in ports.iter().enumerate() {
            errors.extend(validate_port(port, &at.child("ports").index(i)));
        }
        for (i, peer) in peers.iter().enumerate() {
            errors.extend(validate_peer(peer, excuses, &at.child(side).index(i)));
        }
    };
    for (i, ingress) in items(&spec.ingress).iter().enumerate() {
        rule(&rules("ingress").index(i), items(&ingress.ports), "from", items(&ingress.from));
    }
    for (i, egress) in items(&spec.egress).iter().enumerate() {
        rule(&rules("egress").index(i), items(&egress.ports), "to", items(&egress.to));
    }
    let (types, at) = (items(&spec.policy_types), path.child("policyTypes"));
    if types.len() > TYPES.len() {
        errors.push(Error::invalid(&at, Bad::json(&types), "may not specify more than two policyTypes"));
        return errors;
    }
    for (i, kind) in types.iter().enumerate() {
        errors.extend(supported(kind, TYPES, &at.index(i)));
    }
    errors
}

fn validate_port(port: &NetworkPolicyPort, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    if let Some(protocol) = &port.protocol {
        errors.extend(supported(protocol, &["TCP", "UDP", "SCTP"], &path.child("protocol")));
    }
    let (at, end_at) = (path.child("port"), path.child("endPort"));
    match (&port.port, port.end_port) {
        (Some(IntOrString::Int(n)), end) => {
            let number = |n: i32, at: &Path| -> Vec<Error> {
                let wrong = content::port_number(i64::from(n)).into_iter();
                wrong.map(|m| Error::invalid(at, n, m)).collect()
            };
            errors.extend(number(*n, &at));
            if let Some(end) = end {
                if end < *n {
                    errors.push(Error::invalid(&end_at, end, "must be greater than or equal to `port`"));
                }
                errors.extend(number(end, &end_at));
            }
        }
        (Some(IntOrString::String(name)), end) => {
            if let Some(end) = end {
                let detail = "may not be specified when `port` is non-numeric";
                errors.push(Error::invalid(&end_at, end, detail));
            }
            errors.extend(refusals(&at, name, content::port_name(name)));
        }
        (None, Some(end)) => {
            let detail = "may not be specified when `port` is not specified";
            errors.push(Error::invalid(&end_at, end, detail));
        }
        (None, None) => {}
    }
    errors
}

fn validate_peer(peer: &NetworkPolicyPeer, excuses: &Excuses<'_>, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let selectors = [(&peer.pod_selector, "podSelector"), (&peer.namespace_selector, "namespaceSelector")];
    for (selector, name) in selectors {
        let at = path.child(name);
        errors.extend(validate_label_selector_with(selector.as_ref(), excuses.values, &at));
    }
    let selects = selectors.iter().any(|(s, _)| s.is_some());
    match &peer.ip_block {
        Some(block) => {
            errors.extend(validate_block(block, excuses, &path.child("ipBlock")));
            if selects {
                errors.push(Error::forbidden(path, "may not specify both ipBlock and another peer"));
            }
        }
        None if !selects => errors.push(Error::required(path, "must specify a peer")),
        None => {}
    }
    errors
}

fn validate_block(block: &IPBlock, excuses: &Excuses<'_>, path: &Path) -> Vec<Error> {
    if block.cidr.is_empty() {
        // Told by the type's own rules.
        return Vec::new();
    }
    let mut errors = validate_cidr(&block.cidr, &excuses.networks, &path.child("cidr"));
    let Some(network) = net::parse_network(&block.cidr) else { return errors };
    let at = path.child("except");
    for (i, except) in items(&block.except).iter().enumerate() {
        errors.extend(validate_cidr(except, &excuses.networks, &at.index(i)));
        if net::parse_network(except).is_some_and(|e| e == network || !network.contains(&e)) {
            errors.push(Error::invalid(&at.index(i), except, "must be a strict subset of `cidr`"));
        }
    }
    errors
}
