//! How many pods a metric calls for. Pure arithmetic, upstream's to the last rounding.
//! Upstream: pkg/controller/podautoscaler/replica_calculator.go, metrics/utilization.go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::kept::{Pod, Second};
use crate::pods;

/// A pod's metric, in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    pub value: i64,
    pub at: Timestamp,
    /// The time over which it was gathered.
    pub window: Duration,
}

/// Metrics by pod name.
pub type Samples = BTreeMap<String, Sample>;

/// Changes smaller than these are not worth it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerances {
    pub down: f64,
    pub up: f64,
}

impl Tolerances {
    fn cover(self, ratio: f64) -> bool {
        (1.0 - self.down) <= ratio && ratio <= (1.0 + self.up)
    }
}

/// How long samples of young pods are distrusted.
#[derive(Debug, Clone, Copy)]
pub struct Delays {
    pub cpu_initialization: Duration,
    pub initial_readiness: Duration,
}

/// Everything a calculation depends on besides the metrics.
#[derive(Clone, Copy)]
pub struct View<'a> {
    pub pods: &'a [Arc<Pod>],
    pub current: i32,
    pub tolerances: Tolerances,
    pub delays: Delays,
    pub now: Timestamp,
}

/// Pods by what their metrics are worth.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Groups {
    pub ready: usize,
    pub unready: BTreeSet<String>,
    pub missing: BTreeSet<String>,
    pub ignored: BTreeSet<String>,
}

/// A proposal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proposal {
    pub replicas: i32,
    /// Percent of the requests, where the target is one.
    pub utilization: i32,
    /// Average per pod, or the metric itself, in thousandths.
    pub usage: i64,
}

/// What a pod's metric is compared with.
enum Target<'a> {
    Utilization { requests: &'a BTreeMap<String, i64>, percent: i32 },
    Usage(i64),
}

/// Rounds up; what does not fit is as large as possible.
fn ceil(value: f64) -> i32 {
    #[expect(clippy::cast_possible_truncation, reason = "the cast saturates")]
    let whole = value.ceil() as i32;
    whole
}

#[expect(clippy::cast_precision_loss, reason = "upstream computes in doubles")]
fn float(value: i64) -> f64 {
    value as f64
}

/// Upstream: groupPods. `cpu`: samples of young and unready pods do not count.
pub fn group(view: &View<'_>, samples: &Samples, cpu: bool) -> Groups {
    let mut groups = Groups::default();
    for pod in view.pods {
        let name = pod.name().to_string();
        let phase = pods::phase(pod);
        if pods::is_deleted(pod) || phase == "Failed" {
            groups.ignored.insert(name);
        } else if phase == "Pending" {
            groups.unready.insert(name);
        } else if let Some(sample) = samples.get(&name) {
            if cpu && is_unready(view, pod, sample) {
                groups.unready.insert(name);
            } else {
                groups.ready += 1;
            }
        } else {
            groups.missing.insert(name);
        }
    }
    groups
}

fn is_unready(view: &View<'_>, pod: &Pod, sample: &Sample) -> bool {
    let started = pod.status.as_ref().and_then(|s| s.start_time).map(Second::at);
    let (Some(ready), Some(started)) = (pods::condition(pod, "Ready"), started) else { return true };
    let changed = ready.last_transition_time.map_or(Timestamp::UNIX_EPOCH, Second::at);
    let after = |time: Timestamp, span: Duration| time.checked_add(span).unwrap_or(Timestamp::MAX);
    let unready = ready.status == "False";
    if after(started, view.delays.cpu_initialization) > view.now {
        unready || sample.at < after(changed, sample.window)
    } else {
        unready && after(started, view.delays.initial_readiness) > changed
    }
}

/// The ratio of use to target, the percentage, and the average. Upstream: GetResourceUtilizationRatio,
/// GetMetricUsageRatio.
fn ratio(samples: &Samples, target: &Target<'_>) -> Result<(f64, i32, i64), String> {
    match target {
        Target::Usage(target) => {
            let total = samples.values().fold(0i64, |sum, s| sum.wrapping_add(s.value));
            let average = total / i64::try_from(samples.len()).unwrap_or(1).max(1);
            Ok((float(average) / float(*target), 0, average))
        }
        Target::Utilization { requests, percent } => {
            let known: Vec<(i64, i64)> =
                samples.iter().filter_map(|(name, s)| Some((s.value, *requests.get(name)?))).collect();
            let total = known.iter().fold(0i64, |sum, (value, _)| sum.wrapping_add(*value));
            let requested = known.iter().fold(0i64, |sum, (_, request)| sum.wrapping_add(*request));
            if requested == 0 {
                return Err("no metrics returned matched known pods".to_string());
            }
            #[expect(clippy::cast_possible_truncation, reason = "as upstream's conversion to 32 bits")]
            let used = (total.wrapping_mul(100) / requested) as i32;
            let average = total / i64::try_from(known.len()).unwrap_or(1).max(1);
            Ok((f64::from(used) / f64::from(*percent), used, average))
        }
    }
}

