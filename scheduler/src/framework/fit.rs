//! Why a pod fits nowhere, in upstream's words. Upstream: pkg/scheduler/framework/types.go FitError.Error.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::Reject;

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
    /// Refusals by node.
    pub nodes: BTreeMap<String, Reject>,
    /// Reason of nodes that were left out beforehand.
    pub absent: Option<String>,
    pub plugins: BTreeSet<&'static str>,
    /// What preemption said.
    pub post_filter: String,
}

impl Diagnosis {
    pub fn refuse(&mut self, node: &str, reject: Reject) {
        self.plugins.insert(reject.plugin);
        self.nodes.insert(node.to_string(), reject);
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
                let mut counts: BTreeMap<Cow<'_, str>, usize> = BTreeMap::new();
                for reason in self.nodes.values().flat_map(|r| &r.reasons) {
                    *counts.entry(Cow::Borrowed(reason.as_ref())).or_default() += 1;
                }
                if let Some(absent) = self.absent.as_deref().filter(|_| self.nodes.len() < self.all_nodes) {
                    *counts.entry(absent.into()).or_default() += self.all_nodes - self.nodes.len();
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
        d.refuse("a", Reject::unschedulable("F", "Insufficient cpu"));
        d.refuse("b", Reject::unschedulable("F", "Insufficient cpu"));
        d.refuse("c", Reject::unresolvable("T", "node(s) had untolerated taint(s)"));
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
