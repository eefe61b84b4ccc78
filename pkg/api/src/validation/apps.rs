//! apps/v1 and replication controllers. Upstream: `pkg/apis/apps/validation/validation.go`.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{
    DaemonSet, DaemonSetSpec, Deployment, DeploymentSpec, DeploymentStrategy, ReplicaSet, ReplicaSetSpec,
    StatefulSet, StatefulSetSpec,
};
use k8s_openapi::api::core::v1::{PodTemplateSpec, ReplicationController, ReplicationControllerSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use machinery::labels::Selector;

use super::core::claim::validate_claim_spec;
use super::core::pod::{validate_template, validate_template_metadata};
use super::field::{Bad, Error, Path};
use super::objectmeta::{
    name_is_label, name_is_subdomain, validate_kube_finalizers, validate_kube_object_meta,
    validate_label_selector, validate_long_named, validate_nonnegative,
};
use super::{
    dns_label, immutable, immutable_pointer, int_or_percent, int_or_percent_value, int_or_string_bad, items,
    not_more_than_100_percent, supported, text,
};

fn metadata(meta: &ObjectMeta) -> Vec<Error> {
    validate_kube_object_meta(meta, true, name_is_subdomain, &Path::new("metadata"))
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

/// A selector that is there, which typed objects do not tell from one that is not: `selected` does.
fn given(selector: &LabelSelector, selected: bool) -> Option<&LabelSelector> {
    selected.then_some(selector)
}

/// Whether a changed object and the stored one have a selector.
#[derive(Clone, Copy)]
pub struct Selected {
    /// The changed one has.
    pub now: bool,
    /// The stored one has.
    pub before: bool,
}

impl Selected {
    fn of<'a>(
        self,
        new: &'a LabelSelector,
        old: &'a LabelSelector,
    ) -> (Option<&'a LabelSelector>, Option<&'a LabelSelector>) {
        (given(new, self.now), given(old, self.before))
    }
}

fn validate_selector(selector: Option<&LabelSelector>, kind: &str, path: &Path) -> Vec<Error> {
    let Some(selector) = selector else { return vec![Error::required(path, "")] };
    let mut errors = validate_label_selector(Some(selector), path);
    if is_empty(selector) {
        let detail = format!("empty selector is invalid for {kind}");
        errors.push(Error::invalid(path, Bad::json(selector), detail));
    }
    errors
}

/// The template must carry what the selector selects, and restart always without a deadline. `old` is the one it
/// replaces.
fn validate_workload_template(
    template: &PodTemplateSpec,
    old: Option<&PodTemplateSpec>,
    selector: Option<&LabelSelector>,
    kind: &str,
    path: &Path,
) -> Vec<Error> {
    let mut errors: Vec<Error> = validate_selected(template, selector, path).into_iter().collect();
    errors.extend(validate_template(template, old, path));
    errors.extend(validate_always(template, kind, path));
    errors
}

/// A selector that cannot be read, of which no template is judged.
fn unreadable(selector: Option<&LabelSelector>, detail: &str, path: &Path) -> Option<Error> {
    let selector = selector?;
    parsed(selector).is_none().then(|| Error::invalid(path, Bad::json(selector), detail))
}

/// An absent selector selects nothing, an empty one is told elsewhere.
fn validate_selected(
    template: &PodTemplateSpec,
    selector: Option<&LabelSelector>,
    path: &Path,
) -> Option<Error> {
    match selector {
        None => Some(mismatch(template, path)),
        Some(selector) if is_empty(selector) => None,
        Some(selector) => validate_matched(template, &parsed(selector)?, path),
    }
}

fn labels_of(template: &PodTemplateSpec) -> Option<&BTreeMap<String, String>> {
    template.metadata.as_ref().and_then(|m| m.labels.as_ref())
}

fn mismatch(template: &PodTemplateSpec, path: &Path) -> Error {
    let metadata = path.child("metadata");
    let at = metadata.child("labels");
    Error::invalid(&at, Bad::json(&labels_of(template)), "`selector` does not match template `labels`")
}

fn validate_matched(template: &PodTemplateSpec, selector: &Selector, path: &Path) -> Option<Error> {
    let none = BTreeMap::new();
    let matches = selector.matches(labels_of(template).unwrap_or(&none));
    (!matches).then(|| mismatch(template, path))
}

fn validate_always(template: &PodTemplateSpec, kind: &str, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let spec = path.child("spec");
    let policy = template.spec.as_ref().and_then(|s| s.restart_policy.as_deref()).unwrap_or("");
    if policy != "Always" {
        errors.push(Error::not_supported(&spec.child("restartPolicy"), Bad::enumerated(policy), &["Always"]));
    }
    if template.spec.as_ref().is_some_and(|s| s.active_deadline_seconds.is_some()) {
        let detail = format!("activeDeadlineSeconds in {kind} is not Supported");
        errors.push(Error::forbidden(&spec.child("activeDeadlineSeconds"), detail));
    }
    errors
}

/// A new deployment.
pub fn validate_deployment(deployment: &Deployment, selected: bool) -> Vec<Error> {
    let mut errors = metadata(&deployment.metadata);
    let selector = given(&deployment.spec.selector, selected);
    errors.extend(validate_deployment_spec(&deployment.spec, None, selector, &Path::new("spec")));
    errors
}

fn validate_deployment_spec(
    spec: &DeploymentSpec,
    old: Option<&DeploymentSpec>,
    selector: Option<&LabelSelector>,
    path: &Path,
) -> Vec<Error> {
    let mut errors: Vec<Error> = count(spec.replicas, &path.child("replicas")).into_iter().collect();
    errors.extend(validate_selector(selector, "deployment", &path.child("selector")));
    let template = path.child("template");
    match unreadable(selector, "invalid label selector", &path.child("selector")) {
        Some(error) => errors.push(error),
        None => errors.extend(validate_workload_template(
            &spec.template,
            old.map(|o| &o.template),
            selector,
            "ReplicaSet",
            &template,
        )),
    }
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
pub fn validate_deployment_update(new: &Deployment, old: &Deployment, selected: Selected) -> Vec<Error> {
    let path = Path::new("spec");
    let (new, old) = (&new.spec, &old.spec);
    let mut errors = Vec::new();
    let (selector, before) = selected.of(&new.selector, &old.selector);
    errors.extend(validate_deployment_spec(new, Some(old), selector, &path));
    errors.extend(immutable_pointer(&selector, &before, &path.child("selector")));
    errors
}

/// Counts of a status: none negative, and none above the whole.
struct Counts<'a> {
    /// All fields.
    fields: &'a [(&'static str, Option<i32>)],
    /// Those that are part of `replicas`.
    parts: &'a [(&'static str, Option<i32>)],
    replicas: Option<i32>,
    ready: Option<i32>,
    available: Option<i32>,
    generation: Option<i64>,
    /// How many fields are judged before the generation.
    generation_at: usize,
    /// What the last text calls the ready ones.
    ready_name: &'static str,
}

