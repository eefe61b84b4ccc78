//! A node's pools: slices of the newest generation, checked for being complete and for making sense.
//! Upstream: structured/internal/incubating/pools_incubating.go.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::NodeSelector as WireSelector;
use k8s_openapi::api::resource::v1::CounterSet;

use super::slice::{Device, ResourceSlice};
use super::supply::{Inventory, PoolRef, Supply};
use super::{DeviceRef, Features, Site};
use crate::model::NodeSelector;

/// Whether devices of a pool can be given away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Usable,
    /// Slices are missing: the driver is changing them.
    Incomplete,
    /// Two devices have one name, or counters do not exist.
    Invalid,
}

/// A pool as one node sees it.
pub struct Pool<'a> {
    pub driver: &'a str,
    pub name: &'a str,
    pub state: State,
    /// Slices with devices for the node, by name.
    pub slices: Vec<&'a ResourceSlice>,
    /// The other slices of the pool that have devices; they may use the same counters.
    pub elsewhere: Vec<&'a ResourceSlice>,
    pub counters: BTreeMap<&'a str, &'a CounterSet>,
}

/// Whether a node is meant. Upstream: NodeMatches.
pub fn meant(site: Site<'_>, node: Option<&str>, all: Option<bool>, nodes: Option<&WireSelector>) -> bool {
    match node.filter(|n| !n.is_empty()) {
        Some(name) => name == site.name,
        None if all == Some(true) => true,
        None => {
            nodes.is_some_and(|s| NodeSelector::new(&s.node_selector_terms).matches(site.labels, site.name))
        }
    }
}

/// Whether a slice whose devices say so themselves has this one on the node.
pub fn device_meant(site: Site<'_>, device: &Device) -> bool {
    meant(site, device.node_name.as_deref(), device.all_nodes, device.node_selector.as_ref())
}

fn devices(slice: &ResourceSlice) -> &[Device] {
    slice.spec.devices.as_deref().unwrap_or_default()
}

impl<'a> Pool<'a> {
    fn new(driver: &'a str, name: &'a str, state: State) -> Self {
        let (slices, elsewhere) = (Vec::new(), Vec::new());
        Self { driver, name, state, slices, elsewhere, counters: BTreeMap::new() }
    }

    pub fn devices(&self) -> impl Iterator<Item = (&'a ResourceSlice, &'a Device)> {
        self.slices.iter().flat_map(|s| devices(s).iter().map(|d| (*s, d)))
    }

    /// Devices of the whole pool.
    pub fn everywhere(&self) -> impl Iterator<Item = &'a Device> {
        self.slices.iter().chain(&self.elsewhere).flat_map(|s| devices(s))
    }

    pub fn id(&self, device: &'a Device) -> DeviceRef<'a> {
        DeviceRef { driver: self.driver, pool: self.name, device: &device.name }
    }
}

/// Slices of devices that must not be combined freely. Where compatibility groups do not count they are left alone,
/// which makes their pools incomplete.
fn grouped(slice: &ResourceSlice) -> bool {
    let mut uses = devices(slice).iter().flat_map(|d| d.consumes_counters.iter().flatten());
    uses.any(|c| c.compatibility_groups.as_ref().is_some_and(|g| !g.is_empty()))
}

/// Slices that count. Those that are about parts of devices do not where nothing is known of such.
fn counts(slice: &ResourceSlice, features: Features) -> bool {
    let spec = &slice.spec;
    let parts = spec.per_device_node_selection.is_some()
        || spec.shared_counters.as_ref().is_some_and(|c| !c.is_empty());
    (features.partitionable || !parts) && (features.compatibility_groups || !grouped(slice))
}

fn relevant(site: Site<'_>, slice: &ResourceSlice) -> bool {
    let spec = &slice.spec;
    let node = spec.node_name.as_deref().filter(|n| !n.is_empty());
    if node.is_some() || spec.all_nodes == Some(true) || spec.node_selector.is_some() {
        return meant(site, node, spec.all_nodes, spec.node_selector.as_ref());
    }
    spec.per_device_node_selection == Some(true) && devices(slice).iter().any(|d| device_meant(site, d))
}

