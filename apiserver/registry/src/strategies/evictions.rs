//! lifecycle.k8s.io: requests for evictions, and the evictions they ask for.
//! Upstream: `pkg/registry/lifecycle/{evictionrequest,eviction}/strategy.go`.

use ::api::validation::field::Error as FieldError;
use ::api::validation::lifecycle::{EvictionStatus, validate_eviction_status};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use machinery::Value;

use super::{conditions, long_named, with_declared};
use crate::strategy::{Call, Strategy, generic_prepare_for_update, reset_metadata_for_status, typed};

fn prepare_for_update(call: &Call<'_>, object: &mut Value, old: &Value) {
    generic_prepare_for_update(call, object, old);
    if call.is_status() {
        reset_metadata_for_status(object, old);
    }
}

/// Requests.
pub struct EvictionRequests;

impl Strategy for EvictionRequests {
    fn validate(&self, call: &Call<'_>, request: &Value) -> Vec<FieldError> {
        with_declared(call, long_named(call, request), request, None)
    }

    fn prepare_for_update(&self, call: &Call<'_>, request: &mut Value, old: &Value) {
        prepare_for_update(call, request, old);
    }

    fn validate_update(&self, call: &Call<'_>, request: &Value, old: &Value) -> Vec<FieldError> {
        let errors = if call.is_status() { conditions(request) } else { Vec::new() };
        with_declared(call, errors, request, Some(old))
    }
}

/// Evictions.
pub struct Evictions;

fn status(eviction: &Value) -> Result<EvictionStatus, FieldError> {
    eviction.get("status").filter(|s| !s.is_null()).map_or_else(|| Ok(EvictionStatus::default()), typed)
}

impl Strategy for Evictions {
    fn validate(&self, call: &Call<'_>, eviction: &Value) -> Vec<FieldError> {
        with_declared(call, long_named(call, eviction), eviction, None)
    }

    fn prepare_for_update(&self, call: &Call<'_>, eviction: &mut Value, old: &Value) {
        prepare_for_update(call, eviction, old);
    }

    fn validate_update(&self, call: &Call<'_>, eviction: &Value, old: &Value) -> Vec<FieldError> {
        let errors = match (call.is_status(), status(eviction), status(old)) {
            (false, ..) => Vec::new(),
            (true, Ok(new), Ok(old)) => validate_eviction_status(&new, &old, &Time(call.now)),
            (true, Err(error), _) | (true, _, Err(error)) => vec![error],
        };
        with_declared(call, errors, eviction, Some(old))
    }
}
