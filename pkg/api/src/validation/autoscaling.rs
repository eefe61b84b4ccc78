//! Horizontal pod autoscalers. Upstream: `pkg/apis/autoscaling/validation/validation.go` and the strategy's options.

use k8s_openapi::api::autoscaling::v2::{
    CrossVersionObjectReference, HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscaler,
    HorizontalPodAutoscalerSpec, MetricIdentifier, MetricSpec, MetricTarget,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Amount;
use machinery::Quantity;

use super::core::resources;
use super::field::{Error, Path};
use super::objectmeta::{
    name_is_subdomain, validate_kube_object_meta, validate_nonnegative, validate_object_meta_update,
};
use super::{content, dns_label, items, refusals, required, supported, text};

/// How API versions of references are looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Versions {
    Any,
    WellFormed,
    WithGroup,
}

/// `ValidateHorizontalPodAutoscaler`.
pub fn validate(new: &HorizontalPodAutoscaler) -> Vec<Error> {
    let mut errors =
        validate_kube_object_meta(&new.metadata, true, name_is_subdomain, &Path::new("metadata"));
    errors.extend(validate_spec(new, None));
    errors
}

/// `ValidateHorizontalPodAutoscalerUpdate`.
pub fn validate_update(new: &HorizontalPodAutoscaler, old: &HorizontalPodAutoscaler) -> Vec<Error> {
    let mut errors = validate_object_meta_update(&new.metadata, &old.metadata, &Path::new("metadata"));
    errors.extend(validate_spec(new, Some(old)));
    errors
}

/// `ValidateHorizontalPodAutoscalerStatusUpdate`.
pub fn validate_status_update(new: &HorizontalPodAutoscaler, old: &HorizontalPodAutoscaler) -> Vec<Error> {
    let mut errors = validate_object_meta_update(&new.metadata, &old.metadata, &Path::new("metadata"));
    let Some(status) = &new.status else { return errors };
    let path = Path::new("status");
    for (i, condition) in items(&status.conditions).iter().enumerate() {
        let at = path.child("conditions");
        let generation = condition.observed_generation.unwrap_or_default();
        errors.extend(validate_nonnegative(generation, &at.index(i).child("observedGeneration")));
    }
    let current = i64::from(status.current_replicas.unwrap_or_default());
    errors.extend(validate_nonnegative(current, &path.child("currentReplicas")));
    let desired = i64::from(status.desired_replicas);
    errors.extend(validate_nonnegative(desired, &path.child("desiredReplicas")));
    errors
}

fn validate_spec(new: &HorizontalPodAutoscaler, old: Option<&HorizontalPodAutoscaler>) -> Vec<Error> {
    let spec = &new.spec;
    let before = old.map(|o| &o.spec);
    let path = Path::new("spec");
    let mut errors = Vec::new();
    let least = spec.min_replicas;
    if let Some(least) = least.filter(|least| *least < 0) {
        let detail = "must be greater than or equal to 0";
        errors.push(Error::invalid(&path.child("minReplicas"), least, detail).covered());
    }
    let at = path.child("maxReplicas");
    match spec.max_replicas {
        0 => errors.push(Error::required(&at, "must be set and greater than 0").covered()),
        most if most < 0 => {
            errors.push(Error::invalid(&at, most, "must be greater than or equal to 1").covered());
        }
        _ => {}
    }
    if least.is_some_and(|least| spec.max_replicas < least) {
        let detail = "must be greater than or equal to `minReplicas`";
        errors.push(Error::invalid(&path.child("maxReplicas"), spec.max_replicas, detail));
    }
    let target = &spec.scale_target_ref;
    let same = |b: &HorizontalPodAutoscalerSpec| {
        text(&b.scale_target_ref.api_version) == text(&target.api_version)
            && b.scale_target_ref.kind == target.kind
    };
    let versions = match before {
        Some(before) if same(before) => Versions::Any,
        _ if target.kind == "ReplicationController" => Versions::WellFormed,
        _ => Versions::WithGroup,
    };
    errors.extend(validate_reference(target, versions, &path.child("scaleTargetRef")));
    errors.extend(validate_metrics(spec, before, &path.child("metrics")));
    if let Some(behavior) = &spec.behavior {
        let at = path.child("behavior");
        errors.extend(validate_rules(behavior.scale_up.as_ref(), &at.child("scaleUp")));
        errors.extend(validate_rules(behavior.scale_down.as_ref(), &at.child("scaleDown")));
    }
    errors
}

fn validate_reference(
    reference: &CrossVersionObjectReference,
    versions: Versions,
    path: &Path,
) -> Vec<Error> {
    let mut errors = Vec::new();
    for (value, name) in [(&reference.kind, "kind"), (&reference.name, "name")] {
        let at = path.child(name);
        errors.extend(required(value, &at));
        errors.extend(refusals(&at, value, content::path_segment(value, false)));
    }
    let version = text(&reference.api_version);
    if let Some(why) = refuse_version(version, versions) {
        errors.push(Error::invalid(&path.child("apiVersion"), version, why));
    }
    errors
}

