//! Claims of devices. Upstream: pkg/kubelet/metrics/metrics.go, v1.37.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

use component::metrics::{Counter, Family, Histogram, Kind, Metrics, Opts, Sample, default_registry};

struct Families {
    operations: Family<Histogram>,
    calls: Family<Histogram>,
    prepare_skips: Family<Counter>,
    unprepare_skips: Family<Counter>,
}

/// Fifteen bounds from a tenth of a second to forty seconds, each so many times the one before.
fn buckets() -> Vec<f64> {
    let growth = (40.0_f64 / 0.1).powf(1.0 / 14.0);
    (0..15).map(|i| 0.1 * growth.powi(i)).collect()
}

fn families() -> &'static Families {
    static FAMILIES: OnceLock<Families> = OnceLock::new();
    FAMILIES.get_or_init(|| {
        let histogram = |name, help, labels| {
            Family::registered(Opts::new(name, help).labels(labels), &buckets(), default_registry())
        };
        let counter = |name, help| {
            Family::registered(Opts::new(name, help).labels(&["driver_name"]), &[], default_registry())
        };
        Families {
            operations: histogram(
                "dra_operations_duration_seconds",
                "Latency histogram in seconds for the duration of handling all ResourceClaims referenced by a pod when the pod starts or stops. Identified by the name of the operation (PrepareResources or UnprepareResources) and separated by the success of the operation. The number of failed operations is provided through the histogram's overall count.",
                &["operation_name", "is_error"],
            ),
            calls: histogram(
                "dra_grpc_operations_duration_seconds",
                "Duration in seconds of the DRA gRPC operations",
                &["driver_name", "method_name", "grpc_status_code"],
            ),
            prepare_skips: counter(
                "dra_node_prepare_skips_total",
                "Cumulative number of times NodePrepareResources gRPC calls were skipped due to SkipNodeOperations.",
            ),
            unprepare_skips: counter(
                "dra_node_unprepare_skips_total",
                "Cumulative number of times NodeUnprepareResources gRPC calls were skipped due to SkipNodeOperations.",
            ),
        }
    })
}

/// Registers.
pub fn install() {
    families();
}

/// All claims of a pod were prepared or taken back, or not.
pub fn operated(operation: &str, failed: bool, took: Duration) {
    let failed = if failed { "true" } else { "false" };
    families().operations.with(&[operation, failed]).observe_duration(took);
}

/// A driver was called.
pub fn called(driver: &str, method: &str, code: &str, took: Duration) {
    families().calls.with(&[driver, method, code]).observe_duration(took);
}

/// A driver need not prepare a claim.
pub fn prepare_skipped(driver: &str) {
    families().prepare_skips.with(&[driver]).inc();
}

/// A driver need not take back a claim.
pub fn unprepare_skipped(driver: &str) {
    families().unprepare_skips.with(&[driver]).inc();
}

/// How many claims are in use.
pub fn in_use(all: usize, by_driver: &BTreeMap<&str, usize>) -> Metrics {
    let sample = |driver: &str, count: usize| {
        Sample::number(&[("driver_name", driver)], f64::from(u32::try_from(count).unwrap_or(u32::MAX)))
    };
    let mut samples = vec![sample("<any>", all)];
    samples.extend(by_driver.iter().map(|(driver, count)| sample(driver, *count)));
    Metrics {
        name: "dra_resource_claims_in_use".to_owned(),
        help: "[ALPHA] The number of ResourceClaims that are currently in use on the node, by driver name (driver_name label value) and across all drivers (special value <any> for driver_name). Note that the sum of all by-driver counts is not the total number of in-use ResourceClaims because the same ResourceClaim might use devices from different drivers. Instead, use the count for the <any> driver_name.".to_owned(),
        kind: Kind::Gauge,
        samples,
    }
}
