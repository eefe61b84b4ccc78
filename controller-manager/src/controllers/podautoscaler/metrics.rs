//! Asking for metrics: of resources, of objects (custom), of anything (external).
//! Upstream: pkg/controller/podautoscaler/metrics/client.go, k8s.io/metrics/pkg/client.

use std::collections::BTreeMap;
use std::time::Duration;

use client::{Client, Query, Request, segment};
use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::CrossVersionObjectReference;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use machinery::time::parse_duration;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::replicas::{Sample, Samples};
use super::requests::milli;
use crate::controllers::shared::scales::{Scales, group_version};

/// Window of custom metrics that do not tell it.
const DEFAULT_WINDOW: Duration = Duration::from_secs(60);
/// Versions of the custom metrics API, the preferred one first.
const CUSTOM_VERSIONS: [&str; 2] = ["v1beta2", "v1beta1"];

#[derive(Deserialize)]
struct Items<T> {
    #[serde(default = "Vec::new")]
    items: Vec<T>,
}

#[derive(Deserialize)]
struct PodMetrics {
    metadata: Named,
    timestamp: Option<Time>,
    #[serde(default)]
    window: String,
    #[serde(default)]
    containers: Vec<ContainerMetrics>,
}

#[derive(Deserialize, Default)]
struct Named {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct ContainerMetrics {
    name: String,
    #[serde(default)]
    usage: BTreeMap<String, Quantity>,
}

/// `custom.metrics.k8s.io` MetricValue, of either version as far as it is read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MetricValue {
    #[serde(default)]
    described_object: Named,
    timestamp: Option<Time>,
    window_seconds: Option<i64>,
    window: Option<i64>,
    value: Quantity,
}

#[derive(Deserialize)]
struct ExternalValue {
    value: Quantity,
}

/// Reads metrics.
pub struct Metrics {
    client: Client,
}

impl Metrics {
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    async fn read<T: DeserializeOwned>(&self, url: String) -> Result<T, client::Error> {
        let answer = self.client.call(&Request::get(url.clone())).await?;
        serde_json::from_slice(&answer.body)
            .map_err(|e| client::Error::Decode { what: url, reason: e.to_string() })
    }

    /// Use of a resource by pod; `container`: by that container of each pod, "" = by all.
    ///
    /// # Errors
    /// There are no metrics, or no one serves them.
    pub async fn resource(
        &self,
        namespace: &str,
        selector: &str,
        resource: &str,
        container: &str,
    ) -> Result<Samples, String> {
        let mut query = Query::default();
        query.push_some("labelSelector", selector);
        let path = format!("/apis/metrics.k8s.io/v1beta1/namespaces/{}/pods", segment(namespace));
        let found: Items<PodMetrics> = self
            .read(query.on(&path))
            .await
            .map_err(|e| format!("unable to fetch metrics from resource metrics API: {e}"))?;
        if found.items.is_empty() {
            return Err("no metrics returned from resource metrics API".to_string());
        }
        Ok(found.items.into_iter().filter_map(|pod| use_of(&pod, resource, container)).collect())
    }

    /// A custom metric of the pods that match.
    ///
    /// # Errors
    /// There are no metrics, or no one serves them.
    pub async fn of_pods(
        &self,
        namespace: &str,
        selector: &str,
        metric: &str,
        metric_selector: &str,
    ) -> Result<Samples, String> {
        let path = format!("namespaces/{}/pods/*/{}", segment(namespace), segment(metric));
        let found = self.custom(&path, selector, metric_selector).await?;
        if found.is_empty() {
            return Err("no metrics returned from custom metrics API".to_string());
        }
        let sample = |value: MetricValue| {
            let window = value.window_seconds.or(value.window).and_then(|s| u64::try_from(s).ok());
            let sample = Sample {
                value: milli(&value.value),
                at: value.timestamp.map_or(Timestamp::UNIX_EPOCH, |t| t.0),
                window: window.map_or(DEFAULT_WINDOW, Duration::from_secs),
            };
            (value.described_object.name, sample)
        };
        Ok(found.into_iter().map(sample).collect())
    }

