//! Assembles a table: adds types one by one, then derives the views that codecs use.

use super::{Field, Package, Shape, ShapeId, Type, TypeId, TypeTable};
use crate::value::Str;
use std::collections::HashMap;

/// Embedded structs go two levels deep; anything much deeper is a cycle.
const MAX_EMBEDDING: usize = 8;

/// A table under construction.
#[derive(Default)]
pub struct Builder {
    table: TypeTable,
    shape_ids: HashMap<Shape, ShapeId>,
}

impl Builder {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a package; the types added next belong to it. Kinds are found under each of `api_versions`.
    pub fn package(&mut self, package: Package) {
        self.table.packages.push(package);
    }

    /// Reserves the id of a type, so that others can refer to it before it is complete.
    pub fn declare(&mut self, name: Str) -> TypeId {
        let package = self.table.packages.len().saturating_sub(1) as u32;
        let id = TypeId(self.table.types.len() as u32);
        let full = match self.table.packages.last() {
            Some(p) => Str::from(format!("{}.{name}", p.name)),
            None => name.clone(),
        };
        self.table.by_name.insert(full, id);
        self.table.types.push(Type {
            name,
            package,
            fields: (0, 0),
            flat: (0, 0),
            wire: (0, 0),
            kind: false,
            choice: None,
            atomic: false,
            cluster_scoped: false,
            union: false,
            rules: Vec::new(),
        });
        id
    }

    pub fn find(&self, full_name: &str) -> Option<TypeId> {
        self.table.by_name(full_name)
    }

    pub fn type_mut(&mut self, id: TypeId) -> &mut Type {
        &mut self.table.types[id.0 as usize]
    }

    /// Makes the type findable as a kind.
    pub fn kind(&mut self, id: TypeId, api_version: Str) {
        let kind = self.type_mut(id);
        kind.kind = true;
        let name = kind.name.clone();
        self.table.kinds.entry(api_version).or_default().entry(name).or_insert(id);
    }

    /// Sets the fields of a type, in declaration order.
    pub fn fields(&mut self, id: TypeId, fields: Vec<Field>) {
        let from = self.table.fields.len() as u32;
        self.table.fields.extend(fields);
        let to = self.table.fields.len() as u32;
        self.type_mut(id).fields = (from, to);
    }

    /// The id of an element shape.
    pub fn shape(&mut self, shape: Shape) -> ShapeId {
        let table = &mut self.table;
        *self.shape_ids.entry(shape).or_insert_with(|| {
            table.shapes.push(shape);
            ShapeId(table.shapes.len() as u32 - 1)
        })
    }

    /// Derives the flat and wire views of all types.
    pub fn build(mut self) -> TypeTable {
        for id in self.table.types() {
            let mut flat = Vec::new();
            expand(&self.table, id, 0, &mut flat);
            let name = |i: u32| self.table.field_at(i).name.as_str();
            let mut sorted: Vec<u16> = (0..flat.len() as u16).collect();
            sorted.sort_by_key(|i| name(flat[usize::from(*i)]));
            let (first, last) = self.table.get(id).fields;
            let mut wire: Vec<u32> = (first..last).filter(|i| self.table.field_at(*i).tag > 0).collect();
            wire.sort_by_key(|i| self.table.field_at(*i).tag);
            let from = self.table.flat.len() as u32;
            self.table.flat.extend(flat);
            self.table.sorted.extend(sorted);
            self.table.wire_positions.resize(self.table.fields.len(), 0);
            for (at, i) in wire.iter().enumerate() {
                self.table.wire_positions[*i as usize] = at as u16;
            }
            self.table.own_positions.resize(self.table.fields.len(), u16::MAX);
            let (from_flat, to_flat) = (from as usize, self.table.flat.len());
            for at in from_flat..to_flat {
                let i = self.table.flat[at];
                if (first..last).contains(&i) {
                    self.table.own_positions[i as usize] = (at - from_flat) as u16;
                }
            }
            let wire_from = self.table.wire.len() as u32;
            self.table.wire.extend(wire);
            let (to, wire_to) = (self.table.flat.len() as u32, self.table.wire.len() as u32);
            let t = self.type_mut(id);
            t.flat = (from, to);
            t.wire = (wire_from, wire_to);
        }
        self.table.fields.shrink_to_fit();
        self.table.types.shrink_to_fit();
        self.table.lookup = super::lookup::Lookup::of(&self.table);
        self.table
    }
}

/// Lists the fields that JSON shows. An outer field hides an embedded one of the same name, as in Go.
fn expand(table: &TypeTable, id: TypeId, depth: usize, out: &mut Vec<u32>) {
    let (from, to) = table.get(id).fields;
    for i in from..to {
        let f = table.field_at(i);
        match f.shape {
            Shape::Struct(inner) if f.flags.inline && depth < MAX_EMBEDDING => {
                let mut embedded = Vec::new();
                expand(table, inner, depth + 1, &mut embedded);
                let hidden = |e: &u32| {
                    let name = &table.field_at(*e).name;
                    table.own_fields(id).iter().any(|own| !own.flags.inline && own.name == *name)
                };
                out.extend(embedded.into_iter().filter(|e| !hidden(e)));
            }
            _ if f.name == "-" => {}
            _ => out.push(i),
        }
    }
}
