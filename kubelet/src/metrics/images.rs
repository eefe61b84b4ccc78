//! Images that pods ask for, and what is remembered of pulls.
//!
//! Upstream: pkg/kubelet/images/metrics.go and pullmanager/metrics.go without those of its cache in memory, and what
//! pkg/kubelet/metrics/metrics.go has of images, v1.37.

use std::sync::OnceLock;

use component::metrics::{Counter, Family, Gauge, Opts, default_registry};

struct Families {
    requests: Family<Counter>,
    intents: Family<Gauge>,
    records: Family<Gauge>,
    checks: Family<Counter>,
    removed: Family<Counter>,
}

fn families() -> &'static Families {
    static FAMILIES: OnceLock<Families> = OnceLock::new();
    FAMILIES.get_or_init(|| {
        let registry = default_registry();
        let requests = Opts::new(
            "kubelet_image_manager_ensure_image_requests_total",
            "Number of ensure-image requests processed by the kubelet.",
        );
        let intents = Opts::new(
            "kubelet_imagemanager_ondisk_pullintents",
            "Number of ImagePullIntents stored on disk.",
        );
        let records = Opts::new(
            "kubelet_imagemanager_ondisk_pulledrecords",
            "Number of ImagePulledRecords stored on disk.",
        );
        let checks = Opts::new(
            "kubelet_imagemanager_image_mustpull_checks_total",
            "Counter for how many times kubelet checked whether credentials need to be re-verified to access an image",
        );
        let removed = Opts::new(
            "kubelet_image_garbage_collected_total",
            "Total number of images garbage collected by the kubelet, whether through disk usage or image age.",
        );
        let labels = &["pull_policy", "present_locally", "pull_required"];
        Families {
            requests: Family::registered(requests.labels(labels), &[], registry),
            intents: Family::registered(intents, &[], registry),
            records: Family::registered(records, &[], registry),
            checks: Family::registered(checks.labels(&["result"]), &[], registry),
            removed: Family::registered(removed.labels(&["reason"]), &[], registry),
        }
    })
}

/// Registers.
pub fn install() {
    families();
}

/// What came of looking whether a pod may use an image that is here.
#[derive(Clone, Copy, Debug)]
pub enum Checked {
    /// Nobody has to show anything.
    PolicyAllowed,
    /// The pod is known to have access.
    RecordFound,
    /// It has to ask the registry.
    MustAuthenticate,
    /// What is known cannot be read.
    Error,
}

/// Counts a check.
pub fn checked(result: Checked) {
    let result = match result {
        Checked::PolicyAllowed => "credentialPolicyAllowed",
        Checked::RecordFound => "credentialRecordFound",
        Checked::MustAuthenticate => "mustAuthenticate",
        Checked::Error => "error",
    };
    families().checks.with(&[result]).inc();
}

/// Why an image was removed.
#[derive(Clone, Copy, Debug)]
pub enum Removed {
    /// Nobody had used it for long.
    Age,
    /// To make room.
    Space,
}

/// Counts an image that was removed.
pub fn removed(why: Removed) {
    let reason = match why {
        Removed::Age => "age",
        Removed::Space => "space",
    };
    families().removed.with(&[reason]).inc();
}

/// Shows how many files there are about pulls.
pub fn on_disk(intents: usize, records: usize) {
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let [intents, records] = [intents, records].map(|n| n as f64);
    families().intents.one().set(intents);
    families().records.one().set(records);
}

/// Counts an image that a container asked for; what was not found out is unknown.
pub fn requested(policy: &str, present: Option<bool>, pull: Option<bool>) {
    let text = |known: Option<bool>| match known {
        Some(true) => "true",
        Some(false) => "false",
        None => "unknown",
    };
    families().requests.with(&[&policy.to_lowercase(), text(present), text(pull)]).inc();
}
