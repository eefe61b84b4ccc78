//! Schemas of kinds in the OpenAPI v3 documents that API servers publish.
//! Upstream: `k8s.io/apiserver/pkg/cel/openapi/resolver`.

use machinery::{Map, Value};

use crate::Schema;

const PREFIX: &str = "#/components/schemas/";
/// How many schemas one may come to once what it refers to stands in it, and how deep. The largest built-in one has some
/// thousands.
const MOST: usize = 100_000;
const DEEPEST: usize = 200;

/// The schema of a kind in a document, with what it refers to in it; what refers to itself is an object of anything.
/// `None` where the document does not describe the kind.
///
/// # Errors
/// A reference to nothing, or a schema beyond all bounds.
pub fn schema_of(document: &Value, group: &str, version: &str, kind: &str) -> Result<Option<Schema>, String> {
    let Some(all) = document.map_at(&["components", "schemas"]) else { return Ok(None) };
    let is = |of: &Value| {
        [("group", group), ("version", version), ("kind", kind)]
            .iter()
            .all(|(field, want)| of.str_at(&[field]).unwrap_or_default() == *want)
    };
    let found = all.iter().find(|(_, schema)| {
        schema.list_at(&["x-kubernetes-group-version-kind"]).is_some_and(|kinds| kinds.iter().any(is))
    });
    let Some((name, schema)) = found else { return Ok(None) };
    let mut resolver = Resolver { all, within: vec![name.as_str()], left: MOST };
    Ok(Some(Schema::parse(&resolver.populate(schema, 0)?)))
}

struct Resolver<'a> {
    all: &'a Map,
    /// What is being put in place, from the outside in.
    within: Vec<&'a str>,
    left: usize,
}

/// What a schema refers to; descriptions of references are told beside them in an `allOf`.
fn reference(schema: &Value) -> Option<&str> {
    let own = schema.str_at(&["$ref"]).map(|r| r.strip_prefix(PREFIX).unwrap_or(r));
    own.or_else(|| schema.list_at(&["allOf"])?.iter().find_map(reference))
}

impl<'a> Resolver<'a> {
    /// Upstream's `PopulateRefs`.
    fn populate(&mut self, schema: &'a Value, depth: usize) -> Result<Value, String> {
        self.left = self.left.checked_sub(1).ok_or("the schema is too large")?;
        if depth > DEEPEST {
            return Err("the schema is too deep".into());
        }
        let Some(name) = reference(schema) else { return self.parts(schema, depth) };
        if self.within.contains(&name) {
            let mut anything = Map::new();
            anything.insert("type", Value::Str("object".into()));
            return Ok(Value::Map(anything));
        }
        let (name, target) =
            self.all.get_key_value(name).ok_or_else(|| format!("cannot resolve Ref {name:?}"))?;
        self.within.push(name.as_str());
        let out = self.parts(target, depth);
        self.within.pop();
        out
    }

    fn parts(&mut self, schema: &'a Value, depth: usize) -> Result<Value, String> {
        let Value::Map(fields) = schema else { return Ok(schema.clone()) };
        let mut out = fields.clone();
        if let Some(properties) = fields.get("properties").and_then(Value::as_map) {
            let mut populated = properties.clone();
            for (name, property) in properties.iter() {
                populated.insert(name.clone(), self.populate(property, depth + 1)?);
            }
            out.insert("properties", Value::Map(populated));
        }
        for field in ["additionalProperties", "items"] {
            if let Some(inner) = fields.get(field).filter(|v| v.as_map().is_some()) {
                out.insert(field, self.populate(inner, depth + 1)?);
            }
        }
        // Built-in types have the format where custom ones have the extension.
        if fields.get("format").and_then(Value::as_str) == Some("int-or-string") {
            out.insert("x-kubernetes-int-or-string", Value::Bool(true));
        }
        Ok(Value::Map(out))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{DeclType, Type};

    fn document(schemas: serde_json::Value) -> Value {
        Value::from(json!({"components": {"schemas": schemas}}))
    }

    fn kind(name: &str) -> serde_json::Value {
        json!([{"group": "g", "version": "v1", "kind": name}])
    }

    #[test]
    fn references_are_replaced() {
        let document = document(json!({
            "A": {"type": "object", "x-kubernetes-group-version-kind": kind("A"), "properties": {
                "spec": {"description": "d", "default": {}, "allOf": [{"$ref": "#/components/schemas/Spec"}]},
                "self": {"$ref": "#/components/schemas/A"},
                "list": {"type": "array", "items": {"$ref": "#/components/schemas/Port"}},
                "map": {"type": "object", "additionalProperties": {"$ref": "#/components/schemas/Spec"}},
                "any": {"$ref": "#/components/schemas/Quantity"},
            }},
            "Spec": {"type": "object", "properties": {"n": {"type": "integer"}}},
            "Port": {"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]},
            "Quantity": {"oneOf": [{"type": "string"}, {"type": "number"}]},
        }));
        let schema = schema_of(&document, "g", "v1", "A").unwrap().unwrap();
        let t = DeclType::from_schema(&schema, true).unwrap().named("A");
        let n = |t: &DeclType| t.field("n").map(|f| f.cel_type().clone());
        assert_eq!(n(t.field("spec").unwrap()), Some(Type::Int));
        assert_eq!(n(t.field("map").unwrap().element().unwrap()), Some(Type::Int));
        assert_eq!(*t.field("list").unwrap().element().unwrap().cel_type(), Type::Dyn);
        // What is more than one type has none, and is not there at all.
        assert!(t.field("self").is_some() && t.field("any").is_none());
        assert!(schema_of(&document, "g", "v2", "A").unwrap().is_none());
    }

    #[test]
    fn there_are_bounds() {
        let broken = json!({"A": {"x-kubernetes-group-version-kind": kind("A"), "items": {"$ref": "#/components/schemas/B"}}});
        assert!(schema_of(&document(broken), "g", "v1", "A").is_err());
        let mut wide = json!({"A": {"x-kubernetes-group-version-kind": kind("A"), "items": {"$ref": "#/components/schemas/0"}}});
        for i in 0..30 {
            let next = json!({"$ref": format!("#/components/schemas/{}", i + 1)});
            wide[i.to_string()] = json!({"properties": {"a": next, "b": next}});
        }
        wide["30"] = json!({"type": "string"});
        let error = schema_of(&document(wide), "g", "v1", "A").unwrap_err();
        assert_eq!(error, "the schema is too large");
    }
}
