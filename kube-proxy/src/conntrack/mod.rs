//! Removes UDP flows that lead to endpoints which no longer serve.
//!
//! The kernel remembers where a flow was sent; one without pauses would go on to an endpoint that is gone for ever.
//! [`Frontends`] decides (pure), [`netlink`] lists and deletes. Upstream: pkg/proxy/conntrack/cleanup.go.

pub mod netlink;

use std::net::SocketAddr;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

use crate::model::Protocol;
use crate::model::table::Table;

/// A flow as the kernel remembers it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flow {
    /// Who began it.
    pub source: SocketAddr,
    /// What it was addressed to.
    pub destination: SocketAddr,
    /// Who answers.
    pub answers: SocketAddr,
}

/// What UDP Services are addressed by, and their serving endpoints.
#[derive(Default)]
pub struct Frontends {
    addresses: HashMap<SocketAddr, Arc<HashSet<SocketAddr>>>,
    node_ports: HashMap<u16, Arc<HashSet<SocketAddr>>>,
}

impl Frontends {
    /// Reads them from the table. Policies and topology do not count: a change of those leaves flows where they are.
    pub fn new(table: &Table) -> Self {
        let mut frontends = Self::default();
        for (key, entry) in table.iter() {
            if entry.ports.iter().all(|p| p.id.protocol != Protocol::Udp) {
                continue;
            }
            let endpoints = entry.endpoints(key, table.node(), table.family());
            for port in entry.ports.iter().filter(|p| p.id.protocol == Protocol::Udp) {
                let all = endpoints.get(&port.id).map_or(&[][..], Vec::as_slice);
                let serving: HashSet<SocketAddr> =
                    all.iter().filter(|e| e.serving).map(|e| e.address).collect();
                let serving = Arc::new(serving);
                let outside = port.balancer_ips.iter().chain(&port.external_ips);
                for ip in outside.chain([&port.cluster_ip]) {
                    frontends.addresses.insert(SocketAddr::new(*ip, port.port), serving.clone());
                }
                // Only the port tells such flows, so without endpoints other hosts' would be deleted as well.
                if port.node_port != 0 && !serving.is_empty() {
                    frontends.node_ports.insert(port.node_port, serving);
                }
            }
        }
        frontends
    }

    /// There is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.addresses.is_empty()
    }

    /// The flow is to a Service, but answered by none of its serving endpoints.
    pub fn is_stale(&self, flow: &Flow) -> bool {
        let to = flow.destination;
        let strays =
            |serving: Option<&Arc<HashSet<SocketAddr>>>| serving.is_some_and(|s| !s.contains(&flow.answers));
        strays(self.addresses.get(&to)) || strays(self.node_ports.get(&to.port()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::model::Family;

    fn frontends(conditions: &serde_json::Value) -> Frontends {
        let mut table = Table::new(Family::V4, "here", Timestamp::UNIX_EPOCH);
        let service = json!({"metadata": {}, "spec": {"type": "NodePort", "clusterIP": "172.30.0.10", "externalIPs": ["203.0.113.1"],
            "ports": [{"name": "dns", "port": 53, "nodePort": 30053, "protocol": "UDP"}, {"name": "tcp", "port": 53, "protocol": "TCP"}]}});
        table.set_service("ns/dns", Some(&serde_json::from_value(service).expect("a Service")));
        let slice = json!({"metadata": {"name": "a", "namespace": "ns", "labels": {"kubernetes.io/service-name": "dns"}},
            "addressType": "IPv4", "ports": [{"name": "dns", "port": 5353, "protocol": "UDP"}],
            "endpoints": [{"addresses": ["10.0.0.1"], "conditions": conditions}]});
        table.set_slice(&Arc::new(serde_json::from_value(slice).expect("a slice")));
        Frontends::new(&table)
    }

    fn flow(to: &str, answers: &str) -> Flow {
        let address = |text: &str| text.parse().expect("an address");
        Flow { source: address("10.0.0.9:999"), destination: address(to), answers: address(answers) }
    }

    #[test]
    fn flows_stay_with_serving_endpoints_only() {
        let serving = frontends(&json!({"ready": false, "serving": true, "terminating": true}));
        for (to, answers, stale) in [
            ("172.30.0.10:53", "10.0.0.1:5353", false),
            ("172.30.0.10:53", "10.0.0.2:5353", true),
            ("203.0.113.1:53", "203.0.113.1:53", true),
            ("192.0.2.1:30053", "10.0.0.2:5353", true),
            ("192.0.2.1:30053", "10.0.0.1:5353", false),
            ("8.8.8.8:53", "8.8.8.8:53", false),
        ] {
            assert_eq!(serving.is_stale(&flow(to, answers)), stale, "{to} {answers}");
        }
    }

    #[test]
    fn without_endpoints_node_ports_are_left_alone() {
        let none = frontends(&json!({"ready": false, "serving": false}));
        assert!(none.is_stale(&flow("172.30.0.10:53", "10.0.0.1:5353")));
        assert!(!none.is_stale(&flow("192.0.2.1:30053", "10.0.0.1:5353")));
    }
}
