//! Volumes of a pod. Sources that few use are checked for presence and count only.

use k8s_openapi::api::core::v1::{KeyToPath, Volume};

use crate::validation::content;
use crate::validation::field::{Error, Path};
use crate::validation::refusals;

const FILE_MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";

/// Volume names are labels and unique; each has exactly one source.
pub fn validate_volumes(volumes: &[Volume], path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    for (i, volume) in volumes.iter().enumerate() {
        let at = path.index(i);
        errors.extend(validate_source(volume, &at));
        let name = at.child("name");
        if volume.name.is_empty() {
            errors.push(Error::required(&name, ""));
        } else {
            errors.extend(refusals(&name, &volume.name, content::dns_label(&volume.name)));
        }
        if volumes[..i].iter().any(|v| v.name == volume.name) {
            errors.push(Error::duplicate(&name, &volume.name));
        }
    }
    errors
}

/// Names of the sources a volume sets.
fn sources(volume: &Volume) -> Vec<String> {
    let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(volume) else { return Vec::new() };
    fields.into_iter().filter(|(k, v)| k != "name" && !v.is_null()).map(|(k, _)| k).collect()
}

fn validate_source(volume: &Volume, path: &Path) -> Vec<Error> {
    let set = sources(volume);
    let mut errors = Vec::new();
    match set.as_slice() {
        [] => return vec![Error::required(path, "must specify a volume type")],
        [_] => {}
        [_, rest @ ..] => {
            errors.extend(
                rest.iter()
                    .map(|s| Error::forbidden(&path.child(s), "may not specify more than 1 volume type")),
            );
        }
    }
    if let Some(source) = &volume.config_map {
        let at = path.child("configMap");
        if source.name.is_empty() {
            errors.push(Error::required(&at.child("name"), ""));
        }
        errors.extend(validate_mode(source.default_mode, &at.child("defaultMode")));
        errors.extend(validate_items(source.items.as_deref().unwrap_or_default(), &at));
    }
    if let Some(source) = &volume.secret {
        let at = path.child("secret");
        if source.secret_name.as_deref().unwrap_or("").is_empty() {
            errors.push(Error::required(&at.child("secretName"), ""));
        }
        errors.extend(validate_mode(source.default_mode, &at.child("defaultMode")));
        errors.extend(validate_items(source.items.as_deref().unwrap_or_default(), &at));
    }
    if let Some(source) = &volume.host_path {
        errors.extend(validate_host_path(&source.path, source.type_.as_deref(), &path.child("hostPath")));
    }
    if let Some(source) = &volume.persistent_volume_claim
        && source.claim_name.is_empty()
    {
        let at = path.child("persistentVolumeClaim");
        errors.push(Error::required(&at.child("claimName"), ""));
    }
    if let Some(source) = &volume.projected {
        let at = path.child("projected");
        errors.extend(validate_mode(source.default_mode, &at.child("defaultMode")));
        let list = at.child("sources");
        for (i, projection) in source.sources.iter().flatten().enumerate() {
            errors.extend(validate_projection(projection, &list.index(i)));
        }
    }
    errors
}

fn validate_projection(projection: &k8s_openapi::api::core::v1::VolumeProjection, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    if let Some(source) = &projection.secret {
        let at = path.child("secret");
        if source.name.is_empty() {
            errors.push(Error::required(&at.child("name"), ""));
        }
        errors.extend(validate_items(source.items.as_deref().unwrap_or_default(), &at));
    }
    if let Some(source) = &projection.config_map {
        let at = path.child("configMap");
        if source.name.is_empty() {
            errors.push(Error::required(&at.child("name"), ""));
        }
        errors.extend(validate_items(source.items.as_deref().unwrap_or_default(), &at));
    }
    if let Some(source) = &projection.service_account_token {
        let at = path.child("serviceAccountToken");
        let seconds = source.expiration_seconds.unwrap_or(3600);
        if seconds < 600 {
            let detail = "may not specify a duration less than 10 minutes";
            errors.push(Error::invalid(&at.child("expirationSeconds"), seconds, detail));
        }
        if seconds > 1 << 32 {
            let detail = "may not specify a duration larger than 2^32 seconds";
            errors.push(Error::invalid(&at.child("expirationSeconds"), seconds, detail));
        }
        if source.path.is_empty() {
            errors.push(Error::required(&at.child("path"), ""));
        } else {
            errors.extend(validate_local_path(&source.path, &at.child("path")));
        }
    }
    errors
}

fn validate_mode(mode: Option<i32>, path: &Path) -> Option<Error> {
    mode.filter(|m| !(0..=0o777).contains(m)).map(|m| Error::invalid(path, m, FILE_MODE))
}

fn validate_items(items: &[KeyToPath], parent: &Path) -> Vec<Error> {
    let list = parent.child("items");
    let mut errors = Vec::new();
    for (i, item) in items.iter().enumerate() {
        let at = list.index(i);
        if item.key.is_empty() {
            errors.push(Error::required(&at.child("key"), ""));
        }
        if item.path.is_empty() {
            errors.push(Error::required(&at.child("path"), ""));
        }
        errors.extend(validate_local_path(&item.path, &at.child("path")));
        errors.extend(validate_mode(item.mode, &at.child("mode")));
    }
    errors
}

/// A path that stays below where it starts, and does not begin with `..` (`ValidateLocalNonReservedPath`).
pub fn validate_local_path(target: &str, path: &Path) -> Vec<Error> {
    let mut errors = validate_descending_path(target, path);
    if target.starts_with("..") && !target.starts_with("../") && target != ".." {
        errors.push(Error::invalid(path, target, "must not start with '..'"));
    }
    errors
}

/// A relative path without `..` (`validateLocalDescendingPath`).
pub fn validate_descending_path(target: &str, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    if target.starts_with('/') {
        errors.push(Error::invalid(path, target, "must be a relative path"));
    }
    if target.split('/').any(|part| part == "..") {
        errors.push(Error::invalid(path, target, "must not contain '..'"));
    }
    errors
}

fn validate_host_path(target: &str, kind: Option<&str>, path: &Path) -> Vec<Error> {
    if target.is_empty() {
        return vec![Error::required(&path.child("path"), "")];
    }
    let mut errors = Vec::new();
    if target.split('/').any(|part| part == "..") {
        errors.push(Error::invalid(&path.child("path"), target, "must not contain '..'"));
    }
    let supported =
        ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
    if let Some(kind) = kind.filter(|k| !supported.contains(k)) {
        errors.push(Error::not_supported(&path.child("type"), kind, &supported));
    }
    errors
}
