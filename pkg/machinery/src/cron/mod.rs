//! Schedules of cron jobs: `*/5 8-18 * * mon-fri`, `@daily`, `@every 90s`, `TZ=Europe/Berlin 0 3 * * *`.
//!
//! [`Schedule::parse`] reads one, [`Schedule::next`] says when it is due. Both agree with upstream's library to the letter
//! of its errors and to the hour that a change of clocks skips or repeats.
//! Upstream: github.com/robfig/cron/v3 as pkg/util/parsers uses it.

mod next;
mod parse;

pub use parse::location;

use jiff::tz::TimeZone;

/// Marks a field that was given with a star.
const STAR: u64 = 1 << 63;

/// When something is due.
#[derive(Debug, Clone, PartialEq)]
pub enum Schedule {
    /// Every so many nanoseconds, whole seconds.
    Every(i64),
    /// At times of the calendar.
    Calendar(Calendar),
}

/// Allowed values of each field as bits.
#[derive(Debug, Clone, PartialEq)]
pub struct Calendar {
    second: u64,
    minute: u64,
    hour: u64,
    day: u64,
    month: u64,
    weekday: u64,
    /// Time zone named by the schedule; `None` is the machine's.
    zone: Option<TimeZone>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    /// Recorded by `make oracle-workloads`: schedule, zone, start, and the next times or the error, by upstream.
    const RECORDED: &str = include_str!("testdata/recorded.txt");

    fn answer(spec: &str, zone: &TimeZone, start: i64) -> String {
        let schedule = match Schedule::parse(spec) {
            Ok(schedule) => schedule,
            Err(e) => return format!("! {e}"),
        };
        let mut at = Timestamp::from_second(start).expect("a time");
        let mut all = Vec::new();
        for _ in 0..5 {
            match schedule.next(at, zone) {
                Some(next) => at = next,
                None => {
                    all.push("-".to_string());
                    break;
                }
            }
            all.push(at.as_second().to_string());
        }
        all.join(",")
    }

    #[test]
    fn all_answers_are_upstreams() {
        let mut wrong = Vec::new();
        for line in RECORDED.lines() {
            let parts: Vec<&str> = line.split('\t').collect();
            let [spec, zone, start, expected] = parts[..] else { panic!("{line}") };
            let zone = TimeZone::get(zone).expect("a zone");
            let ours = answer(spec, &zone, start.parse().expect("a number"));
            if ours != expected {
                wrong.push(format!("{line}\n  ours {ours}"));
            }
        }
        assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), RECORDED.lines().count(), wrong.join("\n"));
    }

    #[test]
    fn fractions_of_a_second_are_dropped() {
        let at: Timestamp = "2026-01-01T00:00:00.75Z".parse().expect("a time");
        let minutely = Schedule::parse("* * * * *").expect("a schedule");
        assert_eq!(minutely.next(at, &TimeZone::UTC), "2026-01-01T00:01:00Z".parse().ok());
        let every = Schedule::parse("@every 2s").expect("a schedule");
        assert_eq!(every.next(at, &TimeZone::UTC), "2026-01-01T00:00:02Z".parse().ok());
    }
}
