//! Jobs and cron jobs: generated selectors, immutable fields.
//! Upstream: `pkg/registry/batch/{job,cronjob}/strategy.go`.

use ::api::validation::batch;
use ::api::validation::field::{Error as FieldError, Path};
use ::api::warnings;
use k8s_openapi::api::batch::v1::JobSpec;
use machinery::{Map, Value};

use super::workload::default_labels;
use super::{gated, validated, validated_update, warned, with_pod_rules};
use crate::meta;
use crate::strategy::{Call, Strategy, generic_prepare_for_create, generic_prepare_for_update};

fn drop_gated(call: &Call<'_>, object: &mut Value, old: Option<&Value>, template: &[&str]) {
    if let [spec @ .., _] = template {
        gated::drop_from_job(object, old, spec);
    }
    gated::drop_from_pod(call, object, old, template);
}

fn created(object: &Value, spec: &[&str]) -> Vec<String> {
    let name = warnings::name_in_hostnames(meta::name(object), "Pod names and hostnames");
    name.into_iter().chain(spec_warnings(object, spec)).collect()
}

fn changed(call: &Call<'_>, object: &Value, old: &Value, spec: &[&str]) -> Vec<String> {
    let same = meta::generation(object) == meta::generation(old);
    if call.is_status() || same { Vec::new() } else { spec_warnings(object, spec) }
}

fn spec_warnings(object: &Value, path: &[&str]) -> Vec<String> {
    let Some(spec) = object.get_path(path) else { return Vec::new() };
    let path = path.join(".");
    warned(spec, |spec: &JobSpec| warnings::workload::job_spec(spec, &Path::new(&path)))
}

/// Jobs.
pub struct Jobs;

const JOB_SPEC: &[&str] = &["spec"];
const CRON_JOB_SPEC: &[&str] = &["spec", "jobTemplate", "spec"];
const JOB_TEMPLATE: &[&str] = &["spec", "template"];
const CRON_JOB_TEMPLATE: &[&str] = &["spec", "jobTemplate", "spec", "template"];

impl Strategy for Jobs {
    fn canonicalize(&self, job: &mut Value) {
        default_labels(job);
    }

    fn warnings_on_create(&self, _call: &Call<'_>, job: &Value) -> Vec<String> {
        created(job, JOB_SPEC)
    }

    fn warnings_on_update(&self, call: &Call<'_>, job: &Value, old: &Value) -> Vec<String> {
        changed(call, job, old, JOB_SPEC)
    }

    fn prepare_for_create(&self, call: &Call<'_>, job: &mut Value) {
        if job.bool_at(&["spec", "manualSelector"]) != Some(true) {
            generate_selector(job);
        }
        generic_prepare_for_create(call, job);
        drop_gated(call, job, None, JOB_TEMPLATE);
    }

    fn prepare_for_update(&self, call: &Call<'_>, job: &mut Value, old: &Value) {
        if !call.is_status() {
            drop_gated(call, job, Some(old), JOB_TEMPLATE);
        }
        generic_prepare_for_update(call, job, old);
    }

    fn validate(&self, call: &Call<'_>, job: &Value) -> Vec<FieldError> {
        with_pod_rules(call, validated(job, batch::validate_job), job, None, JOB_TEMPLATE)
    }

    fn validate_update(&self, call: &Call<'_>, job: &Value, old: &Value) -> Vec<FieldError> {
        let errors = match call.is_status() {
            true => validated_update(job, old, batch::validate_job_status_update),
            false => validated_update(job, old, batch::validate_job_update),
        };
        with_pod_rules(call, errors, job, Some(old), JOB_TEMPLATE)
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
    // A job without labels has those of its template by default, the very same map, which gets the generated ones below
    // (apis/batch/v1/defaults.go SetDefaults_Job).
    let own: Map = job.map_at(&["metadata", "labels"]).cloned().unwrap_or_default();
    let shared = job.map_at(&template).cloned().unwrap_or_default();
    if !shared.is_empty() && Value::from(own).semantic_eq(&Value::from(shared)) {
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
    fn judges_finalizers(&self, call: &Call<'_>) -> bool {
        // Upstream looks at nothing of a changed status.
        !call.is_status()
    }

    fn warnings_on_create(&self, _call: &Call<'_>, object: &Value) -> Vec<String> {
        created(object, CRON_JOB_SPEC)
    }

    fn warnings_on_update(&self, call: &Call<'_>, object: &Value, old: &Value) -> Vec<String> {
        let mut told = changed(call, object, old, CRON_JOB_SPEC);
        let zoned = object.str_at(&["spec", "schedule"]).is_some_and(|s| s.contains("TZ"));
        if zoned && !call.is_status() {
            told.push("cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details".to_owned());
        }
        told
    }

    fn prepare_for_create(&self, call: &Call<'_>, object: &mut Value) {
        generic_prepare_for_create(call, object);
        drop_gated(call, object, None, CRON_JOB_TEMPLATE);
    }

    fn prepare_for_update(&self, call: &Call<'_>, object: &mut Value, old: &Value) {
        if !call.is_status() {
            drop_gated(call, object, Some(old), CRON_JOB_TEMPLATE);
        }
        generic_prepare_for_update(call, object, old);
    }

    fn validate(&self, call: &Call<'_>, object: &Value) -> Vec<FieldError> {
        with_pod_rules(call, validated(object, batch::validate_cron_job), object, None, CRON_JOB_TEMPLATE)
    }

    fn validate_update(&self, call: &Call<'_>, object: &Value, old: &Value) -> Vec<FieldError> {
        if call.is_status() {
            return Vec::new();
        }
        let errors = validated_update(object, old, batch::validate_cron_job_update);
        with_pod_rules(call, errors, object, Some(old), CRON_JOB_TEMPLATE)
    }
}
