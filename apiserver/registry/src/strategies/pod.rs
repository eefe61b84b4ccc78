//! Pods: status and QoS class on create, immutable spec, grace period. Validation is in `api::validation::core::pod`.
//! Upstream: `pkg/registry/core/pod/strategy.go`.

use ::api::defaults::pod_level;
use ::api::validation::core::pod as validation;
use ::api::validation::core::pod_status::validate_pod_status_update;
use ::api::validation::core::pod_subresources;
use ::api::validation::field::{Error as FieldError, Path};
use ::api::validation::objectmeta::NameRule;
use ::api::warnings;
use k8s_openapi::api::core::v1::{Pod, PodTemplate};
use machinery::{List, Map, Value};

use super::{
    app_armor, gated, keep_if_absent, label_keys, validated, validated_update, warned, with_pod_rules,
};
use crate::api::DeleteOptions;
use crate::conditions;
use crate::meta;
use crate::qos;
use crate::strategy::{
    Call, Strategy, bump_generation, generic_prepare_for_create, generic_prepare_for_update, keep,
    reset_metadata_for_status, same_at, typed,
};

/// Pod templates.
pub struct PodTemplates;

impl Strategy for PodTemplates {
    fn prepare_for_create(&self, call: &Call<'_>, object: &mut Value) {
        generic_prepare_for_create(call, object);
        gated::drop_from_pod(call, object, None, &["template"]);
    }

    fn prepare_for_update(&self, call: &Call<'_>, object: &mut Value, old: &Value) {
        gated::drop_from_pod(call, object, Some(old), &["template"]);
        generic_prepare_for_update(call, object, old);
    }

    fn validate(&self, call: &Call<'_>, object: &Value) -> Vec<FieldError> {
        let errors = validated(object, validation::validate_pod_template);
        with_pod_rules(call, errors, object, None, &["template"])
    }

    fn validate_update(&self, call: &Call<'_>, object: &Value, old: &Value) -> Vec<FieldError> {
        let errors = validated_update(object, old, validation::validate_pod_template_update);
        with_pod_rules(call, errors, object, Some(old), &["template"])
    }

    fn warnings_on_create(&self, _call: &Call<'_>, object: &Value) -> Vec<String> {
        warned(object, template_warnings)
    }

    fn warnings_on_update(&self, _call: &Call<'_>, object: &Value, old: &Value) -> Vec<String> {
        if meta::generation(object) == meta::generation(old) {
            return Vec::new();
        }
        warned(object, template_warnings)
    }
}

fn template_warnings(template: &PodTemplate) -> Vec<String> {
    let template = template.template.as_ref();
    template.map(|t| warnings::pod::template(t, &Path::new("template"))).unwrap_or_default()
}

/// The strategy.
pub struct Pods;

impl Strategy for Pods {
    fn name_rule(&self) -> NameRule {
        ::api::validation::objectmeta::name_is_subdomain
    }

    fn prepare_for_create(&self, call: &Call<'_>, pod: &mut Value) {
        meta::set(pod, "generation", 1_i64);
        let mut status = Map::new();
        status.insert("phase", "Pending");
        if let Value::Map(map) = pod {
            map.insert("status", status);
        }
        gated::drop_from_pod(call, pod, None, &[]);
        if pod.list_at(&["spec", "schedulingGates"]).is_some_and(|g| !g.is_empty()) {
            let message = "Scheduling is blocked due to non-empty scheduling gates";
            conditions::set(
                pod,
                "PodScheduled",
                "False",
                "SchedulingGated",
                message,
                &meta::rfc3339(call.now),
            );
        }
        label_keys::merge(pod);
        app_armor::fields_from_annotations(call, pod);
        if let Some(Value::Map(spec)) = pod.get_mut("spec") {
            pod_level::complete(spec);
        }
        let class = qos::class(pod);
        // Status was set above.
        let _ = pod.set_path(&["status", "qosClass"], class);
    }

    fn validate(&self, call: &Call<'_>, pod: &Value) -> Vec<FieldError> {
        self.judge_new(call, pod).0
    }

