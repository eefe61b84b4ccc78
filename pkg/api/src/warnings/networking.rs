//! Services, their endpoints, ingresses and network policies. Upstream: `pkg/api/service/warnings.go`,
//! `pkg/registry/{networking,discovery}/*/strategy.go`, `pkg/registry/core/endpoint/strategy.go`.

use k8s_openapi::api::core::v1::{Endpoints, Service, ServiceSpec};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{IPBlock, Ingress, NetworkPolicy};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::ip;
use crate::validation::field::Path;
use crate::validation::{items, text};

/// About a service.
pub fn service(service: &Service) -> Vec<String> {
    let mut warnings = Vec::new();
    let hints = "service.kubernetes.io/topology-aware-hints";
    if service.metadata.annotations.as_ref().is_some_and(|a| a.contains_key(hints)) {
        let mode = "service.kubernetes.io/topology-mode";
        warnings.push(format!("annotation {hints} is deprecated, please use {mode} instead"));
    }
    if let Some(spec) = &service.spec {
        warnings.extend(service_spec(spec));
    }
    warnings
}

fn service_spec(spec: &ServiceSpec) -> Vec<String> {
    let mut warnings = Vec::new();
    let (kind, own, external) = (text(&spec.type_), text(&spec.cluster_ip), items(&spec.external_ips));
    let named = kind == "ExternalName";
    let headless = kind == "ClusterIP" && own == "None";
    if !own.is_empty() && own != "None" {
        warnings.extend(addresses(items(&spec.cluster_ips), "spec.clusterIPs"));
    }
    let mut tell = |when: bool, text: &str| {
        if when {
            warnings.push(text.to_owned());
        }
    };
    let affinity = text(&spec.session_affinity);
    tell(
        headless && !text(&spec.load_balancer_ip).is_empty(),
        "spec.loadBalancerIP is ignored for headless services",
    );
    tell(headless && !external.is_empty(), "spec.externalIPs is ignored for headless services");
    tell(headless && affinity != "None", "spec.SessionAffinity is ignored for headless services");
    warnings.extend(addresses(external, "spec.externalIPs"));
    if !external.is_empty() && !headless && !named {
        warnings.push(
            "spec.externalIPs is deprecated and may no longer be implemented in some clusters".to_owned(),
        );
    }
    warnings.extend(ip::address(text(&spec.load_balancer_ip), &Path::new("spec.loadBalancerIP")));
    let ranges = Path::new("spec.loadBalancerSourceRanges");
    for (i, range) in items(&spec.load_balancer_source_ranges).iter().enumerate() {
        warnings.extend(ip::network(range, &ranges.index(i)));
    }
    if named && !external.is_empty() {
        warnings.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".to_owned());
    }
    if !named && !text(&spec.external_name).is_empty() {
        warnings.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".to_owned());
    }
    if text(&spec.traffic_distribution) == "PreferClose" {
        warnings.push(
            "spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"".to_owned(),
        );
    }
    warnings
}

fn addresses(list: &[String], path: &str) -> Vec<String> {
    let path = Path::new(path);
    list.iter().enumerate().filter_map(|(i, address)| ip::address(address, &path.index(i))).collect()
}

/// About the addresses in the status of a service's load balancer.
pub fn service_status(service: &Service) -> Vec<String> {
    let balancer = service.status.as_ref().and_then(|s| s.load_balancer.as_ref());
    let list = balancer.map(|b| items(&b.ingress)).unwrap_or_default();
    balancer_addresses(list.iter().map(|i| text(&i.ip)))
}

/// About the addresses in the status of an ingress.
pub fn ingress_status(ingress: &Ingress) -> Vec<String> {
    let balancer = ingress.status.as_ref().and_then(|s| s.load_balancer.as_ref());
    let list = balancer.map(|b| items(&b.ingress)).unwrap_or_default();
    balancer_addresses(list.iter().map(|i| text(&i.ip)))
}

