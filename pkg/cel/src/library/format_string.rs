//! `string.format` (cel-go ext/formatting.go, the version before 4), at run time and as a check of constants.

use crate::ast::{Expr, Id, Kind};
use crate::check::Checked;
use crate::types::Type;
use crate::val::convert::double_text;
use crate::val::{List, Val};
use machinery::golang::quote;

/// A conversion in a format: `%s` and its like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    String,
    Decimal,
    Fixed(Option<usize>),
    Scientific(Option<usize>),
    Binary,
    Hex { upper: bool },
    Octal,
}

/// The verb at the start of `rest` (after `%`), and its length.
fn verb(rest: &str) -> Result<(Verb, usize), String> {
    let wrap = |why: &str| format!("could not parse formatting clause: {why}");
    let (precision, at) = match rest.strip_prefix('.') {
        None => (None, 0),
        Some(digits) => {
            let n = digits.bytes().take_while(u8::is_ascii_digit).count();
            if n == digits.len() {
                return Err(wrap("error while parsing precision: could not find end of precision specifier"));
            }
            let value: usize = digits[..n].parse().map_err(|e: std::num::ParseIntError| {
                let why = match e.kind() {
                    std::num::IntErrorKind::PosOverflow => "value out of range",
                    _ => "invalid syntax",
                };
                wrap(&format!(
                    "error while parsing precision: error while converting precision to integer: strconv.Atoi: \
                     parsing {}: {why}",
                    quote(&digits[..n])
                ))
            })?;
            (Some(value), n + 1)
        }
    };
    let c = rest[at..].bytes().next().unwrap_or(b' ');
    let verb = match c {
        b's' => Verb::String,
        b'd' => Verb::Decimal,
        b'f' => Verb::Fixed(precision),
        b'e' => Verb::Scientific(precision),
        b'b' => Verb::Binary,
        b'x' => Verb::Hex { upper: false },
        b'X' => Verb::Hex { upper: true },
        b'o' => Verb::Octal,
        c => return Err(wrap(&format!("unrecognized formatting clause \"{}\"", c as char))),
    };
    Ok((verb, at + 1))
}

/// Walks a format: text goes to `out`, each verb to `convert` with the number of its argument.
fn walk<E: From<String>>(
    format: &str,
    count: usize,
    out: &mut String,
    mut convert: impl FnMut(Verb, usize, &mut String) -> Result<(), E>,
) -> Result<usize, E> {
    let mut rest = format;
    let mut used = 0;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            out.push('%');
            rest = after;
            continue;
        }
        if used >= count {
            return Err(format!("index {used} out of range").into());
        }
        if rest.is_empty() {
            return Err("unexpected end of string".to_owned().into());
        }
        let (verb, length) = verb(rest)?;
        convert(verb, used, out)?;
        rest = &rest[length..];
        used += 1;
    }
    out.push_str(rest);
    Ok(used)
}

/// The longest precision carried out; upstream has no limit here.
const MAX_PRECISION: usize = 10_000;

/// Formats; the error is upstream's text.
pub(super) fn format(pattern: &str, args: &List<'_>) -> Result<String, String> {
    let mut out = String::new();
    walk(pattern, args.len(), &mut out, |verb, i, out| {
        let arg = match args.get(i) {
            Some(Ok(v)) => v,
            Some(Err(e)) => return Err(e.to_string()),
            None => return Err(format!("index {i} out of range")),
        };
        let text = one(verb, &arg).map_err(|e| format!("error during formatting: {e}"))?;
        out.push_str(&text);
        Ok(())
    })?;
    Ok(out)
}

fn refused(verb: Verb, type_name: &str) -> String {
    let what = match verb {
        Verb::String => {
            "string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, durations, \
             and timestamps"
        }
        Verb::Decimal => "decimal clause can only be used on integers",
        Verb::Fixed(_) => "fixed-point clause can only be used on doubles",
        Verb::Scientific(_) => "scientific clause can only be used on doubles",
        Verb::Binary => "only integers and bools can be formatted as binary",
        Verb::Hex { .. } => "only integers, byte buffers, and strings can be formatted as hex",
        Verb::Octal => "octal clause can only be used on integers",
    };
    format!("{what}, was given {type_name}")
}

fn signed(i: i64, digits: String) -> String {
    if i < 0 { format!("-{digits}") } else { digits }
}

fn hex(bytes: &[u8], upper: bool) -> String {
    bytes.iter().map(|b| if upper { format!("{b:02X}") } else { format!("{b:02x}") }).collect()
}

