//! Types of server-side apply from the type table.
//!
//! Follows what upstream gets by way of OpenAPI v3 (kube-openapi pkg/schemaconv): required key fields have their
//! zero value as default, structs without fields are free-form, some named types are one untyped value.

use super::schema::{ATOMIC, Atom, DEDUCED, Field, List, Map, Scalar, Schema, TypeRef};
use crate::schema::{self as table, ListType, Shape, TypeId, TypeTable};
use crate::value::Value;
use std::collections::HashMap;

/// The types of a table, and where each struct is among them.
pub struct TableTypes {
    pub schema: Schema,
    pub structs: HashMap<TypeId, TypeRef>,
}

impl TableTypes {
    /// Adds the given structs of a table, and all they are made of, to `schema`.
    pub fn new(table: &TypeTable, schema: Schema, structs: impl IntoIterator<Item = TypeId>) -> TableTypes {
        let mut c =
            Compiler { table, schema, structs: HashMap::new(), shapes: HashMap::new(), queue: Vec::new() };
        for id in structs {
            c.shape(Shape::Struct(id));
        }
        while let Some(id) = c.queue.pop() {
            let atom = c.structure(id);
            if let Some(tr) = c.structs.get(&id) {
                c.schema.set(tr.id, atom);
            }
        }
        TableTypes { schema: c.schema, structs: c.structs }
    }
}

struct Compiler<'a> {
    table: &'a TypeTable,
    schema: Schema,
    structs: HashMap<TypeId, TypeRef>,
    /// Inline types by shape; atomic maps apart.
    shapes: HashMap<(Shape, bool), TypeRef>,
    /// Structs that have a place and no content yet.
    queue: Vec<TypeId>,
}

fn scalar(s: Scalar, name: Option<&str>) -> Atom {
    Atom { scalar: Some(s), name: name.map(Into::into), ..Atom::default() }
}

/// Anything: a scalar, a list as one value, or a map that merges.
fn anything(name: Option<&str>) -> Atom {
    Atom {
        scalar: Some(Scalar::Untyped),
        list: Some(List { element: ATOMIC.into(), associative: false, keys: Vec::new() }),
        map: Some(Map::new(Vec::new(), Some(DEDUCED.into()), false)),
        name: name.map(Into::into),
    }
}

impl Compiler<'_> {
    fn structure(&mut self, id: TypeId) -> Atom {
        let t = self.table.get(id);
        let name = self.table.full_name(id);
        if t.choice.is_some() {
            return anything(Some(&name));
        }
        let fields: Vec<table::Field> = self.table.fields(id).cloned().collect();
        let fields: Vec<Field> = fields
            .iter()
            .map(|f| Field { name: f.name.clone(), ty: self.field_type(f), default: default_of(f) })
            .collect();
        let element = fields.is_empty().then_some(DEDUCED.into());
        let map = Map::new(fields, element, t.atomic);
        Atom { map: Some(map), name: Some(name.into()), ..Atom::default() }
    }

    fn field_type(&mut self, f: &table::Field) -> TypeRef {
        match f.shape {
            Shape::Struct(_) => {
                let tr = self.shape(f.shape);
                TypeRef { atomic: f.flags.atomic.then_some(true), ..tr }
            }
            Shape::List(e) | Shape::Wrapped(e) => {
                let element = self.table.elem(e);
                let element = self.shape(element);
                let merge_key = f.patch_key().map(Into::into);
                let (associative, keys) = match f.list_type {
                    Some(ListType::Map) => (true, f.list_keys().to_vec()),
                    Some(ListType::Set) => (true, Vec::new()),
                    Some(ListType::Atomic) => (false, Vec::new()),
                    None if f.flags.patch_merge => (true, merge_key.into_iter().collect()),
                    None => (false, Vec::new()),
                };
                let list = List { element, associative, keys };
                self.schema.add(Atom { list: Some(list), ..Atom::default() }).into()
            }
            shape => self.inline(shape, f.flags.atomic),
        }
    }

    fn shape(&mut self, shape: Shape) -> TypeRef {
        match shape {
            Shape::Struct(id) => match self.structs.get(&id) {
                Some(tr) => *tr,
                None => {
                    let tr = self.schema.add(Atom::default()).into();
                    self.structs.insert(id, tr);
                    self.queue.push(id);
                    tr
                }
            },
            shape => self.inline(shape, false),
        }
    }

    fn inline(&mut self, shape: Shape, atomic: bool) -> TypeRef {
        if let Some(tr) = self.shapes.get(&(shape, atomic)) {
            return *tr;
        }
        let atom = match shape {
            Shape::String | Shape::Bytes => scalar(Scalar::String, None),
            Shape::Duration => scalar(Scalar::String, Some("Duration")),
            Shape::Bool => scalar(Scalar::Boolean, None),
            Shape::Int32 | Shape::Int64 | Shape::Double => scalar(Scalar::Numeric, None),
            Shape::Time => scalar(Scalar::Untyped, Some("Time")),
            Shape::MicroTime => scalar(Scalar::Untyped, Some("MicroTime")),
            Shape::Quantity => scalar(Scalar::Untyped, Some("Quantity")),
            Shape::IntOrString => anything(Some("IntOrString")),
            Shape::Raw => return ATOMIC.into(),
            Shape::Any => anything(Some("JSON")),
            Shape::Struct(_) => return self.shape(shape),
            Shape::List(e) | Shape::Wrapped(e) => {
                let element = self.shape(self.table.elem(e));
                Atom { list: Some(List { element, associative: false, keys: Vec::new() }), ..Atom::default() }
            }
            Shape::Map(e) => {
                let element = self.shape(self.table.elem(e));
                Atom { map: Some(Map::new(Vec::new(), Some(element), atomic)), ..Atom::default() }
            }
        };
        let tr = self.schema.add(atom).into();
        self.shapes.insert((shape, atomic), tr);
        tr
    }
}

/// The default of a field as OpenAPI v3 declares it. Only those of scalar key fields are ever looked at.
fn default_of(f: &table::Field) -> Option<Value> {
    if let Some(text) = f.default() {
        return crate::json::parse(text.as_bytes()).ok();
    }
    if f.flags.pointer || f.flags.omit_empty || f.flags.omit_zero {
        return None;
    }
    match f.shape {
        Shape::String => Some("".into()),
        Shape::Bool => Some(false.into()),
        Shape::Int32 | Shape::Int64 | Shape::Double => Some(0.into()),
        _ => None,
    }
}
