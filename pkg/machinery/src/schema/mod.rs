//! The type table in memory: what every codec, patch and validator knows about the shape of objects.
//!
//! Loaded once from the text that `hack/typetable` extracts ([`TypeTable::parse`]) into flat vectors; indices
//! replace pointers, so recursive types cost nothing. Structural schemas of custom resources can be compiled into
//! the same nodes with [`Builder`].
//!
//! The table says nothing about resources (names, verbs, storage), prose or hand-written rules.

mod build;
mod equality;
mod load;
pub(crate) mod lookup;
#[cfg(test)]
mod tests;

use crate::value::{Str, Value};
use std::collections::HashMap;
use std::sync::OnceLock;

pub use build::Builder;
pub use load::ParseError;

/// Index of a struct in its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TypeId(pub(crate) u32);

/// Index of an element shape (of a list or map) in its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ShapeId(pub(crate) u32);

/// What a value looks like, in JSON and on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    String,
    Bool,
    Int32,
    Int64,
    Double,
    /// Base64 text in JSON.
    Bytes,
    /// RFC 3339 text with seconds; a message of seconds and nanoseconds on the wire.
    Time,
    /// RFC 3339 text with microseconds.
    MicroTime,
    /// Go duration text; a message with one integer on the wire.
    Duration,
    Quantity,
    IntOrString,
    /// JSON kept as it came: RawExtension, FieldsV1, JSON.
    Raw,
    /// Any JSON; not on the wire.
    Any,
    Struct(TypeId),
    List(ShapeId),
    /// Keys are always strings.
    Map(ShapeId),
    /// A list that is a message with one repeated field on the wire, so that nil and empty differ.
    Wrapped(ShapeId),
}

/// How lists merge in server-side apply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListType {
    #[default]
    Atomic,
    Set,
    Map,
}

/// The rarely used facts about a field.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Extra {
    /// Keys of a list of type map, in declared order.
    pub list_keys: Vec<Str>,
    pub patch_key: Option<Str>,
    /// The declared default, as JSON.
    pub default: Option<Str>,
    pub enum_values: Vec<Str>,
    /// Go's name of the type where it cannot be derived from the shape.
    pub go_type: Option<Str>,
    /// Declarative validation markers without `+k8s:`, by tag; those of one tag in declared order.
    pub rules: Vec<Str>,
}

/// Facts that are either so or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FieldFlags {
    /// A Go pointer: null and absent are told from zero.
    pub pointer: bool,
    pub omit_empty: bool,
    pub omit_zero: bool,
    /// An empty list or map stays in trees, although neither JSON nor the wire shows it.
    pub tells_empty: bool,
    /// An embedded struct: flat in JSON, a message of its own on the wire.
    pub inline: bool,
    pub optional: bool,
    pub required: bool,
    pub nullable: bool,
    pub union_discriminator: bool,
    /// A pointer to a struct about which upstream's source says nothing, so that OpenAPI has the bare reference.
    pub undocumented: bool,
    /// The map or struct is replaced as a whole by apply.
    pub atomic: bool,
    /// It is said that the map or struct is not replaced as a whole.
    pub granular: bool,
    /// `patchStrategy=merge`.
    pub patch_merge: bool,
    /// `patchStrategy=retainKeys`.
    pub patch_retain_keys: bool,
    /// `patchStrategy=replace`.
    pub patch_replace: bool,
}

/// A field of a struct.
#[derive(Clone, Debug)]
pub struct Field {
    /// Name in JSON; `-` for a field that JSON never shows.
    pub name: Str,
    /// Protobuf tag; 0 for a field that is not on the wire.
    pub tag: u32,
    pub shape: Shape,
    pub flags: FieldFlags,
    pub list_type: Option<ListType>,
    pub(crate) extra: Option<Box<Extra>>,
}

static NO_EXTRA: Extra = Extra {
    list_keys: Vec::new(),
    patch_key: None,
    default: None,
    enum_values: Vec::new(),
    go_type: None,
    rules: Vec::new(),
};

impl Field {
    pub fn extra(&self) -> &Extra {
        self.extra.as_deref().unwrap_or(&NO_EXTRA)
    }

    pub fn list_keys(&self) -> &[Str] {
        &self.extra().list_keys
    }

    /// The key by which strategic merge patch matches elements.
    pub fn patch_key(&self) -> Option<&str> {
        self.extra().patch_key.as_deref()
    }

    pub fn default(&self) -> Option<&str> {
        self.extra().default.as_deref()
    }

    /// Whether OpenAPI lists the field as required.
    pub fn is_required(&self) -> bool {
        let f = self.flags;
        f.required || !(f.optional || f.omit_empty || f.omit_zero)
    }
}

