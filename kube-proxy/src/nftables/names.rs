//! Names in our table.

use std::net::SocketAddr;

use crate::hash;
use crate::model::PortId;

pub const TABLE: &str = "kube-proxy";

pub const SERVICES: &str = "services";
pub const MASQUERADING: &str = "masquerading";
pub const REJECT: &str = "reject-chain";
pub const SERVICE_CHECK: &str = "service-endpoints-check";
pub const NODE_PORT_CHECK: &str = "nodeport-endpoints-check";
pub const CLUSTER_IPS_CHECK: &str = "cluster-ips-check";
pub const FIREWALL_CHECK: &str = "firewall-check";
pub const NODE_PORT_IPS: &str = "nodeport-ips";

/// Sets and maps that Services put elements into.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum Container {
    ClusterIps,
    ServiceIps,
    FirewallIps,
    NoEndpointServices,
    NoEndpointNodePorts,
    ServiceNodePorts,
    Hairpin,
}

impl Container {
    pub const ALL: [Self; 7] = [
        Self::ClusterIps,
        Self::ServiceIps,
        Self::FirewallIps,
        Self::NoEndpointServices,
        Self::NoEndpointNodePorts,
        Self::ServiceNodePorts,
        Self::Hairpin,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::ClusterIps => "cluster-ips",
            Self::ServiceIps => "service-ips",
            Self::FirewallIps => "firewall-ips",
            Self::NoEndpointServices => "no-endpoint-services",
            Self::NoEndpointNodePorts => "no-endpoint-nodeports",
            Self::ServiceNodePorts => "service-nodeports",
            Self::Hairpin => "hairpin-connections",
        }
    }

    /// `set` or `map`.
    pub fn kind(self) -> &'static str {
        match self {
            Self::ClusterIps | Self::Hairpin => "set",
            _ => "map",
        }
    }
}

/// The kinds of chain that a service port has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// To endpoints anywhere.
    Cluster,
    /// To endpoints on this node.
    Local,
    /// From outside addresses.
    External,
    /// Source ranges of the load balancer.
    Firewall,
}

/// Name of a service port's chain.
pub fn of_port(kind: Kind, id: &PortId) -> String {
    let prefix = match kind {
        Kind::Cluster => "service-",
        Kind::Local => "local-",
        Kind::External => "external-",
        Kind::Firewall => "firewall-",
    };
    format!("{prefix}{}", unique(&port(id)))
}

/// Prefix of the sets that remember which client has which endpoint.
pub const AFFINITY: &str = "affinity-";

/// Names of an endpoint's chain and of its set of clients; only with session affinity.
pub fn of_endpoint(id: &PortId, address: &SocketAddr) -> (String, String) {
    // Colons of IPv6 are not allowed in names.
    let ip = address.ip().to_string().replace(':', ".");
    let unique = unique(&format!("{}__{ip}/{}", port(id), address.port()));
    (format!("endpoint-{unique}"), format!("{AFFINITY}{unique}"))
}

/// Made for a service port or an endpoint, by us or upstream.
pub fn is_owned(chain: &str) -> bool {
    chain.contains('/')
}

fn port(id: &PortId) -> String {
    format!("{}/{}/{}", id.service, id.protocol.as_str(), id.port)
}

/// The kernel's limit is 256 letters, of which prefixes may take 16.
const LONGEST: usize = 240;

/// A hash in front tells names apart that were cut, or that differ in a single letter.
fn unique(text: &str) -> String {
    let mut name = format!("{}-{text}", hash::letters(text, 8));
    if name.len() > LONGEST {
        name.truncate(LONGEST - 3);
        name.push_str("...");
    }
    name
}
