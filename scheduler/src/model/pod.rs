//! A pod, compiled: what a cycle asks about it, parsed once. What pods of one template say alike is kept once
//! ([`Wants`]).

use std::ops::Deref;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    PodAffinityTerm, PodCondition, PodResourceClaim, PodResourceClaimStatus, Toleration,
    TopologySpreadConstraint, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use machinery::labels::Selector;

use super::intern::{Interner, LabelSet};
use super::matcher::{Matcher, Part};
use super::resources::{self, Level, Resources, Sums};
use super::selector::{NodeSelector, label_selector};
use super::signature;
use super::wire::{WirePod, WireSpec, WireVolume};
use crate::devices::extended::ContainerAsks;

pub type Uid = Arc<str>;

/// The condition of a pod that is to grow or shrink.
pub(super) const RESIZE_PENDING: &str = "PodResizePending";

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
    pub topology_key: Arc<str>,
    pub matcher: Arc<Matcher>,
}

fn part(owner: &str, term: &PodAffinityTerm) -> Part {
    let mut namespaces = term.namespaces.clone().unwrap_or_default();
    if namespaces.is_empty() && term.namespace_selector.is_none() {
        namespaces.push(owner.to_string());
    }
    Part {
        namespaces,
        selector: label_selector(term.label_selector.as_ref()),
        namespace_selector: label_selector(term.namespace_selector.as_ref()),
    }
}

impl AffinityTerm {
    fn new(interner: &Interner, owner: &str, term: &PodAffinityTerm) -> Self {
        let matcher = interner.matcher(vec![part(owner, term)], false);
        Self { topology_key: interner.name(&term.topology_key), matcher }
    }
}

/// A preferred term.
#[derive(Clone, Debug)]
pub struct Weighted {
    pub weight: i32,
    pub term: AffinityTerm,
}

/// A claim a pod uses.
#[derive(Clone, Debug)]
pub struct ClaimUse {
    /// The claim's name or, for a generic ephemeral volume, the volume's.
    pub name: String,
    pub ephemeral: bool,
}

/// What a pod asks for.
#[derive(Clone, Debug, Default)]
pub struct Wants {
    /// Equal wants have the same number.
    pub id: u64,
    /// The same of all that verdicts and scores depend on that read nothing but the row: pods may differ in their claims,
    /// or in which pods they want to be near.
    pub of_row: Arc<u64>,
    pub scheduler_name: String,
    pub priority: i32,
    pub never_preempts: bool,
    /// What it asks for, exactly.
    pub requests: Resources,
    /// The same with defaults for containers that name nothing: used to rank nodes.
    pub ranked: Resources,
    /// What it counts as when nodes are ranked for itself.
    pub scored: Resources,
    pub ports: Vec<HostPort>,
    pub node_labels: Option<Selector>,
    pub required: Option<NodeSelector>,
    pub preferred: Vec<(i32, NodeSelector)>,
    /// Pods that all required terms mean at once.
    pub affinity_all: Option<Arc<Matcher>>,
    pub affinity: Vec<AffinityTerm>,
    pub anti_affinity: Vec<AffinityTerm>,
    pub preferred_affinity: Vec<Weighted>,
    pub preferred_anti_affinity: Vec<Weighted>,
    pub tolerations: Vec<Toleration>,
    pub spread: Vec<TopologySpreadConstraint>,
    /// With a tag, in the order of the containers.
    pub images: Vec<String>,
    /// How many containers and image volumes there are.
    pub image_count: i64,
    pub claims: Vec<ClaimUse>,
    /// Volumes of kinds that only one pod may use at a time.
    pub disks: Vec<WireVolume>,
    pub gates: Vec<String>,
    /// Features a node must declare.
    pub features: Vec<&'static str>,
    pub resource_claims: Vec<PodResourceClaim>,
    /// `namespace/name` of the group it belongs to.
    pub group: Option<Arc<str>>,
    /// Extended resources by container.
    pub extended: Vec<ContainerAsks>,
    /// Claims by the pod's names for them, with the containers that use them.
    pub claim_users: Vec<(String, String)>,
    /// What it asks for as a whole, where devices could make that too little.
    pub level: Option<Box<Level>>,
}

impl Wants {
    /// Its owner's affinity terms make other pods' cycles look at it.
    pub fn has_affinity(&self) -> bool {
        !(self.affinity.is_empty()
            && self.anti_affinity.is_empty()
            && self.preferred_affinity.is_empty()
            && self.preferred_anti_affinity.is_empty())
    }

