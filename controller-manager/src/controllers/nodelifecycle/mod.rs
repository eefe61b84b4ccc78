//! Node lifecycle: turns what nodes report, or their silence, into conditions, taints and unready pods.
//!
//! Does not delete pods: taint eviction does, by the taints set here. The decisions are in [`health`] (silence),
//! [`taints`] (conditions to taints) and [`zones`] (how fast). Upstream:
//! pkg/controller/nodelifecycle/node_lifecycle_controller.go.

mod health;
pub mod taints;
#[cfg(test)]
mod tests;
mod zones;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use client::{Client, Meta, Patch, PatchParams};
use component::app::Error;
use controller::{EventRecorder, NORMAL, WARNING, WorkQueue, reference};
use futures::StreamExt;
use informer::{Event, Options, Store};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::Notify;
use tokio::time::Instant;

use self::health::{Grace, Health};
use self::taints::{NO_EXECUTE, Swap};
use self::zones::{Settings, Turn, Zones};
use super::shared::{fail_pod, key};
use crate::context::Context;
use crate::descriptor::Running;
use crate::kept::Pod;
use crate::pods;

const LEASES: &str = "kube-node-lease";
const EXCLUDED: &str = "node.kubernetes.io/exclude-disruption";
/// Pods by the node they are on.
pub const BY_NODE: &str = pods::NODE_INDEX;
const NODE_WORKERS: usize = 8;
const POD_WORKERS: usize = 4;
const ATTEMPTS: usize = 5;
/// How often nodes that wait for a taint are looked at, while there are any.
const TAINT_PERIOD: Duration = Duration::from_millis(100);

struct Shell {
    client: Client,
    nodes: Store<Node>,
    pods: Store<Pod>,
    leases: Store<Lease>,
    recorder: EventRecorder,
    grace: Grace,
    zones: Mutex<Zones>,
    waiting: Notify,
    /// What was seen of nodes, by name.
    health: Mutex<HashMap<String, Health>>,
    /// Nodes whose pods could not all be marked.
    unmarked: Mutex<HashSet<String>>,
    /// Known nodes and their uids.
    known: Mutex<BTreeMap<String, Arc<Node>>>,
}

fn ready(node: &Node) -> Option<&str> {
    taints::condition(node, "Ready").map(|c| c.status.as_str())
}

/// Builds the controller.
pub fn build(context: &Context) -> Result<Running, Error> {
    let nodes = context.factory.informer::<Node>(Options::default());
    let all_pods = context.factory.informer::<Pod>(Options::default().index(BY_NODE, pods::node_index));
    let leases = context.factory.informer::<Lease>(Options::default().namespace(LEASES));
    let flags = &context.flags;
    let settings = Settings {
        rate: flags.float("node-eviction-rate"),
        secondary_rate: flags.float("secondary-node-eviction-rate"),
        large: usize::try_from(flags.int("large-cluster-size-threshold")).unwrap_or(0),
        unhealthy: flags.float("unhealthy-zone-threshold"),
    };
    let shell = Arc::new(Shell {
        client: context.client(),
        nodes: nodes.store(),
        pods: all_pods.store(),
        leases: leases.store(),
        recorder: context.recorder("node-controller"),
        grace: Grace {
            monitor: flags.duration("node-monitor-grace-period"),
            startup: flags.duration("node-startup-grace-period"),
        },
        zones: Mutex::new(Zones::new(settings)),
        waiting: Notify::new(),
        health: Mutex::default(),
        unmarked: Mutex::default(),
        known: Mutex::default(),
    });
    let node_queue: WorkQueue<String> = WorkQueue::new("node_lifecycle_controller");
    let to = node_queue.clone();
    nodes.subscribe(move |event| {
        if let Event::Added(node) | Event::Updated { new: node, .. } = event {
            to.add(key(&*node));
        }
    });
    let pod_queue: WorkQueue<String> = WorkQueue::new("node_lifecycle_controller_pods");
    let to = pod_queue.clone();
    all_pods.subscribe(move |event| match event {
        Event::Added(pod) if !pods::node_name(&pod).is_empty() => to.add(key(&*pod)),
        Event::Updated { old, new } if pods::node_name(&old) != pods::node_name(&new) => to.add(key(&*new)),
        _ => {}
    });
    let (period, token) = (flags.duration("node-monitor-period"), context.token.clone());
    Ok(Box::pin(async move {
        if !(nodes.wait_synced(&token).await
            && all_pods.wait_synced(&token).await
            && leases.wait_synced(&token).await)
        {
            return;
        }
        let (of_nodes, of_pods) = (shell.clone(), shell.clone());
        let passes = async {
            tokio::select! {
                () = token.cancelled() => {}
                () = shell.monitor(period) => {}
                () = shell.taint() => {}
            }
        };
        tokio::join!(
            node_queue.run(NODE_WORKERS, &token, move |name: String| {
                let shell = of_nodes.clone();
                async move { shell.sync_node(&name).await.map(|()| None) }
            }),
            pod_queue.run(POD_WORKERS, &token, move |pod: String| {
                let shell = of_pods.clone();
                async move { shell.sync_pod(&pod).await.map(|()| None) }
            }),
            passes,
        );
    }))
}

