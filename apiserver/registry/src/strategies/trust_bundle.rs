//! Cluster trust bundles. Upstream: `pkg/registry/certificates/clustertrustbundle/strategy.go`, and
//! `ValidateClusterTrustBundle` in `pkg/apis/certificates/validation/validation.go`.

use std::collections::BTreeMap;

use ::api::validation::core::projected::signer_name;
use ::api::validation::field::{Error as FieldError, Path};
use ::api::validation::objectmeta::{self, NameRule, name_is_subdomain, validate_immutable};
use k8s_openapi::api::certificates::v1::ClusterTrustBundle;
use machinery::{Value, golang, pem};

use super::{validated, validated_update};
use crate::strategy::{Call, Strategy};

/// Largest bundle, in bytes.
const MAX_SIZE: usize = 1 << 20;

/// The strategy.
pub struct TrustBundles;

impl Strategy for TrustBundles {
    fn judges_finalizers(&self, _call: &Call<'_>) -> bool {
        false
    }

    // The whole rule depends on the signer.
    fn name_rule(&self) -> NameRule {
        objectmeta::name_is_path_segment
    }

    fn validate(&self, _call: &Call<'_>, object: &Value) -> Vec<FieldError> {
        validated(object, |bundle| validate(bundle, true))
    }

    fn validate_update(&self, _call: &Call<'_>, object: &Value, old: &Value) -> Vec<FieldError> {
        validated_update(object, old, |new: &ClusterTrustBundle, old: &ClusterTrustBundle| {
            // What is stored stays good, however parsers change.
            let mut errors = validate(new, new.spec.trust_bundle != old.spec.trust_bundle);
            let spec = Path::new("spec");
            let text = |bundle: &ClusterTrustBundle| bundle.spec.signer_name.clone().unwrap_or_default();
            errors.extend(validate_immutable(&text(new), &text(old), &spec.child("signerName")));
            errors
        })
    }
}

fn validate(bundle: &ClusterTrustBundle, parse: bool) -> Vec<FieldError> {
    let (metadata, spec) = (Path::new("metadata"), Path::new("spec"));
    let signer = bundle.spec.signer_name.as_deref().unwrap_or_default();
    let mut errors = Vec::new();
    let names =
        [("generateName", &bundle.metadata.generate_name, true), ("name", &bundle.metadata.name, false)];
    for (field, name, prefix) in names {
        let Some(name) = name.as_deref().filter(|n| !n.is_empty()) else { continue };
        let refused = name_refusals(signer, name, prefix).into_iter();
        errors.extend(refused.map(|m| FieldError::invalid(&metadata.child(field), name, m)));
    }
    errors.extend(objectmeta::validate_kube_object_meta(
        &bundle.metadata,
        false,
        |_, _| Vec::new(),
        &metadata,
    ));
    if !signer.is_empty() {
        errors.extend(signer_name(signer, &spec.child("signerName")));
    }
    if parse {
        errors.extend(trust_bundle(&bundle.spec.trust_bundle, &spec.child("trustBundle")));
    }
    errors
}

/// Upstream: `ValidateClusterTrustBundleName` in `pkg/apis/core/validation/names.go`.
fn name_refusals(signer: &str, name: &str, prefix: bool) -> Vec<String> {
    if signer.is_empty() {
        if name.contains(':') {
            return vec!["ClusterTrustBundle without signer name must not have \":\" in its name".to_owned()];
        }
        return name_is_subdomain(name, prefix);
    }
    let required = format!("{}:", signer.replace('/', ":"));
    match name.strip_prefix(&required) {
        Some(rest) => name_is_subdomain(rest, prefix),
        None => {
            vec![format!("ClusterTrustBundle for signerName {signer} must be named with prefix {required}")]
        }
    }
}

