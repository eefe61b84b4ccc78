//! Volumes and claims as they will be once what was decided for a pod is written. An entry holds as long as the
//! informer shows the state it was made from; whatever comes later is truer.
//! Upstream: plugins/volumebinding/assume_cache.go, util/assumecache.

use std::sync::Arc;

use client::Meta;
use hashbrown::HashMap;
use informer::Store;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};

use crate::framework::View;
use crate::plugins::volume_binding::Bindings;

type Hash = foldhash::fast::RandomState;

/// A future object, and the version it was made from.
type Entry<K> = (String, Arc<K>);

/// The entries by key.
#[derive(Default)]
pub struct Assumed {
    volumes: HashMap<String, Entry<PersistentVolume>, Hash>,
    claims: HashMap<String, Entry<PersistentVolumeClaim>, Hash>,
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
