//! Nodes: metadata, taints, addresses, CIDRs.

use k8s_openapi::api::core::v1::{Node, Taint};

use crate::validation::content;
use crate::validation::field::{Error, Path};
use crate::validation::objectmeta::{name_is_subdomain, validate_label_name, validate_object_meta};
use crate::validation::refusals;

/// A new node.
pub fn validate_node(node: &Node) -> Vec<Error> {
    let mut errors = validate_object_meta(&node.metadata, false, name_is_subdomain, &Path::new("metadata"));
    let spec = Path::new("spec");
    let Some(node_spec) = &node.spec else { return errors };
    errors.extend(validate_taints(node_spec.taints.as_deref().unwrap_or_default(), &spec.child("taints")));
    let cidrs = node_spec.pod_cidrs.as_deref().unwrap_or_default();
    let at = spec.child("podCIDRs");
    for (i, cidr) in cidrs.iter().enumerate() {
        if !is_cidr(cidr) {
            errors.push(Error::invalid(&at.index(i), cidr, "must be a valid CIDR value"));
        }
    }
    if cidrs.len() > 2 {
        errors.push(Error::invalid(
            &at,
            crate::validation::field::Bad::json(&cidrs),
            "may specify no more than one CIDR for each IP family",
        ));
    }
    errors
}

fn is_cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    match (address.parse::<std::net::IpAddr>(), bits.parse::<u8>()) {
        (Ok(std::net::IpAddr::V4(_)), Ok(n)) => n <= 32,
        (Ok(std::net::IpAddr::V6(_)), Ok(n)) => n <= 128,
        _ => false,
    }
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
                other,
                &["NoSchedule", "PreferNoSchedule", "NoExecute"],
            )),
        }
        if taints[..i].iter().any(|t| t.key == taint.key && t.effect == taint.effect) {
            let mut error = Error::duplicate(&at, crate::validation::field::Bad::json(taint));
            error.detail = "taints must be unique by key and effect pair".into();
            errors.push(error);
        }
    }
    errors
}

/// A changed node: pod CIDRs and the provider id are set once.
pub fn validate_node_update(new: &Node, old: &Node) -> Vec<Error> {
    let mut errors = Vec::new();
    let spec = Path::new("spec");
    let (Some(new), Some(old)) = (&new.spec, &old.spec) else { return errors };
    let before = old.pod_cidrs.as_deref().unwrap_or_default();
    if !before.is_empty() && new.pod_cidrs.as_deref().unwrap_or_default() != before {
        errors.push(Error::forbidden(
            &spec.child("podCIDRs"),
            "node updates may not change podCIDR except from \"\" to valid",
        ));
    }
    let id = old.provider_id.as_deref().unwrap_or("");
    if !id.is_empty() && new.provider_id.as_deref().unwrap_or("") != id {
        errors.push(Error::forbidden(
            &spec.child("providerID"),
            "node updates may not change providerID except from \"\" to valid",
        ));
    }
    errors
}

/// A node name where one is referred to.
pub fn validate_node_name(name: &str, path: &Path) -> Vec<Error> {
    refusals(path, name, content::dns_subdomain(name))
}
