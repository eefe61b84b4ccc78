//! Pods with resource claims: every claim must have devices that can be used from the node, or there must be free
//! ones. What is chosen is written by `prebind_claims.rs`. Upstream: plugins/dynamicresources/dynamicresources.go.
//!
//! Claims that stand for extended resources of containers are `extended_devices.rs`, those of groups of pods
//! `group_claims.rs`; what devices take of a node's own resources is `device_resources.rs`.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use client::Meta;
use component::features::{Gate, Gates};
use hashbrown::HashMap;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    NodeAllocatableResourceClaimStatus, PodResourceClaim, PodResourceClaimStatus,
};
use k8s_openapi::api::resource::v1::{
    AllocationResult, DeviceRequest, DeviceRequestAllocationResult, ResourceClaim,
    ResourceClaimConsumerReference,
};
use parking_lot::Mutex;

use super::device_outlook::Outlook;
use super::device_resources;
use super::extended_devices::{self, Made, Special};
use super::group_claims;
use crate::config::DynamicResourcesArgs;
use crate::devices::{self, Features, Inventory, Problem, Programs, Site, Supply};
use crate::framework::{
    Change, Code, CycleState, Plugin, PreFilter, Reject, Verdict, View, default_normalize,
};
use crate::listers::Listers;
use crate::model::{Groups, NodeRow, NodeSelector, PodInfo};

pub const NAME: &str = "DynamicResources";

/// Upstream: resourceapi.ResourceClaimReservedForMaxSize.
const MOST_USERS: usize = 256;
/// Upstream: resourceapi.FirstAvailableDeviceRequestMaxSize.
const MOST_ALTERNATIVES: i64 = 8;

/// A claim of the pod and what is to be written to it.
#[derive(Clone, Debug)]
pub struct Allotment {
    pub claim: Arc<ResourceClaim>,
    /// The devices it gets, if it has none yet.
    pub allocation: Option<AllocationResult>,
    /// It stands for extended resources and is still to be made.
    pub extended: Option<Extended>,
    /// For whom it is reserved, if not for the pod.
    pub holder: Option<ResourceClaimConsumerReference>,
    /// What it takes of the node's own resources.
    pub takes: Option<NodeAllocatableResourceClaimStatus>,
}

impl Allotment {
    /// Whether a claim has just the devices that it is to get.
    pub fn gives_what_is_in(&self, claim: &ResourceClaim) -> bool {
        self.allocation
            .as_ref()
            .is_some_and(|new| allocation(claim).is_some_and(|has| has.devices == new.devices))
    }
}

/// A claim that stands for extended resources.
#[derive(Clone, Debug)]
pub struct Extended {
    pub made: Arc<Made>,
    /// As it was created.
    pub created: OnceLock<Arc<ResourceClaim>>,
}

/// What is done for a pod that no node can take.
#[derive(Clone, Debug)]
pub enum Free {
    /// A claim whose devices are given back.
    Deallocate(Arc<ResourceClaim>),
    /// A claim for extended resources that an earlier attempt left behind.
    Delete(Arc<ResourceClaim>),
    /// A claim that is not to be reserved for somebody any more.
    Unreserve(Arc<ResourceClaim>, Box<str>),
}

/// What could be freed for a pod.
#[derive(Clone, Debug, Default)]
pub struct Freeable {
    pub first: Option<Free>,
    /// Claims that some node could not use.
    pub blocked: Box<[Arc<ResourceClaim>]>,
}

impl Free {
    /// In upstream's words.
    pub fn message(&self) -> &'static str {
        match self {
            Free::Deallocate(_) => "deallocation of ResourceClaim completed",
            Free::Delete(_) => "deletion of ResourceClaim completed",
            Free::Unreserve(..) => "ResourceClaim unreserved",
        }
    }
}

/// What a node would give.
struct Found {
    /// One for each claim without devices; the last is the special one's, if there is one.
    allocations: Vec<AllocationResult>,
    special: Option<Arc<Made>>,
    /// What all claims take of the node's own resources.
    takes: Vec<NodeAllocatableResourceClaimStatus>,
}

