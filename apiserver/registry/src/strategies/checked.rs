//! Kinds that have nothing of their own but validation.

use ::api::validation::field::Error as FieldError;
use ::api::validation::objectmeta::{self, NameRule};
use ::api::validation::{autoscaling, coordination, policy};
use machinery::Value;

use super::{validated, validated_update};
use crate::strategy::{Call, Strategy};

/// Autoscalers.
pub struct Autoscalers;

impl Strategy for Autoscalers {
    fn validate(&self, _call: &Call<'_>, object: &Value) -> Vec<FieldError> {
        validated(object, autoscaling::validate)
    }

    fn validate_update(&self, call: &Call<'_>, object: &Value, old: &Value) -> Vec<FieldError> {
        if call.is_status() {
            return validated_update(object, old, autoscaling::validate_status_update);
        }
        validated_update(object, old, autoscaling::validate_update)
    }
}

/// Leases.
pub struct Leases;

impl Strategy for Leases {
    fn validate(&self, _call: &Call<'_>, object: &Value) -> Vec<FieldError> {
        validated(object, coordination::validate_lease)
    }

    fn validate_update(&self, _call: &Call<'_>, object: &Value, old: &Value) -> Vec<FieldError> {
        validated_update(object, old, coordination::validate_lease_update)
    }
}

/// Disruption budgets; of their metadata only what is common to all kinds is validated.
pub struct DisruptionBudgets;

impl Strategy for DisruptionBudgets {
    fn name_rule(&self) -> NameRule {
        objectmeta::name_is_path_segment
    }

    fn validate(&self, _call: &Call<'_>, object: &Value) -> Vec<FieldError> {
        validated(object, policy::validate_pod_disruption_budget)
    }

    fn validate_update(&self, call: &Call<'_>, object: &Value, _old: &Value) -> Vec<FieldError> {
        if call.is_status() {
            return validated(object, policy::validate_pod_disruption_budget_status);
        }
        validated(object, policy::validate_pod_disruption_budget)
    }
}
