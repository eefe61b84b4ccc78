//! What becomes of a request for the state of pools. Pure.
//! Upstream: pkg/controller/resourcepoolstatusrequest/controller.go (`syncRequest`, `calculatePoolStatus`,
//! `shouldDeleteRequest`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use client::Meta;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::resource::v1::{
    Device, DeviceRequestAllocationResult as Allocated, DeviceTaintRule as Rule, ResourceClaim as Claim,
    ResourceSlice as Slice,
};
use k8s_openapi::api::resource::v1alpha3::{
    PoolStatus, ResourcePoolStatusRequest as Request, ResourcePoolStatusRequestStatus as Status,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::views::{Pool, Views, amount};
use crate::controllers::devicetainteviction::plan::{allocated, current, selects};
use crate::controllers::shared::count;

/// How long an answer is there to be read.
const ANSWERED: SignedDuration = SignedDuration::from_hours(1);
/// How long a request may wait for its answer.
const PENDING: SignedDuration = SignedDuration::from_hours(24);
/// Pools in an answer, where the request does not say. It is the API's default.
const LIMIT: i32 = 100;
/// Longest error of a pool, in bytes.
const LONGEST: usize = 256;

/// What a decision depends on.
pub struct View<'a> {
    pub request: &'a Request,
    /// All slices of the request's driver.
    pub slices: &'a [Arc<Slice>],
    /// Claims with devices of the driver.
    pub claims: &'a [Arc<Claim>],
    pub rules: &'a [Arc<Rule>],
}

/// What to do.
#[derive(Debug, PartialEq)]
pub enum Plan {
    /// Its time has passed.
    Delete,
    /// Nothing until then.
    Keep(Duration),
    /// A pool lacks slices that its driver has yet to publish: nothing until they are there, or until then.
    Incomplete(Duration),
    Answer(Box<Status>),
}

/// Decides about a request.
pub fn plan(view: &View<'_>, now: Timestamp) -> Plan {
    let left = remaining(view.request, now);
    if left.is_zero() {
        return Plan::Delete;
    }
    if view.request.status.is_some() {
        return Plan::Keep(left);
    }
    let status = answer(view, now);
    let errors = status.pools.iter().flatten().filter_map(|p| p.validation_error.as_ref());
    if errors.into_iter().any(|e| e.starts_with(INCOMPLETE)) {
        return Plan::Incomplete(left);
    }
    Plan::Answer(Box::new(status))
}

const INCOMPLETE: &str = "PoolIncomplete:";

/// Until a request is deleted.
fn remaining(of: &Request, now: Timestamp) -> Duration {
    let created = of.metadata.creation_timestamp.as_ref().map(|t| t.0);
    let (since, most) = match &of.status {
        None => (created, PENDING),
        Some(status) => {
            let ends = |c: &&Condition| c.type_ == "Complete" || c.type_ == "Failed";
            let answered = status.conditions.iter().flatten().find(ends).map(|c| c.last_transition_time.0);
            (answered.or(created), ANSWERED)
        }
    };
    let Some(since) = since else { return most.unsigned_abs() };
    Duration::try_from(most - now.duration_since(since)).unwrap_or_default()
}

/// The answer: pools in the order of their names.
fn answer(view: &View<'_>, now: Timestamp) -> Status {
    let spec = &view.request.spec;
    let wanted = |s: &&Arc<Slice>| {
        s.spec.driver == spec.driver
            && spec.pool_name.as_ref().is_none_or(|p| p.is_empty() || *p == s.spec.pool.name)
    };
    let mut slices: BTreeMap<&str, Vec<Arc<Slice>>> = BTreeMap::new();
    for slice in view.slices.iter().filter(wanted) {
        slices.entry(&slice.spec.pool.name).or_default().push(slice.clone());
    }
    let number = count(slices.len());
    let limit = usize::try_from(spec.limit.unwrap_or(LIMIT)).unwrap_or_default();
    let pools: Vec<PoolStatus> = slices.values().take(limit).map(|slices| pool(view, slices)).collect();
    let broken = pools.iter().filter(|p| p.validation_error.is_some()).count();
    let incomplete = if broken > 0 { format!(" ({broken} incomplete)") } else { String::new() };
    let condition = Condition {
        type_: "Complete".to_owned(),
        status: "True".to_owned(),
        observed_generation: None,
        last_transition_time: Time(now),
        reason: "CalculationComplete".to_owned(),
        message: format!("Calculated status for {} pools{incomplete}", pools.len()),
    };
    Status {
        pool_count: number,
        pools: Some(pools).filter(|p| !p.is_empty()),
        conditions: Some(vec![condition]),
    }
}

