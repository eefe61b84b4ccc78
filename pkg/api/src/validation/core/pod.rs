//! Pods and pod templates. Not here yet: affinity terms, topology spread, DNS config, OS rules, resource claims.

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, PodTemplateSpec, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::container::{Surroundings, validate_containers, validate_init_containers};
use super::volume::validate_volumes;
use crate::validation::content;
use crate::validation::field::{Error, Path};
use crate::validation::objectmeta::{
    name_is_subdomain, validate_annotations, validate_label_name, validate_labels, validate_object_meta,
};
use crate::validation::{one_of, refusals, semantic_eq};

const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";

/// A new pod.
pub fn validate_pod(pod: &Pod, namespaced: bool) -> Vec<Error> {
    let mut errors =
        validate_object_meta(&pod.metadata, namespaced, name_is_subdomain, &Path::new("metadata"));
    errors.extend(spec_errors(pod, true));
    if pod.spec.as_ref().is_some_and(|s| s.ephemeral_containers.as_ref().is_some_and(|e| !e.is_empty())) {
        let spec = Path::new("spec");
        errors.push(Error::forbidden(&spec.child("ephemeralContainers"), "cannot be set on create"));
    }
    errors
}

fn spec_errors(pod: &Pod, is_pod: bool) -> Vec<Error> {
    let default = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&default);
    let mut errors = validate_pod_spec(spec, is_pod, &Path::new("spec"));
    errors.extend(mirror_errors(&pod.metadata, spec));
    errors
}

/// A static pod's mirror names its node.
fn mirror_errors(metadata: &ObjectMeta, spec: &PodSpec) -> Option<Error> {
    let mirrored = metadata.annotations.as_ref().is_some_and(|a| a.contains_key(MIRROR_ANNOTATION));
    let unbound = spec.node_name.as_deref().unwrap_or("").is_empty();
    let metadata = Path::new("metadata");
    let annotations = metadata.child("annotations");
    (mirrored && unbound).then(|| {
        Error::invalid(
            &annotations.key(MIRROR_ANNOTATION),
            "",
            "must set spec.nodeName if mirror pod annotation is set",
        )
    })
}

/// A pod template.
pub fn validate_template(template: &PodTemplateSpec, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    if let Some(metadata) = &template.metadata {
        errors.extend(validate_labels(metadata.labels.as_ref(), &path.child("labels")));
        errors.extend(validate_annotations(metadata.annotations.as_ref(), &path.child("annotations")));
    }
    let default = PodSpec::default();
    let spec = template.spec.as_ref().unwrap_or(&default);
    let at = path.child("spec");
    errors.extend(validate_pod_spec(spec, false, &at));
    if spec.ephemeral_containers.as_ref().is_some_and(|e| !e.is_empty()) {
        errors.push(Error::forbidden(
            &at.child("ephemeralContainers"),
            "ephemeral containers not allowed in pod template",
        ));
    }
    errors
}

/// `ValidatePodSpec`, in its order.
pub fn validate_pod_spec(spec: &PodSpec, is_pod: bool, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    if spec.termination_grace_period_seconds.is_none() {
        errors.push(Error::required(&path.child("terminationGracePeriodSeconds"), ""));
    }
    let volumes = spec.volumes.as_deref().unwrap_or_default();
    errors.extend(validate_volumes(volumes, &path.child("volumes")));
    let around = Surroundings { volumes, grace_period: spec.termination_grace_period_seconds };
    errors.extend(validate_containers(&spec.containers, &around, &path.child("containers")));
    let inits = spec.init_containers.as_deref().unwrap_or_default();
    errors.extend(validate_init_containers(inits, &spec.containers, &around, &path.child("initContainers")));
    errors.extend(validate_host_network(spec, is_pod, path));
    errors.extend(one_of(
        spec.restart_policy.as_deref().unwrap_or(""),
        &["Always", "OnFailure", "Never"],
        &path.child("restartPolicy"),
    ));
    errors.extend(one_of(
        spec.dns_policy.as_deref().unwrap_or(""),
        &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"],
        &path.child("dnsPolicy"),
    ));
    errors.extend(validate_labels(spec.node_selector.as_ref(), &path.child("nodeSelector")));
    errors.extend(validate_names(spec, path));
    errors
}

