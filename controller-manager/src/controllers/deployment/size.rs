//! Arithmetic of a roll-out: how many pods may exist, be missing, move. Pure.
//! Upstream: pkg/controller/deployment/util/deployment_util.go.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// Number of pods that a set held at most while it was last scaled with its Deployment.
pub const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";
/// The Deployment's number of pods when the set was last scaled with it.
pub const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";

/// Wanted number of pods of a Deployment.
pub fn wanted(deployment: &Deployment) -> i32 {
    deployment.spec.replicas.unwrap_or(1)
}

/// Wanted number of pods of a set.
pub fn replicas(set: &ReplicaSet) -> i32 {
    set.spec.replicas.unwrap_or(1)
}

/// Pods of a set that have been ready for long enough.
pub fn available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|s| s.available_replicas).unwrap_or(0)
}

/// Sum over sets.
pub fn total<'a>(sets: impl IntoIterator<Item = &'a ReplicaSet>, of: impl Fn(&ReplicaSet) -> i32) -> i32 {
    sets.into_iter().map(of).sum()
}

/// Pods are replaced little by little.
pub fn is_rolling(deployment: &Deployment) -> bool {
    let strategy = deployment.spec.strategy.as_ref();
    strategy.and_then(|s| s.type_.as_deref()).unwrap_or("RollingUpdate") == "RollingUpdate"
}

/// (surge, unavailable), never both zero: then nothing could move.
fn bounds(deployment: &Deployment) -> (i32, i32) {
    let strategy = deployment.spec.strategy.as_ref();
    let rolling = strategy.and_then(|s| s.rolling_update.as_ref());
    let surge = scaled(rolling.and_then(|r| r.max_surge.as_ref()), wanted(deployment), true);
    let unavailable = scaled(rolling.and_then(|r| r.max_unavailable.as_ref()), wanted(deployment), false);
    if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable) }
}

/// A number or a percentage of `of`. Malformed ones count as zero: the API server refuses them.
fn scaled(value: Option<&IntOrString>, of: i32, up: bool) -> i32 {
    match value {
        None => 0,
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(text)) => {
            let percent = text.strip_suffix('%').and_then(|p| p.parse::<i64>().ok()).unwrap_or(0);
            let product = percent * i64::from(of);
            let share = if up { (product + 99).div_euclid(100) } else { product.div_euclid(100) };
            i32::try_from(share).unwrap_or(0)
        }
    }
}

/// Pods beyond the wanted number.
pub fn max_surge(deployment: &Deployment) -> i32 {
    if is_rolling(deployment) { bounds(deployment).0 } else { 0 }
}

/// Pods that may be missing.
pub fn max_unavailable(deployment: &Deployment) -> i32 {
    let want = wanted(deployment);
    if is_rolling(deployment) && want != 0 { bounds(deployment).1.min(want) } else { 0 }
}

/// The new set's next size: as far as the surge allows.
pub fn new_set_size<'a>(
    deployment: &Deployment,
    sets: impl IntoIterator<Item = &'a ReplicaSet>,
    current: i32,
) -> i32 {
    let want = wanted(deployment);
    if !is_rolling(deployment) {
        return want;
    }
    let strategy = deployment.spec.strategy.as_ref();
    let surge = scaled(strategy.and_then(|s| s.rolling_update.as_ref()?.max_surge.as_ref()), want, true);
    let room = want + surge - total(sets, replicas);
    if room <= 0 { current } else { current + room.min(want - current) }
}

/// A set's part when several sets share a change of `to_add` pods, `added` of which are given out.
pub fn proportion(set: &ReplicaSet, deployment: &Deployment, to_add: i32, added: i32) -> i32 {
    let size = replicas(set);
    if size == 0 || to_add == 0 || to_add == added {
        return 0;
    }
    let part = fraction(set, deployment);
    let left = to_add - added;
    if to_add > 0 { part.min(left) } else { part.max(left) }
}

fn fraction(set: &ReplicaSet, deployment: &Deployment) -> i32 {
    let size = replicas(set);
    if wanted(deployment) == 0 {
        return -size;
    }
    let max_now = wanted(deployment) + max_surge(deployment);
    let noted = annotation(set, MAX_REPLICAS).filter(|n| *n != 0);
    let before = noted.unwrap_or_else(|| deployment.status.as_ref().and_then(|s| s.replicas).unwrap_or(0));
    if before == 0 {
        return 0;
    }
    let new = f64::from(size.saturating_mul(max_now)) / f64::from(before);
    // Half away from zero.
    #[expect(clippy::cast_possible_truncation, reason = "both factors are pod counts, far below 2^31")]
    let rounded = new.round() as i32;
    rounded - size
}

/// A count kept in an annotation.
pub fn annotation(set: &ReplicaSet, name: &str) -> Option<i32> {
    let text = set.metadata.annotations.as_ref()?.get(name)?;
    text.parse::<u32>().ok().and_then(|n| i32::try_from(n).ok())
}

/// All wanted pods are of this set, and available.
pub fn is_saturated(deployment: &Deployment, set: &ReplicaSet) -> bool {
    let want = wanted(deployment);
    replicas(set) == want && annotation(set, DESIRED_REPLICAS) == Some(want) && available(set) == want
}
