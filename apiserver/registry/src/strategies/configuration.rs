//! ConfigMaps and Secrets: key formats, size, immutability.
//! Upstream: `pkg/registry/core/{configmap,secret}/strategy.go`; validation in `api::validation::core::data`.

use ::api::validation::core::data;
use ::api::validation::field::Error as FieldError;
use machinery::{Value, golang};

use super::{keep_if_absent, key_pair, validated, validated_update};
use crate::meta;
use crate::strategy::{Call, Strategy, validate_kube_metadata};

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

fn key_pair_warning(secret: &Value) -> Vec<String> {
    if secret.str_at(&["type"]) != Some("kubernetes.io/tls") {
        return Vec::new();
    }
    let bytes = |key: &str| {
        let text = secret.str_at(&["data", key]).unwrap_or_default();
        golang::decode_base64(text.as_bytes()).unwrap_or_default()
    };
    key_pair::problem(&bytes("tls.crt"), &bytes("tls.key")).into_iter().collect()
}

impl Strategy for Secrets {
    fn warnings_on_create(&self, _call: &Call<'_>, secret: &Value) -> Vec<String> {
        key_pair_warning(secret)
    }

    fn warnings_on_update(&self, _call: &Call<'_>, secret: &Value, _old: &Value) -> Vec<String> {
        key_pair_warning(secret)
    }

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

const ENFORCED: &str = "kubernetes.io/enforce-mountable-secrets";

fn mountable_secrets_warning(account: &Value) -> Vec<String> {
    if meta::annotation(account, ENFORCED).is_none() {
        return Vec::new();
    }
    vec![format!(
        "metadata.annotations[{ENFORCED}]: deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets"
    )]
}

impl Strategy for ServiceAccounts {
    fn validate_update(&self, call: &Call<'_>, account: &Value, _old: &Value) -> Vec<FieldError> {
        validate_kube_metadata(call, account, self.name_rule())
    }

    fn warnings_on_create(&self, _call: &Call<'_>, account: &Value) -> Vec<String> {
        mountable_secrets_warning(account)
    }

    fn warnings_on_update(&self, _call: &Call<'_>, account: &Value, old: &Value) -> Vec<String> {
        let known = meta::annotation(old, ENFORCED).is_some();
        if known { Vec::new() } else { mountable_secrets_warning(account) }
    }

    fn prepare_for_create(&self, _call: &Call<'_>, object: &mut Value) {
        clean_secret_references(object);
    }

    fn prepare_for_update(&self, _call: &Call<'_>, object: &mut Value, _old: &Value) {
        clean_secret_references(object);
    }
}
