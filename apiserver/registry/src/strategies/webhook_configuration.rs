//! Webhook configurations. Upstream: `pkg/registry/admissionregistration/{mutating,validating}webhookconfiguration`;
//! validation in `api::validation::admissionregistration`.

use std::marker::PhantomData;

use ::api::validation::admissionregistration::{self as rules, Webhooks};
use ::api::validation::field::Error as FieldError;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use machinery::Value;
use serde::de::DeserializeOwned;

use crate::admission::expressions::{Scope, Wanted};
use crate::strategy::{Call, Strategy, bump_generation, typed};

/// Configurations of the kind `T`.
pub struct Configurations<T>(PhantomData<fn() -> T>);

impl<T> Configurations<T> {
    const NEW: Self = Configurations(PhantomData);
}

/// Mutating webhooks.
pub const MUTATING: Configurations<MutatingWebhookConfiguration> = Configurations::NEW;
/// Validating webhooks.
pub const VALIDATING: Configurations<ValidatingWebhookConfiguration> = Configurations::NEW;

fn compile(expression: &str, stored: bool) -> Result<(), String> {
    Scope::new(false).compile(expression, Wanted::Condition, stored).map(|_| ())
}

impl<T: DeserializeOwned + Into<Webhooks>> Configurations<T> {
    fn read(object: &Value) -> Result<Webhooks, FieldError> {
        let hooks = object.list_at(&["webhooks"]).into_iter().flat_map(|hooks| hooks.iter()).enumerate();
        let empty = hooks.filter(|(_, hook)| hook.str_at(&["sideEffects"]) == Some("")).map(|(i, _)| i);
        typed::<T>(object).map(|typed| typed.into().with_empty_effects(empty.collect()))
    }
}

impl<T: DeserializeOwned + Into<Webhooks> + 'static> Strategy for Configurations<T> {
    fn validate(&self, _call: &Call<'_>, object: &Value) -> Vec<FieldError> {
        Self::read(object).map_or_else(|e| vec![e], |new| rules::validate(&new, &compile))
    }

    fn warnings_on_create(&self, _call: &Call<'_>, object: &Value) -> Vec<String> {
        Self::read(object).map_or_else(|_| Vec::new(), |new| rules::warnings(&new, false))
    }

    fn prepare_for_update(&self, _call: &Call<'_>, object: &mut Value, old: &Value) {
        // Upstream compares with `reflect.DeepEqual`: an empty list is not the same as none.
        if object.get("webhooks") != old.get("webhooks") {
            bump_generation(object, old);
        }
    }

    fn validate_update(&self, _call: &Call<'_>, object: &Value, old: &Value) -> Vec<FieldError> {
        match (Self::read(object), Self::read(old)) {
            (Ok(new), Ok(old)) => rules::validate_update(&new, &old, &compile),
            (Err(error), _) | (_, Err(error)) => vec![error],
        }
    }

    fn warnings_on_update(&self, _call: &Call<'_>, object: &Value, _old: &Value) -> Vec<String> {
        Self::read(object).map_or_else(|_| Vec::new(), |new| rules::warnings(&new, true))
    }
}
