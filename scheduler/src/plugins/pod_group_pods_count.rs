//! Prefers placements that take more of a group's pods, those that have a node already included.
//! Upstream: plugins/podgrouppodscount/podgroup_pods_count.go.

use crate::framework::{GroupView, MAX_SCORE, Offer, Plugin, View};

pub const NAME: &str = "PodGroupPodsCount";

pub struct PodGroupPodsCount;

impl Plugin for PodGroupPodsCount {
    fn name(&self) -> &'static str {
        NAME
    }

    fn score_placement(&self, _view: View<'_>, group: &GroupView, offer: &Offer<'_>) -> i64 {
        i64::try_from(group.scheduled.len() + offer.pods.len()).unwrap_or(i64::MAX)
    }

    /// The fewest that the group needs do not count: small differences stay small.
    fn normalize_placements(&self, scores: &mut [i64]) -> Result<(), String> {
        let most = scores.iter().copied().max().unwrap_or(0);
        if most <= 0 {
            let why = "no pods from pod group are assigned to any of the candidate placements";
            return Err(why.into());
        }
        scores.iter_mut().for_each(|score| *score = *score * MAX_SCORE / most);
        Ok(())
    }
}
