//! ConfigMaps and Secrets.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};

use crate::validation::content;
use crate::validation::field::{Bad, Error, Path};
use crate::validation::objectmeta::{name_is_subdomain, validate_kube_object_meta};
use crate::validation::{refusals, semantic_eq, text};

/// 1 MiB, as etcd's limit leaves room for the rest.
const MAX_SIZE: usize = 1024 * 1024;

/// A new ConfigMap.
pub fn validate_config_map(map: &ConfigMap) -> Vec<Error> {
    let mut errors =
        validate_kube_object_meta(&map.metadata, true, name_is_subdomain, &Path::new("metadata"));
    let (data, binary) = (Path::new("data"), Path::new("binaryData"));
    let mut size = 0;
    for (key, value) in map.data.iter().flatten() {
        errors.extend(refusals(&data.key(key), key, content::config_map_key(key)));
        if map.binary_data.iter().flatten().any(|(k, _)| k == key) {
            errors.push(Error::invalid(&data.key(key), key, "duplicate of key present in binaryData"));
        }
        size += value.len();
    }
    for (key, value) in map.binary_data.iter().flatten() {
        errors.extend(refusals(&binary.key(key), key, content::config_map_key(key)));
        size += value.0.len();
    }
    if size > MAX_SIZE {
        errors.push(Error::too_long(&Path::new(""), MAX_SIZE));
    }
    errors
}

/// A changed ConfigMap.
pub fn validate_config_map_update(new: &ConfigMap, old: &ConfigMap) -> Vec<Error> {
    let mut errors = Vec::new();
    if old.immutable == Some(true) {
        if new.immutable != Some(true) {
            errors.push(frozen(&Path::new("immutable")));
        }
        if !semantic_eq(&new.data, &old.data) {
            errors.push(frozen(&Path::new("data")));
        }
        if !semantic_eq(&new.binary_data, &old.binary_data) {
            errors.push(frozen(&Path::new("binaryData")));
        }
    }
    errors.extend(validate_config_map(new));
    errors
}

fn frozen(path: &Path) -> Error {
    Error::forbidden(path, "field is immutable when `immutable` is set")
}

/// A new Secret.
pub fn validate_secret(secret: &Secret) -> Vec<Error> {
    let mut errors =
        validate_kube_object_meta(&secret.metadata, true, name_is_subdomain, &Path::new("metadata"));
    let data = Path::new("data");
    let mut size = 0;
    for (key, value) in secret.data.iter().flatten() {
        errors.extend(refusals(&data.key(key), key, content::config_map_key(key)));
        size += value.0.len();
    }
    if size > MAX_SIZE {
        errors.push(Error::too_long(&data, MAX_SIZE));
    }
    errors.extend(validate_secret_type(secret, &data));
    errors
}

fn validate_secret_type(secret: &Secret, data: &Path) -> Vec<Error> {
    let none = BTreeMap::new();
    let content = secret.data.as_ref().unwrap_or(&none);
    let need = |key: &str| (!content.contains_key(key)).then(|| Error::required(&data.key(key), ""));
    match secret.type_.as_deref().unwrap_or("") {
        "kubernetes.io/service-account-token" => {
            let annotations = Path::new("metadata");
            let annotations = annotations.child("annotations");
            let key = "kubernetes.io/service-account.name";
            let named = secret.metadata.annotations.iter().flatten().any(|(k, v)| k == key && !v.is_empty());
            (!named).then(|| Error::required(&annotations.key(key), "")).into_iter().collect()
        }
        "Opaque" | "" => Vec::new(),
        "kubernetes.io/dockercfg" => docker(content, ".dockercfg", data),
        "kubernetes.io/dockerconfigjson" => docker(content, ".dockerconfigjson", data),
        "kubernetes.io/basic-auth" => {
            let any = ["username", "password"].iter().any(|k| content.contains_key(*k));
            if any {
                return Vec::new();
            }
            ["username", "password"].into_iter().filter_map(need).collect()
        }
        "kubernetes.io/ssh-auth" => {
            let key = "ssh-privatekey";
            let present = content.get(key).is_some_and(|v| !v.0.is_empty());
            (!present).then(|| Error::required(&data.key(key), "")).into_iter().collect()
        }
        "kubernetes.io/tls" => ["tls.crt", "tls.key"].into_iter().filter_map(need).collect(),
        _ => Vec::new(),
    }
}

fn docker(content: &BTreeMap<String, ByteString>, key: &str, data: &Path) -> Vec<Error> {
    let at = data.key(key);
    match content.get(key) {
        None => vec![Error::required(&at, "")],
        Some(bytes) => match serde_json::from_slice::<serde_json::Value>(&bytes.0) {
            Ok(serde_json::Value::Object(_)) => Vec::new(),
            // Upstream hides the value and prints its own JSON reader's text, which has no counterpart here.
            _ => {
                vec![Error::invalid(&at, "<secret contents redacted>", "invalid character in JSON document")]
            }
        },
    }
}

/// A changed Secret.
pub fn validate_secret_update(new: &Secret, old: &Secret) -> Vec<Error> {
    let mut errors = Vec::new();
    if text(&new.type_) != text(&old.type_) {
        let bad = Bad::enumerated(text(&new.type_));
        errors.push(Error::invalid(&Path::new("type"), bad, "field is immutable"));
    }
    if old.immutable == Some(true) {
        if new.immutable != Some(true) {
            errors.push(frozen(&Path::new("immutable")));
        }
        if !semantic_eq(&new.data, &old.data) {
            errors.push(frozen(&Path::new("data")));
        }
    }
    errors.extend(validate_secret(new));
    errors
}