struct Use {
    claim: Arc<ResourceClaim>,
    /// Where what it has can be used.
    nodes: Option<NodeSelector>,
    /// Its devices could not be made ready.
    broken: bool,
    /// Only nodes that can do without some of what they usually do can use it.
    skips: bool,
    /// What it will have: another pod of the group is about to get it.
    pending: Option<AllocationResult>,
    holder: Option<ResourceClaimConsumerReference>,
    /// A device of it stands for a resource of its node.
    mapped: bool,
}

fn nodes(allocation: &AllocationResult) -> Option<NodeSelector> {
    allocation.node_selector.as_ref().map(|s| NodeSelector::new(&s.node_selector_terms))
}

impl Use {
    fn unallocated(claim: Arc<ResourceClaim>) -> Self {
        Self { claim, nodes: None, broken: false, skips: false, pending: None, holder: None, mapped: false }
    }

    fn pending(claim: Arc<ResourceClaim>, pending: &AllocationResult) -> Self {
        Self { nodes: nodes(pending), pending: Some(pending.clone()), ..Self::unallocated(claim) }
    }

    /// Whether a node can use what the claim will have.
    fn pending_works(&self, site: Site<'_>) -> Verdict {
        if self.pending.as_ref().is_none_or(|p| !skips(p)) || site.has_optional_operations() {
            return Ok(());
        }
        let claim = self.claim.key();
        let reason = format!(
            "resource claim {claim} allocation requires DRAOptionalNodeOperations feature on the node"
        );
        Err(Reject::unresolvable(NAME, reason))
    }

    /// Whether a node could use it if it is made ready.
    fn reaches(&self, site: Site<'_>) -> bool {
        self.nodes.as_ref().is_none_or(|n| n.matches(site.labels, site.name))
            && (!self.skips || site.has_optional_operations())
    }
}

/// A node as devices are chosen for it.
fn site(row: &NodeRow) -> Site<'_> {
    let declared = row.node.as_ref().map(|n| n.status.declared_features.as_slice()).unwrap_or_default();
    Site { name: &row.name, labels: row.labels(), declared }
}

/// Whether a node may have less to do than usual for a device. Upstream: allocationResultRequiresDRAOptionalNodeOperations.
fn skips(allocation: &AllocationResult) -> bool {
    results(allocation).any(|r| r.skip_node_operations.as_ref().is_some_and(|l| !l.is_empty()))
}

/// The claims of a pod within a cycle.
pub struct Devices {
    claims: Vec<Use>,
    special: Option<Special>,
    /// What devices are chosen from, if any claim needs some.
    supply: Option<Supply>,
    /// Under which number it is remembered whether nodes have such devices.
    kind: Option<u64>,
    /// What was chosen, by node; of a kind that is remembered nothing is.
    found: Mutex<HashMap<String, Found, foldhash::fast::RandomState>>,
    /// Claims that some node could not use.
    unavailable: Mutex<BTreeSet<usize>>,
}

/// Versions of everything an inventory was made from.
type Versions = [String; 3];

pub struct DynamicResources {
    args: DynamicResourcesArgs,
    features: Features,
    /// Claims may belong to groups of pods.
    of_groups: bool,
    /// Devices may take of a node's own resources.
    take: bool,
    /// How long devices of one node are looked for; zero: as long as it takes.
    filter_timeout: Duration,
    programs: Arc<Programs>,
    inventory: Mutex<Option<(Versions, Arc<Inventory>)>>,
    outlook: Outlook,
}

fn allocation(claim: &ResourceClaim) -> Option<&AllocationResult> {
    claim.status.as_ref()?.allocation.as_ref()
}

fn results(allocation: &AllocationResult) -> impl Iterator<Item = &DeviceRequestAllocationResult> {
    allocation.devices.iter().flat_map(|d| d.results.iter().flatten())
}

fn requests(claim: &ResourceClaim) -> impl Iterator<Item = &DeviceRequest> {
    let devices = claim.spec.as_ref().and_then(|s| s.devices.as_ref());
    devices.into_iter().flat_map(|d| d.requests.iter().flatten())
}

