//! Whether a node still reports, by what was seen of it and when. Pure.
//! Upstream: node_lifecycle_controller.go tryUpdateNodeHealth.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};

use super::taints::condition;

/// Conditions that a silent kubelet leaves unknown. The network's is somebody else's.
const REPORTED: &[&str] = &["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// What was seen of a node. Times are ours: the node's clock may be wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// When something new was seen.
    probed: Timestamp,
    /// Heartbeat of the Ready condition at that time.
    heartbeat: Option<Option<Time>>,
    renewed: Option<MicroTime>,
    /// Version of the lease that counted last.
    pub lease_version: String,
}

/// How long a node may be silent.
#[derive(Debug, Clone, Copy)]
pub struct Grace {
    pub monitor: Duration,
    pub startup: Duration,
}

impl Health {
    /// Starts over: silence counts from now.
    pub fn reset(&mut self, now: Timestamp) {
        self.probed = now;
    }

    /// Takes in what is there now; says whether the node has been silent for too long.
    pub fn observe(
        known: Option<Health>,
        node: &Node,
        lease: Option<&Lease>,
        grace: Grace,
        now: Timestamp,
    ) -> (Health, bool) {
        let ready = condition(node, "Ready");
        let heartbeat = ready.map(|c| c.last_heartbeat_time.clone());
        let created = node.metadata.creation_timestamp.as_ref().map_or(now, |t| t.0);
        let fresh = |probed| Health {
            probed,
            heartbeat: heartbeat.clone(),
            renewed: None,
            lease_version: String::new(),
        };
        let mut health = match known {
            // A node that never reported is given time from its creation on.
            None if ready.is_none() => fresh(created),
            None => fresh(now),
            Some(known) if known.heartbeat == heartbeat => known,
            Some(known) if known.heartbeat.is_some() != heartbeat.is_some() => {
                Health { renewed: known.renewed, lease_version: known.lease_version, ..fresh(now) }
            }
            Some(known) => Health { probed: now, heartbeat, ..known },
        };
        if let Some(lease) = lease {
            let renewed = lease.spec.as_ref().and_then(|s| s.renew_time.clone());
            if health.renewed.is_none() || health.renewed < renewed {
                health.renewed = renewed;
                health.lease_version = lease.metadata.resource_version.clone().unwrap_or_default();
                health.probed = now;
            }
        }
        let grace = if ready.is_none() { grace.startup } else { grace.monitor };
        let silent = now.duration_since(health.probed).unsigned_abs();
        let late = now > health.probed && silent > grace;
        (health, late)
    }
}

/// The conditions of a node that is silent; nothing if they say so already.
pub fn silent(node: &Node, now: Timestamp) -> Option<Vec<NodeCondition>> {
    let old = node.status.as_ref().and_then(|s| s.conditions.clone()).unwrap_or_default();
    let mut new = old.clone();
    for kind in REPORTED {
        match new.iter_mut().find(|c| c.type_ == *kind) {
            None => new.push(NodeCondition {
                type_: (*kind).to_string(),
                status: "Unknown".to_string(),
                reason: Some("NodeStatusNeverUpdated".to_string()),
                message: Some("Kubelet never posted node status.".to_string()),
                last_heartbeat_time: node.metadata.creation_timestamp.clone(),
                last_transition_time: Some(Time(now)),
            }),
            Some(c) if c.status != "Unknown" => {
                c.status = "Unknown".to_string();
                c.reason = Some("NodeStatusUnknown".to_string());
                c.message = Some("Kubelet stopped posting node status.".to_string());
                c.last_transition_time = Some(Time(now));
            }
            Some(_) => {}
        }
    }
    // Only a change of readiness is worth a write.
    let ready = |all: &[NodeCondition]| all.iter().find(|c| c.type_ == "Ready").cloned();
    (ready(&old) != ready(&new)).then_some(new)
}
