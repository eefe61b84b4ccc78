//! Metrics of requests, by upstream's names. Upstream: resourcepoolstatusrequest/metrics/metrics.go.

use std::sync::LazyLock;
use std::time::Duration;

use component::metrics::{Counter, Family, Histogram, Opts, exponential_buckets};

struct Families {
    processed: Family<Counter>,
    errors: Family<Counter>,
    seconds: Family<Histogram>,
}

static FAMILIES: LazyLock<Families> = LazyLock::new(|| Families {
    processed: Family::counter(
        Opts::new(
            "resourcepoolstatusrequest_controller_requests_processed_total",
            "Total number of ResourcePoolStatusRequests processed",
        )
        .labels(&["driver_name"]),
    ),
    errors: Family::counter(
        Opts::new(
            "resourcepoolstatusrequest_controller_request_processing_errors_total",
            "Total number of errors encountered while processing ResourcePoolStatusRequests",
        )
        .labels(&["driver_name"]),
    ),
    seconds: Family::histogram(
        Opts::new(
            "resourcepoolstatusrequest_controller_request_processing_duration_seconds",
            "Time taken to process a ResourcePoolStatusRequest",
        )
        .labels(&["driver_name"]),
        &exponential_buckets(0.001, 2.0, 15),
    ),
});

/// Counts an answer that was written, or could not be.
pub fn processed(driver: &str, written: bool, took: Duration) {
    FAMILIES.processed.with(&[driver]).inc();
    if !written {
        FAMILIES.errors.with(&[driver]).inc();
    }
    FAMILIES.seconds.with(&[driver]).observe(took.as_secs_f64());
}
