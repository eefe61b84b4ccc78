//! Protobuf to typed objects, without a tree between: serde reads the message itself.
//!
//! The result is what reading the tree gives: keys are JSON names, embedded structs lie flat, zero values that JSON
//! leaves out are left out. Only what writers produce is read this way; messages that are legal and odd (an element
//! of a list after another field, a struct in two parts) and everything that fails go through the tree, which also
//! words the error.

use super::decode::{self, IntOrStr};
use super::envelope::Envelope;
use super::wire::{BYTES, Error as WireError, FIXED64, VARINT, Wire};
use crate::schema::{Field, Shape, TypeId, TypeTable};
use crate::time;
use crate::value::{self, MAX_DEPTH, TreeDeserializer, Value, ZERO_TIME};
use crate::{golang, json};
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error as _, IntoDeserializer, MapAccess, SeqAccess,
    Visitor, value::BorrowedStrDeserializer,
};
use smallvec::SmallVec;
use std::borrow::Cow;
use std::fmt;

/// Why an object could not be read.
#[derive(Debug, thiserror::Error)]
pub enum TypedError {
    #[error(transparent)]
    Protobuf(#[from] WireError),
    /// The message is sound but is not the wanted type.
    #[error(transparent)]
    Type(#[from] value::Error),
}

/// Whether `metadata.managedFields` is read: often a third of an object, and of interest to few.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ManagedFields {
    #[default]
    Read,
    Skip,
}

/// Reads an object in its envelope as a type.
pub fn from_slice<T: DeserializeOwned>(
    table: &TypeTable,
    data: &[u8],
    managed: ManagedFields,
) -> Result<T, TypedError> {
    if let Ok(object) = direct(table, data, managed) {
        return Ok(object);
    }
    let (_, tree) = super::decode(table, data)?;
    Ok(value::from_value(&tree)?)
}

/// As [`from_slice`] without the second way; none says that the tree has to be read.
pub fn from_slice_direct<T: DeserializeOwned>(table: &TypeTable, data: &[u8]) -> Option<T> {
    direct(table, data, ManagedFields::Read).ok()
}

/// Reads a struct's message as a type; none says that it has to be read as part of its object's tree.
pub fn from_message<T: DeserializeOwned>(table: &TypeTable, id: TypeId, data: &[u8]) -> Option<T> {
    T::deserialize(Message { table, id, data, depth: 0, meta: None, skip: None }).ok()
}

/// The way without a tree; an error says only that the other way has to be taken.
fn direct<T: DeserializeOwned>(table: &TypeTable, data: &[u8], managed: ManagedFields) -> Result<T, Fail> {
    let envelope = Envelope::open(data)?;
    let id = table.kind(envelope.api_version, envelope.kind).ok_or(Fail)?;
    let meta = [("apiVersion", envelope.api_version), ("kind", envelope.kind)];
    let skip = match managed {
        ManagedFields::Read => None,
        ManagedFields::Skip => table.by_name("meta/v1.ObjectMeta"),
    };
    T::deserialize(Message { table, id, data: envelope.raw, depth: 0, meta: Some(meta), skip })
}

/// Not to be read this way.
#[derive(Debug)]
struct Fail;

impl fmt::Display for Fail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not to be read without a tree")
    }
}

impl std::error::Error for Fail {}

impl serde::de::Error for Fail {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Fail
    }
}

impl From<WireError> for Fail {
    fn from(_: WireError) -> Self {
        Fail
    }
}

type Meta<'de> = [(&'static str, &'de str); 2];

/// A struct's message.
#[derive(Clone, Copy)]
struct Message<'t, 'de> {
    table: &'t TypeTable,
    id: TypeId,
    data: &'de [u8],
    depth: usize,
    /// What the envelope says, for the outermost message.
    meta: Option<Meta<'de>>,
    /// The type of metadata, if managed fields are not to be read.
    skip: Option<TypeId>,
}

