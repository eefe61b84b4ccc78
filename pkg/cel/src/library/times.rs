//! Parts of timestamps and durations.

use super::text;
use crate::decls::short::*;
use crate::eval::{EvalError, Res};
use crate::val::Val;
use crate::val::ops::no_overload;
use crate::val::time::Civil;

/// The civil time of a timestamp, in UTC or in the zone given.
fn civil(args: &[Val<'_>]) -> Result<Civil, EvalError> {
    let Some(Val::Timestamp(t)) = args.first() else { return Err(no_overload()) };
    let offset = match args.get(1) {
        None => 0,
        Some(_) => t.zone_offset(text(args, 1)?).map_err(EvalError::new)?,
    };
    Ok(t.civil(offset))
}

macro_rules! part {
    ($name:literal, $id:literal, $zoned:literal, $part:expr) => {
        func($name).member($id, vec![Timestamp], Int).code(part!(@code $part))
            .member($zoned, vec![Timestamp, String], Int).code(part!(@code $part))
    };
    (@code $part:expr) => {
        |args| {
            let part: fn(Civil) -> i64 = $part;
            Ok(Val::Int(part(civil(args)?)))
        }
    };
}

macro_rules! span {
    ($nanos:expr) => {
        |args: &[Val<'_>]| match args[0] {
            // Upstream converts through a float, which rounds the last digits of very long durations.
            Val::Duration(d) => Ok(Val::Int(whole(d, $nanos))),
            _ => Err(no_overload()),
        }
    };
}

/// Whole units, as Go's `Hours()` and its like round.
fn whole(d: i64, unit: i64) -> i64 {
    let (units, rest) = (d / unit, d % unit);
    (units as f64 + rest as f64 / unit as f64) as i64
}

fn milliseconds<'a>(args: &[Val<'a>]) -> Res<'a> {
    match args[0] {
        Val::Duration(d) => Ok(Val::Int(d / 1_000_000)),
        _ => Err(no_overload()),
    }
}

pub(crate) fn functions() -> Vec<Function> {
    vec![
        part!("getFullYear", "timestamp_to_year", "timestamp_to_year_with_tz", |t| t.year),
        part!("getMonth", "timestamp_to_month", "timestamp_to_month_with_tz", |t| t.month - 1),
        part!("getDayOfYear", "timestamp_to_day_of_year", "timestamp_to_day_of_year_with_tz", |t| {
            t.day_of_year
        }),
        part!("getDayOfMonth", "timestamp_to_day_of_month", "timestamp_to_day_of_month_with_tz", |t| {
            t.day - 1
        }),
        part!(
            "getDate",
            "timestamp_to_day_of_month_1_based",
            "timestamp_to_day_of_month_1_based_with_tz",
            |t| { t.day }
        ),
        part!("getDayOfWeek", "timestamp_to_day_of_week", "timestamp_to_day_of_week_with_tz", |t| {
            t.weekday
        }),
        part!("getHours", "timestamp_to_hours", "timestamp_to_hours_with_tz", |t| t.second_of_day / 3600)
            .member("duration_to_hours", vec![Duration], Int)
            .code(span!(3_600_000_000_000)),
        part!("getMinutes", "timestamp_to_minutes", "timestamp_to_minutes_with_tz", |t| t.second_of_day / 60
            % 60)
        .member("duration_to_minutes", vec![Duration], Int)
        .code(span!(60_000_000_000)),
        part!("getSeconds", "timestamp_to_seconds", "timestamp_to_seconds_tz", |t| t.second_of_day % 60)
            .member("duration_to_seconds", vec![Duration], Int)
            .code(span!(1_000_000_000)),
        part!("getMilliseconds", "timestamp_to_milliseconds", "timestamp_to_milliseconds_with_tz", |t| {
            i64::from(t.nanos / 1_000_000)
        })
        .member("duration_to_milliseconds", vec![Duration], Int)
        .code(milliseconds),
    ]
}
