//! Containers of all three lists: names, images, ports, mounts, devices, restart rules.

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, ContainerRestartRule, EphemeralContainer, PodSpec, Volume, VolumeDevice,
    VolumeMount,
};

use super::path::{descending, no_backsteps};
use super::probe::{self, Setting};
pub use super::probe::{validate_port, validate_port_or_name};
use super::{env, resources, security};
use crate::validation::field::{Bad, Error, Path};
use crate::validation::{content, dns_label, items, one_of, refusals, supported, text};

/// What containers are checked against.
pub(super) struct Surroundings<'a> {
    /// The pod's sound volumes.
    pub volumes: &'a [&'a Volume],
    /// Operating system and grace period.
    pub setting: Setting<'a>,
    /// Resource claims, and what resources may be as they were.
    pub terms: resources::Terms<'a>,
    /// The pod's restart policy.
    pub restart_policy: &'a str,
    /// Not `hostUsers: false`.
    pub host_users: bool,
    /// CAP_SYS_ADMIN without privilege escalation was there before.
    pub sys_admin: bool,
    /// Init containers with `RestartContainer` were there before.
    pub restarting_init: bool,
}

/// Calls `see` for every container of the three lists with its path.
pub(crate) fn visit<'a>(spec: &PodSpec, path: &Path<'a>, see: &mut dyn FnMut(&Container, &Path<'_>)) {
    for (field, list) in [("initContainers", items(&spec.init_containers)), ("containers", &spec.containers)]
    {
        let at = path.child(field);
        for (i, container) in list.iter().enumerate() {
            see(container, &at.index(i));
        }
    }
    let at = path.child("ephemeralContainers");
    for (i, container) in items(&spec.ephemeral_containers).iter().enumerate() {
        see(&as_container(container), &at.index(i));
    }
}

/// The part of an ephemeral container that it shares with others.
fn as_container(c: &EphemeralContainer) -> Container {
    let c = c.clone();
    Container {
        args: c.args,
        command: c.command,
        env: c.env,
        env_from: c.env_from,
        image: c.image,
        image_pull_policy: c.image_pull_policy,
        lifecycle: c.lifecycle,
        liveness_probe: c.liveness_probe,
        name: c.name,
        ports: c.ports,
        readiness_probe: c.readiness_probe,
        resize_policy: c.resize_policy,
        resources: c.resources,
        restart_policy: c.restart_policy,
        restart_policy_rules: c.restart_policy_rules,
        security_context: c.security_context,
        startup_probe: c.startup_probe,
        stdin: c.stdin,
        stdin_once: c.stdin_once,
        termination_message_path: c.termination_message_path,
        termination_message_policy: c.termination_message_policy,
        tty: c.tty,
        volume_devices: c.volume_devices,
        volume_mounts: c.volume_mounts,
        working_dir: c.working_dir,
    }
}

/// `spec.containers`.
pub(super) fn validate_containers(spec: &PodSpec, around: &Surroundings<'_>, path: &Path) -> Vec<Error> {
    let containers = &spec.containers;
    if containers.is_empty() {
        return vec![Error::required(path, "")];
    }
    let mut errors = Vec::new();
    for (i, container) in containers.iter().enumerate() {
        let at = path.index(i);
        errors.extend(validate_common(container, around, &at));
        if containers[..i].iter().any(|c| c.name == container.name) {
            errors.push(Error::duplicate(&at.child("name"), &container.name));
        }
        errors.extend(probe::validate_container(container, around.setting, &at));
        errors.extend(validate_restart(container, &at));
    }
    errors.extend(host_port_conflicts(containers.iter(), path));
    errors
}

