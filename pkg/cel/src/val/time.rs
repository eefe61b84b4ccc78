//! Points in time with the offset they were written with.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use machinery::time::Instant;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timestamp {
    pub seconds: i64,
    pub nanos: u32,
    /// East of UTC, in seconds; shown, not compared.
    pub offset: i32,
}

/// Seconds of years 1 to 9999.
pub(crate) const SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

impl Timestamp {
    pub fn utc(seconds: i64, nanos: u32) -> Self {
        Timestamp { seconds, nanos, offset: 0 }
    }

    pub fn instant(&self) -> Instant {
        Instant { seconds: self.seconds, nanos: self.nanos }
    }

    /// Reads RFC 3339 as Go's `time.Parse` does.
    pub(crate) fn parse(text: &str) -> Option<Timestamp> {
        let instant = machinery::time::parse_rfc3339(text).ok()?;
        let offset = match text.strip_suffix('Z') {
            Some(_) => 0,
            None => {
                let zone = &text[text.len().checked_sub(6)?..];
                let hours: i32 = zone.get(1..3)?.parse().ok()?;
                let minutes: i32 = zone.get(4..6)?.parse().ok()?;
                let sign = if zone.starts_with('-') { -60 } else { 60 };
                sign * (hours * 60 + minutes)
            }
        };
        Some(Timestamp { seconds: instant.seconds, nanos: instant.nanos, offset })
    }

    /// The civil date and time at an offset.
    pub(crate) fn civil(&self, offset: i32) -> DateTime {
        let days = (self.seconds + i64::from(offset)).div_euclid(86_400);
        let rest = (self.seconds + i64::from(offset)).rem_euclid(86_400) as i32;
        // Shifted times may leave the calendar; those are pinned to its ends.
        let epoch = jiff::civil::Date::constant(1970, 1, 1);
        let shifted = jiff::Span::new().try_days(days).and_then(|days| epoch.checked_add(days));
        let end = if days < 0 { jiff::civil::Date::MIN } else { jiff::civil::Date::MAX };
        let date = shifted.unwrap_or(end);
        let (h, m, s) = ((rest / 3600) as i8, (rest / 60 % 60) as i8, (rest % 60) as i8);
        date.at(h, m, s, self.nanos as i32)
    }

    /// RFC 3339 with as many digits of the second as are not zero.
    pub(crate) fn format(&self, offset: i32) -> String {
        let t = self.civil(offset);
        let mut text = format!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
            t.year(),
            t.month(),
            t.day(),
            t.hour(),
            t.minute(),
            t.second()
        );
        if self.nanos != 0 {
            let digits = format!("{:09}", self.nanos);
            text.push('.');
            text.push_str(digits.trim_end_matches('0'));
        }
        if offset == 0 {
            text.push('Z');
        } else {
            let minutes = offset.abs() / 60;
            text.push(if offset < 0 { '-' } else { '+' });
            text.push_str(&format!("{:02}:{:02}", minutes / 60, minutes % 60));
        }
        text
    }

    /// The offset of a zone at this time, or Go's text why the zone is none.
    pub(crate) fn zone_offset(&self, zone: &str) -> Result<i32, String> {
        let Some((hours, minutes)) = zone.split_once(':') else {
            return self.named_offset(zone);
        };
        let (hours, minutes) = (atoi(hours)?, atoi(minutes)?);
        let sum = if zone.starts_with('-') { hours * 60 - minutes } else { hours * 60 + minutes };
        Ok(sum.saturating_mul(60).clamp(-1_000_000_000, 1_000_000_000) as i32)
    }

    fn named_offset(&self, zone: &str) -> Result<i32, String> {
        let zone = match zone {
            "" | "UTC" | "Local" => return Ok(0),
            other => TimeZone::get(other).map_err(|_| format!("unknown time zone {other}"))?,
        };
        let at = jiff::Timestamp::new(self.seconds, 0).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        Ok(zone.to_offset(at).seconds())
    }
}

/// Go's `strconv.Atoi` with its error.
fn atoi(text: &str) -> Result<i64, String> {
    text.parse().map_err(|e: std::num::ParseIntError| {
        let why = match e.kind() {
            std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        format!("strconv.Atoi: parsing {}: {why}", machinery::golang::quote(text))
    })
}

impl PartialOrd for Timestamp {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some((self.seconds, self.nanos).cmp(&(other.seconds, other.nanos)))
    }
}
