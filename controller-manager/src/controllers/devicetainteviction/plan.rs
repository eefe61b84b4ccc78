//! When pods have to leave because of the taints of the devices they use. Pure.
//! Upstream: device_taint_eviction.go (`claimEvictionTime`, `podEvictionTime`).

use std::collections::BTreeSet;
use std::sync::Arc;

use client::Meta;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::resource::v1::{
    Device, DeviceRequestAllocationResult as Allocated, DeviceTaint as Taint, DeviceTaintRule as Rule,
    DeviceToleration as Toleration, ResourceClaim as Claim, ResourceSlice as Slice,
};

use crate::controllers::resourceclaim::plan::{Served, owning_pod, served};
use crate::kept::Pod;
use crate::pods;

pub const NO_EXECUTE: &str = "NoExecute";

/// Where a taint comes from; rules come first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    Rule { name: String, uid: String },
    Slice { driver: String, pool: String, device: String, taint: usize },
}

/// That a pod has to leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eviction {
    pub when: Timestamp,
    pub reasons: BTreeSet<Source>,
}

impl Eviction {
    /// The earlier time, and all reasons.
    fn join(mut self, other: Eviction) -> Eviction {
        self.when = self.when.min(other.when);
        self.reasons.extend(other.reasons);
        self
    }

    /// The rules among the reasons: names and uids.
    pub fn rules(&self) -> impl Iterator<Item = (&str, &str)> {
        self.reasons.iter().filter_map(|r| match r {
            Source::Rule { name, uid } => Some((name.as_str(), uid.as_str())),
            Source::Slice { .. } => None,
        })
    }
}

/// What a decision depends on beside the pod.
pub struct View<'a> {
    /// Claims by namespace and name.
    pub claim: &'a dyn Fn(&str, &str) -> Option<Arc<Claim>>,
    /// All slices of a driver's pool.
    pub slices: &'a dyn Fn(&str, &str) -> Vec<Arc<Slice>>,
    /// Those without effect are passed over.
    pub rules: &'a [Arc<Rule>],
}

/// The slices that count: those of the newest generation of their pool.
pub fn current(slices: &[Arc<Slice>]) -> impl Iterator<Item = &Arc<Slice>> {
    let newest = slices.iter().map(|s| s.spec.pool.generation).max();
    slices.iter().filter(move |s| Some(s.spec.pool.generation) == newest)
}

/// Whether a rule is about a device.
pub fn selects(rule: &Rule, driver: &str, pool: &str, device: &str) -> bool {
    let is = |wanted: &Option<String>, have: &str| wanted.as_deref().is_none_or(|w| w == have);
    let selector = rule.spec.device_selector.as_ref();
    selector.is_some_and(|s| is(&s.driver, driver) && is(&s.pool, pool) && is(&s.device, device))
}

/// `ToleratesTaint`, of tolerations that name the effect.
fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let key = toleration.key.as_deref().unwrap_or_default();
    if toleration.effect.as_deref() != Some(NO_EXECUTE) || (!key.is_empty() && key != taint.key) {
        return false;
    }
    match toleration.operator.as_deref().unwrap_or_default() {
        "" | "Equal" => {
            toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default()
        }
        "Exists" => true,
        _ => false,
    }
}

/// What a taint means for an allocated device; none where it is tolerated for ever.
fn effect(allocated: &Allocated, source: Source, taint: &Taint) -> Option<Eviction> {
    let mut shortest: Option<i64> = None;
    for toleration in allocated.tolerations.iter().flatten().filter(|t| tolerates(t, taint)) {
        let seconds = toleration.toleration_seconds?.max(0);
        shortest = Some(shortest.map_or(seconds, |s| s.min(seconds)));
    }
    let added = taint.time_added.as_ref()?.0;
    let tolerated = SignedDuration::from_secs(shortest.unwrap_or(0));
    let when = added.checked_add(tolerated).unwrap_or(Timestamp::MAX);
    Some(Eviction { when, reasons: BTreeSet::from([source]) })
}

fn of_device(allocated: &Allocated, view: &View<'_>) -> Option<Eviction> {
    let Allocated { driver, pool, device, .. } = allocated;
    let slices = (view.slices)(driver, pool);
    let is = |d: &&Device| d.name == *device;
    let published = current(&slices).find_map(|s| s.spec.devices.iter().flatten().find(is));
    let own = published.into_iter().flat_map(|d| d.taints.iter().flatten().enumerate());
    let own = own.filter(|(_, t)| t.effect == NO_EXECUTE).map(|(taint, t)| {
        (Source::Slice { driver: driver.clone(), pool: pool.clone(), device: device.clone(), taint }, t)
    });
    let rules = view.rules.iter().filter(|r| r.spec.taint.effect == NO_EXECUTE);
    let rules = rules.filter(|r| selects(r, driver, pool, device));
    let rules =
        rules.map(|r| (Source::Rule { name: r.name().to_owned(), uid: r.uid().to_owned() }, &r.spec.taint));
    own.chain(rules).filter_map(|(source, taint)| effect(allocated, source, taint)).reduce(Eviction::join)
}

/// The devices allocated to a claim.
pub fn allocated(claim: &Claim) -> impl Iterator<Item = &Allocated> {
    let allocation = claim.status.iter().filter_map(|s| s.allocation.as_ref());
    allocation.flat_map(|a| a.devices.iter().flat_map(|d| d.results.iter().flatten()))
}

/// Names of the claims of a pod, and whether one was made for it alone.
fn claims(pod: &Pod) -> Vec<(String, bool)> {
    let wanted = pod.spec.iter().flat_map(|s| s.resource_claims.iter().flatten());
    let mut all: Vec<(String, bool)> = wanted
        .filter_map(|w| match served(pod, w) {
            Ok(Served::Named(name)) => Some((name, false)),
            Ok(Served::Generated(name)) => Some((name, true)),
            _ => None,
        })
        .collect();
    let extended = pod.status.as_ref().and_then(|s| s.extended_resource_claim_status.as_ref());
    all.extend(extended.map(|e| (e.resource_claim_name.clone(), true)));
    all
}

fn is_reserved(claim: &Claim, pod: &Pod) -> bool {
    let mut consumers = claim.status.iter().flat_map(|s| s.reserved_for.iter().flatten());
    consumers.any(|c| c.uid == pod.uid())
}

/// When a pod has to leave, if it has to.
pub fn of_pod(pod: &Pod, view: &View<'_>) -> Option<Eviction> {
    if pods::node_name(pod).is_empty() {
        return None;
    }
    let usable = |(name, is_own): (String, bool)| {
        let claim = (view.claim)(pod.namespace(), &name)?;
        let is_for = !is_own || owning_pod(&claim).is_some_and(|(_, uid)| uid == pod.uid());
        (is_for && is_reserved(&claim, pod)).then_some(claim)
    };
    let of_claim =
        |claim: Arc<Claim>| allocated(&claim).filter_map(|a| of_device(a, view)).reduce(Eviction::join);
    claims(pod).into_iter().filter_map(usable).filter_map(of_claim).reduce(Eviction::join)
}