/// Certificates of authorities alone, each once, and at least one.
fn trust_bundle(text: &str, path: &Path) -> Vec<FieldError> {
    if text.len() > MAX_SIZE {
        return vec![FieldError::too_long(path, MAX_SIZE)];
    }
    let refuse = |detail: String| FieldError::invalid(path, "<value omitted>", detail);
    let mut errors = Vec::new();
    let mut seen: BTreeMap<Vec<u8>, Vec<String>> = BTreeMap::new();
    for (i, block) in pem::blocks(text.as_bytes()).into_iter().enumerate() {
        match anchor_refusal(&block) {
            Some(why) => errors.push(refuse(format!("entry {i} {why}"))),
            None => seen.entry(block.bytes).or_default().push(i.to_string()),
        }
    }
    if !errors.is_empty() {
        return errors;
    }
    if seen.is_empty() {
        errors.push(refuse("at least one trust anchor must be provided".to_owned()));
    }
    let twice = seen.values().filter(|indices| indices.len() > 1);
    errors.extend(twice.map(|i| refuse(format!("duplicate trust anchor (indices [{}])", i.join(" ")))));
    errors
}

fn anchor_refusal(block: &pem::Block) -> Option<String> {
    if block.label != "CERTIFICATE" {
        return Some(format!("has bad block type: {}", block.label));
    }
    if block.has_headers {
        return Some("has PEM block headers".to_owned());
    }
    let parsed = x509_parser::parse_x509_certificate(&block.bytes).ok().filter(|(rest, _)| rest.is_empty());
    let Some((_, certificate)) = parsed else { return Some("does not parse as X.509".to_owned()) };
    match certificate.basic_constraints() {
        Ok(Some(constraints)) if constraints.value.ca => None,
        Ok(_) => Some("does not have the CA bit set".to_owned()),
        Err(error) => Some(format!("has invalid basic constraints: {}", golang::quote(&error.to_string()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// From upstream's test/integration/etcd/data.go.
    const ANCHOR: &str = "-----BEGIN CERTIFICATE-----\nMIIBBDCBt6ADAgECAgEAMAUGAytlcDAQMQ4wDAYDVQQDEwVyb290MTAiGA8wMDAx\nMDEwMTAwMDAwMFoYDzAwMDEwMTAxMDAwMDAwWjAQMQ4wDAYDVQQDEwVyb290MTAq\nMAUGAytlcAMhAF2MoFeGa97gK2NGT1h6p1/a1GlMXAXbcjI/OShyIobPozIwMDAP\nBgNVHRMBAf8EBTADAQH/MB0GA1UdDgQWBBTWDdK2CNQiHqRjPaAWYPPtIykQgjAF\nBgMrZXADQQCtom9WGl7m2SAa4tXM9Soo/mbInBsRhn187BMoqTAHInHchKup5/3y\nl1tYJSZZsEXnXrCvw2qLCBNif6+2YYgE\n-----END CERTIFICATE-----\n";

    fn errors(name: &str, signer: &str, text: &str) -> Vec<String> {
        let bundle = json!({"metadata": {"name": name}, "spec": {"signerName": signer, "trustBundle": text}});
        let bundle: ClusterTrustBundle = serde_json::from_value(bundle).unwrap();
        validate(&bundle, true).iter().map(|e| format!("{}: {}", e.field, e.detail)).collect()
    }

    #[test]
    fn names_and_bundles() {
        let none: [&str; 0] = [];
        assert_eq!(errors("a.b", "", ANCHOR), none);
        assert_eq!(errors("example.com:signer:a", "example.com/signer", ANCHOR), none);
        assert_eq!(
            errors("a", "example.com/signer", ANCHOR),
            [
                "metadata.name: ClusterTrustBundle for signerName example.com/signer must be named with prefix example.com:signer:"
            ]
        );
        assert_eq!(
            errors("a:b", "", ANCHOR),
            ["metadata.name: ClusterTrustBundle without signer name must not have \":\" in its name"]
        );
        assert_eq!(errors("a", "", "x"), ["spec.trustBundle: at least one trust anchor must be provided"]);
        let twice = format!("{ANCHOR}{ANCHOR}");
        assert_eq!(errors("a", "", &twice), ["spec.trustBundle: duplicate trust anchor (indices [0 1])"]);
        let key = ANCHOR.replace("CERTIFICATE", "KEY");
        assert_eq!(errors("a", "", &key), ["spec.trustBundle: entry 0 has bad block type: KEY"]);
        let headers = ANCHOR.replacen('\n', "\nA: b\n\n", 1);
        assert_eq!(errors("a", "", &headers), ["spec.trustBundle: entry 0 has PEM block headers"]);
        let broken = ANCHOR.replacen("MII", "MIA", 1);
        assert_eq!(errors("a", "", &broken), ["spec.trustBundle: entry 0 does not parse as X.509"]);
    }
}
