//! Attach/detach: has CSI drivers attach volumes to the nodes of the pods that use them, and detach them afterwards.
//!
//! One sync is about one node and takes its whole state into account, so nothing has to be remembered but since when an
//! attachment is not wanted. Only volumes of CSI drivers: built-in ones that need attaching (iSCSI, Fibre Channel, and
//! those for which no CSI volume was made) are not attached. Start reading at [`plan`].
//! Upstream: pkg/controller/volume/attachdetach.

mod plan;
#[cfg(test)]
mod tests;
mod volumes;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use client::{Client, DeleteParams, Meta, Patch, PatchParams};
use component::app::Error;
use controller::{EventRecorder, NORMAL, WARNING, WorkQueue, reference};
use hashbrown::HashMap;
use informer::{Informer, Options, Store};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, PersistentVolume as Volume, PersistentVolumeClaim as Claim};
use k8s_openapi::api::storage::v1::{CSIDriver, VolumeAttachment};
use parking_lot::Mutex;
use serde_json::json;

use self::plan::{Plan, View, Wanted};
use self::volumes::{Attachable, Lookup};
use super::persistentvolume::facts::claim_key;
use super::protection::{self, BY_CLAIM};
use crate::context::Context;
use crate::descriptor::Running;
use crate::kept::Pod;
use crate::pods;

/// Attachments by node, and by volume.
const BY_NODE: &str = "attachment-node";
const BY_VOLUME: &str = "attachment-volume";
/// Nodes may keep the volumes of pods that have ended.
const KEEP: &str = "volumes.kubernetes.io/keep-terminated-pod-volumes";
/// Nodes that are looked at at once.
const WORKERS: usize = 10;

struct Shell {
    client: Client,
    nodes: Store<Node>,
    pods: Store<Pod>,
    claims: Store<Claim>,
    volumes: Store<Volume>,
    drivers: Store<CSIDriver>,
    attachments: Store<VolumeAttachment>,
    queue: WorkQueue<String>,
    recorder: EventRecorder,
    /// Since when attachments have not been wanted, by node and name.
    unwanted: Mutex<HashMap<String, BTreeMap<String, Timestamp>>>,
    never_force: bool,
}

fn volume_of(attachment: &VolumeAttachment) -> Option<&str> {
    attachment.spec.source.persistent_volume_name.as_deref()
}

/// Builds the controller.
pub fn build(context: &Context) -> Result<Running, Error> {
    let options = Options::default().index(BY_CLAIM, protection::by_claim);
    let pods = context.factory.informer::<Pod>(options.index(pods::NODE_INDEX, pods::node_index));
    let nodes = context.factory.informer::<Node>(Options::default());
    let claims = context.factory.informer::<Claim>(Options::default());
    let volumes = context.factory.informer::<Volume>(Options::default());
    let drivers = context.factory.informer::<CSIDriver>(Options::default());
    let options = Options::default()
        .index(BY_NODE, |a: &VolumeAttachment| vec![a.spec.node_name.clone()])
        .index(BY_VOLUME, |a: &VolumeAttachment| volume_of(a).map(str::to_string).into_iter().collect());
    let attachments = context.factory.informer::<VolumeAttachment>(options);
    let shell = Arc::new(Shell {
        client: context.client(),
        nodes: nodes.store(),
        pods: pods.store(),
        claims: claims.store(),
        volumes: volumes.store(),
        drivers: drivers.store(),
        attachments: attachments.store(),
        queue: WorkQueue::new("attach_detach"),
        recorder: context.recorder("attachdetach-controller"),
        unwanted: Mutex::default(),
        never_force: context.flags.bool("disable-force-detach-on-timeout"),
    });
    shell.follow_pods(&pods, &nodes);
    shell.follow_volumes(&claims, &volumes, &attachments);
    let (token, flags) = (context.token.clone(), context.flags.clone());
    Ok(Box::pin(async move {
        let synced = pods.wait_synced(&token).await
            && nodes.wait_synced(&token).await
            && claims.wait_synced(&token).await
            && volumes.wait_synced(&token).await
            && drivers.wait_synced(&token).await
            && attachments.wait_synced(&token).await;
        if !synced {
            return;
        }
        let period = flags.duration("attach-detach-reconcile-sync-period");
        let repeats = !flags.bool("disable-attach-detach-reconcile-sync");
        let (queue, all) = (shell.queue.clone(), shell.clone());
        let resync = async {
            loop {
                tokio::select! {
                    () = token.cancelled() => return,
                    () = tokio::time::sleep(period), if repeats => {
                        all.attachments.index_values(BY_NODE).into_iter().for_each(|n| all.queue.add(n));
                    }
                }
            }
        };
        let work = queue.run(WORKERS, &token, move |node: String| {
            let shell = shell.clone();
            async move { shell.sync(&node).await }
        });
        tokio::join!(work, resync);
    }))
}

impl Shell {
    fn follow_pods(self: &Arc<Self>, pods: &Informer<Pod>, nodes: &Informer<Node>) {
        let to = self.clone();
        pods.subscribe(move |event| to.queue_pod(event.object()));
        let to = self.clone();
        nodes.subscribe(move |event| to.queue.add(event.object().name().to_string()));
    }

