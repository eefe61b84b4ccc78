//! The message that creates a container.
//!
//! Upstream: pkg/kubelet/kuberuntime/kuberuntime_container.go generateContainerConfig, v1.37.

use std::collections::BTreeMap;

use cri::v1;
use k8s_openapi::api::core::v1::{Container, Pod};

use super::expansion::expand;
use super::limits::NodeLimits;
use super::security::{self, Defaults, ImageUser};
use crate::devicemanager::settings::DeviceSettings;
use crate::pod::view::PodView;
use crate::runtime::labels;

/// What is known when a container is about to be created.
pub struct Inputs<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// The container.
    pub container: &'a Container,
    /// How many containers of this name came before.
    pub restart_count: u32,
    /// The image as the runtime knows it.
    pub image_ref: &'a str,
    /// Runtime handler of the image, empty for the default.
    pub image_handler: &'a str,
    /// User that the image asks for.
    pub user: &'a ImageUser,
    /// The environment.
    pub env: &'a BTreeMap<String, String>,
    /// Mounts, ready to be used.
    pub mounts: Vec<v1::Mount>,
    /// What plugins want in the container for its devices; their mounts are among the others.
    pub devices: DeviceSettings,
    /// Container whose processes are to be seen, for ephemeral containers.
    pub target: Option<&'a str>,
    /// User namespace of the pod.
    pub userns: Option<v1::UserNamespace>,
    /// Facts about the node.
    pub node: &'a NodeLimits,
    /// Security defaults of the node.
    pub defaults: &'a Defaults<'a>,
}

/// Path of a container's log below the pod's log folder.
pub fn log_path(container: &str, restart_count: u32) -> String {
    format!("{container}/{restart_count}.log")
}

/// The message that creates the container.
///
/// # Errors
/// If its security settings cannot be applied.
pub fn container_config(inputs: Inputs<'_>) -> Result<v1::ContainerConfig, security::Error> {
    let Inputs { pod, container, env, .. } = inputs;
    security::verify_non_root(pod, container, inputs.user)?;
    let expand_all = |list: &Option<Vec<String>>| -> Vec<String> {
        list.iter().flatten().map(|text| expand(text, |name| env.get(name).cloned())).collect()
    };
    let mut security =
        security::container_security(pod, container, inputs.user, inputs.userns.clone(), inputs.defaults)?;
    if let (Some(target), Some(options)) = (inputs.target, security.namespace_options.as_mut())
        && options.pid == i32::from(v1::NamespaceMode::Container)
    {
        options.pid = v1::NamespaceMode::Target.into();
        options.target_id = target.to_owned();
    }
    let mut mounts = inputs.mounts;
    if let Some(userns) = &inputs.userns {
        for mount in &mut mounts {
            mount.uid_mappings.clone_from(&userns.uids);
            mount.gid_mappings.clone_from(&userns.gids);
        }
    }
    let mut resources = inputs.node.container(pod, container);
    if let Some(cpus) = inputs.node.cpus.as_ref().and_then(|all| all.cpus_of(pod.uid(), &container.name)) {
        resources.cpuset_cpus = cpus;
    }
    let memory = inputs.node.memory.as_ref();
    if let Some(nodes) = memory.and_then(|all| all.nodes_of(pod.uid(), &container.name)) {
        resources.cpuset_mems = nodes;
    }
    let devices = inputs.devices;
    let mut annotations = devices.annotations;
    annotations.extend(labels::container_annotations(container, pod, inputs.restart_count));
    Ok(v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata { name: container.name.clone(), attempt: inputs.restart_count }),
        image: Some(v1::ImageSpec {
            image: inputs.image_ref.to_owned(),
            user_specified_image: container.image.clone().unwrap_or_default(),
            runtime_handler: inputs.image_handler.to_owned(),
            ..Default::default()
        }),
        command: expand_all(&container.command),
        args: expand_all(&container.args),
        working_dir: container.working_dir.clone().unwrap_or_default(),
        // What comes later counts.
        envs: (devices.envs.iter().chain(env))
            .map(|(key, value)| v1::KeyValue { key: key.clone(), value: value.as_bytes().to_vec() })
            .collect(),
        mounts,
        devices: devices.devices,
        cdi_devices: devices.cdi_devices,
        labels: labels::container_labels(container, pod),
        annotations: annotations.into_iter().collect(),
        log_path: log_path(&container.name, inputs.restart_count),
        stdin: container.stdin.unwrap_or(false),
        stdin_once: container.stdin_once.unwrap_or(false),
        tty: container.tty.unwrap_or(false),
        linux: Some(v1::LinuxContainerConfig {
            resources: Some(resources),
            security_context: Some(security),
        }),
        stop_signal: stop_signal(container),
        ..Default::default()
    })
}

/// The signal that stops the container, where the spec names one that the runtime interface knows.
fn stop_signal(container: &Container) -> i32 {
    let Some(name) = container.lifecycle.as_ref().and_then(|l| l.stop_signal.as_deref()) else { return 0 };
    let full = format!("SIGNAL_{}", name.replace('+', "PLUS").replace('-', "MINUS"));
    v1::Signal::from_str_name(&full).map_or(0, i32::from)
}
