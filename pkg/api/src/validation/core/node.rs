//! Nodes: metadata, taints, addresses, CIDRs.

use k8s_openapi::api::core::v1::{Node, NodeConfigSource, NodeSpec, Taint};

use super::ip;
use super::resources::validate_amount;
use crate::validation::content;
use crate::validation::field::{Bad, Error, Path};
use crate::validation::objectmeta::{name_is_subdomain, validate_kube_object_meta, validate_label_name};
use crate::validation::{items, positive, refusals, text};

/// A new node.
pub fn validate_node(node: &Node) -> Vec<Error> {
    let mut errors =
        validate_kube_object_meta(&node.metadata, false, name_is_subdomain, &Path::new("metadata"));
    let spec = Path::new("spec");
    let Some(node_spec) = &node.spec else { return errors };
    // Upstream's path.
    let metadata = Path::new("metadata");
    errors.extend(validate_taints(items(&node_spec.taints), &metadata.child("taints")));
    errors.extend(validate_node_resources(node));
    let swap = node.status.as_ref().and_then(|s| s.node_info.as_ref()?.swap.as_ref()?.capacity);
    let at = metadata.child("nodeSwapStatus");
    errors.extend(swap.and_then(|capacity| positive(capacity, &at.child("capacity"))));
    errors.extend(validate_declared_features(node));
    let cidrs = items(&node_spec.pod_cidrs);
    let at = spec.child("podCIDRs");
    for (i, cidr) in cidrs.iter().enumerate() {
        errors.extend(ip::validate_cidr(cidr, &[], &at.index(i)));
    }
    if cidrs.len() > 1 {
        let broken = cidrs.iter().enumerate().find(|(_, c)| family(c).is_none());
        if let Some((i, cidr)) = broken {
            let why = format!("invalid CIDR[{i}]: <nil> (invalid CIDR address: {cidr})");
            let detail = format!("invalid PodCIDRs. failed to check with dual stack with error:{why}");
            errors.push(Error::internal(&at, detail));
        }
        let families: Vec<_> = cidrs.iter().filter_map(|c| family(c)).collect();
        let dual = broken.is_none() && families.contains(&true) && families.contains(&false);
        if !dual || cidrs.len() > 2 {
            let detail = "may specify no more than one CIDR for each IP family";
            errors.push(Error::invalid(&at, Bad::json(&cidrs), detail));
        }
    }
    errors
}

/// Whether a network is one of IPv4 addresses; `None` when it is no network.
fn family(cidr: &str) -> Option<bool> {
    let (address, bits) = cidr.split_once('/')?;
    let address = net::parse_ip(address)?;
    let width = if address.is_ipv4() { 32 } else { 128 };
    bits.parse::<u8>().ok().filter(|n| *n <= width)?;
    Some(address.is_ipv4())
}

/// Names of features, in order (`validateNodeDeclaredFeatures`).
fn validate_declared_features(node: &Node) -> Vec<Error> {
    let features = node.status.as_ref().map(|s| items(&s.declared_features)).unwrap_or_default();
    let path = Path::new("status.declaredFeatures");
    let mut errors = Vec::new();
    for (i, feature) in features.iter().enumerate() {
        let (name, next) = (crate::validation::field::quote(feature), path.index(i + 1));
        if feature.len() > content::DNS_SUBDOMAIN_MAX {
            let most = content::DNS_SUBDOMAIN_MAX;
            let detail = format!("invalid feature name {name}: must be no more than {most} characters");
            errors.push(Error::invalid(&path.index(i), feature, detail));
        } else if !is_feature(feature) {
            let detail = format!(
                "invalid feature name {name}: must start with an UpperCamelCase segment, with subsequent segments separated by '/' (e.g., MyFeature or MyFeature/mySubFeature), and contain only alphanumeric characters and slashes"
            );
            errors.push(Error::invalid(&path.index(i), feature, detail));
        }
        match features.get(i + 1) {
            Some(other) if other == feature => errors.push(Error::duplicate(&next, other)),
            Some(other) if feature > other => {
                errors.push(Error::invalid(&next, other, "list must be sorted alphabetically"));
            }
            _ => {}
        }
    }
    errors
}

fn is_feature(name: &str) -> bool {
    let part = |p: &str| {
        p.starts_with(|c: char| c.is_ascii_alphabetic()) && p.bytes().all(|b| b.is_ascii_alphanumeric())
    };
    name.starts_with(|c: char| c.is_ascii_uppercase()) && name.split('/').all(part)
}

/// No address is told twice.
fn validate_addresses(node: &Node) -> Vec<Error> {
    let addresses = node.status.as_ref().map(|s| items(&s.addresses)).unwrap_or_default();
    let path = Path::new("status.addresses");
    let again = addresses.iter().enumerate().filter(|(i, address)| addresses[..*i].contains(address));
    again.map(|(i, address)| Error::duplicate(&path.index(i), Bad::json(address))).collect()
}

