//! HorizontalPodAutoscaler: gives anything with a `scale` as many pods as its metrics call for.
//!
//! Start reading at [`replicas`] (how many pods a metric calls for), then [`limits`] (how fast the size may change) and
//! [`compute`] (metric by metric). Upstream: pkg/controller/podautoscaler/horizontal.go.

mod compute;
mod limits;
mod metrics;
mod replicas;
mod requests;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use client::{Client, Gvr, Meta};
use component::app::Error;
use component::features::{self, Gate};
use controller::limiter::RateLimiter;
use controller::{EventRecorder, NORMAL, WARNING, WorkQueue, reference};
use hashbrown::HashMap;
use informer::{Event, Options, Store};
use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::api::autoscaling::v2::{
    HorizontalPodAutoscaler, HorizontalPodAutoscalerCondition, HorizontalPodAutoscalerStatus, MetricStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use machinery::Quantity;
use machinery::labels::Selector;
use parking_lot::Mutex;

use self::compute::Target;
use self::limits::{History, Sizes};
use self::metrics::Metrics;
use self::replicas::{Delays, Tolerances, View};
use super::shared::key;
use super::shared::own_writes::OwnWrites;
use super::shared::scales::{Scales, group_version};
use crate::context::Context;
use crate::descriptor::Running;
use crate::kept::Pod;

const ACTIVE: &str = "ScalingActive";
const ABLE: &str = "AbleToScale";
const SCALED_TO_ZERO: &str = "ScaledToZero";
const CONFLICTS: usize = 5;

/// Flags.
#[derive(Clone)]
struct Settings {
    period: Duration,
    tolerance: f64,
    window: Duration,
    delays: Delays,
}

struct Shell {
    client: Client,
    autoscalers: Store<HorizontalPodAutoscaler>,
    pods: Store<Pod>,
    scales: Scales,
    metrics: Metrics,
    queue: WorkQueue<String>,
    settings: Settings,
    histories: Mutex<HashMap<String, History>>,
    /// The selector of each autoscaler's pods, to find those that two of them manage.
    selectors: Mutex<HashMap<String, Selector>>,
    writes: OwnWrites,
    recorder: EventRecorder,
}

/// Always the same pause: every autoscaler is looked at once a period.
struct Period(Duration);

impl RateLimiter<String> for Period {
    fn when(&mut self, _: &String) -> Duration {
        self.0
    }
    fn forget(&mut self, _: &String) {}
    fn requeues(&self, _: &String) -> u32 {
        1
    }
}

/// Builds the controller.
pub fn build(context: &Context) -> Result<Running, Error> {
    let autoscalers = context.factory.informer::<HorizontalPodAutoscaler>(Options::default());
    let all_pods = context.factory.informer::<Pod>(Options::default());
    let flags = &context.flags;
    let settings = Settings {
        period: flags.duration("horizontal-pod-autoscaler-sync-period"),
        tolerance: flags.float("horizontal-pod-autoscaler-tolerance"),
        window: flags.duration("horizontal-pod-autoscaler-downscale-stabilization"),
        delays: Delays {
            cpu_initialization: flags.duration("horizontal-pod-autoscaler-cpu-initialization-period"),
            initial_readiness: flags.duration("horizontal-pod-autoscaler-initial-readiness-delay"),
        },
    };
    let shell = Arc::new(Shell {
        client: context.client(),
        autoscalers: autoscalers.store(),
        pods: all_pods.store(),
        scales: Scales::new(context.client()),
        metrics: Metrics::new(context.client()),
        queue: WorkQueue::with_limiter("horizontalpodautoscaler", Period(settings.period)),
        settings,
        histories: Mutex::default(),
        selectors: Mutex::default(),
        writes: OwnWrites::new().cache("horizontalpodautoscalers.autoscaling", autoscalers.store()),
        recorder: context.recorder("horizontal-pod-autoscaler"),
    });
    let to = shell.clone();
    autoscalers.subscribe(move |event| to.changed(&event));
    let workers = context.workers("concurrent-horizontal-pod-autoscaler-syncs");
    let token = context.token.clone();
    Ok(Box::pin(async move {
        if !(autoscalers.wait_synced(&token).await && all_pods.wait_synced(&token).await) {
            return;
        }
        let queue = shell.queue.clone();
        queue
            .run(workers, &token, move |key: String| {
                let shell = shell.clone();
                async move { Ok::<_, String>(shell.sync(&key).await) }
            })
            .await;
    }))
}

/// One round's work on an autoscaler.
struct Round {
    hpa: HorizontalPodAutoscaler,
    now: Timestamp,
}

impl Round {
    fn status(&mut self) -> &mut HorizontalPodAutoscalerStatus {
        self.hpa.status.get_or_insert_default()
    }

    fn tell(&mut self, kind: &str, is_true: bool, reason: &str, message: &str) {
        let now = self.now;
        set_condition(self.status().conditions.get_or_insert_default(), kind, is_true, reason, message, now);
    }
}

/// Sets a condition; the transition time moves only with the status. Upstream: setConditionInList.
fn set_condition(
    all: &mut Vec<HorizontalPodAutoscalerCondition>,
    kind: &str,
    is_true: bool,
    reason: &str,
    message: &str,
    now: Timestamp,
) {
    let word = if is_true { "True" } else { "False" };
    let at = all.iter().position(|c| c.type_ == kind).unwrap_or_else(|| {
        all.push(HorizontalPodAutoscalerCondition { type_: kind.to_string(), ..Default::default() });
        all.len() - 1
    });
    let condition = &mut all[at];
    if condition.status != word {
        condition.last_transition_time = Some(Time(now));
    }
    condition.status = word.to_string();
    condition.reason = Some(reason.to_string());
    condition.message = Some(message.to_string());
}

/// The condition is there and true.
fn is_told(hpa: &HorizontalPodAutoscaler, kind: &str) -> bool {
    let conditions = hpa.status.iter().flat_map(|s| s.conditions.iter().flatten());
    conditions.into_iter().any(|c| c.type_ == kind && c.status == "True")
}

/// Some metric is not the pods' own, so that it can be read without pods.
fn sees_beyond_pods(hpa: &HorizontalPodAutoscaler) -> bool {
    let metrics = hpa.spec.metrics.as_deref().unwrap_or_default();
    metrics.iter().any(|m| m.type_ == "Object" || m.type_ == "External")
}

impl Shell {
    fn changed(&self, event: &Event<HorizontalPodAutoscaler>) {
        let hpa = event.object();
        let hpa_key = key(&**hpa);
        match event {
            Event::Deleted(_) => {
                self.writes.forget(&hpa_key);
                self.selectors.lock().remove(&hpa_key);
                self.queue.add(hpa_key);
            }
            Event::Updated { old, new } => {
                let respecified = features::enabled(Gate::HPAGeneration)
                    && old.metadata.generation != new.metadata.generation;
                if respecified {
                    self.queue.add(hpa_key);
                } else {
                    self.queue.add_rate_limited(hpa_key);
                }
            }
            Event::Added(_) => self.queue.add(hpa_key),
        }
    }

    /// Failures are told, and tried again after the period like everything else.
    async fn sync(&self, hpa_key: &str) -> Option<Duration> {
        let again = Some(self.settings.period);
        if let Err(e) = self.writes.seen(hpa_key) {
            tracing::debug!(autoscaler = hpa_key, error = e, "The cache is behind");
            return again;
        }
        let Some(hpa) = self.autoscalers.get(hpa_key) else {
            self.histories.lock().remove(hpa_key);
            self.selectors.lock().remove(hpa_key);
            self.writes.forget(hpa_key);
            return None;
        };
        if let Err(e) = self.reconcile(hpa_key, &hpa).await {
            tracing::warn!(autoscaler = hpa_key, error = e, "The autoscaler did not do all it should");
        }
        again
    }

    async fn reconcile(&self, hpa_key: &str, cached: &HorizontalPodAutoscaler) -> Result<(), String> {
        let mut round = Round { hpa: cached.clone(), now: Timestamp::now() };
        let result = self.adjust(hpa_key, &mut round).await;
        if round.hpa.status == cached.status {
            return result;
        }
        let api = self.client.namespaced::<HorizontalPodAutoscaler>(cached.namespace());
        match api.replace_status(&round.hpa).await {
            Ok(written) => {
                self.writes.wrote(hpa_key, "horizontalpodautoscalers.autoscaling", &written);
                result
            }
            Err(e) => {
                self.recorder.event(&reference(cached), WARNING, "FailedUpdateStatus", &e.to_string());
                result.and(Err(format!("failed to update status for {}: {e}", cached.name())))
            }
        }
    }

    /// The target's scale, from the first of its resources that answers.
    async fn scale(&self, hpa: &HorizontalPodAutoscaler) -> Result<(Gvr, Scale), String> {
        let target = &hpa.spec.scale_target_ref;
        let (group, _) = group_version(target.api_version.as_deref().unwrap_or_default())?;
        let mut failure = None;
        for resource in self.scales.resources(group, None, &target.kind).await? {
            match self.scales.get(&resource.gvr, hpa.namespace(), &target.name).await {
                Ok(scale) => return Ok((resource.gvr, scale)),
                Err(e) => failure = failure.or(Some(e)),
            }
        }
        Err(failure.map_or_else(|| "unrecognized resource".to_string(), |e| e.to_string()))
    }

    async fn adjust(&self, hpa_key: &str, round: &mut Round) -> Result<(), String> {
        let target = round.hpa.spec.scale_target_ref.clone();
        let about = format!("{}/{}/{}", target.kind, round.hpa.namespace(), target.name);
        let (gvr, scale) = match self.scale(&round.hpa).await {
            Ok(found) => found,
            Err(e) => {
                self.recorder.event(&reference(&round.hpa), WARNING, "FailedGetScale", &e);
                let message = format!("the HPA controller was unable to get the target's current scale: {e}");
                round.tell(ABLE, false, "FailedGetScale", &message);
                return Err(format!("failed to query scale subresource for {about}: {e}"));
            }
        };
        let message = "the HPA controller was able to get the target's current scale";
        round.tell(ABLE, true, "SucceededGetScale", message);
        let current = scale.spec.as_ref().and_then(|s| s.replicas).unwrap_or(0);
        self.histories.lock().entry_ref(hpa_key).or_default().begin(current, round.now);
        let min = round.hpa.spec.min_replicas.unwrap_or(1);
        let max = round.hpa.spec.max_replicas;
        let (wanted, reason, statuses, failure) = if current > 0 && current > max {
            (max, "Current number of replicas above Spec.MaxReplicas".to_string(), Vec::new(), None)
        } else if current > 0 && current < min {
            (min, "Current number of replicas below Spec.MinReplicas".to_string(), Vec::new(), None)
        } else if current == 0 && !self.wakes(&round.hpa, min) {
            let message = "scaling is disabled since the replica count of the target is zero";
            round.tell(ACTIVE, false, "ScalingDisabled", message);
            if !features::enabled(Gate::HPAScaleToZero) {
                forget_zero(round);
            }
            (0, String::new(), Vec::new(), None)
        } else {
            self.measure(hpa_key, round, &scale, current, min).await.map_err(|e| {
                format!(
                    "failed to compute desired number of replicas based on listed metrics for {about}: {e}"
                )
            })?
        };
        let rescaled = wanted != current;
        if rescaled {
            self.rescale(round, &gvr, scale, wanted, &reason, &statuses, current)
                .await
                .map_err(|e| format!("failed to rescale {about}: {e}"))?;
            let behavior = round.hpa.spec.behavior.clone();
            let mut histories = self.histories.lock();
            histories.entry_ref(hpa_key).or_default().scaled(behavior.as_ref(), current, wanted, round.now);
            drop(histories);
            tell_zero(round, current, wanted, min);
        }
        set_status(round, current, wanted, statuses, rescaled);
        failure.map_or(Ok(()), Err)
    }

    /// Metrics are looked at although there are no pods: the autoscaler itself brought the size to zero, and can see a
    /// reason to raise it, or has a minimum again.
    fn wakes(&self, hpa: &HorizontalPodAutoscaler, min: i32) -> bool {
        let zeroed = features::enabled(Gate::HPAScaleToZero) && is_told(hpa, SCALED_TO_ZERO);
        zeroed && (min != 0 || sees_beyond_pods(hpa))
    }

    /// The size that the metrics call for, why, their status, and what failed although a size was found.
    async fn measure(
        &self,
        hpa_key: &str,
        round: &mut Round,
        scale: &Scale,
        current: i32,
        min: i32,
    ) -> Result<(i32, String, Vec<MetricStatus>, Option<String>), String> {
        let status = scale.status.clone().unwrap_or_default();
        let text = status.selector.clone().unwrap_or_default();
        let metrics = round.hpa.spec.metrics.clone().unwrap_or_default();
        let pods = match self.selected(hpa_key, round, &text) {
            Ok(pods) => pods,
            Err(e) => {
                self.give_up(round, current, Vec::new(), &e);
                return Err(e);
            }
        };
        let view = View {
            pods: &pods,
            current,
            tolerances: self.tolerances(&round.hpa),
            delays: self.settings.delays,
            now: round.now,
        };
        let target = Target { view, pods: &pods, status_replicas: status.replicas, selector: &text };
        let sum = self.compute(&round.hpa, &target, &metrics).await;
        let Some((proposal, metric)) = sum.proposal else {
            if let Some((reason, message)) = &sum.condition {
                round.tell(ACTIVE, false, reason, message);
            }
            let e = sum.error.unwrap_or_else(|| "no metrics are given".to_string());
            self.give_up(round, current, sum.statuses, &e);
            return Err(e);
        };
        let message = format!("the HPA was able to successfully calculate a replica count from {metric}");
        round.tell(ACTIVE, true, "ValidMetricFound", &message);
        let (wanted, reason) = self.hold_back(hpa_key, round, current, proposal.max(0), min, &metric);
        Ok((wanted, reason, sum.statuses, sum.error))
    }

    /// Applies the limits. Also why the size changes.
    fn hold_back(
        &self,
        hpa_key: &str,
        round: &mut Round,
        current: i32,
        desired: i32,
        min: i32,
        metric: &str,
    ) -> (i32, String) {
        let mut reason = match desired.cmp(&current) {
            std::cmp::Ordering::Greater => format!("{metric} above target"),
            std::cmp::Ordering::Less => "All metrics below target".to_string(),
            std::cmp::Ordering::Equal => String::new(),
        };
        let sizes = Sizes { current, desired, min, max: round.hpa.spec.max_replicas };
        let mut histories = self.histories.lock();
        let history = histories.entry_ref(hpa_key).or_default();
        let (mut wanted, told) = history.normalize(&round.hpa.spec, sizes, self.settings.window, round.now);
        drop(histories);
        for (kind, is_true, reason, message) in told {
            round.tell(kind, is_true, reason, message);
        }
        let zeroed = features::enabled(Gate::HPAScaleToZero) && is_told(&round.hpa, SCALED_TO_ZERO);
        if current == 0 && min != 0 && zeroed && wanted < min {
            wanted = min;
            if reason.is_empty() {
                reason = "Current number of replicas below Spec.MinReplicas".to_string();
            }
        }
        (wanted, reason)
    }

    /// The pods of the target. That two autoscalers manage the same ones is a mistake of their owner.
    fn selected(&self, hpa_key: &str, round: &mut Round, text: &str) -> Result<Vec<Arc<Pod>>, String> {
        let about = reference(&round.hpa);
        if text.is_empty() {
            let message = "the HPA target's scale is missing a selector";
            self.recorder.event(&about, WARNING, "SelectorRequired", "selector is required");
            round.tell(ACTIVE, false, "InvalidSelector", message);
            return Err("selector is required".to_string());
        }
        let wanted = machinery::labels::parse(text).map_err(|e| {
            let message =
                format!("couldn't convert selector into a corresponding internal selector object: {e}");
            self.recorder.event(&about, WARNING, "InvalidSelector", &message);
            round.tell(ACTIVE, false, "InvalidSelector", &message);
            message
        })?;
        let namespace = round.hpa.namespace().to_string();
        let all = self.pods.list_namespace(&namespace);
        let pods: Vec<Arc<Pod>> =
            all.into_iter().filter(|p| wanted.matches(&p.metadata.labels.as_ref())).collect();
        let others: Vec<String> = {
            let mut selectors = self.selectors.lock();
            selectors.insert(hpa_key.to_string(), wanted);
            let prefix = format!("{namespace}/");
            let same = |s: &Selector| pods.iter().any(|p| s.matches(&p.metadata.labels.as_ref()));
            selectors
                .iter()
                .filter(|(k, s)| k.starts_with(&prefix) && same(s))
                .map(|(k, _)| k.clone())
                .collect()
        };
        if others.len() > 1 {
            let some: Vec<&str> = others.iter().take(2).map(String::as_str).collect();
            let message = format!(
                "pods by selector {text} are controlled by more than one HPA (e.g. [{}])",
                some.join(" ")
            );
            self.recorder.event(&about, WARNING, "AmbiguousSelector", &message);
            round.tell(ACTIVE, false, "AmbiguousSelector", &message);
            return Err(message);
        }
        Ok(pods)
    }

    fn give_up(&self, round: &mut Round, current: i32, statuses: Vec<MetricStatus>, error: &str) {
        let desired = round.hpa.status.as_ref().map_or(0, |s| s.desired_replicas);
        set_status(round, current, desired, statuses, false);
        self.recorder.event(&reference(&round.hpa), WARNING, "FailedComputeMetricsReplicas", error);
    }

    fn tolerances(&self, hpa: &HorizontalPodAutoscaler) -> Tolerances {
        let behavior =
            hpa.spec.behavior.as_ref().filter(|_| features::enabled(Gate::HPAConfigurableTolerance));
        let stated = |rules: Option<&k8s_openapi::api::autoscaling::v2::HPAScalingRules>| {
            let text = rules.and_then(|r| r.tolerance.as_ref())?;
            Quantity::parse(&text.0).ok().map(|q| q.as_f64())
        };
        Tolerances {
            down: stated(behavior.and_then(|b| b.scale_down.as_ref())).unwrap_or(self.settings.tolerance),
            up: stated(behavior.and_then(|b| b.scale_up.as_ref())).unwrap_or(self.settings.tolerance),
        }
    }

    /// Writes the size; a conflict is met with a fresh read.
    #[expect(clippy::too_many_arguments, reason = "all of it is told when the write fails")]
    async fn rescale(
        &self,
        round: &mut Round,
        gvr: &Gvr,
        mut scale: Scale,
        wanted: i32,
        reason: &str,
        statuses: &[MetricStatus],
        current: i32,
    ) -> Result<(), String> {
        let (namespace, name) =
            (round.hpa.namespace().to_string(), round.hpa.spec.scale_target_ref.name.clone());
        let about = reference(&round.hpa);
        for attempt in 1.. {
            scale.spec.get_or_insert_default().replicas = Some(wanted);
            let error = match self.scales.replace(gvr, &namespace, &name, &scale).await {
                Ok(_) => break,
                Err(e) => e,
            };
            if error.is_conflict()
                && attempt < CONFLICTS
                && let Ok(fresh) = self.scales.get(gvr, &namespace, &name).await
            {
                scale = fresh;
                continue;
            }
            let event = format!("New size: {wanted}; reason: {reason}; error: {error}");
            self.recorder.event(&about, WARNING, "FailedRescale", &event);
            let message = format!("the HPA controller was unable to update the target scale: {error}");
            round.tell(ABLE, false, "FailedUpdateScale", &message);
            let desired = round.hpa.status.as_ref().map_or(0, |s| s.desired_replicas);
            set_status(round, current, desired, statuses.to_vec(), false);
            return Err(error.to_string());
        }
        let message = format!("the HPA controller was able to update the target scale to {wanted}");
        round.tell(ABLE, true, "SucceededRescale", &message);
        let event = format!("New size: {wanted}; reason: {reason}");
        self.recorder.event(&about, NORMAL, "SuccessfulRescale", &event);
        Ok(())
    }
}

fn forget_zero(round: &mut Round) {
    if let Some(all) = &mut round.status().conditions {
        all.retain(|c| c.type_ != SCALED_TO_ZERO);
    }
}

/// Tells whether it was this autoscaler that brought the size to zero, after every change of it.
fn tell_zero(round: &mut Round, current: i32, wanted: i32, min: i32) {
    if !features::enabled(Gate::HPAScaleToZero) {
        forget_zero(round);
    } else if current > 0 && wanted == 0 && min == 0 && sees_beyond_pods(&round.hpa) {
        let message = "the HPA controller scaled the workload to zero";
        round.tell(SCALED_TO_ZERO, true, "ScaledToZero", message);
    } else {
        let message = "the HPA controller did not scale the workload to zero";
        round.tell(SCALED_TO_ZERO, false, "NotScaledToZero", message);
    }
}

/// Upstream: setStatus.
fn set_status(round: &mut Round, current: i32, desired: i32, statuses: Vec<MetricStatus>, rescaled: bool) {
    let (now, generation) = (round.now, round.hpa.metadata.generation);
    let status = round.status();
    status.current_replicas = Some(current);
    status.desired_replicas = desired;
    status.current_metrics = (!statuses.is_empty()).then_some(statuses);
    status.observed_generation = generation.filter(|_| features::enabled(Gate::HPAGeneration));
    if rescaled {
        status.last_scale_time = Some(Time(now));
    }
}
