//! The hash of a pod template, by which upstream names the sets of Deployments and the revisions of daemon sets: FNV-1a
//! over the template as Go prints it for debugging, with the names of its types and fields.
//!
//! The layout of Go's structs is data (`template-types.txt`, by `make oracle-workloads`).
//! Upstream: pkg/controller/controller_utils.go ComputeHash, k8s.io/utils/dump ForHash, github.com/davecgh/go-spew.

use std::sync::LazyLock;

use k8s_openapi::api::core::v1::PodTemplateSpec;
use machinery::value::{Map, Value};
use machinery::{Quantity, json};

use super::revisions::safe_encode;

static TYPES: LazyLock<Vec<Type>> = LazyLock::new(|| parse(include_str!("testdata/template-types.txt")));

/// What is printed in the place of an absent pointer, list or map.
const NIL: &str = "<nil>";

struct Type {
    fields: Vec<Field>,
}

struct Field {
    name: &'static str,
    go_type: &'static str,
    /// "-": the fields of the struct are the parent's.
    json: &'static str,
    shape: &'static str,
}

/// Lines as the oracle writes them; a test reads them all.
fn parse(text: &'static str) -> Vec<Type> {
    let mut types: Vec<Type> = Vec::new();
    for line in text.lines() {
        match line.strip_prefix(' ') {
            None => types.push(Type { fields: Vec::new() }),
            Some(line) => {
                let mut words = line.rsplitn(3, ' ');
                let (Some(shape), Some(json), Some(rest)) = (words.next(), words.next(), words.next()) else {
                    continue;
                };
                let (Some((name, go_type)), Some(last)) = (rest.split_once(' '), types.last_mut()) else {
                    continue;
                };
                last.fields.push(Field { name, go_type, json, shape });
            }
        }
    }
    types
}

/// Name suffix and label of the set of a template; `collisions` makes another name.
pub fn template_hash(template: &PodTemplateSpec, collisions: Option<i32>) -> String {
    let mut hash: u32 = 0x811c_9dc5;
    let mut feed = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        }
    };
    feed(dump(template).as_bytes());
    if let Some(count) = collisions {
        // Eight bytes, four of which upstream fills.
        feed(&count.to_le_bytes());
        feed(&[0; 4]);
    }
    safe_encode(hash)
}

/// The template as Go prints it.
fn dump(template: &PodTemplateSpec) -> String {
    let text = serde_json::to_vec(template).unwrap_or_default();
    let id = api::types().by_name("core/v1.PodTemplateSpec");
    let tree = id.and_then(|id| json::decode(api::types(), id, &text, false).ok()).map(|d| d.value);
    let mut out = String::from("(v1.PodTemplateSpec)");
    push(&mut out, "0", tree.as_ref());
    out
}

/// Prints a value without its type.
fn push(out: &mut String, shape: &str, value: Option<&Value>) {
    let value = value.filter(|v| !v.is_null());
    match shape.split_at(usize::from(!shape.is_empty())) {
        ("*", inner) => match value {
            None => out.push_str(NIL),
            present => push(out, inner, present),
        },
        ("[", inner) => push_list(out, inner, value),
        ("{", inner) => push_map(out, inner, value),
        ("s", _) => out.push_str(value.and_then(Value::as_str).unwrap_or_default()),
        ("i", _) => out.push_str(&value.and_then(Value::as_i64).unwrap_or(0).to_string()),
        ("b", _) => out.push_str(if value.and_then(Value::as_bool) == Some(true) { "true" } else { "false" }),
        ("t", _) => push_time(out),
        ("q", _) => push_quantity(out, value.and_then(Value::as_str).unwrap_or("0")),
        ("?", _) => out.push_str(NIL),
        _ => push_struct(out, shape, value),
    }
}

fn push_list(out: &mut String, inner: &str, value: Option<&Value>) {
    let Some(items) = value.and_then(Value::as_list).filter(|l| !l.is_empty()) else {
        out.push_str(NIL);
        return;
    };
    out.push('[');
    for (at, item) in items.iter().enumerate() {
        out.push_str(if at > 0 { " " } else { "" });
        push(out, inner, Some(item));
    }
    out.push(']');
}

fn push_map(out: &mut String, inner: &str, value: Option<&Value>) {
    let Some(entries) = value.and_then(Value::as_map).filter(|m| !m.is_empty()) else {
        out.push_str(NIL);
        return;
    };
    out.push_str("map[");
    for (at, (key, item)) in entries.iter().enumerate() {
        out.push_str(if at > 0 { " " } else { "" });
        out.push_str(key);
        out.push(':');
        push(out, inner, Some(item));
    }
    out.push(']');
}

