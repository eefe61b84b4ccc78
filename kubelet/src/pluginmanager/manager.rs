//! Watches the folder, and registers who comes until the process ends.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use component::metrics::{Kind, Metrics, Sample, default_registry};
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::registration::register;
use super::sockets::{Sockets, Step};
use super::watcher::{Change, Watcher};
use super::{Handlers, PluginInfo};

/// What became of a step.
enum Done {
    Registered(PathBuf, Result<PluginInfo, String>),
    Deregistered(PathBuf),
}

/// Who registered in the folder.
pub struct PluginManager {
    folder: PathBuf,
    handlers: Arc<Handlers>,
    sockets: Mutex<Sockets>,
}

impl PluginManager {
    /// Nothing happens before [`Self::run`].
    pub fn new(folder: PathBuf, handlers: Handlers) -> Arc<Self> {
        Arc::new(Self { folder, handlers: Arc::new(handlers), sockets: Mutex::default() })
    }

    /// Shows how many sockets there are, for the rest of the process. Upstream: metrics/metrics.go.
    pub fn show(self: &Arc<Self>) {
        let this = self.clone();
        default_registry().register_collector(Arc::new(move |out: &mut Vec<Metrics>| {
            let sockets = this.sockets.lock();
            let (actual, desired) = sockets.counts();
            let of = |state, all: Vec<&std::path::Path>| -> Vec<Sample> {
                let one = |path: &std::path::Path| {
                    Sample::number(&[("socket_path", &path.to_string_lossy()), ("state", state)], 1.0)
                };
                all.into_iter().map(one).collect()
            };
            let samples =
                [of("actual_state_of_world", actual), of("desired_state_of_world", desired)].concat();
            if !samples.is_empty() {
                out.push(Metrics {
                    name: "plugin_manager_total_plugins".to_owned(),
                    help: "[ALPHA] Number of plugins in Plugin Manager".to_owned(),
                    kind: Kind::Gauge,
                    samples,
                });
            }
        }));
    }

    /// Works until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut watcher = match Watcher::new(&self.folder) {
            Ok(watcher) => watcher,
            Err(error) => {
                let path = self.folder.display();
                tracing::error!(%path, %error, "The folder that plugins register in cannot be watched");
                return;
            }
        };
        self.sockets.lock().only(&watcher.look());
        // As many as there are sockets at most, as each has one step at a time.
        let mut steps = JoinSet::new();
        loop {
            for step in self.sockets.lock().steps(Instant::now()) {
                steps.spawn(carry_out(step, self.handlers.clone()));
            }
            let wake = self.sockets.lock().wake_at();
            let pause = async {
                match wake {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                changes = watcher.next() => match changes {
                    Ok(changes) => self.apply(changes),
                    Err(error) => {
                        tracing::error!(%error, "The folder that plugins register in is not watched any more");
                        return;
                    }
                },
                Some(done) = steps.join_next() => self.note(done),
                () = pause => {}
            }
        }
    }

    fn apply(&self, changes: Vec<Change>) {
        let mut sockets = self.sockets.lock();
        for change in changes {
            match change {
                Change::Found(path, identity) => sockets.found(&path, identity),
                Change::Gone(path) => sockets.gone(&path),
                Change::All(all) => sockets.only(&all),
            }
        }
    }

    fn note(&self, done: Result<Done, tokio::task::JoinError>) {
        let mut sockets = self.sockets.lock();
        match done {
            Ok(Done::Registered(path, Ok(plugin))) => {
                tracing::info!(path = %path.display(), name = plugin.name, kind = plugin.kind, "Registered plugin");
                sockets.registered(&path, plugin);
            }
            Ok(Done::Registered(path, Err(error))) => {
                tracing::error!(path = %path.display(), error, "Failed to register plugin");
                sockets.failed(&path, Instant::now());
            }
            Ok(Done::Deregistered(path)) => sockets.deregistered(&path),
            // Only a panic ends a step early; the socket stays as it is.
            Err(error) => tracing::error!(%error, "Registration of a plugin broke off"),
        }
    }
}

async fn carry_out(step: Step, handlers: Arc<Handlers>) -> Done {
    match step {
        Step::Register(path) => {
            let result = register(&path, &handlers).await;
            Done::Registered(path, result)
        }
        Step::Deregister(path, plugin) => {
            if let Some(handler) = handlers.get(&plugin.kind) {
                handler.deregister(&plugin);
            }
            Done::Deregistered(path)
        }
    }
}
