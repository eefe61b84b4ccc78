//! Devices that stand for resources of their node, or need some beside: what claims take of a node in CPU, memory and the
//! like (gate DRANodeAllocatableResources). It counts as if containers asked for it, and is written to the pod.
//! Upstream: plugins/dynamicresources/nodeallocatabledynamicresources.go, component-helpers/resource/helpers.go.

use std::collections::BTreeMap;
use std::sync::Arc;

use client::Meta;
use k8s_openapi::api::core::v1::{
    NodeAllocatableMappedResources, NodeAllocatableOverheadResources,
    NodeAllocatableResourceClaimStatus as Status,
};
use k8s_openapi::api::resource::v1::{
    AllocationResult, DeviceRequestAllocationResult, NodeAllocatableMapping, NodeAllocatableOverhead,
    ResourceClaim,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use machinery::quantity::Quantity;
use smallvec::SmallVec;

use super::dynamic_resources::{self, Allotment, NAME};
use crate::devices::{Device, Inventory, PoolRef, ResourceSlice, Site, device_meant, meant, quantity};
use crate::framework::{Code, Reject, Verdict};
use crate::model::{NodeRow, PodInfo, Resources};

/// A claim with what it has or would have.
pub type Claimed<'a> = (&'a ResourceClaim, &'a AllocationResult);

/// Upstream: filterSlicesForNode.
fn is_of(slice: &ResourceSlice, site: Site<'_>) -> bool {
    let spec = &slice.spec;
    spec.node_name.as_deref() == Some(site.name)
        || spec.all_nodes == Some(true)
        || match &spec.node_selector {
            Some(selector) => meant(site, None, None, Some(selector)),
            None => spec.per_device_node_selection == Some(true),
        }
}

/// The device of an allocation; without a node, wherever it is. Upstream: getDeviceFromSlices.
fn device<'a>(
    inventory: &'a Inventory,
    site: Option<Site<'_>>,
    result: &DeviceRequestAllocationResult,
) -> Result<&'a Device, String> {
    let DeviceRequestAllocationResult { driver, pool, device: name, .. } = result;
    for slice in
        inventory.slices_of(PoolRef { driver, pool }).filter(|s| site.is_none_or(|site| is_of(s, site)))
    {
        let mut devices = slice.spec.devices.iter().flatten();
        let Some(device) = devices.find(|d| *d.name == **name) else { continue };
        let by_device = slice.spec.per_device_node_selection == Some(true);
        if by_device && site.is_some_and(|site| !device_meant(site, device)) {
            return Err(format!("device {name} does not match node"));
        }
        return Ok(device);
    }
    Err(format!("device {name} not found in pool {pool} for driver {driver}"))
}

fn results(allocation: &AllocationResult) -> impl Iterator<Item = &DeviceRequestAllocationResult> {
    allocation.devices.iter().flat_map(|d| d.results.iter().flatten())
}

/// Whether a device of an allocation stands for a resource of its node: then only one pod can use it.
pub fn stands_for_resources(inventory: &Inventory, allocation: &AllocationResult) -> bool {
    let mapped = |d: &Device| d.node_allocatable_resources.iter().flatten().any(|(_, r)| r.mapping.is_some());
    results(allocation).any(|r| device(inventory, None, r).is_ok_and(mapped))
}

