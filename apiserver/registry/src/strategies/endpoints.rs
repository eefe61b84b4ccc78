//! Endpoint slices: generation follows everything but metadata, plus labels. Priority classes: no generation bump.
//! Upstream: `pkg/registry/discovery/endpointslice/strategy.go`, `pkg/registry/scheduling/priorityclass/strategy.go`.

use ::api::validation::discovery;
use ::api::validation::field::{Error as FieldError, Path};
use ::api::warnings;
use machinery::Value;

use super::{validated, validated_update, warned, with_declared};
use crate::strategy::{
    Call, Strategy, bump_generation, desired_state_changed, generic_prepare_for_create,
    validate_kube_metadata,
};

/// Endpoint slices.
pub struct EndpointSlices;

const HOST: &str = "kubernetes.io/hostname";

/// Topology is read-only in v1; a node that it named becomes the endpoint's node (`dropTopologyOnV1`).
fn drop_topology(slice: &mut Value, old: Option<&Value>) {
    let endpoints = |v: &Value| v.get("endpoints").cloned().unwrap_or_default();
    if old.is_some_and(|o| endpoints(o).semantic_eq(&endpoints(slice))) {
        return;
    }
    let topology_host =
        |e: &Value| e.str_at(&["deprecatedTopology", HOST]).filter(|h| !h.is_empty()).map(str::to_owned);
    let before = old.and_then(|o| o.list_at(&["endpoints"])).into_iter().flat_map(|l| l.iter());
    let known: Vec<String> = before.filter_map(topology_host).collect();
    let Some(Value::List(list)) = slice.get_mut("endpoints") else { return };
    for endpoint in list.iter_mut() {
        let host = topology_host(endpoint).filter(|h| known.contains(h));
        let Value::Map(map) = endpoint else { continue };
        if let Some(host) = host.filter(|h| ::api::validation::content::dns_subdomain(h).is_empty())
            && map.get("nodeName").is_none_or(Value::is_null)
        {
            map.insert("nodeName", host);
        }
        map.remove("deprecatedTopology");
    }
}

impl Strategy for EndpointSlices {
    fn judges_finalizers(&self, _call: &Call<'_>) -> bool {
        false
    }

    fn warnings_on_create(&self, _call: &Call<'_>, slice: &Value) -> Vec<String> {
        warned(slice, |slice| warnings::networking::endpoint_slice(slice, true))
    }

    fn warnings_on_update(&self, _call: &Call<'_>, slice: &Value, _old: &Value) -> Vec<String> {
        warned(slice, |slice| warnings::networking::endpoint_slice(slice, false))
    }

    fn prepare_for_create(&self, call: &Call<'_>, slice: &mut Value) {
        generic_prepare_for_create(call, slice);
        drop_topology(slice, None);
    }

    fn validate(&self, call: &Call<'_>, slice: &Value) -> Vec<FieldError> {
        let errors = validated(slice, discovery::validate);
        with_declared(call, errors, slice, None)
    }

    fn prepare_for_update(&self, call: &Call<'_>, slice: &mut Value, old: &Value) {
        let labels = |v: &Value| v.get_path(&["metadata", "labels"]).cloned().unwrap_or_default();
        if desired_state_changed(call, slice, old) || !labels(slice).semantic_eq(&labels(old)) {
            bump_generation(slice, old);
        }
        drop_topology(slice, Some(old));
    }

    fn validate_update(&self, call: &Call<'_>, slice: &Value, old: &Value) -> Vec<FieldError> {
        let errors = validated_update(slice, old, discovery::validate_update);
        with_declared(call, errors, slice, Some(old))
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
            let default = class.bool_at(&["globalDefault"]).unwrap_or(false);
            if let Some(why) = system_mismatch(name, value, default) {
                let text =
                    "priority class names with 'system-' prefix are reserved for system use only. error: ";
                errors.push(FieldError::forbidden(&metadata.child("name"), format!("{text}{why}")));
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

/// `IsKnownSystemPriorityClass`.
fn system_mismatch(name: &str, value: i64, global_default: bool) -> Option<String> {
    let right = match name {
        "system-node-critical" => 2_000_001_000,
        "system-cluster-critical" => 2_000_000_000,
        _ => return Some(format!("{name} is not a known system priority class")),
    };
    if value != right {
        return Some(format!("value of {name} PriorityClass must be {right}"));
    }
    global_default.then(|| format!("globalDefault of {name} PriorityClass must be false"))
}
