//! Pods and pod templates. Upstream: `pkg/api/pod/warnings.go` `warningsForPodSpecAndMeta`.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{
    Affinity, NodeAffinity, Pod, PodAffinityTerm, PodSpec, PodTemplateSpec, TopologySpreadConstraint, Volume,
    WeightedPodAffinityTerm,
};

use super::{fractional, ip, node, pod_containers, pod_paths, storage};
use crate::validation::field::{Path, quote};
use crate::validation::items;

type Annotations = BTreeMap<String, String>;

const SECCOMP: &str = "seccomp.security.alpha.kubernetes.io/pod";
const ANNOTATIONS: &[(&str, &str)] = &[
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        r#"non-functional in v1.16+; use the "priorityClassName" field instead"#,
    ),
    ("security.alpha.kubernetes.io/sysctls", r#"non-functional in v1.11+; use the "sysctls" field instead"#),
    (
        "security.alpha.kubernetes.io/unsafe-sysctls",
        r#"non-functional in v1.11+; use the "sysctls" field instead"#,
    ),
];

/// About a new pod.
pub fn pod(pod: &Pod) -> Vec<String> {
    let annotations = pod.metadata.annotations.clone().unwrap_or_default();
    pod.spec.as_ref().map(|spec| parts(spec, &annotations, &Path::ROOT, false)).unwrap_or_default()
}

/// About a pod's template, new or changed.
pub fn template(template: &PodTemplateSpec, path: &Path) -> Vec<String> {
    let annotations = template.metadata.as_ref().and_then(|m| m.annotations.clone()).unwrap_or_default();
    template.spec.as_ref().map(|spec| parts(spec, &annotations, path, true)).unwrap_or_default()
}

/// About the addresses in a pod's status.
pub fn status(pod: &Pod) -> Vec<String> {
    let Some(status) = &pod.status else { return Vec::new() };
    let (own, host) = (Path::new("status.podIPs"), Path::new("status.hostIPs"));
    let own = items(&status.pod_ips).iter().enumerate().map(|(i, a)| (&a.ip, own.index(i)));
    let host = items(&status.host_ips).iter().enumerate().map(|(i, a)| (&a.ip, host.index(i)));
    own.chain(host).filter_map(|(address, at)| ip::address(address, &at.child("ip"))).collect()
}

fn parts(spec: &PodSpec, annotations: &Annotations, path: &Path, template: bool) -> Vec<String> {
    let (at, metadata) = (path.child("spec"), path.child("metadata"));
    let noted = metadata.child("annotations");
    let mut warnings = placement(spec, &at);
    for (key, message) in ANNOTATIONS.iter().filter(|(key, _)| annotations.contains_key(*key)) {
        warnings.push(format!("{}: {message}", noted.key(key)));
    }
    warnings.extend(plugins(items(&spec.volumes), &at.child("volumes")));
    warnings.extend(pod_paths::overlaps(items(&spec.volumes)));
    warnings.extend(repeated(spec, &at));
    for name in ["memory", "ephemeral-storage"] {
        warnings.extend(fractional(&spec.overhead, name, &at.child("overhead")));
    }
    let context = spec.security_context.as_ref();
    if context.is_none_or(|c| c.seccomp_profile.is_none()) && annotations.contains_key(SECCOMP) {
        let message = r#"non-functional in v1.27+; use the "seccompProfile" field instead"#;
        warnings.push(format!("{}: {message}", noted.key(SECCOMP)));
    }
    warnings.extend(pod_containers::warnings(spec, annotations, path, template));
    if spec.termination_grace_period_seconds.is_some_and(|s| s < 0) {
        let at = at.child("terminationGracePeriodSeconds");
        warnings.push(format!("{at}: must be >= 0; negative values are invalid and will be treated as 1"));
    }
    if let Some(affinity) = &spec.affinity {
        warnings.extend(pod_affinity(affinity, &at.child("affinity")));
    }
    warnings.extend(addresses(spec, &at));
    warnings
}

/// Deprecated labels of nodes, and spreading over no pods.
fn placement(spec: &PodSpec, path: &Path) -> Vec<String> {
    let mut warnings = Vec::new();
    let selector = path.child("nodeSelector");
    for key in spec.node_selector.iter().flatten().map(|(key, _)| key) {
        warnings.extend(node::deprecated_label(key).map(|m| format!("{}: {m}", selector.key(key))));
    }
    if let Some(affinity) = spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref()) {
        warnings.extend(node_affinity(affinity, &path.child("affinity").child("nodeAffinity")));
    }
    let spread = path.child("topologySpreadConstraints");
    for (i, constraint) in items(&spec.topology_spread_constraints).iter().enumerate() {
        warnings.extend(spreading(constraint, &spread.index(i)));
    }
    warnings
}

