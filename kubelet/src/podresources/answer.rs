//! The answers. Upstream: server_v1.go, server_v1alpha1.go, and the conversions in pkg/kubelet/cm/container_manager.go and
//! container_manager_linux.go.

use k8s_openapi::api::core::v1::{Container, Pod};
use pluginapi::podresources::v1::{
    AllocatableResourcesResponse, CdiDevice, ClaimResource, ContainerDevices, ContainerMemory,
    ContainerResources, DynamicResource, NumaNode, PodResources, TopologyInfo,
};
use pluginapi::podresources::v1alpha1 as old;

use super::Node;
use crate::devicemanager::state::Held;
use crate::dra::claims::ClaimInfo;
use crate::memorymanager::state::Block;
use crate::pod::view::{PodView, init_containers, is_sidecar};

/// A pod: its sidecars and containers, but no init containers that end.
pub fn pod(node: &dyn Node, pod: &Pod) -> PodResources {
    let spec = pod.spec();
    let sidecars = init_containers(spec).iter().filter(|c| is_sidecar(c));
    PodResources {
        name: pod.name().to_owned(),
        namespace: pod.namespace().to_owned(),
        containers: sidecars.chain(&spec.containers).map(|c| container(node, pod, c)).collect(),
        cpu_ids: node.pod_cpus(pod.uid()),
        memory: node.pod_memory(pod.uid()).into_iter().map(memory).collect(),
    }
}

fn container(node: &dyn Node, pod: &Pod, container: &Container) -> ContainerResources {
    let (uid, name) = (pod.uid(), container.name.as_str());
    ContainerResources {
        name: name.to_owned(),
        devices: devices(node.devices(uid, name)),
        cpu_ids: node.cpus(uid, name),
        memory: node.memory(uid, name).into_iter().map(memory).collect(),
        dynamic_resources: node.claims(pod, container).into_iter().map(claim).collect(),
    }
}

/// A pod in the older version.
pub fn old_pod(node: &dyn Node, pod: &Pod) -> old::PodResources {
    let container = |container: &Container| old::ContainerResources {
        name: container.name.clone(),
        devices: devices(node.devices(pod.uid(), &container.name))
            .into_iter()
            .map(|d| old::ContainerDevices { resource_name: d.resource_name, device_ids: d.device_ids })
            .collect(),
    };
    old::PodResources {
        name: pod.name().to_owned(),
        namespace: pod.namespace().to_owned(),
        containers: pod.spec().containers.iter().map(container).collect(),
    }
}

/// What containers may have.
pub fn allocatable(node: &dyn Node) -> AllocatableResourcesResponse {
    AllocatableResourcesResponse {
        devices: devices(node.all_devices()),
        cpu_ids: node.all_cpus(),
        memory: node.all_memory().into_iter().map(memory).collect(),
    }
}

fn topology(nodes: impl Iterator<Item = i64>) -> Option<TopologyInfo> {
    Some(TopologyInfo { nodes: nodes.map(|id| NumaNode { id }).collect() })
}

/// One entry per device, and per NUMA node of it.
fn devices(held: Vec<Held>) -> Vec<ContainerDevices> {
    let mut out = Vec::new();
    for Held { resource, id, nodes } in held {
        let entry = |topology| ContainerDevices {
            resource_name: resource.clone(),
            device_ids: vec![id.clone()],
            topology,
        };
        match nodes {
            None => out.push(entry(None)),
            Some(nodes) => out.extend(nodes.into_iter().map(|n| entry(topology(std::iter::once(n))))),
        }
    }
    out
}

fn memory(block: Block) -> ContainerMemory {
    ContainerMemory {
        memory_type: block.r#type,
        size: block.size,
        topology: topology(block.numa_affinity.into_iter().map(i64::from)),
    }
}

/// A claim; as upstream's, each device of a driver is shown with the names of those before it.
fn claim(info: ClaimInfo) -> DynamicResource {
    let mut claim_resources = Vec::new();
    for (driver, state) in info.drivers {
        let mut cdi_devices = Vec::new();
        for device in state.devices {
            cdi_devices.extend(device.cdi.into_iter().map(|name| CdiDevice { name }));
            claim_resources.push(ClaimResource {
                cdi_devices: cdi_devices.clone(),
                driver_name: driver.clone(),
                pool_name: device.pool,
                device_name: device.name,
                share_id: device.share,
            });
        }
    }
    DynamicResource { claim_name: info.name, claim_namespace: info.namespace, claim_resources }
}
