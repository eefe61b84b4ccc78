//! Types as server-side apply sees them: what is one value, what merges by field, what by key.
//!
//! Upstream: structured-merge-diff schema/elements.go. Built from the type table or from a structural schema; one
//! arena holds all types that refer to each other.

use crate::value::{Str, Value};

/// A type in a [`Schema`], with the relationship of its items if the place that refers to it says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TypeRef {
    pub id: TypeId,
    pub atomic: Option<bool>,
}

/// Index of a type in its schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TypeId(pub u32);

impl From<TypeId> for TypeRef {
    fn from(id: TypeId) -> Self {
        TypeRef { id, atomic: None }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scalar {
    Numeric,
    String,
    Boolean,
    Untyped,
}

/// What a value of a type may be; at least one is set.
#[derive(Clone, Debug, Default)]
pub struct Atom {
    pub scalar: Option<Scalar>,
    pub list: Option<List>,
    pub map: Option<Map>,
    /// The name of the type; none if it is written where it is used.
    pub name: Option<Box<str>>,
}

#[derive(Clone, Debug)]
pub struct List {
    pub element: TypeRef,
    /// Items are told apart by `keys`, or by value if there are none. Otherwise the list is one value.
    pub associative: bool,
    pub keys: Vec<Str>,
}

#[derive(Clone, Debug, Default)]
pub struct Map {
    /// Sorted by name.
    fields: Vec<Field>,
    /// The type of entries that are not fields.
    pub element: Option<TypeRef>,
    pub atomic: bool,
}

#[derive(Clone, Debug)]
pub struct Field {
    pub name: Str,
    pub ty: TypeRef,
    pub default: Option<Value>,
}

impl Map {
    pub fn new(mut fields: Vec<Field>, element: Option<TypeRef>, atomic: bool) -> Map {
        fields.sort_by(|a, b| a.name.cmp(&b.name));
        Map { fields, element, atomic }
    }

    pub fn field(&self, name: &str) -> Option<&Field> {
        let i = self.fields.binary_search_by(|f| f.name.as_str().cmp(name)).ok()?;
        Some(&self.fields[i])
    }

    pub(super) fn into_fields(self) -> Vec<Field> {
        self.fields
    }

    pub fn has_fields(&self) -> bool {
        !self.fields.is_empty()
    }
}

/// A type with what its reference overrides.
#[derive(Clone, Copy)]
pub struct Resolved<'a> {
    pub atom: &'a Atom,
    pub id: TypeId,
    atomic: Option<bool>,
}

impl Resolved<'_> {
    pub fn map_is_atomic(&self, map: &Map) -> bool {
        self.atomic.unwrap_or(map.atomic)
    }

    pub fn list_is_atomic(&self, list: &List) -> bool {
        match self.atomic {
            Some(atomic) if self.atom.map.is_none() => atomic,
            _ => !list.associative,
        }
    }
}

/// A closed set of types.
#[derive(Clone, Debug)]
pub struct Schema {
    types: Vec<Atom>,
}

/// The type of values nothing is known about, as one value.
pub const ATOMIC: TypeId = TypeId(0);
/// The type of values nothing is known about: maps merge by key, lists are one value.
pub const DEDUCED: TypeId = TypeId(1);

impl Default for Schema {
    fn default() -> Self {
        let untyped = |name: &str, map_element: TypeId, atomic| Atom {
            scalar: Some(Scalar::Untyped),
            list: Some(List { element: ATOMIC.into(), associative: false, keys: Vec::new() }),
            map: Some(Map::new(Vec::new(), Some(map_element.into()), atomic)),
            name: Some(name.into()),
        };
        Schema {
            types: vec![
                untyped("__untyped_atomic_", ATOMIC, true),
                untyped("__untyped_deduced_", DEDUCED, false),
            ],
        }
    }
}

impl Schema {
    /// Adds a type. It may refer to types reserved but not yet set.
    pub fn add(&mut self, atom: Atom) -> TypeId {
        self.types.push(atom);
        TypeId(self.types.len() as u32 - 1)
    }

    /// Sets a type added before (types refer to each other in circles).
    pub fn set(&mut self, id: TypeId, atom: Atom) {
        if let Some(place) = self.types.get_mut(id.0 as usize) {
            *place = atom;
        }
    }

    /// The name of the type a reference stands for, if it has one.
    pub fn name(&self, tr: TypeRef) -> Option<&str> {
        self.types.get(tr.id.0 as usize)?.name.as_deref()
    }

    /// The type a reference stands for. One that says how items relate is no reference to a type without items.
    pub fn resolve(&self, tr: TypeRef) -> Option<Resolved<'_>> {
        let atom = self.types.get(tr.id.0 as usize)?;
        if tr.atomic.is_some() && atom.map.is_none() && atom.list.is_none() {
            return None;
        }
        Some(Resolved { atom, id: tr.id, atomic: tr.atomic })
    }
}
