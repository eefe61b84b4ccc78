//! Namespaces: born with a finalizer of their own, deleted in two phases.
//! Upstream: `pkg/registry/core/namespace/{strategy.go,storage/storage.go}`.

use ::api::validation::core::namespace as validation;
use ::api::validation::field::Error as FieldError;
use ::api::validation::objectmeta::{self, NameRule};
use machinery::{List, Map, Value};

use super::{validated, validated_update};
use crate::api::DeleteOptions;
use crate::meta;
use crate::strategy::{Call, DeleteStep, Strategy, keep, keep_all_but_status};

const KUBERNETES: &str = "kubernetes";
/// Label with the namespace's own name.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// The strategy.
pub struct Namespaces;

impl Strategy for Namespaces {
    fn judges_finalizers(&self, call: &Call<'_>) -> bool {
        !call.subresource.is_empty()
    }

    fn name_rule(&self) -> NameRule {
        objectmeta::name_is_label
    }

    fn prepare_for_create(&self, _call: &Call<'_>, namespace: &mut Value) {
        let mut status = Map::new();
        status.insert("phase", "Active");
        if let Value::Map(map) = namespace {
            map.insert("status", status);
        }
        let mut finalizers: List = namespace.list_at(&["spec", "finalizers"]).cloned().unwrap_or_default();
        if !finalizers.iter().any(|f| f.as_str() == Some(KUBERNETES)) {
            finalizers.push(KUBERNETES.into());
            // Decoding made spec an object or left it out.
            let _ = namespace.set_path(&["spec", "finalizers"], finalizers);
        }
    }

    fn prepare_for_update(&self, call: &Call<'_>, namespace: &mut Value, old: &Value) {
        match call.subresource {
            "status" => keep_all_but_status(namespace, old),
            "finalize" => keep(namespace, old, "status"),
            _ => {
                keep(namespace, old, "spec");
                keep(namespace, old, "status");
            }
        }
    }

    fn validate(&self, _call: &Call<'_>, namespace: &Value) -> Vec<FieldError> {
        validated(namespace, validation::validate)
    }

    fn validate_update(&self, call: &Call<'_>, namespace: &Value, old: &Value) -> Vec<FieldError> {
        let check = match call.subresource {
            "status" => validation::validate_status_update,
            "finalize" => validation::validate_finalize_update,
            _ => validation::validate_update,
        };
        validated_update(namespace, old, check)
    }

    fn canonicalize(&self, namespace: &mut Value) {
        let mut labels: Map = meta::labels(namespace).cloned().unwrap_or_default();
        labels.insert(NAME_LABEL, meta::name(namespace));
        meta::set(namespace, "labels", labels);
    }

    fn decide_delete(&self, call: &Call<'_>, old: &Value, options: &DeleteOptions) -> Option<DeleteStep> {
        if meta::deletion_timestamp(old).is_empty() {
            return Some(DeleteStep::Mark { object: terminating(call, old, options), then_delete: false });
        }
        let held = old.list_at(&["spec", "finalizers"]).is_some_and(|f| !f.is_empty());
        held.then_some(DeleteStep::Pending)
    }

    fn should_delete_during_update(&self, namespace: &Value, _old: &Value) -> bool {
        namespace.list_at(&["spec", "finalizers"]).is_none_or(|f| f.is_empty())
    }
}

/// The first phase: a timestamp, the phase, and the finalizers the options ask for.
fn terminating(call: &Call<'_>, old: &Value, options: &DeleteOptions) -> Value {
    let mut namespace = old.clone();
    meta::set(&mut namespace, "deletionTimestamp", meta::rfc3339(call.now));
    // A stored namespace has a status.
    let _ = namespace.set_path(&["status", "phase"], "Terminating");
    let wanted = |finalizer: &str, policy: &str, by_flag: Option<bool>| {
        if let Some(flag) = by_flag {
            return flag;
        }
        match options.propagation_policy.as_deref() {
            Some(asked) => asked == policy,
            None => meta::finalizers(old).contains(&finalizer),
        }
    };
    let orphan = wanted("orphan", "Orphan", options.orphan_dependents);
    let foreground = wanted("foregroundDeletion", "Foreground", options.orphan_dependents.map(|_| false));
    let mut finalizers: Vec<String> = meta::finalizers(old)
        .into_iter()
        .filter(|f| *f != "orphan" && *f != "foregroundDeletion")
        .map(str::to_owned)
        .collect();
    finalizers.extend(orphan.then(|| "orphan".to_owned()));
    finalizers.extend(foreground.then(|| "foregroundDeletion".to_owned()));
    meta::set_finalizers(&mut namespace, finalizers);
    namespace
}
