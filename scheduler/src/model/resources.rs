//! Sums of resources, and what a pod asks for.
//! Upstream: component-helpers/resource/helpers.go PodRequests, pkg/scheduler/framework/types.go Resource.

use std::collections::BTreeMap;
use std::sync::Arc;

use component::features::Gate;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use machinery::quantity::Quantity;
use serde::Serialize;
use smallvec::SmallVec;

use super::wire::{ContainerAmounts, WireContainer, WirePod};
use crate::plugins::device_resources;

/// Amounts: CPU in thousandths, the others in units.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Resources {
    pub milli_cpu: i64,
    pub memory: i64,
    pub ephemeral: i64,
    /// Extended resources, huge pages; few, so a list.
    #[serde(serialize_with = "by_name")]
    pub scalars: SmallVec<[(Arc<str>, i64); 2]>,
}

fn by_name<S: serde::Serializer>(scalars: &[(Arc<str>, i64)], s: S) -> Result<S::Ok, S::Error> {
    s.collect_map(scalars.iter().map(|(name, amount)| (&**name, amount)))
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

    pub fn from_quantities<'a>(all: impl IntoIterator<Item = (&'a str, Quantity)>) -> Self {
        let mut sum = Resources::default();
        for (name, quantity) in all {
            *sum.entry(name) = if name == "cpu" { quantity.milli_value() } else { quantity.value() };
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

    /// Names of what is there beside CPU, memory and ephemeral storage, and those that are not 0.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let common =
            [("cpu", self.milli_cpu), ("memory", self.memory), ("ephemeral-storage", self.ephemeral)];
        let common = common.into_iter().filter(|(_, amount)| *amount != 0).map(|(name, _)| name);
        common.chain(self.scalars.iter().map(|(name, _)| &**name))
    }

    pub fn add(&mut self, other: &Resources) {
        self.combine(other, i64::saturating_add);
    }

    pub fn sub(&mut self, other: &Resources) {
        self.combine(other, i64::saturating_sub);
    }

    /// Without some of it.
    pub fn forget(&mut self, which: impl Fn(&str) -> bool) {
        let names: Vec<String> = self.names().filter(|name| which(name)).map(str::to_string).collect();
        names.iter().for_each(|name| *self.entry(name) = 0);
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

/// What a pod asks for.
#[derive(Debug, Default, Serialize)]
pub struct Sums {
    /// Exactly.
    pub requests: Resources,
    /// With defaults for containers that name nothing: what a placed pod counts when nodes are ranked.
    pub ranked: Resources,
    /// The same without the pod's own level: what a pod that is to be placed counts then. That the two differ is
    /// upstream's: resourceAllocationScorer of NodeResourcesFit is never told about resources of pods.
    pub scored: Resources,
}

/// What containers count as that do not say: CPU and memory, where asked for.
#[derive(Clone, Copy)]
struct Missing {
    cpu: bool,
    memory: bool,
}

/// Which resources of a pod as a whole count, beside those of its containers.
#[derive(Clone, Copy, Debug)]
pub struct Levels {
    /// What it asks for: gate PodLevelResources.
    pub asked: bool,
    /// What it has: gate InPlacePodLevelResourcesVerticalScaling.
    pub had: bool,
    /// What its devices take of the node: gate DRANodeAllocatableResources.
    pub devices: bool,
}

impl Levels {
    pub fn of(enabled: impl Fn(Gate) -> bool) -> Self {
        Self {
            asked: enabled(Gate::PodLevelResources),
            had: enabled(Gate::InPlacePodLevelResourcesVerticalScaling),
            devices: enabled(Gate::DRANodeAllocatableResources),
        }
    }
}

/// What a pod as a whole asks for, with what its containers say to compare it with.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Level {
    pub requests: BTreeMap<String, i64>,
    pub limits: BTreeMap<String, i64>,
    /// Sums over containers.
    pub containers: Resources,
    pub container_limits: Resources,
    pub limits_by_container: Vec<(String, BTreeMap<String, i64>)>,
}

impl Level {
    /// `None` where it makes no difference: a pod that asks for nothing itself, or devices that count for nothing.
    pub fn of(pod: &WirePod, levels: Levels) -> Option<Self> {
        let own = pod.spec.resources.as_ref().filter(|_| levels.devices && levels.asked)?;
        let all = |list: &List| {
            let amounts = Resources::from_list(list);
            list.keys().map(|name| (name.clone(), amounts.get(name))).collect::<BTreeMap<_, _>>()
        };
        let sum = |list: fn(&WireContainer) -> &List| {
            added_up(pod, &|c: &WireContainer| Resources::from_list(list(c)))
        };
        let supported = own.requests.iter().filter(|(name, _)| counts_for_pods(name));
        Some(Self {
            requests: all(&supported.map(|(n, q)| (n.clone(), q.clone())).collect()),
            limits: all(&own.limits),
            containers: sum(|c| &c.resources.requests),
            container_limits: sum(|c| &c.resources.limits),
            limits_by_container: pod
                .spec
                .containers
                .iter()
                .map(|c| (c.name.clone(), all(&c.resources.limits)))
                .collect(),
        })
    }
}

pub fn of_pod(pod: &WirePod, levels: Levels) -> Sums {
    let both = |asked| Missing { cpu: asked, memory: asked };
    let exact = requests(pod, both(false), levels);
    // With resources of the pod's own, only what it lacks altogether. Upstream: getNonMissingContainerRequests.
    let lacking = if levels.asked && own_level(pod) {
        Missing { cpu: exact.milli_cpu == 0, memory: exact.memory == 0 }
    } else {
        both(true)
    };
    let containers = Levels { asked: false, devices: false, ..levels };
    Sums {
        ranked: requests(pod, lacking, levels),
        scored: requests(pod, both(true), containers),
        requests: exact,
    }
}

fn counts_for_pods(name: &str) -> bool {
    name == "cpu" || name == "memory" || name.starts_with("hugepages-")
}

/// Upstream: IsPodLevelRequestsSet.
fn own_level(pod: &WirePod) -> bool {
    pod.spec.resources.as_ref().is_some_and(|r| r.requests.keys().any(|name| counts_for_pods(name)))
}

fn pending_resize(pod: &WirePod) -> Option<&str> {
    pod.status.conditions.iter().find(|c| c.type_ == "PodResizePending")?.reason.as_deref()
}

/// What the pod as a whole was granted, and what it has.
fn had(pod: &WirePod) -> Option<(&List, &List)> {
    let actual = pod.status.resources.as_ref()?.requests.as_ref()?;
    Some((pod.status.allocated_resources.as_ref()?, actual))
}

fn requests(pod: &WirePod, defaults: Missing, levels: Levels) -> Resources {
    let infeasible = pending_resize(pod) == Some("Infeasible");
    let status = &pod.status;
    let had = had(pod).filter(|_| levels.had);
    let plain = status.container_statuses.is_empty() && status.init_container_statuses.is_empty();
    // Of a pod without a node nothing was taken yet, whatever an earlier attempt wrote.
    let taken = &status.node_allocatable_resource_claim_statuses;
    let devices = (levels.devices && !taken.is_empty() && !pod.spec.node_name.is_empty())
        .then(|| device_resources::sum(taken));
    let with = |mut sum: Resources| {
        devices.iter().for_each(|more| sum.add(more));
        sum
    };
    if plain && had.is_none() {
        // All three are the same.
        let sum = with(aggregate(pod, Source::Actuated, infeasible, defaults));
        return with_own(pod, sum, infeasible, levels);
    }
    let [mut sum, mut granted] = match had {
        // These are sums over all containers already.
        Some((granted, actual)) => [actual, granted].map(Resources::from_list),
        None => [Source::Actuated, Source::Allocated].map(|s| aggregate(pod, s, infeasible, defaults)),
    };
    // The kubelet has counted devices in what it tells of the pod as a whole.
    if had.is_none() {
        granted = with(granted);
    }
    sum.max(&granted);
    if !infeasible {
        sum.max(&with(aggregate(pod, Source::Spec, infeasible, defaults)));
    }
    with_own(pod, sum, infeasible, levels)
}

/// With what the pod itself asks for, in place of what its containers do, and what it takes beside them.
fn with_own(pod: &WirePod, mut sum: Resources, infeasible: bool, levels: Levels) -> Resources {
    if levels.asked && own_level(pod) {
        for (name, amount) in level(pod, infeasible, levels) {
            *sum.entry(&name) = amount;
        }
    }
    if !pod.spec.overhead.is_empty() {
        sum.add(&Resources::from_list(&pod.spec.overhead));
    }
    sum
}

/// What the pod as a whole asks for or has, by name. Upstream: effectivePodLevelResources.
fn level(pod: &WirePod, infeasible: bool, levels: Levels) -> BTreeMap<String, i64> {
    let asked = pod.spec.resources.as_ref().map(|r| &r.requests);
    let actual = pod.status.resources.as_ref().filter(|_| levels.had);
    let had = [actual.and_then(|r| r.requests.as_ref()), actual.and(pod.status.allocated_resources.as_ref())];
    let asked = asked.filter(|_| actual.is_none() || !infeasible);
    let mut most = BTreeMap::new();
    for (name, text) in asked.into_iter().chain(had.into_iter().flatten()).flatten() {
        if let (true, Ok(quantity)) = (counts_for_pods(name), Quantity::parse(&text.0)) {
            let amount = if name == "cpu" { quantity.milli_value() } else { quantity.value() };
            let known = most.entry(name.clone()).or_insert(amount);
            *known = amount.max(*known);
        }
    }
    most
}

fn aggregate(pod: &WirePod, source: Source, infeasible: bool, defaults: Missing) -> Resources {
    added_up(pod, &|c: &WireContainer| container(pod, c, source, infeasible, defaults))
}

/// The most that containers use at one time.
fn added_up(pod: &WirePod, of: &dyn Fn(&WireContainer) -> Resources) -> Resources {
    let mut sum = Resources::default();
    for c in &pod.spec.containers {
        sum.add(&of(c));
    }
    let mut restartable = Resources::default();
    let mut init = Resources::default();
    for c in &pod.spec.init_containers {
        let mut own = of(c);
        if c.restart_policy == "Always" {
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

fn status_of<'a>(pod: &'a WirePod, name: &str) -> Option<&'a ContainerAmounts> {
    let all = pod.status.container_statuses.iter().chain(&pod.status.init_container_statuses);
    all.into_iter().find(|s| s.name == name)
}

fn container(
    pod: &WirePod,
    c: &WireContainer,
    source: Source,
    infeasible: bool,
    defaults: Missing,
) -> Resources {
    let spec = Some(&c.resources.requests).filter(|r| !r.is_empty());
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
    if defaults.cpu && missing("cpu") {
        own.milli_cpu = DEFAULT_MILLI_CPU;
    }
    if defaults.memory && missing("memory") {
        own.memory = DEFAULT_MEMORY;
    }
    own
}
