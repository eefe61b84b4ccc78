//! Ingresses.

use k8s_openapi::api::core::v1::TypedLocalObjectReference;
use k8s_openapi::api::networking::v1::{
    HTTPIngressPath, Ingress, IngressBackend, IngressRule, IngressServiceBackend, IngressSpec, IngressTLS,
};

use crate::validation::core::ip::validate_ip;
use crate::validation::field::{Bad, Error, Path};
use crate::validation::objectmeta::{
    name_is_subdomain, validate_kube_object_meta, validate_object_meta_update,
};
use crate::validation::{content, dns_label, dns_subdomain, items, refusals, text};

const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

/// What an older version of the ingress excuses.
#[derive(Clone, Copy, Default)]
struct Excuses {
    /// Secrets of any name.
    secrets: bool,
    /// Any rules for hosts with wildcards.
    wildcards: bool,
}

/// `ValidateIngressCreate`.
pub fn validate(ingress: &Ingress) -> Vec<Error> {
    let mut errors = validate_all(ingress, Excuses::default());
    let annotation = ingress.metadata.annotations.as_ref().and_then(|a| a.get(CLASS_ANNOTATION));
    let class = ingress.spec.as_ref().and_then(|s| s.ingress_class_name.as_ref());
    if let (Some(annotation), Some(class)) = (annotation, class)
        && annotation != class
    {
        let path = Path::new("annotations");
        let detail = "must match `ingressClassName` when both are specified";
        errors.push(Error::invalid(&path.child(CLASS_ANNOTATION), annotation, detail));
    }
    errors
}

/// `ValidateIngressUpdate`.
pub fn validate_update(new: &Ingress, old: &Ingress) -> Vec<Error> {
    let mut errors = validate_object_meta_update(&new.metadata, &old.metadata, &Path::new("metadata"));
    let mut excuses = Excuses::default();
    if let Some(spec) = &old.spec {
        excuses.secrets = items(&spec.tls).iter().any(|t| !secret_name(t, &Path::ROOT).is_empty());
        let wrong = |r: &&IngressRule| !validate_paths(r, &Path::ROOT).is_empty();
        excuses.wildcards =
            items(&spec.rules).iter().filter(|r| text(&r.host).contains('*')).any(|r| wrong(&r));
    }
    errors.extend(validate_all(new, excuses));
    errors
}

/// `ValidateIngressStatusUpdate`.
pub fn validate_status_update(new: &Ingress, old: &Ingress) -> Vec<Error> {
    let mut errors = validate_object_meta_update(&new.metadata, &old.metadata, &Path::new("metadata"));
    let points = |i: &Ingress| {
        let balancer = i.status.as_ref().and_then(|s| s.load_balancer.as_ref());
        balancer.and_then(|b| b.ingress.clone()).unwrap_or_default()
    };
    let before = points(old);
    let known: Vec<&str> = before.iter().filter_map(|p| p.ip.as_deref()).collect();
    let (status, balancer) = (Path::new("status"), "loadBalancer");
    let path = status.child(balancer);
    let path = path.child("ingress");
    for (i, point) in points(new).iter().enumerate() {
        let at = path.index(i);
        if let Some(ip) = point.ip.as_deref().filter(|t| !t.is_empty()) {
            errors.extend(validate_ip(ip, &known, &at.child("ip")));
        }
        if let Some(host) = point.hostname.as_deref().filter(|t| !t.is_empty()) {
            let at = at.child("hostname");
            errors.extend(dns_subdomain(host, &at));
            errors.extend(not_an_address(host, &at));
        }
    }
    errors
}

fn not_an_address(host: &str, path: &Path) -> Option<Error> {
    net::parse_ip(host).map(|_| Error::invalid(path, host, "must be a DNS name, not an IP address"))
}

fn validate_all(ingress: &Ingress, excuses: Excuses) -> Vec<Error> {
    let mut errors =
        validate_kube_object_meta(&ingress.metadata, true, name_is_subdomain, &Path::new("metadata"));
    let none = IngressSpec::default();
    errors.extend(validate_spec(ingress.spec.as_ref().unwrap_or(&none), excuses, &Path::new("spec")));
    errors
}

fn validate_spec(spec: &IngressSpec, excuses: Excuses, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let rules = items(&spec.rules);
    if rules.is_empty() && spec.default_backend.is_none() {
        let printed = if spec.rules.is_some() { "[]" } else { "null" };
        let detail = "either `defaultBackend` or `rules` must be specified";
        errors.push(Error::invalid(path, Bad::Raw(printed.into()), detail));
    }
    if let Some(backend) = &spec.default_backend {
        errors.extend(validate_backend(backend, &path.child("defaultBackend")));
    }
    for (i, rule) in rules.iter().enumerate() {
        errors.extend(validate_rule(rule, excuses, &path.child("rules").index(i)));
    }
    for (i, tls) in items(&spec.tls).iter().enumerate() {
        errors.extend(validate_tls(tls, excuses, &path.child("tls").index(i)));
    }
    if let Some(class) = &spec.ingress_class_name {
        errors.extend(dns_subdomain(class, &path.child("ingressClassName")));
    }
    errors
}

