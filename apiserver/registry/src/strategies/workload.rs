//! Deployments, replica sets, stateful sets, daemon sets and replication controllers: generations, and templates
//! checked by `api::validation::apps`. Upstream: `pkg/registry/apps/*/strategy.go`.

use ::api::validation::apps;
use ::api::validation::field::{Bad, Error as FieldError, Path};
use ::api::validation::objectmeta;
use ::api::warnings;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use machinery::{Map, Value};

use super::{gated, validated, validated_update, warned, with_pod_rules};
use crate::meta;
use crate::strategy::{
    Call, Strategy, bump_generation, generic_prepare_for_create, generic_prepare_for_update, keep, same_at,
    validate_kube_metadata,
};

fn template_changed(object: &Value, old: &Value) -> bool {
    !same_at(object, old, TEMPLATE, "core/v1.PodTemplateSpec")
}

const TEMPLATE: &[&str] = &["spec", "template"];

fn prepare_for_create(call: &Call<'_>, object: &mut Value) {
    generic_prepare_for_create(call, object);
    gated::drop_from_pod(call, object, None, TEMPLATE);
}

fn prepare_for_update(call: &Call<'_>, object: &mut Value, old: &Value) {
    if !call.is_status() {
        gated::drop_from_pod(call, object, Some(old), TEMPLATE);
    }
    generic_prepare_for_update(call, object, old);
}

/// The names of pods are made of the workload's.
fn name_warning(object: &Value) -> Option<String> {
    warnings::name_in_hostnames(meta::name(object), "Pod names and hostnames")
}

fn template_warnings(object: &Value) -> Vec<String> {
    let path = Path::new("spec.template");
    let Some(template) = object.get_path(TEMPLATE) else { return Vec::new() };
    warned(template, |template: &PodTemplateSpec| warnings::pod::template(template, &path))
}

fn same_generation(object: &Value, old: &Value) -> bool {
    meta::generation(object) == meta::generation(old)
}

/// About what is changed, when it is.
fn changed_template_warnings(call: &Call<'_>, object: &Value, old: &Value) -> Vec<String> {
    if call.is_status() || same_generation(object, old) { Vec::new() } else { template_warnings(object) }
}

/// Whether there is a selector, which typed objects do not tell.
fn selected(object: &Value) -> bool {
    object.get_path(&["spec", "selector"]).is_some_and(|s| !s.is_null())
}

fn selection(object: &Value, old: &Value) -> apps::Selected {
    apps::Selected { now: selected(object), before: selected(old) }
}

/// Deployments.
pub struct Deployments;

impl Strategy for Deployments {
    fn warnings_on_create(&self, _call: &Call<'_>, object: &Value) -> Vec<String> {
        name_warning(object).into_iter().chain(template_warnings(object)).collect()
    }

    fn warnings_on_update(&self, call: &Call<'_>, object: &Value, old: &Value) -> Vec<String> {
        changed_template_warnings(call, object, old)
    }

    fn prepare_for_create(&self, call: &Call<'_>, object: &mut Value) {
        prepare_for_create(call, object);
    }

    fn validate(&self, call: &Call<'_>, object: &Value) -> Vec<FieldError> {
        let errors = validated(object, |typed| apps::validate_deployment(typed, selected(object)));
        with_pod_rules(call, errors, object, None, TEMPLATE)
    }

    fn prepare_for_update(&self, call: &Call<'_>, object: &mut Value, old: &Value) {
        prepare_for_update(call, object, old);
        let field = |v: &Value, f: &str| v.get_path(&["metadata", f]).cloned().unwrap_or_default();
        if call.is_status() {
            // The controller reports status; labels are the user's.
            meta::set(object, "labels", field(old, "labels"));
        } else if !field(object, "annotations").semantic_eq(&field(old, "annotations")) {
            bump_generation(object, old);
        }
    }

    fn validate_update(&self, call: &Call<'_>, object: &Value, old: &Value) -> Vec<FieldError> {
        let errors = match call.is_status() {
            true => validated_update(object, old, apps::validate_deployment_status_update),
            false => validated_update(object, old, |new, was| {
                apps::validate_deployment_update(new, was, selection(object, old))
            }),
        };
        with_pod_rules(call, errors, object, Some(old), TEMPLATE)
    }
}

/// Replica sets.
pub struct ReplicaSets;

impl Strategy for ReplicaSets {
    fn warnings_on_create(&self, _call: &Call<'_>, object: &Value) -> Vec<String> {
        name_warning(object).into_iter().chain(template_warnings(object)).collect()
    }

    fn warnings_on_update(&self, call: &Call<'_>, object: &Value, old: &Value) -> Vec<String> {
        changed_template_warnings(call, object, old)
    }

    fn prepare_for_create(&self, call: &Call<'_>, object: &mut Value) {
        prepare_for_create(call, object);
    }

