//! Go's number readers with Go's error texts. Upstream: strconv.ParseBool, ParseInt, ParseUint, ParseFloat.

use machinery::golang::{self, quote};

fn error(function: &str, text: &str, what: &str) -> String {
    format!("strconv.{function}: parsing {}: {what}", quote(text))
}

/// `1 t T TRUE true True 0 f F FALSE false False`.
pub fn parse_bool(text: &str) -> Result<bool, String> {
    golang::parse_bool(text).ok_or_else(|| error("ParseBool", text, "invalid syntax"))
}

/// Base 0: decimal, `0x`, `0o`, `0b`, leading `0`, underscores between digits.
fn magnitude(text: &str) -> Option<Option<u64>> {
    let lower = text.to_ascii_lowercase();
    let (radix, digits, prefixed) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..], true),
        [b'0', b'b', ..] => (2, &lower[2..], true),
        [b'0', b'o', ..] => (8, &lower[2..], true),
        [b'0', _, ..] => (8, &lower[1..], true),
        _ => (10, lower.as_str(), false),
    };
    let mut value: Option<u64> = Some(0);
    let mut last_digit = prefixed;
    let mut any = false;
    for c in digits.chars() {
        if c == '_' {
            if !last_digit {
                return None;
            }
            last_digit = false;
            continue;
        }
        let digit = c.to_digit(radix)?;
        value = value.and_then(|v| v.checked_mul(u64::from(radix))?.checked_add(u64::from(digit)));
        (last_digit, any) = (true, true);
    }
    if !any || !last_digit {
        return None;
    }
    Some(value)
}

/// Signed integer of `bits` width.
pub fn parse_int(text: &str, bits: u32) -> Result<i64, String> {
    let (negative, rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let range = || error("ParseInt", text, "value out of range");
    let Some(value) = magnitude(rest) else {
        return Err(error("ParseInt", text, "invalid syntax"));
    };
    let value = i128::from(value.ok_or_else(range)?);
    let value = if negative { -value } else { value };
    let limit = 1i128 << (bits - 1);
    if value < -limit || value >= limit {
        return Err(range());
    }
    i64::try_from(value).map_err(|_| range())
}

/// Unsigned integer of 64 bits.
pub fn parse_uint(text: &str) -> Result<u64, String> {
    match magnitude(text) {
        None => Err(error("ParseUint", text, "invalid syntax")),
        Some(None) => Err(error("ParseUint", text, "value out of range")),
        Some(Some(value)) => Ok(value),
    }
}

/// Float; `bits` is 32 or 64.
pub fn parse_float(text: &str, bits: u32) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| error("ParseFloat", text, "invalid syntax"))?;
    let literal_infinity = text.to_ascii_lowercase().contains("inf");
    let too_big = value.is_infinite() || (bits == 32 && value.is_finite() && (value as f32).is_infinite());
    if too_big && !literal_infinity {
        return Err(error("ParseFloat", text, "value out of range"));
    }
    Ok(if bits == 32 { f64::from(value as f32) } else { value })
}

/// Go's `strconv.FormatFloat(value, 'g', -1, bits)`, which pflag and the metrics text format use.
pub fn format_float(value: f64, bits: u32) -> String {
    if !value.is_finite() {
        let sign = if value > 0.0 { "+" } else { "-" };
        return if value.is_nan() { "NaN".into() } else { format!("{sign}Inf") };
    }
    let scientific = if bits == 32 { format!("{:e}", value as f32) } else { format!("{value:e}") };
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return scientific };
    let power: i32 = exponent.parse().unwrap_or(0);
    // For shortest digits Go decides as if six digits had been asked for.
    if (-4..6).contains(&power) {
        return if bits == 32 { (value as f32).to_string() } else { value.to_string() };
    }
    let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |rest| ('-', rest));
    format!("{mantissa}e{sign}{digits:0>2}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers() {
        for (text, bits, expected) in [
            ("10", 32, Ok(10)),
            ("-0x1f", 64, Ok(-31)),
            ("017", 64, Ok(15)),
            ("1_000", 64, Ok(1000)),
            ("0", 64, Ok(0)),
            ("2147483648", 32, Err(r#"strconv.ParseInt: parsing "2147483648": value out of range"#)),
            ("-9223372036854775808", 64, Ok(i64::MIN)),
            ("", 64, Err(r#"strconv.ParseInt: parsing "": invalid syntax"#)),
            ("5s", 64, Err(r#"strconv.ParseInt: parsing "5s": invalid syntax"#)),
            ("1__0", 64, Err(r#"strconv.ParseInt: parsing "1__0": invalid syntax"#)),
        ] {
            assert_eq!(parse_int(text, bits), expected.map_err(String::from), "{text}");
        }
        assert_eq!(parse_uint("-1"), Err(r#"strconv.ParseUint: parsing "-1": invalid syntax"#.into()));
    }

    #[test]
    fn floats() {
        assert_eq!(
            parse_float("1e400", 64),
            Err(r#"strconv.ParseFloat: parsing "1e400": value out of range"#.into())
        );
        assert_eq!(parse_float("x", 64), Err(r#"strconv.ParseFloat: parsing "x": invalid syntax"#.into()));
        for (value, bits, text) in [
            (0.1, 64, "0.1"),
            (50.0, 32, "50"),
            (2097152.0, 64, "2.097152e+06"),
            (1e5, 64, "100000"),
            (0.00001, 64, "1e-05"),
            (0.0, 64, "0"),
        ] {
            assert_eq!(format_float(value, bits), text);
        }
    }
}
