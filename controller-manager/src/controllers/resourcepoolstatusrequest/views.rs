//! What is left of pools whose devices share counters or capacity. Pure.
//!
//! A pool that breaks its own promises (a device without the attribute it is to be grouped by, ...) gets an error instead;
//! its plain counts stay good. Upstream: pkg/controller/resourcepoolstatusrequest/views.go.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use k8s_openapi::api::resource::v1::{CounterSet, Device, DeviceCounterConsumption as Cost};
use k8s_openapi::api::resource::v1alpha3::{
    PartitionTypeStatus as Partition, ShareableCapacityStatus as Capacity,
    ShareableSummaryStatus as Shareable,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use machinery::golang::quote;
use machinery::quantity::Quantity;

use crate::controllers::shared::count;

/// Longest lists that a status may have.
const MOST: usize = 32;

/// A complete pool and what is taken of it.
#[derive(Default)]
pub struct Pool<'a> {
    pub driver: &'a str,
    pub name: &'a str,
    /// With the attribute that their slices group them by, if any.
    pub devices: Vec<(&'a Device, Option<&'a str>)>,
    pub counters: Vec<&'a CounterSet>,
    /// Names of devices.
    pub in_use: BTreeSet<&'a str>,
    /// Of all claims together.
    pub consumed: BTreeMap<&'a str, Quantity>,
}

/// The two views of a pool, and what is wrong with it.
#[derive(Debug, Default, PartialEq)]
pub struct Views {
    pub partitions: Option<Vec<Partition>>,
    pub shareable: Option<Shareable>,
    pub error: Option<String>,
}

/// Reads what the API has checked.
pub fn amount(text: &Text) -> Quantity {
    Quantity::parse(&text.0).unwrap_or_default()
}

impl Pool<'_> {
    fn place(&self) -> String {
        format!("pool {}/{}", self.driver, self.name)
    }

    /// The views; the request may name an attribute for pools that name none.
    pub fn views(&self, default: Option<&str>) -> Views {
        let partitions = self.partitions(default);
        let shareable = self.shareable();
        let error = partitions.as_ref().err().or(shareable.as_ref().err()).cloned();
        let partitions = partitions.ok().flatten().filter(|list| error.is_none() && !list.is_empty());
        Views { partitions, shareable: shareable.ok().flatten(), error }
    }

    /// Devices with the attribute they are grouped by.
    fn grouped<'a>(&'a self, default: Option<&'a str>) -> Vec<(&'a Device, &'a str)> {
        let declared = self.devices.iter().any(|(_, attribute)| attribute.is_some());
        let default = default.filter(|d| !declared && !d.is_empty());
        let all = self.devices.iter();
        all.filter_map(|(device, attribute)| Some((*device, attribute.or(default)?))).collect()
    }

    fn partitions(&self, default: Option<&str>) -> Result<Option<Vec<Partition>>, String> {
        let grouped = self.grouped(default);
        if grouped.is_empty() {
            return Ok(None);
        }
        let place = self.place();
        if self.counters.is_empty() {
            return Err(format!(
                "PartitionTypeMissing: {place} declares partitionTypeAttribute but publishes no sharedCounters"
            ));
        }
        let mut groups: BTreeMap<(&str, &str), Vec<&Device>> = BTreeMap::new();
        for (device, attribute) in grouped.into_iter().filter(|(d, _)| !costs(d).is_empty()) {
            let kind = kind(self.driver, device, attribute).ok_or_else(|| {
                format!(
                    "PartitionTypeMissing: device {} in {place} does not carry partition type attribute {}",
                    quote(&device.name),
                    quote(attribute)
                )
            })?;
            let group = groups.entry((attribute, kind)).or_default();
            if group.first().is_some_and(|first| price(first) != price(device)) {
                return Err(format!(
                    "PartitionCostMismatch: devices of partition type {} in {place} consume different counters",
                    quote(kind)
                ));
            }
            group.push(device);
        }
        if groups.len() > MOST {
            return Err(format!(
                "PartitionSummaryOverCap: {place} has {} partition types, exceeding the maximum of {MOST}",
                groups.len()
            ));
        }
        let left = self.left();
        let status = |((attribute, kind), devices): (_, Vec<&Device>)| {
            self.partition(attribute, kind, &devices, &left)
        };
        Ok(Some(groups.into_iter().map(status).collect()))
    }

    /// How many more of a group fit, were all that is left theirs.
    fn partition(&self, attribute: &str, kind: &str, devices: &[&Device], left: &Counters<'_>) -> Partition {
        let mut left = left.clone();
        let fresh = devices.iter().filter(|d| !self.in_use.contains(d.name.as_str()));
        let fits = fresh.filter(|device| {
            let fits = left.have(device);
            if fits {
                left.take(device);
            }
            fits
        });
        Partition {
            allocatable: count(fits.count()),
            attribute: attribute.to_owned(),
            total: count(devices.len()),
            type_: kind.to_owned(),
        }
    }

    /// Counters without what devices in use take, each once.
    fn left(&self) -> Counters<'_> {
        let mut left = Counters(HashMap::new());
        for set in &self.counters {
            let counters = set.counters.iter().map(|(name, c)| (name.as_str(), amount(&c.value)));
            left.0.entry(&set.name).or_default().extend(counters);
        }
        let used = self.devices.iter().filter(|(d, _)| self.in_use.contains(d.name.as_str()));
        used.for_each(|(device, _)| left.take(device));
        left
    }

    fn shareable(&self) -> Result<Option<Shareable>, String> {
        let all = self.devices.iter().map(|(d, _)| *d);
        let devices: Vec<&Device> = all.filter(|d| d.allow_multiple_allocations == Some(true)).collect();
        if devices.is_empty() {
            return Ok(None);
        }
        let mut total: BTreeMap<&str, Quantity> = BTreeMap::new();
        for (name, capacity) in devices.iter().flat_map(|d| d.capacity.iter().flatten()) {
            total.entry(name).or_default().add(&amount(&capacity.value));
        }
        if total.len() > MOST {
            return Err(format!(
                "ShareableSummaryOverCap: {} has {} shareable capacity keys, exceeding the maximum of {MOST}",
                self.place(),
                total.len()
            ));
        }
        let used = devices.iter().filter(|d| self.in_use.contains(d.name.as_str())).count();
        let capacity: Vec<Capacity> =
            total.into_iter().map(|(name, total)| self.capacity(name, &total)).collect();
        Ok(Some(Shareable {
            capacity: Some(capacity).filter(|c| !c.is_empty()),
            fully_available_devices: count(devices.len() - used),
            partially_available_devices: count(used),
        }))
    }

    fn capacity(&self, name: &str, total: &Quantity) -> Capacity {
        let consumed = self.consumed.get(name).cloned().unwrap_or_default();
        let mut available = total.clone();
        available.sub(&consumed);
        if available.sign() < 0 {
            available = Quantity::new(0, total.format());
        }
        let text = |of: &Quantity| Text(of.canonical());
        Capacity {
            available: text(&available),
            consumed: text(&consumed),
            name: name.to_owned(),
            total: text(total),
        }
    }
}

