//! Which nodes a daemon set's pods belong on, and what such a pod looks like. Pure.
//! Upstream: pkg/controller/daemon/util/daemonset_util.go, nodeShouldRunDaemonPod.

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{
    Affinity, Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodSpec, PodTemplateSpec,
    Toleration,
};

use crate::controllers::shared::node_fit;
use crate::kept::Pod;

/// Label by which a pod names its revision.
pub const HASH_LABEL: &str = "controller-revision-hash";
/// Older form of the same: a number.
const GENERATION_LABEL: &str = "pod-template-generation";
const GENERATION_ANNOTATION: &str = "deprecated.daemonset.template.generation";
const NODE_NAME: &str = "metadata.name";

/// Taints that never keep daemons away: (key, effect).
const TOLERATED: [(&str, &str); 6] = [
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];

/// What a node means to a daemon set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// A pod is to be there.
    Run,
    /// No new pod, but one that is there may stay: a taint keeps only newcomers away.
    Keep,
    /// No pod is to be there.
    Never,
}

/// Judges nodes for one daemon set.
pub struct Placement<'a> {
    spec: Option<&'a PodSpec>,
    tolerations: Vec<Toleration>,
}

impl<'a> Placement<'a> {
    pub fn new(set: &'a DaemonSet) -> Self {
        let spec = set.spec.template.spec.as_ref();
        let mut tolerations = spec.and_then(|s| s.tolerations.clone()).unwrap_or_default();
        add_tolerations(&mut tolerations, spec.is_some_and(|s| s.host_network == Some(true)));
        Self { spec, tolerations }
    }

    pub fn fit(&self, node: &Node) -> Fit {
        let named = self.spec.and_then(|s| s.node_name.as_deref()).unwrap_or_default();
        if !named.is_empty() && Some(named) != node.metadata.name.as_deref() {
            return Fit::Never;
        }
        let selector = self.spec.and_then(|s| s.node_selector.as_ref());
        if !node_fit::selects(selector, self.spec.and_then(|s| s.affinity.as_ref()), node) {
            return Fit::Never;
        }
        let taints = node.spec.as_ref().and_then(|s| s.taints.as_deref()).unwrap_or_default();
        if node_fit::tolerates_all(&self.tolerations, taints, &["NoExecute", "NoSchedule"]) {
            Fit::Run
        } else if node_fit::tolerates_all(&self.tolerations, taints, &["NoExecute"]) {
            Fit::Keep
        } else {
            Fit::Never
        }
    }
}

fn add_tolerations(tolerations: &mut Vec<Toleration>, host_network: bool) {
    let network = ("node.kubernetes.io/network-unavailable", "NoSchedule");
    for (key, effect) in TOLERATED.into_iter().chain(host_network.then_some(network)) {
        let added = Toleration {
            key: Some(key.to_string()),
            operator: Some("Exists".to_string()),
            effect: Some(effect.to_string()),
            ..Toleration::default()
        };
        // Upstream: MatchToleration compares all but the seconds; ours has none.
        let is_same = |t: &Toleration| {
            t.key == added.key
                && t.effect == added.effect
                && t.operator == added.operator
                && t.value.as_deref().unwrap_or_default().is_empty()
        };
        let mut found = false;
        for toleration in tolerations.iter_mut().filter(|t| is_same(t)) {
            *toleration = added.clone();
            found = true;
        }
        if !found {
            tolerations.push(added);
        }
    }
}

/// The template generation that an old client left; malformed ones count as none.
pub fn generation(set: &DaemonSet) -> Option<i64> {
    set.metadata.annotations.as_ref()?.get(GENERATION_ANNOTATION)?.parse().ok()
}

/// The template of pods of a revision. Upstream: CreatePodTemplate.
pub fn template(set: &DaemonSet, hash: &str) -> PodTemplateSpec {
    let mut template = set.spec.template.clone();
    let spec = template.spec.get_or_insert_default();
    let host_network = spec.host_network == Some(true);
    add_tolerations(spec.tolerations.get_or_insert_default(), host_network);
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    if let Some(generation) = generation(set) {
        labels.insert(GENERATION_LABEL.to_string(), generation.to_string());
    }
    if !hash.is_empty() {
        labels.insert(HASH_LABEL.to_string(), hash.to_string());
    }
    template
}

/// Binds a template to a node: the scheduler can place such a pod nowhere else.
/// Upstream: ReplaceDaemonSetPodNodeNameNodeAffinity.
pub fn pin(template: &mut PodTemplateSpec, node: &str) {
    let affinity: &mut Affinity = template.spec.get_or_insert_default().affinity.get_or_insert_default();
    let required = &mut affinity
        .node_affinity
        .get_or_insert_default()
        .required_during_scheduling_ignored_during_execution;
    let only = NodeSelectorRequirement {
        key: NODE_NAME.to_string(),
        operator: "In".to_string(),
        values: Some(vec![node.to_string()]),
    };
    let term = NodeSelectorTerm { match_fields: Some(vec![only]), match_expressions: None };
    *required = Some(NodeSelector { node_selector_terms: vec![term] });
}

/// The node that a pod is on or is meant for. Upstream: GetTargetNodeName.
pub fn target(pod: &Pod) -> Option<&str> {
    let spec = pod.spec.as_ref()?;
    if let Some(node) = spec.node_name.as_deref().filter(|n| !n.is_empty()) {
        return Some(node);
    }
    let affinity = spec.affinity.as_ref()?.node_affinity.as_ref()?;
    let required = affinity.required_during_scheduling_ignored_during_execution.as_ref()?;
    let mut fields = required.node_selector_terms.iter().flat_map(|t| t.match_fields.iter().flatten());
    let field = fields.find(|f| f.key == NODE_NAME && f.operator == "In")?;
    match field.values.as_deref()? {
        [only] => Some(only),
        _ => None,
    }
}

/// The pod is of the current revision. Upstream: IsPodUpdated.
pub fn is_updated(pod: &Pod, hash: &str, generation: Option<i64>) -> bool {
    let label = |name: &str| pod.metadata.labels.as_ref().and_then(|l| l.get(name));
    (!hash.is_empty() && label(HASH_LABEL) == Some(hash))
        || generation.is_some_and(|g| label(GENERATION_LABEL) == Some(g.to_string().as_str()))
}
