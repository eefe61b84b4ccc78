//! How far responders are: told by the one at work, in times that are now.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::super::field::{Bad, Error, Path};
use super::{
    ACTIVE, EvictionStatus, MOST_RESPONDERS, ResponderStatus, SECOND, SKEW, TargetResponder, nanos, repeated,
};

/// Ten years of 365 days: nobody means more.
const LONGEST: i128 = 10 * 365 * 24 * 3600 * SECOND;

/// `ValidateEvictionStatusResponders`.
pub(super) fn validate(new: &EvictionStatus, old: &EvictionStatus, now: &Time) -> Vec<Error> {
    let status = Path::new("status");
    let path = status.child("responders");
    let (responders, targets) = (&new.responders, &new.target_responders);
    let wrong = |detail: &str| vec![Error::invalid(&path, Bad::json(responders), detail)];
    if targets.len() != responders.len() {
        return wrong("must be the same length as status.targetResponders and contain the same keys");
    }
    if !targets.iter().all(|t| responders.iter().any(|r| r.name == t.name)) {
        return wrong("must contain the same keys as status.targetResponders");
    }
    // Of too many and of repeated ones the types' rules tell.
    if responders.len() > MOST_RESPONDERS || repeated(responders.iter().map(|r| r.name.as_str())) {
        return Vec::new();
    }
    let mut errors = Vec::new();
    for (i, responder) in responders.iter().enumerate() {
        let target = targets.iter().rfind(|t| t.name == responder.name);
        let before = old.responders.iter().rfind(|r| r.name == responder.name);
        errors.extend(of_one(responder, before, target, now, &path.index(i)));
    }
    errors
}

/// `ValidateEvictionStatusResponder`.
fn of_one(
    new: &ResponderStatus,
    before: Option<&ResponderStatus>,
    target: Option<&TargetResponder>,
    now: &Time,
    path: &Path<'_>,
) -> Vec<Error> {
    let active = target.is_some_and(|t| t.state == ACTIVE);
    if before.is_some_and(|before| before != new) && !active {
        return vec![Error::invalid(path, Bad::json(new), "field is immutable")];
    }
    let nothing = ResponderStatus::default();
    let times = Times { new, old: before.unwrap_or(&nothing), now, path };
    [times.start(active), times.heartbeat(), times.expected(), times.completion()]
        .into_iter()
        .flatten()
        .collect()
}

struct Times<'t> {
    new: &'t ResponderStatus,
    old: &'t ResponderStatus,
    now: &'t Time,
    path: &'t Path<'t>,
}

/// Whether one time, where there are both, is before another.
fn before(a: &Time, b: Option<&Time>) -> bool {
    b.is_some_and(|b| nanos(a) < nanos(b))
}

impl Times<'_> {
    fn is_now(&self, time: &Time) -> bool {
        let (time, now) = (nanos(time), nanos(self.now));
        now - SKEW < time && time < now + SKEW
    }

    fn wrong(&self, field: &str, time: &Time, detail: impl Into<String>) -> Option<Error> {
        Some(Error::invalid(&self.path.child(field), Bad::json(time), detail.into()))
    }

    /// Why a time cannot stand beside the start.
    fn started(&self, field: &str, time: &Time) -> Option<Error> {
        let start = self.path.child("startTime").to_string();
        match &self.new.start_time {
            None => self.wrong(field, time, format!("cannot be set before {start} is set")),
            Some(from) if before(time, Some(from)) => {
                self.wrong(field, time, format!("must occur after {start}"))
            }
            Some(_) => None,
        }
    }

    fn start(&self, active: bool) -> Option<Error> {
        const FIELD: &str = "startTime";
        let (new, old) = (&self.new.start_time, &self.old.start_time);
        match new {
            // Of one that was taken back or changed the type's rules tell.
            _ if old.is_some() => None,
            None => active
                .then(|| Error::required(&self.path.child(FIELD), "is required for an active responder")),
            Some(time) if !self.is_now(time) => self.wrong(FIELD, time, "must be set to the present time"),
            Some(_) => None,
        }
    }

    fn heartbeat(&self) -> Option<Error> {
        const FIELD: &str = "heartbeatTime";
        let (new, old) = (&self.new.heartbeat_time, &self.old.heartbeat_time);
        let Some(time) = new else {
            let missing = || Error::required(&self.path.child(FIELD), "is required once set");
            return old.as_ref().map(|_| missing());
        };
        if new == old {
            None
        } else if self.new.start_time.is_some() && before(time, old.as_ref()) {
            self.wrong(FIELD, time, "cannot be decreased")
        } else if let Some(error) = self.started(FIELD, time) {
            Some(error)
        } else if self.is_now(time) {
            None
        } else {
            self.wrong(FIELD, time, "must be set to the present time")
        }
    }

    fn expected(&self) -> Option<Error> {
        const FIELD: &str = "expectedCompletionTime";
        let (new, old) = (&self.new.expected_completion_time, &self.old.expected_completion_time);
        let time = new.as_ref().filter(|_| new != old)?;
        if let Some(error) = self.started(FIELD, time) {
            Some(error)
        } else if nanos(time) < nanos(self.now) - SKEW {
            self.wrong(FIELD, time, "cannot be set to the past time")
        } else if nanos(time) > nanos(self.now) + LONGEST {
            self.wrong(FIELD, time, "must complete within 10 years")
        } else {
            None
        }
    }

    fn completion(&self) -> Option<Error> {
        const FIELD: &str = "completionTime";
        let (new, old) = (&self.new.completion_time, &self.old.completion_time);
        let time = new.as_ref().filter(|_| old.is_none() || new == old)?;
        if let Some(error) = self.started(FIELD, time) {
            Some(error)
        } else if new != old && !self.is_now(time) {
            self.wrong(FIELD, time, "must be set to the present time")
        } else {
            None
        }
    }
}