fn host_name(host: &str, path: &Path) -> Vec<Error> {
    if host.contains('*') {
        return refusals(path, host, content::wildcard_subdomain(host));
    }
    dns_subdomain(host, path)
}

fn validate_tls(tls: &IngressTLS, excuses: Excuses, path: &Path) -> Vec<Error> {
    let hosts = path.child("hosts");
    let mut errors = Vec::new();
    for (i, host) in items(&tls.hosts).iter().enumerate() {
        errors.extend(host_name(host, &hosts.index(i)));
    }
    if !excuses.secrets {
        errors.extend(secret_name(tls, &path.child("secretName")));
    }
    errors
}

fn secret_name(tls: &IngressTLS, path: &Path) -> Vec<Error> {
    let name = text(&tls.secret_name);
    if name.is_empty() { Vec::new() } else { dns_subdomain(name, path) }
}

fn validate_rule(rule: &IngressRule, excuses: Excuses, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let (host, at) = (text(&rule.host), path.child("host"));
    if !host.is_empty() {
        errors.extend(not_an_address(host, &at));
        errors.extend(host_name(host, &at));
    }
    if !(host.contains('*') && excuses.wildcards) {
        errors.extend(validate_paths(rule, path));
    }
    errors
}

fn validate_paths(rule: &IngressRule, path: &Path) -> Vec<Error> {
    let Some(http) = &rule.http else { return Vec::new() };
    let path = path.child("http");
    let path = path.child("paths");
    if http.paths.is_empty() {
        return vec![Error::required(&path, "")];
    }
    http.paths.iter().enumerate().flat_map(|(i, p)| validate_path(p, &path.index(i))).collect()
}

fn validate_path(entry: &HTTPIngressPath, path: &Path) -> Vec<Error> {
    let (value, at) = (text(&entry.path), path.child("path"));
    let mut errors = Vec::new();
    let relative = || Error::invalid(&at, value, "must be an absolute path");
    match entry.path_type.as_str() {
        "Exact" | "Prefix" => {
            if !value.starts_with('/') {
                errors.push(relative());
            }
            for part in ["//", "/./", "/../", "%2f", "%2F"].iter().filter(|p| value.contains(**p)) {
                errors.push(Error::invalid(&at, value, format!("must not contain '{part}'")));
            }
            for part in ["/..", "/."].iter().filter(|p| value.ends_with(**p)) {
                errors.push(Error::invalid(&at, value, format!("cannot end with '{part}'")));
            }
        }
        "ImplementationSpecific" => {
            if !value.is_empty() && !value.starts_with('/') {
                errors.push(relative());
            }
        }
        // Absent, as the type has no other way to say it.
        "" => return vec![Error::required(&path.child("pathType"), "pathType must be specified")],
        other => {
            let known = ["Exact", "ImplementationSpecific", "Prefix"];
            errors.push(Error::not_supported(&path.child("pathType"), Bad::enumerated(other), &known));
        }
    }
    errors.extend(validate_backend(&entry.backend, &path.child("backend")));
    errors
}

fn validate_backend(backend: &IngressBackend, path: &Path) -> Vec<Error> {
    match (&backend.resource, &backend.service) {
        (Some(_), Some(_)) => {
            vec![Error::invalid(path, "", "cannot set both resource and service backends")]
        }
        (Some(resource), None) => validate_reference(resource, &path.child("resource")),
        (None, Some(service)) => validate_service(service, path),
        (None, None) => vec![Error::invalid(path, "", "resource or service backend is required")],
    }
}

fn validate_service(service: &IngressServiceBackend, path: &Path) -> Vec<Error> {
    let at = path.child("service");
    let mut errors = Vec::new();
    if service.name.is_empty() {
        errors.push(Error::required(&at.child("name"), ""));
    } else {
        errors.extend(dns_label(&service.name, &at.child("name")));
    }
    let name = service.port.as_ref().and_then(|p| p.name.as_deref()).unwrap_or("");
    let number = service.port.as_ref().and_then(|p| p.number).unwrap_or(0);
    let port = at.child("port");
    match (name, number) {
        ("", 0) => errors.push(Error::required(path, "port name or number is required")),
        ("", number) => {
            let wrong = content::port_number(i64::from(number)).into_iter();
            errors.extend(wrong.map(|m| Error::invalid(&port.child("number"), number, m)));
        }
        (name, 0) => errors.extend(refusals(&port.child("name"), name, content::port_name(name))),
        _ => errors.push(Error::invalid(path, "", "cannot set both port name & port number")),
    }
    errors
}

fn validate_reference(reference: &TypedLocalObjectReference, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    if let Some(group) = &reference.api_group {
        errors.extend(dns_subdomain(group, &path.child("apiGroup")));
    }
    for (value, name) in [(&reference.kind, "kind"), (&reference.name, "name")] {
        let at = path.child(name);
        if value.is_empty() {
            errors.push(Error::required(&at, ""));
        } else {
            errors.extend(refusals(&at, value, content::path_segment(value, false)));
        }
    }
    errors
}
