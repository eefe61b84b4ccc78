//! Service account tokens for pods, renewed before they expire. Upstream: pkg/kubelet/token/token_manager.go, v1.37.

use std::collections::HashMap;

use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;

use crate::pod::view::PodView;

/// A token is renewed after this time at the latest, in seconds.
const MAX_AGE: i64 = 24 * 3600;
/// Requested lifetime if the pod names none, in seconds.
const DEFAULT_LIFETIME: i64 = 3600;

#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    pod: String,
    account: String,
    audience: String,
    lifetime: i64,
}

struct Held {
    token: String,
    issued: Timestamp,
    expires: Timestamp,
}

/// Tokens in use, by pod and purpose.
#[derive(Default)]
pub struct Tokens {
    held: Mutex<HashMap<Key, Held>>,
}

/// True once 80 % of the lifetime, or a day, has passed.
pub fn needs_renewal(issued: Timestamp, expires: Timestamp, now: Timestamp) -> bool {
    let lifetime = expires.duration_since(issued).as_secs();
    let age = now.duration_since(issued).as_secs();
    age > MAX_AGE || age.saturating_mul(10) > lifetime.saturating_mul(8)
}

impl Tokens {
    /// A valid token for the pod's account, bound to the pod.
    ///
    /// # Errors
    /// If none is held that is still valid and the API server gives none; the text says why.
    pub async fn get(
        &self,
        client: &client::Client,
        pod: &Pod,
        audience: &str,
        lifetime: Option<i64>,
        now: Timestamp,
    ) -> Result<String, String> {
        let account = pod.spec().service_account_name.clone().unwrap_or_else(|| "default".to_owned());
        let lifetime = lifetime.unwrap_or(DEFAULT_LIFETIME);
        let key = Key {
            pod: pod.uid().to_owned(),
            account: account.clone(),
            audience: audience.to_owned(),
            lifetime,
        };
        let mut usable = None;
        if let Some(held) = self.held.lock().get(&key) {
            if !needs_renewal(held.issued, held.expires, now) {
                return Ok(held.token.clone());
            }
            if held.expires > now {
                usable = Some(held.token.clone());
            }
        }
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                attestations: None,
                audiences: (!audience.is_empty()).then(|| vec![audience.to_owned()]),
                expiration_seconds: Some(lifetime),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".to_owned()),
                    kind: Some("Pod".to_owned()),
                    name: Some(pod.name().to_owned()),
                    uid: Some(pod.uid().to_owned()),
                }),
            }),
            ..TokenRequest::default()
        };
        let api = client.namespaced::<ServiceAccount>(pod.namespace());
        let answer: Result<TokenRequest, _> = api.create_subresource(&account, "token", &request).await;
        let issued = answer.map(|answer| {
            let status = answer.status?;
            Some((status.token?, status.expiration_timestamp?.0))
        });
        match (issued, usable) {
            (Ok(Some((token, expires))), _) => {
                self.held.lock().insert(key, Held { token: token.clone(), issued: now, expires });
                Ok(token)
            }
            // An old but valid token is better than none.
            (_, Some(token)) => Ok(token),
            (Ok(None), None) => {
                Err(format!("failed to fetch token: no status for service account {account:?}"))
            }
            (Err(error), None) => Err(format!("failed to fetch token: {error}")),
        }
    }

    /// Forgets the tokens of a pod, and any that have expired.
    pub fn forget(&self, pod_uid: &str, now: Timestamp) {
        let late = SignedDuration::from_secs(0);
        self.held.lock().retain(|key, held| key.pod != pod_uid && held.expires.duration_since(now) > late);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewal() {
        let at = |s| Timestamp::from_second(s).unwrap();
        assert!(!needs_renewal(at(0), at(3600), at(2800)));
        assert!(needs_renewal(at(0), at(3600), at(2900)));
        assert!(needs_renewal(at(0), at(1_000_000), at(MAX_AGE + 1)));
    }
}
