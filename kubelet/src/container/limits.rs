//! From requests and limits to what the kernel takes: shares, quota, memory, scores, huge pages.
//!
//! Upstream: pkg/kubelet/cm/helpers_linux.go and pkg/kubelet/kuberuntime/kuberuntime_container_linux.go, v1.37.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use cri::v1;
use k8s_openapi::api::core::v1::{Container, Pod};

use crate::cpumanager::CpuManager;
use crate::memorymanager::MemoryManager;
use crate::pod::qos::{QosClass, oom_score_adj, qos_class};
use crate::pod::resources::{
    Amounts, container_limits, container_requests, has_pod_level, pod_limits, pod_requests, without_overhead,
};
use crate::pod::view::{PodView, init_containers};

/// Least shares the kernel takes.
pub const MIN_SHARES: u64 = 2;
const MAX_SHARES: u64 = 262_144;
/// Least quota that is useful, in microseconds.
const MIN_QUOTA_US: i64 = 1000;
/// Default period, in microseconds.
pub const DEFAULT_PERIOD_US: i64 = 100_000;

/// Facts about the node and its settings that limits depend on.
#[derive(Clone, Debug, Default)]
pub struct NodeLimits {
    /// True on the unified hierarchy.
    pub cgroup_v2: bool,
    /// True if CPU limits are enforced.
    pub cpu_cfs_quota: bool,
    /// The period over which they are enforced, in microseconds.
    pub cpu_period_us: i64,
    /// Memory of the machine, in bytes.
    pub memory_capacity: i64,
    /// True if only the offending process is killed when a container is out of memory (v2 only).
    pub single_process_oom_kill: bool,
    /// True if the kernel accounts swap per cgroup.
    pub swap_controller: bool,
    /// Page sizes of huge pages that the kernel has, such as `2MB`.
    pub huge_page_sizes: Vec<String>,
    /// Swap of the machine in bytes, if containers may use a share of it.
    pub limited_swap: Option<i64>,
    /// True if the kernel is told how to treat containers' memory below the limit (v2 only).
    pub memory_qos: bool,
    /// True if the kernel is told to keep the memory that pods ask for (with `memory_qos`).
    pub protects_memory: bool,
    /// Share of what is between request and limit from which on a container's memory is reclaimed eagerly.
    pub throttling: Option<f64>,
    /// Memory that pods may have, in bytes.
    pub allocatable_memory: i64,
    /// Who has processors of its own; these have no quota.
    pub cpus: Option<Arc<CpuManager>>,
    /// Who has memory of its own.
    pub memory: Option<Arc<MemoryManager>>,
}

/// Thousandths of a core as shares.
pub fn milli_to_shares(milli: i64) -> u64 {
    if milli <= 0 {
        return MIN_SHARES;
    }
    (milli.unsigned_abs().saturating_mul(1024) / 1000).clamp(MIN_SHARES, MAX_SHARES)
}

/// Shares as thousandths of a core, rounded as upstream rounds.
pub fn shares_to_milli(shares: i64) -> i64 {
    if shares <= 0 { 0 } else { shares.saturating_mul(1000).saturating_add(1023) / 1024 }
}

/// Thousandths of a core as quota in microseconds; zero is unlimited.
pub fn milli_to_quota(milli: i64, period_us: i64) -> i64 {
    if milli <= 0 { 0 } else { (milli.saturating_mul(period_us) / 1000).max(MIN_QUOTA_US) }
}

/// Quota as thousandths of a core.
pub fn quota_to_milli(quota: i64, period_us: i64) -> i64 {
    if quota <= 0 || period_us <= 0 { 0 } else { quota.saturating_mul(1000) / period_us }
}

/// Where between request and limit memory is reclaimed eagerly, in whole pages. Upstream: KEP 2570.
fn memory_high(request: i64, limit: i64, factor: f64) -> i64 {
    const PAGE: i64 = 4096;
    #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "upstream's arithmetic")]
    let bytes = (request as f64 + (limit as f64 - request as f64) * factor) as i64;
    bytes / PAGE * PAGE
}

