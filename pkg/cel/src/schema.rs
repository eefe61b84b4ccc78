//! The part of an OpenAPI schema that expressions see: field types, and how lists compare.

use machinery::{Str, Value};
use std::collections::HashMap;

/// Characters of a DNS subdomain.
const LONGEST_NAME: i64 = 253;

/// `type` of a schema.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    #[default]
    None,
    Object,
    Array,
    String,
    Number,
    Integer,
    Boolean,
}

/// A structural schema, read from its JSON form.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    pub kind: Kind,
    pub format: Option<Str>,
    pub nullable: bool,
    pub properties: Option<HashMap<Str, Schema>>,
    pub additional: Option<Box<Schema>>,
    pub items: Option<Box<Schema>>,
    pub required: Vec<Str>,
    /// The longest string among `enum`, where there is one.
    pub enumeration: Option<Vec<Value>>,
    pub has_default: bool,
    pub max_length: Option<i64>,
    pub max_items: Option<i64>,
    pub max_properties: Option<i64>,
    pub int_or_string: bool,
    pub embedded: bool,
    pub preserve_unknown: bool,
    pub list_kind: Option<Str>,
    pub list_keys: Vec<Str>,
}

fn strings(v: Option<&Value>) -> Vec<Str> {
    v.and_then(Value::as_list)
        .map(|l| l.iter().filter_map(|s| s.as_str().map(Str::from)).collect())
        .unwrap_or_default()
}

impl Schema {
    /// Reads an OpenAPI v3 schema. What expressions have no use for is passed over.
    pub fn parse(v: &Value) -> Schema {
        let flag = |name: &str| v.get(name).and_then(Value::as_bool).unwrap_or(false);
        let number = |name: &str| v.get(name).and_then(Value::as_i64);
        let text = |name: &str| v.get(name).and_then(Value::as_str).map(Str::from);
        let sub =
            |name: &str| v.get(name).filter(|s| s.as_map().is_some()).map(|s| Box::new(Schema::parse(s)));
        Schema {
            kind: match v.get("type").and_then(Value::as_str) {
                Some("object") => Kind::Object,
                Some("array") => Kind::Array,
                Some("string") => Kind::String,
                Some("number") => Kind::Number,
                Some("integer") => Kind::Integer,
                Some("boolean") => Kind::Boolean,
                _ => Kind::None,
            },
            format: text("format"),
            nullable: flag("nullable"),
            properties: v
                .get("properties")
                .and_then(Value::as_map)
                .map(|m| m.iter().map(|(k, v)| (k.clone(), Schema::parse(v))).collect()),
            additional: sub("additionalProperties"),
            items: sub("items"),
            required: strings(v.get("required")),
            enumeration: v.get("enum").and_then(Value::as_list).map(|l| l.to_vec()),
            has_default: v.get("default").is_some_and(|d| !d.is_null()),
            max_length: number("maxLength"),
            max_items: number("maxItems"),
            max_properties: number("maxProperties"),
            int_or_string: flag("x-kubernetes-int-or-string"),
            embedded: flag("x-kubernetes-embedded-resource"),
            preserve_unknown: flag("x-kubernetes-preserve-unknown-fields"),
            list_kind: text("x-kubernetes-list-type"),
            list_keys: strings(v.get("x-kubernetes-list-map-keys")),
        }
        .with_metadata_if_embedded()
    }

    fn with_metadata_if_embedded(self) -> Schema {
        if self.embedded { self.with_type_and_object_meta() } else { self }
    }

    /// The schema of a whole resource: with `apiVersion`, `kind` and the names of its metadata, which are as short as
    /// names are (upstream's `schema/cel/model/schemas.go`).
    pub fn with_type_and_object_meta(mut self) -> Schema {
        let string = || Schema { kind: Kind::String, ..Schema::default() };
        let properties = self.properties.get_or_insert_default();
        let is = |s: Option<&Schema>, kind: Kind| s.is_some_and(|s| s.kind == kind);
        let meta =
            properties.get("metadata").filter(|m| m.kind == Kind::Object).and_then(|m| m.properties.as_ref());
        let complete = is(properties.get("kind"), Kind::String)
            && is(properties.get("apiVersion"), Kind::String)
            && meta
                .is_some_and(|m| is(m.get("name"), Kind::String) && is(m.get("generateName"), Kind::String));
        if !complete {
            properties.insert("kind".into(), string());
            properties.insert("apiVersion".into(), string());
            let own = properties.get("metadata").and_then(|m| m.properties.as_ref());
            let capped = |name: &str, most: i64| {
                let declared = own.and_then(|p| p.get(name)?.max_length);
                let max_length = Some(declared.map_or(most, |n| n.min(most)));
                (Str::from(name), Schema { max_length, ..string() })
            };
            let names = [capped("name", LONGEST_NAME), capped("generateName", LONGEST_NAME - 1)];
            let metadata = Schema { kind: Kind::Object, properties: Some(names.into()), ..Schema::default() };
            properties.insert("metadata".into(), metadata);
        }
        self
    }

    /// Whether the object's fields are declared by name, so that identifiers for them are escaped.
    pub(crate) fn is_object(&self) -> bool {
        self.properties.is_some()
    }

    pub(crate) fn property(&self, name: &str) -> Option<&Schema> {
        match &self.properties {
            Some(properties) => properties.get(name),
            None => self.additional.as_deref(),
        }
    }

    pub(crate) fn item_schema(&self) -> Option<&Schema> {
        self.items.as_deref()
    }

    /// `set` or `map`, where elements are told apart by more than their place.
    pub(crate) fn list_type(&self) -> Option<&str> {
        self.list_kind.as_deref().filter(|k| matches!(*k, "set" | "map"))
    }
}
