//! Which objects the scopes of a quota are about. Upstream: podMatchesScopeFunc, pvcMatchesScopeFunc.

use std::collections::BTreeMap;

use component::features::{self, Gate};
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PodAffinityTerm, ResourceQuotaSpec, ResourceRequirements,
    ScopedResourceSelectorRequirement as Scope,
};
use machinery::labels::Selector;
use machinery::quantity::Quantity;

use super::super::resources::read;
use crate::kept::Pod;

const PRIORITY_CLASS: &str = "PriorityClass";
const ATTRIBUTES_CLASS: &str = "VolumeAttributesClass";

/// Those of the list and those of the selector.
pub fn of(spec: &ResourceQuotaSpec) -> Vec<Scope> {
    let exists = |name: &String| Scope {
        scope_name: name.clone(),
        operator: "Exists".to_string(),
        ..Scope::default()
    };
    let listed = spec.scopes.iter().flatten().map(exists);
    let selected = spec.scope_selector.iter().flat_map(|s| s.match_expressions.iter().flatten().cloned());
    listed.chain(selected).collect()
}

/// The scope holds for a pod.
pub fn pod_matches(pod: &Pod, scope: &Scope) -> Result<bool, String> {
    match scope.scope_name.as_str() {
        "Terminating" => Ok(is_terminating(pod)),
        "NotTerminating" => Ok(!is_terminating(pod)),
        "BestEffort" => Ok(is_best_effort(pod)),
        "NotBestEffort" => Ok(!is_best_effort(pod)),
        "CrossNamespacePodAffinity" => Ok(crosses_namespaces(pod)),
        PRIORITY_CLASS => {
            let class = pod.spec.as_ref().and_then(|s| s.priority_class_name.as_deref());
            named(scope, class.filter(|c| !c.is_empty()).into_iter().collect())
        }
        _ => Ok(false),
    }
}

/// The scope holds for a claim.
pub fn claim_matches(claim: &PersistentVolumeClaim, scope: &Scope) -> Result<bool, String> {
    if scope.scope_name != ATTRIBUTES_CLASS {
        return Ok(false);
    }
    named(scope, attributes_classes(claim))
}

/// One of the names that the object has is meant.
fn named(scope: &Scope, names: Vec<&str>) -> Result<bool, String> {
    if scope.operator == "Exists" {
        return Ok(!names.is_empty());
    }
    let values = scope.values.iter().flatten().map(|v| v.as_str().into()).collect();
    let expression = (scope.scope_name.as_str(), scope.operator.as_str(), values);
    let none: [(&str, &str); 0] = [];
    let selector = Selector::from_parts(none, [expression])
        .map_err(|e| format!("failed to parse and convert selector: {e}"))?;
    let set = |name: &str| BTreeMap::from([(scope.scope_name.clone(), name.to_string())]);
    if names.is_empty() {
        return Ok(selector.matches(&BTreeMap::<String, String>::new()));
    }
    Ok(names.into_iter().any(|name| selector.matches(&set(name))))
}

/// The classes of a claim: wanted, had, and being changed to.
pub fn attributes_classes(claim: &PersistentVolumeClaim) -> Vec<&str> {
    let status = claim.status.as_ref();
    let wanted = claim.spec.as_ref().and_then(|s| s.volume_attributes_class_name.as_deref());
    let had = status.and_then(|s| s.current_volume_attributes_class_name.as_deref());
    let target = status.and_then(|s| s.modify_volume_status.as_ref());
    let target = target.and_then(|m| m.target_volume_attributes_class_name.as_deref());
    let mut all: Vec<&str> = [wanted, had, target].into_iter().flatten().filter(|n| !n.is_empty()).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// A pod that ends by itself after a time.
pub fn is_terminating(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|s| s.active_deadline_seconds).is_some_and(|s| s >= 0)
}

fn is_best_effort(pod: &Pod) -> bool {
    if let Some(class) = pod.status.as_ref().and_then(|s| s.qos_class.as_deref()).filter(|c| !c.is_empty()) {
        return class == "BestEffort";
    }
    let Some(spec) = &pod.spec else { return true };
    if features::enabled(Gate::PodLevelResources)
        && let Some(own) = spec.resources.as_ref().filter(|r| is_pod_level(r))
    {
        return asks_for_nothing(own);
    }
    let all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    all.filter_map(|c| c.resources.as_ref()).all(asks_for_nothing)
}

fn is_pod_level(own: &ResourceRequirements) -> bool {
    let names = own.requests.iter().flatten().chain(own.limits.iter().flatten()).map(|(name, _)| name);
    names.into_iter().any(|n| matches!(n.as_str(), "cpu" | "memory") || n.starts_with("hugepages-"))
}

fn asks_for_nothing(resources: &ResourceRequirements) -> bool {
    [&resources.requests, &resources.limits].into_iter().all(|list| {
        let list = read(list.as_ref());
        ["cpu", "memory"].iter().all(|name| list.get(*name).is_none_or(Quantity::is_zero))
    })
}

fn crosses_namespaces(pod: &Pod) -> bool {
    let crosses = |t: &PodAffinityTerm| {
        t.namespaces.as_ref().is_some_and(|n| !n.is_empty()) || t.namespace_selector.is_some()
    };
    let Some(affinity) = pod.spec.as_ref().and_then(|s| s.affinity.as_ref()) else { return false };
    let (with, without) = (affinity.pod_affinity.as_ref(), affinity.pod_anti_affinity.as_ref());
    let required =
        with.iter().flat_map(|a| a.required_during_scheduling_ignored_during_execution.iter().flatten());
    let preferred =
        with.iter().flat_map(|a| a.preferred_during_scheduling_ignored_during_execution.iter().flatten());
    let anti =
        without.iter().flat_map(|a| a.required_during_scheduling_ignored_during_execution.iter().flatten());
    let anti_preferred =
        without.iter().flat_map(|a| a.preferred_during_scheduling_ignored_during_execution.iter().flatten());
    required.chain(anti).any(crosses)
        || preferred.chain(anti_preferred).any(|w| crosses(&w.pod_affinity_term))
}