fn validate_host_network(spec: &PodSpec, is_pod: bool, path: &Path) -> Vec<Error> {
    if spec.host_network != Some(true) {
        return Vec::new();
    }
    let list = path.child("containers");
    let mut errors = Vec::new();
    for (c, container) in spec.containers.iter().enumerate() {
        let at = list.index(c);
        let ports = at.child("ports");
        for (p, port) in container.ports.iter().flatten().enumerate() {
            let host = port.host_port.unwrap_or(0);
            if (is_pod || host != 0) && host != port.container_port {
                let detail = "must match `containerPort` when `hostNetwork` is true";
                errors.push(Error::invalid(&ports.index(p).child("hostPort"), host, detail));
            }
        }
    }
    errors
}

fn validate_names(spec: &PodSpec, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let gates = path.child("schedulingGates");
    for (i, gate) in spec.scheduling_gates.iter().flatten().enumerate() {
        let at = gates.index(i);
        errors.extend(refusals(&at.child("name"), &gate.name, content::qualified_name(&gate.name)));
    }
    let account = spec.service_account_name.as_deref().unwrap_or("");
    if !account.is_empty() {
        errors.extend(refusals(&path.child("serviceAccountName"), account, content::dns_subdomain(account)));
    }
    let node = spec.node_name.as_deref().unwrap_or("");
    if !node.is_empty() {
        errors.extend(refusals(&path.child("nodeName"), node, content::dns_subdomain(node)));
    }
    if let Some(seconds) = spec.active_deadline_seconds
        && !(1..=i64::from(i32::MAX)).contains(&seconds)
    {
        let detail = content::range(1, i64::from(i32::MAX));
        errors.push(Error::invalid(&path.child("activeDeadlineSeconds"), seconds, detail));
    }
    for (field, name) in [("hostname", &spec.hostname), ("subdomain", &spec.subdomain)] {
        let name = name.as_deref().unwrap_or("");
        if !name.is_empty() {
            errors.extend(refusals(&path.child(field), name, content::dns_label(name)));
        }
    }
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    errors.extend(validate_tolerations(tolerations, &path.child("tolerations")));
    for (field, name) in
        [("priorityClassName", &spec.priority_class_name), ("runtimeClassName", &spec.runtime_class_name)]
    {
        let name = name.as_deref().unwrap_or("");
        if !name.is_empty() {
            errors.extend(refusals(&path.child(field), name, content::dns_subdomain(name)));
        }
    }
    if let Some(policy) = spec.preemption_policy.as_deref() {
        errors.extend(one_of(policy, &["PreemptLowerPriority", "Never"], &path.child("preemptionPolicy")));
    }
    errors
}

/// Tolerations.
pub fn validate_tolerations(tolerations: &[Toleration], path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    for (i, toleration) in tolerations.iter().enumerate() {
        errors.extend(validate_toleration(toleration, &path.index(i)));
    }
    errors
}

fn validate_toleration(toleration: &Toleration, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let key = toleration.key.as_deref().unwrap_or("");
    let operator = toleration.operator.as_deref().unwrap_or("");
    let value = toleration.value.as_deref().unwrap_or("");
    let effect = toleration.effect.as_deref().unwrap_or("");
    if !key.is_empty() {
        errors.extend(validate_label_name(key, &path.child("key")));
    } else if operator != "Exists" {
        let detail =
            "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
        errors.push(Error::invalid(&path.child("operator"), operator, detail));
    }
    if toleration.toleration_seconds.is_some() && effect != "NoExecute" {
        let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
        errors.push(Error::invalid(&path.child("effect"), effect, detail));
    }
    match operator {
        "Equal" | "" => {
            let texts = content::label_value(value);
            if !texts.is_empty() {
                errors.push(Error::invalid(&path.child("operator"), value, texts.join(";")));
            }
        }
        "Exists" if !value.is_empty() => {
            let detail = "value must be empty when `operator` is 'Exists'";
            errors.push(Error::invalid(&path.child("operator"), value, detail));
        }
        "Exists" => {}
        "Lt" | "Gt" => {
            if value.parse::<i64>().map(|n| n.to_string()).ok().as_deref() != Some(value) {
                let detail = "must be a valid decimal integer in canonical form";
                errors.push(Error::invalid(&path.child("value"), value, detail));
            }
        }
        other => {
            errors.push(Error::not_supported(&path.child("operator"), other, &["Equal", "Exists"]));
        }
    }
    if !effect.is_empty() {
        let supported = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
        errors.extend(one_of(effect, &supported, &path.child("effect")));
    }
    errors
}