fn refuse_version(version: &str, versions: Versions) -> Option<String> {
    if versions == Versions::Any {
        return None;
    }
    let group = match version.split_once('/') {
        None => "",
        Some((group, rest)) if !rest.contains('/') => group,
        Some(_) => return Some(format!("unexpected GroupVersion string: {version}")),
    };
    let missing = versions == Versions::WithGroup && group.is_empty();
    missing.then(|| "apiVersion must specify API group".to_owned())
}

fn validate_metrics(
    spec: &HorizontalPodAutoscalerSpec,
    before: Option<&HorizontalPodAutoscalerSpec>,
    path: &Path,
) -> Vec<Error> {
    let metrics = items(&spec.metrics);
    let was_wrong = |metric: &MetricSpec| {
        let object = metric.object.as_ref().filter(|_| metric.type_ == "Object");
        object.is_some_and(|o| {
            refuse_version(text(&o.described_object.api_version), Versions::WellFormed).is_some()
        })
    };
    let lenient = before.is_some_and(|b| items(&b.metrics).iter().any(was_wrong));
    let versions = if lenient { Versions::Any } else { Versions::WellFormed };
    let mut errors = Vec::new();
    for (i, metric) in metrics.iter().enumerate() {
        errors.extend(validate_metric(metric, versions, &path.index(i)));
    }
    let from_outside = metrics.iter().any(|m| matches!(m.type_.as_str(), "Object" | "External"));
    if spec.min_replicas == Some(0) && !from_outside {
        let detail =
            "must specify at least one Object or External metric to support scaling to zero replicas";
        errors.push(Error::forbidden(path, detail));
    }
    errors
}

const SOURCES: &[&str] = &["ContainerResource", "External", "Object", "Pods", "Resource"];

fn validate_metric(metric: &MetricSpec, versions: Versions, path: &Path) -> Vec<Error> {
    let kind = metric.type_.as_str();
    let at = path.child("type");
    let mut errors = Vec::new();
    if kind.is_empty() {
        errors.push(Error::required(&at, "must specify a metric source type"));
    }
    errors.extend(supported(kind, SOURCES, &at));
    let sources = [
        ("Object", "object", metric.object.is_some()),
        ("External", "external", metric.external.is_some()),
        ("Pods", "pods", metric.pods.is_some()),
        ("Resource", "resource", metric.resource.is_some()),
        ("ContainerResource", "containerResource", metric.container_resource.is_some()),
    ];
    let given: Vec<&str> = sources.iter().filter(|s| s.2).map(|s| s.1).collect();
    if let Some(first) = given.first() {
        errors.extend(validate_source(metric, first, versions, &path.child(first)));
    }
    let expected = sources.iter().find(|s| s.0 == kind);
    match expected {
        None => errors.extend(supported(kind, SOURCES, &at)),
        Some((_, name, false)) => {
            let detail = "must populate information for the given metric source";
            errors.push(Error::required(&path.child(name), detail));
        }
        Some(_) => {}
    }
    if given.len() != 1 {
        for name in given.iter().filter(|name| expected.is_none_or(|e| e.1 != **name)) {
            let detail = "must populate the given metric source only";
            errors.push(Error::forbidden(&path.child(name), detail));
        }
    }
    errors
}

fn validate_source(metric: &MetricSpec, name: &str, versions: Versions, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    match name {
        "object" => {
            let Some(source) = &metric.object else { return errors };
            let at = path.child("describedObject");
            errors.extend(validate_reference(&source.described_object, versions, &at));
            errors.extend(validate_identifier(&source.metric, &path.child("metric")));
            errors.extend(validate_target(&source.target, path));
            if source.target.value.is_none() && source.target.average_value.is_none() {
                errors.push(needs(path, "averageValue", "must set either a target value or averageValue"));
            }
        }
        "external" => {
            let Some(source) = &metric.external else { return errors };
            errors.extend(validate_identifier(&source.metric, &path.child("metric")));
            errors.extend(validate_target(&source.target, path));
            match (&source.target.value, &source.target.average_value) {
                (None, None) => {
                    let detail = "must set either a target value for metric or a per-pod target";
                    errors.push(needs(path, "averageValue", detail));
                }
                (Some(_), Some(_)) => {
                    let detail = "may not set both a target value for metric and a per-pod target";
                    errors.push(Error::forbidden(&path.child("target").child("value"), detail));
                }
                _ => {}
            }
        }
        "pods" => {
            let Some(source) = &metric.pods else { return errors };
            errors.extend(validate_identifier(&source.metric, &path.child("metric")));
            errors.extend(validate_target(&source.target, path));
            if source.target.average_value.is_none() {
                errors.push(needs(path, "averageValue", "must specify a positive target averageValue"));
            }
        }
        "resource" => {
            let Some(source) = &metric.resource else { return errors };
            if source.name.is_empty() {
                errors.push(Error::required(&path.child("name"), "must specify a resource name"));
            }
            errors.extend(validate_target(&source.target, path));
            errors.extend(validate_resource_target(&source.target, path));
        }
        _ => {
            let Some(source) = &metric.container_resource else { return errors };
            let at = path.child("name");
            if source.name.is_empty() {
                errors.push(Error::required(&at, "must specify a resource name"));
            } else {
                errors.extend(resources::validate_container_name(&source.name, &at));
            }
            let at = path.child("container");
            if source.container.is_empty() {
                errors.push(Error::required(&at, "must specify a container"));
            } else {
                errors.extend(dns_label(&source.container, &at));
            }
            errors.extend(validate_target(&source.target, path));
            errors.extend(validate_resource_target(&source.target, path));
        }
    }
    errors
}

