//! The node: what it has, how it is, telling the API server.
//!
//! [`status`] is pure; [`machine`] reads the machine; [`manager`] registers the node and keeps status and lease fresh.
//! Upstream: pkg/kubelet/kubelet_node_status.go, pkg/kubelet/nodestatus and component-helpers/apimachinery/lease, v1.37.

pub mod events;
pub mod features;
pub mod health;
pub mod lease;
pub mod machine;
pub mod manager;
pub mod resources;
pub mod status;
pub mod tunables;
pub mod version;
