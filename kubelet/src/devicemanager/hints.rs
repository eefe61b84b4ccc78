//! Which NUMA nodes devices could come from. Upstream: topology_hints.go.

use k8s_openapi::api::core::v1::{Container, Pod};

use super::choose::has_any;
use super::state::{Ids, State};
use crate::pod::resources::{Amounts, container_limits, without_overhead};
use crate::pod::view::PodView;
use crate::topologymanager::hint::{Hint, Mask, masks};

/// Devices that limits ask for; requests for such resources are the same.
pub fn asked(state: &State, limits: &Amounts) -> Vec<(String, usize)> {
    let names = limits.0.keys().filter(|name| state.is_known(name));
    names.map(|name| (name.clone(), usize::try_from(limits.whole(name)).unwrap_or_default())).collect()
}

/// Where a container's devices could come from, a list per resource. `machine` has the machine's nodes.
pub fn of_container(state: &State, machine: &[u32], pod: &Pod, container: &Container) -> Vec<Vec<Hint>> {
    let one = |(resource, count): (String, usize)| {
        let held = state.given(pod.uid(), &container.name, &resource).map(|g| g.ids()).unwrap_or_default();
        let reusable = state.reusable.1.get(&resource).filter(|_| state.reusable.0 == pod.uid());
        hints(state, machine, &resource, count, (&held, &reusable.cloned().unwrap_or_default()))
    };
    asked(state, &container_limits(container)).into_iter().map(one).collect()
}

/// The same for a pod as a whole.
pub fn of_pod(state: &State, machine: &[u32], pod: &Pod) -> Vec<Vec<Hint>> {
    let one = |(resource, count): (String, usize)| {
        let held = state.of_pod(pod.uid(), &resource);
        hints(state, machine, &resource, count, (&held, &Ids::new()))
    };
    asked(state, &without_overhead(pod, true)).into_iter().map(one).collect()
}

fn hints(
    state: &State,
    machine: &[u32],
    resource: &str,
    count: usize,
    (held, reusable): (&Ids, &Ids),
) -> Vec<Hint> {
    if !state.has_topology(resource) {
        return vec![Hint { affinity: None, preferred: true }];
    }
    if !held.is_empty() {
        let same = held.len() == count;
        return if same {
            generate(state, machine, resource, count, (held, &Ids::new()))
        } else {
            Vec::new()
        };
    }
    let available = state.free(resource);
    if available.union(reusable).count() < count {
        return Vec::new();
    }
    generate(state, machine, resource, count, (&available, reusable))
}

fn generate(
    state: &State,
    machine: &[u32],
    resource: &str,
    count: usize,
    (available, reusable): (&Ids, &Ids),
) -> Vec<Hint> {
    let all: Vec<Vec<i64>> = (state.devices.get(resource).into_iter().flatten())
        .map(|(id, _)| state.nodes_of(resource, id))
        .collect();
    let has_devices = |node: &&u32| all.iter().any(|nodes| nodes.contains(&i64::from(**node)));
    // Nodes without devices would only make more sets to look at.
    let mut nodes: Vec<u32> = machine.iter().filter(has_devices).copied().collect();
    if nodes.is_empty() {
        nodes = machine.to_vec();
    }
    let mut smallest = nodes.len();
    let mut found = Vec::new();
    for mask in masks(&nodes) {
        if mask.count() < smallest && all.iter().filter(|nodes| has_any(mask, nodes)).count() >= count {
            smallest = mask.count();
        }
        if matching(state, resource, mask, available, reusable).is_some_and(|matching| matching >= count) {
            found.push(mask);
        }
    }
    found.into_iter().map(|mask| Hint { affinity: Some(mask), preferred: mask.count() == smallest }).collect()
}

/// How many devices the nodes have; none if some that are to be used again are elsewhere.
fn matching(state: &State, resource: &str, mask: Mask, available: &Ids, reusable: &Ids) -> Option<usize> {
    let near = |id: &&String| has_any(mask, &state.nodes_of(resource, id));
    let bound = |id: &&String| {
        state.devices.get(resource).and_then(|all| all.get(*id)).is_some_and(|d| d.topology.is_some())
    };
    let reused: Vec<&String> = reusable.iter().filter(bound).collect();
    reused.iter().all(near).then(|| reused.len() + available.iter().filter(near).count())
}

#[cfg(test)]
mod tests {
    use super::*;
    use deviceplugin::v1beta1::{Device, NumaNode, TopologyInfo};
    use serde_json::json;

    #[test]
    fn nodes_with_enough() {
        let device = |id: &str, node: Option<i64>| Device {
            id: id.to_owned(),
            health: "Healthy".to_owned(),
            topology: node.map(|id| TopologyInfo { nodes: vec![NumaNode { id }] }),
        };
        let mut state = State::default();
        state.offered("a/gpu", vec![device("1", Some(0)), device("2", Some(0)), device("3", Some(1))]);
        state.offered("a/nic", vec![device("n", None)]);
        let pod: Pod = serde_json::from_value(json!({"metadata": {"uid": "u"}, "spec": {"containers": [
            {"name": "c", "resources": {"limits": {"a/gpu": "2", "a/nic": "1", "a/other": "1", "cpu": "1"}}}]}}))
        .unwrap();
        let check = |state: &State, expected: &[&[(u64, bool)]]| {
            let shown = |list: Vec<Hint>| -> Vec<(u64, bool)> {
                list.iter().map(|h| (h.affinity.map_or(0, |m| m.0), h.preferred)).collect()
            };
            let of_container = of_container(state, &[0, 1, 2], &pod, &pod.spec().containers[0]);
            assert_eq!(of_container.into_iter().map(shown).collect::<Vec<_>>(), expected);
            let of_pod = of_pod(state, &[0, 1, 2], &pod);
            assert_eq!(of_pod.into_iter().map(shown).collect::<Vec<_>>(), expected);
        };
        check(&state, &[&[(1, true), (3, false)], &[(0, true)]]);
        state.allocated.insert("a/gpu".to_owned(), ["1".to_owned()].into());
        // One node would suffice on this machine, but not now.
        check(&state, &[&[(3, false)], &[(0, true)]]);
        state.allocated.insert("a/gpu".to_owned(), ["1".to_owned(), "2".to_owned()].into());
        check(&state, &[&[], &[(0, true)]]);
    }
}
