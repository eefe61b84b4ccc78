//! Fields of the pod and resources of its containers as text, for environment variables and downward API files.
//!
//! Upstream: pkg/kubelet/kubelet_pods.go podFieldSelectorRuntimeValue, pkg/fieldpath/fieldpath.go and
//! pkg/api/v1/resource/helpers.go ExtractContainerResourceValue, v1.37.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};

use super::super::pod::resources::{container_limits, container_requests, milli};
use crate::pod::view::{PodView, init_containers};

/// A reference that cannot be turned into text.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum Error {
    #[error("unsupported fieldPath: {0}")]
    Path(String),
    #[error("invalid subscript {subscript:?} for field {path:?}")]
    Subscript { path: String, subscript: String },
    #[error("container {0} not found")]
    Container(String),
    #[error("unsupported container resource : {0}")]
    Resource(String),
    #[error("the divisor of resource {0} is zero")]
    Divisor(String),
}

/// Addresses that fields may ask for.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    /// The node's addresses, primary first.
    pub host_ips: Vec<String>,
    /// The pod's addresses, primary first.
    pub pod_ips: Vec<String>,
}

/// Value of a `fieldRef`.
///
/// # Errors
/// If the path names no field that the downward API offers.
pub fn field(pod: &Pod, path: &str, addresses: &Addresses) -> Result<String, Error> {
    let first = |list: &[String]| list.first().cloned().unwrap_or_default();
    if let Some((base, subscript)) = path.strip_suffix(']').and_then(|p| p.split_once('[')) {
        let key = subscript.trim_matches('\'').trim_matches('"');
        let map = match base {
            "metadata.annotations" => &pod.metadata.annotations,
            "metadata.labels" => &pod.metadata.labels,
            _ => return Err(Error::Subscript { path: base.into(), subscript: subscript.into() }),
        };
        return Ok(map.as_ref().and_then(|m| m.get(key)).cloned().unwrap_or_default());
    }
    let spec = pod.spec();
    Ok(match path {
        "metadata.name" => pod.name().to_owned(),
        "metadata.namespace" => pod.namespace().to_owned(),
        "metadata.uid" => pod.uid().to_owned(),
        "metadata.labels" => map_text(pod.metadata.labels.as_ref()),
        "metadata.annotations" => map_text(pod.metadata.annotations.as_ref()),
        "spec.nodeName" => spec.node_name.clone().unwrap_or_default(),
        "spec.serviceAccountName" => spec.service_account_name.clone().unwrap_or_default(),
        "status.hostIP" => first(&addresses.host_ips),
        "status.hostIPs" => addresses.host_ips.join(","),
        "status.podIP" => first(&addresses.pod_ips),
        "status.podIPs" => addresses.pod_ips.join(","),
        other => return Err(Error::Path(other.to_owned())),
    })
}

/// One `key="value"` line each, sorted, with Go's quoting.
fn map_text(map: Option<&BTreeMap<String, String>>) -> String {
    let mut out = String::new();
    for (index, (key, value)) in map.into_iter().flatten().enumerate() {
        if index > 0 {
            out.push('\n');
        }
        out.push_str(key);
        out.push('=');
        go_quote(value, &mut out);
    }
    out
}

/// Quotes text as Go's `%q` does.
pub fn go_quote(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if u32::from(c) < 0x20 || c == '\u{7f}' => _ = write!(out, "\\x{:02x}", u32::from(c)),
            c if c.is_control() => _ = write!(out, "\\u{:04x}", u32::from(c)),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// What the node has for pods; used where a container sets no limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct NodeAllocatable {
    /// CPU in thousandths.
    pub cpu_milli: i64,
    /// Memory in bytes.
    pub memory: i64,
    /// Ephemeral storage in bytes.
    pub ephemeral_storage: i64,
}

