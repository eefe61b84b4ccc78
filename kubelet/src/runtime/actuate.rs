//! Puts in force what a pod was promised: its group, and its containers on the runtime.
//!
//! A container must never be allowed more than its pod: who grows is changed after the pod's group, who shrinks before. What
//! was changed is written down at once, so that a kubelet that is stopped half way goes on from there. Upstream:
//! doPodResizeAction in pkg/kubelet/kuberuntime/kuberuntime_manager.go, v1.37.

use std::sync::Arc;
use std::time::Instant;

use cri::v1;
use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};

use super::manager::Runtime;
use super::resize::{Amount, Plan, Update, inherited};
use crate::allocation::resources::{PodResources, of_container};
use crate::cgroup::in_force::InForce;
use crate::container::limits::{CgroupLimits, milli_to_quota, milli_to_shares, shares_to_milli};
use crate::container::security::describe;
use crate::metrics::resizes;
use crate::node::status::{binary, cpus};
use crate::pod::resources::{Amounts, Quantities};
use crate::pod::view::PodView;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resource {
    Memory,
    Cpu,
}

impl Resource {
    fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
        }
    }
}

/// A pod whose limits are being changed.
struct Change<'a> {
    runtime: &'a Runtime,
    pod: &'a Arc<Pod>,
    sandbox: &'a str,
    /// What the pod's group is to have; what it is not to have stays.
    wanted: CgroupLimits,
    /// What it has.
    now: CgroupLimits,
}

/// A container with what it has of one resource and is to have of the other.
fn sized(container: &Container, amount: Amount) -> Container {
    let list = |cpu: i64, memory: i64| -> Option<Quantities> {
        Some([("cpu".to_owned(), cpus(cpu)), ("memory".to_owned(), binary(memory))].into())
    };
    let resources = ResourceRequirements {
        limits: list(amount.cpu_limit, amount.memory_limit),
        requests: list(amount.cpu_request, amount.memory_request),
        claims: of_container(container).claims.clone(),
    };
    Container { resources: Some(resources), ..container.clone() }
}

/// What a container has once one resource is as it is to be.
fn with(update: &Update, resource: Resource) -> Amount {
    let (now, wanted) = (update.current, update.wanted);
    match resource {
        Resource::Memory => {
            Amount { memory_limit: wanted.memory_limit, memory_request: wanted.memory_request, ..now }
        }
        Resource::Cpu => Amount { cpu_limit: wanted.cpu_limit, cpu_request: wanted.cpu_request, ..now },
    }
}

/// Limits of containers that get smaller.
fn shrinking(plan: &Plan) -> impl Iterator<Item = (&str, i64)> {
    let updates = plan.memory.iter().filter_map(|at| plan.updates.get(*at));
    let smaller = |u: &&Update| {
        let (now, wanted) = (u.current.memory_limit, u.wanted.memory_limit);
        wanted != 0 && (now == 0 || wanted < now)
    };
    updates.filter(smaller).map(|u| (u.id.id.as_str(), u.wanted.memory_limit))
}

impl Runtime {
    /// Changes the pod's group and its containers.
    ///
    /// # Errors
    /// If the kernel or the runtime refuses; what was changed until then stays, and the next sync goes on.
    pub async fn resize(&self, pod: &Arc<Pod>, sandbox: &str, plan: &mut Plan) -> Result<(), String> {
        let begin = Instant::now();
        let result = self.try_resize(pod, sandbox, plan).await;
        resizes::actuated(result.is_ok(), begin.elapsed());
        result
    }

    async fn try_resize(&self, pod: &Arc<Pod>, sandbox: &str, plan: &mut Plan) -> Result<(), String> {
        let mut wanted = self.node.limits.pod_cgroup(pod);
        let found = self.cgroups.in_force(pod).map_err(|error| {
            tracing::error!(pod = pod.log_name(), error, "Unable to get pod cgroup config");
            format!("unable to get pod cgroup memory config for pod {:?}", describe(pod))
        })?;
        let now = merged(&wanted, &limits(found));
        if !plan.memory.is_empty() || plan.pod {
            self.check_usage(pod, plan, &now, &wanted)?;
        }
        // A limit cannot be taken away, only changed.
        wanted.memory.get_or_insert(found.memory);
        wanted.quota.get_or_insert((found.quota, found.period));
        let mut change = Change { runtime: self, pod, sandbox, wanted, now };
        if !plan.memory.is_empty() || plan.pod || plan.level {
            change.run(Resource::Memory, plan, found).await?;
        }
        if !plan.cpu.is_empty() || plan.pod || plan.level {
            change.run(Resource::Cpu, plan, found).await?;
        }
        Ok(())
    }

