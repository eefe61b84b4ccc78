//! Pods, pod templates and containers.

use crate::defaults::fields::{
    child, each, empty, fill, if_empty, if_nil, if_zero, is_nil, number, peek, pointer, text,
};
use crate::defaults::{Context, image};
use machinery::{Map, Value};

const CONTAINERS: [&str; 2] = ["containers", "initContainers"];

/// Only pods, not templates: requests from limits, host ports, service links.
pub(super) fn pod(m: &mut Map, context: &Context) {
    let spec = child(m, "spec");
    if number(spec, "terminationGracePeriodSeconds") < 0 {
        spec.insert("terminationGracePeriodSeconds", 1);
    }
    for list in CONTAINERS {
        each(spec, list, |c| {
            let limits = peek(&peek(c, "resources"), "limits");
            if !limits.is_empty() {
                fill(child(c, "resources"), "requests", &limits);
            }
        });
    }
    if context.gates.pod_level_resources && !context.gates.pod_level_resources_fix_defaulting {
        super::pod_level::set_defaults(spec);
    }
    if_nil(spec, "enableServiceLinks", true);
    if spec.get("hostNetwork").and_then(Value::as_bool) == Some(true) {
        for list in CONTAINERS {
            each(spec, list, |c| {
                each(c, "ports", |p| {
                    let port = number(p, "containerPort");
                    if port != 0 {
                        if_zero(p, "hostPort", port);
                    }
                });
            });
        }
    }
    if context.gates.h2c_container_probe {
        for list in ["containers", "initContainers", "ephemeralContainers"] {
            each(spec, list, probe_protocols);
        }
    }
}

fn probe_protocols(c: &mut Map) {
    let get = |m: Option<&mut Map>| {
        if let Some(get) = m.and_then(|m| pointer(m, "httpGet")) {
            if_nil(get, "protocol", "HTTP1");
        }
    };
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        get(pointer(c, probe));
    }
    for hook in ["postStart", "preStop"] {
        get(pointer(c, "lifecycle").and_then(|l| pointer(l, hook)));
    }
}

pub(super) fn spec(m: &mut Map, _: &Context) {
    let account = match text(m, "serviceAccountName") {
        "" => text(m, "serviceAccount"),
        name => name,
    };
    if !account.is_empty() {
        let account = account.to_owned();
        m.insert("serviceAccountName", account.as_str());
        m.insert("serviceAccount", account);
    }
    if_empty(m, "dnsPolicy", "ClusterFirst");
    if_empty(m, "restartPolicy", "Always");
    if_nil(m, "securityContext", empty());
    if_nil(m, "terminationGracePeriodSeconds", 30);
    if_empty(m, "schedulerName", "default-scheduler");
}

/// Keeps `podIP` and `podIPs` in step; `podIP` wins.
pub(super) fn status(m: &mut Map, _: &Context) {
    let ip = text(m, "podIP").to_owned();
    let first = m.get("podIPs").and_then(Value::as_list).and_then(|l| l.first());
    let first = first.map(|v| v.get("ip").and_then(Value::as_str).unwrap_or_default().to_owned());
    match first {
        Some(first) if ip.is_empty() && !first.is_empty() => {
            m.insert("podIP", first);
        }
        Some(first) if first == ip => {}
        _ if ip.is_empty() => {}
        _ => {
            let entry = Map::from_iter([("ip", ip)]);
            m.insert("podIPs", vec![Value::Map(entry)]);
        }
    }
}

pub(super) fn container(m: &mut Map, _: &Context) {
    if text(m, "imagePullPolicy").is_empty() {
        let policy = pull_policy(text(m, "image"));
        m.insert("imagePullPolicy", policy);
    }
    if_empty(m, "terminationMessagePath", "/dev/termination-log");
    if_empty(m, "terminationMessagePolicy", "File");
}

pub(super) fn pull_policy(reference: &str) -> &'static str {
    // Whatever else it is, a reference that ends with another tag has not this one.
    let last = reference.rsplit('/').next().unwrap_or_default();
    let other = !reference.contains('@') && last.rsplit_once(':').is_some_and(|(_, tag)| tag != "latest");
    if !other && image::tag(reference) == "latest" { "Always" } else { "IfNotPresent" }
}

pub(super) fn probe(m: &mut Map, _: &Context) {
    if_zero(m, "timeoutSeconds", 1);
    if_zero(m, "periodSeconds", 10);
    if_zero(m, "successThreshold", 1);
    if_zero(m, "failureThreshold", 3);
}

pub(super) fn http_get(m: &mut Map, _: &Context) {
    if_empty(m, "path", "/");
    if_empty(m, "scheme", "HTTP");
}

pub(super) fn log_options(m: &mut Map, context: &Context) {
    if context.gates.pod_logs_query_split_streams && is_nil(m, "stream") {
        m.insert("stream", "All");
    }
}
