//! What becomes of a token Secret. Pure. Upstream: tokens_controller.go syncSecret, generateTokenIfNeeded.

use client::Meta;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use serde_json::{Value, json};

pub const TYPE: &str = "kubernetes.io/service-account-token";
pub const NAME: &str = "kubernetes.io/service-account.name";
pub const UID: &str = "kubernetes.io/service-account.uid";
const CA: &str = "ca.crt";
const NAMESPACE: &str = "namespace";
const TOKEN: &str = "token";

/// What a Secret lacks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lacks {
    pub ca: bool,
    pub namespace: bool,
    pub token: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    Nothing,
    /// The account is gone, and nothing else may use its tokens.
    Delete,
    Fill(Lacks),
}

fn annotation<'a>(secret: &'a Secret, name: &str) -> &'a str {
    secret.metadata.annotations.as_ref().and_then(|a| a.get(name)).map(String::as_str).unwrap_or_default()
}

/// The account that a Secret names: name and, unless it is new, uid.
pub fn account_of(secret: &Secret) -> (&str, &str) {
    (annotation(secret, NAME), annotation(secret, UID))
}

/// A token of this very account, not of a namesake.
pub fn is_token_of(secret: &Secret, name: &str, uid: &str) -> bool {
    secret.type_.as_deref() == Some(TYPE) && account_of(secret) == (name, uid)
}

/// Decides. `account` is the one that the Secret names, if it exists.
pub fn plan(secret: &Secret, account: Option<&ServiceAccount>, root_ca: &[u8]) -> Plan {
    if secret.type_.as_deref() != Some(TYPE) || account_of(secret).0.is_empty() {
        return Plan::Nothing;
    }
    if account.is_none() {
        return Plan::Delete;
    }
    let has = |name: &str| secret.data.as_ref().and_then(|d| d.get(name)).map_or(&[][..], |d| d.0.as_slice());
    let lacks = Lacks {
        ca: !root_ca.is_empty() && has(CA) != root_ca,
        namespace: has(NAMESPACE).is_empty(),
        token: has(TOKEN).is_empty(),
    };
    if lacks == Lacks::default() { Plan::Nothing } else { Plan::Fill(lacks) }
}

/// What the token of a Secret states; it never expires. Upstream: pkg/serviceaccount/legacy.go LegacyClaims.
pub fn claims(account: &ServiceAccount, secret: &Secret) -> Value {
    let (namespace, name) = (account.namespace(), account.name());
    json!({
        "iss": "kubernetes/serviceaccount",
        "sub": format!("system:serviceaccount:{namespace}:{name}"),
        "kubernetes.io/serviceaccount/namespace": namespace,
        "kubernetes.io/serviceaccount/secret.name": secret.name(),
        "kubernetes.io/serviceaccount/service-account.name": name,
        "kubernetes.io/serviceaccount/service-account.uid": account.uid(),
    })
}

/// The Secret with what it lacked; `token` is a new one, if that was lacking.
pub fn filled(
    secret: &Secret,
    account: &ServiceAccount,
    lacks: Lacks,
    root_ca: &[u8],
    token: &str,
) -> Secret {
    let mut new = secret.clone();
    let data = new.data.get_or_insert_default();
    let mut set = |name: &str, value: &[u8]| drop(data.insert(name.to_string(), ByteString(value.to_vec())));
    if lacks.ca {
        set(CA, root_ca);
    }
    if lacks.namespace {
        set(NAMESPACE, secret.namespace().as_bytes());
    }
    if lacks.token {
        set(TOKEN, token.as_bytes());
    }
    let annotations = new.metadata.annotations.get_or_insert_default();
    annotations.insert(NAME.to_string(), account.name().to_string());
    annotations.insert(UID.to_string(), account.uid().to_string());
    new
}
