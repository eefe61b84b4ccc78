//! What a compiled schema declares to expressions.

use cel::{DeclType, Kind};
use machinery::Str;

use crate::schema::{Additional, Schema};

/// The schema as expressions see it.
pub fn cel_schema(s: &Schema) -> cel::Schema {
    let out = cel::Schema {
        kind: match s.kind.as_str() {
            "object" => Kind::Object,
            "array" => Kind::Array,
            "string" => Kind::String,
            "number" => Kind::Number,
            "integer" => Kind::Integer,
            "boolean" => Kind::Boolean,
            _ => Kind::None,
        },
        format: (!s.format.is_empty()).then(|| Str::from(s.format.as_str())),
        nullable: s.nullable,
        properties: (!s.properties.is_empty())
            .then(|| s.properties.iter().map(|(k, p)| (k.as_str().into(), cel_schema(p))).collect()),
        additional: s.additional_schema().map(|a| Box::new(cel_schema(a))),
        items: s.items.as_deref().map(|i| Box::new(cel_schema(i))),
        required: s.rules.required.iter().map(|r| r.as_str().into()).collect(),
        enumeration: (!s.rules.enumeration.is_empty()).then(|| s.rules.enumeration.clone()),
        has_default: s.default.is_some(),
        max_length: s.rules.max_length,
        max_items: s.rules.max_items,
        max_properties: s.rules.max_properties,
        int_or_string: s.int_or_string,
        embedded: s.embedded,
        preserve_unknown: s.preserve_unknown,
        list_kind: s.list_type.as_deref().map(Str::from),
        list_keys: s.list_map_keys.iter().map(|k| k.as_str().into()).collect(),
    };
    if s.embedded { out.with_type_and_object_meta() } else { out }
}

/// The way from a schema to one within it.
#[derive(Clone, Copy, Debug)]
pub enum Step<'a> {
    /// A property.
    Property(&'a str),
    /// The items of a list.
    Items,
    /// The values of a map.
    Additional,
}

/// A schema and the type it declares, if it declares one.
#[derive(Clone, Debug)]
pub struct Declared<'a> {
    /// The schema.
    pub schema: &'a Schema,
    /// Its type.
    pub decl: Option<DeclType>,
}

impl<'a> Declared<'a> {
    /// A schema on its own.
    pub fn new(schema: &'a Schema, is_root: bool) -> Self {
        let decl = DeclType::from_schema(&cel_schema(schema), is_root || schema.embedded);
        Declared { schema, decl }
    }

    /// A property. `None` where no identifier can stand for it, or it declares no type.
    pub fn property(&self, name: &str) -> Option<Declared<'a>> {
        let schema = self.schema.properties.get(name)?;
        let decl = self.decl.as_ref()?.field(&cel::escape(name)?)?.clone();
        Some(Declared { schema, decl: Some(decl) })
    }

    /// The items of a list.
    pub fn items(&self) -> Option<Declared<'a>> {
        let schema = self.schema.items.as_deref()?;
        Some(Declared { schema, decl: self.decl.as_ref().and_then(DeclType::element).cloned() })
    }

    /// The values of a map.
    pub fn additional(&self) -> Option<Declared<'a>> {
        let schema = self.schema.additional.as_ref().and_then(Additional::schema)?;
        Some(Declared { schema, decl: self.decl.as_ref().and_then(DeclType::element).cloned() })
    }

    /// What a step leads to.
    pub fn step(&self, step: Step<'_>) -> Option<Declared<'a>> {
        match step {
            Step::Property(name) => self.property(name),
            Step::Items => self.items(),
            Step::Additional => self.additional(),
        }
    }
}
