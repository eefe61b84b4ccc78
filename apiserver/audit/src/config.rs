//! The flags, and the sinks they ask for. Upstream: `k8s.io/apiserver/pkg/server/options/audit.go`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use component::app::Tasks;
use component::flags::FlagSet;

use crate::buffered::{Batching, Buffered};
use crate::event::{Event, Stage};
use crate::log::Log;
use crate::metrics;
use crate::policy::{Policy, Settled};
use crate::rotate::Rotation;
use crate::sink::{Lenient, Mode, Sink, Union};
use crate::truncate::{Limits, Truncate};

/// How lines of the log look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One line of text.
    Legacy,
    /// One JSON document.
    Json,
}

/// `--audit-log-*`
#[derive(Debug, Clone, PartialEq)]
pub struct LogConfig {
    /// The file, or `-` for standard output.
    pub path: PathBuf,
    /// Format of lines.
    pub format: LogFormat,
    /// When files are full.
    pub rotation: Rotation,
    /// What stands before the sink.
    pub delivery: Delivery,
}

/// `--audit-webhook-*`
#[derive(Debug, Clone, PartialEq)]
pub struct WebhookConfig {
    /// A kubeconfig that names the server.
    pub kubeconfig: PathBuf,
    /// How long after the first failure the second attempt is made.
    pub initial_backoff: Duration,
    /// What stands before the sink.
    pub delivery: Delivery,
}

/// What stands before a sink.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    /// Whether requests wait.
    pub mode: Mode,
    /// How events are held in batch mode.
    pub batching: Batching,
    /// Sizes, if they are limited.
    pub limits: Option<Limits>,
}

/// What the flags ask for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Config {
    /// `--audit-policy-file`; without it nothing is recorded.
    pub policy: Option<PathBuf>,
    /// Lines of a file.
    pub log: Option<LogConfig>,
    /// Calls of a server.
    pub webhook: Option<WebhookConfig>,
}

/// The names of the flags of one kind of sink.
struct Names {
    plugin: &'static str,
    mode: &'static str,
    buffer: &'static str,
    size: &'static str,
    wait: &'static str,
    throttle: &'static str,
    qps: &'static str,
    burst: &'static str,
    truncate: &'static str,
    batch_bytes: &'static str,
    event_bytes: &'static str,
    version: &'static str,
}

const LOG: Names = Names {
    plugin: "log",
    mode: "audit-log-mode",
    buffer: "audit-log-batch-buffer-size",
    size: "audit-log-batch-max-size",
    wait: "audit-log-batch-max-wait",
    throttle: "audit-log-batch-throttle-enable",
    qps: "audit-log-batch-throttle-qps",
    burst: "audit-log-batch-throttle-burst",
    truncate: "audit-log-truncate-enabled",
    batch_bytes: "audit-log-truncate-max-batch-size",
    event_bytes: "audit-log-truncate-max-event-size",
    version: "audit-log-version",
};

const WEBHOOK: Names = Names {
    plugin: "webhook",
    mode: "audit-webhook-mode",
    buffer: "audit-webhook-batch-buffer-size",
    size: "audit-webhook-batch-max-size",
    wait: "audit-webhook-batch-max-wait",
    throttle: "audit-webhook-batch-throttle-enable",
    qps: "audit-webhook-batch-throttle-qps",
    burst: "audit-webhook-batch-throttle-burst",
    truncate: "audit-webhook-truncate-enabled",
    batch_bytes: "audit-webhook-truncate-max-batch-size",
    event_bytes: "audit-webhook-truncate-max-event-size",
    version: "audit-webhook-version",
};

impl Config {
    /// Reads the flags; adds every problem with those of sinks that are used.
    pub fn from_flags(flags: &FlagSet, problems: &mut Vec<String>) -> Self {
        let path = |name: &str| flags.non_empty(name).map(PathBuf::from);
        Self {
            policy: path("audit-policy-file"),
            log: path("audit-log-path").map(|path| log(flags, path, problems)),
            webhook: path("audit-webhook-config-file").map(|kubeconfig| WebhookConfig {
                kubeconfig,
                initial_backoff: backoff(flags),
                delivery: delivery(flags, &WEBHOOK, problems),
            }),
        }
    }
}

