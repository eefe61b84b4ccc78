//! `AuthenticationConfiguration` and the `--oidc-*` flags, which say a part of the same.
//! Upstream: `k8s.io/apiserver/pkg/apis/apiserver/v1/types.go`, `pkg/kubeapiserver/options/authentication.go`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::mapping::Mapping;
use crate::reviewers::io_text;

const KINDS: [(&str, &str); 3] = [
    ("apiserver.config.k8s.io/v1", "AuthenticationConfiguration"),
    ("apiserver.config.k8s.io/v1beta1", "AuthenticationConfiguration"),
    ("apiserver.config.k8s.io/v1alpha1", "AuthenticationConfiguration"),
];
/// JOSE algorithms that issuers may sign with.
const ALGORITHMS: [&str; 9] =
    ["ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "RS256", "RS384", "RS512"];

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct File {
    pub(crate) jwt: Option<Vec<WrittenJwt>>,
    pub(crate) anonymous: Option<Anonymous>,
}

/// Whether requests without credentials are served, and on which paths; all, where none is named.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Anonymous {
    pub(crate) enabled: bool,
    pub(crate) conditions: Option<Vec<AnonymousCondition>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct AnonymousCondition {
    pub(crate) path: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct WrittenJwt {
    pub(crate) issuer: WrittenIssuer,
    pub(crate) claim_validation_rules: Option<Vec<ClaimRule>>,
    pub(crate) claim_mappings: ClaimMappings,
    pub(crate) user_validation_rules: Option<Vec<UserRule>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct WrittenIssuer {
    pub(crate) url: String,
    #[serde(rename = "discoveryURL")]
    pub(crate) discovery_url: Option<String>,
    pub(crate) certificate_authority: String,
    pub(crate) audiences: Option<Vec<String>>,
    pub(crate) audience_match_policy: String,
    pub(crate) egress_selector_type: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct ClaimRule {
    pub(crate) claim: String,
    pub(crate) required_value: String,
    pub(crate) expression: String,
    pub(crate) message: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ClaimMappings {
    pub(crate) username: PrefixedClaim,
    pub(crate) groups: PrefixedClaim,
    pub(crate) uid: PlainClaim,
    pub(crate) extra: Option<Vec<ExtraMapping>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct PrefixedClaim {
    pub(crate) claim: String,
    pub(crate) prefix: Option<String>,
    pub(crate) expression: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct PlainClaim {
    pub(crate) claim: String,
    pub(crate) expression: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct ExtraMapping {
    pub(crate) key: String,
    pub(crate) value_expression: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct UserRule {
    pub(crate) expression: String,
    pub(crate) message: String,
}

/// An issuer that was checked.
#[derive(Debug)]
pub(crate) struct Issuer {
    pub(crate) url: String,
    pub(crate) discovery_url: Option<String>,
    /// PEM; the system's where it is empty.
    pub(crate) ca: String,
    pub(crate) audiences: Vec<String>,
    pub(crate) algorithms: Vec<String>,
    pub(crate) mapping: Mapping,
}

/// `--oidc-*`
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// `--oidc-issuer-url`
    pub issuer: String,
    /// `--oidc-client-id`
    pub client_id: String,
    /// `--oidc-ca-file`
    pub ca_file: Option<PathBuf>,
    /// `--oidc-username-claim`
    pub username_claim: String,
    /// `--oidc-username-prefix`
    pub username_prefix: String,
    /// `--oidc-groups-claim`
    pub groups_claim: String,
    /// `--oidc-groups-prefix`
    pub groups_prefix: String,
    /// `--oidc-signing-algs`
    pub algorithms: Vec<String>,
    /// `--oidc-required-claim`
    pub required: BTreeMap<String, String>,
}

impl Flags {
    /// What the flags say, as a file would.
    pub(super) fn to_file(&self) -> Result<File, String> {
        let prefix = match (self.username_prefix.as_str(), self.username_claim.as_str()) {
            ("-", _) | ("", "email") => String::new(),
            ("", _) => format!("{}#", self.issuer),
            (given, _) => given.to_owned(),
        };
        let certificate_authority = match &self.ca_file {
            Some(file) => String::from_utf8_lossy(&read(file)?).into_owned(),
            None => String::new(),
        };
        let mut mappings = ClaimMappings {
            username: PrefixedClaim {
                claim: self.username_claim.clone(),
                prefix: Some(prefix),
                ..PrefixedClaim::default()
            },
            ..ClaimMappings::default()
        };
        if !self.groups_claim.is_empty() {
            mappings.groups.claim.clone_from(&self.groups_claim);
            mappings.groups.prefix = Some(self.groups_prefix.clone());
        }
        let required = self.required.iter().map(|(claim, value)| ClaimRule {
            claim: claim.clone(),
            required_value: value.clone(),
            ..ClaimRule::default()
        });
        let jwt = WrittenJwt {
            issuer: WrittenIssuer {
                url: self.issuer.clone(),
                audiences: Some(vec![self.client_id.clone()]),
                certificate_authority,
                ..WrittenIssuer::default()
            },
            claim_validation_rules: Some(required.collect()),
            claim_mappings: mappings,
            user_validation_rules: None,
        };
        Ok(File { jwt: Some(vec![jwt]), anonymous: None })
    }
}

pub(super) fn all_algorithms() -> Vec<String> {
    ALGORITHMS.map(str::to_owned).to_vec()
}

/// Refuses algorithms that nobody is to sign with.
pub(super) fn check_algorithms(algorithms: &[String]) -> Result<(), String> {
    match algorithms.iter().find(|a| !ALGORITHMS.contains(&a.as_str())) {
        Some(other) => Err(format!("oidc: unsupported signing alg: {other:?}")),
        None => Ok(()),
    }
}

pub(super) fn read(file: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(file).map_err(|e| format!("open {}: {}", file.display(), io_text(&e)))
}

/// Reads a configuration; unknown fields are errors.
pub(super) fn decode(data: &[u8]) -> Result<File, String> {
    if data.is_empty() {
        return Err("empty config data".to_owned());
    }
    let texts = |problems: &[component::config::Problem]| {
        problems.iter().map(|p| p.text.as_str()).collect::<Vec<_>>().join(", ")
    };
    let decoded = component::config::decode::<File>("", data, &KINDS).map_err(|e| texts(&e.0))?;
    match decoded.strict_problems.as_slice() {
        [] => Ok(decoded.value),
        problems => Err(format!("strict decoding error: {}", texts(problems))),
    }
}
