//! Security contexts of pods and containers, profiles in annotations, and what belongs to one operating system only.

use std::sync::LazyLock;

use k8s_openapi::api::core::v1::{
    AppArmorProfile, PodSecurityContext, PodSpec, SeccompProfile, SecurityContext,
    WindowsSecurityContextOptions,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use regex::Regex;

use super::container::visit;
use super::path::descending;
use crate::validation::field::{Bad, Error, Path};
use crate::validation::{content, items, one_of, supported, text};

fn ids(id: Option<i64>, path: &Path) -> Vec<Error> {
    let refused = id.map(content::id).unwrap_or_default();
    refused.into_iter().map(|m| Error::invalid(path, id.unwrap_or(0), m)).collect()
}

/// A container's.
pub(super) fn validate_container(
    context: &SecurityContext,
    host_users: bool,
    sys_admin: bool,
    path: &Path,
) -> Vec<Error> {
    let mut errors = Vec::new();
    errors.extend(ids(context.run_as_user, &path.child("runAsUser")));
    errors.extend(ids(context.run_as_group, &path.child("runAsGroup")));
    if let Some(mount) = context.proc_mount.as_deref() {
        let at = path.child("procMount");
        errors.extend(supported(mount, &["Default", "Unmasked"], &at));
        if host_users && mount == "Unmasked" {
            errors.push(Error::invalid(&at, mount, "`hostUsers` must be false to use `Unmasked`"));
        }
    }
    errors.extend(validate_seccomp(context.seccomp_profile.as_ref(), &path.child("seccompProfile")));
    if context.allow_privilege_escalation == Some(false) {
        if context.privileged == Some(true) {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.push(Error::invalid(path, Bad::json(context), detail));
        }
        let added = context.capabilities.iter().flat_map(|c| c.add.iter().flatten());
        for _ in added.filter(|c| *c == "CAP_SYS_ADMIN" && !sys_admin) {
            let detail =
                "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.push(Error::invalid(path, Bad::json(context), detail));
        }
    }
    errors.extend(validate_windows(context.windows_options.as_ref(), &path.child("windowsOptions")));
    errors.extend(validate_app_armor(context.app_armor_profile.as_ref(), &path.child("appArmorProfile")));
    errors
}

/// A pod's. `host_sysctls` allows sysctls of a shared namespace that were there before.
pub(super) fn validate_pod(spec: &PodSpec, host_sysctls: bool, path: &Path) -> Vec<Error> {
    let Some(context) = &spec.security_context else { return Vec::new() };
    let mut errors = ids(context.fs_group, &path.child("fsGroup"));
    errors.extend(ids(context.run_as_user, &path.child("runAsUser")));
    errors.extend(ids(context.run_as_group, &path.child("runAsGroup")));
    let groups = path.child("supplementalGroups");
    for (i, group) in items(&context.supplemental_groups).iter().enumerate() {
        errors.extend(ids(Some(*group), &groups.index(i)));
    }
    errors.extend(validate_sysctls(context, spec, host_sysctls, &path.child("sysctls")));
    let choices: [(&str, &Option<String>, &[&str]); 1] =
        [("fsGroupChangePolicy", &context.fs_group_change_policy, &["Always", "OnRootMismatch"])];
    for (field, value, set) in choices {
        errors.extend(value.as_deref().and_then(|v| supported(v, set, &path.child(field))));
    }
    errors.extend(validate_seccomp(context.seccomp_profile.as_ref(), &path.child("seccompProfile")));
    errors.extend(validate_windows(context.windows_options.as_ref(), &path.child("windowsOptions")));
    errors.extend(validate_app_armor(context.app_armor_profile.as_ref(), &path.child("appArmorProfile")));
    let choices: [(&str, &Option<String>, &[&str]); 2] = [
        ("supplementalGroupsPolicy", &context.supplemental_groups_policy, &["Merge", "Strict"]),
        ("seLinuxChangePolicy", &context.se_linux_change_policy, &["MountOption", "Recursive"]),
    ];
    for (field, value, set) in choices {
        errors.extend(value.as_deref().and_then(|v| supported(v, set, &path.child(field))));
    }
    errors
}

const SYSCTL: &str = "^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";

fn validate_sysctls(context: &PodSecurityContext, spec: &PodSpec, shared: bool, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let all = items(&context.sysctls);
    for (i, sysctl) in all.iter().enumerate() {
        let item = path.index(i);
        let at = item.child("name");
        let name = sysctl.name.as_str();
        if name.is_empty() {
            errors.push(Error::required(&at, ""));
        } else if !is_sysctl(name) {
            let detail = format!("must have at most 253 characters and match regex {SYSCTL}");
            errors.push(Error::invalid(&at, name, detail));
        } else if all[..i].iter().any(|s| s.name == name) {
            errors.push(Error::duplicate(&at, name));
        }
        errors.extend(shares_sysctl(name, spec).filter(|_| !shared).map(|namespace| {
            Error::invalid(&at, name, format!("may not be specified when '{namespace}' is true"))
        }));
    }
    errors
}

fn is_sysctl(name: &str) -> bool {
    let alnum = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let segment = |s: &str| {
        let b = s.as_bytes();
        b.first().is_some_and(alnum)
            && b.last().is_some_and(alnum)
            && b.iter().all(|c| alnum(c) || matches!(c, b'-' | b'_'))
    };
    name.len() <= 253 && name.split(['.', '/']).all(segment)
}

/// The host namespace that the sysctl would change. Upstream: `ValidateHostSysctl`, component-helpers/node/util/sysctl.
fn shares_sysctl(name: &str, spec: &PodSpec) -> Option<&'static str> {
    // As in sysctl(8): whichever of `.` and `/` comes first separates.
    let name = match name.find(['.', '/']) {
        Some(at) if name.as_bytes()[at] == b'/' => name
            .chars()
            .map(|c| match c {
                '/' => '.',
                '.' => '/',
                c => c,
            })
            .collect(),
        _ => name.to_owned(),
    };
    let ipc = matches!(name.as_str(), "kernel.sem")
        || name.starts_with("kernel.shm")
        || name.starts_with("kernel.msg");
    if spec.host_network == Some(true) && name.starts_with("net.") {
        Some("hostNetwork")
    } else if spec.host_ipc == Some(true) && (ipc || name.starts_with("fs.mqueue.")) {
        Some("hostIPC")
    } else {
        None
    }
}

