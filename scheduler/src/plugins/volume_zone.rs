//! A volume with zone labels is used only within its zone. Upstream: plugins/volumezone.

use std::sync::Arc;

use client::Meta;

use crate::framework::{Change, CycleState, Plugin, PreFilter, Reject, Verdict, View};
use crate::listers::claim_class;
use crate::model::{Groups, NodeRow, PodInfo};

pub const NAME: &str = "VolumeZone";
/// Labels with the ones that replaced them.
const KEYS: [(&str, &str); 4] = [
    ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    ("failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region"),
    ("topology.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    ("topology.kubernetes.io/region", "topology.kubernetes.io/region"),
];

/// What nodes must be labelled with: (key, its replacement, values).
#[derive(Default)]
pub struct Zones(Vec<(&'static str, &'static str, Vec<String>)>);

pub struct VolumeZone;

fn no(reason: impl Into<std::borrow::Cow<'static, str>>) -> Reject {
    Reject::unresolvable(NAME, reason)
}

/// Upstream: getPVbyPod. Generic ephemeral volumes are not looked at.
fn zones(view: View<'_>, pod: &PodInfo) -> Result<Zones, Reject> {
    let mut zones = Zones::default();
    for claim in pod.claims.iter().filter(|c| !c.ephemeral) {
        let found = view.listers.claims.get_by(&pod.namespace, &claim.name);
        let claim = found.ok_or_else(|| no(format!("persistentvolumeclaim {:?} not found", claim.name)))?;
        let volume = claim.spec.as_ref().and_then(|s| s.volume_name.as_deref()).unwrap_or_default();
        if volume.is_empty() {
            let name = claim_class(&claim);
            if name.is_empty() {
                return Err(no("PersistentVolumeClaim had no pv name and storageClass name"));
            }
            let class = view.listers.classes.get(name);
            let class = class.ok_or_else(|| no(format!("storageclass.storage.k8s.io {name:?} not found")))?;
            match class.volume_binding_mode.as_deref() {
                None => return Err(no(format!("VolumeBindingMode not set for StorageClass {name:?}"))),
                Some("WaitForFirstConsumer") => continue,
                Some(_) => return Err(no("PersistentVolume had no name")),
            }
        }
        let found = view.listers.volumes.get(volume);
        let volume = found.ok_or_else(|| no(format!("persistentvolume {volume:?} not found")))?;
        let labels = volume.meta().labels.as_ref();
        for (key, new) in KEYS {
            if let Some(values) = labels.and_then(|l| l.get(key)) {
                zones.0.push((key, new, values.split("__").map(str::to_string).collect()));
            }
        }
    }
    Ok(zones)
}

impl Plugin for VolumeZone {
    fn name(&self) -> &'static str {
        NAME
    }

    fn events(&self) -> &'static [&'static str] {
        &[
            "StorageClassAdd",
            "NodeAdd",
            "NodeUpdate",
            "PersistentVolumeClaimAdd",
            "PersistentVolumeClaimUpdate",
            "PersistentVolumeAdd",
            "PersistentVolumeUpdate",
        ]
    }

    fn pre_filter(&self, view: View<'_>, pod: &PodInfo, state: &mut CycleState) -> PreFilter {
        match zones(view, pod) {
            Err(reject) => PreFilter::Reject(reject),
            Ok(zones) if zones.0.is_empty() => PreFilter::Skip,
            Ok(zones) => {
                state.zones = Some(Arc::new(zones));
                PreFilter::All
            }
        }
    }

    fn filter(&self, _view: View<'_>, state: &CycleState, _pod: &PodInfo, row: &NodeRow) -> Verdict {
        let labels = row.labels();
        if !KEYS.iter().any(|(key, _)| labels.contains_key(key)) {
            return Ok(());
        }
        for (key, new, values) in state.zones.iter().flat_map(|z| &z.0) {
            let here = labels.get(key).or_else(|| labels.get(new));
            if !here.is_some_and(|h| values.iter().any(|v| v == h)) {
                return Err(no("node(s) had no available volume zone"));
            }
        }
        Ok(())
    }

    fn wakes(&self, change: &Change<'_>, pod: &PodInfo, _groups: &Groups) -> bool {
        match change {
            Change::Claim { new, .. } => {
                *pod.namespace == *new.namespace()
                    && pod.claims.iter().any(|c| !c.ephemeral && c.name == new.name())
            }
            Change::Class { old, new } => {
                old.is_none() && new.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer")
            }
            Change::Volume { old, new } => old.is_none_or(|o| o.metadata.labels != new.metadata.labels),
            Change::NodeAdded(_) => true,
            Change::NodeUpdated { old, new } => old.metadata.labels != new.metadata.labels,
            _ => false,
        }
    }
}
