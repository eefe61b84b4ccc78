//! The scale subresource of deployments, replica sets, stateful sets and replication controllers: `spec.replicas` under
//! one kind. Upstream: `ScaleREST` in `pkg/registry/apps/*/storage/storage.go`.

use ::api::resources::RowKind;
use ::api::validation::field::{Error as FieldError, Path};
use machinery::{Map, Value, labels};

use crate::api::{Body, ObjectRef, Patch, PatchType, Written};
use crate::codec;
use crate::errors::ApiError;
use crate::managed_fields::ScaleOwners;
use crate::meta;
use crate::object::Owned;
use crate::store::update::Source;
use crate::store::{patch as patching, read, update as updating};
use crate::strategy::Call;

/// The kind of the subresource.
pub(crate) const SCALE: RowKind = RowKind { group: "autoscaling", version: "v1", kind: "Scale" };

/// GET.
pub async fn get(call: &Call<'_>, resource_version: &str) -> Result<ObjectRef, ApiError> {
    let parent = read::get(call, resource_version).await?;
    Ok(Owned::handle(scale_of(&parent)?, SCALE))
}

/// PUT.
pub async fn update(call: &Call<'_>, body: &Body) -> Result<Written, ApiError> {
    let scale = codec::decode_body(call.request, SCALE, body)?;
    updating::check_name(&scale, &call.request.info.name)?;
    write(call, Wanted::Scale(scale)).await
}

/// PATCH.
pub async fn patch(call: &Call<'_>, patch: &Patch) -> Result<Written, ApiError> {
    patching::check_options(call, patch)?;
    write(call, Wanted::Patch(patch)).await
}

async fn write(call: &Call<'_>, wanted: Wanted<'_>) -> Result<Written, ApiError> {
    let outcome = updating::update(call, &wanted).await?;
    Ok(Written { object: Owned::handle(scale_of(&outcome.object)?, SCALE), created: false })
}

enum Wanted<'a> {
    Scale(Value),
    Patch(&'a Patch),
}

impl Source for Wanted<'_> {
    fn wanted(&self, call: &Call<'_>, current: Option<&Value>) -> Result<Value, ApiError> {
        let row = call.resource.row;
        let subject = format!("{}/scale", row.resource);
        let name = &call.request.info.name;
        let parent = current.ok_or_else(|| ApiError::not_found(row.kind.group, &subject, name))?;
        let owners = ScaleOwners::new(call, SCALE);
        let mut old = scale_of(parent)?;
        meta::set(&mut old, "managedFields", owners.shown(parent)?.unwrap_or(Value::Null));
        let scale = match self {
            Wanted::Scale(scale) => owners.tracked(&old, scale.clone())?,
            Wanted::Patch(patch) if patch.kind == PatchType::Apply => owners.applied(&old, patch)?,
            Wanted::Patch(patch) => owners.tracked(&old, patching::apply(call, &old, SCALE, patch)?)?,
        };
        updating::check_name(&scale, name)?;
        validate(&scale)?;
        let (sent, own) = (meta::uid(&scale), meta::uid(parent));
        if !sent.is_empty() && sent != own {
            return Err(ApiError::conflict(
                row.kind.group,
                &subject,
                name,
                format!("Precondition failed: UID in precondition: {sent}, UID in object meta: {own}"),
            ));
        }
        let mut object = parent.clone();
        let replicas = scale.i64_at(&["spec", "replicas"]).unwrap_or(0);
        object.set_path(&["spec", "replicas"], replicas).map_err(ApiError::internal)?;
        meta::set(&mut object, "resourceVersion", meta::resource_version(&scale));
        owners.write_back(&mut object, parent, &scale)?;
        Ok(object)
    }
}

fn validate(scale: &Value) -> Result<(), ApiError> {
    let replicas = scale.i64_at(&["spec", "replicas"]).unwrap_or(0);
    if replicas >= 0 {
        return Ok(());
    }
    let spec = Path::new("spec");
    let at = spec.child("replicas");
    let error = FieldError::invalid(&at, replicas, "must be greater than or equal to 0");
    Err(ApiError::invalid_fields("autoscaling", "Scale", meta::name(scale), &[error]))
}

/// The Scale of an object.
pub(crate) fn scale_of(parent: &Value) -> Result<Value, ApiError> {
    let mut metadata = Map::new();
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = parent.get_path(&["metadata", field]) {
            metadata.insert(field, value.clone());
        }
    }
    let selector = selector_text(parent)?;
    let mut spec = Map::new();
    spec.insert("replicas", parent.i64_at(&["spec", "replicas"]).unwrap_or(0));
    let mut status = Map::new();
    status.insert("replicas", parent.i64_at(&["status", "replicas"]).unwrap_or(0));
    if !selector.is_empty() {
        status.insert("selector", selector);
    }
    let mut scale = Map::new();
    scale.insert("metadata", metadata);
    scale.insert("spec", spec);
    scale.insert("status", status);
    let mut scale = Value::Map(scale);
    codec::stamp(&mut scale, SCALE);
    Ok(scale)
}

/// The selector as text. A replication controller's is a bare map.
fn selector_text(parent: &Value) -> Result<String, ApiError> {
    let selector = parent.get_path(&["spec", "selector"]);
    if parent.str_at(&["kind"]) == Some("ReplicationController") {
        let pairs = selector.and_then(Value::as_map).into_iter().flat_map(|m| m.iter());
        let set = pairs.filter_map(|(k, v)| Some((k.as_str(), v.as_str()?)));
        let selector = labels::Selector::from_validated_set(set);
        return selector.map(|s| s.to_string()).map_err(|e| ApiError::bad_request(e.to_string()));
    }
    labels::Selector::from_value(selector)
        .map(|s| s.to_string())
        .map_err(|e| ApiError::bad_request(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn scale_of_deployment() {
        let parent = Value::from(json!({
            "kind": "Deployment", "metadata": {"name": "a", "labels": {"x": "y"}},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "a"}}}, "status": {"replicas": 2}}));
        let scale = scale_of(&parent).unwrap();
        assert_eq!(scale.i64_at(&["spec", "replicas"]), Some(3));
        assert_eq!(scale.str_at(&["status", "selector"]), Some("app=a"));
        assert_eq!(scale.get_path(&["metadata", "labels"]), None);
    }
}
