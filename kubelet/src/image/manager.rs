//! Making sure that a container's image is on the node. Upstream: pkg/kubelet/images/image_manager.go, v1.37.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use client::limiter::Bucket;
use cri::v1;
use k8s_openapi::api::core::v1::{Pod, Secret};
use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::credentials;
use super::provider::Providers;
use super::reference::with_default_tag;
use crate::backoff::Backoff;
use crate::events::Events;
use crate::pod::view::PodView;
use crate::runtime::labels;
use crate::status::generate::StartFailure;

/// Pauses after failed pulls.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// An image that is on the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Present {
    /// How the runtime calls it.
    pub id: String,
}

/// Pulls images.
pub struct ImageManager {
    cri: cri::Client,
    events: Events,
    /// Pulls that may run at once.
    slots: Arc<Semaphore>,
    /// Programs that know credentials.
    providers: Providers,
    /// The kubelet's folder, which may hold credentials too.
    root: PathBuf,
    /// Pulls per second; `None` for no limit.
    rate: Option<Mutex<Bucket>>,
    started: Instant,
    failed: Mutex<(Backoff, HashMap<String, String>)>,
}

/// What is asked for, and on whose behalf.
pub struct Request<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// The container (or volume) that needs the image.
    pub container: &'a str,
    /// The image as the user named it.
    pub image: &'a str,
    /// `Always`, `IfNotPresent` or `Never`.
    pub policy: &'a str,
    /// The pod's pull secrets.
    pub secrets: &'a [Arc<Secret>],
    /// The sandbox that the image is for.
    pub sandbox: &'a v1::PodSandboxConfig,
    /// Runtime handler, empty for the default.
    pub handler: &'a str,
}

impl ImageManager {
    /// `parallel` is how many pulls may run at once; zero for no limit.
    pub fn new(
        cri: cri::Client,
        events: Events,
        parallel: usize,
        rate: Option<Bucket>,
        providers: Providers,
        root: PathBuf,
    ) -> Self {
        let slots = if parallel == 0 { Semaphore::MAX_PERMITS } else { parallel };
        let failed = Mutex::new((Backoff::new(FIRST_PAUSE, LONGEST_PAUSE), HashMap::new()));
        let rate = rate.map(Mutex::new);
        Self {
            cri,
            events,
            slots: Arc::new(Semaphore::new(slots)),
            providers,
            root,
            rate,
            started: Instant::now(),
            failed,
        }
    }

    /// Makes sure that the image is there.
    ///
    /// # Errors
    /// If it is not and cannot or must not be pulled.
    pub async fn ensure(&self, request: &Request<'_>) -> Result<Present, StartFailure> {
        let Request { pod, container, image, .. } = *request;
        let failure = |reason: &str, message: String| StartFailure { reason: reason.to_owned(), message };
        let full = with_default_tag(image).map_err(|error| {
            let message = format!("Failed to apply default image tag {image:?}: {error}");
            self.events.container_warning(pod, container, "InspectFailed", &message);
            failure("InvalidImageName", message)
        })?;
        let spec = v1::ImageSpec {
            image: full,
            annotations: labels::sandbox_annotations(pod),
            runtime_handler: request.handler.to_owned(),
            user_specified_image: image.to_owned(),
            ..Default::default()
        };
        if request.policy != "Always" {
            let status = v1::ImageStatusRequest { image: Some(spec.clone()), verbose: false };
            let found = self.cri.image_status(status).await.map_err(|error| {
                let message = format!("Failed to inspect image {:?}: {error}", "");
                self.events.container_warning(pod, container, "InspectFailed", &message);
                failure("ImageInspectError", message)
            })?;
            if let Some(found) = found.image {
                let message = format!(
                    "Container image {image:?} already present on machine and can be accessed by the pod"
                );
                self.events.container_normal(pod, container, "Pulled", &message);
                return Ok(Present { id: found.id });
            }
            if request.policy == "Never" {
                let message = format!("Container image {image:?} is not present with pull policy of Never");
                self.events.container_warning(pod, container, "ErrImageNeverPull", &message);
                return Err(failure("ErrImageNeverPull", message));
            }
        }
        self.pull(request, spec).await
    }