    /// Less memory than is in use would end the containers. Upstream: validateMemoryResizeAction.
    fn check_usage(
        &self,
        pod: &Pod,
        plan: &Plan,
        now: &CgroupLimits,
        wanted: &CgroupLimits,
    ) -> Result<(), String> {
        let of_pod = wanted.memory.filter(|wanted| now.memory.is_none_or(|now| *wanted < now));
        let hierarchy = self.cgroups.hierarchy();
        let pod_usage = hierarchy.memory_usage(&self.cgroups.pod_path(pod));
        let mut errors = Vec::new();
        match (of_pod, pod_usage) {
            (None, _) => {}
            (Some(_), None) => errors.push("missing pod memory usage".to_owned()),
            (Some(limit), Some(usage)) if usage >= limit => errors
                .push(format!("attempting to set pod memory limit ({limit}) below current usage ({usage})")),
            _ => {}
        }
        let paths = self.cgroups.container_paths(pod);
        for (id, limit) in shrinking(plan) {
            let name = plan.updates.iter().find(|u| u.id.id == id).map_or("", |u| u.name.as_str());
            let usage =
                paths.iter().find(|path| path.contains(id)).and_then(|path| hierarchy.memory_usage(path));
            match usage {
                // Upstream names the pod's usage here.
                Some(usage) if usage >= limit => errors.push(format!(
                    "attempting to set container {name:?} memory limit ({limit}) below current usage ({})",
                    pod_usage.unwrap_or(usage)
                )),
                _ => {}
            }
        }
        match errors.as_slice() {
            [] => Ok(()),
            [one] => Err(format!("cannot decrease memory limits: {one}")),
            all => Err(format!("cannot decrease memory limits: [{}]", all.join(", "))),
        }
    }

    /// Writes down what a pod that is new has, unless that is known. Upstream: InitializeActuatedPod.
    pub fn initialize(&self, pod: &Pod) {
        let mut state = self.actuated.lock();
        if state.get(pod.uid()).is_some() {
            return;
        }
        if let Err(error) = state.set(pod.uid(), Arc::new(PodResources::of(pod))) {
            let pod = pod.log_name();
            tracing::error!(pod, error, "Failed to initialize actuated pod resource info checkpoint");
        }
    }

    /// Writes down what a pod's new group has been given. Upstream: UpdateActuatedPodLevelResources.
    ///
    /// # Errors
    /// If that cannot be written.
    pub fn gave_group(&self, pod: &Pod) -> Result<(), String> {
        let level = pod.spec().resources.as_ref().filter(|r| r.requests.is_some() || r.limits.is_some());
        level.map_or(Ok(()), |level| self.actuated.lock().set_pod_level(pod.uid(), level))
    }

    /// Writes down what a container has been given.
    ///
    /// # Errors
    /// If that cannot be written.
    pub fn gave(&self, pod: &Pod, container: &Container) -> Result<(), String> {
        let all = inherited(pod, &of_container(container));
        self.actuated.lock().set_container(pod.uid(), &container.name, &all)
    }
}

/// What the kernel applies, as limits.
fn limits(found: InForce) -> CgroupLimits {
    CgroupLimits {
        shares: Some(found.shares),
        quota: Some((found.quota, found.period)),
        memory: Some(found.memory),
        ..CgroupLimits::default()
    }
}

/// Limits with those that another has in their place.
fn merged(all: &CgroupLimits, other: &CgroupLimits) -> CgroupLimits {
    let mut out = all.clone();
    out.shares = other.shares.or(out.shares);
    out.quota = other.quota.or(out.quota);
    out.memory = other.memory.or(out.memory);
    out.unified.extend(other.unified.clone());
    out
}

