//! Changing CPU and memory of running containers: which ones differ from their spec, and in what order to change them.
//!
//! What is in force is what the runtime reports; a runtime that reports nothing (containerd before 1.7) cannot resize.
//! Upstream: computePodResizeAction and doPodResizeAction in pkg/kubelet/kuberuntime/kuberuntime_manager.go, v1.37.

use std::sync::Arc;

use cri::v1::{LinuxContainerResources, UpdateContainerResourcesRequest};
use k8s_openapi::api::core::v1::{Container, Pod};

use super::actions::{Kill, KillReason, PodActions};
use super::manager::Runtime;
use super::model::{ContainerId, ContainerState, PodStatus};
use crate::container::limits::{CgroupLimits, NodeLimits};
use crate::pod::view::{PodView, init_containers};

/// A container whose limits are not what its spec says.
#[derive(Clone, Debug, PartialEq)]
pub struct Resize {
    /// Its name in the spec.
    pub name: String,
    /// Index in `initContainers` (`true`) or `containers`.
    pub position: (bool, usize),
    /// Which container on the runtime.
    pub id: ContainerId,
    /// What it is to have.
    pub wanted: LinuxContainerResources,
    /// True if it asked to be restarted for such a change.
    pub restart: bool,
}

/// Running containers whose limits differ from their spec.
pub fn plan(pod: &Pod, status: &PodStatus, node: &NodeLimits) -> Vec<Resize> {
    let spec = pod.spec();
    let init = init_containers(spec).iter().enumerate().map(|(i, c)| ((true, i), c));
    let regular = spec.containers.iter().enumerate().map(|(i, c)| ((false, i), c));
    init.chain(regular)
        .filter_map(|(position, container)| {
            let found = status.find_active(&container.name).filter(|c| c.state == ContainerState::Running)?;
            let actual = found.limits.as_ref()?;
            let wanted = node.container(pod, container);
            // A limit cannot be taken away, only changed.
            let cpu = wanted.cpu_shares != actual.cpu_shares
                || (wanted.cpu_quota > 0
                    && (wanted.cpu_quota, wanted.cpu_period) != (actual.cpu_quota, actual.cpu_period));
            let memory = wanted.memory_limit_in_bytes > 0
                && wanted.memory_limit_in_bytes != actual.memory_limit_in_bytes;
            (cpu || memory).then(|| Resize {
                name: container.name.clone(),
                position,
                id: found.id.clone(),
                wanted,
                restart: restart_wanted(container, cpu, memory),
            })
        })
        .collect()
}

fn restart_wanted(container: &Container, cpu: bool, memory: bool) -> bool {
    container.resize_policy.iter().flatten().any(|policy| {
        let changed = match policy.resource_name.as_str() {
            "cpu" => cpu,
            "memory" => memory,
            _ => false,
        };
        changed && policy.restart_policy == "RestartContainer"
    })
}

/// Containers that have to be restarted for their new limits join the others that are restarted.
pub fn add_restarts(resizes: &[Resize], actions: &mut PodActions) {
    for resize in resizes.iter().filter(|r| r.restart) {
        if actions.kill.iter().any(|kill| kill.id == resize.id) {
            continue;
        }
        actions.kill.push(Kill {
            id: resize.id.clone(),
            name: resize.name.clone(),
            message: format!("Container {} resize requires restart", resize.name),
            reason: KillReason::Other,
        });
        let (init, index) = resize.position;
        if init { actions.start_init.push(index) } else { actions.start.push(index) }
    }
}

impl Runtime {
    /// Changes the pod's group and its containers. The group is opened first and set last, because a container may never
    /// have more than its pod.
    ///
    /// # Errors
    /// If the kernel or the runtime refuses; what was changed until then stays, and the next sync goes on.
    pub async fn resize(&self, pod: &Arc<Pod>, resizes: &[Resize]) -> Result<(), String> {
        let limits = self.node.limits.pod_cgroup(pod);
        let open =
            CgroupLimits { quota: limits.quota.map(|(_, period)| (-1, period)), ..CgroupLimits::default() };
        self.cgroups.set_pod(pod, &open).await.map_err(|e| e.to_string())?;
        if let Some(memory) = limits.memory {
            // Growing has to come before the containers; if it shrinks, this fails and the last step does it.
            let grown = CgroupLimits { memory: Some(memory), ..CgroupLimits::default() };
            let _ = self.cgroups.set_pod(pod, &grown).await;
        }
        for resize in resizes.iter().filter(|r| !r.restart) {
            let request = UpdateContainerResourcesRequest {
                container_id: resize.id.id.clone(),
                linux: Some(resize.wanted.clone()),
                ..Default::default()
            };
            self.cri
                .update_container_resources(request)
                .await
                .map_err(|e| format!("failed to resize container {}: {e}", resize.name))?;
        }
        self.cgroups.set_pod(pod, &limits).await.map_err(|e| e.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::limits::DEFAULT_PERIOD_US;
    use crate::runtime::model::{ContainerStatus, SandboxStatus};
    use serde_json::json;

    #[test]
    fn finds_differences() {
        let node = NodeLimits {
            cgroup_v2: false,
            cpu_cfs_quota: true,
            cpu_period_us: DEFAULT_PERIOD_US,
            memory_capacity: 8 << 30,
            single_process_oom_kill: false,
            swap_controller: false,
            ..NodeLimits::default()
        };
        let pod = |cpu: &str| -> Pod {
            serde_json::from_value(json!({"spec": {"containers": [{"name": "c",
                "resources": {"limits": {"cpu": cpu, "memory": "1Gi"}},
                "resizePolicy": [{"resourceName": "memory", "restartPolicy": "RestartContainer"}]}]}}))
            .unwrap()
        };
        let before = pod("1");
        let mut status = PodStatus {
            sandboxes: vec![SandboxStatus { id: "s".into(), ready: true, ..Default::default() }],
            containers: vec![ContainerStatus {
                name: "c".into(),
                state: ContainerState::Running,
                sandbox_id: "s".into(),
                limits: Some(node.container(&before, &before.spec().containers[0])),
                ..Default::default()
            }],
            ..Default::default()
        };
        assert!(plan(&before, &status, &node).is_empty());
        let found = plan(&pod("2"), &status, &node);
        assert_eq!((found.len(), found[0].restart, found[0].wanted.cpu_quota), (1, false, 200_000));
        if let Some(limits) = &mut status.containers[0].limits {
            limits.memory_limit_in_bytes = 1;
        }
        assert!(plan(&before, &status, &node)[0].restart);
        status.containers[0].limits = None;
        assert!(plan(&pod("2"), &status, &node).is_empty());
    }
}
