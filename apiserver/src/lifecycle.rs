//! The end of the server, in upstream's order: `/readyz` fails; after a delay, and when the server has left the addresses
//! behind `kubernetes`, nothing new is accepted and watches end; the port closes; what is in flight is waited for.
//!
//! With `--shutdown-send-retry-after` the port closes last: until then clients are told to come back later. With
//! `--shutdown-watch-termination-grace-period` watches end one after another, so that their clients do not all turn to
//! another server at once. Upstream: `RunWithContext` of apiserver/pkg/server/genericapiserver.go, `pkg/server/filters`.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// How long connections get once everything has drained: time for clients to read that they must go.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Watches that end in a second, at least.
const LEAST_RATE: f64 = 200.0;

/// `--shutdown-*`
#[derive(Debug, Clone, Copy, Default)]
pub struct Shutdown {
    /// `--shutdown-delay-duration`
    pub delay: Duration,
    /// `--shutdown-send-retry-after`
    pub send_retry_after: bool,
    /// `--shutdown-watch-termination-grace-period`
    pub watch_grace: Duration,
}

impl Shutdown {
    /// How long connections may last once the port is closed.
    pub(crate) fn http_timeout(&self, request_timeout: Duration) -> Duration {
        if self.send_retry_after { LAST_WORDS } else { request_timeout }
    }
}

/// Stages of the server's life that requests see, and the requests that its end waits for. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Lifecycle {
    /// Shutdown has begun: `/readyz` fails.
    pub shutting_down: CancellationToken,
    /// No new requests are accepted, watches end.
    pub draining: CancellationToken,
    /// Requests in flight that are not long-running.
    pub(crate) requests: TaskTracker,
    pub(crate) watches: Watches,
    send_retry_after: bool,
}

/// What is known of a request that may be refused.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) user_agent: &'a str,
    pub(crate) path: &'a str,
    pub(crate) long_running: bool,
    pub(crate) watch: bool,
}

/// How a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// 429, asking to come back in five seconds over another connection.
    TooManyRequests,
    /// 503, asking to come back in a second.
    Unavailable,
}

impl Lifecycle {
    pub(crate) fn new(shutdown: &Shutdown) -> Self {
        let watches = Watches { limited: !shutdown.watch_grace.is_zero(), ..Watches::default() };
        Self { watches, send_retry_after: shutdown.send_retry_after, ..Self::default() }
    }

    /// Whether a new request is refused. The server's own and those for probes and metrics never are.
    pub(crate) fn refuses(&self, asked: &Asked<'_>) -> Option<Refusal> {
        const EXEMPT: [&str; 4] = ["/readyz", "/livez", "/healthz", "/metrics"];
        if !self.draining.is_cancelled() {
            return None;
        }
        let exempt = asked.user_agent.starts_with("kube-apiserver/")
            || EXEMPT.iter().any(|path| asked.path.starts_with(path));
        let kept_out = !asked.long_running || (asked.watch && self.watches.limited);
        match (self.send_retry_after, exempt) {
            (true, false) => Some(Refusal::TooManyRequests),
            (false, false) if kept_out => Some(Refusal::Unavailable),
            _ => None,
        }
    }

    /// Ends the server; `left` is done when others no longer send clients here. `close` closes the port.
    pub(crate) async fn end(
        &self,
        shutdown: &Shutdown,
        left: impl Future<Output = ()>,
        close: &CancellationToken,
    ) {
        self.shutting_down.cancel();
        tracing::info!("[graceful-termination] shutdown event, name=ShutdownInitiated");
        tokio::join!(tokio::time::sleep(shutdown.delay), left);
        self.draining.cancel();
        tracing::info!("[graceful-termination] shutdown event, name=NotAcceptingNewRequest");
        if !shutdown.send_retry_after {
            close.cancel();
        }
        self.requests.close();
        tokio::join!(self.requests.wait(), self.watches.end(shutdown.watch_grace));
        tracing::info!("[graceful-termination] shutdown event, name=InFlightRequestsDrained");
        close.cancel();
    }
}

/// The open watches, and whose turn it is to end.
#[derive(Debug, Clone)]
pub(crate) struct Watches {
    open: TaskTracker,
    turns: Arc<Semaphore>,
    /// They end one after another.
    limited: bool,
}

impl Default for Watches {
    fn default() -> Self {
        Self { open: TaskTracker::new(), turns: Arc::new(Semaphore::new(0)), limited: false }
    }
}

/// An open watch.
pub(crate) struct OpenWatch {
    _counted: TaskTrackerToken,
    turns: Option<Arc<Semaphore>>,
}

