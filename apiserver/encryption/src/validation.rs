//! What the file may say. Upstream: `k8s.io/apiserver/pkg/apis/apiserver/validation/validation_encryption.go`.

use api::validation::field::{Bad, Error, Path, aggregate};
use base64::Engine;

use crate::config::{File, Key, KeysFile, KmsFile, ProviderFile};
use crate::resources::GroupResource;

/// Checks a file.
///
/// # Errors
/// Every wrong field.
pub(crate) fn check(file: &File, reload: bool) -> Result<(), String> {
    let root = Path::new("resources");
    let rules = file.resources.as_deref().unwrap_or_default();
    if rules.is_empty() {
        return Err(Error::required(&root, "at least one resources is required").to_string());
    }
    let mut errors = Vec::new();
    let mut plugins: Vec<&str> = Vec::new();
    for (index, rule) in rules.iter().enumerate() {
        let at = root.index(index);
        let (resources_at, providers_at) = (at.child("resources"), at.child("providers"));
        let resources = rule.resources.as_deref().unwrap_or_default();
        if resources.is_empty() {
            let text = format!("at least one {resources_at} is required");
            errors.push(Error::required(&resources_at, text));
        }
        overlaps(resources, &resources_at, &mut errors);
        for (index, name) in resources.iter().enumerate() {
            if let Some(why) = wrong_name(name) {
                errors.push(Error::invalid(&resources_at.index(index), name, why));
            }
        }
        let providers = rule.providers.as_deref().unwrap_or_default();
        if providers.is_empty() {
            let text = format!("at least one {providers_at} is required");
            errors.push(Error::required(&providers_at, text));
        }
        for (index, provider) in providers.iter().enumerate() {
            check_provider(provider, &providers_at.index(index), &mut plugins, reload, &mut errors);
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(aggregate(&errors)) }
}

fn overlaps(resources: &[String], path: &Path, errors: &mut Vec<Error>) {
    let parsed: Vec<GroupResource> = resources.iter().map(|r| GroupResource::parse(r)).collect();
    let all = GroupResource::new("*", "*");
    let (mut duplicate, mut overlap) = (false, false);
    for (i, a) in parsed.iter().enumerate() {
        for (_, b) in parsed.iter().enumerate().filter(|(j, _)| *j != i) {
            if a == b && !duplicate {
                duplicate = true;
            } else if *a == all || a.group == b.group && (a.resource == "*" || b.resource == "*") {
                overlap = true;
            }
        }
    }
    if duplicate {
        let text = "the same resource cannot be specified multiple times";
        errors.push(Error::invalid(path, Bad::json(&resources), text));
    }
    if overlap {
        let text = "using overlapping resources such as 'secrets' and '*.' in the same resource list is not allowed as \
                    they will be masked";
        errors.push(Error::invalid(path, Bad::json(&resources), text));
    }
}

fn wrong_name(name: &str) -> Option<&'static str> {
    let parsed = GroupResource::parse(name);
    Some(match name {
        _ if name.to_lowercase() != name => "resource name should not contain capital letters",
        "*" => "use '*.' to encrypt all the resources from core API group or *.* to encrypt all resources",
        "apiserveripinfo" | "serviceipallocations" | "servicenodeportallocations" => {
            "resources which do not have REST API/s cannot be encrypted"
        }
        _ if parsed.group == "events.k8s.io" => {
            "'*.events.k8s.io' objects are stored using the 'events' API group in etcd. Use 'events' instead in the \
             config file"
        }
        _ if parsed.group == "extensions" => {
            "'extensions' group has been removed and cannot be used for encryption"
        }
        _ if parsed.group == "*" && parsed.resource != "*" => {
            "encrypting the same resource across groups is not supported"
        }
        _ => return None,
    })
}

