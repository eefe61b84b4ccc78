//! Nodes without a machine behind them: pods are bound at once, run as soon as they are bound, and are gone as soon as
//! they are told to go. A pod labelled [`RUN_ONCE`] succeeds instead of running on.
//!
//! It stands in for scheduler and kubelets when the other daemons are measured or disturbed. Resources, taints and
//! volumes mean nothing here. Start reading at [`step`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use client::{Client, DeleteParams, Error, ListParams, Patch, PatchParams, WatchEvent, WatchParams};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Binding, Node, Pod};
use k8s_openapi::jiff;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use crate::{at_once, object};

/// Label of pods that end by themselves.
pub const RUN_ONCE: &str = "bench/run-once";
/// Writes under way at a time.
const WRITES: usize = 32;

/// Bare nodes in ten zones.
///
/// # Errors
/// When the API server refuses one.
pub async fn nodes(client: &Client, count: usize) -> Result<()> {
    let nodes = (0..count).map(|i| {
        let api = client.all::<Node>();
        async move {
            let name = node_name(i);
            let offers = json!({ "cpu": "4", "memory": "32Gi", "pods": "110" });
            let node = json!({
                "metadata": { "name": name, "labels": {
                    "kubernetes.io/hostname": name, "topology.kubernetes.io/zone": format!("zone-{}", i % 10),
                } },
                "status": { "capacity": offers, "allocatable": offers, "conditions": [{ "type": "Ready", "status": "True", "reason": "Bench" }] },
            });
            let node: Node = object(node)?;
            // Admission taints new nodes as not ready; an update takes that away.
            let mut made = api.create(&node).await?;
            made.spec.get_or_insert_default().taints = None;
            made = api.replace(&made).await?;
            made.status = node.status;
            api.replace_status(&made).await?;
            anyhow::Ok(())
        }
    });
    at_once(nodes).await
}

/// Name of a node.
pub fn node_name(index: usize) -> String {
    format!("node-{index:05}")
}

/// Renews the lease of every node, so that none is taken for lost, until the task is ended.
pub fn heartbeats(client: Client, count: usize) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut beat = tokio::time::interval(Duration::from_secs(10));
        loop {
            beat.tick().await;
            let renewals = (0..count).map(|i| renew(client.clone(), node_name(i)));
            if let Err(error) = at_once(renewals).await {
                eprintln!("renewing leases: {error:#}");
            }
        }
    })
}

async fn renew(client: Client, node: String) -> Result<()> {
    let api = client.namespaced::<Lease>("kube-node-lease");
    let now = format!("{:.6}", jiff::Timestamp::now());
    let spec = json!({ "holderIdentity": node, "leaseDurationSeconds": 40, "renewTime": now });
    let patch = Patch::Merge(json!({ "spec": spec }));
    match api.patch(&node, &patch, &PatchParams::default()).await {
        Err(e) if e.is_not_found() => {
            let lease = json!({ "metadata": { "name": node }, "spec": spec });
            api.create(&object(lease)?).await?;
        }
        other => drop(other?),
    }
    Ok(())
}

/// What is done next about a pod.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// It gets a node: the one it asks for, or any.
    Bind(Option<String>),
    Run,
    Succeed,
    Remove,
}

/// The next step of a pod, none when it stays as it is.
pub fn step(pod: &Pod) -> Option<Step> {
    let spec = pod.spec.as_ref();
    let bound = spec.and_then(|s| s.node_name.as_deref()).is_some_and(|n| !n.is_empty());
    let leaving = pod.metadata.deletion_timestamp.is_some();
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or("");
    match (bound, leaving, phase) {
        (true, true, _) => Some(Step::Remove),
        (false, true, _) => None,
        (false, false, _) => Some(Step::Bind(wanted_node(pod))),
        (true, false, "" | "Pending") => Some(Step::Run),
        (true, false, "Running") if once(pod) => Some(Step::Succeed),
        _ => None,
    }
}

fn once(pod: &Pod) -> bool {
    pod.metadata.labels.as_ref().is_some_and(|l| l.contains_key(RUN_ONCE))
}

