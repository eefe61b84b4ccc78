//! Amounts of resources that containers and pods ask for, and the names of resources.
//! Upstream: `validateResourceRequirements`; names in `pkg/apis/core/helper/helpers.go`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ContainerResizePolicy, PodSpec, ResourceClaim, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use machinery::Quantity;

use super::container::visit;
use crate::validation::field::{Bad, Error, Path};
use crate::validation::{content, dns_label, items, refusals, supported};

/// Amounts by resource name.
pub(crate) type Amounts = BTreeMap<String, Text>;

const STANDARD: &[&str] = &[
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "storage",
    "requests.storage",
    "services.nodeports",
    "services.loadbalancers",
];
const INTEGER: &[&str] = &[
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];

/// Whether the name is of huge pages.
pub(super) fn is_huge_page(name: &str) -> bool {
    name.starts_with("hugepages-")
}

fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

fn is_extended(name: &str) -> bool {
    !is_native(name)
        && !name.starts_with("requests.")
        && content::qualified_name(&format!("requests.{name}")).is_empty()
}

/// Resources that may be promised more than once.
pub(super) fn overcommits(name: &str) -> bool {
    is_native(name) && !is_huge_page(name)
}

/// A resource name anywhere.
pub(super) fn validate_name(name: &str, path: &Path) -> Vec<Error> {
    let errors = refusals(path, name, content::qualified_name(name));
    let standard = STANDARD.contains(&name) || is_huge_page(name) || name.starts_with("requests.hugepages-");
    if errors.is_empty() && !name.contains('/') && !standard {
        return vec![Error::invalid(path, name, "must be a standard resource type or fully qualified")];
    }
    errors
}

pub(crate) fn validate_container_name(name: &str, path: &Path) -> Vec<Error> {
    let mut errors = validate_name(name, path);
    if !name.contains('/') {
        if !matches!(name, "cpu" | "memory" | "ephemeral-storage") && !is_huge_page(name) {
            errors.push(Error::invalid(path, name, "must be a standard resource for containers"));
        }
    } else if !is_native(name) && !is_extended(name) {
        errors.push(Error::invalid(path, name, "doesn't follow extended resource name standard"));
    }
    errors
}

fn validate_pod_name(name: &str, path: &Path) -> Vec<Error> {
    let errors = validate_name(name, path);
    if errors.is_empty() && !matches!(name, "cpu" | "memory") && !is_huge_page(name) {
        return vec![Error::not_supported(path, Bad::enumerated(name), &["cpu", "hugepages-", "memory"])];
    }
    errors
}

/// A resource that quotas know by itself.
pub(super) fn is_standard_quota(name: &str) -> bool {
    (STANDARD.contains(&name) && name != "storage")
        || is_huge_page(name)
        || name.starts_with("requests.hugepages-")
}

/// The number behind a quantity's text; zero for none, as decoding refuses unreadable ones.
pub(crate) fn amount(text: &Text) -> Quantity {
    Quantity::parse(&text.0).unwrap_or_else(|_| Quantity::zero())
}

/// Below zero, zero or above zero as `a` is less than, equal to or more than `b`.
pub(crate) fn compare(a: &Quantity, b: &Quantity) -> i32 {
    let mut difference = a.clone();
    difference.sub(b);
    difference.sign()
}

/// An amount of a resource: not negative, whole where it counts things.
pub(super) fn validate_amount(name: &str, value: &Text, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let number = amount(value);
    if number.sign() < 0 {
        errors.push(Error::invalid(path, number.canonical(), "must be greater than or equal to 0"));
    }
    if (INTEGER.contains(&name) || is_extended(name)) && number.milli_value() % 1000 != 0 {
        errors.push(Error::invalid(path, Bad::json(&number.canonical()), "must be an integer"));
    }
    errors
}

fn validate_huge_page(name: &str, value: &Quantity, lenient: bool, path: &Path) -> Option<Error> {
    let size = name.strip_prefix("hugepages-").map(Quantity::parse)?;
    let divisible = size.is_ok_and(|size| {
        size.sign() > 0 && size.milli_value() % 1000 == 0 && value.value() % size.value() == 0
    });
    (!lenient && !divisible).then(|| {
        let detail = format!("{} is not positive integer multiple of {name}", value.canonical());
        Error::invalid(path, value.canonical(), detail)
    })
}

/// What requirements are checked against.
pub(super) struct Terms<'a> {
    /// Names of the pod's resource claims.
    pub claims: &'a [&'a str],
    /// Amounts of huge pages need not be multiples of the page size: they were not before.
    pub any_huge_page_amount: bool,
}

/// Requests and limits of a container, or a pod's overhead as limits.
pub(super) fn validate_container(
    resources: &ResourceRequirements,
    terms: &Terms<'_>,
    path: &Path,
) -> Vec<Error> {
    validate(resources, validate_container_name, terms, path)
}

