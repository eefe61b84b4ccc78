//! Pods of a group go where all nodes share a value of the label that the group names: one placement for each value.
//! Where pods of the group are already, the others follow. Upstream: plugins/topologyaware/topology_placement.go.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::framework::{GroupView, Placement, Plugin, Reject, View};
use crate::model::{NodeRow, PodInfo};

pub const NAME: &str = "TopologyPlacementGenerator";

pub struct TopologyPlacement;

impl Plugin for TopologyPlacement {
    fn name(&self) -> &'static str {
        NAME
    }

    fn placements(&self, view: View<'_>, group: &GroupView) -> Result<Vec<Placement>, Reject> {
        let Some(key) = &group.topology else { return Ok(vec![Placement::new("", view.rows())]) };
        let required = domain_of(view, key, &group.scheduled).map_err(|why| {
            Reject::error(NAME, format!("cannot determine domain for already scheduled pods: {why}"))
        })?;
        let mut domains: BTreeMap<&str, Vec<&NodeRow>> = BTreeMap::new();
        for row in view.rows() {
            let domain = row.labels().get(key).filter(|d| required.is_none_or(|r| r == *d));
            if let Some(domain) = domain {
                domains.entry(domain).or_default().push(row);
            }
        }
        Ok(domains.into_iter().map(|(domain, rows)| Placement::new(domain, rows)).collect())
    }
}

/// Where the pods are that have a node; `None`: there is none. Upstream: getScheduledPodsTopologyDomain.
fn domain_of<'a>(view: View<'a>, key: &str, pods: &[Arc<PodInfo>]) -> Result<Option<&'a str>, String> {
    let mut found: Option<&str> = None;
    for pod in pods {
        let node = view.cache.node_of(&pod.uid).map_or("", |name| name);
        let row = view.cache.row(node).ok_or_else(|| {
            format!("getting node for pod {}: nodeinfo not found for node name {node:?}", pod.key())
        })?;
        let domain = row.labels().get(key);
        let domain = domain.ok_or_else(|| format!("no topology domain found for pod {}", pod.key()))?;
        match found {
            Some(other) if !other.is_empty() && other != domain => {
                return Err(format!("more than 1 domain found for pod group: {other}, {domain}"));
            }
            _ => found = Some(domain),
        }
    }
    Ok(found)
}
