//! Logs in klog's text and JSON forms, over `tracing`.
//!
//! `tracing::info!/warn!/error!` are klog's severities; [`v!`](crate::v) logs at a verbosity and costs one load when it
//! is off. `debug!` counts as verbosity 4 and `trace!` as 6 (8 and 10 in third-party crates). Verbosity and per-file
//! patterns change while running ([`set_verbosity`], [`set_vmodule`]); `PUT /debug/flags/v` does so.
//! Does not do: log files, rotation, spans in the output (klog has none).
//! Upstream: k8s.io/klog/v2, k8s.io/component-base/logs.

mod format;
mod record;
mod sink;

use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use arc_swap::ArcSwapOption;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

pub use format::Format;
use record::Record;
pub use sink::Output;

/// Logs at a verbosity: `v!(4, pod = %key, "Syncing pod")`. Fields follow `tracing`'s syntax.
#[macro_export]
macro_rules! v {
    ($level:expr, $($rest:tt)+) => {
        if $crate::logs::enabled($level, file!()) {
            $crate::logs::tracing::info!(v = i64::from($level), $($rest)+);
        }
    };
}

#[doc(hidden)]
pub use tracing;

/// `-v`.
static VERBOSITY: AtomicI32 = AtomicI32::new(0);
/// The largest level that anything can log at: `-v` or a pattern's level.
static HIGHEST: AtomicI32 = AtomicI32::new(0);
static RULES: ArcSwapOption<Vec<Rule>> = ArcSwapOption::const_empty();
static CONTEXTUAL_READY: AtomicBool = AtomicBool::new(false);

#[derive(Debug)]
struct Rule {
    pattern: String,
    /// Patterns with a slash match the whole path without its extension, others the file's stem.
    whole: bool,
    level: i32,
}

/// Whether a statement of `file` at `level` is logged.
#[inline]
pub fn enabled(level: i32, file: &str) -> bool {
    level <= HIGHEST.load(Ordering::Relaxed)
        && (level <= VERBOSITY.load(Ordering::Relaxed) || by_rule(level, file))
}

#[cold]
fn by_rule(level: i32, file: &str) -> bool {
    let Some(rules) = RULES.load_full() else { return false };
    let path = file.strip_suffix(".rs").unwrap_or(file);
    let stem = path.rsplit('/').next().unwrap_or(path);
    let matching =
        rules.iter().find(|r| glob(r.pattern.as_bytes(), if r.whole { path } else { stem }.as_bytes()));
    matching.is_some_and(|r| level <= r.level)
}

