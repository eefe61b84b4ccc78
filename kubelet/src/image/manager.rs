//! Making sure that a container's image is on the node, and that its pod may use it.
//!
//! Upstream: pkg/kubelet/images/image_manager.go, v1.37.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use client::limiter::Bucket;
use cri::v1;
use k8s_openapi::api::core::v1::{Pod, Secret};
use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::credentials::{Found, Keyring};
use super::provider::Providers;
use super::pullmanager::credentials::Access;
use super::pullmanager::records::Credentials;
use super::pullmanager::{Check, PullManager};
use super::reference::{repository, with_default_tag};
use crate::backoff::Backoff;
use crate::events::Events;
use crate::metrics;
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
    /// Who pulled what; absent if nobody wants to know.
    pulls: Option<PullManager>,
}

/// A pull under way. Dropped without an outcome, it has failed.
struct Pull<'a> {
    manager: Option<&'a PullManager>,
    image: &'a str,
}

impl<'a> Pull<'a> {
    fn begin(manager: Option<&'a PullManager>, image: &'a str) -> Result<Self, String> {
        manager.map_or(Ok(()), |manager| manager.intend(image))?;
        Ok(Self { manager, image })
    }

    fn done(mut self, image_ref: &str, used: Option<Found>) {
        let Some(manager) = self.manager.take() else { return };
        let secret = used.and_then(|found| found.secret);
        let credentials = secret.map_or_else(Credentials::of_node, Credentials::of_secret);
        manager.pulled(self.image, image_ref, &credentials, Timestamp::now());
    }
}

impl Drop for Pull<'_> {
    fn drop(&mut self) {
        if let Some(manager) = self.manager {
            manager.failed(self.image);
        }
    }
}

/// What was found out about an image, for metrics.
#[derive(Default)]
struct Seen {
    present: Option<bool>,
    pull: Option<bool>,
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
        pulls: Option<PullManager>,
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
            pulls,
        }
    }

    /// Forgets who pulled images that are no longer there, unless they were pulled after `until`.
    pub fn prune(&self, present: &HashSet<String>, until: Timestamp) {
        if let Some(pulls) = &self.pulls {
            pulls.prune(present, until);
        }
    }

    /// Makes sure that the image is there and that the pod may use it.
    ///
    /// # Errors
    /// If it is not there and cannot or must not be pulled.
    pub async fn ensure(&self, request: &Request<'_>) -> Result<Present, StartFailure> {
        let mut seen = Seen::default();
        let result = self.find_or_pull(request, &mut seen).await;
        metrics::images::requested(request.policy, seen.present, seen.pull);
        result
    }

    async fn find_or_pull(&self, request: &Request<'_>, seen: &mut Seen) -> Result<Present, StartFailure> {
        let Request { pod, container, image, .. } = *request;
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
            seen.present = Some(found.image.is_some());
            if let Some(found) = found.image {
                seen.pull = Some(false);
                let access =
                    self.access(request, &spec, &found.id).await.inspect_err(|_| seen.pull = None)?;
                if access {
                    let known = if self.pulls.is_some() { " and can be accessed by the pod" } else { "" };
                    let message = format!("Container image {image:?} already present on machine{known}");
                    self.events.container_normal(pod, container, "Pulled", &message);
                    return Ok(Present { id: found.id });
                }
                seen.pull = Some(true);
            }
            // That an image is there is not told to those who may not use it.
            if request.policy == "Never" {
                let message = format!("Container image {image:?} is not present with pull policy of Never");
                self.events.container_warning(pod, container, "ErrImageNeverPull", &message);
                return Err(failure("ErrImageNeverPull", message));
            }
        }
        seen.pull = Some(true);
        let credentials = self.credentials(request, &spec).await?;
        self.pull(request, spec, credentials).await
    }

    /// Whether the pod may use an image that is here without asking the registry.
    async fn access(
        &self,
        request: &Request<'_>,
        spec: &v1::ImageSpec,
        image_ref: &str,
    ) -> Result<bool, StartFailure> {
        let Some(pulls) = &self.pulls else { return Ok(true) };
        match pulls.check(request.image, image_ref) {
            Check::Present => Ok(true),
            Check::Pull => Ok(false),
            Check::Compare(known) => {
                let found = self.credentials(request, spec).await.inspect_err(|_| {
                    metrics::images::checked(metrics::images::Checked::Error);
                })?;
                let secrets = found.into_iter().filter_map(|found| found.secret).collect();
                let access = Access { secrets, account: None };
                Ok(pulls.may_use(request.image, image_ref, &known, &access, Timestamp::now()))
            }
        }
    }

    /// Credentials to try: of the pod's secrets first, then what the node has, then what programs know.
    async fn credentials(
        &self,
        request: &Request<'_>,
        spec: &v1::ImageSpec,
    ) -> Result<Vec<Found>, StartFailure> {
        let wanted = repository(&spec.image);
        let of_pod = Keyring::of_secrets(request.secrets).map_err(|error| failure(&error, error.clone()))?;
        let mut out = of_pod.lookup(&wanted);
        out.extend(Keyring::of_node(&self.root).lookup(&wanted));
        out.extend(self.providers.for_image(&spec.image).await.lookup(&wanted));
        Ok(out)
    }

    async fn pull(
        &self,
        request: &Request<'_>,
        spec: v1::ImageSpec,
        credentials: Vec<Found>,
    ) -> Result<Present, StartFailure> {
        let Request { pod, container, image, .. } = *request;
        let pull = Pull::begin(self.pulls.as_ref(), image).map_err(|error| {
            let message =
                format!("Failed to record image pull intent for container image {image:?}: {error}");
            failure(&error, message)
        })?;
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
        let result = self.pull_with_credentials(request, &spec, credentials).await;
        drop(slot);
        match result {
            Ok((id, used)) => {
                pull.done(&id, used);
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
                let message = format!("Failed to pull image {image:?}: {}", pull_text(&error));
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

    /// Tries the credentials one after the other; without any, once without. Tells which ones were good.
    async fn pull_with_credentials(
        &self,
        request: &Request<'_>,
        spec: &v1::ImageSpec,
        credentials: Vec<Found>,
    ) -> cri::Result<(String, Option<Found>)> {
        let mut credentials: Vec<Option<Found>> = credentials.into_iter().map(Some).collect();
        if credentials.is_empty() {
            credentials.push(None);
        }
        let mut last = Err(cri::Error::Incomplete { call: "PullImage", part: "an answer" });
        for found in credentials {
            // Upstream fails at once instead of waiting; the back-off between attempts follows.
            if self.rate.as_ref().is_some_and(|rate| !rate.lock().try_take(self.started.elapsed())) {
                return Err(cri::Error::Refused("pull QPS exceeded"));
            }
            let message = v1::PullImageRequest {
                image: Some(spec.clone()),
                auth: found.as_ref().map(|found| found.login.auth()),
                sandbox_config: Some(request.sandbox.clone()),
            };
            last = self.cri.pull_image(message).await.map(|answer| (answer.image_ref, found));
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

fn failure(reason: &str, message: String) -> StartFailure {
    StartFailure { reason: reason.to_owned(), message }
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
    StartFailure { reason: "ErrImagePull".to_owned(), message: pull_text(error) }
}

/// An error of a pull; a code that tells nothing is left out. Upstream: PullImage in cri-client/pkg/remote_image.go.
fn pull_text(error: &cri::Error) -> String {
    if error.code() == Some(tonic::Code::Unknown) { error.message().to_owned() } else { error.to_string() }
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
