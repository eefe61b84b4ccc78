//! Who owns whom, as far as has been seen, and what a change makes worth looking at. Pure.
//!
//! Owners that references name but nobody has seen are in the graph too, unobserved, until they are seen or verified
//! to be absent. Upstream: pkg/controller/garbagecollector/graph_builder.go processGraphChanges.

use std::collections::VecDeque;
use std::sync::Arc;

use controller::Related;
use informer::{Name, Shared};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::nodes::{Node, Nodes};
pub use super::uid::Uid;

type HashSet<K> = hashbrown::HashSet<K, foldhash::fast::RandomState>;

/// The finalizer of an owner that waits for its dependents to go.
pub const FOREGROUND: &str = "foregroundDeletion";
/// The finalizer of an owner whose dependents are to be let go.
pub const ORPHAN: &str = "orphan";
/// Most owners remembered as absent.
const ABSENT: usize = 500;

/// Where an object is. The order of the fields is the order in which rivals for one uid are tried.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    pub kind: Name,
    pub api_version: Name,
    pub namespace: Name,
    pub name: Arc<str>,
    pub uid: Uid,
}

impl Identity {
    /// What a reference in an object of `namespace` means.
    pub fn referred(reference: &OwnerReference, namespace: &str) -> Self {
        Self {
            kind: reference.kind.as_str().into(),
            api_version: reference.api_version.as_str().into(),
            namespace: namespace.into(),
            name: reference.name.as_str().into(),
            uid: reference.uid.as_str().into(),
        }
    }

    fn is_meant_by(&self, r: &OwnerReference) -> bool {
        self.uid.is(&r.uid)
            && *self.name == *r.name
            && *self.kind == *r.kind
            && *self.api_version == *r.api_version
    }
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Identity { kind, api_version, namespace, name, uid } = self;
        write!(f, "[{api_version}/{kind}, namespace: {namespace}, name: {name}, uid: {uid}]")
    }
}

/// What is to be done after a change.
#[derive(Debug, PartialEq, Eq)]
pub enum Work {
    /// Look whether this object is to be deleted.
    Delete(Uid),
    /// The same, after a pause.
    DeleteLater(Uid),
    /// Let the dependents of this object go.
    Orphan(Uid),
    /// Tell that this object names an owner of another namespace.
    Misplaced(Identity, Uid),
}

/// What the graph says of one object.
#[derive(Debug, Clone)]
pub struct Facts {
    pub identity: Identity,
    pub observed: bool,
    pub being_deleted: bool,
    pub deleting_dependents: bool,
    pub owners: Vec<OwnerReference>,
    /// All dependents.
    pub dependents: Vec<Identity>,
    /// Some dependent waits for its own dependents.
    pub dependent_waits: bool,
    /// Dependents that keep this object, and whether each waits for its own dependents.
    pub blocking: Vec<(Uid, bool)>,
}

/// The graph.
#[derive(Default)]
pub struct Graph {
    nodes: Nodes,
    absent: Absent,
}

/// Owners verified to be absent; the oldest are forgotten first.
#[derive(Default)]
struct Absent {
    known: HashSet<Identity>,
    order: VecDeque<Identity>,
}

impl Absent {
    fn add(&mut self, identity: Identity) {
        if self.known.insert(identity.clone()) {
            self.order.push_back(identity);
        }
        while self.order.len() > ABSENT {
            if let Some(oldest) = self.order.pop_front() {
                self.known.remove(&oldest);
            }
        }
    }
}

fn starts<M: Related>(old: Option<&M>, new: &M, finalizer: &str) -> bool {
    let waits = |m: &M| m.is_dying() && m.has_finalizer(finalizer);
    waits(new) && !old.is_some_and(waits)
}

fn share(owners: &[OwnerReference]) -> Option<Shared<Vec<OwnerReference>>> {
    let mut shared = (!owners.is_empty()).then(|| Shared::new(owners.to_vec()));
    informer::settle(&mut shared, None);
    shared
}

impl Graph {
    /// Remembers that an owner does not exist.
    pub fn note_absent(&mut self, owner: Identity) {
        self.absent.add(owner);
    }

    /// It was verified a while ago that what a reference in an object of `namespace` means does not exist.
    pub fn is_verified_absent(&self, reference: &OwnerReference, namespace: &str) -> bool {
        [namespace, ""].iter().any(|place| self.absent.known.contains(&Identity::referred(reference, place)))
    }

    /// The object has been seen, and not only named.
    pub fn has_observed(&self, uid: &Uid) -> bool {
        self.nodes.get(uid).is_some_and(|n| n.observed)
    }

