//! Updates of a pod's status: containers that ended stay so unless they may restart, addresses are real.

use k8s_openapi::api::core::v1::{
    Container, ContainerStatus, Pod, PodCondition, PodExtendedResourceClaimStatus, PodSpec, PodStatus,
    ResourceHealth,
};

use super::ip::validate_ip;
use super::pod::{Options, annotations_update};
use super::resources::amount;
use crate::validation::field::{Bad, Error, Path};
use crate::validation::{
    content, dns_label, dns_subdomain, immutable, items, refusals, supported, text, within,
};

/// A changed status.
pub fn validate_pod_status_update(new: &Pod, old: &Pod) -> Vec<Error> {
    let options = Options::after(old.spec.as_ref(), Some(&old.metadata), true);
    let mut errors = annotations_update(new, old, &options);
    let (none, no_spec) = (PodStatus::default(), PodSpec::default());
    let (status, before) = (new.status.as_ref().unwrap_or(&none), old.status.as_ref().unwrap_or(&none));
    let spec = new.spec.as_ref().unwrap_or(&no_spec);
    let path = Path::new("status");
    errors.extend(validate_conditions(items(&status.conditions), &path.child("conditions")));
    errors.extend(validate_nomination(status, before, spec, &path.child("nominatedNodeName")));
    if let Some(generation) = status.observed_generation.filter(|g| *g < 0) {
        let detail = "must be a non-negative integer";
        errors.push(Error::invalid(&path.child("observedGeneration"), generation, detail));
    }
    let (class, was) = (text(&status.qos_class).to_owned(), text(&before.qos_class).to_owned());
    errors.extend(immutable(&class, &was, &path.child("qosClass")));
    let lists = [
        ("containerStatuses", &status.container_statuses, &before.container_statuses),
        ("initContainerStatuses", &status.init_container_statuses, &before.init_container_statuses),
        (
            "ephemeralContainerStatuses",
            &status.ephemeral_container_statuses,
            &before.ephemeral_container_statuses,
        ),
    ];
    for (field, now, then) in lists {
        errors.extend(revived(field, items(now), items(then), old.spec.as_ref().unwrap_or(&no_spec), &path));
    }
    errors.extend(validate_claims(status, spec, &path));
    errors.extend(validate_volume_health(status, spec, &path.child("volumeHealth")));
    errors.extend(validate_pod_ips(status, before, &path.child("podIPs")));
    errors.extend(validate_host_ips(status, before, &path.child("hostIPs")));
    let os = spec.os.as_ref().map(|os| os.name.as_str());
    for (field, now, _) in lists {
        errors.extend(validate_users(items(now), os, &path.child(field)));
    }
    for (field, now, _) in lists {
        let containers = match field {
            "containerStatuses" => Some(spec.containers.as_slice()),
            "initContainerStatuses" => Some(items(&spec.init_containers)),
            _ => None,
        };
        errors.extend(validate_devices(items(now), containers, status, &path.child(field)));
    }
    errors
}

fn validate_conditions(conditions: &[PodCondition], path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    for (i, condition) in conditions.iter().enumerate() {
        let at = path.index(i);
        if let Some(generation) = condition.observed_generation.filter(|g| *g < 0) {
            let detail = "must be a non-negative integer";
            errors.push(Error::invalid(&at.child("observedGeneration"), generation, detail));
        }
        let kind = condition.type_.as_str();
        if !matches!(kind, "PodScheduled" | "Ready" | "Initialized") {
            errors.extend(refusals(&at.child("Type"), kind, content::qualified_name(kind)));
        }
    }
    errors
}

fn validate_nomination(status: &PodStatus, before: &PodStatus, spec: &PodSpec, path: &Path) -> Vec<Error> {
    let (name, was) = (text(&status.nominated_node_name), text(&before.nominated_node_name));
    if name.is_empty() || name == was {
        return Vec::new();
    }
    let mut errors = dns_subdomain(name, path);
    if !text(&spec.node_name).is_empty() {
        errors.push(Error::forbidden(path, "may not be set on pods that are already bound to a node"));
    }
    errors
}

