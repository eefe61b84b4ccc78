//! What each metric of an autoscaler proposes, and how it is told in the status.
//! Upstream: pkg/controller/podautoscaler/horizontal.go computeReplicasForMetrics and neighbours.

use std::sync::Arc;

use client::Meta;
use controller::{WARNING, reference};
use k8s_openapi::api::autoscaling::v2::{
    ContainerResourceMetricStatus, ExternalMetricSource, ExternalMetricStatus, HorizontalPodAutoscaler,
    MetricIdentifier, MetricSpec, MetricStatus, MetricTarget, MetricValueStatus, ObjectMetricSource,
    ObjectMetricStatus, PodsMetricStatus, ResourceMetricStatus,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use machinery::Quantity;
use machinery::quantity::Format;

use super::Shell;
use super::replicas::{self, Proposal, View};
use super::requests::{self, milli};
use crate::controllers::shared::selector;
use crate::kept::Pod;

/// The target of an autoscaler in one round.
pub struct Target<'a> {
    pub view: View<'a>,
    pub pods: &'a [Arc<Pod>],
    /// The size that its status tells.
    pub status_replicas: i32,
    /// Selects its pods, as text.
    pub selector: &'a str,
}

/// What a metric comes to.
pub struct Computed {
    pub proposal: i32,
    /// What it is called in messages.
    pub name: String,
    pub status: MetricStatus,
}

/// Why a metric cannot be computed: the event's and condition's reason, the bare error, the error with its context.
pub struct Failure {
    pub reason: &'static str,
    pub bare: String,
    pub error: String,
}

/// What all metrics come to.
pub struct Sum {
    /// The greatest proposal; `None` when it cannot be relied on.
    pub proposal: Option<(i32, String)>,
    pub statuses: Vec<MetricStatus>,
    /// The first failure: reason and message of the condition.
    pub condition: Option<(&'static str, String)>,
    pub error: Option<String>,
}

fn in_milli(usage: i64, format: Format) -> Text {
    Text(Quantity::from_milli(usage, format).to_string())
}

fn decimal(usage: i64) -> Text {
    in_milli(usage, Format::DecimalSI)
}

fn average(usage: i64) -> MetricValueStatus {
    MetricValueStatus { average_value: Some(decimal(usage)), ..MetricValueStatus::default() }
}

fn whole(usage: i64) -> MetricValueStatus {
    MetricValueStatus { value: Some(decimal(usage)), ..MetricValueStatus::default() }
}

/// A selector as a query has it. An absent one selects nothing upstream, which as text is empty.
fn text(wanted: Option<&LabelSelector>) -> Result<String, String> {
    wanted.map_or(Ok(String::new()), |s| selector(s).map(|s| s.to_string()).map_err(|e| e.to_string()))
}

/// A selector as Go prints it inside a name.
fn show(wanted: Option<&LabelSelector>) -> String {
    crate::controllers::disruption::show_selector(wanted)
}

impl Shell {
    /// Goes through all metrics. Some may fail as long as the others do not call for fewer pods.
    pub(super) async fn compute(
        &self,
        hpa: &HorizontalPodAutoscaler,
        target: &Target<'_>,
        metrics: &[MetricSpec],
    ) -> Sum {
        let mut best: Option<(i32, String)> = None;
        let (mut statuses, mut failures) = (Vec::new(), Vec::new());
        for metric in metrics {
            match self.one(hpa.namespace(), target, metric).await {
                Ok(computed) => {
                    if best.as_ref().is_none_or(|(most, _)| *most == 0 || computed.proposal > *most) {
                        best = Some((computed.proposal, computed.name));
                    }
                    statuses.push(computed.status);
                }
                Err(failure) => {
                    self.recorder.event(&reference(hpa), WARNING, failure.reason, &failure.bare);
                    statuses.push(MetricStatus::default());
                    failures.push(failure);
                }
            }
        }
        let count = failures.len();
        let first = failures.into_iter().next();
        let error = first.as_ref().map(|f| {
            format!("invalid metrics ({count} invalid out of {}), first error is: {}", metrics.len(), f.error)
        });
        let condition =
            first.map(|f| (f.reason, format!("the HPA was unable to compute the replica count: {}", f.bare)));
        let smaller = best.as_ref().map_or(0, |(size, _)| *size) < target.view.current;
        let reliable = count < metrics.len() && !(count > 0 && smaller);
        Sum { proposal: best.filter(|_| reliable), statuses, condition, error }
    }

