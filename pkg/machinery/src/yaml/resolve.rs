//! What a YAML scalar means: Go's yaml.v2 rules, a mix of YAML 1.1 and 1.2.

use crate::value::Value;

/// A scalar after resolution.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Scalar {
    Null,
    Bool(bool),
    Int(i64),
    /// Above `i64::MAX`.
    Unsigned(u64),
    Float(f64),
    Str(String),
}

const STR: &str = "tag:yaml.org,2002:str";
const BOOL: &str = "tag:yaml.org,2002:bool";
const INT: &str = "tag:yaml.org,2002:int";
const FLOAT: &str = "tag:yaml.org,2002:float";
const NULL: &str = "tag:yaml.org,2002:null";
const TIMESTAMP: &str = "tag:yaml.org,2002:timestamp";
const BINARY: &str = "tag:yaml.org,2002:binary";

/// Whole numbers below this fit 64 bits: 2^63.
const WHOLE: f64 = 9_223_372_036_854_775_808.0;

impl Scalar {
    fn tag(&self) -> &'static str {
        match self {
            Scalar::Null => NULL,
            Scalar::Bool(_) => BOOL,
            Scalar::Int(_) | Scalar::Unsigned(_) => INT,
            Scalar::Float(_) => FLOAT,
            Scalar::Str(_) => STR,
        }
    }

    /// As a map key, which JSON wants to be text.
    pub fn into_key(self) -> Result<String, String> {
        Ok(match self {
            Scalar::Str(s) => s,
            Scalar::Int(i) => i.to_string(),
            Scalar::Bool(b) => b.to_string(),
            Scalar::Float(f) if f.is_nan() => ".nan".to_owned(),
            Scalar::Float(f) if f.is_infinite() => if f > 0.0 { ".inf" } else { "-.inf" }.to_owned(),
            // Upstream prints float keys with the digits of 32 bits.
            Scalar::Float(f) => float_key(f as f32),
            Scalar::Null | Scalar::Unsigned(_) => {
                return Err(
                    "unsupported map key of a type other than string, integer, float or boolean".to_owned()
                );
            }
        })
    }

    /// As Go's `%#v`, for errors about keys.
    pub fn go_syntax(&self) -> String {
        match self {
            Scalar::Str(s) => crate::golang::quote(s),
            Scalar::Null => "interface {}(nil)".to_owned(),
            Scalar::Bool(b) => b.to_string(),
            Scalar::Int(i) => i.to_string(),
            Scalar::Unsigned(u) => format!("{u:#x}"),
            Scalar::Float(f) => f.to_string(),
        }
    }

    /// The value that upstream reads from the JSON it makes of this (`sigs.k8s.io/yaml`, `YAMLToJSON`).
    pub fn into_value(self) -> Result<Value, String> {
        Ok(match self {
            Scalar::Null => Value::Null,
            Scalar::Bool(b) => Value::Bool(b),
            Scalar::Int(i) => Value::Int(i),
            Scalar::Unsigned(u) => Value::Raw(u.to_string().into_bytes().into()),
            // JSON has one way to write a whole number, and reads it as an integer where it fits.
            Scalar::Float(f) if f.fract() == 0.0 && f.abs() < WHOLE => Value::Int(f as i64),
            Scalar::Float(f) if f.is_finite() => Value::Float(f),
            Scalar::Float(f) => {
                let text = if f.is_nan() {
                    "NaN"
                } else if f > 0.0 {
                    "+Inf"
                } else {
                    "-Inf"
                };
                return Err(format!("json: unsupported value: {text}"));
            }
            Scalar::Str(s) => s.into(),
        })
    }
}

