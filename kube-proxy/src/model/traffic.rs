//! Chooses a service port's endpoints by traffic policy, readiness and topology hints.
//! Upstream: pkg/proxy/topology.go CategorizeEndpoints.

use super::endpoint::Endpoint;
use super::service::ServicePort;

/// Where this node is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Place {
    pub node: String,
    /// From the node's label; "" when it has none.
    pub zone: String,
}

/// A service port's usable endpoints, as indexes into the list they were chosen from.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Choice {
    /// For traffic that may go anywhere.
    pub cluster: Vec<usize>,
    /// For traffic that must stay on the node.
    pub local: Vec<usize>,
    /// Union of both.
    pub reachable: Vec<usize>,
    /// Some node has a usable endpoint, this one or another.
    pub any: bool,
}

/// How traffic is kept near.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Topology {
    Anywhere,
    SameZone,
    SameNode,
}

/// Chooses. Ready endpoints first; while there are none, those that still serve though they terminate.
pub fn choose(service: &ServicePort, endpoints: &[Endpoint], place: &Place) -> Choice {
    let mut choice = Choice::default();
    let leaving = |e: &Endpoint| e.serving && e.terminating;
    if service.uses_cluster_endpoints() {
        let topology = topology_of(endpoints, place);
        choice.cluster = filter(endpoints, |e| e.ready && near(e, topology, place));
        if choice.cluster.is_empty() {
            choice.cluster = filter(endpoints, leaving);
        }
        choice.any = !choice.cluster.is_empty();
    }
    if !service.uses_local_endpoints() {
        choice.reachable.clone_from(&choice.cluster);
        return choice;
    }
    choice.any |= endpoints.iter().any(|e| e.ready || leaving(e));
    choice.local = filter(endpoints, |e| e.local && e.ready);
    if choice.local.is_empty() {
        choice.local = filter(endpoints, |e| e.local && leaving(e));
    }
    choice.reachable = choice.cluster.iter().chain(&choice.local).copied().collect();
    choice.reachable.sort_unstable();
    choice.reachable.dedup();
    choice
}

fn filter(endpoints: &[Endpoint], keep: impl Fn(&Endpoint) -> bool) -> Vec<usize> {
    endpoints.iter().enumerate().filter(|(_, e)| keep(e)).map(|(i, _)| i).collect()
}

/// Hints count only when every ready endpoint has one and at least one names this place.
fn topology_of(endpoints: &[Endpoint], place: &Place) -> Topology {
    let hinted = |names: fn(&Endpoint) -> &Vec<String>, here: &str| {
        let mut ready = endpoints.iter().filter(|e| e.ready).peekable();
        ready.peek().is_some()
            && ready.clone().all(|e| !names(e).is_empty())
            && ready.any(|e| names(e).iter().any(|n| n == here))
    };
    if hinted(|e| &e.nodes, &place.node) {
        Topology::SameNode
    } else if hinted(|e| &e.zones, &place.zone) {
        Topology::SameZone
    } else {
        Topology::Anywhere
    }
}

fn near(endpoint: &Endpoint, topology: Topology, place: &Place) -> bool {
    match topology {
        Topology::Anywhere => true,
        Topology::SameNode => endpoint.nodes.contains(&place.node),
        Topology::SameZone => endpoint.zones.contains(&place.zone),
    }
}