/// A struct.
#[derive(Clone, Debug)]
pub struct Type {
    /// Name within its package: `PodSpec`.
    pub name: Str,
    pub(crate) package: u32,
    /// Own fields in declaration order, embedded structs unexpanded.
    pub(crate) fields: (u32, u32),
    /// Fields as JSON shows them, embedded structs expanded, in output order: indices into `flat`.
    pub(crate) flat: (u32, u32),
    /// Own wire fields by ascending tag: indices into `wire`.
    pub(crate) wire: (u32, u32),
    /// A kind: may stand at the top of a document.
    pub kind: bool,
    /// JSON is one of two forms; see [`Choice`].
    pub choice: Option<Choice>,
    pub atomic: bool,
    pub cluster_scoped: bool,
    pub union: bool,
    pub rules: Vec<Str>,
}

/// The structs of apiextensions whose JSON is either a schema or something simpler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Wire: 1 schema, 2 repeated schema. JSON: schema or array of schemas.
    Array,
    /// Wire: 1 bool, 2 schema. JSON: schema or bool.
    Bool,
    /// Wire: 1 schema, 2 repeated string. JSON: schema or array of strings.
    StringArray,
}

/// A Go package of API types, usually one group-version.
#[derive(Clone, Debug)]
pub struct Package {
    /// `core/v1`.
    pub name: Str,
    /// `k8s.io/api/core/v1`.
    pub path: Str,
    pub group: Str,
    pub version: Str,
}

impl Package {
    /// `v1`, `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_string()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }
}

/// All types of one schema.
#[derive(Clone, Debug, Default)]
pub struct TypeTable {
    pub(crate) packages: Vec<Package>,
    pub(crate) types: Vec<Type>,
    pub(crate) fields: Vec<Field>,
    pub(crate) shapes: Vec<Shape>,
    /// Field indices of all types' flat views.
    pub(crate) flat: Vec<u32>,
    /// For each flat view, positions within it sorted by name.
    pub(crate) sorted: Vec<u16>,
    pub(crate) wire: Vec<u32>,
    /// For each field, its position among its struct's wire fields.
    pub(crate) wire_positions: Vec<u16>,
    /// For each field, its position in its own struct's flat view; `u16::MAX` if it is not there.
    pub(crate) own_positions: Vec<u16>,
    pub(crate) lookup: lookup::Lookup,
    pub(crate) by_name: HashMap<Str, TypeId>,
    /// apiVersion, then kind.
    pub(crate) kinds: HashMap<Str, HashMap<Str, TypeId>>,
    /// The canonical zero value of every struct and the ranks of its entries, made on first use.
    pub(crate) zeros: OnceLock<Vec<(Value, u128)>>,
}

/// Kinds of meta/v1 that every group-version has.
const SHARED_KINDS: [&str; 8] = [
    "WatchEvent",
    "ListOptions",
    "GetOptions",
    "DeleteOptions",
    "CreateOptions",
    "UpdateOptions",
    "PatchOptions",
    "TableOptions",
];

/// Kinds of meta/v1 that stand under `v1`.
const UNVERSIONED_KINDS: [&str; 5] = ["Status", "APIVersions", "APIGroup", "APIGroupList", "APIResourceList"];

impl TypeTable {
    /// Reads the text form.
    pub fn parse(text: &'static str) -> Result<TypeTable, ParseError> {
        load::parse(text, |_| true)
    }

    /// Reads what the text form says of some packages (`core/v1`), which may refer to no others.
    pub fn parse_some(text: &'static str, package: impl Fn(&str) -> bool) -> Result<TypeTable, ParseError> {
        load::parse(text, package)
    }

    /// Has trees keep an empty list or map of a field (by the Go name of its type) that JSON and the wire leave out:
    /// rules of the kind tell it from nothing. Answers whether there is such a field.
    pub fn keep_empty(&mut self, type_name: &str, field: &str) -> bool {
        let Some(id) = self.by_name(type_name) else { return false };
        let (from, to) = self.get(id).fields;
        let mut own = self.fields[from as usize..to as usize].iter_mut();
        let Some(field) = own.find(|f| f.name == field) else { return false };
        field.flags.tells_empty = true;
        true
    }

    /// The type of a document by its `apiVersion` and `kind`.
    pub fn kind(&self, api_version: &str, kind: &str) -> Option<TypeId> {
        let kinds = self.kinds.get(api_version)?;
        if let Some(id) = kinds.get(kind) {
            return Some(*id);
        }
        let meta = SHARED_KINDS.contains(&kind) || (api_version == "v1" && UNVERSIONED_KINDS.contains(&kind));
        if meta { self.kinds.get("meta.k8s.io/v1")?.get(kind).copied() } else { None }
    }

