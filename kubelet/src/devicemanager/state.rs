//! What plugins offer and what containers hold. Upstream: pod_devices.go and the maps of ManagerImpl in manager.go.

use std::collections::{BTreeMap, BTreeSet};

use deviceplugin::v1beta1::{ContainerAllocateResponse, Device};
use k8s_openapi::api::core::v1::{ContainerStatus, PodStatus, ResourceHealth, ResourceStatus};

/// Names of devices.
pub type Ids = BTreeSet<String>;

/// How plugins call a device that works.
pub const HEALTHY: &str = "Healthy";
/// Stands for the NUMA node of devices that belong to none.
pub const NO_NODE: i64 = -1;

/// Devices of one resource that a container was given.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Given {
    /// By NUMA node; a device may be near to several.
    pub by_node: BTreeMap<i64, Vec<String>>,
    /// What the plugin said when they were given.
    pub answer: ContainerAllocateResponse,
}

impl Given {
    /// The devices.
    pub fn ids(&self) -> Ids {
        self.by_node.values().flatten().cloned().collect()
    }
}

/// A device as it is shown to others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The resource.
    pub resource: String,
    /// The device.
    pub id: String,
    /// NUMA nodes that it is near to; absent if nothing is known of that.
    pub nodes: Option<Vec<i64>>,
}

/// By container, then by resource.
pub type OfPod = BTreeMap<String, BTreeMap<String, Given>>;

/// Everything that decisions depend on.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// What containers hold, by pod.
    pub pods: BTreeMap<String, OfPod>,
    /// What plugins have, by resource.
    pub devices: BTreeMap<String, BTreeMap<String, Device>>,
    /// Those that work. A resource that once was registered is here, even without devices.
    pub healthy: BTreeMap<String, Ids>,
    /// Those that do not work, or whose plugin is gone.
    pub unhealthy: BTreeMap<String, Ids>,
    /// Devices in use.
    pub allocated: BTreeMap<String, Ids>,
    /// The pod that is being admitted, and devices of its init containers that the next container may have.
    pub reusable: (String, BTreeMap<String, Ids>),
}

impl State {
    /// True if plugins offer the resource, or have.
    pub fn is_known(&self, resource: &str) -> bool {
        self.healthy.contains_key(resource) || self.allocated.contains_key(resource)
    }

    /// What a container holds of a resource.
    pub fn given(&self, uid: &str, container: &str, resource: &str) -> Option<&Given> {
        self.pods.get(uid)?.get(container)?.get(resource)
    }

    /// All that a container holds. Upstream: getContainerDevices in pod_devices.go.
    pub fn held_by(&self, uid: &str, container: &str) -> Vec<Held> {
        let mut all: BTreeMap<(&String, &String), Option<Vec<i64>>> = BTreeMap::new();
        for (resource, given) in
            self.pods.get(uid).and_then(|of_pod| of_pod.get(container)).into_iter().flatten()
        {
            for (node, ids) in &given.by_node {
                for id in ids {
                    let nodes = all.entry((resource, id)).or_default();
                    if *node != NO_NODE {
                        nodes.get_or_insert_default().push(*node);
                    }
                }
            }
        }
        let held = |((resource, id), nodes): ((&String, &String), _)| Held {
            resource: resource.clone(),
            id: id.clone(),
            nodes,
        };
        all.into_iter().map(held).collect()
    }

    /// All devices that work. Upstream: GetAllocatableDevices in manager.go.
    pub fn usable(&self) -> Vec<Held> {
        let healthy = |(resource, ids): (&String, &Ids)| -> Vec<Held> {
            let known = self.devices.get(resource).into_iter().flatten().filter(|(id, _)| ids.contains(*id));
            let held = |(id, device): (&String, &Device)| Held {
                resource: resource.clone(),
                id: id.clone(),
                nodes: device.topology.as_ref().map(|t| t.nodes.iter().map(|node| node.id).collect()),
            };
            known.map(held).collect()
        };
        self.healthy.iter().flat_map(healthy).collect()
    }

    /// What all containers of a pod hold of a resource.
    pub fn of_pod(&self, uid: &str, resource: &str) -> Ids {
        let containers = self.pods.get(uid).into_iter().flat_map(BTreeMap::values);
        containers.filter_map(|all| all.get(resource)).flat_map(Given::ids).collect()
    }

