//! Prefers nodes whose resources the pod makes more evenly used. Upstream:
//! plugins/noderesources/balanced_allocation.go.

use smallvec::SmallVec;

use super::node_resources_fit::is_scalar;
use crate::config::ResourceSpec;
use crate::framework::{CycleState, MAX_SCORE, Plugin, View};
use crate::model::{NodeRow, PodInfo};

pub const NAME: &str = "NodeResourcesBalancedAllocation";

pub struct BalancedAllocation {
    pub resources: Vec<ResourceSpec>,
}

impl Plugin for BalancedAllocation {
    fn name(&self) -> &'static str {
        NAME
    }

    fn local_score(&self) -> bool {
        true
    }

    /// A pod that asks for nothing balances nothing.
    fn pre_score(
        &self,
        _view: View<'_>,
        _state: &mut CycleState,
        pod: &PodInfo,
        _nodes: &[&NodeRow],
    ) -> bool {
        self.resources.iter().any(|r| pod.requests.get(&r.name) != 0)
    }

    fn score(&self, _view: View<'_>, _state: &CycleState, pod: &PodInfo, row: &NodeRow) -> i64 {
        let mut with: SmallVec<[f64; 4]> = SmallVec::new();
        let mut without: SmallVec<[f64; 4]> = SmallVec::new();
        for spec in &self.resources {
            let want = pod.requests.get(&spec.name);
            let has = row.allocatable.get(&spec.name);
            if has == 0 || (want == 0 && is_scalar(&spec.name)) {
                continue;
            }
            let taken = row.requested.get(&spec.name);
            with.push(((taken + want) as f64 / has as f64).min(1.0));
            without.push((taken as f64 / has as f64).min(1.0));
        }
        MAX_SCORE / 2 + (MAX_SCORE / 2 + evenness(&with) - evenness(&without)) / 2
    }
}

/// 100 for equal fractions, less for a larger standard deviation.
fn evenness(fractions: &[f64]) -> i64 {
    let deviation = match fractions {
        [a, b] => ((a - b) / 2.0).abs(),
        [_, _, ..] => {
            let n = fractions.len() as f64;
            let mean = fractions.iter().sum::<f64>() / n;
            (fractions.iter().map(|f| (f - mean) * (f - mean)).sum::<f64>() / n).sqrt()
        }
        _ => 0.0,
    };
    ((1.0 - deviation) * MAX_SCORE as f64) as i64
}
