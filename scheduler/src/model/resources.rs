//! Sums of resources, and what a pod asks for.
//! Upstream: component-helpers/resource/helpers.go PodRequests, pkg/scheduler/framework/types.go Resource.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use machinery::quantity::Quantity;
use smallvec::SmallVec;
use std::sync::Arc;

/// Amounts: CPU in thousandths, the others in units.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    pub milli_cpu: i64,
    pub memory: i64,
    pub ephemeral: i64,
    /// Extended resources, huge pages; few, so a list.
    pub scalars: SmallVec<[(Arc<str>, i64); 2]>,
}

/// What a container without a request counts as when nodes are ranked.
pub const DEFAULT_MILLI_CPU: i64 = 100;
pub const DEFAULT_MEMORY: i64 = 200 * 1024 * 1024;

type List = BTreeMap<String, Text>;

impl Resources {
    /// Reads a resource list; entries that are no quantity count as absent.
    pub fn from_list(list: &List) -> Self {
        let mut sum = Resources::default();
        for (name, text) in list {
            if name == "pods" {
                continue;
            }
            if let Ok(quantity) = Quantity::parse(&text.0) {
                *sum.entry(name) = if name == "cpu" { quantity.milli_value() } else { quantity.value() };
            }
        }
        sum
    }

    fn entry(&mut self, name: &str) -> &mut i64 {
        match name {
            "cpu" => &mut self.milli_cpu,
            "memory" => &mut self.memory,
            "ephemeral-storage" => &mut self.ephemeral,
            _ => {
                let at = self.scalars.iter().position(|(n, _)| &**n == name).unwrap_or_else(|| {
                    self.scalars.push((name.into(), 0));
                    self.scalars.len() - 1
                });
                &mut self.scalars[at].1
            }
        }
    }

    /// Amount of a resource by its name.
    pub fn get(&self, name: &str) -> i64 {
        match name {
            "cpu" => self.milli_cpu,
            "memory" => self.memory,
            "ephemeral-storage" => self.ephemeral,
            _ => self.scalars.iter().find(|(n, _)| &**n == name).map_or(0, |(_, v)| *v),
        }
    }

    pub fn add(&mut self, other: &Resources) {
        self.combine(other, i64::saturating_add);
    }

    pub fn sub(&mut self, other: &Resources) {
        self.combine(other, i64::saturating_sub);
    }

    fn max(&mut self, other: &Resources) {
        self.combine(other, i64::max);
    }

    fn combine(&mut self, other: &Resources, f: impl Fn(i64, i64) -> i64) {
        self.milli_cpu = f(self.milli_cpu, other.milli_cpu);
        self.memory = f(self.memory, other.memory);
        self.ephemeral = f(self.ephemeral, other.ephemeral);
        for (name, value) in &other.scalars {
            let entry = self.entry(name);
            *entry = f(*entry, *value);
        }
    }
}

/// Which of a container's three request lists is summed.
#[derive(Clone, Copy)]
enum Source {
    Spec,
    Allocated,
    Actuated,
}

/// What a pod asks for: exactly, and with defaults for containers that name nothing (only for ranking).
pub fn of_pod(pod: &Pod) -> (Resources, Resources) {
    let exact = requests(pod, false);
    let ranked = requests(pod, true);
    (exact, ranked)
}

fn pending_resize(pod: &Pod) -> Option<&str> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|c| c.type_ == "PodResizePending")?.reason.as_deref()
}

fn requests(pod: &Pod, defaults: bool) -> Resources {
    let infeasible = pending_resize(pod) == Some("Infeasible");
    let mut sum = aggregate(pod, Source::Actuated, infeasible, defaults);
    sum.max(&aggregate(pod, Source::Allocated, infeasible, defaults));
    if !infeasible {
        sum.max(&aggregate(pod, Source::Spec, infeasible, defaults));
    }
    let Some(spec) = &pod.spec else { return sum };
    if let Some(level) = spec.resources.as_ref().and_then(|r| r.requests.as_ref()) {
        for (name, text) in level {
            let counted = name == "cpu" || name == "memory" || name.starts_with("hugepages-");
            if let (true, Ok(quantity)) = (counted, Quantity::parse(&text.0)) {
                *sum.entry(name) = if name == "cpu" { quantity.milli_value() } else { quantity.value() };
            }
        }
    }
    if let Some(overhead) = &spec.overhead {
        sum.add(&Resources::from_list(overhead));
    }
    sum
}

fn aggregate(pod: &Pod, source: Source, infeasible: bool, defaults: bool) -> Resources {
    let mut sum = Resources::default();
    let Some(spec) = &pod.spec else { return sum };
    let of = |c: &Container| container(pod, c, source, infeasible, defaults);
    for c in &spec.containers {
        sum.add(&of(c));
    }
    let mut restartable = Resources::default();
    let mut init = Resources::default();
    for c in spec.init_containers.iter().flatten() {
        let mut own = of(c);
        if c.restart_policy.as_deref() == Some("Always") {
            sum.add(&own);
            restartable.add(&own);
            init.max(&restartable);
        } else {
            own.add(&restartable);
            init.max(&own);
        }
    }
    sum.max(&init);
    sum
}

fn status_of<'a>(pod: &'a Pod, name: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let find = |list: &'a Option<Vec<ContainerStatus>>| list.iter().flatten().find(|s| s.name == name);
    find(&status.container_statuses).or_else(|| find(&status.init_container_statuses))
}

fn container(pod: &Pod, c: &Container, source: Source, infeasible: bool, defaults: bool) -> Resources {
    let spec = c.resources.as_ref().and_then(|r| r.requests.as_ref());
    let fallback = if infeasible { None } else { spec };
    let list = match source {
        Source::Spec => spec,
        Source::Allocated => {
            status_of(pod, &c.name).and_then(|s| s.allocated_resources.as_ref()).or(fallback)
        }
        Source::Actuated => {
            let status = status_of(pod, &c.name);
            let actual = status.and_then(|s| s.resources.as_ref()).and_then(|r| r.requests.as_ref());
            actual.or_else(|| status.and_then(|s| s.allocated_resources.as_ref())).or(fallback)
        }
    };
    let mut own = list.map(Resources::from_list).unwrap_or_default();
    let missing = |name: &str| !list.is_some_and(|l| l.contains_key(name));
    if defaults && missing("cpu") {
        own.milli_cpu = DEFAULT_MILLI_CPU;
    }
    if defaults && missing("memory") {
        own.memory = DEFAULT_MEMORY;
    }
    own
}
