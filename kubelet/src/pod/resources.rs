//! Sums of resource requests and limits of a pod, as the kubelet enforces and admits them.
//!
//! Amounts are kept in thousandths of the resource's unit. Upstream: k8s.io/component-helpers/resource/helpers.go
//! (PodRequests, PodLimits), v1.37.

use std::collections::BTreeMap;

use component::features::{self, Gate};
use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::view::{PodView, init_containers, is_sidecar};

/// Quantities by resource name, as the API gives them.
pub type Quantities = BTreeMap<String, Quantity>;

/// Amounts by resource name, in thousandths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Amounts(pub BTreeMap<String, i128>);

/// Reads a quantity in thousandths, rounded up; unreadable text counts as zero because the API server validated it.
pub fn milli(quantity: &Quantity) -> i128 {
    parse_milli(&quantity.0).unwrap_or_default()
}

/// True if the text is a quantity.
pub fn is_quantity(quantity: &Quantity) -> bool {
    parse_milli(&quantity.0).is_some()
}

/// Reads a quantity in whole units, rounded up.
pub fn whole(quantity: &Quantity) -> i64 {
    to_whole(milli(quantity))
}

fn to_whole(milli: i128) -> i64 {
    i64::try_from(milli.div_euclid(1000) + i128::from(milli.rem_euclid(1000) > 0)).unwrap_or(i64::MAX)
}

/// A quantity's text in thousandths. Suffixes as in apimachinery's pkg/api/resource: binary, decimal, exponent.
fn parse_milli(text: &str) -> Option<i128> {
    let number_end =
        text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-'))).unwrap_or(text.len());
    let (number, suffix) = text.split_at(number_end);
    let negative = number.starts_with('-');
    let digits = number.trim_start_matches(['+', '-']);
    let (int, frac) = digits.split_once('.').unwrap_or((digits, ""));
    if int.is_empty() && frac.is_empty() {
        return None;
    }
    let (binary, exponent) = match suffix {
        "" => (0u32, 0i32),
        "n" => (0, -9),
        "u" => (0, -6),
        "m" => (0, -3),
        "k" => (0, 3),
        "M" => (0, 6),
        "G" => (0, 9),
        "T" => (0, 12),
        "P" => (0, 15),
        "E" => (0, 18),
        "Ki" => (10, 0),
        "Mi" => (20, 0),
        "Gi" => (30, 0),
        "Ti" => (40, 0),
        "Pi" => (50, 0),
        "Ei" => (60, 0),
        other => (0, other.strip_prefix(['e', 'E'])?.parse().ok()?),
    };
    // Value = (int frac) * 10^(exponent - len(frac)) * 2^binary; more digits than an i128 holds cannot be meant.
    let mantissa: i128 = format!("{int}{frac}").parse().ok()?;
    let scaled = mantissa.checked_mul(1i128.checked_shl(binary)?)?;
    let power = exponent.checked_add(3)?.checked_sub(i32::try_from(frac.len()).ok()?)?;
    let value = if power >= 0 {
        scaled.checked_mul(10i128.checked_pow(power.unsigned_abs())?)?
    } else {
        let divisor = 10i128.checked_pow(power.unsigned_abs())?;
        scaled.div_euclid(divisor) + i128::from(scaled.rem_euclid(divisor) > 0)
    };
    Some(if negative { -value } else { value })
}

impl Amounts {
    /// Reads a list of quantities.
    pub fn of(list: Option<&Quantities>) -> Self {
        Self(list.into_iter().flatten().map(|(name, q)| (name.clone(), milli(q))).collect())
    }

    /// Thousandths of a resource; zero if absent.
    pub fn milli(&self, name: &str) -> i64 {
        i64::try_from(self.0.get(name).copied().unwrap_or_default()).unwrap_or(i64::MAX)
    }

    /// Whole units of a resource, rounded up; zero if absent.
    pub fn whole(&self, name: &str) -> i64 {
        to_whole(self.0.get(name).copied().unwrap_or_default())
    }

