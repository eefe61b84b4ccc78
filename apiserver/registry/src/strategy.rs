//! What is special about a resource: one [`Strategy`] per resource, called by the generic operations in [`crate::store`].
//!
//! Strategies read and write trees in the hub version (the request's version; the stored one where versions differ in
//! more than their name). They must not do I/O except in the `begin_*` and `after_*` hooks. The default methods are
//! the generic behaviour driven by the resource table; most kinds add nothing to it.
//! Upstream: `k8s.io/apiserver/pkg/registry/rest` and `pkg/registry/<group>/<kind>/strategy.go`.

use api::validation::field::{Error as FieldError, Path};
use api::validation::objectmeta::{self, NameRule};
use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use machinery::Value;

use crate::api::{DeleteOptions, RequestContext};
use crate::audit::Layer;
use crate::core::{Core, Resource};
use crate::errors::ApiError;
use crate::meta;

/// Everything a strategy may know about the request it serves.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// The request.
    pub request: &'a RequestContext,
    /// The resource written.
    pub resource: &'a Resource,
    /// Empty for the main resource.
    pub subresource: &'a str,
    /// The time of the operation.
    pub now: Timestamp,
    /// The registry, for hooks that read other objects.
    pub core: &'a Core,
}

impl Call<'_> {
    /// Whether the request writes the status subresource.
    pub fn is_status(&self) -> bool {
        self.subresource == "status"
    }

    /// Work of the store on behalf of the request: its time is noted.
    pub(crate) async fn stored<F: Future>(&self, work: F) -> F::Output {
        self.request.audit.timed(Layer::Storage, work).await
    }

    /// Adds a warning for the client.
    pub fn warn(&self, text: impl Into<String>) {
        self.request.warnings.add(text);
    }
}

/// Undoes or completes what a `begin_*` hook reserved. Dropped without a call it must leave nothing reserved for long.
#[async_trait]
pub trait Finish: Send {
    /// Called once, with whether the object was stored.
    async fn finish(self: Box<Self>, stored: bool);
}

/// What one look at the stored object decided about a delete.
pub enum DeleteStep {
    /// Already on its way out, nothing to change.
    Pending,
    /// Write this; then delete it at once, or leave it to its finalizers or its grace period.
    Mark {
        /// The marked object.
        object: Value,
        /// Whether nothing holds it any more.
        then_delete: bool,
    },
    /// Remove it from the store.
    Remove,
}

/// The behaviour of one resource.
#[async_trait]
pub trait Strategy: Send + Sync + 'static {
    /// The rule for names.
    fn name_rule(&self) -> NameRule {
        objectmeta::name_is_subdomain
    }

    /// Normalizes a new object before validation.
    fn prepare_for_create(&self, call: &Call<'_>, object: &mut Value) {
        generic_prepare_for_create(call, object);
    }

    /// Validates a new object.
    fn validate(&self, call: &Call<'_>, object: &Value) -> Vec<FieldError> {
        validate_kube_metadata(call, object, self.name_rule())
    }

    /// [`Strategy::validate`], and [`Strategy::warnings_on_create`] if there are no errors: kinds whose objects take
    /// long to be made typed do it once for both.
    fn judge_new(&self, call: &Call<'_>, object: &Value) -> (Vec<FieldError>, Vec<String>) {
        let errors = self.validate(call, object);
        let warnings = if errors.is_empty() { self.warnings_on_create(call, object) } else { Vec::new() };
        (errors, warnings)
    }

    /// Warnings about a valid new object.
    fn warnings_on_create(&self, _call: &Call<'_>, _object: &Value) -> Vec<String> {
        Vec::new()
    }

    /// Normalizes a changed object before validation.
    fn prepare_for_update(&self, call: &Call<'_>, object: &mut Value, old: &Value) {
        generic_prepare_for_update(call, object, old);
    }

    /// Whether what a kind refuses about a change begins with finalizers that have no domain and are not from
    /// Kubernetes' short list: kinds whose update validation begins with `core/validation.ValidateObjectMetaUpdate`,
    /// which are most. Those that judge the changed object as a new one first tell of finalizers there.
    fn judges_finalizers(&self, call: &Call<'_>) -> bool {
        generic_judges_finalizers(call)
    }

    /// Whether the kind has declarative validation, so that repeated errors are told once
    /// (`rest.DeclarativeValidationStrategy`): all kinds of Kubernetes' own, but those of the extension servers.
    fn declares(&self, call: &Call<'_>) -> bool {
        !call.resource.row.kind.group.starts_with("api")
    }

    /// Validates a changed object. Metadata common to all kinds was validated before.
    fn validate_update(&self, _call: &Call<'_>, _object: &Value, _old: &Value) -> Vec<FieldError> {
        Vec::new()
    }

    /// Warnings about a valid changed object.
    fn warnings_on_update(&self, _call: &Call<'_>, _object: &Value, _old: &Value) -> Vec<String> {
        Vec::new()
    }

    /// Brings a valid object into its stored form.
    fn canonicalize(&self, _object: &mut Value) {}

    /// For kinds with graceful deletion: whether this one is deleted gracefully, and the grace period, written to
    /// `options`.
    fn check_graceful_delete(&self, _call: &Call<'_>, _object: &Value, _options: &mut DeleteOptions) -> bool {
        false
    }

    /// Takes the place of the generic decision about a delete (namespaces: two phases).
    fn decide_delete(&self, _call: &Call<'_>, _old: &Value, _options: &DeleteOptions) -> Option<DeleteStep> {
        None
    }

    /// Whether an emptied finalizer list of a deleted object lets it go; namespaces wait for `spec.finalizers` too.
    fn should_delete_during_update(&self, _object: &Value, _old: &Value) -> bool {
        true
    }

    /// Reserves what the new object needs (addresses, ports).
    async fn begin_create(
        &self,
        _call: &Call<'_>,
        _object: &mut Value,
    ) -> Result<Option<Box<dyn Finish>>, ApiError> {
        Ok(None)
    }

    /// Reserves and releases what the change needs.
    async fn begin_update(
        &self,
        _call: &Call<'_>,
        _object: &mut Value,
        _old: &Value,
    ) -> Result<Option<Box<dyn Finish>>, ApiError> {
        Ok(None)
    }

    /// Releases what the deleted object held.
    async fn after_delete(&self, _call: &Call<'_>, _object: &Value) {}

    /// Completes an object read from the store with what is derived and not stored.
    fn decorate(&self, _object: &mut Value) {}
}

