//! Limits of the groups of service classes: what they weigh, and what of their pods' memory is kept for them.
//!
//! Pure; [`super::manager`] applies it. Start reading at [`limits`]. Upstream:
//! pkg/kubelet/cm/qos_container_manager_linux.go, v1.37. Differs: the limit of huge pages of the group of all pods stays as
//! it is; upstream lifts it here, which takes back what is reserved of them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;

use crate::container::limits::{CgroupLimits, milli_to_shares};
use crate::pod::qos::{QosClass, qos_class};
use crate::pod::resources::pod_requests;

/// Huge pages of groups that are not to limit them.
const UNBOUNDED: u64 = 1 << 62;

/// How classes are treated.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Sizes of huge pages, as the kernel names them.
    pub page_sizes: Vec<String>,
    /// True if the kernel is told what memory to keep for pods (v2 only).
    pub protects_memory: bool,
    /// What of its pods' requests is withheld from the classes below.
    pub reserve: Option<Reserve>,
}

/// Memory that classes may not take from those above them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserve {
    /// How much of the requests, in percent.
    pub percent: i64,
    /// Bytes that all pods may have.
    pub allocatable: i64,
}

impl Reserve {
    /// What is left of `have` without its share of `requests`.
    fn left(self, have: i64, requests: i64) -> i64 {
        have.saturating_sub(requests.saturating_mul(self.percent) / 100)
    }
}

/// Percent of the memory that pods ask for which `qosReserved` reserves. Upstream: ParseQOSReserved in
/// pkg/kubelet/cm/container_manager.go.
///
/// # Errors
/// If it names other resources, or no percentage.
pub fn reserved_percent(reserved: &BTreeMap<String, String>) -> Result<Option<i64>, String> {
    if let Some(other) = reserved.keys().find(|name| *name != "memory") {
        return Err(format!("cannot reserve {other:?} resource"));
    }
    let Some(text) = reserved.get("memory") else { return Ok(None) };
    let failed = |why: String| format!("failed to parse percentage {text:?} for \"memory\" resource: {why}");
    if !text.ends_with('%') {
        return Err(failed(format!("percentage expected, got '{text}'")));
    }
    match text.trim_end_matches('%').parse() {
        Ok(percent) if (0..=100).contains(&percent) => Ok(Some(percent)),
        Ok(_) => Err(failed("percentage must be between 0 and 100".to_owned())),
        Err(_) => Err(failed(format!("invalid number in percentage '{text}'"))),
    }
}

/// What the pods of the node ask for, by class. Best effort asks for nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// Thousandths of a core of burstable pods.
    pub burstable_cpu: i64,
    /// Bytes of guaranteed pods.
    pub guaranteed: i64,
    /// Bytes of burstable pods.
    pub burstable: i64,
}

impl Requests {
    /// Sums up.
    pub fn of<'a>(pods: impl Iterator<Item = &'a Pod>) -> Self {
        let mut out = Self::default();
        for pod in pods {
            let asked = pod_requests(pod);
            match qos_class(pod) {
                QosClass::Guaranteed => {
                    out.guaranteed = out.guaranteed.saturating_add(asked.whole("memory"));
                }
                QosClass::Burstable => {
                    out.burstable_cpu = out.burstable_cpu.saturating_add(asked.milli("cpu"));
                    out.burstable = out.burstable.saturating_add(asked.whole("memory"));
                }
                QosClass::BestEffort => {}
            }
        }
        out
    }
}

/// A class and what its group is limited to; guaranteed is the group of all pods.
pub type Limited = (QosClass, CgroupLimits);

/// Limits with which the groups begin. What an earlier kubelet protected of their memory is protected no more, unless it is
/// soon set anew.
pub fn first(policy: &Policy) -> [Limited; 2] {
    let mut burstable = CgroupLimits { huge_pages: pages(policy), ..CgroupLimits::default() };
    if !policy.protects_memory {
        burstable.unified.insert("memory.low", "0".to_owned());
    }
    [(QosClass::Burstable, burstable), (QosClass::BestEffort, best_effort(policy))]
}

/// Limits while there are such requests.
pub fn limits(policy: &Policy, requests: Requests) -> Vec<Limited> {
    let shares = Some(milli_to_shares(requests.burstable_cpu));
    let mut burstable = CgroupLimits { shares, huge_pages: pages(policy), ..CgroupLimits::default() };
    let mut out = Vec::new();
    if policy.protects_memory {
        // The kernel keeps no more for a group than its parents have, so the group of all pods has what both classes have.
        let all = requests.guaranteed.saturating_add(requests.burstable);
        let low = requests.burstable.to_string();
        let unified = [("memory.min", all.to_string()), ("memory.low", low.clone())].into();
        out.push((QosClass::Guaranteed, CgroupLimits { unified, ..CgroupLimits::default() }));
        burstable.unified.insert("memory.low", low);
    }
    let mut best_effort = best_effort(policy);
    // Nothing is known to be allocatable while the machine has less than what is reserved of it.
    if let Some(reserve) = policy.reserve.filter(|reserve| reserve.allocatable > 0) {
        let left = reserve.left(reserve.allocatable, requests.guaranteed);
        burstable.memory = Some(left);
        best_effort.memory = Some(reserve.left(left, requests.burstable));
    }
    out.push((QosClass::Burstable, burstable));
    out.push((QosClass::BestEffort, best_effort));
    out
}