    fn prepare_for_update(&self, call: &Call<'_>, object: &mut Value, old: &Value) {
        prepare_for_update(call, object, old);
    }

    fn validate(&self, call: &Call<'_>, object: &Value) -> Vec<FieldError> {
        let errors = validated(object, |typed| apps::validate_replica_set(typed, selected(object)));
        with_pod_rules(call, errors, object, None, TEMPLATE)
    }

    fn validate_update(&self, call: &Call<'_>, object: &Value, old: &Value) -> Vec<FieldError> {
        let errors = match call.is_status() {
            true => validated(object, apps::validate_replica_set_status_update),
            false => validated_update(object, old, |new, was| {
                apps::validate_replica_set_update(new, was, selection(object, old))
            }),
        };
        with_pod_rules(call, errors, object, Some(old), TEMPLATE)
    }
}

/// Stateful sets.
pub struct StatefulSets;

impl Strategy for StatefulSets {
    /// Of a changed status the counts are judged first.
    fn judges_finalizers(&self, call: &Call<'_>) -> bool {
        !call.is_status()
    }

    fn warnings_on_create(&self, _call: &Call<'_>, object: &Value) -> Vec<String> {
        let mut told = template_warnings(object);
        told.extend(warned(object, |set: &StatefulSet| warnings::workload::stateful_set(set, true)));
        told
    }

    fn warnings_on_update(&self, call: &Call<'_>, object: &Value, old: &Value) -> Vec<String> {
        if call.is_status() {
            return Vec::new();
        }
        let mut told = changed_template_warnings(call, object, old);
        told.extend(warned(object, |set: &StatefulSet| warnings::workload::stateful_set(set, false)));
        told
    }

    fn prepare_for_create(&self, call: &Call<'_>, object: &mut Value) {
        prepare_for_create(call, object);
    }

    fn prepare_for_update(&self, call: &Call<'_>, object: &mut Value, old: &Value) {
        prepare_for_update(call, object, old);
    }

    fn validate(&self, call: &Call<'_>, object: &Value) -> Vec<FieldError> {
        let errors = validated(object, |typed| apps::validate_stateful_set(typed, selected(object)));
        with_pod_rules(call, errors, object, None, TEMPLATE)
    }

    fn validate_update(&self, call: &Call<'_>, object: &Value, old: &Value) -> Vec<FieldError> {
        let errors = match call.is_status() {
            true => validated_update(object, old, apps::validate_stateful_set_status_update),
            false => validated_update(object, old, |new, was| {
                apps::validate_stateful_set_update(new, was, selection(object, old))
            }),
        };
        with_pod_rules(call, errors, object, Some(old), TEMPLATE)
    }
}

/// Daemon sets: the deprecated template generation follows the template.
pub struct DaemonSets;

impl Strategy for DaemonSets {
    fn warnings_on_create(&self, _call: &Call<'_>, object: &Value) -> Vec<String> {
        template_warnings(object)
    }

    fn warnings_on_update(&self, call: &Call<'_>, object: &Value, old: &Value) -> Vec<String> {
        let same = template_generation(object) == template_generation(old);
        if call.is_status() || same { Vec::new() } else { template_warnings(object) }
    }

    fn prepare_for_create(&self, call: &Call<'_>, object: &mut Value) {
        complete_rolling_update(object);
        prepare_for_create(call, object);
        set_template_generation(object, template_generation(object).max(1));
    }

    fn validate(&self, call: &Call<'_>, object: &Value) -> Vec<FieldError> {
        let errors = validated(object, |typed| apps::validate_daemon_set(typed, selected(object)));
        with_pod_rules(call, errors, object, None, TEMPLATE)
    }

    fn prepare_for_update(&self, call: &Call<'_>, object: &mut Value, old: &Value) {
        complete_rolling_update(object);
        let mut old = old.clone();
        complete_rolling_update(&mut old);
        prepare_for_update(call, object, &old);
        let bump = i64::from(!call.is_status() && template_changed(object, &old));
        set_template_generation(object, template_generation(&old).saturating_add(bump));
    }

    fn validate_update(&self, call: &Call<'_>, object: &Value, old: &Value) -> Vec<FieldError> {
        let errors = match call.is_status() {
            true => validated_update(object, old, apps::validate_daemon_set_status_update),
            false => validated_update(object, old, |new, was| {
                apps::validate_daemon_set_update(new, was, selection(object, old))
            }),
        };
        with_pod_rules(call, errors, object, Some(old), TEMPLATE)
    }
}