    /// Number of objects.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// What is known of an object.
    pub fn facts(&self, uid: &Uid) -> Option<Facts> {
        let node = self.nodes.get(uid)?;
        let dependents = || node.dependents().filter_map(|d| self.nodes.get(d));
        let blocks =
            |d: &&Node| d.owners().iter().any(|o| o.block_owner_deletion == Some(true) && uid.is(&o.uid));
        Some(Facts {
            identity: node.identity.clone(),
            observed: node.observed,
            being_deleted: node.being_deleted,
            deleting_dependents: node.deleting_dependents,
            owners: node.owners().to_vec(),
            dependents: dependents().map(|d| d.identity.clone()).collect(),
            dependent_waits: dependents().any(|d| d.deleting_dependents),
            blocking: dependents()
                .filter(blocks)
                .map(|d| (d.identity.uid.clone(), d.deleting_dependents))
                .collect(),
        })
    }

    /// An object is there, or has changed.
    pub fn seen<M: Related>(&mut self, identity: &Identity, old: Option<&M>, new: &M) -> Vec<Work> {
        let mut work = Vec::new();
        let owners = new.owners();
        if self.nodes.get(&identity.uid).is_some() {
            self.observe(identity, &mut work);
            self.change_owners(&identity.uid, owners, &mut work);
            if let Some(node) = self.nodes.get_mut(&identity.uid) {
                node.being_deleted |= new.is_dying();
            }
        } else {
            let mut node = Node::named(identity.clone());
            node.owners = share(owners);
            node.observed = true;
            node.being_deleted = new.is_dying();
            node.deleting_dependents = new.is_dying() && new.has_finalizer(FOREGROUND);
            self.nodes.insert(node);
            self.join_owners(&identity.uid, owners, &mut work);
        }
        self.transitions(&identity.uid, old, new, &mut work);
        work
    }

    /// A node that references made up turns out to exist, perhaps elsewhere than they said.
    fn observe(&mut self, identity: &Identity, work: &mut Vec<Work>) {
        let Some(node) = self.nodes.get(&identity.uid).filter(|n| !n.observed) else { return };
        if node.identity != *identity {
            for uid in self.rivals(&identity.uid, identity).1 {
                let Some(dependent) = self.nodes.get(&uid) else { continue };
                if !identity.namespace.is_empty() && dependent.identity.namespace != identity.namespace {
                    work.push(Work::Misplaced(dependent.identity.clone(), identity.uid.clone()));
                }
                work.push(Work::Delete(uid));
            }
        }
        if let Some(node) = self.nodes.get_mut(&identity.uid) {
            node.identity = identity.clone();
            node.observed = true;
        }
    }

    fn change_owners(&mut self, uid: &Uid, new: &[OwnerReference], work: &mut Vec<Work>) {
        let Some(node) = self.nodes.get_mut(uid).filter(|n| n.owners() != new) else { return };
        let old = std::mem::replace(&mut node.owners, share(new));
        let old = old.as_ref().map_or(&[][..], |owners| owners);
        let in_list = |list: &[OwnerReference], uid: &str| list.iter().find(|r| r.uid == uid).cloned();
        let blocks = |r: &OwnerReference| r.block_owner_deletion == Some(true);
        for was in old.iter().filter(|r| blocks(r)) {
            let freed = in_list(new, &was.uid).is_none_or(|now| !blocks(&now));
            let owner = Uid::from(was.uid.as_str());
            if freed && self.nodes.get(&owner).is_some() {
                work.push(Work::Delete(owner));
            }
        }
        let added: Vec<_> = new.iter().filter(|r| in_list(old, &r.uid).is_none()).cloned().collect();
        self.join_owners(uid, &added, work);
        for lost in old.iter().filter(|r| in_list(new, &r.uid).is_none()) {
            if let Some(owner) = self.nodes.get_mut(&lost.uid.as_str().into()) {
                owner.remove_dependent(uid);
            }
        }
    }

    /// Upstream: addDependentToOwners.
    fn join_owners(&mut self, uid: &Uid, owners: &[OwnerReference], work: &mut Vec<Work>) {
        let Some(identity) = self.nodes.get(uid).map(|n| n.identity.clone()) else { return };
        let mut doubtful = false;
        for reference in owners {
            let owner_uid = Uid::from(reference.uid.as_str());
            let known = self.nodes.get(&owner_uid).is_some();
            if !known {
                self.nodes.insert(Node::named(Identity::referred(reference, &identity.namespace)));
            }
            let Some(owner) = self.nodes.get_mut(&owner_uid) else { continue };
            owner.add_dependent(uid.clone());
            if !known {
                work.push(Work::Delete(owner.identity.uid.clone()));
            } else if !owner.identity.namespace.is_empty() && owner.identity.namespace != identity.namespace {
                if owner.observed {
                    work.push(Work::Misplaced(identity.clone(), owner.identity.uid.clone()));
                }
                doubtful = true;
            } else if !owner.identity.is_meant_by(reference) {
                doubtful = true;
            }
        }
        if doubtful {
            work.push(Work::Delete(uid.clone()));
        }
    }

