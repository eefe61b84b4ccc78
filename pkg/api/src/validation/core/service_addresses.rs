//! Cluster addresses of services and the families of addresses.
//! Upstream: `ValidateServiceClusterIPsRelatedFields`, `validateUpgradeDowngrade*`.

use k8s_openapi::api::core::v1::ServiceSpec;

use super::ip::validate_ip;
use super::service::is_headless;
use crate::validation::field::{Bad, Error, Path};
use crate::validation::{items, supported, text};

/// The fields by themselves and together.
pub(super) fn validate(spec: &ServiceSpec, before: Option<&ServiceSpec>, path: &Path) -> Vec<Error> {
    if text(&spec.type_) == "ExternalName" {
        return Vec::new();
    }
    let (ips, ip) = (items(&spec.cluster_ips), text(&spec.cluster_ip));
    let at = path.child("clusterIPs");
    let all = || Bad::json(&ips);
    let mut errors = Vec::new();
    match ips.first() {
        None if !ip.is_empty() => errors.push(Error::required(&at, "")),
        Some(_) if ip.is_empty() => {
            errors.push(Error::invalid(&at, all(), "must be empty when `clusterIP` is not specified"));
        }
        Some(first) if first != ip => {
            errors.push(Error::invalid(&at, all(), "first value must match `clusterIP`"));
        }
        _ => {}
    }
    errors.extend(validate_families(spec, path));
    let kept: Vec<&str> =
        before.map(|b| items(&b.cluster_ips)).unwrap_or_default().iter().map(String::as_str).collect();
    let mut broken = false;
    for (i, ip) in ips.iter().enumerate() {
        if i == 0 && ip == "None" {
            if ips.len() > 1 {
                broken = true;
                errors.push(Error::invalid(&at, all(), "'None' must be the first and only value"));
            }
            continue;
        }
        let refused = validate_ip(ip, &kept, &at.index(i));
        broken |= !refused.is_empty();
        errors.extend(refused);
    }
    if ips.len() > 2 {
        errors.push(Error::invalid(&at, all(), "may only hold up to 2 values"));
    }
    if broken {
        return errors;
    }
    let is_v6 = |ip: &String| net::parse_ip(ip).is_some_and(|ip| ip.is_ipv6());
    if ips.len() > 1 && (ips.iter().all(is_v6) || !ips.iter().any(is_v6)) {
        errors.push(Error::invalid(&at, all(), "may specify no more than one IP for each IP family"));
    }
    if !is_headless(spec) {
        for (i, (ip, family)) in ips.iter().zip(items(&spec.ip_families)).enumerate() {
            let fits = match family.as_str() {
                "IPv4" => !is_v6(ip),
                "IPv6" => is_v6(ip),
                _ => true,
            };
            if !fits {
                let detail = format!("expected an {family} value as indicated by `ipFamilies[{i}]`");
                errors.push(Error::invalid(&at.index(i), ip, detail));
            }
        }
    }
    errors
}

fn validate_families(spec: &ServiceSpec, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let (at, families) = (path.child("ipFamilies"), items(&spec.ip_families));
    for (i, family) in families.iter().enumerate() {
        errors.extend(supported(family, &["IPv4", "IPv6"], &at.index(i)));
        if families[..i].contains(family) {
            errors.push(Error::duplicate(&at.index(i), family));
        }
    }
    if let Some(policy) = spec.ip_family_policy.as_deref() {
        let known = ["PreferDualStack", "RequireDualStack", "SingleStack"];
        errors.extend(supported(policy, &known, &path.child("ipFamilyPolicy")));
    }
    errors
}

/// A cluster address and its family stay; a second pair may come and, with `SingleStack`, go.
pub(super) fn validate_update(new: &ServiceSpec, old: &ServiceSpec, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    if [new, old].iter().any(|s| text(&s.type_) == "ExternalName") {
        return errors;
    }
    let (now_headless, was_headless) = (is_headless(new), is_headless(old));
    if !(now_headless && was_headless) {
        errors.extend(ips_update(new, old, path));
    }
    if !now_headless && !was_headless {
        errors.extend(families_update(new, old, path));
    }
    errors
}

fn must_be_single(new: &ServiceSpec, what: &str, path: &Path) -> Option<Error> {
    (text(&new.ip_family_policy) != "SingleStack").then(|| {
        let bad = new.ip_family_policy.clone().map_or(Bad::Raw("null".into()), Bad::Text);
        let detail = format!("must be set to 'SingleStack' when releasing the secondary {what}");
        Error::invalid(&path.child("ipFamilyPolicy"), bad, detail)
    })
}

fn ips_update(new: &ServiceSpec, old: &ServiceSpec, path: &Path) -> Vec<Error> {
    let (now, then) = (items(&new.cluster_ips), items(&old.cluster_ips));
    let at = path.child("clusterIPs");
    let bad = || if new.cluster_ips.is_some() { Bad::json(&now) } else { Bad::Raw("null".into()) };
    let changed = |i: usize| Error::invalid(&at.index(i), bad(), "may not change once set");
    let mut errors = Vec::new();
    if now.len() == then.len() {
        errors.extend((0..now.len()).filter(|i| now[*i] != then[*i]).map(changed));
        return errors;
    }
    if now.is_empty() {
        errors.push(Error::invalid(&at.index(0), bad(), "primary clusterIP can not be unset"));
    }
    if let (Some(first), Some(was)) = (now.first(), then.first())
        && first != was
    {
        errors.push(changed(0));
    }
    if now.len() < then.len() && now.len() == 1 {
        errors.extend(must_be_single(new, "clusterIP", path));
    }
    errors
}

fn families_update(new: &ServiceSpec, old: &ServiceSpec, path: &Path) -> Vec<Error> {
    let (now, then) = (items(&new.ip_families), items(&old.ip_families));
    let at = path.child("ipFamilies");
    let json = |list: &Option<Vec<String>>| list.as_ref().map_or(Bad::Raw("null".into()), Bad::json);
    let detail = "may not change once set";
    let mut errors = Vec::new();
    if now.len() == then.len() {
        let changed = now.iter().zip(then).filter(|(a, b)| a != b);
        errors.extend(changed.map(|_| Error::invalid(&at.index(0), json(&new.ip_families), detail)));
        return errors;
    }
    if now.len() < then.len() && items(&new.cluster_ips).is_empty() {
        let detail = "primary ipFamily can not be unset";
        errors.push(Error::invalid(&at.index(0), json(&new.ip_families), detail));
    }
    if let (Some(first), Some(was)) = (now.first(), then.first())
        && first != was
    {
        errors.push(Error::invalid(&at.index(0), json(&new.cluster_ips), detail));
    }
    if now.len() < then.len() && now.len() == 1 {
        errors.extend(must_be_single(new, "ipFamily", path));
    }
    errors
}