fn generation(observed: Option<i64>, path: &Path) -> Option<Error> {
    validate_nonnegative(observed.unwrap_or(0), &path.child("observedGeneration"))
}

fn validate_counts(counts: &Counts<'_>, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    for (i, (field, value)) in counts.fields.iter().enumerate() {
        if i == counts.generation_at {
            errors.extend(generation(counts.generation, path));
        }
        errors.extend(count(*value, &path.child(field)));
    }
    if counts.generation_at == counts.fields.len() {
        errors.extend(generation(counts.generation, path));
    }
    let all = counts.replicas.unwrap_or(0);
    for (field, value) in counts.parts {
        // Nothing is more than a negative whole.
        let value = value.unwrap_or(0);
        if value > all {
            errors.push(Error::invalid(&path.child(field), value, "cannot be greater than status.replicas"));
        }
    }
    let ready = counts.ready.unwrap_or(0);
    let available = counts.available.unwrap_or(0);
    if available > ready {
        let detail = format!("cannot be greater than {}", counts.ready_name);
        errors.push(Error::invalid(&path.child("availableReplicas"), available, detail));
    }
    errors
}

/// A count of collisions only grows.
fn validate_collisions(now: Option<i32>, before: Option<i32>, path: &Path) -> Option<Error> {
    let before = before?;
    let value = now.unwrap_or(0);
    now.is_none_or(|n| n < before)
        .then(|| Error::invalid(&path.child("collisionCount"), value, "cannot be decremented"))
}

