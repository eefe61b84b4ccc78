//! A node must have what the pod asks for; nodes are ranked by how much is left. Upstream:
//! plugins/noderesources/fit.go, least_allocated.go, most_allocated.go, requested_to_capacity_ratio.go.

use std::borrow::Cow;

use client::Meta;
use k8s_openapi::api::resource::v1::DeviceClass;
use smallvec::SmallVec;

use crate::config::{ResourceSpec, Shape};
use crate::framework::{
    Change, Code, CycleState, GroupView, MAX_SCORE, Offer, Plugin, Reject, Verdict, View,
};
use crate::model::backing::{implicit, is_extended, may_be_devices};
use crate::model::{Groups, NodeRow, PodInfo, Resources, WireNode};

pub const NAME: &str = "NodeResourcesFit";

/// How what is left is ranked.
#[derive(Clone, Debug)]
pub enum Strategy {
    Least,
    Most,
    Ratio(Vec<Shape>),
}

pub struct NodeResourcesFit {
    pub strategy: Strategy,
    pub resources: Vec<ResourceSpec>,
    pub ignored: Vec<String>,
    pub ignored_groups: Vec<String>,
}

impl NodeResourcesFit {
    fn ignores(&self, name: &str) -> bool {
        let group = name.split('/').next().unwrap_or_default();
        is_extended(name)
            && (self.ignored.iter().any(|i| i == name) || self.ignored_groups.iter().any(|g| g == group))
    }
}

/// Extended resources, huge pages and the like count only for pods that ask for them.
pub fn is_scalar(name: &str) -> bool {
    !matches!(name, "cpu" | "memory" | "ephemeral-storage")
}

fn insufficient(name: &str) -> Cow<'static, str> {
    match name {
        "cpu" => "Insufficient cpu".into(),
        "memory" => "Insufficient memory".into(),
        "ephemeral-storage" => "Insufficient ephemeral-storage".into(),
        other => format!("Insufficient {other}").into(),
    }
}

/// Whether a change concerns the node of a pod that is to grow there; it concerns every other pod.
fn concerns(pod: &PodInfo, node: Option<&str>) -> bool {
    !pod.deferred() || pod.node.as_deref() == node
}

impl Plugin for NodeResourcesFit {
    fn name(&self) -> &'static str {
        NAME
    }

    fn events(&self) -> &'static [&'static str] {
        &[
            "AssignedPodDelete",
            "AssignedPodUpdate",
            "DeviceClassAdd",
            "DeviceClassUpdate",
            "NodeAdd",
            "NodeUpdate",
            "TargetPodUpdate",
        ]
    }

    fn local_filter(&self) -> bool {
        true
    }

    fn local_score(&self) -> bool {
        true
    }

    fn filter(&self, view: View<'_>, _state: &CycleState, pod: &PodInfo, row: &NodeRow) -> Verdict {
        let mut reject = Reject { code: Code::Unschedulable, plugin: NAME, reasons: SmallVec::new() };
        if row.pods.len() as i64 + 1 > row.allowed_pods {
            reject.reasons.push("Too many pods".into());
        }
        let (want, has, taken) = (&pod.requests, &row.allocatable, &row.requested);
        // Of a pod that is there already only what it wants more counts. Upstream: adjustDeltasToAccomodateCacheDiscrepancy.
        let there = pod.node.as_ref().and_then(|_| row.pods.iter().find(|p| p.uid == pod.uid));
        let mut check = |name: &str, want: i64, has: i64, taken: i64| {
            let more = there.map_or(want, |p| (want - p.requests.get(name)).max(0));
            if want > 0 && more > has - taken {
                reject.reasons.push(insufficient(name));
                if want > has {
                    reject.code = Code::Unresolvable;
                }
            }
        };
        check("cpu", want.milli_cpu, has.milli_cpu, taken.milli_cpu);
        check("memory", want.memory, has.memory, taken.memory);
        check("ephemeral-storage", want.ephemeral, has.ephemeral, taken.ephemeral);
        for (name, amount) in want.scalars.iter().filter(|(n, a)| *a > 0 && !self.ignores(n)) {
            let (has, taken) = (has.get(name), taken.get(name));
            // DynamicResources looks for devices. Upstream: shouldDelegateResourceToDRA.
            if has <= 0 && view.cache.backing().class_of(name).is_some() {
                continue;
            }
            if there.is_none_or(|p| p.requests.get(name) < *amount) {
                check(name, *amount, has, taken);
            }
        }
        if reject.reasons.is_empty() { Ok(()) } else { Err(reject) }
    }

    fn score(&self, _view: View<'_>, _state: &CycleState, pod: &PodInfo, row: &NodeRow) -> i64 {
        let (mut sum, mut weights) = (0, 0);
        for spec in &self.resources {
            let want = pod.scored.get(&spec.name);
            let has = row.allocatable.get(&spec.name);
            if has == 0 || (want == 0 && is_scalar(&spec.name)) {
                continue;
            }
            let requested = row.ranked.get(&spec.name) + want;
            let part = match &self.strategy {
                Strategy::Least if requested > has => 0,
                Strategy::Least => (has - requested) * MAX_SCORE / has,
                Strategy::Most => requested.min(has) * MAX_SCORE / has,
                Strategy::Ratio(shape) => ratio(shape, requested, has),
            };
            // A ratio of 0 does not count, as upstream: buildRequestedToCapacityRatioScorerFunction.
            if matches!(self.strategy, Strategy::Ratio(_)) && part <= 0 {
                continue;
            }
            sum += part * spec.weight;
            weights += spec.weight;
        }
        if weights == 0 {
            return 0;
        }
        if matches!(self.strategy, Strategy::Ratio(_)) {
            return (sum as f64 / weights as f64).round() as i64;
        }
        sum / weights
    }

    /// How much of the placement would be used, whatever nodes are ranked by. Upstream: scorePlacement.
    fn score_placement(&self, view: View<'_>, _group: &GroupView, offer: &Offer<'_>) -> i64 {
        let (mut sum, mut weights) = (0, 0);
        for spec in &self.resources {
            let mut requested: i64 = offer.pods.iter().map(|pod| pod.scored.get(&spec.name)).sum();
            if requested == 0 && is_scalar(&spec.name) {
                continue;
            }
            let mut has = 0;
            let rows = view.cache.rows().filter(|row| offer.placement.contains(row));
            for row in rows.filter(|row| row.allocatable.get(&spec.name) != 0) {
                has += row.allocatable.get(&spec.name);
                requested += row.ranked.get(&spec.name);
            }
            if has != 0 {
                sum += requested.min(has) * MAX_SCORE / has * spec.weight;
                weights += spec.weight;
            }
        }
        if weights == 0 { 0 } else { sum / weights }
    }

    fn wakes(&self, change: &Change<'_>, pod: &PodInfo, _groups: &Groups) -> bool {
        match change {
            Change::NodeAdded(node) => {
                concerns(pod, Some(&node.metadata.name))
                    && fits_alone(pod, &NodeRow::of(std::sync::Arc::new((*node).clone())))
            }
            Change::NodeUpdated { old, new } => {
                concerns(pod, Some(&new.metadata.name))
                    && old.status.allocatable != new.status.allocatable
                    && {
                        let row = |n: &WireNode| NodeRow::of(std::sync::Arc::new(n.clone()));
                        let (old, new) = (row(old), row(new));
                        fits_alone(pod, &new) && offers_more(pod, &old, &new)
                    }
            }
            Change::PodGone(gone) => concerns(pod, gone.node.as_deref()),
            Change::DeviceClass { old, new } => {
                let named = |c: &DeviceClass| c.spec.as_ref().and_then(|s| s.extended_resource_name.clone());
                let before = old.map(named);
                let asks = |name: &str| pod.requests.scalars.iter().any(|(n, _)| **n == *name);
                before.is_none() && asks(&implicit(new.name()))
                    || before != Some(named(new)) && named(new).is_some_and(|name| asks(&name))
            }
            Change::PodChanged { old, new } => {
                concerns(pod, new.node.as_deref())
                    && (shrank(&old.requests, &new.requests)
                        || pod.deferred() && shrank(&new.requests, &old.requests))
            }
            Change::Itself { old, new } => {
                shrank(&old.requests, &new.requests) || pod.deferred() && shrank(&new.requests, &old.requests)
            }
            _ => false,
        }
    }
}