/// The strategy of kinds that need nothing special.
pub struct Generic {
    name_rule: NameRule,
}

impl Generic {
    /// Names are DNS subdomains.
    pub const SUBDOMAIN: Generic = Generic { name_rule: objectmeta::name_is_subdomain };
    /// Names are anything that fits in a path.
    pub const PATH_SEGMENT: Generic = Generic { name_rule: objectmeta::name_is_path_segment };
}

impl Strategy for Generic {
    fn name_rule(&self) -> NameRule {
        self.name_rule
    }
}

/// By the kind's group: [`Strategy::judges_finalizers`].
pub fn generic_judges_finalizers(call: &Call<'_>) -> bool {
    let row = call.resource.row;
    // Those that validate metadata with the generic function, or as of a new object, or none of it.
    let generic = matches!(
        row.kind.group,
        "admissionregistration.k8s.io"
            | "coordination.k8s.io"
            | "flowcontrol.apiserver.k8s.io"
            | "node.k8s.io"
            | "policy"
    );
    !generic && !row.kind.group.starts_with("api")
}

/// Drops status where a status subresource owns it, and starts the generation at 1 where the server keeps it.
pub fn generic_prepare_for_create(call: &Call<'_>, object: &mut Value) {
    let row = call.resource.row;
    if row.subresource("status").is_some() {
        object.remove_path(&["status"]);
    }
    // Of CSI drivers only changes are counted (pkg/registry/storage/csidriver/strategy.go PrepareForCreate).
    if row.generation && row.resource != "csidrivers" {
        meta::set(object, "generation", 1_i64);
    }
}

/// Keeps what the addressed (sub)resource does not own as it was, and bumps the generation when the rest changed.
pub fn generic_prepare_for_update(call: &Call<'_>, object: &mut Value, old: &Value) {
    if call.is_status() {
        keep_all_but_status(object, old);
        return;
    }
    if call.resource.row.subresource("status").is_some() {
        keep(object, old, "status");
    }
    if call.resource.row.generation && desired_state_changed(call, object, old) {
        bump_generation(object, old);
    }
}

/// Copies one top-level field from the old object (absent there: removes it).
pub fn keep(object: &mut Value, old: &Value, field: &str) {
    match (old.get(field), &mut *object) {
        (Some(value), Value::Map(map)) => {
            map.insert(field, value.clone());
        }
        (None, Value::Map(map)) => {
            map.remove(field);
        }
        _ => {}
    }
}

/// A status update: every top-level field except metadata and status stays as it was.
pub fn keep_all_but_status(object: &mut Value, old: &Value) {
    let fields: Vec<String> = [&*object, old]
        .into_iter()
        .filter_map(Value::as_map)
        .flat_map(|m| m.keys())
        .filter(|k| !matches!(k.as_str(), "metadata" | "status" | "apiVersion" | "kind"))
        .map(ToString::to_string)
        .collect();
    for field in fields {
        keep(object, old, &field);
    }
}

/// `metadata.ResetObjectMetaForStatus`: a status update of newer kinds changes no metadata but managed fields.
pub fn reset_metadata_for_status(object: &mut Value, old: &Value) {
    for field in ["deletionTimestamp", "finalizers", "labels", "annotations", "ownerReferences", "generation"]
    {
        meta::set(object, field, old.get_path(&["metadata", field]).cloned().unwrap_or(Value::Null));
    }
}