    /// Devices that work and that nobody has.
    pub fn free(&self, resource: &str) -> Ids {
        let none = Ids::new();
        let taken = self.allocated.get(resource).unwrap_or(&none);
        self.healthy.get(resource).unwrap_or(&none).difference(taken).cloned().collect()
    }

    /// NUMA nodes of a device.
    pub fn nodes_of(&self, resource: &str, id: &str) -> Vec<i64> {
        let device = self.devices.get(resource).and_then(|all| all.get(id));
        let topology = device.and_then(|d| d.topology.as_ref());
        topology.map(|t| t.nodes.iter().map(|n| n.id).collect()).unwrap_or_default()
    }

    /// True if it matters where devices of a resource are taken from.
    pub fn has_topology(&self, resource: &str) -> bool {
        let devices = self.devices.get(resource).into_iter().flat_map(BTreeMap::keys);
        devices.into_iter().any(|id| !self.nodes_of(resource, id).is_empty())
    }

    /// Takes what a plugin says that it has. Gives the pods that have a device whose health changed, or that came back.
    pub fn offered(&mut self, resource: &str, devices: Vec<Device>) -> BTreeSet<String> {
        let old = self.devices.remove(resource).unwrap_or_default();
        let changed: Ids = (devices.iter())
            .filter(|d| old.get(&d.id).is_none_or(|before| before.health != d.health))
            .map(|d| d.id.clone())
            .collect();
        let (good, bad): (Vec<&Device>, Vec<&Device>) = devices.iter().partition(|d| d.health == HEALTHY);
        let ids = |list: Vec<&Device>| list.into_iter().map(|d| d.id.clone()).collect::<Ids>();
        self.healthy.insert(resource.to_owned(), ids(good));
        self.unhealthy.insert(resource.to_owned(), ids(bad));
        self.devices.insert(resource.to_owned(), devices.into_iter().map(|d| (d.id.clone(), d)).collect());
        let has = |all: &OfPod| {
            let mut given = all.values().filter_map(|of_container| of_container.get(resource));
            given.any(|g| !g.ids().is_disjoint(&changed))
        };
        self.pods.iter().filter(|(_, all)| has(all)).map(|(uid, _)| uid.clone()).collect()
    }

    /// The plugin of a resource is gone.
    pub fn lost(&mut self, resource: &str) {
        let gone = self.healthy.insert(resource.to_owned(), Ids::new()).unwrap_or_default();
        self.unhealthy.entry(resource.to_owned()).or_default().extend(gone);
    }

    /// Takes back what is held for other pods than these.
    pub fn keep_only(&mut self, active: &BTreeSet<String>) {
        let before = self.pods.len();
        self.pods.retain(|uid, _| active.contains(uid));
        if self.pods.len() != before {
            self.recount();
        }
    }

    /// Sets what is in use to what containers hold.
    pub fn recount(&mut self) {
        self.allocated.clear();
        for of_container in self.pods.values().flat_map(BTreeMap::values) {
            for (resource, given) in of_container {
                self.allocated.entry(resource.clone()).or_default().extend(given.ids());
            }
        }
    }

    /// Gives a container devices, with what the plugin said.
    pub fn give(
        &mut self,
        (uid, container): (&str, &str),
        resource: &str,
        ids: &Ids,
        answer: ContainerAllocateResponse,
    ) {
        let mut by_node: BTreeMap<i64, Vec<String>> = BTreeMap::new();
        for id in ids {
            let mut nodes = self.nodes_of(resource, id);
            if nodes.is_empty() {
                nodes.push(NO_NODE);
            }
            for node in nodes {
                by_node.entry(node).or_default().push(id.clone());
            }
        }
        let of_container =
            self.pods.entry(uid.to_owned()).or_default().entry(container.to_owned()).or_default();
        of_container.insert(resource.to_owned(), Given { by_node, answer });
    }

    /// Notes for the next container what it may have of the devices of this one: all if this one has ended by then.
    pub fn pass_on(&mut self, uid: &str, container: &str, ends: bool) {
        let Some(held) = self.pods.get(uid).and_then(|all| all.get(container)) else { return };
        for (resource, given) in held {
            let reusable = self.reusable.1.entry(resource.clone()).or_default();
            match ends {
                true => reusable.extend(given.ids()),
                false => reusable.retain(|id| !given.ids().contains(id)),
            }
        }
    }