/// The older name of the flag sets the same value.
fn backoff(flags: &FlagSet) -> Duration {
    let older = "audit-webhook-batch-initial-backoff";
    let newer = "audit-webhook-initial-backoff";
    flags.duration(if flags.changed(older) && !flags.changed(newer) { older } else { newer })
}

fn log(flags: &FlagSet, path: PathBuf, problems: &mut Vec<String>) -> LogConfig {
    let delivery = delivery(flags, &LOG, problems);
    let format = match flags.string("audit-log-format") {
        "legacy" => LogFormat::Legacy,
        "json" => LogFormat::Json,
        other => {
            problems.push(format!("invalid audit log format {other}, allowed formats are \"legacy,json\""));
            LogFormat::Json
        }
    };
    let mut positive = |name: &str| {
        let value = flags.int(name);
        if value < 0 {
            problems.push(format!("--{name} {value} can't be a negative number"));
        }
        u32::try_from(value).unwrap_or(0)
    };
    let rotation = Rotation {
        max_age_days: positive("audit-log-maxage"),
        max_backups: positive("audit-log-maxbackup") as usize,
        max_bytes: u64::from(positive("audit-log-maxsize")) << 20,
        compress: flags.bool("audit-log-compress"),
    };
    LogConfig { path, format, rotation, delivery }
}

fn delivery(flags: &FlagSet, names: &Names, problems: &mut Vec<String>) -> Delivery {
    let plugin = names.plugin;
    let mode = flags.string(names.mode);
    let mode = Mode::ALL.into_iter().find(|m| m.text() == mode).unwrap_or_else(|| {
        let known = Mode::ALL.map(Mode::text).join(",");
        problems.push(format!("invalid audit {plugin} mode {mode}, allowed modes are {known:?}"));
        Mode::Blocking
    });
    let batching = Batching {
        buffer: size(flags, names.buffer),
        max_size: size(flags, names.size),
        max_wait: flags.duration(names.wait),
        throttle: flags
            .bool(names.throttle)
            .then(|| (flags.float(names.qps), u32::try_from(flags.int(names.burst)).unwrap_or(0))),
        // A file gains nothing from several writers.
        concurrent: plugin == WEBHOOK.plugin,
    };
    if mode == Mode::Batch {
        problems.extend(batch_problem(flags, names, &batching));
    }
    let limits = Limits { event: size(flags, names.event_bytes), batch: size(flags, names.batch_bytes) };
    if limits.event == 0 {
        let value = flags.int(names.event_bytes);
        problems.push(format!(
            "invalid audit truncate {plugin} max event size {value}, must be a positive number"
        ));
    } else if limits.batch < limits.event {
        problems.push(format!(
            "invalid audit truncate {plugin} max batch size {}, must be greater than max event size ({})",
            flags.int(names.batch_bytes),
            limits.event
        ));
    }
    if flags.string(names.version) != "audit.k8s.io/v1" {
        problems.push("invalid group version, allowed versions are [\"audit.k8s.io/v1\"]".to_owned());
    }
    Delivery { mode, batching, limits: flags.bool(names.truncate).then_some(limits) }
}

fn size(flags: &FlagSet, name: &str) -> usize {
    usize::try_from(flags.int(name)).unwrap_or(0)
}

/// The first wrong number of a batch. Upstream: `validateBackendBatchOptions`.
fn batch_problem(flags: &FlagSet, names: &Names, batching: &Batching) -> Option<String> {
    let (what, value) = match batching.throttle {
        _ if batching.buffer == 0 => ("buffer size", flags.int(names.buffer).to_string()),
        _ if batching.max_size == 0 => ("max batch size", flags.int(names.size).to_string()),
        Some((qps, _)) if qps <= 0.0 => ("throttle QPS", qps.to_string()),
        Some((_, 0)) => ("throttle burst", flags.int(names.burst).to_string()),
        _ => return None,
    };
    Some(format!("invalid audit batch {} {what} {value}, must be a positive number", names.plugin))
}

