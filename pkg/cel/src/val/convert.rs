//! Conversions between types, with Go's number syntax and upstream's errors.

use super::time::{SECONDS, Timestamp};
use super::{Res, Val};
use crate::eval::EvalError;
use crate::types::Type;
use std::sync::Arc;

pub(crate) fn double_to_int(d: f64) -> Option<i64> {
    (d > i64::MIN as f64 && d < i64::MAX as f64).then_some(d as i64)
}

pub(crate) fn double_to_uint(d: f64) -> Option<u64> {
    (0.0..18_446_744_073_709_551_616.0).contains(&d).then_some(d as u64)
}

pub(crate) fn int_overflow() -> EvalError {
    EvalError::new("integer overflow")
}

pub(crate) fn uint_overflow() -> EvalError {
    EvalError::new("unsigned integer overflow")
}

pub(crate) fn timestamp_overflow() -> EvalError {
    EvalError::new("timestamp overflow")
}

/// Go's `strconv.ParseInt(s, 10, 64)`.
fn parse_int(s: &str) -> Option<i64> {
    s.parse().ok()
}

/// Go's `strconv.ParseUint(s, 10, 64)`: no sign.
fn parse_uint(s: &str) -> Option<u64> {
    (!s.starts_with('+')).then(|| s.parse().ok())?
}

/// Go's `strconv.ParseFloat(s, 64)`, hexadecimal floats left out.
pub(crate) fn parse_double(s: &str) -> Option<f64> {
    let value: f64 = s.parse().ok()?;
    let named = s.trim_start_matches(['+', '-']).starts_with(['i', 'I', 'n', 'N']);
    (named || value.is_finite()).then_some(value)
}

/// A double as Go's `%g` prints it.
pub(crate) fn double_text(d: f64) -> String {
    if d.is_nan() {
        return "NaN".into();
    }
    if d.is_infinite() {
        return if d > 0.0 { "+Inf".into() } else { "-Inf".into() };
    }
    let scientific = format!("{d:e}");
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..=5).contains(&exponent) {
        return format!("{d}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

/// A duration as upstream writes it: seconds, in full.
pub(crate) fn duration_text(nanos: i64) -> String {
    // Go computes whole seconds and the rest apart, then adds them as floats.
    let (seconds, rest) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    format!("{}s", seconds as f64 + rest as f64 / 1e9)
}

fn text(s: String) -> Val<'static> {
    Val::str(s)
}

fn from_text<'a>(s: &str, to: &Type) -> Option<Res<'a>> {
    Some(Ok(match to {
        Type::Int => Val::Int(parse_int(s)?),
        Type::Uint => Val::Uint(parse_uint(s)?),
        Type::Double => Val::Double(parse_double(s)?),
        Type::Bool => Val::Bool(machinery::golang::parse_bool(s)?),
        Type::Bytes => Val::Bytes(s.as_bytes().into()),
        Type::Duration => Val::Duration(machinery::time::parse_duration(s).ok()?),
        Type::Timestamp => {
            let t = Timestamp::parse(s)?;
            if !SECONDS.contains(&t.seconds) {
                return Some(Err(timestamp_overflow()));
            }
            Val::Timestamp(t)
        }
        _ => return None,
    }))
}

fn from_number<'a>(v: &Val<'a>, to: &Type) -> Option<Res<'a>> {
    Some(match (v, to) {
        (Val::Int(i), Type::Uint) => u64::try_from(*i).map(Val::Uint).map_err(|_| uint_overflow()),
        (Val::Int(i), Type::Double) => Ok(Val::Double(*i as f64)),
        (Val::Int(i), Type::String) => Ok(text(i.to_string())),
        (Val::Int(i), Type::Timestamp) if SECONDS.contains(i) => Ok(Val::Timestamp(Timestamp::utc(*i, 0))),
        (Val::Int(_), Type::Timestamp) => Err(timestamp_overflow()),
        (Val::Uint(u), Type::Int) => i64::try_from(*u).map(Val::Int).map_err(|_| int_overflow()),
        (Val::Uint(u), Type::Double) => Ok(Val::Double(*u as f64)),
        (Val::Uint(u), Type::String) => Ok(text(u.to_string())),
        (Val::Double(d), Type::Int) => double_to_int(*d).map(Val::Int).ok_or_else(int_overflow),
        (Val::Double(d), Type::Uint) => double_to_uint(*d).map(Val::Uint).ok_or_else(uint_overflow),
        (Val::Double(d), Type::String) => Ok(text(double_text(*d))),
        _ => return None,
    })
}

fn from_other<'a>(v: &Val<'a>, to: &Type) -> Option<Res<'a>> {
    Some(match (v, to) {
        (Val::Bool(b), Type::String) => Ok(text(b.to_string())),
        (Val::Null, Type::String) => Ok(text("null".into())),
        (Val::Bytes(b), Type::String) => match std::str::from_utf8(b) {
            Ok(s) => Ok(Val::str(s)),
            Err(_) => Err(EvalError::new("invalid UTF-8 in bytes, cannot convert to string")),
        },
        (Val::Duration(d), Type::String) => Ok(text(duration_text(*d))),
        (Val::Duration(d), Type::Int) => Ok(Val::Int(*d)),
        (Val::Timestamp(t), Type::String) => Ok(text(t.format(t.offset))),
        (Val::Timestamp(t), Type::Int) => Ok(Val::Int(t.seconds)),
        (Val::Type(t), Type::String) => Ok(text(t.runtime_name().to_owned())),
        (Val::Object(o), Type::String) => Ok(text(o.text()?)),
        _ => return None,
    })
}

impl<'a> Val<'a> {
    /// The value as another type (upstream's `ConvertToType`).
    pub(crate) fn convert(&self, to: &Type) -> Res<'a> {
        if let Type::Type(_) = to {
            return Ok(Val::Type(Arc::new(self.type_value())));
        }
        if self.type_name() == to.runtime_name() {
            return Ok(self.clone());
        }
        let converted = match self {
            Val::Str(s) => from_text(s, to),
            Val::Int(_) | Val::Uint(_) | Val::Double(_) => from_number(self, to),
            _ => from_other(self, to),
        };
        converted.unwrap_or_else(|| {
            let from = plain_type(&self.type_value());
            Err(EvalError::new(format!("type conversion error from '{from}' to '{}'", plain_type(to))))
        })
    }
}

/// A type as Go's `%s` prints it.
pub(crate) fn plain_type(t: &Type) -> String {
    let params = t.parameters();
    if params.is_empty() {
        return t.runtime_name().to_owned();
    }
    let params: Vec<String> = params.into_iter().map(plain_type).collect();
    format!("{}({})", t.runtime_name(), params.join(", "))
}
