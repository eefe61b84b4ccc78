//! What devices there are and which of them are taken.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::{Equivalent, HashMap};
use k8s_openapi::api::resource::v1::{AllocationResult, DeviceClass, DeviceTaint, DeviceTaintRule};
use machinery::quantity::Quantity;

use super::Features;
use super::selector::Programs;
use super::slice::ResourceSlice;

type Fast = foldhash::fast::RandomState;

/// A device by its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeviceRef<'a> {
    pub driver: &'a str,
    pub pool: &'a str,
    pub device: &'a str,
}

impl std::fmt::Display for DeviceRef<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.driver, self.pool, self.device)
    }
}

/// The same, kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceId {
    driver: Box<str>,
    pool: Box<str>,
    device: Box<str>,
}

impl DeviceId {
    fn borrowed(&self) -> DeviceRef<'_> {
        DeviceRef { driver: &self.driver, pool: &self.pool, device: &self.device }
    }
}

impl Hash for DeviceId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.borrowed().hash(state);
    }
}

impl Equivalent<DeviceId> for DeviceRef<'_> {
    fn equivalent(&self, key: &DeviceId) -> bool {
        *self == key.borrowed()
    }
}

impl From<DeviceRef<'_>> for DeviceId {
    fn from(r: DeviceRef<'_>) -> Self {
        Self { driver: r.driver.into(), pool: r.pool.into(), device: r.device.into() }
    }
}

/// A pool by its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PoolRef<'a> {
    pub driver: &'a str,
    pub pool: &'a str,
}

/// The same, kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolId {
    driver: Box<str>,
    pool: Box<str>,
}

impl PoolId {
    fn borrowed(&self) -> PoolRef<'_> {
        PoolRef { driver: &self.driver, pool: &self.pool }
    }
}

impl Hash for PoolId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.borrowed().hash(state);
    }
}

impl Equivalent<Arc<PoolId>> for PoolRef<'_> {
    fn equivalent(&self, key: &Arc<PoolId>) -> bool {
        *self == key.borrowed()
    }
}

impl From<&PoolRef<'_>> for Arc<PoolId> {
    fn from(r: &PoolRef<'_>) -> Self {
        Self::new(PoolId { driver: r.driver.into(), pool: r.pool.into() })
    }
}

/// Capacity by its name.
pub type Amounts = BTreeMap<String, Quantity>;

/// Reads a quantity; one that the API server would not have stored counts as nothing.
pub fn quantity(q: &k8s_openapi::apimachinery::pkg::api::resource::Quantity) -> Quantity {
    Quantity::parse(&q.0).unwrap_or_default()
}

/// Shares of a device that are given away, and what they use of it.
#[derive(Clone, Debug, Default)]
struct Shares {
    count: usize,
    amounts: Amounts,
}

/// What allocations hold; every one that is added can be taken off again. Upstream: schedulerapi.AllocatedState,
/// dynamicresources/allocateddevices.go.
#[derive(Clone, Debug, Default)]
pub struct Taken {
    /// Devices that are given away as a whole, and how often: more than once is a mistake of somebody else's.
    whole: HashMap<DeviceId, usize, Fast>,
    shared: HashMap<DeviceId, Shares, Fast>,
    pools: HashMap<Arc<PoolId>, Holdings, Fast>,
}

/// What is held of a pool.
#[derive(Clone, Copy, Debug, Default)]
struct Holdings {
    count: usize,
    /// No other state of any pool has it.
    state: u64,
}

static STATES: AtomicU64 = AtomicU64::new(1);

impl Taken {
    /// A number for what is held of a pool: the same number, the same holdings, also in copies. 0: nothing is.
    pub fn state_of(&self, pool: &Arc<PoolId>) -> u64 {
        self.pools.get(pool).map_or(0, |held| held.state)
    }

    fn changed(&mut self, device: DeviceRef<'_>, delta: isize) {
        let pool = PoolRef { driver: device.driver, pool: device.pool };
        let known = self.pools.get_key_value(&pool).map(|(id, _)| id.clone());
        let held = self.pools.entry(known.unwrap_or_else(|| (&pool).into())).or_default();
        held.count = held.count.saturating_add_signed(delta);
        held.state = STATES.fetch_add(1, Ordering::Relaxed);
        if held.count == 0 {
            self.pools.remove(&pool);
        }
    }

    pub fn take(&mut self, device: DeviceRef<'_>) {
        self.changed(device, 1);
        *self.whole.entry(device.into()).or_default() += 1;
    }

    fn give_back(&mut self, device: DeviceRef<'_>) {
        let Some(times) = self.whole.get_mut(&device) else { return };
        *times -= 1;
        if *times == 0 {
            self.whole.remove(&device);
        }
        self.changed(device, -1);
    }

    pub fn share(&mut self, device: DeviceRef<'_>, amounts: impl IntoIterator<Item = (String, Quantity)>) {
        self.changed(device, 1);
        let held = self.shared.entry(device.into()).or_default();
        held.count += 1;
        for (name, amount) in amounts {
            held.amounts.entry(name).or_default().add(&amount);
        }
    }

    fn unshare(&mut self, device: DeviceRef<'_>, amounts: impl IntoIterator<Item = (String, Quantity)>) {
        let Some(held) = self.shared.get_mut(&device) else { return };
        for (name, amount) in amounts {
            held.amounts.entry(name).or_default().sub(&amount);
        }
        held.count -= 1;
        if held.count == 0 {
            self.shared.remove(&device);
        }
        self.changed(device, -1);
    }

