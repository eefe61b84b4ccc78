//! `--authentication-token-webhook-config-file`: asks a server by TokenReview.
//! Upstream: `k8s.io/apiserver/plugin/pkg/authenticator/token/webhook/webhook.go`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use auth::UserInfo;
use auth::authenticator::{Authenticated, Outcome, Rejected, TokenAuthenticator};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{FIRST_WAIT, Remembered, transient};
use crate::outbound::endpoint::Endpoint;

/// The authenticator. Answers are remembered under digests of the tokens.
pub(crate) struct TokenWebhook {
    endpoint: Endpoint,
    /// `v1` or `v1beta1`.
    version: String,
    /// Audiences that a webhook which does not know of audiences speaks for.
    implicit: Vec<String>,
    ttl: Duration,
    known: Remembered<[u8; 32], Option<Authenticated>>,
}

/// The question, in Go's order of fields.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Question<'a> {
    kind: &'static str,
    api_version: &'a str,
    metadata: serde_json::Value,
    spec: Spec<'a>,
    status: serde_json::Value,
}

#[derive(Serialize)]
struct Spec<'a> {
    token: &'a str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    audiences: &'a [String],
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Review {
    status: Status,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    authenticated: bool,
    user: User,
    audiences: Option<Vec<String>>,
    error: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct User {
    username: String,
    uid: String,
    groups: Option<Vec<String>>,
    extra: Option<BTreeMap<String, Vec<String>>>,
}

impl TokenWebhook {
    pub(crate) fn new(endpoint: Endpoint, version: &str, implicit: Vec<String>, ttl: Duration) -> Self {
        Self { endpoint, version: version.to_owned(), implicit, ttl, known: Remembered::new() }
    }

    async fn ask(&self, token: &str, audiences: &[String]) -> Result<Status, String> {
        let review = Question {
            kind: "TokenReview",
            api_version: &format!("authentication.k8s.io/{}", self.version),
            metadata: json!({}),
            spec: Spec { token, audiences },
            status: json!({"user": {}}),
        };
        let review = serde_json::to_vec(&review).map_err(|e| e.to_string())?;
        let answer = self.endpoint.post(review.into(), FIRST_WAIT, transient).await?;
        serde_json::from_slice::<Review>(&answer).map(|r| r.status).map_err(|e| e.to_string())
    }
}

/// What an answer means to a caller that accepts any of `audiences`.
fn outcome(status: Status, audiences: &[String], implicit: &[String]) -> Outcome {
    let said = status.audiences.unwrap_or_default();
    let good_for = if said.is_empty() { implicit } else { &said };
    let common: Vec<String> = audiences.iter().filter(|a| good_for.contains(a)).cloned().collect();
    if !audiences.is_empty() && common.is_empty() {
        return Ok(None);
    }
    if !status.authenticated {
        return if status.error.is_empty() { Ok(None) } else { Err(Rejected(status.error)) };
    }
    let User { username, uid, groups, extra } = status.user;
    let user = UserInfo {
        name: username,
        uid,
        groups: groups.unwrap_or_default(),
        extra: extra.unwrap_or_default(),
    };
    Ok(Some(Authenticated { user: Arc::new(user), audiences: common }))
}

/// What caches remember a token and the audiences asked for under: tokens are kept as digests only.
pub(crate) fn key(token: &str, audiences: &[String]) -> [u8; 32] {
    let mut digest = Sha256::new();
    for text in std::iter::once(token).chain(audiences.iter().map(String::as_str)) {
        digest.update((text.len() as u64).to_le_bytes());
        digest.update(text);
    }
    digest.finalize().into()
}

#[async_trait]
impl TokenAuthenticator for TokenWebhook {
    async fn authenticate(&self, token: &str, audiences: &[String]) -> Outcome {
        let key = key(token, audiences);
        if let Some(known) = self.known.get(&key) {
            return Ok(known);
        }
        let status = self.ask(token, audiences).await.map_err(|why| {
            tracing::error!("Failed to make webhook authenticator request: {why}");
            Rejected(why)
        })?;
        let outcome = outcome(status, audiences, &self.implicit);
        if let Ok(found) = &outcome {
            self.known.put(key, found.clone(), self.ttl);
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn audiences() {
        let list = |all: &[&str]| all.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>();
        let check = |said: &[&str], wanted: &[&str], want: Option<&[&str]>| {
            let status = Status { authenticated: true, audiences: Some(list(said)), ..Status::default() };
            let got = outcome(status, &list(wanted), &list(&["api"])).unwrap();
            assert_eq!(got.map(|f| f.audiences), want.map(list), "{said:?} {wanted:?}");
        };
        check(&[], &["api", "x"], Some(&["api"]));
        check(&["x"], &["api", "x"], Some(&["x"]));
        check(&["y"], &["api", "x"], None);
        check(&[], &[], Some(&[]));
    }

    #[test]
    fn refusals() {
        let status = |error: &str| Status { error: error.into(), ..Status::default() };
        assert_eq!(outcome(status(""), &[], &[]), Ok(None));
        assert_eq!(outcome(status("no"), &[], &[]), Err(Rejected("no".into())));
    }
}
