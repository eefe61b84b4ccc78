//! Security settings of containers and sandboxes.
//!
//! The container's settings win over the pod's, field by field. Upstream: pkg/securitycontext/util.go,
//! pkg/kubelet/kuberuntime/security_context.go and helpers.go, v1.37.

use std::path::Path;

use cri::v1;
use k8s_openapi::api::core::v1::{
    AppArmorProfile, Capabilities, Container, Pod, PodSecurityContext, SELinuxOptions, SeccompProfile,
    SecurityContext,
};

use crate::apparmor::ANNOTATION;
use crate::pod::view::{PodView, is_sidecar};

/// Settings that cannot be applied.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum Error {
    #[error("localhostProfile must be set if seccompProfile type is Localhost.")]
    SeccompLocalhost,
    #[error("missing localhost apparmor profile name")]
    AppArmorLocalhost,
    #[error("unknown apparmor profile type: {0:?}")]
    AppArmorType(String),
    #[error("unsupported supplementalGroupsPolicy: {0}")]
    GroupsPolicy(String),
    #[error("container's runAsUser breaks non-root policy (pod: {pod:?}, container: {container})")]
    RunAsUserRoot { pod: String, container: String },
    #[error(
        "container has runAsNonRoot and image has non-numeric user ({user}), cannot verify user is non-root (pod: {pod:?}, container: {container})"
    )]
    NamedUser { user: String, pod: String, container: String },
    #[error("container has runAsNonRoot and image will run as root (pod: {pod:?}, container: {container})")]
    ImageRoot { pod: String, container: String },
}

/// User that an image asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ImageUser {
    /// Numeric id, if the image names one (or nothing: then it is root).
    pub uid: Option<i64>,
    /// Name, if the image names a user by name.
    pub name: String,
}

/// The node's defaults.
#[derive(Clone, Debug, Default)]
pub struct Defaults<'a> {
    /// Folder of localhost seccomp profiles.
    pub seccomp_root: &'a str,
    /// True if containers without a profile get the runtime's default.
    pub seccomp_default: bool,
}

/// The settings in force for a container.
pub fn effective(pod: &Pod, container: &Container) -> SecurityContext {
    let pod_settings = pod.spec().security_context.as_ref();
    let mut out = SecurityContext {
        run_as_user: pod_settings.and_then(|s| s.run_as_user),
        run_as_group: pod_settings.and_then(|s| s.run_as_group),
        run_as_non_root: pod_settings.and_then(|s| s.run_as_non_root),
        se_linux_options: pod_settings.and_then(|s| s.se_linux_options.clone()),
        ..SecurityContext::default()
    };
    let Some(own) = &container.security_context else { return out };
    out.se_linux_options = own.se_linux_options.clone().or(out.se_linux_options);
    out.run_as_user = own.run_as_user.or(out.run_as_user);
    out.run_as_group = own.run_as_group.or(out.run_as_group);
    out.run_as_non_root = own.run_as_non_root.or(out.run_as_non_root);
    out.capabilities = own.capabilities.clone();
    out.privileged = own.privileged;
    out.read_only_root_filesystem = own.read_only_root_filesystem;
    out.allow_privilege_escalation = own.allow_privilege_escalation;
    out.proc_mount = own.proc_mount.clone();
    out
}

/// Refuses a container that must not run as root but would.
///
/// # Errors
/// If it would run as root, or that cannot be told.
pub fn verify_non_root(pod: &Pod, container: &Container, user: &ImageUser) -> Result<(), Error> {
    let settings = effective(pod, container);
    if settings.run_as_non_root != Some(true) {
        return Ok(());
    }
    let described = || (describe(pod), container.name.clone());
    match settings.run_as_user {
        Some(0) => {
            let (pod, container) = described();
            return Err(Error::RunAsUserRoot { pod, container });
        }
        Some(_) => return Ok(()),
        None => {}
    }
    match user.uid {
        None if !user.name.is_empty() => {
            let (pod, container) = described();
            Err(Error::NamedUser { user: user.name.clone(), pod, container })
        }
        Some(0) => {
            let (pod, container) = described();
            Err(Error::ImageRoot { pod, container })
        }
        _ => Ok(()),
    }
}

