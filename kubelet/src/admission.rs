//! Whether this node takes a pod: room, labels, ports. Kernel parameters: [`crate::sysctl`].
//!
//! The scheduler has decided already, but pods may be bound by hand, and the node may have changed meanwhile.
//! Upstream: pkg/kubelet/lifecycle/predicate.go and the scheduler's AdmissionCheck, v1.37.

use std::borrow::Cow;
use std::collections::BTreeMap;

use component::features::Gate;
use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm, Pod, Taint, Toleration};

use crate::container::downward::NodeAllocatable;
use crate::dra::resolve;
use crate::pod::resources::{current_requests, pod_requests};
use crate::pod::view::PodView;
use crate::preemption;

/// Why the node does not take a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Short reason such as `OutOfcpu`.
    pub reason: String,
    /// The details.
    pub message: String,
}

/// What the decision depends on besides the pods.
pub struct Node<'a> {
    /// The node's name.
    pub name: &'a str,
    /// The node's labels; `None` if they are not known yet.
    pub labels: Option<&'a BTreeMap<String, String>>,
    /// The node's taints.
    pub taints: &'a [Taint],
    /// What the node has for pods.
    pub allocatable: &'a NodeAllocatable,
    /// What it has of resources that plugins or administrators brought; a pod that asks for others of them is let in, as
    /// some are managed outside of the kubelet.
    pub extended: &'a BTreeMap<String, i64>,
    /// Most pods.
    pub max_pods: i64,
    /// True if the runtime keeps to a pod's supplemental groups.
    pub keeps_groups: bool,
}

/// Decides whether the node takes the pod beside `others`.
///
/// # Errors
/// The first reason against it.
pub fn admit(pod: &Pod, others: &[&Pod], node: &Node<'_>) -> Result<(), Rejection> {
    system(pod)?;
    groups(pod, node.keeps_groups)?;
    let room = room(pod, others, node);
    if !pod.is_critical() {
        room.clone()?;
    }
    predicates(pod, others, node)?;
    room
}

/// The pods that end so that a critical pod has room; none if it has, or cannot come for another reason.
///
/// # Errors
/// If there would be no room even then.
pub fn preempted<'a>(pod: &Pod, others: &[&'a Pod], node: &Node<'_>) -> Result<Vec<&'a Pod>, Rejection> {
    let missing = shortages(pod, others, node);
    let otherwise = || system(pod).and(groups(pod, node.keeps_groups)).and(predicates(pod, others, node));
    if missing.is_empty() || !pod.is_critical() || otherwise().is_err() {
        return Ok(Vec::new());
    }
    let missing: Vec<(String, i64)> = (missing.into_iter())
        .map(|s| (s.name, s.asked.saturating_sub(s.capacity.saturating_sub(s.used))))
        .collect();
    preemption::choose(pod, others, &missing).map_err(|error| Rejection {
        reason: "UnexpectedAdmissionError".to_owned(),
        message: format!(
            "Unexpected error while attempting to recover from admission failure: preemption: error finding a set of pods to preempt: {error}"
        ),
    })
}

/// More of a resource is asked for than is left.
struct Shortage {
    name: String,
    asked: i64,
    used: i64,
    capacity: i64,
}

/// What the scheduler's plugins of these names would say.
fn predicates(pod: &Pod, others: &[&Pod], node: &Node<'_>) -> Result<(), Rejection> {
    let failed = |name: &str, why: &str| {
        Err(Rejection { reason: name.into(), message: format!("Predicate {name} failed: {why}") })
    };
    if node.labels.is_some_and(|labels| !pod.is_static() && !selected(pod, node.name, labels)) {
        return failed("NodeAffinity", "node(s) didn't match Pod's node affinity/selector");
    }
    if pod.spec().node_name.as_deref().is_some_and(|name| !name.is_empty() && name != node.name) {
        return failed("NodeName", "node(s) didn't match the requested node name");
    }
    if others.iter().any(|other| ports_clash(pod, other)) {
        return failed("NodePorts", "node(s) didn't have free ports for the requested pod ports");
    }
    let tolerations = pod.spec().tolerations.as_deref().unwrap_or_default();
    let unbearable = |taint: &Taint| taint.effect == "NoExecute" && !tolerates(tolerations, taint);
    if !pod.is_static() && node.taints.iter().any(unbearable) {
        return failed("TaintToleration", "node(s) had taints that the pod didn't tolerate");
    }
    Ok(())
}

