//! What pods may have together, and what is reserved for the machine's own daemons: limits of the groups on top.
//!
//! Upstream: pkg/kubelet/cm/node_container_manager_linux.go, v1.37.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use component::app::Error;
use component::features::Gate;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use tokio_util::sync::CancellationToken;

use super::classes::{self, Policy, Reserve as MemoryReserve};
use super::fs::Hierarchy;
use super::manager::{CgroupManager, Driver, Settings as TreeSettings};
use crate::config::Settings;
use crate::container::limits::{CgroupLimits, NodeLimits, milli_to_shares};
use crate::events::Events;
use crate::kubelet::Kubelet;
use crate::node::machine::Machine;
use crate::node_facts::NodeFacts;
use crate::pod::resources::{Amounts, milli, whole};

/// A limit that was refused is tried again after this pause, as upstream.
const RETRY: Duration = Duration::from_secs(60);
const ENFORCED: &str = "NodeAllocatableEnforced";
const FAILED: &str = "FailedNodeAllocatableEnforcement";

/// Makes the tree and limits the groups of the system's and Kubernetes' own daemons.
///
/// # Errors
/// If something on top cannot be made or limited: the kubelet does not start then.
pub async fn build(
    hierarchy: Hierarchy,
    driver: Driver,
    settings: &Settings,
    node: &NodeFacts,
    machine: &Machine,
    events: &Events,
) -> Result<CgroupManager, Error> {
    let tree = TreeSettings {
        per_qos: settings.cgroups_per_qos,
        root: settings.cgroup_root.clone(),
        allocatable: of_pods(settings, &node.limits, machine),
        pod_pids: Some(settings.pod_pids_limit).filter(|n| *n > 0),
        classes: Policy {
            page_sizes: node.limits.huge_page_sizes.clone(),
            protects_memory: node.limits.protects_memory,
            reserve: reserve(settings, &node.limits),
        },
    };
    let cgroups = CgroupManager::new(hierarchy, driver, tree);
    let failed = |e: &str| format!("failed to start ContainerManager: {e}");
    cgroups.create_tree().await.map_err(|e| failed(&e))?;
    for reserve in reserves(settings, &node.limits) {
        let Reserve { what, path, limits } = reserve;
        if let Err(error) = cgroups.limit_reserved(&path, &limits).await {
            let message = format!("Failed to enforce {} Cgroup Limits on {path:?}: {error}", title(what));
            events.node(&node.name, true, FAILED, &message);
            return Err(failed(&message).into());
        }
        let group = what.trim_end_matches(" compressible");
        events.node(&node.name, false, ENFORCED, &format!("Updated limits on {group} cgroup {path}"));
    }
    Ok(cgroups)
}

/// Limits the group of all pods; until the kernel takes it, every minute again.
pub async fn enforce(kubelet: Arc<Kubelet>, stop: CancellationToken) {
    let name = kubelet.node.name.clone();
    while let Err(error) = kubelet.runtime.cgroups.enforce_allocatable().await {
        let message = format!("Failed to update Node Allocatable Limits: {error}");
        kubelet.events.node(&name, true, FAILED, &message);
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(RETRY) => {}
        }
    }
    kubelet.events.node(&name, false, ENFORCED, "Updated Node Allocatable limit across pods");
}

/// Memory that classes may not take from those above them.
fn reserve(settings: &Settings, node: &NodeLimits) -> Option<MemoryReserve> {
    // What is wrong with it was told when the configuration was read.
    let percent = classes::reserved_percent(&settings.qos_reserved).ok().flatten();
    let allocatable = (node.memory_capacity - settings.reserved_milli("memory") / 1000).max(0);
    let reserve = percent.map(|percent| MemoryReserve { percent, allocatable });
    reserve.filter(|_| settings.is_on(Gate::QOSReserved))
}

/// All that the machine has, without what is reserved if that is enforced. Evictions work below this limit, so the reserve
/// for them is not taken off here.
fn of_pods(settings: &Settings, node: &NodeLimits, machine: &Machine) -> CgroupLimits {
    let enforced = settings.enforce_node_allocatable.iter().any(|level| level == "pods");
    let reserved = |name: &str| if enforced { settings.reserved_milli(name) } else { 0 };
    let left = |have: i64, name: &str| (have - reserved(name) / 1000).max(0);
    let pages = machine.huge_pages.iter().zip(&node.huge_page_sizes).map(|((size, bytes), name)| {
        let resource = format!("hugepages-{}", quantity(*size));
        (name.clone(), u64::try_from(left(*bytes, &resource)).unwrap_or_default())
    });
    CgroupLimits {
        shares: Some(milli_to_shares((machine.cpus.saturating_mul(1000) - reserved("cpu")).max(0))),
        memory: Some(left(node.memory_capacity, "memory")),
        pids: machine.max_tasks.map(|most| left(most, "pid")),
        // So that systemd knows of the controller; it would switch off what it does not know.
        cpus: Some(machine.online.clone()),
        huge_pages: Some(pages.collect()),
        ..CgroupLimits::default()
    }
}

