//! Where a group could go: sets of nodes, one of which all of its pods are placed in.
//! Upstream: k8s.io/kube-scheduler/framework, Placement, PlacementGeneratePlugin, PlacementScorePlugin.

use std::sync::Arc;

use hashbrown::HashSet;

use super::View;
use crate::model::{NodeRow, PodInfo};

/// Nodes that a group's attempt is limited to.
#[derive(Clone, Debug, Default)]
pub struct Placement {
    /// What the nodes have in common.
    pub name: String,
    nodes: HashSet<Arc<str>, foldhash::fast::RandomState>,
}

impl Placement {
    pub fn new<'a>(name: impl Into<String>, nodes: impl IntoIterator<Item = &'a NodeRow>) -> Self {
        Self { name: name.into(), nodes: nodes.into_iter().map(|row| row.name.clone()).collect() }
    }

    pub fn contains(&self, row: &NodeRow) -> bool {
        self.nodes.contains(&row.name)
    }
}

/// A group as plugins see it.
#[derive(Clone, Debug, Default)]
pub struct GroupView {
    /// How many of what it consists of must be placed.
    pub fewest: usize,
    /// Key of the label whose value all nodes must share.
    pub topology: Option<String>,
    /// Its pods that have a node.
    pub scheduled: Vec<Arc<PodInfo>>,
}

/// A placement that would do, with the pods that would come there.
pub struct Offer<'a> {
    pub placement: &'a Placement,
    pub pods: Vec<Arc<PodInfo>>,
}

impl<'a> View<'a> {
    /// Rows of the nodes that may be looked at.
    pub fn rows(self) -> impl Iterator<Item = &'a NodeRow> {
        self.cache.rows().filter(move |row| self.allows(row))
    }

    /// Whether a node may be looked at.
    pub fn allows(self, row: &NodeRow) -> bool {
        self.placement.is_none_or(|placement| placement.contains(row))
    }

    /// How many nodes may be looked at.
    pub fn nodes(self) -> usize {
        match self.placement {
            None => self.cache.len(),
            Some(_) => self.rows().count(),
        }
    }
}
