//! What happens to instances before they are stored. Upstream: `pkg/registry/customresource/{strategy,status_strategy,
//! validator}.go`.

use std::sync::Arc;

use ::api::resources::ResourceRow;
use ::api::validation::content;
use ::api::validation::field::{Bad, Error as FieldError, ErrorKind, Path};
use ::api::validation::objectmeta;
use apiextensions::rules::BUDGET;
use apiextensions::schema::validate::{Correlated, validate, validate_update};
use apiextensions::schema::{Schema, lists, resource_meta};
use async_trait::async_trait;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinitionVersion;
use machinery::Value;

use super::Version;
use super::family::split;
use crate::errors::ApiError;
use crate::meta;
use crate::strategy::{Call, Finish, Strategy, keep, validate_metadata};

/// The strategy of one version.
pub(crate) struct CustomResources {
    version: Arc<Version>,
    name: String,
    has_status: bool,
}

impl CustomResources {
    pub(crate) fn new(
        row: &ResourceRow,
        version: &CustomResourceDefinitionVersion,
        custom: &Arc<Version>,
    ) -> Self {
        CustomResources {
            version: Arc::clone(custom),
            name: version.name.clone(),
            has_status: row.subresource("status").is_some(),
        }
    }

    fn schema(&self) -> Option<&Schema> {
        self.version.schemas.of(&self.name)
    }

    fn scale(&self, object: &Value, status_only: bool) -> Vec<FieldError> {
        let Some(scale) = &self.version.scale else { return Vec::new() };
        let mut errors = Vec::new();
        if !status_only {
            errors.extend(replicas(object, &scale.spec_replicas_path));
        }
        errors.extend(replicas(object, &scale.status_replicas_path));
        if let Some(path) = &scale.label_selector_path
            && let Err(why) = text_at(object, &split(path))
        {
            errors.push(FieldError::invalid(&Path::new(path), "", why));
        }
        errors
    }

    fn embedded(&self, object: &Value) -> Vec<FieldError> {
        self.schema().map(|s| resource_meta::validate(&Path::ROOT, object, s, false)).unwrap_or_default()
    }

    fn lists(&self, object: &Value) -> Vec<FieldError> {
        self.schema().map(|s| lists::validate(&Path::ROOT, object, s)).unwrap_or_default()
    }

    /// Adds what the schema's rules refuse, unless the object is too broken for them to be of use.
    fn rules(&self, call: &Call<'_>, object: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
        let Some(rules) = self.version.schemas.rules.get(&self.name) else { return };
        if errors.iter().any(|e| is_blocking(e.kind)) {
            let why = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";
            errors.push(FieldError::invalid(&Path::ROOT, Bad::Raw("null".into()), why));
            return;
        }
        let correlated = old.zip(self.schema()).map(|(old, schema)| Correlated::new(object, old, schema));
        let outcome = rules.validate(&Path::ROOT, object, old, correlated, BUDGET);
        errors.extend(outcome.errors);
        outcome.warnings.into_iter().for_each(|warning| call.warn(warning));
    }

    /// Refuses to create what would be deleted next.
    fn not_terminating(&self, call: &Call<'_>, name: &str) -> Result<(), ApiError> {
        if !self.version.state.is_terminating() {
            return Ok(());
        }
        let row = call.resource.row;
        let why = "create not allowed while custom resource definition is terminating";
        Err(ApiError::forbidden(row.kind.group, row.resource, name, why))
    }
}

/// Upstream: `hasBlockingErr`.
fn is_blocking(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::NotSupported
            | ErrorKind::Required
            | ErrorKind::TooLong
            | ErrorKind::TooMany
            | ErrorKind::TypeInvalid
    )
}

/// A number at a simple path; absent is 0.
pub(crate) fn number_at(object: &Value, path: &[String]) -> Result<Option<i64>, String> {
    match value_at(object, path)? {
        None => Ok(None),
        Some(Value::Int(number)) => Ok(Some(*number)),
        Some(other) => Err(mismatch(path, other, "int64")),
    }
}

/// A text at a simple path.
pub(crate) fn text_at(object: &Value, path: &[String]) -> Result<Option<String>, String> {
    match value_at(object, path)? {
        None => Ok(None),
        Some(Value::Str(text)) => Ok(Some(text.to_string())),
        Some(other) => Err(mismatch(path, other, "string")),
    }
}

/// Go's `unstructured.NestedFieldNoCopy`.
fn value_at<'a>(object: &'a Value, path: &[String]) -> Result<Option<&'a Value>, String> {
    let mut at = object;
    for (index, step) in path.iter().enumerate() {
        match at {
            Value::Map(map) => match map.get(step) {
                Some(value) => at = value,
                None => return Ok(None),
            },
            Value::Null => return Ok(None),
            other => return Err(mismatch(&path[..=index], other, "map[string]interface {}")),
        }
    }
    Ok(Some(at))
}

fn mismatch(path: &[String], found: &Value, wanted: &str) -> String {
    let (shown, kind) = match found {
        Value::Str(text) => (text.to_string(), "string"),
        Value::Int(number) => (number.to_string(), "int64"),
        Value::Float(number) => (number.to_string(), "float64"),
        Value::Bool(flag) => (flag.to_string(), "bool"),
        Value::Null => ("<nil>".to_owned(), "<nil>"),
        Value::List(_) => (found.to_string(), "[]interface {}"),
        Value::Map(_) | Value::Raw(_) => (found.to_string(), "map[string]interface {}"),
    };
    format!(".{} accessor error: {shown} is of the type {kind}, expected {wanted}", path.join("."))
}