/// `name_namespace(uid)`, as upstream prints pods in messages.
pub fn describe(pod: &Pod) -> String {
    format!("{}_{}({})", pod.name(), pod.namespace(), pod.uid())
}

/// True if some container of the pod is privileged.
pub fn has_privileged(pod: &Pod) -> bool {
    pod.all_containers()
        .any(|c| c.to_container().security_context.as_ref().and_then(|s| s.privileged).unwrap_or(false))
}

/// Namespaces of a pod's containers.
pub fn namespaces(pod: &Pod, userns: Option<v1::UserNamespace>) -> v1::NamespaceOption {
    let spec = pod.spec();
    let mode = |node: Option<bool>| {
        if node == Some(true) { v1::NamespaceMode::Node } else { v1::NamespaceMode::Pod }
    };
    let pid = match (spec.host_pid, spec.share_process_namespace) {
        (Some(true), _) => v1::NamespaceMode::Node,
        (_, Some(true)) => v1::NamespaceMode::Pod,
        _ => v1::NamespaceMode::Container,
    };
    v1::NamespaceOption {
        network: mode(spec.host_network).into(),
        pid: pid.into(),
        ipc: mode(spec.host_ipc).into(),
        target_id: String::new(),
        userns_options: userns,
    }
}

/// Security settings of a container as the runtime takes them.
///
/// # Errors
/// If a profile or policy cannot be applied.
pub fn container_security(
    pod: &Pod,
    container: &Container,
    user: &ImageUser,
    userns: Option<v1::UserNamespace>,
    defaults: &Defaults<'_>,
) -> Result<v1::LinuxContainerSecurityContext, Error> {
    let settings = effective(pod, container);
    let pod_settings = pod.spec().security_context.as_ref();
    let own = container.security_context.as_ref();
    let seccomp = own
        .and_then(|s| s.seccomp_profile.as_ref())
        .or(pod_settings.and_then(|s| s.seccomp_profile.as_ref()));
    let (apparmor, legacy_apparmor) = apparmor_profile(pod, container)?;
    let from_image = settings.run_as_user.is_none();
    let unmasked = settings.proc_mount.as_deref() == Some("Unmasked");
    let paths = |list: Vec<String>| if unmasked { Vec::new() } else { list };
    #[expect(deprecated, reason = "containerd 1.6 reads the older AppArmor field only")]
    Ok(v1::LinuxContainerSecurityContext {
        capabilities: settings.capabilities.as_ref().map(capabilities),
        privileged: settings.privileged.unwrap_or(false),
        namespace_options: Some(namespaces(pod, userns)),
        selinux_options: settings.se_linux_options.as_ref().map(selinux),
        run_as_user: settings.run_as_user.or(user.uid).map(|value| v1::Int64Value { value }),
        run_as_group: settings.run_as_group.map(|value| v1::Int64Value { value }),
        run_as_username: if from_image { user.name.clone() } else { String::new() },
        readonly_rootfs: settings.read_only_root_filesystem.unwrap_or(false),
        supplemental_groups: supplemental_groups(pod_settings),
        supplemental_groups_policy: groups_policy(pod_settings)?,
        no_new_privs: settings.allow_privilege_escalation == Some(false),
        masked_paths: paths(masked_paths()),
        readonly_paths: paths(READONLY_PATHS.map(str::to_owned).to_vec()),
        seccomp: Some(seccomp_profile(seccomp, defaults)?),
        apparmor,
        apparmor_profile: legacy_apparmor,
        ..Default::default()
    })
}

