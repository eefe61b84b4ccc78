//! Keeping what a container gets close together: one choice of NUMA nodes for all that is given to it.
//!
//! Providers say where they could take from ([`hint`]), [`policy`] merges that into one choice or refuses, [`Manager::admit`]
//! lets them take. Providers are the CPU manager and the memory manager, and the device manager, whose plugins take their
//! time: for pods that ask for devices the steps of [`Manager::admit`] are taken one by one.
//! Upstream: pkg/kubelet/cm/topologymanager, v1.37.

pub mod hint;
pub mod merge;
pub mod policy;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod};

use crate::admission::Rejection;
use crate::cpumanager::topology::Topology;
use crate::pod::resources::has_pod_level;
use crate::pod::view::{PodView, init_containers};
use hint::Hint;
use policy::{Kind, Policy, PolicyOptions};

/// What containers are given together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Each container's for itself.
    Container,
    /// All containers of a pod.
    Pod,
}

/// Something that gives containers a part of the machine.
pub trait Provider {
    /// Where a container's part could come from, one list per resource; no lists at all if that does not matter.
    fn hints(&mut self, pod: &Pod, container: &Container) -> Vec<Vec<Hint>>;
    /// The same for all containers of a pod.
    fn pod_hints(&mut self, pod: &Pod) -> Vec<Vec<Hint>>;
    /// Gives a container its part, from the agreed nodes if possible.
    ///
    /// # Errors
    /// If it cannot have it.
    fn allocate(&mut self, pod: &Pod, container: &Container, agreed: Hint) -> Result<(), Rejection>;
    /// Gives a pod with resources of its own its part as a whole, and each container its share of that.
    ///
    /// # Errors
    /// If it cannot have it.
    fn allocate_pod(&mut self, pod: &Pod, agreed: Hint) -> Result<(), Rejection>;
}

/// The configured policy and scope.
#[derive(Clone, Debug)]
pub struct Manager {
    policy: Policy,
    scope: Scope,
    /// True if pods with resources of their own get these as a whole (the gate PodLevelResourceManagers).
    whole_pods: bool,
}

impl Manager {
    /// Reads the configuration.
    ///
    /// # Errors
    /// If it is wrong or the machine has too many nodes.
    pub fn new(
        policy: &str,
        scope: &str,
        options: &BTreeMap<String, String>,
        machine: &Topology,
    ) -> Result<Self, String> {
        if policy == "none" || policy.is_empty() {
            return Ok(Self::none());
        }
        let options = PolicyOptions::parse(options)?;
        let policy = Policy::new(policy, options, &machine.nodes)?;
        let scope = match scope {
            "container" => Scope::Container,
            "pod" => Scope::Pod,
            _ => return Err(format!("unknown scope: {scope:?}")),
        };
        Ok(Self { policy, scope, whole_pods: false })
    }

    /// One that keeps nothing together.
    pub fn none() -> Self {
        Self { policy: Policy::none(), scope: Scope::Container, whole_pods: false }
    }

    /// The same, with pods with resources of their own given these as a whole.
    #[must_use]
    pub fn with_whole_pods(self, whole_pods: bool) -> Self {
        Self { whole_pods, ..self }
    }

    /// True if a pod is given its part as a whole, not container by container.
    pub fn gives_whole(&self, pod: &Pod) -> bool {
        self.kind() != Kind::None && self.scope == Scope::Pod && self.whole_pods && has_pod_level(pod)
    }

    fn not_aligned(&self, pod: &Pod) -> Rejection {
        let message = match (self.whole_pods && has_pod_level(pod), self.scope) {
            (false, _) => "Resources cannot be allocated with Topology locality",
            (true, Scope::Pod) => {
                "Pod Scope pod with pod-level resources failed admission under pod-scope topology manager"
            }
            (true, Scope::Container) => {
                "Pod Scope pod with pod-level resources failed admission with a container-level topology manager"
            }
        };
        Rejection { reason: "TopologyAffinityError".to_owned(), message: message.to_owned() }
    }

    /// The policy.
    pub fn kind(&self) -> Kind {
        self.policy.kind()
    }

    /// The scope.
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// Lets the providers give all containers of a pod their part.
    ///
    /// # Errors
    /// The first reason why one cannot have it; what others have got then is taken back once the pod is not active.
    pub fn admit(&self, pod: &Pod, providers: &mut [&mut dyn Provider]) -> Result<(), Rejection> {
        let spec = pod.spec();
        let of_pod = self.agree(pod, providers)?;
        if let Some(agreed) = of_pod.filter(|_| self.gives_whole(pod)) {
            return providers.iter_mut().try_for_each(|provider| provider.allocate_pod(pod, agreed));
        }
        for container in init_containers(spec).iter().chain(&spec.containers) {
            let agreed = self.agree_on(pod, container, of_pod, providers)?;
            for provider in providers.iter_mut() {
                provider.allocate(pod, container, agreed)?;
            }
        }
        Ok(())
    }

    /// What is agreed on for a pod as a whole; none if each container is for itself.
    ///
    /// # Errors
    /// If nothing suits all.
    pub fn agree(&self, pod: &Pod, providers: &mut [&mut dyn Provider]) -> Result<Option<Hint>, Rejection> {
        match (self.kind(), self.scope) {
            (Kind::None, _) => Ok(Some(Hint { affinity: None, preferred: false })),
            (_, Scope::Container) => Ok(None),
            (_, Scope::Pod) => {
                let hints = providers.iter_mut().map(|p| p.pod_hints(pod)).collect();
                self.policy.merge(hints).ok_or_else(|| self.not_aligned(pod)).map(Some)
            }
        }
    }

    /// What is agreed on for one container.
    ///
    /// # Errors
    /// If nothing suits all.
    pub fn agree_on(
        &self,
        pod: &Pod,
        container: &Container,
        of_pod: Option<Hint>,
        providers: &mut [&mut dyn Provider],
    ) -> Result<Hint, Rejection> {
        of_pod.map_or_else(
            || {
                let hints = providers.iter_mut().map(|p| p.hints(pod, container)).collect();
                self.policy.merge(hints).ok_or_else(|| self.not_aligned(pod))
            },
            Ok,
        )
    }
}
