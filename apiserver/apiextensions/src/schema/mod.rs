//! Structural schemas: the compiled form of a definition's `openAPIV3Schema`, and what it does to instances.
//!
//! One node type serves the structure (pruning, defaults, list types) and the value validations nested in `allOf` and
//! its kin, as the source does. Upstream: `pkg/apiserver/schema`.

pub mod coerce;
pub mod default;
mod formats;
pub mod lists;
mod pattern;
pub mod prune;
pub mod resource_meta;
pub mod structural;
pub mod validate;

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSON, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool, ValidationRule,
};
use machinery::Value;

pub use formats::{is_supported, unrecognized};
pub use pattern::Pattern;

/// A compiled schema.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    /// `type`, empty when absent.
    pub kind: String,
    /// `format`, empty when absent.
    pub format: String,
    /// `nullable`.
    pub nullable: bool,
    /// `default`.
    pub default: Option<Value>,
    /// `properties`.
    pub properties: BTreeMap<String, Schema>,
    /// `additionalProperties`.
    pub additional: Option<Additional>,
    /// `items`.
    pub items: Option<Box<Schema>>,
    /// `x-kubernetes-preserve-unknown-fields`.
    pub preserve_unknown: bool,
    /// `x-kubernetes-embedded-resource`.
    pub embedded: bool,
    /// `x-kubernetes-int-or-string`.
    pub int_or_string: bool,
    /// `x-kubernetes-list-type`.
    pub list_type: Option<String>,
    /// `x-kubernetes-list-map-keys`.
    pub list_map_keys: Vec<String>,
    /// `x-kubernetes-map-type`.
    pub map_type: Option<String>,
    /// `x-kubernetes-validations`
    pub validations: Vec<ValidationRule>,
    /// What values must satisfy.
    pub rules: Rules,
}

/// `additionalProperties`: a truth value or a schema.
#[derive(Clone, Debug)]
pub enum Additional {
    /// Whether others are allowed at all.
    Allowed(bool),
    /// What others must be.
    Schema(Box<Schema>),
}

impl Additional {
    /// The schema, if there is one.
    pub fn schema(&self) -> Option<&Schema> {
        match self {
            Additional::Schema(schema) => Some(schema),
            Additional::Allowed(_) => None,
        }
    }
}

/// Value validations.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "the fields are JSON schema's")]
pub struct Rules {
    pub maximum: Option<f64>,
    pub exclusive_maximum: bool,
    pub minimum: Option<f64>,
    pub exclusive_minimum: bool,
    pub max_length: Option<i64>,
    pub min_length: Option<i64>,
    pub pattern: Option<Pattern>,
    pub max_items: Option<i64>,
    pub min_items: Option<i64>,
    pub unique_items: bool,
    pub multiple_of: Option<f64>,
    pub enumeration: Vec<Value>,
    pub max_properties: Option<i64>,
    pub min_properties: Option<i64>,
    pub required: Vec<String>,
    pub all_of: Vec<Schema>,
    pub one_of: Vec<Schema>,
    pub any_of: Vec<Schema>,
    pub not: Option<Box<Schema>>,
}

/// A default or enumerated value; a literal null is as good as none.
pub(crate) fn value_of(json: &JSON) -> Value {
    Value::from(json.0.clone())
}

/// The text of an optional field.
pub(crate) fn text(field: &Option<String>) -> &str {
    field.as_deref().unwrap_or_default()
}

/// The items of an optional list.
pub(crate) fn items<T>(field: &Option<Vec<T>>) -> &[T] {
    field.as_deref().unwrap_or_default()
}