impl Shell {
    /// NoSchedule taints and old labels follow every change of a node.
    async fn sync_node(&self, name: &str) -> Result<(), String> {
        let Some(node) = self.nodes.get(name) else { return Ok(()) };
        self.swap(&node, taints::no_schedule).await?;
        let labels = taints::labels(&node);
        if labels.is_empty() {
            return Ok(());
        }
        let patch = Patch::Merge(json!({"metadata": {"labels": labels}}));
        let result = self.client.all::<Node>().patch(name, &patch, &PatchParams::default()).await;
        result.map(drop).map_err(|e| format!("labelling node {name}: {e}"))
    }

    /// Swaps taints, deciding again on a fresh node when the known one is outdated. Says whether something changed.
    async fn swap(&self, node: &Node, decide: impl Fn(&Node) -> Swap) -> Result<bool, String> {
        let (name, api) = (node.name(), self.client.all::<Node>());
        let mut node = node.clone();
        for _ in 0..ATTEMPTS {
            let Some(taints) = decide(&node).on(&node, Timestamp::now()) else { return Ok(false) };
            let taints = if taints.is_empty() { serde_json::Value::Null } else { json!(taints) };
            let patch = Patch::Merge(json!({
                "metadata": {"resourceVersion": node.metadata.resource_version}, "spec": {"taints": taints},
            }));
            match api.patch(name, &patch, &PatchParams::default()).await {
                Ok(_) => return Ok(true),
                Err(error) if error.is_not_found() => return Ok(false),
                Err(error) if error.is_conflict() => match api.get_opt(name).await {
                    Ok(Some(fresh)) => node = fresh,
                    Ok(None) => return Ok(false),
                    Err(error) => return Err(format!("reading node {name}: {error}")),
                },
                Err(error) => return Err(format!("tainting node {name}: {error}")),
            }
        }
        Err(format!("tainting node {name}: it changed {ATTEMPTS} times meanwhile"))
    }

    /// A pod that was just put on a node that is not ready is not ready either.
    async fn sync_pod(&self, pod_key: &str) -> Result<(), String> {
        let Some(pod) = self.pods.get(pod_key) else { return Ok(()) };
        let node = self.nodes.get(pods::node_name(&pod));
        let lost = node.as_deref().and_then(ready).is_some_and(|status| status != "True");
        if lost { self.mark_unready(&pod).await } else { Ok(()) }
    }

    async fn mark_unready(&self, pod: &Pod) -> Result<(), String> {
        if pods::condition(pod, "Ready").is_none_or(|c| c.status == "False") {
            return Ok(());
        }
        let unready =
            json!({"type": "Ready", "status": "False", "lastTransitionTime": Time(Timestamp::now())});
        let api = self.client.namespaced::<Pod>(pod.namespace());
        match fail_pod::patch(&api, pod, json!({"conditions": [unready]}), true).await {
            Err(error) if error.is_not_found() => Ok(()),
            result => {
                self.recorder.event(&reference(pod), WARNING, "NodeNotReady", "Node is not ready");
                result.map_err(|e| format!("marking pod {} as not ready: {e}", key(pod)))
            }
        }
    }

