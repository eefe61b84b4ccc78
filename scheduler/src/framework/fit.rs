//! Why a pod fits nowhere, in upstream's words. Upstream: pkg/scheduler/framework/types.go FitError.Error.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Code, Refusal, Reject};

/// Text when there are no nodes at all.
pub const fn no_nodes() -> &'static str {
    "no nodes available to schedule pods"
}

/// Verdicts of an attempt that found no node.
#[derive(Clone, Debug, Default)]
pub struct Diagnosis {
    pub all_nodes: usize,
    /// Refused before nodes were looked at.
    pub pre_filter: Option<Reject>,
    /// Refusals by row.
    pub nodes: Vec<(usize, Arc<Reject>)>,
    /// Reason of nodes that were left out beforehand.
    pub absent: Option<String>,
    pub plugins: BTreeSet<&'static str>,
    /// What preemption said.
    pub post_filter: String,
}

impl Diagnosis {
    pub fn refuse(&mut self, row: usize, reject: Arc<Reject>) {
        self.nodes.push((row, reject));
    }

    /// Notes a refusal before nodes were looked at. Where several plugins left no node together, each of them is asked
    /// what could help; upstream: schedule_one.go findNodesThatFitPod.
    pub fn refuse_all(&mut self, refusal: Refusal) {
        if refusal.limited_by.is_empty() {
            self.plugins.insert(refusal.reject.plugin);
        }
        self.plugins.extend(refusal.limited_by);
        self.pre_filter = Some(refusal.reject);
    }

    /// Adds the plugins that refused nodes.
    pub fn blame(&mut self) {
        self.plugins.extend(self.nodes.iter().map(|(_, r)| r.plugin));
    }

    /// Verdict on a row.
    pub fn verdict(&self, row: usize) -> Option<&Reject> {
        self.pre_filter.as_ref().or_else(|| self.nodes.iter().find(|(at, _)| *at == row).map(|(_, r)| &**r))
    }

    /// Whether taking pods away could help where this verdict stands.
    pub fn could_help(reject: &Reject) -> bool {
        reject.code == Code::Unschedulable
    }

    /// (reason, how many nodes it refused), in no order. Equal verdicts are shared, so there are few to look at.
    fn reasons(&self) -> BTreeMap<&str, usize> {
        let mut shared: Vec<(&Arc<Reject>, usize)> = Vec::new();
        for (_, reject) in &self.nodes {
            match shared.iter_mut().rev().take(8).find(|(known, _)| Arc::ptr_eq(known, reject)) {
                Some((_, count)) => *count += 1,
                None => shared.push((reject, 1)),
            }
        }
        let mut counts = BTreeMap::new();
        for (reject, count) in shared {
            for reason in &reject.reasons {
                *counts.entry(reason.as_ref()).or_default() += count;
            }
        }
        counts
    }

    pub fn message(&self) -> String {
        let mut text = format!("0/{} nodes are available:", self.all_nodes);
        match &self.pre_filter {
            Some(reject) => {
                text.push(' ');
                text.push_str(&reject.reasons.join(", "));
                text.push('.');
            }
            None => {
                let mut counts = self.reasons();
                if let Some(absent) = self.absent.as_deref().filter(|_| self.nodes.len() < self.all_nodes) {
                    *counts.entry(absent).or_default() += self.all_nodes - self.nodes.len();
                }
                let mut parts: Vec<String> = counts.iter().map(|(r, n)| format!("{n} {r}")).collect();
                parts.sort();
                if !parts.is_empty() {
                    text.push(' ');
                    text.push_str(&parts.join(", "));
                    text.push('.');
                }
            }
        }
        if !self.post_filter.is_empty() {
            text.push(' ');
            text.push_str(&self.post_filter);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstreams_words() {
        let mut d = Diagnosis { all_nodes: 3, ..Diagnosis::default() };
        let cpu = Arc::new(Reject::unschedulable("F", "Insufficient cpu"));
        d.refuse(0, cpu.clone());
        d.refuse(1, cpu);
        d.refuse(2, Arc::new(Reject::unresolvable("T", "node(s) had untolerated taint(s)")));
        d.post_filter = "preemption: x".into();
        assert_eq!(
            d.message(),
            "0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 Insufficient cpu. preemption: x"
        );
        d.pre_filter = Some(Reject::unresolvable("V", "pod has unbound immediate PersistentVolumeClaims"));
        assert_eq!(
            d.message(),
            "0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims. preemption: x"
        );
    }
}
