//! Groups of pods that are placed together, with all pods of each that are known.
//! Upstream: pkg/scheduler/backend/cache/podgroupstate.go. Which of the pods are placed is the cache's to say.

use std::sync::Arc;

use hashbrown::HashMap;
use k8s_openapi::api::scheduling::v1beta1::PodGroupSpec;

use super::cache::Cache;
use super::forest::{Forest, GroupObject, Tree};
use super::pod::{PodInfo, Uid};

type Hash = foldhash::fast::RandomState;

/// `namespace/name` of a group; of a group of groups: `composite_key`.
pub type GroupKey = Arc<str>;

/// Pods that speak of one group, known or not.
#[derive(Clone, Debug, Default)]
pub struct GroupState {
    pub pods: HashMap<Uid, Arc<PodInfo>, Hash>,
}

impl GroupState {
    /// Its pods that are on a node or will be.
    pub fn scheduled<'a>(&'a self, cache: &'a Cache) -> impl Iterator<Item = &'a Arc<PodInfo>> {
        self.pods.values().filter(|p| cache.node_of(&p.uid).is_some())
    }
}

/// All groups; none while the gate GenericWorkload is off, whatever pods say.
#[derive(Clone, Debug, Default)]
pub struct Groups {
    enabled: bool,
    forest: Forest,
    by_key: HashMap<GroupKey, GroupState, Hash>,
}

impl Groups {
    /// `nested`: there are groups of groups.
    pub fn new(enabled: bool, nested: bool) -> Self {
        Self { enabled, forest: Forest::new(nested), ..Self::default() }
    }

    /// Who belongs to whom.
    pub fn forest(&self) -> &Forest {
        &self.forest
    }

    pub fn enabled(&self) -> bool {
        self.enabled
    }

    /// Pods with a node, of a group and all that belongs to it.
    pub fn scheduled(&self, key: &GroupKey, cache: &Cache) -> Vec<Arc<PodInfo>> {
        let states = self.forest.leaves(key).into_iter().filter_map(|leaf| self.by_key.get(&leaf));
        states.flat_map(|state| state.scheduled(cache)).cloned().collect()
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
            if group.pods.is_empty() {
                self.by_key.remove(key);
            }
        }
    }

    /// A group came, changed or went.
    pub fn set(&mut self, key: &GroupKey, object: Option<GroupObject>) {
        if self.enabled {
            self.forest.set(key, object);
        }
    }

    /// Priority that counts for a pod when others look for victims. Upstream: GetPodPriority.
    pub fn priority(&self, pod: &PodInfo) -> i32 {
        let upward = pod.group.as_deref().map(|key| self.forest.upward(key)).unwrap_or_default();
        upward.last().map_or(pod.priority, |object| object.priority())
    }

    /// The highest group whose pods go all at once, that a pod belongs to. Upstream: getHighestAllAncestor.
    pub fn goes_with(&self, pod: &PodInfo) -> Option<&GroupObject> {
        let upward = pod.group.as_deref().map(|key| self.forest.upward(key)).unwrap_or_default();
        upward.into_iter().rfind(|object| object.goes_as_one())
    }

    /// Whether so many pods are there as a group needs, or groups that have theirs. Upstream: isCPGTreeReady, isPGReady.
    pub fn ready(&self, tree: &Tree) -> bool {
        let there = match &tree.object {
            GroupObject::Pods(_) => self.by_key.get(&tree.key()).map_or(0, |state| state.pods.len()),
            GroupObject::Groups(_) => tree.children.iter().filter(|child| self.ready(child)).count(),
        };
        there >= tree.object.fewest()
    }
}

/// Fewest pods of a gang; `None` for groups that are none.
pub fn gang(spec: &PodGroupSpec) -> Option<usize> {
    spec.scheduling_policy.gang.as_ref().map(|g| usize::try_from(g.min_count).unwrap_or(0))
}
