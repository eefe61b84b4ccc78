//! The message that creates a pod's sandbox.
//!
//! Upstream: pkg/kubelet/kuberuntime/kuberuntime_sandbox.go generatePodSandboxConfig, v1.37.

use std::collections::{BTreeMap, BTreeSet};

use cri::v1;
use k8s_openapi::api::core::v1::{Container, Pod};

use super::limits::NodeLimits;
use super::security;
use crate::pod::view::{PodView, init_containers, is_sidecar};
use crate::runtime::labels;
use crate::sysctl;

/// What is known when a sandbox is about to be created.
pub struct Inputs<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// How many sandboxes the pod had before.
    pub attempt: u32,
    /// Name servers and search domains.
    pub dns: v1::DnsConfig,
    /// The kernel's host name for the pod; empty with the node's network.
    pub hostname: String,
    /// Folder of the pod's logs.
    pub log_directory: String,
    /// The pod's cgroup.
    pub cgroup_parent: String,
    /// User namespace of the pod.
    pub userns: Option<v1::UserNamespace>,
    /// Kernel parameters of pods that do not set them.
    pub sysctls: &'a BTreeMap<String, String>,
    /// Facts about the node.
    pub node: &'a NodeLimits,
}

/// The message that creates the sandbox.
///
/// # Errors
/// If its security settings cannot be applied.
pub fn sandbox_config(inputs: Inputs<'_>) -> Result<v1::PodSandboxConfig, security::Error> {
    let pod = inputs.pod;
    Ok(v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: pod.name().to_owned(),
            uid: pod.uid().to_owned(),
            namespace: pod.namespace().to_owned(),
            attempt: inputs.attempt,
        }),
        hostname: inputs.hostname,
        log_directory: inputs.log_directory,
        dns_config: Some(inputs.dns),
        port_mappings: port_mappings(pod),
        labels: labels::sandbox_labels(pod),
        annotations: labels::sandbox_annotations(pod),
        linux: Some(v1::LinuxPodSandboxConfig {
            cgroup_parent: inputs.cgroup_parent,
            security_context: Some(security::sandbox_security(pod, inputs.userns)?),
            sysctls: sysctl::of_sandbox(inputs.sysctls, pod),
            overhead: Some(inputs.node.overhead(pod)),
            resources: Some(inputs.node.sandbox(pod)),
        }),
        ..Default::default()
    })
}

fn port_mappings(pod: &Pod) -> Vec<v1::PortMapping> {
    let spec = pod.spec();
    let sidecars = init_containers(spec).iter().filter(|c| is_sidecar(c));
    sidecars.chain(&spec.containers).flat_map(container_ports).collect()
}

/// A container's ports, each once. Upstream: pkg/kubelet/container/helpers.go MakePortMappings.
fn container_ports(container: &Container) -> Vec<v1::PortMapping> {
    let mut seen = BTreeSet::new();
    let mut out = Vec::new();
    for port in container.ports.iter().flatten() {
        let protocol = match port.protocol.as_deref() {
            Some("UDP") => v1::Protocol::Udp,
            Some("SCTP") => v1::Protocol::Sctp,
            _ => v1::Protocol::Tcp,
        };
        let host_ip = port.host_ip.clone().unwrap_or_default();
        let host_port = port.host_port.unwrap_or_default();
        if seen.insert((i32::from(protocol), host_ip.clone(), host_port, port.container_port)) {
            out.push(v1::PortMapping {
                protocol: protocol.into(),
                container_port: port.container_port,
                host_port,
                host_ip,
            });
        }
    }
    out
}
