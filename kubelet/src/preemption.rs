//! Which pods give way to a critical one that the node has no room for.
//!
//! Pure. As few guaranteed pods as possible, then as few burstable ones, then others; among those of a class the ones that
//! come nearest to what is missing. Upstream: pkg/kubelet/preemption/preemption.go, v1.37.

use k8s_openapi::api::core::v1::Pod;

use crate::pod::qos::{QosClass, qos_class};
use crate::pod::resources::pod_requests;
use crate::pod::view::PodView;

/// Why a pod that gives way ends.
pub const REASON: &str = "Preempting";
/// The same in words, for its status and its event.
pub const MESSAGE: &str = "Preempted in order to admit critical pod";
/// The same for controllers, which are told that it did not fail by itself.
pub const CONDITION: &str = "Pod was preempted by Kubelet to accommodate a critical pod.";

/// Missing amounts by resource, in the units of [`amount`]; never none.
type Missing = Vec<(String, i64)>;

/// What a pod asks for of a resource.
fn amount(pod: &Pod, resource: &str) -> i64 {
    match resource {
        "pods" => 1,
        "cpu" => pod_requests(pod).milli(resource),
        _ => pod_requests(pod).whole(resource),
    }
}

fn gives_way(pod: &Pod, to: &Pod) -> bool {
    (to.is_critical() && !pod.is_critical())
        || to.spec().priority.zip(pod.spec().priority).is_some_and(|(new, old)| new > old)
}

/// What is missing once these pods have ended.
fn without(missing: &[(String, i64)], pods: &[&Pod]) -> Missing {
    let left = |(resource, size): &(String, i64)| {
        let left = pods.iter().fold(*size, |left, pod| left.saturating_sub(amount(pod, resource).max(0)));
        (left > 0).then(|| (resource.clone(), left))
    };
    missing.iter().filter_map(left).collect()
}

/// How far a pod is from what is missing: of each resource the part that it does not make up for counts, squared.
#[expect(clippy::cast_precision_loss, reason = "upstream's arithmetic")]
fn distance(pod: &Pod, missing: &[(String, i64)]) -> f64 {
    let part = |(resource, size): &(String, i64)| {
        let left = size.saturating_sub(amount(pod, resource));
        if left > 0 { (left as f64 / *size as f64).powi(2) } else { 0.0 }
    };
    missing.iter().map(part).sum()
}

/// True if the first asks for less memory, or for as much and not more processor time.
fn is_smaller(a: &Pod, b: &Pod) -> bool {
    let of = |pod: &Pod| (amount(pod, "memory"), amount(pod, "cpu"));
    of(a) <= of(b)
}

fn nowhere(missing: &[(String, i64)]) -> String {
    let all: String =
        missing.iter().map(|(resource, size)| format!("(res: {resource}, q: {size}), ")).collect();
    format!("no set of running pods found to reclaim resources: [{all}]")
}

/// The nearest first, until nothing is missing.
fn nearest<'a>(pods: &[&'a Pod], mut missing: Missing) -> Result<Vec<&'a Pod>, String> {
    let (mut left, mut out) = (pods.to_vec(), Vec::new());
    while !missing.is_empty() {
        let mut best: Option<(usize, f64)> = None;
        for (at, pod) in left.iter().enumerate() {
            let far = distance(pod, &missing);
            let better = best.is_none_or(|(known, nearest)| {
                let tie = far.total_cmp(&nearest).is_eq();
                far < nearest || (tie && left.get(known).is_some_and(|other| is_smaller(pod, other)))
            });
            if better {
                best = Some((at, far));
            }
        }
        let Some((at, _)) = best else { return Err(nowhere(&missing)) };
        let chosen = left.swap_remove(at);
        missing = without(&missing, &[chosen]);
        out.push(chosen);
    }
    Ok(out)
}

/// The pods of the node that end so that a critical one has room.
///
/// # Errors
/// If all of them together are not enough.
pub fn choose<'a>(pod: &Pod, others: &[&'a Pod], missing: &[(String, i64)]) -> Result<Vec<&'a Pod>, String> {
    let of = |class: QosClass| -> Vec<&'a Pod> {
        let some = others.iter().filter(|other| gives_way(other, pod) && qos_class(other) == class);
        some.copied().collect()
    };
    let (idle, burstable, guaranteed) =
        (of(QosClass::BestEffort), of(QosClass::Burstable), of(QosClass::Guaranteed));
    let both = |a: &[&'a Pod], b: &[&'a Pod]| [a, b].concat();
    let rest = without(missing, &both(&both(&idle, &burstable), &guaranteed));
    if !rest.is_empty() {
        return Err(nowhere(&rest));
    }
    let guaranteed = nearest(&guaranteed, without(missing, &both(&idle, &burstable)))?;
    let burstable = nearest(&burstable, without(missing, &both(&idle, &guaranteed)))?;
    let idle = nearest(&idle, without(missing, &both(&burstable, &guaranteed)))?;
    Ok(both(&both(&idle, &burstable), &guaranteed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(name: &str, requests: Value, guaranteed: bool) -> Pod {
        let limits = if guaranteed { requests.clone() } else { json!({}) };
        serde_json::from_value(json!({"metadata": {"name": name}, "spec": {"containers": [
            {"name": "c", "resources": {"requests": requests, "limits": limits}}]}}))
        .unwrap()
    }

    fn critical() -> Pod {
        serde_json::from_value(json!({"spec": {"priority": 2_000_000_000, "containers": []}})).unwrap()
    }

    /// From upstream's preemption_test.go: the same pods, the same choices.
    #[test]
    fn who_gives_way() {
        let small = |memory: &str, cpu: &str| json!({"memory": memory, "cpu": cpu});
        let pods = [
            pod("best-effort", json!({}), false),
            pod("burstable", small("100Mi", "100m"), false),
            pod("high-request-burstable", small("300Mi", "300m"), false),
            pod("guaranteed", small("100Mi", "100m"), true),
            pod("high-request-guaranteed", small("300Mi", "300m"), true),
            critical(),
        ];
        let all: Vec<&Pod> = pods.iter().collect();
        let check = |missing: &[(&str, i64)], expected: Result<&str, &str>| {
            let missing: Missing = missing.iter().map(|(name, size)| ((*name).to_owned(), *size)).collect();
            let got = choose(&critical(), &all, &missing);
            let names = got.map(|pods| pods.iter().map(|pod| pod.name()).collect::<Vec<_>>().join(" "));
            assert_eq!(names.as_deref().map_err(String::as_str), expected, "{missing:?}");
        };
        let mega = 1 << 20;
        check(&[("pods", 1)], Ok("best-effort"));
        check(&[("cpu", 100)], Ok("burstable"));
        check(&[("memory", 200 * mega)], Ok("high-request-burstable"));
        check(&[("cpu", 400), ("memory", 400 * mega)], Ok("high-request-burstable burstable"));
        check(&[("cpu", 500)], Ok("high-request-burstable burstable guaranteed"));
        check(&[("cpu", 100), ("pods", 2)], Ok("best-effort burstable"));
        let none = "no set of running pods found to reclaim resources: [(res: cpu, q: 200), ]";
        check(&[("cpu", 1000)], Err(none));
        let urgent: Pod = serde_json::from_value(json!({"spec": {"priority": 5, "containers": []}})).unwrap();
        assert!(!gives_way(&critical(), &urgent) && gives_way(&urgent, &critical()));
        assert!(!gives_way(&pods[1], &urgent));
    }
}
