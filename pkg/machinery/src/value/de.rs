//! serde: a tree read as any deserializable type, and any format read as a tree.

use super::ser::Error;
use super::{List, MAX_DEPTH, Map, MapBuilder, Str, Value, map};
use serde::de::{
    self, Deserialize, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer,
    MapAccess, SeqAccess, VariantAccess, Visitor,
};
use std::fmt;

/// Reads a tree as a typed object. Unknown fields are ignored, as by the type itself.
pub fn from_value<T: DeserializeOwned>(value: &Value) -> Result<T, Error> {
    T::deserialize(TreeDeserializer::new(value))
}

/// As [`from_value`], but nothing is read of the sets in managed fields: for callers that look at everything else.
pub fn from_value_unowned<T: DeserializeOwned>(value: &Value) -> Result<T, Error> {
    T::deserialize(TreeDeserializer { unowned: true, ..TreeDeserializer::new(value) })
}

/// As [`from_value`], for callers that hold the tree.
pub fn from_value_owned<T: DeserializeOwned>(value: Value) -> Result<T, Error> {
    from_value(&value)
}

/// The one field that the typed objects insist on, of `metav1.Condition`; in Go it is a time that is zero when absent.
const TRANSITION: &str = "lastTransitionTime";
/// The sets of managed fields, which are often most of an object.
const OWNED_SET: &str = "FieldsV1";
pub(crate) const ZERO_TIME: &str = "0001-01-01T00:00:00Z";

#[derive(Clone, Copy)]
pub(crate) struct TreeDeserializer<'a> {
    value: &'a Value,
    depth: usize,
    /// Whether the sets of managed fields read as null.
    unowned: bool,
}

impl<'a> TreeDeserializer<'a> {
    pub(crate) fn new(value: &'a Value) -> Self {
        TreeDeserializer { value, depth: MAX_DEPTH, unowned: false }
    }

    fn child(self, value: &'a Value) -> Result<Self, Error> {
        let depth = self.depth.checked_sub(1).ok_or_else(|| Error("exceeded max depth".into()))?;
        Ok(TreeDeserializer { value, depth, ..self })
    }
}

impl<'de> Deserializer<'de> for TreeDeserializer<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(b) => visitor.visit_bool(*b),
            Value::Int(i) => visitor.visit_i64(*i),
            Value::Float(f) => visitor.visit_f64(*f),
            Value::Str(s) => visitor.visit_str(s),
            Value::Raw(b) => {
                let parsed: Value = serde_json::from_slice(b).map_err(|e| Error(e.to_string()))?;
                TreeDeserializer { value: &parsed, ..self }.deserialize_any(visitor)
            }
            Value::List(l) => {
                let mut seq = Elements { items: l.iter(), parent: self };
                let out = visitor.visit_seq(&mut seq)?;
                if seq.items.len() > 0 {
                    return Err(de::Error::invalid_length(l.len(), &"fewer elements"));
                }
                Ok(out)
            }
            Value::Map(m) => visitor.visit_map(Entries { items: m.iter(), value: None, parent: self }),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        let skipped = self.unowned && name == OWNED_SET;
        let value = if skipped { &Value::Null } else { self.value };
        visitor.visit_newtype_struct(TreeDeserializer { value, ..self })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.value {
            Value::Str(s) => visitor.visit_enum(s.as_str().into_deserializer()),
            Value::Map(m) if m.len() == 1 => match m.iter().next() {
                Some((name, v)) => visitor.visit_enum(Variant { name, content: self.child(v)? }),
                None => Err(Error("expected a variant, got an empty object".into())),
            },
            other => Err(Error(format!(
                "expected a string or an object with one entry, got {}",
                other.type_name()
            ))),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let Value::Map(map) = self.value else { return self.deserialize_any(visitor) };
        if name != "Condition" || map.get(TRANSITION).is_some_and(|time| !matches!(time, Value::Null)) {
            return self.deserialize_any(visitor);
        }
        let mut filled = map.clone();
        filled.insert(TRANSITION, Value::from(ZERO_TIME));
        let parent = TreeDeserializer { value: &Value::Null, ..self };
        visitor.visit_map(Entries { items: filled.iter(), value: None, parent })
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq
        tuple tuple_struct map identifier
    }
}

struct Elements<'a> {
    items: std::slice::Iter<'a, Value>,
    parent: TreeDeserializer<'a>,
}

impl<'de> SeqAccess<'de> for &mut Elements<'_> {
    type Error = Error;
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        match self.items.next() {
            Some(v) => seed.deserialize(self.parent.child(v)?).map(Some),
            None => Ok(None),
        }
    }
    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

struct Entries<'a> {
    items: map::Iter<'a>,
    value: Option<&'a Value>,
    parent: TreeDeserializer<'a>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Error;
    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        match self.items.next() {
            Some((k, v)) => {
                self.value = Some(v);
                seed.deserialize(k.as_str().into_deserializer()).map(Some)
            }
            None => Ok(None),
        }
    }
    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let v = self.value.take().ok_or_else(|| Error("map value without a key".into()))?;
        seed.deserialize(self.parent.child(v)?)
    }
    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

struct Variant<'a> {
    name: &'a str,
    content: TreeDeserializer<'a>,
}

impl<'de, 'a> EnumAccess<'de> for Variant<'a> {
    type Error = Error;
    type Variant = TreeDeserializer<'a>;
    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, TreeDeserializer<'a>), Error> {
        Ok((seed.deserialize(self.name.into_deserializer())?, self.content))
    }
}

impl<'de> VariantAccess<'de> for TreeDeserializer<'_> {
    type Error = Error;
    fn unit_variant(self) -> Result<(), Error> {
        Ok(())
    }
    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(self)
    }
    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_any(visitor)
    }
    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_any(visitor)
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Value, D::Error> {
        d.deserialize_any(TreeVisitor)
    }
}

impl<'de> Deserialize<'de> for Map {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Map, D::Error> {
        match d.deserialize_map(TreeVisitor)? {
            Value::Map(m) => Ok(m),
            other => Err(de::Error::custom(format!("expected an object, got {}", other.type_name()))),
        }
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }
    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(v.into())
    }
    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(v.into())
    }
    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(v.into())
    }
    fn visit_f64<E>(self, v: f64) -> Result<Value, E> {
        Ok(v.into())
    }
    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(v.into())
    }
    fn visit_string<E>(self, v: String) -> Result<Value, E> {
        Ok(v.into())
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_some<D: Deserializer<'de>>(self, d: D) -> Result<Value, D::Error> {
        Value::deserialize(d)
    }
    fn visit_newtype_struct<D: Deserializer<'de>>(self, d: D) -> Result<Value, D::Error> {
        Value::deserialize(d)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(v) = seq.next_element()? {
            items.push(v);
        }
        Ok(Value::List(List::from(items)))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = MapBuilder::default();
        while let Some(key) = map.next_key::<Str>()? {
            entries.push(key, map.next_value()?);
        }
        Ok(Value::Map(entries.build()))
    }
}