impl<'de> Deserializer<'de> for Message<'_, 'de> {
    type Error = Fail;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fail> {
        if self.depth >= MAX_DEPTH {
            return Err(Fail);
        }
        let flat = self.table.flat_ids(self.id).len();
        if flat > SEEN {
            return Err(Fail);
        }
        let level = Level { id: self.id, wire: Wire::new(self.data) };
        let meta = self.meta.map_or(2, |_| 0);
        visitor.visit_map(Fields {
            message: self,
            levels: SmallVec::from_buf([level]),
            seen: 0,
            next: Next::Done,
            meta,
            zeros: 0,
        })
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fail> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, v: V) -> Result<V::Value, Fail> {
        v.visit_newtype_struct(self)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fail> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq
        tuple tuple_struct map struct identifier enum
    }
}

/// The most fields a struct may have here.
const SEEN: usize = 128;

/// A struct whose fields are being read: the struct itself or one embedded in it.
struct Level<'de> {
    id: TypeId,
    wire: Wire<'de>,
}

/// The value of the key that was answered last.
enum Next<'t, 'de> {
    Done,
    Meta(&'de str),
    One(One<'t, 'de>),
    /// Elements or entries of a field, of which the first one is next on the wire.
    Repeated(&'t Field, Shape, u8),
    Zero(Value),
}

struct Fields<'t, 'de> {
    message: Message<'t, 'de>,
    levels: SmallVec<[Level<'de>; 1]>,
    /// Positions in the flat view that were read.
    seen: u128,
    next: Next<'t, 'de>,
    /// How many of the envelope's facts were told; then the fields come, then zero values that JSON always shows.
    meta: usize,
    zeros: usize,
}

impl<'t, 'de> Fields<'t, 'de> {
    /// Goes to the next field that is shown.
    fn advance(&mut self) -> Result<Option<&'t Field>, Fail> {
        let Message { table, id, depth, skip, .. } = self.message;
        loop {
            let deep = self.levels.len() + depth >= MAX_DEPTH;
            let Some(level) = self.levels.last_mut() else { break };
            if level.wire.is_empty() {
                self.levels.pop();
                continue;
            }
            let (tag, wire) = level.wire.tag()?;
            let Some(found) = table.by_tag(level.id, tag) else {
                level.wire.skip(wire)?;
                continue;
            };
            let index = table.wire_fields(level.id)[found];
            let f = table.field_at(index);
            if skip == Some(level.id) && f.name == "managedFields" {
                level.wire.skip(wire)?;
                continue;
            }
            if let Shape::Struct(inner) = f.shape
                && f.flags.inline
            {
                if wire != BYTES || deep {
                    return Err(Fail);
                }
                let data = level.wire.bytes()?;
                self.levels.push(Level { id: inner, wire: Wire::new(data) });
                continue;
            }
            let at = if level.id == id {
                table.own_position(index)
            } else {
                table.position(id, &f.name, usize::MAX)
            };
            let Some(at) = at else {
                level.wire.skip(wire)?;
                continue;
            };
            if self.seen & 1 << at != 0 {
                return Err(Fail);
            }
            self.seen |= 1 << at;
            match f.shape {
                Shape::List(e) | Shape::Map(e) => {
                    self.next = Next::Repeated(f, table.elem(e), wire);
                    return Ok(Some(f));
                }
                shape => {
                    let one = One { table, f, shape, raw: raw(shape, &mut level.wire, wire)?, depth, skip };
                    if one.is_kept()? {
                        self.next = Next::One(one);
                        return Ok(Some(f));
                    }
                }
            }
        }
        Ok(self.zero())
    }

    /// The next zero value that JSON shows although the message has none.
    fn zero(&mut self) -> Option<&'t Field> {
        let Message { table, id, .. } = self.message;
        let flat = table.flat_ids(id);
        while self.zeros < flat.len() {
            let at = self.zeros;
            self.zeros += 1;
            let f = table.field_at(flat[at]);
            if self.seen & 1 << at != 0 || f.flags.omit_empty && !table.always_written(f) {
                continue;
            }
            let zero = table.zero_field(f);
            if !zero.is_null() && json::is_kept(f, &zero) {
                self.next = Next::Zero(zero);
                return Some(f);
            }
        }
        None
    }
}

impl<'de> MapAccess<'de> for Fields<'_, 'de> {
    type Error = Fail;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fail> {
        if let Some(meta) = self.message.meta
            && let Some((key, text)) = meta.get(self.meta)
        {
            self.meta += 1;
            // The message of a kind has no such fields of its own.
            if let Some(at) = self.message.table.position(self.message.id, key, self.meta - 1) {
                self.seen |= 1 << at;
            }
            self.next = Next::Meta(text);
            return seed.deserialize(BorrowedStrDeserializer::new(key)).map(Some);
        }
        match self.advance()? {
            Some(f) => seed.deserialize(f.name.as_str().into_deserializer()).map(Some),
            None => Ok(None),
        }
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Fail> {
        let Message { table, depth, skip, .. } = self.message;
        match std::mem::replace(&mut self.next, Next::Done) {
            Next::Done => Err(Fail),
            Next::Meta(text) => seed.deserialize(BorrowedStrDeserializer::new(text)),
            Next::One(one) => seed.deserialize(one),
            Next::Zero(v) => seed.deserialize(TreeDeserializer::new(&v)).map_err(Fail::custom),
            Next::Repeated(f, shape, wire) => {
                let Some(level) = self.levels.last_mut() else { return Err(Fail) };
                let mut parts =
                    Repeated { table, f, shape, from: &mut level.wire, wire: Some(wire), depth, skip };
                let value = seed.deserialize(&mut parts)?;
                // Whoever did not want all of them.
                while parts.next()?.is_some() {}
                Ok(value)
            }
        }
    }
}

/// The elements of a list or the entries of a map, which follow each other on the wire.
struct Repeated<'a, 't, 'de> {
    table: &'t TypeTable,
    f: &'t Field,
    shape: Shape,
    from: &'a mut Wire<'de>,
    /// The wire type of the next one, whose tag was read.
    wire: Option<u8>,
    depth: usize,
    skip: Option<TypeId>,
}

impl<'t, 'de> Repeated<'_, 't, 'de> {
    fn is_map(&self) -> bool {
        matches!(self.f.shape, Shape::Map(_))
    }

