//! Volumes and claims, for storage and for devices, as they will be once what was decided for a pod is written. An entry holds as long as the
//! informer shows the state it was made from; whatever comes later is truer.
//! Upstream: plugins/volumebinding/assume_cache.go, util/assumecache.

use std::sync::Arc;

use client::Meta;
use hashbrown::HashMap;
use informer::Store;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::resource::v1::{AllocationResult, ResourceClaim};

use crate::devices::Taken;
use crate::framework::View;
use crate::plugins::dynamic_resources::Allotment;
use crate::plugins::volume_binding::Bindings;

type Hash = foldhash::fast::RandomState;

/// A future object, and the version it was made from.
type Entry<K> = (String, Arc<K>);

/// The entries by key.
#[derive(Default)]
pub struct Assumed {
    volumes: HashMap<String, Entry<PersistentVolume>, Hash>,
    claims: HashMap<String, Entry<PersistentVolumeClaim>, Hash>,
    /// Devices that claims will have, by the claims' uid.
    allotted: HashMap<String, AllocationResult, Hash>,
    /// Claims as they were written, until the informer shows them so.
    written: HashMap<String, Arc<ResourceClaim>, Hash>,
}

fn version<K: Meta>(object: &K) -> u64 {
    object.resource_version().parse().unwrap_or(0)
}

/// Of two states of an object the later one; what the informer shows if they are not of the same object.
pub fn newer<'a, K: Meta>(seen: &'a K, written: &'a K) -> &'a K {
    let same = seen.uid() == written.uid();
    if same && version(written) > version(seen) { written } else { seen }
}

fn now<K: Meta>(entries: &HashMap<String, Entry<K>, Hash>, store: &Store<K>, key: &str) -> Option<Arc<K>> {
    let seen = store.get(key)?;
    match entries.get(key) {
        Some((version, assumed)) if version == seen.resource_version() => Some(assumed.clone()),
        _ => Some(seen),
    }
}

impl View<'_> {
    pub fn volume(&self, name: &str) -> Option<Arc<PersistentVolume>> {
        now(&self.assumed.volumes, &self.listers.volumes, name)
    }

    pub fn claim(&self, namespace: &str, name: &str) -> Option<Arc<PersistentVolumeClaim>> {
        now(&self.assumed.claims, &self.listers.claims, &format!("{namespace}/{name}"))
    }

    /// A claim for devices.
    pub fn resource_claim(&self, namespace: &str, name: &str) -> Option<Arc<ResourceClaim>> {
        let seen = self.listers.resource_claims.get_by(namespace, name)?;
        Some(self.assumed.latest(&seen).clone())
    }

    /// Devices that claims have or will have.
    pub fn taken_devices(&self) -> Taken {
        let mut taken = Taken::default();
        self.listers.resource_claims.for_each(|_, seen| {
            let status = self.assumed.latest(seen).status.as_ref();
            if let Some(allocation) = status.and_then(|s| s.allocation.as_ref()) {
                taken.add(allocation);
            }
        });
        self.assumed.allotted.values().for_each(|allocation| taken.add(allocation));
        taken
    }

    /// Volumes of a storage class.
    pub fn volumes_of(&self, class: &str) -> Vec<Arc<PersistentVolume>> {
        let seen = self.listers.volumes.by_index(crate::listers::CLASS, class);
        seen.into_iter().filter_map(|v| self.volume(v.name())).collect()
    }
}

impl Assumed {
    /// Takes what was decided for granted; the objects as they are to be written come back.
    pub fn assume(&mut self, bindings: &Bindings, node: &str) -> Bindings {
        let bindings = bindings.to_write(node);
        for (volume, _) in &bindings.fixed {
            let entry = (volume.resource_version().to_string(), volume.clone());
            self.volumes.insert(volume.name().to_string(), entry);
        }
        for claim in &bindings.provision {
            self.claims.insert(claim.key(), (claim.resource_version().to_string(), claim.clone()));
        }
        bindings
    }

    fn latest<'a>(&'a self, seen: &'a Arc<ResourceClaim>) -> &'a Arc<ResourceClaim> {
        if self.written.is_empty() {
            return seen;
        }
        match self.written.get(&seen.key()) {
            Some(written) if std::ptr::eq(newer(&**seen, &**written), &**written) => written,
            _ => seen,
        }
    }

    /// Whether a claim will have devices that it has not yet.
    pub fn is_being_allocated(&self, claim: &ResourceClaim) -> bool {
        self.allotted.contains_key(claim.uid())
    }

    /// Takes for granted what claims will have.
    pub fn allot(&mut self, allotments: &[Allotment]) {
        for allotment in allotments {
            if let Some(allocation) = &allotment.allocation {
                self.allotted.insert(allotment.claim.uid().to_string(), allocation.clone());
            }
        }
    }

    /// They will not have it after all.
    pub fn take_back(&mut self, allotments: &[Allotment]) {
        for allotment in allotments.iter().filter(|a| a.allocation.is_some()) {
            self.allotted.remove(allotment.claim.uid());
        }
    }

    /// A claim was written: it has what it was to have.
    pub fn claim_written(&mut self, claim: Arc<ResourceClaim>) {
        self.allotted.remove(claim.uid());
        self.written.insert(claim.key(), claim);
    }

    /// The informer shows a claim, or that it is gone.
    pub fn claim_seen(&mut self, seen: &ResourceClaim, gone: bool) {
        let key = seen.key();
        let older = self.written.get(&key).is_some_and(|w| gone || std::ptr::eq(newer(seen, &**w), seen));
        if older {
            self.written.remove(&key);
        }
        if gone {
            self.allotted.remove(seen.uid());
        }
    }

    /// Takes it back, or ends it because all is written and seen.
    pub fn forget(&mut self, bindings: &Bindings) {
        for (volume, _) in &bindings.fixed {
            self.volumes.remove(volume.name());
        }
        for claim in &bindings.provision {
            self.claims.remove(&claim.key());
        }
    }
}
