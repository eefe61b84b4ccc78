//! Rules that taint devices: the time of a taint follows its effect.
//! Upstream: `pkg/registry/resource/devicetaintrule/strategy.go`.

use ::api::validation::field::{Error as FieldError, Path};
use ::api::validation::objectmeta::{name_is_subdomain, validate_conditions, validate_object_meta_update};
use ::api::validation::resource::taint_rule;
use k8s_openapi::api::resource::v1::DeviceTaintRuleStatus;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use machinery::Value;
use serde::Deserialize;

use super::{validated_update, with_declared};
use crate::meta;
use crate::strategy::{
    Call, Strategy, generic_prepare_for_update, reset_metadata_for_status, validate_kube_metadata,
};

/// What is judged of a rule of any version.
#[derive(Deserialize)]
struct Rule {
    #[serde(default)]
    metadata: ObjectMeta,
    status: Option<DeviceTaintRuleStatus>,
}

/// The strategy.
pub struct DeviceTaintRules;

const EFFECT: [&str; 3] = ["spec", "taint", "effect"];
const ADDED: [&str; 3] = ["spec", "taint", "timeAdded"];

impl Strategy for DeviceTaintRules {
    fn validate(&self, call: &Call<'_>, rule: &Value) -> Vec<FieldError> {
        let mut errors = validate_kube_metadata(call, rule, name_is_subdomain);
        errors.extend(taint_rule::validate_spec(rule, None));
        with_declared(call, errors, rule, None)
    }

    fn prepare_for_update(&self, call: &Call<'_>, rule: &mut Value, old: &Value) {
        if call.is_status() {
            reset_metadata_for_status(rule, old);
        } else {
            let same = |path: &[&str]| {
                let at = |v: &Value| v.get_path(path).cloned().unwrap_or_default();
                at(rule).semantic_eq(&at(old))
            };
            if !same(&EFFECT) && same(&ADDED) {
                // The specification was read as an object.
                let _ = rule.set_path(&ADDED, meta::rfc3339(call.now));
            }
        }
        generic_prepare_for_update(call, rule, old);
    }

    fn validate_update(&self, call: &Call<'_>, rule: &Value, old: &Value) -> Vec<FieldError> {
        let status = call.is_status();
        let mut errors = validated_update(rule, old, |new: &Rule, old: &Rule| {
            let metadata = Path::new("metadata");
            let mut errors = validate_object_meta_update(&new.metadata, &old.metadata, &metadata);
            if status {
                errors.extend(validate_status(new));
            }
            errors
        });
        if !status {
            errors.extend(taint_rule::validate_spec(rule, Some(old)));
        }
        with_declared(call, errors, rule, Some(old))
    }
}

fn validate_status(rule: &Rule) -> Vec<FieldError> {
    let status = rule.status.as_ref();
    let conditions = status.and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    let (path, most) = (Path::new("status.conditions"), taint_rule::CONDITIONS_MAX);
    let mut errors = validate_conditions(conditions, &path);
    if conditions.len() > most {
        errors.push(FieldError::too_many(&path, conditions.len(), most));
    }
    errors
}