    fn judge_new(&self, call: &Call<'_>, pod: &Value) -> (Vec<FieldError>, Vec<String>) {
        let (errors, typed) = match typed::<Pod>(pod) {
            Ok(typed) => (validation::validate_pod(&typed), Some(typed)),
            Err(error) => (vec![error], None),
        };
        let errors = with_pod_rules(call, errors, pod, None, &[]);
        let Some(typed) = typed.filter(|_| errors.is_empty()) else { return (errors, Vec::new()) };
        let name = warnings::name_in_hostnames(meta::name(pod), "the Pod's hostname");
        (errors, name.into_iter().chain(warnings::pod::pod(&typed)).collect())
    }

    fn warnings_on_update(&self, call: &Call<'_>, pod: &Value, _old: &Value) -> Vec<String> {
        // Few people change pods themselves; their addresses are told by the kubelet.
        if call.is_status() { warned(pod, warnings::pod::status) } else { Vec::new() }
    }

    fn prepare_for_update(&self, call: &Call<'_>, pod: &mut Value, old: &Value) {
        match call.subresource {
            "status" => return prepare_status(pod, old),
            "ephemeralcontainers" => only_ephemeral_containers(pod, old),
            "resize" => {
                only_resources(pod, old);
                // Clients may not know the field here either, and what it leaves open is completed as on create.
                keep_if_absent(pod, old, &["spec", "resources"]);
                if let Some(Value::Map(spec)) = pod.get_mut("spec") {
                    pod_level::complete(spec);
                }
                // Where containers do not match, the pod is judged as it was sent.
                gated::drop_from_pod_status(pod, old);
            }
            _ => {
                keep(pod, old, "status");
                // Clients may not know the field (PodLevelResourcesFixDefaulting).
                keep_if_absent(pod, old, &["spec", "resources"]);
            }
        }
        gated::drop_from_pod(call, pod, Some(old), &[]);
        if !same_at(pod, old, &["spec"], "core/v1.PodSpec") {
            bump_generation(pod, old);
        }
    }

    fn validate_update(&self, call: &Call<'_>, pod: &Value, old: &Value) -> Vec<FieldError> {
        // The class is kept in the status once it is known.
        let before = old.str_at(&["status", "qosClass"]).unwrap_or_else(|| qos::class(old));
        let classes = (before, qos::class(pod));
        let errors = validated_update(pod, old, |new, old| match call.subresource {
            "status" => validate_pod_status_update(new, old),
            "ephemeralcontainers" => pod_subresources::validate_ephemeral_containers_update(new, old),
            "resize" => pod_subresources::validate_pod_resize(new, old, classes),
            _ => validation::validate_pod_update(new, old),
        });
        let errors = errors.into_iter().chain(unreferenced_claims(call, pod)).collect();
        with_pod_rules(call, errors, pod, Some(old), &[])
    }

    fn check_graceful_delete(&self, _call: &Call<'_>, pod: &Value, options: &mut DeleteOptions) -> bool {
        let own = pod.i64_at(&["spec", "terminationGracePeriodSeconds"]);
        let mut period = options.grace_period_seconds.or(own).unwrap_or(0);
        let scheduled = pod.str_at(&["spec", "nodeName"]).is_some_and(|n| !n.is_empty());
        let over = matches!(pod.str_at(&["status", "phase"]), Some("Failed" | "Succeeded"));
        if !scheduled || over {
            period = 0;
        }
        options.grace_period_seconds = Some(if period < 0 { 1 } else { period });
        true
    }
}

/// Claims whose devices stand for resources of the node are claims of the pod, or made for it. Typed pods do not know
/// them; what they map is left to the types' own rules (`validateNodeAllocatableResourceClaimStatus`).
fn unreferenced_claims(call: &Call<'_>, pod: &Value) -> Vec<FieldError> {
    const FIELD: &str = "nodeAllocatableResourceClaimStatuses";
    const NAME: &str = "resourceClaimName";
    let list = |path: &[&str]| pod.list_at(path).filter(|_| call.is_status()).cloned().unwrap_or_default();
    let (own, made) = (list(&["spec", "resourceClaims"]), list(&["status", "resourceClaimStatuses"]));
    let known = |name: &str| own.iter().chain(made.iter()).any(|c| c.str_at(&[NAME]) == Some(name));
    let status = Path::new("status");
    let path = status.child(FIELD);
    let all = list(&["status", FIELD]);
    let named = all.iter().enumerate().filter_map(|(i, s)| Some((i, s.str_at(&[NAME])?)));
    let unknown = named.filter(|(_, name)| !name.is_empty() && !known(name));
    let detail = "no mapping found in pod reference";
    unknown.map(|(i, name)| FieldError::invalid(&path.index(i).child(NAME), name, detail)).collect()
}