fn push_struct(out: &mut String, shape: &str, value: Option<&Value>) {
    let empty = Map::new();
    let map = value.and_then(Value::as_map).unwrap_or(&empty);
    let Some(layout) = shape.parse::<usize>().ok().and_then(|at| TYPES.get(at)) else { return };
    if layout.fields.iter().any(|f| f.name == "IntVal") {
        return push_int_or_string(out, value);
    }
    out.push('{');
    for (at, field) in layout.fields.iter().enumerate() {
        out.push_str(if at > 0 { " " } else { "" });
        out.push_str(field.name);
        out.push_str(":(");
        out.push_str(field.go_type);
        out.push(')');
        push(out, field.shape, if field.json == "-" { value } else { map.get(field.json) });
    }
    out.push('}');
}

/// A number or a text in JSON, a struct of three in Go.
fn push_int_or_string(out: &mut String, value: Option<&Value>) {
    let text = value.and_then(Value::as_str);
    let (number, kind) = (value.and_then(Value::as_i64).unwrap_or(0), i32::from(text.is_some()));
    let text = text.unwrap_or_default();
    out.push_str(&format!("{{Type:(intstr.Type){kind} IntVal:(int32){number} StrVal:(string){text}}}"));
}

/// Times of templates are zero: the API server does not keep them.
fn push_time(out: &mut String) {
    out.push_str("{Time:(time.Time){wall:(uint64)0 ext:(int64)0 loc:(*time.Location)<nil>}}");
}

/// A quantity as it is in memory after it was read from the wire.
fn push_quantity(out: &mut String, text: &str) {
    let (value, scale, format, kept) = match Quantity::parse(text) {
        Ok(quantity) if text != "0" => parts(text, &quantity),
        _ => (0, 0, "DecimalSI", true),
    };
    let text = if kept { text } else { "" };
    out.push_str(&format!(
        "{{i:(resource.int64Amount){{value:(int64){value} scale:(resource.Scale){scale}}} d:(resource.infDecAmount){{Dec:(*inf.Dec)<nil>}} s:(string){text} Format:(resource.Format){format}}}"
    ));
}

/// Mantissa, decimal exponent, format, and whether the text is kept, as in upstream's parser for numbers that fit 64 bits.
/// Upstream: ParseQuantity's fast path.
fn parts(text: &str, quantity: &Quantity) -> (i64, i32, &'static str, bool) {
    use machinery::quantity::Format;
    let number = text.trim_end_matches(|c: char| !c.is_ascii_digit() && c != '.');
    let (number, exponent) = match number.split_once(['e', 'E']) {
        Some((number, exponent)) => (number, exponent.parse().unwrap_or(0)),
        None => (number, suffix(text)),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{fraction}");
    let mantissa: i64 = digits.parse().unwrap_or(0);
    if quantity.format() == Format::BinarySI {
        return (quantity.value(), 0, "BinarySI", mantissa & 7 != 0);
    }
    let scale = exponent - i32::try_from(fraction.len()).unwrap_or(0);
    let bare = digits.trim_start_matches(['-', '+']);
    let kept = scale % 3 == 0 && !bare.ends_with("000") && !bare.starts_with('0');
    let name = if quantity.format() == Format::DecimalSI { "DecimalSI" } else { "DecimalExponent" };
    (mantissa, scale, name, kept)
}

fn suffix(text: &str) -> i32 {
    match text.trim_start_matches(|c: char| c.is_ascii_digit() || matches!(c, '.' | '-' | '+')) {
        "n" => -9,
        "u" => -6,
        "m" => -3,
        "k" => 3,
        "M" => 6,
        "G" => 9,
        "T" => 12,
        "P" => 15,
        "E" => 18,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Recorded by `make oracle-workloads`: see the tests of `revisions`.
    const RECORDED: &str = include_str!("testdata/revisions.txt");

    #[test]
    fn hashes_are_upstreams() {
        let mut wrong = 0;
        for (at, line) in RECORDED.lines().enumerate() {
            let parts: Vec<&str> = line.split('\t').collect();
            let [template, _, _, plain, _, with_collisions] = parts[..] else { panic!("line {at}") };
            let template: PodTemplateSpec = serde_json::from_str(template).expect("a template");
            let ours = (template_hash(&template, None), template_hash(&template, Some(3)));
            if ours != (plain.to_string(), with_collisions.to_string()) {
                println!("line {at}: {}", dump(&template));
                wrong += 1;
            }
        }
        assert_eq!(wrong, 0, "of {}", RECORDED.lines().count());
    }
}