fn balancer_addresses<'a>(list: impl Iterator<Item = &'a str>) -> Vec<String> {
    let path = Path::new("status.loadBalancer.ingress");
    list.enumerate().filter_map(|(i, address)| ip::address(address, &path.index(i))).collect()
}

/// About a new ingress.
pub fn ingress(ingress: &Ingress) -> Vec<String> {
    let class = "kubernetes.io/ingress.class";
    let noted = ingress.metadata.annotations.as_ref().is_some_and(|a| a.contains_key(class));
    if !noted || ingress.spec.as_ref().is_some_and(|s| s.ingress_class_name.is_some()) {
        return Vec::new();
    }
    vec![format!("annotation \"{class}\" is deprecated, please use 'spec.ingressClassName' instead")]
}

/// About a network policy.
pub fn network_policy(policy: &NetworkPolicy) -> Vec<String> {
    let mut warnings = Vec::new();
    let Some(spec) = &policy.spec else { return warnings };
    let mut tell = |block: Option<&IPBlock>, peer: &Path| {
        let (Some(block), at) = (block, peer.child("ipBlock")) else { return };
        warnings.extend(ip::network(&block.cidr, &at.child("cidr")));
        for (i, cidr) in items(&block.except).iter().enumerate() {
            warnings.extend(ip::network(cidr, &at.child("except").index(i)));
        }
    };
    let (ingress, egress) = (Path::new("spec.ingress"), Path::new("spec.egress"));
    for (i, rule) in items(&spec.ingress).iter().enumerate() {
        for (j, peer) in items(&rule.from).iter().enumerate() {
            tell(peer.ip_block.as_ref(), &ingress.index(i).child("from").index(j));
        }
    }
    for (i, rule) in items(&spec.egress).iter().enumerate() {
        for (j, peer) in items(&rule.to).iter().enumerate() {
            tell(peer.ip_block.as_ref(), &egress.index(i).child("to").index(j));
        }
    }
    warnings
}

/// Controllers write addresses in canonical form.
fn managed(metadata: &ObjectMeta, label: &str, by: &[&str]) -> bool {
    let manager = metadata.labels.as_ref().and_then(|l| l.get(label));
    manager.is_some_and(|m| by.contains(&m.as_str()))
}

/// About a slice of endpoints; that its type of addresses is deprecated is told when it is new.
pub fn endpoint_slice(slice: &EndpointSlice, new: bool) -> Vec<String> {
    let mut warnings = Vec::new();
    if new && slice.address_type == "FQDN" {
        warnings.push("spec.addressType: FQDN endpoints are deprecated".to_owned());
    }
    let controllers = ["endpointslice-controller.k8s.io", "endpointslicemirroring-controller.k8s.io"];
    if managed(&slice.metadata, "endpointslice.kubernetes.io/managed-by", &controllers) {
        return warnings;
    }
    let path = Path::new("endpoints");
    for (i, endpoint) in items(&slice.endpoints).iter().enumerate() {
        for (j, address) in endpoint.addresses.iter().enumerate() {
            warnings.extend(ip::address(address, &path.index(i).child("addresses").index(j)));
        }
    }
    warnings
}

/// About endpoints.
pub fn endpoints(endpoints: &Endpoints) -> Vec<String> {
    let mut warnings = Vec::new();
    if managed(&endpoints.metadata, "endpoints.kubernetes.io/managed-by", &["endpoint-controller"]) {
        return warnings;
    }
    let path = Path::new("subsets");
    for (i, subset) in items(&endpoints.subsets).iter().enumerate() {
        let at = path.index(i);
        let lists = [("addresses", &subset.addresses), ("notReadyAddresses", &subset.not_ready_addresses)];
        for (field, list) in lists {
            for (j, address) in items(list).iter().enumerate() {
                warnings.extend(ip::address(&address.ip, &at.child(field).index(j).child("ip")));
            }
        }
    }
    warnings
}
