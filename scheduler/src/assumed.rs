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
use crate::model::Uid;
use crate::plugins::dynamic_resources::Allotment;
use crate::plugins::volume_binding::Bindings;

type Hash = foldhash::fast::RandomState;

/// A future object, and the version it was made from.
type Entry<K> = (String, Arc<K>);

/// The entries by key.
#[derive(Clone, Default)]
pub struct Assumed {
    volumes: HashMap<String, Entry<PersistentVolume>, Hash>,
    claims: HashMap<String, Entry<PersistentVolumeClaim>, Hash>,
    /// Devices that claims have or will have, by the claims' uid.
    held: HashMap<String, Held, Hash>,
    /// Claims that pods of the group under way are about to get, with those pods: others of it may use them, too.
    /// Upstream: podGroupStateData.pendingAllocations.
    sharing: Option<HashMap<String, Vec<Uid>, Hash>>,
    /// What all of these hold; a cycle that reads it keeps its own copy if it changes meanwhile.
    taken: Arc<Taken>,
    /// Claims as they were written, until the informer shows them so.
    written: HashMap<String, Arc<ResourceClaim>, Hash>,
}

/// What a claim holds.
#[derive(Clone)]
enum Held {
    /// As it says itself.
    Written(Arc<ResourceClaim>),
    /// As it will, for so many pods.
    Allotted(AllocationResult, usize),
}

impl Held {
    fn allocation(&self) -> Option<&AllocationResult> {
        match self {
            Held::Written(claim) => allocation(claim),
            Held::Allotted(allocation, _) => Some(allocation),
        }
    }
}

