//! Counters that devices of a pool share: a device can be given away only while enough is left of all it uses.
//! Upstream: allocator_incubating.go checkAvailableCounters.

use std::collections::BTreeMap;

use k8s_openapi::api::resource::v1::Device;
use machinery::quantity::Quantity;

use super::pools::Pool;
use super::supply::{Taken, quantity};

/// Counters by set and name.
type Counts<'a> = BTreeMap<(&'a str, &'a str), Quantity>;

/// What is left in a pool, and what the allocation under way uses.
#[derive(Default)]
pub struct Counters<'a> {
    left: Option<Counts<'a>>,
    used: Counts<'a>,
}

fn uses(device: &Device) -> impl Iterator<Item = ((&str, &str), Quantity)> {
    device.consumes_counters.iter().flatten().flat_map(|c| {
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

impl<'a> Counters<'a> {
    /// Takes what a device uses; false, and nothing taken, if there is not enough.
    pub fn take(&mut self, pool: &Pool<'a>, taken: &Taken, device: &'a Device) -> bool {
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

    pub fn give_back(&mut self, device: &'a Device) {
        for (key, amount) in uses(device) {
            if let Some(used) = self.used.get_mut(&key) {
                used.sub(&amount);
            }
        }
    }
}
