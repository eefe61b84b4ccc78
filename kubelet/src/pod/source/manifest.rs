//! A manifest to a static pod. Upstream: pkg/kubelet/config/common.go, v1.37.

use api::defaults::{Context, Gates};
use k8s_openapi::api::core::v1::{Pod, Toleration, Volume};

use super::uid;
use crate::pod::view::{
    CONFIG_FIRST_SEEN_ANNOTATION, CONFIG_HASH_ANNOTATION, CONFIG_SOURCE_ANNOTATION, PodView,
};

/// A manifest that is no usable pod.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("couldn't parse as pod({0}), please check config file")]
    Parse(String),
    #[error("static pods may not reference {0}")]
    Reference(&'static str),
    #[error("invalid pod: {0}")]
    Invalid(&'static str),
}

/// Where a manifest is; tells apart equal ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin<'a> {
    /// A file.
    File(&'a str),
    /// A URL.
    Url(&'a str),
}

/// Reads YAML or JSON.
///
/// # Errors
/// If it is neither.
pub fn document(text: &str) -> Result<serde_json::Value, Error> {
    let mut document: serde_json::Value =
        serde_saphyr::from_str(text).map_err(|e| Error::Parse(e.to_string()))?;
    whole_numbers(&mut document);
    Ok(document)
}

/// Reads the manifest of a file.
///
/// # Errors
/// If it is no pod, or one that needs the API server to run.
pub fn parse(text: &str, file: &str, node: &str, now: &str) -> Result<Pod, Error> {
    pod(document(text)?, Origin::File(file), node, now)
}

/// Makes a static pod of a document.
///
/// # Errors
/// If it is no pod, or one that needs the API server to run.
pub fn pod(document: serde_json::Value, origin: Origin<'_>, node: &str, now: &str) -> Result<Pod, Error> {
    if document.get("kind").and_then(|k| k.as_str()) != Some("Pod") {
        return Err(Error::Parse("its kind is not Pod".to_owned()));
    }
    let json = document.to_string();
    let complete = with_defaults(&json)?;
    let mut pod: Pod =
        api::decode(api::MediaType::Json, complete.as_bytes()).map_err(|e| Error::Parse(e.to_string()))?;
    refuse(&pod)?;
    if pod.name().is_empty() {
        return Err(Error::Invalid("metadata.name: Required value"));
    }
    if pod.spec().containers.is_empty() {
        return Err(Error::Invalid("spec.containers: Required value"));
    }
    let own = match pod.metadata.uid.clone().filter(|uid| !uid.is_empty()) {
        Some(own) => own,
        None => generated_uid(&complete, &json, node, origin),
    };
    pod.metadata.uid = Some(own.clone());
    pod.metadata.name = Some(format!("{}-{}", pod.name(), node.to_lowercase()));
    if pod.namespace().is_empty() {
        pod.metadata.namespace = Some("default".to_owned());
    }
    let (source, is_file) = match origin {
        Origin::File(_) => ("file", true),
        Origin::Url(_) => ("http", false),
    };
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(CONFIG_HASH_ANNOTATION.to_owned(), own);
    annotations.insert(CONFIG_SOURCE_ANNOTATION.to_owned(), source.to_owned());
    annotations.insert(CONFIG_FIRST_SEEN_ANNOTATION.to_owned(), now.to_owned());
    let spec = pod.spec.get_or_insert_default();
    spec.node_name = Some(node.to_owned());
    if is_file {
        spec.tolerations.get_or_insert_default().push(Toleration {
            operator: Some("Exists".to_owned()),
            effect: Some("NoExecute".to_owned()),
            ..Toleration::default()
        });
    }
    pod.status.get_or_insert_default().phase = Some("Pending".to_owned());
    Ok(pod)
}

/// Go writes a whole floating-point number (`1e3`) without a fraction, and quantities keep their text.
fn whole_numbers(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Array(items) => items.iter_mut().for_each(whole_numbers),
        serde_json::Value::Object(map) => map.values_mut().for_each(whole_numbers),
        serde_json::Value::Number(number) if number.is_f64() => {
            #[expect(clippy::cast_possible_truncation, reason = "whole and far below 2^63")]
            if let Some(whole) =
                number.as_f64().filter(|f| f.fract() == 0.0 && f.abs() < 1e18).map(|f| f as i64)
            {
                *value = serde_json::Value::from(whole);
            }
        }
        _ => {}
    }
}

/// Upstream's uid, or one that only this kubelet gives.
fn generated_uid(complete: &str, json: &str, node: &str, origin: Origin<'_>) -> String {
    let read = |text| serde_json::from_str::<serde_json::Value>(text).unwrap_or_default();
    let (tree, written) = (read(complete), read(json));
    uid::generate(&tree, &written, node, origin).unwrap_or_else(|error| {
        tracing::warn!(?origin, %error, "The uid of a static pod differs from upstream's; it would restart if the kubelets were exchanged");
        uid::fnv128a(&format!("{json}{}", uid::suffix_of(node, origin)))
    })
}

fn with_defaults(json: &str) -> Result<String, Error> {
    let failed = |e: String| Error::Parse(e);
    let mut tree = machinery::json::parse(json.as_bytes()).map_err(|e| failed(e.to_string()))?;
    let context = Context { gates: Gates::default(), now: "" };
    api::defaults::apply(&mut tree, "v1", "Pod", &context);
    String::from_utf8(machinery::json::encode_any(&tree)).map_err(|e| failed(e.to_string()))
}

/// What only the API server can give is of no use to a pod that must start without it.
fn refuse(pod: &Pod) -> Result<(), Error> {
    let spec = pod.spec();
    let container = |c: crate::pod::view::ContainerRef<'_>| {
        let c = c.to_container();
        let from = c.env.iter().flatten().filter_map(|e| e.value_from.as_ref());
        from.into_iter().any(|f| f.secret_key_ref.is_some() || f.config_map_key_ref.is_some())
            || c.env_from.is_some_and(|list| !list.is_empty())
    };
    if spec.service_account_name.as_deref().is_some_and(|n| !n.is_empty()) {
        return Err(Error::Reference("serviceaccounts"));
    }
    if pod.all_containers().any(container) {
        return Err(Error::Reference("secrets or configmaps in the environment"));
    }
    if spec.resource_claims.as_ref().is_some_and(|list| !list.is_empty()) {
        return Err(Error::Reference("resourceclaims"));
    }
    match spec.volumes.iter().flatten().find_map(needed) {
        Some(what) => Err(Error::Reference(what)),
        None => Ok(()),
    }
}

