//! Containers: names, ports, environment, mounts, resources, probes, lifecycle, security context.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EnvFromSource, EnvVar, ExecAction, GRPCAction, HTTPGetAction, Lifecycle,
    LifecycleHandler, Probe, ResourceRequirements, SecurityContext, SleepAction, TCPSocketAction, Volume,
    VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use machinery::Quantity;

use super::volume::validate_descending_path;
use crate::validation::content;
use crate::validation::field::{Bad, Error, Path};
use crate::validation::objectmeta::validate_nonnegative;
use crate::validation::{one_of, refusals};

/// What containers are checked against.
pub struct Surroundings<'a> {
    /// The pod's volumes.
    pub volumes: &'a [Volume],
    /// The pod's termination grace period.
    pub grace_period: Option<i64>,
}

/// `spec.containers`.
pub fn validate_containers(containers: &[Container], around: &Surroundings<'_>, path: &Path) -> Vec<Error> {
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
        if let Some(lifecycle) = &container.lifecycle {
            errors.extend(validate_lifecycle(lifecycle, around, &at.child("lifecycle")));
        }
        errors.extend(validate_probes(container, around, &at));
    }
    errors.extend(host_port_conflicts(containers.iter(), path));
    errors
}

/// `spec.initContainers`: as containers, but probes and hooks only on those that restart always (sidecars).
pub fn validate_init_containers(
    containers: &[Container],
    regular: &[Container],
    around: &Surroundings<'_>,
    path: &Path,
) -> Vec<Error> {
    let mut errors = Vec::new();
    for (i, container) in containers.iter().enumerate() {
        let at = path.index(i);
        errors.extend(validate_common(container, around, &at));
        let sidecar = container.restart_policy.as_deref() == Some("Always");
        if sidecar {
            if let Some(lifecycle) = &container.lifecycle {
                errors.extend(validate_lifecycle(lifecycle, around, &at.child("lifecycle")));
            }
            errors.extend(validate_probes(container, around, &at));
        }
        let name = at.child("name");
        let taken = regular.iter().chain(&containers[..i]).any(|c| c.name == container.name);
        if taken && !container.name.is_empty() {
            errors.push(Error::duplicate(&name, &container.name));
        }
        errors.extend(host_port_conflicts(std::iter::once(container), path));
        if !sidecar {
            let text = "may not be set for init containers without restartPolicy=Always";
            let set = [
                ("lifecycle", container.lifecycle.is_some()),
                ("livenessProbe", container.liveness_probe.is_some()),
                ("readinessProbe", container.readiness_probe.is_some()),
                ("startupProbe", container.startup_probe.is_some()),
            ];
            errors.extend(set.iter().filter(|(_, s)| *s).map(|(f, _)| Error::forbidden(&at.child(f), text)));
        }
    }
    errors
}

fn validate_common(container: &Container, around: &Surroundings<'_>, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let name = path.child("name");
    if container.name.is_empty() {
        errors.push(Error::required(&name, ""));
    } else {
        errors.extend(refusals(&name, &container.name, content::dns_label(&container.name)));
    }
    let image = container.image.as_deref().unwrap_or("");
    if image.is_empty() {
        errors.push(Error::required(&path.child("image"), ""));
    }
    errors.extend(one_of(
        container.termination_message_policy.as_deref().unwrap_or(""),
        &["File", "FallbackToLogsOnError"],
        &path.child("terminationMessagePolicy"),
    ));
    errors.extend(validate_ports(container.ports.as_deref().unwrap_or_default(), &path.child("ports")));
    errors.extend(validate_env(container.env.as_deref().unwrap_or_default(), &path.child("env")));
    errors
        .extend(validate_env_from(container.env_from.as_deref().unwrap_or_default(), &path.child("envFrom")));
    errors.extend(validate_mounts(container, around.volumes, &path.child("volumeMounts")));
    errors.extend(one_of(
        container.image_pull_policy.as_deref().unwrap_or(""),
        &["Always", "IfNotPresent", "Never"],
        &path.child("imagePullPolicy"),
    ));
    if let Some(resources) = &container.resources {
        errors.extend(validate_resources(resources, &path.child("resources")));
    }
    if let Some(context) = &container.security_context {
        errors.extend(validate_security_context(context, &path.child("securityContext")));
    }
    errors
}

