//! The kubelet, as far as changes of resources are concerned: who decides, and what is said of them.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, PodCondition};
use k8s_openapi::jiff::Timestamp;

use super::admit::{self, Node};
use super::conditions::ERROR;
use super::manager::Around;
use super::{messages, resources};
use crate::admission::Rejection;
use crate::cgroup::in_force::InForce;
use crate::kubelet::Kubelet;
use crate::metrics;
use crate::metrics::resizes::{self, Resolution};
use crate::pod::view::PodView;
use crate::runtime::model::PodStatus;
use crate::runtime::resize;

impl Around for Kubelet {
    fn admit(&self, pod: &Pod, promised: &Pod) -> Result<(), Rejection> {
        admit::resize(pod, promised, self.resizing()).map_err(|(rejection, counted)| {
            resizes::infeasible(counted);
            rejection
        })?;
        // What plugins and the managers of processors and memory gave stays; a change for which it would not is refused above.
        self.admit_first(pod)?;
        self.admit_rest(pod)
    }

    fn sync(&self, uid: &str) {
        if let Some(workers) = self.workers() {
            workers.poke(uid);
        }
    }

    fn event(&self, pod: &Pod, warning: bool, reason: &str, message: &str) {
        match warning {
            true => self.events.warning(pod, reason, message),
            false => self.events.normal(pod, reason, message),
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

impl Kubelet {
    fn resizing(&self) -> Node {
        let limits = &self.node.limits;
        Node {
            pod_level: resources::changes_pod_level(),
            pinned_cpus: limits.cpus.as_ref().is_some_and(|cpus| cpus.is_static()),
            pinned_memory: limits.memory.as_ref().is_some_and(|memory| memory.is_static()),
            swap: limits.limited_swap.is_some() && limits.cgroup_v2 && limits.swap_controller,
        }
    }

    /// Active pods that the node has taken, with what they were promised.
    pub fn allocated_pods(&self) -> Vec<Arc<Pod>> {
        let taken = self.active_pods().into_iter().filter(|pod| self.allocations.has(pod.uid()));
        taken.map(|pod| self.allocations.promised(&pod).0).collect()
    }

    /// All sources of pods have spoken: what is known of pods that did not come is forgotten.
    pub fn sources_ready(&self) {
        self.allocations.sources_ready();
        self.runtime.actuated.lock().retain(|uid| self.pods.get(uid).is_some());
    }

    /// The node takes a pod: writes down what it was promised.
    pub(crate) fn promise(&self, pod: &Pod) {
        if let Err(error) = self.allocations.promise(pod) {
            tracing::error!(pod = pod.log_name(), error, "SetPodAllocation failed");
        }
        metrics::admission::admitted(pod);
    }

    /// Takes note whether a change is still under way.
    pub(crate) fn note_progress(&self, pod: &Pod, runtime: &PodStatus) {
        if resize::is_in_progress(pod, runtime, &self.runtime.actuated.lock()) {
            self.allocations.set_in_progress(pod, ("", ""), Timestamp::now());
        } else if let Some(done) = self.allocations.clear_in_progress(pod.uid()) {
            let message = messages::completed(pod, done.observed_generation);
            self.events.normal(pod, "ResizeCompleted", &message);
        }
    }

    /// The limits of the group of a pod that runs; `None` if they are not known.
    pub(crate) fn group_in_force(&self, pod: &Pod) -> Option<InForce> {
        if !resources::changes_pod_level() || pod.api_status().phase.as_deref() != Some("Running") {
            return None;
        }
        let found = self.runtime.cgroups.in_force(pod);
        found
            .inspect_err(|error| {
                tracing::debug!(pod = pod.log_name(), error, "failed to read cgroup config for the pod");
            })
            .ok()
    }

    /// A change could not be put in force.
    pub(crate) fn note_resize_error(&self, pod: &Pod, error: &str) {
        let (generation, is_new) = self.allocations.set_in_progress(pod, (ERROR, error), Timestamp::now());
        if is_new {
            self.events.warning(pod, "ResizeError", &messages::failed(pod, generation, error));
        }
    }

    /// What is to be said about a change of the pod's resources: waiting for room, or under way. Nothing of a pod that has
    /// stopped.
    pub(crate) fn resize_conditions(&self, pod: &Pod, terminal: bool) -> Vec<PodCondition> {
        if terminal {
            self.allocations.clear_in_progress(pod.uid());
            self.allocations.clear_pending(pod.uid(), Resolution::Terminated, Timestamp::now());
        }
        self.allocations.conditions(pod.uid())
    }
}
