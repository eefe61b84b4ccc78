//! The node's status as a whole, from what is known. Upstream: pkg/kubelet/nodestatus/setters.go, v1.37.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeFeatures,
    NodeRuntimeHandler, NodeStatus, NodeSwapStatus, NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::machine::Machine;
use super::resources;

/// What the status is made from.
pub struct Inputs<'a> {
    /// The machine.
    pub machine: &'a Machine,
    /// Host name that the node is known by.
    pub hostname: &'a str,
    /// Addresses, primary first.
    pub ips: &'a [String],
    /// True if an external cloud provider knows the addresses; what it has set is kept, and without addresses of our own
    /// (`given`) none are guessed.
    pub external_cloud: bool,
    /// True if the administrator gave the addresses.
    pub given: bool,
    /// What the machine has, as far as the kubelet knows of it.
    pub capacity: BTreeMap<String, Quantity>,
    /// What of it pods may have.
    pub allocatable: BTreeMap<String, Quantity>,
    /// Name and version of the runtime.
    pub runtime: &'a str,
    /// Version of Kubernetes that this kubelet speaks.
    pub version: &'a str,
    /// Port of the kubelet's server.
    pub port: u16,
    /// Images, largest first.
    pub images: Vec<ContainerImage>,
    /// Handlers of the runtime.
    pub handlers: Vec<NodeRuntimeHandler>,
    /// Whether the runtime keeps to a pod's supplemental groups; `None` if it does not say, and what it said before stays.
    pub supplemental_groups_policy: Option<bool>,
    /// What the node declares that it can do.
    pub declared_features: &'a [&'static str],
    /// Whether the kubelet is root only within a user namespace; absent if the node does not say.
    pub in_user_namespace: Option<bool>,
    /// Why the node is not ready; empty if it is.
    pub not_ready: &'a [String],
    /// Which resources are short: `memory.available` and so on.
    pub pressure: Pressure,
    /// The time.
    pub now: Timestamp,
}

/// Which resources are short.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// Memory.
    pub memory: bool,
    /// Disk space or inodes.
    pub disk: bool,
    /// Process ids.
    pub pid: bool,
}

/// Upstream: NodeAddress in pkg/kubelet/nodestatus/setters.go.
fn addresses(inputs: &Inputs<'_>, old: &NodeStatus) -> Option<Vec<NodeAddress>> {
    let known = old.addresses.as_ref().is_some_and(|list| !list.is_empty());
    if inputs.external_cloud && (known || !inputs.given) {
        return old.addresses.clone();
    }
    let mut addresses: Vec<NodeAddress> = (inputs.ips.iter())
        .map(|ip| NodeAddress { type_: "InternalIP".to_owned(), address: ip.clone() })
        .collect();
    addresses.push(NodeAddress { type_: "Hostname".to_owned(), address: inputs.hostname.to_owned() });
    Some(addresses)
}

