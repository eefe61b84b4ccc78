//! Counters that devices of a pool share: a device can be given away only while enough is left of all it uses, and only
//! beside devices of a common compatibility group.
//! Upstream: allocator_experimental.go checkAvailableCounters, compatibility_groups.go.

use std::collections::BTreeMap;

use k8s_openapi::api::resource::v1::DeviceCounterConsumption;
use machinery::quantity::Quantity;

use super::pools::Pool;
use super::slice::Device;
use super::supply::{Taken, quantity};

/// Counters by set and name.
type Counts<'a> = BTreeMap<(&'a str, &'a str), Quantity>;

/// What the devices that use a set of counters have in common.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Together<'a> {
    /// There are none.
    #[default]
    Nobody,
    /// They are in no groups; neither may others be.
    Ungrouped,
    Groups(Vec<&'a str>),
}

/// What is left in a pool, and what the allocation under way uses.
#[derive(Default)]
pub struct Counters<'a> {
    left: Option<Counts<'a>>,
    used: Counts<'a>,
    together: Option<BTreeMap<&'a str, Together<'a>>>,
    /// What held before each device that was taken, set by set.
    before: Vec<(&'a str, Together<'a>)>,
}

fn consumptions(device: &Device) -> impl Iterator<Item = &DeviceCounterConsumption> {
    device.consumes_counters.iter().flatten()
}

fn uses(device: &Device) -> impl Iterator<Item = ((&str, &str), Quantity)> {
    consumptions(device).flat_map(|c| {
        c.counters.iter().map(move |(name, n)| ((c.counter_set.as_str(), name.as_str()), quantity(&n.value)))
    })
}

fn left<'a>(pool: &Pool<'a>, taken: &Taken) -> Counts<'a> {
    let mut left: Counts<'a> = pool
        .counters
        .iter()
        .flat_map(|(set, s)| s.counters.iter().map(move |(n, c)| ((*set, n.as_str()), quantity(&c.value))))
        .collect();
    for device in pool.everywhere().filter(|d| taken.is_used(pool.id(d))) {
        for (key, amount) in uses(device) {
            if let Some(there) = left.get_mut(&key) {
                there.sub(&amount);
            }
        }
    }
    left
}

impl<'a> Together<'a> {
    fn admits(&self, groups: &[&str]) -> bool {
        match self {
            Together::Nobody => true,
            Together::Ungrouped => groups.is_empty(),
            Together::Groups(own) => groups.iter().any(|g| own.contains(g)),
        }
    }

    /// With one more device. Of those that are there already nobody has checked that they go together.
    fn with(&self, groups: &[&'a str]) -> Self {
        match self {
            Together::Nobody if groups.is_empty() => Together::Ungrouped,
            Together::Nobody => Together::Groups(groups.to_vec()),
            Together::Groups(own) if !groups.is_empty() => {
                Together::Groups(own.iter().copied().filter(|g| groups.contains(g)).collect())
            }
            same => same.clone(),
        }
    }
}

fn groups(consumption: &DeviceCounterConsumption) -> Vec<&str> {
    consumption.compatibility_groups.iter().flatten().map(String::as_str).collect()
}

fn together<'a>(pool: &Pool<'a>, taken: &Taken) -> BTreeMap<&'a str, Together<'a>> {
    let mut all: BTreeMap<&str, Together<'_>> = BTreeMap::new();
    for device in pool.everywhere().filter(|d| taken.is_used(pool.id(d))) {
        for consumption in consumptions(device) {
            let known = all.entry(&consumption.counter_set).or_default();
            *known = known.with(&groups(consumption));
        }
    }
    all
}

impl<'a> Counters<'a> {
    /// Takes what a device uses; false, and nothing taken, if there is not enough, or it does not go with the others.
    pub fn take(&mut self, pool: &Pool<'a>, taken: &Taken, device: &'a Device, grouped: bool) -> bool {
        if grouped && !self.join(pool, taken, device) {
            return false;
        }
        for (key, amount) in uses(device) {
            self.used.entry(key).or_default().add(&amount);
        }
        let left = self.left.get_or_insert_with(|| left(pool, taken));
        let nothing = Quantity::zero();
        // Every counter is asked: one that is overdrawn already lets nothing more be taken.
        if left.iter().all(|(key, there)| there >= self.used.get(key).unwrap_or(&nothing)) {
            return true;
        }
        self.give_back(device);
        false
    }

    fn join(&mut self, pool: &Pool<'a>, taken: &Taken, device: &'a Device) -> bool {
        let all = self.together.get_or_insert_with(|| together(pool, taken));
        let own: Vec<_> = consumptions(device).map(|c| (c.counter_set.as_str(), groups(c))).collect();
        let nobody = Together::Nobody;
        if !own.iter().all(|(set, groups)| all.get(set).unwrap_or(&nobody).admits(groups)) {
            return false;
        }
        for (set, groups) in own {
            let known = all.entry(set).or_default();
            let joined = known.with(&groups);
            self.before.push((set, std::mem::replace(known, joined)));
        }
        true
    }

    /// Gives back what the device uses that was taken last.
    pub fn give_back(&mut self, device: &'a Device) {
        for (key, amount) in uses(device) {
            if let Some(used) = self.used.get_mut(&key) {
                used.sub(&amount);
            }
        }
        let Some(all) = &mut self.together else { return };
        for _ in consumptions(device) {
            if let Some((set, before)) = self.before.pop() {
                all.insert(set, before);
            }
        }
    }
}
