//! A text that says everything a cycle reads of a pod's spec: pods with the same text share their [`super::Wants`].
//! Volumes that every pod gets under a name of its own (service account tokens) are not in it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, NodeAffinity, PodResourceClaim, PodSchedulingGate, Toleration, TopologySpreadConstraint,
};
use machinery::quantity::Quantity;
use serde::Serialize;

use super::backing::may_be_devices;
use super::pod::ClaimUse;
use super::resources::{Level, Sums};
use super::wire::{SchedulingGroup, WireContainer, WirePod, WirePort, WireSpec, WireVolume};
use crate::devices::extended::{Ask, ContainerAsks};

#[derive(Serialize)]
struct Said<'a> {
    scheduler: &'a str,
    priority: i32,
    preemption: &'a str,
    sums: &'a Sums,
    ports: Vec<&'a WirePort>,
    selector: &'a BTreeMap<String, String>,
    affinity: Option<(&'a str, &'a Affinity)>,
    tolerations: &'a [Toleration],
    spread: &'a [TopologySpreadConstraint],
    images: (Vec<String>, i64),
    claims: Vec<&'a WireVolume>,
    gates: &'a [PodSchedulingGate],
    features: Vec<&'static str>,
    resource_claims: &'a [PodResourceClaim],
    group: Option<&'a SchedulingGroup>,
    extended: Vec<ContainerAsks>,
    claim_users: Vec<(String, String)>,
    level: Option<&'a Level>,
}

pub fn of(namespace: &str, pod: &WirePod, sums: &Sums, level: Option<&Level>) -> Vec<u8> {
    let spec: &WireSpec = &pod.spec;
    let said = Said {
        scheduler: &spec.scheduler_name,
        priority: spec.priority,
        preemption: &spec.preemption_policy,
        sums,
        ports: ports(spec),
        selector: &spec.node_selector,
        affinity: spec.affinity.as_ref().map(|a| (namespace, a)),
        tolerations: &spec.tolerations,
        spread: &spec.topology_spread_constraints,
        images: images(spec),
        claims: spec.volumes.iter().filter(|v| counts(v)).collect(),
        gates: &spec.scheduling_gates,
        features: features(spec),
        resource_claims: &spec.resource_claims,
        group: spec.scheduling_group.as_ref(),
        extended: extended(spec),
        claim_users: claim_users(spec),
        level,
    };
    // Plain data always has a text.
    serde_json::to_vec(&said).unwrap_or_default()
}

#[derive(Serialize)]
struct SaidOfRow<'a> {
    scheduler: &'a str,
    sums: &'a Sums,
    ports: Vec<&'a WirePort>,
    selector: &'a BTreeMap<String, String>,
    affinity: Option<&'a NodeAffinity>,
    tolerations: &'a [Toleration],
}

/// The part of it that is read with nothing but a row beside it.
pub fn of_row(spec: &WireSpec, sums: &Sums) -> Vec<u8> {
    let said = SaidOfRow {
        scheduler: &spec.scheduler_name,
        sums,
        ports: ports(spec),
        selector: &spec.node_selector,
        affinity: spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref()),
        tolerations: &spec.tolerations,
    };
    serde_json::to_vec(&said).unwrap_or_default()
}

fn ports(spec: &WireSpec) -> Vec<&WirePort> {
    let sidecars = spec.init_containers.iter().filter(|c| c.restart_policy == "Always");
    spec.containers.iter().chain(sidecars).flat_map(|c| &c.ports).filter(|p| p.host_port > 0).collect()
}

fn counts(v: &WireVolume) -> bool {
    v.persistent_volume_claim.is_some() || v.ephemeral.is_some() || single(v)
}

fn single(v: &WireVolume) -> bool {
    v.gce_persistent_disk.is_some()
        || v.aws_elastic_block_store.is_some()
        || v.iscsi.is_some()
        || v.rbd.is_some()
}

/// Volumes of kinds that only one pod may use at a time.
pub fn disks(spec: &WireSpec) -> impl Iterator<Item = &WireVolume> {
    spec.volumes.iter().filter(|v| single(v))
}

pub fn claims(spec: &WireSpec) -> Vec<ClaimUse> {
    let of = |v: &WireVolume| match (&v.persistent_volume_claim, &v.ephemeral) {
        (Some(claim), _) => Some(ClaimUse { name: claim.claim_name.clone(), ephemeral: false }),
        (None, Some(_)) => Some(ClaimUse { name: v.name.clone(), ephemeral: true }),
        (None, None) => None,
    };
    spec.volumes.iter().filter_map(of).collect()
}

/// Images with their tags, and how many containers and image volumes there are.
pub fn images(spec: &WireSpec) -> (Vec<String>, i64) {
    let containers = spec.init_containers.iter().chain(&spec.containers);
    let volumes = spec.volumes.iter().filter_map(|v| v.image.as_ref());
    let count = spec.init_containers.len() + spec.containers.len() + volumes.clone().count();
    let names = containers
        .map(|c| c.image.as_str())
        .chain(volumes.map(|i| i.reference.as_deref().unwrap_or_default()))
        .filter(|n| !n.is_empty());
    (names.map(|n| normalized(n).into_owned()).collect(), i64::try_from(count).unwrap_or(i64::MAX))
}

/// An image without a tag is the latest one. Upstream: imagelocality.normalizedImageName.
fn normalized(name: &str) -> Cow<'_, str> {
    if name.rfind(':') <= name.rfind('/') { format!("{name}:latest").into() } else { name.into() }
}

/// Claims with the containers that use them, init containers first.
pub fn claim_users(spec: &WireSpec) -> Vec<(String, String)> {
    if spec.resource_claims.is_empty() {
        return Vec::new();
    }
    let of = |c: &WireContainer| {
        c.resources.claims.iter().map(|used| (used.name.clone(), c.name.clone())).collect::<Vec<_>>()
    };
    spec.init_containers.iter().chain(&spec.containers).flat_map(of).collect()
}

/// Extended resources by container, of those that ask for some.
pub fn extended(spec: &WireSpec) -> Vec<ContainerAsks> {
    let inits = spec.init_containers.len();
    let all = spec.init_containers.iter().chain(&spec.containers).enumerate();
    let some = all.filter(|(_, c)| c.resources.requests.keys().any(|name| may_be_devices(name)));
    some.map(|(at, c)| {
        let asks = c.resources.requests.iter().enumerate().filter(|(_, (name, _))| may_be_devices(name));
        let asks = asks.map(|(at, (name, q))| Ask {
            resource: name.clone(),
            amount: Quantity::parse(&q.0).map_or(0, |q| q.value()),
            at,
        });
        let ends = at < inits && c.restart_policy != "Always";
        ContainerAsks { container: c.name.clone(), at, ends, asks: asks.collect() }
    })
    .collect()
}

/// What nodes must declare. Upstream: component-helpers/nodedeclaredfeatures/features, InferForScheduling.
pub fn features(spec: &WireSpec) -> Vec<&'static str> {
    let containers = || spec.containers.iter().chain(&spec.init_containers);
    let restarts =
        |c: &WireContainer| c.restart_policy_rules.iter().any(|r| r.action == "RestartAllContainers");
    let bind_options = |c: &WireContainer| c.volume_mounts.iter().any(|m| !m.bind_mount_options.is_empty());
    let mut features = Vec::new();
    if containers().any(restarts) {
        features.push("RestartAllContainersOnContainerExits");
    }
    if spec.host_network && spec.host_users == Some(false) {
        features.push("UserNamespacesHostNetworkSupport");
    }
    if containers().any(bind_options) {
        features.push("VolumeBindMountOptions");
    }
    features
}
