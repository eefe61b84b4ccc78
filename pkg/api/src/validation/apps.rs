//! apps/v1 and replication controllers. Upstream: `pkg/apis/apps/validation/validation.go`.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{
    DaemonSet, DaemonSetSpec, Deployment, DeploymentSpec, DeploymentStrategy, ReplicaSet, ReplicaSetSpec,
    StatefulSet, StatefulSetSpec,
};
use k8s_openapi::api::core::v1::{PodTemplateSpec, ReplicationController};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use machinery::labels::Selector;

use super::core::pod::validate_template;
use super::field::{Bad, Error, Path};
use super::objectmeta::{
    name_is_label, name_is_subdomain, validate_label_selector, validate_nonnegative, validate_object_meta,
};
use super::{immutable, int_or_percent, int_or_percent_value, int_or_string_bad, not_more_than_100_percent};

fn metadata(meta: &ObjectMeta) -> Vec<Error> {
    validate_object_meta(meta, true, name_is_subdomain, &Path::new("metadata"))
}

fn count(value: Option<i32>, path: &Path) -> Option<Error> {
    validate_nonnegative(i64::from(value.unwrap_or(0)), path)
}

fn is_empty(selector: &LabelSelector) -> bool {
    selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty)
        && selector.match_expressions.as_ref().is_none_or(Vec::is_empty)
}

/// The machinery selector of a typed one.
fn parsed(selector: &LabelSelector) -> Option<Selector> {
    let value = machinery::value::to_value(selector).ok()?;
    Selector::from_value(Some(&value)).ok()
}

fn validate_selector(selector: &LabelSelector, kind: &str, path: &Path) -> Vec<Error> {
    let mut errors = validate_label_selector(Some(selector), path);
    if is_empty(selector) {
        let detail = format!("empty selector is invalid for {kind}");
        errors.push(Error::invalid(path, Bad::json(selector), detail));
    }
    errors
}

/// The template must carry what the selector selects, and restart always without a deadline.
fn validate_workload_template(
    template: &PodTemplateSpec,
    selector: Option<&LabelSelector>,
    kind: &str,
    path: &Path,
) -> Vec<Error> {
    let mut errors = Vec::new();
    let none = BTreeMap::new();
    let labels = template.metadata.as_ref().and_then(|m| m.labels.as_ref()).unwrap_or(&none);
    let selector = selector.filter(|s| !is_empty(s)).and_then(parsed);
    if selector.is_some_and(|s| !s.matches(labels)) {
        let meta = path.child("metadata");
        let detail = "`selector` does not match template `labels`";
        errors.push(Error::invalid(&meta.child("labels"), Bad::json(labels), detail));
    }
    errors.extend(validate_template(template, path));
    let spec = path.child("spec");
    let policy = template.spec.as_ref().and_then(|s| s.restart_policy.as_deref()).unwrap_or("");
    if policy != "Always" {
        errors.push(Error::not_supported(&spec.child("restartPolicy"), policy, &["Always"]));
    }
    if template.spec.as_ref().is_some_and(|s| s.active_deadline_seconds.is_some()) {
        let detail = format!("activeDeadlineSeconds in {kind} is not Supported");
        errors.push(Error::forbidden(&spec.child("activeDeadlineSeconds"), detail));
    }
    errors
}

/// A new deployment.
pub fn validate_deployment(deployment: &Deployment) -> Vec<Error> {
    let mut errors = metadata(&deployment.metadata);
    errors.extend(validate_deployment_spec(&deployment.spec, &Path::new("spec")));
    errors
}

fn validate_deployment_spec(spec: &DeploymentSpec, path: &Path) -> Vec<Error> {
    let mut errors: Vec<Error> = count(spec.replicas, &path.child("replicas")).into_iter().collect();
    errors.extend(validate_selector(&spec.selector, "deployment", &path.child("selector")));
    let template = path.child("template");
    errors.extend(validate_workload_template(&spec.template, Some(&spec.selector), "ReplicaSet", &template));
    if let Some(strategy) = &spec.strategy {
        errors.extend(validate_deployment_strategy(strategy, &path.child("strategy")));
    }
    errors.extend(count(spec.min_ready_seconds, &path.child("minReadySeconds")));
    errors.extend(count(spec.revision_history_limit, &path.child("revisionHistoryLimit")));
    if let Some(seconds) = spec.progress_deadline_seconds {
        let at = path.child("progressDeadlineSeconds");
        errors.extend(count(Some(seconds), &at));
        if seconds <= spec.min_ready_seconds.unwrap_or(0) {
            errors.push(Error::invalid(&at, seconds, "must be greater than minReadySeconds"));
        }
    }
    errors
}

