//! From a pod to its claims: their names, whether the pod may use them, and who has their devices.
//!
//! Upstream: k8s.io/dynamic-resource-allocation/resourceclaim and newClaimInfoFromClaim in claiminfo.go.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Container, Pod, PodResourceClaim};
use k8s_openapi::api::resource::v1::{DeviceRequestAllocationResult, ResourceClaim};
use machinery::golang::quote;

use super::claims::{ClaimInfo, DriverState};
use crate::node::resources::is_extended;
use crate::pod::resources::container_requests;
use crate::pod::view::PodView;

/// Prefix of resources that stand for a class of devices.
const CLASS_PREFIX: &str = "deviceclass.resource.kubernetes.io/";
const SCHEDULING: &str = "scheduling.k8s.io";
/// All operations that a device may not need.
const EVERY: &str = "*";

/// What is open behind feature gates.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gates {
    /// DRAWorkloadResourceClaims: claims may belong to groups of pods.
    pub groups: bool,
    /// DRAOptionalNodeOperations: devices may need no preparation.
    pub optional: bool,
    /// ResourceHealthStatus: drivers are heard of how their devices are.
    pub health: bool,
    /// ResourceHealthStatusMessage: what they say about it is shown.
    pub messages: bool,
}

/// A claim of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// Its name in the pod's namespace.
    pub name: String,
    /// True if it must have been made for the pod.
    pub made: bool,
}

/// The name of what an entry of a pod refers to; none if there is nothing to be had.
///
/// # Errors
/// If it is not there yet.
pub fn name(pod: &Pod, claim: &PodResourceClaim) -> Result<Option<Name>, String> {
    if let Some(name) = &claim.resource_claim_name {
        return Ok(Some(Name { name: name.clone(), made: false }));
    }
    let (at, pod_name) = (pod.namespace(), pod.name());
    if claim.resource_claim_template_name.is_none() {
        let name = quote(&claim.name);
        return Err(format!(
            "pod \"{at}/{pod_name}\", spec.resourceClaim {name}: none of the supported fields are set"
        ));
    }
    let mut known = pod.api_status().resource_claim_statuses.iter().flatten();
    let status = known
        .find(|status| status.name == claim.name)
        .ok_or_else(|| format!("pod \"{at}/{pod_name}\": ResourceClaim not created yet"))?;
    Ok(status.resource_claim_name.as_ref().map(|name| Name { name: name.clone(), made: true }))
}

/// The claim that the scheduler made for resources that devices stand in for.
fn extended_claim(pod: &Pod) -> Option<&str> {
    pod.api_status().extended_resource_claim_status.as_ref().map(|s| s.resource_claim_name.as_str())
}

/// Names of all claims of a pod, one after the other: an error is about one that is not there yet.
pub fn names(pod: &Pod) -> impl Iterator<Item = Result<Name, String>> {
    let listed = pod.spec().resource_claims.iter().flatten().filter_map(|claim| name(pod, claim).transpose());
    listed.chain(extended_claim(pod).map(|name| Ok(Name { name: name.to_owned(), made: false })))
}

fn group(pod: &Pod) -> Option<&str> {
    pod.spec().scheduling_group.as_ref()?.pod_group_name.as_deref()
}

/// Whether the claim was made for the pod.
///
/// # Errors
/// If not.
pub fn is_for(pod: &Pod, claim: &ResourceClaim, gates: Gates) -> Result<(), String> {
    let (at, name) =
        (claim.metadata.namespace.as_deref().unwrap_or_default(), claim.metadata.name.as_deref());
    let (name, pod_at, pod_name) = (name.unwrap_or_default(), pod.namespace(), pod.name());
    if at != pod_at {
        return Err(format!(
            "ResourceClaim {at}/{name} is not in the same namespace as Pod {pod_at}/{pod_name}"
        ));
    }
    let owner = claim.metadata.owner_references.iter().flatten().find(|o| o.controller == Some(true));
    if owner.is_some_and(|o| o.uid == pod.uid()) {
        return Ok(());
    }
    let refused = |why: &str| {
        Err(format!("ResourceClaim {at}/{name} was not created for Pod {pod_at}/{pod_name} ({why})"))
    };
    let Some(group) = group(pod).filter(|_| gates.groups) else { return refused("Pod is not owner") };
    // A pod knows its group by name only; the version of the interface may change.
    let of_group = owner.is_some_and(|o| {
        o.name == group
            && o.kind == "PodGroup"
            && o.api_version.strip_prefix(SCHEDULING).is_some_and(|rest| rest.starts_with('/'))
    });
    if of_group { Ok(()) } else { refused(&format!("neither Pod nor PodGroup {group} is the owner")) }
}

/// True if the claim is reserved for the pod, or for its group.
pub fn is_reserved_for(pod: &Pod, claim: &ResourceClaim, gates: Gates) -> bool {
    let reserved = claim.status.iter().flat_map(|status| status.reserved_for.iter().flatten());
    let of_group = |api_group: Option<&str>, resource: &str, name: &str| {
        let known = group(pod).filter(|_| gates.groups);
        api_group == Some(SCHEDULING) && resource == "podgroups" && known == Some(name)
    };
    reserved.into_iter().any(|r| r.uid == pod.uid() || of_group(r.api_group.as_deref(), &r.resource, &r.name))
}