/// `spec.initContainers`: as containers, but probes and hooks only on those that restart always (sidecars).
pub(super) fn validate_init_containers(spec: &PodSpec, around: &Surroundings<'_>, path: &Path) -> Vec<Error> {
    let containers = items(&spec.init_containers);
    let mut errors = Vec::new();
    for (i, container) in containers.iter().enumerate() {
        let at = path.index(i);
        errors.extend(validate_common(container, around, &at));
        let sidecar = container.restart_policy.as_deref() == Some("Always");
        errors.extend(validate_init_restart(container, &at));
        let taken = spec.containers.iter().any(|c| c.name == container.name)
            || containers[..i].iter().any(|c| c.name == container.name && !c.name.is_empty());
        if taken {
            errors.push(Error::duplicate(&at.child("name"), &container.name));
        }
        errors.extend(host_port_conflicts(std::iter::once(container), path));
        if sidecar {
            errors.extend(probe::validate_container(container, around.setting, &at));
            continue;
        }
        let detail = "may not be set for init containers without restartPolicy=Always";
        let set = [
            ("lifecycle", container.lifecycle.is_some()),
            ("livenessProbe", container.liveness_probe.is_some()),
            ("readinessProbe", container.readiness_probe.is_some()),
            ("startupProbe", container.startup_probe.is_some()),
        ];
        errors.extend(set.iter().filter(|(_, s)| *s).map(|(f, _)| Error::forbidden(&at.child(f), detail)));
        let policies = at.child("resizePolicy");
        for (j, policy) in items(&container.resize_policy).iter().enumerate() {
            if policy.restart_policy == "RestartContainer" && !around.restarting_init {
                let item = policies.index(j);
                let detail = "must not be set to 'RestartContainer' for non-sidecar initContainers";
                errors.push(Error::invalid(&item.child("restartPolicy"), "RestartContainer", detail));
            }
        }
    }
    errors
}

/// `spec.ephemeralContainers`: what a debugger may have.
pub(super) fn validate_ephemeral_containers(
    spec: &PodSpec,
    around: &Surroundings<'_>,
    path: &Path,
) -> Vec<Error> {
    let all = items(&spec.ephemeral_containers);
    let others = || spec.containers.iter().chain(items(&spec.init_containers)).map(|c| c.name.as_str());
    let mut errors = Vec::new();
    for (i, ephemeral) in all.iter().enumerate() {
        let at = path.index(i);
        let container = as_container(ephemeral);
        errors.extend(validate_common(&container, around, &at));
        errors.extend(validate_image_space(&container, &at));
        let name = ephemeral.name.as_str();
        if others().chain(all[..i].iter().map(|c| c.name.as_str())).any(|n| n == name) {
            errors.push(Error::duplicate(&at.child("name"), name));
        }
        let target = text(&ephemeral.target_container_name);
        if !target.is_empty() && !others().any(|n| n == target) {
            errors.push(Error::not_found(&at.child("targetContainerName"), target));
        }
        let detail = "cannot be set for an Ephemeral Container";
        let amounts = container.resources.as_ref();
        let set = [
            ("ports", container.ports.is_some()),
            (
                "resources",
                amounts.is_some_and(|r| r.limits.is_some() || r.requests.is_some() || r.claims.is_some()),
            ),
            ("resizePolicy", container.resize_policy.is_some()),
            ("restartPolicy", container.restart_policy.is_some()),
            ("restartPolicyRules", container.restart_policy_rules.is_some()),
            ("livenessProbe", container.liveness_probe.is_some()),
            ("readinessProbe", container.readiness_probe.is_some()),
            ("startupProbe", container.startup_probe.is_some()),
            ("lifecycle", container.lifecycle.is_some()),
        ];
        errors.extend(set.iter().filter(|(_, s)| *s).map(|(f, _)| Error::forbidden(&at.child(f), detail)));
        let mounts = at.child("volumeMounts");
        for (j, mount) in items(&container.volume_mounts).iter().enumerate() {
            let item = mounts.index(j);
            for (field, value) in [("subPath", &mount.sub_path), ("subPathExpr", &mount.sub_path_expr)] {
                if !text(value).is_empty() {
                    errors.push(Error::forbidden(&item.child(field), detail));
                }
            }
        }
    }
    errors
}

