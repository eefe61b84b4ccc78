//! Volumes that project other objects: downward API files, tokens, trust bundles, certificates.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    ClusterTrustBundleProjection, DownwardAPIVolumeFile, DownwardAPIVolumeSource, PodCertificateProjection,
    ProjectedVolumeSource, ServiceAccountTokenProjection, VolumeProjection,
};

use super::env::{VOLUME_FIELDS, validate_field_ref, validate_resource_ref};
use super::path::local;
use super::volume_source::{file_mode, key_path, user};
use crate::validation::field::{Bad, Error, Path};
use crate::validation::objectmeta::{name_is_subdomain, validate_label_selector};
use crate::validation::{content, items, refusals, text};

pub(super) fn downward_api(source: &DownwardAPIVolumeSource, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    errors.extend(file_mode(source.default_mode, &path.child("defaultMode")));
    errors.extend(user(source.default_user, &path.child("defaultUser")));
    errors.extend(items(&source.items).iter().flat_map(|file| downward_file(file, path)));
    errors
}

fn downward_file(file: &DownwardAPIVolumeFile, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    if file.path.is_empty() {
        errors.push(Error::required(&path.child("path"), ""));
    }
    errors.extend(local(&file.path, &path.child("path")));
    match (&file.field_ref, &file.resource_field_ref) {
        (Some(field), resource) => {
            errors.extend(validate_field_ref(field, VOLUME_FIELDS, &path.child("fieldRef")));
            if resource.is_some() {
                let detail = "fieldRef and resourceFieldRef can not be specified simultaneously";
                errors.push(Error::invalid(path, "resource", detail));
            }
        }
        (None, Some(resource)) => {
            errors.extend(validate_resource_ref(resource, true, &path.child("resourceFieldRef")));
        }
        (None, None) => {
            errors.push(Error::required(path, "one of fieldRef and resourceFieldRef is required"));
        }
    }
    errors.extend(file_mode(file.mode, &path.child("mode")));
    errors.extend(user(file.user, &path.child("user")));
    errors
}

/// A projected volume. `any_token_path` allows token paths that are not local.
pub(super) fn validate(source: &ProjectedVolumeSource, any_token_path: bool, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    errors.extend(file_mode(source.default_mode, &path.child("defaultMode")));
    errors.extend(user(source.default_user, &path.child("defaultUser")));
    let list = path.child("sources");
    let mut taken = Taken { paths: Vec::new(), volume: path };
    for (i, one) in items(&source.sources).iter().enumerate() {
        errors.extend(validate_source(one, any_token_path, &list.index(i), &mut taken));
    }
    errors
}

/// The files that sources of one volume make.
struct Taken<'a> {
    paths: Vec<String>,
    volume: &'a Path<'a>,
}

impl Taken<'_> {
    /// Notes a file; a second one of the name is an error, which names `bad`.
    fn note(&mut self, file: &str, bad: &str) -> Option<Error> {
        if self.paths.iter().any(|p| p == file) {
            return Some(Error::invalid(self.volume, bad, "conflicting duplicate paths"));
        }
        self.paths.push(file.to_owned());
        None
    }

    fn note_if_set(&mut self, file: &str, bad: &str) -> Option<Error> {
        if file.is_empty() { None } else { self.note(file, bad) }
    }
}

