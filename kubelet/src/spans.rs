//! Spans of the kubelet's work and of its requests, if the configuration asks for traces.
//!
//! What this kubelet does begins the traces: a pod's sync, a collection of garbage, a request to its server or of its own to
//! the API server; calls of the runtime and of the API server in between are below it. Upstream: newTracerProvider in
//! cmd/kubelet/app/server.go, SyncPod and others in pkg/kubelet/kubelet.go, k8s.io/cri-client.

use std::sync::Arc;
use std::time::Duration;

use client::spans::{RequestSpan, Tracer};
use component::app::Error;
use http::{HeaderMap, Method};
use k8s_openapi::api::core::v1::Pod;
use traces::{KeyValue, Scope, Span, Traces};

use crate::config::Settings;
use crate::pod::view::PodView;

/// How long the end of the kubelet waits for a collector.
const LAST: Duration = Duration::from_secs(3);

/// Where spans go; nowhere without a configuration.
#[derive(Clone, Debug, Default)]
pub struct Spans(Option<Traces>);

impl Spans {
    /// Starts the exporter, if there is to be one.
    ///
    /// # Errors
    /// The endpoint cannot be used.
    pub fn start(settings: &Settings, hostname: &str) -> Result<Self, Error> {
        let Some(config) = &settings.tracing else { return Ok(Self(None)) };
        let resource = [("service.name", "kubelet"), ("host.name", hostname)];
        let traces = Traces::start(config, &resource);
        let failed = |e| Error::from(format!("could not configure tracer provider: {e}"));
        Ok(Self(Some(traces.map_err(failed)?)))
    }

    /// Sends what waits, and ends.
    pub async fn finish(&self) {
        if let Some(traces) = &self.0 {
            traces.finish(LAST).await;
        }
    }

    /// The exporter.
    pub fn traces(&self) -> Option<&Traces> {
        self.0.as_ref()
    }

    /// A step of a pod's worker; `update` says why a pod is synced.
    pub fn pod(&self, name: &'static str, pod: &Pod, update: Option<&'static str>) -> Span {
        let Some(traces) = &self.0 else { return Span::none() };
        traces.work(Scope::Kubelet, name, || {
            let text = |key: &'static str, value: &str| KeyValue::new(key, value.to_owned());
            let mut out = vec![
                text("k8s.pod.uid", pod.uid()),
                text("k8s.pod", &pod.log_name().to_string()),
                text("k8s.pod.name", pod.metadata.name.as_deref().unwrap_or_default()),
            ];
            out.extend(update.map(|update| KeyValue::new("k8s.pod.update_type", update)));
            out.push(text("k8s.namespace.name", pod.metadata.namespace.as_deref().unwrap_or_default()));
            out
        })
    }

    /// A collection of containers and sandboxes that are no longer needed.
    pub fn containers(&self) -> Span {
        self.work(Scope::Runtime, "Containers/GarbageCollect")
    }

    /// A collection of images.
    pub fn images(&self) -> Span {
        self.work(Scope::Images, "Images/GarbageCollect")
    }

    fn work(&self, scope: Scope, name: &'static str) -> Span {
        self.0.as_ref().map_or(Span::none(), |traces| traces.work(scope, name, Vec::new))
    }

    /// What tells the requests of an API client.
    pub fn tracer(&self) -> Option<Tracer> {
        let traces = self.0.clone()?;
        Some(Arc::new(move |method: &Method, url: &str, headers: &mut HeaderMap| {
            Box::new(Request(traces::http::call(&traces, method, url, headers))) as Box<dyn RequestSpan>
        }))
    }
}

struct Request(Span);

impl RequestSpan for Request {
    fn answered(&mut self, status: u16) {
        traces::http::received(&self.0, status);
    }

    fn failed(&mut self, why: &str) {
        traces::http::failed(&self.0, &why);
    }
}

/// Tells a span how its work ended.
pub fn ended<T>(span: &Span, result: &Result<T, String>) {
    if let Err(error) = result {
        span.record("*errors.errorString", error);
        span.fail(|| error.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use testing::collector::Collector;

    fn pod() -> Pod {
        serde_json::from_value(json!({"metadata": {"uid": "u", "name": "p", "namespace": "n"}})).unwrap()
    }

    /// Names, attributes and scopes of upstream's kubelet; calls are below the work that made them.
    #[tokio::test(flavor = "multi_thread")]
    async fn work_and_its_calls() {
        let collector = Collector::start().await;
        let tracing = json!({"endpoint": collector.endpoint, "samplingRatePerMillion": 1_000_000});
        let settings: Settings = serde_json::from_value(json!({"tracing": tracing})).unwrap();
        let spans = Spans::start(&settings, "node").unwrap();
        let limit = Duration::from_secs(1);
        let socket = "unix:///nonexistent/x.sock";
        let cri = cri::Client::connect_both(socket, "", limit, spans.traces()).unwrap();
        let server = client::Config::new("http://127.0.0.1:1");
        let api = client::Client::new(server, client::Options::default()).unwrap().traced(spans.tracer());
        let span = spans.pod("syncPod", &pod(), Some("create"));
        let work = async {
            let _ = api.with_timeout(limit).once(&client::Request::get("/api/v1/nodes/x")).await;
            cri.version(cri::v1::VersionRequest::default()).await.map(drop).map_err(|e| e.to_string())
        };
        let result = span.run(work).await;
        ended(&span, &result);
        drop((span, spans.containers(), spans.images(), spans.pod("syncTerminatedPod", &pod(), None)));
        spans.finish().await;
        let told = collector.until(|spans| spans.len() == 6).await;
        let named = |name: &str| told.iter().find(|s| s.name == name).unwrap();
        let sync = named("syncPod");
        assert_eq!(sync.resource, ["host.name=node", "service.name=kubelet"]);
        assert_eq!(
            sync.attributes,
            [
                "k8s.pod.uid=u",
                "k8s.pod=n/p",
                "k8s.pod.name=p",
                "k8s.pod.update_type=create",
                "k8s.namespace.name=n"
            ]
        );
        assert!(sync.status.starts_with("error: ") && sync.events == ["exception"], "{sync:?}");
        assert_eq!((&*sync.parent, &*sync.scope), ("", "k8s.io/kubernetes/pkg/kubelet"));
        let call = named("runtime.v1.RuntimeService/Version");
        assert_eq!((&call.parent, call.kind), (&sync.id, "client"));
        assert!(call.attributes.contains(&"server.address=/nonexistent/x.sock".to_owned()), "{call:?}");
        let request = named("HTTP GET");
        assert_eq!((&request.parent, request.kind), (&sync.id, "client"));
        assert!(request.attributes.contains(&"url.full=http://127.0.0.1:1/api/v1/nodes/x".to_owned()));
        assert_eq!(named("syncTerminatedPod").keys().len(), 4);
        assert_eq!(named("Containers/GarbageCollect").scope, "k8s.io/kubernetes/pkg/kubelet/kuberuntime");
        assert_eq!(named("Images/GarbageCollect").scope, "k8s.io/kubernetes/pkg/kubelet/images");
    }

    /// `tracing: {}` asks for traces that others began; no `tracing` for none.
    #[tokio::test]
    async fn only_where_asked_for() {
        let of = |document| {
            let settings: Settings = serde_json::from_value(document).unwrap();
            Spans::start(&settings, "node").unwrap()
        };
        let none = of(json!({}));
        assert!(none.traces().is_none() && none.tracer().is_none());
        let passive = of(json!({"tracing": {}}));
        assert!(passive.traces().is_some());
        assert!(!passive.pod("syncPod", &pod(), None).is_recording());
    }
}