/// Images of pods, other than those of templates, have no space around them.
pub(super) fn validate_image_space(container: &Container, path: &Path) -> Option<Error> {
    let image = text(&container.image);
    let detail = "must not have leading or trailing whitespace";
    (image.trim().len() != image.len()).then(|| Error::invalid(&path.child("image"), image, detail))
}

fn validate_common(container: &Container, around: &Surroundings<'_>, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    if container.name.is_empty() {
        errors.push(Error::required(&path.child("name"), ""));
    } else {
        errors.extend(dns_label(&container.name, &path.child("name")));
    }
    if text(&container.image).is_empty() {
        errors.push(Error::required(&path.child("image"), ""));
    }
    errors.extend(one_of(
        text(&container.termination_message_policy),
        &["File", "FallbackToLogsOnError"],
        &path.child("terminationMessagePolicy"),
    ));
    errors.extend(validate_ports(items(&container.ports), &path.child("ports")));
    errors.extend(env::validate_env(items(&container.env), &path.child("env")));
    errors.extend(env::validate_env_from(items(&container.env_from), &path.child("envFrom")));
    errors.extend(validate_mounts(container, around.volumes, &path.child("volumeMounts")));
    errors.extend(validate_devices(container, around.volumes, &path.child("volumeDevices")));
    errors.extend(validate_pull_policy(text(&container.image_pull_policy), &path.child("imagePullPolicy")));
    if let Some(amounts) = &container.resources {
        errors.extend(resources::validate_container(amounts, &around.terms, &path.child("resources")));
    }
    errors.extend(resources::validate_resize_policy(
        items(&container.resize_policy),
        around.restart_policy,
        &path.child("resizePolicy"),
    ));
    if let Some(context) = &container.security_context {
        let at = path.child("securityContext");
        errors.extend(security::validate_container(context, around.host_users, around.sys_admin, &at));
    }
    errors
}

/// When to pull an image.
pub(super) fn validate_pull_policy(policy: &str, path: &Path) -> Option<Error> {
    one_of(policy, &["Always", "IfNotPresent", "Never"], path)
}

fn validate_ports(ports: &[ContainerPort], path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let mut names: Vec<&str> = Vec::new();
    for (i, port) in ports.iter().enumerate() {
        let at = path.index(i);
        let name = text(&port.name);
        if !name.is_empty() {
            let texts = content::port_name(name);
            if !texts.is_empty() {
                errors.extend(refusals(&at.child("name"), name, texts));
            } else if names.contains(&name) {
                errors.push(Error::duplicate(&at.child("name"), name));
            } else {
                names.push(name);
            }
        }
        if port.container_port == 0 {
            errors.push(Error::required(&at.child("containerPort"), ""));
        } else {
            errors.extend(validate_port(i64::from(port.container_port), &at.child("containerPort")));
        }
        if let Some(host) = port.host_port.filter(|p| *p != 0) {
            errors.extend(validate_port(i64::from(host), &at.child("hostPort")));
        }
        errors.extend(one_of(text(&port.protocol), &["SCTP", "TCP", "UDP"], &at.child("protocol")));
    }
    errors
}

fn host_port_conflicts<'a>(containers: impl Iterator<Item = &'a Container>, path: &Path) -> Vec<Error> {
    let mut seen: Vec<String> = Vec::new();
    let mut errors = Vec::new();
    for (c, container) in containers.enumerate() {
        let at = path.index(c);
        let ports = at.child("ports");
        for (p, port) in container.ports.iter().flatten().enumerate() {
            let Some(host) = port.host_port.filter(|h| *h != 0) else { continue };
            let key = format!("{}/{}/{host}", text(&port.protocol), text(&port.host_ip));
            if seen.contains(&key) {
                errors.push(Error::duplicate(&ports.index(p).child("hostPort"), &key));
            } else {
                seen.push(key);
            }
        }
    }
    errors
}

