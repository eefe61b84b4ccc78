//! What rules depend on besides Services and endpoints: this node, and how it is configured.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::model::Family;
use crate::model::traffic::Place;

/// How traffic from this node's pods is told from other traffic. Upstream: pkg/proxy/util/localdetector.go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LocalDetector {
    /// It is not.
    None,
    /// By source address.
    Cidr(IpNet),
    /// By the bridge it comes from.
    Bridge(String),
    /// By the beginning of the name of the interface it comes from.
    Prefix(String),
}

impl LocalDetector {
    /// For iptables: what matches traffic that is local, or that is not.
    pub fn iptables(&self, local: bool) -> Option<String> {
        let not = if local { "" } else { "! " };
        match self {
            Self::None => None,
            Self::Cidr(cidr) => Some(format!("{not}-s {cidr}")),
            Self::Bridge(name) => Some(format!("{not}-i {name}")),
            Self::Prefix(prefix) => Some(format!("{not}-i {prefix}+")),
        }
    }

    /// The same for nftables.
    pub fn nftables(&self, local: bool) -> Option<String> {
        let not = if local { "" } else { "!= " };
        match self {
            Self::None => None,
            Self::Cidr(cidr @ IpNet::V4(_)) => Some(format!("ip saddr {not}{cidr}")),
            Self::Cidr(cidr @ IpNet::V6(_)) => Some(format!("ip6 saddr {not}{cidr}")),
            Self::Bridge(name) => Some(format!("iifname {not}{name}")),
            Self::Prefix(prefix) => Some(format!("iifname {not}{prefix}*")),
        }
    }
}

/// What may change while we run; a change renders everything anew.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    pub place: Place,
    pub node_ip: IpAddr,
    pub masquerade_all: bool,
    pub detector: LocalDetector,
    /// Rules for external addresses of Services are wanted: gate AllowServiceExternalIPs.
    pub external_ips: bool,
    /// Ranges that cluster addresses of Services come from, of this family.
    pub service_cidrs: Vec<String>,
    /// Packets to node ports on loopback are counted (iptables, IPv4).
    pub localhost_accounted: bool,
}

/// What does not change while we run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Common {
    pub family: Family,
    pub masquerade_mark: u32,
    pub node_ports: NodePortAddresses,
    /// Node ports answer on loopback too (iptables, IPv4).
    pub localhost_node_ports: bool,
    /// The kernel tolerates out-of-window packets, so they need no rule that drops them.
    pub conntrack_tcp_liberal: bool,
    /// Those that the rule drops are counted (iptables).
    pub invalid_accounted: bool,
}

impl Common {
    /// The mark as rules spell it.
    pub fn mark(&self) -> String {
        format!("{:#010x}", self.masquerade_mark)
    }
}

/// The addresses of this machine that node ports answer on. Upstream: pkg/proxy/util/nodeport_addresses.go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodePortAddresses {
    /// None = all addresses.
    ranges: Option<Vec<IpNet>>,
}

impl NodePortAddresses {
    /// Ranges of other families do not count; none, and a range of everything, mean all addresses.
    pub fn new(family: Family, ranges: &[IpNet]) -> Self {
        let own: Vec<IpNet> = ranges.iter().filter(|r| Family::of(&r.addr()) == family).copied().collect();
        let all = own.is_empty() || own.iter().any(|r| r.prefix_len() == 0);
        Self { ranges: (!all).then_some(own) }
    }

    /// All addresses take node ports.
    pub fn all(&self) -> bool {
        self.ranges.is_none()
    }

    /// Those that take node ports.
    pub fn among(&self, local: &[IpAddr]) -> Vec<IpAddr> {
        let Some(ranges) = &self.ranges else { return local.to_vec() };
        let mut chosen: Vec<IpAddr> =
            local.iter().filter(|a| ranges.iter().any(|r| r.contains(*a))).copied().collect();
        chosen.sort_unstable();
        chosen.dedup();
        chosen
    }

    /// IPv4 loopback is among them, by intent or because everything is.
    pub fn loopback(&self) -> bool {
        let start = IpAddr::from([127, 0, 0, 0]);
        let Some(ranges) = &self.ranges else { return true };
        ranges.iter().any(|r| r.addr().is_ipv4() && (r.network().is_loopback() || r.contains(&start)))
    }
}
