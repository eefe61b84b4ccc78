//! The messages that nothing else stands for.

use crate::eval::EvalError;
use crate::val::{Object, Val};
use std::any::Any;

/// `google.protobuf.Empty`, or an entry of a `google.protobuf.Struct`.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    name: &'static str,
    /// Those it can have, in their order.
    fields: Vec<(&'static str, Option<Val<'static>>)>,
    /// What an `Any` held beyond its fields, field by field.
    unknown: Vec<(u32, Vec<u8>)>,
}

impl Message {
    pub fn empty(unknown: Vec<(u32, Vec<u8>)>) -> Self {
        Message { name: "google.protobuf.Empty", fields: Vec::new(), unknown }
    }

    pub fn entry(key: Option<Val<'static>>, value: Option<Val<'static>>) -> Self {
        let key = key.filter(|k| k.as_str() != Some(""));
        let fields = vec![("key", key), ("value", value)];
        Message { name: "google.protobuf.Struct.FieldsEntry", fields, unknown: Vec::new() }
    }

    /// A field's value, its type's zero if it is not set; an error if there is no such field. With `test`, nothing
    /// where it is not set (cel-go common/types/object.go `Get`, `IsSet`).
    pub fn field(&self, key: &Val<'_>, test: bool) -> Result<Option<Val<'static>>, EvalError> {
        let Val::Str(name) = key else { return Err(crate::val::ops::no_overload()) };
        let Some((name, value)) = self.fields.iter().find(|(n, _)| *n == &**name) else {
            return Err(EvalError::new(format!("no such field '{}'", &**name)));
        };
        if value.is_some() || test {
            return Ok(value.clone());
        }
        Ok(Some(if *name == "key" { Val::from("") } else { Val::Null }))
    }

    fn set(&self) -> impl Iterator<Item = (&'static str, &Val<'static>)> {
        self.fields.iter().filter_map(|(name, value)| Some((*name, value.as_ref()?)))
    }

    pub fn is_zero(&self) -> bool {
        self.set().next().is_none() && self.unknown.is_empty()
    }

    /// As JSON.
    pub fn to_json(&self) -> Val<'static> {
        let mut map = crate::val::MapBuilder::default();
        for (name, value) in self.set() {
            map.set(Val::from(name), value.clone());
        }
        map.build()
    }

    /// Whether other is the same message (cel-go common/types/pb/equal.go).
    pub fn same(&self, other: &Message) -> bool {
        let equal = |(a, b): (&Option<Val<'_>>, &Option<Val<'_>>)| match (a, b) {
            (Some(a), Some(b)) => crate::val::equal::equal(a, b) == Ok(true),
            (a, b) => a.is_none() && b.is_none(),
        };
        let by_field = |m: &Message| {
            let mut parts = m.unknown.clone();
            parts.sort_by_key(|(field, _)| *field);
            parts
        };
        self.name == other.name
            && self.fields.iter().map(|(_, v)| v).zip(other.fields.iter().map(|(_, v)| v)).all(equal)
            && by_field(self) == by_field(other)
    }
}

impl Object for Message {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn type_name(&self) -> &str {
        self.name
    }

    fn equals(&self, other: &dyn Object) -> Option<bool> {
        Some(other.as_any().downcast_ref::<Message>().is_some_and(|other| self.same(other)))
    }

    fn is_message(&self) -> bool {
        true
    }

    fn fields(&self) -> Vec<(&'static str, Val<'static>)> {
        self.set().map(|(name, value)| (name, value.clone())).collect()
    }
}