/// Whether an old spec has such sysctls already.
pub(super) fn has_host_sysctls(spec: &PodSpec) -> bool {
    let sysctls = spec.security_context.iter().flat_map(|c| items(&c.sysctls));
    sysctls.into_iter().any(|s| shares_sysctl(&s.name, spec).is_some())
}

fn validate_seccomp(profile: Option<&SeccompProfile>, path: &Path) -> Vec<Error> {
    let Some(profile) = profile else { return Vec::new() };
    let mut errors = Vec::new();
    let at = path.child("type");
    match profile.type_.as_str() {
        "" => errors.push(Error::required(&at, "type is required when seccompProfile is set")),
        kind => errors.extend(supported(kind, &["Localhost", "RuntimeDefault", "Unconfined"], &at)),
    }
    let at = path.child("localhostProfile");
    match (profile.type_ == "Localhost", profile.localhost_profile.as_deref()) {
        (true, None) => errors.push(Error::required(&at, "must be set when seccomp type is Localhost")),
        (true, Some(file)) => errors.extend(descending(file, &at)),
        (false, Some(_)) => {
            let detail = "can only be set when seccomp type is Localhost";
            errors.push(Error::invalid(&at, Bad::json(profile), detail));
        }
        (false, None) => {}
    }
    errors
}

fn validate_app_armor(profile: Option<&AppArmorProfile>, path: &Path) -> Vec<Error> {
    let Some(profile) = profile else { return Vec::new() };
    let mut errors = Vec::new();
    let (at, kind) = (path.child("localhostProfile"), path.child("type"));
    let file = profile.localhost_profile.as_deref();
    match profile.type_.as_str() {
        "Localhost" => {
            let needed = "must be set when AppArmor type is Localhost";
            match file {
                None | Some("") => errors.push(Error::required(&at, needed)),
                Some(file) if file.trim() != file => {
                    errors.push(Error::invalid(&at, file, "must not be padded with whitespace"));
                }
                Some(_) => {}
            }
            if file.is_some_and(|f| f.len() > 4095) {
                errors.push(Error::too_long(&at, 4095));
            }
        }
        "RuntimeDefault" | "Unconfined" => {
            let detail = "can only be set when AppArmor type is Localhost";
            errors.extend(file.map(|f| Error::invalid(&at, f, detail)));
        }
        "" => errors.push(Error::required(&kind, "type is required when appArmorProfile is set")),
        other => errors.extend(supported(other, &["Localhost", "RuntimeDefault", "Unconfined"], &kind)),
    }
    errors
}

static NET_BIOS: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r#"^[^\\/:*?"<>|.][^\\/:*?"<>|]{0,14}$"#).ok());
static DNS_DOMAIN: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let label = "[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?";
    Regex::new(&format!(r"^{label}(?:\.{label})*$")).ok()
});