    async fn one(
        &self,
        namespace: &str,
        target: &Target<'_>,
        metric: &MetricSpec,
    ) -> Result<Computed, Failure> {
        let failed = |reason: &'static str, context: String| {
            move |bare: String| Failure { reason, error: format!("{context}: {bare}"), bare }
        };
        let nothing = || "the metric's source is missing".to_string();
        match metric.type_.as_str() {
            "Object" => {
                let source = metric.object.as_ref().ok_or_else(nothing);
                let failed = failed("FailedGetObjectMetric", "failed to get object metric value".into());
                match source {
                    Ok(source) => self.object(namespace, target, source).await.map_err(failed),
                    Err(e) => Err(failed(e)),
                }
            }
            "Pods" => {
                let failed = failed("FailedGetPodsMetric", "failed to get pods metric value".into());
                self.pods(namespace, target, metric).await.map_err(failed)
            }
            "Resource" => {
                let name = metric.resource.as_ref().map_or("", |r| r.name.as_str());
                let failed =
                    failed("FailedGetResourceMetric", format!("failed to get {name} resource metric value"));
                self.resource(namespace, target, metric).await.map_err(failed)
            }
            "ContainerResource" => {
                let name = metric.container_resource.as_ref().map_or("", |r| r.container.as_str());
                let context = format!("failed to get {name} container metric value");
                let failed = failed("FailedGetContainerResourceMetric", context);
                self.container(namespace, target, metric).await.map_err(failed)
            }
            "External" => {
                let name = metric.external.as_ref().map_or("", |e| e.metric.name.as_str());
                let failed =
                    failed("FailedGetExternalMetric", format!("failed to get {name} external metric value"));
                match metric.external.as_ref().ok_or_else(nothing) {
                    Ok(source) => self.external(namespace, target, source).await.map_err(failed),
                    Err(e) => Err(failed(e)),
                }
            }
            other => {
                let error = format!("unknown metric source type {other:?}");
                Err(Failure { reason: "InvalidMetricSourceType", bare: error.clone(), error })
            }
        }
    }

    async fn object(
        &self,
        namespace: &str,
        target: &Target<'_>,
        source: &ObjectMetricSource,
    ) -> Result<Computed, String> {
        let (object, metric, wanted) = (&source.described_object, &source.metric, &source.target);
        let read = async {
            let wanted = text(metric.selector.as_ref())?;
            let usage = self.metrics.of_object(&self.scales, namespace, object, &metric.name, &wanted).await;
            usage.map_err(|e| {
                let (kind, name) = (&object.kind, &object.name);
                format!("unable to get metric {} on {kind} {namespace}/{name}: {e}", metric.name)
            })
        };
        let (proposal, current, name) = match (wanted.type_.as_str(), &wanted.value, &wanted.average_value) {
            ("Value", Some(value), _) => {
                let proposal = replicas::by_ratio(&target.view, read.await?, milli(value))?;
                let name = format!("{} metric {}", object.kind, metric.name);
                (proposal, whole(proposal.usage), name)
            }
            ("AverageValue", _, Some(value)) => {
                let usage =
                    read.await.map_err(|e| format!("failed to get {} object metric: {e}", metric.name))?;
                let tolerances = target.view.tolerances;
                let proposal = replicas::per_pod(target.status_replicas, tolerances, usage, milli(value));
                let name = format!("external metric {}({})", metric.name, show(metric.selector.as_ref()));
                (proposal, average(proposal.usage), name)
            }
            _ => {
                let none = "invalid object metric source: neither a value target nor an average value target was set";
                return Err(none.to_string());
            }
        };
        let status = ObjectMetricStatus { current, described_object: object.clone(), metric: metric.clone() };
        Ok(Computed {
            proposal: proposal.replicas,
            name,
            status: MetricStatus { type_: "Object".into(), object: Some(status), ..MetricStatus::default() },
        })
    }

    async fn pods(
        &self,
        namespace: &str,
        target: &Target<'_>,
        metric: &MetricSpec,
    ) -> Result<Computed, String> {
        let source = metric.pods.as_ref().ok_or("the metric's source is missing")?;
        let (name, wanted) = (&source.metric.name, text(source.metric.selector.as_ref())?);
        let samples = self.metrics.of_pods(namespace, target.selector, name, &wanted).await;
        let samples = samples.map_err(|e| format!("unable to get metric {name}: {e}"))?;
        let average_value = source.target.average_value.as_ref().map_or(0, milli);
        let proposal = replicas::by_usage(&target.view, samples, average_value, false)?;
        let metric: MetricIdentifier = source.metric.clone();
        let status = PodsMetricStatus { current: average(proposal.usage), metric };
        Ok(Computed {
            proposal: proposal.replicas,
            name: format!("pods metric {name}"),
            status: MetricStatus { type_: "Pods".into(), pods: Some(status), ..MetricStatus::default() },
        })
    }

    async fn resource(
        &self,
        namespace: &str,
        target: &Target<'_>,
        metric: &MetricSpec,
    ) -> Result<Computed, String> {
        let source = metric.resource.as_ref().ok_or("the metric's source is missing")?;
        let used = self.use_of(namespace, target, &source.target, &source.name, "").await?;
        let status = ResourceMetricStatus { current: used.1, name: source.name.clone() };
        Ok(Computed {
            proposal: used.0.replicas,
            name: used.2,
            status: MetricStatus {
                type_: "Resource".into(),
                resource: Some(status),
                ..MetricStatus::default()
            },
        })
    }

