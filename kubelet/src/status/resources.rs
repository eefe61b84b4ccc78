//! What resources a pod and its containers have, as the status shows them: what the kernel applies where that is known, else
//! what was promised.
//!
//! Upstream: convertContainerStatusResources and convertToAPIPodLevelResourcesStatus in pkg/kubelet/kubelet_pods.go, v1.37.

use k8s_openapi::api::core::v1::{
    Container, ContainerStatus, Pod, PodStatus as ApiPodStatus, ResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::allocation::resources::{canonical, of_container};
use crate::cgroup::in_force::{InForce, are_shown_as};
use crate::container::limits::{milli_to_shares, quota_to_milli, shares_to_milli};
use crate::node::status::{binary, cpus};
use crate::pod::resources::{Amounts, Quantities, pod_limits, pod_requests};
use crate::pod::view::PodView;
use crate::runtime::model::{self, ContainerState as Runtime};

/// Least CPU limit that the kernel can keep, in thousandths: one millisecond of a hundred.
const LEAST_CPU_LIMIT: i64 = 10;
/// CPU request, in thousandths, of the least weight that the kernel knows.
const LEAST_CPU_REQUEST: i64 = 2;

/// What a container has, as far as that is known: processors in thousandths, memory in bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Actual {
    cpu_limit: Option<i64>,
    cpu_request: Option<i64>,
    memory_limit: Option<i64>,
    memory_request: Option<i64>,
}

/// What the runtime says, and what it was given where the runtime says nothing. Upstream: toKubeContainerStatus.
fn actual(found: &model::ContainerStatus, given: Option<&ResourceRequirements>) -> Actual {
    let some = |amount: i64| (amount > 0).then_some(amount);
    let said = found.limits.as_ref().map(|limits| Actual {
        cpu_limit: some(quota_to_milli(limits.cpu_quota, limits.cpu_period)),
        cpu_request: some(shares_to_milli(limits.cpu_shares)),
        memory_limit: some(limits.memory_limit_in_bytes),
        memory_request: None,
    });
    let said = said.filter(|all| all.cpu_limit.or(all.cpu_request).or(all.memory_limit).is_some());
    let amounts = |given: &ResourceRequirements| {
        (Amounts::of(given.limits.as_ref()), Amounts::of(given.requests.as_ref()))
    };
    let given = given.map(amounts);
    match (said, given) {
        (Some(said), Some((_, requests))) => {
            Actual { memory_request: some(requests.whole("memory")), ..said }
        }
        (Some(said), None) => said,
        (None, Some((limits, requests))) => Actual {
            cpu_limit: Some(limits.milli("cpu")),
            cpu_request: Some(requests.milli("cpu")),
            memory_limit: Some(limits.whole("memory")),
            memory_request: Some(requests.whole("memory")),
        },
        (None, None) => Actual::default(),
    }
}

/// Puts an amount in place of what a list says; of one that is not known what was shown before stays. Amounts that are too
/// small for the kernel are left as the user wrote them.
fn put(list: &mut Quantities, name: &str, is: Option<i64>, least: i64, before: Option<&Quantities>) {
    match (is, before.and_then(|before| before.get(name))) {
        (Some(is), _) => {
            let amounts = Amounts::of(Some(list));
            let (promised, text) = match name {
                "cpu" => (amounts.milli(name), cpus(is)),
                _ => (amounts.whole(name), binary(is)),
            };
            if is > least || promised > least {
                list.insert(name.to_owned(), text);
            }
        }
        (None, Some(before)) => drop(list.insert(name.to_owned(), before.clone())),
        (None, None) => {}
    }
}

/// What a container has.
pub(super) fn of_running(
    container: &Container,
    found: &model::ContainerStatus,
    given: Option<&ResourceRequirements>,
    old: Option<&ContainerStatus>,
) -> ResourceRequirements {
    let mut out = of_container(container).into_owned();
    if found.state != Runtime::Running {
        return out;
    }
    let is = actual(found, given);
    let same = |old: &&ContainerStatus| {
        old.state.as_ref().is_some_and(|state| state.running.is_some())
            && old.container_id.as_deref() == Some(found.id.to_string().as_str())
    };
    let before = old.filter(same).and_then(|old| old.resources.as_ref());
    if let Some(limits) = &mut out.limits {
        let before = before.and_then(|before| before.limits.as_ref());
        put(limits, "cpu", is.cpu_limit, LEAST_CPU_LIMIT, before);
        put(limits, "memory", is.memory_limit, -1, before);
    }
    if let Some(requests) = &mut out.requests {
        let before = before.and_then(|before| before.requests.as_ref());
        put(requests, "cpu", is.cpu_request, LEAST_CPU_REQUEST, before);
        put(requests, "memory", is.memory_request, -1, before);
    }
    out
}

/// Amounts as the API server writes them.
pub(super) fn quantities(amounts: &Amounts) -> Option<Quantities> {
    let quantity = |name: &str| match name {
        "cpu" => cpus(amounts.milli(name)),
        _ => settled(binary(amounts.whole(name))),
    };
    let list: Quantities = amounts.0.keys().map(|name| (name.clone(), quantity(name))).collect();
    (!list.is_empty()).then_some(list)
}

fn settled(quantity: Quantity) -> Quantity {
    canonical(&quantity).unwrap_or(quantity)
}