fn validate_ports(ports: &[ContainerPort], path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    for (i, port) in ports.iter().enumerate() {
        let at = path.index(i);
        let name = port.name.as_deref().unwrap_or("");
        if !name.is_empty() {
            let texts = content::port_name(name);
            if !texts.is_empty() {
                errors.extend(refusals(&at.child("name"), name, texts));
            } else if ports[..i].iter().any(|p| p.name.as_deref() == Some(name)) {
                errors.push(Error::duplicate(&at.child("name"), name));
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
        let protocol = port.protocol.as_deref().unwrap_or("");
        errors.extend(one_of(protocol, &["SCTP", "TCP", "UDP"], &at.child("protocol")));
    }
    errors
}

/// A port number.
pub fn validate_port(port: i64, path: &Path) -> Vec<Error> {
    content::port_number(port).into_iter().map(|m| Error::invalid(path, port, m)).collect()
}

/// A port number or name.
pub fn validate_port_or_name(port: &IntOrString, path: &Path) -> Vec<Error> {
    match port {
        IntOrString::Int(n) => validate_port(i64::from(*n), path),
        IntOrString::String(name) => refusals(path, name, content::port_name(name)),
    }
}

fn host_port_conflicts<'a>(containers: impl Iterator<Item = &'a Container>, path: &Path) -> Vec<Error> {
    let mut seen: Vec<String> = Vec::new();
    let mut errors = Vec::new();
    for (c, container) in containers.enumerate() {
        let at = path.index(c);
        let ports = at.child("ports");
        for (p, port) in container.ports.iter().flatten().enumerate() {
            let Some(host) = port.host_port.filter(|h| *h != 0) else { continue };
            let protocol = port.protocol.as_deref().unwrap_or("");
            let key = format!("{protocol}/{}/{host}", port.host_ip.as_deref().unwrap_or(""));
            if seen.contains(&key) {
                errors.push(Error::duplicate(&ports.index(p).child("hostPort"), &key));
            } else {
                seen.push(key);
            }
        }
    }
    errors
}

fn validate_env(vars: &[EnvVar], path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    for (i, var) in vars.iter().enumerate() {
        let at = path.index(i);
        if var.name.is_empty() {
            errors.push(Error::required(&at.child("name"), ""));
        } else {
            errors.extend(refusals(&at.child("name"), &var.name, content::relaxed_env_var_name(&var.name)));
        }
        errors.extend(validate_value_from(var, &at.child("valueFrom")));
    }
    errors
}

fn validate_value_from(var: &EnvVar, path: &Path) -> Vec<Error> {
    let Some(from) = &var.value_from else { return Vec::new() };
    let mut errors = Vec::new();
    let mut count = 0;
    if let Some(reference) = &from.field_ref {
        count += 1;
        let at = path.child("fieldRef");
        if reference.field_path.is_empty() {
            errors.push(Error::required(&at.child("fieldPath"), ""));
        }
    }
    if let Some(reference) = &from.resource_field_ref {
        count += 1;
        if reference.resource.is_empty() {
            let at = path.child("resourceFieldRef");
            errors.push(Error::required(&at.child("resource"), ""));
        }
    }
    if let Some(reference) = &from.config_map_key_ref {
        count += 1;
        errors.extend(validate_key_ref(&reference.name, &reference.key, &path.child("configMapKeyRef")));
    }
    if let Some(reference) = &from.secret_key_ref {
        count += 1;
        errors.extend(validate_key_ref(&reference.name, &reference.key, &path.child("secretKeyRef")));
    }
    if from.file_key_ref.is_some() {
        count += 1;
    }
    let bad = |text: &str| Error::invalid(path, "", text);
    if count == 0 {
        errors.push(bad("must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"));
    } else if var.value.as_deref().is_some_and(|v| !v.is_empty()) {
        errors.push(bad("may not be specified when `value` is not empty"));
    } else if count > 1 {
        errors.push(bad("may not have more than one field specified at a time"));
    }
    errors
}

fn validate_key_ref(name: &str, key: &str, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    if name.is_empty() {
        errors.push(Error::required(&path.child("name"), ""));
    } else {
        errors.extend(refusals(&path.child("name"), name, content::dns_subdomain(name)));
    }
    if key.is_empty() {
        errors.push(Error::required(&path.child("key"), ""));
    } else {
        errors.extend(refusals(&path.child("key"), key, content::config_map_key(key)));
    }
    errors
}

fn validate_env_from(sources: &[EnvFromSource], path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    for (i, source) in sources.iter().enumerate() {
        let at = path.index(i);
        let prefix = source.prefix.as_deref().unwrap_or("");
        if !prefix.is_empty() {
            errors.extend(refusals(&at.child("prefix"), prefix, content::relaxed_env_var_name(prefix)));
        }
        let names = [
            ("configMapRef", source.config_map_ref.as_ref().map(|r| &r.name)),
            ("secretRef", source.secret_ref.as_ref().map(|r| &r.name)),
        ];
        for (field, name) in names {
            let reference = at.child(field);
            match name.map(String::as_str) {
                Some("") => errors.push(Error::required(&reference.child("name"), "")),
                Some(name) => {
                    errors.extend(refusals(&reference.child("name"), name, content::dns_subdomain(name)));
                }
                None => {}
            }
        }
        match names.iter().filter(|(_, n)| n.is_some()).count() {
            0 => errors.push(Error::invalid(path, "", "must specify one of: `configMapRef` or `secretRef`")),
            1 => {}
            _ => {
                errors.push(Error::invalid(path, "", "may not have more than one field specified at a time"))
            }
        }
    }
    errors
}

fn validate_mounts(container: &Container, volumes: &[Volume], path: &Path) -> Vec<Error> {
    let mounts: &[VolumeMount] = container.volume_mounts.as_deref().unwrap_or_default();
    let mut errors = Vec::new();
    for (i, mount) in mounts.iter().enumerate() {
        let at = path.index(i);
        if mount.name.is_empty() {
            errors.push(Error::required(&at.child("name"), ""));
        }
        if !volumes.iter().any(|v| v.name == mount.name) {
            errors.push(Error::not_found(&at.child("name"), &mount.name));
        }
        if mount.mount_path.is_empty() {
            errors.push(Error::required(&at.child("mountPath"), ""));
        }
        if mounts[..i].iter().any(|m| m.mount_path == mount.mount_path) {
            errors.push(Error::invalid(&at.child("mountPath"), &mount.mount_path, "must be unique"));
        }
        // Upstream reports sub paths without the index.
        let sub_path = mount.sub_path.as_deref().unwrap_or("");
        if !sub_path.is_empty() {
            errors.extend(validate_descending_path(sub_path, &path.child("subPath")));
        }
        let expression = mount.sub_path_expr.as_deref().unwrap_or("");
        if !expression.is_empty() {
            if !sub_path.is_empty() {
                let detail = "subPathExpr and subPath are mutually exclusive";
                errors.push(Error::invalid(&at.child("subPathExpr"), expression, detail));
            }
            errors.extend(validate_descending_path(expression, &path.child("subPathExpr")));
        }
    }
    errors
}

/// Resource names a container may ask for besides qualified ones.
fn is_standard(name: &str) -> bool {
    matches!(name, "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-")
}

fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// Resources that may be promised more than once.
fn overcommits(name: &str) -> bool {
    is_native(name) && !name.starts_with("hugepages-")
}

fn validate_resource_name(name: &str, path: &Path) -> Vec<Error> {
    let texts = content::qualified_name(name);
    if !texts.is_empty() {
        return refusals(path, name, texts);
    }
    if !name.contains('/') && !is_standard(name) {
        let mut errors =
            vec![Error::invalid(path, name, "must be a standard resource type or fully qualified")];
        errors.push(Error::invalid(path, name, "must be a standard resource for containers"));
        return errors;
    }
    if name.contains('/') && !is_native(name) && name.starts_with("requests.") {
        return vec![Error::invalid(path, name, "doesn't follow extended resource name standard")];
    }
    Vec::new()
}

fn quantity(text: &Text) -> Option<Quantity> {
    Quantity::parse(&text.0).ok()
}

fn validate_amount(name: &str, value: &Text, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let Some(amount) = quantity(value) else { return errors };
    if amount.sign() < 0 {
        errors.push(Error::invalid(path, &value.0, "must be greater than or equal to 0"));
    }
    let integer = name.contains('/') && !is_native(name);
    if integer && amount.milli_value() % 1000 != 0 {
        errors.push(Error::invalid(path, Bad::Raw(format!("\"{}\"", value.0)), "must be an integer"));
    }
    errors
}

/// Requests and limits.
pub fn validate_resources(resources: &ResourceRequirements, path: &Path) -> Vec<Error> {
    let none = BTreeMap::new();
    let limits = resources.limits.as_ref().unwrap_or(&none);
    let requests = resources.requests.as_ref().unwrap_or(&none);
    let (limit_path, request_path) = (path.child("limits"), path.child("requests"));
    let mut errors = Vec::new();
    for (name, value) in limits {
        errors.extend(validate_resource_name(name, &limit_path.key(name)));
        errors.extend(validate_amount(name, value, &limit_path.key(name)));
    }
    for (name, value) in requests {
        errors.extend(validate_resource_name(name, &request_path.key(name)));
        errors.extend(validate_amount(name, value, &request_path.key(name)));
        match limits.get(name) {
            Some(limit) => errors.extend(validate_against_limit(name, value, limit, &request_path)),
            None if !overcommits(name) => {
                errors
                    .push(Error::required(&limit_path, "Limit must be set for non overcommitable resources"));
            }
            None => {}
        }
    }
    let names = || limits.keys().chain(requests.keys());
    let huge = names().any(|n| n.starts_with("hugepages-"));
    if huge && !names().any(|n| n == "cpu" || n == "memory") {
        errors.push(Error::forbidden(path, "HugePages require cpu or memory"));
    }
    errors
}

fn validate_against_limit(name: &str, value: &Text, limit: &Text, path: &Path) -> Option<Error> {
    let (Some(request), Some(most)) = (quantity(value), quantity(limit)) else { return None };
    if !overcommits(name) && request != most {
        return Some(Error::invalid(path, &value.0, format!("must be equal to {name} limit of {}", limit.0)));
    }
    let mut over = request;
    over.sub(&most);
    (over.sign() > 0).then(|| {
        Error::invalid(path, &value.0, format!("must be less than or equal to {name} limit of {}", limit.0))
    })
}

fn validate_probes(container: &Container, around: &Surroundings<'_>, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    for (field, probe) in [
        ("livenessProbe", &container.liveness_probe),
        ("readinessProbe", &container.readiness_probe),
        ("startupProbe", &container.startup_probe),
    ] {
        let Some(probe) = probe else { continue };
        let at = path.child(field);
        errors.extend(validate_probe(probe, around, &at));
        if field == "readinessProbe" {
            if let Some(seconds) = probe.termination_grace_period_seconds {
                let at = at.child("terminationGracePeriodSeconds");
                errors.push(Error::invalid(&at, seconds, "must not be set for readinessProbes"));
            }
        } else if let Some(threshold) = probe.success_threshold.filter(|t| *t != 1) {
            errors.push(Error::invalid(&at.child("successThreshold"), threshold, "must be 1"));
        }
    }
    errors
}

