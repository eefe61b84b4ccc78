//! Reading a quantity. Follows `ParseQuantity` and `parseQuantityString`, which accept and keep more forms than
//! the documented grammar.

use super::amount::{Amount, Dec};
use super::{Format, Quantity};
use num_bigint::BigInt;

/// Why a text is not a quantity; upstream's texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    FormatWrong,
    #[error("unable to parse numeric part of quantity")]
    Numeric,
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

/// Digits a 64-bit number surely holds.
const MAX_I64_FACTORS: i64 = 18;
/// The finest step a quantity keeps.
const NANO: i32 = -9;
/// Longer texts cannot be told from abuse: the longest sensible quantity has some 40 characters.
const MAX_DIGITS: usize = 4096;

/// The pieces of a quantity's text.
struct Parts<'a> {
    negative: bool,
    /// Digits before the point without leading zeros, never empty.
    num: &'a str,
    /// Digits after the point.
    denom: &'a str,
    suffix: &'a str,
    /// Whether there is any digit before the suffix.
    digits: bool,
}

fn split(text: &str) -> Result<Parts<'_>, ParseError> {
    let negative = text.starts_with('-');
    let rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    let signed = rest;
    let rest = rest.trim_start_matches('0');
    let zeros = rest.len() < signed.len();
    let digits = |s: &str| s.bytes().take_while(u8::is_ascii_digit).count();
    if rest.is_empty() {
        // Only sign and zeros: upstream forgets the sign here, which does not matter for zero.
        return Ok(Parts { negative: false, num: "0", denom: "", suffix: "", digits: true });
    }
    let (num, rest) = rest.split_at(digits(rest));
    let whole = !num.is_empty();
    let num = if whole { num } else { "0" };
    let (denom, suffix) = match rest.strip_prefix('.') {
        Some(r) => r.split_at(digits(r)),
        None => ("", rest),
    };
    let tail = suffix.trim_start_matches(|c: char| "eEinumkKMGTP".contains(c));
    let tail = if tail.len() < suffix.len() || !tail.is_empty() { tail } else { "" };
    let tail = tail.strip_prefix(['-', '+']).unwrap_or(tail);
    if tail.bytes().all(|b| b.is_ascii_digit()) {
        Ok(Parts { negative, num, denom, suffix, digits: zeros || whole || !denom.is_empty() })
    } else {
        Err(ParseError::FormatWrong)
    }
}

/// Base, exponent and format of a suffix.
fn interpret(suffix: &str) -> Option<(u32, i32, Format)> {
    let (base, exponent, format) = match suffix {
        "" => (10, 0, Format::DecimalSI),
        "n" => (10, -9, Format::DecimalSI),
        "u" => (10, -6, Format::DecimalSI),
        "m" => (10, -3, Format::DecimalSI),
        "k" => (10, 3, Format::DecimalSI),
        "M" => (10, 6, Format::DecimalSI),
        "G" => (10, 9, Format::DecimalSI),
        "T" => (10, 12, Format::DecimalSI),
        "P" => (10, 15, Format::DecimalSI),
        "E" => (10, 18, Format::DecimalSI),
        "Ki" => (2, 10, Format::BinarySI),
        "Mi" => (2, 20, Format::BinarySI),
        "Gi" => (2, 30, Format::BinarySI),
        "Ti" => (2, 40, Format::BinarySI),
        "Pi" => (2, 50, Format::BinarySI),
        "Ei" => (2, 60, Format::BinarySI),
        _ => {
            let digits = suffix.strip_prefix(['e', 'E'])?;
            // Upstream reads 64 bits and cuts to 32.
            let exponent = digits.parse::<i64>().ok()?;
            (10, exponent as i32, Format::DecimalExponent)
        }
    };
    Some((base, exponent, format))
}

