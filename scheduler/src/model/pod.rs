//! A pod, compiled: what a cycle asks about it, parsed once.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, PodAffinityTerm, PodSpec, WeightedPodAffinityTerm};
use machinery::labels::Selector;

use super::cache::Cache;
use super::resources::{self, Resources};
use super::selector::{NodeSelector, label_selector};

pub type Uid = Arc<str>;

/// A host port that a pod occupies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    pub ip: String,
    pub protocol: String,
    pub port: i32,
}

impl HostPort {
    /// Upstream: kube-scheduler/framework/types.go HostPortInfo.CheckConflict.
    pub fn conflicts(&self, other: &HostPort) -> bool {
        let any = |ip: &str| ip == "0.0.0.0";
        self.port == other.port
            && self.protocol == other.protocol
            && (self.ip == other.ip || any(&self.ip) || any(&other.ip))
    }
}

/// A term of pod (anti-)affinity.
#[derive(Clone, Debug)]
pub struct AffinityTerm {
    pub topology_key: String,
    namespaces: Vec<String>,
    selector: Selector,
    namespace_selector: Selector,
}

impl AffinityTerm {
    fn new(owner: &str, term: &PodAffinityTerm) -> Self {
        let mut namespaces = term.namespaces.clone().unwrap_or_default();
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.push(owner.to_string());
        }
        Self {
            topology_key: term.topology_key.clone(),
            namespaces,
            selector: label_selector(term.label_selector.as_ref()),
            namespace_selector: label_selector(term.namespace_selector.as_ref()),
        }
    }

    /// Whether the term speaks of this pod.
    pub fn matches(&self, pod: &PodInfo, cache: &Cache) -> bool {
        let named = self.namespaces.iter().any(|n| *n == *pod.namespace);
        (named || self.namespace_matches(&pod.namespace, cache))
            && self.selector.matches(&pod.pod.metadata.labels.as_ref())
    }

    fn namespace_matches(&self, namespace: &str, cache: &Cache) -> bool {
        !self.namespace_selector.is_nothing()
            && self.namespace_selector.matches(&cache.namespace_labels(namespace))
    }
}

/// A preferred term.
#[derive(Clone, Debug)]
pub struct Weighted {
    pub weight: i32,
    pub term: AffinityTerm,
}

/// A compiled pod.
#[derive(Clone, Debug)]
pub struct PodInfo {
    pub pod: Arc<Pod>,
    pub uid: Uid,
    pub namespace: Arc<str>,
    pub priority: i32,
    pub requests: Resources,
    /// With defaults for containers that ask for nothing; ranks nodes only.
    pub ranked: Resources,
    pub ports: Vec<HostPort>,
    pub node_labels: Option<Selector>,
    pub required: Option<NodeSelector>,
    pub preferred: Vec<(i32, NodeSelector)>,
    pub affinity: Vec<AffinityTerm>,
    pub anti_affinity: Vec<AffinityTerm>,
    pub preferred_affinity: Vec<Weighted>,
    pub preferred_anti_affinity: Vec<Weighted>,
}

/// Priority of a pod; without one it counts as 0.
pub fn priority(pod: &Pod) -> i32 {
    pod.spec.as_ref().and_then(|s| s.priority).unwrap_or(0)
}

impl PodInfo {
    pub fn new(pod: Arc<Pod>) -> Self {
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let (requests, ranked) = resources::of_pod(&pod);
        let default = PodSpec::default();
        let spec = pod.spec.as_ref().unwrap_or(&default);
        let affinity = spec.affinity.as_ref();
        let node = affinity.and_then(|a| a.node_affinity.as_ref());
        let near = affinity.and_then(|a| a.pod_affinity.as_ref());
        let far = affinity.and_then(|a| a.pod_anti_affinity.as_ref());
        let terms = |list: Option<&Vec<PodAffinityTerm>>| {
            list.into_iter().flatten().map(|t| AffinityTerm::new(&namespace, t)).collect()
        };
        let weighted = |list: Option<&Vec<WeightedPodAffinityTerm>>| {
            let one = |w: &WeightedPodAffinityTerm| Weighted {
                weight: w.weight,
                term: AffinityTerm::new(&namespace, &w.pod_affinity_term),
            };
            list.into_iter().flatten().map(one).collect()
        };
        let preferred = node.and_then(|n| n.preferred_during_scheduling_ignored_during_execution.as_ref());
        let required = node.and_then(|n| n.required_during_scheduling_ignored_during_execution.as_ref());
        Self {
            uid: pod.metadata.uid.as_deref().unwrap_or_default().into(),
            namespace: namespace.as_str().into(),
            priority: priority(&pod),
            ports: host_ports(spec),
            node_labels: spec.node_selector.as_ref().filter(|s| !s.is_empty()).map(Selector::from_set),
            required: required.map(|r| NodeSelector::new(&r.node_selector_terms)),
            preferred: preferred
                .into_iter()
                .flatten()
                .filter(|p| p.weight != 0)
                .map(|p| (p.weight, NodeSelector::new([&p.preference])))
                .collect(),
            affinity: terms(
                near.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref()),
            ),
            anti_affinity: terms(
                far.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref()),
            ),
            preferred_affinity: weighted(
                near.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref()),
            ),
            preferred_anti_affinity: weighted(
                far.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref()),
            ),
            requests,
            ranked,
            pod: pod.clone(),
        }
    }

    pub fn name(&self) -> &str {
        self.pod.metadata.name.as_deref().unwrap_or_default()
    }

    /// `namespace/name`.
    pub fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name())
    }

    pub fn terminating(&self) -> bool {
        self.pod.metadata.deletion_timestamp.is_some()
    }

    pub fn spec(&self) -> Option<&PodSpec> {
        self.pod.spec.as_ref()
    }

    /// Its owner's affinity terms make other pods' cycles look at it.
    pub fn has_affinity(&self) -> bool {
        !(self.affinity.is_empty()
            && self.anti_affinity.is_empty()
            && self.preferred_affinity.is_empty()
            && self.preferred_anti_affinity.is_empty())
    }

    /// Node on which an earlier attempt makes room.
    pub fn nominated(&self) -> Option<&str> {
        self.pod.status.as_ref()?.nominated_node_name.as_deref().filter(|n| !n.is_empty())
    }
}

/// Host ports of containers and sidecars. Upstream: schedutil.GetHostPorts.
fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    let sidecars =
        spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let or = |value: &Option<String>, default: &str| {
        value.clone().filter(|v| !v.is_empty()).unwrap_or_else(|| default.to_string())
    };
    spec.containers
        .iter()
        .chain(sidecars)
        .flat_map(|c| c.ports.iter().flatten())
        .filter_map(|p| {
            let port = p.host_port.filter(|port| *port > 0)?;
            Some(HostPort { ip: or(&p.host_ip, "0.0.0.0"), protocol: or(&p.protocol, "TCP"), port })
        })
        .collect()
}
