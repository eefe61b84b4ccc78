//! Groups of pods and groups of groups, as trees: who belongs to whom.
//! Upstream: pkg/scheduler/backend/queue/workload_forest.go, backend/cache/podgroupstate.go.

use std::collections::BTreeSet;
use std::sync::Arc;

use client::Meta;
use hashbrown::HashMap;
use jiff::Timestamp;
use k8s_openapi::api::scheduling::v1alpha3::CompositePodGroup;
use k8s_openapi::api::scheduling::v1beta1::PodGroup;

use super::groups::GroupKey;

type Hash = foldhash::fast::RandomState;

/// How deep trees may be. Upstream: WorkloadMaxTreeDepth.
const DEPTH: usize = 4;

/// A group of pods, or a group of groups.
#[derive(Clone, Debug)]
pub enum GroupObject {
    Pods(Arc<PodGroup>),
    Groups(Arc<CompositePodGroup>),
}

use GroupObject::{Groups, Pods};

/// Key of a group of groups; those of groups of pods are `namespace/name`.
pub fn composite_key(namespace: &str, name: &str) -> GroupKey {
    format!("composite:{namespace}/{name}").into()
}

impl GroupObject {
    pub fn key(&self) -> GroupKey {
        match self {
            Pods(group) => group.key().into(),
            Groups(group) => composite_key(group.namespace(), group.name()),
        }
    }

    /// Upstream: PodGroupPriority, CompositePodGroupPriority.
    pub fn priority(&self) -> i32 {
        let own = match self {
            Pods(group) => group.spec.priority,
            Groups(group) => group.spec.priority,
        };
        own.unwrap_or(0)
    }

    /// How many of its pods, or of its groups, must be placed.
    pub fn fewest(&self) -> usize {
        let gang = match self {
            Pods(group) => group.spec.scheduling_policy.gang.as_ref().map(|g| g.min_count),
            Groups(group) => group.spec.scheduling_policy.gang.as_ref().map(|g| g.min_group_count),
        };
        gang.map_or(1, |fewest| usize::try_from(fewest).unwrap_or(0))
    }

    /// Key of the label whose value all nodes must share.
    pub fn topology(&self) -> Option<&str> {
        match self {
            Pods(group) => {
                let constraints = group.spec.scheduling_constraints.as_ref()?;
                constraints.topology.as_ref()?.first().map(|c| c.key.as_str())
            }
            Groups(group) => {
                let constraints = group.spec.scheduling_constraints.as_ref()?;
                constraints.topology.as_ref()?.first().map(|c| c.key.as_str())
            }
        }
    }

    /// Whether nobody has to go for it.
    pub fn never_preempts(&self) -> bool {
        let policy = match self {
            Pods(group) => group.spec.preemption_policy.as_deref(),
            Groups(group) => group.spec.preemption_policy.as_deref(),
        };
        policy == Some("Never")
    }

    /// Whether all of its pods go at once or none.
    pub fn goes_as_one(&self) -> bool {
        match self {
            Pods(group) => group.spec.disruption_mode.as_ref().is_some_and(|m| m.all.is_some()),
            Groups(group) => group.spec.disruption_mode.as_ref().is_some_and(|m| m.all.is_some()),
        }
    }

    /// The oldest comes first; among those of one age, names decide.
    fn age(&self) -> (Option<Timestamp>, Option<String>, GroupKey) {
        let meta = match self {
            Pods(group) => &group.metadata,
            Groups(group) => &group.metadata,
        };
        (meta.creation_timestamp.as_ref().map(|t| t.0), meta.name.clone(), self.key())
    }

    fn parent(&self) -> Option<GroupKey> {
        let (namespace, parent) = match self {
            Pods(group) => (group.namespace(), group.spec.parent_composite_pod_group_name.as_deref()),
            Groups(group) => (group.namespace(), group.spec.parent_composite_pod_group_name.as_deref()),
        };
        parent.map(|name| composite_key(namespace, name))
    }
}