fn node_affinity(affinity: &NodeAffinity, path: &Path) -> Vec<String> {
    let mut warnings = Vec::new();
    let required = path.child("requiredDuringSchedulingIgnoredDuringExecution");
    let terms = required.child("nodeSelectorTerms");
    let selector = affinity.required_during_scheduling_ignored_during_execution.as_ref();
    for (i, term) in selector.map(|s| &s.node_selector_terms).into_iter().flatten().enumerate() {
        warnings.extend(node::selector_term(term, false, &terms.index(i)));
    }
    let preferred = path.child("preferredDuringSchedulingIgnoredDuringExecution");
    for (i, term) in items(&affinity.preferred_during_scheduling_ignored_during_execution).iter().enumerate()
    {
        warnings.extend(node::selector_term(&term.preference, true, &preferred.index(i).child("preference")));
    }
    warnings
}

fn spreading(constraint: &TopologySpreadConstraint, path: &Path) -> Vec<String> {
    let mut warnings = Vec::new();
    let key = &constraint.topology_key;
    if let Some(message) = node::deprecated_label(key) {
        warnings.push(format!("{}: {key} is {message}", path.child("topologyKey")));
    }
    if constraint.label_selector.is_none() {
        warnings.push(matches_nothing(path));
    }
    warnings
}

fn matches_nothing(path: &Path) -> String {
    format!("{}: a null labelSelector results in matching no pod", path.child("labelSelector"))
}

/// Volume plugins that are deprecated or gone.
fn plugins(volumes: &[Volume], path: &Path) -> Vec<String> {
    let mut warnings = Vec::new();
    for (i, volume) in volumes.iter().enumerate() {
        let at = path.index(i);
        let mut told = |used: bool, plugin: &str, message: &str| {
            if used {
                warnings.push(format!("{}: {message}", at.child(plugin)));
            }
        };
        let gone = "deprecated in v1.22, non-functional in v1.25+";
        told(
            volume.photon_persistent_disk.is_some(),
            "photonPersistentDisk",
            "deprecated in v1.11, non-functional in v1.16+",
        );
        told(volume.git_repo.is_some(), "gitRepo", "deprecated in v1.11, and disabled by default in v1.33+");
        told(volume.scale_io.is_some(), "scaleIO", "deprecated in v1.16, non-functional in v1.22+");
        told(volume.flocker.is_some(), "flocker", gone);
        told(volume.storageos.is_some(), "storageOS", gone);
        told(volume.quobyte.is_some(), "quobyte", gone);
        told(volume.glusterfs.is_some(), "glusterfs", "deprecated in v1.25, non-functional in v1.26+");
        told(volume.cephfs.is_some(), "cephfs", "deprecated in v1.28, non-functional in v1.31+");
        told(volume.rbd.is_some(), "rbd", "deprecated in v1.28, non-functional in v1.31+");
        let template = volume.ephemeral.as_ref().and_then(|e| e.volume_claim_template.as_ref());
        if let Some(template) = template {
            let (at, template_at) = (at.child("ephemeral"), "volumeClaimTemplate");
            warnings.extend(storage::claim_spec(&template.spec, &at.child(template_at).child("spec")));
        }
    }
    warnings
}

/// Host aliases and pull secrets that are told twice.
fn repeated(spec: &PodSpec, path: &Path) -> Vec<String> {
    let mut warnings = Vec::new();
    let (at, mut seen) = (path.child("hostAliases"), BTreeSet::new());
    for (i, alias) in items(&spec.host_aliases).iter().enumerate() {
        if !seen.insert(&alias.ip) {
            warnings.push(format!("{}: duplicate ip {}", at.index(i).child("ip"), quote(&alias.ip)));
        }
    }
    let (at, mut seen) = (path.child("imagePullSecrets"), BTreeSet::new());
    for (i, secret) in items(&spec.image_pull_secrets).iter().enumerate() {
        if !seen.insert(&secret.name) {
            warnings.push(format!("{}: duplicate name {}", at.index(i).child("name"), quote(&secret.name)));
        }
    }
    for (i, _) in items(&spec.image_pull_secrets).iter().enumerate().filter(|(_, s)| s.name.is_empty()) {
        warnings.push(format!("{}: invalid empty name \"\"", at.index(i).child("name")));
    }
    warnings
}