/// What the claims of a pod take of a node, for each claim that takes something. Upstream: buildNodeAllocatableDRAInfo.
pub fn statuses(
    inventory: &Inventory,
    site: Site<'_>,
    pod: &PodInfo,
    claims: &[Claimed<'_>],
) -> Result<Vec<Status>, String> {
    let takes = |r: &DeviceRequestAllocationResult| {
        let found = device(inventory, Some(site), r);
        found.is_ok_and(|d| d.node_allocatable_resources.as_ref().is_some_and(|r| !r.is_empty()))
    };
    let mut all = Vec::new();
    for (claim, allocation) in claims.iter().filter(|(_, a)| results(a).any(takes)) {
        let mut sums = Sums::default();
        for result in results(allocation) {
            sums.add(inventory, site, claim, result)?;
        }
        all.extend(sums.status(claim, pod));
    }
    all.sort_by(|a, b| a.resource_claim_name.cmp(&b.resource_claim_name));
    Ok(all)
}

#[derive(Default)]
struct Sums {
    mapped: BTreeMap<String, Quantity>,
    /// (for the pod, for each container).
    beside: BTreeMap<String, (Option<Quantity>, Option<Quantity>)>,
}

impl Sums {
    fn add(
        &mut self,
        inventory: &Inventory,
        site: Site<'_>,
        claim: &ResourceClaim,
        result: &DeviceRequestAllocationResult,
    ) -> Result<(), String> {
        let (key, name) = (claim.key(), &result.device);
        let found = device(inventory, Some(site), result);
        let found =
            found.map_err(|e| format!("claim {key}, device {name}, driver {}: {e}", result.driver))?;
        for (resource, way) in found.node_allocatable_resources.iter().flatten() {
            if let Some(mapping) = &way.mapping {
                let amount = mapped(mapping, result).map_err(|capacity| {
                    format!("claim {key}, device {name}: ConsumedCapacity is nil, but Capacity key '{capacity}' is set in NodeAllocatableResources for resource {resource}")
                })?;
                if let Some(amount) = amount {
                    self.mapped.entry(resource.clone()).or_default().add(&amount);
                }
            }
            if let Some(overhead) = &way.overhead {
                self.overhead(resource, overhead);
            }
        }
        Ok(())
    }

    fn overhead(&mut self, resource: &str, overhead: &NodeAllocatableOverhead) {
        if overhead.per_pod.is_none() && overhead.per_container.is_none() {
            return;
        }
        let (pod, container) = self.beside.entry(resource.to_string()).or_default();
        for (sum, more) in [(pod, &overhead.per_pod), (container, &overhead.per_container)] {
            if let Some(more) = more {
                sum.get_or_insert_default().add(&quantity(more));
            }
        }
    }

    fn status(self, claim: &ResourceClaim, pod: &PodInfo) -> Option<Status> {
        if self.mapped.is_empty() && self.beside.is_empty() {
            return None;
        }
        let mapping = self
            .mapped
            .iter()
            .map(|(name, q)| NodeAllocatableMappedResources { name: name.clone(), quantity: written(q) });
        let overhead = self.beside.iter().map(|(name, (pod, container))| NodeAllocatableOverheadResources {
            name: name.clone(),
            per_pod: pod.as_ref().map(written),
            per_container: container.as_ref().map(written),
        });
        let list = |l: Vec<_>| Some(l).filter(|l| !l.is_empty());
        let overhead: Vec<_> = overhead.collect();
        Some(Status {
            resource_claim_name: claim.name().to_string(),
            containers: Some(containers(claim, pod)).filter(|c| !c.is_empty()),
            mapping: list(mapping.collect()),
            overhead: Some(overhead).filter(|o| !o.is_empty()),
        })
    }
}

fn written(q: &Quantity) -> Text {
    Text(q.to_string())
}

/// Containers that use a claim of their pod.
fn containers(claim: &ResourceClaim, pod: &PodInfo) -> Vec<String> {
    let name = |own: &str| dynamic_resources::claim_name(pod, own) == Some(claim.name());
    let using = pod.claim_users.iter().filter(|(own, _)| name(own));
    using.map(|(_, container)| container.clone()).collect()
}

/// What a device stands for of one resource; nothing if that is not about this allocation. The error is the capacity
/// that it would be computed from, where none is told. Upstream: addDeviceMapping.
fn mapped<'a>(
    mapping: &'a NodeAllocatableMapping,
    result: &DeviceRequestAllocationResult,
) -> Result<Option<Quantity>, &'a str> {
    let Some(key) = mapping.capacity_key.as_deref().filter(|k| !k.is_empty()) else {
        return Ok(mapping.device_multiplier.as_ref().map(quantity));
    };
    let Some(consumed) = &result.consumed_capacity else { return Err(key) };
    let one = Quantity::new(1, machinery::quantity::Format::DecimalSI);
    let by = mapping.capacity_multiplier.as_ref().map_or(one, quantity);
    Ok(consumed.get(key).map(|c| times(&quantity(c), &by)))
}

/// A product, as exact as 64 bits let it be.
fn times(a: &Quantity, b: &Quantity) -> Quantity {
    let (x, low) = parts(a);
    let (y, high) = parts(b);
    let (mut product, mut scale) = (i128::from(x) * i128::from(y), low + high);
    while i64::try_from(product).is_err() {
        product = (product + product.signum() * 9) / 10;
        scale += 1;
    }
    Quantity::scaled(i64::try_from(product).unwrap_or(i64::MAX), scale, a.format())
}

/// Units of a power of ten that a quantity consists of.
fn parts(q: &Quantity) -> (i64, i32) {
    let exact = |scale: &i32| Quantity::scaled(q.scaled_value(*scale), *scale, q.format()) == *q;
    let scale = [0, -3, -6, -9, 3, 6, 9].into_iter().find(exact).unwrap_or(0);
    (q.scaled_value(scale), scale)
}