/// Whether one of the tolerations covers the taint. Upstream: ToleratesTaint in api/core/v1/toleration.go.
pub fn tolerates(tolerations: &[Toleration], taint: &Taint) -> bool {
    fn given(value: Option<&String>) -> Option<&str> {
        value.map(String::as_str).filter(|value| !value.is_empty())
    }
    let number = |text: Option<&str>| {
        let digits = text.unwrap_or_default().strip_prefix('-').or(text).unwrap_or_default();
        let plain = digits.bytes().all(|b| b.is_ascii_digit()) && (!digits.starts_with('0') || digits == "0");
        text.and_then(|text| text.parse::<i64>().ok()).filter(|_| plain)
    };
    let compares = || component::features::enabled(Gate::TaintTolerationComparisonOperators);
    let covers = |t: &Toleration| {
        let (value, wanted) = (given(taint.value.as_ref()), given(t.value.as_ref()));
        given(t.effect.as_ref()).is_none_or(|effect| effect == taint.effect)
            && given(t.key.as_ref()).is_none_or(|key| key == taint.key)
            && match t.operator.as_deref().unwrap_or_default() {
                "" | "Equal" => wanted == value,
                "Exists" => true,
                "Lt" if compares() => number(value).zip(number(wanted)).is_some_and(|(is, than)| is < than),
                "Gt" if compares() => number(value).zip(number(wanted)).is_some_and(|(is, than)| is > than),
                _ => false,
            }
    };
    tolerations.iter().any(covers)
}

/// Whether the pod is for Linux. What counts besides the field is a label of the pod itself, as upstream.
fn system(pod: &Pod) -> Result<(), Rejection> {
    let refused = |reason: &str, message: &str| {
        Err(Rejection { reason: reason.to_owned(), message: format!("Failed to admit pod as the {message}") })
    };
    let label = pod.metadata.labels.as_ref().and_then(|labels| labels.get("kubernetes.io/os"));
    if label.is_some_and(|label| label != "linux") {
        return refused(
            "PodOSSelectorNodeLabelDoesNotMatch",
            "`kubernetes.io/os` label doesn't match node label",
        );
    }
    match pod.spec().os.as_ref().is_some_and(|os| os.name != "linux") {
        true => refused("PodOSNotSupported", "OS field doesn't match node OS"),
        false => Ok(()),
    }
}

/// Whether the pod's processes can be kept to its own groups, if it wants that.
fn groups(pod: &Pod, keeps: bool) -> Result<(), Rejection> {
    let context = pod.spec().security_context.as_ref();
    let policy = context.and_then(|context| context.supplemental_groups_policy.as_deref());
    match policy == Some("Strict") && !keeps {
        true => Err(Rejection {
            reason: "SupplementalGroupsPolicyNotSupported".to_owned(),
            message: "SupplementalGroupsPolicy=Strict is not supported in this node".to_owned(),
        }),
        false => Ok(()),
    }
}

/// The pod without what its claim of devices gives it in place of the node's resources. Upstream:
/// removeMissingExtendedResources.
fn unclaimed(pod: &Pod) -> Cow<'_, Pod> {
    if pod.api_status().extended_resource_claim_status.is_none() {
        return Cow::Borrowed(pod);
    }
    let mut out = pod.clone();
    let spec = out.spec.get_or_insert_default();
    for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        let requests = container.resources.as_mut().and_then(|r| r.requests.as_mut());
        if let Some(requests) = requests {
            requests.retain(|name, _| !resolve::is_claimed(pod, &container.name, name));
        }
    }
    Cow::Owned(out)
}

fn room(pod: &Pod, others: &[&Pod], node: &Node<'_>) -> Result<(), Rejection> {
    let Some(Shortage { name, asked, used, capacity }) = shortages(pod, others, node).into_iter().next()
    else {
        return Ok(());
    };
    Err(Rejection {
        reason: format!("OutOf{name}"),
        message: format!(
            "Node didn't have enough resource: {name}, requested: {asked}, used: {used}, capacity: {capacity}"
        ),
    })
}

