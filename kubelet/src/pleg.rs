//! Notices when containers start and end, and wakes the worker of their pod.
//!
//! Where the runtime offers an event stream, an event wakes the worker at once and a slow comparison of everything only
//! guards against lost events; otherwise everything is compared every second. Either way a worker asks the runtime
//! itself before it acts, so nothing here has to be complete. Upstream: pkg/kubelet/pleg, v1.37.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::metrics::work;
use crate::runtime::labels;
use crate::runtime::sketch::{PodSketch, Sketches, sketch, update};

/// Comparison without events, as upstream.
const RELIST: Duration = Duration::from_secs(1);
/// Comparison beside events.
const VERIFY: Duration = Duration::from_secs(10);
/// Pause before a broken stream is opened again.
const REOPEN: Duration = Duration::from_secs(2);
/// Without a comparison for so long, the node is not healthy. Upstream: pkg/kubelet/kubelet.go.
const UNHEALTHY: Duration = Duration::from_secs(180);

/// Watches the runtime.
pub struct Pleg {
    cri: cri::Client,
    last: Mutex<Sketches>,
    compared: Mutex<Option<Instant>>,
}

impl Pleg {
    /// Watches this runtime.
    pub fn new(cri: cri::Client) -> Self {
        Self { cri, last: Mutex::default(), compared: Mutex::default() }
    }

    /// Shows what was last seen of each pod, with the pod's id. Nothing changes meanwhile, so `show` must be quick.
    pub fn each(&self, mut show: impl FnMut(&str, &PodSketch)) {
        self.last.lock().iter().for_each(|(uid, pod)| show(uid, pod));
    }

    /// True once everything was compared with the runtime.
    pub fn has_compared(&self) -> bool {
        self.compared.lock().is_some()
    }

    /// Why the node cannot be trusted to notice changes, if so.
    pub fn problem(&self) -> Option<String> {
        match *self.compared.lock() {
            None => Some("PLEG is not healthy: pleg has yet to be successful".to_owned()),
            Some(at) if at.elapsed() > UNHEALTHY => {
                let seconds = at.elapsed().as_secs();
                Some(format!(
                    "PLEG is not healthy: pleg was last seen active {seconds}s ago; threshold is 3m0s"
                ))
            }
            Some(_) => None,
        }
    }

    /// Watches until `stop`; `changed` is called with the id of each pod of which something changed.
    pub async fn run(
        self: Arc<Self>,
        changed: impl Fn(&str) + Send + Sync + 'static,
        stop: CancellationToken,
    ) {
        let changed = Arc::new(changed);
        let streaming = Arc::new(Mutex::new(false));
        let stream = {
            let (pleg, changed, streaming) = (self.clone(), changed.clone(), streaming.clone());
            async move { pleg.follow(&*changed, &streaming).await }
        };
        let compare = async {
            loop {
                if let Err(error) = self.compare(&*changed).await {
                    tracing::error!(%error, "GenericPLEG: Unable to retrieve pods");
                }
                let pause = if *streaming.lock() { VERIFY } else { RELIST };
                tokio::time::sleep(pause).await;
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = async { tokio::join!(stream, compare); } => {}
        }
    }

    async fn follow(&self, changed: &(dyn Fn(&str) + Send + Sync), streaming: &Mutex<bool>) {
        loop {
            match self.cri.container_events().await {
                Err(error) if error.is_unimplemented() => {
                    tracing::info!("The container runtime offers no events; comparing every second instead");
                    return;
                }
                Err(error) => {
                    work::stream_opened(false);
                    tracing::warn!(%error, "Cannot open the runtime's event stream");
                }
                Ok(mut events) => {
                    work::stream_opened(true);
                    *streaming.lock() = true;
                    while let Ok(Some(event)) = events.message().await {
                        work::event_came(delay(event.created_at, Timestamp::now()));
                        let sandbox = event.pod_sandbox_status.unwrap_or_default();
                        let uid = sandbox
                            .metadata
                            .map(|m| m.uid)
                            .or_else(|| sandbox.labels.get(labels::POD_UID).cloned());
                        if let Some(uid) = uid.filter(|uid| !uid.is_empty()) {
                            changed(&uid);
                        }
                    }
                    *streaming.lock() = false;
                }
            }
            tokio::time::sleep(REOPEN).await;
        }
    }

    async fn compare(&self, changed: &(dyn Fn(&str) + Send + Sync)) -> cri::Result<()> {
        let begin = Instant::now();
        let now = sketch(&self.cri).await?;
        let last = self.compared.lock().replace(Instant::now());
        #[expect(clippy::cast_precision_loss, reason = "a number of seconds")]
        let at = Timestamp::now().as_second() as f64;
        work::relisted(at, last.map(|last| last.elapsed()), begin.elapsed());
        crate::metrics::running(now.values());
        let differ = update(&mut self.last.lock(), now);
        differ.iter().for_each(|uid| changed(uid));
        Ok(())
    }
}

/// How long ago something happened, in nanoseconds since 1970; a clock that went back counts as no time.
fn delay(at: i64, now: Timestamp) -> Duration {
    let elapsed = now.as_nanosecond().saturating_sub(i128::from(at));
    Duration::from_nanos(u64::try_from(elapsed).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays() {
        let now = Timestamp::from_second(2).unwrap();
        let of = |at| delay(at, now).as_millis();
        assert_eq!((of(1_500_000_000), of(3_000_000_000)), (500, 0));
    }
}
