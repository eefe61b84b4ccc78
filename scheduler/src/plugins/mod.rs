//! The plugins, one file each, named as upstream names them, and how a profile gets its own.

mod balanced_allocation;
mod default_selector;
pub mod deferred_pod_scheduling;
pub mod dynamic_resources;
pub mod extended_devices;
pub mod gang_scheduling;
mod image_locality;
pub mod inter_pod_affinity;
pub mod node_affinity;
mod node_declared_features;
pub mod node_name;
mod node_ports;
pub mod node_resources_fit;
mod node_unschedulable;
mod node_volume_limits;
mod pod_group_pods_count;
pub mod pod_topology_spread;
mod points;
pub mod registry;
mod scheduling_gates;
mod taint_toleration;
mod topology_aware;
pub mod volume_binding;
mod volume_match;
mod volume_provision;
pub mod volume_restrictions;
pub mod volume_zone;
