//! `--authorization-mode=Webhook` and authorizers of type Webhook: ask a server by SubjectAccessReview.
//! Upstream: `k8s.io/apiserver/plugin/pkg/authorizer/webhook/webhook.go`.

pub(crate) mod conditions;
pub(crate) mod question;

use std::time::Duration;

use async_trait::async_trait;
use auth::{Attributes, Authorizer, Decision, Verdict};
use machinery::Value;
use serde::Deserialize;

use self::conditions::Conditions;
use self::question::{Spec, Version};
use super::{FIRST_WAIT, Remembered, transient};
use crate::outbound::endpoint::Endpoint;

/// Longest question whose answer is remembered. Upstream: `maxControlledAttrCacheSize`.
const MAX_CONTROLLED: usize = 10_000;

/// How a webhook is asked.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) version: Version,
    /// How long a permission is good, and a refusal; nothing for what is not remembered.
    pub(crate) ttl: (Duration, Duration),
    /// Whether a question without an answer is a refusal.
    pub(crate) denies_on_failure: bool,
    pub(crate) conditions: Conditions,
}

/// The authorizer.
pub(crate) struct AccessWebhook {
    endpoint: Endpoint,
    settings: Settings,
    known: Remembered<String, Status>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Answer {
    status: Status,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Status {
    allowed: bool,
    denied: bool,
    reason: String,
}

/// Whether the parts of a request that its sender chooses are short enough. Upstream: `shouldCache`.
fn is_short(a: &Attributes) -> bool {
    let parts =
        [&a.namespace, &a.verb, &a.api_group, &a.api_version, &a.resource, &a.subresource, &a.name, &a.path];
    parts.iter().map(|p| p.len()).sum::<usize>() < MAX_CONTROLLED
}

impl AccessWebhook {
    pub(crate) fn new(endpoint: Endpoint, settings: Settings) -> Self {
        Self { endpoint, settings, known: Remembered::new() }
    }

    async fn ask(&self, spec: &Spec<'_>) -> Result<Status, String> {
        let review = serde_json::to_vec(&spec.review(self.settings.version)).map_err(|e| e.to_string())?;
        let answer = self.endpoint.post(review.into(), FIRST_WAIT, transient).await?;
        serde_json::from_slice::<Answer>(&answer).map(|r| r.status).map_err(|e| e.to_string())
    }

    /// What is answered where the webhook cannot be asked.
    fn failed(&self, why: String) -> Verdict {
        let decision = if self.settings.denies_on_failure { Decision::Deny } else { Decision::NoOpinion };
        Verdict { decision, reason: String::new(), error: Some(why) }
    }

    async fn status(&self, a: &Attributes, spec: &Spec<'_>) -> Result<Status, String> {
        // Two selectors that mean the same are two questions; label selectors count, too.
        let key = serde_json::to_string(spec).map_err(|e| e.to_string())?;
        if let Some(status) = self.known.get(&key) {
            return Ok(status);
        }
        let status = self.ask(spec).await.inspect_err(|why| {
            tracing::error!("Failed to make webhook authorizer request: {why}");
        })?;
        if is_short(a) {
            let ttl = if status.allowed { self.settings.ttl.0 } else { self.settings.ttl.1 };
            self.known.put(key, status.clone(), ttl);
        }
        Ok(status)
    }
}

fn verdict(status: Status) -> Verdict {
    let mut verdict = match (status.denied, status.allowed) {
        (true, _) => Verdict::new(Decision::Deny, status.reason),
        (false, true) => Verdict::new(Decision::Allow, status.reason),
        (false, false) => Verdict::new(Decision::NoOpinion, status.reason),
    };
    if status.denied && status.allowed {
        verdict.error =
            Some("webhook subject access review returned both allow and deny response".to_owned());
    }
    verdict
}

#[async_trait]
impl Authorizer for AccessWebhook {
    async fn authorize(&self, attributes: &Attributes) -> Verdict {
        let spec = Spec::new(attributes, self.settings.version);
        if !self.settings.conditions.is_empty() {
            match self.settings.conditions.hold(&Value::from(spec.for_conditions())) {
                Ok(true) => {}
                Ok(false) => return Verdict::new(Decision::NoOpinion, ""),
                Err(why) => return self.failed(why),
            }
        }
        match self.status(attributes, &spec).await {
            Ok(status) => verdict(status),
            Err(why) => self.failed(why),
        }
    }

    fn rules_for(&self, _: &auth::UserInfo, _: &str) -> auth::authorizer::RuleSet {
        auth::authorizer::RuleSet {
            incomplete: true,
            errors: vec!["webhook authorizer does not support user rule resolution".to_owned()],
            ..Default::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let check = |allowed: bool, denied: bool, want: Decision| {
            let got = verdict(Status { allowed, denied, reason: "r".into() });
            let both = allowed && denied;
            assert_eq!((got.decision, got.reason.as_str(), got.error.is_some()), (want, "r", both));
        };
        check(true, false, Decision::Allow);
        check(false, true, Decision::Deny);
        check(true, true, Decision::Deny);
        check(false, false, Decision::NoOpinion);
    }
}
