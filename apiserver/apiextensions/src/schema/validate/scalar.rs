//! Types, numbers and strings.

use machinery::Value;

use super::fail::{Code, Fail, Outcome};
use crate::schema::coerce::go_float;
use crate::schema::{Rules, Schema};

/// JSON schema's name of a value's type, and the format Go gives it.
fn described(value: &Value) -> (&'static str, &'static str) {
    match value {
        Value::Null | Value::Raw(_) => ("null", ""),
        Value::Bool(_) => ("boolean", ""),
        Value::Int(_) => ("integer", "int64"),
        Value::Float(_) => ("number", "float64"),
        Value::Str(_) => ("string", ""),
        Value::List(_) => ("array", ""),
        Value::Map(_) => ("object", ""),
    }
}

/// `swag.IsFloat64AJSONInteger`: integral, as far as a double can tell.
fn is_integral(number: f64) -> bool {
    const MAX: f64 = 9_007_199_254_740_991.0;
    if !number.is_finite() || number.abs() > MAX {
        return false;
    }
    let difference = (number - number.trunc()).abs();
    number == number.trunc() || difference < f64::EPSILON * number.abs().max(1.0)
}

pub(super) fn type_of(types: &[&str], format: &str, value: &Value, path: &str) -> Outcome {
    let mut out = Outcome::default();
    out.matched();
    let (kind, own_format) = described(value);
    let has = |name: &str| types.contains(&name);
    let float_as_int = matches!(value, Value::Float(f) if is_integral(*f)) && has("integer");
    let int_as_float = kind == "integer" && has("number");
    let textual = matches!(value, Value::Str(_) | Value::List(_));
    let fits = has(kind) || float_as_int || int_as_float;
    let free = format.is_empty();
    if !(textual || free || fits || own_format == format) {
        let found = if own_format.is_empty() { "" } else { own_format };
        out = Outcome::default();
        out.add(Fail::wrong_type(path, format, found));
        return out;
    }
    let numeric = has("number") || has("integer");
    if textual && !free && !numeric {
        return out;
    }
    if !fits {
        out = Outcome::default();
        out.add(Fail::wrong_type(path, &types.join(","), kind));
    }
    out
}

pub(super) fn string(rules: &Rules, text: &str, path: &str) -> Outcome {
    let mut out = Outcome::default();
    let len = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
    if let Some(max) = rules.max_length.filter(|max| len > *max) {
        let why = format!("{path} in body should be at most {max} chars long");
        out.add(Fail::new(Code::TooLong(max), path, Some(text.into()), why));
    } else if let Some(min) = rules.min_length.filter(|min| len < *min) {
        let why = format!("{path} in body should be at least {min} chars long");
        out.add(Fail::new(Code::Other, path, Some(text.into()), why));
    } else if let Some(pattern) = rules.pattern.as_ref().filter(|p| !p.is_match(text)) {
        let why = match pattern.error() {
            Some(error) => format!("{}, but pattern is invalid: {error}", pattern.source),
            None => pattern.source.clone(),
        };
        let why = format!("{path} in body should match '{why}'");
        out.add(Fail::new(Code::Other, path, Some(text.into()), why));
    }
    out
}

fn float(value: &Value) -> f64 {
    value.as_f64().unwrap_or(0.0)
}

/// Whether a number can be held by the declared type, with upstream's text if not.
fn in_range(
    value: f64,
    integral: bool,
    types: &[&str],
    format: &str,
    what: &str,
    path: &str,
) -> Option<String> {
    let integer = types == ["integer"];
    let holds = match (integer, format) {
        (true, "int32") => integral && (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&value),
        (true, _) => integral && (-9.223_372_036_854_776e18..9.223_372_036_854_776e18).contains(&value),
        (false, "float") if types == ["number"] => value.abs() <= f64::from(f32::MAX),
        _ => true,
    };
    if holds {
        return None;
    }
    let name = if integer { "integer" } else { "number" };
    Some(match format {
        "" => format!("{what} value must be of type {name} (default format) in {path}"),
        format => format!("{what} value must be of type {name} with format {format} in {path}"),
    })
}

pub(super) fn number(schema: &Schema, types: &[&str], format: &str, value: &Value, path: &str) -> Outcome {
    let rules = &schema.rules;
    let mut out = Outcome::default();
    let format = if types.len() == 1 { format } else { "" };
    let types = if types.len() == 1 { types } else { &[] };
    let integral = |f: f64| f == f.trunc();
    let range = |f: f64, what: &str| in_range(f, integral(f), types, format, what, path);
    if let Some(text) = range(float(value), "Checked") {
        out.add(Fail::composite(text));
    }
    let other = |text: String| Fail::new(Code::Other, path, Some(value.clone()), text);
    if let Some(factor) = rules.multiple_of {
        let problem = range(factor, "MultipleOf");
        let native = problem.is_none();
        problem.into_iter().for_each(|text| out.add(Fail::composite(text)));
        let shown = if native { shown(value, factor) } else { go_float(factor) };
        if !is_positive(value, factor, native) {
            let text = format!("factor MultipleOf declared for {path} must be positive: {shown}");
            out.add(Fail::new(Code::Other, path, Some(factor.into()), text));
        } else if !is_multiple(value, factor, native) {
            out.add(other(format!("{path} in body should be a multiple of {shown}")));
        }
    }
    // Upstream reports the minimum first.
    let bounds =
        [(rules.minimum, rules.exclusive_minimum, true), (rules.maximum, rules.exclusive_maximum, false)];
    for (bound, exclusive, lower) in bounds {
        let Some(bound) = bound else { continue };
        let problem = range(bound, if lower { "Minimum boundary" } else { "Maximum boundary" });
        let native = problem.is_none();
        problem.into_iter().for_each(|text| out.add(Fail::composite(text)));
        if beyond(value, bound, exclusive, lower, native) {
            let shown = if native { shown(value, bound) } else { go_float(bound) };
            let relation = match (lower, exclusive) {
                (true, true) => "greater than",
                (true, false) => "greater than or equal to",
                (false, true) => "less than",
                (false, false) => "less than or equal to",
            };
            out.add(other(format!("{path} in body should be {relation} {shown}")));
        }
    }
    out.matched();
    out
}

/// A bound as it is printed beside a value: Go cuts it to the value's type.
fn shown(value: &Value, bound: f64) -> String {
    if matches!(value, Value::Int(_)) { (bound as i64).to_string() } else { go_float(bound) }
}

fn beyond(value: &Value, bound: f64, exclusive: bool, lower: bool, native: bool) -> bool {
    let order = match value {
        Value::Int(i) if native => i.cmp(&(bound as i64)),
        _ => float(value).partial_cmp(&bound).unwrap_or(std::cmp::Ordering::Equal),
    };
    if lower {
        order.is_lt() || exclusive && order.is_eq()
    } else {
        order.is_gt() || exclusive && order.is_eq()
    }
}

fn is_positive(value: &Value, factor: f64, native: bool) -> bool {
    if native && matches!(value, Value::Int(_)) { factor as i64 > 0 } else { factor > 0.0 }
}

fn is_multiple(value: &Value, factor: f64, native: bool) -> bool {
    match value {
        Value::Int(i) if native => i % (factor as i64) == 0,
        _ => {
            let data = float(value);
            is_integral(if factor < 1.0 { 1.0 / factor * data } else { data / factor })
        }
    }
}
