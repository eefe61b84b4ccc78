//! The namespaces that must exist. Upstream: `pkg/controlplane/controller/systemnamespaces`.

use registry::errors::ApiError;
use serde_json::json;

use crate::local::{Gvr, Local};

/// `kube-system` first: other hooks write into it.
const NAMES: [&str; 4] = ["kube-system", "kube-public", "kube-node-lease", "default"];

pub(super) async fn ensure(local: Local) -> Result<(), ApiError> {
    for name in NAMES {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        local.ensure(Gvr::NAMESPACES, "", &namespace).await?;
    }
    Ok(())
}
