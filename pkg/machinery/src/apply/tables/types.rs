//! The types of recorded calls as one schema.

use crate::Value;
use crate::apply::schema::{ATOMIC, Atom, DEDUCED, Field, List, Map, Scalar, Schema, TypeId, TypeRef};
use serde_json::Value as Json;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

/// A type that a schema names and does not have.
const MISSING: TypeId = TypeId(u32::MAX);

pub struct Types {
    named: HashMap<String, TypeId>,
    /// Types written down in place, by their text; the schema grows with them.
    inline: RefCell<(Schema, HashMap<String, TypeId>)>,
}

impl Types {
    pub fn new(cases: &[Json]) -> Types {
        let mut schema = Schema::default();
        let mut named = HashMap::new();
        let atoms: Vec<_> = cases.iter().filter(|c| c["op"] == "type").collect();
        for case in &atoms {
            let name = super::text(case, "name");
            let id = match name.split('@').next() {
                Some("__untyped_atomic_") => ATOMIC,
                Some("__untyped_deduced_") => DEDUCED,
                _ => schema.add(Atom::default()),
            };
            named.insert(name.to_string(), id);
        }
        let types = Types { named, inline: RefCell::new((schema, HashMap::new())) };
        for case in &atoms {
            let name = super::text(case, "name");
            let id = types.named[name];
            if id != ATOMIC && id != DEDUCED {
                let short = name.split('@').next().unwrap_or_default();
                let atom = Atom { name: Some(short.into()), ..types.atom(&case["atom"]) };
                types.inline.borrow_mut().0.set(id, atom);
            }
        }
        types
    }

    /// The schema with all types asked for so far.
    pub fn schema(&self) -> Arc<Schema> {
        Arc::new(self.inline.borrow().0.clone())
    }

    pub fn reference(&self, v: &Json) -> TypeRef {
        let atomic = match v["rel"].as_str() {
            Some("atomic") => Some(true),
            Some(_) => Some(false),
            None => None,
        };
        let id = match v["name"].as_str() {
            Some(name) => self.named.get(name).copied().unwrap_or(MISSING),
            None => self.in_place(&v["inline"]),
        };
        TypeRef { id, atomic }
    }

    fn in_place(&self, v: &Json) -> TypeId {
        let key = v.to_string();
        if let Some(id) = self.inline.borrow().1.get(&key) {
            return *id;
        }
        let atom = self.atom(v);
        let mut inline = self.inline.borrow_mut();
        let id = inline.0.add(atom);
        inline.1.insert(key, id);
        id
    }

    fn atom(&self, v: &Json) -> Atom {
        let scalar = match v["scalar"].as_str() {
            Some("numeric") => Some(Scalar::Numeric),
            Some("string") => Some(Scalar::String),
            Some("boolean") => Some(Scalar::Boolean),
            Some("untyped") => Some(Scalar::Untyped),
            _ => None,
        };
        let list = v["list"].as_object().map(|l| List {
            element: self.reference(&l["of"]),
            associative: l["rel"] == "associative",
            keys: v["list"]["keys"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Json::as_str)
                .map(Into::into)
                .collect(),
        });
        let map = v["map"].as_object().map(|m| {
            let field = |f: &Json| Field {
                name: super::text(f, "name").into(),
                ty: self.reference(&f["type"]),
                default: Some(Value::from(f["default"].clone())).filter(|d| !d.is_null()),
            };
            let fields = m["fields"].as_array().into_iter().flatten().map(field).collect();
            Map::new(fields, m.get("of").map(|of| self.reference(of)), m["rel"] == "atomic")
        });
        Atom { scalar, list, map, name: None }
    }
}