/// A deployment's changed status.
pub fn validate_deployment_status_update(new: &Deployment, old: &Deployment) -> Vec<Error> {
    let path = Path::new("status");
    let status = new.status.clone().unwrap_or_default();
    let parts = [
        ("updatedReplicas", status.updated_replicas),
        ("readyReplicas", status.ready_replicas),
        ("availableReplicas", status.available_replicas),
    ];
    let counts = Counts {
        fields: &[
            ("replicas", status.replicas),
            ("updatedReplicas", status.updated_replicas),
            ("readyReplicas", status.ready_replicas),
            ("availableReplicas", status.available_replicas),
            ("unavailableReplicas", status.unavailable_replicas),
            ("terminatingReplicas", status.terminating_replicas),
            ("collisionCount", status.collision_count),
        ],
        parts: &parts,
        replicas: status.replicas,
        ready: status.ready_replicas,
        available: status.available_replicas,
        generation: status.observed_generation,
        generation_at: 0,
        ready_name: "readyReplicas",
    };
    let mut errors = validate_counts(&counts, &path);
    let before = old.status.as_ref().and_then(|s| s.collision_count);
    errors.extend(validate_collisions(status.collision_count, before, &path));
    errors
}

/// A replica set's changed status.
pub fn validate_replica_set_status_update(new: &ReplicaSet) -> Vec<Error> {
    let status = new.status.clone().unwrap_or_default();
    let replicas = Some(status.replicas);
    let parts = [
        ("fullyLabeledReplicas", status.fully_labeled_replicas),
        ("readyReplicas", status.ready_replicas),
        ("availableReplicas", status.available_replicas),
    ];
    let counts = Counts {
        fields: &[
            ("replicas", replicas),
            ("fullyLabeledReplicas", status.fully_labeled_replicas),
            ("readyReplicas", status.ready_replicas),
            ("availableReplicas", status.available_replicas),
            ("terminatingReplicas", status.terminating_replicas),
        ],
        parts: &parts,
        replicas,
        ready: status.ready_replicas,
        available: status.available_replicas,
        generation: status.observed_generation,
        generation_at: 4,
        ready_name: "readyReplicas",
    };
    validate_counts(&counts, &Path::new("status"))
}

/// A replication controller's changed status.
pub fn validate_replication_controller_status_update(new: &ReplicationController) -> Vec<Error> {
    let status = new.status.clone().unwrap_or_default();
    let replicas = Some(status.replicas);
    let parts = [
        ("fullyLabeledReplicas", status.fully_labeled_replicas),
        ("readyReplicas", status.ready_replicas),
        ("availableReplicas", status.available_replicas),
    ];
    let counts = Counts {
        fields: &[
            ("replicas", replicas),
            ("fullyLabeledReplicas", status.fully_labeled_replicas),
            ("readyReplicas", status.ready_replicas),
            ("availableReplicas", status.available_replicas),
        ],
        parts: &parts,
        replicas,
        ready: status.ready_replicas,
        available: status.available_replicas,
        generation: status.observed_generation,
        generation_at: 4,
        ready_name: "readyReplicas",
    };
    validate_counts(&counts, &Path::new("status"))
}

/// A stateful set's changed status.
pub fn validate_stateful_set_status_update(new: &StatefulSet, old: &StatefulSet) -> Vec<Error> {
    let path = Path::new("status");
    let status = new.status.clone().unwrap_or_default();
    let replicas = Some(status.replicas);
    let parts = [
        ("readyReplicas", status.ready_replicas),
        ("currentReplicas", status.current_replicas),
        ("updatedReplicas", status.updated_replicas),
        ("availableReplicas", status.available_replicas),
    ];
    let counts = Counts {
        fields: &[
            ("replicas", replicas),
            ("readyReplicas", status.ready_replicas),
            ("currentReplicas", status.current_replicas),
            ("updatedReplicas", status.updated_replicas),
            ("availableReplicas", status.available_replicas),
            ("collisionCount", status.collision_count),
        ],
        parts: &parts,
        replicas,
        ready: status.ready_replicas,
        available: status.available_replicas,
        generation: status.observed_generation,
        generation_at: 5,
        ready_name: "status.readyReplicas",
    };
    let mut errors = validate_counts(&counts, &path);
    errors.extend(validate_kube_finalizers(&new.metadata, &Path::new("metadata")));
    let before = old.status.as_ref().and_then(|s| s.collision_count);
    errors.extend(validate_collisions(status.collision_count, before, &path));
    errors
}

