//! Custom resource definitions. Upstream: `pkg/registry/customresourcedefinition/{strategy,etcd}.go`.

use ::api::validation::field::{Error as FieldError, Path};
use ::api::validation::objectmeta;
use apiextensions::conditions::{self, Condition};
use apiextensions::definition::CLEANUP_FINALIZER;
use apiextensions::{schema, validation};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use machinery::Value;

use super::{validated, validated_update};
use crate::api::DeleteOptions;
use crate::meta;
use crate::strategy::{
    Call, DeleteStep, Strategy, bump_generation, desired_state_changed, keep, keep_all_but_status, typed,
};

/// The strategy.
pub struct CustomResourceDefinitions;

impl Strategy for CustomResourceDefinitions {
    fn prepare_for_create(&self, _call: &Call<'_>, object: &mut Value) {
        object.remove_path(&["status"]);
        drop_empty_webhook(object);
        meta::set(object, "generation", 1_i64);
        store_version(object);
        complete_status(object);
    }

    fn validate(&self, _call: &Call<'_>, object: &Value) -> Vec<FieldError> {
        validated(object, |new: &CustomResourceDefinition| {
            let rule = |name: &str, prefix: bool| validation::name_refusals(new, name, prefix);
            let mut errors =
                objectmeta::validate_new_meta_once(&new.metadata, false, rule, &Path::new("metadata"));
            errors.extend(validation::validate_new(new));
            errors
        })
    }

    fn warnings_on_create(&self, _call: &Call<'_>, object: &Value) -> Vec<String> {
        warnings(object)
    }

    fn prepare_for_update(&self, call: &Call<'_>, object: &mut Value, old: &Value) {
        if call.is_status() {
            keep_all_but_status(object, old);
            complete_status(object);
            return;
        }
        keep(object, old, "status");
        drop_empty_webhook(object);
        let mut before = old.clone();
        drop_empty_webhook(&mut before);
        if desired_state_changed(call, object, &before) {
            bump_generation(object, old);
        }
        store_version(object);
        complete_status(object);
    }

    /// What is read back notes a storage version, when there is none noted (`SetDefaults_CustomResourceDefinition`).
    fn canonicalize(&self, object: &mut Value) {
        if object.list_at(&["status", "storedVersions"]).is_none_or(|l| l.is_empty()) {
            store_version(object);
        }
    }

    fn validate_update(&self, call: &Call<'_>, object: &Value, old: &Value) -> Vec<FieldError> {
        validated_update(object, old, |new: &CustomResourceDefinition, old| {
            let metadata = Path::new("metadata");
            let mut errors = objectmeta::validate_changed_meta_once(&new.metadata, &old.metadata, &metadata);
            errors.extend(match call.is_status() {
                true => validation::validate_status(new),
                false => validation::validate_update(new, old),
            });
            errors
        })
    }

    fn warnings_on_update(&self, call: &Call<'_>, object: &Value, old: &Value) -> Vec<String> {
        if call.is_status() {
            return Vec::new();
        }
        let present = warnings(old);
        warnings(object).into_iter().filter(|w| !present.contains(w)).collect()
    }

    /// The first delete leaves the definition to the controller that deletes the instances.
    fn decide_delete(&self, call: &Call<'_>, old: &Value, _options: &DeleteOptions) -> Option<DeleteStep> {
        if !meta::deletion_timestamp(old).is_empty() {
            return None;
        }
        let mut object = old.clone();
        let now = meta::rfc3339(call.now);
        meta::set(&mut object, "deletionTimestamp", now.as_str());
        let mut finalizers: Vec<String> = meta::finalizers(old).into_iter().map(str::to_owned).collect();
        if !finalizers.iter().any(|f| f == CLEANUP_FINALIZER) {
            finalizers.push(CLEANUP_FINALIZER.to_owned());
        }
        meta::set_finalizers(&mut object, finalizers);
        let message = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon";
        let condition = Condition::new("Terminating", "True", "InstanceDeletionPending", message);
        conditions::set(&mut object, &condition, &now);
        Some(DeleteStep::Mark { object, then_delete: false })
    }
}

/// Of a webhook that says nothing upstream's internal form knows nothing (`apis/apiextensions/v1/conversion.go`
/// `Convert_v1_CustomResourceConversion_To_apiextensions_CustomResourceConversion`).
fn drop_empty_webhook(object: &mut Value) {
    const WEBHOOK: &[&str] = &["spec", "conversion", "webhook"];
    let says = |field: &str| {
        let at: Vec<&str> = WEBHOOK.iter().copied().chain([field]).collect();
        object.get_path(&at).is_some_and(|v| !v.is_null())
    };
    if !says("clientConfig") && !says("conversionReviewVersions") {
        object.remove_path(WEBHOOK);
    }
}

/// Notes that instances are, or will be, stored in the storage version.
fn store_version(object: &mut Value) {
    let versions = object.list_at(&["spec", "versions"]).cloned().unwrap_or_default();
    let stored = versions.iter().find(|v| v.bool_at(&["storage"]) == Some(true));
    let Some(name) = stored.and_then(|v| v.str_at(&["name"])) else { return };
    let mut all: Vec<Value> =
        object.list_at(&["status", "storedVersions"]).cloned().unwrap_or_default().into_vec();
    if !all.iter().any(|v| v.as_str() == Some(name)) {
        all.push(name.into());
        // A status that is no object does not pass decoding.
        let _ = object.set_path(&["status", "storedVersions"], machinery::List::from(all));
    }
}

/// The fields of a status that are always written.
fn complete_status(object: &mut Value) {
    for (path, value) in [
        (&["status", "conditions"][..], Value::Null),
        (&["status", "acceptedNames", "plural"], "".into()),
        (&["status", "acceptedNames", "kind"], "".into()),
        (&["status", "storedVersions"], Value::Null),
    ] {
        if object.get_path(path).is_none() {
            let _ = object.set_path(path, value);
        }
    }
}

fn warnings(object: &Value) -> Vec<String> {
    let Ok(definition) = typed::<CustomResourceDefinition>(object) else { return Vec::new() };
    let internal = apiextensions::definition::Internal::of(&definition.spec);
    let mut formats: Vec<String> = Vec::new();
    let mut sets: Vec<String> = Vec::new();
    for root in internal.schemas() {
        collect(root, &mut |s| {
            formats.extend(schema::unrecognized(s).map(|f| format!("unrecognized format {f:?}")));
            sets.extend(non_scalar_set(s));
        });
    }
    sets.sort();
    sets.dedup();
    formats.extend(sets);
    formats
}

fn collect(root: &JSONSchemaProps, see: &mut dyn FnMut(&JSONSchemaProps)) {
    let see = std::cell::RefCell::new(see);
    validation::schema_has(root, &|s| {
        (*see.borrow_mut())(s);
        false
    });
}

fn non_scalar_set(s: &JSONSchemaProps) -> Option<String> {
    let Some(JSONSchemaPropsOrArray::Schema(item)) = &s.items else { return None };
    let kind = item.type_.as_deref().filter(|k| matches!(*k, "object" | "array"))?;
    (s.x_kubernetes_list_type.as_deref() == Some("set")).then(|| {
        format!("x-kubernetes-list-type: set for items of type {kind:?} is not supported by server-side apply or CEL validation rules")
    })
}
