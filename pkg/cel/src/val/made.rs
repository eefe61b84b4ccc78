//! Objects that expressions make: what mutating admission policies patch with (upstream's pkg/cel/mutation).
//!
//! `Object{...}` and its parts `Object.spec{...}` have any fields; `JSONPatch{...}` has `op`, `path`, `from` and
//! `value`. [`Made::to_tree`] and [`Val::to_json`] read them back.

mod convert;

use super::bulk::Bulk;
use super::{Map, Res, Val};
use crate::eval::EvalError;
use crate::types::Type;
use machinery::Str;
use std::sync::Arc;

/// The type of an object being patched; its parts' types are `Object.<field>...<field>`.
pub const OBJECT: &str = "Object";
/// The type of an operation of a JSON Patch.
pub const JSON_PATCH: &str = "JSONPatch";

/// An object made in an expression.
#[derive(Clone, Debug)]
pub struct Made<'a> {
    name: Str,
    fields: Vec<(Str, Val<'a>)>,
    bulk: Bulk,
}

/// Whether objects of this name can be made.
pub(crate) fn is_known(name: &str) -> bool {
    name == JSON_PATCH || is_object(name)
}

pub(crate) fn is_object(name: &str) -> bool {
    name.strip_prefix(OBJECT).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// A field's type. Every object has every field; upstream gives a JSON Patch's unknown ones a type without a name.
pub(crate) fn field_type(name: &str, field: &str) -> Type {
    match (name, field) {
        (JSON_PATCH, "op" | "path" | "from") => Type::String,
        (JSON_PATCH, "value") => Type::Dyn,
        (JSON_PATCH, _) => Type::opaque(""),
        _ => Type::Dyn,
    }
}

impl<'a> Made<'a> {
    /// Upstream checks a patch's texts only now, as their expressions may be dynamic (jsonpatch.go `Val`).
    pub(crate) fn make(name: Str, fields: Vec<(Str, Val<'a>)>) -> Res<'a> {
        if name == JSON_PATCH {
            for (field, value) in &fields {
                if *field != "value" && value.as_str().is_none() {
                    return Err(EvalError::new(format!(
                        "unexpected type {} for JSONPatchType '{field}' field",
                        value.native_type()
                    )));
                }
            }
        }
        let bulk = Bulk::all(fields.iter().map(|(_, v)| v));
        Ok(Val::Made(Arc::new(Made { name, fields, bulk })))
    }

    /// `Object`, `Object.spec`, `JSONPatch` ...
    pub fn type_name(&self) -> &str {
        &self.name
    }

    /// Fields in the order written.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &Val<'a>)> {
        self.fields.iter().map(|(name, value)| (name.as_str(), value))
    }

    pub fn get(&self, field: &str) -> Option<&Val<'a>> {
        self.fields().find(|(name, _)| *name == field).map(|(_, value)| value)
    }

    /// A text field of a JSON Patch operation; empty if it is not set.
    pub fn text(&self, field: &str) -> &str {
        self.get(field).and_then(Val::as_str).unwrap_or_default()
    }

    pub(crate) fn bulk(&self) -> Bulk {
        self.bulk
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    pub(crate) fn is_patch(&self) -> bool {
        self.name == JSON_PATCH
    }

    /// Where types' names do not spell the path to where they stand: upstream's message, one line each (objects.go
    /// `CheckTypeNamesMatchFieldPathNames`). A patch's value is looked at if it is an object itself.
    pub fn misplaced(&self) -> Option<String> {
        if self.is_patch() {
            return self.get("value")?.as_made().filter(|value| !value.is_patch())?.misplaced();
        }
        let mut errors = Vec::new();
        self.check_names(&self.name, &mut errors);
        (!errors.is_empty()).then(|| errors.join("\n"))
    }

    fn check_names(&self, path: &str, errors: &mut Vec<String>) {
        if self.name != path {
            errors.push(format!(
                "unexpected type name {:?}, expected {path:?}, which matches field name path from root Object type",
                self.name.as_str()
            ));
        }
        for (field, value) in &self.fields {
            check_names(value, &format!("{path}.{field}"), errors);
        }
    }

    /// A field that the checker knew to be one of an object's: null if it is not set (objects.go `Field`).
    pub(crate) fn select(&self, field: &str) -> Res<'a> {
        let found = self.get(field).map_or(Ok(Val::Null), Val::as_field);
        self.fields
            .iter()
            .try_for_each(|(_, v)| v.has_text_keys().then_some(()))
            .map_or_else(|| Err(EvalError::new(format!("cannot get field {field:?}"))), |()| found)
    }

    pub(crate) fn has(&self, field: &str) -> bool {
        self.get(field).is_some() && self.fields.iter().all(|(_, v)| v.has_text_keys())
    }

    /// A field found by its name as a value: only patches are looked into so (jsonpatch.go `Get`, `IsSet`).
    pub(crate) fn index(&self, key: &Val<'_>, test: bool) -> Result<Option<Val<'a>>, EvalError> {
        if !self.is_patch() {
            return Ok(None);
        }
        let set = match key.as_str() {
            Some(name @ ("op" | "path" | "from")) => {
                let text = self.text(name);
                (!test || !text.is_empty()).then(|| Val::str(text))
            }
            Some("value") => self.get("value").cloned().or((!test).then_some(Val::Null)),
            _ if test => return Err(EvalError::new(format!("unsupported field: {}", key.display()))),
            _ => return Err(EvalError::new(format!("unsupported indexer: {}", key.display()))),
        };
        Ok(set)
    }

    /// The fields as a map, where a field's value is asked for.
    fn as_map(&self) -> Res<'a> {
        let mut map = super::MapBuilder::default();
        for (name, value) in &self.fields {
            map.set(Val::str(name.as_str()), value.as_field()?);
        }
        Ok(map.build())
    }

    pub(crate) fn equals(&self, other: &Made<'_>) -> Result<bool, EvalError> {
        if self.name != other.name {
            return Ok(false);
        }
        if !self.is_patch() {
            return Ok(identical_fields(self, other));
        }
        if ["op", "path", "from"].iter().any(|f| self.text(f) != other.text(f)) {
            return Ok(false);
        }
        match (self.get("value"), other.get("value")) {
            (Some(a), Some(b)) => super::equal::equal(a, b),
            (a, b) => Ok(a.is_none() && b.is_none()),
        }
    }
}

fn check_names(v: &Val<'_>, path: &str, errors: &mut Vec<String>) {
    match v {
        Val::Made(made) if !made.is_patch() => made.check_names(path, errors),
        // Upstream looks into the lists and maps that one literal or loop made, not into those put together.
        Val::List(list) if list.is_literal() => {
            list.iter().flatten().for_each(|item| check_names(&item, path, errors));
        }
        Val::Map(map) if map.is_computed() => {
            let values = map.keys().into_iter().filter_map(|k| map.find(&k)).flatten();
            values.for_each(|item| check_names(&item, path, errors));
        }
        _ => {}
    }
}

fn identical_fields(a: &Made<'_>, b: &Made<'_>) -> bool {
    a.fields.len() == b.fields.len()
        && a.fields().all(|(name, mine)| b.get(name).is_some_and(|theirs| identical(mine, theirs)))
}

/// Whether two fields are the same all the way down, as Go's `reflect.DeepEqual` sees upstream's values: numbers of
/// different types differ, and so do lists unless they are one and the same.
fn identical(a: &Val<'_>, b: &Val<'_>) -> bool {
    match (a, b) {
        (Val::Null, Val::Null) => true,
        (Val::Bool(a), Val::Bool(b)) => a == b,
        (Val::Int(a), Val::Int(b)) => a == b,
        (Val::Uint(a), Val::Uint(b)) => a == b,
        (Val::Double(a), Val::Double(b)) => a == b,
        (Val::Str(a), Val::Str(b)) => **a == **b,
        (Val::Bytes(a), Val::Bytes(b)) => a == b,
        (Val::Duration(a), Val::Duration(b)) => a == b,
        (Val::Timestamp(a), Val::Timestamp(b)) => a.instant() == b.instant() && a.offset == b.offset,
        (Val::Type(a), Val::Type(b)) => a == b,
        (Val::Optional(Some(a)), Val::Optional(Some(b))) => identical(a, b),
        (Val::Optional(None), Val::Optional(None)) => true,
        (Val::List(a), Val::List(b)) => a.is_same(b),
        (Val::Map(a), Val::Map(b)) => identical_maps(a, b),
        (Val::Object(a), Val::Object(b)) => a.equals(&**b) == Some(true),
        (Val::Made(a), Val::Made(b)) => a.name == b.name && identical_fields(a, b),
        _ => false,
    }
}

fn identical_maps(a: &Map<'_>, b: &Map<'_>) -> bool {
    if let (Some((a, _)), Some((b, _))) = (a.as_tree(), b.as_tree()) {
        return a == b;
    }
    let same_key = |k: &Val<'_>| b.keys().iter().any(|other| identical(k, other));
    a.len() == b.len()
        && a.keys().iter().all(|k| {
            let pair = (a.find(k), b.find(k));
            same_key(k) && matches!(pair, (Some(Ok(x)), Some(Ok(y))) if identical(&x, &y))
        })
}
