//! What a node has beside what its kubelet knows of: administrators and device plugins say so in the node's status.
//! Upstream: MachineInfo in pkg/kubelet/nodestatus/setters.go, reconcileExtendedResource and reconcileHugePageResource
//! in pkg/kubelet/kubelet_node_status.go.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, NodeStatus};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::devicemanager::manager::Capacity;
use crate::pod::resources::whole;

/// Amounts by resource.
pub type Amounts = BTreeMap<String, Quantity>;

/// Adds what plugins have; of what the node has no longer, nothing is there.
pub fn add_devices(devices: &Capacity, capacity: &mut Amounts, allocatable: &mut Amounts) {
    for (name, count) in &devices.all {
        let healthy = devices.healthy.get(name).copied().unwrap_or_default();
        capacity.insert(name.clone(), Quantity(count.to_string()));
        allocatable.insert(name.clone(), Quantity(healthy.to_string()));
    }
    for name in &devices.removed {
        capacity.insert(name.clone(), Quantity("0".to_owned()));
        allocatable.insert(name.clone(), Quantity("0".to_owned()));
    }
}

/// Capacity and allocatable: what the kubelet knows, and of the rest what the node's status said.
pub fn merged(old: &NodeStatus, capacity: Amounts, allocatable: &Amounts) -> (Amounts, Amounts) {
    let mut all = old.capacity.clone().unwrap_or_default();
    all.extend(capacity);
    let mut given = old.allocatable.clone().unwrap_or_default();
    given.retain(|name, _| all.contains_key(name) || !is_extended(name));
    for (name, amount) in &all {
        given.insert(name.clone(), allocatable.get(name).unwrap_or(amount).clone());
    }
    (all, given)
}

/// What the status of a node that was known before must say at the start; none if it may stay. Sizes of huge pages that
/// the machine (`own`) has not are none, and so are extended resources after the node was made anew (`forgotten`),
/// until their plugins come.
pub fn at_start(old: &NodeStatus, own: &Amounts, forgotten: bool) -> Option<NodeStatus> {
    let gone = |name: &str| {
        name.starts_with("hugepages-") && !own.contains_key(name) || forgotten && is_extended(name)
    };
    let mut new = old.clone();
    for amounts in [&mut new.capacity, &mut new.allocatable].into_iter().flatten() {
        amounts.iter_mut().filter(|(name, _)| gone(name)).for_each(|(_, a)| *a = Quantity("0".to_owned()));
    }
    (new != *old).then_some(new)
}

/// Bytes of local storage that pods may have by the node's status; none if it does not tell.
pub fn shown_storage(node: &Node) -> i64 {
    let allocatable = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
    allocatable.and_then(|all| all.get("ephemeral-storage")).map_or(0, whole)
}

/// Upstream: IsExtendedResourceName in pkg/apis/core/v1/helper/helpers.go, for names that the API server let in.
pub fn is_extended(name: &str) -> bool {
    name.contains('/') && !name.contains("kubernetes.io/") && !name.starts_with("requests.")
}

#[cfg(test)]
mod tests {
    use super::{
        Amounts, Capacity, Node, NodeStatus, Quantity, add_devices, at_start, merged, shown_storage,
    };

    fn amounts(all: &[(&str, &str)]) -> Amounts {
        all.iter().map(|(n, a)| ((*n).to_owned(), Quantity((*a).to_owned()))).collect()
    }

    fn status(capacity: &[(&str, &str)], allocatable: &[(&str, &str)]) -> NodeStatus {
        NodeStatus {
            capacity: Some(amounts(capacity)),
            allocatable: Some(amounts(allocatable)),
            ..NodeStatus::default()
        }
    }

    #[test]
    fn what_others_say_stays() {
        let old = status(
            &[("cpu", "1"), ("example.com/gpu", "4")],
            &[("cpu", "1"), ("example.com/gone", "1"), ("kubernetes.io/odd", "1")],
        );
        let (capacity, allocatable) = merged(&old, amounts(&[("cpu", "2")]), &amounts(&[("cpu", "1900m")]));
        assert_eq!(capacity, amounts(&[("cpu", "2"), ("example.com/gpu", "4")]));
        // An extended resource that is no longer among the capacity goes; others are not looked at.
        let expected = [("cpu", "1900m"), ("example.com/gpu", "4"), ("kubernetes.io/odd", "1")];
        assert_eq!(allocatable, amounts(&expected));
    }

    #[test]
    fn storage_as_shown() {
        let status = status(&[], &[("cpu", "1"), ("ephemeral-storage", "2Gi")]);
        let node = Node { status: Some(status), ..Node::default() };
        assert_eq!((shown_storage(&node), shown_storage(&Node::default())), (2 << 30, 0));
    }

    #[test]
    fn devices_count() {
        let count = |n| std::collections::BTreeMap::from([("a/b".to_owned(), n)]);
        let devices = Capacity { all: count(3), healthy: count(2), removed: ["a/old".to_owned()].into() };
        let (mut capacity, mut allocatable) = (Amounts::new(), Amounts::new());
        add_devices(&devices, &mut capacity, &mut allocatable);
        assert_eq!(capacity, amounts(&[("a/b", "3"), ("a/old", "0")]));
        assert_eq!(allocatable, amounts(&[("a/b", "2"), ("a/old", "0")]));
    }

    #[test]
    fn a_new_start_forgets_devices() {
        let both =
            [("cpu", "1"), ("example.com/gpu", "4"), ("hugepages-1Gi", "2Gi"), ("hugepages-2Mi", "4Mi")];
        let (old, own) = (status(&both, &both), amounts(&[("cpu", "1"), ("hugepages-2Mi", "4Mi")]));
        let zeroed = |s: NodeStatus| -> Vec<String> {
            let zero = |(_, a): &(&String, &Quantity)| a.0 == "0";
            s.allocatable.iter().flatten().filter(zero).map(|(n, _)| n.clone()).collect()
        };
        assert_eq!(zeroed(at_start(&old, &own, false).expect("a change")), ["hugepages-1Gi"]);
        assert_eq!(
            zeroed(at_start(&old, &own, true).expect("a change")),
            ["example.com/gpu", "hugepages-1Gi"]
        );
        let settled = status(&[("cpu", "1"), ("example.com/gpu", "0")], &[]);
        assert_eq!(at_start(&settled, &own, true), None);
    }
}
