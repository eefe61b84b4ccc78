//! In which order nodes are looked at: one of each zone in turn, so that a search that ends early has seen all zones.
//! Upstream: pkg/scheduler/backend/cache/node_tree.go.

use hashbrown::HashMap;

use super::node::NodeRow;
use super::node_labels::NodeLabels;

const ZONE: [&str; 2] = ["topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"];
const REGION: [&str; 2] = ["topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region"];

/// Upstream: component-helpers/node/topology GetZoneKey.
fn zone(labels: &NodeLabels) -> (&str, &str) {
    let get = |keys: [&str; 2]| keys.iter().find_map(|k| labels.get(k)).unwrap_or_default();
    (get(REGION), get(ZONE))
}

/// Positions of the rows that have a node.
pub fn by_zone(rows: &[NodeRow]) -> Vec<usize> {
    let mut zones: Vec<Vec<usize>> = Vec::new();
    let mut numbers: HashMap<(&str, &str), usize> = HashMap::new();
    for row in rows.iter().filter(|r| r.node.is_some()) {
        let number = *numbers.entry(zone(row.labels())).or_insert_with(|| {
            zones.push(Vec::new());
            zones.len() - 1
        });
        zones[number].push(row.at);
    }
    let longest = zones.iter().map(Vec::len).max().unwrap_or(0);
    (0..longest).flat_map(|i| zones.iter().filter_map(move |z| z.get(i).copied())).collect()
}
