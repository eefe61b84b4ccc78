//! Which devices a container gets. Upstream: devicesToAllocate and filterByAffinity in manager.go.
//!
//! A plugin may be asked which devices it would take; then the answer comes in the middle of the decision: [`begin`] says
//! what to ask, [`Question::finish`] decides with the answer. Where upstream takes any, the first by name are taken.

use super::state::{Ids, State};
use crate::topologymanager::hint::Mask;

/// What a container asks for.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// The pod.
    pub uid: &'a str,
    /// The container.
    pub container: &'a str,
    /// The resource.
    pub resource: &'a str,
    /// How many devices.
    pub count: usize,
    /// NUMA nodes that were agreed on.
    pub affinity: Option<Mask>,
    /// True if it runs since before the kubelet started, so that it has what it needs.
    pub runs: bool,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// It needs none, or has them already.
    Nothing,
    /// It gets these.
    Take(Ids),
    /// It depends on the plugin.
    Ask(Question),
}

/// What to ask a plugin, and what to do with its answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Question {
    /// Devices to choose from.
    pub available: Ids,
    /// Devices that it gets in any case.
    pub taken: Ids,
    /// How many in all.
    pub count: usize,
    /// Answers count if they are among these.
    from: Ids,
    /// Where the rest comes from, in order.
    rest: Vec<Ids>,
}

/// Takes from `source` until there are `count`; true if there are.
fn take(taken: &mut Ids, source: &Ids, count: usize) -> bool {
    for id in source {
        if taken.len() >= count {
            break;
        }
        taken.insert(id.clone());
    }
    taken.len() >= count
}

/// Begins to decide.
///
/// # Errors
/// Why the container cannot have them.
pub fn begin(state: &State, wish: &Wish<'_>) -> Result<Next, String> {
    let Wish { uid, container, resource, count, .. } = *wish;
    let held = state.given(uid, container, resource).map(super::state::Given::ids);
    if let Some(held) = held.as_ref().filter(|held| held.len() != count) {
        return Err(format!(
            "pod {uid:?} container {container:?} changed request for resource {resource:?} from {} to {count}",
            held.len()
        ));
    }
    if wish.runs {
        return Ok(Next::Nothing);
    }
    let Some(healthy) = state.healthy.get(resource) else {
        return Err(format!("cannot allocate unregistered device {resource}"));
    };
    if healthy.is_empty() {
        return Err(format!("no healthy devices present; cannot allocate unhealthy devices {resource}"));
    }
    if held.as_ref().is_some_and(|held| !held.is_subset(healthy)) {
        return Err(format!(
            "previously allocated devices are no longer healthy; cannot allocate unhealthy devices {resource}"
        ));
    }
    if held.is_some() || count == 0 {
        return Ok(Next::Nothing);
    }
    let mut taken = Ids::new();
    let reusable = state.reusable.1.get(resource).filter(|_| state.reusable.0 == uid);
    if reusable.is_some_and(|reusable| take(&mut taken, reusable, count)) {
        return Ok(Next::Take(taken));
    }
    let available = state.free(resource);
    let needed = count - taken.len();
    if available.len() < needed {
        return Err(format!(
            "requested number of devices unavailable for {resource}. Requested: {needed}, Available: {}",
            available.len()
        ));
    }
    let near = partition(state, wish, &available);
    if needed < near.aligned.len() {
        let question = Question {
            available: near.aligned.union(&taken).cloned().collect(),
            taken,
            count,
            from: near.aligned.clone(),
            rest: vec![near.aligned],
        };
        return Ok(Next::Ask(question));
    }
    // What was agreed on is kept to, whatever the plugin would like better.
    if take(&mut taken, &near.aligned, count) {
        return Ok(Next::Take(taken));
    }
    let all = available.union(&taken).cloned().collect();
    Ok(Next::Ask(Question {
        available: all,
        taken,
        count,
        from: available,
        rest: vec![near.unaligned, near.nowhere],
    }))
}

impl Question {
    /// Decides with the plugin's answer; an empty one if it has none.
    ///
    /// # Errors
    /// If there are too few.
    pub fn finish(self, answer: &Ids) -> Result<Ids, String> {
        let Self { mut taken, count, from, rest, .. } = self;
        let preferred: Ids = from.intersection(answer).cloned().collect();
        if take(&mut taken, &preferred, count) || rest.iter().any(|more| take(&mut taken, more, count)) {
            return Ok(taken);
        }
        Err(format!(
            "unexpectedly allocated less resources than required. Requested: {count}, Got: {}",
            taken.len()
        ))
    }
}

struct Near {
    aligned: Ids,
    unaligned: Ids,
    nowhere: Ids,
}

