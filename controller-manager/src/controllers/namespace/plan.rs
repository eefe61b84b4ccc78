//! What the objects that stay in a namespace mean for it. Pure.
//! Upstream: pkg/controller/namespace/deletion/namespaced_resources_deleter.go (`deleteAllContent`,
//! `deleteAllContentForGroupVersionResource`, `estimateGracefulTermination`).

use std::time::Duration;

use client::{Gvr, PartialObjectMetadata};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;

use super::conditions::Findings;
use crate::kept::Pod;

/// The finalizer that this controller removes.
const FINALIZER: &str = "kubernetes";
/// When to look again at objects that finalizers keep.
const FINALIZER_ESTIMATE: Duration = Duration::from_secs(15);

/// Nobody keeps the namespace any more.
pub fn is_finalized(namespace: &Namespace) -> bool {
    namespace.spec.as_ref().and_then(|s| s.finalizers.as_ref()).is_none_or(Vec::is_empty)
}

/// Takes the finalizer off, and no other.
pub fn let_go(namespace: &mut Namespace) {
    if let Some(finalizers) = namespace.spec.as_mut().and_then(|s| s.finalizers.as_mut()) {
        finalizers.retain(|f| f != FINALIZER);
    }
}

/// The longest time that a pod may still take to end; none once it is over.
pub fn pods_grace(pods: &[Pod], deleted_at: Option<Timestamp>, now: Timestamp) -> Duration {
    let unfinished = pods.iter().filter(|p| !crate::pods::is_terminal(p));
    let longest = unfinished
        .filter_map(|p| p.spec.as_ref()?.termination_grace_period_seconds)
        .filter_map(|s| u64::try_from(s).ok())
        .max()
        .map_or(Duration::ZERO, Duration::from_secs);
    let passed = deleted_at.map_or(Duration::ZERO, |t| now.duration_since(t).unsigned_abs());
    if passed >= longest { Duration::ZERO } else { longest }
}

/// What is left of resources, and when to look again.
#[derive(Debug, Default, PartialEq)]
pub struct Left {
    pub look_again: Duration,
    pub findings: Findings,
}

/// How a round ends.
#[derive(Debug, PartialEq)]
pub enum Next {
    /// Something could not be found out or deleted.
    Fail(String),
    LookAgain(Duration),
    /// The namespace is empty: let it go.
    Finalize,
}

impl Left {
    pub fn add(&mut self, other: Left) {
        self.look_again = self.look_again.max(other.look_again);
        self.findings.failures.extend(other.findings.failures);
        self.findings.remaining.extend(other.findings.remaining);
        for (finalizer, count) in other.findings.finalizers {
            *self.findings.finalizers.entry(finalizer).or_default() += count;
        }
    }

    /// Decides. Only a round that found nothing lets the namespace go.
    pub fn next(&self) -> Next {
        let failures: Vec<&str> =
            self.findings.undiscovered.iter().chain(&self.findings.failures).map(String::as_str).collect();
        if !failures.is_empty() {
            return Next::Fail(failures.join(", "));
        }
        if !self.look_again.is_zero() {
            return Next::LookAgain(self.look_again / 2 + Duration::from_secs(1));
        }
        Next::Finalize
    }
}

/// Judges the objects that stayed: they end by themselves, wait for finalizers, or should not be there.
pub fn what_is_left(gvr: &Gvr, namespace: &str, items: &[PartialObjectMetadata], grace: Duration) -> Left {
    let mut left = Left::default();
    if items.is_empty() {
        return left;
    }
    left.findings.remaining.insert(format!("{}.{}", gvr.resource, gvr.group), items.len());
    for finalizer in items.iter().flat_map(|i| i.metadata.finalizers.iter().flatten()) {
        *left.findings.finalizers.entry(finalizer.clone()).or_default() += 1;
    }
    left.look_again = match (grace.is_zero(), left.findings.finalizers.is_empty()) {
        (false, _) => grace,
        (true, false) => FINALIZER_ESTIMATE,
        (true, true) => {
            let failure = format!("unexpected items still remain in namespace: {namespace} for gvr: {gvr}");
            left.findings.failures.push(failure);
            Duration::ZERO
        }
    };
    left
}