/// Containers that ended and run again though nothing restarts them.
fn revived(
    field: &str,
    now: &[ContainerStatus],
    then: &[ContainerStatus],
    spec: &PodSpec,
    path: &Path,
) -> Vec<Error> {
    let containers = match field {
        "containerStatuses" => Some(spec.containers.as_slice()),
        "initContainerStatuses" => Some(items(&spec.init_containers)),
        _ => None,
    };
    if containers.is_some() && all_may_restart(spec) {
        return Vec::new();
    }
    let list = path.child(field);
    let mut errors = Vec::new();
    for (i, past) in then.iter().enumerate() {
        let Some(end) = past.state.as_ref().and_then(|s| s.terminated.as_ref()) else { continue };
        let runs = |s: &&ContainerStatus| {
            s.name == past.name && s.state.as_ref().is_none_or(|state| state.terminated.is_none())
        };
        let count = now.iter().filter(runs).count();
        let refused = match containers {
            // Restart rules decide; ephemeral containers have none, and every revival of one is named.
            Some(list) => {
                let own = list.iter().find(|c| c.name == past.name);
                usize::from(count > 0 && !own.is_some_and(|c| restarts(c, spec, end.exit_code)))
            }
            None => count,
        };
        let detail = "may not be transitioned to non-terminated state";
        let at = list.index(i);
        errors.extend((0..refused).map(|_| Error::forbidden(&at.child("state"), detail)));
    }
    errors
}

/// Whether a rule of any container restarts all. Upstream: `AllContainersCouldRestart`.
fn all_may_restart(spec: &PodSpec) -> bool {
    let all = spec.containers.iter().chain(items(&spec.init_containers));
    all.flat_map(|c| items(&c.restart_policy_rules)).any(|r| r.action == "RestartAllContainers")
}

/// Whether a container that ended so starts again. Upstream: `ContainerShouldRestart` of `pkg/api/v1/pod`.
fn restarts(container: &Container, spec: &PodSpec, code: i32) -> bool {
    if let Some(policy) = container.restart_policy.as_deref() {
        let matching = items(&container.restart_policy_rules).iter().find(|rule| {
            let Some(on) = &rule.exit_codes else { return false };
            let listed = items(&on.values).contains(&code);
            matches!((on.operator.as_str(), listed), ("In", true) | ("NotIn", false))
        });
        if matching.is_some_and(|r| matches!(r.action.as_str(), "Restart" | "RestartAllContainers")) {
            return true;
        }
        match policy {
            "Always" => return true,
            "OnFailure" => return code != 0,
            "Never" => return false,
            _ => {}
        }
    }
    match text(&spec.restart_policy) {
        "OnFailure" => code != 0,
        "Never" => false,
        _ => true,
    }
}

fn validate_claims(status: &PodStatus, spec: &PodSpec, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let list = path.child("resourceClaimStatuses");
    let statuses = items(&status.resource_claim_statuses);
    for (i, claim) in statuses.iter().enumerate() {
        let (at, name) = (list.index(i), claim.name.as_str());
        if !items(&spec.resource_claims).iter().any(|c| c.name == name) {
            let detail = "must match the name of an entry in `spec.resourceClaims`";
            errors.push(Error::invalid(&at.child("name"), name, detail));
        }
        if statuses[..i].iter().any(|c| c.name == name) {
            errors.push(Error::duplicate(&at.child("name"), name));
        }
        if let Some(claim) = claim.resource_claim_name.as_deref() {
            errors.extend(dns_subdomain(claim, &at.child("resourceClaimName")));
        }
    }
    if let Some(extended) = &status.extended_resource_claim_status {
        errors.extend(validate_extended(extended, spec, &path.child("extendedResourceClaimStatus")));
    }
    errors
}

