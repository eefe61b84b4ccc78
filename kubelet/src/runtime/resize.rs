//! Changing CPU and memory of a pod that runs: what differs from what it was promised, and in what order to change it.
//!
//! What is in force is what the kubelet last gave, which it has written down ([`crate::allocation::state`]): what runtimes
//! report is rounded, and some report nothing. Carrying it out: [`super::actuate`]. Upstream: computePodResizeAction and
//! IsPodResizeInProgress in pkg/kubelet/kuberuntime/kuberuntime_manager.go, v1.37.

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};

use super::actions::{Kill, KillReason, PodActions};
use super::model::{ContainerId, ContainerState, PodStatus};
use crate::allocation::resources::{PodResources, changes_pod_level, of_container};
use crate::allocation::state::State;
use crate::pod::resources::{Amounts, Quantities};
use crate::pod::view::{PodView, init_containers, is_sidecar};

/// Processors in thousandths and memory in bytes; zero is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// What it may use at most.
    pub memory_limit: i64,
    /// What it asks for.
    pub memory_request: i64,
    /// What it may use at most.
    pub cpu_limit: i64,
    /// What it asks for.
    pub cpu_request: i64,
}

/// A container that gets other limits while it runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    /// Its name in the spec.
    pub name: String,
    /// Which container on the runtime.
    pub id: ContainerId,
    /// What it has; changes as it is given more.
    pub current: Amount,
    /// What it is to have.
    pub wanted: Amount,
}

/// A container that has to be restarted for its new limits.
#[derive(Clone, Debug, PartialEq)]
pub struct Restart {
    /// Its name in the spec.
    pub name: String,
    /// Index in `initContainers` (`true`) or `containers`.
    pub position: (bool, usize),
    /// Which container on the runtime.
    pub id: ContainerId,
}

/// What is to be changed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Containers with other limits.
    pub updates: Vec<Update>,
    /// Those of which memory changes, as indexes: first who gives back.
    pub memory: Vec<usize>,
    /// Those of which processors change, as `memory`.
    pub cpu: Vec<usize>,
    /// Containers to restart.
    pub restarts: Vec<Restart>,
    /// The pod's group changes because containers that are about to start have other limits.
    pub pod: bool,
    /// The pod's own resources change.
    pub level: bool,
}

impl Plan {
    /// True if there is nothing to do besides restarts that others have planned.
    pub fn is_empty(&self) -> bool {
        self.memory.is_empty() && self.cpu.is_empty() && !self.pod && !self.level
    }
}

fn amount(resources: Option<&ResourceRequirements>) -> Amount {
    let list = |list: Option<&Quantities>| Amounts::of(list);
    let limits = list(resources.and_then(|r| r.limits.as_ref()));
    let requests = list(resources.and_then(|r| r.requests.as_ref()));
    Amount {
        memory_limit: limits.whole("memory"),
        memory_request: requests.whole("memory"),
        cpu_limit: limits.milli("cpu"),
        cpu_request: requests.milli("cpu"),
    }
}

/// What a container has in a pod: without a limit of its own, it has the pod's.
fn effective(level: Option<&ResourceRequirements>, own: &ResourceRequirements) -> Amount {
    let mut out = amount(Some(own));
    if changes_pod_level() {
        let level = amount(level);
        let or = |own: i64, level: i64| if own == 0 { level } else { own };
        out.memory_limit = or(out.memory_limit, level.memory_limit);
        out.cpu_limit = or(out.cpu_limit, level.cpu_limit);
    }
    out
}

/// A container's resources as they are written down: with the pod's limits where it has none. Upstream: GetLimits.
pub fn inherited(pod: &Pod, own: &ResourceRequirements) -> ResourceRequirements {
    let level = pod.spec().resources.as_ref().filter(|_| changes_pod_level());
    let mut out = own.clone();
    for (name, limit) in level.and_then(|level| level.limits.as_ref()).into_iter().flatten() {
        let has = Amounts::of(out.limits.as_ref()).milli(name) != 0;
        if matches!(name.as_str(), "cpu" | "memory")
            && !has
            && Amounts::of(Some(&[(name.clone(), limit.clone())].into())).milli(name) != 0
        {
            out.limits.get_or_insert_default().insert(name.clone(), limit.clone());
        }
    }
    out
}

/// What a pod has in all, as [`PodResources`] of it are written down.
struct Known<'a> {
    uid: &'a str,
    state: &'a State,
}

impl Known<'_> {
    fn all(&self) -> Option<&PodResources> {
        self.state.get(self.uid).map(AsRef::as_ref)
    }

    fn level(&self) -> Option<&ResourceRequirements> {
        self.all().and_then(|all| all.pod.as_ref()).filter(|_| changes_pod_level())
    }

    fn container(&self, name: &str) -> ResourceRequirements {
        self.all().and_then(|all| all.containers.get(name)).cloned().unwrap_or_default()
    }

    /// What a container has, and what it is to have.
    fn compare(&self, pod: &Pod, container: &Container) -> (Amount, Amount) {
        let wanted = effective(pod.spec().resources.as_ref(), &of_container(container));
        (effective(self.level(), &self.container(&container.name)), wanted)
    }
}

