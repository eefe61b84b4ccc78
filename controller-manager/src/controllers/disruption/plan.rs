//! What a disruption budget allows, and which marks on pods are out of date. Pure.
//! Upstream: pkg/controller/disruption/disruption.go, component-helpers/apps/poddisruptionbudget.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::PodCondition;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

use crate::controllers::shared::{count, fail_pod, scaled};
use crate::kept::{Pod, Second};
use crate::pods;

/// An evicted pod counts as gone for this long although its deletion has not been seen.
const DELETION: Duration = Duration::from_secs(2 * 60);
/// A pod marked for disruption that still runs after this time was not disrupted.
const STALE: Duration = Duration::from_secs(2 * 60);
const ALLOWED: &str = "DisruptionAllowed";
const TARGET: &str = "DisruptionTarget";

/// How many pods are expected and have to be healthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    pub expected: i32,
    pub healthy: i32,
}

/// The wanted numbers depend on the sizes of the pods' controllers.
pub fn needs_scale(spec: &PodDisruptionBudgetSpec) -> bool {
    spec.max_unavailable.is_some() || matches!(spec.min_available, Some(IntOrString::String(_)))
}

/// `scale` is the sum of the sizes, where it is needed. Upstream: getExpectedPodCount.
///
/// # Errors
/// A value that is no percentage.
pub fn wanted(spec: &PodDisruptionBudgetSpec, pods: usize, scale: i32) -> Result<Wanted, String> {
    Ok(match (&spec.max_unavailable, &spec.min_available) {
        (Some(most), _) => Wanted { expected: scale, healthy: (scale - scaled(most, scale, true)?).max(0) },
        (None, Some(IntOrString::Int(least))) => Wanted { expected: count(pods), healthy: *least },
        (None, Some(least)) => Wanted { expected: scale, healthy: scaled(least, scale, true)? },
        (None, None) => Wanted { expected: 0, healthy: 0 },
    })
}

/// Evicted pods that are not seen to be deleted yet.
#[derive(Debug, Default, PartialEq)]
pub struct Disrupted {
    pub pods: BTreeMap<String, Time>,
    /// When the first of them should be gone.
    pub look_again: Option<Duration>,
    /// Pods that should be gone and are not.
    pub survivors: Vec<Arc<Pod>>,
}

/// Upstream: buildDisruptedPodMap.
pub fn disrupted(budget: &PodDisruptionBudget, all: &[Arc<Pod>], now: Timestamp) -> Disrupted {
    let noted = budget.status.as_ref().and_then(|s| s.disrupted_pods.clone()).unwrap_or_default();
    let mut out = Disrupted::default();
    for pod in all.iter().filter(|p| !pods::is_deleted(p)) {
        let Some((name, since)) = noted.get_key_value(pod.name()) else {
            continue;
        };
        match left(since.0, DELETION, now) {
            None => out.survivors.push(pod.clone()),
            Some(wait) => {
                out.look_again = Some(out.look_again.map_or(wait, |w| w.min(wait)));
                out.pods.insert(name.clone(), since.clone());
            }
        }
    }
    out
}

/// What is left of a time span; `None` when it is over.
fn left(since: Timestamp, span: Duration, now: Timestamp) -> Option<Duration> {
    let end = since.checked_add(span).ok()?;
    Duration::try_from(end.duration_since(now)).ok()
}

/// Pods that serve and are not about to go. Upstream: countHealthyPods.
pub fn healthy(all: &[Arc<Pod>], disrupted: &Disrupted) -> i32 {
    let leaving = |p: &Pod| disrupted.pods.contains_key(p.name());
    count(all.iter().filter(|p| !pods::is_deleted(p) && !leaving(p) && pods::is_ready(p)).count())
}