fn validate_windows(options: Option<&WindowsSecurityContextOptions>, path: &Path) -> Vec<Error> {
    let Some(options) = options else { return Vec::new() };
    let mut errors = Vec::new();
    if let Some(name) = options.gmsa_credential_spec_name.as_deref() {
        let at = path.child("gmsaCredentialSpecName");
        let refusals = content::dns_subdomain(name).into_iter();
        // Upstream prints the pointer, as JSON.
        errors.extend(refusals.map(|m| Error::invalid(&at, Bad::json(&name), m)));
    }
    if let Some(spec) = options.gmsa_credential_spec.as_deref() {
        let at = path.child("gmsaCredentialSpec");
        if spec.is_empty() {
            errors.push(Error::invalid(&at, spec, "gmsaCredentialSpec cannot be an empty string"));
        } else if spec.len() > 64 * 1024 {
            errors.push(Error::invalid(&at, spec, "gmsaCredentialSpec size must be under 64 KiB"));
        }
    }
    if let Some(name) = options.run_as_user_name.as_deref() {
        let at = path.child("runAsUserName");
        errors.extend(user_name_refusals(name).into_iter().map(|m| Error::invalid(&at, name, m)));
    }
    errors
}

/// `DOMAIN\User` as Windows has it.
fn user_name_refusals(name: &str) -> Vec<String> {
    if name.is_empty() {
        return vec!["runAsUserName cannot be an empty string".to_owned()];
    }
    if name.bytes().any(|b| b.is_ascii_control()) {
        return vec!["runAsUserName cannot contain control characters".to_owned()];
    }
    let (domain, user) = match name.split('\\').collect::<Vec<_>>()[..] {
        [user] => (None, user),
        [domain, user] => (Some(domain), user),
        _ => return vec!["runAsUserName cannot contain more than one backslash".to_owned()],
    };
    let mut out = Vec::new();
    if let Some(domain) = domain {
        if domain.len() >= 256 {
            out.push("runAsUserName's Domain length must be under 256 characters".to_owned());
        }
        let matches = |r: &LazyLock<Option<Regex>>| r.as_ref().is_some_and(|r| r.is_match(domain));
        if !matches(&NET_BIOS) && !matches(&DNS_DOMAIN) {
            out.push("runAsUserName's Domain doesn't match the NetBios nor the DNS format".to_owned());
        }
    }
    if user.is_empty() {
        out.push("runAsUserName's User cannot be empty".to_owned());
    } else if user.len() > 104 {
        out.push("runAsUserName's User length must not be longer than 104 characters".to_owned());
    }
    if !user.is_empty() && user.bytes().all(|b| matches!(b, b'.' | b' ')) {
        out.push("runAsUserName's User cannot contain only periods or spaces".to_owned());
    }
    if user.contains(['"', '/', '\\', ':', ';', '|', '=', ',', '+', '*', '?', '<', '>', '@', '[', ']']) {
        out.push(
            "runAsUserName's User cannot contain the following characters: \"/\\:;|=,+*?<>@[]".to_owned(),
        );
    }
    out
}

/// All containers of a pod run in host processes, or none. Upstream: `validateWindowsHostProcessPod`.
pub(super) fn validate_host_process(spec: &PodSpec, path: &Path) -> Vec<Error> {
    let host = |options: Option<&WindowsSecurityContextOptions>| options.and_then(|o| o.host_process);
    let own = host(spec.security_context.as_ref().and_then(|c| c.windows_options.as_ref()));
    let mut errors = Vec::new();
    let (mut all, mut hosted) = (0, 0);
    visit(spec, path, &mut |container, at| {
        all += 1;
        let set = host(container.security_context.as_ref().and_then(|c| c.windows_options.as_ref()));
        if let (Some(own), Some(set)) = (own, set)
            && own != set
        {
            let context = at.child("securityContext");
            let options = context.child("windowsOptions");
            let detail = format!("pod hostProcess value must be identical if both are specified, was {own}");
            errors.push(Error::invalid(&options.child("hostProcess"), set, detail));
        }
        hosted += u32::from(set.or(own) == Some(true));
    });
    if hosted > 0 {
        if hosted != all {
            let detail = "If pod contains any hostProcess containers then all containers must be HostProcess containers";
            errors.push(Error::invalid(path, "", detail));
        }
        if spec.host_network != Some(true) {
            let detail = "hostNetwork must be true if pod contains any hostProcess containers";
            errors.push(Error::invalid(&path.child("hostNetwork"), false, detail));
        }
    }
    errors
}