/// A group with all that belongs to it.
#[derive(Clone, Debug)]
pub struct Tree {
    pub object: GroupObject,
    pub children: Vec<Tree>,
}

impl Tree {
    pub fn key(&self) -> GroupKey {
        self.object.key()
    }

    /// Its groups of pods.
    pub fn leaves(&self) -> Vec<&Arc<PodGroup>> {
        match &self.object {
            Pods(group) => vec![group],
            Groups(_) => self.children.iter().flat_map(Tree::leaves).collect(),
        }
    }
}

/// All groups.
#[derive(Clone, Debug, Default)]
pub struct Forest {
    /// Whether there are groups of groups: gate CompositePodGroup. Otherwise nobody has a parent.
    nested: bool,
    objects: HashMap<GroupKey, GroupObject, Hash>,
    /// Also of those that are not known yet.
    children: HashMap<GroupKey, BTreeSet<GroupKey>, Hash>,
}

impl Forest {
    pub fn new(nested: bool) -> Self {
        Self { nested, ..Self::default() }
    }

    pub fn get(&self, key: &str) -> Option<&GroupObject> {
        self.objects.get(key)
    }

    fn parent(&self, object: &GroupObject) -> Option<GroupKey> {
        object.parent().filter(|_| self.nested)
    }

    /// A group came, changed or went.
    pub fn set(&mut self, key: &GroupKey, object: Option<GroupObject>) {
        let before = self.objects.get(key).and_then(|o| self.parent(o));
        if let Some(siblings) = before.as_ref().and_then(|p| self.children.get_mut(p)) {
            siblings.remove(key);
        }
        if let Some(parent) = before.filter(|p| self.children.get(p).is_some_and(BTreeSet::is_empty)) {
            self.children.remove(&parent);
        }
        let Some(object) = object else {
            self.objects.remove(key);
            return;
        };
        if let Some(parent) = self.parent(&object) {
            self.children.entry(parent).or_default().insert(key.clone());
        }
        self.objects.insert(key.clone(), object);
    }

    /// A group and those above it, as far as they are known.
    pub fn upward(&self, key: &str) -> Vec<&GroupObject> {
        let mut found: Vec<&GroupObject> = Vec::new();
        let mut next = self.objects.get(key);
        while let Some(object) = next.filter(|_| found.len() < DEPTH) {
            found.push(object);
            next = self.parent(object).and_then(|p| self.objects.get(&p));
        }
        found
    }

    /// The topmost group, if all on the way are known.
    pub fn root_of(&self, key: &str) -> Option<GroupKey> {
        let mut seen = BTreeSet::new();
        let mut object = self.objects.get(key)?;
        while let Some(parent) = self.parent(object) {
            object = self.objects.get(&parent)?;
            if !seen.insert(parent) {
                return None;
            }
        }
        Some(object.key())
    }

    /// Whether two groups belong to one tree.
    pub fn related(&self, one: &str, other: &str) -> bool {
        if !self.nested {
            return one == other;
        }
        self.root_of(one).is_some_and(|root| self.root_of(other) == Some(root))
    }

    /// A group with all that belongs to it.
    pub fn tree(&self, key: &str) -> Option<Tree> {
        self.grown(key, &mut BTreeSet::new())
    }

    fn grown(&self, key: &str, seen: &mut BTreeSet<GroupKey>) -> Option<Tree> {
        let object = self.objects.get(key)?.clone();
        if !seen.insert(object.key()) {
            return None;
        }
        let children = self.children.get(key).into_iter().flatten();
        let mut children: Vec<Tree> = children.filter_map(|child| self.grown(child, seen)).collect();
        // Upstream: PodGroupInfo.GetChildGroups.
        children.sort_by_cached_key(|child| child.object.age());
        Some(Tree { object, children })
    }

