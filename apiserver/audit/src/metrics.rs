//! Counters under upstream's names. Upstream: `k8s.io/apiserver/pkg/audit/metrics.go`.

use std::sync::{Arc, OnceLock};

use component::metrics::{Counter, Family, Opts};

use crate::event::{Event, Level};
use crate::legacy;

struct Metrics {
    events: Family<Counter>,
    errors: Family<Counter>,
    levels: Family<Counter>,
    rejected: Family<Counter>,
}

fn metrics() -> &'static Metrics {
    static ALL: OnceLock<Metrics> = OnceLock::new();
    ALL.get_or_init(|| Metrics {
        events: Family::counter(Opts::new(
            "apiserver_audit_event_total",
            "Counter of audit events generated and sent to the audit backend.",
        )),
        errors: Family::counter(
            Opts::new(
                "apiserver_audit_error_total",
                "Counter of audit events that failed to be audited properly. Plugin identifies the plugin affected by \
                 the error.",
            )
            .labels(&["plugin"]),
        ),
        levels: Family::counter(
            Opts::new(
                "apiserver_audit_level_total",
                "Counter of policy levels for audit events (1 per request).",
            )
            .labels(&["level"]),
        ),
        rejected: Family::counter(Opts::new(
            "apiserver_audit_requests_rejected_total",
            "Counter of apiserver requests rejected due to an error in audit logging backend.",
        )),
    })
}

/// Counts an event.
pub(crate) fn event() {
    metrics().events.one().inc();
}

/// Counts a request by what the policy says about it.
pub fn observe_level(level: Level) {
    metrics().levels.with(&[level.text()]).inc();
}

/// Counts a request that was refused because it could not be recorded.
pub fn rejected() {
    metrics().rejected.one().inc();
}

/// Counts and logs events that a plugin lost. Upstream: `HandlePluginError`.
pub fn lost(plugin: &str, why: &str, events: &[Arc<Event>]) {
    metrics().errors.with(&[plugin]).add(events.len() as u64);
    let impacted: Vec<String> = events.iter().map(|e| legacy::line(e)).collect();
    tracing::error!(
        "Error in audit plugin '{plugin}' affecting {} audit events: {why}\nImpacted events:\n{}\n",
        events.len(),
        impacted.join("\n")
    );
}