/// `spec.os`, and what the named system does not have.
pub(super) fn validate_os(spec: &PodSpec, path: &Path) -> Vec<Error> {
    let Some(os) = &spec.os else { return Vec::new() };
    let at = path.child("os");
    match os.name.as_str() {
        "" => vec![Error::required(&at.child("name"), "")],
        "linux" => linux(spec, path),
        "windows" => windows(spec, path),
        other => vec![Error::not_supported(&at, Bad::enumerated(other), &["linux", "windows"])],
    }
}

fn linux(spec: &PodSpec, path: &Path) -> Vec<Error> {
    let detail = "windows options cannot be set for a linux pod";
    let mut errors = Vec::new();
    if spec.security_context.as_ref().is_some_and(|c| c.windows_options.is_some()) {
        errors.push(Error::forbidden(&path.child("securityContext").child("windowsOptions"), detail));
    }
    visit(spec, path, &mut |container, at| {
        if container.security_context.as_ref().is_some_and(|c| c.windows_options.is_some()) {
            errors.push(Error::forbidden(&at.child("securityContext").child("windowsOptions"), detail));
        }
    });
    errors
}

fn windows(spec: &PodSpec, path: &Path) -> Vec<Error> {
    let detail = "cannot be set for a windows pod";
    let mut errors = Vec::new();
    let mut refuse = |at: &Path, fields: &[(&str, bool)]| {
        errors.extend(
            fields.iter().filter(|(_, set)| *set).map(|(f, _)| Error::forbidden(&at.child(f), detail)),
        );
    };
    if let Some(c) = &spec.security_context {
        refuse(
            &path.child("securityContext"),
            &[
                ("appArmorProfile", c.app_armor_profile.is_some()),
                ("seLinuxOptions", c.se_linux_options.is_some()),
                ("seccompProfile", c.seccomp_profile.is_some()),
                ("fsGroup", c.fs_group.is_some()),
                ("fsGroupChangePolicy", c.fs_group_change_policy.is_some()),
                ("sysctls", !items(&c.sysctls).is_empty()),
                ("runAsUser", c.run_as_user.is_some()),
                ("runAsGroup", c.run_as_group.is_some()),
                ("supplementalGroups", c.supplemental_groups.is_some()),
                ("supplementalGroupsPolicy", c.supplemental_groups_policy.is_some()),
                ("seLinuxChangePolicy", c.se_linux_change_policy.is_some()),
            ],
        );
    }
    refuse(
        path,
        &[
            ("hostUsers", spec.host_users.is_some()),
            ("hostPID", spec.host_pid == Some(true)),
            ("hostIPC", spec.host_ipc == Some(true)),
            ("shareProcessNamespace", spec.share_process_namespace.is_some()),
        ],
    );
    visit(spec, path, &mut |container, at| {
        let Some(c) = &container.security_context else { return };
        refuse(
            &at.child("securityContext"),
            &[
                ("appArmorProfile", c.app_armor_profile.is_some()),
                ("seLinuxOptions", c.se_linux_options.is_some()),
                ("seccompProfile", c.seccomp_profile.is_some()),
                ("capabilities", c.capabilities.is_some()),
                ("readOnlyRootFilesystem", c.read_only_root_filesystem.is_some()),
                ("privileged", c.privileged.is_some()),
                ("allowPrivilegeEscalation", c.allow_privilege_escalation.is_some()),
                ("procMount", c.proc_mount.is_some()),
                ("runAsUser", c.run_as_user.is_some()),
                ("runAsGroup", c.run_as_group.is_some()),
            ],
        );
    });
    errors
}

const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
/// Prefix of the old AppArmor annotations.
pub(super) const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

/// Profiles in annotations. Upstream: `ValidateSeccompPodAnnotations`, `ValidateAppArmorPodAnnotations`.
pub(super) fn validate_annotations(metadata: &ObjectMeta, spec: &PodSpec, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    for (key, profile) in metadata.annotations.iter().flatten() {
        if key == SECCOMP_POD || key.starts_with(SECCOMP_CONTAINER) {
            errors.extend(seccomp_annotation(profile, &path.child(key)));
        }
        let Some(name) = key.strip_prefix(APP_ARMOR) else { continue };
        let mut found = false;
        visit(spec, &Path::ROOT, &mut |container, _| found |= container.name == name);
        if !found {
            errors.push(Error::invalid(&path.key(key), name, "container not found"));
        }
        if !matches!(profile.as_str(), "" | "runtime/default" | "unconfined")
            && !profile.starts_with("localhost/")
        {
            let detail =
                format!("invalid AppArmor profile name: {}", crate::validation::field::quote(profile));
            errors.push(Error::invalid(&path.key(key), profile, detail));
        }
    }
    errors
}