/// Bytes as the API names them in a resource.
fn quantity(bytes: u64) -> String {
    let units = [(1u64 << 30, "Gi"), (1 << 20, "Mi"), (1 << 10, "Ki")];
    let fits = units.into_iter().find(|(unit, _)| bytes.is_multiple_of(*unit) && bytes > 0);
    fits.map_or_else(|| bytes.to_string(), |(unit, name)| format!("{}{name}", bytes / unit))
}

/// A group of others and what it is limited to.
#[derive(Debug, PartialEq)]
struct Reserve {
    what: &'static str,
    path: String,
    limits: CgroupLimits,
}

fn title(what: &str) -> String {
    let word = |word: &str| word[..1].to_uppercase() + &word[1..];
    what.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

fn reserves(settings: &Settings, node: &NodeLimits) -> Vec<Reserve> {
    let (system, kube) = (&settings.system_reserved_cgroup, &settings.kube_reserved_cgroup);
    // In upstream's order.
    let kinds = [
        ("system-reserved", "system reserved", system, &settings.system_reserved),
        ("kube-reserved", "kube reserved", kube, &settings.kube_reserved),
        ("system-reserved-compressible", "system reserved compressible", system, &settings.system_reserved),
        ("kube-reserved-compressible", "kube reserved compressible", kube, &settings.kube_reserved),
    ];
    let has = |level: &str| settings.enforce_node_allocatable.iter().any(|l| l == level);
    let wanted = kinds.into_iter().filter(|(level, ..)| has(level));
    wanted
        .map(|(level, what, path, reserved)| {
            let amount = |name: &str| reserved.get(name).map(|text| Quantity(text.clone()));
            let cpu = amount("cpu").map(|q| i64::try_from(milli(&q)).unwrap_or(i64::MAX));
            let mut limits = CgroupLimits { shares: cpu.map(milli_to_shares), ..CgroupLimits::default() };
            if !level.ends_with("compressible") {
                limits.memory = amount("memory").map(|q| whole(&q));
                limits.pids = amount("pid").map(|q| whole(&q));
                let pages = reserved.iter().map(|(name, text)| (name.clone(), Quantity(text.clone())));
                let pages = Amounts::of(Some(&pages.collect::<BTreeMap<_, _>>()));
                limits.huge_pages = Some(node.page_limits(&pages));
                if let Some(memory) = limits.memory.filter(|_| node.memory_qos) {
                    limits.unified.insert("memory.min", memory.to_string());
                }
            }
            Reserve { what, path: path.clone(), limits }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn limits_of_the_tree() {
        let settings: Settings = serde_json::from_value(json!({
            "enforceNodeAllocatable": ["pods", "system-reserved", "kube-reserved-compressible"],
            "systemReservedCgroup": "/system.slice", "kubeReservedCgroup": "/kube",
            "systemReserved": {"cpu": "500m", "memory": "1Gi", "pid": "100"},
            "kubeReserved": {"cpu": "250m", "memory": "1Gi"},
        }))
        .unwrap();
        let machine = Machine {
            cpus: 2,
            memory: 8 << 30,
            huge_pages: vec![(2 << 20, 64 << 20)],
            max_tasks: Some(1000),
            online: "0-1".into(),
            ..Machine::default()
        };
        let node = NodeLimits {
            memory_capacity: machine.memory,
            huge_page_sizes: vec!["2MB".into()],
            ..NodeLimits::default()
        };
        let pods = of_pods(&settings, &node, &machine);
        assert_eq!(pods.shares, Some(1280));
        assert_eq!((pods.memory, pods.pids), (Some(6 << 30), Some(900)));
        assert_eq!(
            (pods.cpus.as_deref(), pods.huge_pages),
            (Some("0-1"), Some(vec![("2MB".into(), 64 << 20)]))
        );
        let free = of_pods(&Settings::default(), &node, &machine);
        assert_eq!((free.shares, free.memory, free.pids), (Some(2048), Some(8 << 30), Some(1000)));
        assert_eq!(reserve(&settings, &node), None);
        let reserved = Settings {
            qos_reserved: BTreeMap::from([("memory".to_owned(), "50%".to_owned())]),
            feature_gates: BTreeMap::from([("QOSReserved".to_owned(), true)]),
            ..settings.clone()
        };
        let expected = MemoryReserve { percent: 50, allocatable: 6 << 30 };
        assert_eq!(reserve(&reserved, &node), Some(expected));
        let gated = Settings { feature_gates: BTreeMap::new(), ..reserved };
        assert_eq!(reserve(&gated, &node), None);
        let found = reserves(&settings, &node);
        assert_eq!((found[0].path.as_str(), found[0].limits.shares), ("/system.slice", Some(512)));
        assert_eq!((found[0].limits.memory, found[0].limits.pids), (Some(1 << 30), Some(100)));
        assert_eq!((found[1].what, found[1].limits.memory), ("kube reserved compressible", None));
        assert_eq!(title(found[1].what), "Kube Reserved Compressible");
    }
}
