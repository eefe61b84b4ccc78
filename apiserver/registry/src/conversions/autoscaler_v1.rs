//! The types of autoscaling/v1 that exist only in annotations, their fields in Go's order.
//! Upstream: `k8s.io/api/autoscaling/v1/types.go`; the behaviour is upstream's internal type.

use k8s_openapi::api::autoscaling::v2;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, Time};
use serde::{Deserialize, Serialize};

use super::autoscaler::{or_zero, zero};

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Reference {
    kind: String,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    api_version: Option<String>,
}

impl Reference {
    fn from_v2(r: &v2::CrossVersionObjectReference) -> Self {
        let api_version = r.api_version.clone().filter(|v| !v.is_empty());
        Self { kind: r.kind.clone(), name: r.name.clone(), api_version }
    }

    fn into_v2(self) -> v2::CrossVersionObjectReference {
        v2::CrossVersionObjectReference { kind: self.kind, name: self.name, api_version: self.api_version }
    }
}

/// A selector with its fields in Go's order.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Selector {
    #[serde(skip_serializing_if = "Option::is_none")]
    match_labels: Option<std::collections::BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    match_expressions: Option<Vec<Requirement>>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Requirement {
    key: String,
    operator: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    values: Option<Vec<String>>,
}

impl Selector {
    fn from_v2(s: Option<&LabelSelector>) -> Option<Self> {
        let s = s?;
        let requirement =
            |r: &k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelectorRequirement| Requirement {
                key: r.key.clone(),
                operator: r.operator.clone(),
                values: r.values.clone().filter(|v| !v.is_empty()),
            };
        let expressions = s.match_expressions.as_ref().filter(|e| !e.is_empty());
        Some(Self {
            match_labels: s.match_labels.clone().filter(|m| !m.is_empty()),
            match_expressions: expressions.map(|e| e.iter().map(requirement).collect()),
        })
    }

    fn into_v2(self) -> LabelSelector {
        let requirement =
            |r: Requirement| k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelectorRequirement {
                key: r.key,
                operator: r.operator,
                values: r.values,
            };
        LabelSelector {
            match_labels: self.match_labels,
            match_expressions: self.match_expressions.map(|e| e.into_iter().map(requirement).collect()),
        }
    }
}

fn identifier(name: String, selector: Option<Selector>) -> v2::MetricIdentifier {
    v2::MetricIdentifier { name, selector: selector.map(Selector::into_v2) }
}

fn target(type_: &str) -> v2::MetricTarget {
    v2::MetricTarget { type_: type_.to_owned(), ..Default::default() }
}

fn is_zero(quantity: &Quantity) -> bool {
    quantity.0.trim_start_matches(['+', '-', '0', '.']).chars().next().is_none_or(|c| !c.is_ascii_digit())
}

/// `MetricSpec`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct MetricSpec {
    #[serde(rename = "type")]
    type_: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    object: Option<ObjectSource>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pods: Option<PodsSource>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource: Option<ResourceSource>,
    #[serde(skip_serializing_if = "Option::is_none")]
    container_resource: Option<ContainerSource>,
    #[serde(skip_serializing_if = "Option::is_none")]
    external: Option<ExternalSource>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ObjectSource {
    target: Reference,
    metric_name: String,
    target_value: Quantity,
    #[serde(skip_serializing_if = "Option::is_none")]
    selector: Option<Selector>,
    #[serde(skip_serializing_if = "Option::is_none")]
    average_value: Option<Quantity>,
}