fn replicas(object: &Value, path: &str) -> Option<FieldError> {
    let at = Path::new(path);
    match number_at(object, &split(path)) {
        Err(why) => Some(FieldError::invalid(&at, 0_i64, why)),
        Ok(Some(n)) if n < 0 => Some(FieldError::invalid(&at, n, "should be a non-negative integer")),
        Ok(Some(n)) if n > i64::from(i32::MAX) => {
            Some(FieldError::invalid(&at, n, "should be less than or equal to 2147483647"))
        }
        Ok(_) => None,
    }
}

fn type_meta(call: &Call<'_>, object: &Value) -> Vec<FieldError> {
    let kind = call.resource.row.kind;
    let api_version = kind.api_version();
    let check = |field: &str, wanted: &str| {
        let found = object.str_at(&[field]).unwrap_or_default();
        (found != wanted).then(|| FieldError::invalid(&Path::new(field), found, format!("must be {wanted}")))
    };
    check("kind", kind.kind).into_iter().chain(check("apiVersion", &api_version)).collect()
}

/// A finalizer without a domain of its own. Upstream: `validateKubeFinalizerName`.
fn finalizer_warnings(added: &[&str]) -> Vec<String> {
    let mut out = Vec::new();
    for name in added {
        let quoted = machinery::golang::quote(name);
        for why in content::qualified_name(name) {
            out.push(format!("metadata.finalizers: {quoted}: {why}"));
        }
        if name.contains('/') || matches!(*name, "orphan" | "foregroundDeletion" | "kubernetes") {
            continue;
        }
        let how = if name.contains('.') { " including a path (/)" } else { "" };
        out.push(format!(
            "metadata.finalizers: {quoted}: prefer a domain-qualified finalizer name{how} to avoid accidental conflicts with other finalizer writers"
        ));
    }
    out
}

fn without_metadata(object: &Value) -> Value {
    let mut copy = object.clone();
    copy.remove_path(&["metadata"]);
    copy
}

#[async_trait]
impl Strategy for CustomResources {
    async fn begin_create(
        &self,
        call: &Call<'_>,
        object: &mut Value,
    ) -> Result<Option<Box<dyn Finish>>, ApiError> {
        self.not_terminating(call, meta::name(object)).map(|()| None)
    }

    fn declares(&self, _call: &Call<'_>) -> bool {
        false
    }

    fn prepare_for_create(&self, _call: &Call<'_>, object: &mut Value) {
        if self.has_status {
            object.remove_path(&["status"]);
        }
        meta::set(object, "generation", 1_i64);
    }

    fn validate(&self, call: &Call<'_>, object: &Value) -> Vec<FieldError> {
        let mut errors = type_meta(call, object);
        if errors.is_empty() {
            errors = validate_metadata(call, object, objectmeta::name_is_subdomain);
            errors.extend(self.schema().into_iter().flat_map(|s| validate(&Path::ROOT, object, s)));
            errors.extend(self.scale(object, false));
        }
        errors.extend(self.embedded(object));
        errors.extend(self.lists(object));
        self.rules(call, object, None, &mut errors);
        errors
    }

    fn warnings_on_create(&self, _call: &Call<'_>, object: &Value) -> Vec<String> {
        let mut added = meta::finalizers(object);
        added.sort_unstable();
        finalizer_warnings(&added)
    }

    fn prepare_for_update(&self, call: &Call<'_>, object: &mut Value, old: &Value) {
        if call.is_status() {
            let status = object.get("status").cloned();
            let fields = object.get_path(&["metadata", "managedFields"]).cloned();
            *object = old.clone();
            meta::set(object, "managedFields", fields.unwrap_or_default());
            match (status, object) {
                (Some(status), Value::Map(map)) => drop(map.insert("status", status)),
                (None, object) => drop(object.remove_path(&["status"])),
                _ => {}
            }
            return;
        }
        if self.has_status {
            keep(object, old, "status");
        }
        if !without_metadata(object).semantic_eq(&without_metadata(old)) {
            meta::set(object, "generation", meta::generation(old).saturating_add(1));
        }
    }

    fn judges_finalizers(&self, _call: &Call<'_>) -> bool {
        false
    }

    fn validate_update(&self, call: &Call<'_>, object: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = type_meta(call, object);
        let status = call.is_status();
        if errors.is_empty() {
            let schema = self.schema();
            let correlated = schema.map(|s| Correlated::new(object, old, s));
            errors.extend(match (schema, status) {
                (Some(s), false) => validate_update(&Path::ROOT, object, s, correlated),
                (Some(s), true) => match (object.get("status"), s.properties.get("status")) {
                    (Some(value), Some(s)) => {
                        let below = correlated.and_then(|c| c.key("status"));
                        validate_update(&Path::new("status"), value, s, below)
                    }
                    _ => Vec::new(),
                },
                (None, _) => Vec::new(),
            });
            errors.extend(self.scale(object, status));
        }
        if !status {
            errors.extend(self.embedded(object));
        }
        let repeated = self.lists(object);
        if !repeated.is_empty() && self.lists(old).is_empty() {
            errors.extend(repeated);
        }
        self.rules(call, object, Some(old), &mut errors);
        errors
    }

    fn warnings_on_update(&self, call: &Call<'_>, object: &Value, old: &Value) -> Vec<String> {
        if call.is_status() {
            return Vec::new();
        }
        let present = meta::finalizers(old);
        let mut added: Vec<&str> =
            meta::finalizers(object).into_iter().filter(|f| !present.contains(f)).collect();
        added.sort_unstable();
        finalizer_warnings(&added)
    }
}