/// Lets classes that have more memory than they may keep it, so that they do not grow. `usage` tells what they have.
pub fn yield_to(usage: impl Fn(QosClass) -> Option<i64>, all: &mut [Limited]) {
    for (class, limits) in all {
        let Some(usage) = usage(*class) else { return };
        limits.memory = limits.memory.map(|limit| limit.max(usage));
    }
}

fn best_effort(policy: &Policy) -> CgroupLimits {
    let shares = Some(milli_to_shares(0));
    CgroupLimits { shares, huge_pages: pages(policy), ..CgroupLimits::default() }
}

fn pages(policy: &Policy) -> Option<Vec<(String, u64)>> {
    Some(policy.page_sizes.iter().map(|size| (size.clone(), UNBOUNDED)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::limits::NodeLimits;
    use serde_json::{Value as Json, json};

    /// What upstream's fake group was told, of all classes or only of those below the group of all pods.
    fn shown(all: &[Limited], v2: bool, below: bool) -> Json {
        let one = |(class, limits): &Limited| {
            let name = match class {
                QosClass::Guaranteed => "kubepods",
                QosClass::Burstable => "burstable",
                QosClass::BestEffort => "besteffort",
            };
            let CgroupLimits { shares, memory, unified, .. } = limits;
            let mut out = serde_json::Map::new();
            out.extend(shares.map(|shares| ("shares".to_owned(), json!(shares))));
            out.extend(memory.map(|memory| ("memory".to_owned(), json!(memory))));
            out.extend((v2 && !unified.is_empty()).then(|| ("unified".to_owned(), json!(unified))));
            (name.to_owned(), Json::Object(out))
        };
        let mut out: serde_json::Map<_, _> = all.iter().map(one).collect();
        if !below && !out.contains_key("kubepods") {
            out.insert("kubepods".to_owned(), json!({}));
        }
        Json::Object(out)
    }

    fn lines(text: &str) -> Vec<Json> {
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Recorded from upstream's manager, see `e2e/oracle/cgroups`.
    #[test]
    fn as_upstream() {
        let lines = lines(include_str!("testdata/classes.jsonl"));
        let pods: Vec<Pod> = serde_json::from_value(lines[0]["pods"].clone()).unwrap();
        assert!(lines.len() > 40);
        for line in &lines[1..] {
            let (v2, gate) = (line["unified"] == true, |name: &str| line["gates"][name] == true);
            let protects_memory = v2 && gate("MemoryQoS") && line["policy"] == "TieredReservation";
            let allocatable = line["allocatable"].as_i64().unwrap();
            let percent = line["percent"].as_i64().filter(|_| gate("QOSReserved"));
            let reserve = percent.map(|percent| Reserve { percent, allocatable });
            let policy = Policy { page_sizes: vec!["2MB".into()], protects_memory, reserve };
            let mut begin = line["first"].clone();
            begin.as_object_mut().unwrap().remove("kubepods");
            assert_eq!(shown(&first(&policy), v2, true), begin, "{line}");
            let mut all = limits(&policy, Requests::of(pods.iter()));
            assert_eq!(shown(&all, v2, false), line["told"], "{line}");
            assert!(all[all.len() - 2..].iter().all(|(_, l)| l.huge_pages == pages(&policy)));
            if reserve.is_some() {
                yield_to(|_| line["usage"].as_i64(), &mut all);
                assert_eq!(shown(&all, v2, false), line["refused"], "{line}");
            }
            let node = NodeLimits { protects_memory, ..NodeLimits::default() };
            let of_pods: Vec<Json> = (pods.iter().map(|pod| node.pod_cgroup(pod).unified))
                .map(|told| if told.is_empty() { json!({}) } else { json!({"unified": told}) })
                .collect();
            assert_eq!(json!(of_pods), line["ofPods"], "{line}");
        }
    }

    #[test]
    fn what_cannot_be_read_yields_nothing() {
        let limited = CgroupLimits { memory: Some(5), ..CgroupLimits::default() };
        let mut all = [(QosClass::Burstable, limited.clone()), (QosClass::BestEffort, limited)];
        yield_to(|class| (class == QosClass::BestEffort).then_some(9), &mut all);
        assert_eq!(all.map(|(_, limits)| limits.memory), [Some(5), Some(5)]);
    }

    /// The errors are recorded from upstream's function, see `e2e/oracle/cgroups`.
    #[test]
    fn percentages() {
        for case in lines(include_str!("testdata/reserved.jsonl")) {
            let reserved = serde_json::from_value(case["reserved"].clone()).unwrap();
            let expected =
                case["error"].as_str().map_or_else(|| Ok(case["percent"].as_i64()), |e| Err(e.to_owned()));
            assert_eq!(reserved_percent(&reserved), expected, "{case}");
        }
    }
}