    /// The next element; of a map, the message of the next entry.
    fn next(&mut self) -> Result<Option<One<'t, 'de>>, Fail> {
        let Some(wire) = self.wire.take() else { return Ok(None) };
        let shape = if self.is_map() { Shape::Bytes } else { self.shape };
        let raw = raw(shape, self.from, wire)?;
        let mut ahead = *self.from;
        if !ahead.is_empty() {
            let (tag, wire) = ahead.tag()?;
            if tag == self.f.tag {
                *self.from = ahead;
                self.wire = Some(wire);
            }
        }
        Ok(Some(One { table: self.table, f: self.f, shape, raw, depth: self.depth + 1, skip: self.skip }))
    }

    /// How many are left. A list that is told takes no more memory than its elements need, and is never moved.
    fn count(&self) -> usize {
        let (mut ahead, mut wire, mut count) = (*self.from, self.wire, 0);
        while let Some(kind) = wire.take() {
            // What is broken is found when it is read.
            if ahead.skip(kind).is_err() {
                break;
            }
            count += 1;
            wire = (!ahead.is_empty())
                .then(|| ahead.tag().ok())
                .flatten()
                .and_then(|(tag, kind)| (tag == self.f.tag).then_some(kind));
        }
        count
    }
}

impl<'de> Deserializer<'de> for &mut Repeated<'_, '_, 'de> {
    type Error = Fail;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fail> {
        if self.is_map() {
            visitor.visit_map(Entries { of: self, value: None })
        } else {
            visitor.visit_seq(self)
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fail> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, v: V) -> Result<V::Value, Fail> {
        v.visit_newtype_struct(self)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fail> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq
        tuple tuple_struct map struct identifier enum
    }
}

