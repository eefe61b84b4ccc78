//! All service ports and endpoints of one family, and which Services changed since they were last looked at.
//!
//! A change costs what its Service costs, whatever the number of Services.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hashbrown::HashMap;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::endpoint::{EndpointMap, gather, service_of};
use super::service::{ServicePort, ports};
use super::{Family, PortId, ServiceKey};

/// What is known of one Service.
#[derive(Default, Clone)]
pub struct Entry {
    /// In the order of the Service.
    pub ports: Vec<ServicePort>,
    pub endpoints: EndpointMap,
    slices: BTreeMap<String, Arc<EndpointSlice>>,
}

impl Entry {
    /// The endpoints of one port.
    pub fn endpoints_of(&self, id: &PortId) -> &[super::endpoint::Endpoint] {
        self.endpoints.get(id).map_or(&[], Vec::as_slice)
    }
}

/// The state of one family.
pub struct Table {
    family: Family,
    node: String,
    services: HashMap<ServiceKey, Entry>,
    changed: BTreeSet<ServiceKey>,
    endpoint_count: usize,
}

impl Table {
    /// An empty table for a node.
    pub fn new(family: Family, node: &str) -> Self {
        Self {
            family,
            node: node.to_string(),
            services: HashMap::new(),
            changed: BTreeSet::new(),
            endpoint_count: 0,
        }
    }

    /// The family all addresses here are of.
    pub fn family(&self) -> Family {
        self.family
    }

    /// Takes a Service's new state; none = it is gone.
    pub fn set_service(&mut self, key: &str, service: Option<&Service>) {
        let key: ServiceKey = key.into();
        let new = service.map(|s| ports(&key, s, self.family)).unwrap_or_default();
        let entry = self.services.entry(key.clone()).or_default();
        if entry.ports != new {
            entry.ports = new;
            self.changed.insert(key.clone());
        }
        self.forget_empty(&key);
    }

    /// Takes a slice's new state.
    pub fn set_slice(&mut self, slice: &Arc<EndpointSlice>) {
        if slice.address_type != self.family.as_str() {
            return;
        }
        if let (Some(service), Some(name)) = (service_of(slice), slice.metadata.name.clone()) {
            self.with_slices(&service, |slices| drop(slices.insert(name, slice.clone())));
        }
    }

    /// Forgets a slice.
    pub fn remove_slice(&mut self, slice: &EndpointSlice) {
        if let (Some(service), Some(name)) = (service_of(slice), slice.metadata.name.as_deref()) {
            self.with_slices(&service, |slices| drop(slices.remove(name)));
        }
    }

    fn with_slices(
        &mut self,
        key: &ServiceKey,
        change: impl FnOnce(&mut BTreeMap<String, Arc<EndpointSlice>>),
    ) {
        let entry = self.services.entry(key.clone()).or_default();
        change(&mut entry.slices);
        let new = gather(key, entry.slices.values().map(Arc::as_ref), &self.node, self.family);
        if entry.endpoints != new {
            let count = |map: &EndpointMap| map.values().map(Vec::len).sum::<usize>();
            self.endpoint_count = self.endpoint_count + count(&new) - count(&entry.endpoints);
            entry.endpoints = new;
            self.changed.insert(key.clone());
        }
        self.forget_empty(key);
    }

    fn forget_empty(&mut self, key: &ServiceKey) {
        if self.services.get(key).is_some_and(|e| e.ports.is_empty() && e.slices.is_empty()) {
            self.services.remove(key);
        }
    }

    /// Marks every Service as changed, for when something all rules depend on did.
    pub fn touch_all(&mut self) {
        self.changed.extend(self.services.keys().cloned());
    }

    /// The Services that changed since the last call.
    pub fn take_changed(&mut self) -> BTreeSet<ServiceKey> {
        std::mem::take(&mut self.changed)
    }

    /// Some Service changed.
    pub fn is_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// What is known of a Service.
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.services.get(key)
    }

    /// All Services that have ports.
    pub fn iter(&self) -> impl Iterator<Item = (&ServiceKey, &Entry)> {
        self.services.iter().filter(|(_, e)| !e.ports.is_empty())
    }

    /// Endpoints in the whole table.
    pub fn endpoint_count(&self) -> usize {
        self.endpoint_count
    }
}
