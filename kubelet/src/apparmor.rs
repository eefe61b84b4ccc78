//! Whether a pod's AppArmor profiles can be enforced here. Upstream: pkg/security/apparmor/validate.go and the
//! appArmorAdmitHandler in pkg/kubelet/lifecycle/handlers.go, v1.37.

use std::path::Path;

use k8s_openapi::api::core::v1::{AppArmorProfile, Pod};

use crate::admission::Rejection;
use crate::container::security::apparmor_profile_of;
use crate::pod::view::PodView;

/// Prefix of the annotation that named a container's profile before there was a field.
pub const ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";

/// True if the kernel enforces profiles. Upstream: IsEnabled in runc's libcontainer/apparmor.
pub fn is_enabled() -> bool {
    let said = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled");
    Path::new("/sys/kernel/security/apparmor").exists() && said.is_ok_and(|text| text.starts_with('Y'))
}

/// Decides whether the node takes the pod. One that was here before is not asked again.
///
/// # Errors
/// Why not.
pub fn admit(pod: &Pod, enabled: impl FnOnce() -> bool) -> Result<(), Rejection> {
    let is_new = pod.api_status().phase.as_deref().is_none_or(|phase| phase == "Pending");
    if !is_new || !is_wanted(pod) {
        return Ok(());
    }
    let refused = |why: &str| Rejection {
        reason: "AppArmor".to_owned(),
        message: format!("Cannot enforce AppArmor: {why}"),
    };
    if !enabled() {
        return Err(refused("AppArmor is not enabled on the host"));
    }
    let nameless = |profile: AppArmorProfile| {
        profile.type_ == "Localhost" && profile.localhost_profile.is_none_or(|name| name.trim().is_empty())
    };
    let mut profiles = pod.all_containers().filter_map(|c| apparmor_profile_of(pod, &c.to_container()));
    match profiles.any(nameless) {
        true => Err(refused("invalid empty AppArmor profile name")),
        false => Ok(()),
    }
}

fn is_wanted(pod: &Pod) -> bool {
    let confines = |profile: Option<&AppArmorProfile>| profile.is_some_and(|p| p.type_ != "Unconfined");
    let of_pod = pod.spec().security_context.as_ref().and_then(|s| s.app_armor_profile.as_ref());
    let of_container = |c: crate::pod::view::ContainerRef<'_>| {
        confines(c.to_container().security_context.and_then(|s| s.app_armor_profile).as_ref())
    };
    confines(of_pod)
        || pod.all_containers().any(of_container)
        || (pod.metadata.annotations.iter().flatten())
            .any(|(key, value)| key.starts_with(ANNOTATION) && value != "unconfined")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn profiles_need_a_kernel_that_enforces_them() {
        let check = |profile: serde_json::Value, phase: &str, enabled: bool| {
            let container = json!({"name": "c", "securityContext": {"appArmorProfile": profile}});
            let pod: Pod = serde_json::from_value(
                json!({"metadata": {}, "spec": {"containers": [container]}, "status": {"phase": phase}}),
            )
            .unwrap();
            admit(&pod, || enabled).map_err(|r| format!("{}: {}", r.reason, r.message))
        };
        let default = json!({"type": "RuntimeDefault"});
        let refused =
            Err("AppArmor: Cannot enforce AppArmor: AppArmor is not enabled on the host".to_owned());
        assert_eq!(check(default.clone(), "Pending", false), refused);
        assert_eq!(check(default.clone(), "Pending", true), Ok(()));
        assert_eq!(check(default, "Running", false), Ok(()));
        assert_eq!(check(json!({"type": "Unconfined"}), "Pending", false), Ok(()));
        let nameless =
            Err("AppArmor: Cannot enforce AppArmor: invalid empty AppArmor profile name".to_owned());
        assert_eq!(check(json!({"type": "Localhost", "localhostProfile": " "}), "Pending", true), nameless);
        let old: Pod = serde_json::from_value(json!({"metadata": {"annotations":
            {"container.apparmor.security.beta.kubernetes.io/c": "runtime/default"}},
            "spec": {"containers": [{"name": "c"}]}}))
        .unwrap();
        assert!(admit(&old, || false).is_err());
    }
}