/// Capacity and allocatable amounts (`ValidateNodeResources`).
fn validate_node_resources(node: &Node) -> Vec<Error> {
    let Some(status) = &node.status else { return Vec::new() };
    let path = Path::new("status");
    let mut errors = Vec::new();
    for (amounts, field) in [(&status.capacity, "capacity"), (&status.allocatable, "allocatable")] {
        let at = path.child(field);
        for (name, amount) in amounts.iter().flatten() {
            errors.extend(validate_amount(name, amount, &at.child(name)));
        }
    }
    errors
}

/// Taints: keys, values, effects, uniqueness.
pub fn validate_taints(taints: &[Taint], path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    for (i, taint) in taints.iter().enumerate() {
        let at = path.index(i);
        errors.extend(validate_label_name(&taint.key, &at.child("key")));
        let value = taint.value.as_deref().unwrap_or("");
        let texts = content::label_value(value);
        if !texts.is_empty() {
            errors.push(Error::invalid(&at.child("value"), value, texts.join(";")));
        }
        match taint.effect.as_str() {
            "" => errors.push(Error::required(&at.child("effect"), "")),
            "NoSchedule" | "PreferNoSchedule" | "NoExecute" => {}
            other => errors.push(Error::not_supported(
                &at.child("effect"),
                Bad::enumerated(other),
                &["NoSchedule", "PreferNoSchedule", "NoExecute"],
            )),
        }
        if taints[..i].iter().any(|t| t.key == taint.key && t.effect == taint.effect) {
            let mut error = Error::duplicate(&at, Bad::json(taint));
            error.detail = "taints must be unique by key and effect pair".into();
            errors.push(error);
        }
    }
    errors
}

/// A changed node: pod CIDRs and the provider id are set once.
pub fn validate_node_update(new: &Node, old: &Node) -> Vec<Error> {
    let new_node = new;
    let mut errors = validate_node_resources(new);
    errors.extend(validate_declared_features(new));
    errors.extend(validate_addresses(new));
    let spec = Path::new("spec");
    let default = NodeSpec::default();
    let (new, old) = (new.spec.as_ref().unwrap_or(&default), old.spec.as_ref().unwrap_or(&default));
    let before = old.pod_cidrs.as_deref().unwrap_or_default();
    if !before.is_empty() && new.pod_cidrs.as_deref().unwrap_or_default() != before {
        errors.push(Error::forbidden(
            &spec.child("podCIDRs"),
            "node updates may not change podCIDR except from \"\" to valid",
        ));
    }
    let (id, before) = (text(&new.provider_id), text(&old.provider_id));
    if !before.is_empty() && id != before {
        let done = if id.is_empty() { "cleared" } else { "modified" };
        let detail = format!("field cannot be {done} once set");
        errors.push(Error::invalid(&spec.child("providerID"), Bad::Raw("null".into()), detail));
    }
    let metadata = Path::new("metadata");
    errors.extend(validate_taints(items(&new.taints), &metadata.child("taints")));
    if let Some(source) = &new.config_source {
        errors.extend(validate_config_source(source, false, &spec.child("configSource")));
    }
    errors.extend(validate_config_status(new_node));
    if text(&new.external_id) != text(&old.external_id) {
        errors.push(Error::forbidden(&spec.child("externalID"), "may not be updated"));
    }
    errors
}

/// The configuration that a kubelet once took from the cluster (`validateNodeConfigStatus`).
fn validate_config_status(node: &Node) -> Vec<Error> {
    let Some(config) = node.status.as_ref().and_then(|s| s.config.as_ref()) else { return Vec::new() };
    let status = Path::new("status");
    let path = status.child("config");
    let all = [
        (&config.assigned, "assigned"),
        (&config.active, "active"),
        (&config.last_known_good, "lastKnownGood"),
    ];
    let told = all.into_iter().filter_map(|(source, field)| Some((source.as_ref()?, field)));
    told.flat_map(|(source, field)| validate_config_source(source, true, &path.child(field))).collect()
}

/// `known` says that the config map is one that was read, which has a uid and a version.
fn validate_config_source(source: &NodeConfigSource, known: bool, path: &Path) -> Vec<Error> {
    let Some(map) = &source.config_map else {
        let detail = "exactly one reference subfield must be non-nil";
        return vec![Error::invalid(path, Bad::json(source), detail)];
    };
    let path = path.child("configMap");
    let mut errors = Vec::new();
    for (value, field) in [(&map.uid, "uid"), (&map.resource_version, "resourceVersion")] {
        let at = path.child(field);
        match (text(value).is_empty(), known) {
            (true, true) => errors.push(Error::required(&at, "")),
            (false, false) => errors.push(Error::forbidden(&at, format!("{field} must not be set in spec"))),
            _ => {}
        }
    }
    for (value, field, rule) in [
        (&map.namespace, "namespace", content::dns_label as fn(&str) -> Vec<String>),
        (&map.name, "name", content::dns_subdomain),
        (&map.kubelet_config_key, "kubeletConfigKey", content::config_map_key),
    ] {
        let at = path.child(field);
        match value.is_empty() {
            true => errors.push(Error::required(&at, "")),
            false => errors.extend(refusals(&at, value, rule(value))),
        }
    }
    errors
}

/// A node name where one is referred to.
pub fn validate_node_name(name: &str, path: &Path) -> Vec<Error> {
    refusals(path, name, content::dns_subdomain(name))
}
