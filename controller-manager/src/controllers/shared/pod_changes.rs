//! What a pod's event means to the kind of object that controls pods.
//! Upstream: addPod, updatePod, deletePod of pkg/controller/{replicaset,daemon,statefulset,job}.

use std::sync::Arc;

use client::Object;
use controller::{Related, controller_of};
use informer::{Event, Store};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference};

use super::selector;
use crate::kept::Pod;
use crate::pods;

/// One meaning of an event.
#[derive(Debug)]
pub enum Change<'a, K> {
    /// A pod of this owner came up.
    Created(Arc<K>),
    /// A pod of this owner is gone or being deleted.
    Deleted(Arc<K>),
    /// A pod of this owner changed.
    Updated { owner: Arc<K>, old: &'a Pod, new: &'a Pod },
    /// Look again, nothing to count: a pod left this owner, or could be adopted by it.
    Wake(Arc<K>),
}

/// Objects of one kind that control pods.
pub struct Owners<K> {
    store: Store<K>,
    selector: fn(&K) -> Option<&LabelSelector>,
}

impl<K: Object> Owners<K> {
    /// Over a cache; `selector` is where the kind keeps its selector.
    pub fn new(store: Store<K>, selector: fn(&K) -> Option<&LabelSelector>) -> Self {
        Self { store, selector }
    }

    /// The object that a reference means, if it is still the same one.
    pub fn of(&self, namespace: &str, owner: &OwnerReference) -> Option<Arc<K>> {
        if owner.kind != K::KIND {
            return None;
        }
        let found = self.store.get_by(namespace, &owner.name)?;
        (found.meta().uid.as_ref() == Some(&owner.uid)).then_some(found)
    }

    /// The controller of an object.
    pub fn controller(&self, meta: &impl Related) -> Option<Arc<K>> {
        self.of(meta.namespace(), controller_of(meta)?)
    }

    /// Objects that could adopt an orphan.
    pub fn matching(&self, orphan: &impl Related) -> Vec<Arc<K>> {
        let all = self.store.list_namespace(orphan.namespace());
        let matches = |owner: &Arc<K>| {
            let wanted = (self.selector)(owner).and_then(|s| selector(s).ok());
            wanted.is_some_and(|s| !s.is_empty() && s.matches(orphan.labels()))
        };
        all.into_iter().filter(matches).collect()
    }

    /// What an event means. A pod whose deletion begins counts as deleted when `dying_counts`.
    pub fn changes<'a>(&self, event: &'a Event<Pod>, dying_counts: bool) -> Vec<Change<'a, K>> {
        let controller = |pod: &Pod| self.controller(&pod.metadata);
        let deleted = |pod: &Pod| controller(pod).map(Change::Deleted).into_iter().collect();
        match event {
            Event::Deleted(pod) => deleted(pod),
            Event::Added(pod) if dying_counts && pods::is_deleted(pod) => deleted(pod),
            Event::Added(pod) if controller_of(&pod.metadata).is_some() => {
                controller(pod).map(Change::Created).into_iter().collect()
            }
            Event::Added(pod) => self.matching(&pod.metadata).into_iter().map(Change::Wake).collect(),
            Event::Updated { new, .. } if dying_counts && pods::is_deleted(new) => deleted(new),
            Event::Updated { old, new } => self.updated(old, new),
        }
    }

    fn updated<'a>(&self, old: &'a Pod, new: &'a Pod) -> Vec<Change<'a, K>> {
        let (was, is) = (controller_of(&old.metadata), controller_of(&new.metadata));
        let (mut out, same) = (Vec::new(), pods::is_same_owner(was, is));
        if !same {
            out.extend(self.controller(&old.metadata).map(Change::Wake));
        }
        if is.is_some() {
            out.extend(self.controller(&new.metadata).map(|owner| Change::Updated { owner, old, new }));
        } else if !same || old.metadata.labels != new.metadata.labels {
            out.extend(self.matching(&new.metadata).into_iter().map(Change::Wake));
        }
        out
    }
}
