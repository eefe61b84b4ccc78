//! The uid of a static pod that brings none: upstream's, so that a swap of kubelets restarts no static pod.
//!
//! Upstream hashes what the spew library prints of its internal Pod. `internal_pod.txt` holds the types below that Pod as Go
//! names them, with the JSON keys of their versioned twins (written by `e2e/oracle/staticpod -table`); [`dump`] prints a
//! pod in the same way. What the table cannot express (set timestamps, quantities beyond 64 bits) has no such uid.
//! Upstream: applyDefaults in pkg/kubelet/config/common.go, DeepHashObject in pkg/util/hash, v1.37.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::LazyLock;

use serde_json::{Map, Value};

use super::manifest::Origin;

/// A pod whose uid cannot be known.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path} cannot be represented: {why}")]
pub struct Error {
    path: String,
    why: &'static str,
}

enum Kind {
    /// Fields with JSON key and type.
    Struct(Vec<(&'static str, &'static str, &'static str)>),
    /// A named map and the type of its values.
    Map(&'static str),
    /// A named string, number or boolean.
    Plain(&'static str),
}

static TYPES: LazyLock<HashMap<&'static str, Kind>> = LazyLock::new(|| {
    let mut types = HashMap::new();
    let mut current: Option<(&'static str, Vec<_>)> = None;
    for line in include_str!("internal_pod.txt").lines() {
        let mut words = line.split_whitespace();
        let (Some(first), Some(second)) = (words.next(), words.next()) else { continue };
        let third = words.next();
        if line.starts_with(' ') {
            if let (Some((_, fields)), Some(third)) = (&mut current, third) {
                fields.push((first, second, third));
            }
            continue;
        }
        if let Some((name, fields)) = current.take() {
            types.insert(name, Kind::Struct(fields));
        }
        match (first, third) {
            ("struct", _) => current = Some((second, Vec::new())),
            ("map", Some(third)) => drop(types.insert(second, Kind::Map(third))),
            ("plain", Some(third)) => drop(types.insert(second, Kind::Plain(third))),
            _ => {}
        }
    }
    if let Some((name, fields)) = current {
        types.insert(name, Kind::Struct(fields));
    }
    types
});

/// The uid of a pod (versioned, with defaults) from a place; `written` is the pod as it was before the defaults.
///
/// # Errors
/// If the pod holds something that cannot be represented.
pub fn generate(pod: &Value, written: &Value, node: &str, origin: Origin<'_>) -> Result<String, Error> {
    let mut pod = pod.clone();
    restore(&mut pod, written);
    Ok(fnv128a(&(dump(&pod)? + &suffix_of(node, origin))))
}

/// Our defaults write resources in canonical form; Go remembers in which form they came.
fn restore(pod: &mut Value, written: &Value) {
    let (Some(spec), Some(before)) = (pod.get_mut("spec"), written.get("spec")) else { return };
    restore_map(spec.get_mut("overhead"), &[before.get("overhead")]);
    restore_resources(spec.get_mut("resources"), before.get("resources"));
    for list in ["containers", "initContainers"] {
        let containers = spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
        let before = before.get(list).and_then(Value::as_array).into_iter().flatten();
        for (container, before) in containers.zip(before) {
            restore_resources(container.get_mut("resources"), before.get("resources"));
        }
    }
}

fn restore_resources(resources: Option<&mut Value>, before: Option<&Value>) {
    let (Some(resources), Some(before)) = (resources, before) else { return };
    let (limits, requests) = (before.get("limits"), before.get("requests"));
    restore_map(resources.get_mut("limits"), &[limits]);
    // What is not requested is what the limit says.
    restore_map(resources.get_mut("requests"), &[requests, limits]);
}

fn restore_map(map: Option<&mut Value>, before: &[Option<&Value>]) {
    let Some(Value::Object(map)) = map else { return };
    for (name, value) in map {
        if let Some(old) = before.iter().flatten().find_map(|old| old.get(name)) {
            *value = old.clone();
        }
    }
}

/// What tells apart equal manifests from different places.
pub fn suffix_of(node: &str, origin: Origin<'_>) -> String {
    match origin {
        Origin::File(path) => format!("host:{node}file:{path}"),
        Origin::Url(url) => format!("url:{url}"),
    }
}

/// What Go's spew prints of the internal pod with `%#v`.
fn dump(pod: &Value) -> Result<String, Error> {
    let mut writer = Writer { out: String::with_capacity(16 << 10), path: Vec::new() };
    writer.typed("*core.Pod", Some(pod))?;
    Ok(writer.out)
}

struct Writer {
    out: String,
    path: Vec<String>,
}

impl Writer {
    fn fail<T>(&self, why: &'static str) -> Result<T, Error> {
        Err(Error { path: self.path.join("."), why })
    }

    /// The value with its type in front.
    fn typed(&mut self, name: &str, value: Option<&Value>) -> Result<(), Error> {
        let _ = write!(self.out, "({name})");
        match name.strip_prefix('*') {
            Some(inner) if value.is_some() => self.bare(inner, value),
            Some(_) => {
                self.out.push_str("<nil>");
                Ok(())
            }
            None => self.bare(name, value),
        }
    }

    /// The value without its type; absent is Go's zero.
    fn bare(&mut self, name: &str, value: Option<&Value>) -> Result<(), Error> {
        match name {
            "string" => self.text(value),
            "bool" => {
                let _ = write!(self.out, "{}", value.and_then(Value::as_bool).unwrap_or(false));
                Ok(())
            }
            "int32" | "int64" | "int" => {
                let _ = write!(self.out, "{}", value.and_then(Value::as_i64).unwrap_or(0));
                Ok(())
            }
            "resource.Quantity" => self.quantity(value),
            "intstr.IntOrString" => self.int_or_string(value),
            "v1.Time" if value.is_none() => {
                self.out
                    .push_str("{Time:(time.Time){wall:(uint64)0 ext:(int64)0 loc:(*time.Location)<nil>}}");
                Ok(())
            }
            "v1.Time" => self.fail("a time that is set"),
            // The decoder leaves them empty.
            "v1.TypeMeta" => {
                self.out.push_str("{Kind:(string) APIVersion:(string)}");
                Ok(())
            }
            _ => self.composed(name, value),
        }
    }

    fn composed(&mut self, name: &str, value: Option<&Value>) -> Result<(), Error> {
        if let Some(inner) = name.strip_prefix("[]") {
            return self.list(inner, value);
        }
        if let Some(inner) = name.strip_prefix("map[string]") {
            return self.map(inner, value);
        }
        match TYPES.get(name) {
            Some(Kind::Plain(kind)) => self.bare(kind, value),
            Some(Kind::Map(inner)) => self.map(inner, value),
            Some(Kind::Struct(fields)) => self.fields(fields, value),
            None => self.fail("its type is unknown"),
        }
    }

    fn fields(&mut self, fields: &[(&str, &str, &str)], value: Option<&Value>) -> Result<(), Error> {
        let none = Map::new();
        let object = value.and_then(Value::as_object).unwrap_or(&none);
        self.out.push('{');
        for (index, (field, key, kind)) in fields.iter().enumerate() {
            if index > 0 {
                self.out.push(' ');
            }
            let _ = write!(self.out, "{field}:");
            self.path.push((*field).to_owned());
            let inner = if *key == "." { value } else { object.get(*key).filter(|v| !v.is_null()) };
            self.typed(kind, inner)?;
            self.path.pop();
        }
        self.out.push('}');
        Ok(())
    }

    fn list(&mut self, inner: &str, value: Option<&Value>) -> Result<(), Error> {
        let Some(items) = value.and_then(Value::as_array) else {
            self.out.push_str("<nil>");
            return Ok(());
        };
        self.out.push('[');
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                self.out.push(' ');
            }
            self.element(inner, item)?;
        }
        self.out.push(']');
        Ok(())
    }

    fn map(&mut self, inner: &str, value: Option<&Value>) -> Result<(), Error> {
        let Some(map) = value.and_then(Value::as_object) else {
            self.out.push_str("<nil>");
            return Ok(());
        };
        let mut keys: Vec<&String> = map.keys().collect();
        keys.sort();
        self.out.push_str("map[");
        for (index, key) in keys.into_iter().enumerate() {
            if index > 0 {
                self.out.push(' ');
            }
            let _ = write!(self.out, "{key}:");
            self.element(inner, map.get(key).unwrap_or(&Value::Null))?;
        }
        self.out.push(']');
        Ok(())
    }

    fn element(&mut self, inner: &str, item: &Value) -> Result<(), Error> {
        match inner.strip_prefix('*') {
            Some(_) => self.fail("a list of pointers"),
            None => self.bare(inner, Some(item).filter(|v| !v.is_null())),
        }
    }

    fn text(&mut self, value: Option<&Value>) -> Result<(), Error> {
        match value {
            Some(Value::String(text)) => self.out.push_str(text),
            None => {}
            Some(_) => return self.fail("not a text"),
        }
        Ok(())
    }

    fn int_or_string(&mut self, value: Option<&Value>) -> Result<(), Error> {
        let (kind, number, text) = match value {
            Some(Value::String(text)) => (1, 0, text.as_str()),
            Some(other) => (0, other.as_i64().unwrap_or(0), ""),
            None => (0, 0, ""),
        };
        let _ = write!(self.out, "{{Type:(intstr.Type){kind} IntVal:(int32){number} StrVal:(string){text}}}");
        Ok(())
    }

    fn quantity(&mut self, value: Option<&Value>) -> Result<(), Error> {
        let text = match value {
            None => None,
            Some(Value::String(text)) => Some(text.trim().to_owned()),
            Some(number) => Some(number.to_string()),
        };
        let parsed = match text.as_deref() {
            None => Amount::default(),
            Some(text) => match amount(text) {
                Some(amount) => amount,
                None => return self.fail("a quantity that does not fit 64 bits"),
            },
        };
        let Amount { value, scale, cached, format } = parsed;
        let _ = write!(
            self.out,
            "{{i:(resource.int64Amount){{value:(int64){value} scale:(resource.Scale){scale}}} d:(resource.infDecAmount){{Dec:(*inf.Dec)<nil>}} s:(string){cached} Format:(resource.Format){format}}}"
        );
        Ok(())
    }
}

/// A quantity as Go holds it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Amount {
    value: i64,
    scale: i32,
    /// The text, where it is the canonical one.
    cached: String,
    format: &'static str,
}