/// The node a pod of a daemon set names in its affinity.
fn wanted_node(pod: &Pod) -> Option<String> {
    let affinity = pod.spec.as_ref()?.affinity.as_ref()?.node_affinity.as_ref()?;
    let required = affinity.required_during_scheduling_ignored_during_execution.as_ref()?;
    let fields = required.node_selector_terms.iter().filter_map(|t| t.match_fields.as_ref()).flatten();
    fields.filter_map(|f| f.values.as_ref()).flatten().next().cloned()
}

/// Pods that have been seen, by namespace and name.
#[derive(Default)]
pub struct Seen {
    /// Present, with whether they are ready.
    pub present: BTreeMap<(String, String), bool>,
    /// Uids of all that ever were.
    pub ever: BTreeSet<String>,
}

/// A running kubelet and scheduler for all pods; dropping it ends it.
pub struct Hollow {
    task: JoinHandle<()>,
    seen: watch::Receiver<()>,
    pods: Arc<Mutex<Seen>>,
}

impl Drop for Hollow {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Hollow {
    /// Starts it, for the nodes that [`nodes`] made.
    pub fn start(client: Client, nodes: usize) -> Self {
        let (told, seen) = watch::channel(());
        let pods = Arc::new(Mutex::new(Seen::default()));
        let run = Run { client, nodes, told, pods: pods.clone(), writes: Arc::new(Semaphore::new(WRITES)) };
        Self { task: tokio::spawn(run.forever()), seen, pods }
    }

