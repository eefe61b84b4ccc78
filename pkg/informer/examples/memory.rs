//! Prints what a cached object costs: resident bytes per object of 20,000 pods, whole and as metadata.
//! Run with `cargo run --release -p informer --example memory`.

use std::sync::Arc;

use client::{Client, Config, ConfigError, Gvr, Options as ClientOptions, PartialObjectMetadata};
use informer::{Factory, Options};
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;
use testing::fake_api::FakeApi;
use tokio_util::sync::CancellationToken;

type Fill<'a> = &'a dyn Fn(&Factory);

const PODS: usize = 20_000;

fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split(' ').nth(1).and_then(|p| p.parse::<usize>().ok()).unwrap_or(0) * 4096
}

fn pod(n: usize) -> serde_json::Value {
    json!({"metadata": {"name": format!("web-7d4b9c6f5-{n:05}"), "namespace": "default",
        "labels": {"app": "web", "pod-template-hash": "7d4b9c6f5"},
        "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-7d4b9c6f5",
            "uid": "8a9f2f5e-9a7b-4b0e-8f4b-1c2d3e4f5a6b", "controller": true}]},
     "spec": {"nodeName": format!("node-{}", n % 100), "serviceAccountName": "default",
        "containers": [{"name": "web", "image": "registry.example.com/web:1.2.3",
            "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
            "ports": [{"containerPort": 8080, "protocol": "TCP"}]}]},
     "status": {"phase": "Running", "podIP": "10.1.2.3",
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
        "containerStatuses": [{"name": "web", "ready": true, "restartCount": 0, "image": "web", "imageID": "x",
            "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}]}})
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), ConfigError> {
    println!("Pod itself: {} bytes, ObjectMeta: {}", size_of::<Pod>(), size_of_val(&Pod::default().metadata));
    let server = FakeApi::new();
    for n in 0..PODS {
        server.put("/api/v1/pods", pod(n));
    }
    let mut config = Config::new("http://fake");
    config.dialer = Some(Arc::new(move || {
        let io: Box<dyn client::transport::Io> = Box::new(server.connect());
        Box::pin(async move { Ok(io) })
    }));
    let client = Client::new(config, ClientOptions { qps: -1.0, ..ClientOptions::default() })?;
    let token = CancellationToken::new();
    let whole = |f: &Factory| drop(f.informer::<Pod>(Options::default()));
    let metadata =
        |f: &Factory| drop(f.metadata::<PartialObjectMetadata>(&Gvr::of::<Pod>(), Options::default()));
    let fill: [(&str, Fill<'_>); 2] = [("whole", &whole), ("metadata", &metadata)];
    for (name, informer) in fill {
        // The first stores pay for the buffers of the transfer, in this process also the server's; they do not count.
        let mut before = 0;
        let mut kept = Vec::new();
        for round in 0..6 {
            if round == 2 {
                before = resident();
            }
            let factory = Factory::new(client.clone());
            informer(&factory);
            factory.start(&token);
            factory.wait_synced(&token).await;
            kept.push(factory);
        }
        println!("{name}: {} bytes each", resident().saturating_sub(before) / (4 * PODS));
    }
    Ok(())
}
