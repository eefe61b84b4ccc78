//! The pods of a job. Pure. Upstream: pkg/controller/job/job_controller.go manageJob, indexed_job_utils.go.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Container, EnvVar, EnvVarSource, ObjectFieldSelector, Pod};

use super::spec::{FAILURES, FINALIZER, Facts, IGNORED_FAILURES, INDEX, noted};
use super::work::Work;
use crate::pods;

/// Environment variable with a pod's index.
const INDEX_VARIABLE: &str = "JOB_COMPLETION_INDEX";
/// Longest prefix of a generated name.
const LONGEST_PREFIX: usize = 58;

/// A pod of a job that is not indexed, or what pods of all indexes have in common.
pub fn pod(job: &Job) -> Pod {
    let mut pod = pods::from_template(&job.of().template, job);
    let finalizers = pod.metadata.finalizers.get_or_insert_default();
    if !finalizers.iter().any(|f| f == FINALIZER) {
        finalizers.push(FINALIZER.to_string());
    }
    if job.is_indexed()
        && let Some(spec) = &mut pod.spec
    {
        spec.init_containers.iter_mut().flatten().for_each(tell_index);
        spec.containers.iter_mut().for_each(tell_index);
    }
    pod
}

fn tell_index(container: &mut Container) {
    let variables = container.env.get_or_insert_default();
    if variables.iter().any(|v| v.name == INDEX_VARIABLE) {
        return;
    }
    let field = ObjectFieldSelector { field_path: format!("metadata.labels['{INDEX}']"), api_version: None };
    variables.push(EnvVar {
        name: INDEX_VARIABLE.to_string(),
        value_from: Some(EnvVarSource { field_ref: Some(field), ..EnvVarSource::default() }),
        ..EnvVar::default()
    });
}

/// Makes the pod one of an index. Upstream: addCompletionIndexAnnotation and neighbours.
pub fn with_index(mut pod: Pod, work: &Work, index: i32) -> Pod {
    let name = work.job.metadata.name.as_deref().unwrap_or_default();
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(INDEX.to_string(), index.to_string());
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(INDEX.to_string(), index.to_string());
    if work.job.counts_per_index() {
        let (counted, ignored) = failures(work, index);
        annotations.insert(FAILURES.to_string(), counted.to_string());
        if ignored > 0 {
            annotations.insert(IGNORED_FAILURES.to_string(), ignored.to_string());
        }
    }
    pod.metadata.generate_name = Some(prefix(name, index));
    if let Some(spec) = &mut pod.spec {
        spec.hostname = Some(format!("{name}-{index}"));
    }
    pod
}

/// Upstream: podGenerateNameWithIndex.
fn prefix(job: &str, index: i32) -> String {
    let suffix = format!("-{index}-");
    let room = LONGEST_PREFIX - suffix.len();
    format!("{}{suffix}", job.get(..room).unwrap_or(job))
}

/// Failures of the index including the pod that is being replaced: counting ones, and others.
fn failures(work: &Work, index: i32) -> (i32, i32) {
    let Some(last) = work.delayed.get(&index) else { return (0, 0) };
    let (counted, ignored) = (noted(last, FAILURES), noted(last, IGNORED_FAILURES));
    if work.judge(last).counts() {
        (counted.saturating_add(1), ignored)
    } else {
        (counted, ignored.saturating_add(1))
    }
}