/// Go's `FormatFloat(f, 'g', -1, 32)`.
fn float_key(f: f32) -> String {
    let text = format!("{f:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    // %e is used when the exponent is below -4 or not below the larger of 21 and the number of digits.
    if (-4..21).contains(&exponent) {
        return format!("{f}");
    }
    format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

/// Words with a meaning of their own.
fn word(text: &str) -> Option<Scalar> {
    Some(match text {
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            Scalar::Bool(true)
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            Scalar::Bool(false)
        }
        "" | "~" | "null" | "Null" | "NULL" => Scalar::Null,
        ".nan" | ".NaN" | ".NAN" => Scalar::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Scalar::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => Scalar::Float(f64::NEG_INFINITY),
        "<<" => Scalar::Str("<<".to_owned()),
        _ => return None,
    })
}

/// The meaning of an untagged plain scalar.
pub(super) fn plain(text: &str) -> Scalar {
    if let Some(found) = word(text) {
        return found;
    }
    let string = || Scalar::Str(text.to_owned());
    match text.as_bytes().first() {
        Some(b'.') => text.parse().ok().filter(|_| is_float(text)).map_or_else(string, Scalar::Float),
        Some(b'0'..=b'9' | b'+' | b'-') => number(text).unwrap_or_else(string),
        _ => string(),
    }
}

/// Whether yaml.v2 takes the text for a point in time. It still reads as text, but is quoted when written.
pub(super) fn is_timestamp(text: &str) -> bool {
    timestamp(text).is_some()
}

fn timestamp(text: &str) -> Option<()> {
    /// One or two digits within limits.
    fn field(text: &str, limits: std::ops::RangeInclusive<u32>) -> Option<&str> {
        let n = text.bytes().take(2).take_while(u8::is_ascii_digit).count();
        let value: u32 = text.get(..n)?.parse().ok()?;
        limits.contains(&value).then(|| &text[n..])
    }
    let (year, rest) = text.split_at_checked(4)?;
    year.bytes().all(|b| b.is_ascii_digit()).then_some(())?;
    let rest = field(rest.strip_prefix('-')?, 1..=12)?;
    let rest = field(rest.strip_prefix('-')?, 1..=31)?;
    if rest.is_empty() {
        return Some(());
    }
    let zoned = rest.starts_with(['T', 't']);
    let rest = field(rest.strip_prefix(['T', 't', ' '])?, 0..=23)?;
    let rest = field(rest.strip_prefix(':')?, 0..=59)?;
    let mut rest = field(rest.strip_prefix(':')?, 0..=59)?;
    if let Some(fraction) = rest.strip_prefix(['.', ',']) {
        rest = fraction.trim_start_matches(|c: char| c.is_ascii_digit());
        (rest.len() < fraction.len()).then_some(())?;
    }
    match (zoned, rest) {
        (false, "") | (true, "Z") => Some(()),
        (true, zone) => {
            let rest = field(zone.strip_prefix(['+', '-'])?, 0..=24)?;
            field(rest.strip_prefix(':')?, 0..=60)?.is_empty().then_some(())
        }
        _ => None,
    }
}

fn number(text: &str) -> Option<Scalar> {
    let plain = text.replace('_', "");
    let (negative, digits) = match plain.as_bytes().first()? {
        b'-' => (true, &plain[1..]),
        b'+' => (false, &plain[1..]),
        _ => (false, &plain[..]),
    };
    // Go's base 0: a prefix, or a leading zero for octal.
    let (radix, body) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    let whole = !body.is_empty() && body.bytes().all(|b| char::from(b).is_digit(radix));
    if let Some(u) = whole.then(|| u64::from_str_radix(body, radix).ok()).flatten() {
        return match (negative, i64::try_from(u)) {
            (false, Ok(i)) => Some(Scalar::Int(i)),
            (true, Ok(i)) => Some(Scalar::Int(-i)),
            (true, Err(_)) if u == 1 << 63 => Some(Scalar::Int(i64::MIN)),
            // Unsigned numbers take no sign.
            (false, Err(_)) if !plain.starts_with('+') => Some(Scalar::Unsigned(u)),
            _ => plain.parse().ok().filter(|_| is_float(&plain)).map(Scalar::Float),
        };
    }
    is_float(&plain).then(|| plain.parse().ok()).flatten().filter(|f: &f64| f.is_finite()).map(Scalar::Float)
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn is_float(text: &str) -> bool {
    let digits = |s: &str| s.bytes().take_while(u8::is_ascii_digit).count();
    let rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    let whole = digits(rest);
    let mut rest = &rest[whole..];
    if let Some(r) = rest.strip_prefix('.') {
        let fraction = digits(r);
        if whole == 0 && fraction == 0 {
            return false;
        }
        rest = &r[fraction..];
    } else if whole == 0 {
        return false;
    }
    match rest.strip_prefix(['e', 'E']) {
        Some(r) => {
            let r = r.strip_prefix(['-', '+']).unwrap_or(r);
            !r.is_empty() && digits(r) == r.len()
        }
        None => rest.is_empty(),
    }
}

/// The meaning of a scalar with a tag, or of a quoted one (`plain_style` false).
pub(super) fn tagged(tag: &str, text: &str, plain_style: bool) -> Result<Scalar, String> {
    let string = || Scalar::Str(text.to_owned());
    match tag {
        "" if plain_style => Ok(plain(text)),
        "" | "!" | STR | TIMESTAMP => Ok(string()),
        BINARY => match crate::golang::decode_base64(text.as_bytes()) {
            Ok(bytes) => Ok(Scalar::Str(crate::json::lossy(&bytes).into_owned())),
            Err(_) => Err("yaml: !!binary value contains invalid base64 data".to_owned()),
        },
        BOOL | INT | FLOAT | NULL => match plain(text) {
            s if s.tag() == tag => Ok(s),
            Scalar::Int(i) if tag == FLOAT => Ok(Scalar::Float(i as f64)),
            s => {
                let short = |t: &str| t.replace("tag:yaml.org,2002:", "!!");
                Err(format!("yaml: cannot decode {} `{text}` as a {}", short(s.tag()), short(tag)))
            }
        },
        _ => Ok(string()),
    }
}