/// What the pod as a whole has: what its group has once it runs.
pub(super) fn of_pod(pod: &Pod, old: &ApiPodStatus, group: Option<&InForce>) -> ResourceRequirements {
    let mut out = pod.spec().resources.clone().unwrap_or_default();
    if pod.api_status().phase.as_deref() != Some("Running") {
        out.requests = quantities(&pod_requests(pod));
        out.limits = quantities(&pod_limits(pod));
        return out;
    }
    let some = |amount: i64| (amount > 0).then_some(amount);
    let before = old.resources.as_ref().filter(|_| old.phase.as_deref() == Some("Running"));
    let requests = out.requests.get_or_insert_default();
    let promised = Amounts::of(Some(requests)).milli("cpu");
    let rounded = group.is_some_and(|group| are_shown_as(milli_to_shares(promised), group.shares));
    let cpu = group.and_then(|group| some(shares_to_milli(i64::try_from(group.shares).unwrap_or(i64::MAX))));
    if cpu.is_none() || !rounded {
        put(requests, "cpu", cpu, LEAST_CPU_REQUEST, before.and_then(|before| before.requests.as_ref()));
    }
    if !requests.contains_key("memory")
        && let Some(memory) = quantities(&pod_requests(pod)).and_then(|mut all| all.remove("memory"))
    {
        requests.insert("memory".to_owned(), memory);
    }
    let limits = out.limits.get_or_insert_default();
    let before = before.and_then(|before| before.limits.as_ref());
    let cpu = group.and_then(|group| some(quota_to_milli(group.quota, group.period)));
    put(limits, "cpu", cpu, LEAST_CPU_LIMIT, before);
    put(limits, "memory", group.and_then(|group| some(group.memory)), -1, before);
    out.requests = out.requests.filter(|list| !list.is_empty());
    out.limits = out.limits.filter(|list| !list.is_empty());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use cri::v1::LinuxContainerResources;
    use serde_json::{Value, json};

    fn check(spec: Value, limits: Option<LinuxContainerResources>, given: Value, expected: Value) {
        let container: Container = serde_json::from_value(json!({"name": "c", "resources": spec})).unwrap();
        let found = model::ContainerStatus { state: Runtime::Running, limits, ..Default::default() };
        let given: ResourceRequirements = serde_json::from_value(given).unwrap();
        let shown = of_running(&container, &found, Some(&given), None);
        assert_eq!(serde_json::to_value(shown).unwrap(), expected);
    }

    #[test]
    fn of_containers() {
        let limits = |quota, shares, memory| LinuxContainerResources {
            cpu_quota: quota,
            cpu_period: 100_000,
            cpu_shares: shares,
            memory_limit_in_bytes: memory,
            ..Default::default()
        };
        let all = |cpu: &str, memory: &str| json!({"cpu": cpu, "memory": memory});
        let spec = json!({"limits": all("1", "1Gi"), "requests": all("1", "1Gi")});
        let old = json!({"limits": all("500m", "1Gi"), "requests": all("500m", "512Mi")});
        let shown = json!({"limits": all("500m", "1Gi"), "requests": all("500m", "512Mi")});
        check(spec.clone(), Some(limits(50_000, 512, 1 << 30)), old.clone(), shown);
        check(spec, None, old.clone(), old);
        // The kernel's least is more than that; without a limit of its own, there is none to show.
        let tiny = json!({"limits": {"cpu": "5m"}, "requests": {"cpu": "1m"}});
        check(tiny.clone(), Some(limits(1000, 2, 0)), json!({}), tiny);
        check(json!({"requests": {}}), Some(limits(50_000, 2, 0)), json!({}), json!({"requests": {}}));
        let inherits = json!({"limits": {"cpu": "50m"}});
        check(inherits, Some(limits(5000, 2, 4096)), json!({}), json!({"limits": all("50m", "4Ki")}));
    }

    #[test]
    fn of_pods() {
        let check = |level: Value, phase: &str, group: Option<InForce>, expected: Value| {
            let limits = json!({"cpu": "1", "memory": "500M"});
            let containers = json!([{"name": "c", "resources": {"limits": limits, "requests": limits}}]);
            let spec = json!({"containers": containers, "resources": level});
            let pod: Pod = serde_json::from_value(json!({"spec": spec, "status": {"phase": phase}})).unwrap();
            let shown = of_pod(&pod, &ApiPodStatus::default(), group.as_ref());
            assert_eq!(serde_json::to_value(shown).unwrap(), expected);
        };
        let all = json!({"cpu": "1", "memory": "500M"});
        check(Value::Null, "Pending", None, json!({"limits": all, "requests": all}));
        let group = InForce { shares: 998, quota: 200_000, period: 100_000, memory: 1 << 30 };
        let limits = json!({"cpu": "2", "memory": "1Gi"});
        let requests = json!({"cpu": "975m", "memory": "500M"});
        check(Value::Null, "Running", Some(group), json!({"limits": limits, "requests": requests}));
        // What is read back of one processor is a little less.
        let requests = json!({"cpu": "1", "memory": "1Gi"});
        let level = json!({"requests": requests});
        check(level, "Running", Some(group), json!({"limits": limits, "requests": requests}));
        check(Value::Null, "Running", None, json!({"requests": {"memory": "500M"}}));
    }
}
