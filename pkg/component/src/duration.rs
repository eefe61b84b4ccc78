//! Go durations: `time.ParseDuration` and `Duration.String`, for flags and component configuration.
//! Signed nanoseconds in 64 bits with Go's overflow rules. Upstream: Go's time package.

use std::fmt;
use std::time::Duration;

use machinery::golang::quote;

/// A signed span of time as Go has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GoDuration(pub i64);

/// Why a text is no Go duration; the text is Go's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseDurationError(String);

impl GoDuration {
    /// Nanoseconds per unit, largest first as Go prints them.
    const HOUR: u64 = 3_600_000_000_000;
    const MINUTE: u64 = 60_000_000_000;
    const SECOND: u64 = 1_000_000_000;

    /// From whole seconds.
    pub const fn from_secs(secs: i64) -> Self {
        GoDuration(secs.saturating_mul(1_000_000_000))
    }

    /// Reads `1h2m3.5s`, `-1.5h`, `300ms`, `0`.
    ///
    /// # Errors
    /// Go's message for a text that is no duration, lacks a unit, or overflows.
    pub fn parse(text: &str) -> Result<Self, ParseDurationError> {
        parse(text)
    }

    /// The standard library's duration; a negative span becomes zero.
    pub fn to_std(self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0).unwrap_or(0))
    }

    /// Seconds as a float, for metrics and JSON numbers.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e9
    }
}

impl From<Duration> for GoDuration {
    fn from(d: Duration) -> Self {
        GoDuration(i64::try_from(d.as_nanos()).unwrap_or(i64::MAX))
    }
}

impl serde::Serialize for GoDuration {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for GoDuration {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
        GoDuration::parse(&text).map_err(serde::de::Error::custom)
    }
}

fn unit(name: &str) -> Option<u64> {
    Some(match name {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => GoDuration::SECOND,
        "m" => GoDuration::MINUTE,
        "h" => GoDuration::HOUR,
        _ => return None,
    })
}

fn parse(text: &str) -> Result<GoDuration, ParseDurationError> {
    let invalid = || ParseDurationError(format!("time: invalid duration {}", quote(text)));
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(GoDuration(0));
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits = |s: &str| s.bytes().take_while(u8::is_ascii_digit).count();
        let whole_len = digits(rest);
        let mut value: u64 = 0;
        for b in rest[..whole_len].bytes() {
            value =
                value.checked_mul(10).and_then(|v| v.checked_add(u64::from(b - b'0'))).ok_or_else(invalid)?;
            if value > 1 << 63 {
                return Err(invalid());
            }
        }
        rest = &rest[whole_len..];
        let (mut fraction, mut scale, mut fraction_len) = (0u64, 1f64, 0);
        if let Some(after) = rest.strip_prefix('.') {
            fraction_len = digits(after);
            for b in after[..fraction_len].bytes() {
                // Digits beyond 63 bits carry no weight in nanoseconds.
                if let Some(next) = fraction.checked_mul(10).and_then(|v| v.checked_add(u64::from(b - b'0')))
                    && next <= i64::MAX as u64
                {
                    fraction = next;
                    scale *= 10.0;
                }
            }
            rest = &after[fraction_len..];
        }
        if whole_len == 0 && fraction_len == 0 {
            return Err(invalid());
        }
        let unit_len = rest.bytes().take_while(|b| *b != b'.' && !b.is_ascii_digit()).count();
        if unit_len == 0 {
            return Err(ParseDurationError(format!("time: missing unit in duration {}", quote(text))));
        }
        let name = &rest[..unit_len];
        rest = &rest[unit_len..];
        let Some(nanos) = unit(name) else {
            let text = format!("time: unknown unit {} in duration {}", quote(name), quote(text));
            return Err(ParseDurationError(text));
        };
        let mut part = value.checked_mul(nanos).filter(|v| *v <= 1 << 63).ok_or_else(invalid)?;
        if fraction > 0 {
            part += (fraction as f64 * (nanos as f64 / scale)) as u64;
        }
        total = total.checked_add(part).filter(|v| *v <= 1 << 63).ok_or_else(invalid)?;
    }
    match (negative, i64::try_from(total)) {
        (true, Ok(v)) => Ok(GoDuration(-v)),
        (true, Err(_)) => Ok(GoDuration(i64::MIN)),
        (false, Ok(v)) => Ok(GoDuration(v)),
        (false, Err(_)) => Err(invalid()),
    }
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.unsigned_abs();
        if nanos == 0 {
            return f.write_str("0s");
        }
        if self.0 < 0 {
            f.write_str("-")?;
        }
        let decimal = |f: &mut fmt::Formatter<'_>, value: u64, per: u64, suffix: &str| {
            write!(f, "{}", value / per)?;
            let rest = value % per;
            if rest > 0 {
                let width = per.ilog10() as usize;
                let digits = format!("{rest:0width$}");
                write!(f, ".{}", digits.trim_end_matches('0'))?;
            }
            f.write_str(suffix)
        };
        match nanos {
            n if n < 1_000 => write!(f, "{n}ns"),
            n if n < 1_000_000 => decimal(f, n, 1_000, "µs"),
            n if n < Self::SECOND => decimal(f, n, 1_000_000, "ms"),
            n => {
                let (hours, minutes) = (n / Self::HOUR, n % Self::HOUR / Self::MINUTE);
                if hours > 0 {
                    write!(f, "{hours}h")?;
                }
                if hours > 0 || minutes > 0 {
                    write!(f, "{minutes}m")?;
                }
                decimal(f, n % Self::MINUTE, Self::SECOND, "s")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::GoDuration;

    #[test]
    fn parses_and_prints_as_go_does() {
        for (input, expected) in [
            ("0", "0s"),
            ("5s", "5s"),
            ("1.5h", "1h30m0s"),
            ("1m30s", "1m30s"),
            ("300ms", "300ms"),
            ("1.000000001s", "1.000000001s"),
            ("100us", "100µs"),
            ("-1h", "-1h0m0s"),
            ("+.5m", "30s"),
            ("9223372036854775807ns", "2562047h47m16.854775807s"),
            ("-9223372036854775808ns", "-2562047h47m16.854775808s"),
        ] {
            assert_eq!(GoDuration::parse(input).map(|d| d.to_string()), Ok(expected.to_string()), "{input}");
        }
    }

    #[test]
    fn refuses_as_go_does() {
        for (input, expected) in [
            ("", r#"time: invalid duration """#),
            ("10", r#"time: missing unit in duration "10""#),
            ("1d", r#"time: unknown unit "d" in duration "1d""#),
            (".s", r#"time: invalid duration ".s""#),
            ("9223372036854775808ns", r#"time: invalid duration "9223372036854775808ns""#),
            ("99999999999999999999h", r#"time: invalid duration "99999999999999999999h""#),
        ] {
            assert_eq!(
                GoDuration::parse(input).map_err(|e| e.to_string()),
                Err(expected.to_string()),
                "{input}"
            );
        }
    }
}