fn one(verb: Verb, v: &Val<'_>) -> Result<String, String> {
    Ok(match (verb, v) {
        (Verb::String, v) => string(v)?,
        (Verb::Decimal, Val::Int(i)) => i.to_string(),
        (Verb::Decimal, Val::Uint(u)) => u.to_string(),
        (Verb::Fixed(p), v) => fixed(double(verb, v)?, p.unwrap_or(6).min(MAX_PRECISION)),
        (Verb::Scientific(p), v) => scientific(double(verb, v)?, p.unwrap_or(6).min(MAX_PRECISION)),
        (Verb::Binary, Val::Int(i)) => signed(*i, format!("{:b}", i.unsigned_abs())),
        (Verb::Binary, Val::Uint(u)) => format!("{u:b}"),
        (Verb::Binary, Val::Bool(b)) => u8::from(*b).to_string(),
        (Verb::Hex { upper }, Val::Str(s)) => hex(s.as_bytes(), upper),
        (Verb::Hex { upper }, Val::Bytes(b)) => hex(b, upper),
        (Verb::Hex { upper: true }, Val::Int(i)) => signed(*i, format!("{:X}", i.unsigned_abs())),
        (Verb::Hex { upper: false }, Val::Int(i)) => signed(*i, format!("{:x}", i.unsigned_abs())),
        (Verb::Hex { upper: true }, Val::Uint(u)) => format!("{u:X}"),
        (Verb::Hex { upper: false }, Val::Uint(u)) => format!("{u:x}"),
        (Verb::Octal, Val::Int(i)) => signed(*i, format!("{:o}", i.unsigned_abs())),
        (Verb::Octal, Val::Uint(u)) => format!("{u:o}"),
        (verb, v) => return Err(refused(verb, v.type_name())),
    })
}

fn double(verb: Verb, v: &Val<'_>) -> Result<f64, String> {
    match v {
        Val::Double(d) => Ok(*d),
        Val::Str(s) if &**s == "NaN" => Ok(f64::NAN),
        Val::Str(s) if &**s == "Infinity" => Ok(f64::INFINITY),
        Val::Str(s) if &**s == "-Infinity" => Ok(f64::NEG_INFINITY),
        other => Err(refused(verb, other.type_name())),
    }
}

/// Upstream's printer gives zero no sign.
fn unsigned_zero(d: f64) -> f64 {
    if d == 0.0 { 0.0 } else { d }
}

fn not_finite(d: f64) -> Option<String> {
    if d.is_nan() {
        Some("NaN".into())
    } else if d.is_infinite() {
        Some(if d > 0.0 { "\u{221e}" } else { "-\u{221e}" }.into())
    } else {
        None
    }
}

/// Fixed point with the thousands separated, as upstream's printer for US English does.
fn fixed(d: f64, precision: usize) -> String {
    if let Some(text) = not_finite(d) {
        return text;
    }
    let plain = format!("{:.precision$}", unsigned_zero(d));
    let (sign, digits) = plain.strip_prefix('-').map_or(("", plain.as_str()), |rest| ("-", rest));
    let (whole, fraction) = digits.split_once('.').map_or((digits, None), |(w, f)| (w, Some(f)));
    let mut out = sign.to_owned();
    for (i, c) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    if let Some(fraction) = fraction {
        out.push('.');
        out.push_str(fraction);
    }
    out
}

/// Scientific as upstream's printer for US English writes it: `1.052033×10⁰³`.
fn scientific(d: f64, precision: usize) -> String {
    if let Some(text) = not_finite(d) {
        // Upstream takes the precision for a width here.
        return format!("{text:>precision$}");
    }
    let plain = format!("{:.precision$e}", unsigned_zero(d));
    let (mantissa, exponent) = plain.split_once('e').unwrap_or((&plain, "0"));
    let (sign, digits) = exponent.strip_prefix('-').map_or(("", exponent), |rest| ("\u{207b}", rest));
    let superscript = |c: char| match c {
        '1' => '\u{b9}',
        '2' => '\u{b2}',
        '3' => '\u{b3}',
        c => char::from_u32(0x2070 + (c as u32 - '0' as u32)).unwrap_or(c),
    };
    let digits: String = format!("{digits:0>2}").chars().map(superscript).collect();
    format!("{mantissa}\u{d7}10{sign}{digits}")
}

