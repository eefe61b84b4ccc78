//! Metrics of webhook calls. Upstream: `k8s.io/apiserver/pkg/admission/metrics/metrics.go`.

use std::sync::OnceLock;

use component::metrics::{Counter, Family, Histogram, Opts, Stability};
use registry::admission::Operation;
use registry::admission::webhook::{Ended, Observation, Phase};

const DURATIONS: [f64; 8] = [0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 25.0];

struct Metrics {
    duration: Family<Histogram>,
    requests: Family<Counter>,
    rejections: Family<Counter>,
    fail_open: Family<Counter>,
    exclusions: Family<Counter>,
}

fn metrics() -> &'static Metrics {
    static ALL: OnceLock<Metrics> = OnceLock::new();
    ALL.get_or_init(|| Metrics {
        duration: Family::histogram(
            Opts::new(
                "apiserver_admission_webhook_admission_duration_seconds",
                "Admission webhook latency histogram in seconds, identified by name and broken out for each \
                 operation and API resource and type (validate or admit).",
            )
            .labels(&["name", "operation", "rejected", "type"])
            .stability(Stability::Stable),
            &DURATIONS,
        ),
        requests: Family::counter(
            Opts::new(
                "apiserver_admission_webhook_request_total",
                "Admission webhook request total, identified by name and broken out for each admission type \
                 (validating or admit) and operation. Additional labels specify whether the request was rejected or \
                 not and an HTTP status code. Codes greater than 600 are truncated to 600, to keep the metrics \
                 cardinality bounded.",
            )
            .labels(&["code", "name", "operation", "rejected", "type"]),
        ),
        rejections: Family::counter(
            Opts::new(
                "apiserver_admission_webhook_rejection_count",
                "Admission webhook rejection count, identified by name and broken out for each admission type \
                 (validating or admit) and operation. Additional labels specify an error type \
                 (calling_webhook_error or apiserver_internal_error if an error occurred; no_error otherwise) and \
                 optionally a non-zero rejection code if the webhook rejects the request with an HTTP status code \
                 (honored by the apiserver when the code is greater or equal to 400). Codes greater than 600 are \
                 truncated to 600, to keep the metrics cardinality bounded.",
            )
            .labels(&["error_type", "name", "operation", "rejection_code", "type"]),
        ),
        fail_open: Family::counter(
            Opts::new(
                "apiserver_admission_webhook_fail_open_count",
                "Admission webhook fail open count, identified by name and broken out for each admission type \
                 (validating or admit).",
            )
            .labels(&["name", "type"]),
        ),
        exclusions: Family::counter(
            Opts::new(
                "apiserver_admission_match_condition_exclusions_total",
                "Admission match condition evaluation exclusions count, identified by name of resource containing the \
                 match condition and broken out for each kind containing matchConditions (webhook or policy), \
                 operation and admission type (validate or admit).",
            )
            .labels(&["kind", "name", "operation", "type"]),
        ),
    })
}

/// What is counted of a call: status, whether the request was refused, and the error type if so.
fn counted(ended: Ended) -> (u16, Option<&'static str>) {
    match ended {
        Ended::Allowed => (200, None),
        Ended::Rejected(code) => (code.min(600), Some("no_error")),
        Ended::Failed { code, ignored: true } => (code.min(600), None),
        Ended::Failed { code, ignored: false } => (code.min(600), Some("calling_webhook_error")),
        Ended::Internal => (0, Some("apiserver_internal_error")),
    }
}

fn operation_text(operation: Operation) -> &'static str {
    match operation {
        Operation::Create => "CREATE",
        Operation::Update => "UPDATE",
        Operation::Delete => "DELETE",
        Operation::Connect => "CONNECT",
    }
}

/// Counts a request that match conditions kept from a webhook.
pub(super) fn excluded(webhook: &str, phase: Phase, operation: Operation) {
    metrics().exclusions.with(&["webhook", webhook, operation_text(operation), phase.label()]).inc();
}

/// Counts a call.
pub(super) fn observe(o: Observation<'_>) {
    let all = metrics();
    let operation = operation_text(o.operation);
    let (code, error) = counted(o.ended);
    let (code, phase) = (code.to_string(), o.phase.label());
    let rejected = if error.is_some() { "true" } else { "false" };
    all.requests.with(&[&code, o.webhook, operation, rejected, phase]).inc();
    all.duration.with(&[o.webhook, operation, rejected, phase]).observe_duration(o.took);
    if let Some(error) = error {
        all.rejections.with(&[error, o.webhook, operation, &code, phase]).inc();
    }
    if matches!(o.ended, Ended::Failed { ignored: true, .. }) {
        all.fail_open.with(&[o.webhook, phase]).inc();
    }
}