    /// Keys of the groups of pods under a group, known or not.
    pub fn leaves(&self, key: &GroupKey) -> BTreeSet<GroupKey> {
        let (mut found, mut seen, mut next) = (BTreeSet::new(), BTreeSet::new(), vec![key.clone()]);
        while let Some(key) = next.pop() {
            if !seen.insert(key.clone()) {
                continue;
            }
            next.extend(self.children.get(&key).into_iter().flatten().cloned());
            if !key.starts_with("composite:") {
                found.insert(key);
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pods(name: &str, parent: Option<&str>) -> GroupObject {
        let object = json!({
            "metadata": { "name": name, "namespace": "n" },
            "spec": { "parentCompositePodGroupName": parent, "schedulingPolicy": { "basic": {} } },
        });
        Pods(Arc::new(serde_json::from_value(object).unwrap()))
    }

    fn groups(name: &str, parent: Option<&str>) -> GroupObject {
        let object = json!({
            "metadata": { "name": name, "namespace": "n" },
            "spec": {
                "parentCompositePodGroupName": parent,
                "schedulingPolicy": { "basic": {} },
                "workloadRef": { "workloadName": "w", "templateName": "t" },
            },
        });
        Groups(Arc::new(serde_json::from_value(object).unwrap()))
    }

    fn forest(nested: bool, objects: Vec<GroupObject>) -> Forest {
        let mut forest = Forest::new(nested);
        objects.into_iter().for_each(|o| forest.set(&o.key(), Some(o)));
        forest
    }

    #[test]
    fn roots_are_found_once_all_are_known() {
        let (c, d) = (composite_key("n", "c"), composite_key("n", "d"));
        let mut forest = forest(true, vec![pods("a", Some("c")), pods("b", Some("d"))]);
        assert_eq!(forest.root_of("n/a"), None);
        forest.set(&c, Some(groups("c", Some("d"))));
        assert_eq!(forest.root_of("n/a"), None);
        forest.set(&d, Some(groups("d", None)));
        assert_eq!((forest.root_of("n/a"), forest.root_of("n/b")), (Some(d.clone()), Some(d.clone())));
        assert!(forest.related("n/a", "n/b") && forest.related("n/a", &c));
        assert_eq!(forest.leaves(&d), ["n/a", "n/b"].map(GroupKey::from).into());
        assert_eq!(forest.tree(&d).unwrap().leaves().len(), 2);
        assert_eq!(forest.upward("n/a").len(), 3);
        forest.set(&c, None);
        assert_eq!((forest.root_of("n/a"), forest.root_of("n/b")), (None, Some(d.clone())));
        assert_eq!(forest.leaves(&c), ["n/a"].map(GroupKey::from).into());
        assert!(!forest.related("n/a", "n/b"));
    }

    #[test]
    fn the_oldest_group_comes_first() {
        let old = |object: GroupObject| match object {
            Pods(group) => {
                let mut group = (*group).clone();
                group.metadata.creation_timestamp =
                    Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::UNIX_EPOCH));
                Pods(Arc::new(group))
            }
            other => other,
        };
        let all =
            vec![groups("t", None), pods("b", Some("t")), groups("c", Some("t")), old(pods("a", Some("t")))];
        let tree = forest(true, all).tree(&composite_key("n", "t")).unwrap();
        let keys: Vec<GroupKey> = tree.children.iter().map(Tree::key).collect();
        assert_eq!(keys, ["n/b".into(), composite_key("n", "c"), "n/a".into()]);
    }

    #[test]
    fn a_circle_has_no_root() {
        let forest = forest(true, vec![pods("a", Some("c")), groups("c", Some("d")), groups("d", Some("c"))]);
        assert_eq!(forest.root_of("n/a"), None);
        assert!(forest.tree(&composite_key("n", "c")).is_some());
    }

    #[test]
    fn without_the_gate_nobody_has_a_parent() {
        let forest = forest(false, vec![pods("a", Some("c"))]);
        assert_eq!(forest.root_of("n/a"), Some("n/a".into()));
        assert!(forest.related("n/a", "n/a") && !forest.related("n/a", "n/b"));
    }
}
