//! What a persistent volume asks of the node. Decides only; [`super::place`] mounts.
//!
//! Kinds that need a driver of their own (CSI, fibre channel, iSCSI, flexVolume) and block devices are refused by name.
//! Upstream: pkg/volume/{local,nfs,hostpath}, v1.37.

use std::collections::BTreeMap;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::{NFSVolumeSource, PersistentVolume};

use crate::admission;

/// A thing that can be mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A path of the node, used as it is.
    HostPath { path: PathBuf, kind: String },
    /// A folder of the node, mounted a second time so that it cannot vanish under the pod.
    Local { path: PathBuf, options: Vec<String> },
    /// An export of a server.
    Nfs { export: String, options: Vec<String> },
}

impl Source {
    /// Name of upstream's plugin for it.
    pub fn plugin(&self) -> &'static str {
        match self {
            Self::HostPath { .. } => "kubernetes.io/host-path",
            Self::Local { .. } => "kubernetes.io/local-volume",
            Self::Nfs { .. } => "kubernetes.io/nfs",
        }
    }
}

/// An export of a server.
pub fn nfs(source: &NFSVolumeSource, options: &[String]) -> Source {
    let server = &source.server;
    // A colon ends the server's part, so addresses that contain some stand in brackets.
    let server =
        if server.contains(':') && !server.starts_with('[') { format!("[{server}]") } else { server.clone() };
    Source::Nfs { export: format!("{server}:{}", source.path), options: options.to_vec() }
}

/// What the volume consists of, and whether it must only be read.
///
/// # Errors
/// If the volume cannot be used here.
pub fn source(
    volume: &PersistentVolume,
    node: &str,
    labels: &BTreeMap<String, String>,
) -> Result<(Source, bool), String> {
    let name = volume.metadata.name.as_deref().unwrap_or_default();
    let spec = volume.spec.clone().unwrap_or_default();
    let required = spec.node_affinity.as_ref().and_then(|a| a.required.as_ref());
    if required
        .is_some_and(|terms| !terms.node_selector_terms.iter().any(|t| admission::matches(t, node, labels)))
    {
        return Err("NodeAffinity check failed: no matching NodeSelectorTerms".to_owned());
    }
    if spec.volume_mode.as_deref() == Some("Block") {
        return Err(format!(
            "persistent volume {name} is a block device, which this kubelet does not support yet"
        ));
    }
    let options = spec.mount_options.clone().unwrap_or_default();
    if let Some(source) = &spec.host_path {
        if !options.is_empty() {
            return Err("Mount options are not supported for this volume type".to_owned());
        }
        let kind = source.type_.clone().unwrap_or_default();
        return Ok((Source::HostPath { path: PathBuf::from(&source.path), kind }, false));
    }
    if let Some(source) = &spec.local {
        let path = PathBuf::from(&source.path);
        if path.components().any(|part| part == std::path::Component::ParentDir) {
            return Err(format!("invalid path: {} must not contain '..'", source.path));
        }
        return Ok((Source::Local { path, options }, false));
    }
    if let Some(source) = &spec.nfs {
        return Ok((nfs(source, &options), source.read_only.unwrap_or(false)));
    }
    let kind = match &spec {
        s if s.csi.is_some() => "CSI",
        s if s.fc.is_some() => "fibre channel",
        s if s.iscsi.is_some() => "iSCSI",
        s if s.flex_volume.is_some() => "flexVolume",
        _ => "unknown",
    };
    Err(format!("persistent volume {name} is of a kind ({kind}) that this kubelet does not support yet"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn of(spec: Value) -> Result<(Source, bool), String> {
        let volume = serde_json::from_value(json!({"metadata": {"name": "pv"}, "spec": spec})).unwrap();
        source(&volume, "n1", &BTreeMap::from([("kubernetes.io/hostname".to_owned(), "n1".to_owned())]))
    }

    #[test]
    fn kinds() {
        let local = Source::Local { path: "/d".into(), options: vec![] };
        let affinity = |host: &str| {
            json!({"local": {"path": "/d"}, "nodeAffinity": {"required": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [host]}]}]}}})
        };
        assert_eq!(of(affinity("n1")), Ok((local, false)));
        assert!(of(affinity("n2")).unwrap_err().contains("NodeAffinity"));
        let nfs = of(
            json!({"nfs": {"server": "fd00::1", "path": "/e", "readOnly": true}, "mountOptions": ["hard"]}),
        );
        assert_eq!(
            nfs,
            Ok((Source::Nfs { export: "[fd00::1]:/e".into(), options: vec!["hard".into()] }, true))
        );
        assert!(of(json!({"csi": {"driver": "d", "volumeHandle": "h"}})).unwrap_err().contains("CSI"));
        assert!(of(json!({"local": {"path": "/a/../b"}})).is_err());
        assert!(of(json!({"local": {"path": "/d"}, "volumeMode": "Block"})).is_err());
        assert!(of(json!({"hostPath": {"path": "/d"}, "mountOptions": ["ro"]})).is_err());
    }
}
