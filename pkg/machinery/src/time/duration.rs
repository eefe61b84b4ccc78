//! Go's duration text: `1h30m`, `1.5s`, `100ms`.

use super::parse::quote;
use std::time::Duration;

/// Why a text is not a duration; Go's text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    #[error("time: invalid duration {}", quote(.0))]
    Invalid(String),
    #[error("time: missing unit in duration {}", quote(.0))]
    MissingUnit(String),
    #[error("time: unknown unit {} in duration {}", quote(.unit), quote(.text))]
    UnknownUnit { unit: String, text: String },
}

fn unit_nanos(unit: &str) -> Option<u64> {
    Some(match unit {
        "ns" => 1,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// Reads a duration as nanoseconds, like Go's `time.ParseDuration`.
pub fn parse_duration(text: &str) -> Result<i64, DurationError> {
    let invalid = || DurationError::Invalid(text.to_owned());
    const LIMIT: u64 = 1 << 63;
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits = |s: &str| s.bytes().take_while(u8::is_ascii_digit).count();
        let (whole, after) = rest.split_at(digits(rest));
        let (fraction, after) = match after.strip_prefix('.') {
            Some(a) => a.split_at(digits(a)),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let value: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| invalid())? };
        if value > LIMIT {
            return Err(invalid());
        }
        let unit_len = after.bytes().take_while(|b| *b != b'.' && !b.is_ascii_digit()).count();
        let (unit, after) = after.split_at(unit_len);
        if unit.is_empty() {
            return Err(DurationError::MissingUnit(text.to_owned()));
        }
        let scale = unit_nanos(unit)
            .ok_or_else(|| DurationError::UnknownUnit { unit: unit.to_owned(), text: text.to_owned() })?;
        let mut nanos = value.checked_mul(scale).filter(|n| *n <= LIMIT).ok_or_else(invalid)?;
        nanos =
            nanos.checked_add(fraction_nanos(fraction, scale)).filter(|n| *n <= LIMIT).ok_or_else(invalid)?;
        total = total.checked_add(nanos).filter(|n| *n <= LIMIT).ok_or_else(invalid)?;
        rest = after;
    }
    match (negative, i64::try_from(total)) {
        (true, _) => Ok((total as i64).wrapping_neg()),
        (false, Ok(n)) => Ok(n),
        (false, Err(_)) => Err(invalid()),
    }
}

/// `0.fraction * scale`, computed as Go does: digits beyond 63 bits are dropped, the rest goes through a float.
fn fraction_nanos(fraction: &str, scale: u64) -> u64 {
    let (mut value, mut divisor) = (0_u64, 1_f64);
    for d in fraction.bytes() {
        match value.checked_mul(10).and_then(|v| v.checked_add(u64::from(d - b'0'))) {
            Some(v) if v <= 1 << 63 => {
                value = v;
                divisor *= 10.0;
            }
            _ => break,
        }
    }
    (value as f64 * (scale as f64 / divisor)) as u64
}

/// Writes nanoseconds as Go's `Duration.String`.
pub fn format_duration(nanos: i64) -> String {
    if nanos == 0 {
        return "0s".to_owned();
    }
    let sign = if nanos < 0 { "-" } else { "" };
    let d = Duration::from_nanos(nanos.unsigned_abs());
    let fraction = |value: u64, digits: usize| {
        let text = format!("{value:0digits$}");
        let text = text.trim_end_matches('0');
        if text.is_empty() { String::new() } else { format!(".{text}") }
    };
    let n = d.as_nanos() as u64;
    let text = match n {
        0..1_000 => format!("{n}ns"),
        1_000..1_000_000 => format!("{}{}\u{b5}s", n / 1_000, fraction(n % 1_000, 3)),
        1_000_000..1_000_000_000 => format!("{}{}ms", n / 1_000_000, fraction(n % 1_000_000, 6)),
        _ => {
            let s = d.as_secs();
            let seconds = format!("{}{}s", s % 60, fraction(u64::from(d.subsec_nanos()), 9));
            match s / 60 {
                0 => seconds,
                m if m < 60 => format!("{m}m{seconds}"),
                m => format!("{}h{}m{seconds}", m / 60, m % 60),
            }
        }
    };
    format!("{sign}{text}")
}