/// Security settings of a sandbox as the runtime takes them.
///
/// # Errors
/// If a policy cannot be applied.
pub fn sandbox_security(
    pod: &Pod,
    userns: Option<v1::UserNamespace>,
) -> Result<v1::LinuxSandboxSecurityContext, Error> {
    let settings = pod.spec().security_context.as_ref();
    Ok(v1::LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces(pod, userns)),
        selinux_options: settings.and_then(|s| s.se_linux_options.as_ref()).map(selinux),
        run_as_user: settings.and_then(|s| s.run_as_user).map(|value| v1::Int64Value { value }),
        run_as_group: settings.and_then(|s| s.run_as_group).map(|value| v1::Int64Value { value }),
        supplemental_groups: supplemental_groups(settings),
        supplemental_groups_policy: groups_policy(settings)?,
        privileged: has_privileged(pod),
        // The pause process needs no more than the default profile allows.
        seccomp: Some(profile(v1::security_profile::ProfileType::RuntimeDefault, String::new())),
        ..Default::default()
    })
}

fn profile(kind: v1::security_profile::ProfileType, localhost_ref: String) -> v1::SecurityProfile {
    v1::SecurityProfile { profile_type: kind.into(), localhost_ref }
}

fn seccomp_profile(
    given: Option<&SeccompProfile>,
    defaults: &Defaults<'_>,
) -> Result<v1::SecurityProfile, Error> {
    use v1::security_profile::ProfileType;
    let Some(given) = given else {
        let kind =
            if defaults.seccomp_default { ProfileType::RuntimeDefault } else { ProfileType::Unconfined };
        return Ok(profile(kind, String::new()));
    };
    Ok(match given.type_.as_str() {
        "RuntimeDefault" => profile(ProfileType::RuntimeDefault, String::new()),
        "Localhost" => {
            let name = given
                .localhost_profile
                .as_deref()
                .filter(|n| !n.is_empty())
                .ok_or(Error::SeccompLocalhost)?;
            profile(ProfileType::Localhost, Path::new(defaults.seccomp_root).join(name).display().to_string())
        }
        _ => profile(ProfileType::Unconfined, String::new()),
    })
}

/// The profile that counts for a container.
pub fn apparmor_profile_of(pod: &Pod, container: &Container) -> Option<AppArmorProfile> {
    let own = container.security_context.as_ref().and_then(|s| s.app_armor_profile.clone());
    let annotated = || {
        let value = pod.annotation(&format!("{ANNOTATION}{}", container.name))?;
        Some(match value {
            "runtime/default" => AppArmorProfile { type_: "RuntimeDefault".into(), localhost_profile: None },
            "unconfined" => AppArmorProfile { type_: "Unconfined".into(), localhost_profile: None },
            other => AppArmorProfile {
                type_: "Localhost".into(),
                localhost_profile: other.strip_prefix("localhost/").map(str::to_owned),
            },
        })
    };
    let of_pod = || pod.spec().security_context.as_ref().and_then(|s| s.app_armor_profile.clone());
    own.or_else(annotated).or_else(of_pod)
}

fn apparmor_profile(
    pod: &Pod,
    container: &Container,
) -> Result<(Option<v1::SecurityProfile>, String), Error> {
    use v1::security_profile::ProfileType;
    let Some(given) = apparmor_profile_of(pod, container) else { return Ok((None, String::new())) };
    Ok(match given.type_.as_str() {
        "RuntimeDefault" => {
            (Some(profile(ProfileType::RuntimeDefault, String::new())), "runtime/default".into())
        }
        "Unconfined" => (Some(profile(ProfileType::Unconfined, String::new())), "unconfined".into()),
        "Localhost" => {
            let name = given.localhost_profile.ok_or(Error::AppArmorLocalhost)?;
            (Some(profile(ProfileType::Localhost, name.clone())), format!("localhost/{name}"))
        }
        other => return Err(Error::AppArmorType(other.to_owned())),
    })
}

fn groups_policy(settings: Option<&PodSecurityContext>) -> Result<i32, Error> {
    let policy = settings.and_then(|s| s.supplemental_groups_policy.as_deref());
    match policy {
        None | Some("Merge") => Ok(v1::SupplementalGroupsPolicy::Merge.into()),
        Some("Strict") => Ok(v1::SupplementalGroupsPolicy::Strict.into()),
        Some(other) => Err(Error::GroupsPolicy(other.to_owned())),
    }
}