/// A daemon set's changed status.
pub fn validate_daemon_set_status_update(new: &DaemonSet, old: &DaemonSet) -> Vec<Error> {
    let path = Path::new("status");
    let status = new.status.clone().unwrap_or_default();
    let counts = Counts {
        fields: &[
            ("currentNumberScheduled", Some(status.current_number_scheduled)),
            ("numberMisscheduled", Some(status.number_misscheduled)),
            ("desiredNumberScheduled", Some(status.desired_number_scheduled)),
            ("numberReady", Some(status.number_ready)),
            ("updatedNumberScheduled", status.updated_number_scheduled),
            ("numberAvailable", status.number_available),
            ("numberUnavailable", status.number_unavailable),
            ("collisionCount", status.collision_count),
        ],
        parts: &[],
        replicas: None,
        ready: None,
        available: None,
        generation: status.observed_generation,
        generation_at: 4,
        ready_name: "",
    };
    let mut errors = validate_counts(&counts, &path);
    let before = old.status.as_ref().and_then(|s| s.collision_count);
    errors.extend(validate_collisions(status.collision_count, before, &path));
    errors
}

/// A new replica set.
pub fn validate_replica_set(set: &ReplicaSet, selected: bool) -> Vec<Error> {
    let mut errors = metadata(&set.metadata);
    let selector = given(&set.spec.selector, selected);
    errors.extend(validate_replica_set_spec(&set.spec, None, selector, &Path::new("spec")));
    errors
}

fn validate_replica_set_spec(
    spec: &ReplicaSetSpec,
    old: Option<&ReplicaSetSpec>,
    selector: Option<&LabelSelector>,
    path: &Path,
) -> Vec<Error> {
    let mut errors: Vec<Error> = count(spec.replicas, &path.child("replicas")).into_iter().collect();
    errors.extend(count(spec.min_ready_seconds, &path.child("minReadySeconds")));
    errors.extend(validate_selector(selector, "deployment", &path.child("selector")));
    let default = PodTemplateSpec::default();
    let template = spec.template.as_ref().unwrap_or(&default);
    let at = path.child("template");
    let before = old.and_then(|o| o.template.as_ref());
    match unreadable(selector, "invalid label selector", &path.child("selector")) {
        Some(error) => errors.push(error),
        None => {
            errors.extend(validate_workload_template(template, before, selector, "ReplicaSet", &at));
        }
    }
    errors
}

/// A changed replica set.
pub fn validate_replica_set_update(new: &ReplicaSet, old: &ReplicaSet, selected: Selected) -> Vec<Error> {
    let path = Path::new("spec");
    let (new, old) = (&new.spec, &old.spec);
    let mut errors = Vec::new();
    let (selector, before) = selected.of(&new.selector, &old.selector);
    errors.extend(validate_replica_set_spec(new, Some(old), selector, &path));
    errors.extend(immutable_pointer(&selector, &before, &path.child("selector")));
    errors
}

/// A new stateful set.
pub fn validate_stateful_set(set: &StatefulSet, selected: bool) -> Vec<Error> {
    let mut errors = validate_kube_object_meta(&set.metadata, true, name_is_label, &Path::new("metadata"));
    let judged = Judged { template: true, immutable: true, old: None };
    let selector = given(&set.spec.selector, selected);
    errors.extend(validate_stateful_set_spec(&set.spec, selector, &judged, &Path::new("spec")));
    errors
}

/// What of a stateful set is judged.
struct Judged<'a> {
    /// The template: left alone where the stored set has faults, which then cannot be mended in every respect.
    template: bool,
    /// What never changes, of new sets only.
    immutable: bool,
    /// The stored template.
    old: Option<&'a PodTemplateSpec>,
}

fn validate_stateful_set_spec(
    spec: &StatefulSetSpec,
    selector: Option<&LabelSelector>,
    judged: &Judged<'_>,
    path: &Path,
) -> Vec<Error> {
    let mut errors = Vec::new();
    let at = path.child("podManagementPolicy");
    match text(&spec.pod_management_policy) {
        "" => errors.push(Error::required(&at, "")),
        "OrderedReady" | "Parallel" => {}
        other => errors.push(Error::invalid(&at, other, "must be 'OrderedReady' or 'Parallel'")),
    }
    errors.extend(validate_update_strategy(spec, &path.child("updateStrategy")));
    if let Some(policy) = &spec.persistent_volume_claim_retention_policy {
        let at = path.child("persistentVolumeClaimRetentionPolicy");
        for (field, value) in [("whenDeleted", &policy.when_deleted), ("whenScaled", &policy.when_scaled)] {
            errors.extend(supported(text(value), &["Retain", "Delete"], &at.child(field)));
        }
    }
    let claims = path.child("volumeClaimTemplates");
    for (i, claim) in items(&spec.volume_claim_templates).iter().enumerate().filter(|_| judged.immutable) {
        let spec = claim.spec.clone().unwrap_or_default();
        errors.extend(validate_claim_spec(&spec, &claims.index(i).child("spec")));
    }
    errors.extend(count(spec.replicas, &path.child("replicas")));
    errors.extend(count(spec.min_ready_seconds, &path.child("minReadySeconds")));
    if let Some(ordinals) = &spec.ordinals {
        errors.extend(count(ordinals.start, &path.child("ordinals.start")));
    }
    let name = text(&spec.service_name);
    if judged.immutable && !name.is_empty() {
        errors.extend(dns_label(name, &path.child("serviceName")));
    }
    errors.extend(validate_selector(selector, "statefulset", &path.child("selector")));
    let at = path.child("template");
    match unreadable(selector, "", &path.child("selector")) {
        Some(error) => errors.push(error),
        None => errors.extend(validate_stateful_template(spec, selector, judged, &at)),
    }
    errors.extend(validate_always(&spec.template, "StatefulSet", &at));
    errors
}