fn pod_affinity(affinity: &Affinity, path: &Path) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(affinity) = &affinity.pod_affinity {
        let required = items(&affinity.required_during_scheduling_ignored_during_execution);
        let preferred = items(&affinity.preferred_during_scheduling_ignored_during_execution);
        warnings.extend(terms(required, preferred, &path.child("podAffinity")));
    }
    if let Some(affinity) = &affinity.pod_anti_affinity {
        let required = items(&affinity.required_during_scheduling_ignored_during_execution);
        let preferred = items(&affinity.preferred_during_scheduling_ignored_during_execution);
        warnings.extend(terms(required, preferred, &path.child("podAntiAffinity")));
    }
    warnings
}

fn terms(required: &[PodAffinityTerm], preferred: &[WeightedPodAffinityTerm], path: &Path) -> Vec<String> {
    let mut warnings = Vec::new();
    let at = path.child("requiredDuringSchedulingIgnoredDuringExecution");
    for (i, _) in required.iter().enumerate().filter(|(_, t)| t.label_selector.is_none()) {
        warnings.push(matches_nothing(&at.index(i)));
    }
    let at = path.child("preferredDuringSchedulingIgnoredDuringExecution");
    for (i, term) in preferred.iter().enumerate() {
        if term.pod_affinity_term.label_selector.is_none() {
            warnings.push(matches_nothing(&at.index(i).child("podAffinityTerm")));
        }
    }
    warnings
}

fn addresses(spec: &PodSpec, path: &Path) -> Vec<String> {
    let mut warnings = Vec::new();
    let servers = spec.dns_config.as_ref().map(|d| items(&d.nameservers)).unwrap_or_default();
    let (config, aliases) = (path.child("dnsConfig"), path.child("hostAliases"));
    for (i, server) in servers.iter().enumerate() {
        warnings.extend(ip::address(server, &config.child("nameservers").index(i)));
    }
    for (i, alias) in items(&spec.host_aliases).iter().enumerate() {
        warnings.extend(ip::address(&alias.ip, &aliases.index(i).child("ip")));
    }
    warnings
}

#[cfg(test)]
mod tests {
    fn told(spec: serde_json::Value) -> Vec<String> {
        let pod = serde_json::from_value(serde_json::json!({
            "metadata": {"annotations": {
                "seccomp.security.alpha.kubernetes.io/pod": "x",
                "container.seccomp.security.alpha.kubernetes.io/c": "x"}},
            "spec": spec,
        }));
        super::pod(&pod.unwrap())
    }

    #[test]
    fn of_pods() {
        let port = |p: serde_json::Value| serde_json::json!({"name": "c", "ports": [p]});
        let spec = serde_json::json!({
            "nodeSelector": {"beta.kubernetes.io/os": "linux"},
            "volumes": [{"name": "v", "gitRepo": {"repository": "x"}}, {"name": "s", "secret": {
                "secretName": "s", "items": [{"key": "a", "path": "p"}, {"key": "b", "path": "p/q"}]}}],
            "imagePullSecrets": [{"name": ""}],
            "overhead": {"memory": "1500m"},
            "containers": [port(serde_json::json!({"containerPort": 80, "hostIP": "1.2.3.4", "protocol": "TCP"})),
                port(serde_json::json!({"containerPort": 80, "hostPort": 1, "protocol": "TCP"}))],
            "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "z", "whenUnsatisfiable": "DoNotSchedule"}],
        });
        let seccomp = r#"non-functional in v1.27+; use the "seccompProfile" field instead"#;
        assert_eq!(
            told(spec),
            [
                r#"spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use "kubernetes.io/os" instead"#,
                "spec.topologySpreadConstraints[0].labelSelector: a null labelSelector results in matching no pod",
                "spec.volumes[0].gitRepo: deprecated in v1.11, and disabled by default in v1.33+",
                r#"volume "s" (Secret "s"): overlapping paths: "p/q" with "p""#,
                r#"spec.imagePullSecrets[0].name: invalid empty name """#,
                r#"spec.overhead[memory]: fractional byte value "1500m" is invalid, must be an integer"#,
                &format!("metadata.annotations[seccomp.security.alpha.kubernetes.io/pod]: {seccomp}"),
                &format!("metadata.annotations[container.seccomp.security.alpha.kubernetes.io/c]: {seccomp}"),
                &format!("metadata.annotations[container.seccomp.security.alpha.kubernetes.io/c]: {seccomp}"),
                "spec.containers[0].ports[0]: hostIP set without hostPort: {Name: HostPort:0 ContainerPort:80 Protocol:TCP HostIP:1.2.3.4}",
                "spec.containers[1].ports[0]: overlapping port definition with spec.containers[0].ports[0]",
            ]
        );
    }
}