impl Change<'_> {
    /// Changes one resource of the pod's group and of its containers.
    async fn run(&mut self, resource: Resource, plan: &mut Plan, found: InForce) -> Result<(), String> {
        let quota = self.wanted.quota.map_or(found.quota, |(quota, _)| quota);
        let signed = |shares: u64| i64::try_from(shares).unwrap_or(i64::MAX);
        let (limit, request) = match resource {
            Resource::Memory => ((found.memory, self.wanted.memory.unwrap_or(found.memory)), (0, 0)),
            Resource::Cpu => (
                (found.quota, quota),
                (signed(found.shares), signed(self.wanted.shares.unwrap_or(found.shares))),
            ),
        };
        if limit.1 > limit.0 {
            self.set_pod(resource, true).await?;
        }
        if request.1 > request.0 {
            self.set_pod(resource, false).await?;
        }
        let order = match resource {
            Resource::Memory => &plan.memory,
            Resource::Cpu => &plan.cpu,
        };
        for at in order {
            if let Some(update) = plan.updates.get_mut(*at) {
                self.update(resource, update).await?;
            }
        }
        if request.1 < request.0 {
            self.set_pod(resource, false).await?;
        }
        if limit.1 < limit.0 {
            self.set_pod(resource, true).await?;
        }
        if plan.level {
            self.gave_pod(resource)?;
        }
        Ok(())
    }

    async fn update(&self, resource: Resource, update: &mut Update) -> Result<(), String> {
        let Some(container) = self.pod.find_container(&update.name) else { return Ok(()) };
        let amount = with(update, resource);
        let container = sized(&container.to_container(), amount);
        let request = v1::UpdateContainerResourcesRequest {
            container_id: update.id.id.clone(),
            linux: Some(self.runtime.node.limits.container(self.pod, &container)),
            ..Default::default()
        };
        self.runtime.cri.update_container_resources(request).await.map_err(|e| e.to_string())?;
        self.runtime.gave(self.pod, &container)?;
        update.current = amount;
        Ok(())
    }

    /// Sets one limit (or weight) of the pod's group, once the runtime agrees.
    async fn set_pod(&mut self, resource: Resource, limit: bool) -> Result<(), String> {
        let wanted = &self.wanted;
        let step = match (resource, limit) {
            (Resource::Cpu, true) => CgroupLimits { quota: wanted.quota, ..CgroupLimits::default() },
            (Resource::Cpu, false) => CgroupLimits { shares: wanted.shares, ..CgroupLimits::default() },
            (Resource::Memory, _) => CgroupLimits {
                memory: wanted.memory,
                unified: wanted.unified.clone(),
                ..CgroupLimits::default()
            },
        };
        let then = merged(&self.now, &step);
        self.tell_runtime(&then).await.map_err(|error| {
            let name = resource.name();
            format!("failed to notify runtime for UpdatePodSandboxResources (resource={name}); resize rejected: {error}")
        })?;
        if let Err(error) = self.runtime.cgroups.set_pod(self.pod, &step).await {
            tracing::error!(pod = self.pod.log_name(), %error, resource = resource.name(), "Failed to set cgroup config");
            if let Err(error) = self.tell_runtime(&self.now).await {
                tracing::error!(
                    pod = self.pod.log_name(),
                    error,
                    "Failed to notify runtime to rollback UpdatePodSandboxResources"
                );
            }
            return Err(error.to_string());
        }
        self.now = then;
        Ok(())
    }

    /// Tells the runtime what the sandbox may use. Not every runtime wants to know.
    async fn tell_runtime(&self, limits: &CgroupLimits) -> Result<(), String> {
        let request = v1::UpdatePodSandboxResourcesRequest {
            pod_sandbox_id: self.sandbox.to_owned(),
            overhead: Some(self.runtime.node.limits.overhead(self.pod)),
            resources: Some(without_overhead(self.pod, limits)),
        };
        match self.runtime.cri.update_pod_sandbox_resources(request).await {
            Ok(_) => Ok(()),
            // Containerd 2.2 says so in words only.
            Err(error) if error.is_unimplemented() || error.message().contains("not implemented") => Ok(()),
            Err(error) => {
                Err(format!("updatePodSandboxResources failed for sanboxID {:?}: {error}", self.sandbox))
            }
        }
    }

    /// Writes down what the pod as a whole has been given.
    fn gave_pod(&self, resource: Resource) -> Result<(), String> {
        let Some(promised) = &self.pod.spec().resources else { return Ok(()) };
        let mut state = self.runtime.actuated.lock();
        let mut known = state.get(self.pod.uid()).and_then(|all| all.pod.clone()).unwrap_or_default();
        let name = resource.name();
        for (list, promised) in
            [(&mut known.requests, &promised.requests), (&mut known.limits, &promised.limits)]
        {
            let Some(promised) = promised else { continue };
            let amount = promised.get(name).cloned().unwrap_or_else(|| binary(0));
            list.get_or_insert_default().insert(name.to_owned(), amount);
        }
        state.set_pod_level(self.pod.uid(), &known)
    }
}

/// Limits of a sandbox as the runtime is told: without what the runtime itself needs.
fn without_overhead(pod: &Pod, limits: &CgroupLimits) -> v1::LinuxContainerResources {
    let overhead = Amounts::of(pod.spec().overhead.as_ref());
    let (cpu, memory) = (overhead.milli("cpu"), overhead.whole("memory"));
    let (mut quota, period) = limits.quota.unwrap_or_default();
    let mut shares = limits.shares.unwrap_or_default();
    if overhead.has("cpu") {
        quota = if limits.quota.is_some() { quota.saturating_sub(milli_to_quota(cpu, period)) } else { 0 };
        let signed = i64::try_from(shares).unwrap_or(i64::MAX);
        shares = limits.shares.map_or(0, |_| milli_to_shares(shares_to_milli(signed).saturating_sub(cpu)));
    }
    v1::LinuxContainerResources {
        cpu_period: period,
        cpu_quota: quota,
        cpu_shares: i64::try_from(shares).unwrap_or(i64::MAX),
        memory_limit_in_bytes: limits.memory.map_or(0, |all| all.saturating_sub(memory)),
        unified: limits.unified.iter().map(|(file, value)| ((*file).to_owned(), value.clone())).collect(),
        ..Default::default()
    }
}
