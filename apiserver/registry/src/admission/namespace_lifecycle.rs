//! NamespaceLifecycle: nothing is created in a namespace that does not exist or is on its way out, and the three
//! system namespaces are not deleted. Upstream: `apiserver/pkg/admission/plugin/namespace/lifecycle/admission.go`.

use async_trait::async_trait;

use super::{Attributes, Operation, Plugin};
use crate::errors::{ApiError, Cause};

const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

/// The plugin.
pub struct NamespaceLifecycle;

#[async_trait]
impl Plugin for NamespaceLifecycle {
    fn name(&self) -> &'static str {
        "NamespaceLifecycle"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation != Operation::Connect
    }

    async fn admit(&self, a: &mut Attributes<'_>) -> Result<(), ApiError> {
        let is_namespace = a.is_resource("", "namespaces");
        if a.operation == Operation::Delete && is_namespace && IMMORTAL.contains(&a.name.as_str()) {
            return Err(a.forbidden("this namespace may not be deleted"));
        }
        if a.namespace.is_empty() || is_namespace || a.operation == Operation::Delete {
            return Ok(());
        }
        if a.is_resource("authorization.k8s.io", "localsubjectaccessreviews") {
            return Ok(());
        }
        let namespace = a.call.core.find("", "namespaces", "", &a.namespace).await?;
        let Some(namespace) = namespace else {
            return Err(ApiError::not_found("", "namespaces", &a.namespace));
        };
        let phase = namespace.str_at(&["status", "phase"]).unwrap_or("");
        if a.operation == Operation::Create && phase == "Terminating" {
            let mut error = a.forbidden(format!(
                "unable to create new content in namespace {} because it is being terminated",
                a.namespace
            ));
            if let Some(details) = error.details.as_mut() {
                details.causes.push(Cause {
                    reason: "NamespaceTerminating".into(),
                    message: format!("namespace {} is being terminated", a.namespace),
                    field: "metadata.namespace".into(),
                });
            }
            return Err(error);
        }
        Ok(())
    }
}