/// Upstream's internal form has both numbers of a rolling update, also where another strategy says what is done, so that
/// they have no defaults (`pkg/apis/apps/types.go` `RollingUpdateDaemonSet`).
fn complete_rolling_update(object: &mut Value) {
    let at = ["spec", "updateStrategy", "rollingUpdate"];
    let lacks = |rolling: &Map, field: &str| rolling.get(field).is_none_or(Value::is_null);
    for field in ["maxUnavailable", "maxSurge"] {
        if object.map_at(&at).is_some_and(|rolling| lacks(rolling, field)) {
            // The parent is there.
            let _ = object.set_path(&[&at[..], &[field]].concat(), 0_i64);
        }
    }
}

/// apps/v1 carries the internal field `spec.templateGeneration` in this annotation (`pkg/apis/apps/v1/conversion.go`).
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

fn template_generation(object: &Value) -> i64 {
    meta::annotation(object, TEMPLATE_GENERATION).and_then(|g| g.parse().ok()).unwrap_or(0)
}

fn set_template_generation(object: &mut Value, generation: i64) {
    let mut annotations = object.map_at(&["metadata", "annotations"]).cloned().unwrap_or_default();
    annotations.insert(TEMPLATE_GENERATION, generation.to_string());
    meta::set(object, "annotations", annotations);
}

/// What is read back has its template's labels when it has none: a status may come without any
/// (`SetDefaults_ReplicationController`, `SetDefaults_Job`).
pub(super) fn default_labels(object: &mut Value) {
    if object.map_at(&["metadata", "labels"]).is_none_or(|l| l.is_empty())
        && let Some(labels) = object.map_at(&["spec", "template", "metadata", "labels"]).cloned()
        && !labels.is_empty()
    {
        meta::set(object, "labels", labels);
    }
}

/// Replication controllers.
pub struct ReplicationControllers;

impl Strategy for ReplicationControllers {
    fn canonicalize(&self, object: &mut Value) {
        default_labels(object);
    }

    fn warnings_on_create(&self, _call: &Call<'_>, object: &Value) -> Vec<String> {
        name_warning(object).into_iter().chain(template_warnings(object)).collect()
    }

    fn warnings_on_update(&self, call: &Call<'_>, object: &Value, old: &Value) -> Vec<String> {
        // Upstream hands over the two templates in the wrong order (replicationcontroller/strategy.go).
        if call.is_status() || same_generation(object, old) { Vec::new() } else { template_warnings(old) }
    }

    fn prepare_for_create(&self, call: &Call<'_>, object: &mut Value) {
        prepare_for_create(call, object);
    }

    fn prepare_for_update(&self, call: &Call<'_>, object: &mut Value, old: &Value) {
        prepare_for_update(call, object, old);
    }

    fn validate(&self, call: &Call<'_>, object: &Value) -> Vec<FieldError> {
        with_pod_rules(call, validated(object, apps::validate_replication_controller), object, None, TEMPLATE)
    }

    fn validate_update(&self, call: &Call<'_>, object: &Value, old: &Value) -> Vec<FieldError> {
        let errors = if call.is_status() {
            validated(object, apps::validate_replication_controller_status_update)
        } else {
            validated_update(object, old, apps::validate_replication_controller_update)
        };
        with_pod_rules(call, errors, object, Some(old), TEMPLATE)
    }
}

/// Controller revisions: data never changes.
pub struct ControllerRevisions;

impl Strategy for ControllerRevisions {
    fn prepare_for_update(&self, _call: &Call<'_>, object: &mut Value, old: &Value) {
        // A client that leaves the data out means to keep it; anything else is for validation.
        if object.get("data").is_none() {
            keep(object, old, "data");
        }
    }

    fn validate(&self, call: &Call<'_>, object: &Value) -> Vec<FieldError> {
        let mut errors = validate_kube_metadata(call, object, self.name_rule());
        errors.extend(validate_revision(object));
        let data = Path::new("data");
        match object.get("data") {
            None | Some(Value::Null) => errors.push(FieldError::required(&data, "data is mandatory")),
            Some(Value::Map(_)) => {}
            Some(Value::Raw(json)) if json.trim_ascii_start().starts_with(b"{") => {}
            Some(Value::Raw(json)) if json.trim_ascii() == b"null" => {
                errors.push(FieldError::required(&data, "data is mandatory"));
            }
            Some(_) => errors.push(FieldError::required(&data, "data must be a valid JSON object")),
        }
        errors
    }

    fn validate_update(&self, call: &Call<'_>, object: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = validate_kube_metadata(call, object, self.name_rule());
        errors.extend(validate_revision(object));
        let data = |v: &Value| v.get("data").cloned().unwrap_or_default();
        if !data(object).semantic_eq(&data(old)) {
            let bad = Bad::Raw(object.get("data").map(ToString::to_string).unwrap_or_default());
            errors.push(FieldError::invalid(&Path::new("data"), bad, "field is immutable"));
        }
        errors
    }
}

fn validate_revision(object: &Value) -> Option<FieldError> {
    objectmeta::validate_nonnegative(object.i64_at(&["revision"]).unwrap_or(0), &Path::new("revision"))
}
