//! Which ranges a node gets, and which are in use. Pure.
//! Upstream: nodeipam/ipam/range_allocator.go (`allocateOrOccupyCIDR`, `occupyCIDRs`, `ReleaseCIDR`).

use std::collections::HashMap;

use client::Meta;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;

use super::ranges::Ranges;

/// What to do with a node.
#[derive(Debug, PartialEq, Eq)]
pub enum Plan {
    Nothing,
    /// One range of each family. The same ones until they have been written.
    Give(Vec<IpNet>),
    NoneLeft,
}

/// What is used and promised.
#[derive(Default)]
pub struct State {
    /// One per cluster range: first family, then second.
    ranges: Vec<Ranges>,
    /// Ranges that are being written, by node uid.
    promised: HashMap<String, Vec<IpNet>>,
}

fn cidrs(node: &Node) -> Vec<IpNet> {
    let texts = node.spec.as_ref().and_then(|s| s.pod_cidrs.as_deref()).unwrap_or_default();
    texts.iter().filter_map(|t| t.parse().ok()).collect()
}

impl State {
    pub fn new(ranges: Vec<Ranges>) -> Self {
        Self { ranges, promised: HashMap::new() }
    }

    /// Decides about a node, and remembers what it is given.
    pub fn plan(&mut self, node: &Node) -> Plan {
        if node.metadata.deletion_timestamp.is_some() {
            return Plan::Nothing;
        }
        if !cidrs(node).is_empty() {
            self.occupy(node);
            return Plan::Nothing;
        }
        self.promise(node).map_or(Plan::NoneLeft, Plan::Give)
    }

    /// Notes the ranges that a node has. A promise that somebody else forestalled is free again.
    pub fn occupy(&mut self, node: &Node) {
        let given = cidrs(node);
        if !given.is_empty() {
            let promised = self.promised.remove(node.uid()).unwrap_or_default();
            let unused = self.ranges.iter_mut().zip(&promised).filter(|(_, c)| !given.contains(c));
            unused.for_each(|(ranges, cidr)| ranges.release(cidr));
        }
        self.ranges.iter_mut().zip(&given).for_each(|(ranges, cidr)| ranges.occupy(cidr));
    }

    /// A node is gone: what it had, or was promised, is free.
    pub fn release(&mut self, node: &Node) {
        let promised = self.promised.remove(node.uid()).unwrap_or_default();
        let given = cidrs(node);
        let lost = if given.is_empty() { promised } else { given };
        self.ranges.iter_mut().zip(&lost).for_each(|(ranges, cidr)| ranges.release(cidr));
    }