fn check_provider<'a>(
    provider: &'a ProviderFile,
    path: &Path,
    plugins: &mut Vec<&'a str>,
    reload: bool,
    errors: &mut Vec<Error>,
) {
    let ProviderFile { aesgcm, aescbc, secretbox, identity, kms } = provider;
    let given = [aesgcm.is_some(), aescbc.is_some(), secretbox.is_some(), identity.is_some(), kms.is_some()];
    let text = match given.iter().filter(|g| **g).count() {
        0 => Some(
            "provider does not contain any of the expected providers: KMS, AESGCM, AESCBC, Secretbox, Identity",
        ),
        1 => None,
        _ => Some(
            "more than one provider specified in a single element, should split into different list elements",
        ),
    };
    // The value is not shown: there are secrets in it.
    errors.extend(text.map(|text| Error::invalid(path, Bad::Raw("{}".to_owned()), text)));
    if let Some(kms) = kms {
        check_kms(kms, &path.child("kms"), plugins, reload, errors);
    } else if let Some(keys) = aesgcm {
        check_keys(keys, &path.child("aesgcm"), &[16, 24, 32], errors);
    } else if let Some(keys) = aescbc {
        check_keys(keys, &path.child("aescbc"), &[16, 24, 32], errors);
    } else if let Some(keys) = secretbox {
        check_keys(keys, &path.child("secretbox"), &[32], errors);
    }
}

fn check_keys(file: &KeysFile, path: &Path, sizes: &[usize], errors: &mut Vec<Error>) {
    let at = path.child("keys");
    let keys = file.keys.as_deref().unwrap_or_default();
    if keys.is_empty() {
        errors.push(Error::required(&at, "at least one keys is required"));
    }
    for (index, key) in keys.iter().enumerate() {
        check_key(key, &at.index(index), sizes, errors);
    }
}

fn check_key(key: &Key, path: &Path, sizes: &[usize], errors: &mut Vec<Error>) {
    if key.name.is_empty() {
        errors.push(Error::required(&path.child("name"), "name is a mandatory field for a key"));
    }
    let at = path.child("secret");
    if key.secret.is_empty() {
        errors.push(Error::required(&at, "secret is a mandatory field for a key"));
        return;
    }
    match base64::engine::general_purpose::STANDARD.decode(&key.secret) {
        Err(_) => errors.push(Error::invalid(&at, "REDACTED", "secrets must be base64 encoded")),
        Ok(secret) if !sizes.contains(&secret.len()) => {
            let sizes: Vec<String> = sizes.iter().map(ToString::to_string).collect();
            let text = format!(
                "secret is not of the expected length, got {}, expected one of [{}]",
                secret.len(),
                sizes.join(" ")
            );
            errors.push(Error::invalid(&at, "REDACTED", text));
        }
        Ok(_) => {}
    }
}

fn check_kms<'a>(
    kms: &'a KmsFile,
    path: &Path,
    plugins: &mut Vec<&'a str>,
    reload: bool,
    errors: &mut Vec<Error>,
) {
    let (name, version) = (kms.name.as_str(), kms.version());
    let at = path.child("name");
    if name.is_empty() {
        errors.push(Error::required(&at, "name is a mandatory field for a provider"));
    }
    if version != "v1" && name.contains(':') {
        let text = format!("invalid KMS provider name {name}, must not contain ':'");
        errors.push(Error::invalid(&at, name, text));
    }
    if (reload || version != "v1") && plugins.contains(&name) {
        errors.push(Error::invalid(
            &at,
            name,
            format!("duplicate KMS provider name {name}, names must be unique"),
        ));
    }
    plugins.push(name);
    if kms.time_limit().is_zero() {
        let shown = kms.timeout.as_ref().map_or(String::new(), ToString::to_string);
        errors.push(Error::invalid(&path.child("timeout"), shown, "timeout should be a positive value"));
    }
    let at = path.child("endpoint");
    match kms.endpoint.split_once(':') {
        _ if kms.endpoint.is_empty() => {
            errors.push(Error::invalid(&at, "", "endpoint is a mandatory field for a kms"));
        }
        Some(("unix", _)) => {}
        other => {
            let scheme = other.map_or("", |(scheme, _)| scheme);
            let text = format!("unsupported scheme {scheme:?} for KMS provider, only unix is supported");
            errors.push(Error::invalid(&at, &kms.endpoint, text));
        }
    }
    let at = path.child("cachesize");
    match (version, kms.cachesize) {
        ("v1", Some(0)) => {
            let text = "cachesize should be a positive value, or negative to disable";
            errors.push(Error::invalid(&at, 0, text));
        }
        ("v1", _) | (_, None) => {}
        (_, Some(size)) => errors.push(Error::invalid(&at, size, "cachesize is not supported in v2")),
    }
    if !matches!(version, "v1" | "v2") {
        let text = "unsupported apiVersion apiVersion for KMS provider, only v1 and v2 are supported";
        errors.push(Error::invalid(&path.child("apiVersion"), version, text));
    }
}