/// The node's status; times of transitions are taken from `old`.
pub fn node_status(inputs: Inputs<'_>, old: &NodeStatus) -> NodeStatus {
    let machine = inputs.machine;
    let mut status = old.clone();
    status.addresses = addresses(&inputs, old);
    let (capacity, allocatable) = resources::merged(old, inputs.capacity, &inputs.allocatable);
    status.capacity = Some(capacity);
    status.allocatable = Some(allocatable);
    status.daemon_endpoints =
        Some(NodeDaemonEndpoints { kubelet_endpoint: Some(DaemonEndpoint { port: i32::from(inputs.port) }) });
    status.images = (!inputs.images.is_empty()).then_some(inputs.images);
    status.runtime_handlers = (!inputs.handlers.is_empty()).then_some(inputs.handlers);
    if let Some(keeps) = inputs.supplemental_groups_policy {
        status.features = Some(NodeFeatures { supplemental_groups_policy: Some(keeps) });
    }
    let declared: Vec<String> = inputs.declared_features.iter().map(|name| (*name).to_owned()).collect();
    status.declared_features = (!declared.is_empty()).then_some(declared);
    status.node_info = Some(NodeSystemInfo {
        machine_id: machine.machine_id.clone(),
        system_uuid: machine.system_uuid.clone(),
        boot_id: machine.boot_id.clone(),
        kernel_version: machine.kernel.clone(),
        os_image: machine.os_image.clone(),
        container_runtime_version: inputs.runtime.to_owned(),
        kubelet_version: inputs.version.to_owned(),
        kube_proxy_version: String::new(),
        operating_system: "linux".to_owned(),
        architecture: go_arch().to_owned(),
        running_in_user_namespace: inputs.in_user_namespace,
        swap: (machine.swap > 0).then_some(NodeSwapStatus { capacity: Some(machine.swap) }),
    });
    let conditions = status.conditions.get_or_insert_default();
    let p = inputs.pressure;
    let pressures = [
        (
            "MemoryPressure",
            p.memory,
            ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
            ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ),
        (
            "DiskPressure",
            p.disk,
            ("KubeletHasDiskPressure", "kubelet has disk pressure"),
            ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ),
        (
            "PIDPressure",
            p.pid,
            ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
            ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ),
    ];
    for (kind, bad, if_bad, if_good) in pressures {
        let (reason, message) = if bad { if_bad } else { if_good };
        set(conditions, kind, bad, reason, message, inputs.now);
    }
    // Ready comes last: whoever reads the list in order sees the reasons first.
    let ready = inputs.not_ready.is_empty();
    let message = if ready { "kubelet is posting ready status".to_owned() } else { join(inputs.not_ready) };
    set(
        conditions,
        "Ready",
        ready,
        if ready { "KubeletReady" } else { "KubeletNotReady" },
        &message,
        inputs.now,
    );
    status
}

fn join(errors: &[String]) -> String {
    match errors {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    }
}

fn set(
    conditions: &mut Vec<NodeCondition>,
    kind: &str,
    on: bool,
    reason: &str,
    message: &str,
    now: Timestamp,
) {
    let status = if on { "True" } else { "False" };
    let at = conditions.iter().position(|c| c.type_ == kind);
    let changed = at.is_none_or(|at| conditions[at].status != status);
    let since = at.and_then(|at| conditions[at].last_transition_time.clone());
    let condition = NodeCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_heartbeat_time: Some(Time(now)),
        last_transition_time: if changed { Some(Time(now)) } else { since },
    };
    match at {
        Some(at) => conditions[at] = condition,
        None => conditions.push(condition),
    }
}

/// The processor's name as Go spells it.
pub fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}

/// Bytes in the canonical binary form: the largest unit that divides them.
pub fn binary(bytes: i64) -> Quantity {
    const UNITS: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    let mut value = bytes;
    let mut unit = 0;
    while value != 0 && value % 1024 == 0 && unit + 1 < UNITS.len() {
        value /= 1024;
        unit += 1;
    }
    Quantity(format!("{value}{}", UNITS[unit]))
}

/// A count of processors in thousandths, in canonical form.
pub fn cpus(milli: i64) -> Quantity {
    if milli % 1000 == 0 { Quantity((milli / 1000).to_string()) } else { Quantity(format!("{milli}m")) }
}

/// True if the two differ in more than heartbeats.
pub fn differs(old: &NodeStatus, new: &NodeStatus) -> bool {
    let plain = |status: &NodeStatus| {
        let mut status = status.clone();
        for condition in status.conditions.iter_mut().flatten() {
            condition.last_heartbeat_time = None;
        }
        status
    };
    plain(old) != plain(new)
}

/// The strategic merge patch from one status to the other.
pub fn patch(old: &NodeStatus, new: &NodeStatus) -> Value {
    let object = |status: &NodeStatus| match serde_json::to_value(status) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    };
    let (old, new) = (object(old), object(new));
    let mut out = Map::new();
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        out.insert(key.clone(), Value::Null);
    }
    for (key, value) in new {
        let before = old.get(&key);
        if before == Some(&value) {
            continue;
        }
        let changed = match (key.as_str(), value) {
            ("conditions", Value::Array(list)) => {
                let known = before.and_then(Value::as_array).cloned().unwrap_or_default();
                list.into_iter().filter(|c| !known.contains(c)).collect()
            }
            ("addresses", Value::Array(list)) => {
                std::iter::once(json!({"$patch": "replace"})).chain(list).collect()
            }
            (_, Value::Object(map)) => map_changes(before, map),
            (_, value) => value,
        };
        out.insert(key, changed);
    }
    json!({"status": out})
}