impl Default for ObjectSource {
    fn default() -> Self {
        let (target, metric_name) = Default::default();
        Self { target, metric_name, target_value: zero(), selector: None, average_value: None }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodsSource {
    metric_name: String,
    target_average_value: Quantity,
    #[serde(skip_serializing_if = "Option::is_none")]
    selector: Option<Selector>,
}

impl Default for PodsSource {
    fn default() -> Self {
        Self { metric_name: String::new(), target_average_value: zero(), selector: None }
    }
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ResourceSource {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_average_utilization: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_average_value: Option<Quantity>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ContainerSource {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_average_utilization: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_average_value: Option<Quantity>,
    container: String,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ExternalSource {
    metric_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    metric_selector: Option<Selector>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_value: Option<Quantity>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_average_value: Option<Quantity>,
}

/// A target that is a utilization where there is one.
fn by_utilization(utilization: Option<i32>, value: Option<Quantity>) -> v2::MetricTarget {
    let kind = if utilization.is_some() { "Utilization" } else { "AverageValue" };
    v2::MetricTarget { average_utilization: utilization, average_value: value, ..target(kind) }
}

impl MetricSpec {
    pub(super) fn from_v2(m: &v2::MetricSpec) -> Self {
        Self {
            type_: m.type_.clone(),
            object: m.object.as_ref().map(|o| ObjectSource {
                target: Reference::from_v2(&o.described_object),
                metric_name: o.metric.name.clone(),
                target_value: or_zero(o.target.value.as_ref()),
                selector: Selector::from_v2(o.metric.selector.as_ref()),
                average_value: o.target.average_value.clone(),
            }),
            pods: m.pods.as_ref().map(|p| PodsSource {
                metric_name: p.metric.name.clone(),
                target_average_value: or_zero(p.target.average_value.as_ref()),
                selector: Selector::from_v2(p.metric.selector.as_ref()),
            }),
            resource: m.resource.as_ref().map(|r| ResourceSource {
                name: r.name.clone(),
                target_average_utilization: r.target.average_utilization,
                target_average_value: r.target.average_value.clone(),
            }),
            container_resource: m.container_resource.as_ref().map(|r| ContainerSource {
                name: r.name.clone(),
                target_average_utilization: r.target.average_utilization,
                target_average_value: r.target.average_value.clone(),
                container: r.container.clone(),
            }),
            external: m.external.as_ref().map(|e| ExternalSource {
                metric_name: e.metric.name.clone(),
                metric_selector: Selector::from_v2(e.metric.selector.as_ref()),
                target_value: e.target.value.clone(),
                target_average_value: e.target.average_value.clone(),
            }),
        }
    }

    pub(super) fn into_v2(self) -> v2::MetricSpec {
        v2::MetricSpec {
            type_: self.type_,
            object: self.object.map(ObjectSource::into_v2),
            pods: self.pods.map(|p| v2::PodsMetricSource {
                metric: identifier(p.metric_name, p.selector),
                target: v2::MetricTarget {
                    average_value: Some(p.target_average_value),
                    ..target("AverageValue")
                },
            }),
            resource: self.resource.map(|r| v2::ResourceMetricSource {
                name: r.name,
                target: by_utilization(r.target_average_utilization, r.target_average_value),
            }),
            container_resource: self.container_resource.map(|r| v2::ContainerResourceMetricSource {
                name: r.name,
                container: r.container,
                target: by_utilization(r.target_average_utilization, r.target_average_value),
            }),
            external: self.external.map(|e| {
                let kind = if e.target_value.is_some() { "Value" } else { "AverageValue" };
                v2::ExternalMetricSource {
                    metric: identifier(e.metric_name, e.metric_selector),
                    target: v2::MetricTarget {
                        value: e.target_value,
                        average_value: e.target_average_value,
                        ..target(kind)
                    },
                }
            }),
        }
    }
}

impl ObjectSource {
    fn into_v2(self) -> v2::ObjectMetricSource {
        let averaged = self.average_value.is_some();
        // A zero beside an average only means that v1 cannot leave it out.
        let value = Some(self.target_value).filter(|v| !averaged || !is_zero(v));
        let kind = if averaged { "AverageValue" } else { "Value" };
        v2::ObjectMetricSource {
            described_object: self.target.into_v2(),
            metric: identifier(self.metric_name, self.selector),
            target: v2::MetricTarget { value, average_value: self.average_value, ..target(kind) },
        }
    }
}

/// `MetricStatus`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct MetricStatus {
    #[serde(rename = "type")]
    type_: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    object: Option<ObjectStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pods: Option<PodsStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource: Option<ResourceStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    container_resource: Option<ContainerStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    external: Option<ExternalStatus>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ObjectStatus {
    #[serde(default)]
    target: Reference,
    #[serde(default)]
    metric_name: String,
    #[serde(default = "zero")]
    current_value: Quantity,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    selector: Option<Selector>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    average_value: Option<Quantity>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodsStatus {
    #[serde(default)]
    metric_name: String,
    #[serde(default = "zero")]
    current_average_value: Quantity,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    selector: Option<Selector>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResourceStatus {
    #[serde(default)]
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    current_average_utilization: Option<i32>,
    #[serde(default = "zero")]
    current_average_value: Quantity,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ContainerStatus {
    #[serde(default)]
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    current_average_utilization: Option<i32>,
    #[serde(default = "zero")]
    current_average_value: Quantity,
    #[serde(default)]
    container: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExternalStatus {
    #[serde(default)]
    metric_name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    metric_selector: Option<Selector>,
    #[serde(default = "zero")]
    current_value: Quantity,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    current_average_value: Option<Quantity>,
}

fn current(
    value: Option<Quantity>,
    average: Option<Quantity>,
    utilization: Option<i32>,
) -> v2::MetricValueStatus {
    v2::MetricValueStatus { value, average_value: average, average_utilization: utilization }
}

impl MetricStatus {
    pub(super) fn from_v2(m: &v2::MetricStatus) -> Self {
        Self {
            type_: m.type_.clone(),
            object: m.object.as_ref().map(|o| ObjectStatus {
                target: Reference::from_v2(&o.described_object),
                metric_name: o.metric.name.clone(),
                current_value: or_zero(o.current.value.as_ref()),
                selector: Selector::from_v2(o.metric.selector.as_ref()),
                average_value: o.current.average_value.clone(),
            }),
            pods: m.pods.as_ref().map(|p| PodsStatus {
                metric_name: p.metric.name.clone(),
                current_average_value: or_zero(p.current.average_value.as_ref()),
                selector: Selector::from_v2(p.metric.selector.as_ref()),
            }),
            resource: m.resource.as_ref().map(|r| ResourceStatus {
                name: r.name.clone(),
                current_average_utilization: r.current.average_utilization,
                current_average_value: or_zero(r.current.average_value.as_ref()),
            }),
            container_resource: m.container_resource.as_ref().map(|r| ContainerStatus {
                name: r.name.clone(),
                current_average_utilization: r.current.average_utilization,
                current_average_value: or_zero(r.current.average_value.as_ref()),
                container: r.container.clone(),
            }),
            external: m.external.as_ref().map(|e| ExternalStatus {
                metric_name: e.metric.name.clone(),
                metric_selector: Selector::from_v2(e.metric.selector.as_ref()),
                current_value: or_zero(e.current.value.as_ref()),
                current_average_value: e.current.average_value.clone(),
            }),
        }
    }

    pub(super) fn into_v2(self) -> v2::MetricStatus {
        v2::MetricStatus {
            type_: self.type_,
            object: self.object.map(|o| v2::ObjectMetricStatus {
                described_object: o.target.into_v2(),
                metric: identifier(o.metric_name, o.selector),
                current: current(Some(o.current_value), o.average_value, None),
            }),
            pods: self.pods.map(|p| v2::PodsMetricStatus {
                metric: identifier(p.metric_name, p.selector),
                current: current(None, Some(p.current_average_value), None),
            }),
            resource: self.resource.map(|r| v2::ResourceMetricStatus {
                name: r.name,
                current: current(None, Some(r.current_average_value), r.current_average_utilization),
            }),
            container_resource: self.container_resource.map(|r| v2::ContainerResourceMetricStatus {
                name: r.name,
                container: r.container,
                current: current(None, Some(r.current_average_value), r.current_average_utilization),
            }),
            external: self.external.map(|e| v2::ExternalMetricStatus {
                metric: identifier(e.metric_name, e.metric_selector),
                current: current(Some(e.current_value), e.current_average_value, None),
            }),
        }
    }
}

/// `HorizontalPodAutoscalerCondition`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Condition {
    #[serde(rename = "type")]
    type_: String,
    status: String,
    last_transition_time: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    observed_generation: Option<i64>,
}

impl Condition {
    pub(super) fn from_v2(c: v2::HorizontalPodAutoscalerCondition) -> Self {
        Self {
            type_: c.type_,
            status: c.status,
            last_transition_time: c.last_transition_time,
            reason: c.reason.filter(|r| !r.is_empty()),
            message: c.message.filter(|m| !m.is_empty()),
            observed_generation: c.observed_generation,
        }
    }

    pub(super) fn into_v2(self) -> v2::HorizontalPodAutoscalerCondition {
        v2::HorizontalPodAutoscalerCondition {
            type_: self.type_,
            status: self.status,
            last_transition_time: self.last_transition_time,
            reason: self.reason,
            message: self.message,
            observed_generation: self.observed_generation,
        }
    }
}

/// `HorizontalPodAutoscalerBehavior`, the internal type, whose fields have no JSON names.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Behavior {
    #[serde(alias = "scaleUp")]
    scale_up: Option<Rules>,
    #[serde(alias = "scaleDown")]
    scale_down: Option<Rules>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Rules {
    #[serde(alias = "stabilizationWindowSeconds")]
    stabilization_window_seconds: Option<i32>,
    #[serde(alias = "selectPolicy")]
    select_policy: Option<String>,
    #[serde(alias = "policies")]
    policies: Option<Vec<Policy>>,
    #[serde(alias = "tolerance")]
    tolerance: Option<Quantity>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Policy {
    #[serde(alias = "type", rename = "Type")]
    type_: String,
    #[serde(alias = "value")]
    value: i32,
    #[serde(alias = "periodSeconds")]
    period_seconds: i32,
}

impl Behavior {
    /// It says nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.scale_up.is_none() && self.scale_down.is_none()
    }

    pub(super) fn from_v2(b: v2::HorizontalPodAutoscalerBehavior) -> Self {
        Self { scale_up: b.scale_up.map(Rules::from_v2), scale_down: b.scale_down.map(Rules::from_v2) }
    }

    pub(super) fn into_v2(self) -> v2::HorizontalPodAutoscalerBehavior {
        v2::HorizontalPodAutoscalerBehavior {
            scale_up: self.scale_up.map(Rules::into_v2),
            scale_down: self.scale_down.map(Rules::into_v2),
        }
    }
}

impl Rules {
    fn from_v2(r: v2::HPAScalingRules) -> Self {
        let policy = |p: v2::HPAScalingPolicy| Policy {
            type_: p.type_,
            value: p.value,
            period_seconds: p.period_seconds,
        };
        Self {
            stabilization_window_seconds: r.stabilization_window_seconds,
            select_policy: r.select_policy,
            policies: r.policies.map(|p| p.into_iter().map(policy).collect()),
            tolerance: r.tolerance,
        }
    }

    fn into_v2(self) -> v2::HPAScalingRules {
        let policy = |p: Policy| v2::HPAScalingPolicy {
            type_: p.type_,
            value: p.value,
            period_seconds: p.period_seconds,
        };
        v2::HPAScalingRules {
            stabilization_window_seconds: self.stabilization_window_seconds,
            select_policy: self.select_policy,
            policies: self.policies.map(|p| p.into_iter().map(policy).collect()),
            tolerance: self.tolerance,
        }
    }
}