fn validate_deployment_strategy(strategy: &DeploymentStrategy, path: &Path) -> Vec<Error> {
    match strategy.type_.as_deref().unwrap_or("") {
        "Recreate" if strategy.rolling_update.is_some() => vec![Error::forbidden(
            &path.child("rollingUpdate"),
            "may not be specified when strategy `type` is 'Recreate'",
        )],
        "Recreate" => Vec::new(),
        "RollingUpdate" => {
            let at = path.child("rollingUpdate");
            let Some(rolling) = &strategy.rolling_update else {
                return vec![Error::required(&at, "this should be defaulted and never be nil")];
            };
            let (unavailable, surge) = (at.child("maxUnavailable"), at.child("maxSurge"));
            let mut errors = Vec::new();
            errors.extend(rolling.max_unavailable.iter().flat_map(|v| int_or_percent(v, &unavailable)));
            errors.extend(rolling.max_surge.iter().flat_map(|v| int_or_percent(v, &surge)));
            let zero = |v: &Option<_>| v.as_ref().map_or(0, int_or_percent_value) == 0;
            if zero(&rolling.max_unavailable) && zero(&rolling.max_surge) {
                let bad = rolling.max_unavailable.as_ref().map_or(Bad::Raw("0".into()), int_or_string_bad);
                errors.push(Error::invalid(&unavailable, bad, "may not be 0 when `maxSurge` is 0"));
            }
            errors.extend(
                rolling.max_unavailable.iter().filter_map(|v| not_more_than_100_percent(v, &unavailable)),
            );
            errors
        }
        _ => vec![Error::not_supported(path, Bad::json(strategy), &["Recreate", "RollingUpdate"])],
    }
}

/// A changed deployment.
pub fn validate_deployment_update(new: &Deployment, old: &Deployment) -> Vec<Error> {
    let path = Path::new("spec");
    let (new, old) = (&new.spec, &old.spec);
    let mut errors = Vec::new();
    errors.extend(validate_deployment_spec(new, &path));
    errors.extend(immutable(&new.selector, &old.selector, &path.child("selector")));
    errors
}

/// A deployment's changed status.
pub fn validate_deployment_status_update(new: &Deployment, old: &Deployment) -> Vec<Error> {
    let path = Path::new("status");
    let Some(status) = &new.status else { return Vec::new() };
    let mut errors = Vec::new();
    errors.extend(validate_nonnegative(
        status.observed_generation.unwrap_or(0),
        &path.child("observedGeneration"),
    ));
    let all = status.replicas.unwrap_or(0);
    let ready = status.ready_replicas.unwrap_or(0);
    for (field, value) in [
        ("replicas", status.replicas),
        ("updatedReplicas", status.updated_replicas),
        ("readyReplicas", status.ready_replicas),
        ("availableReplicas", status.available_replicas),
        ("unavailableReplicas", status.unavailable_replicas),
        ("collisionCount", status.collision_count),
    ] {
        errors.extend(count(value, &path.child(field)));
    }
    for (field, value) in [
        ("updatedReplicas", status.updated_replicas),
        ("readyReplicas", status.ready_replicas),
        ("availableReplicas", status.available_replicas),
    ] {
        if let Some(value) = value.filter(|v| *v > all) {
            errors.push(Error::invalid(&path.child(field), value, "cannot be greater than status.replicas"));
        }
    }
    if let Some(available) = status.available_replicas.filter(|v| *v > ready) {
        let at = path.child("availableReplicas");
        errors.push(Error::invalid(&at, available, "cannot be greater than readyReplicas"));
    }
    let collisions = |d: &Deployment| d.status.as_ref().and_then(|s| s.collision_count);
    if let Some(before) = collisions(old)
        && collisions(new).is_none_or(|now| now < before)
    {
        let now = collisions(new).map_or("null".to_owned(), |n| n.to_string());
        errors.push(Error::invalid(&path.child("collisionCount"), Bad::Raw(now), "cannot be decremented"));
    }
    errors
}

/// A new replica set.
pub fn validate_replica_set(set: &ReplicaSet) -> Vec<Error> {
    let mut errors = metadata(&set.metadata);
    errors.extend(validate_replica_set_spec(&set.spec, &Path::new("spec")));
    errors
}

