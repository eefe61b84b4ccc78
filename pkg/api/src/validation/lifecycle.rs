//! lifecycle.k8s.io: what is hand-written about evictions. Their types' own rules are judged there alone.
//!
//! The status of an eviction is written by several: the controller says which responders there are and moves them on, one
//! after the other; the one at work tells how far it is. Whoever else writes must not disturb that, so that most of the
//! controller's steps are judged here: start at [`validate_eviction_status`].
//! Upstream: `pkg/apis/lifecycle/validation/validation.go`.

mod progress;
mod targets;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde::{Deserialize, Serialize};

use super::field::{Bad, Error, Path};
use super::objectmeta::validate_conditions;

/// What is judged of the status of an eviction.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EvictionStatus {
    conditions: Vec<Condition>,
    target_responders: Vec<TargetResponder>,
    responders: Vec<ResponderStatus>,
}

/// Whose turn it is.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct TargetResponder {
    name: String,
    priority: Option<i32>,
    state: String,
}

/// How far a responder is.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct ResponderStatus {
    name: String,
    start_time: Option<Time>,
    heartbeat_time: Option<Time>,
    expected_completion_time: Option<Time>,
    completion_time: Option<Time>,
    message: Option<String>,
}

const ACTIVE: &str = "Active";
const COMPLETED: &str = "Completed";
const INACTIVE: &str = "Inactive";
/// How a responder's turn can end.
const ENDED: [&str; 3] = ["Canceled", COMPLETED, "Interrupted"];

/// `MaxPodEvictionResponders`, and the one that every eviction has.
const MOST_RESPONDERS: usize = 11;
/// By how much clocks may differ.
const SKEW: i128 = 30 * SECOND;
const SECOND: i128 = 1_000_000_000;

/// How an eviction ended, as its conditions tell.
#[derive(Clone, Copy)]
struct End {
    evicted: bool,
    failed: bool,
}

impl End {
    fn reached(self) -> bool {
        self.evicted || self.failed
    }
}

fn find<'c>(conditions: &'c [Condition], kind: &str) -> Option<&'c Condition> {
    conditions.iter().find(|c| c.type_ == kind)
}

/// `ValidateEvictionStatus`.
pub fn validate_eviction_status(new: &EvictionStatus, old: &EvictionStatus, now: &Time) -> Vec<Error> {
    let status = Path::new("status");
    let path = status.child("conditions");
    let mut errors = validate_conditions(&new.conditions, &path);
    let holds = |kind: &str| find(&new.conditions, kind).is_some_and(|c| c.status == "True");
    let mut end = End { evicted: holds("TargetEvicted"), failed: holds("Failed") };
    for was in old.conditions.iter().filter(|c| c.status == "True") {
        let reverted = match find(&new.conditions, &was.type_) {
            None => true,
            Some(is) => is.status == "False" || is.reason != was.reason,
        };
        let told = match was.type_.as_str() {
            "TargetEvicted" => &mut end.evicted,
            "Failed" => &mut end.failed,
            _ => continue,
        };
        if reverted {
            // What is judged next is judged by what was.
            *told = true;
            let detail = format!("{} condition status cannot be reverted", was.type_);
            errors.push(Error::invalid(&path, Bad::json(&new.conditions), detail));
        }
    }
    errors.extend(targets::validate(new, old, end, now));
    errors.extend(progress::validate(new, old, now));
    errors
}

/// Whether two responders of a list have one name.
fn repeated<'n>(names: impl Iterator<Item = &'n str>) -> bool {
    let mut seen = std::collections::HashSet::new();
    !names.into_iter().all(|name| seen.insert(name))
}

fn nanos(time: &Time) -> i128 {
    time.0.as_nanosecond()
}

#[cfg(test)]
mod tests;
