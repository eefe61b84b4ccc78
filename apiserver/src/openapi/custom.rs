//! Schemas of custom resources, as their definitions have them.
//! Upstream: `apiextensions-apiserver/pkg/controller/openapi/{builder,v2}`, `apiserver/schema/{unfold,kubeopenapi}.go`.

use registry::api::{CustomRow, ResourceRow};
use serde_json::{Map, Value, json};

use super::Dialect;
use super::schemas::Schemas;

const API_VERSION: &str = "APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized schemas to the latest internal value, and may reject unrecognized values. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources";
const KIND: &str = "Kind is a string value representing the REST resource this object represents. Servers may infer this from the endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";
const METADATA: &str = "Standard object's metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";
const LIST_METADATA: &str = "Standard list metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";

/// `com.example.stable.v1.CronTab`
fn model(row: &ResourceRow, kind: &str) -> String {
    let group: Vec<&str> = row.gvk.group.split('.').rev().collect();
    format!("{}.{}.{kind}", group.join("."), row.gvk.version)
}

fn kind_extension(row: &ResourceRow, kind: &str) -> Value {
    json!([{"group": row.gvk.group, "version": row.gvk.version, "kind": kind}])
}

fn selectable(custom: &CustomRow, schema: &mut Value) {
    if !custom.selectable.is_empty() {
        let fields: Vec<Value> = custom.selectable.iter().map(|f| json!({"fieldPath": f})).collect();
        schema["x-kubernetes-selectable-fields"] = json!(fields);
    }
}

/// A reference with a description beside it, in the way of the dialect.
fn described(reference: Value, text: &str, dialect: Dialect) -> Value {
    match dialect {
        Dialect::V2 => {
            let mut out = reference;
            out["description"] = json!(text);
            out
        }
        Dialect::V3 => json!({"description": text, "allOf": [reference]}),
    }
}

fn type_meta(schema: &mut Value) {
    schema["properties"]["apiVersion"] = json!({"type": "string", "description": API_VERSION});
    schema["properties"]["kind"] = json!({"type": "string", "description": KIND});
}

/// A reference to the schema of the kind, which is made.
pub(super) fn object(row: &ResourceRow, custom: &CustomRow, schemas: &mut Schemas) -> Value {
    let dialect = schemas.dialect;
    let opaque = |s: &Value| {
        dialect == Dialect::V2 && (custom.preserve || flag(s, "x-kubernetes-preserve-unknown-fields"))
    };
    let mut schema = match custom.schema.as_ref().filter(|s| !opaque(s)) {
        None => json!({"type": "object"}),
        Some(own) => {
            let mut schema = own.clone();
            unfold(&mut schema);
            if dialect == Dialect::V2 {
                reduce(&mut schema);
            }
            embed(&mut schema, schemas);
            if !schema["properties"].is_object() {
                schema["properties"] = json!({});
            }
            schema["properties"]["metadata"] = described(schemas.meta("ObjectMeta"), METADATA, dialect);
            type_meta(&mut schema);
            schema
        }
    };
    schema["x-kubernetes-group-version-kind"] = kind_extension(row, &row.gvk.kind);
    selectable(custom, &mut schema);
    schemas.plain(&model(row, &row.gvk.kind), schema)
}

/// A reference to the schema of lists of the kind.
pub(super) fn list(row: &ResourceRow, custom: &CustomRow, schemas: &mut Schemas) -> Value {
    let item = object(row, custom, schemas);
    let about = format!(
        "List of {}. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md",
        row.resource
    );
    let metadata = described(schemas.meta("ListMeta"), LIST_METADATA, schemas.dialect);
    let mut schema = json!({
        "type": "object",
        "description": format!("{} is a list of {}", custom.list_kind, row.gvk.kind),
        "required": ["items"],
        "properties": {"items": {"type": "array", "description": about, "items": item}, "metadata": metadata},
    });
    type_meta(&mut schema);
    schema["x-kubernetes-group-version-kind"] = kind_extension(row, &custom.list_kind);
    selectable(custom, &mut schema);
    schemas.plain(&model(row, &custom.list_kind), schema)
}

fn flag(schema: &Value, name: &str) -> bool {
    schema.get(name) == Some(&Value::Bool(true))
}

/// Visits the structural part of a schema, inner nodes first.
fn visit(schema: &mut Value, see: &mut dyn FnMut(&mut Map<String, Value>)) {
    let Some(node) = schema.as_object_mut() else { return };
    if let Some(properties) = node.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(|p| visit(p, see));
    }
    for field in ["items", "additionalProperties"] {
        if let Some(below) = node.get_mut(field) {
            visit(below, see);
        }
    }
    see(node);
}

