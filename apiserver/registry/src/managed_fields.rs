//! Upkeep of `metadata.managedFields`, and server-side apply.
//!
//! Each resource has one field manager per subresource, made on first use. They work in the version of the request;
//! objects in the hub version are converted on the way in and out. Upstream: `apiserver/pkg/endpoints/handlers`
//! (where the field manager is called) and the `GetResetFields` of the strategies.

use std::collections::HashMap;
use std::sync::Arc;

use ::api::resources::{ResourceRow, RowKind, resources};
use ::api::types;
use machinery::apply::{
    self, Config, Convert, ConvertError, FieldManager, PathElement, ReplicasPaths, keep_unchanged_times,
};
use machinery::{Value, json, yaml};
use parking_lot::Mutex;

use crate::api::{FieldValidation, Patch};
use crate::codec;
use crate::conversion;
use crate::core::Resource;
use crate::customresources;
use crate::errors::{ApiError, Cause};
use crate::meta;
use crate::shape;
use crate::strategy::Call;

/// The field managers of a resource, by subresource.
#[derive(Default)]
pub struct Managers(Mutex<HashMap<String, Arc<FieldManager>>>);

impl Managers {
    fn get(
        &self,
        resource: &Resource,
        kind: RowKind,
        subresource: &str,
    ) -> Result<Arc<FieldManager>, ApiError> {
        let mut all = self.0.lock();
        if let Some(manager) = all.get(subresource) {
            return Ok(manager.clone());
        }
        let manager = Arc::new(match &resource.custom {
            Some(custom) if kind == resource.row.kind => build_custom(resource.row, custom, subresource)?,
            _ => build(resource.row, kind, subresource)?,
        });
        all.insert(subresource.to_owned(), manager.clone());
        Ok(manager)
    }
}

/// Converts between the versions of a kind by way of its hub.
struct Versions(RowKind);

impl Convert for Versions {
    fn convert(&self, object: &Value, api_version: &str) -> Result<Value, ConvertError> {
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
        let to = resources()
            .iter()
            .map(|r| r.kind)
            .find(|k| k.group == group && k.version == version && k.kind == self.0.kind)
            .ok_or(ConvertError::MissingVersion)?;
        let mut object = object.clone();
        // A version that cannot be converted to counts as one that is gone: its manager is forgotten.
        conversion::to_hub(&mut object, self.0).map_err(|_| ConvertError::MissingVersion)?;
        codec::served(&object, to).map_err(|_| ConvertError::MissingVersion)
    }
}

fn build(row: &ResourceRow, kind: RowKind, subresource: &str) -> Result<FieldManager, ApiError> {
    let same_kind =
        resources().iter().map(|r| r.kind).filter(|k| k.group == kind.group && k.kind == kind.kind);
    let mut known: HashMap<String, _> = same_kind
        .filter_map(|k| Some((k.api_version(), ::api::apply::type_of(&k.api_version(), k.kind)?)))
        .collect();
    if known.is_empty() {
        // Kinds of subresources (Scale) have no row of their own.
        let api_version = kind.api_version();
        let own = ::api::apply::type_of(&api_version, kind.kind)
            .ok_or_else(|| ApiError::internal(format!("no apply type for {}", kind.kind)))?;
        known.insert(api_version, own);
    }
    let reset = ::api::apply::reset_fields(row.kind.group, row.resource, subresource);
    let reset_fields = match reset {
        Some(filter) => known.keys().map(|v| (v.clone(), filter.clone())).collect(),
        None => HashMap::new(),
    };
    Ok(FieldManager::new(Config {
        schema: ::api::apply::schema(),
        versions: known,
        api_version: kind.api_version(),
        kind: kind.kind.to_owned(),
        subresource: subresource.to_owned(),
        reset_fields,
        converter: Arc::new(Versions(kind)),
        empty: empty(kind)?,
        made_by_type: true,
    }))
}

/// The manager of a custom resource: all versions are typed by their schemas.
fn build_custom(
    row: &ResourceRow,
    custom: &customresources::Version,
    subresource: &str,
) -> Result<FieldManager, ApiError> {
    let schemas = &custom.schemas;
    let (mut schema, metadata) = ::api::apply::custom_schema();
    let mut versions = HashMap::new();
    for (version, document) in &schemas.documents {
        let made = apply::from_structural(&mut schema, document, schemas.preserve, metadata);
        // Upstream falls back to types deduced from values.
        let made = made.unwrap_or(apply::UNTYPED.into());
        versions.insert(format!("{}/{version}", row.kind.group), made);
    }
    let api_version = row.kind.api_version();
    versions.entry(api_version.clone()).or_insert(apply::UNTYPED.into());
    let paths: &[&[&str]] = match (subresource, row.subresource("status").is_some()) {
        ("", true) => &[&["status"]],
        ("status", _) => &[&["metadata"], &["spec"]],
        _ => &[],
    };
    let mut set = apply::Set::default();
    paths.iter().for_each(|path| set.insert_fields(path));
    let reset_fields = match paths.is_empty() {
        true => HashMap::new(),
        false => versions.keys().map(|v| (v.clone(), apply::Filter::Exclude(set.clone()))).collect(),
    };
    Ok(FieldManager::new(Config {
        schema: Arc::new(schema),
        versions,
        empty: schemas.empty(row.kind),
        made_by_type: false,
        api_version,
        kind: row.kind.kind.to_owned(),
        subresource: subresource.to_owned(),
        reset_fields,
        converter: Arc::new(Relabel(Arc::clone(schemas))),
    }))
}