/// Containers whose resources can change while they run, with their positions, in upstream's order.
fn resizable(pod: &Pod) -> impl Iterator<Item = ((bool, usize), &Container)> {
    let spec = pod.spec();
    let init = init_containers(spec).iter().enumerate().rev().filter(|(_, c)| is_sidecar(c));
    let regular = spec.containers.iter().enumerate();
    init.map(|(i, c)| ((true, i), c)).chain(regular.map(|(i, c)| ((false, i), c)))
}

/// What is to be changed, of what `actions` do not stop anyway.
pub fn plan(pod: &Pod, status: &PodStatus, actions: &PodActions, state: &State) -> Plan {
    let known = Known { uid: pod.uid(), state };
    let mut plan = Plan::default();
    for (position, container) in resizable(pod) {
        let running = status.find_active(&container.name).filter(|c| c.state == ContainerState::Running);
        let Some(found) = running.filter(|found| actions.kill.iter().all(|kill| kill.id != found.id)) else {
            continue;
        };
        let (current, wanted) = known.compare(pod, container);
        if current == wanted {
            continue;
        }
        let (name, id) = (container.name.clone(), found.id.clone());
        if restart_wanted(container, current, wanted) {
            plan.restarts.push(Restart { name, position, id });
            plan.pod = true;
            continue;
        }
        let at = plan.updates.len();
        let memory = changed(
            (wanted.memory_limit, current.memory_limit),
            (wanted.memory_request, current.memory_request),
        );
        let cpu = changed((wanted.cpu_limit, current.cpu_limit), (wanted.cpu_request, current.cpu_request));
        enqueue(&mut plan.memory, at, memory);
        enqueue(&mut plan.cpu, at, cpu);
        plan.updates.push(Update { name, id, current, wanted });
    }
    plan.level = changes_pod_level() && amount(pod.spec().resources.as_ref()) != amount(known.level());
    if !plan.level && !plan.pod {
        plan.pod = starting(pod, actions).any(|container| {
            let (current, wanted) = known.compare(pod, container);
            current != wanted
        });
    }
    plan
}

/// Containers that are about to be started.
fn starting<'a>(pod: &'a Pod, actions: &'a PodActions) -> impl Iterator<Item = &'a Container> {
    let spec = pod.spec();
    let init = actions.start_init.iter().filter_map(|at| init_containers(spec).get(*at));
    init.chain(actions.start.iter().filter_map(|at| spec.containers.get(*at)))
}

/// The limit if that changed, else the request: what it is to be and what it is.
fn changed(limit: (i64, i64), request: (i64, i64)) -> (i64, i64) {
    if limit.0 != limit.1 { limit } else { request }
}

/// Who gives back comes before who takes.
fn enqueue(order: &mut Vec<usize>, at: usize, (wanted, current): (i64, i64)) {
    match wanted.cmp(&current) {
        std::cmp::Ordering::Greater => order.push(at),
        std::cmp::Ordering::Less => order.insert(0, at),
        std::cmp::Ordering::Equal => {}
    }
}

fn restart_wanted(container: &Container, current: Amount, wanted: Amount) -> bool {
    let changed = |name: &str| match name {
        "cpu" => (current.cpu_limit, current.cpu_request) != (wanted.cpu_limit, wanted.cpu_request),
        _ => (current.memory_limit, current.memory_request) != (wanted.memory_limit, wanted.memory_request),
    };
    ["cpu", "memory"].into_iter().filter(|name| changed(name)).any(|name| {
        let policy = container.resize_policy.iter().flatten().find(|policy| policy.resource_name == name);
        policy.is_some_and(|policy| policy.restart_policy == "RestartContainer")
    })
}

/// Containers that have to be restarted for their new limits join the others that are restarted.
pub fn add_restarts(restarts: &[Restart], actions: &mut PodActions) {
    for restart in restarts {
        actions.kill.push(Kill {
            id: restart.id.clone(),
            name: restart.name.clone(),
            message: format!("Container {} resize requires restart", restart.name),
            reason: KillReason::Other,
        });
        let (init, index) = restart.position;
        if init { actions.start_init.push(index) } else { actions.start.push(index) }
    }
}

/// True if running containers, or the pod, do not have what the pod was promised.
pub fn is_in_progress(pod: &Pod, status: &PodStatus, state: &State) -> bool {
    let known = Known { uid: pod.uid(), state };
    let of_containers = resizable(pod).any(|(_, container)| {
        let found = status.find(&container.name);
        found.is_some_and(|found| found.state == ContainerState::Running)
            && amount(Some(&inherited(pod, &of_container(container))))
                != amount(Some(&known.container(&container.name)))
    });
    let level = pod.spec().resources.as_ref().filter(|_| changes_pod_level());
    of_containers
        || level.zip(known.level()).is_some_and(|(wanted, is)| amount(Some(wanted)) != amount(Some(is)))
}

#[cfg(test)]
#[path = "resize_tests.rs"]
mod tests;