/// Shell pattern with `*` and `?`; iterative so that no pattern can recurse.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&c) if c == b'?' || c == text[t] => (p, t) = (p + 1, t + 1),
            _ => match star {
                Some((sp, st)) => {
                    (p, t) = (sp + 1, st + 1);
                    star = Some((sp, st + 1));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

fn refresh() {
    let rules = RULES.load();
    let by_file = rules.iter().flat_map(|r| r.iter()).map(|r| r.level).max().unwrap_or(0);
    HIGHEST.store(VERBOSITY.load(Ordering::Relaxed).max(by_file), Ordering::Relaxed);
    if CONTEXTUAL_READY.load(Ordering::Acquire) {
        tracing::callsite::rebuild_interest_cache();
    }
}

/// Sets `-v`.
pub fn set_verbosity(level: i32) {
    VERBOSITY.store(level, Ordering::Relaxed);
    refresh();
}

/// Current `-v`.
pub fn verbosity() -> i32 {
    VERBOSITY.load(Ordering::Relaxed)
}

/// Sets `--vmodule` from `pattern=N,...` as the flag checked it; unreadable parts are ignored.
pub fn set_vmodule(spec: &str) {
    let rules = spec.split(',').filter_map(|pair| {
        let (pattern, level) = pair.split_once('=')?;
        let level = level.parse().ok()?;
        Some(Rule { pattern: pattern.to_string(), whole: pattern.contains('/'), level })
    });
    let rules: Vec<Rule> = rules.collect();
    RULES.store((!rules.is_empty()).then(|| rules.into()));
    refresh();
}

/// What logging is set to.
#[derive(Debug, Clone)]
pub struct Options {
    /// `--logging-format`.
    pub format: Format,
    /// Where lines go.
    pub output: Output,
    /// `-v`.
    pub verbosity: i32,
    /// `--vmodule`.
    pub vmodule: String,
}

impl Default for Options {
    fn default() -> Self {
        Options { format: Format::Text, output: Output::Stderr, verbosity: 0, vmodule: String::new() }
    }
}

impl Options {
    /// From the shared "Logs" flags.
    ///
    /// # Errors
    /// Upstream's texts for an unknown format and for alpha options without their gate.
    pub fn from_flags(
        flags: &crate::flags::FlagSet,
        gates: &crate::features::Gates,
    ) -> Result<Self, Vec<String>> {
        use crate::features::Gate;
        let mut errors = Vec::new();
        let format = match flags.string("logging-format") {
            "text" => Format::Text,
            "json" if gates.enabled(Gate::LoggingBetaOptions) => Format::Json,
            "json" => {
                errors.push(
                    "format: Forbidden: Log format json is disabled, see LoggingBetaOptions feature".into(),
                );
                Format::Json
            }
            other => {
                errors.push(format!(
                    "format: Invalid value: {}: Unsupported log format",
                    machinery::golang::quote(other)
                ));
                Format::Text
            }
        };
        let alpha = ["log-json-split-stream", "log-text-split-stream"];
        let split = alpha.iter().any(|f| flags.bool(f));
        if split && !gates.enabled(Gate::LoggingAlphaOptions) {
            errors.push("options: Forbidden: Feature LoggingAlphaOptions is disabled".into());
        }
        if format == Format::Json && flags.changed("vmodule") && !flags.string("vmodule").is_empty() {
            errors.push("format: Forbidden: Only supported for text log format".into());
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Options {
            format,
            output: if split { Output::Split } else { Output::Stderr },
            verbosity: i32::try_from(flags.int("v")).unwrap_or(i32::MAX),
            vmodule: flags.string("vmodule").to_string(),
        })
    }
}

/// Installs logging for the process; later calls only change verbosity and patterns.
pub fn init(options: &Options) {
    let layer = KlogLayer { format: options.format, output: options.output.clone() };
    let subscriber = tracing_subscriber::registry().with(layer);
    if tracing::subscriber::set_global_default(subscriber).is_ok() {
        CONTEXTUAL_READY.store(true, Ordering::Release);
    }
    set_vmodule(&options.vmodule);
    set_verbosity(options.verbosity);
}

/// Writes each event as one line.
#[derive(Debug)]
pub struct KlogLayer {
    format: Format,
    output: Output,
}

impl KlogLayer {
    /// For composing with other `tracing` layers and for tests.
    pub fn new(format: Format, output: Output) -> Self {
        KlogLayer { format, output }
    }
}

/// Crates whose `debug!` is noise to an operator of a daemon.
fn foreign(target: &str) -> bool {
    let name = target.split("::").next().unwrap_or(target);
    matches!(
        name,
        "h2" | "hyper"
            | "hyper_util"
            | "rustls"
            | "tokio"
            | "tokio_util"
            | "tonic"
            | "tower"
            | "mio"
            | "want"
            | "tungstenite"
            | "tokio_tungstenite"
            | "netlink_proto"
            | "netlink_packet_route"
            | "rtnetlink"
    )
}

fn level_of(metadata: &Metadata<'_>) -> i32 {
    match (*metadata.level(), foreign(metadata.target())) {
        (Level::DEBUG, false) => 4,
        (Level::TRACE, false) => 6,
        (Level::DEBUG, true) => 8,
        (Level::TRACE, true) => 10,
        _ => 0,
    }
}

impl<S: Subscriber> Layer<S> for KlogLayer {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        let level = level_of(metadata);
        level == 0 || enabled(level, metadata.file().unwrap_or(""))
    }

    fn max_level_hint(&self) -> Option<tracing::level_filters::LevelFilter> {
        use tracing::level_filters::LevelFilter;
        Some(match HIGHEST.load(Ordering::Relaxed) {
            ..=3 => LevelFilter::INFO,
            4..=5 => LevelFilter::DEBUG,
            _ => LevelFilter::TRACE,
        })
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let mut record = Record::new(metadata, level_of(metadata));
        event.record(&mut record);
        let now = jiff::Timestamp::now();
        self.output.write(record.severe(), |line| self.format.write(line, &record, now));
    }
}

#[cfg(test)]
mod tests;