/// Converts between the versions of a custom resource.
struct Relabel(Arc<customresources::codec::Schemas>);

impl Convert for Relabel {
    fn convert(&self, object: &Value, api_version: &str) -> Result<Value, ConvertError> {
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
        let known = group == self.0.kind.group && self.0.documents.contains_key(version);
        let mut object = object.clone();
        if !known || object.str_at(&["apiVersion"]) == Some(api_version) {
            return if known { Ok(object) } else { Err(ConvertError::MissingVersion) };
        }
        // A version that cannot be converted to counts as one that is gone: its manager is forgotten.
        self.0.relabel(&mut object, api_version).map_err(|_| ConvertError::MissingVersion)?;
        Ok(object)
    }
}

/// An object of the kind with nothing set.
fn empty(kind: RowKind) -> Result<Value, ApiError> {
    let text = format!("{{\"apiVersion\":{:?},\"kind\":{:?}}}", kind.api_version(), kind.kind);
    canonical(kind, text.as_bytes())
}

fn canonical(kind: RowKind, text: &[u8]) -> Result<Value, ApiError> {
    let id = types()
        .kind(&kind.api_version(), kind.kind)
        .ok_or_else(|| ApiError::internal(format!("no type {}", kind.kind)))?;
    json::decode(types(), id, text, false).map(|d| d.value).map_err(ApiError::internal)
}

/// The manager of the resource and subresource of a call.
pub fn manager(call: &Call<'_>) -> Result<Arc<FieldManager>, ApiError> {
    call.resource.managers.get(call.resource, call.resource.row.kind, call.subresource)
}

/// Tracks the creator of a new object.
pub fn on_create(call: &Call<'_>, object: &mut Value) -> Result<(), ApiError> {
    track(call, object, None)
}

/// Tracks who changed what.
pub fn on_update(call: &Call<'_>, object: &mut Value, old: &Value) -> Result<(), ApiError> {
    track(call, object, Some(old))
}

fn track(call: &Call<'_>, object: &mut Value, old: Option<&Value>) -> Result<(), ApiError> {
    let kind = call.resource.row.kind;
    let manager = manager(call)?;
    let live = match old {
        Some(old) => codec::served(old, kind)?,
        None => manager.empty().clone(),
    };
    let new = codec::served(object, kind)?;
    let now = meta::rfc3339(call.now);
    let mut tracked = manager.update(&live, new, &call.request.field_manager, &now);
    if call.resource.custom.is_none() {
        conversion::to_hub(&mut tracked, kind)?;
    }
    *object = tracked;
    Ok(())
}

/// Whether there are none.
pub fn is_empty(object: &Value) -> bool {
    object.list_at(&["metadata", "managedFields"]).is_none_or(|l| l.is_empty())
}

/// Removes them.
pub fn clear(object: &mut Value) {
    meta::remove(object, "managedFields");
}

/// Keeps the old timestamps when nothing else changed, so that a no-op stays one
/// (`fieldmanager.IgnoreManagedFieldsTimestampsTransformer`).
pub fn ignore_timestamp_changes(object: &mut Value, old: &Value) {
    keep_unchanged_times(object, old, false);
}

/// The object that an apply patch makes of the present one, in the hub version with defaults.
pub fn apply(call: &Call<'_>, current: Option<&Value>, patch: &Patch) -> Result<Value, ApiError> {
    let kind = call.resource.row.kind;
    let config = parse_config(call, patch)?;
    let manager = manager(call)?;
    let live = match current {
        Some(old) => codec::served(old, kind)?,
        None => manager.empty().clone(),
    };
    let now = meta::rfc3339(call.now);
    let force = patch.force.unwrap_or(false);
    let applied =
        manager.apply(&live, &config, &call.request.field_manager, force, &now).map_err(apply_error)?;
    let mut object = applied.object;
    if let Some(custom) = &call.resource.custom {
        if applied.changed {
            custom.schemas.canonical(&mut object)?;
        }
        return Ok(object);
    }
    if applied.changed {
        if conversion::hub(kind) == kind
            && let Some(canonical) = shape::read_changed(&object, &live, kind)
        {
            return codec::complete_changed(canonical, &live, kind);
        }
        object = canonical(kind, &json::encode_any(&object))?;
        codec::stamp(&mut object, kind);
        shape::default(&mut object, kind, &now);
    }
    conversion::to_hub(&mut object, kind)?;
    Ok(object)
}

