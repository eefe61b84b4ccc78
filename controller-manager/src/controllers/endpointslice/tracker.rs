//! Versions of slices as last written: a cache that is behind them is not acted upon, and our own writes call for no
//! other look. Upstream: k8s.io/endpointslice/util/endpointslice_tracker.go.

use std::collections::BTreeMap;
use std::sync::Arc;

use client::Meta;
use hashbrown::HashMap;
use informer::Event;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use parking_lot::Mutex;

/// By key of the Service, then by name of the slice.
#[derive(Default)]
pub struct Tracker(Mutex<HashMap<String, BTreeMap<String, i64>>>);

fn version(slice: &EndpointSlice) -> i64 {
    slice.resource_version().parse().unwrap_or(0)
}

impl Tracker {
    /// The slice was written.
    pub fn note(&self, service: &str, slice: &EndpointSlice) {
        let mut all = self.0.lock();
        all.entry(service.to_string()).or_default().insert(slice.name().to_string(), version(slice));
    }

    /// The slice was deleted.
    pub fn note_deletion(&self, service: &str, name: &str) {
        if let Some(names) = self.0.lock().get_mut(service) {
            names.remove(name);
        }
    }

    /// Nothing of this Service is followed any more.
    pub fn forget(&self, service: &str) {
        self.0.lock().remove(service);
    }

    /// The event shows something that was not written here.
    pub fn is_foreign(&self, service: &str, event: &Event<EndpointSlice>) -> bool {
        let slice = event.object();
        let known = self.0.lock().get(service).and_then(|names| names.get(slice.name()).copied());
        match event {
            Event::Deleted(_) => known.is_some(),
            _ => known != Some(version(slice)),
        }
    }

    /// A slice that was written is missing or older in the cache.
    pub fn is_behind(&self, service: &str, slices: &[Arc<EndpointSlice>]) -> bool {
        let mut all = self.0.lock();
        let Some(names) = all.get_mut(service) else { return false };
        let current: HashMap<&str, i64> = slices.iter().map(|s| (s.name(), version(s))).collect();
        // One that the cache never shows was deleted by somebody: it counts as behind once, then is forgotten.
        let missing: Vec<String> =
            names.keys().filter(|n| !current.contains_key(n.as_str())).cloned().collect();
        names.retain(|name, _| !missing.contains(name));
        !missing.is_empty()
            || names.iter().any(|(name, at)| current.get(name.as_str()).is_some_and(|v| v < at))
    }
}
