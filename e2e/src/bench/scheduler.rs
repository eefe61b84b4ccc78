//! `bench-scheduler`: our kube-scheduler beside upstream's, in one run, on upstream's API server and etcd with bare
//! nodes (`make bench-scheduler`). For every case and scheduler: CPU seconds of the scheduler's process per pod, pods
//! bound per second, peak memory. Throttling is lifted on both.
//!
//! Environment: `OURS` (our binary), `CORTEN_UPSTREAM_BIN` (folder of upstream's, with etcd), `NODES`, `PODS`, `CASES`.
//! With `KILLS` it measures nothing but kills our scheduler so many times (`crash.rs`).

mod cases;
mod crash;
mod objects;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use client::{Client, DeleteParams, ListParams, WatchEvent, WatchParams};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use serde_json::{Value, json};

use bench::daemon::{Daemon, Measured};
use bench::hollow;
use bench::{BUSY, Ground, PATIENCE, UNTHROTTLED, at_once, number, object};
use cases::{Case, Own};

#[tokio::main]
async fn main() -> Result<()> {
    let ground = Ground::start("kube-scheduler", &BUSY).await?;
    let Ground { client, kubeconfig, ours, theirs, .. } = &ground;
    let (nodes, pods) = (number("NODES", 1000), number("PODS", 500));
    hollow::nodes(client, nodes).await?;
    let kills = number("KILLS", 0);
    if kills > 0 {
        let space = json!({ "metadata": { "name": "crash" } });
        client.all::<Namespace>().create(&object(space)?).await?;
        return crash::run(client, kubeconfig, ours, "crash", kills).await;
    }
    println!(
        "| case, {nodes} nodes, {pods} pods | CPU ms/pod: ours | upstream | ratio | pods/s: ours | upstream | peak MiB: ours | upstream |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let wanted = std::env::var("CASES").unwrap_or_default();
    for case in cases::ALL.iter().filter(|c| wanted.is_empty() || wanted.split(',').any(|w| w == c.name)) {
        let bench = Bench { client, kubeconfig, case, nodes, pods };
        let a = bench.run(ours, "ours").await.with_context(|| format!("ours, {}", case.name))?;
        let b = bench.run(theirs, "theirs").await.with_context(|| format!("upstream, {}", case.name))?;
        let per_pod = |m: &Measured| m.cpu.as_secs_f64() * 1000.0 / pods as f64;
        println!(
            "| {} | {:.3} | {:.3} | 1/{:.1} | {:.0} | {:.0} | {} | {} |",
            case.name,
            per_pod(&a),
            per_pod(&b),
            per_pod(&b) / per_pod(&a),
            pods as f64 / a.time.as_secs_f64(),
            pods as f64 / b.time.as_secs_f64(),
            a.peak / 1024,
            b.peak / 1024,
        );
    }
    Ok(())
}

async fn make_pods(
    client: &Client,
    namespace: &str,
    prefix: &str,
    count: usize,
    spec: Value,
    labels: Value,
) -> Result<()> {
    let pods = (0..count).map(|i| {
        let api = client.namespaced::<Pod>(namespace);
        let name = format!("{prefix}-{i}");
        let mut spec = spec.clone();
        cases::call(&mut spec, &name);
        let pod = json!({ "metadata": { "name": name, "labels": labels }, "spec": spec });
        async move {
            api.create(&object::<Pod>(pod)?).await?;
            anyhow::Ok(())
        }
    });
    at_once(pods).await
}

/// Waits until so many pods of a prefix have been seen bound.
async fn all_bound(client: &Client, namespace: &str, prefix: &str, count: usize) -> Result<()> {
    let api = client.namespaced::<Pod>(namespace);
    let bound = |p: &Pod| {
        p.spec.as_ref().and_then(|s| s.node_name.as_deref()).is_some_and(|n| !n.is_empty())
            && p.metadata.name.as_deref().is_some_and(|n| n.starts_with(prefix))
    };
    let wait = async {
        loop {
            let list = api.list(&ListParams::default()).await?;
            let mut seen: std::collections::BTreeSet<String> =
                list.items.iter().filter(|p| bound(p)).filter_map(|p| p.metadata.name.clone()).collect();
            let version = list.metadata.resource_version.unwrap_or_default();
            let mut stream =
                api.watch(&WatchParams { resource_version: version, ..WatchParams::default() }).await?;
            while seen.len() < count {
                match stream.next().await {
                    Some(Ok(WatchEvent::Added(pod) | WatchEvent::Modified(pod))) => {
                        if bound(&pod) {
                            seen.extend(pod.metadata.name);
                        }
                    }
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => break,
                }
            }
            if seen.len() >= count {
                return anyhow::Ok(());
            }
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.context("pods were not bound in time")?
}

/// One case.
struct Bench<'a> {
    client: &'a Client,
    kubeconfig: &'a Path,
    case: &'a Case,
    nodes: usize,
    pods: usize,
}

impl Bench<'_> {
    /// One scheduler, in a namespace of its own.
    async fn run(&self, binary: &Path, whose: &str) -> Result<Measured> {
        let Bench { client, case, pods, .. } = *self;
        let namespace = format!("{}-{whose}", case.name);
        let space = json!({ "metadata": { "name": namespace } });
        client.all::<Namespace>().create(&object(space)?).await?;
        match case.own() {
            Own::Nothing => {}
            Own::Volume => objects::volumes(client, &namespace, pods).await?,
            Own::Device => objects::device_claims(client, &namespace, self.nodes, pods).await?,
        }
        let mut scheduler = Daemon::start(binary, self.kubeconfig, &UNTHROTTLED)?;
        // The first pods show that it is at work. They go anywhere: nothing that others could want is there yet.
        make_pods(client, &namespace, "warm", 10, cases::basic(), json!({ "app": "warm" })).await?;
        all_bound(client, &namespace, "warm", 10).await?;
        let before = (case.before)(self.nodes);
        make_pods(client, &namespace, "before", before.0, before.1, json!({ "app": "bench" })).await?;
        all_bound(client, &namespace, "before", before.0).await?;
        let start = scheduler.cpu()?;
        let clock = Instant::now();
        let create = make_pods(client, &namespace, "pod", pods, (case.spec)(), json!({ "app": "bench" }));
        let (made, bound) = tokio::join!(create, all_bound(client, &namespace, "pod", pods));
        made?;
        bound?;
        let time = clock.elapsed();
        // Events and conditions are written after the pod is bound.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let measured = Measured { cpu: scheduler.cpu()? - start, time, peak: scheduler.peak()? };
        scheduler.stop();
        clear(client, &namespace).await?;
        Ok(measured)
    }
}

async fn clear(client: &Client, namespace: &str) -> Result<()> {
    let now = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    let api = client.namespaced::<Pod>(namespace);
    let left = api.list(&ListParams::default()).await?.items;
    at_once(left.into_iter().map(|pod| {
        let (api, now) = (api.clone(), now.clone());
        async move {
            match api.delete(pod.metadata.name.as_deref().unwrap_or_default(), &now).await {
                Err(e) if !e.is_not_found() => Err(anyhow::Error::from(e)),
                _ => Ok(()),
            }
        }
    }))
    .await
}
