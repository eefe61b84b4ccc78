//! The status that a daemon set's pods amount to. Pure.
//! Upstream: pkg/controller/daemon/daemon_controller.go updateDaemonSetStatus, storeDaemonSetStatus.

use k8s_openapi::api::apps::v1::DaemonSetStatus;

use super::node::{Fit, Placement};
use super::plan::{View, order};
use crate::pods;

/// Counts nodes; of several pods on a node the first one counts. `processed`: this generation was acted on.
pub fn status(view: &View<'_>, processed: bool) -> DaemonSetStatus {
    let placement = Placement::new(view.set);
    let mut status = view.set.status.clone().unwrap_or_default();
    let (mut desired, mut current, mut misplaced, mut ready, mut updated, mut available) = (0, 0, 0, 0, 0, 0);
    for node in view.nodes {
        let here = view.pods.get(node.metadata.name.as_deref().unwrap_or_default());
        let pod = here.and_then(|pods| pods.iter().min_by(|a, b| order(a, b)));
        if placement.fit(node) != Fit::Run {
            misplaced += i32::from(pod.is_some());
            continue;
        }
        desired += 1;
        let Some(pod) = pod else { continue };
        current += 1;
        ready += i32::from(pods::is_ready(pod));
        available += i32::from(view.is_available(pod));
        updated += i32::from(view.is_updated(pod));
    }
    status.desired_number_scheduled = desired;
    status.current_number_scheduled = current;
    status.number_misscheduled = misplaced;
    status.number_ready = ready;
    status.updated_number_scheduled = Some(updated);
    status.number_available = Some(available);
    status.number_unavailable = Some(desired - available);
    if processed {
        status.observed_generation = view.set.metadata.generation;
    }
    status
}

/// The status says something that the stored one does not. A count that is absent is zero.
pub fn differs(view: &View<'_>, new: &DaemonSetStatus) -> bool {
    let old = view.set.status.clone().unwrap_or_default();
    let counts = |s: &DaemonSetStatus| {
        [
            s.desired_number_scheduled,
            s.current_number_scheduled,
            s.number_misscheduled,
            s.number_ready,
            s.updated_number_scheduled.unwrap_or(0),
            s.number_available.unwrap_or(0),
            s.number_unavailable.unwrap_or(0),
        ]
    };
    counts(&old) != counts(new)
        || old.observed_generation.unwrap_or(0) < view.set.metadata.generation.unwrap_or(0)
}
