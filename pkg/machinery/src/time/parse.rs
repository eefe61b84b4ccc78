//! Reading RFC 3339 as Go's `time.Parse` does, explanations included.
//!
//! Go is laxer than the standard: one digit suffices for the hour, a comma may stand before the fraction.

use super::{Instant, days_from_civil};

const RFC3339: &str = "2006-01-02T15:04:05Z07:00";
const RFC3339_MICRO: &str = "2006-01-02T15:04:05.000000Z07:00";

/// Why a text is not a time; Go's text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    #[error(
        "parsing time {} as {}: cannot parse {} as {}",
        quote(value),
        quote(layout),
        quote(rest),
        quote(element)
    )]
    Element { value: String, layout: &'static str, rest: String, element: &'static str },
    #[error("parsing time {}: {what}", quote(value))]
    Range { value: String, what: String },
}

/// The quoting of Go's time package: bytes beyond printable ASCII become `\xNN`.
pub(super) fn quote(s: &str) -> String {
    let mut out = String::from("\"");
    for b in s.bytes() {
        match b {
            b'"' | b'\\' => out.extend(['\\', char::from(b)]),
            b' '..0x80 => out.push(char::from(b)),
            _ => out.push_str(&format!("\\x{b:02x}")),
        }
    }
    out.push('"');
    out
}

struct Parser<'a> {
    value: &'a str,
    rest: &'a [u8],
    layout: &'static str,
}

enum Fault {
    Bad,
    Range(&'static str),
}

fn digit(s: &[u8], i: usize) -> Option<i64> {
    s.get(i).filter(|b| b.is_ascii_digit()).map(|b| i64::from(b - b'0'))
}

impl<'a> Parser<'a> {
    fn bad(&self, rest: &[u8], element: &'static str) -> ParseError {
        let rest = String::from_utf8_lossy(rest).into_owned();
        ParseError::Element { value: self.value.to_owned(), layout: self.layout, rest, element }
    }

    fn range(&self, what: &str) -> ParseError {
        ParseError::Range { value: self.value.to_owned(), what: format!("{what} out of range") }
    }

    fn element<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&mut Self) -> Result<T, Fault>,
    ) -> Result<T, ParseError> {
        let hold = self.rest;
        read(self).map_err(|fault| match fault {
            Fault::Bad => self.bad(hold, name),
            Fault::Range(what) => self.range(what),
        })
    }

    fn literal(&mut self, text: &'static str) -> Result<(), ParseError> {
        match self.rest.strip_prefix(text.as_bytes()) {
            Some(rest) => {
                self.rest = rest;
                Ok(())
            }
            None => Err(self.bad(self.rest, text)),
        }
    }

    fn number(&mut self, fixed: bool) -> Result<i64, Fault> {
        let first = digit(self.rest, 0).ok_or(Fault::Bad)?;
        let (value, used) = match digit(self.rest, 1) {
            Some(second) => (first * 10 + second, 2),
            None if fixed => return Err(Fault::Bad),
            None => (first, 1),
        };
        self.rest = &self.rest[used..];
        Ok(value)
    }

    fn two(
        &mut self,
        name: &'static str,
        fixed: bool,
        limits: std::ops::Range<i64>,
        what: &'static str,
    ) -> Result<i64, ParseError> {
        self.element(name, |p| {
            let v = p.number(fixed)?;
            if limits.contains(&v) { Ok(v) } else { Err(Fault::Range(what)) }
        })
    }

    fn year(&mut self) -> Result<i64, ParseError> {
        self.element("2006", |p| {
            let digits: Option<Vec<i64>> = (0..4).map(|i| digit(p.rest, i)).collect();
            let digits = digits.ok_or(Fault::Bad)?;
            p.rest = &p.rest[4..];
            Ok(digits.into_iter().fold(0, |y, d| y * 10 + d))
        })
    }

    /// A point or comma and `digits` digits, as nanoseconds.
    fn nanos(&mut self, digits: usize) -> Result<u32, Fault> {
        let text = self.rest.get(..=digits).ok_or(Fault::Bad)?;
        if !matches!(text[0], b'.' | b',') || !text[1..].iter().all(u8::is_ascii_digit) {
            return Err(Fault::Bad);
        }
        self.rest = &self.rest[digits + 1..];
        let padded = text[1..].iter().copied().chain(std::iter::repeat(b'0')).take(9);
        Ok(padded.fold(0, |n, d| n * 10 + u32::from(d - b'0')))
    }

    /// Seconds that the zone is ahead of UTC.
    fn zone(&mut self) -> Result<i64, ParseError> {
        self.element("Z07:00", |p| {
            if let Some(rest) = p.rest.strip_prefix(b"Z") {
                p.rest = rest;
                return Ok(0);
            }
            let text = p.rest.get(..6).ok_or(Fault::Bad)?;
            p.rest = &p.rest[6..];
            if text[3] != b':' {
                return Err(Fault::Bad);
            }
            let two = |i| Some(digit(text, i)? * 10 + digit(text, i + 1)?);
            let (hours, minutes) = two(1).zip(two(4)).ok_or(Fault::Bad)?;
            if hours > 24 {
                return Err(Fault::Range("time zone offset hour"));
            }
            if minutes > 60 {
                return Err(Fault::Range("time zone offset minute"));
            }
            let ahead = (hours * 60 + minutes) * 60;
            match text[0] {
                b'+' => Ok(ahead),
                b'-' => Ok(-ahead),
                _ => Err(Fault::Bad),
            }
        })
    }
}