fn needs(path: &Path, name: &str, detail: &str) -> Error {
    Error::required(&path.child("target").child(name), detail)
}

fn validate_resource_target(target: &MetricTarget, path: &Path) -> Option<Error> {
    match (target.average_utilization, &target.average_value) {
        (None, None) => {
            let detail = "must set either a target raw value or a target utilization";
            Some(needs(path, "averageUtilization", detail))
        }
        (Some(_), Some(_)) => {
            let detail = "may not set both a target raw value and a target utilization";
            Some(Error::forbidden(&path.child("target").child("averageValue"), detail))
        }
        _ => None,
    }
}

fn validate_target(target: &MetricTarget, source: &Path) -> Vec<Error> {
    let path = source.child("target");
    let at = path.child("type");
    let mut errors = Vec::new();
    let kind = target.type_.as_str();
    if kind.is_empty() {
        errors.push(Error::required(&at, "must specify a metric target type"));
    }
    if !matches!(kind, "Utilization" | "Value" | "AverageValue") {
        errors.push(Error::invalid(&at, kind, "must be either Utilization, Value, or AverageValue"));
    }
    for (value, name) in [(&target.value, "value"), (&target.average_value, "averageValue")] {
        if let Some(amount) = value.as_ref().map(quantity).filter(|q| q.sign() != 1) {
            errors.push(Error::invalid(&path.child(name), amount.canonical(), "must be positive"));
        }
    }
    if let Some(percent) = target.average_utilization.filter(|p| *p < 1) {
        errors.push(Error::invalid(&path.child("averageUtilization"), percent, "must be greater than 0"));
    }
    errors
}

fn quantity(amount: &Amount) -> Quantity {
    Quantity::parse(&amount.0).unwrap_or_else(|_| Quantity::zero())
}

fn validate_identifier(identifier: &MetricIdentifier, path: &Path) -> Vec<Error> {
    let at = path.child("name");
    if identifier.name.is_empty() {
        return vec![Error::required(&at, "must specify a metric name")];
    }
    refusals(&at, &identifier.name, content::path_segment(&identifier.name, false))
}

fn validate_rules(rules: Option<&HPAScalingRules>, path: &Path) -> Vec<Error> {
    let Some(rules) = rules else { return Vec::new() };
    let mut errors = Vec::new();
    let at = path.child("stabilizationWindowSeconds");
    if let Some(seconds) = rules.stabilization_window_seconds {
        if seconds < 0 {
            errors.push(Error::invalid(&at, seconds, "must be greater than or equal to zero"));
        } else if seconds > 3600 {
            errors.push(Error::invalid(&at, seconds, "must be less than or equal to 3600"));
        }
    }
    if let Some(policy) = &rules.select_policy {
        errors.extend(supported(policy, &["Disabled", "Max", "Min"], &path.child("selectPolicy")));
    }
    let at = path.child("policies");
    let policies = items(&rules.policies);
    if policies.is_empty() {
        errors.push(Error::required(&at, "must specify at least one Policy"));
    }
    for (i, policy) in policies.iter().enumerate() {
        errors.extend(validate_policy(policy, &at.index(i)));
    }
    if let Some(amount) = rules.tolerance.as_ref().map(quantity).filter(|q| q.sign() < 0) {
        let detail = "must be greater than or equal to 0";
        errors.push(Error::invalid(&path.child("tolerance"), amount.canonical(), detail));
    }
    errors
}

fn validate_policy(policy: &HPAScalingPolicy, path: &Path) -> Vec<Error> {
    let mut errors = Vec::from_iter(supported(&policy.type_, &["Percent", "Pods"], &path.child("type")));
    if policy.value <= 0 {
        errors.push(Error::invalid(&path.child("value"), policy.value, "must be greater than zero"));
    }
    let (at, seconds) = (path.child("periodSeconds"), policy.period_seconds);
    if seconds <= 0 {
        errors.push(Error::invalid(&at, seconds, "must be greater than zero"));
    }
    if seconds > 1800 {
        errors.push(Error::invalid(&at, seconds, "must be less than or equal to 1800"));
    }
    errors
}
