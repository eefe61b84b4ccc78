//! Points in time with the offset they were written with.

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

/// A date of the Gregorian calendar, of any year, and the time of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Civil {
    pub year: i64,
    /// From 1.
    pub month: i64,
    /// From 1.
    pub day: i64,
    /// From 0.
    pub day_of_year: i64,
    /// From Sunday, which is 0.
    pub weekday: i64,
    pub second_of_day: i64,
    pub nanos: u32,
}

const DAYS_BEFORE: [i64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];

impl Civil {
    /// Of seconds since 1970.
    fn new(seconds: i128, nanos: u32) -> Self {
        // Days since 1 March of the year 0, so that leap days end years; 146,097 are 400 years.
        let (days, second_of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400) as i64);
        let (era, day) = ((days + 719_468).div_euclid(146_097), (days + 719_468).rem_euclid(146_097) as i64);
        let year_of_era = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * day + 2) / 153;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        let year = era as i64 * 400 + year_of_era + i64::from(month <= 2);
        let day = day - (153 * from_march + 2) / 5 + 1;
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let day_of_year = DAYS_BEFORE[month as usize - 1] + day - 1 + i64::from(leap && month > 2);
        let weekday = (days + 4).rem_euclid(7) as i64;
        Civil { year, month, day, day_of_year, weekday, second_of_day, nanos }
    }
}

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
    pub(crate) fn civil(&self, offset: i32) -> Civil {
        // Go counts from the year -292277022399, and the times before that are those after the last.
        const FIRST: u64 = 9_223_372_028_715_321_600;
        let absolute = (self.seconds as u64).wrapping_add_signed(offset.into()).wrapping_add(FIRST);
        Civil::new(i128::from(absolute) - i128::from(FIRST), self.nanos)
    }

    /// RFC 3339 with as many digits of the second as are not zero.
    pub(crate) fn format(&self, offset: i32) -> String {
        let t = self.civil(offset);
        let sign = if t.year < 0 { "-" } else { "" };
        let mut text = format!(
            "{sign}{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
            t.year.unsigned_abs(),
            t.month,
            t.day,
            t.second_of_day / 3600,
            t.second_of_day / 60 % 60,
            t.second_of_day % 60
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
        // Rules repeat with the calendar, every 400 years; before them there was one offset.
        const CYCLE: i64 = 146_097 * 86_400;
        let at = jiff::Timestamp::new(self.seconds, 0).unwrap_or_else(|_| match self.seconds {
            ..0 => jiff::Timestamp::MIN,
            late => jiff::Timestamp::new(15 * CYCLE + late % CYCLE, 0).unwrap_or(jiff::Timestamp::MAX),
        });
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
        // Go counts from the year 1, and the furthest times overflow.
        let key = |t: &Self| (t.seconds.wrapping_add(-SECONDS.start()), t.nanos);
        Some(key(self).cmp(&key(other)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Years beyond what texts can tell, as Go's `time` counts them.
    #[test]
    fn the_calendar_goes_on() {
        for (seconds, year, month, day, day_of_year, weekday) in [
            (0, 1970, 1, 1, 0, 4),
            (951_782_400, 2000, 2, 29, 59, 2),
            (253_402_300_799, 9999, 12, 31, 364, 5),
            (253_402_300_800, 10_000, 1, 1, 0, 6),
            (-62_135_596_800, 1, 1, 1, 0, 1),
            (-62_135_596_801, 0, 12, 31, 365, 0),
            (9_223_372_036_854_775_807, 292_277_026_596, 12, 4, 338, 0),
            (-9_223_372_036_854_775_807, 292_277_026_596, 12, 4, 338, 0),
        ] {
            let civil = Timestamp::utc(seconds, 0).civil(0);
            let found = (civil.year, civil.month, civil.day, civil.day_of_year, civil.weekday);
            assert_eq!(found, (year, month, day, day_of_year, weekday), "{seconds}");
        }
        assert_eq!(Timestamp::utc(253_402_300_800, 1).format(3600), "10000-01-01T01:00:00.000000001+01:00");
    }
}
