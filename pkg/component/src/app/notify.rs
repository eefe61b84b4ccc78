//! Messages to systemd: READY, STOPPING, WATCHDOG. Silent when there is no service manager.
//! Upstream: coreos/go-systemd daemon.SdNotify in cmd/kubelet and apiserver; WatchdogSec in pkg/kubelet/watchdog.

use std::time::Duration;

use sd_notify::NotifyState;

use super::Tasks;

/// Talks to the service manager named by the environment. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Notifier {
    enabled: bool,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// From `NOTIFY_SOCKET` and `WATCHDOG_USEC`.
    pub fn from_environment() -> Self {
        Notifier {
            enabled: std::env::var_os("NOTIFY_SOCKET").is_some(),
            watchdog: sd_notify::watchdog_enabled(),
        }
    }

    /// Says nothing.
    pub fn disabled() -> Self {
        Notifier { enabled: false, watchdog: None }
    }

    /// The daemon serves.
    pub fn ready(&self) {
        self.send(NotifyState::Ready);
    }

    /// The daemon drains.
    pub fn stopping(&self) {
        self.send(NotifyState::Stopping);
    }

    /// The watchdog's period, for daemons that feed it by their own health (the kubelet).
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// Feeds the watchdog once.
    pub fn alive(&self) {
        self.send(NotifyState::Watchdog);
    }

    fn send(&self, state: NotifyState<'_>) {
        if self.enabled
            && let Err(error) = sd_notify::notify(&[state])
        {
            tracing::warn!(err = &error as &dyn std::error::Error, "Notifying the service manager failed");
        }
    }

    /// Feeds the watchdog at half its period as long as the runtime turns. Daemons with a better notion of health
    /// call [`Notifier::alive`] themselves and never need this.
    pub(super) fn start_watchdog(&self, tasks: &Tasks) {
        let Some(period) = self.watchdog.filter(|_| self.enabled) else { return };
        let (this, shutdown) = (self.clone(), tasks.shutdown().clone());
        tasks.spawn("service-watchdog", async move {
            let mut ticks = tokio::time::interval(period / 2);
            loop {
                tokio::select! {
                    _ = ticks.tick() => this.alive(),
                    () = shutdown.cancelled() => return,
                }
            }
        });
    }
}