fn days_in(month: i64, year: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn parse(value: &str, layout: &'static str) -> Result<Instant, ParseError> {
    let micro = layout == RFC3339_MICRO;
    let mut p = Parser { value, rest: value.as_bytes(), layout };
    let year = p.year()?;
    p.literal("-")?;
    let month = p.two("01", true, 1..13, "month")?;
    p.literal("-")?;
    let day = p.two("02", true, 0..100, "day")?;
    p.literal("T")?;
    let hour = p.two("15", false, 0..24, "hour")?;
    p.literal(":")?;
    let minute = p.two("04", true, 0..60, "minute")?;
    p.literal(":")?;
    let second = p.two("05", true, 0..60, "second")?;
    let fraction = p.rest.first().is_some_and(|b| matches!(b, b'.' | b',')) && digit(p.rest, 1).is_some();
    let nanos = if micro {
        p.element(".000000", |p| p.nanos(6))?
    } else if fraction {
        let digits = p.rest[1..].iter().take_while(|b| b.is_ascii_digit()).count();
        p.element("05", |p| p.nanos(digits))?
    } else {
        0
    };
    let ahead = p.zone()?;
    if !p.rest.is_empty() {
        let rest = String::from_utf8_lossy(p.rest).into_owned();
        return Err(ParseError::Range {
            value: value.to_owned(),
            what: format!("extra text: {}", quote(&rest)),
        });
    }
    if day < 1 || day > days_in(month, year) {
        return Err(p.range("day"));
    }
    let seconds = days_from_civil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - ahead;
    Ok(Instant { seconds, nanos })
}

/// The form in which times are written, `2006-01-02T15:04:05Z`; `None` for any other, which may be a time too.
pub(crate) fn parse_written(value: &str) -> Option<Instant> {
    let b: &[u8; 20] = value.as_bytes().try_into().ok()?;
    let [y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1, b'T', h0, h1, b':', n0, n1, b':', s0, s1, b'Z'] = *b
    else {
        return None;
    };
    let digits = [y0, y1, y2, y3, m0, m1, d0, d1, h0, h1, n0, n1, s0, s1];
    if !digits.iter().fold(true, |all, d| all & d.is_ascii_digit()) {
        return None;
    }
    let two = |tens: u8, ones: u8| i64::from(tens - b'0') * 10 + i64::from(ones - b'0');
    let (year, month, day) = (two(y0, y1) * 100 + two(y2, y3), two(m0, m1), two(d0, d1));
    let (hour, minute, second) = (two(h0, h1), two(n0, n1), two(s0, s1));
    let fits = (1..=12).contains(&month) && (1..=days_in(month, year)).contains(&day);
    if !fits || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let seconds = days_from_civil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    Some(Instant { seconds, nanos: 0 })
}

/// Reads RFC 3339, a fraction of any length allowed.
pub fn parse_rfc3339(value: &str) -> Result<Instant, ParseError> {
    match parse_written(value) {
        Some(instant) => Ok(instant),
        None => parse(value, RFC3339),
    }
}

/// Reads RFC 3339 with exactly six digits of fraction.
pub fn parse_micro(value: &str) -> Result<Instant, ParseError> {
    parse(value, RFC3339_MICRO)
}
