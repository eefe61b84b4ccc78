//! Events about changes of the node's status.
//!
//! Upstream: what setters in pkg/kubelet/nodestatus/setters.go record, and recordNodeSchedulableEvent in
//! pkg/kubelet/kubelet_node_status.go, v1.37.

use k8s_openapi::api::core::v1::{NodeCondition, NodeStatus};

/// Conditions about what runs short, with the events if they begin and end.
const PRESSURES: [(&str, &str, &str); 3] = [
    ("MemoryPressure", "NodeHasInsufficientMemory", "NodeHasSufficientMemory"),
    ("DiskPressure", "NodeHasDiskPressure", "NodeHasNoDiskPressure"),
    ("PIDPressure", "NodeHasInsufficientPID", "NodeHasSufficientPID"),
];

/// Reasons of the events when the status changes, in order. A node that is new says what it is not short of.
pub fn reasons(old: &NodeStatus, new: &NodeStatus) -> Vec<&'static str> {
    let mut out = Vec::new();
    for (kind, begins, ends) in PRESSURES {
        match (is(old, kind), is(new, kind)) {
            (before, Some(true)) if before != Some(true) => out.push(begins),
            (before, Some(false)) if before != Some(false) => out.push(ends),
            _ => {}
        }
    }
    match (condition(old, "Ready"), is(new, "Ready")) {
        (Some(before), Some(true)) if before.status != "True" => out.push("NodeReady"),
        (Some(before), Some(false)) if before.status != "False" => out.push("NodeNotReady"),
        _ => {}
    }
    out
}

fn condition<'a>(status: &'a NodeStatus, kind: &str) -> Option<&'a NodeCondition> {
    status.conditions.iter().flatten().find(|c| c.type_ == kind)
}

fn is(status: &NodeStatus, kind: &str) -> Option<bool> {
    match condition(status, kind)?.status.as_str() {
        "True" => Some(true),
        "False" => Some(false),
        _ => None,
    }
}

/// What an event with such a reason says.
pub fn text(node: &str, reason: &str) -> String {
    format!("Node {node} status is now: {reason}")
}

/// What is to be told if the machine was started anew since the old status.
pub fn reboot(node: &str, old: &NodeStatus, new: &NodeStatus) -> Option<String> {
    let of =
        |status: &NodeStatus| status.node_info.as_ref().map(|info| info.boot_id.clone()).unwrap_or_default();
    let (old, new) = (of(old), of(new));
    (!old.is_empty() && old != new).then(|| format!("Node {node} has been rebooted, boot id: {new}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn status(conditions: &str) -> NodeStatus {
        let one = |word: &str| {
            let (kind, value) = word.split_once('=').unwrap();
            json!({"type": kind, "status": value})
        };
        let all: Vec<_> = conditions.split_whitespace().map(one).collect();
        serde_json::from_value(json!({"conditions": all})).unwrap()
    }

    #[test]
    fn transitions() {
        let check = |old, new| reasons(&status(old), &status(new)).join(" ");
        let well = "MemoryPressure=False DiskPressure=False PIDPressure=False Ready=True";
        assert_eq!(check("", well), "NodeHasSufficientMemory NodeHasNoDiskPressure NodeHasSufficientPID");
        assert_eq!(check(well, well), "");
        let ill = "MemoryPressure=False DiskPressure=True PIDPressure=True Ready=False";
        assert_eq!(check(well, ill), "NodeHasDiskPressure NodeHasInsufficientPID NodeNotReady");
        assert_eq!(check(ill, well), "NodeHasNoDiskPressure NodeHasSufficientPID NodeReady");
        // The node lifecycle controller says so of a kubelet that is silent.
        let unknown = "MemoryPressure=Unknown DiskPressure=False PIDPressure=False Ready=Unknown";
        assert_eq!(check(unknown, well), "NodeHasSufficientMemory NodeReady");
    }

    #[test]
    fn boots() {
        let booted = |id: &str| -> NodeStatus {
            let mut out = status("");
            out.node_info = Some(Default::default());
            out.node_info.as_mut().unwrap().boot_id = id.to_owned();
            out
        };
        assert_eq!(reboot("n", &booted("a"), &booted("a")), None);
        assert_eq!(reboot("n", &booted(""), &booted("a")), None);
        assert_eq!(reboot("n", &booted("a"), &booted("b")).unwrap(), "Node n has been rebooted, boot id: b");
    }
}
