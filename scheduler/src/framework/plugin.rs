//! The extension points. A plugin implements those it has; [`super::Points`] says which ones run.

use std::borrow::Cow;
use std::collections::BTreeSet;

use smallvec::{SmallVec, smallvec};

use super::{Change, CycleState, GroupView, Offer, Placement, View};
use crate::listers::Listers;
use crate::model::{Cache, Groups, NodeRow, PodInfo};

/// Whether taking pods away could help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    Unschedulable,
    /// Upstream: UnschedulableAndUnresolvable.
    Unresolvable,
    /// Something is wrong: the attempt fails and is made again. Upstream: Error.
    Error,
}

/// A plugin's no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    pub code: Code,
    pub plugin: &'static str,
    pub reasons: SmallVec<[Cow<'static, str>; 1]>,
}

impl Reject {
    pub fn unschedulable(plugin: &'static str, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { code: Code::Unschedulable, plugin, reasons: smallvec![reason.into()] }
    }

    pub fn error(plugin: &'static str, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { code: Code::Error, plugin, reasons: smallvec![reason.into()] }
    }

    pub fn unresolvable(plugin: &'static str, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { code: Code::Unresolvable, plugin, reasons: smallvec![reason.into()] }
    }
}

pub type Verdict = Result<(), Reject>;

/// Answer of a plugin before nodes are looked at.
pub enum PreFilter {
    /// This plugin has nothing to say about the pod on any node.
    Skip,
    /// Every node is to be looked at.
    All,
    /// Only these can do.
    Nodes(BTreeSet<String>),
    /// None can.
    Reject(Reject),
}

/// How far an attempt to place a group has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Pods that have a node, from earlier or in this attempt.
    pub scheduled: usize,
    /// Pods that are still to be tried.
    pub remaining: usize,
}

/// Whether what a group's attempt has placed is enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Feasibility {
    Yes,
    /// More of its pods must be placed.
    NotYet(String),
    /// It cannot be any more.
    No(String),
}

/// A plugin.
pub trait Plugin: Send + Sync {
    fn name(&self) -> &'static str;

    /// Whether [`Plugin::filter`] reads nothing but the row and what the pod wants. Such verdicts are kept until the
    /// row changes, for all pods that want the same.
    fn local_filter(&self) -> bool {
        false
    }

    /// The same of [`Plugin::score`].
    fn local_score(&self) -> bool {
        false
    }

    /// Makes known to the cache what a cycle about the pod will ask it.
    fn prepare(&self, _cache: &mut Cache, _listers: &Listers, _pod: &PodInfo) {}

    /// Whether the pod may be queued at all.
    fn pre_enqueue(&self, _listers: &Listers, _groups: &Groups, _pod: &PodInfo) -> Verdict {
        Ok(())
    }

    /// Whether an attempt to place a group has placed enough. Upstream: PlacementFeasible.
    fn placement_feasible(&self, _group: &GroupView, _progress: Progress) -> Feasibility {
        Feasibility::Yes
    }

    /// Where a group could go, within the nodes that may be looked at. Upstream: GeneratePlacements.
    fn placements(&self, view: View<'_>, _group: &GroupView) -> Result<Vec<Placement>, Reject> {
        Ok(vec![Placement::new("", view.rows())])
    }

    /// Upstream: ScorePlacement.
    fn score_placement(&self, _view: View<'_>, _group: &GroupView, _offer: &Offer<'_>) -> i64 {
        0
    }

    /// Upstream: NormalizePlacementScore.
    fn normalize_placements(&self, _scores: &mut [i64]) -> Result<(), String> {
        Ok(())
    }

    fn pre_filter(&self, _view: View<'_>, _pod: &PodInfo, _state: &mut CycleState) -> PreFilter {
        PreFilter::All
    }

    fn filter(&self, _view: View<'_>, _state: &CycleState, _pod: &PodInfo, _row: &NodeRow) -> Verdict {
        Ok(())
    }

    /// Whether a pod may be bound where it fits.
    fn permit(&self, _pod: &PodInfo) -> Verdict {
        Ok(())
    }

    /// Follows a tried-out change: `other` comes to (`delta` 1) or leaves (-1) `row`.
    fn adjust(
        &self,
        _view: View<'_>,
        _state: &mut CycleState,
        _pod: &PodInfo,
        _other: &PodInfo,
        _row: &NodeRow,
        _delta: i64,
    ) {
    }

    /// False: scores of this plugin do not count for this pod.
    fn pre_score(
        &self,
        _view: View<'_>,
        _state: &mut CycleState,
        _pod: &PodInfo,
        _nodes: &[&NodeRow],
    ) -> bool {
        true
    }

    /// False: every score would be 0.
    fn scores(&self, _view: View<'_>, _pod: &PodInfo) -> bool {
        true
    }

    fn score(&self, _view: View<'_>, _state: &CycleState, _pod: &PodInfo, _row: &NodeRow) -> i64 {
        0
    }

    fn normalize(&self, _state: &CycleState, _nodes: &[&NodeRow], _scores: &mut [i64]) {}

    /// Names of the events after which pods that this plugin refused are looked at again. Upstream: EventsToRegister.
    fn events(&self) -> &'static [&'static str] {
        &[]
    }

    /// Whether a change may make a pod fit that this plugin refused.
    fn wakes(&self, _change: &Change<'_>, _pod: &PodInfo, _groups: &Groups) -> bool {
        true
    }
}

/// Scales to 0..=100. Upstream: plugins/helper/normalize_score.go.
pub fn default_normalize(scores: &mut [i64], reverse: bool) {
    let highest = scores.iter().copied().max().unwrap_or(0).max(0);
    for score in scores {
        let scaled = if highest == 0 { 0 } else { super::MAX_SCORE * *score / highest };
        *score = if reverse {
            super::MAX_SCORE - scaled
        } else if highest == 0 {
            *score
        } else {
            scaled
        };
    }
}
