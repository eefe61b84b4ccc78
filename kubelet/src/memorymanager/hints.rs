//! Which NUMA nodes could give a container its memory.
//!
//! A node is either used alone or together with the same others always: single and shared use never mix. Upstream:
//! calculateHints and what uses it in policy_static.go, v1.37.

use std::collections::BTreeMap;

use super::state::{Block, Machine, same_group};
use crate::topologymanager::hint::{Hint, Mask, masks};

/// Bytes by resource.
pub type Requests = BTreeMap<String, u64>;

fn sum(machine: &Machine, mask: Mask, of: impl Fn(&super::state::NodeState) -> u64) -> u64 {
    mask.bits().iter().filter_map(|node| machine.get(node)).map(of).fold(0, u64::saturating_add)
}

/// True if nodes were already used in another way than a block on just these would.
fn clashes(machine: &Machine, mask: Mask) -> bool {
    let nodes = mask.bits();
    let used = |node: &u32| {
        let Some(state) = machine.get(node).filter(|state| state.number_of_assignments > 0) else {
            return false;
        };
        state.cells.len() == 1 || !same_group(&state.cells, &nodes)
    };
    nodes.len() > 1 && nodes.iter().any(used)
}

/// Sets of nodes that have room now; preferred are those with as few nodes as would do on an idle machine. `reusable` is
/// what the pod has already on a set of nodes.
pub fn calculate(
    machine: &Machine,
    requests: &Requests,
    reusable: impl Fn(Mask, &str) -> u64,
) -> Vec<(Mask, bool)> {
    let nodes: Vec<u32> = machine.keys().copied().collect();
    let mut fewest = nodes.len();
    let mut out = Vec::new();
    for mask in masks(&nodes) {
        let allocatable = |resource: &str| sum(machine, mask, |node| node.table(resource).allocatable);
        if requests.iter().any(|(resource, size)| allocatable(resource) < *size) {
            continue;
        }
        fewest = fewest.min(mask.count());
        let shared = |node: &u32| machine.get(node).is_some_and(|state| state.cells.len() > 1);
        let single = mask.count() == 1;
        if (single && mask.bits().iter().any(shared)) || clashes(machine, mask) {
            continue;
        }
        let room = |resource: &str| {
            sum(machine, mask, |node| node.table(resource).free).saturating_add(reusable(mask, resource))
        };
        if requests.iter().all(|(resource, size)| room(resource) >= *size) {
            out.push(mask);
        }
    }
    out.into_iter().map(|mask| (mask, mask.count() == fewest)).collect()
}

/// The same choices for every resource that is asked for; none at all if there is no room.
pub fn of_all(choices: &[(Mask, bool)], requests: &Requests) -> Vec<Vec<Hint>> {
    if choices.is_empty() {
        return Vec::new();
    }
    let hint = |(mask, preferred): &(Mask, bool)| Hint { affinity: Some(*mask), preferred: *preferred };
    requests.keys().map(|_| choices.iter().map(hint).collect()).collect()
}

/// The choice of those who have their memory already; none if that is not what they ask for now.
pub fn regenerate(blocks: &[Block], requests: &Requests) -> Vec<Vec<Hint>> {
    if blocks.len() != requests.len() || blocks.iter().any(|b| requests.get(&b.r#type) != Some(&b.size)) {
        return Vec::new();
    }
    let hint = |block: &Block| Hint { affinity: Some(Mask::of(&block.numa_affinity)), preferred: true };
    blocks.iter().map(|block| vec![hint(block)]).collect()
}

/// The best of some choices: a preferred one, then one with fewer or lower nodes.
fn best(choices: impl IntoIterator<Item = (Mask, bool)>) -> Option<(Mask, bool)> {
    choices.into_iter().reduce(|best, next| {
        let better = (next.1 && !best.1) || (next.1 == best.1 && next.0.is_narrower_than(best.0));
        if better { next } else { best }
    })
}

/// True if free memory on the nodes is enough.
fn satisfies(machine: &Machine, mask: Mask, requests: &Requests) -> bool {
    requests.iter().all(|(resource, size)| sum(machine, mask, |node| node.table(resource).free) >= *size)
}

/// The nodes to take memory from, as near as possible to what all agreed on.
///
/// # Errors
/// If there is not enough anywhere, or only with more nodes than agreed.
pub fn choose(
    machine: &Machine,
    requests: &Requests,
    agreed: Hint,
    reusable: impl Fn(Mask, &str) -> u64,
) -> Result<Mask, String> {
    let choices = calculate(machine, requests, reusable);
    let failed = |text: &str| format!("[memorymanager] {text}");
    let (mask, preferred) = match agreed.affinity {
        Some(mask) => (mask, agreed.preferred),
        None => {
            let found = best(choices.iter().copied()).ok_or_else(|| {
                failed(
                    "failed to get the default NUMA affinity, no NUMA nodes with enough memory is available",
                )
            })?;
            if !found.1 && agreed.preferred {
                return Err(failed("failed to find the default preferred hint"));
            }
            found
        }
    };
    let mask = if satisfies(machine, mask, requests) {
        mask
    } else {
        let wider = choices.iter().copied().filter(|(more, _)| more.0 & mask.0 == mask.0);
        let found = best(wider)
            .ok_or_else(|| failed("failed to find NUMA nodes to extend the current topology hint"))?;
        if !found.1 && preferred {
            return Err(failed("failed to find the extended preferred hint"));
        }
        found.0
    };
    if clashes(machine, mask) {
        return Err(failed("preferred hint violates NUMA node allocation"));
    }
    Ok(mask)
}