fn validate_stateful_template(
    spec: &StatefulSetSpec,
    selector: Option<&LabelSelector>,
    judged: &Judged<'_>,
    path: &Path,
) -> Vec<Error> {
    let mut errors: Vec<Error> = validate_selected(&spec.template, selector, path).into_iter().collect();
    let completed = with_claim_volumes(spec);
    if judged.template {
        errors.extend(validate_template(&completed, judged.old, path));
    }
    // Upstream looks at labels and annotations once more.
    errors.extend(validate_template_metadata(&completed, judged.old, path));
    errors
}

fn validate_update_strategy(spec: &StatefulSetSpec, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let rolling = spec.update_strategy.as_ref().and_then(|s| s.rolling_update.as_ref());
    let at = path.child("rollingUpdate");
    match spec.update_strategy.as_ref().map_or("", |s| text(&s.type_)) {
        "" => errors.push(Error::required(path, "")),
        "OnDelete" => {
            errors.extend(rolling.map(|r| {
                Error::invalid(&at, Bad::json(r), "only allowed for updateStrategy 'RollingUpdate'")
            }))
        }
        "RollingUpdate" => {
            let Some(rolling) = rolling else { return errors };
            errors.extend(count(rolling.partition, &at.child("partition")));
            if let Some(unavailable) = &rolling.max_unavailable {
                let at = at.child("maxUnavailable");
                errors.extend(int_or_percent(unavailable, &at));
                if int_or_percent_value(unavailable) == 0 {
                    errors.push(Error::invalid(&at, int_or_string_bad(unavailable), "cannot be 0"));
                }
                errors.extend(not_more_than_100_percent(unavailable, &at));
            }
        }
        _ => {
            let bad = Bad::json(&spec.update_strategy);
            errors.push(Error::invalid(path, bad, "must be 'RollingUpdate' or 'OnDelete'"));
        }
    }
    errors
}

/// Claim templates become volumes of their names, so mounts may name them.
fn with_claim_volumes(spec: &StatefulSetSpec) -> PodTemplateSpec {
    use k8s_openapi::api::core::v1::{PersistentVolumeClaimVolumeSource, Volume};
    let mut template = spec.template.clone();
    let Some(pod) = template.spec.as_mut() else { return template };
    // The set itself gives pods their names.
    (pod.hostname, pod.subdomain) = (None, None);
    let claims = spec.volume_claim_templates.as_deref().unwrap_or_default();
    if claims.is_empty() {
        return template;
    }
    let mut volumes: Vec<Volume> = Vec::new();
    for name in claims.iter().map(|claim| claim.metadata.name.clone().unwrap_or_default()) {
        volumes.retain(|v| v.name != name);
        let source = PersistentVolumeClaimVolumeSource { claim_name: name.clone(), ..Default::default() };
        volumes.push(Volume { persistent_volume_claim: Some(source), name, ..Default::default() });
    }
    // The claims' volumes come first, in upstream in any order, and hide volumes of their names.
    let own = pod.volumes.take().unwrap_or_default();
    let hidden = volumes.len();
    for volume in own {
        if !volumes.iter().take(hidden).any(|v| v.name == volume.name) {
            volumes.push(volume);
        }
    }
    pod.volumes = Some(volumes);
    template
}

