//! Decides whether to believe a service account token: issuer, signature, time, audience, and that the account and the
//! objects it is bound to still exist. Upstream: `pkg/serviceaccount/{jwt,claims,legacy}.go`.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;

use super::Unverified;
use super::claims::{Claims, LEGACY_ISSUER, Reference};
use super::keys::VerifyingKey;
use crate::UserInfo;
use crate::authenticator::{Authenticated, Outcome, Rejected, TokenAuthenticator};
use crate::x509::CREDENTIAL_ID;

/// What is known about an object a token depends on.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// Its uid.
    pub uid: String,
    /// `metadata.deletionTimestamp`
    pub deleted_at: Option<Timestamp>,
    /// `data.token` of a secret.
    pub token: Vec<u8>,
}

/// Finds the objects tokens depend on.
#[async_trait]
pub trait Lookup: Send + Sync + 'static {
    /// An object of `serviceaccounts`, `pods`, `secrets` or `nodes`.
    async fn find(&self, resource: &'static str, namespace: &str, name: &str) -> Option<Found>;
}

/// Authenticates tokens of our issuers, and legacy tokens.
pub struct ServiceAccountTokens<L> {
    /// Issuers believed.
    pub issuers: Vec<String>,
    /// Keys that verify.
    pub keys: Vec<VerifyingKey>,
    /// Audiences of tokens that name none.
    pub api_audiences: Vec<String>,
    /// Whether accounts, pods, secrets and nodes must exist (`--service-account-lookup` for legacy tokens).
    pub lookup_legacy: bool,
    /// Where they are.
    pub objects: L,
    /// Now.
    pub clock: fn() -> Timestamp,
}

/// Clock difference that is forgiven. Upstream: go-jose `DefaultLeeway`.
const LEEWAY_SECONDS: i64 = 60;

#[async_trait]
impl<L: Lookup> TokenAuthenticator for ServiceAccountTokens<L> {
    async fn authenticate(&self, token: &str, audiences: &[String]) -> Outcome {
        let Some(parsed) = Unverified::parse(token) else { return Ok(None) };
        let claims = Claims::from_json(&parsed.claims);
        if claims.issuer != LEGACY_ISSUER && !self.issuers.contains(&claims.issuer) {
            return Ok(None);
        }
        if !parsed.verify(&self.keys) {
            return Err(Rejected("invalid signature, token was not signed by a known key".to_owned()));
        }
        let audiences = self.audiences(&claims, audiences)?;
        let now = (self.clock)();
        if claims.legacy {
            self.check_legacy(&claims, token, now).await?;
        } else {
            check_time(&claims, now)?;
            self.check_bound(&claims, now).await?;
        }
        Ok(Some(Authenticated { user: Arc::new(user_of(&claims)), audiences }))
    }
}

impl<L: Lookup> ServiceAccountTokens<L> {
    /// The audiences token and caller have in common.
    fn audiences(&self, claims: &Claims, wanted: &[String]) -> Result<Vec<String>, Rejected> {
        let of_token = if claims.audiences.is_empty() { &self.api_audiences } else { &claims.audiences };
        let wanted = if wanted.is_empty() { &self.api_audiences } else { wanted };
        let common: Vec<String> = of_token.iter().filter(|a| wanted.contains(a)).cloned().collect();
        if common.is_empty() {
            return Err(Rejected(format!(
                "token audiences {of_token:?} is invalid for the target audiences {wanted:?}"
            )));
        }
        Ok(common)
    }

    async fn check_bound(&self, claims: &Claims, now: Timestamp) -> Result<(), Rejected> {
        let namespace = claims.namespace.as_str();
        self.check("serviceaccounts", "service account", namespace, &claims.account, now).await?;
        if let Some(secret) = &claims.secret {
            self.check("secrets", "secret", namespace, secret, now).await?;
        }
        if let Some(pod) = &claims.pod {
            self.check("pods", "pod", namespace, pod, now).await?;
        } else if let Some(node) = &claims.node {
            // A node beside a pod is information; alone it is what the token is bound to.
            self.check("nodes", "node", "", node, now).await?;
        }
        Ok(())
    }

    async fn check(
        &self,
        resource: &'static str,
        what: &str,
        namespace: &str,
        wanted: &Reference,
        now: Timestamp,
    ) -> Result<(), Rejected> {
        let name = &wanted.name;
        let Some(found) = self.objects.find(resource, namespace, name).await else {
            return Err(Rejected(format!("{what} {namespace}/{name} not found")));
        };
        if found.deleted_at.is_some_and(|at| at.as_second() + LEEWAY_SECONDS < now.as_second()) {
            return Err(Rejected(format!("{what} {namespace}/{name} has been deleted")));
        }
        if found.uid != wanted.uid {
            let (have, want) = (&found.uid, &wanted.uid);
            return Err(Rejected(format!("{what} UID ({have}) does not match {what} ref UID ({want})")));
        }
        Ok(())
    }

    async fn check_legacy(&self, claims: &Claims, token: &str, now: Timestamp) -> Result<(), Rejected> {
        let refuse = |text: &str| Err(Rejected(text.to_owned()));
        let secret = claims.secret.clone().unwrap_or_default();
        if claims.subject.is_empty() || claims.namespace.is_empty() {
            return refuse("namespace claim is missing");
        }
        if secret.name.is_empty() {
            return refuse("secretName claim is missing");
        }
        if claims.account.name.is_empty() || claims.account.uid.is_empty() {
            return refuse("serviceAccountName or serviceAccountUID claim is missing");
        }
        if !self.lookup_legacy {
            return Ok(());
        }
        match self.objects.find("secrets", &claims.namespace, &secret.name).await {
            Some(found) if found.deleted_at.is_some() => return refuse("token has been invalidated"),
            Some(found) if found.token != token.as_bytes() => {
                return refuse("token does not match server's copy");
            }
            Some(_) => {}
            None => return refuse("token has been invalidated"),
        }
        self.check("serviceaccounts", "service account", &claims.namespace, &claims.account, now).await
    }
}

