//! When a schedule is due next. The steps, and what they make of hours that a change of clocks skips or repeats, are
//! upstream's and Go's. Upstream: robfig/cron/v3 spec.go Next, constantdelay.go; Go's time.Date.

use jiff::civil;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

use super::{Calendar, STAR, Schedule};

/// A schedule that is not due within these years never is.
const HORIZON: i16 = 5;
const HOUR: i64 = 3600;
const MINUTE: i64 = 60;
/// Nanoseconds.
const SECOND: i128 = 1_000_000_000;

impl Schedule {
    /// The first time after `after`; `local` is the machine's time zone. `None`: never.
    pub fn next(&self, after: Timestamp, local: &TimeZone) -> Option<Timestamp> {
        match self {
            Schedule::Every(nanos) => {
                let whole = i64::try_from(after.as_nanosecond().div_euclid(SECOND)).ok()?;
                Timestamp::from_second(whole.checked_add(nanos / 1_000_000_000)?).ok()
            }
            Schedule::Calendar(calendar) => {
                let zone = Zone(calendar.zone.as_ref().unwrap_or(local));
                let start = i64::try_from(after.as_nanosecond().div_euclid(SECOND)).ok()? + 1;
                calendar.next(start, &zone).and_then(|second| Timestamp::from_second(second).ok())
            }
        }
    }
}

struct Zone<'a>(&'a TimeZone);

impl Zone<'_> {
    fn civil(&self, second: i64) -> Option<civil::DateTime> {
        Some(self.0.to_datetime(Timestamp::from_second(second).ok()?))
    }

    fn offset(&self, second: i64) -> Option<i64> {
        Some(i64::from(self.0.to_offset(Timestamp::from_second(second).ok()?).seconds()))
    }

    /// Whether no change of clocks lies between.
    fn same_rule(&self, a: i64, b: i64) -> Option<bool> {
        let (from, to) = (a.min(b), a.max(b));
        let next = self.0.following(Timestamp::from_second(from).ok()?).next();
        Some(next.is_none_or(|t| t.timestamp().as_second() > to))
    }

    /// Go's time.Date: skipped and repeated times are read by the offset of the neighbourhood.
    fn second(&self, date: civil::Date, clock: (i64, i64, i64)) -> Option<i64> {
        let days = i64::from(date.since(civil::date(1970, 1, 1)).ok()?.get_days());
        let wall = days * 24 * HOUR + clock.0 * HOUR + clock.1 * MINUTE + clock.2;
        let mut offset = self.offset(wall)?;
        if offset != 0 {
            let utc = wall - offset;
            if !self.same_rule(utc, wall)? {
                offset = self.offset(utc)?;
            }
        }
        Some(wall - offset)
    }

    /// The same time of day some months or days later. Go's AddDate.
    fn later(&self, second: i64, months: i32, days: i32) -> Option<i64> {
        let at = self.civil(second)?;
        let month = at.date().first_of_month().checked_add(Span::new().months(months)).ok()?;
        let days = i64::from(at.day()) - 1 + i64::from(days);
        let date = month.checked_add(Span::new().days(days)).ok()?;
        self.second(date, clock(at))
    }
}

fn clock(at: civil::DateTime) -> (i64, i64, i64) {
    (i64::from(at.hour()), i64::from(at.minute()), i64::from(at.second()))
}

fn has(bits: u64, value: i8) -> bool {
    bits >> value & 1 == 1
}

impl Calendar {
    fn day_matches(&self, at: civil::DateTime) -> bool {
        let day = has(self.day, at.day());
        let weekday = has(self.weekday, at.weekday().to_sunday_zero_offset());
        if self.day & STAR > 0 || self.weekday & STAR > 0 { day && weekday } else { day || weekday }
    }

    /// From large fields to small ones; where one runs over, all is looked at again.
    fn next(&self, start: i64, zone: &Zone<'_>) -> Option<i64> {
        let limit = zone.civil(start)?.year().saturating_add(HORIZON);
        let (mut at, mut reset) = (start, false);
        while zone.civil(at)?.year() <= limit {
            let steps: [Step; 5] = [Self::months, Self::days, Self::hours, Self::minutes, Self::seconds];
            let mut wrapped = false;
            for step in steps {
                (at, wrapped) = step(self, at, zone, &mut reset)?;
                if wrapped {
                    break;
                }
            }
            if !wrapped {
                return Some(at);
            }
        }
        None
    }

    fn months(&self, mut at: i64, zone: &Zone<'_>, reset: &mut bool) -> Option<(i64, bool)> {
        while !has(self.month, zone.civil(at)?.month()) {
            if !std::mem::replace(reset, true) {
                at = zone.second(zone.civil(at)?.date().first_of_month(), (0, 0, 0))?;
            }
            at = zone.later(at, 1, 0)?;
            if zone.civil(at)?.month() == 1 {
                return Some((at, true));
            }
        }
        Some((at, false))
    }

    fn days(&self, mut at: i64, zone: &Zone<'_>, reset: &mut bool) -> Option<(i64, bool)> {
        while !self.day_matches(zone.civil(at)?) {
            if !std::mem::replace(reset, true) {
                at = zone.second(zone.civil(at)?.date(), (0, 0, 0))?;
            }
            at = zone.later(at, 0, 1)?;
            // Where midnight is skipped or repeated, the hour is moved back to the day's beginning.
            match i64::from(zone.civil(at)?.hour()) {
                0 => {}
                hour if hour > 12 => at += (24 - hour) * HOUR,
                hour => at -= hour * HOUR,
            }
            if zone.civil(at)?.day() == 1 {
                return Some((at, true));
            }
        }
        Some((at, false))
    }

    fn hours(&self, mut at: i64, zone: &Zone<'_>, reset: &mut bool) -> Option<(i64, bool)> {
        while !has(self.hour, zone.civil(at)?.hour()) {
            if !std::mem::replace(reset, true) {
                let now = zone.civil(at)?;
                at = zone.second(now.date(), (i64::from(now.hour()), 0, 0))?;
            }
            at += HOUR;
            if zone.civil(at)?.hour() == 0 {
                return Some((at, true));
            }
        }
        Some((at, false))
    }

    fn minutes(&self, mut at: i64, zone: &Zone<'_>, reset: &mut bool) -> Option<(i64, bool)> {
        while !has(self.minute, zone.civil(at)?.minute()) {
            if !std::mem::replace(reset, true) {
                at -= at.rem_euclid(MINUTE);
            }
            at += MINUTE;
            if zone.civil(at)?.minute() == 0 {
                return Some((at, true));
            }
        }
        Some((at, false))
    }

    fn seconds(&self, mut at: i64, zone: &Zone<'_>, reset: &mut bool) -> Option<(i64, bool)> {
        while !has(self.second, zone.civil(at)?.second()) {
            *reset = true;
            at += 1;
            if zone.civil(at)?.second() == 0 {
                return Some((at, true));
            }
        }
        Some((at, false))
    }
}

type Step = fn(&Calendar, i64, &Zone<'_>, &mut bool) -> Option<(i64, bool)>;
