//! What rules depend on from this node: its addresses, zone and pod range.

use std::net::IpAddr;
use std::time::Duration;

use client::{Api, Client};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::model::Family;
use crate::options::Options;
use crate::settings::LocalDetector;

/// A taint of nodes that a cluster autoscaler is about to remove. Upstream: healthcheck ToBeDeletedTaint.
const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";

/// Reads the node until it has an address, for about two minutes. Upstream: cmd/kube-proxy/app/server.go getNodeIPs.
pub async fn read(client: &Client, name: &str, token: &CancellationToken) -> Option<Node> {
    let nodes: Api<Node> = client.all();
    let mut pause = Duration::from_millis(500);
    for _ in 0..8 {
        match nodes.get(name).await {
            Ok(node) if !addresses(&node).is_empty() => return Some(node),
            Ok(_) => warn!(node = name, "The node has no address yet"),
            Err(error) => warn!(node = name, %error, "Reading the node failed"),
        }
        tokio::select! {
            () = token.cancelled() => return None,
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(Duration::from_secs(30));
    }
    None
}

/// Internal addresses, else external ones.
fn addresses(node: &Node) -> Vec<IpAddr> {
    let all = node.status.iter().flat_map(|s| s.addresses.iter().flatten());
    let of = |kind: &str| {
        all.clone().filter(|a| a.type_ == kind).filter_map(|a| net::parse_ip(&a.address)).collect::<Vec<_>>()
    };
    let internal = of("InternalIP");
    if internal.is_empty() { of("ExternalIP") } else { internal }
}

/// The node's address of a family: as bound to, else as the node says, else loopback.
pub fn address(options: &Options, node: Option<&Node>, family: Family) -> IpAddr {
    let bound = net::parse_ip(&options.config.bind_address)
        .filter(|a| !a.is_unspecified() && Family::of(a) == family);
    let of_node = || node.map(addresses).into_iter().flatten().find(|a| Family::of(a) == family);
    bound.or_else(of_node).unwrap_or(match family {
        Family::V4 => IpAddr::from([127, 0, 0, 1]),
        Family::V6 => IpAddr::from(std::net::Ipv6Addr::LOCALHOST),
    })
}

/// The zone label.
pub fn zone(node: Option<&Node>) -> String {
    let labels = node.and_then(|n| n.metadata.labels.as_ref());
    labels.and_then(|l| l.get("topology.kubernetes.io/zone")).cloned().unwrap_or_default()
}

/// The node may take new connections: it exists and is not about to be removed.
pub fn eligible(node: Option<&Node>) -> bool {
    node.is_some_and(|n| {
        let taints = n.spec.iter().flat_map(|s| s.taints.iter().flatten());
        n.metadata.deletion_timestamp.is_none() && !taints.into_iter().any(|t| t.key == TO_BE_DELETED)
    })
}

/// How local traffic is told, by the configured mode.
pub fn detector(options: &Options, node: Option<&Node>, family: Family) -> LocalDetector {
    let cidr = |found: Option<IpNet>, what: &str| match found {
        Some(cidr) => LocalDetector::Cidr(cidr),
        None => {
            debug!(
                family = family.as_str(),
                "No {what} for this family: local traffic is not told from other traffic"
            );
            LocalDetector::None
        }
    };
    let of_family = |nets: &[IpNet]| nets.iter().find(|n| Family::of(&n.addr()) == family).copied();
    match options.config.detect_local_mode.as_str() {
        "NodeCIDR" => {
            let spec = node.and_then(|n| n.spec.as_ref());
            let texts = spec.iter().flat_map(|s| s.pod_cidrs.iter().flatten().chain(&s.pod_cidr));
            let nets: Vec<IpNet> = texts.filter_map(|c| c.parse().ok()).collect();
            cidr(of_family(&nets), "pod range of the node")
        }
        "BridgeInterface" => LocalDetector::Bridge(options.config.detect_local.bridge_interface.clone()),
        "InterfaceNamePrefix" => {
            LocalDetector::Prefix(options.config.detect_local.interface_name_prefix.clone())
        }
        _ => cidr(of_family(&options.cluster_cidrs), "cluster range"),
    }
}

/// This machine's addresses.
pub fn local_addresses() -> Vec<IpAddr> {
    let interfaces = nix::ifaddrs::getifaddrs().into_iter().flatten();
    let addresses = interfaces.filter_map(|i| {
        let address = i.address?;
        let v4 = address.as_sockaddr_in().map(|a| IpAddr::from(a.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::from(a.ip())))
    });
    addresses.collect()
}
