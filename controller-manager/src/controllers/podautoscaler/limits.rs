//! How fast an autoscaler may move: what was recommended and done lately holds it back. Pure.
//! Upstream: pkg/controller/podautoscaler/horizontal.go normalizeDesiredReplicas and neighbours.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::autoscaling::v2::{
    HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscalerBehavior, HorizontalPodAutoscalerSpec,
};

/// What an autoscaler did and wanted to do.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct History {
    /// Recommendations before they were held back.
    pub recommendations: Vec<(i32, Timestamp)>,
    /// Numbers of pods added, and removed.
    pub ups: Vec<(i32, Timestamp)>,
    pub downs: Vec<(i32, Timestamp)>,
}

/// A condition: type, whether it is true, reason, message.
pub type Told = (&'static str, bool, &'static str, &'static str);

/// Sizes to move between.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    pub current: i32,
    pub desired: i32,
    pub min: i32,
    pub max: i32,
}

const WITHIN: (&str, &str) = ("DesiredWithinRange", "the desired count is within the acceptable range");
const TOO_MANY: (&str, &str) =
    ("TooManyReplicas", "the desired replica count is more than the maximum replica count");
const TOO_FEW: (&str, &str) =
    ("TooFewReplicas", "the desired replica count is less than the minimum replica count");
const UP_LIMIT: (&str, &str) =
    ("ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate");
const DOWN_LIMIT: (&str, &str) =
    ("ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate");
const UP_STABILIZED: (&str, &str) = (
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
);
const DOWN_STABILIZED: (&str, &str) = (
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent recommendation",
);
const READY: (&str, &str) = ("ReadyForNewScale", "recommended size matches current size");

fn ago(now: Timestamp, seconds: i64) -> Timestamp {
    now.checked_sub(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MIN)
}

/// Puts an entry in the place of the last outdated one, or at the end.
fn put(all: &mut Vec<(i32, Timestamp)>, outdated: impl Fn(Timestamp) -> bool, entry: (i32, Timestamp)) {
    match all.iter().rposition(|(_, at)| outdated(*at)) {
        Some(at) => all[at] = entry,
        None => all.push(entry),
    }
}

impl History {
    /// The first size seen counts as a recommendation, so that a new manager does not shrink at once.
    pub fn begin(&mut self, current: i32, now: Timestamp) {
        if self.recommendations.is_empty() {
            self.recommendations.push((current, now));
        }
    }

    /// Notes what was done. Upstream: storeScaleEvent.
    pub fn scaled(
        &mut self,
        behavior: Option<&HorizontalPodAutoscalerBehavior>,
        from: i32,
        to: i32,
        now: Timestamp,
    ) {
        let Some(behavior) = behavior else { return };
        let (rules, all, change) = if to > from {
            (&behavior.scale_up, &mut self.ups, to - from)
        } else {
            (&behavior.scale_down, &mut self.downs, from - to)
        };
        let periods = policies(rules.as_ref()).iter().map(|p| p.period_seconds);
        let cutoff = ago(now, i64::from(periods.max().unwrap_or(0)));
        put(all, |at| at < cutoff, (change, now));
    }

    /// The size to take; `window` is how long higher recommendations hold. Also the conditions.
    pub fn normalize(
        &mut self,
        spec: &HorizontalPodAutoscalerSpec,
        sizes: Sizes,
        window: Duration,
        now: Timestamp,
    ) -> (i32, [Told; 2]) {
        let (stable, why) = match &spec.behavior {
            None => (self.stabilize(sizes.desired, window, now), DOWN_STABILIZED),
            Some(behavior) => self.stabilize_by_rules(behavior, sizes, window, now),
        };
        let able = if stable == sizes.desired { READY } else { why };
        let sizes = Sizes { desired: stable, ..sizes };
        let (to, limit) = match &spec.behavior {
            None => by_default(sizes),
            Some(behavior) => self.by_rules(behavior, sizes, now),
        };
        (to, [("AbleToScale", true, able.0, able.1), ("ScalingLimited", to != stable, limit.0, limit.1)])
    }

    /// The highest recommendation of the window.
    fn stabilize(&mut self, desired: i32, window: Duration, now: Timestamp) -> i32 {
        let cutoff = now.checked_sub(window).unwrap_or(Timestamp::MIN);
        let recent = self.recommendations.iter().filter(|(_, at)| *at >= cutoff);
        let highest = recent.map(|(size, _)| *size).chain([desired]).max().unwrap_or(desired);
        put(&mut self.recommendations, |at| at < cutoff, (desired, now));
        highest
    }

