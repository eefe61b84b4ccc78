//! Pod disruption budgets. Upstream: `pkg/apis/policy/validation/validation.go`.

use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use super::field::{Bad, Error, Path};
use super::objectmeta::{validate_conditions, validate_label_selector, validate_nonnegative};
use super::{int_or_percent, items, not_more_than_100_percent, supported};

/// `ValidatePodDisruptionBudget`, of new and changed ones alike.
pub fn validate_pod_disruption_budget(budget: &PodDisruptionBudget) -> Vec<Error> {
    let Some(spec) = &budget.spec else { return Vec::new() };
    let path = Path::new("spec");
    let mut errors = Vec::new();
    if spec.min_available.is_some() && spec.max_unavailable.is_some() {
        // Upstream prints its internal type.
        let printed = format!(
            r#"{{"MinAvailable":{},"Selector":{},"MaxUnavailable":{},"UnhealthyPodEvictionPolicy":{}}}"#,
            printed(&spec.min_available),
            printed(&spec.selector),
            printed(&spec.max_unavailable),
            printed(&spec.unhealthy_pod_eviction_policy),
        );
        let detail = "minAvailable and maxUnavailable cannot be both set";
        errors.push(Error::invalid(&path, Bad::Raw(printed), detail));
    }
    for (value, name) in [(&spec.min_available, "minAvailable"), (&spec.max_unavailable, "maxUnavailable")] {
        if let Some(value) = value {
            errors.extend(int_or_percent(value, &path.child(name)));
            errors.extend(not_more_than_100_percent(value, &path.child(name)));
        }
    }
    errors.extend(validate_label_selector(spec.selector.as_ref(), &path.child("selector")));
    if let Some(policy) = &spec.unhealthy_pod_eviction_policy {
        let at = path.child("unhealthyPodEvictionPolicy");
        errors.extend(supported(policy, &["AlwaysAllow", "IfHealthyBudget"], &at));
    }
    errors
}

fn printed(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// `ValidatePodDisruptionBudgetStatusUpdate`.
pub fn validate_pod_disruption_budget_status(budget: &PodDisruptionBudget) -> Vec<Error> {
    let Some(status) = &budget.status else { return Vec::new() };
    let path = Path::new("status");
    let mut errors = validate_conditions(items(&status.conditions), &path.child("conditions"));
    for (value, name) in [
        (status.disruptions_allowed, "disruptionsAllowed"),
        (status.current_healthy, "currentHealthy"),
        (status.desired_healthy, "desiredHealthy"),
        (status.expected_pods, "expectedPods"),
    ] {
        let value = i64::from(value.unwrap_or_default());
        errors.extend(validate_nonnegative(value, &path.child(name)));
    }
    errors
}