fn seccomp_annotation(profile: &str, path: &Path) -> Vec<Error> {
    match profile {
        "runtime/default" | "docker/default" | "unconfined" => Vec::new(),
        _ => match profile.strip_prefix("localhost/") {
            Some(file) => descending(file, path),
            None => vec![Error::invalid(path, profile, "must be a valid seccomp profile")],
        },
    }
}

/// On create, annotations and fields that both name a profile name the same one.
pub(super) fn validate_agreement(metadata: &ObjectMeta, spec: &PodSpec, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let annotation = |key: &str| metadata.annotations.as_ref().and_then(|a| a.get(key)).map(String::as_str);
    let own = spec.security_context.as_ref().and_then(|c| c.seccomp_profile.as_ref());
    if let (Some(profile), Some(said)) = (own, annotation(SECCOMP_POD)) {
        let context = path.child("securityContext");
        errors.extend(seccomp_agrees(profile, said, &context.child("seccompProfile")));
    }
    visit(spec, path, &mut |container, at| {
        let profile = container.security_context.as_ref().and_then(|c| c.seccomp_profile.as_ref());
        let said = annotation(&format!("{SECCOMP_CONTAINER}{}", container.name));
        if let (Some(profile), Some(said)) = (profile, said) {
            let context = at.child("securityContext");
            errors.extend(seccomp_agrees(profile, said, &context.child("seccompProfile")));
        }
    });
    if spec.os.as_ref().is_some_and(|os| os.name == "windows") {
        return errors;
    }
    let own = spec.security_context.as_ref().and_then(|c| c.app_armor_profile.as_ref());
    visit(spec, path, &mut |container, at| {
        let profile = container.security_context.as_ref().and_then(|c| c.app_armor_profile.as_ref()).or(own);
        let said = annotation(&format!("{APP_ARMOR}{}", container.name));
        if let (Some(profile), Some(said)) = (profile, said) {
            let context = at.child("securityContext");
            errors.extend(app_armor_agrees(profile, said, &context.child("appArmorProfile")));
        }
    });
    errors
}

fn seccomp_agrees(profile: &SeccompProfile, said: &str, path: &Path) -> Option<Error> {
    let type_differs =
        || Some(Error::forbidden(&path.child("type"), "seccomp type in annotation and field must match"));
    match profile.type_.as_str() {
        "Unconfined" if said != "unconfined" => type_differs(),
        "RuntimeDefault" if !matches!(said, "runtime/default" | "docker/default") => type_differs(),
        "Localhost" => match said.strip_prefix("localhost/") {
            None => type_differs(),
            Some(file) if profile.localhost_profile.as_deref() != Some(file) => {
                let detail = "seccomp profile in annotation and field must match";
                Some(Error::forbidden(&path.child("localhostProfile"), detail))
            }
            Some(_) => None,
        },
        _ => None,
    }
}

fn app_armor_agrees(profile: &AppArmorProfile, said: &str, path: &Path) -> Option<Error> {
    let type_differs =
        || Some(Error::forbidden(&path.child("type"), "apparmor type in annotation and field must match"));
    match profile.type_.as_str() {
        "Unconfined" if said != "unconfined" => type_differs(),
        "RuntimeDefault" if said != "runtime/default" => type_differs(),
        "Localhost" => match said.strip_prefix("localhost/") {
            None => type_differs(),
            Some(file) if profile.localhost_profile.as_deref() != Some(file) => {
                let detail = "apparmor profile in annotation and field must match";
                Some(Error::forbidden(&path.child("localhostProfile"), detail))
            }
            Some(_) => None,
        },
        _ => None,
    }
}

/// Whether an old spec has CAP_SYS_ADMIN without privilege escalation.
pub(super) fn has_sys_admin_without_escalation(spec: &PodSpec) -> bool {
    let mut found = false;
    visit(spec, &Path::ROOT, &mut |container, _| {
        let Some(context) = &container.security_context else { return };
        let mut added = context.capabilities.iter().flat_map(|c| c.add.iter().flatten());
        found |= context.allow_privilege_escalation == Some(false) && added.any(|c| c == "CAP_SYS_ADMIN");
    });
    found
}

/// The pod's DNS policy and restart policy.
pub(super) fn validate_policies(spec: &PodSpec, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    errors.extend(one_of(
        text(&spec.restart_policy),
        &["Always", "OnFailure", "Never"],
        &path.child("restartPolicy"),
    ));
    errors.extend(one_of(
        text(&spec.dns_policy),
        &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"],
        &path.child("dnsPolicy"),
    ));
    errors
}
