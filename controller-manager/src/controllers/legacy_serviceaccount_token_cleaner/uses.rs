//! Secrets that pods name. Upstream: pkg/api/v1/pod/util.go VisitPodSecretNames.

use std::collections::{BTreeMap, BTreeSet};

use client::Meta;
use informer::Store;
use k8s_openapi::api::core::v1::{EnvFromSource, EnvVar, Pod, Volume};

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
        spec.image_pull_secrets.iter().flatten().map(|r| r.name.clone()).collect();
    for container in spec.containers.iter().chain(spec.init_containers.iter().flatten()) {
        environment(container.env_from.as_deref(), container.env.as_deref(), &mut names);
    }
    for container in spec.ephemeral_containers.iter().flatten() {
        environment(container.env_from.as_deref(), container.env.as_deref(), &mut names);
    }
    spec.volumes.iter().flatten().for_each(|v| volume(v, &mut names));
    names.remove("");
    names
}

fn environment(from: Option<&[EnvFromSource]>, single: Option<&[EnvVar]>, names: &mut BTreeSet<String>) {
    names.extend(from.into_iter().flatten().filter_map(|f| f.secret_ref.as_ref()).map(|r| r.name.clone()));
    let keys = single.into_iter().flatten().filter_map(|e| e.value_from.as_ref()?.secret_key_ref.as_ref());
    names.extend(keys.map(|k| k.name.clone()));
}

fn volume(volume: &Volume, names: &mut BTreeSet<String>) {
    let projected = volume.projected.iter().flat_map(|p| p.sources.iter().flatten());
    names.extend(projected.filter_map(|s| s.secret.as_ref()).map(|s| s.name.clone()));
    let optional = [
        volume.secret.as_ref().and_then(|s| s.secret_name.clone()),
        volume.azure_file.as_ref().map(|s| s.secret_name.clone()),
        volume.scale_io.as_ref().map(|s| s.secret_ref.name.clone()),
    ];
    names.extend(optional.into_iter().flatten());
    let references = [
        volume.cephfs.as_ref().and_then(|s| s.secret_ref.as_ref()),
        volume.cinder.as_ref().and_then(|s| s.secret_ref.as_ref()),
        volume.flex_volume.as_ref().and_then(|s| s.secret_ref.as_ref()),
        volume.rbd.as_ref().and_then(|s| s.secret_ref.as_ref()),
        volume.iscsi.as_ref().and_then(|s| s.secret_ref.as_ref()),
        volume.storageos.as_ref().and_then(|s| s.secret_ref.as_ref()),
        volume.csi.as_ref().and_then(|s| s.node_publish_secret_ref.as_ref()),
    ];
    names.extend(references.into_iter().flatten().map(|r| r.name.clone()));
}