/// Whether a pod is among those that may use the claim; with `of_groups` because its group is.
pub fn is_reserved_for(claim: &ResourceClaim, pod: &PodInfo, of_groups: bool) -> bool {
    let mut by = claim.status.iter().flat_map(|s| s.reserved_for.iter().flatten());
    by.any(|r| r.uid == *pod.uid || of_groups && group_claims::is_reservation(r, pod))
}

/// Whether it was found that none needs to be made.
fn is_unneeded(pod: &PodInfo, claim: &PodResourceClaim) -> bool {
    let made = |m: &&PodResourceClaimStatus| m.name == claim.name;
    claim.resource_claim_name.is_none()
        && pod.rest.made_claims.iter().find(made).is_some_and(|m| m.resource_claim_name.is_none())
}

/// Names of a pod's claims, and whether they were made for it. Upstream: resourceclaim.Name.
fn names(pod: &PodInfo) -> impl Iterator<Item = Result<(&str, bool), String>> {
    pod.resource_claims.iter().filter_map(|c| {
        match (&c.resource_claim_name, &c.resource_claim_template_name) {
            (Some(name), _) => Some(Ok((name.as_str(), false))),
            (None, Some(_)) => match pod.rest.made_claims.iter().find(|m| m.name == c.name) {
                Some(made) => made.resource_claim_name.as_deref().map(|name| Ok((name, true))),
                None => Some(Err(format!("pod {:?}: ResourceClaim not created yet", pod.key()))),
            },
            (None, None) => Some(Err(format!(
                "pod {:?}, spec.resourceClaim {:?}: none of the supported fields are set",
                pod.key(),
                c.name
            ))),
        }
    })
}

/// Name of the claim that a pod has under a name of its own.
pub fn claim_name<'a>(pod: &'a PodInfo, own: &str) -> Option<&'a str> {
    let claim = pod.resource_claims.iter().find(|c| c.name == own)?;
    let made = || pod.rest.made_claims.iter().find(|m| m.name == own)?.resource_claim_name.as_deref();
    claim.resource_claim_name.as_deref().or_else(made)
}

/// A pod's claims, or why it cannot have them. Upstream: foreachPodResourceClaim.
fn claims(
    pod: &PodInfo,
    of_groups: bool,
    get: impl Fn(&str) -> Option<Arc<ResourceClaim>>,
) -> Result<Vec<Arc<ResourceClaim>>, String> {
    let one = |named: Result<(&str, bool), String>| {
        let (name, own) = named?;
        let key = format!("{}/{name}", pod.namespace);
        let claim = get(name).ok_or_else(|| format!("could not find ResourceClaim {key:?}"))?;
        if claim.metadata.deletion_timestamp.is_some() {
            return Err(format!("resourceclaim {name:?} is being deleted"));
        }
        let mut owners = claim.metadata.owner_references.iter().flatten();
        if own && !owners.any(|o| o.controller == Some(true) && o.uid == *pod.uid) {
            if of_groups {
                group_claims::is_for_group(&claim, pod)?;
                return Ok(claim);
            }
            let pod = pod.key();
            return Err(format!("ResourceClaim {key} was not created for Pod {pod} (Pod is not owner)"));
        }
        Ok(claim)
    };
    names(pod).map(one).collect()
}

