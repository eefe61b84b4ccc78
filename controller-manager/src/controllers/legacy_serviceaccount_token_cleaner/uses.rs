//! Secrets that pods name. Upstream: pkg/api/v1/pod/util.go VisitPodSecretNames.

use std::collections::{BTreeMap, BTreeSet};

use informer::Store;

use crate::kept::Pod;

/// By namespace.
pub fn of_all(pods: &Store<Pod>) -> BTreeMap<String, BTreeSet<String>> {
    let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    pods.for_each(|_, pod| {
        let names = of(pod);
        if !names.is_empty() {
            all.entry(pod.namespace().to_string()).or_default().extend(names);
        }
    });
    all
}

/// Of one pod: for pulling images, in environments, in volumes.
pub fn of(pod: &Pod) -> BTreeSet<String> {
    let Some(spec) = &pod.spec else { return BTreeSet::new() };
    let mut names: BTreeSet<String> =
        spec.image_pull_secrets.iter().flatten().map(|r| r.name.to_string()).collect();
    let others = spec.init_containers.iter().chain(&spec.ephemeral_containers).flatten();
    for container in spec.containers.iter().chain(others) {
        names.extend(container.env.iter().chain(&container.env_from).map(|n| n.to_string()));
    }
    names.extend(spec.volumes.iter().flatten().flat_map(|v| &v.secrets).map(|n| n.to_string()));
    names.remove("");
    names
}