fn validate_mounts(container: &Container, volumes: &[&Volume], path: &Path) -> Vec<Error> {
    let mounts = items(&container.volume_mounts);
    let devices = items(&container.volume_devices);
    let mut errors = Vec::new();
    for (i, mount) in mounts.iter().enumerate() {
        let at = path.index(i);
        let (name, target) = (mount.name.as_str(), mount.mount_path.as_str());
        let volume = volumes.iter().find(|v| v.name == name);
        if name.is_empty() {
            errors.push(Error::required(&at.child("name"), ""));
        }
        if volume.is_none() {
            errors.push(Error::not_found(&at.child("name"), name));
        }
        if target.is_empty() {
            errors.push(Error::required(&at.child("mountPath"), ""));
        }
        if mounts[..i].iter().any(|m| m.mount_path == target) {
            errors.push(Error::invalid(&at.child("mountPath"), target, "must be unique"));
        }
        if devices.iter().any(|d| d.name == name) {
            errors.push(Error::invalid(&at.child("name"), name, "must not already exist in volumeDevices"));
        }
        if last_by_name(devices, |d| &d.name).any(|d| d.device_path == target) {
            let detail = "must not already exist as a path in volumeDevices";
            errors.push(Error::invalid(&at.child("mountPath"), target, detail));
        }
        // From here upstream reports without the index.
        let sub_path = text(&mount.sub_path);
        if !sub_path.is_empty() {
            errors.extend(descending(sub_path, &path.child("subPath")));
        }
        let expression = text(&mount.sub_path_expr);
        if !expression.is_empty() {
            if !sub_path.is_empty() {
                let detail = "subPathExpr and subPath are mutually exclusive";
                errors.push(Error::invalid(&at.child("subPathExpr"), expression, detail));
            }
            errors.extend(descending(expression, &path.child("subPathExpr")));
        }
        errors.extend(validate_propagation(mount, container, path));
        errors.extend(validate_options(mount, volume.copied(), &at.child("bindMountOptions")));
    }
    errors
}

/// The last of several items of one name, as a Go map keeps it.
fn last_by_name<T>(list: &[T], name: fn(&T) -> &String) -> impl Iterator<Item = &T> {
    list.iter()
        .enumerate()
        .filter(move |(i, d)| !list[i + 1..].iter().any(|l| name(l) == name(d)))
        .map(|(_, d)| d)
}

fn validate_propagation(mount: &VolumeMount, container: &Container, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let propagation = mount.mount_propagation.as_deref();
    if let Some(mode) = propagation {
        let at = path.child("mountPropagation");
        errors.extend(supported(mode, &["Bidirectional", "HostToContainer", "None"], &at));
        let privileged = container.security_context.as_ref().is_some_and(|c| c.privileged == Some(true));
        if mode == "Bidirectional" && !privileged {
            let detail = "Bidirectional mount propagation is available only to privileged containers";
            errors.push(Error::forbidden(&at, detail));
        }
    }
    let at = path.child("recursiveReadOnly");
    match mount.recursive_read_only.as_deref() {
        None | Some("Disabled") => {}
        Some("Enabled" | "IfPossible") => {
            if mount.read_only != Some(true) {
                errors.push(Error::forbidden(&at, "may only be specified when readOnly is true"));
            }
            if propagation.is_some_and(|p| p != "None") {
                let detail = "may only be specified when mountPropagation is None or not specified";
                errors.push(Error::forbidden(&at, detail));
            }
        }
        Some(other) => errors.extend(supported(other, &["Disabled", "Enabled", "IfPossible"], &at)),
    }
    errors
}

fn validate_options(mount: &VolumeMount, volume: Option<&Volume>, path: &Path) -> Vec<Error> {
    let options = items(&mount.bind_mount_options);
    let mut errors = Vec::new();
    for (i, option) in options.iter().enumerate() {
        let known = ["nodev", "noexec", "nosuid"];
        if !known.contains(&option.as_str()) {
            errors.push(Error::not_supported(&path.index(i), option, &known));
        }
        if options[..i].contains(option) {
            errors.push(Error::duplicate(&path.index(i), option));
        }
    }
    if !options.is_empty() && volume.is_some_and(|v| v.image.is_some()) {
        let detail = "bindMountOptions may not be used with image volumes";
        errors.push(Error::invalid(path, Bad::json(&options), detail));
    }
    errors
}

