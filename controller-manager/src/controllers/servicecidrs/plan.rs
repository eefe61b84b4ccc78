//! What is next for a ServiceCIDR. Pure.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use client::Meta;
use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

pub const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
const READY: &str = "Ready";
/// API servers that have not seen the deletion yet may still allocate from it.
const GRACE: SignedDuration = SignedDuration::from_secs(10);
const MANAGED_BY: (&str, &str) = ("ipaddress.kubernetes.io/managed-by", "ipallocator.k8s.io");

/// Everything a decision depends on.
pub struct View<'a> {
    pub cidr: &'a ServiceCIDR,
    pub all: &'a [Arc<ServiceCIDR>],
    pub addresses: &'a [Arc<IPAddress>],
}

/// What is next.
#[derive(Debug, PartialEq)]
pub enum Plan {
    Nothing,
    /// Adds the finalizer.
    Guard,
    /// Removes it.
    LetGo,
    Wait(Duration),
    Tell(Box<Condition>),
}

/// The prefixes of a ServiceCIDR.
fn prefixes(cidr: &ServiceCIDR) -> Vec<IpNet> {
    let all = cidr.spec.iter().flat_map(|s| s.cidrs.iter().flatten());
    all.filter_map(|p| net::parse_network(p)).collect()
}

/// An address that an API server allocated.
pub fn is_allocated(address: &IPAddress) -> Option<IpAddr> {
    let by = address.metadata.labels.as_ref().and_then(|l| l.get(MANAGED_BY.0));
    by.filter(|by| *by == MANAGED_BY.1)?;
    address.name().parse().ok()
}

/// Some prefix of one holds some prefix of the other.
pub fn overlaps(a: &ServiceCIDR, b: &ServiceCIDR) -> bool {
    let others = prefixes(b);
    prefixes(a).iter().any(|p| others.iter().any(|o| p.contains(o) || o.contains(p)))
}

/// The address can be allocated from it: not the network's own, nor IPv4's last.
pub fn contains(cidr: &ServiceCIDR, address: IpAddr) -> bool {
    prefixes(cidr).iter().any(|p| {
        p.contains(&address) && p.network() != address && (address.is_ipv6() || p.broadcast() != address)
    })
}

/// All addresses would still have a home. Upstream: canDeleteCIDR.
fn may_go(view: &View<'_>) -> bool {
    let own = prefixes(view.cidr);
    let other = |c: &&Arc<ServiceCIDR>| c.name() != view.cidr.name();
    let covered =
        |p: &IpNet| view.all.iter().filter(other).any(|o| prefixes(o).iter().any(|q| q.contains(p)));
    if own.iter().all(covered) {
        return true;
    }
    let addresses = view.addresses.iter().filter_map(|a| is_allocated(a));
    let homeless =
        |a: IpAddr| contains(view.cidr, a) && !view.all.iter().filter(other).any(|o| contains(o, a));
    !addresses.into_iter().any(homeless)
}

/// Decides.
pub fn plan(view: &View<'_>, now: Timestamp) -> Plan {
    let meta = &view.cidr.metadata;
    let guarded = meta.finalizers.iter().flatten().any(|f| f == FINALIZER);
    let Some(deleted) = &meta.deletion_timestamp else {
        if !guarded {
            return Plan::Guard;
        }
        return tell(view.cidr, "True", "", "Kubernetes Service CIDR is ready", now);
    };
    if !may_go(view) {
        let message = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR";
        return tell(view.cidr, "False", "Terminating", message, now);
    }
    let left = GRACE - now.duration_since(deleted.0);
    if left.is_positive() {
        return Plan::Wait(left.unsigned_abs());
    }
    if guarded { Plan::LetGo } else { Plan::Nothing }
}

fn tell(cidr: &ServiceCIDR, status: &str, reason: &str, message: &str, now: Timestamp) -> Plan {
    let conditions = cidr.status.iter().flat_map(|s| s.conditions.iter().flatten());
    let current = conditions.into_iter().find(|c| c.type_ == READY);
    if current.is_some_and(|c| c.status == status && c.reason == reason && c.message == message) {
        return Plan::Nothing;
    }
    Plan::Tell(Box::new(Condition {
        type_: READY.to_string(),
        status: status.to_string(),
        reason: reason.to_string(),
        message: message.to_string(),
        last_transition_time: Time(now),
        observed_generation: None,
    }))
}
