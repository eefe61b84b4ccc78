//! Calls over a channel whose calls are told.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use testing::collector::Collector;
use tonic::transport::Endpoint;
use traces::grpc::Traced;
use traces::{Configuration, Scope, Traces};

const EXPORT: &str = "opentelemetry.proto.collector.trace.v1.TraceService/Export";

fn start(collector: &Collector) -> Traces {
    let config = Configuration {
        endpoint: Some(collector.endpoint.clone()),
        sampling_rate_per_million: Some(1_000_000),
    };
    Traces::start(&config, &[]).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_and_how_they_end() {
    let collector = Collector::start().await;
    let traces = start(&collector);
    let nobody = tempfile::tempdir().unwrap();
    let channel = |uri: String| Endpoint::from_shared(uri).unwrap().connect_lazy();
    let there = channel(format!("http://{}", collector.endpoint));
    let absent = channel(format!("unix://{}/none.sock", nobody.path().display()));
    let work = traces.work(Scope::Kubelet, "work", Vec::new);
    work.run(async {
        let mut client =
            TraceServiceClient::new(Traced::new(there.clone(), Some(&traces), &collector.endpoint));
        client.export(ExportTraceServiceRequest::default()).await.unwrap();
        let mut client = TraceServiceClient::new(Traced::new(absent, Some(&traces), "/none.sock"));
        client.export(ExportTraceServiceRequest::default()).await.unwrap_err();
        // A method that the server does not have.
        let mut grpc = tonic::client::Grpc::new(Traced::new(there.clone(), Some(&traces), ""));
        grpc.ready().await.unwrap();
        let codec =
            tonic_prost::ProstCodec::<ExportTraceServiceRequest, ExportTraceServiceRequest>::default();
        let path = http::uri::PathAndQuery::from_static("/x.Y/Z");
        grpc.unary(tonic::Request::new(ExportTraceServiceRequest::default()), path, codec).await.unwrap_err();
        // One that is let go before it ends.
        let mut client = TraceServiceClient::new(Traced::new(there.clone(), Some(&traces), ""));
        let call = client.export(ExportTraceServiceRequest::default());
        assert!(futures::FutureExt::now_or_never(call).is_none());
    })
    .await;
    // Without traces a channel is what it was.
    let mut client = TraceServiceClient::new(Traced::new(there, None, ""));
    client.export(ExportTraceServiceRequest::default()).await.unwrap();
    drop(work);
    traces.finish(Duration::from_secs(5)).await;
    let spans = collector.until(|spans| spans.len() == 5).await;
    let work = spans.iter().find(|s| s.name == "work").unwrap();
    let mut calls: Vec<_> = spans.iter().filter(|s| s.parent == work.id).collect();
    calls.sort_by_key(|s| s.attributes.last().cloned());
    let port = collector.endpoint.rsplit(':').next().unwrap();
    let found: Vec<(&str, String, &str)> = calls
        .iter()
        .map(|s| (&*s.name, s.attributes[1..].join(" "), s.status.split(':').next().unwrap_or_default()))
        .collect();
    let code = |code: &str| format!("rpc.response.status_code={code}");
    let grpc = "rpc.system.name=grpc";
    assert_eq!(
        found,
        [
            (EXPORT, format!("{grpc} {}", code("CANCELLED")), "error"),
            (EXPORT, format!("{grpc} server.address=127.0.0.1 server.port={port} {}", code("OK")), "unset"),
            (EXPORT, format!("{grpc} server.address=/none.sock {}", code("UNAVAILABLE")), "error"),
            ("x.Y/Z", format!("{grpc} {}", code("UNIMPLEMENTED")), "error"),
        ]
    );
    assert!(calls.iter().all(|s| s.kind == "client" && s.attributes[0] == format!("rpc.method={}", s.name)));
}