impl Schema {
    /// Compiles a schema. Upstream: `NewStructural` in `schema/convert.go`.
    ///
    /// # Errors
    /// What a structural schema cannot say, in upstream's words.
    pub fn new(s: &JSONSchemaProps) -> Result<Schema, String> {
        unsupported(s)?;
        let mut out = Schema {
            kind: text(&s.type_).to_owned(),
            format: text(&s.format).to_owned(),
            nullable: s.nullable.unwrap_or(false),
            default: s.default.as_ref().map(value_of).filter(|v| !v.is_null()),
            embedded: s.x_kubernetes_embedded_resource.unwrap_or(false),
            int_or_string: s.x_kubernetes_int_or_string.unwrap_or(false),
            list_type: s.x_kubernetes_list_type.clone(),
            list_map_keys: s.x_kubernetes_list_map_keys.clone().unwrap_or_default(),
            map_type: s.x_kubernetes_map_type.clone(),
            validations: s.x_kubernetes_validations.clone().unwrap_or_default(),
            rules: rules(s)?,
            ..Schema::default()
        };
        match s.x_kubernetes_preserve_unknown_fields {
            Some(false) => {
                return Err(
                    "internal error: 'x-kubernetes-preserve-unknown-fields' must be true or undefined".into(),
                );
            }
            preserve => out.preserve_unknown = preserve.is_some(),
        }
        out.items = match &s.items {
            None => None,
            Some(JSONSchemaPropsOrArray::Schema(item)) => Some(Box::new(Schema::new(item)?)),
            Some(JSONSchemaPropsOrArray::Schemas(list)) if list.is_empty() => None,
            Some(JSONSchemaPropsOrArray::Schemas(_)) => {
                return Err("OpenAPIV3Schema 'items' must be a schema, but is an array".into());
            }
        };
        for (name, property) in s.properties.iter().flatten() {
            out.properties.insert(name.clone(), Schema::new(property)?);
        }
        out.additional = match &s.additional_properties {
            None => None,
            Some(JSONSchemaPropsOrBool::Bool(allowed)) => Some(Additional::Allowed(*allowed)),
            Some(JSONSchemaPropsOrBool::Schema(schema)) => {
                Some(Additional::Schema(Box::new(Schema::new(schema)?)))
            }
        };
        Ok(out)
    }

    /// The schema as that of an embedded resource, which every root is.
    pub fn as_resource(&self) -> std::borrow::Cow<'_, Schema> {
        if self.embedded {
            return std::borrow::Cow::Borrowed(self);
        }
        std::borrow::Cow::Owned(Schema { embedded: true, ..self.clone() })
    }

    /// The schema of what is not a property.
    pub fn additional_schema(&self) -> Option<&Schema> {
        self.additional.as_ref().and_then(Additional::schema)
    }

    /// The types a value may have: JSON schema's names.
    pub(crate) fn types(&self) -> &[&str] {
        if self.int_or_string {
            return &["integer", "string"];
        }
        match self.kind.as_str() {
            "object" => &["object"],
            "array" => &["array"],
            "string" => &["string"],
            "integer" => &["integer"],
            "number" => &["number"],
            "boolean" => &["boolean"],
            "null" => &["null"],
            _ => &[],
        }
    }
}

fn rules(s: &JSONSchemaProps) -> Result<Rules, String> {
    let all = |list: &Option<Vec<JSONSchemaProps>>| -> Result<Vec<Schema>, String> {
        list.iter().flatten().map(Schema::new).collect()
    };
    Ok(Rules {
        maximum: s.maximum,
        exclusive_maximum: s.exclusive_maximum.unwrap_or(false),
        minimum: s.minimum,
        exclusive_minimum: s.exclusive_minimum.unwrap_or(false),
        max_length: s.max_length,
        min_length: s.min_length,
        pattern: s.pattern.as_deref().filter(|p| !p.is_empty()).map(Pattern::new),
        max_items: s.max_items,
        min_items: s.min_items,
        unique_items: s.unique_items.unwrap_or(false),
        multiple_of: s.multiple_of,
        enumeration: s.enum_.iter().flatten().map(value_of).collect(),
        max_properties: s.max_properties,
        min_properties: s.min_properties,
        required: s.required.clone().unwrap_or_default(),
        all_of: all(&s.all_of)?,
        one_of: all(&s.one_of)?,
        any_of: all(&s.any_of)?,
        not: s.not.as_deref().map(Schema::new).transpose()?.map(Box::new),
    })
}

/// `validateUnsupportedFields`.
fn unsupported(s: &JSONSchemaProps) -> Result<(), String> {
    let some = |text: &Option<String>| text.as_ref().is_some_and(|t| !t.is_empty());
    let found = [
        ("id", some(&s.id)),
        ("schema", some(&s.schema)),
        ("$ref", some(&s.ref_path)),
        ("patternProperties", s.pattern_properties.as_ref().is_some_and(|m| !m.is_empty())),
        ("dependencies", s.dependencies.as_ref().is_some_and(|m| !m.is_empty())),
        ("additionalItems", s.additional_items.is_some()),
        ("definitions", s.definitions.as_ref().is_some_and(|m| !m.is_empty())),
    ];
    match found.iter().find(|(_, set)| *set) {
        Some((name, _)) => Err(format!("OpenAPIV3Schema '{name}' is not supported")),
        None => Ok(()),
    }
}

/// The fields of every object that its schema need not mention.
pub(crate) fn is_meta_field(name: &str) -> bool {
    matches!(name, "apiVersion" | "kind" | "metadata")
}
