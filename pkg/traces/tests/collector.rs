//! Spans on their way to a collector.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue};
use testing::collector::{Collector, Span as Received};
use traces::{Configuration, Incoming, KeyValue, Scope, Span, Traces, child, event};

const REMOTE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn config(endpoint: &str, rate: Option<i32>) -> Configuration {
    Configuration { endpoint: Some(endpoint.to_owned()), sampling_rate_per_million: rate }
}

fn start(endpoint: &str, rate: Option<i32>) -> Traces {
    Traces::start(&config(endpoint, rate), &[("service.name", "tested"), ("host.name", "h")]).unwrap()
}

fn request(traces: &Traces, trusted: bool, parent: &'static str) -> Span {
    let mut headers = HeaderMap::new();
    if !parent.is_empty() {
        headers.insert("traceparent", HeaderValue::from_static(parent));
        headers.insert("tracestate", HeaderValue::from_static("a=b"));
    }
    traces.request(Incoming {
        scope: Scope::Http,
        name: "GET".into(),
        headers: Some(&headers),
        trusted,
        began: None,
        attributes: Vec::new(),
    })
}

fn named<'a>(spans: &'a [Received], name: &str) -> &'a Received {
    spans.iter().find(|s| s.name == name).unwrap_or_else(|| panic!("no {name} in {spans:#?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_below_what() {
    let collector = Collector::start().await;
    let traces = start(&collector.endpoint, Some(1_000_000));
    let root = traces.work(Scope::Kubelet, "root", || vec![KeyValue::new("a", "b")]);
    root.run(async {
        let inner = child("inner", Vec::new);
        inner
            .run(async {
                // Over a wait, and from thread to thread, the span stays the task's.
                tokio::task::yield_now().await;
                event("happened", Vec::new);
                let mut headers = HeaderMap::new();
                let call = traces::http::outgoing(
                    http::Method::POST,
                    || "https://hook.n.svc:443/x".to_owned(),
                    &mut headers,
                );
                assert!(headers["traceparent"].to_str().unwrap().ends_with("-01"));
                traces::http::received(&call, 500);
            })
            .await;
        inner.fail(|| "broke".to_owned());
    })
    .await;
    drop(root);
    // Nothing is current any more.
    assert!(!child("orphan", Vec::new).is_recording());
    traces.finish(Duration::from_secs(5)).await;
    let spans = collector.until(|spans| spans.len() == 3).await;
    let (root, inner, call) = (named(&spans, "root"), named(&spans, "inner"), named(&spans, "HTTP POST"));
    assert_eq!((&*root.parent, &inner.parent, &call.parent), ("", &root.id, &inner.id));
    assert_eq!((root.kind, inner.kind, call.kind), ("internal", "internal", "client"));
    assert_eq!(root.resource, ["host.name=h", "service.name=tested"]);
    assert_eq!(
        (&*root.scope, root.attributes.as_slice()),
        ("k8s.io/kubernetes/pkg/kubelet", &["a=b".to_owned()][..])
    );
    assert_eq!((inner.events.as_slice(), &*inner.status), (&["happened".to_owned()][..], "error: broke"));
    assert_eq!(
        call.attributes,
        [
            "http.request.method=POST",
            "url.full=https://hook.n.svc:443/x",
            "server.address=hook.n.svc",
            "network.protocol.version=1.1",
            "http.response.status_code=500",
            "error.type=500",
        ]
    );
    assert_eq!(call.status, "error: ");
    assert_eq!(traces.losses(), (0, 0));
}

/// Who may name a parent, and what is sampled then. As upstream's API server did with the same headers.
#[tokio::test(flavor = "multi_thread")]
async fn parents_and_samples() {
    const UNSAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    let link = ["0af7651916cd43dd8448eb211c80319c/b7ad6b7169203331".to_owned()];
    // rate, trusted, header; whether it is kept, whether below the remote span, whether linked to it
    for (rate, trusted, header, kept, below, linked) in [
        (Some(1_000_000), true, REMOTE, true, true, false),
        (Some(1_000_000), true, UNSAMPLED, false, false, false),
        (Some(1_000_000), true, "", true, false, false),
        (Some(1_000_000), true, "nonsense", true, false, false),
        (Some(1_000_000), false, REMOTE, true, false, true),
        (Some(1_000_000), false, UNSAMPLED, true, false, true),
        (None, true, REMOTE, true, true, false),
        (None, true, "", false, false, false),
        (None, false, REMOTE, false, false, false),
        (Some(0), false, "", false, false, false),
    ] {
        let collector = Collector::start().await;
        let traces = start(&collector.endpoint, rate);
        let span = request(&traces, trusted, header);
        assert_eq!(span.is_recording(), kept, "{rate:?} {trusted} {header}");
        let mut headers = HeaderMap::new();
        span.inject(&mut headers);
        let flag = if kept { "-01" } else { "-00" };
        assert!(headers["traceparent"].to_str().unwrap().ends_with(flag));
        drop(span);
        traces.finish(Duration::from_secs(5)).await;
        let spans = collector.spans();
        assert_eq!(spans.len(), usize::from(kept));
        for span in spans {
            assert_eq!(span.parent == "b7ad6b7169203331", below, "{rate:?} {trusted} {header}");
            assert_eq!(span.links == link, linked);
            assert_eq!(span.kind, "server");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn collectors_on_sockets() {
    let folder = tempfile::tempdir().unwrap();
    let collector = Collector::on_socket(&folder.path().join("c.sock"));
    let traces = start(&collector.endpoint, Some(1_000_000));
    drop(traces.work(Scope::Kubelet, "root", Vec::new));
    traces.finish(Duration::from_secs(5)).await;
    collector.until(|spans| spans.len() == 1).await;
}

/// Nobody waits for a collector that is not there; what does not fit is counted, and the end comes soon.
#[tokio::test(flavor = "multi_thread")]
async fn absent_collectors_disturb_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = format!("unix://{}", folder.path().join("none.sock").display());
    let traces = start(&endpoint, Some(1_000_000));
    let begin = Instant::now();
    for _ in 0..5_000 {
        drop(traces.work(Scope::Kubelet, "lost", Vec::new));
    }
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    let end = Instant::now();
    traces.finish(Duration::from_millis(300)).await;
    assert!(end.elapsed() < Duration::from_secs(2), "{:?}", end.elapsed());
    let (dropped, _) = traces.losses();
    assert!(dropped > 0 && dropped <= 5_000 - 2_048, "{dropped}");
    // After the end spans are nothing.
    assert!(!traces.work(Scope::Kubelet, "late", Vec::new).is_recording());
}
