//! NamespaceAutoProvision and NamespaceExists: a namespace that is not there is made, or is a refusal.
//! Upstream: `plugin/pkg/admission/namespace/{autoprovision,exists}/admission.go`.

use async_trait::async_trait;
use serde_json::json;

use super::{Attributes, Operation, Plugin};
use crate::errors::ApiError;
use crate::store::create::by_server;

fn concerns(a: &Attributes<'_>) -> bool {
    let namespace = a.kind.group.is_empty() && a.kind.kind == "Namespace";
    !a.namespace.is_empty() && !namespace
}

/// Creates the namespace of a new object.
pub struct NamespaceAutoProvision;

#[async_trait]
impl Plugin for NamespaceAutoProvision {
    fn name(&self) -> &'static str {
        "NamespaceAutoProvision"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    async fn admit(&self, a: &mut Attributes<'_>) -> Result<(), ApiError> {
        if a.call.request.dry_run || !concerns(a) {
            return Ok(());
        }
        if a.call.core.find("", "namespaces", "", &a.namespace).await?.is_some() {
            return Ok(());
        }
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": a.namespace.as_str()}});
        match by_server(a.call.core, "", "namespaces", &namespace).await {
            Err(error) if error.reason != "AlreadyExists" => Err(a.forbidden(error.message)),
            _ => Ok(()),
        }
    }
}

/// Refuses what is in no namespace that exists.
pub struct NamespaceExists;

#[async_trait]
impl Plugin for NamespaceExists {
    fn name(&self) -> &'static str {
        "NamespaceExists"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation != Operation::Connect
    }

    async fn validate(&self, a: &Attributes<'_>) -> Result<(), ApiError> {
        if !concerns(a) {
            return Ok(());
        }
        match a.call.core.find("", "namespaces", "", &a.namespace).await? {
            Some(_) => Ok(()),
            None => Err(ApiError::not_found("", "namespaces", &a.namespace)),
        }
    }
}
