//! Services: themselves, node ports, load balancers. Upstream: evaluator/core/services.go.

use k8s_openapi::api::core::v1::Service;

use super::super::resources::{Resources, count};

pub const NAMES: &[&str] = &["services", "services.nodeports", "services.loadbalancers"];

fn kind(service: &Service) -> &str {
    service.spec.as_ref().and_then(|s| s.type_.as_deref()).unwrap_or_default()
}

/// What a service uses.
pub fn usage(service: &Service) -> Resources {
    let spec = service.spec.as_ref();
    let ports = spec.and_then(|s| s.ports.as_deref()).unwrap_or_default();
    let balanced = kind(service) == "LoadBalancer";
    // Numbers may not be there yet: it is the wish that counts, unless it is not to have any.
    let node_ports = match kind(service) {
        "NodePort" => ports.len(),
        "LoadBalancer" if spec.and_then(|s| s.allocate_load_balancer_node_ports) == Some(false) => {
            ports.iter().filter(|p| p.node_port.is_some_and(|n| n != 0)).count()
        }
        "LoadBalancer" => ports.len(),
        _ => 0,
    };
    Resources::from([
        ("services".to_string(), count(1)),
        ("services.nodeports".to_string(), count(node_ports)),
        ("services.loadbalancers".to_string(), count(usize::from(balanced))),
    ])
}

/// The change may make room.
pub fn matters(old: &Service, new: &Service) -> bool {
    let charged =
        |s: &Service| Some(kind(s)).filter(|k| matches!(*k, "NodePort" | "LoadBalancer")).map(str::to_string);
    charged(old) != charged(new)
}