fn validate_extended(status: &PodExtendedResourceClaimStatus, spec: &PodSpec, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let list = path.child("requestMappings");
    let mappings = &status.request_mappings;
    if mappings.is_empty() {
        errors.push(Error::required(&list, "at least one request mapping is required"));
    }
    for (i, mapping) in mappings.iter().enumerate() {
        let at = list.index(i);
        // A container of the main list hides an init container of its name.
        let mut all = spec.containers.iter().rev().chain(items(&spec.init_containers).iter().rev());
        match all.find(|c| c.name == mapping.container_name) {
            None => {
                let detail =
                    "must match the name of an entry in spec.initContainers.name or spec.containers.name";
                errors.push(Error::invalid(&at.child("containerName"), &mapping.container_name, detail));
            }
            Some(container) => {
                let requests = container.resources.as_ref().and_then(|r| r.requests.as_ref());
                if requests.is_none_or(|r| !r.contains_key(&mapping.resource_name)) {
                    let detail = "must match the extended resource name of an entry in spec.initContainers.resources.requests or spec.containers.resources.requests";
                    errors.push(Error::invalid(&at.child("resourceName"), &mapping.resource_name, detail));
                }
            }
        }
        errors.extend(dns_label(&mapping.request_name, &path.child("requestName")));
        if mappings[..i].contains(mapping) {
            errors.push(Error::duplicate(&at.child("containerName"), &mapping.container_name));
            errors.push(Error::duplicate(&at.child("resourceName"), &mapping.resource_name));
            errors.push(Error::duplicate(&at.child("requestName"), &mapping.request_name));
        }
    }
    let at = path.child("resourceClaimName");
    if status.resource_claim_name.is_empty() {
        errors.push(Error::required(&at, ""));
    } else {
        errors.extend(dns_subdomain(&status.resource_claim_name, &at));
    }
    errors
}

fn validate_volume_health(status: &PodStatus, spec: &PodSpec, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    for (i, health) in items(&status.volume_health).iter().enumerate() {
        let at = path.index(i);
        if !health.name.is_empty() && !items(&spec.volumes).iter().any(|v| v.name == health.name) {
            errors.push(Error::not_found(&at.child("name"), &health.name));
        }
        let conditions = items(&health.health_conditions);
        errors.extend(super::claim::validate_health(conditions, &at.child("healthConditions")));
    }
    errors
}

/// Two addresses at most, one of each family.
fn validate_families(ips: &[&str], bad: Bad, path: &Path) -> Vec<Error> {
    let parsed: Vec<_> = ips.iter().map(|ip| net::parse_ip(ip)).collect();
    let mut errors = Vec::new();
    if ips.len() < 2 {
        return errors;
    }
    if let Some(i) = parsed.iter().position(Option::is_none) {
        let detail = format!("failed to check for dual stack with error:invalid IP[{i}]: {}", ips[i]);
        errors.push(Error::internal(path, detail));
    }
    let any = |v4: bool| parsed.iter().flatten().any(|ip| ip.is_ipv4() == v4);
    let dual = parsed.iter().all(Option::is_some) && any(true) && any(false);
    if !dual || ips.len() > 2 {
        errors.push(Error::invalid(path, bad, "may specify no more than one IP for each IP family"));
    }
    errors
}

fn validate_pod_ips(status: &PodStatus, before: &PodStatus, path: &Path) -> Vec<Error> {
    let list = |s: &PodStatus| -> Vec<String> { items(&s.pod_ips).iter().map(|i| i.ip.clone()).collect() };
    let (now, then) = (list(status), list(before));
    let old: Vec<&str> = then.iter().map(String::as_str).collect();
    let ips: Vec<&str> = now.iter().map(String::as_str).collect();
    let mut errors = Vec::new();
    for (i, ip) in ips.iter().enumerate() {
        errors.extend(validate_ip(ip, &old, &path.index(i)));
    }
    let bad = || Bad::json(&status.pod_ips);
    errors.extend(validate_families(&ips, bad(), path));
    let own = text(&status.pod_ip);
    match ips.first() {
        first if own.is_empty() != first.is_none() => {
            let detail = "podIP and podIPs must either both be set or both be unset";
            errors.push(Error::invalid(path, bad(), detail));
        }
        Some(first) if *first != own => {
            errors.push(Error::invalid(&path.index(0).child("ip"), *first, "must be equal to `podIP`"));
        }
        _ => {}
    }
    errors
}

fn validate_host_ips(status: &PodStatus, before: &PodStatus, path: &Path) -> Vec<Error> {
    let list = |s: &PodStatus| -> Vec<String> { items(&s.host_ips).iter().map(|i| i.ip.clone()).collect() };
    let (now, then) = (list(status), list(before));
    let old: Vec<&str> = then.iter().map(String::as_str).collect();
    let ips: Vec<&str> = now.iter().map(String::as_str).collect();
    let Some(first) = ips.first() else { return Vec::new() };
    let mut errors = Vec::new();
    if *first != text(&status.host_ip) {
        errors.push(Error::invalid(&path.index(0).child("ip"), *first, "must be equal to `hostIP`"));
    }
    for (i, ip) in ips.iter().enumerate() {
        errors.extend(validate_ip(ip, &old, &path.index(i)));
    }
    errors.extend(validate_families(&ips, Bad::json(&status.host_ips), path));
    errors
}

