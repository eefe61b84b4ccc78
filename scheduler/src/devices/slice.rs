//! Slices of devices, as they are kept: what devices of one sort say alike is kept once. A generated device takes some
//! kilobytes, most of them for maps of one or two entries, and a cluster has many times more devices than nodes.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

use client::{Kept, Named};
use foldhash::fast::FixedState;
use informer::{Pooled, Shared, pooled};
use k8s_openapi::api::core::v1::NodeSelector;
use k8s_openapi::api::resource::v1::{
    CounterSet, DeviceAttribute, DeviceCapacity, DeviceCounterConsumption, DeviceTaint,
    NodeAllocatableResource, ResourcePool,
};
use serde::Deserialize;

/// A slice.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ResourceSlice {
    pub metadata: SliceMeta,
    pub spec: ResourceSliceSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SliceMeta {
    pub name: Option<Box<str>>,
    uid: Box<str>,
    resource_version: Box<str>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ResourceSliceSpec {
    pub all_nodes: Option<bool>,
    pub devices: Option<Box<[Device]>>,
    pub driver: Box<str>,
    pub node_name: Option<Box<str>>,
    pub node_selector: Option<NodeSelector>,
    pub per_device_node_selection: Option<bool>,
    pub pool: ResourcePool,
    pub shared_counters: Option<Vec<CounterSet>>,
    pub skip_node_operations: Option<Vec<String>>,
}

/// A device. Reads like its [`Traits`], too.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "Read")]
pub struct Device {
    pub name: Box<str>,
    pub node_name: Option<Box<str>>,
    traits: Shared<Traits>,
}

impl Deref for Device {
    type Target = Traits;
    fn deref(&self) -> &Traits {
        &self.traits
    }
}

/// What devices may have alike.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Traits {
    pub all_nodes: Option<bool>,
    pub allow_multiple_allocations: Option<bool>,
    pub attributes: Option<BTreeMap<String, DeviceAttribute>>,
    pub binding_conditions: Option<Vec<String>>,
    pub binding_failure_conditions: Option<Vec<String>>,
    pub binds_to_node: Option<bool>,
    pub capacity: Option<BTreeMap<String, DeviceCapacity>>,
    pub consumes_counters: Option<Vec<DeviceCounterConsumption>>,
    pub node_allocatable_resources: Option<BTreeMap<String, NodeAllocatableResource>>,
    pub node_selector: Option<NodeSelector>,
    pub taints: Option<Vec<DeviceTaint>>,
}

impl Pooled for Traits {
    pooled!(@pool Traits);

    /// What tells most of them apart; the rest is compared.
    fn fingerprint(&self) -> u64 {
        let mut to = std::hash::BuildHasher::build_hasher(&FixedState::with_seed(0));
        for (name, attribute) in self.attributes.iter().flatten() {
            let DeviceAttribute { bool, int, string, version, .. } = attribute;
            (name, bool, int, string, version).hash(&mut to);
        }
        for (name, capacity) in self.capacity.iter().flatten() {
            (name, &capacity.value.0).hash(&mut to);
        }
        to.finish()
    }
}

/// A device as the API has it.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Read {
    name: Box<str>,
    node_name: Option<Box<str>>,
    all_nodes: Option<bool>,
    allow_multiple_allocations: Option<bool>,
    attributes: Option<BTreeMap<String, DeviceAttribute>>,
    binding_conditions: Option<Vec<String>>,
    binding_failure_conditions: Option<Vec<String>>,
    binds_to_node: Option<bool>,
    capacity: Option<BTreeMap<String, DeviceCapacity>>,
    consumes_counters: Option<Vec<DeviceCounterConsumption>>,
    node_allocatable_resources: Option<BTreeMap<String, NodeAllocatableResource>>,
    node_selector: Option<NodeSelector>,
    taints: Option<Vec<DeviceTaint>>,
}

impl From<Read> for Device {
    fn from(read: Read) -> Self {
        let traits = Traits {
            all_nodes: read.all_nodes,
            allow_multiple_allocations: read.allow_multiple_allocations,
            attributes: read.attributes,
            binding_conditions: read.binding_conditions,
            binding_failure_conditions: read.binding_failure_conditions,
            binds_to_node: read.binds_to_node,
            capacity: read.capacity,
            consumes_counters: read.consumes_counters,
            node_allocatable_resources: read.node_allocatable_resources,
            node_selector: read.node_selector,
            taints: read.taints,
        };
        Self { name: read.name, node_name: read.node_name, traits: traits.into() }
    }
}

impl Kept for ResourceSlice {
    const TYPE: Option<(&'static str, &'static str)> = Some(("resource.k8s.io/v1", "ResourceSlice"));

    fn named(&self) -> Named<'_> {
        let SliceMeta { name, uid, resource_version } = &self.metadata;
        Named { namespace: "", name: name.as_deref().unwrap_or_default(), uid, version: resource_version }
    }

    fn settle(&mut self, old: Option<&Self>) {
        let before = old.and_then(|o| o.spec.devices.as_ref()?.first()).map(|d| d.traits.clone());
        // Neighbours are alike most of the time.
        let mut known = before;
        for device in self.spec.devices.iter_mut().flatten() {
            device.traits.settle(known.as_ref());
            known = Some(device.traits.clone());
        }
    }
}

client::same_resource!(ResourceSlice, k8s_openapi::api::resource::v1::ResourceSlice);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn equal_devices_share_what_they_say() {
        let device =
            |name: &str, model: &str| json!({ "name": name, "attributes": { "model": { "string": model } } });
        let slice = |devices: serde_json::Value| -> ResourceSlice {
            let slice = json!({ "metadata": { "name": "s" }, "spec": { "driver": "d", "devices": devices } });
            serde_json::from_value(slice).unwrap()
        };
        let mut a = slice(json!([device("0", "a"), device("1", "a"), device("2", "b")]));
        a.settle(None);
        let mut b = slice(json!([device("0", "b")]));
        b.settle(Some(&a));
        let traits = |s: &ResourceSlice, i: usize| s.spec.devices.as_ref().unwrap()[i].traits.clone();
        assert!(traits(&a, 0).is_same(&traits(&a, 1)) && !traits(&a, 0).is_same(&traits(&a, 2)));
        assert!(traits(&b, 0).is_same(&traits(&a, 2)));
        assert_eq!(a.spec.devices.unwrap()[2].attributes.as_ref().unwrap()["model"].string, Some("b".into()));
    }
}
