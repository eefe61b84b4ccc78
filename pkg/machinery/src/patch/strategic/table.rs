//! Patch rules from the type table.
//!
//! Upstream reads them from struct tags (apimachinery third_party/forked/golang/json); errors name Go's kinds.

use super::{Lookup, Rules};
use crate::golang::quote;
use crate::schema::{Field, Shape, TypeId, TypeTable};

/// A type of the table.
#[derive(Clone, Copy)]
pub struct TableType {
    table: &'static TypeTable,
    shape: Shape,
    pointer: bool,
    /// Go's name of a type that the table knows as a plain shape.
    name: &'static str,
}

impl TableType {
    /// The type of a document.
    pub fn new(table: &'static TypeTable, id: TypeId) -> TableType {
        TableType { table, shape: Shape::Struct(id), pointer: false, name: "" }
    }

    fn of(self, shape: Shape, field: Option<&'static Field>) -> TableType {
        let named = field.and_then(|f| f.extra().go_type.as_deref()).and_then(|t| t.rsplit('.').next());
        let pointer = field.is_some_and(|f| f.flags.pointer);
        TableType { shape, pointer, name: named.unwrap_or("RawExtension"), ..self }
    }

    fn find(self, name: &str) -> Result<&'static Field, String> {
        let id = match self.shape {
            Shape::Struct(id) => id,
            Shape::Raw => return Err(unknown(self.name, name)),
            shape => {
                let kind = kind_of(shape);
                return Err(format!(
                    "merging an object in json but data type is not struct, instead is: {kind}"
                ));
            }
        };
        let table = self.table;
        let folded = || table.fields(id).find(|f| f.name.eq_ignore_ascii_case(name));
        table.field(id, name).or_else(folded).ok_or_else(|| unknown(&table.get(id).name, name))
    }
}

fn unknown(owner: &str, name: &str) -> String {
    format!("unable to find api field in struct {owner} for the json field {}", quote(name))
}

fn kind_of(shape: Shape) -> &'static str {
    match shape {
        Shape::String => "string",
        Shape::Bool => "bool",
        Shape::Int32 => "int32",
        Shape::Int64 => "int64",
        Shape::Double => "float64",
        Shape::Bytes | Shape::List(_) | Shape::Wrapped(_) => "slice",
        Shape::Map(_) => "map",
        Shape::Any => "interface",
        Shape::Time
        | Shape::MicroTime
        | Shape::Duration
        | Shape::Quantity
        | Shape::IntOrString
        | Shape::Raw
        | Shape::Struct(_) => "struct",
    }
}

fn rules(f: &'static Field) -> Rules<'static> {
    let strategy = match f.flags {
        flags if flags.patch_merge => super::MERGE,
        flags if flags.patch_replace => super::REPLACE,
        _ => "",
    };
    Rules { strategy, merge_key: f.patch_key().unwrap_or_default() }
}

impl Lookup for TableType {
    fn field(self, name: &str) -> Result<(Self, Rules<'static>), String> {
        let f = self.find(name)?;
        Ok((self.of(f.shape, Some(f)), rules(f)))
    }

    fn list(self, name: &str) -> Result<(Self, Rules<'static>), String> {
        let f = self.find(name)?;
        let element = match f.shape {
            Shape::List(e) | Shape::Wrapped(e) => match self.table.elem(e) {
                Shape::List(_) | Shape::Wrapped(_) | Shape::Bytes if !f.flags.pointer => {
                    return Err("unexpected slice of slice".into());
                }
                element => element,
            },
            Shape::Bytes => Shape::Int32,
            shape if f.flags.pointer => shape,
            _ => return Err(format!("expected slice or array type, but got: {}", self.kind())),
        };
        Ok((self.of(element, None), rules(f)))
    }

    fn kind(self) -> &'static str {
        if self.pointer { "ptr" } else { kind_of(self.shape) }
    }
}
