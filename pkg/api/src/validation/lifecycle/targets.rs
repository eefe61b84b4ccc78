//! Whose turn it is: responders get theirs in the order of their priorities, and once.

use std::cmp::Ordering;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::super::field::{Bad, Error, Path};
use super::{
    ACTIVE, COMPLETED, ENDED, End, EvictionStatus, INACTIVE, MOST_RESPONDERS, ResponderStatus, SECOND, SKEW,
    TargetResponder, nanos, repeated,
};

/// How long a responder may be silent.
const SILENCE: i128 = 20 * 60 * SECOND;
/// Below it are Kubernetes' own responders.
const RESERVED: i32 = 1000;
/// Kubernetes' own responder, and its priority.
const IMPERATIVE: (&str, i32) = ("imperative-eviction.k8s.io/evictor", 100);

/// `ValidateEvictionTargetResponders`.
pub(super) fn validate(new: &EvictionStatus, old: &EvictionStatus, end: End, now: &Time) -> Vec<Error> {
    let status = Path::new("status");
    let path = status.child("targetResponders");
    let (targets, before) = (&new.target_responders, &old.target_responders);
    let wrong = |detail: &str| vec![Error::invalid(&path, Bad::json(targets), detail)];
    if !before.is_empty() && targets.len() != before.len() {
        return wrong("must preserve the same length and the same keys");
    }
    if !before.iter().all(|b| targets.iter().any(|t| t.name == b.name)) {
        return wrong("must preserve the same keys");
    }
    // Of too many and of repeated ones the types' rules tell.
    if targets.len() > MOST_RESPONDERS || repeated(targets.iter().map(|t| t.name.as_str())) {
        return Vec::new();
    }
    let mut places: Vec<usize> = (0..targets.len()).collect();
    places.sort_by(|a, b| order(&targets[*a], &targets[*b]));
    let sorted: Vec<&TargetResponder> = places.iter().map(|i| &targets[*i]).collect();
    let turns = Turns::new(before, &sorted, end);
    let mut errors = Vec::new();
    for (turn, (place, target)) in places.iter().zip(&sorted).enumerate() {
        let progress = new.responders.iter().rfind(|r| r.name == target.name);
        let judge = Judge { target, progress, end, now, path: &path.index(*place) };
        errors.extend(judge.validate(&turns.expected(turn)));
    }
    errors
}

/// What was, in order, and what becomes of the one whose turn it was.
struct Turns<'t> {
    before: Vec<&'t TargetResponder>,
    active: Option<usize>,
    /// The one whose turn it was has had it.
    moves_on: bool,
    end: End,
}

/// The states a responder may have, and why.
type Expected<'t> = (Vec<&'t str>, &'static str);

impl<'t> Turns<'t> {
    fn new(before: &'t [TargetResponder], sorted: &[&TargetResponder], end: End) -> Self {
        let mut before: Vec<&TargetResponder> = before.iter().collect();
        before.sort_by(|a, b| order(a, b));
        let active = before.iter().position(|b| b.state == ACTIVE);
        let moves_on = active.and_then(|i| sorted.get(i)).is_some_and(|now| now.state != ACTIVE);
        Turns { before, active, moves_on, end }
    }

    fn all_had_theirs(&self) -> bool {
        self.end.reached() || self.before.last().is_some_and(|b| ENDED.contains(&b.state.as_str()))
    }

