//! Probes, hooks and their handlers.

use k8s_openapi::api::core::v1::{
    Container, ExecAction, GRPCAction, HTTPGetAction, Lifecycle, LifecycleHandler, Probe, SleepAction,
    TCPSocketAction,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::validation::field::{Error, Path};
use crate::validation::objectmeta::validate_nonnegative;
use crate::validation::{content, items, refusals, supported, text};

/// The operating system, and the pod's termination grace period.
#[derive(Clone, Copy)]
pub(super) struct Setting<'a> {
    /// `spec.os.name`; `None` without `spec.os`.
    pub os: Option<&'a str>,
    /// `spec.terminationGracePeriodSeconds`.
    pub grace_period: Option<i64>,
}

/// Hooks and probes of a container that may have them.
pub(super) fn validate_container(container: &Container, setting: Setting<'_>, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    if let Some(lifecycle) = &container.lifecycle {
        errors.extend(validate_lifecycle(lifecycle, setting, &path.child("lifecycle")));
    }
    let once = |probe: &Probe, at: &Path| {
        let successes = probe.success_threshold.unwrap_or(0);
        (successes != 1).then(|| Error::invalid(&at.child("successThreshold"), successes, "must be 1"))
    };
    if let Some(probe) = &container.liveness_probe {
        let at = path.child("livenessProbe");
        errors.extend(validate_probe(probe, setting, &at));
        errors.extend(once(probe, &at));
    }
    if let Some(probe) = &container.readiness_probe {
        let at = path.child("readinessProbe");
        errors.extend(validate_probe(probe, setting, &at));
        if let Some(seconds) = probe.termination_grace_period_seconds {
            let at = at.child("terminationGracePeriodSeconds");
            errors.push(Error::invalid(&at, seconds, "must not be set for readinessProbes"));
        }
    }
    if let Some(probe) = &container.startup_probe {
        let at = path.child("startupProbe");
        errors.extend(validate_probe(probe, setting, &at));
        errors.extend(once(probe, &at));
    }
    errors
}

fn validate_probe(probe: &Probe, setting: Setting<'_>, path: &Path) -> Vec<Error> {
    let handler = Handler {
        exec: probe.exec.as_ref(),
        http_get: probe.http_get.as_ref(),
        tcp_socket: probe.tcp_socket.as_ref(),
        grpc: probe.grpc.as_ref(),
        sleep: None,
    };
    let mut errors = validate_handler(&handler, setting, path);
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
        let at = path.child("terminationGracePeriodSeconds");
        errors.push(Error::invalid(&at, seconds, "must be greater than 0"));
    }
    errors
}

fn validate_lifecycle(lifecycle: &Lifecycle, setting: Setting<'_>, path: &Path) -> Vec<Error> {
    let handler = |h: &LifecycleHandler, field: &str| {
        let handler = Handler {
            exec: h.exec.as_ref(),
            http_get: h.http_get.as_ref(),
            tcp_socket: h.tcp_socket.as_ref(),
            grpc: None,
            sleep: h.sleep.as_ref(),
        };
        validate_handler(&handler, setting, &path.child(field))
    };
    let mut errors = Vec::new();
    errors.extend(lifecycle.post_start.iter().flat_map(|h| handler(h, "postStart")));
    errors.extend(lifecycle.pre_stop.iter().flat_map(|h| handler(h, "preStop")));
    if let Some(signal) = lifecycle.stop_signal.as_deref() {
        errors.extend(validate_stop_signal(signal, setting.os, &path.child("stopSignal")));
    }
    errors
}

