//! The endpoints a Service should have, by port set. Pure.
//! Upstream: k8s.io/endpointslice utils.go podToEndpoint, getEndpointPorts; util/controller_utils.go.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, ObjectReference, Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::kept::{Container, Pod};
use crate::pods;

/// Endpoints that share their ports.
pub struct Group {
    pub ports: Vec<EndpointPort>,
    /// By [`identity`].
    pub endpoints: BTreeMap<String, Endpoint>,
}

/// Groups by the ports' text form.
pub type Groups = BTreeMap<String, Group>;

/// What makes two endpoints the same one, whatever their conditions. Upstream: util/endpointset.go hashEndpoint.
pub fn identity(endpoint: &Endpoint) -> String {
    let mut addresses = endpoint.addresses.clone();
    addresses.sort();
    let target = endpoint.target_ref.as_ref();
    let part = |field: Option<&String>| field.cloned().unwrap_or_default();
    [
        addresses.join(","),
        part(endpoint.hostname.as_ref()),
        part(endpoint.node_name.as_ref()),
        part(target.and_then(|t| t.namespace.as_ref())),
        part(target.and_then(|t| t.name.as_ref())),
        part(target.and_then(|t| t.uid.as_ref())),
    ]
    .join("|")
}

/// Ports in an order-free text form.
pub fn ports_key(ports: &[EndpointPort]) -> String {
    let mut texts: Vec<String> = ports
        .iter()
        .map(|p| {
            format!(
                "{}/{}/{}/{}",
                p.name.as_deref().unwrap_or_default(),
                p.protocol.as_deref().unwrap_or("TCP"),
                p.port.unwrap_or(0),
                p.app_protocol.as_deref().unwrap_or_default()
            )
        })
        .collect();
    texts.sort();
    texts.join(",")
}

/// The wanted endpoints of one address type, and the pods that had to be left out as their node is not known.
pub fn wanted(
    service: &Service,
    all_pods: &[Arc<Pod>],
    node: impl Fn(&str) -> Option<Arc<Node>>,
    address_type: &str,
) -> (Groups, Vec<String>) {
    let (mut groups, mut left_out) = (Groups::new(), Vec::new());
    let publish = publishes_unready(service);
    for pod in all_pods.iter().filter(|p| belongs(p)) {
        let ports = ports_of(service, pod);
        let group =
            groups.entry(ports_key(&ports)).or_insert_with(|| Group { ports, endpoints: BTreeMap::new() });
        let node = node(pods::node_name(pod));
        if node.is_none() && !publish {
            left_out.push(pod.name().to_string());
            continue;
        }
        let endpoint = endpoint_of(pod, node.as_deref(), service, address_type);
        if !endpoint.addresses.is_empty() {
            group.endpoints.insert(identity(&endpoint), endpoint);
        }
    }
    (groups, left_out)
}

/// Pods without address and finished pods have no endpoint; terminating ones keep theirs.
pub fn belongs(pod: &Pod) -> bool {
    let has_address = pod.status.as_ref().is_some_and(|s| {
        s.pod_ips.as_ref().is_some_and(|ips| !ips.is_empty())
            || s.pod_ip.as_ref().is_some_and(|ip| !ip.is_empty())
    });
    has_address && !pods::is_terminal(pod)
}

fn publishes_unready(service: &Service) -> bool {
    service.spec.as_ref().and_then(|s| s.publish_not_ready_addresses).unwrap_or(false)
}

fn endpoint_of(pod: &Pod, node: Option<&Node>, service: &Service, address_type: &str) -> Endpoint {
    let serving = pods::is_ready(pod);
    let terminating = pod.metadata.deletion_timestamp.is_some();
    let zone =
        node.and_then(|n| n.metadata.labels.as_ref()).and_then(|l| l.get("topology.kubernetes.io/zone"));
    Endpoint {
        addresses: addresses_of(pod, address_type),
        conditions: Some(EndpointConditions {
            ready: Some(publishes_unready(service) || (serving && !terminating)),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_string()),
            namespace: pod.metadata.namespace.as_deref().map(str::to_string),
            name: pod.metadata.name.as_deref().map(str::to_string),
            uid: pod.metadata.uid.as_deref().map(str::to_string),
            ..ObjectReference::default()
        }),
        node_name: Some(pods::node_name(pod).to_string()).filter(|n| !n.is_empty()),
        zone: zone.filter(|z| !z.is_empty()).cloned(),
        hostname: hostname_of(pod, service),
        ..Endpoint::default()
    }
}

pub fn addresses_of(pod: &Pod, address_type: &str) -> Vec<String> {
    let status = pod.status.as_ref();
    let all = status.and_then(|s| s.pod_ips.as_ref()).into_iter().flatten();
    all.filter_map(|ip| ip.ip.parse::<IpAddr>().ok())
        .filter(|ip| ip.is_ipv6() == (address_type == "IPv6"))
        .map(|ip| ip.to_string())
        .collect()
}

/// A pod's own name is published when it names the Service as its subdomain.
pub fn hostname_of(pod: &Pod, service: &Service) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let hostname = spec.hostname.as_ref().filter(|h| !h.is_empty())?;
    let same = spec.subdomain.is_some() && spec.subdomain.as_deref() == service.metadata.name.as_deref();
    (same && pod.metadata.namespace.as_deref() == service.metadata.namespace.as_deref())
        .then(|| hostname.to_string())
}

fn ports_of(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let ports = service.spec.as_ref().and_then(|s| s.ports.as_ref());
    ports
        .into_iter()
        .flatten()
        .filter_map(|port| {
            Some(EndpointPort {
                name: Some(port.name.clone().unwrap_or_default()),
                port: Some(find_port(pod, port)?),
                protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_string())),
                app_protocol: port.app_protocol.clone(),
            })
        })
        .collect()
}

/// A target port's number; names are looked up in the pod. Upstream: FindPort.
pub fn find_port(pod: &Pod, port: &ServicePort) -> Option<i32> {
    match &port.target_port {
        None => Some(port.port),
        Some(IntOrString::Int(0)) => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(name)) if name.is_empty() => Some(port.port),
        Some(IntOrString::String(name)) => {
            let spec = pod.spec.as_ref()?;
            let sidecars = spec.init_containers.iter().flatten().filter(|c| is_sidecar(c));
            let containers = spec.containers.iter().chain(sidecars);
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            containers
                .flat_map(|c| c.ports.iter().flatten())
                .find(|p| {
                    p.name.as_deref() == Some(name) && p.protocol.as_deref().unwrap_or("TCP") == protocol
                })
                .map(|p| p.container_port)
        }
    }
}

fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}