/// A changed stateful set.
pub fn validate_stateful_set_update(new: &StatefulSet, old: &StatefulSet, selected: Selected) -> Vec<Error> {
    let path = Path::new("spec");
    let (new, old) = (&new.spec, &old.spec);
    let whole = Judged { template: true, immutable: false, old: Some(&old.template) };
    let (selector, before) = selected.of(&new.selector, &old.selector);
    let sound = validate_stateful_set_spec(old, before, &whole, &Path::ROOT).is_empty();
    let judged = Judged { template: sound, ..whole };
    let mut errors = validate_stateful_set_spec(new, selector, &judged, &path);
    errors.extend(immutable_pointer(&selector, &before, &path.child("selector")));
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
pub fn validate_daemon_set(set: &DaemonSet, selected: bool) -> Vec<Error> {
    let mut errors = metadata(&set.metadata);
    let selector = given(&set.spec.selector, selected);
    errors.extend(validate_daemon_set_spec(&set.spec, None, selector, &Path::new("spec")));
    errors
}

fn validate_daemon_set_spec(
    spec: &DaemonSetSpec,
    old: Option<&DaemonSetSpec>,
    selector: Option<&LabelSelector>,
    path: &Path,
) -> Vec<Error> {
    let (template, at) = (&spec.template, path.child("template"));
    let mut errors = validate_label_selector(selector, &path.child("selector"));
    errors.extend(validate_selected(template, selector, &at));
    if selector.is_some_and(is_empty) {
        let detail = "empty selector is invalid for daemonset";
        errors.push(Error::invalid(&path.child("selector"), Bad::json(&selector), detail));
    }
    errors.extend(validate_template(template, old.map(|o| &o.template), &at));
    errors.extend(validate_always(template, "DaemonSet", &at));
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
                    for (value, at) in
                        [(&rolling.max_unavailable, &unavailable), (&rolling.max_surge, &surge)]
                    {
                        errors.extend(value.as_ref().and_then(|v| not_more_than_100_percent(v, at)));
                    }
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
        _ => {
            let valid = ["RollingUpdate", "OnDelete"];
            errors.push(Error::not_supported(&strategy, Bad::json(&spec.update_strategy), &valid));
        }
    }
    errors.extend(count(spec.revision_history_limit, &path.child("revisionHistoryLimit")));
    errors
}

/// A changed daemon set.
pub fn validate_daemon_set_update(new: &DaemonSet, old: &DaemonSet, selected: Selected) -> Vec<Error> {
    let path = Path::new("spec");
    let (new, old) = (&new.spec, &old.spec);
    let mut errors = Vec::new();
    let (selector, before) = selected.of(&new.selector, &old.selector);
    errors.extend(immutable_pointer(&selector, &before, &path.child("selector")));
    errors.extend(validate_daemon_set_spec(new, Some(old), selector, &path));
    errors
}

/// A new replication controller.
pub fn validate_replication_controller(controller: &ReplicationController) -> Vec<Error> {
    let mut errors = validate_long_named(&controller.metadata, true, &Path::new("metadata"));
    errors.extend(validate_replication_controller_spec(controller, None));
    errors
}

fn validate_replication_controller_spec(
    controller: &ReplicationController,
    old: Option<&ReplicationController>,
) -> Vec<Error> {
    let path = Path::new("spec");
    let mut errors = Vec::new();
    let none = ReplicationControllerSpec::default();
    let spec = controller.spec.as_ref().unwrap_or(&none);
    let covered = |value, name: &str| count(value, &path.child(name)).map(Error::covered);
    errors.extend(covered(spec.min_ready_seconds, "minReadySeconds"));
    let selector = spec.selector.clone().unwrap_or_default();
    if selector.is_empty() {
        errors.push(Error::required(&path.child("selector"), ""));
    }
    match spec.replicas {
        None => errors.push(Error::required(&path.child("replicas"), "").covered()),
        Some(_) => errors.extend(covered(spec.replicas, "replicas")),
    }
    let at = path.child("template");
    match &spec.template {
        None => errors.push(Error::required(&at, "")),
        Some(template) => {
            let before = old.and_then(|o| o.spec.as_ref()?.template.as_ref());
            errors.extend(validate_matched(template, &Selector::from_set(&selector), &at));
            errors.extend(validate_template(template, before, &at));
            errors.extend(validate_always(template, "ReplicationController", &at));
        }
    }
    errors
}

/// A changed replication controller.
pub fn validate_replication_controller_update(
    new: &ReplicationController,
    old: &ReplicationController,
) -> Vec<Error> {
    validate_replication_controller_spec(new, Some(old))
}