fn validate_replica_set_spec(spec: &ReplicaSetSpec, path: &Path) -> Vec<Error> {
    let mut errors: Vec<Error> = count(spec.replicas, &path.child("replicas")).into_iter().collect();
    errors.extend(count(spec.min_ready_seconds, &path.child("minReadySeconds")));
    errors.extend(validate_selector(&spec.selector, "deployment", &path.child("selector")));
    let default = PodTemplateSpec::default();
    let template = spec.template.as_ref().unwrap_or(&default);
    let at = path.child("template");
    errors.extend(validate_workload_template(template, Some(&spec.selector), "ReplicaSet", &at));
    errors
}

/// A changed replica set.
pub fn validate_replica_set_update(new: &ReplicaSet, old: &ReplicaSet) -> Vec<Error> {
    let path = Path::new("spec");
    let (new, old) = (&new.spec, &old.spec);
    let mut errors = Vec::new();
    errors.extend(validate_replica_set_spec(new, &path));
    errors.extend(immutable(&new.selector, &old.selector, &path.child("selector")));
    errors
}

/// A new stateful set.
pub fn validate_stateful_set(set: &StatefulSet) -> Vec<Error> {
    let mut errors = validate_object_meta(&set.metadata, true, name_is_label, &Path::new("metadata"));
    errors.extend(validate_stateful_set_spec(&set.spec, &Path::new("spec")));
    errors
}

fn validate_stateful_set_spec(spec: &StatefulSetSpec, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let at = path.child("podManagementPolicy");
    match spec.pod_management_policy.as_deref().unwrap_or("") {
        "" => errors.push(Error::required(&at, "")),
        "OrderedReady" | "Parallel" => {}
        other => errors.push(Error::invalid(&at, other, "must be 'OrderedReady' or 'Parallel'")),
    }
    let strategy = path.child("updateStrategy");
    match spec.update_strategy.as_ref().and_then(|s| s.type_.as_deref()).unwrap_or("") {
        "" => errors.push(Error::required(&strategy, "")),
        "OnDelete" => {
            if spec.update_strategy.as_ref().is_some_and(|s| s.rolling_update.is_some()) {
                errors.push(Error::invalid(
                    &strategy.child("rollingUpdate"),
                    Bad::json(&spec.update_strategy),
                    "only allowed for updateStrategy 'RollingUpdate'",
                ));
            }
        }
        "RollingUpdate" => {}
        other => errors.push(Error::invalid(&strategy, other, "must be 'RollingUpdate' or 'OnDelete'")),
    }
    errors.extend(count(spec.replicas, &path.child("replicas")));
    errors.extend(count(spec.min_ready_seconds, &path.child("minReadySeconds")));
    errors.extend(validate_selector(&spec.selector, "statefulset", &path.child("selector")));
    let template = with_claim_volumes(spec);
    errors.extend(validate_workload_template(
        &template,
        Some(&spec.selector),
        "StatefulSet",
        &path.child("template"),
    ));
    errors
}

/// Claim templates become volumes of their names, so mounts may name them.
fn with_claim_volumes(spec: &StatefulSetSpec) -> PodTemplateSpec {
    use k8s_openapi::api::core::v1::{PersistentVolumeClaimVolumeSource, Volume};
    let mut template = spec.template.clone();
    let Some(pod) = template.spec.as_mut() else { return template };
    for claim in spec.volume_claim_templates.iter().flatten() {
        let Some(name) = claim.metadata.name.clone() else { continue };
        let volumes = pod.volumes.get_or_insert_default();
        volumes.retain(|v| v.name != name);
        volumes.push(Volume {
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: name.clone(),
                ..Default::default()
            }),
            name,
            ..Default::default()
        });
    }
    template
}

/// A changed stateful set.
pub fn validate_stateful_set_update(new: &StatefulSet, old: &StatefulSet) -> Vec<Error> {
    let path = Path::new("spec");
    let (new, old) = (&new.spec, &old.spec);
    let mut errors = Vec::new();
    errors.extend(validate_stateful_set_spec(new, &path));
    errors.extend(immutable(&new.selector, &old.selector, &path.child("selector")));
    errors.extend(immutable(
        &new.volume_claim_templates,
        &old.volume_claim_templates,
        &path.child("volumeClaimTemplates"),
    ));
    errors.extend(immutable(&new.service_name, &old.service_name, &path.child("serviceName")));
    errors.extend(immutable(
        &new.pod_management_policy,
        &old.pod_management_policy,
        &path.child("podManagementPolicy"),
    ));
    errors
}

