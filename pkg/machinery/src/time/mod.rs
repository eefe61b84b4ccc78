//! Points in time and durations in the forms the API uses, read and written as Go's `time` package does.
//!
//! A point in time is seconds and nanoseconds since 1970 ([`Instant`]). Go's zero time, the start of year 1, is what
//! an unset time reads as; JSON shows it as null.

mod duration;
mod parse;
#[cfg(test)]
mod tests;

pub use duration::{DurationError, format_duration, parse_duration};
pub(crate) use parse::parse_written;
pub use parse::{ParseError, parse_micro, parse_rfc3339};

/// Seconds of Go's zero time, 0001-01-01T00:00:00Z.
pub const ZERO_SECONDS: i64 = -62_135_596_800;

/// The seconds since 1970 whose year has four digits, which is what RFC 3339 can say.
pub const YEARS: std::ops::RangeInclusive<i64> = -62_167_219_200..=253_402_300_799;

/// A point in time: seconds since 1970 and nanoseconds within the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant {
    pub seconds: i64,
    pub nanos: u32,
}

impl Instant {
    /// Go's zero time.
    pub const ZERO: Instant = Instant { seconds: ZERO_SECONDS, nanos: 0 };

    pub fn is_zero(&self) -> bool {
        *self == Self::ZERO
    }
}

/// Days of the civil calendar since 1970 (Howard Hinnant's algorithm).
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let doy = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + i64::from(month <= 2);
    (year, month, doy - (153 * mp + 2) / 5 + 1)
}

fn push_padded(out: &mut Vec<u8>, value: i64, width: usize) {
    let mut buf = itoa::Buffer::new();
    let text = buf.format(value.unsigned_abs());
    if value < 0 {
        out.push(b'-');
    }
    out.extend(std::iter::repeat_n(b'0', width.saturating_sub(text.len())));
    out.extend_from_slice(text.as_bytes());
}

fn push_seconds(out: &mut Vec<u8>, seconds: i64) {
    let (year, month, day) = civil_from_days(seconds.div_euclid(86_400));
    let rest = seconds.rem_euclid(86_400);
    let two = |v: i64| [b'0' + (v / 10) as u8, b'0' + (v % 10) as u8];
    let ([m0, m1], [d0, d1]) = (two(month), two(day));
    let ([h0, h1], [n0, n1], [s0, s1]) = (two(rest / 3600), two(rest / 60 % 60), two(rest % 60));
    if (0..10_000).contains(&year) {
        let ([y0, y1], [y2, y3]) = (two(year / 100), two(year % 100));
        out.extend_from_slice(&[y0, y1, y2, y3]);
    } else {
        push_padded(out, year, 4);
    }
    out.extend_from_slice(&[b'-', m0, m1, b'-', d0, d1, b'T', h0, h1, b':', n0, n1, b':', s0, s1]);
}

/// Appends RFC 3339 in UTC with seconds: metav1.Time in JSON.
pub fn push_rfc3339(out: &mut Vec<u8>, seconds: i64) {
    push_seconds(out, seconds);
    out.push(b'Z');
}

/// Appends RFC 3339 in UTC with microseconds: metav1.MicroTime in JSON.
pub fn push_micro(out: &mut Vec<u8>, t: Instant) {
    push_seconds(out, t.seconds);
    out.push(b'.');
    push_padded(out, i64::from(t.nanos / 1000), 6);
    out.push(b'Z');
}

/// RFC 3339 in UTC with seconds.
pub fn format_rfc3339(seconds: i64) -> String {
    let mut out = Vec::with_capacity(20);
    push_rfc3339(&mut out, seconds);
    String::from_utf8(out).unwrap_or_default()
}

/// RFC 3339 in UTC with microseconds.
pub fn format_micro(t: Instant) -> String {
    let mut out = Vec::with_capacity(27);
    push_micro(&mut out, t);
    String::from_utf8(out).unwrap_or_default()
}