fn partition(state: &State, wish: &Wish<'_>, available: &Ids) -> Near {
    let mut near = Near { aligned: Ids::new(), unaligned: Ids::new(), nowhere: Ids::new() };
    let affinity = wish.affinity.filter(|_| state.has_topology(wish.resource));
    for id in available {
        let nodes = state.nodes_of(wish.resource, id);
        let list = match affinity {
            None => &mut near.nowhere,
            Some(_) if nodes.is_empty() => &mut near.nowhere,
            Some(mask) if has_any(mask, &nodes) => &mut near.aligned,
            Some(_) => &mut near.unaligned,
        };
        list.insert(id.clone());
    }
    near
}

/// True if one of the nodes is in the set.
pub fn has_any(mask: Mask, nodes: &[i64]) -> bool {
    nodes.iter().any(|node| u32::try_from(*node).is_ok_and(|node| mask.has(node)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use deviceplugin::v1beta1::{ContainerAllocateResponse, Device, NumaNode, TopologyInfo};

    fn ids(text: &str) -> Ids {
        text.split_whitespace().map(str::to_owned).collect()
    }

    /// `1@0` is a device on node 0, `1` one on none, `!1` one that does not work.
    fn state(devices: &str, held: &[(&str, &str, &str)]) -> State {
        let device = |text: &str| {
            let (name, node) = text.split_once('@').unwrap_or((text, ""));
            let topology = node.parse().ok().map(|id| TopologyInfo { nodes: vec![NumaNode { id }] });
            let health = if name.starts_with('!') { "Unhealthy" } else { "Healthy" };
            Device { id: name.trim_start_matches('!').to_owned(), health: health.to_owned(), topology }
        };
        let mut state = State::default();
        if !devices.is_empty() {
            state.offered("r", devices.split_whitespace().filter(|d| *d != "-").map(device).collect());
        }
        for (uid, container, list) in held {
            state.give((uid, container), "r", &ids(list), ContainerAllocateResponse::default());
        }
        state.recount();
        state
    }

    fn check(state: &State, count: usize, affinity: u64, answer: &str, expected: Result<&str, &str>) {
        let affinity = (affinity > 0).then_some(Mask(affinity));
        let wish = Wish { uid: "u", container: "c", resource: "r", count, affinity, runs: false };
        let got = begin(state, &wish).and_then(|next| match next {
            Next::Nothing => Ok(Ids::new()),
            Next::Take(taken) => Ok(taken),
            Next::Ask(question) => question.finish(&ids(answer)),
        });
        assert_eq!(got, expected.map(ids).map_err(str::to_owned));
    }

    #[test]
    fn what_stands_in_the_way() {
        check(&state("", &[]), 1, 0, "", Err("cannot allocate unregistered device r"));
        let none = "no healthy devices present; cannot allocate unhealthy devices r";
        check(&state("!1", &[]), 1, 0, "", Err(none));
        check(&state("-", &[]), 1, 0, "", Err(none));
        let few = "requested number of devices unavailable for r. Requested: 2, Available: 1";
        check(&state("1 2", &[("v", "c", "1")]), 2, 0, "", Err(few));
        let sick = "previously allocated devices are no longer healthy; cannot allocate unhealthy devices r";
        check(&state("!1 2", &[("u", "c", "1")]), 1, 0, "", Err(sick));
        let other = "pod \"u\" container \"c\" changed request for resource \"r\" from 1 to 2";
        check(&state("1 2", &[("u", "c", "1")]), 2, 0, "", Err(other));
        check(&state("1 2", &[("u", "c", "1")]), 1, 0, "", Ok(""));
        let before = Wish { uid: "u", container: "c", resource: "r", count: 1, affinity: None, runs: true };
        assert_eq!(begin(&state("!1", &[]), &before), Ok(Next::Nothing));
    }

    #[test]
    fn plugins_may_prefer() {
        check(&state("1 2 3", &[]), 2, 0, "", Ok("1 2"));
        check(&state("1 2 3", &[]), 2, 0, "3 9", Ok("1 3"));
        // Devices near to what was agreed on come first, and only these are to choose from while they suffice.
        let near = state("1@1 2@0 3@0 4", &[]);
        check(&near, 1, 1, "1", Ok("2"));
        check(&near, 1, 1, "3", Ok("3"));
        check(&near, 2, 1, "1", Ok("2 3"));
        check(&near, 3, 1, "4", Ok("2 3 4"));
        check(&near, 3, 1, "", Ok("1 2 3"));
        check(&state("1 2", &[]), 1, 2, "", Ok("1"));
    }

    #[test]
    fn init_containers_leave_theirs() {
        let mut state = state("1 2 3", &[("u", "init", "2")]);
        state.reusable.0 = "u".to_owned();
        state.pass_on("u", "init", true);
        check(&state, 1, 0, "3", Ok("2"));
        check(&state, 2, 0, "3", Ok("2 3"));
        state.pass_on("u", "init", false);
        check(&state, 1, 0, "", Ok("1"));
    }
}
