//! Service networks: one of each family at most; a second one may be added, none changed.

use k8s_openapi::api::networking::v1::{ServiceCIDR, ServiceCIDRSpec};

use crate::validation::core::ip::validate_cidr_strict;
use crate::validation::field::{Bad, Error, Path};
use crate::validation::items;
use crate::validation::objectmeta::{
    name_is_subdomain, validate_kube_object_meta, validate_object_meta_update,
};

/// `ValidateServiceCIDR`.
pub fn validate(network: &ServiceCIDR) -> Vec<Error> {
    let mut errors =
        validate_kube_object_meta(&network.metadata, false, name_is_subdomain, &Path::new("metadata"));
    errors.extend(validate_spec(network));
    errors
}

fn networks(network: &ServiceCIDR) -> &[String] {
    network.spec.as_ref().map_or(&[], |s: &ServiceCIDRSpec| items(&s.cidrs))
}

fn validate_spec(network: &ServiceCIDR) -> Vec<Error> {
    let (spec, list) = (Path::new("spec"), networks(network));
    let path = spec.child("cidrs");
    match list {
        [] => return vec![Error::required(&path, "at least one CIDR required")],
        [_, _, _, ..] => {
            // Upstream prints its internal type.
            let printed = format!("{{\"CIDRs\":{}}}", serde_json::to_string(list).unwrap_or_default());
            return vec![Error::invalid(&path, Bad::Raw(printed), "may only hold up to 2 values")];
        }
        _ => {}
    }
    let mut errors: Vec<Error> =
        list.iter().enumerate().flat_map(|(i, c)| validate_cidr_strict(c, &path.index(i))).collect();
    let families: Vec<bool> = list.iter().filter_map(|c| net::parse_cidr(c)).map(|n| n.is_ipv4()).collect();
    if let [first, second] = families[..]
        && first == second
    {
        let detail =
            "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        errors.push(Error::invalid(&path, Bad::json(&list), detail));
    }
    errors
}

/// `ValidateServiceCIDRUpdate`.
pub fn validate_update(new: &ServiceCIDR, old: &ServiceCIDR) -> Vec<Error> {
    const IMMUTABLE: &str = "field is immutable";
    let mut errors = validate_object_meta_update(&new.metadata, &old.metadata, &Path::new("metadata"));
    let spec = Path::new("spec");
    let path = spec.child("cidrs");
    let (list, before) = (networks(new), networks(old));
    let changed = |errors: &mut Vec<Error>| {
        for (i, (cidr, _)) in list.iter().zip(before).enumerate().filter(|(_, (a, b))| a != b) {
            errors.push(Error::invalid(&path.index(i), cidr, IMMUTABLE));
        }
    };
    if list.len() == before.len() {
        changed(&mut errors);
    } else if before.len() == 1 && list.len() == 2 {
        changed(&mut errors);
        errors.extend(validate_spec(new));
    } else {
        let printed = match new.spec.as_ref().and_then(|s| s.cidrs.as_ref()) {
            Some(list) => Bad::json(list),
            None => Bad::Raw("null".into()),
        };
        errors.push(Error::invalid(&path, printed, IMMUTABLE));
    }
    errors
}

/// `ValidateServiceCIDRStatusUpdate`.
pub fn validate_status_update(new: &ServiceCIDR, old: &ServiceCIDR) -> Vec<Error> {
    validate_object_meta_update(&new.metadata, &old.metadata, &Path::new("metadata"))
}
