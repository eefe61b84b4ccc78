//! Messages cut down to some fields, for readers that need a little of a large object.

use super::wire::{BYTES, Error, Result, Wire, push_field};
use crate::schema::{Shape, TypeId, TypeTable};
use crate::value::MAX_DEPTH;

/// Fields by name, wherever in an object they are.
#[derive(Clone, Debug)]
pub struct Kept {
    /// By index of the field in the table.
    fields: Vec<bool>,
}

impl Kept {
    /// The fields with one of the names, of all types, through embedded structs.
    pub fn named(table: &TypeTable, names: &[&str]) -> Kept {
        let kept = table.fields.iter().map(|f| f.flags.inline || names.contains(&f.name.as_str()));
        Kept { fields: kept.collect() }
    }

    /// Without a field of the type of this Go name (`core/v1.Container`); all of them where there is no such field.
    #[must_use]
    pub fn without(mut self, table: &TypeTable, type_name: &str, field: &str) -> Kept {
        let (from, to) = table.by_name(type_name).map_or((0, 0), |id| table.get(id).fields);
        if let Some(index) = (from..to).find(|i| table.fields[*i as usize].name == field) {
            self.fields[index as usize] = false;
        }
        self
    }
}

/// The message of a struct with nothing but the kept fields, those of kept structs included. Items of lists that hold
/// none of them are left out.
///
/// # Errors
/// When the bytes are no message.
pub fn keep(table: &TypeTable, id: TypeId, message: &[u8], kept: &Kept) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    copy(table, id, message, kept, &mut out, 0)?;
    Ok(out)
}

fn copy(
    table: &TypeTable,
    id: TypeId,
    message: &[u8],
    kept: &Kept,
    out: &mut Vec<u8>,
    depth: usize,
) -> Result<()> {
    if depth >= MAX_DEPTH {
        return Err(Error::Depth(MAX_DEPTH));
    }
    let mut w = Wire::new(message);
    let mut part = Vec::new();
    while !w.is_empty() {
        let start = w.at;
        let (tag, wire) = w.tag()?;
        let index = table.by_tag(id, tag).map(|found| table.wire_fields(id)[found]);
        let Some(index) = index.filter(|i| kept.fields[*i as usize]) else {
            w.skip(wire)?;
            continue;
        };
        let (shape, item) = match table.field_at(index).shape {
            Shape::List(e) => (table.elem(e), true),
            shape => (shape, false),
        };
        match shape {
            Shape::Struct(inner) if wire == BYTES && table.get(inner).choice.is_none() => {
                part.clear();
                copy(table, inner, w.bytes()?, kept, &mut part, depth + 1)?;
                if !(item && part.is_empty()) {
                    push_field(out, tag, &part);
                }
            }
            _ => {
                w.skip(wire)?;
                out.extend_from_slice(&message[start..w.at]);
            }
        }
    }
    Ok(())
}