impl NodeLimits {
    fn basic(&self, request_milli: i64, limit_milli: i64, memory: i64) -> v1::LinuxContainerResources {
        let mut out = v1::LinuxContainerResources {
            cpu_shares: i64::try_from(milli_to_shares(request_milli)).unwrap_or(i64::MAX),
            memory_limit_in_bytes: memory,
            ..Default::default()
        };
        if self.cpu_cfs_quota {
            out.cpu_quota = milli_to_quota(limit_milli, self.cpu_period_us);
            out.cpu_period = self.cpu_period_us;
        }
        if self.cgroup_v2 && !self.single_process_oom_kill {
            out.unified.insert("memory.oom.group".to_owned(), "1".to_owned());
        }
        out
    }

    /// Limits of one container.
    pub fn container(&self, pod: &Pod, container: &Container) -> v1::LinuxContainerResources {
        let (requests, limits) = (container_requests(container), container_limits(container));
        let of_pod = pod.spec().resources.as_ref().and_then(|r| r.limits.as_ref());
        let of_pod = if has_pod_level(pod) { Amounts::of(of_pod) } else { Amounts::default() };
        let pick = |name: &str| if limits.milli(name) == 0 { &of_pod } else { &limits };
        let cpu_limit = pick("cpu").milli("cpu");
        let request = if requests.has("cpu") { requests.milli("cpu") } else { cpu_limit };
        let mut out = self.basic(request, cpu_limit, pick("memory").whole("memory"));
        let exclusive = |cpus: &Arc<CpuManager>| cpus.is_exclusive(pod, container);
        if self.cpu_cfs_quota && self.cpus.as_ref().is_some_and(exclusive) {
            out.cpu_quota = -1;
        }
        out.oom_score_adj = oom_score_adj(pod, container, self.memory_capacity);
        out.hugepage_limits = self.huge_pages(&limits, &of_pod);
        if self.swap_controller {
            // The runtime's limit is memory plus swap on v1, swap alone on v2.
            if self.cgroup_v2 {
                let swap = self.swap(pod, requests.whole("memory"), limits.whole("memory"));
                out.unified.insert("memory.swap.max".to_owned(), swap.to_string());
            } else {
                out.memory_swap_limit_in_bytes = out.memory_limit_in_bytes;
            }
        }
        let whole_pod = limits.whole("memory") == 0 && of_pod.whole("memory") != 0;
        let (request, limit) = (requests.whole("memory"), limits.whole("memory"));
        let kept = self.kept(pod, request);
        self.memory_protection(&mut out.unified, kept, (request, limit), whole_pod);
        out
    }