    /// True if the resource is named, even with zero.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    fn add(&mut self, other: &Amounts) {
        for (name, amount) in &other.0 {
            *self.0.entry(name.clone()).or_default() += amount;
        }
    }

    fn max(&mut self, other: &Amounts) {
        for (name, amount) in &other.0 {
            let entry = self.0.entry(name.clone()).or_insert(*amount);
            *entry = (*entry).max(*amount);
        }
    }
}

fn side(resources: Option<&ResourceRequirements>, limits: bool) -> Amounts {
    let resources = resources.and_then(|r| if limits { r.limits.as_ref() } else { r.requests.as_ref() });
    Amounts::of(resources)
}

/// A container's requests.
pub fn container_requests(container: &Container) -> Amounts {
    side(container.resources.as_ref(), false)
}

/// A container's limits.
pub fn container_limits(container: &Container) -> Amounts {
    side(container.resources.as_ref(), true)
}

/// Resources that may be set for the pod as a whole.
pub fn is_pod_level_resource(name: &str) -> bool {
    name == "cpu" || name == "memory" || name.starts_with("hugepages-")
}

/// True if the pod has requests or limits of its own.
pub fn has_pod_level(pod: &Pod) -> bool {
    let Some(resources) = &pod.spec().resources else { return false };
    let names = resources.requests.iter().chain(&resources.limits).flat_map(BTreeMap::keys);
    names.into_iter().any(|name| is_pod_level_resource(name))
}

/// What the pod asks for: the larger of its containers' sum and its greediest init step, plus overhead.
pub fn pod_requests(pod: &Pod) -> Amounts {
    sum(pod, false, true)
}

/// What the pod may use at most.
pub fn pod_limits(pod: &Pod) -> Amounts {
    sum(pod, true, true)
}

/// As [`pod_requests`] or [`pod_limits`], without the overhead of the runtime class.
pub fn without_overhead(pod: &Pod, limits: bool) -> Amounts {
    sum(pod, limits, false)
}

/// The larger of what the containers that run together and the greediest init step have.
fn of_containers(pod: &Pod, of_one: impl Fn(&Container) -> Amounts) -> Amounts {
    let spec = pod.spec();
    let mut total = Amounts::default();
    for container in &spec.containers {
        total.add(&of_one(container));
    }
    // Sidecars run beside everything that comes after them; other init containers run one at a time.
    let mut sidecars = Amounts::default();
    let mut greediest = Amounts::default();
    for container in init_containers(spec) {
        let own = of_one(container);
        let mut step = own.clone();
        if is_sidecar(container) {
            total.add(&own);
            sidecars.add(&own);
            step = sidecars.clone();
        } else {
            step.add(&sidecars);
        }
        greediest.max(&step);
    }
    total.max(&greediest);
    total
}

/// What the pod holds, which may be more than it asks for: what it was promised and what is in force count too, as its
/// status shows them. Upstream: PodRequests with UseStatusResources.
pub fn current_requests(pod: &Pod) -> Amounts {
    let (spec, status) = (pod.spec(), pod.api_status());
    let levels = features::enabled(Gate::InPlacePodLevelResourcesVerticalScaling);
    let mut pending = status.conditions.iter().flatten().filter(|c| c.type_ == "PodResizePending");
    let infeasible = pending.next().is_some_and(|c| c.reason.as_deref() == Some("Infeasible"));
    let of_pod = status.resources.as_ref().filter(|_| levels);
    let shown = of_pod.and_then(|r| r.requests.as_ref()).zip(status.allocated_resources.as_ref());
    let (actuated, allocated) = match shown {
        Some((actuated, allocated)) => (Amounts::of(Some(actuated)), Amounts::of(Some(allocated))),
        None => shown_by_containers(pod, infeasible),
    };
    let mut total = actuated;
    total.max(&allocated);
    if !infeasible {
        total.max(&of_containers(pod, container_requests));
    }
    let asked = spec.resources.as_ref().and_then(|r| r.requests.as_ref());
    if asked.into_iter().flatten().any(|(name, _)| is_pod_level_resource(name)) {
        let mut level = Amounts::of(asked.filter(|_| !infeasible || of_pod.is_none()));
        if let Some(of_pod) = of_pod {
            level.max(&Amounts::of(of_pod.requests.as_ref()));
            level.max(&Amounts::of(status.allocated_resources.as_ref()));
        }
        total.0.extend(level.0.into_iter().filter(|(name, _)| is_pod_level_resource(name)));
    }
    total.add(&Amounts::of(spec.overhead.as_ref()));
    total
}