/// What a volume needs of the API. Upstream: HasAPIObjectReference in pkg/api/pod/util.go.
fn needed(volume: &Volume) -> Option<&'static str> {
    let sources = volume.projected.iter().flat_map(|p| p.sources.iter().flatten());
    let projected = sources.filter_map(|s| match () {
        () if s.config_map.is_some() => Some("configmaps (via projected volumes)"),
        () if s.secret.is_some() => Some("secrets (via projected volumes)"),
        () if s.service_account_token.is_some() => Some("serviceaccounts (via projected volumes)"),
        () if s.cluster_trust_bundle.is_some() => Some("clustertrustbundles"),
        () if s.pod_certificate.is_some() => Some("podcertificates"),
        () => None,
    });
    match () {
        () if volume.config_map.is_some() => Some("configmaps (via configmap volumes)"),
        () if volume.secret.is_some() => Some("secrets (via secret volumes)"),
        () if volume.csi.is_some() => Some("csidrivers (via CSI volumes)"),
        () if volume.glusterfs.is_some() => Some("endpoints (via glusterFS volumes)"),
        () if volume.persistent_volume_claim.is_some() => Some("persistentvolumeclaims"),
        () if volume.ephemeral.is_some() => Some("persistentvolumeclaims (via ephemeral volumes)"),
        () if volume.azure_file.is_some() => Some("secrets (via azureFile volumes)"),
        () => projected.into_iter().next(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str =
        "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: c, image: busybox}]}\n";

    #[test]
    fn fills_in() {
        let pod = parse(MANIFEST, "/etc/x.yaml", "Node1", "t").unwrap();
        assert_eq!((pod.name(), pod.namespace()), ("web-node1", "default"));
        assert!(pod.is_static());
        let spec = pod.spec();
        assert_eq!(spec.restart_policy.as_deref(), Some("Always"));
        assert_eq!(spec.enable_service_links, Some(true));
        assert_eq!(spec.containers[0].termination_message_path.as_deref(), Some("/dev/termination-log"));
        assert_ne!(parse(MANIFEST, "/other", "Node1", "t").unwrap().uid(), pod.uid());
    }

    #[test]
    fn refuses() {
        for bad in ["", "kind: Job", "x: [", "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {}"] {
            assert!(parse(bad, "", "n", "t").is_err(), "{bad}");
        }
        let secret = format!(
            "{}\n",
            MANIFEST.replace("image: busybox", "image: b, envFrom: [{secretRef: {name: s}}]")
        );
        assert!(parse(&secret, "", "n", "t").is_err());
        for (volume, what) in [
            ("configMap: {name: c}", "configmaps (via configmap volumes)"),
            (
                "projected: {sources: [{downwardAPI: {}}, {secret: {name: s}}]}",
                "secrets (via projected volumes)",
            ),
            ("projected: {sources: [{clusterTrustBundle: {name: bundle, path: p}}]}", "clustertrustbundles"),
            ("projected: {sources: [{podCertificate: {signerName: s/s, keyType: X}}]}", "podcertificates"),
        ] {
            let volumes = format!("image: busybox}}], volumes: [{{name: v, {volume}}}], x: [{{");
            let error = parse(&MANIFEST.replace("image: busybox", &volumes), "", "n", "t").unwrap_err();
            assert!(error.to_string().ends_with(what), "{error}");
        }
    }
}
