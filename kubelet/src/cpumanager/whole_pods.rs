//! Pods with resources of their own under the gate PodLevelResourceManagers: processors for the pod, shared out among its
//! containers.
//!
//! Containers whose requests are their limits get processors of these for themselves, all others share what is left.
//! Upstream: AllocatePod and validatePodScopeResources in pkg/kubelet/cm/cpumanager/policy_static.go, v1.37.
//! Differs: upstream gives a pod processors again when the kubelet restarts and forgets the first ones.

use k8s_openapi::api::core::v1::{Container, Pod};

use super::cpuset::CpuSet;
use super::policy_static::{StaticPolicy, unexpected};
use super::state::State;
use crate::admission::Rejection;
use crate::pod::resources::{Amounts, has_pod_level};
use crate::pod::view::{PodView, init_containers, is_sidecar};
use crate::topologymanager::hint::Mask;

/// True if a container's requests of processors and memory are its limits. Upstream: IsContainerEquivalentQOSGuaranteed.
pub fn is_fixed(container: &Container) -> bool {
    let resources = container.resources.as_ref();
    let requests = Amounts::of(resources.and_then(|r| r.requests.as_ref()));
    let limits = Amounts::of(resources.and_then(|r| r.limits.as_ref()));
    let fixed = |name: &str| {
        requests.0.get(name).is_some_and(|amount| *amount != 0) && requests.0.get(name) == limits.0.get(name)
    };
    fixed("cpu") && fixed("memory")
}

/// Refused because containers that share would have nothing to share.
pub(crate) fn nothing_to_share(message: String) -> Rejection {
    Rejection { reason: "EmptyPodSharedPoolError".to_owned(), message }
}

impl StaticPolicy {
    /// True if the pod gets what it asks for as a whole.
    pub fn is_whole(&self, pod: &Pod) -> bool {
        self.whole_pods && has_pod_level(pod)
    }

    /// True if containers of the pod get nothing for themselves, because the pod has resources of its own.
    pub fn leaves_out(&self, pod: &Pod) -> bool {
        !self.whole_pods && has_pod_level(pod)
    }

    /// Whether all containers that share will have processors at any time.
    pub(super) fn check_share(&self, pod: &Pod) -> Result<(), String> {
        let (spec, whole) = (pod.spec(), self.pod_exclusive(pod));
        let (mut taken, mut some_share) = (0usize, false);
        for container in init_containers(spec) {
            let count = self.exclusive(pod, container);
            match is_sidecar(container) {
                true if count == 0 => some_share = true,
                true => taken = taken.saturating_add(count),
                false if count == 0 && taken >= whole => {
                    return Err(
                        "pod rejected, pod has shared init containers but no cpus available for them"
                            .to_owned(),
                    );
                }
                false => {}
            }
        }
        for container in &spec.containers {
            let count = self.exclusive(pod, container);
            some_share |= count == 0;
            taken = taken.saturating_add(count);
        }
        match some_share && taken >= whole {
            true => Err("pod rejected, sum of exclusive container cpu requests equals pod budget, leaving no cpus for shared containers".to_owned()),
            false => Ok(()),
        }
    }

    /// Gives a pod its processors, from these NUMA nodes if possible, and its containers theirs.
    ///
    /// # Errors
    /// If there are not enough, or not enough whole cores where only those are given, or none are left to share.
    pub fn allocate_pod(
        &self,
        state: &mut State,
        pod: &Pod,
        affinity: Option<Mask>,
    ) -> Result<(), Rejection> {
        let count = self.pod_exclusive(pod);
        if count == 0 {
            return Ok(());
        }
        self.check_share(pod).map_err(nothing_to_share)?;
        if state.pods.get(pod.uid()).is_some_and(|cpus| cpus.len() == count) {
            return Ok(());
        }
        self.check_cores(state, count)?;
        let whole = self.choose(state, count, affinity, &CpuSet::default()).map_err(|e| unexpected(&e))?;
        let parts = self.parts(pod, &whole).map_err(|e| unexpected(&e))?;
        state.shared = state.shared.difference(&whole);
        state.pods.insert(pod.uid().to_owned(), whole);
        for (container, cpus) in parts {
            state.set(pod.uid(), container, cpus);
        }
        Ok(())
    }

    /// Each container's part of the pod's processors. Init containers that end may have all but those of sidecars before.
    fn parts<'a>(&self, pod: &'a Pod, whole: &CpuSet) -> Result<Vec<(&'a str, CpuSet)>, String> {
        let spec = pod.spec();
        let (mut out, mut sharing, mut rest) = (Vec::new(), Vec::new(), whole.clone());
        for container in init_containers(spec) {
            let (name, sidecar) = (container.name.as_str(), is_sidecar(container));
            match self.exclusive(pod, container) {
                0 if sidecar => sharing.push(name),
                0 => out.push((name, rest.clone())),
                count => {
                    let cpus = self.take(&rest, count)?;
                    if sidecar {
                        rest = rest.difference(&cpus);
                    }
                    out.push((name, cpus));
                }
            }
        }
        for container in &spec.containers {
            match self.exclusive(pod, container) {
                0 => sharing.push(&container.name),
                count => {
                    let cpus = self.take(&rest, count)?;
                    rest = rest.difference(&cpus);
                    out.push((&container.name, cpus));
                }
            }
        }
        out.extend(sharing.into_iter().map(|name| (name, rest.clone())));
        Ok(out)
    }
}