impl<'de> SeqAccess<'de> for &mut Repeated<'_, '_, 'de> {
    type Error = Fail;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fail> {
        match self.next()? {
            Some(one) => seed.deserialize(one).map(Some),
            None => Ok(None),
        }
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.count())
    }
}

struct Entries<'r, 'a, 't, 'de> {
    of: &'r mut Repeated<'a, 't, 'de>,
    value: Option<Raw<'de>>,
}

impl<'de> MapAccess<'de> for Entries<'_, '_, '_, 'de> {
    type Error = Fail;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fail> {
        let Some(One { raw: Raw::Part(entry), .. }) = self.of.next()? else { return Ok(None) };
        let mut w = Wire::new(entry);
        let mut key: &[u8] = b"";
        self.value = None;
        while !w.is_empty() {
            match w.tag()? {
                (1, BYTES) => key = w.bytes()?,
                (2, wire) => self.value = Some(raw(self.of.shape, &mut w, wire)?),
                (_, wire) => w.skip(wire)?,
            }
        }
        match crate::json::lossy(key) {
            Cow::Borrowed(key) => seed.deserialize(BorrowedStrDeserializer::new(key)).map(Some),
            Cow::Owned(key) => seed.deserialize(key.into_deserializer()).map(Some),
        }
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Fail> {
        let Repeated { table, f, shape, depth, skip, .. } = *self.of;
        // Writers put the value of every entry, an absent byte string excepted.
        let raw = match self.value.take() {
            Some(raw) => raw,
            None if shape == Shape::Bytes => Raw::Part(b""),
            None => return Err(Fail),
        };
        seed.deserialize(One { table, f, shape, raw, depth: depth + 1, skip })
    }
}

/// A value as the wire has it.
#[derive(Clone, Copy)]
enum Raw<'de> {
    Varint(u64),
    Fixed(u64),
    Part(&'de [u8]),
}

fn raw<'de>(shape: Shape, w: &mut Wire<'de>, wire: u8) -> Result<Raw<'de>, Fail> {
    Ok(match (shape, wire) {
        (Shape::Bool | Shape::Int32 | Shape::Int64, VARINT) => Raw::Varint(w.varint()?),
        (Shape::Double, FIXED64) => Raw::Fixed(w.fixed64()?),
        (Shape::Bool | Shape::Int32 | Shape::Int64 | Shape::Double, _) => return Err(Fail),
        (_, BYTES) => Raw::Part(w.bytes()?),
        _ => return Err(Fail),
    })
}

/// One value that is neither a repeated field nor a map.
struct One<'t, 'de> {
    table: &'t TypeTable,
    f: &'t Field,
    shape: Shape,
    raw: Raw<'de>,
    depth: usize,
    skip: Option<TypeId>,
}

