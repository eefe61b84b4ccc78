//! What a ReplicaSet needs next. Pure.
//! Upstream: pkg/controller/replicaset/replica_set.go manageReplicas, replica_set_utils.go calculateStatus.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use machinery::labels::Selector;

use crate::kept::Pod;
use crate::pods;

/// Most pods made or deleted in one round.
pub const BURST: usize = 500;

/// Everything a decision depends on.
pub struct View<'a> {
    pub set: &'a ReplicaSet,
    /// The set's own pods.
    pub count: Count,
    /// The active ones of them. Needed when there are too many.
    pub active: &'a [Arc<Pod>],
    /// Active pods of all sets of the same owner: says which nodes are crowded. Needed when there are too many pods.
    pub related: &'a [Arc<Pod>],
    /// All earlier creations and deletions have been seen.
    pub settled: bool,
}

/// A set's own pods in numbers.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    pub active: usize,
    /// Of the active ones: with all labels of the template.
    pub labelled: usize,
    pub ready: usize,
    pub available: usize,
    /// Those that are being deleted.
    pub terminating: usize,
}

impl Count {
    pub fn of(set: &ReplicaSet, active: &[Arc<Pod>], terminating: usize, now: Timestamp) -> Self {
        let (labels, min_ready) = (template_labels(set), min_ready_seconds(set));
        let count = |test: &dyn Fn(&Pod) -> bool| active.iter().filter(|p| test(p)).count();
        Self {
            active: active.len(),
            labelled: count(&|p| labels.matches(&p.metadata.labels)),
            ready: count(&pods::is_ready),
            available: count(&|p| pods::is_available(p, min_ready, now)),
            terminating,
        }
    }
}

/// Selects pods with all labels of the template.
pub fn template_labels(set: &ReplicaSet) -> Selector {
    let template = set.spec.template.as_ref().and_then(|t| t.metadata.as_ref());
    Selector::from_set(template.and_then(|m| m.labels.as_ref()).into_iter().flatten())
}

/// What to do with pods.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    Nothing,
    Create(usize),
    /// Names, in the order of deletion.
    Delete(Vec<String>),
}

/// Decides. Nothing while earlier decisions are unsettled or the set is going away.
pub fn plan(view: &View<'_>, now: Timestamp) -> Action {
    if !view.settled || view.set.metadata.deletion_timestamp.is_some() {
        return Action::Nothing;
    }
    let (have, want) = (view.count.active, replicas(view.set));
    if have < want {
        return Action::Create((want - have).min(BURST));
    }
    let surplus = (have - want).min(BURST);
    if surplus == 0 {
        return Action::Nothing;
    }
    Action::Delete(victims(view, surplus, now))
}

/// Wanted number of pods.
pub fn replicas(set: &ReplicaSet) -> usize {
    let wanted = set.spec.replicas.unwrap_or(1);
    usize::try_from(wanted).unwrap_or(0)
}

/// The least useful pods. Of several as good ones, those on the nodes with most pods of the same owner go first.
fn victims(view: &View<'_>, count: usize, now: Timestamp) -> Vec<String> {
    let mut on_node: HashMap<&str, usize> = HashMap::new();
    for pod in view.related.iter().filter(|p| pods::is_active(p)) {
        *on_node.entry(pods::node_name(pod)).or_default() += 1;
    }
    let rank = |pod: &Pod| on_node.get(pods::node_name(pod)).copied().unwrap_or(0);
    let mut all: Vec<&Arc<Pod>> = view.active.iter().collect();
    if count < all.len() {
        all.sort_by(|a, b| pods::deletion_order((a, rank(a)), (b, rank(b)), now));
    }
    all.iter().take(count).map(|p| p.name().to_string()).collect()
}

/// The status that the pods amount to. `failure` is what creating or deleting ran into.
pub fn status(view: &View<'_>, failure: Option<&str>, now: Timestamp) -> ReplicaSetStatus {
    let mut status = view.set.status.clone().unwrap_or_default();
    status.replicas = number(view.count.active);
    status.fully_labeled_replicas = Some(number(view.count.labelled));
    status.ready_replicas = Some(number(view.count.ready));
    status.available_replicas = Some(number(view.count.available));
    status.terminating_replicas = Some(number(view.count.terminating));
    note_failure(&mut status, view, failure, now);
    status
}

fn note_failure(status: &mut ReplicaSetStatus, view: &View<'_>, failure: Option<&str>, now: Timestamp) {
    const KIND: &str = "ReplicaFailure";
    let known = status.conditions.iter().flatten().any(|c| c.type_.as_deref() == Some(KIND));
    match failure {
        Some(message) if !known => {
            let reason = match view.count.active.cmp(&replicas(view.set)) {
                std::cmp::Ordering::Less => Some("FailedCreate".to_string()),
                std::cmp::Ordering::Greater => Some("FailedDelete".to_string()),
                std::cmp::Ordering::Equal => None,
            };
            status.conditions.get_or_insert_default().push(ReplicaSetCondition {
                type_: Some(KIND.to_string()),
                status: Some("True".to_string()),
                last_transition_time: Some(Time(now)),
                reason,
                message: Some(message.to_string()),
            });
        }
        None if known => {
            let rest: Vec<_> = status
                .conditions
                .take()
                .into_iter()
                .flatten()
                .filter(|c| c.type_.as_deref() != Some(KIND))
                .collect();
            status.conditions = (!rest.is_empty()).then_some(rest);
        }
        _ => {}
    }
}

/// Seconds a pod must have been ready to count as available.
pub fn min_ready_seconds(set: &ReplicaSet) -> i32 {
    set.spec.min_ready_seconds.unwrap_or(0)
}

/// The status says something that the stored one does not. A count that is absent is zero.
pub fn differs(old: &ReplicaSetStatus, new: &ReplicaSetStatus) -> bool {
    let counts = |s: &ReplicaSetStatus| {
        (
            s.replicas,
            s.fully_labeled_replicas.unwrap_or(0),
            s.ready_replicas.unwrap_or(0),
            s.available_replicas.unwrap_or(0),
            s.terminating_replicas,
            s.observed_generation.unwrap_or(0),
        )
    };
    counts(old) != counts(new) || old.conditions.iter().flatten().ne(new.conditions.iter().flatten())
}

fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
