//! What cluster to build: where, on which store, from which binaries.

use std::collections::BTreeMap;
use std::net::{IpAddr, UdpSocket};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Where API objects are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Store {
    /// The API server's own store.
    Embedded,
    /// An etcd beside it.
    Etcd,
}

impl Store {
    pub fn parse(text: &str) -> Result<Self> {
        match text {
            "embedded" => Ok(Self::Embedded),
            "etcd" => Ok(Self::Etcd),
            other => bail!("STORE={other}: it is either embedded or etcd"),
        }
    }
}

/// The daemons, named as their binaries.
pub const DAEMONS: [&str; 5] =
    ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy"];

/// Everything `up` needs to know.
#[derive(Clone)]
pub struct Spec {
    /// Certificates, data, logs and records.
    pub dir: PathBuf,
    pub store: Store,
    pub node: String,
    /// How many nodes; more than one only in network namespaces.
    pub nodes: u8,
    /// Addresses of the hosts of a control plane that is spread over several; empty for one on the first node alone.
    pub control_plane: Vec<IpAddr>,
    /// URL of the API server.
    pub server: String,
    /// The node's own address: machine's, or the namespace's.
    pub address: IpAddr,
    /// Network namespace to run in; none = the machine's own.
    pub netns: Option<String>,
    /// Root of the pods' cgroups below each controller; none = the hierarchy's root.
    pub cgroup_root: Option<String>,
    /// Folder with our binaries.
    pub bin: PathBuf,
    /// Single daemons taken from elsewhere, by name.
    pub replaced: BTreeMap<String, PathBuf>,
    pub kubectl: PathBuf,
    /// A docker archive whose images a registry beside the cluster serves; none = only the two images of the sample.
    pub images: Option<PathBuf>,
    pub proxy_mode: String,
    /// Nodes, pods and Services have IPv6 addresses, too; only in network namespaces.
    pub dual_stack: bool,
    /// The control plane consists of static pods of the first node's kubelet.
    pub static_pods: bool,
    /// More flags, by daemon.
    pub flags: BTreeMap<String, Vec<String>>,
}

/// Addresses of Services; its first is the API server's.
pub const SERVICE_CIDR: &str = "10.96.0.0/16";
/// The API server's address inside the cluster.
pub const SERVICE_IP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 96, 0, 1));
/// The cluster DNS server's address.
pub const DNS_IP: &str = "10.96.0.10";
/// Addresses of pods.
pub const POD_CIDR: &str = "10.244.0.0/16";
/// The one node's part of them.
pub const NODE_POD_CIDR: &str = "10.244.0.0/24";
/// The same in IPv6, where a cluster has both families.
pub const SERVICE_CIDR_6: &str = "fd00:96::/112";
pub const POD_CIDR_6: &str = "fd00:244::/56";
pub const NODE_POD_CIDR_6: &str = "fd00:244::/64";
/// The second address of the node with this number.
pub fn node_ip_6(number: u8) -> IpAddr {
    std::net::Ipv6Addr::new(0xfd00, 0x199, 0, 0, 0, 0, 0, number.into()).into()
}
/// Port of etcd's clients.
pub const ETCD_PORT: u16 = 2379;
/// Port of etcd's members among each other.
pub const ETCD_PEER_PORT: u16 = 2380;
/// Port of the API server.
pub const API_PORT: u16 = 6443;

impl Spec {
    /// Path of a daemon's binary.
    pub fn binary(&self, daemon: &str) -> String {
        self.replaced.get(daemon).cloned().unwrap_or_else(|| self.bin.join(daemon)).display().to_string()
    }

    /// A path below the cluster's folder, as text.
    pub fn path(&self, relative: &str) -> String {
        self.dir.join(relative).display().to_string()
    }

    /// URL of the registry beside the cluster, on the API server's host.
    pub fn registry_url(&self) -> String {
        self.server
            .replacen("https", "http", 1)
            .replace(&format!(":{API_PORT}"), &format!(":{}", crate::registry::PORT))
    }

    /// `first`, and `second` where the cluster has both families.
    pub fn families(&self, first: impl std::fmt::Display, second: impl std::fmt::Display) -> String {
        if self.dual_stack { format!("{first},{second}") } else { first.to_string() }
    }

    /// The containerd socket.
    pub fn runtime_socket(&self) -> String {
        self.path("run/containerd.sock")
    }
}

/// URL of the API server at `address`.
pub fn server(address: IpAddr) -> String {
    match address {
        IpAddr::V4(a) => format!("https://{a}:{API_PORT}"),
        IpAddr::V6(a) => format!("https://[{a}]:{API_PORT}"),
    }
}

/// The address this machine would use to reach others; loopback-only machines have none.
pub fn machine_address() -> Result<IpAddr> {
    // Connecting a datagram socket sends nothing; it only asks the kernel for a route.
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket
        .connect("192.0.2.1:9")
        .context("this machine has no address besides loopback: add one (ip addr add)")?;
    Ok(socket.local_addr()?.ip())
}

/// Reads `KUBE_APISERVER=...` and friends: single daemons from elsewhere.
pub fn replaced_from(env: impl Fn(&str) -> Option<String>) -> BTreeMap<String, PathBuf> {
    DAEMONS
        .iter()
        .filter_map(|d| Some(((*d).to_string(), PathBuf::from(env(&d.to_uppercase().replace('-', "_"))?))))
        .collect()
}

/// How many times longer than usual anything may take: `PATIENCE=5` on a machine that is emulated.
pub fn patience() -> u32 {
    std::env::var("PATIENCE").ok().and_then(|text| text.parse().ok()).filter(|n| *n > 0).unwrap_or(1)
}

/// Finds a program: as given, else along PATH.
pub fn find_program(name: &str, path: &str) -> Option<PathBuf> {
    path.split(':').map(|d| Path::new(d).join(name)).find(|p| p.is_file())
}