/// The status; `None` when the stored one says the same. Upstream: updatePdbStatus.
pub fn status(
    budget: &PodDisruptionBudget,
    wanted: Wanted,
    healthy: i32,
    disrupted: BTreeMap<String, Time>,
    now: Timestamp,
) -> Option<PodDisruptionBudgetStatus> {
    let old = budget.status.clone().unwrap_or_default();
    // Without expected pods nothing is allowed: the first ones may be there before this controller sees them.
    let allowed = if wanted.expected > 0 { (healthy - wanted.healthy).max(0) } else { 0 };
    let disrupted = (!disrupted.is_empty()).then_some(disrupted);
    let generation = budget.metadata.generation;
    let counts = |s: &PodDisruptionBudgetStatus| {
        [s.current_healthy, s.desired_healthy, s.expected_pods, s.disruptions_allowed].map(|n| n.unwrap_or(0))
    };
    let mut new = PodDisruptionBudgetStatus {
        current_healthy: Some(healthy),
        desired_healthy: Some(wanted.healthy),
        expected_pods: Some(wanted.expected),
        disruptions_allowed: Some(allowed),
        disrupted_pods: disrupted,
        observed_generation: generation,
        conditions: old.conditions.clone(),
    };
    let same_pods =
        old.disrupted_pods.clone().unwrap_or_default() == new.disrupted_pods.clone().unwrap_or_default();
    let observed = old.observed_generation.unwrap_or(0) == generation.unwrap_or(0);
    let (word, reason) = if allowed > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    let told =
        old.conditions.iter().flatten().any(|c| c.type_ == ALLOWED && c.status == word && c.reason == reason);
    if counts(&old) == counts(&new) && same_pods && observed && told {
        return None;
    }
    tell(&mut new, word, reason, "", now);
    Some(new)
}

/// The status when nothing could be worked out: nothing is allowed. Upstream: failSafe.
pub fn fail_safe(budget: &PodDisruptionBudget, why: &str, now: Timestamp) -> PodDisruptionBudgetStatus {
    let mut status = budget.status.clone().unwrap_or_default();
    status.disruptions_allowed = Some(0);
    tell(&mut status, "False", "SyncFailed", why, now);
    status
}

/// Sets the condition; the transition time moves only with the status.
fn tell(status: &mut PodDisruptionBudgetStatus, word: &str, reason: &str, message: &str, now: Timestamp) {
    let observed = status.observed_generation;
    let all = status.conditions.get_or_insert_default();
    let mut new = Condition {
        type_: ALLOWED.to_string(),
        status: word.to_string(),
        reason: reason.to_string(),
        message: message.to_string(),
        observed_generation: observed,
        last_transition_time: Time(now),
    };
    match all.iter_mut().find(|c| c.type_ == ALLOWED) {
        None => all.push(new),
        Some(old) => {
            if old.status == new.status {
                new.last_transition_time = old.last_transition_time.clone();
            }
            *old = new;
        }
    }
}

/// How long until a pod's mark counts as out of date; `None` when there is no mark that can be.
/// Upstream: nonTerminatingPodHasStaleDisruptionCondition.
pub fn stale_after(pod: &Pod, now: Timestamp) -> Option<Duration> {
    let mark = pods::condition(pod, TARGET).filter(|c| c.status == "True")?;
    // The kubelet's own marks may precede the end by any time.
    let own = mark.reason.as_deref() == Some("TerminationByKubelet");
    if own || pods::is_deleted(pod) || pods::is_terminal(pod) {
        return None;
    }
    let since = mark.last_transition_time.map_or(Timestamp::UNIX_EPOCH, Second::at);
    Some(left(since, STALE, now).unwrap_or_default())
}

/// The condition that takes the mark back; nothing if it is taken back already.
pub fn clear_mark(pod: &Pod, now: Timestamp) -> Option<Value> {
    let generation =
        pods::condition(pod, TARGET).and_then(|c| c.observed_generation).and(pod.metadata.generation);
    let cleared = PodCondition {
        type_: TARGET.to_string(),
        status: "False".to_string(),
        observed_generation: generation,
        ..PodCondition::default()
    };
    fail_pod::condition(pod, cleared, now)
}

/// A selector as Go prints it.
pub fn show(selector: Option<&LabelSelector>) -> String {
    let Some(selector) = selector else { return "nil".to_string() };
    let labels = selector.match_labels.iter().flatten().map(|(k, v)| format!("{k}: {v},"));
    let expressions = selector.match_expressions.iter().flatten().map(|e| {
        let values = e.values.as_deref().unwrap_or_default().join(" ");
        format!("{{{} {} [{values}]}},", e.key, e.operator)
    });
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{}}},MatchExpressions:[]LabelSelectorRequirement{{{}}},}}",
        labels.collect::<String>(),
        expressions.collect::<String>()
    )
}