    /// Upstream: stabilizeRecommendationWithBehaviors.
    fn stabilize_by_rules(
        &mut self,
        behavior: &HorizontalPodAutoscalerBehavior,
        sizes: Sizes,
        window: Duration,
        now: Timestamp,
    ) -> (i32, (&'static str, &'static str)) {
        let stated = |rules: &Option<HPAScalingRules>| {
            rules.as_ref().and_then(|r| r.stabilization_window_seconds).map(i64::from)
        };
        let up_cutoff = ago(now, stated(&behavior.scale_up).unwrap_or(0));
        let down_window = i64::try_from(window.as_secs()).unwrap_or(i64::MAX);
        let down_cutoff = ago(now, stated(&behavior.scale_down).unwrap_or(down_window));
        let since = |cutoff: Timestamp| {
            self.recommendations.iter().filter(move |(_, at)| *at > cutoff).map(|(size, _)| *size)
        };
        let lowest = since(up_cutoff).chain([sizes.desired]).min().unwrap_or(sizes.desired);
        let highest = since(down_cutoff).chain([sizes.desired]).max().unwrap_or(sizes.desired);
        let stable = sizes.current.max(lowest).min(highest);
        put(&mut self.recommendations, |at| at < up_cutoff && at < down_cutoff, (sizes.desired, now));
        (stable, if sizes.desired >= sizes.current { UP_STABILIZED } else { DOWN_STABILIZED })
    }

    /// Upstream: convertDesiredReplicasWithBehaviorRate.
    fn by_rules(
        &self,
        behavior: &HorizontalPodAutoscalerBehavior,
        sizes: Sizes,
        now: Timestamp,
    ) -> (i32, (&'static str, &'static str)) {
        let Sizes { current, desired, min, max } = sizes;
        if desired > current {
            let limit = self.up_limit(behavior.scale_up.as_ref(), current, now).max(current);
            let (most, why) = if max > limit { (limit, UP_LIMIT) } else { (max, TOO_MANY) };
            if desired > most {
                return (most, why);
            }
        } else if desired < current {
            let limit = self.down_limit(behavior.scale_down.as_ref(), current, now).min(current);
            let (least, why) = if min < limit { (limit, DOWN_LIMIT) } else { (min, TOO_FEW) };
            if desired < least {
                return (least, why);
            }
        }
        (desired, WITHIN)
    }

    /// The size at the beginning of a policy's period.
    fn before(&self, policy: &HPAScalingPolicy, current: i32, now: Timestamp) -> i32 {
        let cutoff = ago(now, i64::from(policy.period_seconds));
        let sum = |all: &[(i32, Timestamp)]| -> i32 {
            all.iter().filter(|(_, at)| *at > cutoff).map(|(change, _)| *change).sum()
        };
        current - sum(&self.ups) + sum(&self.downs)
    }

    fn up_limit(&self, rules: Option<&HPAScalingRules>, current: i32, now: Timestamp) -> i32 {
        let proposals = policies(rules).iter().map(|policy| {
            let before = self.before(policy, current, now);
            match policy.type_.as_str() {
                "Pods" => before.saturating_add(policy.value),
                _ => truncate((f64::from(before) * (1.0 + f64::from(policy.value) / 100.0)).ceil()),
            }
        });
        match select(rules) {
            "Disabled" => current,
            "Min" => proposals.min().unwrap_or(i32::MAX),
            _ => proposals.max().unwrap_or(i32::MIN),
        }
    }

    fn down_limit(&self, rules: Option<&HPAScalingRules>, current: i32, now: Timestamp) -> i32 {
        let proposals = policies(rules).iter().map(|policy| {
            let before = self.before(policy, current, now);
            match policy.type_.as_str() {
                "Pods" => before.saturating_sub(policy.value),
                _ => truncate(f64::from(before) * (1.0 - f64::from(policy.value) / 100.0)),
            }
        });
        match select(rules) {
            "Disabled" => current,
            "Min" => proposals.max().unwrap_or(i32::MIN),
            _ => proposals.min().unwrap_or(i32::MAX),
        }
    }
}

fn policies(rules: Option<&HPAScalingRules>) -> &[HPAScalingPolicy] {
    rules.and_then(|r| r.policies.as_deref()).unwrap_or_default()
}

fn select(rules: Option<&HPAScalingRules>) -> &str {
    rules.and_then(|r| r.select_policy.as_deref()).unwrap_or("Max")
}

fn truncate(value: f64) -> i32 {
    #[expect(clippy::cast_possible_truncation, reason = "the cast saturates")]
    let whole = value as i32;
    whole
}

/// Without rules a size may double, or grow to four. Upstream: convertDesiredReplicasWithRules.
fn by_default(sizes: Sizes) -> (i32, (&'static str, &'static str)) {
    let Sizes { current, desired, min, max } = sizes;
    let limit = truncate((2.0 * f64::from(current)).max(4.0));
    let (most, why) = if max > limit { (limit, UP_LIMIT) } else { (max, TOO_MANY) };
    if desired < min {
        (min, TOO_FEW)
    } else if desired > most {
        (most, why)
    } else {
        (desired, WITHIN)
    }
}