impl<'de> One<'_, 'de> {
    /// Whether JSON shows the value of a field.
    fn is_kept(&self) -> Result<bool, Fail> {
        let f = self.f;
        let zero = match (self.shape, self.raw) {
            (Shape::String, Raw::Part(p)) => p.is_empty(),
            (Shape::Bool, Raw::Varint(v)) => v == 0,
            (Shape::Int32, Raw::Varint(v)) => v as i32 == 0,
            (Shape::Int64, Raw::Varint(v)) => v == 0,
            (Shape::Double, Raw::Fixed(v)) => f64::from_bits(v) == 0.0,
            (Shape::Struct(_) | Shape::Bytes, _) => return Ok(true),
            _ if !f.flags.omit_empty && !f.flags.omit_zero => return Ok(true),
            // The rest is rare: the tree decides.
            _ => return Ok(json::is_kept(f, &self.tree()?)),
        };
        Ok(!zero || f.flags.pointer || !(f.flags.omit_empty || f.flags.omit_zero))
    }

    fn part(&self) -> &'de [u8] {
        match self.raw {
            Raw::Part(p) => p,
            _ => b"",
        }
    }

    fn tree(&self) -> Result<Value, Fail> {
        Ok(decode::part_value(self.table, self.shape, self.f, self.part(), self.depth)?)
    }

    fn is_null(&self) -> Result<bool, Fail> {
        Ok(match self.shape {
            Shape::Time | Shape::MicroTime => decode::instant(self.part())?.is_zero(),
            Shape::Raw => decode::raw(self.part())?.is_none(),
            Shape::Any | Shape::Map(_) => true,
            _ => false,
        })
    }
}