    async fn pull(&self, request: &Request<'_>, spec: v1::ImageSpec) -> Result<Present, StartFailure> {
        let Request { pod, container, image, .. } = *request;
        let key = format!("{}_{image}", pod.uid());
        if let Some(failure) = self.held_back(&key, image) {
            self.events.container_normal(
                pod,
                container,
                "BackOff",
                &format!("Back-off pulling image {image:?}"),
            );
            return Err(failure);
        }
        self.events.container_normal(pod, container, "Pulling", &format!("Pulling image {image:?}"));
        let started = Instant::now();
        let slot = self.slots.acquire().await;
        let begun = Instant::now();
        let result = self.pull_with_credentials(request, &spec).await;
        drop(slot);
        match result {
            Ok(id) => {
                let size = self.image_size(&spec).await;
                let message = format!(
                    "Successfully pulled image {image:?} in {} ({} including waiting). Image size: {size} bytes.",
                    go_millis(begun.elapsed()),
                    go_millis(started.elapsed())
                );
                self.events.container_normal(pod, container, "Pulled", &message);
                self.failed.lock().0.forget(&key);
                Ok(Present { id })
            }
            Err(error) => {
                let message = format!("Failed to pull image {image:?}: {error}");
                self.events.container_warning(pod, container, "Failed", &message);
                let failure = pull_failure(image, &error);
                let mut failed = self.failed.lock();
                let now = Timestamp::now();
                failed.0.next(&key, now);
                failed.0.collect(now);
                failed.1.insert(key, format!("{}: {}", failure.reason, failure.message));
                let (backoff, messages) = &mut *failed;
                messages.retain(|key, _| !backoff.get(key).is_zero());
                Err(failure)
            }
        }
    }

    fn held_back(&self, key: &str, image: &str) -> Option<StartFailure> {
        let failed = self.failed.lock();
        if !failed.0.is_in_backoff_since_update(key, Timestamp::now()) {
            return None;
        }
        let mut message = format!("Back-off pulling image {image:?}");
        if let Some(last) = failed.1.get(key) {
            message = format!("{message}: {last}");
        }
        Some(StartFailure { reason: "ImagePullBackOff".to_owned(), message })
    }

    /// Tries the credentials one after the other; without any, once without.
    async fn pull_with_credentials(
        &self,
        request: &Request<'_>,
        spec: &v1::ImageSpec,
    ) -> cri::Result<String> {
        let mut credentials: Vec<Option<v1::AuthConfig>> =
            credentials::for_image(&spec.image, request.secrets).into_iter().map(Some).collect();
        // The pod's own secrets go first, then what the node has, as upstream.
        let mut of_node = credentials::of_node(&self.root);
        of_node.extend(self.providers.for_image(&spec.image).await);
        credentials.extend(credentials::pick(&spec.image, of_node).into_iter().map(Some));
        if credentials.is_empty() {
            credentials.push(None);
        }
        let mut last = Err(cri::Error::Incomplete { call: "PullImage", part: "an answer" });
        for auth in credentials {
            // Upstream fails at once instead of waiting; the back-off between attempts follows.
            if self.rate.as_ref().is_some_and(|rate| !rate.lock().try_take(self.started.elapsed())) {
                return Err(cri::Error::Refused("pull QPS exceeded"));
            }
            let message = v1::PullImageRequest {
                image: Some(spec.clone()),
                auth,
                sandbox_config: Some(request.sandbox.clone()),
            };
            last = self.cri.pull_image(message).await.map(|answer| answer.image_ref);
            if last.is_ok() {
                break;
            }
        }
        last
    }

    async fn image_size(&self, spec: &v1::ImageSpec) -> u64 {
        let status = v1::ImageStatusRequest { image: Some(spec.clone()), verbose: false };
        self.cri.image_status(status).await.ok().and_then(|answer| answer.image).map_or(0, |image| image.size)
    }
}

/// Reason and message of a failed pull; some runtimes put a reason in front of their message.
fn pull_failure(image: &str, error: &cri::Error) -> StartFailure {
    let text = error.message();
    for reason in ["RegistryUnavailable", "SignatureValidationFailed"] {
        if let Some(rest) = text.strip_prefix(reason) {
            let rest = rest.trim_start_matches(':').trim_start();
            let message = if reason == "RegistryUnavailable" {
                format!("image pull failed for {image} because the registry is unavailable{}", suffix(rest))
            } else {
                format!(
                    "image pull failed for {image} because the signature validation failed{}",
                    suffix(rest)
                )
            };
            return StartFailure { reason: reason.to_owned(), message };
        }
    }
    StartFailure { reason: "ErrImagePull".to_owned(), message: error.to_string() }
}

fn suffix(rest: &str) -> String {
    if rest.is_empty() { String::new() } else { format!(": {rest}") }
}

/// Whole milliseconds as Go prints durations.
fn go_millis(span: Duration) -> String {
    let millis = span.as_millis();
    if millis < 1000 {
        return format!("{millis}ms");
    }
    let (minutes, rest) = (millis / 60_000, millis % 60_000);
    let fraction = format!("{:03}", rest % 1000);
    let fraction = fraction.trim_end_matches('0');
    let seconds = if fraction.is_empty() {
        format!("{}s", rest / 1000)
    } else {
        format!("{}.{fraction}s", rest / 1000)
    };
    if minutes > 0 { format!("{minutes}m{seconds}") } else { seconds }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_durations() {
        assert_eq!(
            [5, 1500, 61_000, 2000].map(|m| go_millis(Duration::from_millis(m))),
            ["5ms", "1.5s", "1m1s", "2s"]
        );
    }
}