    /// Swap of a container: of what the machine has, its share of memory; only where memory is asked for but not fixed.
    fn swap(&self, pod: &Pod, request: i64, limit: i64) -> i64 {
        let Some(swap) = self.limited_swap else { return 0 };
        if pod.is_critical()
            || qos_class(pod) != QosClass::Burstable
            || request == limit
            || self.memory_capacity <= 0
        {
            return 0;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            reason = "upstream's arithmetic"
        )]
        let share = (request as f64 / self.memory_capacity as f64 * swap as f64) as i64;
        share
    }

    /// Memory that the kernel keeps for a pod or one of its containers: for guaranteed pods in any case, for others as long
    /// as it finds some elsewhere.
    fn kept(&self, pod: &Pod, request: i64) -> Option<(&'static str, String)> {
        let file = match qos_class(pod) {
            QosClass::Guaranteed => "memory.min",
            _ => "memory.low",
        };
        (self.protects_memory && request > 0).then(|| (file, request.to_string()))
    }

    /// What is kept, if anything; from `memory.high` on, memory is reclaimed. Where the pod's group throttles (`whole_pod`),
    /// the container's does not. Without memory QoS an old value is taken back.
    fn memory_protection(
        &self,
        unified: &mut HashMap<String, String>,
        kept: Option<(&'static str, String)>,
        (request, limit): (i64, i64),
        whole_pod: bool,
    ) {
        if !self.memory_qos {
            if self.cgroup_v2 {
                unified.insert("memory.high".to_owned(), "max".to_owned());
            }
            return;
        }
        let nothing = [("memory.min", "0".to_owned()), ("memory.low", "0".to_owned())];
        let kept = kept.map_or_else(|| nothing.to_vec(), |kept| vec![kept]);
        unified.extend(kept.into_iter().map(|(file, value)| (file.to_owned(), value)));
        let Some(factor) = self.throttling.filter(|_| !whole_pod && (request != limit || request == 0))
        else {
            return;
        };
        let most = if limit == 0 { self.allocatable_memory } else { limit };
        let high = memory_high(request, most, factor);
        if most > 0 && high > request {
            unified.insert("memory.high".to_owned(), high.to_string());
        }
    }

    fn huge_pages(&self, limits: &Amounts, of_pod: &Amounts) -> Vec<v1::HugepageLimit> {
        let source = if limits.0.keys().any(|n| n.starts_with("hugepages-")) { limits } else { of_pod };
        (self.page_limits(source).into_iter())
            .map(|(page_size, limit)| v1::HugepageLimit { page_size, limit })
            .collect()
    }

    /// Bytes of each size of huge pages that the kernel has, zero where `source` says nothing.
    pub fn page_limits(&self, source: &Amounts) -> Vec<(String, u64)> {
        let wanted: HashMap<String, u64> = (source.0.keys())
            .filter_map(|name| {
                let bytes =
                    crate::pod::resources::milli(&k8s_openapi::apimachinery::pkg::api::resource::Quantity(
                        name.strip_prefix("hugepages-")?.to_owned(),
                    )) / 1000;
                let limit = u64::try_from(source.whole(name)).ok()?;
                Some((page_size_name(u64::try_from(bytes).ok()?), limit))
            })
            .collect();
        let limit = |size: &String| wanted.get(size).copied().unwrap_or_default();
        self.huge_page_sizes.iter().map(|size| (size.clone(), limit(size))).collect()
    }

    /// Limits of a pod's sandbox (informative for the runtime; the pod's cgroup enforces them).
    pub fn sandbox(&self, pod: &Pod) -> v1::LinuxContainerResources {
        let (requests, limits) = (without_overhead(pod, false), without_overhead(pod, true));
        let request = if requests.has("cpu") { requests.milli("cpu") } else { limits.milli("cpu") };
        let mut out = self.basic(request, limits.milli("cpu"), limits.whole("memory"));
        if self.cpu_cfs_quota && self.has_exclusive_cpus(pod) {
            out.cpu_quota = -1;
        }
        out
    }

    fn has_exclusive_cpus(&self, pod: &Pod) -> bool {
        self.cpus.as_ref().is_some_and(|cpus| cpus.has_exclusive(pod))
    }

    /// Resources that the runtime itself needs for the pod.
    pub fn overhead(&self, pod: &Pod) -> v1::LinuxContainerResources {
        let Some(overhead) = &pod.spec().overhead else { return v1::LinuxContainerResources::default() };
        let amounts = Amounts::of(Some(overhead));
        self.basic(amounts.milli("cpu"), amounts.milli("cpu"), amounts.whole("memory"))
    }

    /// Limits of a pod's own cgroup when it is made.
    pub fn new_pod_cgroup(&self, pod: &Pod) -> CgroupLimits {
        let requests = pod_requests(pod);
        CgroupLimits { huge_pages: Some(self.page_limits(&requests)), ..self.pod_cgroup(pod) }
    }

    /// What of a pod's memory is kept, and, if it has resources of its own, where it is reclaimed. Upstream:
    /// ResourceConfigForPod and ApplyPodLevelMemoryHigh.
    fn pod_memory(&self, pod: &Pod, requests: &Amounts) -> BTreeMap<&'static str, String> {
        let mut out: BTreeMap<_, _> = self.kept(pod, requests.whole("memory")).into_iter().collect();
        let spec = pod.spec();
        let of_pod = Amounts::of(spec.resources.as_ref().and_then(|r| r.limits.as_ref()));
        let mut containers = init_containers(spec).iter().chain(&spec.containers);
        let limited = of_pod.milli("memory") != 0
            || containers.all(|container| container_limits(container).milli("memory") != 0);
        let (request, limit) = (requests.whole("memory"), pod_limits(pod).whole("memory"));
        let Some(factor) = self.throttling.filter(|_| self.memory_qos && has_pod_level(pod) && limited)
        else {
            return out;
        };
        let high = memory_high(request, limit, factor);
        if limit != 0 && request != limit && high > 0 && high > request {
            out.insert("memory.high", high.to_string());
        }
        out
    }

    /// Limits of a pod's own cgroup as far as they may change while it runs.
    pub fn pod_cgroup(&self, pod: &Pod) -> CgroupLimits {
        let (requests, limits) = (pod_requests(pod), pod_limits(pod));
        let spec = pod.spec();
        let of_pod = spec.resources.as_ref().and_then(|r| r.limits.as_ref());
        let of_pod = if has_pod_level(pod) { Amounts::of(of_pod) } else { Amounts::default() };
        let all = |name: &str| {
            of_pod.milli(name) > 0
                || init_containers(spec)
                    .iter()
                    .chain(&spec.containers)
                    .all(|c| container_limits(c).milli(name) > 0)
        };
        let quota = match self.cpu_cfs_quota && !self.has_exclusive_cpus(pod) {
            true => milli_to_quota(limits.milli("cpu"), self.cpu_period_us),
            false => -1,
        };
        let cpu = Some((quota, self.cpu_period_us));
        let memory = Some(limits.whole("memory"));
        let shares = Some(milli_to_shares(requests.milli("cpu")));
        let unified = self.pod_memory(pod, &requests);
        match qos_class(pod) {
            QosClass::Guaranteed => {
                CgroupLimits { shares, quota: cpu, memory, unified, ..Default::default() }
            }
            QosClass::Burstable => CgroupLimits {
                shares,
                quota: cpu.filter(|_| all("cpu")),
                memory: memory.filter(|_| all("memory")),
                unified,
                ..Default::default()
            },
            QosClass::BestEffort => CgroupLimits { shares: Some(MIN_SHARES), unified, ..Default::default() },
        }
    }
}