fn map_changes(before: Option<&Value>, mut new: Map<String, Value>) -> Value {
    for key in before.and_then(Value::as_object).into_iter().flat_map(Map::keys) {
        new.entry(key.clone()).or_insert(Value::Null);
    }
    Value::Object(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cloud_providers_know_addresses() {
        let of = |external_cloud, given, old: &NodeStatus| {
            status_of((external_cloud, given), 1, &[], old).addresses.map(|list| list[0].address.clone())
        };
        let known = NodeAddress { type_: "InternalIP".into(), address: "9.9.9.9".into() };
        let old = NodeStatus { addresses: Some(vec![known]), ..NodeStatus::default() };
        assert_eq!(of(false, false, &old).as_deref(), Some("1.1.1.1"));
        assert_eq!(of(true, true, &old).as_deref(), Some("9.9.9.9"));
        assert_eq!(of(true, true, &NodeStatus::default()).as_deref(), Some("1.1.1.1"));
        assert_eq!(of(true, false, &NodeStatus::default()), None);
    }

    fn status(now: i64, errors: &[String], old: &NodeStatus) -> NodeStatus {
        status_of((false, false), now, errors, old)
    }

    fn status_of(cloud: (bool, bool), now: i64, errors: &[String], old: &NodeStatus) -> NodeStatus {
        status_with(None, cloud, now, errors, old)
    }

    fn status_with(
        groups: Option<bool>,
        cloud: (bool, bool),
        now: i64,
        errors: &[String],
        old: &NodeStatus,
    ) -> NodeStatus {
        node_status(
            Inputs {
                machine: &Machine::default(),
                hostname: "h",
                external_cloud: cloud.0,
                given: cloud.1,
                ips: &["1.1.1.1".into()],
                capacity: BTreeMap::new(),
                allocatable: BTreeMap::new(),
                runtime: "containerd://2",
                version: "v1.37.2",
                port: 10250,
                images: vec![],
                handlers: vec![],
                supplemental_groups_policy: groups,
                declared_features: &["A"],
                in_user_namespace: Some(false),
                not_ready: errors,
                pressure: Pressure::default(),
                now: Timestamp::from_second(now).unwrap(),
            },
            old,
        )
    }

    #[test]
    fn features_are_what_the_runtime_says() {
        let with = |groups, old: &NodeStatus| {
            let status = status_with(groups, (false, false), 1, &[], old);
            status.features.map(|features| features.supplemental_groups_policy)
        };
        let before = status_with(Some(true), (false, false), 1, &[], &NodeStatus::default());
        assert_eq!(with(None, &NodeStatus::default()), None);
        assert_eq!(with(None, &before), Some(Some(true)));
        assert_eq!(with(Some(false), &before), Some(Some(false)));
    }

    #[test]
    fn conditions() {
        let first = status(1, &["a".into(), "b".into()], &NodeStatus::default());
        let ready = |s: &NodeStatus| s.conditions.clone().unwrap().pop().unwrap();
        assert_eq!(
            (ready(&first).status.as_str(), ready(&first).message.as_deref()),
            ("False", Some("[a, b]"))
        );
        let second = status(2, &[], &first);
        assert_eq!(ready(&second).last_transition_time.unwrap().0.as_second(), 2);
        assert_eq!(
            second.conditions.as_ref().unwrap()[0].last_transition_time.as_ref().unwrap().0.as_second(),
            1
        );
        assert!(differs(&first, &second));
        assert!(!differs(&second, &status(3, &[], &second)));
    }

    #[test]
    fn quantities() {
        assert_eq!(binary(16 << 30).0, "16Gi");
        assert_eq!(binary(1025).0, "1025");
        assert_eq!([2000, 1930].map(|m| cpus(m).0), ["2", "1930m"]);
    }

    #[test]
    fn patches_only_what_changed() {
        let first = status(1, &["a".into()], &NodeStatus::default());
        let second = status(1, &[], &first);
        let patch = patch(&first, &second);
        assert_eq!(patch["status"]["conditions"].as_array().unwrap().len(), 1);
        assert_eq!(patch["status"].as_object().unwrap().len(), 1);
    }
}