    fn expected(&self, turn: usize) -> Expected<'t> {
        let done = "the eviction request has finished processing";
        let had = match self.active {
            Some(active) => turn < active,
            None => !self.before.is_empty() && self.all_had_theirs(),
        };
        let next = match self.active {
            Some(active) => turn == active + 1 && self.moves_on,
            None => turn == 0 && self.before.is_empty(),
        };
        if had && let Some(before) = self.before.get(turn) {
            (vec![before.state.as_str()], "final state is immutable")
        } else if self.active == Some(turn) {
            match (self.moves_on, self.end.reached()) {
                (true, _) => (ENDED.to_vec(), "this responder must reach a final state"),
                (false, true) => (ENDED.to_vec(), done),
                (false, false) => (vec![ACTIVE], "the eviction request stays active"),
            }
        } else if next && self.end.reached() {
            (vec![INACTIVE], done)
        } else if next {
            (vec![ACTIVE], "this responder is next in line")
        } else {
            (vec![INACTIVE], "the previously active has not finished processing")
        }
    }
}

/// One responder, and what it is judged by.
struct Judge<'j> {
    target: &'j TargetResponder,
    progress: Option<&'j ResponderStatus>,
    end: End,
    now: &'j Time,
    path: &'j Path<'j>,
}

impl Judge<'_> {
    /// `ValidateTargetResponder`.
    fn validate(&self, (states, why): &Expected<'_>) -> Vec<Error> {
        let target = self.target;
        let Some(progress) = self.progress else {
            let name = super::super::field::quote(&target.name);
            let detail = format!("{name} has to be tracked in status.responders first");
            return vec![Error::invalid(self.path, Bad::json(target), detail)];
        };
        let mut errors: Vec<Error> = self.priority().into_iter().collect();
        let at = self.path.child("state");
        let wrong = |detail: String| Error::invalid(&at, Bad::enumerated(&target.state), detail);
        if !states.contains(&target.state.as_str()) {
            errors.push(wrong(format!("must be one of: {}, because {why}", states.join(", "))));
            return errors;
        }
        if self.interrupts(progress) {
            errors.push(Error::forbidden(
                &at,
                "must stay Active because the responder is in progress and it should report status.responders.heartbeatTime or status.responders.completionTime",
            ));
        }
        if target.state == COMPLETED && progress.completion_time.is_none() {
            errors.push(wrong(
                "cannot become Completed because the responder didn't report status.responders.completionTime"
                    .to_owned(),
            ));
        }
        errors
    }

    fn priority(&self) -> Option<Error> {
        let priority = self.target.priority.filter(|p| *p >= 0)?;
        let detail = if self.target.name == IMPERATIVE.0 {
            let expected = IMPERATIVE.1;
            (priority != expected)
                .then(|| format!("core k8s responder is expected to have priority: {expected}"))?
        } else if priority < RESERVED {
            "priorities 0-999 are reserved for responders with *.k8s.io suffix".to_owned()
        } else {
            return None;
        };
        Some(Error::invalid(&self.path.child("priority"), priority, detail))
    }

    /// Whether the turn of a responder ends that has begun and was heard of lately.
    fn interrupts(&self, progress: &ResponderStatus) -> bool {
        let open = self.target.state != ACTIVE && progress.completion_time.is_none() && !self.end.reached();
        let heard =
            progress.start_time.as_ref().map(|start| progress.heartbeat_time.as_ref().unwrap_or(start));
        open && heard.is_some_and(|heard| nanos(self.now) < nanos(heard) + SILENCE - SKEW)
    }
}

/// `SortTargetResponders`: high priorities first, then by the labels of the domain from the top, then by the key.
fn order(a: &TargetResponder, b: &TargetResponder) -> Ordering {
    match (a.priority, b.priority) {
        (a, b) if a == b => {}
        (None, _) => return Ordering::Greater,
        (_, None) => return Ordering::Less,
        // As Go does, which wraps.
        (Some(a), Some(b)) => return b.wrapping_sub(a).cmp(&0),
    }
    fn parts(name: &str) -> (impl Iterator<Item = &str>, &str) {
        let (domain, key) = name.split_once('/').unwrap_or((name, ""));
        (domain.split('.').rev(), key)
    }
    let ((a, a_key), (b, b_key)) = (parts(&a.name), parts(&b.name));
    a.cmp(b).then_with(|| a_key.cmp(b_key))
}
