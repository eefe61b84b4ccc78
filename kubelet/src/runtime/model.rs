//! The kubelet's picture of one pod on the runtime: sandboxes and containers, newest first.
//!
//! Upstream: pkg/kubelet/container/runtime.go (PodStatus, Status, Pod), v1.37.

use std::collections::BTreeMap;

use cri::v1;

/// Identity of a container as the API prints it: `containerd://<hex>`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContainerId {
    /// The runtime's name.
    pub runtime: String,
    /// The runtime's own id.
    pub id: String,
}

impl std::fmt::Display for ContainerId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}", self.runtime, self.id)
    }
}

impl ContainerId {
    /// Reads the form that the API prints.
    pub fn parse(text: &str) -> Option<Self> {
        let (runtime, id) = text.split_once("://")?;
        Some(Self { runtime: runtime.to_owned(), id: id.to_owned() })
    }
}

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ContainerState {
    /// Exists, never started, or its start failed half way.
    Created,
    /// Its first process runs.
    Running,
    /// Its first process has ended; the exit code is known.
    Exited,
    /// The runtime lost track of it; it may or may not run.
    #[default]
    Unknown,
}

impl std::fmt::Display for ContainerState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ContainerState::Created => "created",
            ContainerState::Running => "running",
            ContainerState::Exited => "exited",
            ContainerState::Unknown => "unknown",
        })
    }
}

impl From<v1::ContainerState> for ContainerState {
    fn from(state: v1::ContainerState) -> Self {
        match state {
            v1::ContainerState::ContainerCreated => Self::Created,
            v1::ContainerState::ContainerRunning => Self::Running,
            v1::ContainerState::ContainerExited => Self::Exited,
            v1::ContainerState::ContainerUnknown => Self::Unknown,
        }
    }
}

/// User of a container's first process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: i64,
    /// Primary group.
    pub gid: i64,
    /// Further groups.
    pub groups: Vec<i64>,
}

/// One container on the runtime.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ContainerStatus {
    /// Identity.
    pub id: ContainerId,
    /// Name in the pod's spec.
    pub name: String,
    /// State at the time of asking.
    pub state: ContainerState,
    /// Nanoseconds since 1970, zero if unknown.
    pub created_at: i64,
    /// Nanoseconds since 1970, zero if unknown.
    pub started_at: i64,
    /// Nanoseconds since 1970, zero if unknown.
    pub finished_at: i64,
    /// Exit code of an exited container.
    pub exit_code: i32,
    /// Image as the user named it.
    pub image: String,
    /// Id of the image in the runtime.
    pub image_id: String,
    /// Image with digest, where the runtime knows it.
    pub image_ref: String,
    /// Hash of the spec it was created from.
    pub hash: u64,
    /// How many containers of this name ran before it.
    pub restart_count: u32,
    /// Short reason of an exit (`Error`, `OOMKilled`, `Completed`).
    pub reason: String,
    /// What the container left as its termination message, or the runtime's message.
    pub message: String,
    /// Limits in force, if the runtime tells.
    pub limits: Option<v1::LinuxContainerResources>,
    /// User in force, if the runtime tells.
    pub user: Option<User>,
    /// Log file on the node.
    pub log_path: String,
    /// Sandbox it belongs to; empty if not known.
    pub sandbox_id: String,
    /// Name of the runtime handler of its image.
    pub image_runtime_handler: String,
    /// Annotations the kubelet left on it.
    pub annotations: BTreeMap<String, String>,
}

/// One sandbox on the runtime.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SandboxStatus {
    /// The runtime's id.
    pub id: String,
    /// How many sandboxes the pod had before.
    pub attempt: u32,
    /// True if its network and namespaces are up.
    pub ready: bool,
    /// Nanoseconds since 1970.
    pub created_at: i64,
    /// True if it lives in the node's network namespace.
    pub host_network: bool,
    /// Addresses, primary first; `None` if the runtime gave no network status.
    pub ips: Option<Vec<String>>,
    /// The runtime handler it was made with.
    pub runtime_handler: String,
}

/// One pod on the runtime at one moment. Both lists are ordered newest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodStatus {
    /// The pod's id.
    pub uid: String,
    /// The pod's name.
    pub name: String,
    /// The pod's namespace.
    pub namespace: String,
    /// Addresses of the newest ready sandbox.
    pub ips: Vec<String>,
    /// Sandboxes, newest first.
    pub sandboxes: Vec<SandboxStatus>,
    /// Containers of all sandboxes, newest first.
    pub containers: Vec<ContainerStatus>,
}

impl PodStatus {
    /// The newest container of that name.
    pub fn find(&self, name: &str) -> Option<&ContainerStatus> {
        self.containers.iter().find(|c| c.name == name)
    }

    /// The newest container of that name in the pod's current sandbox.
    pub fn find_active(&self, name: &str) -> Option<&ContainerStatus> {
        let sandbox = self.active_sandbox()?;
        self.containers
            .iter()
            .find(|c| c.name == name && (c.sandbox_id == sandbox || c.sandbox_id.is_empty()))
    }

    /// The newest sandbox, if it is ready.
    pub fn active_sandbox(&self) -> Option<&str> {
        self.sandboxes.first().filter(|s| s.ready).map(|s| s.id.as_str())
    }

    /// Containers that run.
    pub fn running(&self) -> impl Iterator<Item = &ContainerStatus> {
        self.containers.iter().filter(|c| c.state == ContainerState::Running)
    }

    /// True if something of the pod is still to be stopped.
    pub fn is_up(&self) -> bool {
        self.running().next().is_some() || self.sandboxes.iter().any(|sandbox| sandbox.ready)
    }

    /// True if nothing of the pod is on the runtime.
    pub fn is_empty(&self) -> bool {
        self.sandboxes.is_empty() && self.containers.is_empty()
    }
}