fn prepare_status(pod: &mut Value, old: &Value) {
    keep(pod, old, "spec");
    meta::remove(pod, "deletionTimestamp");
    let owners = old.get_path(&["metadata", "ownerReferences"]).cloned().unwrap_or(Value::Null);
    meta::set(pod, "ownerReferences", owners);
    for field in [
        "qosClass",
        "resourceClaimStatuses",
        "extendedResourceClaimStatus",
        "nodeAllocatableResourceClaimStatuses",
        "observedGeneration",
    ] {
        keep_if_absent(pod, old, &["status", field]);
    }
    gated::drop_from_pod_status(pod, old);
    keep_condition_generations(pod, old);
}

/// Conditions that lost their observedGeneration get the old one back, in order per type.
fn keep_condition_generations(pod: &mut Value, old: &Value) {
    let Some(before) = old.list_at(&["status", "conditions"]).cloned() else { return };
    let Some(Value::List(now)) = pod.get_path_mut(&["status", "conditions"]) else { return };
    let mut seen: Vec<String> = Vec::new();
    for condition in now.iter_mut() {
        let kind = condition.str_at(&["type"]).unwrap_or("").to_owned();
        let nth = seen.iter().filter(|k| **k == kind).count();
        seen.push(kind.clone());
        if condition.i64_at(&["observedGeneration"]).unwrap_or(0) != 0 {
            continue;
        }
        let same = before.iter().filter(|c| c.str_at(&["type"]) == Some(&kind)).nth(nth);
        if let (Some(value), Value::Map(map)) = (same.and_then(|c| c.get("observedGeneration")), condition) {
            map.insert("observedGeneration", value.clone());
        }
    }
}

fn only_ephemeral_containers(pod: &mut Value, old: &Value) {
    let wanted = pod.get_path(&["spec", "ephemeralContainers"]).cloned();
    keep(pod, old, "spec");
    keep(pod, old, "status");
    reset_metadata_for_status(pod, old);
    match wanted.filter(|w| !w.is_null()) {
        Some(wanted) => {
            // A stored pod has a spec.
            let _ = pod.set_path(&["spec", "ephemeralContainers"], wanted);
        }
        None => {
            pod.remove_path(&["spec", "ephemeralContainers"]);
        }
    }
}

/// A resize changes resources and resize policies of containers; renamed or reordered ones are left for validation.
fn only_resources(pod: &mut Value, old: &Value) {
    let resources = pod.get_path(&["spec", "resources"]).cloned();
    let mut merged = Vec::new();
    for field in ["containers", "initContainers"] {
        let new: List = pod.list_at(&["spec", field]).cloned().unwrap_or_default();
        let mut list: List = old.list_at(&["spec", field]).cloned().unwrap_or_default();
        if new.len() != list.len() {
            return;
        }
        let mut moved = false;
        for (wanted, container) in new.iter().zip(list.iter_mut()) {
            if wanted.str_at(&["name"]) != container.str_at(&["name"]) {
                // Renamed or reordered: validation sees the list as it was sent.
                moved = true;
                break;
            }
            keep(container, wanted, "resources");
            keep(container, wanted, "resizePolicy");
        }
        if moved {
            list = new;
        }
        merged.push((field, list));
    }
    keep(pod, old, "spec");
    keep(pod, old, "status");
    reset_metadata_for_status(pod, old);
    for (field, list) in merged {
        if !list.is_empty() {
            let _ = pod.set_path(&["spec", field], list);
        }
    }
    if let Some(resources) = resources.filter(|r| !r.is_null()) {
        let _ = pod.set_path(&["spec", "resources"], resources);
    }
}