fn validate_probe(probe: &Probe, around: &Surroundings<'_>, path: &Path) -> Vec<Error> {
    let handler = Handler {
        exec: probe.exec.as_ref(),
        http_get: probe.http_get.as_ref(),
        tcp_socket: probe.tcp_socket.as_ref(),
        grpc: probe.grpc.as_ref(),
        sleep: None,
    };
    let mut errors = validate_handler(&handler, around, path);
    for (field, value) in [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ] {
        errors.extend(validate_nonnegative(i64::from(value.unwrap_or(0)), &path.child(field)));
    }
    if let Some(seconds) = probe.termination_grace_period_seconds.filter(|s| *s <= 0) {
        errors.push(Error::invalid(
            &path.child("terminationGracePeriodSeconds"),
            seconds,
            "must be greater than 0",
        ));
    }
    errors
}

fn validate_lifecycle(lifecycle: &Lifecycle, around: &Surroundings<'_>, path: &Path) -> Vec<Error> {
    let handler = |h: &LifecycleHandler, field: &str| {
        let handler = Handler {
            exec: h.exec.as_ref(),
            http_get: h.http_get.as_ref(),
            tcp_socket: h.tcp_socket.as_ref(),
            grpc: None,
            sleep: h.sleep.as_ref(),
        };
        validate_handler(&handler, around, &path.child(field))
    };
    let mut errors = Vec::new();
    errors.extend(lifecycle.post_start.iter().flat_map(|h| handler(h, "postStart")));
    errors.extend(lifecycle.pre_stop.iter().flat_map(|h| handler(h, "preStop")));
    errors
}

