//! Reads an object that was made of a canonical one by changing a part of it: what a patch or an apply leaves.
//!
//! What both share in memory is canonical already and stays. Only what differs goes through the reader.

use super::errors::{Path, Strict};
use super::lex::Cursor;
use super::read::{Met, Place, Reader};
use super::write_any;
use crate::schema::{Field, Shape, TypeId, TypeTable};
use crate::value::{MAX_DEPTH, Map, Value};

/// The canonical form of `changed`, as [`super::decode`] reads it from its text. `known` is a canonical tree of the
/// struct `id`.
///
/// None where there is something to say about the object (a value of the wrong type, an unknown field) or where the
/// struct has a form of its own: then its text has to be read.
pub fn decode_changed(table: &TypeTable, id: TypeId, changed: &Value, known: &Value) -> Option<Value> {
    match (changed, known) {
        (Value::Map(changed), Value::Map(known)) => structure(table, id, changed, known, 0),
        _ => None,
    }
}

fn structure(table: &TypeTable, id: TypeId, changed: &Map, known: &Map, depth: usize) -> Option<Value> {
    if table.get(id).choice.is_some() || depth > MAX_DEPTH {
        return None;
    }
    let flat = table.flat_ids(id);
    let mut met = Met::new();
    let mut guess = 0;
    for (name, value) in changed {
        let at = table.position(id, name, guess)?;
        guess = at + 1;
        let field = table.field_at(flat[at]);
        let value = match (field.shape, value, known.get(name)) {
            (_, value, Some(known)) if value.is_shared_with(known) => value.clone(),
            (Shape::Struct(id), Value::Map(changed), Some(Value::Map(known))) => {
                structure(table, id, changed, known, depth + 1)?
            }
            (_, value, _) => read(table, id, field, value, depth)?,
        };
        met.put(table.rank(id, at), value);
    }
    Some(table.canonical(id, &mut met))
}

/// The value of a field, by way of its text.
fn read(table: &TypeTable, id: TypeId, field: &Field, value: &Value, depth: usize) -> Option<Value> {
    let mut text = Vec::new();
    write_any(value, &mut text);
    let mut c = Cursor::whole(&text);
    let mut reader = Reader { table, strict: Strict::new(true), saved: None };
    let place = Place { field: Some(field), below: 0, prev: None };
    let path = Path::Field(&Path::Root, &field.name, id);
    let value = reader.slot(&mut c, field.shape, place, &path, depth + 1).ok()?;
    let clean = c.peek().is_none() && reader.saved.is_none() && reader.strict.finish().is_empty();
    clean.then_some(value)
}