/// What a class of runtimes adds to every pod, as limits.
pub(crate) fn validate_overhead(resources: &ResourceRequirements, path: &Path) -> Vec<Error> {
    validate_container(resources, &Terms { claims: &[], any_huge_page_amount: false }, path)
}

fn validate(
    resources: &ResourceRequirements,
    name_rule: fn(&str, &Path) -> Vec<Error>,
    terms: &Terms<'_>,
    path: &Path,
) -> Vec<Error> {
    let (limits, requests) = (path.child("limits"), path.child("requests"));
    let mut errors = Vec::new();
    let none = Amounts::new();
    let limited = resources.limits.as_ref().unwrap_or(&none);
    let requested = resources.requests.as_ref().unwrap_or(&none);
    for (name, value) in limited {
        let at = limits.key(name);
        errors.extend(name_rule(name, &at));
        errors.extend(validate_amount(name, value, &at));
        errors.extend(validate_huge_page(name, &amount(value), terms.any_huge_page_amount, &at));
    }
    for (name, value) in requested {
        let at = requests.key(name);
        errors.extend(name_rule(name, &at));
        errors.extend(validate_amount(name, value, &at));
        errors.extend(validate_request(name, value, limited.get(name), &requests, &limits));
        errors.extend(validate_huge_page(name, &amount(value), terms.any_huge_page_amount, &at));
    }
    let any = |rule: fn(&str) -> bool| limited.keys().chain(requested.keys()).any(|n| rule(n));
    if any(is_huge_page) && !any(|n| matches!(n, "cpu" | "memory")) {
        errors.push(Error::forbidden(path, "HugePages require cpu or memory"));
    }
    errors.extend(validate_claims(items(&resources.claims), terms.claims, &path.child("claims")));
    errors
}

/// A request is at most the limit; where nothing can be promised twice, it is the limit.
fn validate_request(
    name: &str,
    value: &Text,
    limit: Option<&Text>,
    requests: &Path,
    limits: &Path,
) -> Option<Error> {
    let Some(limit) = limit else {
        let detail = "Limit must be set for non overcommitable resources";
        return (!overcommits(name)).then(|| Error::required(limits, detail));
    };
    let (value, limit) = (amount(value), amount(limit));
    let order = compare(&value, &limit);
    let detail = if order != 0 && !overcommits(name) {
        format!("must be equal to {name} limit of {}", limit.canonical())
    } else if order > 0 {
        format!("must be less than or equal to {name} limit of {}", limit.canonical())
    } else {
        return None;
    };
    Some(Error::invalid(requests, value.canonical(), detail))
}

fn validate_claims(claims: &[ResourceClaim], known: &[&str], path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let mut seen: Vec<String> = Vec::new();
    for (i, claim) in claims.iter().enumerate() {
        let (at, name) = (path.index(i), claim.name.as_str());
        if name.is_empty() {
            errors.push(Error::required(&at, ""));
            continue;
        }
        if seen.iter().any(|s| s == name) {
            errors.push(Error::duplicate(&at, name));
        } else {
            let request = claim.request.as_deref().unwrap_or_default();
            let mut key = name.to_owned();
            if !request.is_empty() {
                errors.extend(dns_label(request, &at.child("request")));
                key = format!("{name}/{request}");
            }
            if seen.contains(&key) {
                errors.push(Error::duplicate(&at, &key));
            } else if request.is_empty() {
                let parts = seen.iter().filter(|s| s.split_once('/').is_some_and(|(n, _)| n == name));
                errors.extend(parts.map(|_| Error::duplicate(&at, name)));
            }
            seen.push(key);
        }
        if !known.contains(&name) {
            let mut error = Error::not_found(&at, name);
            let mut names = known.to_vec();
            names.sort_unstable();
            error.detail = "must be one of the names in pod.spec.resourceClaims".to_owned();
            error.detail += &if names.is_empty() {
                " which is empty".to_owned()
            } else {
                format!(": {}", names.join(", "))
            };
            errors.push(error);
        }
    }
    errors
}

/// Which resources may change in a running container, and how.
pub(super) fn validate_resize_policy(
    policies: &[ContainerResizePolicy],
    pod_policy: &str,
    path: &Path,
) -> Vec<Error> {
    let mut errors = Vec::new();
    for (i, policy) in policies.iter().enumerate() {
        let (name, restart) = (policy.resource_name.as_str(), policy.restart_policy.as_str());
        if policies[..i].iter().any(|p| p.resource_name == name) {
            errors.push(Error::duplicate(&path.index(i), name));
        }
        match name {
            "" => errors.push(Error::required(path, "")),
            _ => errors.extend(supported(name, &["cpu", "memory"], path)),
        }
        match restart {
            "" => errors.push(Error::required(path, "")),
            _ => errors.extend(supported(restart, &["NotRequired", "RestartContainer"], path)),
        }
        if pod_policy == "Never" && restart != "NotRequired" {
            let detail = "must be 'NotRequired' when pod `restartPolicy` is 'Never'";
            errors.push(Error::invalid(path, restart, detail));
        }
    }
    errors
}