/// One pool, by its newest slices.
fn pool(view: &View<'_>, slices: &[Arc<Slice>]) -> PoolStatus {
    let mut slices: Vec<&Slice> = current(slices).map(|s| &**s).collect();
    slices.sort_by(|a, b| a.name().cmp(b.name()));
    let Some(first) = slices.first() else { return PoolStatus::default() };
    let (driver, name, of) = (&first.spec.driver, &first.spec.pool.name, &first.spec.pool);
    let node = first.spec.node_name.as_ref().filter(|n| !n.is_empty());
    let same = slices.iter().all(|s| s.spec.node_name.as_ref().filter(|n| !n.is_empty()) == node);
    let mut status = PoolStatus {
        driver: driver.clone(),
        pool_name: name.clone(),
        generation: of.generation,
        node_name: node.filter(|_| same).cloned(),
        ..PoolStatus::default()
    };
    let there = count(slices.len());
    if i64::from(there) < of.resource_slice_count {
        let what = format!(
            "{INCOMPLETE} pool {driver}/{name} is incomplete: observed {there}/{} slices at generation {}",
            of.resource_slice_count, of.generation
        );
        status.validation_error = Some(cut(what));
        return status;
    }
    let pool = taken(driver, name, &slices, view.claims);
    let unavailable = pool.devices.iter().filter(|(d, _)| is_unavailable(driver, name, d, view.rules));
    let (all, used, unavailable) =
        (count(pool.devices.len()), count(pool.in_use.len()), count(unavailable.count()));
    status.resource_slice_count = Some(there);
    status.total_devices = Some(all);
    status.allocated_devices = Some(used);
    status.unavailable_devices = Some(unavailable);
    status.available_devices = Some((all - used - unavailable).max(0));
    let Views { partitions, shareable, error } =
        pool.views(view.request.spec.default_partition_type_attribute.as_deref());
    status.partition_summary = partitions;
    status.shareable_summary = shareable;
    status.validation_error = error.map(cut);
    status
}

/// As long as the API allows.
fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(LONGEST));
    text
}

/// The pool with what claims take of it. Who has administrative access takes nothing.
fn taken<'a>(driver: &'a str, name: &'a str, slices: &[&'a Slice], claims: &'a [Arc<Claim>]) -> Pool<'a> {
    let mut pool = Pool { driver, name, ..Pool::default() };
    for slice in slices {
        let attribute = slice.spec.partition_type_attribute.as_deref().filter(|a| !a.is_empty());
        pool.devices.extend(slice.spec.devices.iter().flatten().map(|d| (d, attribute)));
        pool.counters.extend(slice.spec.shared_counters.iter().flatten());
    }
    let of_pool = |a: &&Allocated| a.driver == driver && a.pool == name && a.admin_access != Some(true);
    let mut devices = BTreeSet::new();
    for result in claims.iter().flat_map(|c| allocated(c)).filter(of_pool) {
        devices.insert(result.device.as_str());
        for (capacity, text) in result.consumed_capacity.iter().flatten() {
            pool.consumed.entry(capacity).or_default().add(&amount(text));
        }
    }
    pool.in_use = devices;
    pool
}

/// A taint, its own or a rule's, keeps pods away.
fn is_unavailable(driver: &str, pool: &str, device: &Device, rules: &[Arc<Rule>]) -> bool {
    let bars = |effect: &str| effect == "NoSchedule" || effect == "NoExecute";
    let own = device.taints.iter().flatten().any(|t| bars(&t.effect));
    own || rules.iter().any(|r| bars(&r.spec.taint.effect) && selects(r, driver, pool, &device.name))
}
