//! Which volumes a pod uses with which labels. Pure.
//! Upstream: selinux_warning_controller.go (`syncPod`, `syncVolume`), pkg/volume/util/selinux.go (`GetMountSELinuxLabel`),
//! util.go (`GetPodVolumeNames`), attachdetach/util/util.go (`CreateVolumeSpec`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use client::Meta;
use controller::is_controlled_by;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim as Claim, Volume};

use super::cache::{Policy, Use};
use super::label;
use super::names::{Identity, of_inline, of_persistent};
use super::pod::Pod;
use crate::controllers::persistentvolume::facts::{claim_phase, claim_uid, is_claimed, volume_name};

/// What a decision depends on beside the pod.
pub struct View<'a> {
    /// Claims by key.
    pub claim: &'a dyn Fn(&str) -> Option<Arc<Claim>>,
    pub volume: &'a dyn Fn(&str) -> Option<Arc<PersistentVolume>>,
    /// Whether a CSI driver says that it mounts with labels.
    pub mounts_labels: &'a dyn Fn(&str) -> bool,
}

/// What to note of a pod.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// What it uses; nothing once it has ended.
    pub uses: Vec<Use>,
    /// Its volumes that its own containers want with different labels.
    pub torn: Vec<String>,
}

/// Decides about a pod. Volumes whose claims are not bound yet come later.
pub fn plan(pod: &Pod, view: &View<'_>) -> Plan {
    let mut plan = Plan::default();
    if pod.is_terminal() {
        return plan;
    }
    for (name, labels) in mounts(pod) {
        let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
        let Some(source) =
            volumes.into_iter().find(|v| v.name == name).and_then(|v| Source::of(pod, v, view))
        else {
            continue;
        };
        if labels.len() > 1 {
            plan.torn.push(name.to_owned());
            continue;
        }
        let Some(Identity { name, driver }) = source.identity(pod.namespace()) else { continue };
        if plan.uses.iter().any(|known| known.volume == name) {
            continue;
        }
        let wanted = labels.into_iter().next().unwrap_or_default();
        let mounted = !is_recursive(pod) && (driver.is_empty() || (view.mounts_labels)(&driver));
        let label = if mounted { wanted } else { String::new() };
        let policy = if label.is_empty() { Policy::Recursive } else { Policy::MountOption };
        plan.uses.push(Use { volume: name, driver, label, policy });
    }
    plan
}

/// The pod wants its volumes labelled file by file.
fn is_recursive(pod: &Pod) -> bool {
    let context = pod.spec.as_ref().and_then(|s| s.security_context.as_ref());
    context.and_then(|c| c.se_linux_change_policy.as_deref()) == Some("Recursive")
}

/// Names of the volumes that containers mount, with the labels they name. Block devices have no labels.
fn mounts(pod: &Pod) -> BTreeMap<&str, BTreeSet<String>> {
    let Some(spec) = pod.spec.as_ref() else { return BTreeMap::new() };
    let plain = spec.init_containers.iter().flatten().chain(&spec.containers);
    let plain = plain.map(|c| (&c.volume_mounts, &c.security_context));
    let ephemeral = spec.ephemeral_containers.iter().flatten();
    let containers = plain.chain(ephemeral.map(|c| (&c.volume_mounts, &c.security_context)));
    let of_pod = spec.security_context.as_ref().and_then(|c| c.se_linux_options.as_ref());
    let mut all: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (mounts, context) in containers {
        let options = context.as_ref().and_then(|c| c.se_linux_options.as_ref()).or(of_pod);
        for mount in mounts.iter().flatten() {
            all.entry(&mount.name).or_default().extend(options.map(label::of));
        }
    }
    all
}

/// Where a pod's volume comes from.
enum Source<'a> {
    Inline(&'a Volume),
    Bound(Arc<PersistentVolume>),
}

impl<'a> Source<'a> {
    /// None while it is not bound.
    fn of(pod: &Pod, volume: &'a Volume, view: &View<'_>) -> Option<Self> {
        let claim = match &volume.persistent_volume_claim {
            Some(source) => (view.claim)(&format!("{}/{}", pod.namespace(), source.claim_name))?,
            None if volume.ephemeral.is_none() => return Some(Source::Inline(volume)),
            None => {
                let claim = (view.claim)(&format!("{}/{}-{}", pod.namespace(), pod.name(), volume.name))?;
                is_controlled_by(&claim.metadata, &pod.metadata).then_some(claim)?
            }
        };
        let bound = claim_phase(&claim) == "Bound" && !volume_name(&claim).is_empty();
        let volume = bound.then(|| (view.volume)(volume_name(&claim))).flatten()?;
        (is_claimed(&volume) && claim_uid(&volume) == claim.uid()).then_some(Source::Bound(volume))
    }

    fn identity(&self, namespace: &str) -> Option<Identity> {
        match self {
            Source::Inline(volume) => of_inline(volume, namespace),
            Source::Bound(volume) => of_persistent(volume),
        }
    }
}