fn supplemental_groups(settings: Option<&PodSecurityContext>) -> Vec<i64> {
    let fs_group = settings.and_then(|s| s.fs_group);
    fs_group
        .into_iter()
        .chain(settings.into_iter().flat_map(|s| s.supplemental_groups.iter().flatten().copied()))
        .collect()
}

fn capabilities(given: &Capabilities) -> v1::Capability {
    v1::Capability {
        add_capabilities: given.add.clone().unwrap_or_default(),
        drop_capabilities: given.drop.clone().unwrap_or_default(),
        ..Default::default()
    }
}

fn selinux(given: &SELinuxOptions) -> v1::SeLinuxOption {
    v1::SeLinuxOption {
        user: given.user.clone().unwrap_or_default(),
        role: given.role.clone().unwrap_or_default(),
        r#type: given.type_.clone().unwrap_or_default(),
        level: given.level.clone().unwrap_or_default(),
    }
}

const READONLY_PATHS: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
const MASKED_PATHS: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

/// Paths that containers must not see; per-CPU throttling counters only where the machine has them.
fn masked_paths() -> Vec<String> {
    static THROTTLE: std::sync::LazyLock<Vec<String>> = std::sync::LazyLock::new(|| {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let path = |cpu| format!("/sys/devices/system/cpu/cpu{cpu}/thermal_throttle");
        (0..cpus).map(path).filter(|p| Path::new(p).exists()).collect()
    });
    MASKED_PATHS.iter().map(|p| (*p).to_owned()).chain(THROTTLE.iter().cloned()).collect()
}

/// True if the container's process namespace is to be joined by an ephemeral container.
pub fn is_long_lived(container: &Container, regular: bool) -> bool {
    regular || is_sidecar(container)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(settings: serde_json::Value, container: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"},
            "spec": {"securityContext": settings, "containers": [{"name": "c", "securityContext": container}]}}))
        .unwrap()
    }

    #[test]
    fn container_wins_over_pod() {
        let pod = pod(
            json!({"runAsUser": 1, "runAsGroup": 2, "fsGroup": 3, "supplementalGroups": [4]}),
            json!({"runAsUser": 5}),
        );
        let sc = container_security(
            &pod,
            &pod.spec().containers[0],
            &ImageUser::default(),
            None,
            &Defaults::default(),
        )
        .unwrap();
        assert_eq!(sc.run_as_user.unwrap().value, 5);
        assert_eq!(sc.run_as_group.unwrap().value, 2);
        assert_eq!(sc.supplemental_groups, [3, 4]);
        assert!(!sc.no_new_privs);
        assert_eq!(sc.masked_paths[0], "/proc/asound");
    }

    #[test]
    fn non_root() {
        let check = |container: serde_json::Value, user: ImageUser, expected: Option<&str>| {
            let pod = pod(json!({"runAsNonRoot": true}), container);
            let got = verify_non_root(&pod, &pod.spec().containers[0], &user).err().map(|e| e.to_string());
            assert_eq!(got.as_deref(), expected);
        };
        let root = ImageUser { uid: Some(0), name: String::new() };
        check(
            json!({}),
            root.clone(),
            Some("container has runAsNonRoot and image will run as root (pod: \"p_n(u)\", container: c)"),
        );
        check(
            json!({"runAsUser": 0}),
            root.clone(),
            Some("container's runAsUser breaks non-root policy (pod: \"p_n(u)\", container: c)"),
        );
        check(json!({"runAsUser": 7}), root, None);
        check(
            json!({}),
            ImageUser { uid: None, name: "web".into() },
            Some(
                "container has runAsNonRoot and image has non-numeric user (web), cannot verify user is non-root (pod: \"p_n(u)\", container: c)",
            ),
        );
    }

    #[test]
    fn empty_localhost_profile_is_refused() {
        let profile = json!({"seccompProfile": {"type": "Localhost", "localhostProfile": ""}});
        let pod = pod(json!({}), profile);
        let result = container_security(
            &pod,
            &pod.spec().containers[0],
            &ImageUser::default(),
            None,
            &Defaults::default(),
        );
        assert_eq!(result.unwrap_err(), Error::SeccompLocalhost);
    }
}
