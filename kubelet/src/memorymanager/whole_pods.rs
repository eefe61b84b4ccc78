//! Pods with resources of their own under the gate PodLevelResourceManagers: memory for the pod, shared out among its
//! containers.
//!
//! Containers whose requests are their limits have parts of it for themselves, all others what is left. The machine counts
//! the pod's blocks, not those of its containers. Upstream: AllocatePod and validatePodScopeResources in
//! pkg/kubelet/cm/memorymanager/policy_static.go, v1.37.
//! Differs: upstream takes a pod's memory from the machine again when the kubelet restarts.

use k8s_openapi::api::core::v1::{Container, Pod};

use super::hints::{self, Requests};
use super::policy_static::StaticPolicy;
use super::state::{Block, State, take};
use crate::admission::Rejection;
use crate::cpumanager::policy_static::unexpected;
use crate::cpumanager::whole_pods::nothing_to_share;
use crate::pod::resources::has_pod_level;
use crate::pod::view::{PodView, init_containers, is_sidecar};
use crate::topologymanager::hint::Hint;

fn add(sum: &mut Requests, more: &Requests) {
    for (resource, size) in more {
        let entry = sum.entry(resource.clone()).or_default();
        *entry = entry.saturating_add(*size);
    }
}

fn subtract(all: &mut Requests, less: &Requests) {
    for (resource, size) in less {
        if let Some(entry) = all.get_mut(resource) {
            *entry = entry.saturating_sub(*size);
        }
    }
}

fn blocks(nodes: &[u32], sizes: &Requests) -> Vec<Block> {
    let some = sizes.iter().filter(|(_, size)| **size > 0);
    some.map(|(resource, size)| Block {
        numa_affinity: nodes.to_vec(),
        r#type: resource.clone(),
        size: *size,
    })
    .collect()
}

/// A resource of the pod that is used up.
fn used_up<'a>(whole: &'a Requests, taken: &Requests) -> Option<&'a String> {
    let full =
        |(resource, size): &(&String, &u64)| taken.get(*resource).copied().unwrap_or_default() >= **size;
    whole.iter().find(full).map(|(resource, _)| resource)
}

impl StaticPolicy {
    /// True if the pod gets what it asks for as a whole.
    pub fn is_whole(&self, pod: &Pod) -> bool {
        self.whole_pods && has_pod_level(pod)
    }

    /// Whether all containers that share will have memory at any time.
    pub(super) fn check_share(&self, pod: &Pod, whole: &Requests) -> Result<(), String> {
        let spec = pod.spec();
        let (mut taken, mut some_share) = (Requests::new(), false);
        for container in init_containers(spec) {
            let own = self.wanted(pod, container)?;
            if is_sidecar(container) {
                some_share |= own.is_empty();
                add(&mut taken, &own);
            } else if own.is_empty()
                && let Some(resource) = used_up(whole, &taken)
            {
                return Err(format!(
                    "pod rejected, pod has shared init containers but no {resource} available for them"
                ));
            }
        }
        for container in &spec.containers {
            let own = self.wanted(pod, container)?;
            some_share |= own.is_empty();
            add(&mut taken, &own);
        }
        match used_up(whole, &taken).filter(|_| some_share) {
            Some(resource) => Err(format!(
                "pod rejected, sum of exclusive container {resource} requests equals pod budget, leaving no memory for shared containers"
            )),
            None => Ok(()),
        }
    }

    /// Gives a pod its memory, from the nodes that were agreed on if possible, and its containers theirs.
    ///
    /// # Errors
    /// If there is not enough, or none is left to share.
    pub fn allocate_pod(&self, state: &mut State, pod: &Pod, agreed: Hint) -> Result<(), Rejection> {
        let whole = self.pod_wanted(pod).unwrap_or_default();
        if whole.is_empty() {
            return Ok(());
        }
        self.check_share(pod, &whole).map_err(nothing_to_share)?;
        if state.pods.contains_key(pod.uid()) {
            return Ok(());
        }
        let mask = hints::choose(&state.machine, &whole, agreed, |_, _| 0).map_err(|e| unexpected(&e))?;
        let nodes = mask.bits();
        let parts = self.parts(pod, &whole).map_err(|e| unexpected(&e))?;
        for (resource, size) in &whole {
            take(&mut state.machine, &nodes, resource, *size);
        }
        state.pods.insert(pod.uid().to_owned(), blocks(&nodes, &whole));
        for (container, sizes) in parts {
            state.set(pod.uid(), container, blocks(&nodes, &sizes));
        }
        Ok(())
    }

    /// Each container's part of the pod's memory. Init containers that end may have all but that of sidecars before.
    fn parts<'a>(&self, pod: &'a Pod, whole: &Requests) -> Result<Vec<(&'a str, Requests)>, String> {
        let spec = pod.spec();
        let (mut out, mut sharing, mut rest) = (Vec::new(), Vec::new(), whole.clone());
        for container in init_containers(spec) {
            let (own, sidecar) = (self.wanted(pod, container)?, is_sidecar(container));
            match own.is_empty() {
                true if sidecar => sharing.push(container),
                true => out.push((container.name.as_str(), rest.clone())),
                false => {
                    if sidecar {
                        subtract(&mut rest, &own);
                    }
                    out.push((container.name.as_str(), own));
                }
            }
        }
        for container in &spec.containers {
            let own = self.wanted(pod, container)?;
            if own.is_empty() {
                sharing.push(container);
            } else {
                subtract(&mut rest, &own);
                out.push((container.name.as_str(), own));
            }
        }
        out.extend(sharing.into_iter().map(|c: &Container| (c.name.as_str(), rest.clone())));
        Ok(out)
    }
}