/// Limits of a cgroup; what is absent is left as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CgroupLimits {
    /// Relative weight.
    pub shares: Option<u64>,
    /// Quota and period in microseconds; a quota of zero or less is unlimited.
    pub quota: Option<(i64, i64)>,
    /// Memory in bytes.
    pub memory: Option<i64>,
    /// Number of processes; less than zero is unlimited.
    pub pids: Option<i64>,
    /// Processors, such as `0-3,8`.
    pub cpus: Option<String>,
    /// Bytes of huge pages by the kernel's name of their size, such as `2MB`.
    pub huge_pages: Option<Vec<(String, u64)>>,
    /// Other files of version 2 and what they are to say; not used on version 1.
    pub unified: BTreeMap<&'static str, String>,
}

/// The kernel's name of a huge page size.
pub fn page_size_name(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["B", "KB", "MB", "GB"];
    let mut value = bytes;
    let mut unit = 0;
    while value >= 1024 && unit + 1 < UNITS.len() {
        value /= 1024;
        unit += 1;
    }
    format!("{value}{}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node() -> NodeLimits {
        NodeLimits {
            cgroup_v2: false,
            cpu_cfs_quota: true,
            cpu_period_us: DEFAULT_PERIOD_US,
            memory_capacity: 8 << 30,
            single_process_oom_kill: false,
            swap_controller: false,
            huge_page_sizes: vec!["2MB".into()],
            ..NodeLimits::default()
        }
    }

    #[test]
    fn conversions() {
        assert_eq!([0, 1, 2, 100, 1000, 1_000_000].map(milli_to_shares), [2, 2, 2, 102, 1024, 262_144]);
        assert_eq!(
            [0, 1, 500, 1000].map(|m| milli_to_quota(m, DEFAULT_PERIOD_US)),
            [0, 1000, 50_000, 100_000]
        );
        assert_eq!(shares_to_milli(102), 100);
        assert_eq!(page_size_name(2 << 20), "2MB");
        assert_eq!(page_size_name(1 << 30), "1GB");
    }

    #[test]
    fn swap_and_throttling() {
        let pod: Pod = serde_json::from_value(json!({"spec": {"containers": [
            {"name": "a", "resources": {"requests": {"memory": "2Gi"}, "limits": {"memory": "4Gi"}}}]}}))
        .unwrap();
        let v2 = NodeLimits { cgroup_v2: true, swap_controller: true, ..node() };
        let unified = |node: &NodeLimits| node.container(&pod, &pod.spec().containers[0]).unified;
        assert_eq!(unified(&v2)["memory.swap.max"], "0");
        assert_eq!(unified(&v2)["memory.high"], "max");
        let swapping = NodeLimits { limited_swap: Some(4 << 30), ..v2.clone() };
        // A quarter of the machine's memory, so a quarter of its swap.
        assert_eq!(unified(&swapping)["memory.swap.max"], (1u64 << 30).to_string());
        let qos = NodeLimits { memory_qos: true, ..v2 };
        assert_eq!((unified(&qos).get("memory.high"), unified(&qos)["memory.min"].as_str()), (None, "0"));
        let throttled = NodeLimits { throttling: Some(0.5), ..qos };
        assert_eq!(unified(&throttled)["memory.high"], (3u64 << 30).to_string());
        assert_eq!(memory_high(1, 4097, 1.0), 4096);
        let whole: Pod = serde_json::from_value(json!({"spec": {"containers": [{"name": "a"}],
            "resources": {"requests": {"memory": "2Gi"}, "limits": {"memory": "4Gi"}}}}))
        .unwrap();
        let node = NodeLimits { throttling: Some(0.5), memory_qos: true, ..node() };
        assert_eq!(node.new_pod_cgroup(&whole).unified["memory.high"], (3u64 << 30).to_string());
        assert_eq!(node.new_pod_cgroup(&pod).unified.len(), 0);
    }

    #[test]
    fn keeps_memory() {
        let node = NodeLimits { cgroup_v2: true, memory_qos: true, protects_memory: true, ..node() };
        let check = |resources: &str, container: &[(&str, &str)], pod: &[(&str, &str)]| {
            let resources: serde_json::Value = serde_json::from_str(resources).unwrap();
            let spec = json!({"containers": [{"name": "a", "resources": resources}]});
            let object: Pod = serde_json::from_value(json!({"spec": spec})).unwrap();
            let mut found = node.container(&object, &object.spec().containers[0]).unified;
            found.remove("memory.oom.group");
            let found: BTreeMap<_, _> = found.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            assert_eq!(found, container.iter().copied().collect(), "{resources}");
            let found = node.new_pod_cgroup(&object).unified;
            let found: Vec<_> = found.iter().map(|(k, v)| (*k, v.as_str())).collect();
            assert_eq!(found, pod, "{resources}");
            assert_eq!(node.pod_cgroup(&object).unified, node.new_pod_cgroup(&object).unified);
        };
        let nothing = [("memory.min", "0"), ("memory.low", "0")];
        check(r#"{}"#, &nothing, &[]);
        check(r#"{"requests": {"cpu": "1"}}"#, &nothing, &[]);
        let low = [("memory.low", "1024")];
        check(r#"{"requests": {"memory": "1Ki"}}"#, &low, &low);
        check(r#"{"requests": {"memory": "1Ki"}, "limits": {"memory": "2Ki"}}"#, &low, &low);
        let min = [("memory.min", "1024")];
        let both = r#"{"cpu": "1", "memory": "1Ki"}"#;
        check(&format!(r#"{{"requests": {both}, "limits": {both}}}"#), &min, &min);
    }

    #[test]
    fn container_and_pod() {
        let pod: Pod = serde_json::from_value(json!({"spec": {"containers": [
            {"name": "a", "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "200m", "memory": "128Mi", "hugepages-2Mi": "4Mi"}}},
            {"name": "b", "resources": {"limits": {"cpu": "1"}}}]}}))
        .unwrap();
        let node = node();
        let a = node.container(&pod, &pod.spec().containers[0]);
        assert_eq!((a.cpu_shares, a.cpu_quota, a.memory_limit_in_bytes), (102, 20_000, 128 << 20));
        assert_eq!(a.oom_score_adj, 993);
        assert_eq!(a.hugepage_limits[0].limit, 4 << 20);
        let b = node.container(&pod, &pod.spec().containers[1]);
        assert_eq!((b.cpu_shares, b.cpu_quota), (1024, 100_000));
        let whole = node.pod_cgroup(&pod);
        assert_eq!(
            whole,
            CgroupLimits { shares: Some(102), quota: Some((120_000, 100_000)), ..CgroupLimits::default() }
        );
        assert_eq!(node.new_pod_cgroup(&pod).huge_pages, Some(vec![("2MB".into(), 0)]));
    }
}
