//! ImagePolicyWebhook: a server elsewhere says whether the images of a pod may run.
//!
//! Here is what is asked, how long an answer is good, and what a failure means; HTTP is behind [`Backend`].
//! Upstream: `plugin/pkg/admission/imagepolicy/admission.go`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use hashbrown::HashMap;
use machinery::Value;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::{Attributes, Operation, Plugin};
use crate::errors::ApiError;

/// What begins the keys of its annotations in audit events.
const AUDIT: &str = "imagepolicywebhook.image-policy.k8s.io/";
/// Most answers that are remembered. Upstream: the size of its cache.
const CAPACITY: usize = 1024;

/// Reaches the webhook.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// Posts a review, again where that may help, and answers with the body of a successful answer.
    ///
    /// # Errors
    /// Why there is none.
    async fn ask(&self, review: Bytes) -> Result<Bytes, String>;
}

/// The plugin.
pub struct ImagePolicyWebhook {
    backend: Box<dyn Backend>,
    allow_ttl: Duration,
    deny_ttl: Duration,
    default_allow: bool,
    known: Mutex<HashMap<Bytes, (Instant, Status)>>,
}

/// The question, in Go's order of fields.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Review<'a> {
    kind: &'static str,
    api_version: &'static str,
    metadata: Empty,
    spec: &'a Spec<'a>,
    status: Unanswered,
}

#[derive(Serialize)]
struct Empty {}

#[derive(Serialize)]
struct Unanswered {
    allowed: bool,
}

#[derive(Serialize)]
struct Spec<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    containers: Vec<Container<'a>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<&'a str, &'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    namespace: &'a str,
}

#[derive(Serialize)]
struct Container<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    image: &'a str,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Answer {
    status: Status,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    allowed: bool,
    reason: String,
    audit_annotations: Option<BTreeMap<String, String>>,
}

impl ImagePolicyWebhook {
    /// Answers are good for so long: those that allow, those that do not. `default_allow` says what a failure means.
    pub fn new(backend: Box<dyn Backend>, ttl: (Duration, Duration), default_allow: bool) -> Self {
        let (allow_ttl, deny_ttl) = ttl;
        Self { backend, allow_ttl, deny_ttl, default_allow, known: Mutex::default() }
    }

    fn remembered(&self, key: &Bytes) -> Option<Status> {
        let known = self.known.lock();
        known.get(key).filter(|(until, _)| Instant::now() < *until).map(|(_, status)| status.clone())
    }

    /// The expired, and then all, make room.
    fn remember(&self, key: Bytes, status: &Status) {
        let ttl = if status.allowed { self.allow_ttl } else { self.deny_ttl };
        let (mut known, now) = (self.known.lock(), Instant::now());
        if known.len() >= CAPACITY {
            known.retain(|_, (until, _)| now < *until);
            if known.len() >= CAPACITY {
                known.clear();
            }
        }
        known.insert(key, (now + ttl, status.clone()));
    }

    async fn status(&self, spec: &Spec<'_>) -> Result<Status, String> {
        let key = Bytes::from(serde_json::to_vec(spec).map_err(|e| e.to_string())?);
        if let Some(status) = self.remembered(&key) {
            return Ok(status);
        }
        let review = Review {
            kind: "ImageReview",
            api_version: "imagepolicy.k8s.io/v1alpha1",
            metadata: Empty {},
            spec,
            status: Unanswered { allowed: false },
        };
        let review = serde_json::to_vec(&review).map_err(|e| e.to_string())?;
        let answer = self.backend.ask(review.into()).await?;
        let status = serde_json::from_slice::<Answer>(&answer).map_err(|e| e.to_string())?.status;
        self.remember(key, &status);
        Ok(status)
    }
}