impl OpenWatch {
    /// Done when the watch may end.
    pub(crate) fn turn(&self) -> impl Future<Output = ()> + Send + use<> {
        let turns = self.turns.clone();
        async move {
            if let Some(turns) = turns
                // Without any turns left everybody ends.
                && let Ok(turn) = turns.acquire().await
            {
                turn.forget();
            }
        }
    }
}

impl Watches {
    pub(crate) fn enter(&self) -> OpenWatch {
        let turns = self.limited.then(|| self.turns.clone());
        OpenWatch { _counted: self.open.token(), turns }
    }

    /// Lets watches end over the time of grace, or faster when they are few; at its end, all that are left.
    async fn end(&self, grace: Duration) {
        if grace.is_zero() {
            return;
        }
        self.open.close();
        let count = self.open.len();
        let rate = (count as f64 / grace.as_secs_f64()).max(LEAST_RATE);
        let giving = async {
            let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / rate));
            loop {
                ticks.tick().await;
                self.turns.add_permits(1);
            }
        };
        tokio::select! {
            () = self.open.wait() => {}
            () = giving => {}
            () = tokio::time::sleep(grace) => {}
        }
        self.turns.close();
        let left = self.open.len();
        tracing::info!(
            before = count,
            after = left,
            "[graceful-termination] active watch request(s) have drained"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(path: &str, long_running: bool, watch: bool) -> Asked<'_> {
        Asked { user_agent: "kubectl/v1", path, long_running, watch }
    }

    #[test]
    fn who_is_refused() {
        let shutdown = |send_retry_after, seconds| Shutdown {
            send_retry_after,
            watch_grace: Duration::from_secs(seconds),
            ..Shutdown::default()
        };
        let pods = "/api/v1/pods";
        let (busy, away) = (Some(Refusal::TooManyRequests), Some(Refusal::Unavailable));
        let cases = [
            (false, 0, asked(pods, false, false), away),
            (false, 0, asked(pods, true, true), None),
            (false, 5, asked(pods, true, true), away),
            (false, 5, asked(pods, true, false), None),
            (false, 0, asked("/readyz", false, false), None),
            (true, 0, asked(pods, false, false), busy),
            (true, 0, asked(pods, true, true), busy),
            (true, 0, asked("/livez/ping", false, false), None),
            (true, 0, Asked { user_agent: "kube-apiserver/v1", ..asked(pods, false, false) }, None),
        ];
        for (retry, grace, asked, want) in cases {
            let lifecycle = Lifecycle::new(&shutdown(retry, grace));
            assert_eq!(lifecycle.refuses(&asked), None, "{asked:?} before the end");
            lifecycle.draining.cancel();
            assert_eq!(lifecycle.refuses(&asked), want, "{asked:?} with {retry} {grace}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_port_closes_first_or_last() {
        for send_retry_after in [false, true] {
            let shutdown =
                Shutdown { delay: Duration::from_secs(3), send_retry_after, watch_grace: Duration::ZERO };
            let (lifecycle, close) = (Lifecycle::new(&shutdown), CancellationToken::new());
            let request = lifecycle.requests.token();
            let (ending, closing) = (lifecycle.clone(), close.clone());
            let end = tokio::spawn(async move { ending.end(&shutdown, async {}, &closing).await });
            tokio::time::sleep(Duration::from_secs(2)).await;
            assert!(lifecycle.shutting_down.is_cancelled() && !lifecycle.draining.is_cancelled());
            tokio::time::sleep(Duration::from_secs(2)).await;
            assert!(lifecycle.draining.is_cancelled());
            assert_eq!(close.is_cancelled(), !send_retry_after);
            assert!(!end.is_finished());
            drop(request);
            end.await.unwrap();
            assert!(close.is_cancelled());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn watches_end_one_after_another() {
        let shutdown = Shutdown { watch_grace: Duration::from_secs(10), ..Shutdown::default() };
        let watches = Lifecycle::new(&shutdown).watches;
        let start = tokio::time::Instant::now();
        let open: Vec<_> = (0..4000)
            .map(|_| {
                let watch = watches.enter();
                tokio::spawn(async move { watch.turn().await })
            })
            .collect();
        let stuck = watches.enter();
        watches.end(shutdown.watch_grace).await;
        assert_eq!(start.elapsed().as_secs(), 10);
        for watch in open {
            watch.await.unwrap();
        }
        // Nobody waits for a turn that does not come.
        stuck.turn().await;

        let few = Lifecycle::new(&shutdown).watches;
        let watch = few.enter();
        let watch = tokio::spawn(async move { watch.turn().await });
        few.end(shutdown.watch_grace).await;
        watch.await.unwrap();
    }
}