/// A changed pod: images, deadline, added tolerations and removed gates only.
pub fn validate_pod_update(new: &Pod, old: &Pod) -> Vec<Error> {
    let mut errors = spec_errors(new, true);
    let path = Path::new("spec");
    let default = PodSpec::default();
    let (new, old) = (new.spec.as_ref().unwrap_or(&default), old.spec.as_ref().unwrap_or(&default));
    for (field, a, b) in [
        ("containers", Some(&new.containers), Some(&old.containers)),
        ("initContainers", new.init_containers.as_ref(), old.init_containers.as_ref()),
    ] {
        let none = Vec::new();
        let (a, b): (&Vec<Container>, &Vec<Container>) = (a.unwrap_or(&none), b.unwrap_or(&none));
        if a.len() != b.len() {
            errors.push(Error::forbidden(&path.child(field), "pod updates may not add or remove containers"));
            return errors;
        }
        let list = path.child(field);
        for (i, container) in a.iter().enumerate() {
            let image = container.image.as_deref().unwrap_or("");
            if image.trim().len() != image.len() {
                let detail = "must not have leading or trailing whitespace";
                errors.push(Error::invalid(&list.index(i).child("image"), image, detail));
            }
        }
    }
    errors.extend(deadline_errors(new, old, &path));
    errors.extend(only_added_tolerations(new, old, &path.child("tolerations")));
    errors.extend(only_removed_gates(new, old, &path.child("schedulingGates")));
    if !semantic_eq(&munged(new, old), old) {
        errors.push(Error::forbidden(
            &path,
            "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n",
        ));
    }
    errors
}

/// The new spec with everything that may change put back.
fn munged(new: &PodSpec, old: &PodSpec) -> PodSpec {
    let mut spec = new.clone();
    for (container, before) in spec.containers.iter_mut().zip(&old.containers) {
        container.image.clone_from(&before.image);
    }
    for (container, before) in
        spec.init_containers.iter_mut().flatten().zip(old.init_containers.iter().flatten())
    {
        container.image.clone_from(&before.image);
    }
    spec.active_deadline_seconds = old.active_deadline_seconds;
    spec.scheduling_gates.clone_from(&old.scheduling_gates);
    spec.tolerations.clone_from(&old.tolerations);
    let was_negative = old.termination_grace_period_seconds.is_some_and(|s| s < 0);
    if was_negative && spec.termination_grace_period_seconds == Some(1) {
        spec.termination_grace_period_seconds = old.termination_grace_period_seconds;
    }
    // A gated pod may still have its placement narrowed.
    if old.scheduling_gates.as_ref().is_some_and(|g| !g.is_empty()) {
        spec.node_selector.clone_from(&old.node_selector);
        spec.affinity.clone_from(&old.affinity);
    }
    spec
}

fn deadline_errors(new: &PodSpec, old: &PodSpec, path: &Path) -> Option<Error> {
    let at = path.child("activeDeadlineSeconds");
    match (new.active_deadline_seconds, old.active_deadline_seconds) {
        (Some(new), Some(old)) if old < new => {
            Some(Error::invalid(&at, new, "must be less than or equal to previous value"))
        }
        (None, Some(_)) => Some(Error::invalid(
            &at,
            crate::validation::field::Bad::Raw("null".into()),
            "must not update from a positive integer to nil value",
        )),
        _ => None,
    }
}

fn only_added_tolerations(new: &PodSpec, old: &PodSpec, path: &Path) -> Option<Error> {
    let kept = |t: &Toleration| {
        new.tolerations.iter().flatten().any(|n| {
            let same = Toleration { toleration_seconds: n.toleration_seconds, ..t.clone() };
            same == *n
        })
    };
    let all = old.tolerations.iter().flatten().all(kept);
    (!all).then(|| {
        Error::forbidden(path, "existing toleration can not be modified except its tolerationSeconds")
    })
}

fn only_removed_gates(new: &PodSpec, old: &PodSpec, path: &Path) -> Vec<Error> {
    let before: Vec<_> = old.scheduling_gates.iter().flatten().map(|g| &g.name).collect();
    let gates = new.scheduling_gates.iter().flatten().enumerate();
    gates
        .filter(|(_, g)| !before.contains(&&g.name))
        .map(|(i, g)| {
            let detail = format!("only deletion is allowed, but found new scheduling gate '{}'", g.name);
            Error::forbidden(&path.index(i).child("name"), detail)
        })
        .collect()
}