fn validate_devices(container: &Container, volumes: &[&Volume], path: &Path) -> Vec<Error> {
    let devices: &[VolumeDevice] = items(&container.volume_devices);
    let mounts = items(&container.volume_mounts);
    let mut errors = Vec::new();
    let mut paths: Vec<&str> = Vec::new();
    for (i, device) in devices.iter().enumerate() {
        let at = path.index(i);
        let (name, target) = (device.name.as_str(), device.device_path.as_str());
        let named = at.child("name");
        if name.is_empty() {
            errors.push(Error::required(&named, ""));
        }
        if !name.is_empty() && devices[..i].iter().any(|d| d.name == name) {
            errors.push(Error::invalid(&named, name, "must be unique"));
        }
        match volumes.iter().find(|v| v.name == name) {
            None => errors.push(Error::not_found(&named, name)),
            Some(v) if v.persistent_volume_claim.is_none() && v.ephemeral.is_none() => {
                let detail =
                    "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                errors.push(Error::invalid(&named, name, detail));
            }
            Some(_) => {}
        }
        let at = at.child("devicePath");
        if target.is_empty() {
            errors.push(Error::required(&at, ""));
        }
        if paths.contains(&target) {
            errors.push(Error::invalid(&at, target, "must be unique"));
        }
        if no_backsteps(target, &at).is_some() {
            errors.push(Error::invalid(&at, target, "can not contain backsteps ('..')"));
        } else {
            paths.push(target);
        }
        if mounts.iter().any(|m| m.name == name) {
            errors.push(Error::invalid(&named, name, "must not already exist in volumeMounts"));
        }
        if last_by_name(mounts, |m| &m.name).any(|m| m.mount_path == target) {
            errors.push(Error::invalid(&at, target, "must not already exist as a path in volumeMounts"));
        }
    }
    errors
}

/// Rules without a policy are not looked at in an init container. Upstream: `validateInitContainerRestartPolicy`.
fn validate_init_restart(container: &Container, path: &Path) -> Vec<Error> {
    let ruled = !items(&container.restart_policy_rules).is_empty();
    match &container.restart_policy {
        None if ruled => {
            let at = path.child("restartPolicy");
            vec![Error::required(&at, "must specify restartPolicy when restart rules are used")]
        }
        None => Vec::new(),
        Some(_) => validate_restart(container, path),
    }
}

/// A container's own restart policy and rules. Upstream: `validateContainerRestartPolicy`.
fn validate_restart(container: &Container, path: &Path) -> Vec<Error> {
    let rules: &[ContainerRestartRule] = items(&container.restart_policy_rules);
    let at = path.child("restartPolicy");
    let mut errors = Vec::new();
    match container.restart_policy.as_deref() {
        None if rules.is_empty() => return errors,
        None => {
            errors.push(Error::required(&at, "must specify restartPolicy when restart rules are used"));
        }
        Some(policy) => errors.extend(supported(policy, &["Always", "Never", "OnFailure"], &at)),
    }
    let list = path.child("restartPolicyRules");
    if rules.len() > 20 {
        errors.push(Error::too_many(&list, rules.len(), 20));
    }
    for (i, rule) in rules.iter().enumerate() {
        let at = list.index(i);
        errors.extend(supported(&rule.action, &["Restart", "RestartAllContainers"], &at.child("action")));
        let codes = at.child("exitCodes");
        match &rule.exit_codes {
            None => errors.push(Error::required(&codes, "must be specified")),
            Some(on) => {
                errors.extend(supported(&on.operator, &["In", "NotIn"], &codes.child("operator")));
                let values = items(&on.values).len();
                if values > 255 {
                    errors.push(Error::too_many(&codes.child("values"), values, 255));
                }
            }
        }
    }
    errors
}