/// The pools that have something for a node, in the order in which devices are tried: by driver and name, those with
/// devices that must be made ready first come last.
pub fn gather<'a>(supply: &'a Supply, site: Site<'_>) -> Vec<Pool<'a>> {
    let mut found: BTreeMap<(&str, &str), Vec<&ResourceSlice>> = BTreeMap::new();
    let features = supply.features;
    for slice in supply.inventory.slices_for(site.name).filter(|s| counts(s, features) && relevant(site, s)) {
        let pool = &slice.spec.pool;
        let known = found.entry((&slice.spec.driver, &pool.name)).or_default();
        match known.first().map(|k| k.spec.pool.generation) {
            Some(newest) if pool.generation < newest => continue,
            Some(newest) if pool.generation > newest => known.clear(),
            _ => {}
        }
        known.push(slice);
    }
    let pools = found
        .into_iter()
        .filter_map(|((driver, name), slices)| pool(&supply.inventory, features, driver, name, slices));
    let (mut first, last): (Vec<_>, Vec<_>) = pools.partition(|p| !waits(p));
    first.extend(last);
    first
}

fn waits(pool: &Pool<'_>) -> bool {
    pool.devices().any(|(_, d)| d.binding_conditions.is_some())
}

fn pool<'a>(
    inventory: &'a Inventory,
    features: Features,
    driver: &'a str,
    name: &'a str,
    slices: Vec<&'a ResourceSlice>,
) -> Option<Pool<'a>> {
    let info = &slices.first()?.spec.pool;
    let complete = |count: usize| i64::try_from(count) == Ok(info.resource_slice_count);
    if complete(slices.len()) {
        return Some(build(features, driver, name, slices, Vec::new()));
    }
    // The missing ones may be slices that are of no use to this node.
    let mut all = Vec::new();
    for slice in inventory.slices_of(PoolRef { driver, pool: name }) {
        match slice.spec.pool.generation.cmp(&info.generation) {
            // What the node sees is being replaced.
            std::cmp::Ordering::Greater => return None,
            std::cmp::Ordering::Equal if features.compatibility_groups || !grouped(slice) => all.push(slice),
            _ => {}
        }
    }
    if !complete(all.len()) {
        return Some(Pool::new(driver, name, State::Incomplete));
    }
    let known: BTreeSet<_> = slices.iter().map(|s| s.metadata.name.as_deref()).collect();
    all.retain(|s| !known.contains(&s.metadata.name.as_deref()));
    Some(build(features, driver, name, slices, all))
}

fn build<'a>(
    features: Features,
    driver: &'a str,
    name: &'a str,
    mut slices: Vec<&'a ResourceSlice>,
    others: Vec<&'a ResourceSlice>,
) -> Pool<'a> {
    slices.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    let counters = |s: &&ResourceSlice| {
        features.partitionable && s.spec.shared_counters.as_ref().is_some_and(|c| !c.is_empty())
    };
    let (mut counting, slices): (Vec<_>, Vec<_>) = slices.into_iter().partition(counters);
    let (more, elsewhere): (Vec<_>, Vec<_>) = others.into_iter().partition(counters);
    counting.extend(more);
    let mut pool = Pool { slices, elsewhere, ..Pool::new(driver, name, State::Usable) };
    let mut names = BTreeSet::new();
    let unique = pool.devices().all(|(_, d)| names.insert(&*d.name));
    let mut sets = counting.iter().flat_map(|s| s.spec.shared_counters.iter().flatten());
    let distinct = sets.all(|s| pool.counters.insert(&s.name, s).is_none());
    let exist = || pool.everywhere().all(|d| counters_exist(&pool, d));
    if unique && distinct && (!features.partitionable || exist()) {
        return pool;
    }
    Pool::new(driver, name, State::Invalid)
}

fn counters_exist(pool: &Pool<'_>, device: &Device) -> bool {
    device.consumes_counters.iter().flatten().all(|c| {
        let set = pool.counters.get(c.counter_set.as_str());
        set.is_some_and(|s| c.counters.keys().all(|name| s.counters.contains_key(name)))
    })
}
