//! What a request may do, asked by SubjectAccessReview.
//! Upstream: apiserver/plugin/pkg/authorizer/webhook/webhook.go, apiserver/pkg/authorization/path/path.go.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use auth::authorizer::{Attributes, Authorizer, Decision, Union, Verdict};
use client::Client;
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};

use super::cache::ExpiringCache;
use super::identity::{REVIEW_TIMEOUT, retried};

/// Reviews by the API server, answers cached.
pub struct AccessReviews {
    client: Client,
    allowed_ttl: Duration,
    denied_ttl: Duration,
    cache: ExpiringCache<Box<[u8]>, (Decision, Arc<str>)>,
}

/// Questions longer than this are not cached; upstream's figure.
const MAX_CACHED_KEY: usize = 10_000;

impl AccessReviews {
    /// Reviews by `client`; "allowed" and "denied" are kept for different times.
    pub fn new(client: &Client, allowed_ttl: Duration, denied_ttl: Duration) -> Self {
        AccessReviews {
            client: client.with_timeout(REVIEW_TIMEOUT),
            allowed_ttl,
            denied_ttl,
            cache: ExpiringCache::new(),
        }
    }

    /// The authorizer of a daemon's port: privileged group, paths always allowed, then reviews (none without a client,
    /// so that everything else is forbidden).
    pub fn chain(
        reviews: Option<AccessReviews>,
        always_allow_paths: &[String],
    ) -> Result<Arc<dyn Authorizer>, String> {
        let privileged = auth::PrivilegedGroups(vec![auth::SYSTEM_PRIVILEGED_GROUP.to_string()]);
        let mut chain: Vec<Arc<dyn Authorizer>> = vec![Arc::new(privileged)];
        if !always_allow_paths.is_empty() {
            chain.push(Arc::new(AlwaysAllowPaths::new(always_allow_paths)?));
        }
        if let Some(reviews) = reviews {
            chain.push(Arc::new(reviews));
        }
        Ok(Arc::new(Union(chain)))
    }
}

fn spec(attributes: &Attributes) -> SubjectAccessReviewSpec {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_string());
    let user = &attributes.user;
    let mut spec = SubjectAccessReviewSpec {
        user: some(&user.name),
        uid: some(&user.uid),
        groups: (!user.groups.is_empty()).then(|| user.groups.clone()),
        extra: (!user.extra.is_empty()).then(|| user.extra.clone().into_iter().collect()),
        ..SubjectAccessReviewSpec::default()
    };
    if attributes.resource_request {
        spec.resource_attributes = Some(ResourceAttributes {
            group: some(&attributes.api_group),
            version: some(&attributes.api_version),
            namespace: some(&attributes.namespace),
            verb: some(&attributes.verb),
            resource: some(&attributes.resource),
            subresource: some(&attributes.subresource),
            name: some(&attributes.name),
            ..ResourceAttributes::default()
        });
    } else {
        spec.non_resource_attributes =
            Some(NonResourceAttributes { path: some(&attributes.path), verb: some(&attributes.verb) });
    }
    spec
}

#[async_trait]
impl Authorizer for AccessReviews {
    async fn authorize(&self, attributes: &Attributes) -> Verdict {
        let spec = spec(attributes);
        let key = match serde_json::to_vec(&spec) {
            Ok(key) => key.into_boxed_slice(),
            Err(error) => return failed(format!("encoding a SubjectAccessReview: {error}")),
        };
        if let Some((decision, reason)) = self.cache.get(&key, Instant::now()) {
            return Verdict::new(decision, &*reason);
        }
        let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        let api = self.client.all::<SubjectAccessReview>();
        let status = match retried(|| api.create(&review)).await {
            Ok(answer) => answer.status.unwrap_or_default(),
            Err(error) => return failed(error.to_string()),
        };
        let reason = status.reason.unwrap_or_default();
        let (decision, ttl) = match (status.denied.unwrap_or(false), status.allowed) {
            (true, true) => {
                let text = "webhook subject access review returned both allow and deny response";
                return failed(text.to_string());
            }
            (true, false) => (Decision::Deny, self.denied_ttl),
            (false, true) => (Decision::Allow, self.allowed_ttl),
            (false, false) => (Decision::NoOpinion, self.denied_ttl),
        };
        if key.len() <= MAX_CACHED_KEY {
            self.cache.put(key, (decision, reason.as_str().into()), ttl, Instant::now());
        }
        Verdict::new(decision, reason)
    }
}

fn failed(why: String) -> Verdict {
    Verdict { decision: Decision::NoOpinion, reason: String::new(), error: Some(why) }
}

/// Allows paths by name or by prefix (`/healthz/*`).
#[derive(Debug)]
pub struct AlwaysAllowPaths {
    exact: Vec<String>,
    prefixes: Vec<String>,
}

impl AlwaysAllowPaths {
    /// From `--authorization-always-allow-paths`.
    ///
    /// # Errors
    /// Upstream's text for a `*` that is not at the end.
    pub fn new(paths: &[String]) -> Result<Self, String> {
        let (mut exact, mut prefixes) = (Vec::new(), Vec::new());
        for path in paths {
            let path = path.strip_prefix('/').unwrap_or(path);
            match path.find('*') {
                None => exact.push(path.to_string()),
                Some(at) if at + 1 == path.len() => prefixes.push(path[..at].to_string()),
                Some(_) => {
                    return Err(format!("only trailing * allowed in {}", machinery::golang::quote(path)));
                }
            }
        }
        Ok(AlwaysAllowPaths { exact, prefixes })
    }
}

#[async_trait]
impl Authorizer for AlwaysAllowPaths {
    async fn authorize(&self, attributes: &Attributes) -> Verdict {
        let path = attributes.path.strip_prefix('/').unwrap_or(&attributes.path);
        let known = !attributes.resource_request
            && (self.exact.iter().any(|p| p == path) || self.prefixes.iter().any(|p| path.starts_with(p)));
        Verdict::new(if known { Decision::Allow } else { Decision::NoOpinion }, "")
    }
}