    /// The type by Go name: `core/v1.PodSpec`.
    pub fn by_name(&self, name: &str) -> Option<TypeId> {
        self.by_name.get(name).copied()
    }

    pub fn get(&self, id: TypeId) -> &Type {
        &self.types[id.0 as usize]
    }

    pub fn package(&self, id: TypeId) -> &Package {
        &self.packages[self.get(id).package as usize]
    }

    /// `core/v1.PodSpec`.
    pub fn full_name(&self, id: TypeId) -> String {
        format!("{}.{}", self.package(id).name, self.get(id).name)
    }

    pub fn types(&self) -> impl Iterator<Item = TypeId> + use<> {
        (0..self.types.len() as u32).map(TypeId)
    }

    pub fn packages(&self) -> &[Package] {
        &self.packages
    }

    /// The shape of a list's or map's elements.
    pub fn elem(&self, id: ShapeId) -> Shape {
        self.shapes[id.0 as usize]
    }

    /// Own fields in declaration order; embedded structs appear as one field with `flags.inline`.
    pub fn own_fields(&self, id: TypeId) -> &[Field] {
        let (from, to) = self.get(id).fields;
        &self.fields[from as usize..to as usize]
    }

    /// The fields as JSON shows them, in Go's output order, embedded structs expanded.
    pub fn fields(&self, id: TypeId) -> impl ExactSizeIterator<Item = &Field> {
        self.flat_ids(id).iter().map(|i| &self.fields[*i as usize])
    }

    pub(crate) fn flat_ids(&self, id: TypeId) -> &[u32] {
        let (from, to) = self.get(id).flat;
        &self.flat[from as usize..to as usize]
    }

    pub(crate) fn field_at(&self, index: u32) -> &Field {
        &self.fields[index as usize]
    }

    /// The field of that JSON name, embedded structs included.
    pub fn field(&self, id: TypeId, name: &str) -> Option<&Field> {
        let at = self.position(id, name, 0)?;
        Some(self.field_at(self.flat_ids(id)[at]))
    }

    /// Brings a map together with a struct's fields: calls `each` with the position in the flat view of every entry
    /// that is a field. Both are sorted by name, so the next entry often is the next field.
    pub(crate) fn join<'v>(
        &self,
        id: TypeId,
        map: &'v crate::value::Map,
        mut each: impl FnMut(usize, &'v Value),
    ) {
        let sorted = self.sorted_ids(id);
        let mut rank = 0;
        for (key, value) in map {
            let next = sorted.get(rank).map_or(usize::MAX, |at| usize::from(*at));
            if let Some(at) = self.position(id, key, next) {
                rank = self.rank(id, at) + 1;
                each(at, value);
            }
        }
    }

    /// Own wire fields by ascending tag.
    pub fn wire_fields(&self, id: TypeId) -> &[u32] {
        let (from, to) = self.get(id).wire;
        &self.wire[from as usize..to as usize]
    }

    /// Position among the wire fields of the own field at `index` in declaration order, which must be on the wire.
    pub(crate) fn wire_position(&self, id: TypeId, index: usize) -> usize {
        let (from, _) = self.get(id).fields;
        usize::from(self.wire_positions[from as usize + index])
    }

    /// Position of a field in its own struct's flat view; none for embedded structs and what JSON never shows.
    pub(crate) fn own_position(&self, index: u32) -> Option<usize> {
        Some(usize::from(self.own_positions[index as usize])).filter(|at| *at != usize::from(u16::MAX))
    }

    /// Go's name of a struct in errors: `v1.PodSpec`.
    pub fn go_name(&self, id: TypeId) -> String {
        let path = &self.package(id).path;
        let package = path.rsplit('/').next().unwrap_or(path);
        format!("{package}.{}", self.get(id).name)
    }

    /// Go's name of a shape in errors, for fields without a name of their own.
    pub fn go_shape(&self, shape: Shape) -> String {
        match shape {
            Shape::String => "string".into(),
            Shape::Bool => "bool".into(),
            Shape::Int32 => "int32".into(),
            Shape::Int64 => "int64".into(),
            Shape::Double => "float64".into(),
            Shape::Bytes => "[]uint8".into(),
            Shape::Time => "v1.Time".into(),
            Shape::MicroTime => "v1.MicroTime".into(),
            Shape::Duration => "v1.Duration".into(),
            Shape::Quantity => "resource.Quantity".into(),
            Shape::IntOrString => "intstr.IntOrString".into(),
            Shape::Raw => "runtime.RawExtension".into(),
            Shape::Any => "interface {}".into(),
            Shape::Struct(id) => self.go_name(id),
            Shape::List(e) | Shape::Wrapped(e) => format!("[]{}", self.go_shape(self.elem(e))),
            Shape::Map(e) => format!("map[string]{}", self.go_shape(self.elem(e))),
        }
    }
}