fn costs(device: &Device) -> &[Cost] {
    device.consumes_counters.as_deref().unwrap_or_default()
}

/// Value of the attribute that a device is grouped by. Names without a domain are in the driver's.
fn kind<'a>(driver: &str, device: &'a Device, attribute: &str) -> Option<&'a str> {
    let all = device.attributes.as_ref()?;
    let bare = || all.get(attribute.strip_prefix(driver)?.strip_prefix('/')?);
    all.get(attribute).or_else(bare)?.string.as_deref()
}

/// What a device takes, in comparable form.
fn price(device: &Device) -> Vec<String> {
    let one = |cost: &Cost| -> Vec<String> {
        let counters = cost.counters.iter();
        counters
            .map(|(name, c)| format!("{}/{name}={}", cost.counter_set, amount(&c.value).canonical()))
            .collect()
    };
    let mut all: Vec<String> = costs(device).iter().flat_map(one).collect();
    all.sort_unstable();
    all
}

/// By set and name.
#[derive(Clone)]
struct Counters<'a>(HashMap<&'a str, HashMap<&'a str, Quantity>>);

impl Counters<'_> {
    fn have(&self, device: &Device) -> bool {
        let have = |set: &str, name: &str, value: &Quantity| {
            self.0.get(set).and_then(|s| s.get(name)).is_some_and(|have| have >= value)
        };
        wants(device).all(|(set, name, value)| have(set, name, &value))
    }

    fn take(&mut self, device: &Device) {
        for (set, name, value) in wants(device) {
            if let Some(have) = self.0.get_mut(set).and_then(|s| s.get_mut(name)) {
                have.sub(&value);
            }
        }
    }
}

/// Set, name and amount of the counters that a device takes.
fn wants(device: &Device) -> impl Iterator<Item = (&str, &str, Quantity)> {
    costs(device).iter().flat_map(|cost| {
        let counters = cost.counters.iter();
        counters.map(|(name, c)| (cost.counter_set.as_str(), name.as_str(), amount(&c.value)))
    })
}