/// A new daemon set.
pub fn validate_daemon_set(set: &DaemonSet) -> Vec<Error> {
    let mut errors = metadata(&set.metadata);
    errors.extend(validate_daemon_set_spec(&set.spec, &Path::new("spec")));
    errors
}

fn validate_daemon_set_spec(spec: &DaemonSetSpec, path: &Path) -> Vec<Error> {
    let mut errors = validate_selector(&spec.selector, "daemonset", &path.child("selector"));
    errors.extend(validate_workload_template(
        &spec.template,
        Some(&spec.selector),
        "DaemonSet",
        &path.child("template"),
    ));
    errors.extend(count(spec.min_ready_seconds, &path.child("minReadySeconds")));
    let strategy = path.child("updateStrategy");
    let kind = spec.update_strategy.as_ref().and_then(|s| s.type_.as_deref()).unwrap_or("");
    match kind {
        "OnDelete" => {}
        "RollingUpdate" => {
            let rolling = spec.update_strategy.as_ref().and_then(|s| s.rolling_update.as_ref());
            let at = strategy.child("rollingUpdate");
            match rolling {
                None => errors.push(Error::required(&at, "")),
                Some(rolling) => {
                    let (unavailable, surge) = (at.child("maxUnavailable"), at.child("maxSurge"));
                    errors
                        .extend(rolling.max_unavailable.iter().flat_map(|v| int_or_percent(v, &unavailable)));
                    errors.extend(rolling.max_surge.iter().flat_map(|v| int_or_percent(v, &surge)));
                    let value = |v: &Option<_>| v.as_ref().map_or(0, int_or_percent_value);
                    match (value(&rolling.max_unavailable), value(&rolling.max_surge)) {
                        (0, 0) => {
                            errors.push(Error::required(&unavailable, "cannot be 0 when maxSurge is 0"));
                        }
                        (u, s) if u != 0 && s != 0 => errors.push(Error::invalid(
                            &surge,
                            rolling.max_surge.as_ref().map_or(Bad::Omitted, int_or_string_bad),
                            "may not be set when maxUnavailable is non-zero",
                        )),
                        _ => {}
                    }
                }
            }
        }
        other => {
            let valid = ["RollingUpdate", "OnDelete"];
            errors.push(Error::not_supported(&strategy.child("type"), other, &valid));
        }
    }
    errors.extend(count(spec.revision_history_limit, &path.child("revisionHistoryLimit")));
    errors
}

/// A changed daemon set.
pub fn validate_daemon_set_update(new: &DaemonSet, old: &DaemonSet) -> Vec<Error> {
    let path = Path::new("spec");
    let (new, old) = (&new.spec, &old.spec);
    let mut errors = Vec::new();
    errors.extend(immutable(&new.selector, &old.selector, &path.child("selector")));
    errors.extend(validate_daemon_set_spec(new, &path));
    errors
}

/// A new replication controller.
pub fn validate_replication_controller(controller: &ReplicationController) -> Vec<Error> {
    let mut errors = metadata(&controller.metadata);
    errors.extend(validate_replication_controller_spec(controller));
    errors
}

fn validate_replication_controller_spec(controller: &ReplicationController) -> Vec<Error> {
    let path = Path::new("spec");
    let mut errors = Vec::new();
    let Some(spec) = &controller.spec else { return errors };
    errors.extend(count(spec.min_ready_seconds, &path.child("minReadySeconds")));
    let selector = spec.selector.clone().unwrap_or_default();
    if selector.is_empty() {
        errors.push(Error::required(&path.child("selector"), ""));
    }
    errors.extend(count(spec.replicas, &path.child("replicas")));
    let at = path.child("template");
    match &spec.template {
        None => errors.push(Error::required(&at, "")),
        Some(template) => {
            let selector = LabelSelector { match_labels: Some(selector), ..Default::default() };
            let kind = "ReplicationController";
            errors.extend(validate_workload_template(template, Some(&selector), kind, &at));
        }
    }
    errors
}

/// A changed replication controller.
pub fn validate_replication_controller_update(
    new: &ReplicationController,
    _old: &ReplicationController,
) -> Vec<Error> {
    validate_replication_controller_spec(new)
}