fn validate_source(
    source: &VolumeProjection,
    any_token_path: bool,
    path: &Path,
    taken: &mut Taken<'_>,
) -> Vec<Error> {
    let mut errors = Vec::new();
    let named = [
        ("secret", source.secret.as_ref().map(|s| (&s.name, items(&s.items)))),
        ("configMap", source.config_map.as_ref().map(|s| (&s.name, items(&s.items)))),
    ];
    let mut count = 0;
    for (field, found) in named {
        let Some((name, files)) = found else { continue };
        count += 1;
        let at = path.child(field);
        if name.is_empty() {
            errors.push(Error::required(&at.child("name"), ""));
        }
        let list = at.child("items");
        for (i, file) in files.iter().enumerate() {
            errors.extend(key_path(file, &list.index(i)));
            errors.extend(taken.note_if_set(&file.path, name));
        }
    }
    if let Some(source) = &source.downward_api {
        count += 1;
        for file in items(&source.items) {
            errors.extend(downward_file(file, &path.child("downwardAPI")));
            errors.extend(taken.note_if_set(&file.path, &file.path));
        }
    }
    if let Some(source) = &source.service_account_token {
        count += 1;
        errors.extend(token(source, any_token_path, taken.volume, &path.child("serviceAccountToken")));
    }
    if let Some(source) = &source.cluster_trust_bundle {
        count += 1;
        errors.extend(trust_bundle(source, &path.child("clusterTrustBundle")));
        errors.extend(taken.note(&source.path, &source.path));
    }
    if let Some(source) = &source.pod_certificate {
        count += 1;
        errors.extend(certificate(source, &path.child("podCertificate"), taken));
    }
    if count > 1 {
        errors.push(Error::forbidden(path, "may not specify more than 1 volume type per source"));
    }
    errors
}

fn token(source: &ServiceAccountTokenProjection, any_path: bool, volume: &Path, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let at = path.child("expirationSeconds");
    match source.expiration_seconds {
        None => errors.push(Error::required(&at, "")),
        Some(seconds) if seconds < 600 => {
            errors.push(Error::invalid(&at, seconds, "may not specify a duration less than 10 minutes"));
        }
        Some(seconds) if seconds > 1 << 32 => {
            errors.push(Error::invalid(&at, seconds, "may not specify a duration larger than 2^32 seconds"));
        }
        Some(_) => {}
    }
    // Upstream names the path of the volume here.
    if source.path.is_empty() {
        errors.push(Error::required(&volume.child("path"), ""));
    } else if !any_path {
        errors.extend(local(&source.path, &volume.child("path")));
    }
    errors.extend(user(source.user, &path.child("user")));
    errors
}

fn trust_bundle(source: &ClusterTrustBundleProjection, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let at = path.child("name");
    match (source.name.as_deref(), source.signer_name.as_deref()) {
        (Some(_), Some(_)) => {
            let detail = "only one of name and signerName may be used";
            errors.push(Error::invalid(path, Bad::json(source), detail));
        }
        (Some(name), None) => {
            if name.is_empty() {
                errors.push(Error::required(&at, "must be a valid object name"));
            }
            let refused = bundle_name(name).into_iter();
            errors.extend(
                refused
                    .map(|m| Error::invalid(&at, name, format!("not a valid clustertrustbundlename: {m}"))),
            );
            if let Some(selector) = &source.label_selector {
                let detail = "labelSelector must be unset if name is specified";
                errors.push(Error::invalid(&path.child("labelSelector"), Bad::json(selector), detail));
            }
        }
        (None, Some(signer)) => {
            let at = path.child("signerName");
            if signer.is_empty() {
                errors.push(Error::required(&at, "must be a valid signer name"));
            }
            errors.extend(signer_name(signer, &at));
            errors.extend(validate_label_selector(
                source.label_selector.as_ref(),
                &path.child("labelSelector"),
            ));
        }
        (None, None) => errors.push(Error::required(path, "either name or signerName must be specified")),
    }
    if source.path.is_empty() {
        errors.push(Error::required(&path.child("path"), ""));
    }
    errors.extend(local(&source.path, &path.child("path")));
    errors
}

/// `[signer:]name`, where the signer's slash is a colon too.
fn bundle_name(name: &str) -> Vec<String> {
    let Some((signer, _)) = name.rsplit_once(':') else { return name_is_subdomain(name, false) };
    let signer = signer.replace(':', "/");
    if signer.is_empty() {
        return vec!["ClusterTrustBundle without signer name must not have \":\" in its name".to_owned()];
    }
    let prefix = format!("{}:", signer.replace('/', ":"));
    match name.strip_prefix(&prefix) {
        Some(rest) => name_is_subdomain(rest, false),
        None => {
            vec![format!("ClusterTrustBundle for signerName {signer} must be named with prefix {prefix}")]
        }
    }
}

