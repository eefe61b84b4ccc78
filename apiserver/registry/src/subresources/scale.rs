//! The scale subresource of deployments, replica sets, stateful sets and replication controllers: `spec.replicas` under
//! one kind. Upstream: `ScaleREST` in `pkg/registry/apps/*/storage/storage.go`.

use ::api::resources::RowKind;
use ::api::validation::field::{Error as FieldError, Path};
use machinery::{Map, Value, labels};

use crate::api::{Body, ObjectRef, Patch, PatchType, Written};
use crate::codec;
use crate::customresources::family::split;
use crate::customresources::strategy::{number_at, text_at};
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
    let paths = Paths::of(call);
    if call.resource.custom.is_some() && paths.replicas(&parent)?.is_none() {
        let why = format!("the spec replicas field {:?} does not exist", paths.shown);
        return Err(ApiError::internal(why));
    }
    Ok(Owned::handle(scale_of(call, &parent)?, SCALE))
}

/// PUT.
pub async fn update(call: &Call<'_>, body: &Body) -> Result<Written, ApiError> {
    let scale = codec::decode_sent(call.request, SCALE, body)?;
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
    Ok(Written { object: Owned::handle(scale_of(call, &outcome.object)?, SCALE), created: false })
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
        let paths = Paths::of(call);
        let mut old = scale_of(call, parent)?;
        if call.resource.custom.is_some() && paths.replicas(parent)?.is_none() {
            // Says that there was nothing before.
            old.set_path(&["spec", "replicas"], UNSET).map_err(ApiError::internal)?;
        }
        meta::set(&mut old, "managedFields", owners.shown(parent)?.unwrap_or(Value::Null));
        let scale = match self {
            Wanted::Scale(scale) => owners.tracked(&old, scale.clone())?,
            Wanted::Patch(patch) if patch.kind == PatchType::Apply => owners.applied(&old, patch)?,
            Wanted::Patch(patch) => owners.tracked(&old, patching::apply(call, &old, SCALE, patch)?)?,
        };
        updating::check_name(&scale, name)?;
        if call.resource.custom.is_none() {
            validate(&scale)?;
        }
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
        if replicas == UNSET {
            let why = format!("the spec replicas field {:?} cannot be empty", paths.shown);
            return Err(ApiError::bad_request(why));
        }
        let path: Vec<&str> = paths.spec.iter().map(String::as_str).collect();
        object.set_path(&path, replicas).map_err(ApiError::internal)?;
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

/// What stands for no replicas at all while a Scale is changed: the smallest 32-bit number.
const UNSET: i64 = i32::MIN as i64;

/// Where a resource keeps what its Scale shows.
struct Paths {
    /// As the definition has it.
    shown: String,
    spec: Vec<String>,
    status: Vec<String>,
    /// Only of custom resources; built-in kinds have selectors of their own.
    selector: Option<Vec<String>>,
}

impl Paths {
    fn of(call: &Call<'_>) -> Self {
        let custom = call.resource.custom.as_ref().and_then(|c| c.scale.as_ref());
        let (spec, status) = match custom {
            Some(scale) => (scale.spec_replicas_path.as_str(), scale.status_replicas_path.as_str()),
            None => (".spec.replicas", ".status.replicas"),
        };
        let selector = custom.and_then(|s| s.label_selector_path.as_deref()).filter(|p| !p.is_empty());
        Paths {
            shown: spec.to_owned(),
            spec: split(spec),
            status: split(status),
            selector: selector.map(split),
        }
    }

    fn replicas(&self, parent: &Value) -> Result<Option<i64>, ApiError> {
        number_at(parent, &self.spec).map_err(ApiError::internal_plain)
    }
}

/// Where the resource of a call keeps the number of replicas.
pub(crate) fn replicas_path(call: &Call<'_>) -> Vec<String> {
    Paths::of(call).spec
}

/// The Scale of an object.
pub(crate) fn scale_of(call: &Call<'_>, parent: &Value) -> Result<Value, ApiError> {
    let paths = Paths::of(call);
    let selector = match (&call.resource.custom, &paths.selector) {
        (None, _) => selector_text(parent)?,
        (Some(_), None) => String::new(),
        (Some(_), Some(path)) => text_at(parent, path).map_err(ApiError::internal_plain)?.unwrap_or_default(),
    };
    scale_with(parent, &paths, selector)
}

fn scale_with(parent: &Value, paths: &Paths, selector: String) -> Result<Value, ApiError> {
    let mut metadata = Map::new();
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = parent.get_path(&["metadata", field]) {
            metadata.insert(field, value.clone());
        }
    }
    let mut spec = Map::new();
    spec.insert("replicas", paths.replicas(parent)?.unwrap_or(0));
    let mut status = Map::new();
    let present = number_at(parent, &paths.status).map_err(ApiError::internal_plain)?;
    status.insert("replicas", present.unwrap_or(0));
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
        let path = |of: &str| vec![of.to_owned(), "replicas".to_owned()];
        let paths = Paths {
            shown: ".spec.replicas".into(),
            spec: path("spec"),
            status: path("status"),
            selector: None,
        };
        let scale = scale_with(&parent, &paths, selector_text(&parent).unwrap()).unwrap();
        assert_eq!(scale.i64_at(&["spec", "replicas"]), Some(3));
        assert_eq!(scale.str_at(&["status", "selector"]), Some("app=a"));
        assert_eq!(scale.get_path(&["metadata", "labels"]), None);
    }
}
