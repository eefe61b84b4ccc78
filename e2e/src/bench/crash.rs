//! Kills a scheduler without notice, again and again, while pods are made: in the end every pod must be bound, and
//! none may ever have been seen on two nodes.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use client::{Client, ListParams, WatchEvent, WatchParams};
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use bench::daemon::Daemon;
use bench::{PATIENCE, UNTHROTTLED};

use crate::{cases, make_pods};

/// Pods made while each scheduler lives.
const PER_LIFE: usize = 10;

/// Node of every pod; an error as soon as one is seen on a second.
async fn follow(client: Client, namespace: String, total: usize) -> Result<BTreeMap<String, String>> {
    let api = client.namespaced::<Pod>(&namespace);
    let mut nodes: BTreeMap<String, String> = BTreeMap::new();
    while nodes.len() < total {
        let list = api.list(&ListParams::default()).await?;
        for pod in &list.items {
            see(&mut nodes, pod)?;
        }
        let version = list.metadata.resource_version.unwrap_or_default();
        let mut stream =
            api.watch(&WatchParams { resource_version: version, ..WatchParams::default() }).await?;
        while nodes.len() < total {
            match stream.next().await {
                Some(Ok(WatchEvent::Added(pod) | WatchEvent::Modified(pod))) => see(&mut nodes, &pod)?,
                Some(Ok(WatchEvent::Deleted(pod))) => bail!("pod {:?} was deleted", pod.metadata.name),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => break,
            }
        }
    }
    Ok(nodes)
}

fn see(nodes: &mut BTreeMap<String, String>, pod: &Pod) -> Result<()> {
    let name = pod.metadata.name.clone().unwrap_or_default();
    let Some(node) = pod.spec.as_ref().and_then(|s| s.node_name.clone()).filter(|n| !n.is_empty()) else {
        return Ok(());
    };
    match nodes.insert(name.clone(), node.clone()) {
        Some(before) if before != node => bail!("pod {name} was on {before} and is on {node}"),
        _ => Ok(()),
    }
}

/// Lets schedulers live for a moment each, `times` times, then one until the end.
pub async fn run(
    client: &Client,
    kubeconfig: &Path,
    binary: &Path,
    namespace: &str,
    times: usize,
) -> Result<()> {
    let total = times * PER_LIFE;
    let watcher = tokio::spawn(follow(client.clone(), namespace.to_string(), total));
    for life in 0..times {
        let mut scheduler = Daemon::start(binary, kubeconfig, &UNTHROTTLED)?;
        make_pods(
            client,
            namespace,
            &format!("life-{life}"),
            PER_LIFE,
            cases::basic(),
            json!({ "app": "bench" }),
        )
        .await?;
        // Different moments of the work: from hardly started to nearly done.
        tokio::time::sleep(Duration::from_millis(50 + (life as u64 * 37) % 400)).await;
        scheduler.stop();
    }
    let _last = Daemon::start(binary, kubeconfig, &UNTHROTTLED)?;
    let nodes = tokio::time::timeout(PATIENCE, watcher).await.context("pods were forgotten")???;
    println!("{times} schedulers killed: {} pods bound, each once", nodes.len());
    Ok(())
}
