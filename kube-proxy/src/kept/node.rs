//! The node.

use k8s_openapi::api::core::v1::Node;

/// Keeps addresses, labels, taints and ranges.
pub fn node(node: &mut Node) {
    node.metadata.owner_references = None;
    node.metadata.finalizers = None;
    node.metadata.annotations = None;
    if let Some(status) = &mut node.status {
        status.images = None;
        status.conditions = None;
        status.volumes_attached = None;
        status.volumes_in_use = None;
    }
}