impl Delivery {
    /// Puts before a sink what the flags ask for.
    pub fn before(&self, sink: Arc<dyn Sink>, tasks: &Tasks) -> Arc<dyn Sink> {
        let sink: Arc<dyn Sink> = match self.mode {
            Mode::BlockingStrict => sink,
            Mode::Blocking => Arc::new(Lenient(sink)),
            Mode::Batch => Arc::new(Buffered::start(self.batching.clone(), sink, tasks)),
        };
        match self.limits {
            Some(limits) => Arc::new(Truncate::new(limits, sink)),
            None => sink,
        }
    }
}

/// The policy and where its events go.
pub struct Auditor {
    policy: Policy,
    sink: Arc<dyn Sink>,
    tasks: Tasks,
}

/// Why the flags' files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The policy.
    #[error("loading audit policy file: {0}")]
    Policy(String),
    /// The log.
    #[error("ensureLogFile: {0}")]
    Log(#[from] std::io::Error),
}

impl Auditor {
    /// Reads the policy and opens the log; `None` when nothing is to be recorded. `webhook` is the server's own sink.
    ///
    /// # Errors
    /// A file cannot be used.
    pub fn start(
        config: &Config,
        webhook: Option<Arc<dyn Sink>>,
        tasks: &Tasks,
    ) -> Result<Option<Arc<Self>>, StartError> {
        let policy = config.policy.as_deref().map(read_policy).transpose().map_err(StartError::Policy)?;
        let mut sinks: Vec<Arc<dyn Sink>> = Vec::new();
        if let Some(log) = &config.log {
            let opened = Log::open(log)?;
            match policy {
                Some(_) => sinks.push(log.delivery.before(Arc::new(opened), tasks)),
                None => tracing::info!(
                    "No audit policy file provided, no events will be recorded for log backend"
                ),
            }
        }
        if let (Some(config), Some(webhook)) = (&config.webhook, webhook) {
            match policy {
                Some(_) => sinks.push(config.delivery.before(webhook, tasks)),
                None => {
                    tracing::info!(
                        "No audit policy file provided, no events will be recorded for webhook backend"
                    );
                }
            }
        }
        let Some(policy) = policy.filter(|_| !sinks.is_empty()) else { return Ok(None) };
        let sink: Arc<dyn Sink> = if sinks.len() == 1 { sinks.remove(0) } else { Arc::new(Union(sinks)) };
        Ok(Some(Arc::new(Self { policy, sink, tasks: tasks.clone() })))
    }

    /// What is asked about requests.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Records an event of a stage, unless that stage is left out; false when it is lost.
    pub async fn record(&self, settled: &Settled, event: Event) -> bool {
        if settled.omit_stages.contains(&event.stage) {
            return true;
        }
        metrics::event();
        self.sink.process(&[Arc::new(event)]).await
    }

    /// Records the last event of a request that is no longer there to wait for it.
    pub fn record_later(self: &Arc<Self>, settled: &Settled, event: Event) {
        debug_assert!(event.stage == Stage::ResponseComplete);
        if settled.omit_stages.contains(&event.stage) {
            return;
        }
        metrics::event();
        let auditor = self.clone();
        self.tasks.spawn("audit-last-event", async move {
            auditor.sink.process(&[Arc::new(event)]).await;
        });
    }

    /// Writes what is held back; to be called when no more requests come.
    pub async fn finish(&self) {
        self.sink.finish().await;
    }
}

fn read_policy(path: &std::path::Path) -> Result<Policy, String> {
    let shown = path.display();
    let data =
        std::fs::read(path).map_err(|e| format!("failed to read file path {:?}: {e}", shown.to_string()))?;
    Policy::parse(&shown.to_string(), &data).map_err(|e| format!("{e}: from file {shown}"))
}
