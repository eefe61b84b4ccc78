//! Equality. Upstream's differs by where a container came from: computed lists and maps take an error between
//! elements for equal, those of an object with a schema pass it on.

use super::ops::compare_numbers;
use super::{List, Map, Res, Val, tree};
use crate::eval::EvalError;
use std::cmp::Ordering;

type Answer = Result<bool, EvalError>;

/// `l == r`.
pub(crate) fn equal(l: &Val<'_>, r: &Val<'_>) -> Answer {
    match (l, r) {
        (Val::Null, _) | (_, Val::Null) => Ok(matches!((l, r), (Val::Null, Val::Null))),
        (Val::Bool(a), Val::Bool(b)) => Ok(a == b),
        (Val::Str(a), Val::Str(b)) => Ok(**a == **b),
        (Val::Int(_) | Val::Uint(_) | Val::Double(_), _) => {
            Ok(compare_numbers(l, r) == Some(Ordering::Equal))
        }
        (Val::Bytes(a), Val::Bytes(b)) => Ok(a == b),
        (Val::Duration(a), Val::Duration(b)) => Ok(a == b),
        (Val::Timestamp(a), Val::Timestamp(b)) => Ok(a.instant() == b.instant()),
        (Val::Type(a), Val::Type(b)) => Ok(a.runtime_name() == b.runtime_name()),
        (Val::Optional(a), Val::Optional(b)) => match (a, b) {
            (Some(a), Some(b)) => equal(a, b),
            (a, b) => Ok(a.is_none() && b.is_none()),
        },
        (Val::List(a), Val::List(b)) => lists(a, b),
        (Val::Map(a), Val::Map(b)) => maps(a, b),
        (Val::Object(a), Val::Object(b)) => a.equals(&**b).ok_or_else(super::ops::no_overload),
        (Val::Object(a), _) if a.is_message() => Ok(false),
        (Val::Object(_), _) => Err(super::ops::no_overload()),
        (Val::List(a), _) if a.is_typed_tree() => Err(super::ops::no_overload()),
        (Val::Map(a), _) if a.is_typed_tree() => Err(super::ops::no_overload()),
        (Val::Made(a), Val::Made(b)) => a.equals(b),
        (Val::Unknown(a), Val::Unknown(b)) => Ok(a == b),
        (Val::Unknown(a), _) => Ok(tree::plain_equal(a, r)),
        _ => Ok(false),
    }
}

/// An error that leaves a comparison open, or one that ends evaluation.
fn open(answer: Answer) -> Result<Option<bool>, EvalError> {
    match answer {
        Ok(b) => Ok(Some(b)),
        Err(e) if e.is_final() => Err(e),
        Err(_) => Ok(None),
    }
}

fn both<'a>(a: Option<Res<'a>>, b: Option<Res<'a>>) -> Answer {
    match (a, b) {
        (Some(a), Some(b)) => equal(&a?, &b?),
        _ => Ok(false),
    }
}

fn lists(a: &List<'_>, b: &List<'_>) -> Answer {
    if a.len() != b.len() {
        return Ok(false);
    }
    if let Some(schema) = a.schema() {
        match schema.list_type() {
            Some("set") => return tree::sets_equal(a, b),
            Some("map") => return tree::keyed_equal(a, b, schema),
            _ => {}
        }
    }
    let typed = a.is_typed_tree();
    for i in 0..a.len() {
        let answer = both(a.get(i), b.get(i));
        if typed {
            if !answer? {
                return Ok(false);
            }
        } else if open(answer)? == Some(false) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn maps(a: &Map<'_>, b: &Map<'_>) -> Answer {
    if a.len() != b.len() {
        return Ok(false);
    }
    if let Some((map, Some(schema))) = a.as_tree() {
        return tree::objects_equal(a, map, schema, b);
    }
    for k in a.keys() {
        let Some(theirs) = b.find(&k) else { return Ok(false) };
        if open(both(a.find(&k), Some(theirs)))? == Some(false) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether an element of the list equals the value.
pub(crate) fn list_contains(list: &List<'_>, v: &Val<'_>) -> Answer {
    let typed = list.is_typed_tree();
    let mut failed = None;
    for item in list.iter() {
        // A list with a schema asks its elements, others the value.
        let answer = if typed { item.and_then(|i| equal(&i, v)) } else { item.and_then(|i| equal(v, &i)) };
        match answer {
            Ok(true) => return Ok(true),
            Ok(false) => {}
            Err(e) if e.is_final() => return Err(e),
            Err(e) if typed && failed.is_none() => failed = Some(e),
            Err(_) => {}
        }
    }
    failed.map_or(Ok(false), Err)
}
