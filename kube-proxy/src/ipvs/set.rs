//! The ipsets: names, types and comments. Upstream: pkg/proxy/ipvs/ipset.go, proxier.go ipsetInfo.

use crate::model::{Family, Protocol};

/// Every set, in the order of upstream's table. Sets that let traffic through come before the one that holds it up.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Set {
    LoopBack,
    ClusterIp,
    ExternalIp,
    ExternalIpLocal,
    LoadBalancer,
    LoadBalancerFw,
    LoadBalancerLocal,
    LoadBalancerSourceIp,
    LoadBalancerSourceCidr,
    NodePortTcp,
    NodePortLocalTcp,
    NodePortUdp,
    NodePortLocalUdp,
    NodePortSctp,
    NodePortLocalSctp,
    HealthCheckNodePort,
    IpvsIps,
}

/// The kernel's types of set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    HashIp,
    HashIpPort,
    HashIpPortIp,
    HashIpPortNet,
    BitmapPort,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::HashIp => "hash:ip",
            Self::HashIpPort => "hash:ip,port",
            Self::HashIpPortIp => "hash:ip,port,ip",
            Self::HashIpPortNet => "hash:ip,port,net",
            Self::BitmapPort => "bitmap:port",
        }
    }
}

/// A name is at most this long. Upstream truncates those of IPv6, so we do.
const LONGEST_NAME: usize = 31;

/// All of them.
pub const ALL: [Set; 17] = [
    Set::LoopBack,
    Set::ClusterIp,
    Set::ExternalIp,
    Set::ExternalIpLocal,
    Set::LoadBalancer,
    Set::LoadBalancerFw,
    Set::LoadBalancerLocal,
    Set::LoadBalancerSourceIp,
    Set::LoadBalancerSourceCidr,
    Set::NodePortTcp,
    Set::NodePortLocalTcp,
    Set::NodePortUdp,
    Set::NodePortLocalUdp,
    Set::NodePortSctp,
    Set::NodePortLocalSctp,
    Set::HealthCheckNodePort,
    Set::IpvsIps,
];

impl Set {
    fn spec(self) -> (&'static str, Kind, &'static str) {
        use Kind::{BitmapPort, HashIp, HashIpPort, HashIpPortIp, HashIpPortNet};
        match self {
            Self::LoopBack => (
                "LOOP-BACK",
                HashIpPortIp,
                "Kubernetes endpoints dst ip:port, source ip for solving hairpin purpose",
            ),
            Self::ClusterIp => {
                ("CLUSTER-IP", HashIpPort, "Kubernetes service cluster ip + port for masquerade purpose")
            }
            Self::ExternalIp => (
                "EXTERNAL-IP",
                HashIpPort,
                "Kubernetes service external ip + port for masquerade and filter purpose",
            ),
            Self::ExternalIpLocal => (
                "EXTERNAL-IP-LOCAL",
                HashIpPort,
                "Kubernetes service external ip + port with externalTrafficPolicy=local",
            ),
            Self::LoadBalancer => ("LOAD-BALANCER", HashIpPort, "Kubernetes service lb portal"),
            Self::LoadBalancerFw => (
                "LOAD-BALANCER-FW",
                HashIpPort,
                "Kubernetes service load balancer ip + port for load balancer with sourceRange",
            ),
            Self::LoadBalancerLocal => (
                "LOAD-BALANCER-LOCAL",
                HashIpPort,
                "Kubernetes service load balancer ip + port with externalTrafficPolicy=local",
            ),
            Self::LoadBalancerSourceIp => (
                "LOAD-BALANCER-SOURCE-IP",
                HashIpPortIp,
                "Kubernetes service load balancer ip + port + source IP for packet filter purpose",
            ),
            Self::LoadBalancerSourceCidr => (
                "LOAD-BALANCER-SOURCE-CIDR",
                HashIpPortNet,
                "Kubernetes service load balancer ip + port + source cidr for packet filter purpose",
            ),
            Self::NodePortTcp => {
                ("NODE-PORT-TCP", BitmapPort, "Kubernetes nodeport TCP port for masquerade purpose")
            }
            Self::NodePortLocalTcp => (
                "NODE-PORT-LOCAL-TCP",
                BitmapPort,
                "Kubernetes nodeport TCP port with externalTrafficPolicy=local",
            ),
            Self::NodePortUdp => {
                ("NODE-PORT-UDP", BitmapPort, "Kubernetes nodeport UDP port for masquerade purpose")
            }
            Self::NodePortLocalUdp => (
                "NODE-PORT-LOCAL-UDP",
                BitmapPort,
                "Kubernetes nodeport UDP port with externalTrafficPolicy=local",
            ),
            Self::NodePortSctp => (
                "NODE-PORT-SCTP-HASH",
                HashIpPort,
                "Kubernetes nodeport SCTP port for masquerade purpose with type 'hash ip:port'",
            ),
            Self::NodePortLocalSctp => (
                "NODE-PORT-LOCAL-SCTP-HASH",
                HashIpPort,
                "Kubernetes nodeport SCTP port with externalTrafficPolicy=local with type 'hash ip:port'",
            ),
            Self::HealthCheckNodePort => {
                ("HEALTH-CHECK-NODE-PORT", BitmapPort, "Kubernetes health check node port")
            }
            Self::IpvsIps => ("IPVS-IPS", HashIp, "Addresses on the ipvs interface"),
        }
    }

    /// The set's name in the kernel.
    pub fn name(self, family: Family) -> String {
        let prefix = if family == Family::V4 { "KUBE-" } else { "KUBE-6-" };
        let mut name = format!("{prefix}{}", self.spec().0);
        name.truncate(LONGEST_NAME);
        name
    }

    /// What rules say of it.
    pub fn comment(self) -> &'static str {
        self.spec().2
    }

    /// The command that makes it, unless it is there. Upstream: ipset/ipset.go createSet, setIPSetDefaults.
    pub fn create(self, family: Family) -> String {
        let kind = self.spec().1;
        let size = match (kind, family) {
            (Kind::BitmapPort, _) => "range 0-65535",
            (_, Family::V4) => "family inet hashsize 1024 maxelem 65536",
            (_, Family::V6) => "family inet6 hashsize 1024 maxelem 65536",
        };
        format!("create {} {} {size}", self.name(family), kind.as_str())
    }

    /// The set of node ports of a protocol.
    pub fn of_node_ports(protocol: Protocol, local: bool) -> Self {
        match (protocol, local) {
            (Protocol::Tcp, false) => Self::NodePortTcp,
            (Protocol::Tcp, true) => Self::NodePortLocalTcp,
            (Protocol::Udp, false) => Self::NodePortUdp,
            (Protocol::Udp, true) => Self::NodePortLocalUdp,
            (Protocol::Sctp, false) => Self::NodePortSctp,
            (Protocol::Sctp, true) => Self::NodePortLocalSctp,
        }
    }
}
