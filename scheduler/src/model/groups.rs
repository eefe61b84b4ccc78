//! Groups of pods that are placed together, with all pods of each that are known.
//! Upstream: pkg/scheduler/backend/cache/podgroupstate.go. Which of the pods are placed is the cache's to say.

use std::sync::Arc;

use hashbrown::HashMap;
use k8s_openapi::api::scheduling::v1beta1::{PodGroup, PodGroupSpec};

use super::cache::Cache;
use super::pod::{PodInfo, Uid};

type Hash = foldhash::fast::RandomState;

/// `namespace/name` of a group.
pub type GroupKey = Arc<str>;

/// One group.
#[derive(Debug, Default)]
pub struct GroupState {
    /// Absent while only pods speak of it.
    pub object: Option<Arc<PodGroup>>,
    pub pods: HashMap<Uid, Arc<PodInfo>, Hash>,
}

impl GroupState {
    /// Its pods that are on a node or will be.
    pub fn scheduled<'a>(&'a self, cache: &'a Cache) -> impl Iterator<Item = &'a Arc<PodInfo>> {
        self.pods.values().filter(|p| cache.node_of(&p.uid).is_some())
    }
}

/// All groups; none while the gate GenericWorkload is off, whatever pods say.
#[derive(Debug, Default)]
pub struct Groups {
    enabled: bool,
    by_key: HashMap<GroupKey, GroupState, Hash>,
}

impl Groups {
    pub fn new(enabled: bool) -> Self {
        Self { enabled, ..Self::default() }
    }

    pub fn enabled(&self) -> bool {
        self.enabled
    }

    pub fn get(&self, key: &str) -> Option<&GroupState> {
        self.by_key.get(key)
    }

    /// Group of a pod.
    pub fn of(&self, pod: &PodInfo) -> Option<&GroupState> {
        self.get(pod.group.as_deref()?)
    }

    /// A pod is there, or changed.
    pub fn add(&mut self, pod: &Arc<PodInfo>) {
        let Some(key) = pod.group.as_ref().filter(|_| self.enabled) else { return };
        self.by_key.entry(key.clone()).or_default().pods.insert(pod.uid.clone(), pod.clone());
    }

    /// A pod is gone.
    pub fn remove(&mut self, pod: &PodInfo) {
        let Some(key) = &pod.group else { return };
        if let Some(group) = self.by_key.get_mut(key) {
            group.pods.remove(&pod.uid);
            self.drop_empty(key);
        }
    }

    /// A group came, changed or went.
    pub fn set(&mut self, key: &GroupKey, object: Option<Arc<PodGroup>>) {
        if self.enabled {
            self.by_key.entry(key.clone()).or_default().object = object;
            self.drop_empty(key);
        }
    }

    fn drop_empty(&mut self, key: &GroupKey) {
        if self.by_key.get(key).is_some_and(|g| g.object.is_none() && g.pods.is_empty()) {
            self.by_key.remove(key);
        }
    }

    /// Priority that counts for a pod when others look for victims. Upstream: GetPodPriority.
    pub fn priority(&self, pod: &PodInfo) -> i32 {
        let group = self.of(pod).and_then(|g| g.object.as_ref());
        group.map_or(pod.priority, |object| priority(&object.spec))
    }
}

/// Upstream: PodGroupPriority.
pub fn priority(spec: &PodGroupSpec) -> i32 {
    spec.priority.unwrap_or(0)
}

/// Fewest pods of a gang; `None` for groups that are none.
pub fn gang(spec: &PodGroupSpec) -> Option<usize> {
    spec.scheduling_policy.gang.as_ref().map(|g| usize::try_from(g.min_count).unwrap_or(0))
}

/// Whether its pods go all at once or not at all.
pub fn goes_as_one(spec: &PodGroupSpec) -> bool {
    spec.disruption_mode.as_ref().is_some_and(|m| m.all.is_some())
}
