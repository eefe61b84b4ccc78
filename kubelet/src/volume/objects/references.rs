//! Names of the ConfigMaps and Secrets that a pod refers to by itself.
//!
//! Upstream: VisitPodConfigmapNames and VisitPodSecretNames in pkg/api/v1/pod/util.go, v1.37. Secrets of volumes that need
//! drivers are left out: this kubelet never asks for them.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;

use crate::container::env;
use crate::pod::view::PodView;

/// ConfigMaps.
pub fn config_maps(pod: &Pod) -> BTreeSet<String> {
    let containers = pod.all_containers().flat_map(|c| env::references(&c.to_container()).config_maps);
    let volumes = pod.spec().volumes.iter().flatten();
    let plain = volumes.clone().filter_map(|v| v.config_map.as_ref()).map(|source| source.name.clone());
    let parts = volumes.filter_map(|v| v.projected.as_ref()).flat_map(|p| p.sources.iter().flatten());
    let projected = parts.filter_map(|part| part.config_map.as_ref()).map(|source| source.name.clone());
    named(containers.chain(plain).chain(projected))
}

/// Secrets.
pub fn secrets(pod: &Pod) -> BTreeSet<String> {
    let pull = pod.spec().image_pull_secrets.iter().flatten().map(|secret| secret.name.clone());
    let containers = pod.all_containers().flat_map(|c| env::references(&c.to_container()).secrets);
    let volumes = pod.spec().volumes.iter().flatten();
    let plain = volumes.clone().filter_map(|v| v.secret.as_ref()?.secret_name.clone());
    let parts = volumes.filter_map(|v| v.projected.as_ref()).flat_map(|p| p.sources.iter().flatten());
    let projected = parts.filter_map(|part| part.secret.as_ref()).map(|source| source.name.clone());
    named(pull.chain(containers).chain(plain).chain(projected))
}

/// Names that are empty are none.
fn named(all: impl Iterator<Item = String>) -> BTreeSet<String> {
    all.filter(|name| !name.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn all_places() {
        let from = |n: &str| json!([{"configMapRef": {"name": format!("c-from{n}")}}, {"secretRef": {"name": format!("s-from{n}")}}]);
        let env = json!([
            {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "c-env", "key": "k"}}},
            {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s-env", "key": "k"}}},
            {"name": "C", "valueFrom": {"configMapKeyRef": {"name": "", "key": "k"}}}]);
        let pod: Pod = serde_json::from_value(json!({"spec": {
            "imagePullSecrets": [{"name": "s-pull"}, {"name": ""}],
            "initContainers": [{"name": "i", "envFrom": from("-init")}],
            "containers": [{"name": "c", "env": env}],
            "ephemeralContainers": [{"name": "e", "envFrom": from("-later")}],
            "volumes": [
                {"name": "a", "configMap": {"name": "c-volume"}}, {"name": "b", "secret": {"secretName": "s-volume"}},
                {"name": "p", "projected": {"sources": [{"configMap": {"name": "c-part"}}, {"secret": {"name": "s-part"}}]}}]}}))
        .unwrap();
        let found = |names: BTreeSet<String>| names.into_iter().collect::<Vec<_>>().join(" ");
        assert_eq!(found(config_maps(&pod)), "c-env c-from-init c-from-later c-part c-volume");
        assert_eq!(found(secrets(&pod)), "s-env s-from-init s-from-later s-part s-pull s-volume");
    }
}