impl<'de> Deserializer<'de> for One<'_, 'de> {
    type Error = Fail;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fail> {
        let part = self.part();
        match (self.shape, self.raw) {
            (Shape::Bool, Raw::Varint(v)) => visitor.visit_bool(v != 0),
            (Shape::Int32, Raw::Varint(v)) => visitor.visit_i64(i64::from(v as i32)),
            (Shape::Int64, Raw::Varint(v)) => visitor.visit_i64(v as i64),
            (Shape::Double, Raw::Fixed(v)) if f64::from_bits(v).is_finite() => {
                visitor.visit_f64(f64::from_bits(v))
            }
            (Shape::String, _) => match crate::json::lossy(part) {
                Cow::Borrowed(s) => visitor.visit_borrowed_str(s),
                Cow::Owned(s) => visitor.visit_string(s),
            },
            (Shape::Bytes, _) => visitor.visit_string(golang::encode_base64(part)),
            (Shape::Struct(id), _) if self.table.get(id).choice.is_none() => {
                let (table, depth, skip) = (self.table, self.depth + 1, self.skip);
                let message = Message { table, id, data: part, depth, meta: None, skip };
                message.deserialize_any(visitor)
            }
            (Shape::Time, _) => match decode::instant(part)? {
                t if t.is_zero() => visitor.visit_unit(),
                t if time::YEARS.contains(&t.seconds) => visitor.visit_str(&time::format_rfc3339(t.seconds)),
                _ => Err(Fail),
            },
            (Shape::IntOrString, _) => match decode::int_or_string(part)? {
                IntOrStr::Int(i) => visitor.visit_i64(i64::from(i)),
                IntOrStr::Str(s) => visitor.visit_str(&crate::json::lossy(s)),
            },
            (Shape::Quantity, _) => {
                let text = decode::quantity(part)?;
                visitor.visit_str(&text)
            }
            (Shape::Raw, _) => match decode::raw(part)? {
                // One value and nothing behind it, as the tree checks too.
                Some(text) => {
                    let mut json = serde_json::Deserializer::from_slice(text);
                    let value = json.deserialize_any(visitor).map_err(Fail::custom)?;
                    json.end().map_err(Fail::custom)?;
                    Ok(value)
                }
                None => visitor.visit_unit(),
            },
            _ => TreeDeserializer::new(&self.tree()?).deserialize_any(visitor).map_err(Fail::custom),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fail> {
        if self.is_null()? { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, v: V) -> Result<V::Value, Fail> {
        // A time that is not optional (of a condition) is zero when absent, as the tree has it.
        if self.shape == Shape::Time && self.is_null()? {
            return v.visit_newtype_struct(BorrowedStrDeserializer::new(ZERO_TIME));
        }
        v.visit_newtype_struct(self)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fail> {
        visitor.visit_unit()
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fail> {
        let v = match self.shape {
            Shape::String => Value::Str(crate::json::lossy_str(self.part())),
            _ => self.tree()?,
        };
        TreeDeserializer::new(&v).deserialize_enum(name, variants, visitor).map_err(Fail::custom)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq
        tuple tuple_struct map struct identifier
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{Builder, FieldFlags, Package};
    use crate::value::Str;
    use std::collections::BTreeMap;

    fn field(name: &'static str, tag: u32, shape: Shape, flags: FieldFlags) -> Field {
        Field { name: Str::const_new(name), tag, shape, flags, list_type: None, extra: None }
    }

    /// A kind with a list, a map, an embedded struct and a number.
    fn table() -> TypeTable {
        let mut b = Builder::new();
        let text = |s: &'static str| Str::const_new(s);
        b.package(Package { name: text("x/v1"), path: text("x/v1"), group: text("x"), version: text("v1") });
        let plain = FieldFlags { omit_empty: true, ..FieldFlags::default() };
        let inner = b.declare(text("Inner"));
        b.fields(inner, vec![field("inner", 1, Shape::String, plain)]);
        let id = b.declare(text("Thing"));
        let strings = b.shape(Shape::String);
        let inline = FieldFlags { inline: true, ..FieldFlags::default() };
        b.fields(
            id,
            vec![
                field("names", 1, Shape::List(strings), plain),
                field("labels", 2, Shape::Map(strings), plain),
                field("", 3, Shape::Struct(inner), inline),
                field("count", 4, Shape::Int32, plain),
            ],
        );
        b.kind(id, text("x/v1"));
        b.build()
    }

    #[derive(serde::Deserialize, Debug, Default, PartialEq)]
    #[serde(rename_all = "camelCase", default)]
    struct Thing {
        api_version: String,
        names: Vec<String>,
        labels: BTreeMap<String, String>,
        inner: Option<String>,
        count: Option<i32>,
    }

    fn sealed(raw: &[u8]) -> Vec<u8> {
        super::super::seal("x/v1", "Thing", raw)
    }

    #[test]
    fn what_writers_produce_needs_no_tree() {
        let table = table();
        let raw = b"\x0a\x01a\x0a\x01b\x12\x06\x0a\x01k\x12\x01v\x1a\x03\x0a\x01i\x20\x05\x48\x07";
        let wanted = Thing {
            api_version: "x/v1".into(),
            names: vec!["a".into(), "b".into()],
            labels: [("k".to_owned(), "v".to_owned())].into(),
            inner: Some("i".into()),
            count: Some(5),
        };
        let read = direct::<Thing>(&table, &sealed(raw), ManagedFields::Read).expect("direct");
        assert_eq!((read.names.capacity(), &read), (2, &wanted));
        // Zeros that JSON leaves out are left out.
        let zero = Thing { api_version: "x/v1".into(), ..Thing::default() };
        assert_eq!(
            direct::<Thing>(&table, &sealed(b"\x1a\x02\x0a\x00\x20\x00"), ManagedFields::Read)
                .expect("direct"),
            zero
        );
    }

    #[test]
    fn odd_messages_go_through_the_tree() {
        let table = table();
        // The list goes on after another field; the embedded struct comes twice.
        for raw in [&b"\x0a\x01a\x20\x05\x0a\x01b"[..], b"\x1a\x03\x0a\x01i\x1a\x03\x0a\x01j"] {
            assert!(direct::<Thing>(&table, &sealed(raw), ManagedFields::Read).is_err());
            from_slice::<Thing>(&table, &sealed(raw), ManagedFields::Read).expect("legal");
        }
        let thing: Thing =
            from_slice(&table, &sealed(b"\x0a\x01a\x20\x05\x0a\x01b"), ManagedFields::Read).expect("legal");
        assert_eq!(thing.names, ["a", "b"]);
        for raw in [&b"\x0a\x05a"[..], b"\x20", b"\x09a"] {
            assert!(matches!(
                from_slice::<Thing>(&table, &sealed(raw), ManagedFields::Read),
                Err(TypedError::Protobuf(_))
            ));
        }
    }
}
