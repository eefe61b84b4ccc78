//! What is next for the volumes of one node. Pure.
//!
//! A volume is detached only when the node no longer uses it: the node says so, or is out of service, or has been lost for
//! long. Before that it is taken off the node's list of attached volumes, so that no kubelet mounts it meanwhile.
//! Upstream: attachdetach/reconciler/reconciler.go, pkg/volume/csi/csi_attacher.go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use client::Meta;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{AttachedVolume, Node};
use k8s_openapi::api::storage::v1::{VolumeAttachment, VolumeAttachmentSource, VolumeAttachmentSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use sha2::{Digest, Sha256};

use super::volumes::Attachable;
use crate::kept::Pod;

const MANAGED: &str = "volumes.kubernetes.io/controller-managed-attach-detach";
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";
/// How long a lost node is given to unmount. Upstream: maxWaitForUnmountDuration.
pub const MAX_WAIT: SignedDuration = SignedDuration::from_mins(6);

/// Volumes that pods want, by unique name.
pub type Wanted = BTreeMap<String, (Attachable, Vec<Arc<Pod>>)>;

/// Everything a decision depends on.
pub struct View<'a> {
    pub name: &'a str,
    /// Nothing if the node is gone.
    pub node: Option<&'a Node>,
    pub wanted: &'a Wanted,
    /// Attachments to this node, with what they attach, if that is known.
    pub attachments: &'a [(Arc<VolumeAttachment>, Option<Attachable>)],
    /// Other nodes to which a volume, by name, is attached or being attached.
    pub elsewhere: &'a dyn Fn(&str) -> Vec<String>,
    /// Since when attachments, by name, have not been wanted.
    pub unwanted_since: &'a BTreeMap<String, Timestamp>,
    /// A lost node is waited for without end.
    pub never_force: bool,
}

/// What to do, in this order.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// The node's list of attached volumes, if it is to change.
    pub report: Option<Vec<AttachedVolume>>,
    pub detach: Vec<String>,
    pub attach: Vec<VolumeAttachment>,
    /// What pods are told: unique name of the volume, reason, message.
    pub told: Vec<(String, &'static str, String)>,
    /// Attachments that are not wanted.
    pub unwanted: BTreeSet<String>,
    pub look_again: Option<SignedDuration>,
}

/// Name of an attachment. Upstream: getAttachmentName.
pub fn attachment_name(volume: &Attachable, node: &str) -> String {
    let hash = Sha256::digest(format!("{}{}{node}", volume.handle, volume.driver));
    let hex: String = hash.iter().map(|b| format!("{b:02x}")).collect();
    format!("csi-{hex}")
}

fn is_managed(node: &Node) -> bool {
    node.metadata.annotations.as_ref().and_then(|a| a.get(MANAGED)).is_some_and(|v| v == "true")
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|s| s.conditions.iter().flatten());
    conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True")
}

fn is_out_of_service(node: &Node) -> bool {
    node.spec.iter().flat_map(|s| s.taints.iter().flatten()).any(|t| t.key == OUT_OF_SERVICE)
}

/// Decides.
pub fn plan(view: &View<'_>, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    if view.node.is_some_and(|n| !is_managed(n)) {
        // Its kubelet attaches by itself.
        return plan;
    }
    let mut attached: BTreeSet<String> = BTreeSet::new();
    for (attachment, volume) in view.attachments {
        let name = attachment.name();
        let unique = volume.as_ref().map(Attachable::unique_name);
        let status = attachment.status.as_ref();
        let is_attached = status.is_some_and(|s| s.attached);
        let going = attachment.metadata.deletion_timestamp.is_some();
        let wanted = unique.as_ref().filter(|u| view.wanted.contains_key(*u));
        if let Some(unique) = wanted.filter(|_| !going) {
            if is_attached {
                attached.insert(unique.clone());
            } else if let Some(error) = status.and_then(|s| s.attach_error.as_ref()) {
                plan.told.push(failure(
                    unique,
                    volume.as_ref(),
                    error.message.as_deref().unwrap_or_default(),
                ));
            }
            continue;
        }
        if wanted.is_none() {
            plan.unwanted.insert(name.to_string());
        }
        match may_detach(view, name, unique.as_deref(), now) {
            _ if going => {}
            Ok(()) => plan.detach.push(name.to_string()),
            Err(wait) => {
                attached.extend(unique.filter(|_| is_attached));
                plan.look_again = plan.look_again.into_iter().chain(wait).min();
            }
        }
    }
    attach(view, &mut plan);
    plan.report = report(view.node, &attached, view.wanted, &mut plan.told);
    plan
}

