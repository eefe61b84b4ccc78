//! Accessors that give absent fields their meaning, and the few facts about pods that many modules ask for.

use std::sync::LazyLock;

use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod, PodSpec, PodStatus};

/// Annotation that names the source of a pod (`api`, `file`, `http`); set by the kubelet, not by users.
pub const CONFIG_SOURCE_ANNOTATION: &str = "kubernetes.io/config.source";
/// Annotation on a mirror pod: the hash of the static pod that it mirrors.
pub const CONFIG_MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";
/// Annotation with the moment the kubelet first saw the pod.
pub const CONFIG_FIRST_SEEN_ANNOTATION: &str = "kubernetes.io/config.seen";
/// Annotation on a static pod: hash of its manifest.
pub const CONFIG_HASH_ANNOTATION: &str = "kubernetes.io/config.hash";

/// Priority at and above which a pod is critical: the kubelet makes room for it.
pub const SYSTEM_CRITICAL_PRIORITY: i32 = 2_000_000_000;

static EMPTY_SPEC: LazyLock<PodSpec> = LazyLock::new(PodSpec::default);
static EMPTY_STATUS: LazyLock<PodStatus> = LazyLock::new(PodStatus::default);

/// Reading a pod.
pub trait PodView {
    /// The spec; an absent one is empty.
    fn spec(&self) -> &PodSpec;
    /// The status; an absent one is empty.
    fn api_status(&self) -> &PodStatus;
    /// The name, empty if absent.
    fn name(&self) -> &str;
    /// The namespace, empty if absent.
    fn namespace(&self) -> &str;
    /// The unique id, empty if absent.
    fn uid(&self) -> &str;
    /// `name_namespace`, the identity of a static pod and its mirror.
    fn full_name(&self) -> String;
    /// An annotation's value.
    fn annotation(&self, key: &str) -> Option<&str>;
    /// True if the pod was not given by the API server.
    fn is_static(&self) -> bool;
    /// True if the pod is the API server's image of a static pod.
    fn is_mirror(&self) -> bool;
    /// True if the kubelet must run the pod even at the expense of others.
    fn is_critical(&self) -> bool;
    /// True if the pod uses the node's network.
    fn is_host_network(&self) -> bool;
    /// True if the pod is marked for deletion.
    fn is_deleted(&self) -> bool;
    /// True if the API server's status says that the pod has ended.
    fn is_api_terminal(&self) -> bool;
    /// `ns/name` for logs and messages.
    fn log_name(&self) -> String;
    /// The container of that name of any kind.
    fn find_container(&self, name: &str) -> Option<ContainerRef<'_>>;
    /// Every container with its kind: init, regular, ephemeral, in this order.
    fn all_containers(&self) -> impl Iterator<Item = ContainerRef<'_>>;
}