/// Base, exponent and format of a suffix.
fn suffix(text: &str) -> Option<(u32, i32, &'static str)> {
    let decimal = |exponent| Some((10, exponent, "DecimalSI"));
    let binary = |exponent| Some((2, exponent, "BinarySI"));
    match text {
        "" => decimal(0),
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        _ => {
            let exponent = text.strip_prefix(['e', 'E'])?.parse().ok()?;
            Some((10, exponent, "DecimalExponent"))
        }
    }
}

/// Upstream: ParseQuantity and, for resources, RoundUp; the fast path only.
fn amount(text: &str) -> Option<Amount> {
    if text == "0" {
        return Some(Amount { cached: "0".to_owned(), format: "DecimalSI", ..Amount::default() });
    }
    let (negative, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    let (number, unit) = rest.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    let (base, exponent, format) = suffix(unit)?;
    let digits = i32::try_from(whole.len() + fraction.len()).ok()?;
    let (mut scale, mantissa, precision) = match base {
        10 => (exponent, 1i64, 18 - digits),
        _ if fraction.is_empty() => {
            (0, 1i64.checked_shl(exponent.unsigned_abs())?, 15 - digits - exponent * 3 / 10 - 1)
        }
        _ => (0, 1, -1),
    };
    scale -= i32::try_from(fraction.len()).ok()?;
    if precision < 0 || scale < -9 {
        return None;
    }
    let shifted = format!("{whole}{fraction}");
    let read: i64 = shifted.parse().ok()?;
    let mut value = read.checked_mul(mantissa)?;
    if negative {
        value = -value;
    }
    let canonical = if base == 2 {
        exponent % 10 == 0 && read & 7 != 0
    } else {
        scale % 3 == 0 && !shifted.ends_with("000") && !shifted.starts_with('0')
    };
    let mut cached = if canonical { text.to_owned() } else { String::new() };
    // Defaults round resources up to thousandths, which loses the text.
    if scale < -3 {
        let divisor = 10i64.checked_pow((-3 - scale).unsigned_abs())?;
        value = value.div_euclid(divisor) + i64::from(value.rem_euclid(divisor) != 0);
        scale = -3;
        cached.clear();
    }
    Some(Amount { value, scale, cached, format })
}

/// FNV-1a, 128 bits, in hexadecimal.
pub fn fnv128a(text: &str) -> String {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let hash = text.bytes().fold(OFFSET, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME));
    format!("{hash:032x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Manifests with the uids that upstream's code gives them (`e2e/oracle/staticpod`).
    #[test]
    fn uids_are_upstreams() {
        for block in include_str!("uids.txt").split("### ").skip(1) {
            let (head, manifest) = block.split_once('\n').unwrap();
            let mut words = head.split(' ');
            let [uid, node, origin] = [(); 3].map(|()| words.next().unwrap());
            let pod = super::super::manifest::parse(manifest, origin, node, "t").unwrap();
            assert_eq!(pod.metadata.uid.as_deref(), Some(uid), "{manifest}");
        }
    }

    #[test]
    fn says_what_it_cannot_represent() {
        let pod = serde_json::json!({"metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"}});
        let error = generate(&pod, &pod, "n", Origin::File("f")).unwrap_err().to_string();
        assert_eq!(error, "ObjectMeta.CreationTimestamp cannot be represented: a time that is set");
    }

    #[test]
    fn quantities() {
        let read = |text| amount(text).map(|a| (a.value, a.scale, a.cached, a.format));
        assert_eq!(read("100m"), Some((100, -3, "100m".into(), "DecimalSI")));
        assert_eq!(read("64Mi"), Some((64 << 20, 0, String::new(), "BinarySI")));
        assert_eq!(read("1.5"), Some((15, -1, String::new(), "DecimalSI")));
        assert_eq!(read("1500u"), Some((2, -3, String::new(), "DecimalSI")));
        assert_eq!(read("1.5Gi"), None);
    }
}