    /// The ranges for a node; what is missing in one family is not taken from the other.
    fn promise(&mut self, node: &Node) -> Option<Vec<IpNet>> {
        if let Some(promised) = self.promised.get(node.uid()) {
            return Some(promised.clone());
        }
        let taken: Vec<Option<IpNet>> = self.ranges.iter_mut().map(Ranges::next).collect();
        let Some(cidrs) = taken.iter().cloned().collect::<Option<Vec<IpNet>>>() else {
            let back = self.ranges.iter_mut().zip(taken);
            back.for_each(|(ranges, cidr)| cidr.iter().for_each(|c| ranges.release(c)));
            return None;
        };
        self.promised.insert(node.uid().to_string(), cidrs.clone());
        Some(cidrs)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::scenario;

    fn node(name: &str, cidrs: &[IpNet]) -> Node {
        let texts: Vec<String> = cidrs.iter().map(ToString::to_string).collect();
        serde_json::from_value(json!({"metadata": {"name": name, "uid": name}, "spec": {"podCIDRs": texts}}))
            .expect("a node")
    }

    fn state(clusters: &[(&str, u8)]) -> State {
        let ranges = |(cluster, mask): &(&str, u8)| {
            Ranges::new(cluster.parse().expect("a range"), *mask).expect("ranges")
        };
        State::new(clusters.iter().map(ranges).collect())
    }

    /// What happens to nodes, in order.
    #[derive(serde::Deserialize)]
    enum Deed {
        /// Is looked at; what it is given is written.
        Comes(String),
        /// Is looked at; the write fails.
        Fails(String),
        /// Has these ranges, by somebody else.
        Has(String, Vec<String>),
        Goes(String),
    }

    #[test]
    fn scenarios() {
        scenario::check("nodeipam/testdata", |given| {
            let clusters: Vec<(String, u8)> = given.setting("clusters").expect("clusters");
            let clusters: Vec<(&str, u8)> = clusters.iter().map(|(c, mask)| (c.as_str(), *mask)).collect();
            let mut state = state(&clusters);
            let net = |text: &String| text.parse::<IpNet>().expect("a range");
            for services in given.setting::<Vec<String>>("services").unwrap_or_default() {
                state.ranges.iter_mut().for_each(|r| r.occupy(&net(&services)));
            }
            let mut has: BTreeMap<String, Vec<IpNet>> = BTreeMap::new();
            let mut out = String::new();
            for deed in given.setting::<Vec<Deed>>("deeds").expect("deeds") {
                let (name, written) = match &deed {
                    Deed::Comes(name) => (name, true),
                    Deed::Fails(name) => (name, false),
                    Deed::Has(name, cidrs) => {
                        has.insert(name.clone(), cidrs.iter().map(net).collect());
                        (name, true)
                    }
                    Deed::Goes(name) => {
                        state.release(&node(name, &has.remove(name).unwrap_or_default()));
                        out.push_str(&format!("{name} goes\n"));
                        continue;
                    }
                };
                let plan = state.plan(&node(name, has.get(name).map_or(&[], Vec::as_slice)));
                let failed = if written { "" } else { ", which fails" };
                let text = |all: &[IpNet]| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                match plan {
                    Plan::Nothing => {
                        let had = has.get(name).map_or(&[] as &[IpNet], Vec::as_slice);
                        out.push_str(&format!("{name} has {}\n", text(had)));
                    }
                    Plan::NoneLeft => out.push_str(&format!("{name} gets nothing, there is none left\n")),
                    Plan::Give(cidrs) => {
                        out.push_str(&format!("{name} is given {}{failed}\n", text(&cidrs)));
                        if written {
                            has.insert(name.clone(), cidrs);
                        }
                    }
                }
            }
            out
        });
    }

    proptest! {
        /// However nodes come, fail to be written and go: none shares a range with another, a node is given the same until
        /// it has it, and then nothing more; when all have gone, everything is free.
        #[test]
        fn plan_then_apply_settles(deeds in prop::collection::vec((0usize..6, 0u8..4), 0..60)) {
            let mut state = state(&[("10.0.0.0/22", 24), ("fd00::/62", 64)]);
            let mut has: BTreeMap<usize, Vec<IpNet>> = BTreeMap::new();
            let mut told: BTreeMap<usize, Vec<IpNet>> = BTreeMap::new();
            let name = |n: usize| format!("n{n}");
            for (n, what) in deeds {
                let known = node(&name(n), has.get(&n).map_or(&[], Vec::as_slice));
                if what == 0 {
                    state.release(&known);
                    has.remove(&n);
                    told.remove(&n);
                    continue;
                }
                match state.plan(&known) {
                    Plan::Nothing => prop_assert!(has.contains_key(&n)),
                    Plan::NoneLeft => prop_assert!(told.len() >= 4 && !told.contains_key(&n)),
                    Plan::Give(cidrs) => {
                        prop_assert!(!has.contains_key(&n));
                        prop_assert_eq!(cidrs.len(), 2);
                        let before = told.insert(n, cidrs.clone());
                        prop_assert!(before.is_none_or(|b| b == cidrs));
                        if what > 1 {
                            has.insert(n, cidrs);
                        }
                    }
                }
                let all: Vec<&IpNet> = told.values().flatten().collect();
                prop_assert!(all.iter().enumerate().all(|(i, c)| !all[..i].contains(c)), "{:?}", told);
            }
            for n in 0..6 {
                state.release(&node(&name(n), has.get(&n).map_or(&[], Vec::as_slice)));
            }
            let given = (0..9).filter(|n| matches!(state.plan(&node(&format!("m{n}"), &[])), Plan::Give(_)));
            prop_assert_eq!(given.count(), 4);
        }

        /// A node that has ranges, whoever gave them, is left alone, and nobody else gets them.
        #[test]
        fn a_satisfied_view_needs_nothing(third in 0u8..4) {
            let mut state = state(&[("10.0.0.0/22", 24)]);
            let own: IpNet = format!("10.0.{third}.0/24").parse().expect("a range");
            prop_assert_eq!(state.plan(&node("old", &[own])), Plan::Nothing);
            for n in 0..3 {
                let given = state.plan(&node(&format!("n{n}"), &[]));
                prop_assert!(given != Plan::Give(vec![own]));
            }
            prop_assert_eq!(state.plan(&node("late", &[])), Plan::NoneLeft);
        }
    }
}
