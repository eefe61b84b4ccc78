//! ConfigMaps and Secrets: key formats, size, immutability.
//! Upstream: `pkg/registry/core/{configmap,secret}/strategy.go`; validation in `api::validation::core::data`.

use ::api::validation::core::data;
use ::api::validation::field::Error as FieldError;
use machinery::Value;

use super::{keep_if_absent, validated, validated_update};
use crate::strategy::{Call, Strategy};

/// ConfigMaps.
pub struct ConfigMaps;

impl Strategy for ConfigMaps {
    fn validate(&self, _call: &Call<'_>, object: &Value) -> Vec<FieldError> {
        validated(object, data::validate_config_map)
    }

    fn validate_update(&self, _call: &Call<'_>, object: &Value, old: &Value) -> Vec<FieldError> {
        validated_update(object, old, data::validate_config_map_update)
    }
}

/// Secrets.
pub struct Secrets;

/// Write-only text becomes data. Upstream does it in the conversion of `core/v1` (`Convert_v1_Secret_To_core_Secret`).
fn take_string_data(secret: &mut Value) {
    use base64::Engine;
    let Some(Value::Map(texts)) = secret.remove_path(&["stringData"]) else { return };
    for (key, text) in texts.iter() {
        let encoded = base64::engine::general_purpose::STANDARD.encode(text.as_str().unwrap_or_default());
        // The path exists or can be made: `data` is a map in every decoded secret.
        let _ = secret.set_path(&["data", key.as_str()], encoded.as_str());
    }
}

impl Strategy for Secrets {
    fn prepare_for_create(&self, _call: &Call<'_>, object: &mut Value) {
        take_string_data(object);
    }

    fn validate(&self, _call: &Call<'_>, object: &Value) -> Vec<FieldError> {
        validated(object, data::validate_secret)
    }

    fn prepare_for_update(&self, _call: &Call<'_>, object: &mut Value, old: &Value) {
        take_string_data(object);
        if object.str_at(&["type"]).unwrap_or("").is_empty() {
            object.remove_path(&["type"]);
            keep_if_absent(object, old, &["type"]);
        }
    }

    fn validate_update(&self, _call: &Call<'_>, object: &Value, old: &Value) -> Vec<FieldError> {
        validated_update(object, old, data::validate_secret_update)
    }
}

/// Service accounts: secret references keep nothing but the name.
pub struct ServiceAccounts;

fn clean_secret_references(account: &mut Value) {
    let Some(Value::List(secrets)) = account.get_mut("secrets") else { return };
    for reference in secrets.iter_mut() {
        let mut clean = machinery::Map::new();
        if let Some(name) = reference.get("name") {
            clean.insert("name", name.clone());
        }
        *reference = Value::Map(clean);
    }
}

impl Strategy for ServiceAccounts {
    fn prepare_for_create(&self, _call: &Call<'_>, object: &mut Value) {
        clean_secret_references(object);
    }

    fn prepare_for_update(&self, _call: &Call<'_>, object: &mut Value, _old: &Value) {
        clean_secret_references(object);
    }
}
