//! Allocation of service addresses and ports.
//!
//! Addresses are claimed by creating an `IPAddress` object of that name, which only one service can do; node ports by a
//! conditional write of one bitmap. Both are undone when the service itself is not stored ([`Claims`]). Upstream also
//! repairs leaks periodically; that loop is not here yet.
//! Upstream: `pkg/registry/core/service/{storage/alloc.go,ipallocator,portallocator}`.

pub mod addresses;
pub mod families;
pub mod ports;

use std::sync::Arc;

use async_trait::async_trait;
use machinery::Value;

use crate::core::Core;
use crate::errors::ApiError;
use crate::strategy::{Call, Finish};

/// What one write claimed, and what it gives up once it is stored.
#[derive(Default)]
pub struct Changes {
    /// New addresses.
    pub addresses: Vec<String>,
    /// New ports.
    pub ports: Vec<u16>,
    /// Addresses no longer used.
    pub freed_addresses: Vec<String>,
    /// Ports no longer used.
    pub freed_ports: Vec<u16>,
}

/// Keeps or undoes changes.
pub struct Claims {
    core: Arc<Core>,
    changes: Changes,
}

impl Claims {
    /// Claims to settle when the write is over; `None` when nothing changes.
    pub fn boxed(call: &Call<'_>, changes: Changes) -> Option<Box<dyn Finish>> {
        let idle = changes.addresses.is_empty()
            && changes.ports.is_empty()
            && changes.freed_addresses.is_empty()
            && changes.freed_ports.is_empty();
        if idle {
            return None;
        }
        Some(Box::new(Claims { core: call.core.shared()?, changes }))
    }
}

#[async_trait]
impl Finish for Claims {
    async fn finish(self: Box<Self>, stored: bool) {
        let (addresses, ports) = if stored {
            (&self.changes.freed_addresses, &self.changes.freed_ports)
        } else {
            (&self.changes.addresses, &self.changes.ports)
        };
        release(&self.core, addresses, ports).await;
    }
}

/// Gives addresses and ports back. A failure leaves a leak, which is logged: nothing can be undone at this point.
pub async fn release(core: &Core, addresses: &[String], ports: &[u16]) {
    for address in addresses {
        if let Err(error) = addresses::release(core, address).await {
            tracing::warn!(
                "releasing service address {address}: {error}; delete the IPAddress object by hand"
            );
        }
    }
    if !ports.is_empty()
        && let Err(error) = ports::release(core, ports).await
    {
        tracing::warn!("releasing node ports {ports:?}: {error}");
    }
}

/// Text of a field of `spec`.
pub(crate) fn text<'a>(service: &'a Value, field: &str) -> &'a str {
    service.str_at(&["spec", field]).unwrap_or("")
}

/// Strings of a list in `spec`.
pub(crate) fn strings(service: &Value, field: &str) -> Vec<String> {
    let list = service.list_at(&["spec", field]).into_iter().flat_map(|l| l.iter());
    list.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Sets a field of `spec`; null removes it.
pub(crate) fn set(service: &mut Value, field: &str, value: impl Into<Value>) -> Result<(), ApiError> {
    let value = value.into();
    if value.is_null() {
        service.remove_path(&["spec", field]);
        return Ok(());
    }
    service.set_path(&["spec", field], value).map(|_| ()).map_err(ApiError::internal)
}

/// Every type but ExternalName has a cluster IP (or `None`).
pub(crate) fn needs_cluster_ip(service: &Value) -> bool {
    text(service, "type") != "ExternalName"
}

/// Whether node ports are allocated.
pub(crate) fn needs_node_port(service: &Value) -> bool {
    match text(service, "type") {
        "NodePort" => true,
        "LoadBalancer" => service.bool_at(&["spec", "allocateLoadBalancerNodePorts"]) != Some(false),
        _ => false,
    }
}

/// Whether a health check node port is allocated.
pub(crate) fn needs_health_check_port(service: &Value) -> bool {
    text(service, "type") == "LoadBalancer" && text(service, "externalTrafficPolicy") == "Local"
}

/// The addresses that were allocated: neither `None` nor empty.
pub(crate) fn allocated_addresses(service: &Value) -> Vec<String> {
    if !needs_cluster_ip(service) {
        return Vec::new();
    }
    let mut all = strings(service, "clusterIPs");
    if all.is_empty() {
        all.push(text(service, "clusterIP").to_owned());
    }
    all.retain(|ip| !ip.is_empty() && ip != "None");
    all
}
