//! The volume that fits a claim best. Pure.
//! Upstream: component-helpers/storage/volume/pv_helpers.go FindMatchingVolume, persistentvolume/index.go findByClaim.

use std::collections::BTreeMap;
use std::sync::Arc;

use client::Meta;
use k8s_openapi::api::core::v1::{PersistentVolume as Volume, PersistentVolumeClaim as Claim};
use machinery::labels::Selector;

use super::facts::{
    attributes_classes, capacity, claim_class, is_claimed, is_for, is_smaller, lacks_access, modes_differ,
    request, volume_class, volume_phase,
};
use crate::controllers::shared::selector;

/// One reserved for the claim; else, unless the scheduler chooses, the smallest that is free, of those that can do least
/// beyond what is wanted.
///
/// # Errors
/// The claim's selector is malformed.
pub fn best(claim: &Claim, volumes: &[Arc<Volume>], delayed: bool) -> Result<Option<Arc<Volume>>, String> {
    let wanted = claim.spec.as_ref().and_then(|s| s.selector.as_ref());
    let wanted = wanted
        .map(selector)
        .transpose()
        .map_err(|e| format!("error creating internal label selector for claim: {}: {e}", claim.key()))?;
    let modes = |v: &Volume| {
        let mut modes: Vec<String> =
            v.spec.iter().flat_map(|s| s.access_modes.iter().flatten()).cloned().collect();
        modes.sort_unstable();
        modes.dedup();
        (modes.len(), modes)
    };
    let mut groups: BTreeMap<(usize, Vec<String>), Vec<&Arc<Volume>>> = BTreeMap::new();
    for volume in volumes.iter().filter(|v| !lacks_access(claim, v)) {
        groups.entry(modes(volume)).or_default().push(volume);
    }
    for (_, mut group) in groups {
        group.sort_by(|a, b| a.name().cmp(b.name()));
        if let Some(found) = best_of(claim, &group, wanted.as_ref(), delayed) {
            return Ok(Some(found.clone()));
        }
    }
    Ok(None)
}

fn best_of<'a>(
    claim: &Claim,
    volumes: &[&'a Arc<Volume>],
    selector: Option<&Selector>,
    delayed: bool,
) -> Option<&'a Arc<Volume>> {
    let (size, class) = (request(claim), claim_class(claim));
    let mut smallest: Option<&'a Arc<Volume>> = None;
    for volume in volumes.iter().copied() {
        let (wanted, has) = attributes_classes(claim, volume);
        let unfit = (is_claimed(volume) && !is_for(volume, claim))
            || is_smaller(&capacity(volume), &size)
            || modes_differ(claim, volume)
            || wanted != has
            || volume.metadata.deletion_timestamp.is_some();
        if unfit {
            continue;
        }
        if is_for(volume, claim) {
            return Some(volume);
        }
        let free = !delayed
            && volume_phase(volume) == "Available"
            && selector.is_none_or(|s| s.matches(&volume.metadata.labels.as_ref()))
            && volume_class(volume) == class;
        if free && smallest.is_none_or(|s| is_smaller(&capacity(volume), &capacity(s))) {
            smallest = Some(volume);
        }
    }
    smallest
}

/// Why the volume that a claim asks for cannot be its own. Upstream: checkVolumeSatisfyClaim.
pub fn mismatch(volume: &Volume, claim: &Claim) -> Option<String> {
    let (wanted, has) = attributes_classes(claim, volume);
    Some(match () {
        () if volume.metadata.deletion_timestamp.is_some() => {
            format!("the volume is marked for deletion {:?}", volume.name())
        }
        () if is_smaller(&capacity(volume), &request(claim)) => "requested PV is too small".to_string(),
        () if volume_class(volume) != claim_class(claim) => "storageClassName does not match".to_string(),
        () if wanted != has => "volumeAttributesClassName does not match".to_string(),
        () if modes_differ(claim, volume) => "incompatible volumeMode".to_string(),
        () if lacks_access(claim, volume) => "incompatible accessMode".to_string(),
        () => return None,
    })
}
