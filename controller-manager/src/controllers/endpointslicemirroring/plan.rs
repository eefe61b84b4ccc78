//! Which slices mirror an Endpoints object: one for each set of ports and address family. Pure.
//!
//! Differs: endpoints stand in the order of their addresses, so that the same view gives the same plan.
//! Upstream: pkg/controller/endpointslicemirroring/reconciler.go.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use controller::controller_ref;
use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort as OldPort, Endpoints, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::controllers::endpoints::LEADER;
use crate::controllers::endpoints::subsets::repack;
use crate::controllers::endpointslice::endpoints::{identity, ports_key};
use crate::controllers::endpointslice::plan::{MANAGED_BY, SERVICE_NAME};
use crate::controllers::triggertime;

/// Us, as slices name us.
pub const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Names of slices are DNS subdomains.
const NAME_LENGTH: usize = 253;

/// Everything a decision depends on.
pub struct View<'a> {
    pub endpoints: Option<&'a Endpoints>,
    pub service: Option<&'a Service>,
    /// Slices of these endpoints that this controller manages.
    pub slices: &'a [Arc<EndpointSlice>],
    pub max_per_subset: usize,
}

/// The writes that are needed, and what could not be mirrored.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    pub create: Vec<EndpointSlice>,
    pub update: Vec<EndpointSlice>,
    /// Names.
    pub delete: Vec<String>,
    pub invalid: usize,
    /// Left out for want of room or validity.
    pub skipped: usize,
}

/// These endpoints are to be mirrored, if they have a Service without selector.
pub fn should_mirror(endpoints: &Endpoints) -> bool {
    let meta = &endpoints.metadata;
    meta.labels.as_ref().and_then(|l| l.get(SKIP)).is_none_or(|v| v != "true")
        && !meta.annotations.as_ref().is_some_and(|a| a.contains_key(LEADER))
}

/// Decides.
pub fn plan(view: &View<'_>) -> Plan {
    let selects = |s: &Service| s.spec.as_ref().is_some_and(|s| s.selector.is_some());
    let wanted = view.endpoints.filter(|e| should_mirror(e) && view.service.is_some_and(|s| !selects(s)));
    let Some(endpoints) = wanted else {
        let delete = view.slices.iter().filter_map(|s| s.metadata.name.clone()).collect();
        return Plan { delete, ..Plan::default() };
    };
    let (groups, mut plan) = groups(endpoints, view.max_per_subset);
    let mut existing: BTreeMap<(String, String), Vec<&EndpointSlice>> = BTreeMap::new();
    for slice in view.slices {
        let key = (slice.address_type.clone(), ports_key(slice.ports.as_deref().unwrap_or_default()));
        existing.entry(key).or_default().push(slice);
    }
    let mut unwanted: Vec<&EndpointSlice> = Vec::new();
    for (key, group) in groups {
        let slices = existing.remove(&key).unwrap_or_default();
        if group.endpoints.is_empty() {
            unwanted.extend(slices);
            continue;
        }
        let new = slice(endpoints, &key.0, group, view.max_per_subset);
        match slices.split_first() {
            None => plan.create.push(new),
            Some((first, rest)) => {
                unwanted.extend(rest);
                plan.update.extend(changed(first, new, endpoints));
            }
        }
    }
    unwanted.extend(existing.into_values().flatten());
    recycle(&mut plan, &mut unwanted);
    plan.delete = unwanted.iter().filter_map(|s| s.metadata.name.clone()).collect();
    if endpoints.metadata.deletion_timestamp.is_some() {
        plan.create.clear();
    }
    plan
}

/// Writing over a slice that would be deleted is one write instead of two.
fn recycle(plan: &mut Plan, unwanted: &mut Vec<&EndpointSlice>) {
    let mut create = Vec::new();
    for mut new in std::mem::take(&mut plan.create) {
        match unwanted.iter().position(|old| old.address_type == new.address_type) {
            None => create.push(new),
            Some(at) => {
                new.metadata.name.clone_from(&unwanted.remove(at).metadata.name);
                new.metadata.generate_name = None;
                plan.update.push(new);
            }
        }
    }
    plan.create = create;
}

#[derive(Default)]
struct Group {
    ports: Vec<EndpointPort>,
    /// By [`identity`].
    endpoints: BTreeMap<String, Endpoint>,
}