    /// A custom metric of one object.
    ///
    /// # Errors
    /// There is no such metric, or no one serves it.
    pub async fn of_object(
        &self,
        scales: &Scales,
        namespace: &str,
        object: &CrossVersionObjectReference,
        metric: &str,
        metric_selector: &str,
    ) -> Result<i64, String> {
        let of = |e: String| format!("unable to fetch metrics from custom metrics API: {e}");
        let (group, _) = group_version(object.api_version.as_deref().unwrap_or_default()).map_err(of)?;
        let path = if group.is_empty() && object.kind == "Namespace" {
            format!("namespaces/{}/metrics/{}", segment(namespace), segment(metric))
        } else {
            let resources = scales.resources(group, None, &object.kind).await;
            let resources =
                resources.map_err(|e| of(format!("unable to map kind {} to resource: {e}", object.kind)))?;
            let dot = if group.is_empty() { "" } else { "." };
            let resource = resources.first().map(|r| r.gvr.resource.clone()).unwrap_or_default();
            let (namespace, name) = (segment(namespace), segment(&object.name));
            format!("namespaces/{namespace}/{resource}{dot}{group}/{name}/{}", segment(metric))
        };
        let found = self.custom(&path, "", metric_selector).await?;
        match &found[..] {
            [one] => Ok(milli(&one.value)),
            _ => Err(of(format!(
                "the custom metrics API server returned {} results when we asked for exactly one",
                found.len()
            ))),
        }
    }

    /// Asks the preferred version of the custom metrics API, and the older one where that is all there is.
    async fn custom(
        &self,
        path: &str,
        selector: &str,
        metric_selector: &str,
    ) -> Result<Vec<MetricValue>, String> {
        let mut query = Query::default();
        query.push_some("labelSelector", selector);
        query.push_some("metricLabelSelector", metric_selector);
        let mut failure = None;
        for version in CUSTOM_VERSIONS {
            let url = query.on(&format!("/apis/custom.metrics.k8s.io/{version}/{path}"));
            match self.read::<Items<MetricValue>>(url).await {
                Ok(found) => return Ok(found.items),
                Err(e) if e.is_not_found() => failure = failure.or(Some(e)),
                Err(e) => return Err(format!("unable to fetch metrics from custom metrics API: {e}")),
            }
        }
        let why = failure.map(|e| e.to_string()).unwrap_or_default();
        Err(format!("unable to fetch metrics from custom metrics API: {why}"))
    }

    /// All values of an external metric.
    ///
    /// # Errors
    /// There are none, or no one serves them.
    pub async fn external(&self, namespace: &str, metric: &str, selector: &str) -> Result<Vec<i64>, String> {
        let mut query = Query::default();
        query.push_some("labelSelector", selector);
        let (namespace, metric) = (segment(namespace), segment(metric));
        let path = format!("/apis/external.metrics.k8s.io/v1beta1/namespaces/{namespace}/{metric}");
        let found: Items<ExternalValue> = self
            .read(query.on(&path))
            .await
            .map_err(|e| format!("unable to fetch metrics from external metrics API: {e}"))?;
        if found.items.is_empty() {
            return Err("no metrics returned from external metrics API".to_string());
        }
        Ok(found.items.iter().map(|v| milli(&v.value)).collect())
    }
}

/// A pod's use; `None` when a container does not tell.
fn use_of(pod: &PodMetrics, resource: &str, container: &str) -> Option<(String, Sample)> {
    let value = if container.is_empty() {
        if pod.containers.is_empty() {
            return None;
        }
        let parts = pod.containers.iter().map(|c| c.usage.get(resource).map(milli));
        parts.sum::<Option<i64>>()?
    } else {
        milli(pod.containers.iter().find(|c| c.name == container)?.usage.get(resource)?)
    };
    let window = parse_duration(&pod.window).ok().and_then(|n| u64::try_from(n).ok());
    let sample = Sample {
        value,
        at: pod.timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |t| t.0),
        window: Duration::from_nanos(window.unwrap_or(0)),
    };
    Some((pod.metadata.name.clone(), sample))
}