/// A status update: finished containers stay finished unless they restart.
pub fn validate_pod_status_update(new: &Pod, old: &Pod) -> Vec<Error> {
    let mut errors = Vec::new();
    let path = Path::new("status");
    let (Some(status), Some(before)) = (&new.status, &old.status) else { return errors };
    if status.observed_generation.is_some_and(|g| g < 0) {
        let generation = status.observed_generation.unwrap_or(0);
        errors.push(Error::invalid(
            &path.child("observedGeneration"),
            generation,
            "must be a non-negative integer",
        ));
    }
    let class = |s: &Option<String>| s.clone().unwrap_or_default();
    if class(&status.qos_class) != class(&before.qos_class) {
        errors.push(Error::invalid(&path.child("qosClass"), class(&status.qos_class), "field is immutable"));
    }
    let policy = old.spec.as_ref().and_then(|s| s.restart_policy.as_deref()).unwrap_or("");
    if policy == "Always" {
        return errors;
    }
    let list = path.child("containerStatuses");
    for (i, past) in before.container_statuses.iter().flatten().enumerate() {
        let Some(end) = past.state.as_ref().and_then(|s| s.terminated.as_ref()) else { continue };
        if end.exit_code != 0 && policy == "OnFailure" || has_restart_rules(old, &past.name) {
            continue;
        }
        let back =
            status.container_statuses.iter().flatten().any(|s| {
                s.name == past.name && s.state.as_ref().is_none_or(|state| state.terminated.is_none())
            });
        if back {
            let detail = "may not be transitioned to non-terminated state";
            errors.push(Error::forbidden(&list.index(i).child("state"), detail));
        }
    }
    errors
}

/// A container with its own restart policy or rules may come back.
fn has_restart_rules(pod: &Pod, name: &str) -> bool {
    let spec = pod.spec.as_ref();
    spec.is_some_and(|s| {
        s.containers
            .iter()
            .any(|c| c.name == name && (c.restart_policy.is_some() || c.restart_policy_rules.is_some()))
    })
}

/// An update of ephemeral containers: they are only ever added.
pub fn validate_ephemeral_containers_update(new: &Pod, old: &Pod) -> Vec<Error> {
    if old.metadata.annotations.as_ref().is_some_and(|a| a.contains_key(MIRROR_ANNOTATION)) {
        return vec![Error::forbidden(&Path::new(""), "static pods do not support ephemeral containers")];
    }
    let mut errors = Vec::new();
    let spec = Path::new("spec");
    let list = spec.child("ephemeralContainers");
    let of = |pod: &Pod| pod.spec.as_ref().and_then(|s| s.ephemeral_containers.clone()).unwrap_or_default();
    let now = of(new);
    for past in of(old) {
        match now.iter().find(|c| c.name == past.name) {
            None => {
                let detail = format!("existing ephemeral containers {:?} may not be removed\n", past.name);
                errors.push(Error::forbidden(&list, detail));
            }
            Some(c) if !semantic_eq(c, &past) => {
                let detail = format!("existing ephemeral containers {:?} may not be changed\n", past.name);
                errors.push(Error::forbidden(&list, detail));
            }
            Some(_) => {}
        }
    }
    let taken = |name: &str| {
        new.spec.as_ref().is_some_and(|s| {
            s.containers.iter().chain(s.init_containers.iter().flatten()).any(|c| c.name == name)
        })
    };
    for (i, container) in now.iter().enumerate() {
        let at = list.index(i);
        errors.extend(refusals(&at.child("name"), &container.name, content::dns_label(&container.name)));
        if taken(&container.name) || now[..i].iter().any(|c| c.name == container.name) {
            errors.push(Error::duplicate(&at.child("name"), &container.name));
        }
        if container.image.as_deref().unwrap_or("").is_empty() {
            errors.push(Error::required(&at.child("image"), ""));
        }
    }
    errors
}

/// A resize: only amounts and policies of containers, on pods that can be resized.
pub fn validate_pod_resize(new: &Pod, old: &Pod) -> Vec<Error> {
    let mut errors = spec_errors(new, true);
    if old.metadata.annotations.as_ref().is_some_and(|a| a.contains_key(MIRROR_ANNOTATION)) {
        errors.push(Error::forbidden(&Path::new(""), "static pods cannot be resized"));
        return errors;
    }
    let path = Path::new("spec");
    let default = PodSpec::default();
    let (new, old) = (new.spec.as_ref().unwrap_or(&default), old.spec.as_ref().unwrap_or(&default));
    let mut same = new.clone();
    for (container, before) in same.containers.iter_mut().zip(&old.containers) {
        container.resources.clone_from(&before.resources);
        container.resize_policy.clone_from(&before.resize_policy);
    }
    for (container, before) in
        same.init_containers.iter_mut().flatten().zip(old.init_containers.iter().flatten())
    {
        container.resources.clone_from(&before.resources);
        container.resize_policy.clone_from(&before.resize_policy);
    }
    same.resources.clone_from(&old.resources);
    if !semantic_eq(&same, old) {
        errors.push(Error::forbidden(&path, "only cpu and memory resources are mutable\n"));
    }
    errors
}