struct Handler<'a> {
    exec: Option<&'a ExecAction>,
    http_get: Option<&'a HTTPGetAction>,
    tcp_socket: Option<&'a TCPSocketAction>,
    grpc: Option<&'a GRPCAction>,
    sleep: Option<&'a SleepAction>,
}

fn validate_handler(handler: &Handler<'_>, around: &Surroundings<'_>, path: &Path) -> Vec<Error> {
    let mut found: Vec<(&str, Vec<Error>)> = Vec::new();
    if let Some(exec) = handler.exec {
        let at = path.child("exec");
        let empty = exec.command.as_ref().is_none_or(Vec::is_empty);
        found.push(("exec", empty.then(|| Error::required(&at.child("command"), "")).into_iter().collect()));
    }
    if let Some(http) = handler.http_get {
        found.push(("httpGet", validate_http(http, &path.child("httpGet"))));
    }
    if let Some(tcp) = handler.tcp_socket {
        let at = path.child("tcpSocket");
        found.push(("tcpSocket", validate_port_or_name(&tcp.port, &at.child("port"))));
    }
    if let Some(grpc) = handler.grpc {
        let at = path.child("grpc");
        found.push(("grpc", validate_port(i64::from(grpc.port), &at.child("port"))));
    }
    if let Some(sleep) = handler.sleep {
        let error = validate_sleep(sleep.seconds, around.grace_period, &path.child("sleep"));
        found.push(("sleep", error.into_iter().collect()));
    }
    if found.is_empty() {
        return vec![Error::required(path, "must specify a handler type")];
    }
    let mut all = found.into_iter();
    let mut errors = all.next().map(|(_, e)| e).unwrap_or_default();
    errors.extend(
        all.map(|(field, _)| {
            Error::forbidden(&path.child(field), "may not specify more than 1 handler type")
        }),
    );
    errors
}