/// Whether a signer's name is reserved for the project. Upstream: `IsKubernetesSignerName`.
pub fn is_kubernetes_signer(name: &str) -> bool {
    let host = name.split('/').next().unwrap_or_default();
    host == "kubernetes.io" || host.ends_with(".kubernetes.io")
}

/// `domain/path`. Upstream: `ValidateSignerName`.
pub fn signer_name(name: &str, path: &Path) -> Vec<Error> {
    if name.is_empty() {
        return vec![Error::required(path, "")];
    }
    let [domain, rest] = name.split('/').collect::<Vec<_>>()[..] else {
        let detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        return vec![Error::invalid(path, name, detail)];
    };
    let mut errors = Vec::new();
    if domain.len() > content::DNS_SUBDOMAIN_MAX {
        errors.push(Error::too_long(path, content::DNS_SUBDOMAIN_MAX));
    }
    let first_refused = |text: &str, rule: fn(&str) -> Vec<String>| {
        let mut labels = text.split('.').map(|label| (label, rule(label)));
        let (label, texts) = labels.find(|(_, texts)| !texts.is_empty()).unwrap_or_default();
        let word = crate::validation::field::quote(label);
        refusals(path, text, texts.iter().map(|m| format!("validating label {word}: {m}")).collect())
    };
    errors.extend(first_refused(domain, content::dns_label));
    if !domain.contains('.') {
        let detail = "should be a domain with at least two segments separated by dots";
        errors.push(Error::invalid(path, domain, detail));
    }
    errors.extend(first_refused(rest, content::dns_subdomain));
    let most = 2 * content::DNS_SUBDOMAIN_MAX + content::DNS_LABEL_MAX + 2;
    if name.len() > most {
        errors.push(Error::too_long(path, most));
    }
    errors
}

fn certificate(source: &PodCertificateProjection, path: &Path, taken: &mut Taken<'_>) -> Vec<Error> {
    let mut errors = signer_name(&source.signer_name, &path.child("signerName"));
    errors.extend(user_annotations(source.user_annotations.as_ref(), &path.child("userAnnotations")));
    let keys = ["RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519"];
    if !keys.contains(&source.key_type.as_str()) {
        errors.push(Error::not_supported(&path.child("keyType"), &source.key_type, &keys));
    }
    if let Some(seconds) = source.max_expiration_seconds {
        let at = path.child("maxExpirationSeconds");
        if seconds < 3600 {
            let detail = "if provided, maxExpirationSeconds must be >= 3600";
            errors.push(Error::invalid(&at, seconds, detail));
        }
        let most = if is_kubernetes_signer(&source.signer_name) { 24 * 3600 } else { 91 * 24 * 3600 };
        if seconds > most {
            let detail = format!("if provided, maxExpirationSeconds must be <= {most}");
            errors.push(Error::invalid(&at, seconds, detail));
        }
    }
    let mut files = 0;
    for (field, file) in [
        ("credentialBundlePath", &source.credential_bundle_path),
        ("keyPath", &source.key_path),
        ("certificateChainPath", &source.certificate_chain_path),
    ] {
        let file = text(file);
        if !file.is_empty() {
            files += 1;
            errors.extend(local(file, &path.child(field)));
            errors.extend(taken.note(file, file));
        }
    }
    if files == 0 {
        let detail = "specify at least one of credentialBundlePath, keyPath, and certificateChainPath";
        errors.push(Error::required(path, detail));
    }
    errors
}

/// What pods tell signers. Upstream: `ValidateUserAnnotations`.
pub fn user_annotations(all: Option<&BTreeMap<String, String>>, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let mut size = 0;
    for (key, value) in all.into_iter().flatten() {
        size += key.len() + value.len();
        let key = key.to_lowercase();
        let refused = content::qualified_name(&key);
        if key.is_empty() {
            errors.push(Error::required(path, ""));
        } else if !refused.is_empty() {
            errors.extend(refusals(path, &key, refused));
        } else if !key.contains('/') {
            let detail = "must be a domain-prefixed key (such as \"acme.io/foo\")";
            errors.push(Error::invalid(path, &key, detail));
        }
    }
    if size > 256 * 1024 {
        errors.push(Error::too_long(path, 256 * 1024));
    }
    errors
}
