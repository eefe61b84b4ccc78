//! Jobs and cron jobs: generated selectors, immutable fields.
//! Upstream: `pkg/registry/batch/{job,cronjob}/strategy.go`.

use ::api::validation::batch;
use ::api::validation::field::Error as FieldError;
use machinery::{Map, Value};

use super::{validated, validated_update};
use crate::meta;
use crate::strategy::{Call, Strategy, generic_prepare_for_create};

/// Jobs.
pub struct Jobs;

impl Strategy for Jobs {
    fn prepare_for_create(&self, call: &Call<'_>, job: &mut Value) {
        if job.bool_at(&["spec", "manualSelector"]) != Some(true) {
            generate_selector(job);
        }
        generic_prepare_for_create(call, job);
    }

    fn validate(&self, _call: &Call<'_>, job: &Value) -> Vec<FieldError> {
        validated(job, batch::validate_job)
    }

    fn validate_update(&self, call: &Call<'_>, job: &Value, old: &Value) -> Vec<FieldError> {
        if call.is_status() {
            return validated_update(job, old, batch::validate_job_status_update);
        }
        validated_update(job, old, batch::validate_job_update)
    }
}

/// Labels the template with the job's name and uid, and selects by uid.
fn generate_selector(job: &mut Value) {
    let name = meta::name(job).to_owned();
    let uid = meta::uid(job).to_owned();
    let template = ["spec", "template", "metadata", "labels"];
    let mut labels: Map = job.map_at(&template).cloned().unwrap_or_default();
    for (key, value) in [
        ("job-name", &name),
        ("batch.kubernetes.io/job-name", &name),
        ("controller-uid", &uid),
        ("batch.kubernetes.io/controller-uid", &uid),
    ] {
        if !labels.contains_key(key) {
            labels.insert(key, value);
        }
    }
    // A job without labels has those of its template by default, and whoever reads this one back gives it the generated
    // ones too (apis/batch/v1/defaults.go SetDefaults_Job); reads of what was just written skip that.
    if job.map_at(&["metadata", "labels"]).is_none_or(Map::is_empty) {
        let _ = job.set_path(&["metadata", "labels"], labels.clone());
    }
    // The shape was checked on decoding; only absent parents are made here.
    let _ = job.set_path(&template, labels);
    let at = ["spec", "selector", "matchLabels"];
    let mut selector: Map = job.map_at(&at).cloned().unwrap_or_default();
    if !selector.contains_key("batch.kubernetes.io/controller-uid") {
        selector.insert("batch.kubernetes.io/controller-uid", uid);
    }
    let _ = job.set_path(&at, selector);
}

/// Cron jobs.
pub struct CronJobs;

impl Strategy for CronJobs {
    fn validate(&self, _call: &Call<'_>, object: &Value) -> Vec<FieldError> {
        validated(object, batch::validate_cron_job)
    }

    fn validate_update(&self, call: &Call<'_>, object: &Value, old: &Value) -> Vec<FieldError> {
        if call.is_status() {
            return Vec::new();
        }
        validated_update(object, old, batch::validate_cron_job_update)
    }
}