/// Resources of the pod as a whole. Upstream: `validatePodResources`.
pub(super) fn validate_pod(spec: &PodSpec, terms: &Terms<'_>, path: &Path) -> Vec<Error> {
    let Some(resources) = &spec.resources else { return Vec::new() };
    let at = path.child("resources");
    if spec.os.as_ref().is_some_and(|os| os.name == "windows") {
        return vec![Error::forbidden(&at, "may not be set for a windows pod")];
    }
    let mut errors = Vec::new();
    if resources.claims.is_some() {
        let detail = "claims may not be set for Resources at pod-level";
        errors.push(Error::forbidden(&at.child("claims"), detail));
    }
    errors.extend(validate(resources, validate_pod_name, terms, &at));
    errors.extend(validate_consistency(spec, resources, &at));
    errors
}

/// A pod's own amounts cover those of its containers.
fn validate_consistency(spec: &PodSpec, own: &ResourceRequirements, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let none = Amounts::new();
    let (limits, requests) = (own.limits.as_ref().unwrap_or(&none), own.requests.as_ref().unwrap_or(&none));
    let at = path.child("requests");
    for (name, total) in aggregate(spec, |r| r.requests.as_ref()) {
        let Some(request) = requests.get(&name).map(amount) else { continue };
        if compare(&total, &request) > 0 {
            let detail = format!(
                "must be greater than or equal to aggregate container requests of {}",
                total.canonical()
            );
            errors.push(Error::invalid(&at.key(&name), request.canonical(), detail));
        }
    }
    let at = path.child("limits");
    for (name, total) in aggregate(spec, |r| r.limits.as_ref()) {
        let Some(limit) = limits.get(&name).filter(|_| is_huge_page(&name)).map(amount) else { continue };
        if compare(&total, &limit) > 0 {
            let detail = format!(
                "must be greater than or equal to aggregate container limits of {}",
                total.canonical()
            );
            errors.push(Error::invalid(&at.key(&name), limit.canonical(), detail));
        }
    }
    let list = path.child("containers");
    for (i, container) in spec.containers.iter().enumerate() {
        for (name, value) in container.resources.iter().flat_map(|r| &r.limits).flatten() {
            let Some(limit) = limits.get(name).map(amount) else { continue };
            let value = amount(value);
            if compare(&value, &limit) > 0 {
                let (item, detail) = (
                    list.index(i),
                    format!("must be less than or equal to pod limits of {}", limit.canonical()),
                );
                errors.push(Error::invalid(&item.key(name).child("limits"), value.canonical(), detail));
            }
        }
    }
    errors
}

/// What the containers need together: all of them and the sidecars, or the most that one init container needs beside
/// the sidecars before it. Upstream: `AggregateContainerRequests` of component-helpers/resource.
fn aggregate<F>(spec: &PodSpec, of: F) -> BTreeMap<String, Quantity>
where
    F: Fn(&ResourceRequirements) -> Option<&Amounts>,
{
    let add = |sum: &mut BTreeMap<String, Quantity>, r: Option<&ResourceRequirements>| {
        for (name, value) in r.and_then(&of).into_iter().flatten() {
            sum.entry(name.clone()).or_insert_with(Quantity::zero).add(&amount(value));
        }
    };
    let most = |sum: &mut BTreeMap<String, Quantity>, other: &BTreeMap<String, Quantity>| {
        for (name, value) in other {
            match sum.get_mut(name) {
                Some(have) if compare(value, have) <= 0 => {}
                Some(have) => *have = value.clone(),
                None => {
                    sum.insert(name.clone(), value.clone());
                }
            }
        }
    };
    let mut total = BTreeMap::new();
    for container in &spec.containers {
        add(&mut total, container.resources.as_ref());
    }
    let (mut sidecars, mut peak) = (BTreeMap::new(), BTreeMap::new());
    for container in items(&spec.init_containers) {
        let mut now = sidecars.clone();
        add(&mut now, container.resources.as_ref());
        if container.restart_policy.as_deref() == Some("Always") {
            add(&mut total, container.resources.as_ref());
            sidecars.clone_from(&now);
        }
        most(&mut peak, &now);
    }
    most(&mut total, &peak);
    total
}

/// Whether an old spec has huge pages in broken amounts, so that a new one may.
pub(super) fn has_odd_huge_pages(spec: &PodSpec) -> bool {
    let mut odd = false;
    visit(spec, &Path::ROOT, &mut |container, at| {
        let lists = container.resources.iter().flat_map(|r| [&r.limits, &r.requests]).flatten();
        odd |= lists.flatten().any(|(n, v)| validate_huge_page(n, &amount(v), false, at).is_some());
    });
    odd
}
