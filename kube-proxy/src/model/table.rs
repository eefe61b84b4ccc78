//! All service ports and endpoints of one family, and how changed Services were when they were last looked at.
//!
//! A change costs what its Service costs, whatever the number of Services. Endpoints are not stored: they are gathered
//! from the slices that the informer holds anyway, when a Service is rendered.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::endpoint::{EndpointMap, gather, service_of};
use super::service::{ServicePort, ports};
use super::{Family, Protocol, ServiceKey};
use crate::kept::{EndpointSlice, Service};

/// Upstream: v1.EndpointsLastChangeTriggerTime.
pub const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// What is known of one Service. Copies are cheap.
#[derive(Default, Clone)]
pub struct Entry {
    /// In the order of the Service.
    pub ports: Arc<[ServicePort]>,
    /// Sorted by name.
    slices: Vec<Arc<EndpointSlice>>,
    /// Endpoints of the ports above, all counted.
    endpoint_count: u32,
}

impl Entry {
    /// The endpoints of all ports.
    pub fn endpoints(&self, key: &ServiceKey, node: &str, family: Family) -> EndpointMap {
        gather(key, self.slices.iter().map(Arc::as_ref), node, family)
    }

    fn is_empty(&self) -> bool {
        self.ports.is_empty() && self.slices.is_empty()
    }

    fn place_of(&self, name: &str) -> Result<usize, usize> {
        self.slices.binary_search_by(|s| s.metadata.name.as_deref().unwrap_or_default().cmp(name))
    }
}

/// Changed Services as they were before.
#[derive(Default)]
pub struct Changes {
    pub before: BTreeMap<ServiceKey, Entry>,
    /// Endpoints of a UDP port changed, so flows may lead nowhere.
    pub udp: bool,
    /// When the changes of endpoints began, as their controller says.
    pub triggered: Vec<Timestamp>,
}

/// The state of one family.
pub struct Table {
    family: Family,
    node: String,
    services: BTreeMap<ServiceKey, Entry>,
    changes: Changes,
    endpoint_count: usize,
    began: Timestamp,
}

impl Table {
    /// An empty table for a node.
    pub fn new(family: Family, node: &str, now: Timestamp) -> Self {
        Self {
            family,
            node: node.to_string(),
            services: BTreeMap::new(),
            changes: Changes::default(),
            endpoint_count: 0,
            began: now,
        }
    }

    /// The family all addresses here are of.
    pub fn family(&self) -> Family {
        self.family
    }

    /// The node this is the view of.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Takes a Service's new state; none = it is gone. Tells whether anything changed.
    pub fn set_service(&mut self, key: &str, service: Option<&Service>) -> bool {
        let key: ServiceKey = key.into();
        let new = service.map(|s| ports(&key, s, self.family)).unwrap_or_default();
        let old = self.services.get(&key).cloned().unwrap_or_default();
        if *old.ports == *new {
            return false;
        }
        self.replace(&key, old.clone(), Entry { ports: new.into(), ..old });
        true
    }

    /// Takes a slice's new state. Tells whether anything changed.
    pub fn set_slice(&mut self, slice: &Arc<EndpointSlice>) -> bool {
        if slice.address_type != *self.family.as_str() {
            return false;
        }
        let (Some(service), Some(name)) = (service_of(slice), slice.metadata.name.as_deref()) else {
            return false;
        };
        let triggered = trigger_time(slice).filter(|t| *t > self.began);
        let changed = self.with_slices(&service, |entry| match entry.place_of(name) {
            Ok(at) => entry.slices[at] = slice.clone(),
            Err(at) => entry.slices.insert(at, slice.clone()),
        });
        self.changes.triggered.extend(triggered.filter(|_| changed));
        changed
    }

    /// Forgets a slice. Tells whether anything changed.
    pub fn remove_slice(&mut self, slice: &EndpointSlice) -> bool {
        let (Some(service), Some(name)) = (service_of(slice), slice.metadata.name.as_deref()) else {
            return false;
        };
        self.with_slices(&service, |entry| {
            if let Ok(at) = entry.place_of(name) {
                entry.slices.remove(at);
            }
        })
    }

    fn with_slices(&mut self, key: &ServiceKey, change: impl FnOnce(&mut Entry)) -> bool {
        let old = self.services.get(key).cloned().unwrap_or_default();
        let mut new = old.clone();
        change(&mut new);
        let (was, is) =
            (old.endpoints(key, &self.node, self.family), new.endpoints(key, &self.node, self.family));
        if was == is {
            // The slices are kept all the same: the old ones would be kept alive for nothing.
            self.store(key, new);
            return false;
        }
        self.changes.udp |= was.keys().chain(is.keys()).any(|id| id.protocol == Protocol::Udp);
        self.replace(key, old, new);
        true
    }

    fn replace(&mut self, key: &ServiceKey, old: Entry, mut new: Entry) {
        let endpoints = new.endpoints(key, &self.node, self.family);
        let count: usize = new.ports.iter().map(|p| endpoints.get(&p.id).map_or(0, Vec::len)).sum();
        new.endpoint_count = u32::try_from(count).unwrap_or(u32::MAX);
        self.endpoint_count = self.endpoint_count + count - old.endpoint_count as usize;
        self.changes.before.entry(key.clone()).or_insert(old);
        self.store(key, new);
    }

    fn store(&mut self, key: &ServiceKey, entry: Entry) {
        if entry.is_empty() {
            self.services.remove(key);
        } else {
            self.services.insert(key.clone(), entry);
        }
    }

    /// What changed since the last call.
    pub fn take_changes(&mut self) -> Changes {
        std::mem::take(&mut self.changes)
    }

    /// What is known of a Service.
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.services.get(key)
    }

    /// All Services that have ports.
    pub fn iter(&self) -> impl Iterator<Item = (&ServiceKey, &Entry)> {
        self.services.iter().filter(|(_, e)| !e.ports.is_empty())
    }

    /// Endpoints of all service ports together.
    pub fn endpoint_count(&self) -> usize {
        self.endpoint_count
    }
}

fn trigger_time(slice: &EndpointSlice) -> Option<Timestamp> {
    slice.metadata.triggered.as_deref()?.parse().ok()
}
