//! Deployments, replica sets, stateful sets, daemon sets and replication controllers: generations, and templates
//! checked by `api::validation::apps`. Upstream: `pkg/registry/apps/*/strategy.go`.

use ::api::validation::apps;
use ::api::validation::field::Error as FieldError;
use machinery::Value;

use super::{validated, validated_update};
use crate::meta;
use crate::strategy::{
    Call, Strategy, bump_generation, generic_prepare_for_create, generic_prepare_for_update, keep,
};

fn template_changed(object: &Value, old: &Value) -> bool {
    let template = |v: &Value| v.get_path(&["spec", "template"]).cloned().unwrap_or_default();
    !template(object).semantic_eq(&template(old))
}

/// Deployments.
pub struct Deployments;

impl Strategy for Deployments {
    fn validate(&self, _call: &Call<'_>, object: &Value) -> Vec<FieldError> {
        validated(object, apps::validate_deployment)
    }

    fn prepare_for_update(&self, call: &Call<'_>, object: &mut Value, old: &Value) {
        generic_prepare_for_update(call, object, old);
        let field = |v: &Value, f: &str| v.get_path(&["metadata", f]).cloned().unwrap_or_default();
        if call.is_status() {
            // The controller reports status; labels are the user's.
            meta::set(object, "labels", field(old, "labels"));
        } else if !field(object, "annotations").semantic_eq(&field(old, "annotations")) {
            bump_generation(object, old);
        }
    }

    fn validate_update(&self, call: &Call<'_>, object: &Value, old: &Value) -> Vec<FieldError> {
        if call.is_status() {
            return validated_update(object, old, apps::validate_deployment_status_update);
        }
        validated_update(object, old, apps::validate_deployment_update)
    }
}

/// Replica sets.
pub struct ReplicaSets;

impl Strategy for ReplicaSets {
    fn validate(&self, _call: &Call<'_>, object: &Value) -> Vec<FieldError> {
        validated(object, apps::validate_replica_set)
    }

    fn validate_update(&self, call: &Call<'_>, object: &Value, old: &Value) -> Vec<FieldError> {
        if call.is_status() {
            return Vec::new();
        }
        validated_update(object, old, apps::validate_replica_set_update)
    }
}

/// Stateful sets.
pub struct StatefulSets;

impl Strategy for StatefulSets {
    fn validate(&self, _call: &Call<'_>, object: &Value) -> Vec<FieldError> {
        validated(object, apps::validate_stateful_set)
    }

    fn validate_update(&self, call: &Call<'_>, object: &Value, old: &Value) -> Vec<FieldError> {
        if call.is_status() {
            return Vec::new();
        }
        validated_update(object, old, apps::validate_stateful_set_update)
    }
}

/// Daemon sets: the deprecated template generation follows the template.
pub struct DaemonSets;

impl Strategy for DaemonSets {
    fn prepare_for_create(&self, call: &Call<'_>, object: &mut Value) {
        generic_prepare_for_create(call, object);
    }

    fn validate(&self, _call: &Call<'_>, object: &Value) -> Vec<FieldError> {
        validated(object, apps::validate_daemon_set)
    }

    fn prepare_for_update(&self, call: &Call<'_>, object: &mut Value, old: &Value) {
        if !call.is_status() {
            let annotation = meta::annotation(old, TEMPLATE_GENERATION).map(str::to_owned);
            set_template_generation(object, annotation, template_changed(object, old));
        }
        generic_prepare_for_update(call, object, old);
    }

    fn validate_update(&self, call: &Call<'_>, object: &Value, old: &Value) -> Vec<FieldError> {
        if call.is_status() {
            return Vec::new();
        }
        validated_update(object, old, apps::validate_daemon_set_update)
    }

    fn canonicalize(&self, object: &mut Value) {
        if meta::annotation(object, TEMPLATE_GENERATION).is_none() {
            set_template_generation(object, Some("1".into()), false);
        }
    }
}

/// apps/v1 carries the internal field `spec.templateGeneration` in this annotation (`pkg/apis/apps/v1/conversion.go`).
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

fn set_template_generation(object: &mut Value, old: Option<String>, bump: bool) {
    let old = old.and_then(|g| g.parse::<i64>().ok()).unwrap_or(1);
    let next = if bump { old.saturating_add(1) } else { old };
    let mut annotations = object.map_at(&["metadata", "annotations"]).cloned().unwrap_or_default();
    annotations.insert(TEMPLATE_GENERATION, next.to_string());
    meta::set(object, "annotations", annotations);
}

/// Replication controllers.
pub struct ReplicationControllers;

impl Strategy for ReplicationControllers {
    fn validate(&self, _call: &Call<'_>, object: &Value) -> Vec<FieldError> {
        validated(object, apps::validate_replication_controller)
    }

    fn validate_update(&self, call: &Call<'_>, object: &Value, old: &Value) -> Vec<FieldError> {
        if call.is_status() {
            return Vec::new();
        }
        validated_update(object, old, apps::validate_replication_controller_update)
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

    fn validate_update(&self, _call: &Call<'_>, object: &Value, old: &Value) -> Vec<FieldError> {
        let same =
            object.get("data").unwrap_or(&Value::Null).semantic_eq(old.get("data").unwrap_or(&Value::Null));
        if same {
            return Vec::new();
        }
        let path = ::api::validation::field::Path::new("data");
        let bad = ::api::validation::field::Bad::Raw(
            object.get("data").map(ToString::to_string).unwrap_or_default(),
        );
        vec![FieldError::invalid(&path, bad, "field is immutable")]
    }
}
