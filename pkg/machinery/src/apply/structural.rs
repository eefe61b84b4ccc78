//! Types of server-side apply from the schema of a custom resource.
//!
//! Upstream: kube-openapi pkg/schemaconv/openapi.go (`ToSchemaFromOpenAPI`) on what apiextensions publishes.

use super::schema::{ATOMIC, Atom, DEDUCED, Field, List, Map, Scalar, Schema, TypeId, TypeRef};
use crate::value::{Map as Object, Str, Value};

/// Adds the type of a custom resource in one version to `schema`. `metadata` is the type of ObjectMeta in it.
/// `preserve_unknown` keeps undeclared fields everywhere. The error names what is wrong with the schema.
pub fn from_structural(
    schema: &mut Schema,
    document: &Value,
    preserve_unknown: bool,
    metadata: TypeRef,
) -> Result<TypeRef, String> {
    let mut c = Compiler { schema, metadata, errors: Vec::new() };
    let empty = Object::new();
    let root = document.as_map().unwrap_or(&empty);
    let atom = c.embedded(root, preserve_unknown);
    let id = c.schema.add(Atom { name: Some("resource".into()), ..atom });
    if c.errors.is_empty() { Ok(id.into()) } else { Err(c.errors.join("\n")) }
}

struct Compiler<'a> {
    schema: &'a mut Schema,
    metadata: TypeRef,
    errors: Vec<String>,
}

fn text<'a>(m: &'a Object, key: &str) -> &'a str {
    m.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn flag(m: &Object, key: &str) -> bool {
    m.get(key).and_then(Value::as_bool) == Some(true)
}

impl Compiler<'_> {
    /// A whole object: with kind, version and metadata.
    fn embedded(&mut self, m: &Object, preserve: bool) -> Atom {
        let mut atom = self.atom(m, preserve);
        let string = self.schema.add(Atom { scalar: Some(Scalar::String), ..Atom::default() });
        let map = atom.map.take().unwrap_or_default();
        let mut fields = map.into_fields();
        let meta = [("apiVersion", string.into()), ("kind", string.into()), ("metadata", self.metadata)];
        fields.retain(|f| meta.iter().all(|(n, _)| f.name != *n));
        fields.extend(meta.map(|(n, ty)| Field { name: Str::const_new(n), ty, default: None }));
        // With the three fields the object has properties, so undeclared ones are refused unless kept.
        let preserve = preserve || flag(m, "x-kubernetes-preserve-unknown-fields");
        let element = match m.get("additionalProperties") {
            None => preserve.then_some(DEDUCED.into()),
            Some(_) => self.additional(m, preserve, true),
        };
        let atomic = text(m, "x-kubernetes-map-type") == "atomic";
        atom.map = Some(Map::new(fields, element, atomic));
        atom.scalar = None;
        atom.list = None;
        atom
    }

    fn inline(&mut self, v: &Value, preserve: bool) -> TypeRef {
        let Some(m) = v.as_map() else { return DEDUCED.into() };
        let atom = if flag(m, "x-kubernetes-embedded-resource") {
            self.embedded(m, preserve)
        } else {
            self.atom(m, preserve)
        };
        self.schema.add(atom).into()
    }

    fn atom(&mut self, m: &Object, preserve: bool) -> Atom {
        let preserve = preserve || flag(m, "x-kubernetes-preserve-unknown-fields");
        let scalar = |s| Atom { scalar: Some(s), ..Atom::default() };
        match text(m, "type") {
            "" => Atom {
                scalar: Some(Scalar::Untyped),
                list: Some(self.list(m, preserve)),
                map: Some(self.map(m, preserve)),
                name: None,
            },
            "object" => Atom { map: Some(self.map(m, preserve)), ..Atom::default() },
            "array" => Atom { list: Some(self.list(m, preserve)), ..Atom::default() },
            "integer" | "number" => scalar(Scalar::Numeric),
            "boolean" => scalar(Scalar::Boolean),
            "string" => match text(m, "format") {
                "" | "byte" => scalar(Scalar::String),
                _ => scalar(Scalar::Untyped),
            },
            other => {
                self.errors.push(format!("unrecognized type: '{other}'"));
                scalar(Scalar::Untyped)
            }
        }
    }

    fn map(&mut self, m: &Object, preserve: bool) -> Map {
        let properties = m.get("properties").and_then(Value::as_map).cloned().unwrap_or_default();
        let has_properties = !properties.is_empty();
        let field = |(name, v): (Str, Value), c: &mut Self| {
            let default = v.get("default").filter(|d| !d.is_null()).cloned();
            Field { name, ty: c.inline(&v, preserve), default }
        };
        let fields: Vec<Field> = properties.into_iter().map(|p| field(p, self)).collect();
        let element = self.additional(m, preserve, has_properties);
        let atomic = match text(m, "x-kubernetes-map-type") {
            "atomic" => true,
            "" | "granular" => false,
            other => {
                self.errors.push(format!("unknown map type {other}"));
                false
            }
        };
        Map::new(fields, element, atomic)
    }

    /// The type of undeclared fields.
    fn additional(&mut self, m: &Object, preserve: bool, has_properties: bool) -> Option<TypeRef> {
        match m.get("additionalProperties") {
            None | Some(Value::Null) => (preserve || !has_properties).then_some(DEDUCED.into()),
            Some(Value::Bool(allowed)) => allowed.then_some(DEDUCED.into()),
            Some(v) => Some(self.inline(v, preserve)),
        }
    }

    fn list(&mut self, m: &Object, preserve: bool) -> List {
        let element: TypeRef = match m.get("items").filter(|v| !v.is_null()) {
            Some(items) => self.inline(items, preserve),
            None => {
                if text(m, "type") == "array" {
                    self.errors.push("`items` must be specified on arrays".into());
                }
                ATOMIC.into()
            }
        };
        let keys = || -> Vec<Str> {
            let list = m.get("x-kubernetes-list-map-keys").and_then(Value::as_list);
            list.into_iter().flatten().filter_map(|v| v.as_str().map(Str::from)).collect()
        };
        let (associative, keys) = match text(m, "x-kubernetes-list-type") {
            "map" if m.contains_key("x-kubernetes-list-map-keys") => (true, keys()),
            "map" => {
                self.errors.push("missing map keys".into());
                (true, Vec::new())
            }
            "set" => (true, Vec::new()),
            "" | "atomic" => (false, Vec::new()),
            other => {
                self.errors.push(format!("unknown list type {other}"));
                (false, Vec::new())
            }
        };
        List { element, associative, keys }
    }
}

/// The type of a custom resource without a schema.
pub const UNTYPED: TypeId = DEDUCED;
