//! Validating admission policies: says in their status what in their expressions does not fit the types of objects.
//!
//! [`kinds`] finds the kinds a policy is about, [`plan`] decides; what does the checking is `cel::admission`. Types come
//! from the server's OpenAPI documents, those of built-in kinds too, which upstream has linked in.
//! Upstream: pkg/controller/validatingadmissionpolicystatus/controller.go.

mod kinds;
mod plan;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use cel::DeclType;
use client::{Client, Meta, Patch, PatchParams, Request};
use component::app::Error;
use controller::WorkQueue;
use informer::{Event, Options, Store};
use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy as Policy;
use machinery::{Value, json as tree};
use serde_json::json;

use self::kinds::{Kind, param_kind};
use self::plan::{Plan, View};
use crate::context::Context;
use crate::descriptor::Running;

const MANAGER: &str = "validatingadmissionpolicy-status";

struct Shell {
    client: Client,
    policies: Store<Policy>,
}

/// Builds the controller.
pub fn build(context: &Context) -> Result<Running, Error> {
    let policies = context.factory.informer::<Policy>(Options::default());
    let shell = Arc::new(Shell { client: context.client(), policies: policies.store() });
    let queue: WorkQueue<String> = WorkQueue::new("validatingadmissionpolicy-status");
    let to = queue.clone();
    policies.subscribe(move |event| {
        if !matches!(event, Event::Deleted(_)) {
            to.add(event.object().name().to_string());
        }
    });
    let workers = context.workers("concurrent-validating-admission-policy-status-syncs");
    let token = context.token.clone();
    Ok(Box::pin(async move {
        if !policies.wait_synced(&token).await {
            return;
        }
        queue
            .run(workers, &token, move |name: String| {
                let shell = shell.clone();
                async move { shell.sync(&name).await }
            })
            .await;
    }))
}

/// The types of kinds, by kind; those that nobody describes are not there.
type Types = HashMap<Kind, Option<DeclType>>;

impl Shell {
    async fn sync(&self, name: &str) -> Result<Option<Duration>, String> {
        let Some(policy) = self.policies.get(name) else { return Ok(None) };
        if plan::is_observed(&policy) {
            return Ok(None);
        }
        let failed = |error: client::Error| format!("ValidatingAdmissionPolicy {name}: {error}");
        let found = self.client.discover().await.map_err(failed)?;
        let kinds = kinds::to_check(&policy, &found.resources);
        let types = self.types(kinds.iter().chain(param_kind(&policy).as_ref())).await.map_err(failed)?;
        let Plan::Tell(status) = plan::plan(&View { policy: &policy, kinds: &kinds, types: &types }) else {
            return Ok(None);
        };
        let patch = Patch::Apply(json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": name}, "status": status,
        }));
        let params =
            PatchParams { field_manager: MANAGER.to_string(), force: true, ..PatchParams::default() };
        match self.client.all::<Policy>().patch_status(name, &patch, &params).await {
            Err(error) if !error.is_not_found() => Err(failed(error)),
            _ => Ok(None),
        }
    }

    /// Each document is fetched once. What the server has no document of, or one that is of no use, is left out: a check
    /// that cannot be made says nothing.
    async fn types(&self, kinds: impl Iterator<Item = &Kind>) -> client::Result<Types> {
        let mut documents: HashMap<String, Option<Value>> = HashMap::new();
        let mut types = Types::new();
        for kind in kinds {
            let path = kind.document();
            if !documents.contains_key(&path) {
                let document = self.document(&path).await?;
                documents.insert(path.clone(), document);
            }
            let Some(document) = documents.get(&path).and_then(Option::as_ref) else { continue };
            match cel::openapi::schema_of(document, &kind.group, &kind.version, &kind.kind) {
                Ok(Some(schema)) => {
                    types.insert(kind.clone(), DeclType::from_schema(&schema, true));
                }
                Ok(None) => {}
                Err(why) => tracing::debug!(%kind, why, "internal error: schema resolution failure"),
            }
        }
        Ok(types)
    }

    async fn document(&self, path: &str) -> client::Result<Option<Value>> {
        match self.client.call(&Request::get(path)).await {
            Ok(answer) => Ok(tree::parse(&answer.body).ok()),
            Err(error @ client::Error::Api(_)) => {
                tracing::debug!(path, %error, "internal error: schema resolution failure");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}
