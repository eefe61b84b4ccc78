//! Jobs: create and update. Not here: `scheduling` of jobs, which is alpha.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{Affinity, PodTemplateSpec};
use machinery::labels::Selector;

use super::job_policies;
use crate::validation::core::pod::validate_template;
use crate::validation::field::{Bad, Error, Path};
use crate::validation::objectmeta::{
    name_is_subdomain, validate_kube_object_meta, validate_label_selector, validate_nonnegative,
};
use crate::validation::{content, dns_subdomain, immutable, immutable_pointer, items, text};

const UID: &str = "batch.kubernetes.io/controller-uid";
const NAME: &str = "batch.kubernetes.io/job-name";
const OLD_UID: &str = "controller-uid";
const OLD_NAME: &str = "job-name";

fn labels(template: &PodTemplateSpec) -> Option<&BTreeMap<String, String>> {
    template.metadata.as_ref().and_then(|m| m.labels.as_ref())
}

fn selector(spec: &JobSpec) -> Option<Selector> {
    let value = machinery::value::to_value(spec.selector.as_ref()?).ok()?;
    Selector::from_value(Some(&value)).ok()
}

/// A new job.
pub fn validate_job(job: &Job) -> Vec<Error> {
    let mut errors =
        validate_kube_object_meta(&job.metadata, true, name_is_subdomain, &Path::new("metadata"));
    let none = JobSpec::default();
    let (spec, path) = (job.spec.as_ref().unwrap_or(&none), Path::new("spec"));
    errors.extend(validate_generated_selector(job, spec, &path));
    errors.extend(validate_spec(spec, None, &path));
    errors.extend(validate_selector(spec, &path));
    errors.extend(validate_hostnames(job, spec));
    errors
}

/// The labels that a generated selector relies on must be the job's own.
fn validate_generated_selector(job: &Job, spec: &JobSpec, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    if spec.manual_selector == Some(true) || spec.selector.is_none() {
        return errors;
    }
    let (uid, name) = (text(&job.metadata.uid), text(&job.metadata.name));
    let own = labels(&spec.template);
    let template = path.child("template");
    let metadata = template.child("metadata");
    let at = metadata.child("labels");
    let expected = [(OLD_UID, uid), (OLD_NAME, name), (UID, uid), (NAME, name)];
    for (key, want) in expected {
        match own.and_then(|l| l.get(key)) {
            Some(value) if value == want => {}
            Some(_) => {
                let detail = format!("must be '{want}'");
                errors.push(Error::invalid(&at.key(key), own.map_or(Bad::Omitted, Bad::json), detail));
            }
            None => errors.push(Error::required(&at.key(key), format!("must be '{want}'"))),
        }
    }
    let all: BTreeMap<String, String> =
        expected.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    if selector(spec).is_some_and(|s| !s.matches(&all)) {
        let bad = Bad::json(&spec.selector);
        errors.push(Error::invalid(&path.child("selector"), bad, "`selector` not auto-generated"));
    }
    errors
}

fn validate_selector(spec: &JobSpec, path: &Path) -> Vec<Error> {
    let at = path.child("selector");
    if spec.selector.is_none() {
        // Nothing matches no selector.
        let mut errors = vec![Error::required(&at, "")];
        errors.extend(unselected(spec, path));
        return errors;
    }
    let mut errors = validate_label_selector(spec.selector.as_ref(), &at);
    let none = BTreeMap::new();
    if selector(spec).is_some_and(|s| !s.matches(labels(&spec.template).unwrap_or(&none))) {
        errors.extend(unselected(spec, path));
    }
    errors
}

fn unselected(spec: &JobSpec, path: &Path) -> Option<Error> {
    let template = path.child("template");
    let metadata = template.child("metadata");
    let bad = labels(&spec.template).map_or(Bad::Raw("null".into()), Bad::json);
    Some(Error::invalid(&metadata.child("labels"), bad, "`selector` does not match template `labels`"))
}

/// Pods of an indexed job have its name and their index for a host name.
fn validate_hostnames(job: &Job, spec: &JobSpec) -> Option<Error> {
    let last = spec.completions.filter(|c| *c > 0 && text(&spec.completion_mode) == "Indexed")?;
    let name = text(&job.metadata.name);
    let host = format!("{name}-{}", last - 1);
    (!content::dns_label(&host).is_empty()).then(|| {
        let metadata = Path::new("metadata");
        let detail = format!("will not able to create pod with invalid DNS label: {host}");
        Error::invalid(&metadata.child("name"), name, detail)
    })
}

