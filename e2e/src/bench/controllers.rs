//! `bench-controllers`: our kube-controller-manager beside upstream's, in one run, on upstream's API server and etcd
//! with hollow nodes (`make bench-controllers`). Memory at rest; CPU for the pods of one Deployment created and
//! deleted; memory while twice as many are there. Throttling is lifted on both.
//!
//! Environment: `OURS` (our binary), `CORTEN_UPSTREAM_BIN` (folder of upstream's, with etcd), `REPLICAS` of the
//! Deployment, `NODES`.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use client::{Client, DeleteParams, Propagation};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Namespace;
use serde_json::json;

use bench::daemon::Daemon;
use bench::hollow::{self, Hollow};
use bench::{BUSY, Ground, UNTHROTTLED, number, object};

/// After this a daemon that has nothing to do has come to rest.
const REST: Duration = Duration::from_secs(45);

/// What a controller manager took.
struct Measured {
    /// KiB at rest, nothing but nodes there.
    idle: u64,
    /// For the pods of a Deployment, created and deleted.
    cpu: Duration,
    time: Duration,
    /// KiB at rest, with the pods of two Deployments there.
    loaded: u64,
    peak: u64,
}

struct Bench<'a> {
    client: &'a Client,
    kubeconfig: &'a Path,
    replicas: usize,
    nodes: usize,
}

#[tokio::main]
async fn main() -> Result<()> {
    let ground = Ground::start("kube-controller-manager", &BUSY).await?;
    let Ground { client, kubeconfig, .. } = &ground;
    let (nodes, replicas) = (number("NODES", 100), number("REPLICAS", 5000));
    hollow::nodes(client, nodes).await?;
    let beats = hollow::heartbeats(client.clone(), nodes);
    let bench = Bench { client, kubeconfig, replicas, nodes };
    let a = bench.run(&ground.ours, "ours").await.context("ours")?;
    let b = bench.run(&ground.theirs, "theirs").await.context("upstream's")?;
    beats.abort();
    print(&a, &b, replicas);
    Ok(())
}

fn print(ours: &Measured, upstream: &Measured, replicas: usize) {
    let row = |what: &str, a: f64, b: f64| println!("| {what} | {a:.1} | {b:.1} | 1/{:.1} |", b / a);
    let cpu = |m: &Measured| m.cpu.as_secs_f64() * 1e6 / replicas as f64;
    let mib = |kib: u64| kib as f64 / 1024.0;
    println!("| | ours | upstream | ratio |\n|---|---|---|---|");
    row("CPU ms for 1,000 pods created and deleted", cpu(ours), cpu(upstream));
    row("seconds for all of them", ours.time.as_secs_f64(), upstream.time.as_secs_f64());
    row("MiB at rest", mib(ours.idle), mib(upstream.idle));
    row(&format!("MiB with {} pods", 2 * replicas), mib(ours.loaded), mib(upstream.loaded));
    row("MiB at the peak", mib(ours.peak), mib(upstream.peak));
}

impl Bench<'_> {
    async fn run(&self, binary: &Path, whose: &str) -> Result<Measured> {
        let space = format!("bench-{whose}");
        let namespace = json!({ "metadata": { "name": space } });
        self.client.all::<Namespace>().create(&object(namespace)?).await?;
        let hollow = Hollow::start(self.client.clone(), self.nodes);
        let mut daemon = Daemon::start(binary, self.kubeconfig, &UNTHROTTLED)?;
        // The first pod shows that it is at work.
        self.deploy(&space, "warm", 1).await?;
        self.ready(&hollow, 1).await?;
        tokio::time::sleep(REST).await;
        let idle = daemon.resident()?;
        let (start, clock) = (daemon.cpu()?, Instant::now());
        self.deploy(&space, "one", self.replicas).await?;
        self.ready(&hollow, self.replicas + 1).await?;
        self.delete(&space, "one").await?;
        hollow.until("pods deleted", |seen| seen.present.len() <= 1).await?;
        let time = clock.elapsed();
        // The statuses that follow the last pod.
        tokio::time::sleep(Duration::from_secs(3)).await;
        let cpu = daemon.cpu()? - start;
        for name in ["two", "three"] {
            self.deploy(&space, name, self.replicas).await?;
        }
        self.ready(&hollow, 2 * self.replicas + 1).await?;
        tokio::time::sleep(REST).await;
        let measured = Measured { idle, cpu, time, loaded: daemon.resident()?, peak: daemon.peak()? };
        for name in ["warm", "two", "three"] {
            self.delete(&space, name).await?;
        }
        hollow.until("all pods deleted", |seen| seen.present.is_empty()).await?;
        daemon.stop();
        Ok(measured)
    }

    async fn deploy(&self, namespace: &str, name: &str, replicas: usize) -> Result<()> {
        let labels = json!({ "app": name });
        let container =
            json!({ "name": "c", "image": "pause", "resources": { "requests": { "cpu": "1m" } } });
        let spec = json!({ "containers": [container], "terminationGracePeriodSeconds": 1 });
        let deployment = json!({
            "metadata": { "name": name },
            "spec": {
                "replicas": replicas, "selector": { "matchLabels": labels },
                "template": { "metadata": { "labels": labels }, "spec": spec },
            },
        });
        self.client.namespaced::<Deployment>(namespace).create(&object(deployment)?).await?;
        Ok(())
    }

    async fn delete(&self, namespace: &str, name: &str) -> Result<()> {
        let params = DeleteParams { propagation: Some(Propagation::Background), ..DeleteParams::default() };
        Ok(self.client.namespaced::<Deployment>(namespace).delete(name, &params).await?)
    }

    async fn ready(&self, hollow: &Hollow, count: usize) -> Result<()> {
        hollow
            .until("pods ready", |seen| seen.present.values().filter(|ready| **ready).count() == count)
            .await
    }
}
