//! Host name and domain of a pod. Upstream: pkg/kubelet/kubelet_pods.go GeneratePodHostNameAndDomain, v1.37.

use k8s_openapi::api::core::v1::Pod;

use crate::pod::view::PodView;

/// A host name that cannot be used.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum Error {
    #[error("pod {field} {value:?} is not a valid DNS {kind}")]
    Invalid { field: &'static str, value: String, kind: &'static str },
    #[error("hostname for pod {pod:?} was invalid: {name:?}")]
    Empty { pod: String, name: String },
    #[error(
        "failed to construct FQDN from pod hostname and cluster domain, FQDN {0} is too long (64 characters is the max, {1} characters requested)"
    )]
    TooLong(String, usize),
}

/// The kernel's limit for a host name, without the final zero byte.
const HOSTNAME_MAX: usize = 63;
/// The kernel's limit for a fully qualified name.
const FQDN_MAX: usize = 64;

/// Host name and domain (empty if the pod names no subdomain).
///
/// # Errors
/// If a name is not a valid DNS name.
pub fn hostname_and_domain(pod: &Pod, cluster_domain: &str) -> Result<(String, String), Error> {
    let spec = pod.spec();
    if let Some(name) = &spec.hostname_override {
        if !is_subdomain(name) {
            return Err(Error::Invalid { field: "HostnameOverride", value: name.clone(), kind: "subdomain" });
        }
        return Ok((truncate(pod.name(), name)?, String::new()));
    }
    let mut name = pod.name();
    if let Some(given) = spec.hostname.as_deref().filter(|n| !n.is_empty()) {
        if !is_label(given) {
            return Err(Error::Invalid { field: "Hostname", value: given.to_owned(), kind: "label" });
        }
        name = given;
    }
    let name = truncate(pod.name(), name)?;
    let Some(subdomain) = spec.subdomain.as_deref().filter(|n| !n.is_empty()) else {
        return Ok((name, String::new()));
    };
    if !is_label(subdomain) {
        return Err(Error::Invalid { field: "Subdomain", value: subdomain.to_owned(), kind: "label" });
    }
    Ok((name, format!("{subdomain}.{}.svc.{cluster_domain}", pod.namespace())))
}

/// The name that the kernel gets: the short one, or the full one if the pod asks for it.
///
/// # Errors
/// If the full name is longer than the kernel takes.
pub fn kernel_name(pod: &Pod, hostname: &str, domain: &str) -> Result<String, Error> {
    if !pod.spec().set_hostname_as_fqdn.unwrap_or(false) || domain.is_empty() {
        return Ok(hostname.to_owned());
    }
    let full = format!("{hostname}.{domain}");
    if full.len() > FQDN_MAX { Err(Error::TooLong(full.clone(), full.len())) } else { Ok(full) }
}

fn truncate(pod: &str, name: &str) -> Result<String, Error> {
    let Some(cut) = name.get(..HOSTNAME_MAX).filter(|_| name.len() > HOSTNAME_MAX) else {
        return Ok(name.to_owned());
    };
    let cut = cut.trim_end_matches(['-', '.']);
    if cut.is_empty() { Err(Error::Empty { pod: pod.into(), name: name.into() }) } else { Ok(cut.to_owned()) }
}

fn is_label(text: &str) -> bool {
    let edge = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.len() <= HOSTNAME_MAX
        && bytes.iter().all(|c| edge(*c) || *c == b'-')
        && bytes.first().is_some_and(|c| edge(*c))
        && bytes.last().is_some_and(|c| edge(*c))
}

fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(|label| !label.is_empty() && is_label(label))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(spec: serde_json::Value, expected: Result<(&str, &str), &str>) {
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"name": "pod-name", "namespace": "n"}, "spec": spec}))
                .unwrap();
        let got = hostname_and_domain(&pod, "cluster.local").map_err(|e| e.to_string());
        assert_eq!(got.as_ref().map(|(a, b)| (a.as_str(), b.as_str())).map_err(String::as_str), expected);
    }

    #[test]
    fn names() {
        check(json!({"containers": []}), Ok(("pod-name", "")));
        check(
            json!({"containers": [], "hostname": "h", "subdomain": "s"}),
            Ok(("h", "s.n.svc.cluster.local")),
        );
        check(json!({"containers": [], "hostname": "H"}), Err("pod Hostname \"H\" is not a valid DNS label"));
        check(json!({"containers": [], "hostnameOverride": "a.b", "subdomain": "s"}), Ok(("a.b", "")));
    }
}
