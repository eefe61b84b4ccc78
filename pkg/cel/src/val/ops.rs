//! Arithmetic, order and membership, with upstream's overflow and type errors.

use super::convert::{int_overflow, timestamp_overflow, uint_overflow};
use super::time::{SECONDS, Timestamp};
use super::{List, Res, Val};
use crate::decls::Trait;
use crate::eval::EvalError;
use std::cmp::Ordering;

/// Operands that do not go together.
pub(crate) fn no_overload() -> EvalError {
    EvalError::new("no such overload")
}

/// What a value that lacks the operation altogether answers.
fn lacking(v: &Val<'_>, function: &str) -> EvalError {
    match v {
        // These have methods, and say so in fewer words.
        Val::Str(_) | Val::Duration(_) | Val::Timestamp(_) => no_overload(),
        _ => EvalError::new(format!("no such overload: {function}")),
    }
}

/// Whether the value can do what a function needs of it.
pub(crate) fn require(v: &Val<'_>, needs: Trait, function: &str) -> Result<(), EvalError> {
    use Val::{Bool, Bytes, Double, Duration, Int, List, Map, Str, Timestamp, Uint};
    let able = match needs {
        Trait::None => true,
        Trait::Add => matches!(
            v,
            Bytes(_) | Double(_) | Duration(_) | Int(_) | List(_) | Str(_) | Timestamp(_) | Uint(_)
        ),
        Trait::Subtract => matches!(v, Double(_) | Duration(_) | Int(_) | Timestamp(_) | Uint(_)),
        Trait::Multiply | Trait::Divide => matches!(v, Double(_) | Int(_) | Uint(_)),
        Trait::Modulo => matches!(v, Int(_) | Uint(_)),
        Trait::Negate => matches!(v, Bool(_) | Double(_) | Duration(_) | Int(_)),
        Trait::Compare => matches!(
            v,
            Bool(_) | Bytes(_) | Double(_) | Duration(_) | Int(_) | Str(_) | Timestamp(_) | Uint(_)
        ),
        Trait::Size => matches!(v, Bytes(_) | List(_) | Map(_) | Str(_)),
        Trait::Match => matches!(v, Str(_)),
        Trait::List => matches!(v, List(_)),
    };
    if able { Ok(()) } else { Err(lacking(v, function)) }
}

pub(crate) fn add<'a>(l: &Val<'a>, r: &Val<'a>) -> Res<'a> {
    require(l, Trait::Add, "_+_")?;
    match (l, r) {
        (Val::Int(a), Val::Int(b)) => a.checked_add(*b).map(Val::Int).ok_or_else(int_overflow),
        (Val::Uint(a), Val::Uint(b)) => a.checked_add(*b).map(Val::Uint).ok_or_else(uint_overflow),
        (Val::Double(a), Val::Double(b)) => Ok(Val::Double(a + b)),
        (Val::Str(a), Val::Str(b)) => Ok(concat(a, b)),
        (Val::Bytes(a), Val::Bytes(b)) => Ok(Val::Bytes([&a[..], &b[..]].concat().into())),
        (Val::List(a), Val::List(b)) => join(a, b),
        (Val::Duration(a), Val::Duration(b)) => a.checked_add(*b).map(Val::Duration).ok_or_else(int_overflow),
        (Val::Duration(d), Val::Timestamp(t)) | (Val::Timestamp(t), Val::Duration(d)) => shift(t, *d),
        _ => Err(no_overload()),
    }
}

fn concat<'a>(a: &super::Text<'a>, b: &super::Text<'a>) -> Val<'a> {
    if b.is_empty() {
        return Val::Str(a.clone());
    }
    if a.is_empty() {
        return Val::Str(b.clone());
    }
    let mut text = String::with_capacity(a.len() + b.len());
    text.push_str(a);
    text.push_str(b);
    Val::str(text)
}