    /// Looks at all nodes, again and again: silence is no event.
    async fn monitor(self: &Arc<Self>, period: Duration) {
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.look_at_all().await;
        }
    }

    async fn look_at_all(self: &Arc<Self>) {
        let nodes = self.nodes.list();
        self.greet(&nodes).await;
        let looks = futures::stream::iter(nodes.clone()).map(|node| {
            let shell = self.clone();
            async move { shell.look(&node).await.map(|is| (zones::of(&node), node, is)) }
        });
        let seen: Vec<_> = looks.buffer_unordered(NODE_WORKERS).collect().await;
        let mut by_zone: BTreeMap<String, Vec<bool>> = BTreeMap::new();
        for (zone, node, is_ready) in seen.into_iter().flatten() {
            if !node.metadata.labels.as_ref().is_some_and(|l| l.contains_key(EXCLUDED)) {
                by_zone.entry(zone).or_default().push(is_ready);
            }
        }
        if by_zone.is_empty() {
            return;
        }
        let turn = self.zones.lock().turn(&by_zone);
        match turn {
            Turn::Steady => {}
            Turn::AllLost => {
                tracing::info!("No node is ready, the fault may be here: nodes are not tainted");
                for node in &nodes {
                    self.untaint(node).await;
                }
            }
            Turn::SomeBack => {
                tracing::info!("Some nodes are ready again: nodes are tainted again");
                let now = Timestamp::now();
                self.health.lock().values_mut().for_each(|h| h.reset(now));
            }
        }
    }

    /// Notes which nodes came and went.
    async fn greet(&self, nodes: &[Arc<Node>]) {
        let (mut added, mut gone) = (Vec::new(), Vec::new());
        {
            let mut known = self.known.lock();
            let names: HashSet<&str> = nodes.iter().map(|n| n.name()).collect();
            known.retain(|name, node| {
                let stays = names.contains(name.as_str());
                if !stays {
                    gone.push(node.clone());
                }
                stays
            });
            for node in nodes {
                if known.insert(node.name().to_string(), node.clone()).is_none() {
                    added.push(node.clone());
                }
            }
        }
        for node in gone {
            let name = node.name();
            self.tell(
                &node,
                "RemovingNode",
                &format!("Node {name} event: Removing Node {name} from Controller"),
            );
            self.health.lock().remove(name);
            self.unmarked.lock().remove(name);
            self.zones.lock().forget(name);
        }
        for node in added {
            let name = node.name();
            self.tell(
                &node,
                "RegisteredNode",
                &format!("Node {name} event: Registered Node {name} in Controller"),
            );
            self.zones.lock().add(&zones::of(&node));
            self.untaint(&node).await;
        }
    }

    fn tell(&self, node: &Node, reason: &str, message: &str) {
        self.recorder.event(&reference(node), NORMAL, reason, message);
    }

    async fn untaint(&self, node: &Node) {
        self.zones.lock().forget(node.name());
        if let Err(error) = self.swap(node, |_| taints::no_execute("True")).await {
            tracing::warn!(
                node = node.name(),
                error,
                "Taking taints off failed, trying again in the next round"
            );
        }
    }

    /// Looks at one node; says whether it is ready now, or nothing if that could not be found out.
    async fn look(&self, node: &Arc<Node>) -> Option<bool> {
        let name = node.name();
        let was = ready(node).map(str::to_string);
        let (node, is) = match self.report(node).await {
            Ok(node) => {
                let is = ready(&node).map(str::to_string);
                (node, is)
            }
            Err(error) => {
                tracing::warn!(
                    node = name,
                    error,
                    "Looking at a node's health failed, its pods are left alone"
                );
                return None;
            }
        };
        let Some(is) = is else { return Some(false) };
        self.taint_or_queue(&node, &is).await;
        let fell = is != "True" && was.as_deref() == Some("True");
        if fell {
            self.tell(&node, "NodeNotReady", &format!("Node {name} status is now: NodeNotReady"));
        }
        let again = self.unmarked.lock().contains(name) && is != "True";
        if fell || again {
            let mut failed = false;
            for pod in self.pods.by_index(BY_NODE, name) {
                if let Err(error) = self.mark_unready(&pod).await {
                    tracing::warn!(
                        node = name,
                        error,
                        "Marking a pod failed, trying again in the next round"
                    );
                    failed = true;
                }
            }
            if failed {
                self.unmarked.lock().insert(name.to_string());
                return Some(is == "True");
            }
        }
        self.unmarked.lock().remove(name);
        Some(is == "True")
    }

    /// Writes that a node is silent, if it is. Returns the node as it is then.
    async fn report(&self, node: &Arc<Node>) -> Result<Arc<Node>, String> {
        let (name, api) = (node.name(), self.client.all::<Node>());
        let mut node = node.clone();
        for _ in 0..ATTEMPTS {
            let now = Timestamp::now();
            let lease = self.leases.get_by(LEASES, name);
            let known = self.health.lock().get(name).cloned();
            let (health, late) = Health::observe(known, &node, lease.as_deref(), self.grace, now);
            let version = health.lease_version.clone();
            self.health.lock().insert(name.to_string(), health);
            let Some(conditions) = late.then(|| health::silent(&node, now)).flatten() else {
                return Ok(node);
            };
            self.is_really_silent(name, &version).await?;
            let mut new = Node::clone(&node);
            new.status.get_or_insert_default().conditions = Some(conditions);
            match api.replace_status(&new).await {
                Ok(new) => return Ok(Arc::new(new)),
                Err(error) => {
                    tracing::warn!(node = name, %error, "Writing the status of a silent node failed")
                }
            }
            node = Arc::new(api.get(name).await.map_err(|e| format!("reading node {name}: {e}"))?);
        }
        Err(format!("writing the status of node {name} failed {ATTEMPTS} times"))
    }

    /// A cache that lags must not make nodes look silent: the server is asked for the lease first.
    /// Upstream: feature gate NodeControllerLeaseCircuitBreaker.
    async fn is_really_silent(&self, name: &str, version: &str) -> Result<(), String> {
        let lease = self.client.namespaced::<Lease>(LEASES).get_opt(name).await;
        match lease.map_err(|e| format!("reading the lease of node {name}: {e}"))? {
            Some(lease) if lease.resource_version() != version => Err(format!(
                "the cache of leases lags behind: it has version {version:?} of node {name}, the server {:?}",
                lease.resource_version()
            )),
            _ => Ok(()),
        }
    }

    async fn taint_or_queue(&self, node: &Node, is: &str) {
        let name = node.name();
        let (wanted, other) = match is {
            "True" => {
                self.untaint(node).await;
                return;
            }
            "False" => (taints::NOT_READY, taints::UNREACHABLE),
            _ => (taints::UNREACHABLE, taints::NOT_READY),
        };
        if taints::has(node, other, NO_EXECUTE) {
            // Its pods are on their way out already: no need to wait.
            if let Err(error) = self.swap(node, |_| taints::no_execute(is)).await {
                tracing::warn!(node = name, error, "Swapping taints failed, trying again in the next round");
            }
        } else if !taints::has(node, wanted, NO_EXECUTE) {
            self.zones.lock().queue(&zones::of(node), name);
            self.waiting.notify_one();
        }
    }

    /// Sets NoExecute taints as fast as zones allow.
    async fn taint(&self) {
        let start = Instant::now();
        loop {
            if self.zones.lock().is_idle() {
                self.waiting.notified().await;
            }
            let due = self.zones.lock().due(start.elapsed());
            for name in due {
                let Some(node) = self.nodes.get(&name) else { continue };
                let swap =
                    |n: &Node| ready(n).filter(|r| *r != "True").map(taints::no_execute).unwrap_or_default();
                if let Err(error) = self.swap(&node, swap).await {
                    tracing::warn!(node = name, error, "Tainting failed, trying again");
                    self.zones.lock().queue(&zones::of(&node), &name);
                }
            }
            tokio::time::sleep(TAINT_PERIOD).await;
        }
    }
}