fn allocation(claim: &ResourceClaim) -> Option<&AllocationResult> {
    claim.status.as_ref()?.allocation.as_ref()
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

    /// Devices that claims have or will have.
    pub fn taken_devices(&self) -> Arc<Taken> {
        self.taken.clone()
    }

    fn hold(&mut self, uid: &str, new: Option<Held>) {
        let taken = Arc::make_mut(&mut self.taken);
        if let Some(allocation) = new.as_ref().and_then(Held::allocation) {
            taken.add(allocation);
        }
        let old = match new {
            Some(new) => self.held.insert(uid.to_string(), new),
            None => self.held.remove(uid),
        };
        if let Some(allocation) = old.as_ref().and_then(Held::allocation) {
            taken.remove(allocation);
        }
    }

    /// Whether a claim will have devices that it has not yet.
    pub fn is_being_allocated(&self, claim: &ResourceClaim) -> bool {
        matches!(self.held.get(claim.uid()), Some(Held::Allotted(..)))
    }

    /// The pods of a group are tried now.
    pub fn begin_sharing(&mut self) {
        self.sharing = Some(HashMap::default());
    }

    /// Whoever comes next has nothing to do with them.
    pub fn end_sharing(&mut self) {
        self.sharing = None;
    }

    /// What a claim will have that another pod of the group is about to get.
    pub fn shared(&self, claim: &ResourceClaim) -> Option<&AllocationResult> {
        self.sharing.as_ref()?.get(claim.uid())?;
        match self.held.get(claim.uid())? {
            Held::Allotted(allocation, _) => Some(allocation),
            Held::Written(_) => None,
        }
    }

    /// Pods of the group under way that are about to get a claim.
    pub fn sharers(&self, claim: &ResourceClaim) -> &[Uid] {
        let sharing = self.sharing.as_ref().and_then(|s| s.get(claim.uid()));
        sharing.map(Vec::as_slice).unwrap_or_default()
    }

    /// Takes for granted what claims will have for a pod.
    pub fn allot(&mut self, allotments: &[Allotment], pod: &Uid) {
        for allotment in allotments {
            let Some(allocation) = &allotment.allocation else { continue };
            let uid = allotment.claim.uid();
            match self.held.get_mut(uid) {
                Some(Held::Allotted(_, pods)) => *pods += 1,
                _ => self.hold(uid, Some(Held::Allotted(allocation.clone(), 1))),
            }
            if let Some(sharing) = &mut self.sharing {
                sharing.entry(uid.to_string()).or_default().push(pod.clone());
            }
        }
    }

    /// They will not have it after all, unless other pods still need it.
    pub fn take_back(&mut self, allotments: &[Allotment]) {
        for allotment in allotments.iter().filter(|a| a.allocation.is_some()) {
            let uid = allotment.claim.uid();
            match self.held.get_mut(uid) {
                Some(Held::Allotted(_, pods)) if *pods > 1 => *pods -= 1,
                Some(Held::Allotted(..)) => {
                    self.hold(uid, None);
                    if let Some(sharing) = &mut self.sharing {
                        sharing.remove(uid);
                    }
                }
                _ => {}
            }
        }
    }

    /// A claim was written, and has what it was to have. Nothing is remembered of one that the informer has seen go.
    pub fn claim_written(&mut self, store: &Store<ResourceClaim>, claim: Arc<ResourceClaim>) {
        match store.get(&claim.key()).filter(|seen| seen.uid() == claim.uid()) {
            Some(seen) if version(&*seen) >= version(&*claim) => self.settle(&seen, true),
            Some(_) => self.remember(claim),
            None => self.hold(claim.uid(), None),
        }
    }

    /// A claim was made and written in place of one that had no name yet; the informer may not show it for a while.
    pub fn claim_made(
        &mut self,
        store: &Store<ResourceClaim>,
        allotment: &Allotment,
        claim: Arc<ResourceClaim>,
    ) {
        self.hold(allotment.claim.uid(), None);
        match store.get(&claim.key()).filter(|seen| seen.uid() == claim.uid()) {
            Some(seen) if version(&*seen) >= version(&*claim) => self.settle(&seen, true),
            _ => self.remember(claim),
        }
    }

    fn remember(&mut self, claim: Arc<ResourceClaim>) {
        self.settle(&claim, true);
        self.written.insert(claim.key(), claim);
    }

    /// A claim that was made is taken away again before the informer showed it.
    pub fn claim_unmade(&mut self, claim: &ResourceClaim) {
        self.written.remove(&claim.key());
        self.hold(claim.uid(), None);
    }

    /// The informer shows a claim, or that it is gone.
    pub fn claim_seen(&mut self, seen: &Arc<ResourceClaim>, gone: bool) {
        let key = seen.key();
        let later = self.written.get(&key).is_some_and(|w| !gone && std::ptr::eq(newer(&**seen, &**w), &**w));
        if later {
            return;
        }
        self.written.remove(&key);
        if gone {
            self.hold(seen.uid(), None);
        } else {
            self.settle(seen, false);
        }
    }

    /// A claim holds what it says. Until what it will have is written it holds that.
    fn settle(&mut self, claim: &Arc<ResourceClaim>, written: bool) {
        match allocation(claim) {
            Some(_) => self.hold(claim.uid(), Some(Held::Written(claim.clone()))),
            None if written || !self.is_being_allocated(claim) => self.hold(claim.uid(), None),
            None => {}
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::devices::DeviceRef;

    const DEVICE: DeviceRef<'_> = DeviceRef { driver: "d", pool: "p", device: "a" };

    /// A claim with the device, or without.
    fn claim(version: &str, has: bool) -> Arc<ResourceClaim> {
        let allocation = json!({ "devices": { "results": [
            { "request": "r", "driver": "d", "pool": "p", "device": "a" },
        ] } });
        Arc::new(
            serde_json::from_value(json!({
                "metadata": { "name": "c", "namespace": "n", "uid": "u", "resourceVersion": version },
                "spec": {},
                "status": if has { json!({ "allocation": allocation }) } else { json!({}) },
            }))
            .unwrap(),
        )
    }

    fn allotment(has: &ResourceClaim) -> Allotment {
        let (claim, allocation) = (claim("1", false), allocation(has).cloned());
        Allotment { claim, allocation, extended: None, holder: None, takes: None }
    }

    #[test]
    fn devices_are_held_from_the_decision_until_they_are_given_back() {
        let store: Store<ResourceClaim> = [(*claim("1", false)).clone()].into_iter().collect();
        let mut assumed = Assumed::default();
        let taken = |a: &Assumed| a.taken_devices().is_whole(DEVICE);
        assumed.claim_seen(&claim("1", false), false);
        assert!(!taken(&assumed));
        let allotments = [allotment(&claim("2", true))];
        assumed.allot(&allotments, &"p".into());
        assert!(taken(&assumed) && assumed.is_being_allocated(&claim("1", false)));
        // The informer shows other changes of the claim meanwhile.
        assumed.claim_seen(&claim("1", false), false);
        assert!(taken(&assumed));
        assumed.claim_written(&store, claim("2", true));
        assert!(taken(&assumed) && !assumed.is_being_allocated(&claim("1", false)));
        // Late news.
        assumed.claim_seen(&claim("1", false), false);
        assert!(taken(&assumed));
        assumed.claim_seen(&claim("2", true), false);
        assumed.take_back(&allotments);
        assert!(taken(&assumed), "what is written stays");
        assumed.claim_seen(&claim("3", false), false);
        assert!(!taken(&assumed));
        assumed.allot(&allotments, &"p".into());
        assumed.take_back(&allotments);
        assert!(!taken(&assumed));
    }

    #[test]
    fn nothing_is_held_for_a_claim_that_is_gone() {
        let mut assumed = Assumed::default();
        assumed.claim_seen(&claim("2", true), false);
        assumed.claim_seen(&claim("2", true), true);
        assert!(!assumed.taken_devices().is_whole(DEVICE));
        // Written, but seen to go before the answer was there.
        assumed.allot(&[allotment(&claim("2", true))], &"p".into());
        assumed.claim_written(&Store::default(), claim("3", true));
        assert!(!assumed.taken_devices().is_whole(DEVICE));
        assert!(assumed.written.is_empty() && assumed.held.is_empty());
    }
}