fn shortages(pod: &Pod, others: &[&Pod], node: &Node<'_>) -> Vec<Shortage> {
    let short = |name: &str, asked: i64, used: i64, capacity: i64| Shortage {
        name: name.to_owned(),
        asked,
        used,
        capacity,
    };
    let mut out = Vec::new();
    let count = i64::try_from(others.len()).unwrap_or(i64::MAX);
    if count.saturating_add(1) > node.max_pods {
        out.push(short("pods", 1, count, node.max_pods));
    }
    let asked = pod_requests(&unclaimed(pod));
    let taken: Vec<_> = others.iter().map(|other| current_requests(other)).collect();
    let capacity = node.allocatable;
    let checks = [
        ("cpu", capacity.cpu_milli, true),
        ("memory", capacity.memory, false),
        ("ephemeral-storage", capacity.ephemeral_storage, false),
    ];
    for (name, capacity, milli) in checks {
        let amount = |a: &crate::pod::resources::Amounts| if milli { a.milli(name) } else { a.whole(name) };
        let own = amount(&asked);
        let used = taken.iter().fold(0i64, |sum, a| sum.saturating_add(amount(a)));
        if own > 0 && own > capacity.saturating_sub(used) {
            out.push(short(name, own, used, capacity));
        }
    }
    for (name, capacity) in node.extended.iter().filter(|(name, _)| asked.has(name)) {
        let used = taken.iter().fold(0i64, |sum, a| sum.saturating_add(a.whole(name)));
        if asked.whole(name) > capacity.saturating_sub(used) {
            out.push(short(name, asked.whole(name), used, *capacity));
        }
    }
    out
}

/// True if the node has the labels that the pod asks for.
fn selected(pod: &Pod, name: &str, labels: &BTreeMap<String, String>) -> bool {
    let spec = pod.spec();
    let simple = spec.node_selector.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    let required = spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
    let terms = required.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    simple
        && terms.is_none_or(|selector| {
            selector.node_selector_terms.iter().any(|term| matches(term, name, labels))
        })
}

pub(crate) fn matches(term: &NodeSelectorTerm, name: &str, labels: &BTreeMap<String, String>) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    let named = BTreeMap::from([("metadata.name".to_owned(), name.to_owned())]);
    expressions.iter().all(|e| holds(e, labels)) && fields.iter().all(|f| holds(f, &named))
}

