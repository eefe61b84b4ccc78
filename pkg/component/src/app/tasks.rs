//! Every task has a name, an owner and an end.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Error;

/// Starts named tasks, counts them, waits for them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Tasks {
    shutdown: CancellationToken,
    tracker: TaskTracker,
    running: Arc<Mutex<BTreeMap<&'static str, usize>>>,
    failure: Arc<Mutex<Option<String>>>,
}

impl Tasks {
    /// Tasks that `shutdown` ends.
    pub fn new(shutdown: CancellationToken) -> Self {
        Tasks { shutdown, tracker: TaskTracker::new(), running: Arc::default(), failure: Arc::default() }
    }

    /// The token whose cancellation asks tasks to end.
    pub fn shutdown(&self) -> &CancellationToken {
        &self.shutdown
    }

    /// Starts a task that ends by itself when [`Tasks::shutdown`] is cancelled. A panic is logged and ends that task only.
    pub fn spawn<F>(&self, name: &'static str, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.start(name, async move {
            future.await;
            Ok(())
        });
    }

    /// Starts a task without which the daemon is of no use: its error, its panic or its end before shutdown drains the
    /// process and makes it exit with code 1.
    pub fn spawn_critical<F>(&self, name: &'static str, future: F)
    where
        F: Future<Output = Result<(), Error>> + Send + 'static,
    {
        let (shutdown, failure) = (self.shutdown.clone(), self.failure.clone());
        self.start(name, async move {
            let why = match std::panic::AssertUnwindSafe(future).catch_unwind().await {
                Ok(Ok(())) if shutdown.is_cancelled() => return Ok(()),
                Ok(Ok(())) => "ended unexpectedly".to_string(),
                Ok(Err(error)) => super::chain(error.as_ref()),
                Err(_) => "panicked".to_string(),
            };
            failure.lock().get_or_insert(format!("{name}: {why}"));
            shutdown.cancel();
            Err(why)
        });
    }

    fn start<F>(&self, name: &'static str, future: F)
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        *self.running.lock().entry(name).or_default() += 1;
        let running = self.running.clone();
        self.tracker.spawn(async move {
            let result = std::panic::AssertUnwindSafe(future).catch_unwind().await;
            let mut map = running.lock();
            if let Some(count) = map.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    map.remove(name);
                }
            }
            drop(map);
            match result {
                Ok(Ok(())) => crate::v!(4, task = name, "Task ended"),
                Ok(Err(why)) => tracing::error!(task = name, err = why, "Task failed"),
                Err(_) => tracing::error!(task = name, "Task panicked"),
            }
        });
    }

    /// Names and numbers of running tasks.
    pub fn running(&self) -> BTreeMap<&'static str, usize> {
        self.running.lock().clone()
    }

    /// The failure of a critical task, if there was one.
    pub(super) fn failure(&self) -> Result<(), Error> {
        self.failure.lock().take().map_or(Ok(()), |why| Err(why.into()))
    }

    /// Waits for all tasks after shutdown; names those that outlast `limit`.
    pub async fn join(&self, limit: Duration) {
        self.tracker.close();
        if tokio::time::timeout(limit, self.tracker.wait()).await.is_err() {
            let names: Vec<&str> = self.running().into_keys().collect();
            tracing::warn!(tasks = names.join(","), "Tasks did not end in time and are abandoned");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn critical_failure_drains_and_is_reported() {
        let token = CancellationToken::new();
        let tasks = Tasks::new(token.clone());
        let waits = token.clone();
        tasks.spawn("waiter", async move { waits.cancelled().await });
        tasks.spawn("panics", async { panic!("on purpose") });
        tasks.spawn_critical("fails", async { Err("boom".into()) });
        tasks.join(Duration::from_secs(5)).await;
        assert!(token.is_cancelled());
        assert_eq!(tasks.failure().unwrap_err().to_string(), "fails: boom");
        assert!(tasks.running().is_empty());
    }
}
