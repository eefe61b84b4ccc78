//! Changes in the cluster that may make a pod fit.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;

use crate::model::PodInfo;

/// One change, as plugins judge it.
pub enum Change<'a> {
    NodeAdded(&'a Node),
    NodeUpdated {
        old: &'a Node,
        new: &'a Node,
    },
    /// A node went away.
    NodeGone,
    /// A pod was seen on a node (new, or just bound).
    PodAssigned(&'a PodInfo),
    /// Labels or requests of a placed pod changed.
    PodChanged {
        new: &'a PodInfo,
        smaller: bool,
    },
    /// A placed pod went away.
    PodGone(&'a Arc<PodInfo>),
    /// The waiting pod itself changed.
    Itself,
    /// A claim, volume, class or CSI object came or changed.
    Storage,
    /// Labels of a namespace changed.
    Namespace,
}