/// Value of a `resourceFieldRef`. `own` is the container that asks; the selector may name another one.
///
/// # Errors
/// If it names an unknown container or resource.
pub fn resource(
    selector: &ResourceFieldSelector,
    pod: &Pod,
    own: Option<&Container>,
    node: &NodeAllocatable,
) -> Result<String, Error> {
    let container = match selector.container_name.as_deref().filter(|n| !n.is_empty()) {
        None => own.ok_or_else(|| Error::Container(String::new()))?,
        Some(name) => (pod.spec().containers.iter().chain(init_containers(pod.spec())))
            .find(|c| c.name == name)
            .ok_or_else(|| Error::Container(name.to_owned()))?,
    };
    let divisor = match selector.divisor.as_ref().map(milli) {
        None | Some(0) => 1000,
        Some(other) => other,
    };
    let (limits, requests) = (container_limits(container), container_requests(container));
    let pod_limits = pod.spec().resources.as_ref().and_then(|r| r.limits.as_ref());
    let limit = |name: &str, node_amount: i128| {
        if limits.milli(name) > 0 {
            limits.0[name]
        } else {
            pod_limits.and_then(|l| l.get(name)).map_or(node_amount, milli)
        }
    };
    let request = |name: &str| requests.0.get(name).copied().unwrap_or_default();
    let amount = match selector.resource.as_str() {
        "limits.cpu" => limit("cpu", i128::from(node.cpu_milli)),
        "limits.memory" => limit("memory", i128::from(node.memory) * 1000),
        "limits.ephemeral-storage" => limit("ephemeral-storage", i128::from(node.ephemeral_storage) * 1000),
        "requests.cpu" => request("cpu"),
        "requests.memory" => request("memory"),
        "requests.ephemeral-storage" => request("ephemeral-storage"),
        other => {
            let huge =
                |prefix: &str| other.strip_prefix(prefix).filter(|name| name.starts_with("hugepages-"));
            if let Some(name) = huge("limits.") {
                limits.0.get(name).copied().unwrap_or_default()
            } else if let Some(name) = huge("requests.") {
                request(name)
            } else {
                return Err(Error::Resource(other.to_owned()));
            }
        }
    };
    if divisor <= 0 {
        return Err(Error::Divisor(selector.resource.clone()));
    }
    let rounded_up = amount.div_euclid(divisor) + i128::from(amount.rem_euclid(divisor) > 0);
    Ok(rounded_up.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u", "labels": {"b": "2\n\"x\"", "a": "1"}},
            "spec": {"containers": [], "nodeName": "node"}}))
        .unwrap();
        let addresses =
            Addresses { host_ips: vec!["1.1.1.1".into()], pod_ips: vec!["2.2.2.2".into(), "::1".into()] };
        let get = |path: &str| field(&pod, path, &addresses);
        assert_eq!(get("metadata.labels").unwrap(), "a=\"1\"\nb=\"2\\n\\\"x\\\"\"");
        assert_eq!(get("metadata.labels['a']").unwrap(), "1");
        assert_eq!(get("status.podIPs").unwrap(), "2.2.2.2,::1");
        assert_eq!(get("spec.nodeName").unwrap(), "node");
        assert_eq!(get("spec.x"), Err(Error::Path("spec.x".into())));
        assert!(get("spec.x['a']").is_err());
    }

    #[test]
    fn resources() {
        let pod: Pod = serde_json::from_value(json!({"spec": {"containers": [
            {"name": "c", "resources": {"requests": {"cpu": "250m", "memory": "32Mi"}, "limits": {"cpu": "1500m"}}}]}}))
        .unwrap();
        let node = NodeAllocatable { cpu_milli: 2000, memory: 1 << 30, ephemeral_storage: 0 };
        let check = |name: &str, divisor: &str, expected: &str| {
            let selector: ResourceFieldSelector =
                serde_json::from_value(json!({"resource": name, "divisor": divisor})).unwrap();
            let container = &pod.spec().containers[0];
            assert_eq!(
                resource(&selector, &pod, Some(container), &node).unwrap(),
                expected,
                "{name}/{divisor}"
            );
        };
        check("requests.cpu", "1m", "250");
        check("requests.cpu", "0", "1");
        check("limits.cpu", "1", "2");
        check("requests.memory", "1Mi", "32");
        check("limits.memory", "0", "1073741824");
    }
}
