//! One mutation: what its expression comes to, applied to the object.
//! Upstream: `plugin/policy/mutating/patch/{json_patch,smd}.go`.

use bytes::Bytes;
use cel::{Made, Val};
use machinery::{Str, Value, apply, json};

use super::definition::{Definition, Mutation, PatchType};
use crate::admission::Attributes;
use crate::admission::expressions::{BUDGET, Values, Variables};
use crate::admission::webhook::versioned::View;
use crate::api::FieldValidation;
use crate::core::Resource;
use crate::errors::ApiError;
use crate::managed_fields;

/// Why there is no changed object.
#[derive(Debug)]
pub enum Failed {
    /// What the failure policy decides about.
    Policy(String),
    /// An answer of its own.
    Status(ApiError),
}

impl From<String> for Failed {
    fn from(why: String) -> Self {
        Failed::Policy(why)
    }
}

impl From<ApiError> for Failed {
    fn from(error: ApiError) -> Self {
        Failed::Status(error)
    }
}

/// The object changed as the mutation says; `object` is the request's own, `values` are what expressions see.
pub fn patch(
    a: &Attributes<'_>,
    resource: &Resource,
    object: &Value,
    definition: &Definition,
    mutation: &Mutation,
    values: &Values,
) -> Result<Value, Failed> {
    let view = View::new(a, resource);
    if let Err(why) = &mutation.expression.program {
        return Err(Failed::Policy(why.clone()));
    }
    match mutation.patch_type {
        PatchType::JsonPatch => {
            let operations = evaluate(definition, mutation, values, operations)?;
            apply_operations(&view, object, &operations)
        }
        PatchType::ApplyConfiguration => {
            let configuration = evaluate(definition, mutation, values, configuration)?;
            apply_configuration(a, &view, object, &values.object, configuration)
        }
    }
}

fn evaluate<T>(
    definition: &Definition,
    mutation: &Mutation,
    values: &Values,
    read: impl Fn(&Val<'_>) -> Result<T, String>,
) -> Result<T, String> {
    let variables = Variables::new(&definition.variables);
    let activation = variables.tie(values.activation(true));
    let mut left = BUDGET;
    let value = mutation.expression.evaluate(&activation, &variables, &mut left)??;
    read(&value)
}

/// A JSON Patch as JSON.
fn operations(v: &Val<'_>) -> Result<Value, String> {
    let Val::List(list) = v else {
        return Err("type mismatch: JSONPatchType.expression should evaluate to array".to_owned());
    };
    let items = list.iter().map(|item| {
        let item = item.map_err(|e| e.to_string())?;
        let operation = item.as_made().ok_or_else(|| {
            let kind = item.type_name();
            format!("type mismatch: JSONPatchType.expression should evaluate to array of JSONPatch, got element of {kind}")
        })?;
        operation_of(operation)
    });
    Ok(Value::from(items.collect::<Result<Vec<Value>, String>>()?))
}

fn operation_of(operation: &Made<'_>) -> Result<Value, String> {
    let mut out = machinery::Map::default();
    let text = |field: &str| Value::Str(Str::from(operation.text(field)));
    out.insert("op", text("op"));
    out.insert("path", text("path"));
    if !operation.text("from").is_empty() {
        out.insert("from", text("from"));
    }
    if let Some(value) = operation.get("value") {
        if let Some(why) = value.as_made().and_then(Made::misplaced) {
            return Err(format!("type mismatch: {why}"));
        }
        let value = value.to_json().map_err(|e| {
            format!("JSONPath valueExpression evaluated to a type that could not marshal to JSON: {e}")
        })?;
        out.insert("value", value);
    }
    Ok(Value::Map(out))
}

fn apply_operations(view: &View<'_>, object: &Value, operations: &Value) -> Result<Value, Failed> {
    let document = view.encode(object)?;
    let patch = Bytes::from(json::encode_any(operations));
    match machinery::patch::json_patch(&document, &patch) {
        Ok(changed) => Ok(view.decode(changed, object, FieldValidation::Strict)?),
        // A failed test means that the patch is not for this object.
        Err(e) if e.is_failed_test() => Ok(object.clone()),
        Err(e) => Err(Failed::Policy(format!("JSON Patch: {e}"))),
    }
}

/// The fields of a configuration to apply.
fn configuration(v: &Val<'_>) -> Result<machinery::Map, String> {
    let made = v.as_made().ok_or_else(|| {
        format!("unsupported return type from ApplyConfiguration expression: {}", v.type_name())
    })?;
    if let Some(why) = made.misplaced() {
        return Err(format!("type mismatch: {why}"));
    }
    match made.to_tree()? {
        Value::Map(fields) => Ok(fields),
        other => Err(format!("invalid return type: {}", other.type_name())),
    }
}

fn apply_configuration(
    a: &Attributes<'_>,
    view: &View<'_>,
    object: &Value,
    shown: &Value,
    mut configuration: machinery::Map,
) -> Result<Value, Failed> {
    let kind = view.kind;
    configuration.insert("apiVersion", Value::Str(kind.api_version().into()));
    configuration.insert("kind", Value::Str(kind.kind.into()));
    let configuration = Value::Map(configuration);
    let api_version = kind.api_version();
    let merged = if let Some(of_kind) = ::api::apply::type_of(&api_version, kind.kind) {
        apply::merge_unowned(&::api::apply::schema(), of_kind, shown, &configuration)
    } else {
        let manager = managed_fields::manager(a.call)?;
        let Some((schema, of_kind)) = manager.type_of(&api_version) else {
            return Err(Failed::Status(ApiError::internal(format!("no type for {}", kind.kind))));
        };
        apply::merge_unowned(schema, of_kind, shown, &configuration)
    };
    let merged = merged.map_err(|e| format!("error applying patch: {e}"))?;
    Ok(view.decode(json::encode_any(&merged), object, FieldValidation::Ignore)?)
}
