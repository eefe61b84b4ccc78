//! When a cron job is due, was due, and how often it was missed. Pure. Upstream: pkg/controller/cronjob/utils.go.

use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec};
use machinery::cron::{self, Schedule};

/// Looked at a little after the time: clocks differ.
const PADDING: Duration = Duration::from_millis(100);
/// More missed times than this are worth a warning.
const MANY: i64 = 100;

/// Times that went by without a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missed {
    None,
    Few,
    Many,
}

/// A cron job's schedule and the clock it goes by.
pub struct Plan<'a> {
    pub job: &'a CronJob,
    pub schedule: Schedule,
    /// The machine's time zone, for schedules that name none.
    pub local: &'a TimeZone,
    pub now: Timestamp,
}

/// What the past holds.
#[derive(Debug, PartialEq, Eq)]
pub struct Past {
    /// Nothing before this counts.
    pub since: Timestamp,
    /// The last time that a job was due.
    pub due: Option<Timestamp>,
    pub missed: Missed,
}

/// The schedule as the parser reads it: with the time zone of the spec, if that exists. Upstream: formatSchedule.
pub fn with_zone(spec: &CronJobSpec) -> String {
    let zone = spec.time_zone.as_deref().filter(|z| cron::location(z).is_ok());
    match zone {
        Some(zone) if !names_zone(spec) => format!("TZ={zone} {}", spec.schedule),
        _ => spec.schedule.clone(),
    }
}

/// The schedule itself names a time zone, which is not supported officially.
pub fn names_zone(spec: &CronJobSpec) -> bool {
    spec.schedule.contains("TZ")
}

fn seconds(duration: SignedDuration) -> i64 {
    duration.as_secs()
}

impl Plan<'_> {
    fn after(&self, time: Timestamp) -> Result<Timestamp, String> {
        let never = || "time difference between two schedules is less than 1 second".to_string();
        self.schedule.next(time, self.local).ok_or_else(never)
    }

    /// Upstream: mostRecentScheduleTime. `within_deadline`: times too long ago to start a job do not count.
    ///
    /// # Errors
    /// The schedule is never due.
    pub fn past(&self, within_deadline: bool) -> Result<Past, String> {
        let since = self.since(within_deadline);
        let (first, none) = (self.after(since)?, Past { since, due: None, missed: Missed::None });
        if self.now < first {
            return Ok(none);
        }
        let second = self.after(first)?;
        if self.now < second {
            return Ok(Past { due: Some(first), ..none });
        }
        let period = seconds(second.duration_since(first)).max(1);
        let count = seconds(self.now.duration_since(first)) / period + 1;
        // From shortly before the last time, as if all periods were the same; then the schedule itself says.
        let skipped = SignedDuration::from_secs((count - 2).saturating_mul(period));
        let mut time = first.checked_add(skipped).unwrap_or(first);
        let mut due = None;
        while let Some(next) = self.schedule.next(time, self.local).filter(|t| *t <= self.now) {
            (due, time) = (Some(next), next);
        }
        let missed = if count > MANY { Missed::Many } else { Missed::Few };
        Ok(Past { since, due, missed })
    }

    fn since(&self, within_deadline: bool) -> Timestamp {
        let made = self.job.metadata.creation_timestamp.as_ref().map(|t| t.0);
        let last = self.job.status.as_ref().and_then(|s| s.last_schedule_time.as_ref()).map(|t| t.0);
        let since = last.or(made).unwrap_or(Timestamp::UNIX_EPOCH);
        let deadline = self.job.spec.starting_deadline_seconds.filter(|_| within_deadline);
        let deadline = deadline.and_then(|s| self.now.checked_sub(SignedDuration::from_secs(s)).ok());
        deadline.map_or(since, |d| d.max(since))
    }

    /// How long until the next time; `None`: never. Upstream: nextScheduleTimeDuration.
    pub fn wait(&self) -> Option<Duration> {
        let from = match self.past(false) {
            Ok(Past { due: Some(due), .. }) => due,
            Ok(Past { since, missed: Missed::None, .. }) => since,
            _ => self.now,
        };
        let next = self.schedule.next(from, self.local)?.checked_add(PADDING).ok()?;
        Some(Duration::try_from(next.duration_since(self.now)).unwrap_or_default())
    }
}