/// Both lists' elements; sets and keyed lists of an object keep their elements unique.
fn join<'a>(a: &List<'a>, b: &List<'a>) -> Res<'a> {
    if a.schema().is_some_and(|s| s.list_type().is_some()) {
        return super::tree::union(a, b);
    }
    if !a.is_typed_tree() {
        if a.is_empty() {
            return Ok(Val::List(b.clone()));
        }
        if b.is_empty() {
            return Ok(Val::List(a.clone()));
        }
    }
    let mut items = a.to_vec()?;
    for item in b.iter() {
        items.push(item?);
    }
    Ok(Val::List(List::joined(items)))
}

fn shift<'a>(t: &Timestamp, by: i64) -> Res<'a> {
    let nanos = i64::from(t.nanos) + by % 1_000_000_000;
    let whole = t.seconds.checked_add(by / 1_000_000_000);
    let seconds = whole.and_then(|s| s.checked_add(nanos.div_euclid(1_000_000_000)));
    let seconds = seconds.ok_or_else(int_overflow)?;
    if !SECONDS.contains(&seconds) {
        return Err(timestamp_overflow());
    }
    Ok(Val::Timestamp(Timestamp { seconds, nanos: nanos.rem_euclid(1_000_000_000) as u32, offset: t.offset }))
}

pub(crate) fn subtract<'a>(l: &Val<'a>, r: &Val<'a>) -> Res<'a> {
    require(l, Trait::Subtract, "_-_")?;
    match (l, r) {
        (Val::Int(a), Val::Int(b)) => a.checked_sub(*b).map(Val::Int).ok_or_else(int_overflow),
        (Val::Uint(a), Val::Uint(b)) => a.checked_sub(*b).map(Val::Uint).ok_or_else(uint_overflow),
        (Val::Double(a), Val::Double(b)) => Ok(Val::Double(a - b)),
        (Val::Duration(a), Val::Duration(b)) => a.checked_sub(*b).map(Val::Duration).ok_or_else(int_overflow),
        (Val::Timestamp(t), Val::Duration(d)) => shift(t, d.checked_neg().ok_or_else(int_overflow)?),
        (Val::Timestamp(a), Val::Timestamp(b)) => {
            let seconds = a.seconds.checked_sub(b.seconds).and_then(|s| s.checked_mul(1_000_000_000));
            let nanos = i64::from(a.nanos) - i64::from(b.nanos);
            seconds.and_then(|s| s.checked_add(nanos)).map(Val::Duration).ok_or_else(int_overflow)
        }
        _ => Err(no_overload()),
    }
}

pub(crate) fn multiply<'a>(l: &Val<'a>, r: &Val<'a>) -> Res<'a> {
    require(l, Trait::Multiply, "_*_")?;
    match (l, r) {
        (Val::Int(a), Val::Int(b)) => a.checked_mul(*b).map(Val::Int).ok_or_else(int_overflow),
        (Val::Uint(a), Val::Uint(b)) => a.checked_mul(*b).map(Val::Uint).ok_or_else(uint_overflow),
        (Val::Double(a), Val::Double(b)) => Ok(Val::Double(a * b)),
        _ => Err(no_overload()),
    }
}

pub(crate) fn divide<'a>(l: &Val<'a>, r: &Val<'a>) -> Res<'a> {
    require(l, Trait::Divide, "_/_")?;
    let by_zero = || EvalError::new("division by zero");
    match (l, r) {
        (Val::Int(_), Val::Int(0)) | (Val::Uint(_), Val::Uint(0)) => Err(by_zero()),
        (Val::Int(a), Val::Int(b)) => a.checked_div(*b).map(Val::Int).ok_or_else(int_overflow),
        (Val::Uint(a), Val::Uint(b)) => Ok(Val::Uint(a / b)),
        (Val::Double(a), Val::Double(b)) => Ok(Val::Double(a / b)),
        _ => Err(no_overload()),
    }
}

pub(crate) fn modulo<'a>(l: &Val<'a>, r: &Val<'a>) -> Res<'a> {
    require(l, Trait::Modulo, "_%_")?;
    let by_zero = || EvalError::new("modulus by zero");
    match (l, r) {
        (Val::Int(_), Val::Int(0)) | (Val::Uint(_), Val::Uint(0)) => Err(by_zero()),
        (Val::Int(a), Val::Int(b)) => a.checked_rem(*b).map(Val::Int).ok_or_else(int_overflow),
        (Val::Uint(a), Val::Uint(b)) => Ok(Val::Uint(a % b)),
        _ => Err(no_overload()),
    }
}