fn validate_sleep(seconds: i64, grace_period: Option<i64>, path: &Path) -> Option<Error> {
    let most = grace_period.unwrap_or(30);
    (seconds < 0 || seconds > most).then(|| {
        let detail = format!("must be non-negative and less than terminationGracePeriodSeconds ({most})");
        Error::invalid(path, seconds, detail)
    })
}

fn validate_http(http: &HTTPGetAction, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    if http.path.as_deref().unwrap_or("").is_empty() {
        errors.push(Error::required(&path.child("path"), ""));
    }
    errors.extend(validate_port_or_name(&http.port, &path.child("port")));
    let scheme = http.scheme.as_deref().unwrap_or("");
    if !matches!(scheme, "HTTP" | "HTTPS") {
        errors.push(Error::not_supported(&path.child("scheme"), scheme, &["HTTP", "HTTPS"]));
    }
    for header in http.http_headers.iter().flatten() {
        errors.extend(refusals(
            &path.child("httpHeaders"),
            &header.name,
            content::http_header_name(&header.name),
        ));
    }
    errors
}

fn validate_security_context(context: &SecurityContext, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    for (field, id) in [("runAsUser", context.run_as_user), ("runAsGroup", context.run_as_group)] {
        if let Some(id) = id {
            let at = path.child(field);
            errors.extend(content::id(id).into_iter().map(|m| Error::invalid(&at, id, m)));
        }
    }
    if context.allow_privilege_escalation == Some(false) {
        if context.privileged == Some(true) {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.push(Error::invalid(path, Bad::json(context), detail));
        }
        let added = context.capabilities.as_ref().and_then(|c| c.add.as_ref());
        if added.is_some_and(|a| a.iter().any(|c| c == "CAP_SYS_ADMIN")) {
            let detail =
                "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.push(Error::invalid(path, Bad::json(context), detail));
        }
    }
    if let Some(kind) = context.proc_mount.as_deref() {
        errors.extend(one_of(kind, &["Default", "Unmasked"], &path.child("procMount")));
    }
    errors
}