/// Identities that containers run as. Upstream: `validateContainerStatusUsers`.
fn validate_users(statuses: &[ContainerStatus], os: Option<&str>, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    for (i, status) in statuses.iter().enumerate() {
        let Some(linux) = status.user.as_ref().and_then(|u| u.linux.as_ref()) else { continue };
        let item = path.index(i);
        let user = item.child("user");
        let at = user.child("linux");
        match os {
            None | Some("linux") => {}
            Some("windows") => {
                errors.push(Error::forbidden(&at, "cannot be set for a windows pod"));
                continue;
            }
            Some(_) => continue,
        }
        errors.extend(within(linux.uid, 0, i64::from(u32::MAX), &at.child("uid")));
        let group = |id: i64, at: &Path| -> Vec<Error> {
            content::id(id).into_iter().map(|m| Error::invalid(at, id, m)).collect()
        };
        errors.extend(group(linux.gid, &at.child("gid")));
        let groups = at.child("supplementalGroups");
        for (j, id) in items(&linux.supplemental_groups).iter().enumerate() {
            errors.extend(group(*id, &groups.index(j)));
        }
    }
    errors
}

/// Health of devices that containers hold. Upstream: `validateContainerStatusAllocatedResourcesStatus`.
fn validate_devices(
    statuses: &[ContainerStatus],
    containers: Option<&[Container]>,
    pod: &PodStatus,
    path: &Path,
) -> Vec<Error> {
    let mut errors = Vec::new();
    for (i, status) in statuses.iter().enumerate() {
        let at = path.index(i);
        let list = at.child("allocatedResourcesStatus");
        let all = items(&status.allocated_resources_status);
        let Some(containers) = containers else {
            if !all.is_empty() {
                errors.push(Error::forbidden(&list, "must not be specified in container status"));
            }
            continue;
        };
        let container = containers.iter().find(|c| c.name == status.name);
        for (j, resource) in all.iter().enumerate() {
            let at = list.index(j);
            let unknown = container.and_then(|c| unknown_resource(&resource.name, c, pod));
            errors.extend(unknown.map(|d| Error::invalid(&at.child("name"), &resource.name, d)));
            errors.extend(validate_health(items(&resource.resources), &at.child("resources")));
        }
    }
    errors
}

fn validate_health(all: &[ResourceHealth], path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    for (i, health) in all.iter().enumerate() {
        let at = path.index(i);
        let states = ["Healthy", "Unhealthy", "Unknown"];
        errors.extend(supported(text(&health.health), &states, &at.child("health")));
        if all[..i].iter().any(|h| h.resource_id == health.resource_id) {
            errors.push(Error::duplicate(&at.child("resourceID"), &health.resource_id));
        }
    }
    errors
}

/// Why the container cannot hold the resource.
fn unknown_resource(name: &str, container: &Container, pod: &PodStatus) -> Option<&'static str> {
    let resources = container.resources.as_ref();
    let requests = resources.and_then(|r| r.requests.as_ref());
    if !name.starts_with("claim:") {
        let known = requests.is_some_and(|r| r.contains_key(name));
        return (!known).then_some("must match one of the container's resource requests");
    }
    let claims = resources.map(|r| items(&r.claims)).unwrap_or_default();
    let own = claims.iter().any(|c| match text(&c.request) {
        "" => format!("claim:{}", c.name) == name,
        request => format!("claim:{}/{request}", c.name) == name,
    });
    let extended = pod.extended_resource_claim_status.as_ref().is_some_and(|extended| {
        extended.request_mappings.iter().any(|m| {
            let asks = requests.and_then(|r| r.get(&m.resource_name)).is_some_and(|q| !amount(q).is_zero());
            let named = format!("claim:{}/{}", extended.resource_claim_name, m.request_name) == name;
            named && m.container_name == container.name && asks
        })
    });
    (!own && !extended).then_some(
        "must match one of the container's resource claims as 'claim:<claimName>/<requestName>' when container.resources.claims[*].request is set or 'claim:<claimName>' when it is empty",
    )
}
