//! The two priority classes of system pods. Upstream: `pkg/registry/scheduling/rest/storage_scheduling.go`.

use registry::errors::ApiError;
use serde_json::json;

use crate::local::{Gvr, Local};

/// Name, value and description, as every cluster has them.
const CLASSES: [(&str, i64, &str); 2] = [
    (
        "system-node-critical",
        2_000_001_000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
    (
        "system-cluster-critical",
        2_000_000_000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
];

pub(super) async fn ensure(local: Local) -> Result<(), ApiError> {
    for (name, value, description) in CLASSES {
        let class = json!({
            "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name},
            "value": value, "description": description, "preemptionPolicy": "PreemptLowerPriority",
        });
        local.ensure(Gvr::PRIORITY_CLASSES, "", &class).await?;
    }
    Ok(())
}