    /// With what its devices take of the node, but for what the pod asks for as a whole.
    pub fn with_devices(&self, more: &Resources) -> Self {
        let mut wants = self.clone();
        let mut added = more.clone();
        if let Some(level) = &self.level {
            added.forget(|name| level.requests.contains_key(name));
        }
        wants.requests.add(&added);
        wants.ranked.add(&added);
        wants
    }

    pub(super) fn compile(interner: &Interner, namespace: &str, pod: &WirePod, sums: Sums) -> Self {
        let spec: &WireSpec = &pod.spec;
        let affinity = spec.affinity.as_ref();
        let node = affinity.and_then(|a| a.node_affinity.as_ref());
        let near = affinity.and_then(|a| a.pod_affinity.as_ref());
        let far = affinity.and_then(|a| a.pod_anti_affinity.as_ref());
        let terms = |list: Option<&Vec<PodAffinityTerm>>| {
            list.into_iter().flatten().map(|t| AffinityTerm::new(interner, namespace, t)).collect()
        };
        let weighted = |list: Option<&Vec<WeightedPodAffinityTerm>>| {
            let one = |w: &WeightedPodAffinityTerm| Weighted {
                weight: w.weight,
                term: AffinityTerm::new(interner, namespace, &w.pod_affinity_term),
            };
            list.into_iter().flatten().map(one).collect()
        };
        let preferred = node.and_then(|n| n.preferred_during_scheduling_ignored_during_execution.as_ref());
        let required = node.and_then(|n| n.required_during_scheduling_ignored_during_execution.as_ref());
        let required_near = near.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
        let required_far = far.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
        let images = signature::images(spec);
        Self {
            id: 0,
            of_row: interner.of_row(signature::of_row(spec, &sums)),
            scheduler_name: spec.scheduler_name.clone(),
            priority: spec.priority,
            never_preempts: spec.preemption_policy == "Never",
            requests: sums.requests,
            ranked: sums.ranked,
            scored: sums.scored,
            ports: host_ports(spec),
            node_labels: Some(&spec.node_selector).filter(|s| !s.is_empty()).map(Selector::from_set),
            required: required.map(|r| NodeSelector::new(&r.node_selector_terms)),
            preferred: preferred
                .into_iter()
                .flatten()
                .filter(|p| p.weight != 0)
                .map(|p| (p.weight, NodeSelector::new([&p.preference])))
                .collect(),
            affinity_all: required_near
                .filter(|t| !t.is_empty())
                .map(|t| interner.matcher(t.iter().map(|t| part(namespace, t)).collect(), false)),
            affinity: terms(required_near),
            anti_affinity: terms(required_far),
            preferred_affinity: weighted(
                near.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref()),
            ),
            preferred_anti_affinity: weighted(
                far.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref()),
            ),
            tolerations: spec.tolerations.clone(),
            spread: spec.topology_spread_constraints.clone(),
            image_count: images.1,
            images: images.0,
            claims: signature::claims(spec),
            disks: signature::disks(spec).cloned().collect(),
            gates: spec.scheduling_gates.iter().map(|g| g.name.clone()).collect(),
            features: signature::features(spec),
            resource_claims: spec.resource_claims.clone(),
            group: spec.scheduling_group.as_ref().map(|g| format!("{namespace}/{}", g.pod_group_name).into()),
            extended: signature::extended(spec),
            claim_users: signature::claim_users(spec),
            level: Level::of(pod, interner.levels).map(Box::new),
        }
    }
}

/// A compiled pod. Reads like its [`Wants`], too.
#[derive(Clone, Debug)]
pub struct PodInfo {
    pub uid: Uid,
    pub namespace: Arc<str>,
    pub name: Box<str>,
    pub labels: Arc<LabelSet>,
    pub wants: Arc<Wants>,
    /// The controller that owns it: kind of API, kind, name.
    pub owner: Option<Arc<Owner>>,
    /// `spec.nodeName`.
    pub node: Option<Arc<str>>,
    /// Node on which an earlier attempt makes room.
    pub nominated: Option<Arc<str>>,
    pub terminating: bool,
    pub finished: bool,
    pub started: Option<Timestamp>,
    pub rest: Box<Rest>,
}

/// A controlling owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    pub api_version: String,
    pub kind: String,
    pub name: String,
}