const LINUX_SIGNALS: &[&str] = &[
    "SIGABRT",
    "SIGALRM",
    "SIGBUS",
    "SIGCHLD",
    "SIGCLD",
    "SIGCONT",
    "SIGFPE",
    "SIGHUP",
    "SIGILL",
    "SIGINT",
    "SIGIO",
    "SIGIOT",
    "SIGKILL",
    "SIGPIPE",
    "SIGPOLL",
    "SIGPROF",
    "SIGPWR",
    "SIGQUIT",
    "SIGRTMAX",
    "SIGRTMAX-1",
    "SIGRTMAX-10",
    "SIGRTMAX-11",
    "SIGRTMAX-12",
    "SIGRTMAX-13",
    "SIGRTMAX-14",
    "SIGRTMAX-2",
    "SIGRTMAX-3",
    "SIGRTMAX-4",
    "SIGRTMAX-5",
    "SIGRTMAX-6",
    "SIGRTMAX-7",
    "SIGRTMAX-8",
    "SIGRTMAX-9",
    "SIGRTMIN",
    "SIGRTMIN+1",
    "SIGRTMIN+10",
    "SIGRTMIN+11",
    "SIGRTMIN+12",
    "SIGRTMIN+13",
    "SIGRTMIN+14",
    "SIGRTMIN+15",
    "SIGRTMIN+2",
    "SIGRTMIN+3",
    "SIGRTMIN+4",
    "SIGRTMIN+5",
    "SIGRTMIN+6",
    "SIGRTMIN+7",
    "SIGRTMIN+8",
    "SIGRTMIN+9",
    "SIGSEGV",
    "SIGSTKFLT",
    "SIGSTOP",
    "SIGSYS",
    "SIGTERM",
    "SIGTRAP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGUSR1",
    "SIGUSR2",
    "SIGVTALRM",
    "SIGWINCH",
    "SIGXCPU",
    "SIGXFSZ",
];

fn validate_stop_signal(signal: &str, os: Option<&str>, path: &Path) -> Option<Error> {
    match os {
        None => Some(Error::forbidden(path, "may not be set for containers with empty `spec.os.name`")),
        Some("windows") => supported(signal, &["SIGKILL", "SIGTERM"], path),
        Some("linux") => supported(signal, LINUX_SIGNALS, path),
        Some(_) => None,
    }
}

struct Handler<'a> {
    exec: Option<&'a ExecAction>,
    http_get: Option<&'a HTTPGetAction>,
    tcp_socket: Option<&'a TCPSocketAction>,
    grpc: Option<&'a GRPCAction>,
    sleep: Option<&'a SleepAction>,
}

fn validate_handler(handler: &Handler<'_>, setting: Setting<'_>, path: &Path) -> Vec<Error> {
    let mut found: Vec<(&str, Vec<Error>)> = Vec::new();
    if let Some(exec) = handler.exec {
        let at = path.child("exec");
        let empty = items(&exec.command).is_empty();
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
        let mut errors = validate_port(i64::from(grpc.port), &at.child("port"));
        errors.extend(
            grpc.mode.as_deref().and_then(|m| supported(m, &["Plaintext", "TLS"], &at.child("mode"))),
        );
        found.push(("grpc", errors));
    }
    if let Some(sleep) = handler.sleep {
        let error = validate_sleep(sleep.seconds, setting.grace_period, &path.child("sleep"));
        found.push(("sleep", error.into_iter().collect()));
    }
    if found.is_empty() {
        return vec![Error::required(path, "must specify a handler type")];
    }
    let mut all = found.into_iter();
    let mut errors = all.next().map(|(_, e)| e).unwrap_or_default();
    let more = "may not specify more than 1 handler type";
    errors.extend(all.map(|(field, _)| Error::forbidden(&path.child(field), more)));
    errors
}

fn validate_sleep(seconds: i64, grace_period: Option<i64>, path: &Path) -> Option<Error> {
    // Without a grace period another error names the real problem.
    let most = grace_period?;
    (seconds < 0 || seconds > most).then(|| {
        let detail = format!("must be non-negative and less than terminationGracePeriodSeconds ({most})");
        Error::invalid(path, seconds, detail)
    })
}

fn validate_http(http: &HTTPGetAction, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    if text(&http.path).is_empty() {
        errors.push(Error::required(&path.child("path"), ""));
    }
    errors.extend(validate_port_or_name(&http.port, &path.child("port")));
    let scheme = text(&http.scheme);
    errors.extend(supported(scheme, &["HTTP", "HTTPS"], &path.child("scheme")));
    for header in http.http_headers.iter().flatten() {
        errors.extend(refusals(
            &path.child("httpHeaders"),
            &header.name,
            content::http_header_name(&header.name),
        ));
    }
    if let Some(protocol) = http.protocol.as_deref() {
        let at = path.child("protocol");
        let host = text(&http.host);
        if let Some(error) = supported(protocol, &["HTTP1", "HTTP2"], &at) {
            errors.push(error);
        } else if protocol == "HTTP2" && scheme != "HTTP" {
            errors.push(Error::invalid(&at, protocol, "is only supported with HTTP (H2C)"));
        } else if protocol == "HTTP2" && !host.is_empty() {
            let detail = "must be empty when `protocol` is \"HTTP2\"";
            errors.push(Error::invalid(&path.child("host"), host, detail));
        }
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
