//! What came of a group and of all that belongs to it.
//! Upstream: schedule_one_podgroup.go podGroupAlgorithmResult, completeCompositePodGroupAlgorithmResult,
//! successfulLeafResults.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::attempt::{Attempt, Claims, Placed, PodEnd, Status, put, take_back};
use crate::model::{GroupKey, GroupObject, PodInfo, Tree};
use crate::queue::Popped;
use crate::scheduler::State;

/// A pod and the node that was found for it.
pub type Assignment<'a> = (&'a Popped, &'a Placed);

/// One group.
pub struct Node {
    pub object: GroupObject,
    pub status: Status,
    /// Of a group of pods: every pod that is to be placed, in order.
    pub results: Vec<(Popped, PodEnd)>,
    pub claims: Claims,
    /// Of a group of groups: those that were tried.
    pub children: Vec<Node>,
    /// Groups with the same number share their status: what is added to it is added once for each of them.
    pub origin: usize,
}

impl From<Attempt> for Node {
    fn from(attempt: Attempt) -> Self {
        let Attempt { object, status, results, claims, .. } = attempt;
        Self { results, claims, ..Self::ended(GroupObject::Pods(object), status) }
    }
}

impl Node {
    pub fn ended(object: GroupObject, status: Status) -> Self {
        let claims = Claims::default();
        Self { object, status, results: Vec::new(), claims, children: Vec::new(), origin: 0 }
    }

    /// Nothing of it was tried.
    pub fn untried(tree: &Tree, pods: &[Popped], status: Status) -> Self {
        let results = own(tree, pods).into_iter().map(|popped| (popped, PodEnd::Untried)).collect();
        Self { results, ..Self::ended(tree.object.clone(), status) }
    }

    /// Pods that have a node now. Of a group that is not placed none has, whatever came of its groups.
    pub fn placed(&self) -> Vec<Assignment<'_>> {
        if self.status != Status::Placed {
            return Vec::new();
        }
        let own = self.results.iter().filter_map(|(popped, end)| Some((popped, end.placed()?)));
        own.chain(self.children.iter().flat_map(Node::placed)).collect()
    }

    /// The same for what plugins score.
    pub fn placed_pods(&self) -> Vec<Arc<PodInfo>> {
        self.placed().into_iter().map(|(popped, _)| popped.info.clone()).collect()
    }

    /// As it was before, the last pod first.
    pub fn take_back(&self, state: &mut State) {
        take_back(state, &self.placed());
    }

    /// Puts all pods back on the nodes that were found for them.
    pub fn put_back(&self, state: &mut State) {
        self.placed().into_iter().for_each(|(popped, placed)| put(state, popped, placed));
    }

    /// With every group of the tree: what a group was refused for, those of its groups are refused for that would have
    /// been placed or were not tried.
    pub fn completed(self, tree: &Tree, pods: &[Popped]) -> Self {
        complete(Some(self), tree, pods, None, &mut 0)
    }

    /// How many groups share each status.
    pub fn shares(&self) -> BTreeMap<usize, usize> {
        let mut shares = BTreeMap::new();
        self.each(&mut |node| *shares.entry(node.origin).or_default() += 1);
        shares
    }

    fn each(&self, act: &mut impl FnMut(&Node)) {
        act(self);
        self.children.iter().for_each(|child| child.each(act));
    }

    /// Its groups of pods.
    pub fn into_leaves(self) -> Vec<Node> {
        match self.object {
            GroupObject::Pods(_) => vec![self],
            GroupObject::Groups(_) => self.children.into_iter().flat_map(Node::into_leaves).collect(),
        }
    }
}

/// Pods of a group of pods itself.
pub fn own(tree: &Tree, pods: &[Popped]) -> Vec<Popped> {
    let key: GroupKey = tree.key();
    pods.iter().filter(|popped| popped.info.group.as_ref() == Some(&key)).cloned().collect()
}

fn complete(
    found: Option<Node>,
    tree: &Tree,
    pods: &[Popped],
    above: Option<(&Status, usize)>,
    next: &mut usize,
) -> Node {
    let refused = above.filter(|(status, _)| **status != Status::Placed);
    let mut found = found;
    // What came of its groups counts even if what came of itself does not.
    let tried = found.as_mut().map(|node| std::mem::take(&mut node.children)).unwrap_or_default();
    let mut tried: BTreeMap<GroupKey, Node> =
        tried.into_iter().map(|child| (child.object.key(), child)).collect();
    let kept = found.filter(|node| refused.is_none() || node.status != Status::Placed);
    let mut node = match (kept, above) {
        (Some(mut node), _) => {
            node.origin = *next;
            *next += 1;
            node
        }
        (None, Some((status, origin))) => Node { origin, ..Node::untried(tree, pods, status.clone()) },
        (None, None) => Node::untried(tree, pods, Status::Placed),
    };
    let above = (node.status.clone(), node.origin);
    let one =
        |child: &Tree| complete(tried.remove(&child.key()), child, pods, Some((&above.0, above.1)), next);
    node.children = tree.children.iter().map(one).collect();
    node
}
