//! Defaults of the batch group. Upstream: pkg/apis/batch/v1/defaults.go.

use super::fields::{child, if_empty, if_nil, is_nil, peek};
use super::{Context, Function};
use machinery::Map;

pub(super) const FUNCTIONS: &[(&str, Function)] = &[
    ("batch/v1.CronJob", cron_job),
    ("batch/v1.Job", job),
    ("batch/v1.PodFailurePolicyOnPodConditionsPattern", conditions_pattern),
];

fn job(m: &mut Map, _: &Context) {
    let spec = child(m, "spec");
    if is_nil(spec, "completions") && is_nil(spec, "parallelism") {
        spec.insert("completions", 1);
    }
    if_nil(spec, "parallelism", 1);
    let limit = if is_nil(spec, "backoffLimitPerIndex") { 6 } else { i64::from(i32::MAX) };
    if_nil(spec, "backoffLimit", limit);
    if_nil(spec, "completionMode", "NonIndexed");
    if_nil(spec, "suspend", false);
    let replacement = if is_nil(spec, "podFailurePolicy") { "TerminatingOrFailed" } else { "Failed" };
    if_nil(spec, "podReplacementPolicy", replacement);
    if_nil(spec, "manualSelector", false);
    let labels = peek(&peek(&peek(spec, "template"), "metadata"), "labels");
    if !labels.is_empty() && peek(&peek(m, "metadata"), "labels").is_empty() {
        child(m, "metadata").insert("labels", labels);
    }
}

fn cron_job(m: &mut Map, _: &Context) {
    let spec = child(m, "spec");
    if_empty(spec, "concurrencyPolicy", "Allow");
    if_nil(spec, "suspend", false);
    if_nil(spec, "successfulJobsHistoryLimit", 3);
    if_nil(spec, "failedJobsHistoryLimit", 1);
}

fn conditions_pattern(m: &mut Map, _: &Context) {
    if_empty(m, "status", "True");
}