pub(crate) fn negate<'a>(v: &Val<'a>) -> Res<'a> {
    require(v, Trait::Negate, "-_")?;
    match v {
        Val::Int(i) => i.checked_neg().map(Val::Int).ok_or_else(int_overflow),
        Val::Double(d) => Ok(Val::Double(-d)),
        Val::Duration(d) => d.checked_neg().map(Val::Duration).ok_or_else(int_overflow),
        _ => Err(no_overload()),
    }
}

fn double_int(d: f64, i: i64) -> Ordering {
    if d < i64::MIN as f64 {
        Ordering::Less
    } else if d > i64::MAX as f64 {
        Ordering::Greater
    } else {
        d.partial_cmp(&(i as f64)).unwrap_or(Ordering::Equal)
    }
}

fn double_uint(d: f64, u: u64) -> Ordering {
    if d < 0.0 {
        Ordering::Less
    } else if d > u64::MAX as f64 {
        Ordering::Greater
    } else {
        d.partial_cmp(&(u as f64)).unwrap_or(Ordering::Equal)
    }
}

/// The order of two numbers of any types; `None` for NaN and for what is no number.
pub(crate) fn compare_numbers(l: &Val<'_>, r: &Val<'_>) -> Option<Ordering> {
    match (l, r) {
        (Val::Double(d), _) | (_, Val::Double(d)) if d.is_nan() => None,
        (Val::Int(a), Val::Int(b)) => Some(a.cmp(b)),
        (Val::Uint(a), Val::Uint(b)) => Some(a.cmp(b)),
        (Val::Double(a), Val::Double(b)) => a.partial_cmp(b),
        (Val::Int(a), Val::Uint(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
        (Val::Uint(a), Val::Int(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
        (Val::Double(d), Val::Int(i)) => Some(double_int(*d, *i)),
        (Val::Int(i), Val::Double(d)) => Some(double_int(*d, *i).reverse()),
        (Val::Double(d), Val::Uint(u)) => Some(double_uint(*d, *u)),
        (Val::Uint(u), Val::Double(d)) => Some(double_uint(*d, *u).reverse()),
        _ => None,
    }
}

fn is_number(v: &Val<'_>) -> bool {
    matches!(v, Val::Int(_) | Val::Uint(_) | Val::Double(_))
}

/// The order of two values that can be ordered.
pub(crate) fn compare(l: &Val<'_>, r: &Val<'_>) -> Result<Ordering, EvalError> {
    match (l, r) {
        (Val::Str(a), Val::Str(b)) => Ok(a.as_bytes().cmp(b.as_bytes())),
        (Val::Double(d), _) if d.is_nan() => Err(EvalError::new("NaN values cannot be ordered")),
        _ if is_number(l) && is_number(r) => {
            compare_numbers(l, r).ok_or_else(|| EvalError::new("NaN values cannot be ordered"))
        }
        (Val::Bool(a), Val::Bool(b)) => Ok(a.cmp(b)),
        (Val::Bytes(a), Val::Bytes(b)) => Ok(a.cmp(b)),
        (Val::Duration(a), Val::Duration(b)) => Ok(a.cmp(b)),
        (Val::Timestamp(a), Val::Timestamp(b)) => Ok(a.partial_cmp(b).unwrap_or(Ordering::Equal)),
        _ => Err(no_overload()),
    }
}

/// `element in container`.
pub(crate) fn contains(element: &Val<'_>, container: &Val<'_>) -> Result<bool, EvalError> {
    match container {
        Val::List(list) => super::equal::list_contains(list, element),
        Val::Map(map) => match map.find(element) {
            // A typed map reports what is wrong with the key or the value; others only whether it is there.
            Some(Err(e)) if map.is_typed_tree() || e.is_final() => Err(e),
            found => Ok(found.is_some()),
        },
        _ => Err(no_overload()),
    }
}
