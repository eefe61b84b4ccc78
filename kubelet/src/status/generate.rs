//! The status of a pod as a whole. Upstream: pkg/kubelet/kubelet_pods.go generateAPIPodStatus, v1.37.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::{
    ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodStatus as ApiPodStatus,
};

use super::containers::{Kind, statuses};
use super::resources::{self, quantities};
use super::{conditions, phase};
use crate::allocation::resources::{PodResources, changes_pod_level};
use crate::cgroup::in_force::InForce;
use crate::pod::qos::qos_class;
use crate::pod::resources::pod_requests;
use crate::pod::view::{PodView, ephemeral_as_container, ephemeral_containers, init_containers, is_sidecar};
use crate::preemption;
use crate::runtime::actions::any_regular_active;
use crate::runtime::model::PodStatus;

/// Why a container could not be started, or is held back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartFailure {
    /// Short reason such as `ImagePullBackOff`.
    pub reason: String,
    /// The details.
    pub message: String,
}

/// What the probes of a container say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeState {
    /// It has no such probe.
    None,
    /// It has one which has not decided yet.
    Pending,
    /// As `Pending`, for a container that ran before this kubelet did: what was reported before still holds.
    Inherited,
    /// The probe succeeded.
    Success,
    /// The probe failed.
    Failure,
}

/// Results of the probes that a status shows.
pub trait ProbeStates {
    /// The startup probe of a running container.
    fn startup(&self, pod: &Pod, status: &ContainerStatus) -> ProbeState;
    /// The readiness probe of a running container.
    fn readiness(&self, pod: &Pod, status: &ContainerStatus) -> ProbeState;
}

/// A pod that is to be ended by the kubelet, with what its status will say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eviction {
    /// Short reason such as `Evicted` or `DeadlineExceeded`.
    pub reason: String,
    /// The details.
    pub message: String,
    /// True if the node's state is the reason, not what the pod did: controllers are told by a condition.
    pub is_disruption: bool,
}

/// Everything that a status depends on.
pub struct Inputs<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// The pod on the runtime.
    pub runtime: &'a PodStatus,
    /// The last status: the kubelet's own, else the API server's.
    pub old: &'a ApiPodStatus,
    /// Why containers could not be started, by name.
    pub start_failures: &'a HashMap<String, StartFailure>,
    /// Results of probes.
    pub probes: &'a dyn ProbeStates,
    /// Addresses of the node, primary first.
    pub host_ips: &'a [String],
    /// True if nothing of the pod will run again.
    pub terminal: bool,
    /// The pod is to be ended.
    pub eviction: Option<Eviction>,
    /// True if the pod's runtime handler can make mounts read-only recursively.
    pub recursive_read_only: bool,
    /// What the pod's containers have been given.
    pub given: Option<&'a PodResources>,
    /// What the pod's group has, if that can be told.
    pub group: Option<InForce>,
    /// What is to be said about a change of the pod's resources.
    pub resize: Vec<PodCondition>,
}