fn parse_config(call: &Call<'_>, patch: &Patch) -> Result<Value, ApiError> {
    let config =
        yaml::parse(&patch.bytes).map_err(|e| ApiError::bad_request(format!("error decoding patch: {e}")))?;
    if call.request.field_validation != FieldValidation::Ignore
        && let Err(problem) = yaml::parse_strict(&patch.bytes)
    {
        if call.request.field_validation == FieldValidation::Strict {
            return Err(ApiError::bad_request(format!("error strict decoding patch: {problem}")));
        }
        call.warn(problem.to_string());
    }
    match config {
        Value::Map(_) => Ok(config),
        other => Err(ApiError::bad_request(format!(
            "error decoding patch: error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
            other.type_name()
        ))),
    }
}

fn apply_error(error: apply::Error) -> ApiError {
    match error {
        apply::Error::BadRequest(text) => ApiError::bad_request(text),
        apply::Error::Internal(text) => ApiError::internal_plain(text),
        apply::Error::Conflict { message, conflicts } => {
            let mut status = ApiError::new(409, "Conflict", message);
            let causes = conflicts.iter().map(|c| Cause {
                reason: "FieldManagerConflict".into(),
                message: c.message(),
                field: c.field(),
            });
            status.details =
                Some(Box::new(crate::errors::Details { causes: causes.collect(), ..Default::default() }));
            status
        }
    }
}

/// Ownership of a parent's replicas while its Scale is written.
pub struct ScaleOwners<'a> {
    call: &'a Call<'a>,
    kind: RowKind,
    paths: ReplicasPaths,
}

impl<'a> ScaleOwners<'a> {
    /// For the resource of the call, whose scale subresource is of `kind`.
    pub fn new(call: &'a Call<'a>, kind: RowKind) -> Self {
        let path = |fields: &[String]| fields.iter().map(|f| PathElement::Field(f.as_str().into())).collect();
        let paths = match &call.resource.custom {
            Some(custom) => {
                custom.replicas.iter().map(|(v, fields)| (v.clone(), fields.as_deref().map(path))).collect()
            }
            None => {
                let replicas = path(&["spec".to_owned(), "replicas".to_owned()]);
                HashMap::from([(call.resource.row.kind.api_version(), Some(replicas))])
            }
        };
        ScaleOwners { call, kind, paths }
    }

    /// The entries that a Scale of the parent shows.
    pub fn shown(&self, parent: &Value) -> Result<Option<Value>, ApiError> {
        let entries = parent.get_path(&["metadata", "managedFields"]);
        apply::to_subresource(entries, &self.paths).map_err(ApiError::internal_plain)
    }

    /// The Scale with the entries it has after an update.
    pub fn tracked(&self, old: &Value, new: Value) -> Result<Value, ApiError> {
        let managers = &self.call.resource.managers;
        let manager = managers.get(self.call.resource, self.kind, "scale")?;
        Ok(manager.update(old, new, &self.call.request.field_manager, &meta::rfc3339(self.call.now)))
    }

    /// The Scale an apply makes of the old one.
    pub fn applied(&self, old: &Value, patch: &Patch) -> Result<Value, ApiError> {
        let managers = &self.call.resource.managers;
        let manager = managers.get(self.call.resource, self.kind, "scale")?;
        let config = parse_config(self.call, patch)?;
        let now = meta::rfc3339(self.call.now);
        let name = &self.call.request.field_manager;
        let applied =
            manager.apply(old, &config, name, patch.force.unwrap_or(false), &now).map_err(apply_error)?;
        if applied.changed {
            canonical(self.kind, &json::encode_any(&applied.object))
        } else {
            Ok(applied.object)
        }
    }

    /// Writes the entries of the parent that follow from the Scale's.
    pub fn write_back(&self, parent: &mut Value, old: &Value, scale: &Value) -> Result<(), ApiError> {
        let at = |v: &Value| v.get_path(&["metadata", "managedFields"]).cloned();
        let version = self.call.resource.row.kind.api_version();
        let entries = apply::to_parent(at(old).as_ref(), at(scale).as_ref(), &version, &self.paths)
            .map_err(ApiError::internal_plain)?;
        meta::set(parent, "managedFields", entries.unwrap_or(Value::Null));
        Ok(())
    }
}