/// For a target percentage of the pods' requests. Upstream: GetResourceReplicas.
///
/// # Errors
/// No pod, or no metric, can be counted.
pub fn by_utilization(
    view: &View<'_>,
    samples: Samples,
    requests: &BTreeMap<String, i64>,
    percent: i32,
    cpu: bool,
) -> Result<Proposal, String> {
    propose(view, samples, &Target::Utilization { requests, percent }, cpu)
}

/// For a target average per pod. Upstream: calcPlainMetricReplicas.
///
/// # Errors
/// No pod, or no metric, can be counted.
pub fn by_usage(view: &View<'_>, samples: Samples, target: i64, cpu: bool) -> Result<Proposal, String> {
    propose(view, samples, &Target::Usage(target), cpu)
}

fn propose(
    view: &View<'_>,
    mut samples: Samples,
    target: &Target<'_>,
    cpu: bool,
) -> Result<Proposal, String> {
    some_pods(view)?;
    let groups = group(view, &samples, cpu);
    samples.retain(|name, _| !groups.ignored.contains(name) && !groups.unready.contains(name));
    if samples.is_empty() {
        return Err("did not receive metrics for targeted pods (pods might be unready)".to_string());
    }
    let (used, utilization, usage) = ratio(&samples, target)?;
    let stay = Proposal { replicas: view.current, utilization, usage };
    let grows_with_unready = !groups.unready.is_empty() && used > 1.0;
    if !grows_with_unready && groups.missing.is_empty() {
        let ready = f64::from(u32::try_from(groups.ready).unwrap_or(u32::MAX));
        let to = if view.tolerances.cover(used) { view.current } else { ceil(used * ready) };
        return Ok(Proposal { replicas: to, ..stay });
    }
    assume_missing(&mut samples, &groups, target, used, view.now);
    if grows_with_unready {
        let idle = Sample { value: 0, at: view.now, window: Duration::ZERO };
        samples.extend(groups.unready.iter().map(|name| (name.clone(), idle)));
    }
    let (again, _, _) = ratio(&samples, target)?;
    let turned = (used < 1.0 && again > 1.0) || (used > 1.0 && again < 1.0);
    if view.tolerances.cover(again) || turned {
        return Ok(stay);
    }
    let to = ceil(again * f64::from(u32::try_from(samples.len()).unwrap_or(u32::MAX)));
    let against = (again < 1.0 && to > view.current) || (again > 1.0 && to < view.current);
    Ok(if against { stay } else { Proposal { replicas: to, ..stay } })
}

fn some_pods(view: &View<'_>) -> Result<(), String> {
    if view.pods.is_empty() {
        return Err("no pods returned by selector while calculating replica count".to_string());
    }
    Ok(())
}

/// Pods without metrics are taken for busy when shrinking, and for idle when growing.
fn assume_missing(samples: &mut Samples, groups: &Groups, target: &Target<'_>, used: f64, now: Timestamp) {
    let value = |name: &String| match target {
        _ if used > 1.0 => 0,
        Target::Usage(target) => *target,
        Target::Utilization { requests, percent } => {
            let request = requests.get(name).copied().unwrap_or(0);
            request.wrapping_mul(i64::from((*percent).max(100))) / 100
        }
    };
    #[expect(clippy::float_cmp, reason = "exactly the target: neither direction")]
    if used == 1.0 {
        return;
    }
    for name in &groups.missing {
        samples.insert(name.clone(), Sample { value: value(name), at: now, window: Duration::ZERO });
    }
}

/// For a metric that is not any pod's own. From zero pods the ratio itself is the number.
/// Upstream: getUsageRatioReplicaCount.
///
/// # Errors
/// There are no pods.
pub fn by_ratio(view: &View<'_>, usage: i64, target: i64) -> Result<Proposal, String> {
    let ratio = float(usage) / float(target);
    let stay = Proposal { replicas: view.current, utilization: 0, usage };
    if view.current == 0 {
        return Ok(Proposal { replicas: ceil(ratio), ..stay });
    }
    if view.tolerances.cover(ratio) {
        return Ok(stay);
    }
    some_pods(view).map_err(|e| format!("unable to calculate ready pods: {e}"))?;
    let is_ready = |p: &&Arc<Pod>| pods::phase(p) == "Running" && pods::is_ready(p);
    let ready = view.pods.iter().filter(is_ready).count();
    let ready = f64::from(u32::try_from(ready).unwrap_or(u32::MAX));
    Ok(Proposal { replicas: ceil(ratio * ready), ..stay })
}

/// For a metric shared by all pods, with a target per pod; `pods` is the size in the target's status.
/// Upstream: GetObjectPerPodMetricReplicas, GetExternalPerPodMetricReplicas.
pub fn per_pod(pods: i32, tolerances: Tolerances, usage: i64, target: i64) -> Proposal {
    let ratio = float(usage) / (float(target) * f64::from(pods));
    let replicas = if tolerances.cover(ratio) { pods } else { ceil(float(usage) / float(target)) };
    #[expect(clippy::cast_possible_truncation, reason = "the cast saturates")]
    let average = if usage == i64::MAX { usage } else { (float(usage) / f64::from(pods)).ceil() as i64 };
    Proposal { replicas, utilization: 0, usage: average }
}

/// Adds values up; a sum that does not fit is as large as possible.
pub fn sum(values: &[i64]) -> i64 {
    values.iter().fold(0i64, |sum, value| sum.saturating_add(*value))
}