/// What there is to know of an allocated claim.
///
/// # Errors
/// If it is not allocated, or needs what this kubelet has not.
pub fn info(claim: &ResourceClaim, gates: Gates) -> Result<ClaimInfo, String> {
    let allocation = claim.status.as_ref().and_then(|status| status.allocation.as_ref());
    let results = allocation.ok_or("not allocated")?.devices.as_ref().and_then(|d| d.results.as_deref());
    let mut by_driver: BTreeMap<&str, Vec<&DeviceRequestAllocationResult>> = BTreeMap::new();
    for result in results.unwrap_or_default() {
        by_driver.entry(&result.driver).or_default().push(result);
    }
    let mut drivers = BTreeMap::new();
    for (driver, results) in by_driver {
        let skips = skips(&results);
        if !skips.is_empty() && !gates.optional {
            return Err("DRAOptionalNodeOperations feature gate is disabled on kubelet".to_owned());
        }
        drivers.insert(driver.to_owned(), DriverState { skips, ..DriverState::default() });
    }
    Ok(ClaimInfo {
        uid: claim.metadata.uid.clone().unwrap_or_default(),
        name: claim.metadata.name.clone().unwrap_or_default(),
        namespace: claim.metadata.namespace.clone().unwrap_or_default(),
        drivers,
        ..ClaimInfo::default()
    })
}

/// Operations that none of a driver's devices needs.
fn skips(results: &[&DeviceRequestAllocationResult]) -> Vec<String> {
    let of = |result: &DeviceRequestAllocationResult| -> BTreeSet<String> {
        result.skip_node_operations.iter().flatten().cloned().collect()
    };
    let all: Vec<BTreeSet<String>> = results.iter().map(|result| of(result)).collect();
    if all.iter().all(|one| one.contains(EVERY)) {
        return vec![EVERY.to_owned()];
    }
    let named: BTreeSet<&String> = all.iter().flatten().filter(|operation| *operation != EVERY).collect();
    let skipped =
        |operation: &&&String| all.iter().all(|one| one.contains(EVERY) || one.contains(operation.as_str()));
    named.iter().filter(skipped).map(|operation| (*operation).clone()).collect()
}

/// Claims that a container uses, with the names of the requests; an empty one stands for all.
///
/// # Errors
/// If one is not there yet.
pub fn uses(pod: &Pod, container: &Container) -> Result<Vec<(String, Vec<String>)>, String> {
    let mut out: Vec<(String, Vec<String>)> = Vec::new();
    let mut add = |claim: &str, requests: Vec<String>| match out.iter_mut().find(|(name, _)| name == claim) {
        Some((_, known)) => known.extend(requests),
        None => out.push((claim.to_owned(), requests)),
    };
    for claim in pod.spec().resource_claims.iter().flatten() {
        let requests: Vec<String> = references(container)
            .filter(|reference| reference.0 == claim.name)
            .map(|(_, request)| request.to_owned())
            .collect();
        if requests.is_empty() {
            continue;
        }
        if let Some(found) = name(pod, claim)? {
            add(&found.name, requests);
        }
    }
    let requests = container_requests(container);
    let asked = |resource: &str| may_be_claimed(resource) && requests.milli(resource) != 0;
    for status in pod.api_status().extended_resource_claim_status.iter() {
        let mapped = status.request_mappings.iter();
        let mapped = mapped.filter(|m| m.container_name == container.name && asked(&m.resource_name));
        let requests: Vec<String> = mapped.map(|m| m.request_name.clone()).collect();
        if !requests.is_empty() {
            add(&status.resource_claim_name, requests);
        }
    }
    Ok(out)
}

/// True if devices may stand in for a resource.
fn may_be_claimed(resource: &str) -> bool {
    is_extended(resource) || resource.starts_with(CLASS_PREFIX)
}

/// True if devices stand in for a resource of a container.
pub fn is_claimed(pod: &Pod, container: &str, resource: &str) -> bool {
    let status = pod.api_status().extended_resource_claim_status.as_ref();
    let mut mappings = status.into_iter().flat_map(|s| &s.request_mappings);
    may_be_claimed(resource) && mappings.any(|m| m.container_name == container && m.resource_name == resource)
}

/// A container's references to claims of its pod: name and request.
pub fn references(container: &Container) -> impl Iterator<Item = (&str, &str)> {
    let claims = container.resources.iter().flat_map(|r| r.claims.iter().flatten());
    claims.map(|claim| (claim.name.as_str(), claim.request.as_deref().unwrap_or_default()))
}

/// True if resources of a container are served by the claim that the scheduler made.
pub fn is_extended_user(pod: &Pod, container: &str) -> bool {
    let status = pod.api_status().extended_resource_claim_status.as_ref();
    status.is_some_and(|s| s.request_mappings.iter().any(|m| m.container_name == container))
}