fn groups(endpoints: &Endpoints, max: usize) -> (BTreeMap<(String, String), Group>, Plan) {
    let mut groups: BTreeMap<(String, String), Group> = BTreeMap::new();
    let mut plan = Plan::default();
    for subset in repack(endpoints.subsets.as_deref().unwrap_or_default()) {
        let ports: Vec<EndpointPort> = subset.ports.iter().flatten().map(port).collect();
        let key = |family: &str| (family.to_string(), ports_key(&ports));
        for family in ["IPv4", "IPv6"] {
            groups.entry(key(family)).or_default().ports.clone_from(&ports);
        }
        let ready = subset.addresses.iter().flatten().map(|a| (a, true));
        let unready = subset.not_ready_addresses.iter().flatten().map(|a| (a, false));
        let (mut total, mut added) = (0, 0);
        for (address, ready) in ready.chain(unready) {
            total += 1;
            if added >= max {
                continue;
            }
            match endpoint(address, ready) {
                None => plan.invalid += 1,
                Some((family, endpoint)) => {
                    let group = groups.entry(key(family)).or_default();
                    group.endpoints.insert(identity(&endpoint), endpoint);
                    added += 1;
                }
            }
        }
        plan.skipped += total - added;
    }
    (groups, plan)
}

fn port(old: &OldPort) -> EndpointPort {
    EndpointPort {
        name: Some(old.name.clone().unwrap_or_default()),
        port: Some(old.port),
        protocol: Some(old.protocol.clone().unwrap_or_else(|| "TCP".to_string())),
        app_protocol: old.app_protocol.clone(),
    }
}

fn endpoint(address: &EndpointAddress, ready: bool) -> Option<(&'static str, Endpoint)> {
    let ip: IpAddr = address.ip.parse().ok()?;
    let ip = ip.to_canonical();
    let endpoint = Endpoint {
        addresses: vec![ip.to_string()],
        conditions: Some(EndpointConditions { ready: Some(ready), ..EndpointConditions::default() }),
        hostname: address.hostname.clone().filter(|h| !h.is_empty()),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    };
    Some((if ip.is_ipv6() { "IPv6" } else { "IPv4" }, endpoint))
}

fn annotations(endpoints: &Endpoints) -> BTreeMap<String, String> {
    let mut all = endpoints.metadata.annotations.clone().unwrap_or_default();
    all.remove(triggertime::ANNOTATION);
    all.remove(LAST_APPLIED);
    all
}

fn slice(endpoints: &Endpoints, family: &str, group: Group, max: usize) -> EndpointSlice {
    let name = endpoints.metadata.name.as_deref().unwrap_or_default();
    let prefix = format!("{name}-");
    let mut labels = endpoints.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.to_string(), name.to_string());
    labels.insert(MANAGED_BY.to_string(), MANAGER.to_string());
    let all = group.endpoints.into_values();
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(if prefix.len() > NAME_LENGTH { name.to_string() } else { prefix }),
            namespace: endpoints.metadata.namespace.clone(),
            labels: Some(labels),
            annotations: Some(annotations(endpoints)).filter(|a| !a.is_empty()),
            owner_references: Some(vec![controller_ref(endpoints)]),
            ..ObjectMeta::default()
        },
        address_type: family.to_string(),
        endpoints: Some(all.take(max).collect()),
        ports: Some(group.ports),
    }
}

/// The slice to write, unless the old one says the same.
fn changed(old: &EndpointSlice, mut new: EndpointSlice, endpoints: &Endpoints) -> Option<EndpointSlice> {
    let by_identity = |s: &EndpointSlice| -> BTreeMap<String, Endpoint> {
        s.endpoints.iter().flatten().map(|e| (identity(e), bare(e))).collect()
    };
    let owner_is_gone = old.metadata.owner_references.iter().flatten().any(|o| {
        o.kind == "Endpoints"
            && Some(&o.name) == endpoints.metadata.name.as_ref()
            && Some(&o.uid) != endpoints.metadata.uid.as_ref()
    });
    let of = |map: &Option<BTreeMap<String, String>>| map.clone().unwrap_or_default();
    let same = by_identity(old) == by_identity(&new)
        && of(&old.metadata.labels) == of(&new.metadata.labels)
        && of(&old.metadata.annotations) == of(&new.metadata.annotations)
        && !owner_is_gone;
    new.metadata.name.clone_from(&old.metadata.name);
    new.metadata.generate_name = None;
    (!same).then_some(new)
}

/// What counts when endpoints are compared: not the version of the pod behind one.
fn bare(endpoint: &Endpoint) -> Endpoint {
    let mut endpoint = endpoint.clone();
    if let Some(target) = &mut endpoint.target_ref {
        target.resource_version = None;
    }
    if let Some(conditions) = &mut endpoint.conditions {
        // The server may have filled these in.
        conditions.serving = None;
        conditions.terminating = None;
    }
    endpoint
}