    fn follow_volumes(
        self: &Arc<Self>,
        claims: &Informer<Claim>,
        volumes: &Informer<Volume>,
        attachments: &Informer<VolumeAttachment>,
    ) {
        let to = self.clone();
        claims.subscribe(move |event| to.queue_users(&event.object().key()));
        let to = self.clone();
        volumes.subscribe(move |event| {
            claim_key(event.object()).iter().for_each(|claim| to.queue_users(claim));
        });
        let to = self.clone();
        attachments.subscribe(move |event| {
            let attachment = event.object();
            to.queue.add(attachment.spec.node_name.clone());
            // A node may wait for another one to let the volume go.
            let key = volume_of(attachment).and_then(|v| to.volumes.get(v)).and_then(|v| claim_key(&v));
            key.iter().for_each(|claim| to.queue_users(claim));
        });
    }

    fn queue_pod(&self, pod: &Pod) {
        let node = pods::node_name(pod);
        if !node.is_empty() && !protection::by_claim(pod).is_empty() {
            self.queue.add(node.to_string());
        }
    }

    fn queue_users(&self, claim: &str) {
        self.pods.by_index(BY_CLAIM, claim).iter().for_each(|pod| self.queue_pod(pod));
    }

    /// What the pods on a node want.
    fn wanted(&self, name: &str, node: Option<&Node>) -> Wanted {
        let keeps = node.and_then(|n| n.metadata.annotations.as_ref()).and_then(|a| a.get(KEEP));
        let keeps = keeps.is_some_and(|v| v == "true");
        let mut pods = self.pods.by_index(pods::NODE_INDEX, name);
        pods.retain(|p| keeps || !protection::has_ended(p));
        let lookup = Lookup {
            claim: &|key| self.claims.get(key),
            volume: &|name| self.volumes.get(name),
            attaches: &|driver| {
                // A driver that says nothing wants to attach.
                self.drivers.get(driver).is_none_or(|d| d.spec.attach_required.unwrap_or(true))
            },
        };
        volumes::of_pods(&pods, &lookup)
    }

    fn decide(&self, name: &str, wanted: &Wanted) -> Plan {
        let node = self.nodes.get(name);
        let attachments: Vec<(Arc<VolumeAttachment>, Option<Attachable>)> = self
            .attachments
            .by_index(BY_NODE, name)
            .into_iter()
            .filter(|a| volume_of(a).is_some())
            .map(|a| {
                let volume = volume_of(&a).and_then(|v| self.volumes.get(v)).and_then(|v| Attachable::of(&v));
                (a, volume)
            })
            .collect();
        let elsewhere = |volume: &str| {
            let all = self.attachments.by_index(BY_VOLUME, volume);
            all.iter().map(|a| a.spec.node_name.clone()).filter(|n| n != name).collect()
        };
        let mut unwanted = self.unwanted.lock();
        let since = unwanted.get(name).cloned().unwrap_or_default();
        let view = View {
            name,
            node: node.as_deref(),
            wanted,
            attachments: &attachments,
            elsewhere: &elsewhere,
            unwanted_since: &since,
            never_force: self.never_force,
        };
        let now = Timestamp::now();
        let plan = plan::plan(&view, now);
        let kept: BTreeMap<String, Timestamp> =
            plan.unwanted.iter().map(|a| (a.clone(), since.get(a).copied().unwrap_or(now))).collect();
        if kept.is_empty() {
            drop(unwanted.remove(name))
        } else {
            drop(unwanted.insert(name.to_string(), kept))
        }
        plan
    }

    async fn sync(&self, name: &str) -> Result<Option<Duration>, String> {
        let wanted = self.wanted(name, self.nodes.get(name).as_deref());
        let plan = self.decide(name, &wanted);
        if let Some(list) = &plan.report {
            let patch = Patch::Strategic(json!({"status": {"volumesAttached": list}}));
            let done = self.client.all::<Node>().patch_status(name, &patch, &PatchParams::default()).await;
            // Nothing is detached before the node's list says so.
            done.map_err(|e| format!("node {name}: writing the list of attached volumes: {e}"))?;
        }
        self.tell(&wanted, &plan);
        let api = self.client.all::<VolumeAttachment>();
        for attachment in &plan.detach {
            match api.delete(attachment, &DeleteParams::default()).await {
                Err(error) if !error.is_not_found() => {
                    return Err(format!("node {name}: detaching {attachment}: {error}"));
                }
                _ => {}
            }
        }
        for attachment in &plan.attach {
            match api.create(attachment).await {
                Err(error) if !error.is_already_exists() => {
                    return Err(format!("node {name}: attaching {}: {error}", attachment.name()));
                }
                _ => {}
            }
        }
        Ok(plan.look_again.map(|wait| wait.unsigned_abs()))
    }

    fn tell(&self, wanted: &Wanted, plan: &Plan) {
        for (volume, reason, message) in &plan.told {
            let kind = if *reason == "SuccessfulAttachVolume" { NORMAL } else { WARNING };
            for pod in wanted.get(volume).iter().flat_map(|(_, pods)| pods) {
                self.recorder.event(&reference(&**pod), kind, reason, message);
            }
        }
    }
}