/// Says what `x-kubernetes-int-or-string` means to readers that do not know it.
fn unfold(schema: &mut Value) {
    let either = || json!([{"type": "integer"}, {"type": "string"}]);
    visit(schema, &mut |node| {
        let first = node.get("allOf").and_then(|all| all.get(0)).and_then(|f| f.get("anyOf")).cloned();
        let said = node.get("anyOf") == Some(&either()) || first == Some(either());
        if node.get("x-kubernetes-int-or-string") != Some(&Value::Bool(true)) || said {
            return;
        }
        if node.contains_key("anyOf") {
            let mut all = vec![json!({"anyOf": either()})];
            all.extend(node.get("allOf").and_then(Value::as_array).cloned().unwrap_or_default());
            node.insert("allOf".to_owned(), Value::Array(all));
        } else {
            node.insert("anyOf".to_owned(), either());
        }
    });
}

/// Leaves out what version 2 cannot say. Upstream: `ToStructuralOpenAPIV2`, and the pruning of defaults.
fn reduce(schema: &mut Value) {
    let nullable = |v: &Value| flag(v, "nullable");
    // Before the properties themselves lose the mark.
    mark_required(schema, &nullable);
    visit(schema, &mut |node| {
        for field in ["allOf", "oneOf", "anyOf", "not", "default"] {
            node.remove(field);
        }
        if node.remove("nullable") == Some(Value::Bool(true)) {
            for field in ["type", "items", "properties"] {
                node.remove(field);
            }
        }
        let preserves = node.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true));
        if preserves {
            node.remove("items");
            node.remove("properties");
        }
        let kind = node.get("type").and_then(Value::as_str).unwrap_or_default();
        if (kind == "array" && !node.contains_key("items")) || (preserves && kind == "object") {
            node.remove("type");
        }
    });
}

fn mark_required(schema: &mut Value, nullable: &dyn Fn(&Value) -> bool) {
    visit(schema, &mut |node| {
        let properties = node.get("properties").and_then(Value::as_object);
        let free: Vec<String> = properties
            .into_iter()
            .flatten()
            .filter(|(_, p)| nullable(p))
            .map(|(name, _)| name.clone())
            .collect();
        let none = node.get("additionalProperties").is_some_and(nullable);
        let Some(required) = node.get_mut("required").and_then(Value::as_array_mut) else { return };
        required.retain(|r| !none && !free.iter().any(|f| r == f));
        if required.is_empty() {
            node.remove("required");
        }
    });
}

/// Gives embedded resources their type and metadata.
fn embed(schema: &mut Value, schemas: &mut Schemas) {
    let dialect = schemas.dialect;
    let mut metadata = None;
    visit(schema, &mut |node| {
        let preserves = node.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true));
        let embedded = node.get("x-kubernetes-embedded-resource") == Some(&Value::Bool(true));
        if !embedded || (preserves && dialect == Dialect::V2) {
            return;
        }
        let reference = metadata.get_or_insert_with(|| schemas.meta("ObjectMeta")).clone();
        let mut copy = Value::Object(std::mem::take(node));
        if !copy["properties"].is_object() {
            copy["properties"] = json!({});
        }
        type_meta(&mut copy);
        copy["properties"]["metadata"] = described(reference, METADATA, dialect);
        let mut required = copy["required"].as_array().cloned().unwrap_or_default();
        for field in ["kind", "apiVersion"] {
            if !required.iter().any(|r| r == field) {
                required.push(json!(field));
            }
        }
        copy["required"] = Value::Array(required);
        if let Value::Object(map) = copy {
            *node = map;
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_2_says_less() {
        let mut schema = json!({"type": "object", "required": ["a", "b"], "properties": {
            "a": {"type": "string", "nullable": true}, "b": {"type": "integer", "default": 1},
            "c": {"x-kubernetes-int-or-string": true},
            "d": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"e": {}}}}});
        unfold(&mut schema);
        assert_eq!(schema["properties"]["c"]["anyOf"][0]["type"], "integer");
        reduce(&mut schema);
        let want = json!({"type": "object", "required": ["b"], "properties": {
            "a": {}, "b": {"type": "integer"}, "c": {"x-kubernetes-int-or-string": true},
            "d": {"x-kubernetes-preserve-unknown-fields": true}}});
        assert_eq!(schema, want);
    }
}
