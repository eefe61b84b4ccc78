//! Reading schedules. Upstream: robfig/cron/v3 parser.go.

use jiff::tz::TimeZone;

use super::{Calendar, STAR, Schedule};
use crate::golang::quote;
use crate::time::parse_duration;

/// Least and greatest value of a field, and names for values from `from` on.
struct Bounds {
    min: u64,
    max: u64,
    names: &'static [&'static str],
}

const MINUTES: Bounds = Bounds { min: 0, max: 59, names: &[] };
const HOURS: Bounds = Bounds { min: 0, max: 23, names: &[] };
const DAYS: Bounds = Bounds { min: 1, max: 31, names: &[] };
const MONTHS: Bounds = Bounds {
    min: 1,
    max: 12,
    names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
};
const WEEKDAYS: Bounds = Bounds { min: 0, max: 6, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] };

impl Schedule {
    /// Reads a schedule.
    ///
    /// # Errors
    /// What is wrong, in upstream's words.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("empty spec string".to_string());
        }
        let (zone, rest) = zone(text)?;
        if rest.starts_with('@') {
            return descriptor(rest, zone);
        }
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields[..] else {
            return Err(format!("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" ")));
        };
        Ok(Schedule::Calendar(Calendar {
            second: 1,
            minute: field(minute, &MINUTES)?,
            hour: field(hour, &HOURS)?,
            day: field(day, &DAYS)?,
            month: field(month, &MONTHS)?,
            weekday: field(weekday, &WEEKDAYS)?,
            zone,
        }))
    }
}

/// Splits a leading `TZ=name` off.
fn zone(text: &str) -> Result<(Option<TimeZone>, &str), String> {
    if !(text.starts_with("TZ=") || text.starts_with("CRON_TZ=")) {
        return Ok((None, text));
    }
    // Upstream panics here, and says so.
    let no_fields = "invalid schedule format: runtime error: slice bounds out of range [:-1]";
    let (setting, rest) = text.split_once(' ').ok_or(no_fields)?;
    let name = setting.split_once('=').map_or("", |(_, name)| name);
    let zone = location(name).map_err(|e| format!("provided bad location {name}: {e}"))?;
    Ok((zone, rest.trim()))
}

/// A time zone by name; `None` is the machine's. Upstream: Go's time.LoadLocation.
///
/// # Errors
/// There is no such zone, in Go's words.
pub fn location(name: &str) -> Result<Option<TimeZone>, String> {
    match name {
        "" | "UTC" => return Ok(Some(TimeZone::UTC)),
        "Local" => return Ok(None),
        _ => {}
    }
    if name.starts_with('/') || name.contains('\\') || name.split('/').any(|part| part == "..") {
        return Err("time: invalid location name".to_string());
    }
    // Names are files: their case counts.
    let found = TimeZone::get(name).ok().filter(|z| z.iana_name() == Some(name));
    found.map(Some).ok_or_else(|| format!("unknown time zone {name}"))
}

fn descriptor(text: &str, zone: Option<TimeZone>) -> Result<Schedule, String> {
    let all = |b: &Bounds| bits(b.min, b.max, 1) | STAR;
    let first = |b: &Bounds| 1 << b.min;
    let daily = Calendar {
        second: 1,
        minute: 1,
        hour: 1,
        day: all(&DAYS),
        month: all(&MONTHS),
        weekday: all(&WEEKDAYS),
        zone,
    };
    Ok(Schedule::Calendar(match text {
        "@yearly" | "@annually" => Calendar { day: first(&DAYS), month: first(&MONTHS), ..daily },
        "@monthly" => Calendar { day: first(&DAYS), ..daily },
        "@weekly" => Calendar { weekday: first(&WEEKDAYS), ..daily },
        "@daily" | "@midnight" => daily,
        "@hourly" => Calendar { hour: all(&HOURS), ..daily },
        _ => {
            let pause = text.strip_prefix("@every ");
            let pause = pause.ok_or_else(|| format!("unrecognized descriptor: {text}"))?;
            let nanos = parse_duration(pause).map_err(|e| format!("failed to parse duration {text}: {e}"))?;
            const SECOND: i64 = 1_000_000_000;
            let nanos = nanos.max(SECOND);
            return Ok(Schedule::Every(nanos - nanos % SECOND));
        }
    }))
}

fn field(text: &str, bounds: &Bounds) -> Result<u64, String> {
    let ranges = text.split(',').filter(|r| !r.is_empty());
    ranges.map(|r| range(r, bounds)).try_fold(0, |all, bits| Ok(all | bits?))
}

fn range(text: &str, bounds: &Bounds) -> Result<u64, String> {
    let parts: Vec<&str> = text.split('/').collect();
    let limits: Vec<&str> = parts[0].split('-').collect();
    let mut extra = 0;
    let (start, mut end) = match limits[..] {
        ["*" | "?", ..] => {
            extra = STAR;
            (bounds.min, bounds.max)
        }
        [only] => {
            let value = number_or_name(only, bounds)?;
            (value, value)
        }
        [low, high] => (number_or_name(low, bounds)?, number_or_name(high, bounds)?),
        [low, ..] => {
            number_or_name(low, bounds)?;
            return Err(format!("too many hyphens: {text}"));
        }
        [] => return Err(format!("failed to parse int from {text}: empty")),
    };
    let step = match parts[..] {
        [_] => 1,
        [_, step] => {
            let step = number(step)?;
            if limits.len() == 1 {
                end = bounds.max;
            }
            if step > 1 {
                extra = 0;
            }
            step
        }
        _ => return Err(format!("too many slashes: {text}")),
    };
    let (min, max) = (bounds.min, bounds.max);
    if start < min {
        return Err(format!("beginning of range ({start}) below minimum ({min}): {text}"));
    }
    if end > max {
        return Err(format!("end of range ({end}) above maximum ({max}): {text}"));
    }
    if start > end {
        return Err(format!("beginning of range ({start}) beyond end of range ({end}): {text}"));
    }
    if step == 0 {
        return Err(format!("step of range should be a positive number: {text}"));
    }
    Ok(bits(start, end, step) | extra)
}

/// `start` and `end` are below 63.
fn bits(start: u64, end: u64, step: u64) -> u64 {
    let step = usize::try_from(step).unwrap_or(usize::MAX);
    (start..=end).step_by(step).fold(0, |all, bit| all | 1 << bit)
}

fn number_or_name(text: &str, bounds: &Bounds) -> Result<u64, String> {
    let lower = text.to_lowercase();
    match bounds.names.iter().position(|name| *name == lower) {
        Some(at) => Ok(bounds.min + u64::try_from(at).unwrap_or(0)),
        None => number(text),
    }
}

/// As Go's strconv.Atoi, for numbers that are not negative.
fn number(text: &str) -> Result<u64, String> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let failed =
        |why: &str| format!("failed to parse int from {text}: strconv.Atoi: parsing {}: {why}", quote(text));
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(failed("invalid syntax"));
    }
    let value: i64 = text.parse().map_err(|_| failed("value out of range"))?;
    u64::try_from(value).map_err(|_| format!("negative number ({value}) not allowed: {text}"))
}