/// Whether the text is one of the usual ones that reading and writing leaves as they are. No says nothing.
pub(super) fn is_settled(text: &str) -> bool {
    let b = text.as_bytes();
    let n = b.iter().take_while(|b| b.is_ascii_digit()).count();
    let (digits, suffix) = b.split_at(n);
    // What short_path takes, and then either keeps as written or finds in lowest terms.
    let most = match suffix {
        b"" | b"m" | b"k" | b"M" | b"G" => {
            return digits == b"0" && suffix.is_empty()
                || (1..=15).contains(&n) && digits[0] != b'0' && !digits.ends_with(b"000");
        }
        b"Ki" => 11,
        b"Mi" => 8,
        b"Gi" => 5,
        _ => return false,
    };
    let value = digits.iter().take(most).fold(0_u64, |v, d| v * 10 + u64::from(d - b'0'));
    (1..=most).contains(&n) && digits[0] != b'0' && !value.is_multiple_of(1024)
}

pub(super) fn parse(text: &str) -> Result<Quantity, ParseError> {
    if text.is_empty() || text.len() > MAX_DIGITS {
        return Err(ParseError::FormatWrong);
    }
    if text == "0" {
        return Ok(Quantity {
            amount: Amount::default(),
            format: Format::DecimalSI,
            text: Some(text.into()),
        });
    }
    let parts = split(text)?;
    let (base, exponent, format) = interpret(parts.suffix).ok_or(ParseError::Suffix)?;
    match short_path(text, &parts, base, exponent, format)? {
        Some(q) => Ok(q),
        None => long_path(&parts, base, exponent, format),
    }
}

/// The case that fits 64 bits. `None` sends the text down the long path.
fn short_path(
    text: &str,
    p: &Parts<'_>,
    base: u32,
    exponent: i32,
    format: Format,
) -> Result<Option<Quantity>, ParseError> {
    let (num, denom) = (p.num.len() as i64, p.denom.len() as i64);
    let (precision, scale, mantissa) = if base == 10 {
        (MAX_I64_FACTORS - num - denom, exponent, 1)
    } else if p.denom.is_empty() {
        (15 - num - i64::from(exponent * 3 / 10) - 1, 0, 1_i64 << exponent)
    } else {
        return Ok(None);
    };
    let scale = scale.wrapping_sub(denom as i32);
    if precision < 0 || scale < NANO {
        return Ok(None);
    }
    let shifted = format!("{}{}", p.num, p.denom);
    let value: i64 = shifted.parse().map_err(|_| ParseError::Numeric)?;
    let Some(result) = value.checked_mul(mantissa) else { return Ok(None) };
    let kept_as_written = match format {
        Format::BinarySI => exponent % 10 == 0 && value & 7 != 0,
        _ => scale % 3 == 0 && !shifted.ends_with("000") && !shifted.starts_with('0'),
    };
    let value = if p.negative { -result } else { result };
    let text = kept_as_written.then(|| text.into());
    Ok(Some(Quantity { amount: Amount::Small { value, scale }, format, text }))
}

fn long_path(p: &Parts<'_>, base: u32, exponent: i32, mut format: Format) -> Result<Quantity, ParseError> {
    if !p.digits {
        return Err(ParseError::Numeric);
    }
    let digits = format!("{}{}", p.num, p.denom);
    let mut unscaled: BigInt = digits.parse().map_err(|_| ParseError::Numeric)?;
    let mut scale = -(p.denom.len() as i64);
    if base == 10 {
        scale += i64::from(exponent);
    } else {
        unscaled <<= exponent;
    }
    let mut dec = Dec { unscaled, scale };
    if dec.sign() != 0 {
        dec = dec.round_up(i64::from(NANO));
    }
    let max = Dec::from(i64::MAX);
    let zero_to_one = |d: &Dec| d.sign() > 0 && d.compare(&Dec::from(1)).is_lt();
    if format == Format::BinarySI && dec.compare(&max).is_gt() {
        dec = max;
    }
    if format == Format::BinarySI && zero_to_one(&dec) {
        format = Format::DecimalSI;
    }
    if p.negative {
        dec.unscaled = -dec.unscaled;
    }
    Ok(Quantity { amount: Amount::Big(Box::new(dec)), format, text: None })
}