#[async_trait]
impl Plugin for ImagePolicyWebhook {
    fn name(&self) -> &'static str {
        "ImagePolicyWebhook"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    async fn validate(&self, a: &Attributes<'_>) -> Result<(), ApiError> {
        let lists: &[&str] = match a.subresource() {
            _ if !a.is_resource("", "pods") => return Ok(()),
            "" => &["containers", "initContainers"],
            "ephemeralcontainers" => &["ephemeralContainers"],
            _ => return Ok(()),
        };
        let Some(pod) = a.object.as_ref() else { return Ok(()) };
        let audit = &a.call.request.audit;
        match self.status(&spec(pod, lists, &a.namespace)).await {
            Ok(status) => {
                for (key, value) in status.audit_annotations.iter().flatten() {
                    audit.annotate_admission(&format!("{AUDIT}{key}"), value.clone());
                }
                match (status.allowed, status.reason.as_str()) {
                    (true, _) => Ok(()),
                    (false, "") => Err(a.forbidden("one or more images rejected by webhook backend")),
                    (false, reason) => Err(a.forbidden(format!(
                        "image policy webhook backend denied one or more images: {reason}"
                    ))),
                }
            }
            Err(why) => {
                tracing::info!(err = why, allowed = self.default_allow, "error contacting webhook backend");
                if !self.default_allow {
                    return Err(a.forbidden(why));
                }
                audit.annotate(&format!("{AUDIT}failed-open"), "true".to_owned());
                Ok(())
            }
        }
    }
}

fn spec<'a>(pod: &'a Value, lists: &[&str], namespace: &'a str) -> Spec<'a> {
    let containers =
        lists.iter().filter_map(|list| pod.list_at(&["spec", list])).flat_map(|list| list.iter());
    let annotations = pod.map_at(&["metadata", "annotations"]).into_iter().flat_map(|map| map.iter());
    Spec {
        containers: containers
            .map(|container| Container { image: container.str_at(&["image"]).unwrap_or_default() })
            .collect(),
        annotations: annotations
            .filter(|(key, _)| key.contains(".image-policy.k8s.io/"))
            .filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
            .collect(),
        namespace,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use serde_json::json;

    use super::*;

    struct Fixed(Result<&'static str, &'static str>, Arc<AtomicU32>, Arc<Mutex<Bytes>>);

    #[async_trait]
    impl Backend for Fixed {
        async fn ask(&self, review: Bytes) -> Result<Bytes, String> {
            self.1.fetch_add(1, Ordering::Relaxed);
            *self.2.lock() = review;
            self.0.map(Bytes::from).map_err(str::to_owned)
        }
    }

    #[tokio::test]
    async fn asks_once_for_the_same() {
        let (asked, sent) = (Arc::new(AtomicU32::new(0)), Arc::<Mutex<Bytes>>::default());
        let answer = r#"{"status":{"allowed":true,"auditAnnotations":{"k":"v"}}}"#;
        let backend = Fixed(Ok(answer), asked.clone(), sent.clone());
        let plugin =
            ImagePolicyWebhook::new(Box::new(backend), (Duration::from_secs(60), Duration::ZERO), false);
        let pod = Value::from(json!({
            "metadata": {"annotations": {"a.image-policy.k8s.io/x": "y", "other": "z"}},
            "spec": {"containers": [{"image": "main"}], "initContainers": [{"image": "init"}],
                "ephemeralContainers": [{"image": "debug"}]}}));
        let all = spec(&pod, &["containers", "initContainers"], "n");
        assert!(plugin.status(&all).await.unwrap().allowed);
        assert!(plugin.status(&all).await.unwrap().allowed);
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        assert_eq!(
            String::from_utf8_lossy(&sent.lock()),
            "{\"kind\":\"ImageReview\",\"apiVersion\":\"imagepolicy.k8s.io/v1alpha1\",\"metadata\":{},\"spec\":{\"containers\":\
             [{\"image\":\"main\"},{\"image\":\"init\"}],\"annotations\":{\"a.image-policy.k8s.io/x\":\"y\"},\"namespace\":\"n\"},\
             \"status\":{\"allowed\":false}}"
        );
    }

    #[tokio::test]
    async fn denials_are_forgotten_at_once_without_a_time() {
        let (asked, sent) = (Arc::new(AtomicU32::new(0)), Arc::default());
        let backend = Fixed(Ok(r#"{"status":{"reason":"no"}}"#), asked.clone(), sent);
        let plugin = ImagePolicyWebhook::new(Box::new(backend), (Duration::ZERO, Duration::ZERO), false);
        let pod = Value::default();
        for _ in 0..2 {
            assert_eq!(plugin.status(&spec(&pod, &[], "n")).await.unwrap().reason, "no");
        }
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }
}