/// A status update that changes no metadata whatever, managed fields apart.
pub fn keep_metadata(object: &mut Value, old: &Value) {
    let managed = object.get_path(&["metadata", "managedFields"]).cloned().unwrap_or_default();
    keep(object, old, "metadata");
    meta::set(object, "managedFields", managed);
}

/// Whether anything but metadata and status differs.
pub fn desired_state_changed(call: &Call<'_>, object: &Value, old: &Value) -> bool {
    let kind = crate::conversion::hub(call.resource.row.kind);
    let table = api::types();
    let Some(id) = table.kind(&kind.api_version(), kind.kind) else { return false };
    let counts = |name: &str| !matches!(name, "metadata" | "status" | "apiVersion" | "kind");
    let mut fields = table.fields(id).filter(|field| counts(&field.name));
    fields.any(|field| !table.field_eq(field, object.get(&field.name), old.get(&field.name)))
}

/// Whether what stands at a path is the same in both; `kind` is the Go name of its type: `core/v1.PodSpec`.
pub fn same_at(object: &Value, old: &Value, path: &[&str], kind: &str) -> bool {
    let table = api::types();
    let at = |v: &Value| v.get_path(path).cloned().unwrap_or_default();
    let (new, old) = (at(object), at(old));
    new.is_shared_with(&old) || table.by_name(kind).is_some_and(|id| table.semantic_eq(id, &new, &old))
}

/// Sets the generation to one more than the old object's.
pub fn bump_generation(object: &mut Value, old: &Value) {
    meta::set(object, "generation", meta::generation(old).saturating_add(1));
}

/// Metadata validation common to all kinds.
pub fn validate_metadata(call: &Call<'_>, object: &Value, rule: NameRule) -> Vec<FieldError> {
    let (namespaced, path) = (call.resource.row.namespaced, Path::new("metadata"));
    match typed_metadata(object) {
        Ok(metadata) => objectmeta::validate_object_meta(&metadata, namespaced, rule, &path),
        Err(error) => vec![error],
    }
}

/// Metadata validation of Kubernetes' own kinds, by the kind's name rule.
pub fn validate_kube_metadata(call: &Call<'_>, object: &Value, rule: NameRule) -> Vec<FieldError> {
    let (namespaced, path) = (call.resource.row.namespaced, Path::new("metadata"));
    match typed_metadata(object) {
        // These come with the generic server, which knows no finalizers of its own.
        Ok(metadata) if call.resource.row.kind.group.starts_with("api") => {
            objectmeta::validate_object_meta(&metadata, namespaced, rule, &path)
        }
        Ok(metadata) => objectmeta::validate_kube_object_meta(&metadata, namespaced, rule, &path),
        Err(error) => vec![error],
    }
}

/// The metadata as a typed object, but for the sets in managed fields.
pub fn typed_metadata(object: &Value) -> Result<ObjectMeta, FieldError> {
    match object.get("metadata") {
        None | Some(Value::Null) => Ok(ObjectMeta::default()),
        Some(metadata) => machinery::value::from_value_unowned(metadata)
            .map_err(|e| FieldError::internal(&Path::new("metadata"), e.to_string())),
    }
}

/// The object, or a part of it, as a k8s-openapi type, but for the sets in managed fields. Trees here passed the type
/// table, so a failure is ours.
pub fn typed<T: serde::de::DeserializeOwned>(object: &Value) -> Result<T, FieldError> {
    // Null is as good as absent, except to types that are never absent. And what is valid in one version is in all.
    machinery::value::from_value_unowned(object)
        .or_else(|_| machinery::value::from_value_unowned(&without_version(&without_nulls(object))))
        .map_err(|e| FieldError::internal(&Path::ROOT, e.to_string()))
}

/// Types insist on their own version, but not on there being one.
fn without_version(object: &Value) -> Value {
    let mut object = object.clone();
    object.remove_path(&["apiVersion"]);
    object
}

fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Map(map) => {
            let mut out = machinery::Map::new();
            for (key, value) in map.iter().filter(|(_, v)| !v.is_null()) {
                out.insert(key.as_str(), without_nulls(value));
            }
            Value::Map(out)
        }
        Value::List(list) => Value::List(list.iter().map(without_nulls).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::typed;
    use k8s_openapi::api::coordination::v1::Lease;
    use machinery::Value;
    use serde_json::json;

    #[test]
    fn another_version_of_a_kind_is_judged_as_the_one_there_is_a_type_of() {
        let lease = |version: &str| {
            Value::from(
                json!({"apiVersion": version, "kind": "Lease", "metadata": {"name": "a"}, "spec": {"renewTime": null}}),
            )
        };
        let name = |version: &str| typed::<Lease>(&lease(version)).map(|lease| lease.metadata.name);
        assert_eq!(name("coordination.k8s.io/v1").unwrap().as_deref(), Some("a"));
        assert_eq!(name("coordination.k8s.io/v1beta1").unwrap().as_deref(), Some("a"));
    }
}