    async fn container(
        &self,
        namespace: &str,
        target: &Target<'_>,
        metric: &MetricSpec,
    ) -> Result<Computed, String> {
        let source = metric.container_resource.as_ref().ok_or("the metric's source is missing")?;
        let used = self.use_of(namespace, target, &source.target, &source.name, &source.container).await?;
        let status = ContainerResourceMetricStatus {
            container: source.container.clone(),
            current: used.1,
            name: source.name.clone(),
        };
        let status = MetricStatus {
            type_: "ContainerResource".into(),
            container_resource: Some(status),
            ..MetricStatus::default()
        };
        Ok(Computed { proposal: used.0.replicas, name: used.2, status })
    }

    /// Use of a resource: the proposal, the status, the name. Upstream: computeStatusForResourceMetricGeneric.
    async fn use_of(
        &self,
        namespace: &str,
        target: &Target<'_>,
        wanted: &MetricTarget,
        resource: &str,
        container: &str,
    ) -> Result<(Proposal, MetricValueStatus, String), String> {
        let format = if resource == "memory" { Format::BinarySI } else { Format::DecimalSI };
        let read = self.metrics.resource(namespace, target.selector, resource, container);
        let cpu = resource == "cpu";
        let fetched = |e: String| format!("unable to get metrics for resource {resource}: {e}");
        if let Some(value) = &wanted.average_value {
            let about = |e: String| format!("failed to get {resource} usage: {e}");
            let samples = read.await.map_err(|e| about(fetched(e)))?;
            let proposal = replicas::by_usage(&target.view, samples, milli(value), cpu).map_err(about)?;
            let status = MetricValueStatus {
                average_value: Some(in_milli(proposal.usage, format)),
                ..MetricValueStatus::default()
            };
            return Ok((proposal, status, format!("{resource} resource")));
        }
        let none = "invalid resource metric source: neither an average utilization target nor an average value (usage) target was set";
        let percent = wanted.average_utilization.ok_or(none)?;
        let about = |e: String| format!("failed to get {resource} utilization: {e}");
        let samples = read.await.map_err(|e| about(fetched(e)))?;
        let requests = requests::requests(target.pods, container, resource);
        let proposal = match requests {
            Ok(requests) => replicas::by_utilization(&target.view, samples, &requests, percent, cpu),
            // What is wrong with the pods or their metrics counts before what is wrong with their requests.
            Err(e) => replicas::by_usage(&target.view, samples, 1, cpu).and(Err(e)),
        };
        let proposal = proposal.map_err(about)?;
        let status = MetricValueStatus {
            average_utilization: Some(proposal.utilization),
            average_value: Some(in_milli(proposal.usage, format)),
            ..MetricValueStatus::default()
        };
        let of = if container.is_empty() { "" } else { "container " };
        Ok((proposal, status, format!("{resource} {of}resource utilization (percentage of request)")))
    }

    async fn external(
        &self,
        namespace: &str,
        target: &Target<'_>,
        source: &ExternalMetricSource,
    ) -> Result<Computed, String> {
        let (metric, wanted) = (&source.metric, &source.target);
        let name = &metric.name;
        let read = async {
            let values = self.metrics.external(namespace, name, &text(metric.selector.as_ref())?).await;
            values.map(|v| replicas::sum(&v)).map_err(|e| {
                let selector = show(metric.selector.as_ref());
                format!("unable to get external metric {namespace}/{name}/{selector}: {e}")
            })
        };
        let (proposal, current) = match (&wanted.average_value, &wanted.value) {
            (Some(value), _) => {
                let usage = read.await.map_err(|e| format!("failed to get {name} external metric: {e}"))?;
                let tolerances = target.view.tolerances;
                let proposal = replicas::per_pod(target.status_replicas, tolerances, usage, milli(value));
                (proposal, average(proposal.usage))
            }
            (None, Some(value)) => {
                let about = |e: String| format!("failed to get external metric {name}: {e}");
                let usage = read.await.map_err(about)?;
                let proposal = replicas::by_ratio(&target.view, usage, milli(value)).map_err(about)?;
                (proposal, whole(proposal.usage))
            }
            (None, None) => {
                let none = "invalid external metric source: neither a value target nor an average value target was set";
                return Err(none.to_string());
            }
        };
        let status = ExternalMetricStatus { current, metric: metric.clone() };
        Ok(Computed {
            proposal: proposal.replicas,
            name: format!("external metric {name}({})", show(metric.selector.as_ref())),
            status: MetricStatus {
                type_: "External".into(),
                external: Some(status),
                ..MetricStatus::default()
            },
        })
    }
}