/// What is in force and what was promised, as the status of each container shows it.
fn shown_by_containers(pod: &Pod, infeasible: bool) -> (Amounts, Amounts) {
    let status = pod.api_status();
    let find = |name: &str| {
        let mut all = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
        all.find(|shown| shown.name == name)
    };
    let asked = |container: &Container| match infeasible {
        true => Amounts::default(),
        false => container_requests(container),
    };
    let allocated = |container: &Container| {
        let shown = find(&container.name).and_then(|shown| shown.allocated_resources.as_ref());
        shown.map_or_else(|| asked(container), |shown| Amounts::of(Some(shown)))
    };
    let actuated = |container: &Container| {
        let shown = find(&container.name).and_then(|shown| shown.resources.as_ref()?.requests.as_ref());
        shown.map_or_else(|| allocated(container), |shown| Amounts::of(Some(shown)))
    };
    (of_containers(pod, actuated), of_containers(pod, allocated))
}

fn sum(pod: &Pod, limits: bool, overhead: bool) -> Amounts {
    let spec = pod.spec();
    let mut total = of_containers(pod, |container| side(container.resources.as_ref(), limits));
    for (name, amount) in side(spec.resources.as_ref(), limits).0 {
        if is_pod_level_resource(&name) {
            total.0.insert(name, amount);
        }
    }
    if overhead {
        for (name, amount) in Amounts::of(spec.overhead.as_ref()).0 {
            // A limit that is not set stays unlimited.
            match total.0.get_mut(&name) {
                Some(entry) if !limits || *entry != 0 => *entry += amount,
                None if !limits => drop(total.0.insert(name, amount)),
                _ => {}
            }
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn quantities() {
        for (text, expected) in [
            ("0", 0),
            ("1", 1000),
            ("100m", 100),
            ("1.5", 1500),
            (".5", 500),
            ("1Ki", 1_024_000),
            ("1k", 1_000_000),
            ("1e3", 1_000_000),
            ("1E", 1_000_000_000_000_000_000_000),
            ("1n", 1),
            ("-1", -1000),
            ("0.5Gi", 536_870_912_000),
        ] {
            assert_eq!(parse_milli(text), Some(expected), "{text}");
        }
        for bad in ["", "x", "1x", "1ee3", "99999999999999999999999999999999999999999"] {
            assert_eq!(parse_milli(bad), None, "{bad}");
        }
    }

    fn check(pod: serde_json::Value, expected: i64) {
        let pod: Pod = serde_json::from_value(json!({"spec": pod})).unwrap();
        assert_eq!(pod_requests(&pod).milli("cpu"), expected, "{pod:?}");
    }

    #[test]
    fn requests() {
        let c = |cpu: &str| json!({"name": "c", "resources": {"requests": {"cpu": cpu}}});
        let mut sidecar = c("100m");
        sidecar["restartPolicy"] = json!("Always");
        check(json!({"containers": [c("1"), c("500m")]}), 1500);
        check(json!({"containers": [c("1")], "initContainers": [c("3"), c("2")]}), 3000);
        check(json!({"containers": [c("1")], "initContainers": [sidecar, c("2")]}), 2100);
        check(json!({"containers": [c("1")], "initContainers": [c("500m"), sidecar]}), 1100);
        check(json!({"containers": [c("1")], "overhead": {"cpu": "250m"}}), 1250);
        check(json!({"containers": [c("1")], "resources": {"requests": {"cpu": "2"}}}), 2000);
    }
}