/// The pod's next status, without the times of transitions (the cache knows them).
pub fn pod_status(inputs: &Inputs<'_>) -> ApiPodStatus {
    let Inputs { pod, runtime, old, .. } = *inputs;
    let spec = pod.spec();
    let list = |list: &Option<Vec<ContainerStatus>>| list.clone().unwrap_or_default();
    let mut regular = statuses(inputs, &spec.containers, &list(&old.container_statuses), Kind::Regular);
    let mut init = statuses(inputs, init_containers(spec), &list(&old.init_container_statuses), Kind::Init);
    let plain: Vec<_> = ephemeral_containers(spec).iter().map(ephemeral_as_container).collect();
    let ephemeral = statuses(inputs, &plain, &list(&old.ephemeral_container_statuses), Kind::Ephemeral);
    // The phase looks at which sidecars have started, so the probes' results come first.
    apply_probes(inputs, &mut regular, &mut init);

    let all: Vec<ContainerStatus> = init.iter().chain(&regular).cloned().collect();
    let mut phase = phase::phase(pod, &all, inputs.terminal, any_regular_active(pod, runtime)).to_owned();
    let ended =
        |phase: Option<&str>| phase.filter(|p| matches!(*p, "Failed" | "Succeeded")).map(str::to_owned);
    let api_phase = pod.api_status().phase.as_deref();
    // A pod that has ended never comes back to life.
    if ended(Some(&phase)).is_none()
        && let Some(last) = ended(old.phase.as_deref()).or_else(|| ended(api_phase))
    {
        phase = last;
    }
    let mut out = ApiPodStatus {
        pod_ips: none_if_empty(runtime.ips.iter().map(|ip| PodIP { ip: ip.clone() }).collect()),
        pod_ip: runtime.ips.first().cloned(),
        qos_class: Some(qos_class(pod).as_str().to_owned()),
        allocated_resources: quantities(&pod_requests(pod)).filter(|_| changes_pod_level()),
        resources: changes_pod_level().then(|| resources::of_pod(pod, old, inputs.group.as_ref())),
        ..ApiPodStatus::default()
    };
    if Some(phase.as_str()) == old.phase.as_deref() {
        out.reason = old.reason.clone().or_else(|| pod.api_status().reason.clone());
        out.message = old.message.clone().or_else(|| pod.api_status().message.clone());
    }
    let evicted = inputs.eviction.as_ref().filter(|e| e.is_disruption);
    // What containers' ends say stands, but for a pod that has run too long: generateAPIPodStatus.
    let ended_well = |eviction: &&Eviction| eviction.reason != "DeadlineExceeded" && phase == "Succeeded";
    if let Some(eviction) = inputs.eviction.as_ref().filter(|eviction| !ended_well(eviction)) {
        phase = "Failed".to_owned();
        out.reason = Some(eviction.reason.clone());
        out.message = Some(eviction.message.clone());
    }
    if let Some(last) = ended(api_phase) {
        phase = last;
    }
    let mut conditions: Vec<_> = (pod.api_status().conditions.iter().flatten())
        .filter(|c| !conditions::OWNED.contains(&c.type_.as_str()))
        .cloned()
        .collect();
    if let Some(disruption) = old.conditions.iter().flatten().find(|c| c.type_ == "DisruptionTarget") {
        conditions.retain(|c| c.type_ != "DisruptionTarget");
        conditions.push(disruption.clone());
    }
    if let Some(eviction) = evicted {
        // Tells controllers that the pod did not fail by itself.
        conditions.retain(|c| c.type_ != "DisruptionTarget");
        conditions.push(PodCondition {
            type_: "DisruptionTarget".to_owned(),
            status: "True".to_owned(),
            reason: Some("TerminationByKubelet".to_owned()),
            message: Some(match eviction.reason.as_str() {
                preemption::REASON => preemption::CONDITION.to_owned(),
                _ => eviction.message.clone(),
            }),
            observed_generation: pod.metadata.generation,
            ..PodCondition::default()
        });
    }
    conditions.extend(inputs.resize.iter().cloned());
    let owned = conditions::all(pod, runtime, old, &all, &conditions, &phase);
    conditions.extend(owned);
    out.conditions = Some(conditions);
    out.phase = Some(phase);
    out.container_statuses = Some(regular);
    out.init_container_statuses = none_if_empty(init);
    out.ephemeral_container_statuses = none_if_empty(ephemeral);
    addresses(pod, inputs.host_ips, &mut out);
    out
}

fn none_if_empty<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

/// The node's addresses, which are also those of a pod with the node's network.
fn addresses(pod: &Pod, host_ips: &[String], out: &mut ApiPodStatus) {
    let Some(first) = host_ips.first() else { return };
    out.host_ip = Some(first.clone());
    out.host_ips = Some(host_ips.iter().take(2).map(|ip| HostIP { ip: ip.clone() }).collect());
    if pod.is_host_network() && out.pod_ip.is_none() {
        out.pod_ip = Some(first.clone());
        out.pod_ips = Some(host_ips.iter().take(2).map(|ip| PodIP { ip: ip.clone() }).collect());
    }
}

/// Sets which containers have started and are ready.
/// Upstream: pkg/kubelet/prober/prober_manager.go UpdatePodStatus.
fn apply_probes(inputs: &Inputs<'_>, regular: &mut [ContainerStatus], init: &mut [ContainerStatus]) {
    for status in regular.iter_mut() {
        apply_probe(inputs, status);
    }
    for status in init.iter_mut() {
        let container = init_containers(inputs.pod.spec()).iter().find(|c| c.name == status.name);
        if container.is_some_and(is_sidecar) {
            apply_probe(inputs, status);
        } else {
            let state = status.state.as_ref();
            status.started = Some(state.is_some_and(|s| s.running.is_some()));
            status.ready = state.and_then(|s| s.terminated.as_ref()).is_some_and(|t| t.exit_code == 0);
        }
    }
}

fn apply_probe(inputs: &Inputs<'_>, status: &mut ContainerStatus) {
    let pod = inputs.pod;
    let running = status.state.as_ref().is_some_and(|s| s.running.is_some());
    let started = running
        && match inputs.probes.startup(pod, status) {
            ProbeState::None | ProbeState::Success => true,
            ProbeState::Failure => false,
            ProbeState::Pending | ProbeState::Inherited => status.started == Some(true),
        };
    status.started = Some(started);
    status.ready = started
        && match inputs.probes.readiness(pod, status) {
            ProbeState::None | ProbeState::Success => true,
            ProbeState::Failure | ProbeState::Pending => false,
            ProbeState::Inherited => {
                // A static pod's own object has no status; what its mirror told is the old one.
                let before = if pod.is_static() { inputs.old } else { pod.api_status() };
                before.conditions.iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True")
            }
        };
}

#[cfg(test)]
#[path = "generate_tests.rs"]
mod tests;