    /// Waits until what has been seen satisfies a condition.
    ///
    /// # Errors
    /// When that takes longer than [`crate::PATIENCE`].
    pub async fn until(&self, what: &str, enough: impl Fn(&Seen) -> bool) -> Result<()> {
        let mut seen = self.seen.clone();
        let wait = async {
            while !enough(&self.pods.lock()) {
                seen.changed().await?;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(crate::PATIENCE, wait)
            .await
            .map_err(|_| anyhow::anyhow!("{what}: not in time"))?
    }

    /// How many pods there ever were.
    pub fn ever(&self) -> usize {
        self.pods.lock().ever.len()
    }
}

struct Run {
    client: Client,
    nodes: usize,
    told: watch::Sender<()>,
    pods: Arc<Mutex<Seen>>,
    writes: Arc<Semaphore>,
}

impl Run {
    async fn forever(self) {
        loop {
            if let Err(error) = self.follow().await {
                eprintln!("hollow nodes: {error:#}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }

    async fn follow(&self) -> Result<()> {
        let api = self.client.all::<Pod>();
        let list = api.list(&ListParams::default()).await?;
        self.pods.lock().present.clear();
        for pod in list.items {
            self.see(pod, true).await;
        }
        let version = list.metadata.resource_version.unwrap_or_default();
        let mut stream =
            api.watch(&WatchParams { resource_version: version, ..WatchParams::default() }).await?;
        while let Some(event) = stream.next().await {
            match event? {
                WatchEvent::Added(pod) | WatchEvent::Modified(pod) => self.see(pod, true).await,
                WatchEvent::Deleted(pod) => self.see(pod, false).await,
                WatchEvent::Bookmark { .. } => {}
                WatchEvent::Error(status) => {
                    anyhow::bail!("the watch of pods: {}", status.message.unwrap_or_default())
                }
            }
        }
        Ok(())
    }

    async fn see(&self, pod: Pod, present: bool) {
        let key = (
            pod.metadata.namespace.clone().unwrap_or_default(),
            pod.metadata.name.clone().unwrap_or_default(),
        );
        {
            let mut pods = self.pods.lock();
            pods.ever.extend(pod.metadata.uid.clone());
            if present {
                pods.present.insert(key, ready(&pod));
            } else {
                pods.present.remove(&key);
            }
        }
        self.told.send_replace(());
        let Some(step) = step(&pod).filter(|_| present) else { return };
        let Ok(permit) = self.writes.clone().acquire_owned().await else { return };
        let (client, nodes) = (self.client.clone(), self.nodes);
        tokio::spawn(async move {
            match write(&client, &pod, step, nodes).await {
                // Another step, or the pod's end, came before.
                Err(e) if e.is_not_found() || e.is_conflict() => {}
                Err(e) => eprintln!("hollow nodes: {e}"),
                Ok(()) => {}
            }
            drop(permit);
        });
    }
}

fn ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True")
}

async fn write(client: &Client, pod: &Pod, step: Step, nodes: usize) -> Result<(), Error> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let api = client.namespaced::<Pod>(pod.metadata.namespace.as_deref().unwrap_or_default());
    let uid = pod.metadata.uid.clone();
    match step {
        Step::Bind(wanted) => {
            let node = wanted.unwrap_or_else(|| node_name(spread(uid.as_deref().unwrap_or(name)) % nodes));
            let binding = json!({ "metadata": { "name": name, "uid": uid }, "target": { "kind": "Node", "name": node } });
            let binding: Binding =
                serde_json::from_value(binding).map_err(|e| Error::Invalid(e.to_string()))?;
            api.post_unread(name, "binding", &binding).await
        }
        Step::Run | Step::Succeed => {
            let status = status(pod, step == Step::Run);
            let patch = Patch::Merge(json!({ "metadata": { "uid": uid }, "status": status }));
            api.patch_status(name, &patch, &PatchParams::default()).await.map(|_| ())
        }
        Step::Remove => {
            let now = DeleteParams { grace_period_seconds: Some(0), uid, ..DeleteParams::default() };
            api.delete(name, &now).await
        }
    }
}

/// A number that differs from pod to pod and is the same for one.
fn spread(text: &str) -> usize {
    text.bytes().fold(5381, |sum: usize, b| sum.wrapping_mul(33) ^ usize::from(b))
}

fn status(pod: &Pod, running: bool) -> Value {
    let names = pod.spec.iter().flat_map(|s| &s.containers).map(|c| (&c.name, &c.image));
    let since = "2026-01-01T00:00:00Z";
    let state = if running {
        json!({ "running": { "startedAt": since } })
    } else {
        json!({ "terminated": { "exitCode": 0, "reason": "Completed", "startedAt": since, "finishedAt": since } })
    };
    let containers: Vec<Value> = names
        .map(|(name, image)| {
            json!({ "name": name, "image": image, "imageID": "", "ready": running, "restartCount": 0, "state": state })
        })
        .collect();
    let condition = |kind: &str, value: bool| {
        let status = if value { "True" } else { "False" };
        json!({ "type": kind, "status": status, "lastTransitionTime": since })
    };
    let address = spread(pod.metadata.uid.as_deref().unwrap_or_default());
    json!({
        "phase": if running { "Running" } else { "Succeeded" },
        "podIP": format!("10.{}.{}.{}", address >> 16 & 127, address >> 8 & 255, address % 254 + 1),
        "startTime": since,
        "conditions": [
            condition("PodScheduled", true), condition("Initialized", true),
            condition("ContainersReady", running), condition("Ready", running),
        ],
        "containerStatuses": containers,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(change: Value) -> Pod {
        let mut pod =
            json!({ "metadata": { "name": "p", "labels": {} }, "spec": { "containers": [] }, "status": {} });
        for (path, value) in change.as_object().into_iter().flatten() {
            *pod.pointer_mut(path).unwrap() = value.clone();
        }
        serde_json::from_value(pod).unwrap()
    }

    #[test]
    fn a_pod_goes_its_way() {
        let bound = json!({ "containers": [], "nodeName": "n" });
        let once = json!({ "name": "p", "labels": { RUN_ONCE: "" } });
        let leaving = json!({ "name": "p", "deletionTimestamp": "2026-01-01T00:00:00Z" });
        let running = json!({ "phase": "Running" });
        for (change, want) in [
            (json!({}), Some(Step::Bind(None))),
            (json!({ "/metadata": leaving }), None),
            (json!({ "/spec": bound }), Some(Step::Run)),
            (json!({ "/spec": bound, "/status": running }), None),
            (json!({ "/spec": bound, "/status": running, "/metadata": once }), Some(Step::Succeed)),
            (json!({ "/spec": bound, "/status": running, "/metadata": leaving }), Some(Step::Remove)),
        ] {
            assert_eq!(step(&pod(change.clone())), want, "{change}");
        }
    }

    #[test]
    fn a_daemon_goes_to_its_node() {
        let fields =
            json!([{ "matchFields": [{ "key": "metadata.name", "operator": "In", "values": ["node-1"] }] }]);
        let affinity = json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": fields } } });
        let pod = pod(json!({ "/spec": { "containers": [], "affinity": affinity } }));
        assert_eq!(step(&pod), Some(Step::Bind(Some("node-1".into()))));
    }
}