/// The spec but for its selector, which cron jobs leave out.
pub(super) fn validate_spec(spec: &JobSpec, old: Option<&JobSpec>, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    for (field, value) in [
        ("parallelism", spec.parallelism.map(i64::from)),
        ("completions", spec.completions.map(i64::from)),
        ("activeDeadlineSeconds", spec.active_deadline_seconds),
        ("backoffLimit", spec.backoff_limit.map(i64::from)),
        ("ttlSecondsAfterFinished", spec.ttl_seconds_after_finished.map(i64::from)),
        ("backoffLimitPerIndex", spec.backoff_limit_per_index.map(i64::from)),
        ("maxFailedIndexes", spec.max_failed_indexes.map(i64::from)),
    ] {
        errors.extend(value.and_then(|v| validate_nonnegative(v, &path.child(field))));
    }
    if spec.max_failed_indexes.is_some() && spec.backoff_limit_per_index.is_none() {
        let detail = "when maxFailedIndexes is specified";
        errors.push(Error::required(&path.child("backoffLimitPerIndex"), detail));
    }
    if let Some(manager) = spec.managed_by.as_deref() {
        errors.extend(validate_manager(manager, &path.child("managedBy")));
    }
    errors.extend(validate_mode(spec, path));
    errors.extend(job_policies::validate(spec, path));
    errors.extend(validate_template(&spec.template, old.map(|o| &o.template), &path.child("template")));
    errors.extend(validate_restart(spec, path));
    errors
}

/// `domain/path`, at most 63 bytes.
fn validate_manager(manager: &str, path: &Path) -> Vec<Error> {
    let mut errors = match manager.split_once('/') {
        _ if manager.is_empty() => vec![Error::required(path, "")],
        Some((host, rest)) if !host.is_empty() && !rest.is_empty() => {
            let mut errors = dns_subdomain(host, path);
            let fine = |b: u8| b.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&b);
            if !rest.bytes().all(fine) {
                let detail = content::regex_error("Invalid path", "[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+", &[]);
                errors.push(Error::invalid(path, rest, detail));
            }
            errors
        }
        _ => vec![Error::invalid(path, manager, "must be a domain-prefixed path (such as \"acme.io/foo\")")],
    };
    if manager.len() > 63 {
        errors.push(Error::too_long(path, 63));
    }
    errors
}

fn validate_mode(spec: &JobSpec, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let mode = spec.completion_mode.as_deref();
    let failed = path.child("maxFailedIndexes");
    if let Some(mode) = mode.filter(|m| !matches!(*m, "NonIndexed" | "Indexed")) {
        errors.push(Error::not_supported(
            &path.child("completionMode"),
            Bad::enumerated(mode),
            &["NonIndexed", "Indexed"],
        ));
    }
    if mode == Some("Indexed") {
        errors.extend(validate_indexed(spec, path));
    }
    if mode.is_none_or(|m| m == "NonIndexed") {
        let detail = "requires indexed completion mode";
        let limit = spec.backoff_limit_per_index;
        errors.extend(limit.map(|l| Error::invalid(&path.child("backoffLimitPerIndex"), l, detail)));
        errors.extend(spec.max_failed_indexes.map(|m| Error::invalid(&failed, m, detail)));
    }
    errors
}

fn validate_indexed(spec: &JobSpec, path: &Path) -> Vec<Error> {
    const SOFT: i32 = 100_000;
    const MANY: i32 = 10_000;
    let mut errors = Vec::new();
    let (failed, parallel) = (path.child("maxFailedIndexes"), path.child("parallelism"));
    let above = |value: Option<i32>, most: i32, at: &Path, rest: &str| {
        value
            .filter(|v| *v > most)
            .map(|v| Error::invalid(at, v, format!("must be less than or equal to {most}{rest}")))
    };
    if spec.completions.is_none() {
        errors.push(Error::required(&path.child("completions"), "when completion mode is Indexed"));
    }
    errors.extend(above(spec.parallelism, SOFT, &parallel, " when completion mode is Indexed"));
    if let (Some(all), Some(most)) = (spec.completions, spec.max_failed_indexes)
        && most > all
    {
        errors.push(Error::invalid(&failed, most, "must be less than or equal to completions"));
    }
    errors.extend(above(spec.max_failed_indexes, SOFT, &failed, ""));
    if spec.completions.is_some_and(|c| c > SOFT) && spec.backoff_limit_per_index.is_some() {
        if spec.max_failed_indexes.is_none() {
            let detail = format!("must be specified when completions is above {SOFT}");
            errors.push(Error::required(&failed, detail));
        }
        let rest = format!(" when completions are above {SOFT} and used with backoff limit per index");
        errors.extend(above(spec.parallelism, MANY, &parallel, &rest));
        errors.extend(above(spec.max_failed_indexes, MANY, &failed, &rest));
    }
    errors
}

