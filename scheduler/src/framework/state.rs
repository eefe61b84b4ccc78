//! What a cycle reads, and what plugins hand on within one cycle.

use std::sync::Arc;

use hashbrown::HashMap;

use super::Placement;
use crate::assumed::Assumed;
use crate::listers::Listers;
use crate::model::{Cache, Groups, PodInfo};
use crate::plugins::{
    dynamic_resources, inter_pod_affinity, node_volume_limits, pod_topology_spread, volume_binding,
    volume_restrictions, volume_zone,
};

type Hash = foldhash::fast::RandomState;

/// Pods that wait for room on a node, by node.
pub type Nominated = HashMap<String, Vec<Arc<PodInfo>>, Hash>;

/// All a cycle reads.
#[derive(Clone, Copy)]
pub struct View<'a> {
    pub cache: &'a Cache,
    pub listers: &'a Listers,
    pub nominated: &'a Nominated,
    pub groups: &'a Groups,
    /// Volumes and claims as they will be once what was decided is written.
    pub assumed: &'a Assumed,
    /// Nodes that may be looked at; `None`: all.
    pub placement: Option<&'a Placement>,
}

/// What plugins computed before filtering or scoring. Cloned where a change is tried out.
#[derive(Clone, Default)]
pub struct CycleState {
    pub spread: Option<pod_topology_spread::Counts>,
    pub spread_score: Option<pod_topology_spread::Scoring>,
    pub affinity: Option<inter_pod_affinity::Counts>,
    pub affinity_score: Option<inter_pod_affinity::Scoring>,
    pub volumes: Option<Arc<volume_binding::Claims>>,
    pub zones: Option<Arc<volume_zone::Zones>>,
    pub limited: Option<Arc<node_volume_limits::Wanted>>,
    pub exclusive: Option<volume_restrictions::Exclusive>,
    /// Shared by all clones: what is found for a node stays found.
    pub devices: Option<Arc<dynamic_resources::Devices>>,
}
