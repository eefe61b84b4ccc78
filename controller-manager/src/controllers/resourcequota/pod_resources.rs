//! What a pod asks for in total, with what a running resize has got. Pure.
//! Upstream: k8s.io/component-helpers/resource/helpers.go PodRequests, PodLimits, with the options that quota uses.

use component::features::{self, Gate};

use super::resources::{Resources, add, raise, read};
use crate::kept::{Container, ContainerStatus, Pod};

/// What the kubelet has acknowledged or set counts besides what is wanted, until the two agree.
fn status_of<'a>(pod: &'a Pod, name: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let all = status.container_statuses.iter().chain(&status.init_container_statuses);
    all.flatten().find(|s| s.name == name)
}

fn is_infeasible(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
    let pending = conditions.into_iter().find(|c| c.type_ == "PodResizePending");
    pending.is_some_and(|c| c.reason.as_deref() == Some("Infeasible"))
}

/// Sums over containers: init containers one after the other, sidecars beside all that follow.
fn aggregate(pod: &Pod, of: impl Fn(&Container) -> Resources) -> Resources {
    let Some(spec) = &pod.spec else { return Resources::new() };
    let (mut total, mut sidecars, mut peak) = (Resources::new(), Resources::new(), Resources::new());
    spec.containers.iter().for_each(|c| add(&mut total, &of(c)));
    for container in spec.init_containers.iter().flatten() {
        let mut own = of(container);
        if container.restart_policy.as_deref() == Some("Always") {
            add(&mut total, &own);
            add(&mut sidecars, &own);
            own = sidecars.clone();
        } else {
            add(&mut own, &sidecars);
        }
        raise(&mut peak, &own);
    }
    raise(&mut total, &peak);
    total
}

fn wanted(container: &Container, limits: bool) -> Resources {
    let all = container.resources.as_ref();
    read(all.and_then(|r| if limits { r.limits.as_ref() } else { r.requests.as_ref() }))
}

/// As the kubelet has set it.
fn actuated(pod: &Pod, container: &Container, limits: bool, infeasible: bool) -> Resources {
    let status = status_of(pod, &container.name);
    let set = status.and_then(|s| s.resources.as_ref());
    if let Some(set) = set.and_then(|r| if limits { r.limits.as_ref() } else { r.requests.as_ref() }) {
        return read(Some(set));
    }
    if limits {
        return if infeasible { Resources::new() } else { wanted(container, limits) };
    }
    allocated(pod, container, infeasible)
}

/// As the kubelet has acknowledged it.
fn allocated(pod: &Pod, container: &Container, infeasible: bool) -> Resources {
    match status_of(pod, &container.name).and_then(|s| s.allocated_resources.as_ref()) {
        Some(acknowledged) => read(Some(acknowledged)),
        None if infeasible => Resources::new(),
        None => wanted(container, false),
    }
}

fn of_containers(pod: &Pod, limits: bool) -> Resources {
    let infeasible = is_infeasible(pod);
    let mut total = aggregate(pod, |c| actuated(pod, c, limits, infeasible));
    if !limits {
        raise(&mut total, &aggregate(pod, |c| allocated(pod, c, infeasible)));
    }
    if !infeasible {
        let mut all = aggregate(pod, |c| wanted(c, limits));
        raise(&mut all, &total);
        total = all;
    }
    total
}

/// Of a pod itself, rather than of its containers.
fn is_pod_level(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || name.starts_with("hugepages-")
}

fn apply_pod_level(pod: &Pod, limits: bool, to: &mut Resources) {
    if !features::enabled(Gate::PodLevelResources) {
        return;
    }
    let own = pod.spec.as_ref().and_then(|s| s.resources.as_ref());
    let own = own.and_then(|r| if limits { r.limits.as_ref() } else { r.requests.as_ref() });
    to.extend(read(own).into_iter().filter(|(name, _)| is_pod_level(name)));
}

fn overhead(pod: &Pod) -> Resources {
    read(pod.spec.as_ref().and_then(|s| s.overhead.as_ref()))
}

/// All requests, with overhead.
pub fn requests(pod: &Pod) -> Resources {
    let mut total = of_containers(pod, false);
    apply_pod_level(pod, false, &mut total);
    add(&mut total, &overhead(pod));
    total
}

/// All limits; overhead counts where there is a limit.
pub fn limits(pod: &Pod) -> Resources {
    let mut total = of_containers(pod, true);
    apply_pod_level(pod, true, &mut total);
    for (name, amount) in overhead(pod) {
        if let Some(limit) = total.get_mut(&name).filter(|l| !l.is_zero()) {
            limit.add(&amount);
        }
    }
    total
}
