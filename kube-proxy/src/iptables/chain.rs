//! Names of chains.

use std::net::SocketAddr;

use crate::hash;
use crate::model::PortId;

pub const SERVICES: &str = "KUBE-SERVICES";
pub const EXTERNAL_SERVICES: &str = "KUBE-EXTERNAL-SERVICES";
pub const NODEPORTS: &str = "KUBE-NODEPORTS";
pub const POSTROUTING: &str = "KUBE-POSTROUTING";
pub const MARK_MASQ: &str = "KUBE-MARK-MASQ";
pub const FORWARD: &str = "KUBE-FORWARD";
pub const PROXY_FIREWALL: &str = "KUBE-PROXY-FIREWALL";
pub const CANARY: &str = "KUBE-PROXY-CANARY";
/// The kubelet's chain; both write the same rule into it.
pub const KUBELET_FIREWALL: &str = "KUBE-FIREWALL";

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

impl Kind {
    fn prefix(self) -> &'static str {
        match self {
            Self::Cluster => "KUBE-SVC-",
            Self::Local => "KUBE-SVL-",
            Self::External => "KUBE-EXT-",
            Self::Firewall => "KUBE-FW-",
        }
    }
}

const ENDPOINT_PREFIX: &str = "KUBE-SEP-";

/// Name of a service port's chain.
pub fn of_port(kind: Kind, id: &PortId) -> String {
    hashed(kind.prefix(), &format!("{id}{}", id.protocol.as_str()))
}

/// Name of an endpoint's chain.
pub fn of_endpoint(id: &PortId, address: &SocketAddr) -> String {
    hashed(ENDPOINT_PREFIX, &format!("{id}{}{address}", id.protocol.as_str()))
}

/// Made for a service port or an endpoint, by us or upstream.
pub fn is_owned(name: &str) -> bool {
    [Kind::Cluster, Kind::Local, Kind::External, Kind::Firewall]
        .iter()
        .map(|k| k.prefix())
        .chain([ENDPOINT_PREFIX])
        .any(|p| name.starts_with(p))
}

/// Chain names are at most 28 letters.
fn hashed(prefix: &str, text: &str) -> String {
    format!("{prefix}{}", hash::letters(text, 16))
}