/// A container of one of the three kinds, seen as a plain container.
#[derive(Clone, Copy, Debug)]
pub enum ContainerRef<'a> {
    /// From `initContainers`.
    Init(&'a Container),
    /// From `containers`.
    Regular(&'a Container),
    /// From `ephemeralContainers`.
    Ephemeral(&'a EphemeralContainer),
}

impl ContainerRef<'_> {
    /// The container's name.
    pub fn name(&self) -> &str {
        match self {
            ContainerRef::Init(c) | ContainerRef::Regular(c) => &c.name,
            ContainerRef::Ephemeral(c) => &c.name,
        }
    }

    /// The container as a plain container.
    pub fn to_container(&self) -> Container {
        match self {
            ContainerRef::Init(c) | ContainerRef::Regular(c) => (*c).clone(),
            ContainerRef::Ephemeral(c) => ephemeral_as_container(c),
        }
    }

    /// The path in the pod's spec, for events (`spec.containers{name}`).
    pub fn field_path(&self) -> String {
        match self {
            ContainerRef::Init(c) => format!("spec.initContainers{{{}}}", c.name),
            ContainerRef::Regular(c) => format!("spec.containers{{{}}}", c.name),
            ContainerRef::Ephemeral(c) => format!("spec.ephemeralContainers{{{}}}", c.name),
        }
    }
}

impl PodView for Pod {
    fn spec(&self) -> &PodSpec {
        self.spec.as_ref().unwrap_or(&EMPTY_SPEC)
    }
    fn api_status(&self) -> &PodStatus {
        self.status.as_ref().unwrap_or(&EMPTY_STATUS)
    }
    fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }
    fn namespace(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or_default()
    }
    fn uid(&self) -> &str {
        self.metadata.uid.as_deref().unwrap_or_default()
    }
    fn full_name(&self) -> String {
        format!("{}_{}", self.name(), self.namespace())
    }
    fn annotation(&self, key: &str) -> Option<&str> {
        self.metadata.annotations.as_ref()?.get(key).map(String::as_str)
    }
    fn is_static(&self) -> bool {
        self.annotation(CONFIG_SOURCE_ANNOTATION).is_some_and(|source| source != "api")
    }
    fn is_mirror(&self) -> bool {
        self.annotation(CONFIG_MIRROR_ANNOTATION).is_some()
    }
    fn is_critical(&self) -> bool {
        self.is_static()
            || self.is_mirror()
            || self.spec().priority.is_some_and(|p| p >= SYSTEM_CRITICAL_PRIORITY)
    }
    fn is_host_network(&self) -> bool {
        self.spec().host_network.unwrap_or(false)
    }
    fn is_deleted(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }
    fn is_api_terminal(&self) -> bool {
        matches!(self.api_status().phase.as_deref(), Some("Failed" | "Succeeded"))
    }
    fn log_name(&self) -> String {
        format!("{}/{}", self.namespace(), self.name())
    }
    fn find_container(&self, name: &str) -> Option<ContainerRef<'_>> {
        self.all_containers().find(|c| c.name() == name)
    }
    fn all_containers(&self) -> impl Iterator<Item = ContainerRef<'_>> {
        let spec = self.spec();
        let init = spec.init_containers.iter().flatten().map(ContainerRef::Init);
        let regular = spec.containers.iter().map(ContainerRef::Regular);
        let ephemeral = spec.ephemeral_containers.iter().flatten().map(ContainerRef::Ephemeral);
        init.chain(regular).chain(ephemeral)
    }
}

/// Init containers of a spec; an absent list is empty.
pub fn init_containers(spec: &PodSpec) -> &[Container] {
    spec.init_containers.as_deref().unwrap_or_default()
}

/// Ephemeral containers of a spec; an absent list is empty.
pub fn ephemeral_containers(spec: &PodSpec) -> &[EphemeralContainer] {
    spec.ephemeral_containers.as_deref().unwrap_or_default()
}

/// True for a sidecar: an init container that keeps running beside the regular ones.
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// An ephemeral container has the fields of a plain one, plus the name of the container it looks at.
pub fn ephemeral_as_container(c: &EphemeralContainer) -> Container {
    Container {
        args: c.args.clone(),
        command: c.command.clone(),
        env: c.env.clone(),
        env_from: c.env_from.clone(),
        image: c.image.clone(),
        image_pull_policy: c.image_pull_policy.clone(),
        lifecycle: c.lifecycle.clone(),
        liveness_probe: c.liveness_probe.clone(),
        name: c.name.clone(),
        ports: c.ports.clone(),
        readiness_probe: c.readiness_probe.clone(),
        resize_policy: c.resize_policy.clone(),
        resources: c.resources.clone(),
        restart_policy: c.restart_policy.clone(),
        restart_policy_rules: c.restart_policy_rules.clone(),
        security_context: c.security_context.clone(),
        startup_probe: c.startup_probe.clone(),
        stdin: c.stdin,
        stdin_once: c.stdin_once,
        termination_message_path: c.termination_message_path.clone(),
        termination_message_policy: c.termination_message_policy.clone(),
        tty: c.tty,
        volume_devices: c.volume_devices.clone(),
        volume_mounts: c.volume_mounts.clone(),
        working_dir: c.working_dir.clone(),
    }
}

/// How long a pod may take to stop, in seconds: what the deletion says, else what the spec says.
pub fn grace_period_seconds(pod: &Pod) -> i64 {
    pod.metadata
        .deletion_grace_period_seconds
        .or(pod.spec().termination_grace_period_seconds)
        .unwrap_or(DEFAULT_GRACE_SECONDS)
}

/// The API server's default for `terminationGracePeriodSeconds`; only static pods can lack the field.
const DEFAULT_GRACE_SECONDS: i64 = 30;