/// What few pods have or only writes to the API server need.
#[derive(Clone, Debug, Default)]
pub struct Rest {
    pub resource_version: String,
    pub generation: Option<i64>,
    /// Conditions that say something else than that all is well.
    pub conditions: Vec<PodCondition>,
    /// Claims made for the pod from templates.
    pub made_claims: Vec<PodResourceClaimStatus>,
}

impl Deref for PodInfo {
    type Target = Wants;
    fn deref(&self) -> &Wants {
        &self.wants
    }
}

impl PodInfo {
    pub fn new(interner: &Interner, pod: &WirePod) -> Self {
        let meta = &pod.metadata;
        let namespace = interner.name(meta.namespace.as_deref().unwrap_or_default());
        let sums = resources::of_pod(pod, interner.levels);
        let level = Level::of(pod, interner.levels);
        let text = signature::of(&namespace, pod, &sums, level.as_ref());
        let some = |name: &str| (!name.is_empty()).then(|| interner.name(name));
        Self {
            uid: meta.uid.as_deref().unwrap_or_default().into(),
            name: meta.name.as_deref().unwrap_or_default().into(),
            labels: interner.labels(meta.labels.as_ref()),
            wants: interner.wants(text, || Wants::compile(interner, &namespace, pod, sums)),
            owner: owner(meta).map(Arc::new),
            node: some(&pod.spec.node_name),
            nominated: some(&pod.status.nominated_node_name),
            terminating: meta.deletion_timestamp.is_some(),
            finished: matches!(pod.status.phase.as_str(), "Succeeded" | "Failed"),
            started: pod.status.start_time.as_ref().map(|t| t.0),
            rest: Box::new(Rest {
                resource_version: meta.resource_version.clone().unwrap_or_default(),
                generation: meta.generation,
                conditions: pod
                    .status
                    .conditions
                    .iter()
                    .filter(|c| telling(&c.type_, &c.status))
                    .cloned()
                    .collect(),
                made_claims: pod.status.resource_claim_statuses.clone(),
            }),
            namespace,
        }
    }

    /// `namespace/name`.
    pub fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// Whether it runs and is to grow, and its node has no room for that yet. Upstream: IsPodResizeDeferred.
    pub fn deferred(&self) -> bool {
        let pending = || self.rest.conditions.iter().find(|c| c.type_ == RESIZE_PENDING);
        self.node.is_some() && pending().is_some_and(|c| c.reason.as_deref() == Some("Deferred"))
    }

    /// Names of the claims the pod uses, and whether they belong to it alone. Generic ephemeral volumes have claims
    /// named after pod and volume.
    pub fn claim_names(&self) -> impl Iterator<Item = (String, bool)> {
        self.claims.iter().map(|c| {
            let name = if c.ephemeral { format!("{}-{}", self.name, c.name) } else { c.name.clone() };
            (name, c.ephemeral)
        })
    }

    /// Whether two states of a pod mean the same to every cycle.
    pub fn same_place(&self, other: &PodInfo) -> bool {
        Arc::ptr_eq(&self.wants, &other.wants)
            && Arc::ptr_eq(&self.labels, &other.labels)
            && self.terminating == other.terminating
    }
}

/// Whether a condition of a kind and status says something else than that all is well.
pub(super) fn telling(kind: &str, status: &str) -> bool {
    matches!(kind, "DisruptionTarget" | RESIZE_PENDING) || kind == "PodScheduled" && status != "True"
}

fn owner(meta: &ObjectMeta) -> Option<Owner> {
    let owner: &OwnerReference =
        meta.owner_references.iter().flatten().find(|o| o.controller == Some(true))?;
    Some(Owner { api_version: owner.api_version.clone(), kind: owner.kind.clone(), name: owner.name.clone() })
}

/// Host ports of containers and sidecars. Upstream: schedutil.GetHostPorts.
fn host_ports(spec: &WireSpec) -> Vec<HostPort> {
    let sidecars = spec.init_containers.iter().filter(|c| c.restart_policy == "Always");
    let or = |value: &str, default: &str| if value.is_empty() { default } else { value }.to_string();
    spec.containers
        .iter()
        .chain(sidecars)
        .flat_map(|c| &c.ports)
        .filter(|p| p.host_port > 0)
        .map(|p| HostPort {
            ip: or(&p.host_ip, "0.0.0.0"),
            protocol: or(&p.protocol, "TCP"),
            port: p.host_port,
        })
        .collect()
}
