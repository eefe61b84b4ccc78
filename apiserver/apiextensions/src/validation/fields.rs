//! Printer columns, subresources and selectable fields.

use api::validation::field::{Bad, Error, Path};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceColumnDefinition, CustomResourceSubresources, JSONSchemaProps, SelectableField,
};

use super::Options;
use crate::definition::Internal;
use crate::rules::{Notation, resolve};
use crate::schema::{Schema, text};

const COLUMN_TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
const COLUMN_FORMATS: [&str; 8] =
    ["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
const MAX_SELECTABLE: usize = 8;

fn schema_of(
    v: &Option<k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceValidation>,
) -> Option<&JSONSchemaProps> {
    v.as_ref().and_then(|s| s.open_api_v3_schema.as_ref())
}

/// Whether every version has a schema.
pub(super) fn all_have_schema(spec: &Internal) -> bool {
    schema_of(&spec.validation).is_some() || spec.versions.iter().all(|v| schema_of(&v.schema).is_some())
}

/// Errors about missing schemas; with a reason, only served versions need one.
pub(super) fn require_schemas(
    root: &Path<'_>,
    spec: &Internal,
    served_because: Option<&str>,
    errors: &mut Vec<Error>,
) {
    if schema_of(&spec.validation).is_some() {
        return;
    }
    let parent = root.child("versions");
    for (index, version) in spec.versions.iter().enumerate() {
        if schema_of(&version.schema).is_some() || (served_because.is_some() && !version.served) {
            continue;
        }
        let at = parent.index(index);
        let schema = at.child("schema");
        errors.push(Error::required(&schema.child("openAPIV3Schema"), served_because.unwrap_or_default()));
    }
}

/// `ValidateCustomResourceColumnDefinition`.
pub(super) fn column(path: &Path<'_>, column: &CustomResourceColumnDefinition, errors: &mut Vec<Error>) {
    if column.name.is_empty() {
        errors.push(Error::required(&path.child("name"), ""));
    }
    let one_of = |list: &[&str]| format!("must be one of {}", list.join(","));
    let kind = column.type_.as_str();
    if kind.is_empty() {
        errors.push(Error::required(&path.child("type"), one_of(&COLUMN_TYPES)));
    } else if !COLUMN_TYPES.contains(&kind) {
        errors.push(Error::invalid(&path.child("type"), kind, one_of(&COLUMN_TYPES)));
    }
    let format = text(&column.format);
    if !format.is_empty() && !COLUMN_FORMATS.contains(&format) {
        errors.push(Error::invalid(&path.child("format"), format, one_of(&COLUMN_FORMATS)));
    }
    if column.json_path.is_empty() {
        errors.push(Error::required(&path.child("JSONPath"), ""));
    } else {
        errors.extend(simple_path(&path.child("JSONPath"), &column.json_path));
    }
}

fn simple_path(path: &Path<'_>, value: &str) -> Option<Error> {
    if value.is_empty() {
        return Some(Error::invalid(path, value, "must not be empty"));
    }
    let why = "must be a simple json path starting with .";
    (!value.starts_with('.')).then(|| Error::invalid(path, value, why))
}

/// `ValidateCustomResourceDefinitionSubresources`.
pub(super) fn subresources(
    path: &Path<'_>,
    subresources: &Option<CustomResourceSubresources>,
    errors: &mut Vec<Error>,
) {
    let Some(scale) = subresources.as_ref().and_then(|s| s.scale.as_ref()) else { return };
    let mut check = |field: &str, value: &str, optional: bool, below: &[&str], why: &str| {
        let at = path.child(field);
        if value.is_empty() {
            errors.extend((!optional).then(|| Error::required(&at, "")));
        } else if let Some(error) = simple_path(&at, value) {
            errors.push(error);
        } else if !below.iter().any(|p| value.starts_with(p)) {
            errors.push(Error::invalid(&at, value, why));
        }
    };
    let spec = "should be a json path under .spec";
    check("scale.specReplicasPath", &scale.spec_replicas_path, false, &[".spec."], spec);
    let status = "should be a json path under .status";
    check("scale.statusReplicasPath", &scale.status_replicas_path, false, &[".status."], status);
    let either = "should be a json path under either .spec or .status";
    let label = text(&scale.label_selector_path);
    check("scale.labelSelectorPath", label, true, &[".spec.", ".status."], either);
}

/// Where selectable fields may stay too many because they were.
pub(super) fn too_many_allowed(new: &Internal, old: &Internal) -> Vec<String> {
    let mut out = Vec::new();
    if old.selectable.len() > MAX_SELECTABLE && new.selectable == old.selectable {
        out.push(String::new());
    }
    for version in &new.versions {
        let before = old.versions.iter().find(|v| v.name == version.name);
        let before = before.and_then(|v| v.selectable_fields.as_ref());
        if before.is_some_and(|f| f.len() > MAX_SELECTABLE && Some(f) == version.selectable_fields.as_ref()) {
            out.push(version.name.clone());
        }
    }
    out
}

/// `ValidateCustomResourceSelectableFields`.
pub(super) fn selectable(
    path: &Path<'_>,
    fields: &[SelectableField],
    schema: &Schema,
    options: &Options,
    version: &str,
    errors: &mut Vec<Error>,
) {
    let mut seen: Vec<&str> = Vec::new();
    for (index, field) in fields.iter().enumerate() {
        let at = path.index(index);
        let at = at.child("jsonPath");
        let value = field.json_path.as_str();
        if value.is_empty() {
            errors.push(Error::required(&at, ""));
            continue;
        }
        let found = match resolve(value, schema, Notation::Dots) {
            Ok(found) => found.schema,
            Err(why) => {
                errors.push(Error::invalid(&at, value, format!("is an invalid path: {why}")));
                continue;
            }
        };
        if value == ".metadata" || value.starts_with(".metadata.") {
            errors.push(Error::invalid(&at, value, "must not point to fields in metadata"));
        }
        if !matches!(found.kind.as_str(), "string" | "boolean" | "integer") {
            let why = "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.";
            errors.push(Error::invalid(&at, value, why));
        }
        if seen.contains(&value) {
            errors.push(Error::duplicate(&at, value));
        } else {
            seen.push(value);
        }
    }
    if seen.len() > MAX_SELECTABLE && !options.too_many_fields.iter().any(|v| v == version) {
        errors.push(Error::too_many(path, seen.len(), MAX_SELECTABLE));
    }
}

/// A list of values that Go prints by the names of its internal fields.
pub(super) fn versions_text(spec: &Internal) -> Bad {
    let all: Vec<serde_json::Value> = spec
        .versions
        .iter()
        .map(|v| {
            serde_json::json!({
                "Name": v.name, "Served": v.served, "Storage": v.storage, "Deprecated": v.deprecated.unwrap_or(false),
                "DeprecationWarning": v.deprecation_warning, "Schema": null, "Subresources": null,
                "AdditionalPrinterColumns": null, "SelectableFields": null,
            })
        })
        .collect();
    // Go prints struct fields in their order.
    let texts: Vec<String> = all
        .iter()
        .map(|v| {
            let order = [
                "Name",
                "Served",
                "Storage",
                "Deprecated",
                "DeprecationWarning",
                "Schema",
                "Subresources",
                "AdditionalPrinterColumns",
                "SelectableFields",
            ];
            let fields: Vec<String> = order.iter().map(|f| format!("{f:?}:{}", v[f])).collect();
            format!("{{{}}}", fields.join(","))
        })
        .collect();
    Bad::Raw(format!("[{}]", texts.join(",")))
}