fn string(v: &Val<'_>) -> Result<String, String> {
    match v {
        Val::List(_) | Val::Map(_) => nested(v),
        Val::Null => Ok("null".into()),
        Val::Int(_)
        | Val::Uint(_)
        | Val::Double(_)
        | Val::Bool(_)
        | Val::Str(_)
        | Val::Timestamp(_)
        | Val::Bytes(_)
        | Val::Duration(_)
        | Val::Type(_) => match v.convert(&Type::String) {
            Ok(Val::Str(s)) => Ok(s.to_string()),
            Ok(other) => Ok(other.display()),
            Err(e) => Err(format!("could not convert argument {} to string", quote(&e.to_string()))),
        },
        other => Err(refused(Verb::String, other.type_name())),
    }
}

/// A value within a list or map.
fn nested(v: &Val<'_>) -> Result<String, String> {
    Ok(match v {
        Val::Int(i) => i.to_string(),
        Val::Uint(u) => u.to_string(),
        Val::Str(s) => quote(s),
        Val::Bytes(_) => format!("b{}", quote(&string(v)?)),
        Val::Bool(_) | Val::Null | Val::Type(_) => string(v)?,
        Val::Timestamp(_) => format!("timestamp({})", quote(&string(v)?)),
        Val::Duration(_) => format!("duration({})", quote(&string(v)?)),
        Val::Double(d) if d.is_finite() => format!("{d:.6}"),
        Val::Double(d) => quote(&double_text(*d)),
        Val::List(l) => {
            let items = l.iter().map(|v| nested(&v.map_err(|e| e.to_string())?));
            format!("[{}]", items.collect::<Result<Vec<_>, _>>()?.join(", "))
        }
        Val::Map(m) => {
            let mut pairs = Vec::new();
            for k in m.keys() {
                let key = match &k {
                    Val::Str(_) | Val::Bool(_) | Val::Int(_) | Val::Uint(_) => nested(&k)?,
                    other => {
                        return Err(format!(
                            "no formatting function for map key of type {}",
                            other.type_name()
                        ));
                    }
                };
                let Some(value) = m.find(&k) else { continue };
                pairs.push((key, nested(&value.map_err(|e| e.to_string())?)?));
            }
            pairs.sort_by(|a, b| a.0.cmp(&b.0));
            let shown: Vec<String> = pairs.into_iter().map(|(k, v)| format!("{k}:{v}")).collect();
            format!("{{{}}}", shown.join(", "))
        }
        other => return Err(format!("no formatting function for {}", other.type_name())),
    })
}

/// A failed check: the node it is about, if not the call itself.
pub(crate) struct Failure(Option<Id>, String);

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Failure(None, message)
    }
}

/// Checks a constant format against the types of its arguments; answers how many it uses.
pub(crate) fn check_call(
    format: &str,
    args: &[Expr],
    checked: &Checked,
) -> Result<usize, (Option<Id>, String)> {
    let convert = |verb: Verb, i: usize, _: &mut String| match bad_argument(verb, &args[i], checked) {
        None => Ok(()),
        Some(id) => {
            let name = checked.type_of(id).runtime_name();
            Err(Failure(Some(id), format!("error during formatting: {}", refused(verb, name))))
        }
    };
    walk(format, args.len(), &mut String::new(), convert).map_err(|Failure(id, message)| (id, message))
}

/// The node whose type a verb cannot show.
fn bad_argument(verb: Verb, arg: &Expr, checked: &Checked) -> Option<Id> {
    let t = checked.type_of(arg.id);
    let fits = matches!(t, Type::Dyn)
        || match (verb, t.primitive()) {
            (Verb::String, t) => matches!(
                t,
                Type::List(_)
                    | Type::Map(_)
                    | Type::Int
                    | Type::Uint
                    | Type::Double
                    | Type::Bool
                    | Type::String
                    | Type::Timestamp
                    | Type::Bytes
                    | Type::Duration
                    | Type::Type(_)
                    | Type::Null
            ),
            (Verb::Decimal | Verb::Octal, Type::Int | Type::Uint)
            | (Verb::Fixed(_) | Verb::Scientific(_), Type::Double | Type::String)
            | (Verb::Binary, Type::Int | Type::Uint | Type::Bool)
            | (Verb::Hex { .. }, Type::Int | Type::Uint | Type::String | Type::Bytes) => true,
            _ => false,
        };
    if !fits {
        return Some(arg.id);
    }
    match (&arg.kind, verb) {
        (Kind::List { elements, .. }, Verb::String) => {
            elements.iter().find_map(|e| bad_argument(verb, e, checked))
        }
        (Kind::Map(entries), Verb::String) => entries.iter().find_map(|e| {
            bad_argument(verb, &e.key, checked).or_else(|| bad_argument(verb, &e.value, checked))
        }),
        _ => None,
    }
}
