//! What a rule's status says of its evictions. Pure. Upstream: device_taint_eviction.go (`maybeUpdateRuleStatus`).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use client::Meta;
use jiff::Timestamp;
use k8s_openapi::api::resource::v1::{
    DeviceTaintRule as Rule, ResourceClaim as Claim, ResourceSlice as Slice,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::plan::{NO_EXECUTE, View, allocated, of_pod, selects};
use crate::kept::Pod;

/// The least time between two updates of a status.
pub const PERIOD: Duration = Duration::from_secs(10);
pub const IN_PROGRESS: &str = "EvictionInProgress";
/// A rule that only tells what it would do.
pub const DRY: &str = "None";

/// What a rule does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Devices that are offered.
    pub offered: usize,
    /// Devices in use.
    pub in_use: usize,
    pub pods: usize,
    pub namespaces: usize,
    /// Pods that this controller evicted because of it.
    pub evicted: u64,
}

fn existing(rule: &Rule) -> Option<&Condition> {
    let all = rule.status.as_ref().and_then(|s| s.conditions.as_ref());
    all.into_iter().flatten().find(|c| c.type_ == IN_PROGRESS)
}

/// How long to leave the status as it is.
pub fn wait(rule: &Rule, now: Timestamp) -> Option<Duration> {
    let old = existing(rule)?;
    let age = Duration::try_from(now.duration_since(old.last_transition_time.0)).unwrap_or_default();
    let same = old.observed_generation.unwrap_or(0) == rule.metadata.generation.unwrap_or(0);
    PERIOD.checked_sub(age).filter(|left| same && !left.is_zero())
}

/// Counts the pods that leave because of a rule, or would. With `DRY` the view has the rule alone, in effect.
pub fn count_pods<'p>(rule: &Rule, pods: impl Iterator<Item = &'p Arc<Pod>>, view: &View<'_>) -> Counts {
    let mut counts = Counts::default();
    let mut namespaces = BTreeSet::new();
    for pod in pods.filter(|p| p.metadata.deletion_timestamp.is_none()) {
        let because = of_pod(pod, view).is_some_and(|e| e.rules().any(|(_, uid)| uid == rule.uid()));
        if because {
            counts.pods += 1;
            namespaces.insert(pod.namespace());
        }
    }
    counts.namespaces = namespaces.len();
    counts
}

/// Counts the devices a rule is about, in slices that count and in allocations.
pub fn count_devices<'s>(
    rule: &Rule,
    slices: impl Iterator<Item = &'s Arc<Slice>>,
    claims: &[Arc<Claim>],
    counts: &mut Counts,
) {
    let of_slice = |s: &Arc<Slice>| {
        let devices = s.spec.devices.iter().flatten();
        devices.filter(|d| selects(rule, &s.spec.driver, &s.spec.pool.name, &d.name)).count()
    };
    counts.offered = slices.map(of_slice).sum();
    let in_use = claims.iter().flat_map(|c| allocated(c));
    counts.in_use = in_use.filter(|a| selects(rule, &a.driver, &a.pool, &a.device)).count();
}

fn plural(n: u64, one: &str, many: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {many}") }
}

fn describe(rule: &Rule, counts: &Counts) -> (bool, &'static str, String) {
    let places = |counts: &Counts| plural(counts.namespaces as u64, "namespace", "different namespaces");
    match rule.spec.taint.effect.as_str() {
        NO_EXECUTE if counts.pods > 0 => {
            let pods = plural(counts.pods as u64, "pod needs", "pods need");
            (true, "PodsPendingEviction", format!("{pods} to be evicted in {}.", places(counts)))
        }
        NO_EXECUTE if counts.evicted > 0 => (false, "Completed", String::new()),
        NO_EXECUTE => (false, "NotStarted", String::new()),
        DRY => {
            let offered =
                plural(counts.offered as u64, "published device selected", "published devices selected");
            let in_use =
                plural(counts.in_use as u64, "allocated device selected", "allocated devices selected");
            let pods = plural(counts.pods as u64, "pod would be evicted", "pods would be evicted");
            let message = format!(
                "{offered}. {in_use}. {pods} in {} if the effect was NoExecute. This information will not be updated again. Recreate the DeviceTaintRule to trigger an update.",
                places(counts)
            );
            (false, "NoEffect", message)
        }
        _ => (false, "OtherEffect", "Eviction only happens for the NoExecute effect.".to_owned()),
    }
}

/// The condition to set, if it says anything new.
pub fn condition(rule: &Rule, counts: &Counts, now: Timestamp) -> Option<Condition> {
    let (in_progress, reason, mut message) = describe(rule, counts);
    if counts.evicted > 0 {
        let space = if message.is_empty() { "" } else { " " };
        message += &format!(
            "{space}{} evicted since starting the controller.",
            plural(counts.evicted, "pod", "pods")
        );
    }
    let old = existing(rule);
    let new = Condition {
        type_: IN_PROGRESS.to_owned(),
        status: if in_progress { "True" } else { "False" }.to_owned(),
        reason: reason.to_owned(),
        message,
        observed_generation: rule.metadata.generation,
        last_transition_time: old.map_or(Time(now), |c| c.last_transition_time.clone()),
    };
    (old != Some(&new)).then_some(Condition { last_transition_time: Time(now), ..new })
}