fn check_time(claims: &Claims, now: Timestamp) -> Result<(), Rejected> {
    let now = now.as_second();
    match claims.expires {
        Some(at) if now - LEEWAY_SECONDS > at => {
            return Err(Rejected("service account token has expired".to_owned()));
        }
        _ => {}
    }
    if claims.not_before.is_some_and(|at| now + LEEWAY_SECONDS < at) {
        return Err(Rejected("service account token is not valid yet".to_owned()));
    }
    Ok(())
}

/// Upstream: `serviceaccount.ServiceAccountInfo.UserInfo`.
fn user_of(claims: &Claims) -> UserInfo {
    let namespace = &claims.namespace;
    let mut extra = BTreeMap::new();
    let mut put = |key: &str, value: &str| {
        extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value.to_owned()]);
    };
    if let Some(pod) = &claims.pod {
        put("pod-name", &pod.name);
        put("pod-uid", &pod.uid);
    }
    if let Some(node) = &claims.node {
        put("node-name", &node.name);
        put("node-uid", &node.uid);
    }
    if !claims.id.is_empty() {
        extra.insert(CREDENTIAL_ID.to_owned(), vec![format!("JTI={}", claims.id)]);
    }
    UserInfo {
        name: format!("system:serviceaccount:{namespace}:{}", claims.account.name),
        uid: claims.account.uid.clone(),
        groups: crate::service_account_groups(namespace),
        extra,
    }
}

#[cfg(test)]
mod tests {
    use super::super::claims::Bound;
    use super::super::keys::SigningKey;
    use super::super::sign;
    use super::*;

    struct Objects;

    #[async_trait]
    impl Lookup for Objects {
        async fn find(&self, resource: &'static str, _: &str, name: &str) -> Option<Found> {
            (name != "gone").then(|| Found { uid: format!("{resource}-{name}"), ..Found::default() })
        }
    }

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn key(algorithm: &'static rcgen::SignatureAlgorithm) -> SigningKey {
        let pair = rcgen::KeyPair::generate_for(algorithm).unwrap();
        SigningKey::from_pem(pair.serialize_pem().as_bytes()).unwrap()
    }

    fn authenticator(key: &SigningKey) -> ServiceAccountTokens<Objects> {
        ServiceAccountTokens {
            issuers: vec!["https://issuer".into()],
            keys: vec![key.public().clone()],
            api_audiences: vec!["api".into()],
            lookup_legacy: true,
            objects: Objects,
            clock: now,
        }
    }

    fn bound(account: &str) -> Bound {
        Bound {
            namespace: "ns".into(),
            account: Reference { name: account.into(), uid: format!("serviceaccounts-{account}") },
            pod: Some(Reference { name: "p".into(), uid: "pods-p".into() }),
            lifetime: 3600,
            audiences: vec!["api".into()],
            ..Bound::default()
        }
    }

    #[tokio::test]
    async fn round_trip_each_algorithm() {
        for algorithm in [
            &rcgen::PKCS_ECDSA_P256_SHA256,
            &rcgen::PKCS_ECDSA_P384_SHA384,
            &rcgen::PKCS_ECDSA_P521_SHA512,
            &rcgen::PKCS_RSA_SHA256,
        ] {
            let key = key(algorithm);
            let token = sign(&key, &bound("sa").to_json("https://issuer", "id", now())).unwrap();
            let found = authenticator(&key).authenticate(&token, &[]).await.unwrap().unwrap();
            assert_eq!(found.user.name, "system:serviceaccount:ns:sa");
            assert_eq!(found.user.extra["authentication.kubernetes.io/pod-name"], ["p"]);
            assert_eq!(found.audiences, ["api"]);
        }
    }

    #[tokio::test]
    async fn refusals() {
        let key = key(&rcgen::PKCS_ECDSA_P256_SHA256);
        let tokens = authenticator(&key);
        let check = async |claims: serde_json::Value, audiences: &[String], want: &str| {
            let token = sign(&key, &claims).unwrap();
            let got = tokens.authenticate(&token, audiences).await;
            let text = match got {
                Ok(None) => "none".to_owned(),
                Ok(Some(_)) => "ok".to_owned(),
                Err(error) => error.0,
            };
            assert_eq!(text, want);
        };
        let issuer = "https://issuer";
        check(bound("sa").to_json("https://other", "id", now()), &[], "none").await;
        check(bound("gone").to_json(issuer, "id", now()), &[], "service account ns/gone not found").await;
        let wrong = r#"token audiences ["api"] is invalid for the target audiences ["x"]"#;
        check(bound("sa").to_json(issuer, "id", now()), &["x".to_owned()], wrong).await;
        let past: Timestamp = "2025-12-31T22:00:00Z".parse().unwrap();
        check(bound("sa").to_json(issuer, "id", past), &[], "service account token has expired").await;
        let mut moved = bound("sa");
        moved.account.uid = "other".into();
        let text = "service account UID (serviceaccounts-sa) does not match service account ref UID (other)";
        check(moved.to_json(issuer, "id", now()), &[], text).await;
        assert_eq!(tokens.authenticate("a.b.c", &[]).await, Ok(None));
        let token = sign(&key, &bound("sa").to_json(issuer, "id", now())).unwrap();
        let other = authenticator(&self::key(&rcgen::PKCS_ECDSA_P256_SHA256));
        assert!(other.authenticate(&token, &[]).await.is_err());
    }
}