/// Upstream: isFit.
fn fits_alone(pod: &PodInfo, row: &NodeRow) -> bool {
    row.allowed_pods > 0 && covers(&row.allocatable, &pod.requests)
}

/// Upstream: haveAnyRequestedResourcesIncreased.
fn offers_more(pod: &PodInfo, old: &NodeRow, new: &NodeRow) -> bool {
    let (a, b, want) = (&old.allocatable, &new.allocatable, &pod.requests);
    new.allowed_pods > old.allowed_pods
        || (want.milli_cpu > 0 && b.milli_cpu > a.milli_cpu)
        || (want.memory > 0 && b.memory > a.memory)
        || (want.ephemeral > 0 && b.ephemeral > a.ephemeral)
        || want.scalars.iter().any(|(n, amount)| *amount > 0 && b.get(n) > a.get(n))
}

fn shrank(old: &Resources, new: &Resources) -> bool {
    new.milli_cpu < old.milli_cpu
        || new.memory < old.memory
        || new.ephemeral < old.ephemeral
        || old.scalars.iter().any(|(n, amount)| new.get(n) < *amount)
}

fn covers(has: &Resources, want: &Resources) -> bool {
    has.milli_cpu >= want.milli_cpu
        && has.memory >= want.memory
        && has.ephemeral >= want.ephemeral
        && want.scalars.iter().all(|(n, a)| has.get(n) >= *a || has.get(n) == 0 && may_be_devices(n))
}

/// Upstream: plugins/helper/shape_score.go; scores of the shape are out of 10.
pub fn ratio(shape: &[Shape], requested: i64, has: i64) -> i64 {
    let used = if has == 0 || requested > has { MAX_SCORE } else { requested * MAX_SCORE / has };
    let score = |s: &Shape| i64::from(s.score) * (MAX_SCORE / 10);
    let mut before: Option<&Shape> = None;
    for point in shape {
        if used <= i64::from(point.utilization) {
            return match before {
                None => score(point),
                Some(b) => {
                    let (from, to) = (i64::from(b.utilization), i64::from(point.utilization));
                    score(b) + (score(point) - score(b)) * (used - from) / (to - from).max(1)
                }
            };
        }
        before = Some(point);
    }
    shape.last().map_or(0, score)
}