fn validate_restart(spec: &JobSpec, path: &Path) -> Option<Error> {
    let template = path.child("template");
    let pod = template.child("spec");
    let at = pod.child("restartPolicy");
    match spec.template.spec.as_ref().map_or("", |s| text(&s.restart_policy)) {
        "" | "Always" => Some(Error::required(&at, "valid values: \"OnFailure\", \"Never\"")),
        "Never" => None,
        "OnFailure" => {
            let detail = "only \"Never\" is supported when podFailurePolicy is specified";
            spec.pod_failure_policy.is_some().then(|| Error::invalid(&at, "OnFailure", detail))
        }
        other => Some(Error::not_supported(&at, Bad::enumerated(other), &["OnFailure", "Never"])),
    }
}

/// A changed job.
pub fn validate_job_update(new: &Job, old: &Job) -> Vec<Error> {
    let (path, none) = (Path::new("spec"), JobSpec::default());
    let (spec, before) = (new.spec.as_ref().unwrap_or(&none), old.spec.as_ref().unwrap_or(&none));
    let mut errors = validate_spec(spec, Some(before), &path);
    errors.extend(validate_selector(spec, &path));
    errors.extend(validate_completions(spec, before, &path.child("completions")));
    errors.extend(immutable_pointer(&spec.selector, &before.selector, &path.child("selector")));
    errors.extend(validate_template_update(spec, before, old, &path));
    errors.extend(immutable(&spec.completion_mode, &before.completion_mode, &path.child("completionMode")));
    errors.extend(immutable_pointer(
        &spec.pod_failure_policy,
        &before.pod_failure_policy,
        &path.child("podFailurePolicy"),
    ));
    errors.extend(immutable(
        &spec.backoff_limit_per_index,
        &before.backoff_limit_per_index,
        &path.child("backoffLimitPerIndex"),
    ));
    errors.extend(immutable(&spec.managed_by, &before.managed_by, &path.child("managedBy")));
    errors.extend(immutable_pointer(
        &spec.success_policy,
        &before.success_policy,
        &path.child("successPolicy"),
    ));
    errors.extend(validate_hostnames(new, spec));
    errors
}

/// An indexed job grows and shrinks with its parallelism.
fn validate_completions(spec: &JobSpec, before: &JobSpec, path: &Path) -> Option<Error> {
    if text(&spec.completion_mode) != "Indexed" {
        return immutable(&spec.completions, &before.completions, path);
    }
    let completions = spec.completions.filter(|_| spec.completions != before.completions)?;
    let detail = "can only be modified in tandem with spec.parallelism";
    (spec.completions != spec.parallelism).then(|| Error::invalid(path, completions, detail))
}

/// The template stays; before a job has started, its placement and its resources may change.
fn validate_template_update(spec: &JobSpec, before: &JobSpec, old: &Job, path: &Path) -> Option<Error> {
    let status = old.status.clone().unwrap_or_default();
    let suspended = before.suspend == Some(true);
    let was_suspended =
        items(&status.conditions).iter().any(|c| c.type_ == "Suspended" && c.status == "True");
    let idle = status.active.unwrap_or(0) == 0 && (status.start_time.is_none() || was_suspended);
    let mut expected = before.template.clone();
    if suspended && idle {
        allow_placement(&mut expected, &spec.template);
    }
    let template = path.child("template");
    if !(suspended && idle) {
        return immutable(&spec.template, &expected, &template);
    }
    let (now, mut then) = (spec.template.spec.clone()?, expected.spec.clone()?);
    let lists = [
        (then.containers.iter_mut().collect::<Vec<_>>(), now.containers.as_slice()),
        (then.init_containers.iter_mut().flatten().collect(), items(&now.init_containers)),
    ];
    for (then, now) in lists {
        if then.len() != now.len() {
            continue;
        }
        for (then, now) in then.into_iter().zip(now).filter(|(t, n)| t.name == n.name) {
            then.resources.clone_from(&now.resources);
        }
    }
    immutable(&now, &then, &path.child("template.spec"))
}

fn allow_placement(expected: &mut PodTemplateSpec, new: &PodTemplateSpec) {
    let metadata = new.metadata.clone().unwrap_or_default();
    let own = expected.metadata.get_or_insert_default();
    own.annotations = metadata.annotations;
    own.labels = metadata.labels;
    let Some(now) = &new.spec else { return };
    let spec = expected.spec.get_or_insert_default();
    spec.node_selector.clone_from(&now.node_selector);
    spec.tolerations.clone_from(&now.tolerations);
    spec.scheduling_gates.clone_from(&now.scheduling_gates);
    let node = now.affinity.as_ref().and_then(|a| a.node_affinity.clone());
    match (&now.affinity, &mut spec.affinity) {
        (None, Some(affinity)) => {
            affinity.node_affinity = None;
            if *affinity == Affinity::default() {
                spec.affinity = None;
            }
        }
        (Some(_), None) => spec.affinity = Some(Affinity { node_affinity: node, ..Affinity::default() }),
        (Some(_), Some(affinity)) => affinity.node_affinity = node,
        (None, None) => {}
    }
}