    fn transitions<M: Related>(&mut self, uid: &Uid, old: Option<&M>, new: &M, work: &mut Vec<Work>) {
        if starts(old, new, ORPHAN) {
            work.push(Work::Orphan(uid.clone()));
        } else if starts(old, new, FOREGROUND)
            && let Some(node) = self.nodes.get_mut(uid)
        {
            node.deleting_dependents = true;
            work.extend(node.dependents().cloned().map(Work::Delete));
            work.push(Work::Delete(uid.clone()));
        }
    }

    /// An object is gone: seen to be deleted, or (`verified`) not found when it was asked for.
    pub fn gone(&mut self, identity: &Identity, verified: bool) -> Vec<Work> {
        let mut work = Vec::new();
        let Some(node) = self.nodes.get(&identity.uid) else { return work };
        if verified && !self.may_remove(identity, node.observed, &mut work) {
            return work;
        }
        let Some(node) = self.nodes.remove(&identity.uid) else { return work };
        for reference in node.owners() {
            let owner_uid = Uid::from(reference.uid.as_str());
            if let Some(owner) = self.nodes.get_mut(&owner_uid) {
                owner.remove_dependent(&identity.uid);
                // An owner that nobody has seen and nobody names any more is of no use.
                if !owner.observed && owner.dependents().next().is_none() {
                    self.nodes.remove(&owner_uid);
                } else if owner.deleting_dependents {
                    work.push(Work::Delete(owner_uid));
                }
            }
        }
        if node.dependents().next().is_some() {
            self.absent.add(identity.clone());
        }
        work.extend(node.dependents().cloned().map(Work::Delete));
        work
    }

    /// Whether the absence of `identity` means that its node goes, or only that some references are wrong.
    fn may_remove(&mut self, identity: &Identity, observed: bool, work: &mut Vec<Work>) -> bool {
        let same = self.nodes.get(&identity.uid).is_some_and(|n| n.identity == *identity);
        let (matching, other) = self.rivals(&identity.uid, identity);
        if if observed { same } else { other.is_empty() } {
            return true;
        }
        if !matching.is_empty() {
            self.absent.add(identity.clone());
            work.extend(matching.into_iter().map(Work::Delete));
        }
        if !observed
            && same
            && let Some(next) = self.alternate(&other, identity)
            && let Some(node) = self.nodes.get_mut(&identity.uid)
        {
            work.push(Work::DeleteLater(next.uid.clone()));
            node.identity = next;
        }
        false
    }

    /// Dependents whose references mean `owner`, and those that mean something else with its uid.
    /// Upstream: partitionDependents.
    fn rivals(&self, uid: &Uid, owner: &Identity) -> (Vec<Uid>, Vec<Uid>) {
        let (mut matching, mut other) = (Vec::new(), Vec::new());
        let dependents = self.nodes.get(uid).into_iter().flat_map(Node::dependents);
        for dependent in dependents.filter_map(|d| self.nodes.get(d)) {
            let id = &dependent.identity;
            if !owner.namespace.is_empty() && owner.namespace != id.namespace {
                other.push(id.uid.clone());
                continue;
            }
            let mut same_uid = dependent.owners().iter().filter(|r| owner.uid.is(&r.uid));
            if same_uid.clone().any(|r| owner.is_meant_by(r)) {
                matching.push(id.uid.clone());
            }
            if same_uid.any(|r| !owner.is_meant_by(r)) {
                other.push(id.uid.clone());
            }
        }
        (matching, other)
    }

    /// The next place where the owner of these dependents may be. Upstream: getAlternateOwnerIdentity.
    fn alternate(&self, dependents: &[Uid], absent: &Identity) -> Option<Identity> {
        let clustered = absent.namespace.is_empty();
        let mut found: Vec<Identity> = Vec::new();
        for dependent in dependents.iter().filter_map(|d| self.nodes.get(d)) {
            let namespace = &dependent.identity.namespace;
            for reference in dependent.owners().iter().filter(|r| absent.uid.is(&r.uid)) {
                if absent.is_meant_by(reference) && (clustered || absent.namespace == *namespace) {
                    continue;
                }
                let mut other = Identity::referred(reference, namespace);
                if clustered && other.api_version == absent.api_version && other.kind == absent.kind {
                    other.namespace = "".into();
                }
                if other != *absent {
                    found.push(other);
                }
            }
        }
        let following = found.iter().filter(|i| *i > absent).min().cloned();
        following.or_else(|| found.into_iter().min())
    }
}
