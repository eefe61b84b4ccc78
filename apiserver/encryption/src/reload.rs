//! The configuration in force, and how it follows its file.
//! Upstream: `encryptionconfig/controller/controller.go`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use component::app::Tasks;
use tokio_util::sync::CancellationToken;

use crate::config;
use crate::provider::Transformers;

/// How long plugins that are no longer named are kept, for the requests that still need them. Upstream waits twice the
/// plugins' time limits.
const GRACE: Duration = Duration::from_secs(10);

/// The waits between attempts to use a file that could not be used.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LAST_WAIT: Duration = Duration::from_secs(60);

/// The configuration in force. Clones share it.
#[derive(Clone)]
pub struct Current(Arc<ArcSwap<Transformers>>);

impl Current {
    /// With a first configuration.
    pub fn new(first: Transformers) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(first)))
    }

    /// As it is now.
    pub fn get(&self) -> Arc<Transformers> {
        self.0.load_full()
    }

    /// Reads the file, and follows it if asked. A file that cannot be used is reported and what is in force stays.
    ///
    /// # Errors
    /// The file cannot be used now.
    pub async fn start(path: &Path, reload: bool, tasks: &Tasks) -> Result<Self, String> {
        let stop = tasks.shutdown().child_token();
        let current = Self::new(config::load(path, reload, tasks, &stop).await?);
        if reload {
            let follower = follow(current.clone(), path.to_owned(), tasks.clone(), stop);
            tasks.spawn("encryption-config-reload", follower);
        }
        Ok(current)
    }
}

async fn follow(current: Current, path: PathBuf, tasks: Tasks, mut stop: CancellationToken) {
    let shutdown = tasks.shutdown().clone();
    // One change waiting stands for all that follow it.
    let (changed, mut changes) = tokio::sync::mpsc::channel(1);
    let watched = vec![path.clone()];
    let until = shutdown.clone();
    tasks.spawn("encryption-config-watch", async move {
        let tell = move || {
            // Full: the change that waits will read the newest content.
            let _ = changed.try_send(());
        };
        component::files::watch(watched, until, tell).await;
    });
    let mut wait = None;
    loop {
        let again = async {
            match wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = changes.recv() => if changed.is_none() { return },
            () = again => {}
        }
        let next = shutdown.child_token();
        match usable(&path, &tasks, &next).await {
            Ok(loaded) => {
                wait = None;
                current.0.store(Arc::new(loaded));
                let old = std::mem::replace(&mut stop, next);
                tasks.spawn("encryption-config-old", async move {
                    tokio::time::sleep(GRACE).await;
                    old.cancel();
                });
                tracing::info!(file = %path.display(), "Loaded new kms encryption config content");
            }
            Err(why) => {
                next.cancel();
                // A plugin may come up without the file changing.
                wait = Some(wait.map_or(FIRST_WAIT, |w| (w * 2).min(LAST_WAIT)));
                tracing::error!("error processing encryption config file {}: {why}", path.display());
            }
        }
    }
}

/// Reads the file, and waits a while for the plugins it names to be healthy.
/// Upstream: `validateNewTransformersHealth`.
async fn usable(path: &Path, tasks: &Tasks, stop: &CancellationToken) -> Result<Transformers, String> {
    let loaded = config::load(path, true, tasks, stop).await?;
    let deadline = tokio::time::Instant::now() + GRACE;
    loop {
        let Err(why) = loaded.health().await else { return Ok(loaded) };
        if tokio::time::Instant::now() >= deadline {
            return Err(format!(
                "health check for new transformers failed, polling error timed out waiting for the condition: {why}"
            ));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
