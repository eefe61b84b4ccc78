//! The Service `default/kubernetes` and its endpoints: how pods reach this server.
//!
//! One server writes its own address. Several servers on one etcd need leases to know of each other, which is not done
//! yet. Upstream: `pkg/controlplane/controller/kubernetesservice`, `pkg/controlplane/reconcilers`.

use std::net::{IpAddr, SocketAddr};

use registry::errors::ApiError;
use serde_json::{Value, json};

use crate::local::{Gvr, Local};
use crate::options::Config;

/// What the service is made of.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    /// First address of each service range.
    cluster_ips: Vec<IpAddr>,
    address: IpAddr,
    port: u16,
    node_port: u16,
    enabled: bool,
}

impl Facts {
    pub(super) fn new(config: &Config, address: SocketAddr) -> Self {
        let first = |net: &ipnet::IpNet| match net.network() {
            IpAddr::V4(ip) => IpAddr::from((u32::from(ip) + 1).to_be_bytes()),
            IpAddr::V6(ip) => IpAddr::from((u128::from(ip) + 1).to_be_bytes()),
        };
        Self {
            // The service is of one family: the primary range's.
            cluster_ips: config.service_cidrs.iter().take(1).map(first).collect(),
            address: address.ip(),
            port: address.port(),
            node_port: config.kubernetes_node_port,
            enabled: config.endpoint_reconciler != "none",
        }
    }

    fn service(&self) -> Value {
        let ip = self.cluster_ips.first().map(ToString::to_string);
        let mut port = json!({"name": "https", "protocol": "TCP", "port": 443, "targetPort": self.port});
        if self.node_port != 0 {
            port["nodePort"] = json!(self.node_port);
        }
        let kind = if self.node_port == 0 { "ClusterIP" } else { "NodePort" };
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "kubernetes", "namespace": "default",
                "labels": {"provider": "kubernetes", "component": "apiserver"}},
            "spec": {"clusterIP": ip, "ports": [port], "sessionAffinity": "None", "type": kind,
                "ipFamilyPolicy": "SingleStack"},
        })
    }

    fn endpoints(&self) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Endpoints",
            "metadata": {"name": "kubernetes", "namespace": "default",
                "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
            "subsets": [{"addresses": [{"ip": self.address.to_string()}],
                "ports": [{"name": "https", "port": self.port, "protocol": "TCP"}]}],
        })
    }

    fn slice(&self) -> Value {
        let family = if self.address.is_ipv4() { "IPv4" } else { "IPv6" };
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": "kubernetes", "namespace": "default",
                "labels": {"kubernetes.io/service-name": "kubernetes"}},
            "addressType": family,
            "endpoints": [{"addresses": [self.address.to_string()], "conditions": {"ready": true}}],
            "ports": [{"name": "https", "port": self.port, "protocol": "TCP"}],
        })
    }
}

pub(super) async fn ensure(local: Local, facts: Facts) -> Result<(), ApiError> {
    local.ensure(Gvr::SERVICES, "default", &facts.service()).await?;
    if !facts.enabled {
        return Ok(());
    }
    write(&local, Gvr::ENDPOINTS, facts.endpoints(), "subsets").await?;
    write(&local, Gvr::SLICES, facts.slice(), "endpoints").await
}

/// Creates the object, or updates it when the part that holds the addresses differs.
async fn write(local: &Local, gvr: Gvr, mut object: Value, part: &str) -> Result<(), ApiError> {
    let Some(found) = local.get(gvr, "default", "kubernetes").await? else {
        return local.create(gvr, "default", &object).await;
    };
    let present = found.get(part).and_then(|v| machinery::value::from_value::<Value>(v).ok());
    if present.as_ref() == Some(&object[part]) {
        return Ok(());
    }
    object["metadata"]["resourceVersion"] =
        json!(found.str_at(&["metadata", "resourceVersion"]).unwrap_or_default());
    local.update(gvr, "default", &object).await
}
