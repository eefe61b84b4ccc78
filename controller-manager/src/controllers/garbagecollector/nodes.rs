//! The nodes of the graph, by uid. There is one for each object of the cluster, so the uid is kept once and what most
//! objects do not have takes no room.

use std::hash::BuildHasher;

use hashbrown::{HashSet, HashTable};
use informer::Shared;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::graph::Identity;
use super::uid::Uid;

type Hash = foldhash::fast::RandomState;
type Uids = HashSet<Uid, Hash>;

/// Room is given back when less than one part in this many is used.
const SPARE: usize = 8;
/// A table with less room is left alone.
const SMALL: usize = 1024;

/// An object.
pub struct Node {
    pub identity: Identity,
    /// Nothing if there are none. Dependents of one owner share them.
    pub owners: Option<Shared<Vec<OwnerReference>>>,
    dependents: Option<Box<Uids>>,
    pub observed: bool,
    pub being_deleted: bool,
    pub deleting_dependents: bool,
}

impl Node {
    /// One that references made up.
    pub fn named(identity: Identity) -> Self {
        Self {
            identity,
            owners: None,
            dependents: None,
            observed: false,
            being_deleted: false,
            deleting_dependents: false,
        }
    }

    pub fn owners(&self) -> &[OwnerReference] {
        self.owners.as_ref().map_or(&[], |owners| owners)
    }

    pub fn dependents(&self) -> impl Iterator<Item = &Uid> {
        self.dependents.iter().flat_map(|all| all.iter())
    }

    pub fn add_dependent(&mut self, uid: Uid) {
        self.dependents.get_or_insert_default().insert(uid);
    }

    pub fn remove_dependent(&mut self, uid: &Uid) {
        if let Some(all) = &mut self.dependents {
            all.remove(uid);
            if all.is_empty() {
                self.dependents = None;
            }
        }
    }
}

/// All nodes.
#[derive(Default)]
pub struct Nodes {
    table: HashTable<Box<Node>>,
    hash: Hash,
}

impl Nodes {
    pub fn len(&self) -> usize {
        self.table.len()
    }

    pub fn get(&self, uid: &Uid) -> Option<&Node> {
        self.table.find(self.hash.hash_one(uid), |n| n.identity.uid == *uid).map(|n| &**n)
    }

    pub fn get_mut(&mut self, uid: &Uid) -> Option<&mut Node> {
        self.table.find_mut(self.hash.hash_one(uid), |n| n.identity.uid == *uid).map(|n| &mut **n)
    }

    /// Adds one that is not there.
    pub fn insert(&mut self, node: Node) {
        let Self { table, hash } = self;
        let of = |n: &Node| hash.hash_one(&n.identity.uid);
        table.insert_unique(of(&node), Box::new(node), |n| of(n));
    }

    pub fn remove(&mut self, uid: &Uid) -> Option<Node> {
        let Self { table, hash } = self;
        let found = table.find_entry(hash.hash_one(uid), |n| n.identity.uid == *uid).ok()?;
        let (node, _) = found.remove();
        if table.capacity() > SMALL && table.len() * SPARE < table.capacity() {
            table.shrink_to(2 * table.len(), |n| hash.hash_one(&n.identity.uid));
        }
        Some(*node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(n: usize) -> Identity {
        let reference = OwnerReference { uid: format!("uid-{n}"), ..OwnerReference::default() };
        Identity::referred(&reference, "n")
    }

    #[test]
    fn room_is_given_back() {
        let mut nodes = Nodes::default();
        (0..10_000).for_each(|n| nodes.insert(Node::named(identity(n))));
        (10..10_000).for_each(|n| assert!(nodes.remove(&identity(n).uid).is_some()));
        assert!(nodes.table.capacity() <= SMALL, "{}", nodes.table.capacity());
        assert!((0..10).all(|n| nodes.get(&identity(n).uid).is_some()));
        assert!(nodes.remove(&identity(10).uid).is_none());
        assert_eq!(nodes.len(), 10);
    }

    #[test]
    fn a_node_is_small() {
        assert!(size_of::<Node>() <= 88, "{}", size_of::<Node>());
    }
}