/// What all of it comes to. Upstream: addDRANodeAllocatableClaimResources.
pub fn sum<'a>(statuses: impl IntoIterator<Item = &'a Status>) -> Resources {
    let mut sums: BTreeMap<&str, Quantity> = BTreeMap::new();
    for status in statuses {
        for mapping in status.mapping.iter().flatten() {
            sums.entry(&mapping.name).or_default().add(&quantity(&mapping.quantity));
        }
        let users = i64::try_from(status.containers.as_ref().map_or(0, Vec::len)).unwrap_or(0);
        for beside in status.overhead.iter().flatten() {
            let sum = sums.entry(&beside.name).or_default();
            sum.add(&beside.per_pod.as_ref().map(quantity).unwrap_or_default());
            let mut each = beside.per_container.as_ref().map(quantity).unwrap_or_default();
            each.mul(users);
            sum.add(&each);
        }
    }
    Resources::from_quantities(sums)
}

/// Whether a node has room for what a pod asks for, in containers and in devices.
/// Upstream: calculateAndCheckNodeAllocatableResources, nodeFitsResources.
pub fn check(pod: &PodInfo, row: &NodeRow, statuses: &[Status]) -> Verdict {
    let more = sum(statuses);
    covers(pod, &more, statuses)?;
    let want = pod.wants.with_devices(&more).requests;
    let mut reject = Reject { code: Code::Unschedulable, plugin: NAME, reasons: SmallVec::new() };
    let checked =
        |name: &str| matches!(name, "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-");
    for name in want.names().filter(|n| checked(n)) {
        let (want, has, taken) = (want.get(name), row.allocatable.get(name), row.requested.get(name));
        if want > has - taken && (want > 0 || name.starts_with("hugepages-")) {
            reject.reasons.push(format!("Insufficient {name}").into());
            if want > has {
                reject.code = Code::Unresolvable;
            }
        }
    }
    if reject.reasons.is_empty() { Ok(()) } else { Err(reject) }
}

/// A pod that goes to a node, with what its devices take there.
pub fn counted(pod: &Arc<PodInfo>, allotments: &[Allotment]) -> Arc<PodInfo> {
    let mut takes = allotments.iter().filter_map(|a| a.takes.as_ref()).peekable();
    if takes.peek().is_none() {
        return pod.clone();
    }
    let wants = Arc::new(pod.wants.with_devices(&sum(takes)));
    Arc::new(PodInfo { wants, ..PodInfo::clone(pod) })
}

/// Whether what is asked for the pod as a whole covers its containers and their devices.
/// Upstream: validatePodLevelResourcesCoverDRA.
fn covers(pod: &PodInfo, more: &Resources, statuses: &[Status]) -> Verdict {
    let Some(level) = pod.level.as_deref().filter(|_| !statuses.is_empty()) else { return Ok(()) };
    let refuse = |text: String| Err(Reject::unresolvable(NAME, text));
    let mut all = level.containers.clone();
    all.add(more);
    if let Some((name, _)) = level.requests.iter().find(|(name, own)| all.get(name) > **own) {
        return refuse(format!(
            "pod level request for {name} is insufficient to cover the aggregated container and node-allocatable DRA requests"
        ));
    }
    let mut limits = level.container_limits.clone();
    limits.add(more);
    let short = |(name, own): &(&String, &i64)| name.starts_with("hugepages-") && limits.get(name) > **own;
    if let Some((name, _)) = level.limits.iter().find(short) {
        return refuse(format!(
            "pod level limit for {name} is insufficient to cover the aggregated container and node-allocatable DRA limits"
        ));
    }
    for (container, own) in &level.limits_by_container {
        let used = sum(&once(statuses, container));
        let plain = own.iter().filter(|(name, _)| !name.starts_with("hugepages-"));
        for (name, limit) in plain {
            if level.limits.get(name).is_some_and(|most| limit + used.get(name) > *most) {
                return refuse(format!(
                    "pod level limit for {name} is insufficient to cover the limit and DRA overhead for container {container}"
                ));
            }
        }
    }
    Ok(())
}

/// What one container uses alone. Upstream: GetContainerDRAAllocations.
fn once(statuses: &[Status], container: &str) -> Vec<Status> {
    let uses = |s: &&Status| s.containers.iter().flatten().any(|c| c == container);
    let alone = |s: &Status| Status { containers: Some(vec![container.to_string()]), ..s.clone() };
    statuses.iter().filter(uses).map(alone).collect()
}
