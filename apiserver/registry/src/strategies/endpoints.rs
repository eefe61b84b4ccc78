//! Endpoint slices: generation follows everything but metadata, plus labels. Priority classes: no generation bump.
//! Upstream: `pkg/registry/discovery/endpointslice/strategy.go`, `pkg/registry/scheduling/priorityclass/strategy.go`.

use ::api::validation::field::{Error as FieldError, Path};
use machinery::Value;

use crate::strategy::{Call, Strategy, bump_generation, desired_state_changed, validate_kube_metadata};

/// Endpoint slices.
pub struct EndpointSlices;

impl Strategy for EndpointSlices {
    fn validate(&self, call: &Call<'_>, slice: &Value) -> Vec<FieldError> {
        let mut errors = validate_kube_metadata(call, slice, self.name_rule());
        let at = Path::new("addressType");
        match slice.str_at(&["addressType"]).unwrap_or("") {
            "" => errors.push(FieldError::required(&at, "")),
            "IPv4" | "IPv6" | "FQDN" => {}
            other => errors.push(FieldError::not_supported(&at, other, &["FQDN", "IPv4", "IPv6"])),
        }
        let endpoints = slice.list_at(&["endpoints"]).map_or(0, |l| l.len());
        if endpoints > 1000 {
            errors.push(FieldError::too_many(&Path::new("endpoints"), endpoints, 1000));
        }
        errors
    }

    fn prepare_for_update(&self, _call: &Call<'_>, slice: &mut Value, old: &Value) {
        let labels = |v: &Value| v.get_path(&["metadata", "labels"]).cloned().unwrap_or_default();
        if desired_state_changed(slice, old) || !labels(slice).semantic_eq(&labels(old)) {
            bump_generation(slice, old);
        }
    }

    fn validate_update(&self, _call: &Call<'_>, slice: &Value, old: &Value) -> Vec<FieldError> {
        let kind = |v: &Value| v.str_at(&["addressType"]).unwrap_or("").to_owned();
        if kind(slice) == kind(old) {
            return Vec::new();
        }
        vec![FieldError::invalid(&Path::new("addressType"), kind(slice), "field is immutable")]
    }
}

/// Priority classes: name, value and preemption policy are fixed; reserved names only for the system's own values.
pub struct PriorityClasses;

impl Strategy for PriorityClasses {
    fn validate(&self, call: &Call<'_>, class: &Value) -> Vec<FieldError> {
        let mut errors = validate_kube_metadata(call, class, self.name_rule());
        let name = crate::meta::name(class);
        let value = class.i64_at(&["value"]).unwrap_or(0);
        let metadata = Path::new("metadata");
        if name.starts_with("system-") {
            let known = [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];
            if !known.contains(&(name, value)) {
                errors.push(FieldError::forbidden(
                    &metadata.child("name"),
                    "priority class names with 'system-' prefix are reserved for system use only. error: "
                        .to_owned()
                        + &system_mismatch(name, value),
                ));
            }
        } else if value > 1_000_000_000 {
            errors.push(FieldError::forbidden(
                &Path::new("value"),
                "maximum allowed value of a user defined priority is 1000000000",
            ));
        }
        let policies = ["PreemptLowerPriority", "Never"];
        if let Some(policy) = class.str_at(&["preemptionPolicy"]).filter(|p| !policies.contains(p)) {
            let at = Path::new("preemptionPolicy");
            errors.push(match policy {
                "" => FieldError::required(&at, ""),
                _ => FieldError::not_supported(&at, policy, &policies),
            });
        }
        errors
    }

    fn prepare_for_update(&self, _call: &Call<'_>, _class: &mut Value, _old: &Value) {}

    fn validate_update(&self, _call: &Call<'_>, class: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        if class.i64_at(&["value"]).unwrap_or(0) != old.i64_at(&["value"]).unwrap_or(0) {
            errors.push(FieldError::forbidden(&Path::new("value"), "may not be changed in an update."));
        }
        let policy = |v: &Value| v.str_at(&["preemptionPolicy"]).unwrap_or("").to_owned();
        if policy(class) != policy(old) {
            let detail = "field is immutable";
            errors.push(FieldError::invalid(&Path::new("preemptionPolicy"), policy(class), detail));
        }
        errors
    }
}

fn system_mismatch(name: &str, value: i64) -> String {
    match name {
        "system-node-critical" | "system-cluster-critical" => {
            let right: i64 = if name == "system-node-critical" { 2_000_001_000 } else { 2_000_000_000 };
            format!("value of {name} PriorityClass must be {right}, found {value}")
        }
        _ => format!("{name} is not a known system priority class"),
    }
}