fn holds(requirement: &NodeSelectorRequirement, labels: &BTreeMap<String, String>) -> bool {
    let value = labels.get(&requirement.key);
    let values = requirement.values.as_deref().unwrap_or_default();
    let compare = |f: fn(i64, i64) -> bool| {
        let (have, want) = (value.and_then(|v| v.parse().ok()), values.first().and_then(|v| v.parse().ok()));
        matches!((have, want), (Some(have), Some(want)) if f(have, want))
    };
    match requirement.operator.as_str() {
        "In" => value.is_some_and(|v| values.contains(v)),
        "NotIn" => value.is_none_or(|v| !values.contains(v)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compare(|have, want| have > want),
        "Lt" => compare(|have, want| have < want),
        _ => false,
    }
}

/// True if both want the same port of the node at an address that they share.
fn ports_clash(a: &Pod, b: &Pod) -> bool {
    let ports = |pod: &Pod| -> Vec<(String, String, i32)> {
        let containers = pod.spec().containers.iter();
        let wanted =
            containers.flat_map(|c| c.ports.iter().flatten()).filter(|p| p.host_port.unwrap_or(0) > 0);
        let any =
            |ip: Option<&String>| ip.filter(|i| !i.is_empty()).map_or("0.0.0.0", String::as_str).to_owned();
        wanted
            .map(|p| {
                (
                    p.protocol.clone().unwrap_or_else(|| "TCP".into()),
                    any(p.host_ip.as_ref()),
                    p.host_port.unwrap_or(0),
                )
            })
            .collect()
    };
    let theirs = ports(b);
    ports(a).iter().any(|(protocol, ip, port)| {
        theirs
            .iter()
            .any(|(p, i, n)| p == protocol && n == port && (i == ip || i == "0.0.0.0" || ip == "0.0.0.0"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
    }

    fn check(spec: serde_json::Value, others: &[&Pod], expected: Result<(), (&str, &str)>) {
        check_pod(&pod(spec), others, expected);
    }

    fn check_pod(pod: &Pod, others: &[&Pod], expected: Result<(), (&str, &str)>) {
        let labels =
            BTreeMap::from([("disk".to_owned(), "ssd".to_owned()), ("n".to_owned(), "5".to_owned())]);
        let node = Node {
            name: "node",
            labels: Some(&labels),
            taints: &[],
            allocatable: &NodeAllocatable { cpu_milli: 2000, memory: 1 << 30, ephemeral_storage: 1 << 30 },
            extended: &BTreeMap::from([("example.com/a".to_owned(), 2)]),
            max_pods: 2,
            keeps_groups: false,
        };
        let got = admit(pod, others, &node).map_err(|r| (r.reason, r.message));
        assert_eq!(got.as_ref().map_err(|(r, m)| (r.as_str(), m.as_str())).copied(), expected);
    }

    #[test]
    fn taints_that_end_pods() {
        let taint = |key: &str, value: &str, effect: &str| Taint {
            key: key.to_owned(),
            value: Some(value.to_owned()),
            effect: effect.to_owned(),
            ..Taint::default()
        };
        let covers = |toleration: serde_json::Value, taint: &Taint| {
            tolerates(&[serde_json::from_value(toleration).unwrap()], taint)
        };
        let gone = taint("a", "1", "NoExecute");
        for (toleration, expected) in [
            (json!({"operator": "Exists"}), true),
            (json!({"key": "a", "operator": "Exists", "effect": "NoExecute"}), true),
            (json!({"key": "a", "value": "1"}), true),
            (json!({"key": "a", "value": "2"}), false),
            (json!({"key": "a"}), false),
            (json!({"key": "b", "operator": "Exists"}), false),
            (json!({"key": "a", "operator": "Exists", "effect": "NoSchedule"}), false),
            (json!({"key": "a", "operator": "Other", "value": "1"}), false),
        ] {
            assert_eq!(covers(toleration.clone(), &gone), expected, "{toleration}");
        }
        assert!(covers(json!({"key": "a"}), &taint("a", "", "NoExecute")));
    }

    #[test]
    fn decides() {
        let big = pod(
            json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "1500m"}}, "ports": [{"containerPort": 1, "hostPort": 80}]}]}),
        );
        check(json!({"containers": []}), &[&big], Ok(()));
        check(
            json!({"containers": []}),
            &[&big, &big],
            Err(("OutOfpods", "Node didn't have enough resource: pods, requested: 1, used: 2, capacity: 2")),
        );
        check(
            json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]}),
            &[&big],
            Err((
                "OutOfcpu",
                "Node didn't have enough resource: cpu, requested: 1000, used: 1500, capacity: 2000",
            )),
        );
        let devices = |count: &str| {
            let limits = json!({"example.com/a": count, "example.com/unknown": "1"});
            json!({"containers": [{"name": "c", "resources": {"requests": limits, "limits": limits}}]})
        };
        let one = pod(devices("1"));
        check(devices("1"), &[&one], Ok(()));
        let message = "Node didn't have enough resource: example.com/a, requested: 2, used: 1, capacity: 2";
        check(devices("2"), &[&one], Err(("OutOfexample.com/a", message)));
        let mapping = |name: &str| json!({"containerName": "c", "resourceName": name, "requestName": "r"});
        let claimed = |name: &str| -> Pod {
            let status = json!({"resourceClaimName": "x", "requestMappings": [mapping(name)]});
            let mut pod = pod(devices("2"));
            pod.status = serde_json::from_value(json!({"extendedResourceClaimStatus": status})).unwrap();
            pod
        };
        check_pod(&claimed("example.com/a"), &[&one], Ok(()));
        check_pod(&claimed("example.com/b"), &[&one], Err(("OutOfexample.com/a", message)));
        check(
            json!({"containers": [{"name": "c", "ports": [{"containerPort": 2, "hostPort": 80}]}]}),
            &[&big],
            Err((
                "NodePorts",
                "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports",
            )),
        );
        check(
            json!({"containers": [], "nodeSelector": {"disk": "hdd"}}),
            &[],
            Err((
                "NodeAffinity",
                "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector",
            )),
        );
        check(json!({"containers": [], "os": {"name": "linux"}}), &[], Ok(()));
        let message = "Failed to admit pod as the OS field doesn't match node OS";
        let windows = json!({"containers": [], "os": {"name": "windows"}});
        check(windows, &[], Err(("PodOSNotSupported", message)));
        let groups =
            |policy: &str| json!({"containers": [], "securityContext": {"supplementalGroupsPolicy": policy}});
        check(groups("Merge"), &[], Ok(()));
        let message = "SupplementalGroupsPolicy=Strict is not supported in this node";
        check(groups("Strict"), &[], Err(("SupplementalGroupsPolicyNotSupported", message)));
        assert_eq!(super::groups(&pod(groups("Strict")), true), Ok(()));
        let affinity = |key: &str, operator: &str, value: &str| {
            json!({"containers": [], "affinity": {"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": key, "operator": operator, "values": [value]}]}]}}}})
        };
        check(affinity("n", "Gt", "4"), &[], Ok(()));
        check(
            affinity("n", "Lt", "4"),
            &[],
            Err((
                "NodeAffinity",
                "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector",
            )),
        );
    }
}