    /// Counts what an allocation holds.
    pub fn add(&mut self, allocation: &AllocationResult) {
        for (device, amounts) in held(allocation) {
            match amounts {
                None => self.take(device),
                Some(amounts) => self.share(device, amounts),
            }
        }
    }

    /// Takes off what an allocation holds that was counted before.
    pub fn remove(&mut self, allocation: &AllocationResult) {
        for (device, amounts) in held(allocation) {
            match amounts {
                None => self.give_back(device),
                Some(amounts) => self.unshare(device, amounts),
            }
        }
    }

    pub fn is_whole(&self, device: DeviceRef<'_>) -> bool {
        self.whole.contains_key(&device)
    }

    pub fn shared(&self, device: DeviceRef<'_>) -> Option<&Amounts> {
        self.shared.get(&device).map(|s| &s.amounts)
    }

    /// Whether anybody has it or some of it.
    pub fn is_used(&self, device: DeviceRef<'_>) -> bool {
        self.is_whole(device) || self.shared.contains_key(&device)
    }
}

/// Devices of an allocation, with what is used of those that are shared. Access for administrators holds nothing.
/// Upstream: dynamicresources/allocateddevices.go foreachAllocatedDevice.
fn held(
    allocation: &AllocationResult,
) -> impl Iterator<Item = (DeviceRef<'_>, Option<impl Iterator<Item = (String, Quantity)>>)> {
    let results = allocation.devices.iter().flat_map(|d| d.results.iter().flatten());
    results.filter(|r| r.admin_access != Some(true)).map(|r| {
        let device = DeviceRef { driver: &r.driver, pool: &r.pool, device: &r.device };
        let amounts = r.consumed_capacity.iter().flatten().map(|(name, q)| (name.clone(), quantity(q)));
        (device, r.share_id.is_some().then_some(amounts))
    })
}

type Slices = Vec<Arc<ResourceSlice>>;

/// Devices and classes as drivers and administrators declare them.
pub struct Inventory {
    by_node: HashMap<Box<str>, Slices, Fast>,
    /// Slices that are not one node's.
    shared: Slices,
    by_pool: HashMap<Arc<PoolId>, Slices, Fast>,
    rules: Vec<Arc<DeviceTaintRule>>,
    classes: HashMap<String, Arc<DeviceClass>, Fast>,
}

impl Inventory {
    pub fn new(slices: Slices, rules: Vec<Arc<DeviceTaintRule>>, classes: Vec<Arc<DeviceClass>>) -> Self {
        let named = |c: Arc<DeviceClass>| (c.metadata.name.clone().unwrap_or_default(), c);
        let mut inventory = Self {
            by_node: HashMap::default(),
            shared: Vec::new(),
            by_pool: HashMap::default(),
            rules: rules.into_iter().filter(|r| r.spec.device_selector.is_some()).collect(),
            classes: classes.into_iter().map(named).collect(),
        };
        for slice in slices {
            let spec = &slice.spec;
            let pool = PoolRef { driver: &spec.driver, pool: &spec.pool.name };
            match inventory.by_pool.get_mut(&pool) {
                Some(slices) => slices.push(slice.clone()),
                None => drop(inventory.by_pool.insert((&pool).into(), vec![slice.clone()])),
            }
            match spec.node_name.clone().filter(|n| !n.is_empty()) {
                Some(node) => inventory.by_node.entry(node).or_default().push(slice),
                None => inventory.shared.push(slice),
            }
        }
        inventory
    }

    /// Slices that may have devices for a node.
    pub fn slices_for(&self, node: &str) -> impl Iterator<Item = &ResourceSlice> {
        self.by_node.get(node).into_iter().flatten().chain(&self.shared).map(|s| &**s)
    }

    pub fn slices_of(&self, pool: PoolRef<'_>) -> impl Iterator<Item = &ResourceSlice> {
        self.by_pool.get(&pool).into_iter().flatten().map(|s| &**s)
    }

    /// The identity of a pool, if it has slices.
    pub fn pool(&self, pool: PoolRef<'_>) -> Option<&Arc<PoolId>> {
        self.by_pool.get_key_value(&pool).map(|(id, _)| id)
    }

    pub fn class(&self, name: &str) -> Option<&Arc<DeviceClass>> {
        self.classes.get(name)
    }

    /// Taints that rules give a device. Upstream: resourceslice/tracker applyPatches.
    pub fn ruled_taints<'a>(&'a self, device: DeviceRef<'a>) -> impl Iterator<Item = &'a DeviceTaint> {
        let is = |wanted: &Option<String>, name: &str| wanted.as_deref().is_none_or(|w| w == name);
        self.rules.iter().filter_map(move |rule| {
            let s = rule.spec.device_selector.as_ref()?;
            let meant =
                is(&s.driver, device.driver) && is(&s.pool, device.pool) && is(&s.device, device.device);
            meant.then_some(&rule.spec.taint)
        })
    }
}

/// All that devices are chosen from.
pub struct Supply {
    pub features: Features,
    pub inventory: Arc<Inventory>,
    pub taken: Arc<Taken>,
    pub programs: Arc<Programs>,
    /// Makes the identity of one more share of a device.
    pub new_share: fn() -> String,
}
