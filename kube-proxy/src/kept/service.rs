//! A Service: all of the spec that leads traffic, and addresses of its load balancer.

use client::{Kept, Named};
use informer::Name;
use serde::Deserialize;

use super::Meta;

/// A Service, as far as rules depend on it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Service {
    pub metadata: Meta,
    pub spec: Option<Box<ServiceSpec>>,
    pub status: Option<Box<ServiceStatus>>,
}

/// What is wanted.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceSpec {
    #[serde(rename = "type")]
    pub type_: Option<Name>,
    #[serde(rename = "clusterIP")]
    pub cluster_ip: Option<Box<str>>,
    #[serde(rename = "clusterIPs")]
    pub cluster_ips: Option<Box<[Box<str>]>>,
    pub ip_families: Option<Box<[Name]>>,
    #[serde(rename = "externalIPs")]
    pub external_ips: Option<Box<[Box<str>]>>,
    pub ports: Option<Box<[ServicePort]>>,
    pub session_affinity: Option<Name>,
    pub session_affinity_config: Option<SessionAffinityConfig>,
    pub external_traffic_policy: Option<Name>,
    pub internal_traffic_policy: Option<Name>,
    pub load_balancer_source_ranges: Option<Box<[Box<str>]>>,
    pub health_check_node_port: Option<i32>,
}

/// A port.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServicePort {
    pub name: Option<Name>,
    pub protocol: Option<Name>,
    pub port: i32,
    pub node_port: Option<i32>,
}

/// How long clients stay with an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct SessionAffinityConfig {
    #[serde(rename = "clientIP")]
    pub client_ip: Option<ClientIpConfig>,
}

/// The same, by address.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClientIpConfig {
    pub timeout_seconds: Option<i32>,
}

/// What there is.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceStatus {
    pub load_balancer: Option<LoadBalancerStatus>,
}

/// What a load balancer has.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct LoadBalancerStatus {
    pub ingress: Option<Box<[LoadBalancerIngress]>>,
}

/// An address of it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LoadBalancerIngress {
    pub ip: Option<Box<str>>,
    pub ip_mode: Option<Name>,
}

impl Kept for Service {
    const TYPE: Option<(&'static str, &'static str)> = Some(("v1", "Service"));

    fn named(&self) -> Named<'_> {
        self.metadata.named()
    }
}

client::same_resource!(Service, k8s_openapi::api::core::v1::Service);