    /// Says of each container's devices whether they work.
    pub fn show_health(&self, uid: &str, status: &mut PodStatus) {
        let Some(of_pod) = self.pods.get(uid) else { return };
        for container in status.container_statuses.iter_mut().flatten() {
            for (resource, given) in of_pod.get(&container.name).into_iter().flatten() {
                let resources = given.ids().into_iter().map(|id| self.health(resource, id)).collect();
                set_health(container, ResourceStatus { name: resource.clone(), resources: Some(resources) });
            }
        }
    }

    fn health(&self, resource: &str, id: String) -> ResourceHealth {
        // A device that no plugin speaks of is taken for a good one, as upstream does.
        let device = self.devices.get(resource).and_then(|all| all.get(&id));
        let works = device.is_none_or(|d| d.health == HEALTHY);
        let health = if works { HEALTHY } else { "Unhealthy" };
        ResourceHealth { resource_id: id, health: Some(health.to_owned()), ..ResourceHealth::default() }
    }
}

fn set_health(container: &mut ContainerStatus, new: ResourceStatus) {
    let all = container.allocated_resources_status.get_or_insert_default();
    match all.iter_mut().find(|one| one.name == new.name) {
        Some(one) => *one = new,
        None => all.push(new),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use deviceplugin::v1beta1::{NumaNode, TopologyInfo};
    use serde_json::json;

    fn device(id: &str, health: &str) -> Device {
        Device { id: id.to_owned(), health: health.to_owned(), topology: None }
    }

    #[test]
    fn health_changes_reach_pods() {
        let mut state = State::default();
        state.offered("a/b", vec![device("1", HEALTHY), device("2", HEALTHY)]);
        state.give(("u", "c"), "a/b", &["1".to_owned()].into(), ContainerAllocateResponse::default());
        let told = |pods: BTreeSet<String>| pods.into_iter().collect::<Vec<_>>();
        assert_eq!(told(state.offered("a/b", vec![device("1", HEALTHY), device("2", "bad")])), [""; 0]);
        assert_eq!(told(state.offered("a/b", vec![device("1", "Unhealthy")])), ["u"]);
        let mut status: PodStatus = serde_json::from_value(json!({"containerStatuses": [
            {"name": "c", "image": "", "imageID": "", "ready": true, "restartCount": 0}]}))
        .unwrap();
        state.show_health("u", &mut status);
        let shown = serde_json::to_value(&status.container_statuses.unwrap()[0].allocated_resources_status);
        let expected = json!([{"name": "a/b", "resources": [{"resourceID": "1", "health": "Unhealthy"}]}]);
        assert_eq!(shown.unwrap(), expected);
    }

    #[test]
    fn what_others_are_shown() {
        let mut state = State::default();
        let near = |id: &str, nodes: &[i64]| {
            let nodes = nodes.iter().map(|id| NumaNode { id: *id }).collect();
            Device { topology: Some(TopologyInfo { nodes }), ..device(id, HEALTHY) }
        };
        state.offered(
            "a/b",
            vec![near("1", &[0, 1]), device("2", HEALTHY), device("3", "bad"), near("4", &[])],
        );
        let ids = ["1".to_owned(), "2".to_owned()].into();
        state.give(("u", "c"), "a/b", &ids, ContainerAllocateResponse::default());
        let show = |all: Vec<Held>| {
            all.into_iter().map(|h| format!("{} {} {:?}", h.resource, h.id, h.nodes)).collect::<Vec<_>>()
        };
        assert_eq!(show(state.held_by("u", "c")), ["a/b 1 Some([0, 1])", "a/b 2 None"]);
        assert!(state.held_by("u", "d").is_empty());
        assert_eq!(show(state.usable()), ["a/b 1 Some([0, 1])", "a/b 2 None", "a/b 4 Some([])"]);
    }

    #[test]
    fn what_is_in_use() {
        let mut state = State::default();
        state.offered("a/b", ["1", "2", "3"].map(|id| device(id, HEALTHY)).into());
        for (uid, id) in [("u", "1"), ("v", "2")] {
            state.give((uid, "c"), "a/b", &[id.to_owned()].into(), ContainerAllocateResponse::default());
        }
        state.recount();
        assert_eq!(state.free("a/b"), Ids::from(["3".to_owned()]));
        state.keep_only(&["v".to_owned()].into());
        assert_eq!(state.free("a/b"), Ids::from(["1".to_owned(), "3".to_owned()]));
        state.lost("a/b");
        assert!(state.free("a/b").is_empty() && state.is_known("a/b"));
        assert_eq!(state.unhealthy["a/b"].len(), 3);
    }
}
