//! Replacing pods of old revisions, as many at a time as may be. Pure.
//! Upstream: pkg/controller/daemon/update.go rollingUpdate.

use std::sync::Arc;

use super::node::{Fit, Placement};
use super::plan::{ByNode, Plan, View, max_surge, max_unavailable};
use crate::controllers::shared::count;
use crate::kept::Pod;
use crate::pods;

/// A node's pods by revision.
enum Here {
    /// More than one of a kind: the main plan tidies up first.
    Excess,
    Pods {
        new: Option<Arc<Pod>>,
        old: Option<Arc<Pod>>,
    },
}

/// Decides which old pods go and where new ones come beside them.
///
/// # Errors
/// The strategy's numbers are malformed, or a pod's node is gone.
pub fn plan(view: &View<'_>) -> Result<Plan, String> {
    let placement = Placement::new(view.set);
    let wanted: Vec<&str> = view
        .nodes
        .iter()
        .filter(|n| placement.fit(n) == Fit::Run)
        .filter_map(|n| n.metadata.name.as_deref())
        .collect();
    let desired = count(wanted.len());
    let surge = max_surge(view.set, desired)?;
    let mut unavailable = max_unavailable(view.set, desired)?;
    if desired > 0 && unavailable == 0 && surge == 0 {
        unavailable = 1;
    }
    let mut by_node: ByNode = view.pods.clone();
    wanted.iter().for_each(|name| {
        by_node.entry((*name).to_string()).or_default();
    });
    if surge == 0 {
        Ok(replace(view, &by_node, unavailable))
    } else {
        surge_over(view, &by_node, &placement, surge, desired)
    }
}

fn look(view: &View<'_>, here: &[Arc<Pod>]) -> Here {
    let (mut new, mut old) = (None, None);
    for pod in here.iter().filter(|p| !pods::is_deleted(p)) {
        let slot = if view.is_updated(pod) { &mut new } else { &mut old };
        if slot.is_some() {
            return Here::Excess;
        }
        *slot = Some(pod.clone());
    }
    Here::Pods { new, old }
}

fn name(pod: &Pod) -> String {
    pod.name().to_string()
}

/// Deletes old pods; the main plan makes the new ones. Old pods that serve nobody go at once, others as the limit allows.
fn replace(view: &View<'_>, by_node: &ByNode, most: i32) -> Plan {
    let (mut missing, mut at_once, mut candidates) = (0, Vec::new(), Vec::new());
    for here in by_node.values() {
        match look(view, here) {
            Here::Excess
            | Here::Pods { new: None, old: None }
            | Here::Pods { new: Some(_), old: Some(_) } => {
                missing += 1;
            }
            Here::Pods { new: Some(new), old: None } => missing += i32::from(!view.is_available(&new)),
            Here::Pods { new: None, old: Some(old) } if !view.is_available(&old) => {
                at_once.push(name(&old));
                missing += 1;
            }
            Here::Pods { new: None, old: Some(_) } if missing >= most => {}
            Here::Pods { new: None, old: Some(old) } => candidates.push(name(&old)),
        }
    }
    let room = usize::try_from(most - missing).unwrap_or(0);
    candidates.truncate(room);
    at_once.extend(candidates);
    Plan { delete: at_once, ..Plan::default() }
}

/// State of a roll-out with pods beside old ones.
#[derive(Default)]
struct Surge {
    delete: Vec<String>,
    /// On nodes that the set has left: they go when enough others serve.
    leaving: Vec<String>,
    at_once: Vec<String>,
    candidates: Vec<String>,
    surging: i32,
    available: i32,
}

fn surge_over(
    view: &View<'_>,
    by_node: &ByNode,
    placement: &Placement<'_>,
    most: i32,
    desired: i32,
) -> Result<Plan, String> {
    let mut state = Surge::default();
    for (node, here) in by_node {
        match look(view, here) {
            Here::Excess => state.surging += 1,
            Here::Pods { new, old: None } => {
                state.available += i32::from(new.is_some_and(|p| view.is_available(&p)));
            }
            Here::Pods { new: Some(new), old: Some(old) } => {
                state.available += i32::from(view.is_available(&old));
                if view.is_available(&new) {
                    state.delete.push(name(&old));
                } else {
                    state.surging += 1;
                }
            }
            Here::Pods { new: None, old: Some(old) } => {
                let found = view.nodes.iter().find(|n| n.metadata.name.as_ref() == Some(node));
                let found =
                    found.ok_or_else(|| format!("couldn't get node for nodeName {node:?}: not found"))?;
                state.weigh(view, node, &old, placement.fit(found) == Fit::Run, most);
            }
        }
    }
    let spare = usize::try_from(state.available - desired).unwrap_or(0);
    state.delete.extend(state.leaving.into_iter().take(spare));
    let room = usize::try_from(most - state.surging).unwrap_or(0);
    state.candidates.truncate(room);
    state.at_once.extend(state.candidates);
    Ok(Plan { delete: state.delete, create: state.at_once, ..Plan::default() })
}

impl Surge {
    /// A node with an old pod only.
    fn weigh(&mut self, view: &View<'_>, node: &str, old: &Pod, stays: bool, most: i32) {
        let up = view.is_available(old);
        self.available += i32::from(up);
        match (up, stays) {
            (false, false) => self.delete.push(name(old)),
            (false, true) => self.at_once.push(node.to_string()),
            (true, false) => self.leaving.push(name(old)),
            (true, true) if self.surging < most => self.candidates.push(node.to_string()),
            (true, true) => {}
        }
    }
}
