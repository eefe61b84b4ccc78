//! What is done with a choice that is not the best. Upstream: policy_*.go in pkg/kubelet/cm/topologymanager, v1.37.

use std::collections::BTreeMap;

use super::hint::{Hint, Mask};
use super::merge::{Merged, NumaInfo, merge};
use crate::cpumanager::options::parse_bool;

/// The policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing is kept together.
    None,
    /// The best choice, whatever it is.
    BestEffort,
    /// Only a choice than which there is no better one on this machine.
    Restricted,
    /// Only one node.
    SingleNumaNode,
}

/// More nodes than this need too much time, as sets of them are tried one by one.
const MAX_NODES: usize = 8;
/// Nodes that a set can hold at all.
const MASK_NODES: u32 = 64;
const CLOSEST: &str = "prefer-closest-numa-nodes";
const MAX_ALLOWABLE: &str = "max-allowable-numa-nodes";

/// Options of all policies. Upstream: policy_options.go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyOptions {
    closest: bool,
    max_nodes: usize,
}

impl PolicyOptions {
    /// Reads the options.
    ///
    /// # Errors
    /// The first problem.
    pub fn parse(given: &BTreeMap<String, String>) -> Result<Self, String> {
        let mut out = Self { closest: false, max_nodes: MAX_NODES };
        for (name, text) in given {
            match name.as_str() {
                CLOSEST => out.closest = parse_bool(name, text)?,
                MAX_ALLOWABLE => {
                    out.max_nodes = text.parse().map_err(|_| {
                        format!("unable to convert policy option to integer {name:?}: strconv.Atoi: parsing {text:?}: invalid syntax")
                    })?;
                    if out.max_nodes < MAX_NODES {
                        return Err(format!(
                            "the minimum value of {name:?} should not be less than {MAX_NODES}"
                        ));
                    }
                }
                _ => return Err(format!("unknown Topology Manager Policy option: {name:?}")),
            }
        }
        Ok(out)
    }
}

/// A policy on one machine.
#[derive(Clone, Debug)]
pub struct Policy {
    kind: Kind,
    info: NumaInfo,
}

impl Policy {
    /// The policy that does nothing.
    pub fn none() -> Self {
        Self { kind: Kind::None, info: NumaInfo::default() }
    }

    /// A policy by name.
    ///
    /// # Errors
    /// If there is no such policy or the machine has too many nodes.
    pub fn new(name: &str, options: PolicyOptions, nodes: &BTreeMap<u32, Vec<u64>>) -> Result<Self, String> {
        if options.closest && nodes.values().any(Vec::is_empty) {
            return Err(
                "cannot discover NUMA topology: error getting NUMA distances from cadvisor".to_owned()
            );
        }
        if nodes.len() > options.max_nodes || nodes.keys().any(|node| *node >= MASK_NODES) {
            return Err(format!("unsupported on machines with more than {} NUMA Nodes", options.max_nodes));
        }
        let kind = match name {
            "best-effort" => Kind::BestEffort,
            "restricted" => Kind::Restricted,
            "single-numa-node" => Kind::SingleNumaNode,
            _ => return Err(format!("unknown policy: {name:?}")),
        };
        let ids: Vec<u32> = nodes.keys().copied().collect();
        // With one node only there is nothing to compare.
        let by_distance = options.closest && kind != Kind::SingleNumaNode;
        let info = NumaInfo { all: Mask::of(&ids), distances: by_distance.then(|| nodes.clone()) };
        Ok(Self { kind, info })
    }

    /// Which policy it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What is agreed on from what each provider says, one list per resource; `None` if the container cannot have it.
    pub fn merge(&self, hints: Vec<Vec<Vec<Hint>>>) -> Option<Hint> {
        let any = |preferred| vec![Hint { affinity: None, preferred }];
        let mut lists: Vec<Vec<Hint>> = Vec::new();
        for of_provider in hints {
            if of_provider.is_empty() {
                lists.push(any(true));
            }
            lists.extend(of_provider.into_iter().map(|list| if list.is_empty() { any(false) } else { list }));
        }
        let single = self.kind == Kind::SingleNumaNode;
        if single {
            for list in &mut lists {
                list.retain(|h| h.preferred && h.affinity.is_none_or(|mask| mask.count() == 1));
            }
        }
        let Merged { affinity, preferred } = merge(&self.info, &lists);
        let affinity = Some(affinity).filter(|mask| !(single && *mask == self.info.all));
        match self.kind {
            Kind::None => Some(Hint { affinity: None, preferred: false }),
            Kind::BestEffort => Some(Hint { affinity, preferred }),
            Kind::Restricted | Kind::SingleNumaNode => preferred.then_some(Hint { affinity, preferred }),
        }
    }
}
