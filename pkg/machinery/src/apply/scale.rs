//! Managed fields of the scale subresource: the owner of `spec.replicas` there owns it in the resource.
//!
//! Upstream: apimachinery util/managedfields/scalehandler.go.

use super::managed::{self, Entry, Managed};
use super::path::PathElement;
use super::set::Set;
use crate::value::Value;
use std::collections::HashMap;

const SCALE_VERSION: &str = "autoscaling/v1";

/// Where a resource has its replicas, by version; none for a version without the subresource.
pub type ReplicasPaths = HashMap<String, Option<Vec<PathElement>>>;

fn scale_path() -> Vec<PathElement> {
    vec![PathElement::Field("spec".into()), PathElement::Field("replicas".into())]
}

/// The entries a scale object shows, from those of its resource.
pub fn to_subresource(parent: Option<&Value>, paths: &ReplicasPaths) -> Result<Option<Value>, String> {
    let parent = managed::decode(parent)?;
    let mut out = Managed::default();
    for (id, entry) in &parent.managers {
        let Some(Some(path)) = paths.get(entry.api_version.as_str()) else { continue };
        if entry.set().has(path) {
            let set = Set::from_paths([scale_path().as_slice()]);
            out.managers.insert(id.clone(), Entry::new(set, SCALE_VERSION.into(), entry.applied));
            out.times.insert(id.clone(), parent.times.get(id).cloned().flatten());
        }
    }
    Ok(managed::encode(&out))
}

/// The entries of a resource after its scale was written with `scale` entries.
pub fn to_parent(
    parent: Option<&Value>,
    scale: Option<&Value>,
    api_version: &str,
    paths: &ReplicasPaths,
) -> Result<Option<Value>, String> {
    let parent = managed::decode(parent)?;
    let scale = managed::decode(scale)?;
    let mut owners = scale.managers;
    let mut out = Managed::default();
    for (id, entry) in parent.managers {
        // Entries of unknown versions are forgotten.
        let Some(path) = paths.get(entry.api_version.as_str()) else { continue };
        let path = path.as_ref().filter(|p| entry.set().has(p));
        let entry = match path {
            Some(path) if owners.remove(&id).is_none() => {
                let rest = entry.set().difference(&Set::from_paths([path.as_slice()]));
                entry.with_set(rest)
            }
            _ => entry,
        };
        if path.is_none() || !entry.set().is_empty() {
            out.times.insert(id.clone(), parent.times.get(&id).cloned().flatten());
            out.managers.insert(id, entry);
        }
    }
    for (id, entry) in owners {
        let Some(Some(path)) = paths.get(api_version) else { continue };
        if !entry.set().has(&scale_path()) {
            continue;
        }
        let set = Set::from_paths([path.as_slice()]);
        out.managers.insert(id.clone(), Entry::new(set, api_version.into(), entry.applied));
        // As upstream, the time is the one the resource had for that manager.
        out.times.insert(id.clone(), parent.times.get(&id).cloned().flatten());
    }
    Ok(managed::encode(&out))
}