/// Whether what devices wait for has come; an error if it cannot come any more. Upstream: isClaimReadyForBinding.
pub fn is_ready(claim: &ResourceClaim) -> Result<bool, String> {
    let Some(allocation) = allocation(claim) else { return Ok(false) };
    for result in results(allocation) {
        let wanted = result.binding_conditions.as_deref().unwrap_or_default();
        if wanted.is_empty() {
            continue;
        }
        let mut known = claim.status.iter().flat_map(|s| s.devices.iter().flatten());
        let device =
            known.find(|d| d.device == result.device && d.driver == result.driver && d.pool == result.pool);
        let Some(device) = device else { return Ok(false) };
        let is_true = |name: &String| {
            device.conditions.iter().flatten().find(|c| c.type_ == *name && c.status == "True")
        };
        if let Some(failed) = result.binding_failure_conditions.iter().flatten().find_map(is_true) {
            return Err(format!(
                "device binding failed: claim={}, reason={}, message={:?}",
                claim.name(),
                failed.reason,
                failed.message
            ));
        }
        if !wanted.iter().all(|c| is_true(c).is_some()) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether devices of a claim have something to wait for.
pub fn waits(claim: &ResourceClaim) -> bool {
    let conditions =
        |r: &DeviceRequestAllocationResult| r.binding_conditions.as_ref().is_some_and(|c| !c.is_empty());
    allocation(claim).is_some_and(|a| results(a).any(conditions))
}

/// Whether it was waited for long enough. Upstream: isClaimTimeout.
pub fn timed_out(claim: &ResourceClaim, limit: Duration, now: Timestamp) -> bool {
    let since = allocation(claim).and_then(|a| a.allocation_timestamp.as_ref());
    let waits = allocation(claim).is_some_and(|a| results(a).any(|r| r.binding_conditions.is_some()));
    waits && since.is_some_and(|s| now.duration_since(s.0).unsigned_abs() > limit && now > s.0)
}

impl DynamicResources {
    pub fn new(args: DynamicResourcesArgs, gates: &Gates) -> Self {
        let timed = gates.enabled(Gate::DRASchedulerFilterTimeout);
        let filter_timeout = if timed { args.filter_timeout.to_std() } else { Duration::ZERO };
        let features = Features::of(gates);
        let of_groups = gates.enabled(Gate::DRAWorkloadResourceClaims);
        let take = gates.enabled(Gate::DRANodeAllocatableResources);
        Self {
            args,
            features,
            of_groups,
            take,
            filter_timeout,
            programs: Arc::default(),
            inventory: Mutex::default(),
            outlook: Outlook::default(),
        }
    }

    fn inventory(&self, listers: &Listers) -> Arc<Inventory> {
        let versions = [
            listers.resource_slices.resource_version(),
            listers.device_taint_rules.resource_version(),
            listers.device_classes.resource_version(),
        ];
        let mut kept = self.inventory.lock();
        if let Some((of, inventory)) = &*kept
            && *of == versions
        {
            return inventory.clone();
        }
        let (slices, rules) = (listers.resource_slices.list(), listers.device_taint_rules.list());
        let inventory = Arc::new(Inventory::new(slices, rules, listers.device_classes.list()));
        *kept = Some((versions, inventory.clone()));
        inventory
    }

    /// Whether the classes that a claim asks for exist. Upstream: validateDeviceClass.
    fn check_classes(&self, listers: &Listers, claim: &ResourceClaim) -> Result<(), Reject> {
        let exists = |request: String, class: &str| {
            if class.is_empty() {
                return Err(Reject::error(NAME, format!("request {request}: unsupported request type")));
            }
            if listers.device_classes.get(class).is_some() {
                return Ok(());
            }
            let reason = format!("request {request}: device class {class} does not exist");
            Err(Reject::unresolvable(NAME, reason))
        };
        for request in requests(claim) {
            let ways = request.first_available.as_deref().unwrap_or_default();
            match &request.exactly {
                Some(exactly) => exists(request.name.clone(), &exactly.device_class_name)?,
                None if ways.is_empty() => {
                    let (claim, request) = (claim.key(), &request.name);
                    let reason = format!("resource claim {claim}, request {request}: unknown request type");
                    return Err(Reject::unresolvable(NAME, reason));
                }
                None => ways.iter().try_for_each(|way| {
                    exists(format!("{}/{}", request.name, way.name), &way.device_class_name)
                })?,
            }
        }
        Ok(())
    }

    fn prepared(&self, view: View<'_>, pod: &PodInfo) -> Result<Devices, Reject> {
        let refuse = |reason| Reject::unresolvable(NAME, reason);
        let found = claims(pod, self.of_groups, |name| view.resource_claim(&pod.namespace, name));
        let found = found.map_err(refuse)?;
        let holders = self.holders(view, pod).map_err(refuse)?;
        let now = Timestamp::now();
        let mut uses = Vec::with_capacity(found.len());
        for claim in found {
            let users = claim.status.as_ref().and_then(|s| s.reserved_for.as_ref()).map_or(0, Vec::len);
            if allocation(&claim).is_some()
                && users >= MOST_USERS
                && !is_reserved_for(&claim, pod, self.of_groups)
            {
                return Err(Reject::unresolvable(NAME, "resourceclaim in use"));
            }
            let Some(has) = allocation(&claim) else {
                if let Some(pending) = view.assumed.shared(&claim) {
                    uses.push(Use::pending(claim, pending));
                    continue;
                }
                if view.assumed.is_being_allocated(&claim) {
                    let reason =
                        format!("resource claim {} is in the process of being allocated", claim.key());
                    return Err(Reject::unresolvable(NAME, reason));
                }
                self.check_classes(view.listers, &claim)?;
                uses.push(Use::unallocated(claim));
                continue;
            };
            let nodes = nodes(has);
            let limit = self.args.binding_timeout.to_std();
            let late = |ready: bool| !ready && timed_out(&claim, limit, now);
            let broken = self.features.binding && is_ready(&claim).map_or(true, late);
            let skips = skips(has);
            uses.push(Use { nodes, broken, skips, ..Use::unallocated(claim) });
        }
        if self.take {
            let inventory = self.inventory(view.listers);
            for used in &mut uses {
                let has = allocation(&used.claim).or(used.pending.as_ref());
                used.mapped = has.is_some_and(|a| device_resources::stands_for_resources(&inventory, a));
            }
        }
        uses.iter_mut().zip(holders).for_each(|(used, holder)| used.holder = holder);
        let special = Special::of(view, pod);
        let new = matches!(special, Some(Special::New(_)));
        let needs = new || uses.iter().any(|u| allocation(&u.claim).is_none());
        let supply = needs.then(|| Supply {
            features: self.features,
            inventory: self.inventory(view.listers),
            taken: view.assumed.taken_devices(),
            programs: self.programs.clone(),
            new_share: || uuid::Uuid::new_v4().to_string(),
        });
        let mut devices = Devices {
            claims: uses,
            special,
            supply,
            kind: None,
            found: Mutex::default(),
            unavailable: Mutex::default(),
        };
        devices.kind = self.kind(&devices);
        Ok(devices)
    }

    /// Not of claims that are made up for a node, nor where more of an allocation is asked than whether there is one.
    fn kind(&self, devices: &Devices) -> Option<u64> {
        let supply = devices.supply.as_ref().filter(|_| devices.special.is_none() && !self.take)?;
        let ranked = |claim: &Arc<ResourceClaim>| requests(claim).any(|r| r.exactly.is_none());
        if devices.claims.iter().any(|used| ranked(&used.claim)) {
            return None;
        }
        let asks: Vec<_> = devices.unallocated().map(|claim| &claim.spec).collect();
        let asks = serde_json::to_vec(&asks).ok()?;
        Some(self.outlook.kind(asks, &supply.inventory))
    }

    /// Whether a node has devices for all claims.
    fn check(&self, devices: &Devices, supply: &Supply, kind: u64, row: &NodeRow) -> Verdict {
        let look = || {
            let verdict = self.choose(devices, supply, None, row).map(drop);
            let keep = verdict.as_ref().err().is_none_or(|reject| reject.code != Code::Error);
            (verdict, keep)
        };
        self.outlook.verdict(kind, supply, site(row), row, look)
    }

    /// For whom each of a pod's claims is reserved. Upstream: podResourceClaimBindings.
    fn holders(
        &self,
        view: View<'_>,
        pod: &PodInfo,
    ) -> Result<Vec<Option<ResourceClaimConsumerReference>>, String> {
        if !self.of_groups {
            return Ok(Vec::new());
        }
        let group = pod.group.as_deref().and_then(|key| view.groups.forest().get(key));
        let used = pod.resource_claims.iter().filter(|claim| !is_unneeded(pod, claim));
        used.map(|claim| group_claims::holder(pod, group, claim)).collect()
    }

    fn choose(
        &self,
        devices: &Devices,
        supply: &Supply,
        special: Option<&Arc<Made>>,
        row: &NodeRow,
    ) -> Result<Vec<AllocationResult>, Reject> {
        let more = special.iter().map(|s| &s.claim);
        let wanted: Vec<_> = devices.unallocated().chain(more).cloned().collect();
        let (limit, start) = (self.filter_timeout, Instant::now());
        let late = || !limit.is_zero() && start.elapsed() > limit;
        match devices::allocate(supply, site(row), &wanted, &late) {
            Ok(Some(allocations)) => Ok(allocations),
            Ok(None) => Err(Reject::unresolvable(NAME, "cannot allocate all claims")),
            Err(Problem::Node(reason)) => Err(Reject::unresolvable(NAME, reason)),
            Err(Problem::Fatal(error)) => Err(Reject::error(NAME, error)),
            Err(Problem::Interrupted) => {
                let error = format!("node {}: timed out trying to allocate devices", row.name);
                Err(Reject::error(NAME, error))
            }
        }
    }

    /// What all claims would take of a node's own resources, if it has that.
    fn takes(
        &self,
        view: View<'_>,
        devices: &Devices,
        found: &Found,
        pod: &PodInfo,
        row: &NodeRow,
    ) -> Result<Vec<NodeAllocatableResourceClaimStatus>, Reject> {
        let mut next = found.allocations.iter();
        let mut all: Vec<device_resources::Claimed<'_>> = Vec::new();
        for used in &devices.claims {
            let has = allocation(&used.claim).or(used.pending.as_ref()).or_else(|| next.next());
            let Some(has) = has else { continue };
            // Under two names it is one claim all the same.
            match all.iter_mut().find(|(claim, _)| claim.uid() == used.claim.uid()) {
                Some(known) => known.1 = has,
                None => all.push((&*used.claim, has)),
            }
        }
        let special = found.special.as_ref().zip(next.next());
        all.extend(special.map(|(made, has)| (&*made.claim, has)));
        let inventory = self.inventory(view.listers);
        let takes = device_resources::statuses(&inventory, site(row), pod, &all);
        let takes = takes.map_err(|error| Reject::error(NAME, error))?;
        if !takes.is_empty() {
            device_resources::check(pod, row, &takes)?;
        }
        Ok(takes)
    }

    /// Nodes that a claim can not be used from, each claim by its place; an error where it can not be used at all.
    fn gone(
        &self,
        view: View<'_>,
        devices: &Devices,
        pod: &PodInfo,
        site: Site<'_>,
    ) -> Result<Vec<usize>, Reject> {
        let mut gone = Vec::new();
        for (at, used) in devices.claims.iter().enumerate() {
            if !used.reaches(site) {
                gone.push(at);
                continue;
            }
            if used.broken {
                gone.push(at);
            }
            if used.mapped && !self.is_alone(view, &used.claim, pod) {
                let name = used.claim.name();
                let reason = format!(
                    "node allocatable resource claim {name} has a mapped device and cannot be shared across pods"
                );
                return Err(Reject::unresolvable(NAME, reason));
            }
        }
        Ok(gone)
    }

    /// Whether no other pod has a claim. Upstream: validateNodeAllocatableDRAClaimSharing.
    fn is_alone(&self, view: View<'_>, claim: &ResourceClaim, pod: &PodInfo) -> bool {
        let reserved = claim.status.iter().any(|s| s.reserved_for.as_ref().is_some_and(|r| !r.is_empty()));
        let others = view.assumed.sharers(claim).iter().any(|uid| *uid != pod.uid);
        !others && (!reserved || is_reserved_for(claim, pod, self.of_groups))
    }
}

impl Devices {
    fn unallocated(&self) -> impl Iterator<Item = &Arc<ResourceClaim>> {
        let open = self.claims.iter().filter(|u| u.pending.is_none() && allocation(&u.claim).is_none());
        open.map(|u| &u.claim)
    }

    /// Finds what a node that fits gives, if that was not kept. False: it gives nothing.
    pub fn settle(&self, row: &NodeRow) -> bool {
        let Some(supply) = self.supply.as_ref().filter(|_| self.kind.is_some()) else { return true };
        let wanted: Vec<_> = self.unallocated().cloned().collect();
        let given = devices::allocate(supply, site(row), &wanted, &|| false).ok().flatten();
        given.is_some_and(|allocations| {
            let found = Found { allocations, special: None, takes: Vec::new() };
            self.found.lock().insert(row.name.to_string(), found);
            true
        })
    }

    /// What is to be written for a pod that goes to a node. Upstream: Reserve.
    pub fn allotments(&self, node: &str) -> Vec<Allotment> {
        let found = self.found.lock();
        let found = found.get(node);
        let mut next = found.into_iter().flat_map(|f| &f.allocations);
        // What a claim takes counts once, under how many names the pod may have it.
        let mut takes = found.map(|f| f.takes.clone()).unwrap_or_default();
        let mut taken = |claim: &ResourceClaim| {
            let at = takes.iter().position(|t| t.resource_claim_name == claim.name())?;
            Some(takes.remove(at))
        };
        let one = |used: &Use| Allotment {
            claim: used.claim.clone(),
            allocation: match (allocation(&used.claim), &used.pending) {
                (Some(_), _) => None,
                (None, Some(pending)) => Some(pending.clone()),
                (None, None) => next.next().cloned(),
            },
            extended: None,
            holder: used.holder.clone(),
            takes: taken(&used.claim),
        };
        let mut all: Vec<Allotment> = self.claims.iter().map(one).collect();
        if let Some(made) = found.and_then(|f| f.special.as_ref()) {
            let extended = Extended { made: made.clone(), created: OnceLock::new() };
            let allocation = next.next().cloned();
            let (claim, takes) = (made.claim.clone(), taken(&made.claim));
            all.push(Allotment { claim, allocation, extended: Some(extended), holder: None, takes });
        }
        all
    }

    /// What stands in the way of the pod, and first of that what nobody else uses.
    /// Upstream: deallocateOrDeletePodClaims.
    pub fn freeable(&self, pod: &PodInfo) -> Freeable {
        let unavailable = self.unavailable.lock();
        let blocked: Box<[_]> = unavailable.iter().map(|i| self.claims[*i].claim.clone()).collect();
        let free = blocked.iter().find(|claim| {
            let by = claim.status.as_ref().and_then(|s| s.reserved_for.as_deref()).unwrap_or_default();
            by.is_empty() || by.len() == 1 && by[0].uid == *pod.uid
        });
        let stale = || self.special.as_ref().and_then(Special::stale).cloned().map(Free::Delete);
        Freeable { first: free.cloned().map(Free::Deallocate).or_else(stale), blocked }
    }

    /// How well the alternatives were met that a node would get. Upstream: computeScore.
    fn score(&self, node: &str) -> i64 {
        let allotments = self.allotments(node);
        let one = |a: &Allotment| -> i64 {
            let Some(has) = a.allocation.as_ref().or(allocation(&a.claim)) else { return 0 };
            let taken: BTreeSet<&str> = results(has).map(|r| r.request.as_str()).collect();
            let ways = requests(&a.claim).filter(|r| r.exactly.is_none()).flat_map(|r| {
                let ways = r.first_available.iter().flatten().zip(0_i64..);
                ways.map(move |(way, at)| (format!("{}/{}", r.name, way.name), at))
            });
            ways.filter(|(name, _)| taken.contains(name.as_str())).map(|(_, at)| MOST_ALTERNATIVES - at).sum()
        };
        allotments.iter().map(one).sum()
    }
}

impl Plugin for DynamicResources {
    fn name(&self) -> &'static str {
        NAME
    }

    fn events(&self) -> &'static [&'static str] {
        &[
            "NodeAdd",
            "NodeUpdate",
            "ResourceClaimAdd",
            "ResourceClaimUpdate",
            "ResourceClaimDelete",
            "TargetPodUpdate",
            "DeviceClassAdd",
            "DeviceClassUpdate",
            "ResourceSliceAdd",
            "ResourceSliceUpdate",
        ]
    }

    fn pre_enqueue(&self, listers: &Listers, _groups: &Groups, pod: &PodInfo) -> Verdict {
        if pod.resource_claims.is_empty() {
            return Ok(());
        }
        let get = |name: &str| listers.resource_claims.get_by(&pod.namespace, name);
        let found = claims(pod, self.of_groups, get);
        found.map(drop).map_err(|reason| Reject::unresolvable(NAME, reason))
    }

    fn pre_filter(&self, view: View<'_>, pod: &PodInfo, state: &mut CycleState) -> PreFilter {
        if pod.resource_claims.is_empty() && pod.extended.is_empty() {
            return PreFilter::Skip;
        }
        match self.prepared(view, pod) {
            Ok(devices) if devices.claims.is_empty() && devices.special.is_none() => PreFilter::Skip,
            Ok(devices) => {
                state.devices = Some(Arc::new(devices));
                PreFilter::All
            }
            Err(reject) => PreFilter::Reject(reject),
        }
    }

    fn filter(&self, view: View<'_>, state: &CycleState, pod: &PodInfo, row: &NodeRow) -> Verdict {
        let Some(devices) = &state.devices else { return Ok(()) };
        let special = match &devices.special {
            Some(special) => special.on(view, pod, row)?,
            None => None,
        };
        if devices.claims.is_empty() && special.is_none() {
            // The node offers the extended resources itself.
            return Ok(());
        }
        // Who has a claim is said before devices are looked for; that it can not be used from here, after that.
        let gone = self.gone(view, devices, pod, site(row))?;
        devices.claims.iter().try_for_each(|used| used.pending_works(site(row)))?;
        let mut found = Found { allocations: Vec::new(), special, takes: Vec::new() };
        if let Some((supply, kind)) = devices.supply.as_ref().zip(devices.kind) {
            self.check(devices, supply, kind, row)?;
        } else if let Some(supply) = &devices.supply {
            found.allocations = self.choose(devices, supply, found.special.as_ref(), row)?;
        }
        if self.take {
            found.takes = self.takes(view, devices, &found, pod, row)?;
        }
        if !gone.is_empty() {
            devices.unavailable.lock().extend(gone);
            return Err(Reject::unresolvable(NAME, "resourceclaim not available on the node"));
        }
        if devices.kind.is_none() && (devices.supply.is_some() || !found.takes.is_empty()) {
            devices.found.lock().insert(row.name.to_string(), found);
        }
        Ok(())
    }

    fn scores(&self, _view: View<'_>, pod: &PodInfo) -> bool {
        !pod.resource_claims.is_empty()
    }

    fn score(&self, _view: View<'_>, state: &CycleState, _pod: &PodInfo, row: &NodeRow) -> i64 {
        // Nothing is chosen for a node where no claim needed anything.
        let chosen = |d: &Arc<Devices>| d.found.lock().contains_key(&*row.name);
        state.devices.as_ref().filter(|d| chosen(d)).map_or(0, |d| d.score(&row.name))
    }

    fn normalize(&self, _state: &CycleState, _nodes: &[&NodeRow], scores: &mut [i64]) {
        default_normalize(scores, false);
    }

    fn wakes(&self, change: &Change<'_>, pod: &PodInfo, _groups: &Groups) -> bool {
        let own = |claim: &ResourceClaim| {
            *pod.namespace == *claim.namespace() && names(pod).flatten().any(|(name, _)| name == claim.name())
        };
        match change {
            Change::ResourceClaim { old: Some(old), new } => {
                allocation(old).is_some() && allocation(new).is_none() || own(new) && old.status != new.status
            }
            Change::ResourceClaim { old: None, new } => own(new),
            Change::ResourceClaimGone(old) => {
                allocation(old).is_some() || extended_devices::owner(old) == Some(&*pod.uid)
            }
            Change::NodeUpdated { old, new } => {
                old.metadata.labels != new.metadata.labels || old.status.allocatable != new.status.allocatable
            }
            Change::NodeAdded(_) | Change::DeviceClass { .. } | Change::Devices { .. } => true,
            Change::Itself { old, new } => old.rest.made_claims != new.rest.made_claims,
            _ => false,
        }
    }
}