/// Whether a volume that nobody wants can go; when to ask again if not.
fn may_detach(
    view: &View<'_>,
    name: &str,
    unique: Option<&str>,
    now: Timestamp,
) -> Result<(), Option<SignedDuration>> {
    let mut in_use =
        view.node.iter().flat_map(|n| n.status.iter().flat_map(|s| s.volumes_in_use.iter().flatten()));
    // Of a node that is gone nobody knows what it mounts.
    let unused = view.node.is_some() && unique.is_some_and(|u| !in_use.any(|v| v == u));
    if unused || view.node.is_some_and(is_out_of_service) {
        return Ok(());
    }
    if view.never_force || view.node.is_some_and(is_ready) {
        // The node will say when it is done.
        return Err(None);
    }
    let since = view.unwanted_since.get(name).copied().unwrap_or(now);
    let left = MAX_WAIT - now.duration_since(since);
    if left.is_positive() { Err(Some(left)) } else { Ok(()) }
}

fn failure(unique: &str, volume: Option<&Attachable>, error: &str) -> (String, &'static str, String) {
    let name = volume.map(|v| v.volume.as_str()).unwrap_or_default();
    let message = format!("AttachVolume.Attach failed for volume {name:?} : {error}");
    (unique.to_string(), "FailedAttachVolume", message)
}

fn attach(view: &View<'_>, plan: &mut Plan) {
    if view.node.is_none() {
        return;
    }
    for (unique, (volume, _)) in view.wanted {
        let name = attachment_name(volume, view.name);
        if view.attachments.iter().any(|(a, _)| a.name() == name) {
            continue;
        }
        if volume.exclusive && !(view.elsewhere)(&volume.volume).is_empty() {
            let message = format!(
                "Multi-Attach error for volume {:?} Volume is already exclusively attached to one node and can't be \
                 attached to another",
                volume.volume
            );
            plan.told.push((unique.clone(), "FailedAttachVolume", message));
            continue;
        }
        plan.attach.push(VolumeAttachment {
            metadata: ObjectMeta { name: Some(name), ..ObjectMeta::default() },
            spec: VolumeAttachmentSpec {
                attacher: volume.driver.clone(),
                node_name: view.name.to_string(),
                source: VolumeAttachmentSource {
                    persistent_volume_name: Some(volume.volume.clone()),
                    inline_volume_spec: None,
                },
            },
            status: None,
        });
    }
}

/// Names that this controller gives and takes away; entries of other plugins (iSCSI, Fibre Channel) are not its to judge.
const OWN: &str = "kubernetes.io/csi/";

/// The list for the node, if it differs; pods whose volumes are new on it are told. Entries that stay, stay as they are.
fn report(
    node: Option<&Node>,
    attached: &BTreeSet<String>,
    wanted: &Wanted,
    told: &mut Vec<(String, &'static str, String)>,
) -> Option<Vec<AttachedVolume>> {
    let had = node?.status.as_ref().and_then(|s| s.volumes_attached.as_deref()).unwrap_or_default();
    let kept: Vec<&AttachedVolume> =
        had.iter().filter(|v| !v.name.starts_with(OWN) || attached.contains(&v.name)).collect();
    let known: BTreeSet<&String> = kept.iter().map(|v| &v.name).collect();
    let fresh: Vec<&String> = attached.iter().filter(|name| !known.contains(name)).collect();
    if fresh.is_empty() && kept.len() == had.len() {
        return None;
    }
    for unique in &fresh {
        if let Some((volume, _)) = wanted.get(*unique) {
            let message = format!("AttachVolume.Attach succeeded for volume {:?} ", volume.volume);
            told.push(((*unique).clone(), "SuccessfulAttachVolume", message));
        }
    }
    let entry = |name: &String| AttachedVolume { name: name.clone(), device_path: String::new() };
    Some(kept.into_iter().cloned().chain(fresh.into_iter().map(entry)).collect())
}
