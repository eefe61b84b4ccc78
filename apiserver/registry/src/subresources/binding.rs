//! pods/binding and the legacy bindings: assign a pod to a node, once.
//! Upstream: `BindingREST` in `pkg/registry/core/pod/storage/storage.go`.

use ::api::resources::RowKind;
use ::api::validation::content;
use ::api::validation::field::{Error as FieldError, Path, aggregate};
use machinery::{Map, Value};

use crate::admission::{Attributes, Operation};
use crate::api::{Body, RequestContext, Written};
use crate::codec;
use crate::conditions;
use crate::errors::ApiError;
use crate::meta;
use crate::store::before;
use crate::store::write_back;
use crate::strategy::Call;

const BINDING: RowKind = RowKind { group: "", version: "v1", kind: "Binding" };

/// POST.
pub async fn create(call: &Call<'_>, body: &Body) -> Result<Written, ApiError> {
    let mut binding = codec::decode_sent(call.request, BINDING, body)?;
    before::ensure_namespace(&mut binding, &call.request.info.namespace)?;
    let mut attributes = Attributes::new(call, Operation::Create, Some(binding), None).of_kind(BINDING);
    let admitted = call.core.admission.admit(&mut attributes).await;
    let binding = attributes.object.take().unwrap_or_default();
    admitted?;
    let name = meta::name(&binding).to_owned();
    // The legacy resource names the pod in the body only.
    if call.subresource == "binding" && call.request.info.name != name {
        return Err(ApiError::bad_request("name in URL does not match name in Binding object"));
    }
    let errors = validate(&binding);
    if !errors.is_empty() {
        return Err(ApiError::internal_plain(aggregate(&errors)));
    }
    let attributes = Attributes::new(call, Operation::Create, Some(binding.clone()), None).of_kind(BINDING);
    call.core.admission.validate(&attributes).await?;
    assign(call, &name, &binding).await?;
    Ok(super::success())
}

fn validate(binding: &Value) -> Vec<FieldError> {
    let target = Path::new("target");
    let kind = binding.str_at(&["target", "kind"]).unwrap_or("");
    let name = binding.str_at(&["target", "name"]).unwrap_or("");
    let mut errors = Vec::new();
    if !kind.is_empty() && kind != "Node" {
        errors.push(FieldError::not_supported(&target.child("kind"), kind, &["Node", "<empty>"]));
    }
    let at = target.child("name");
    if name.is_empty() {
        errors.push(FieldError::required(&at, ""));
    } else if kind.is_empty() || kind == "Node" {
        errors.extend(content::dns_subdomain(name).into_iter().map(|m| FieldError::invalid(&at, name, m)));
    }
    errors
}

async fn assign(call: &Call<'_>, name: &str, binding: &Value) -> Result<(), ApiError> {
    let pods = call.core.any_version("", "pods")?.clone();
    let request = RequestContext::clone(call.request);
    let call = Call { resource: &pods, request: &request, ..*call };
    let result = write_back::change(&call, name, |pod| {
        if let Some(why) = refusal(pod, binding) {
            return Err(ApiError::conflict("", "pods/binding", name, why));
        }
        bind(pod, binding, &meta::rfc3339(call.now));
        Ok(())
    })
    .await;
    result.map(|_| ())
}

/// Why this pod cannot be bound.
fn refusal(pod: &Value, binding: &Value) -> Option<String> {
    let name = meta::name(pod);
    for (field, label, own) in
        [("uid", "UID", meta::uid(pod)), ("resourceVersion", "ResourceVersion", meta::resource_version(pod))]
    {
        let wanted = binding.str_at(&["metadata", field]).unwrap_or("");
        if !wanted.is_empty() && wanted != own {
            return Some(format!(
                "Precondition failed: {label} in precondition: {wanted}, {label} in object meta: {own}"
            ));
        }
    }
    if !meta::deletion_timestamp(pod).is_empty() {
        return Some(format!("pod {name} is being deleted, cannot be assigned to a host"));
    }
    if let Some(node) = pod.str_at(&["spec", "nodeName"]).filter(|n| !n.is_empty()) {
        return Some(format!("pod {name} is already assigned to node {node:?}"));
    }
    if pod.list_at(&["spec", "schedulingGates"]).is_some_and(|g| !g.is_empty()) {
        return Some(format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    None
}

fn bind(pod: &mut Value, binding: &Value, now: &str) {
    let node = binding.str_at(&["target", "name"]).unwrap_or("").to_owned();
    // A stored pod has a spec and metadata, so these paths cannot meet anything but objects.
    let _ = pod.set_path(&["spec", "nodeName"], node);
    pod.remove_path(&["status", "nominatedNodeName"]);
    for field in ["annotations", "labels"] {
        let Some(more) = binding.map_at(&["metadata", field]).filter(|m| !m.is_empty()) else { continue };
        let mut all: Map = pod.map_at(&["metadata", field]).cloned().unwrap_or_default();
        for (key, value) in more.iter() {
            all.insert(key.clone(), value.clone());
        }
        meta::set(pod, field, all);
    }
    conditions::set(pod, "PodScheduled", "True", "", "", now);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn binds_once() {
        let binding = Value::from(json!({
            "metadata": {"name": "a", "annotations": {"x": "y"}}, "target": {"kind": "Node", "name": "n"}}));
        let mut pod = Value::from(json!({"metadata": {"name": "a"}, "spec": {}}));
        assert_eq!(refusal(&pod, &binding), None);
        bind(&mut pod, &binding, "t");
        assert_eq!(pod.str_at(&["spec", "nodeName"]), Some("n"));
        assert_eq!(meta::annotation(&pod, "x"), Some("y"));
        let text = "pod a is already assigned to node \"n\"";
        assert_eq!(refusal(&pod, &binding).as_deref(), Some(text));
        let stale = Value::from(json!({"metadata": {"name": "a", "uid": "1"}, "target": {"name": "n"}}));
        assert!(refusal(&pod, &stale).unwrap().starts_with("Precondition failed: UID"));
    }

    #[test]
    fn target_is_validated() {
        let text = |v: serde_json::Value| aggregate(&validate(&Value::from(v)));
        assert_eq!(text(json!({"target": {"kind": "Node"}})), "target.name: Required value");
        assert_eq!(
            text(json!({"target": {"kind": "Pod", "name": "x"}})),
            "target.kind: Unsupported value: \"Pod\": supported values: \"Node\", \"<empty>\""
        );
    }
}
