//! How a Service's slices become what they should be, with as few writes as possible. Pure.
//!
//! Upstream: k8s.io/endpointslice reconciler.go. Differs: endpoints fill slices in the order of their addresses, so that
//! the same view gives the same plan.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use controller::controller_ref;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::{
    Endpoint, EndpointHints, EndpointPort, EndpointSlice, ForNode, ForZone,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::controllers::triggertime;

use super::endpoints::{self, Group, identity, ports_key};
use crate::kept::Pod;

/// Who made a slice.
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// Us.
pub const MANAGER: &str = "endpointslice-controller.k8s.io";
/// The Service a slice is of.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
const HEADLESS: &str = "service.kubernetes.io/headless";

/// Everything a decision depends on.
pub struct View<'a> {
    pub service: &'a Service,
    pub pods: &'a [Arc<Pod>],
    /// Slices of the Service that this controller manages.
    pub slices: &'a [Arc<EndpointSlice>],
    pub max_per_slice: usize,
    /// When the change happened that this is about.
    pub triggered: Option<Timestamp>,
}

/// The writes that are needed.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    pub create: Vec<EndpointSlice>,
    pub update: Vec<EndpointSlice>,
    /// Names.
    pub delete: Vec<String>,
    /// Pods that could not be considered, as their node is not known yet.
    pub left_out: Vec<String>,
}

/// Decides.
pub fn plan(view: &View<'_>, node: impl Fn(&str) -> Option<Arc<Node>>) -> Plan {
    let mut plan = Plan::default();
    let types = address_types(view.service);
    for slice in view.slices.iter().filter(|s| !types.contains(&s.address_type.as_str())) {
        plan.delete.extend(slice.metadata.name.clone());
    }
    for address_type in types {
        let of_type: Vec<&Arc<EndpointSlice>> =
            view.slices.iter().filter(|s| s.address_type == address_type).collect();
        plan.merge(plan_type(view, &of_type, &node, address_type));
    }
    if view.service.metadata.deletion_timestamp.is_some() {
        plan.create.clear();
    }
    for slice in plan.create.iter_mut().chain(&mut plan.update) {
        tell(slice, view.triggered);
    }
    plan
}

/// Slices that are written tell when the change happened, or nothing. Upstream: addTriggerTimeAnnotation.
fn tell(slice: &mut EndpointSlice, triggered: Option<Timestamp>) {
    let mut annotations = slice.metadata.annotations.take().unwrap_or_default();
    match triggered {
        Some(time) => drop(annotations.insert(triggertime::ANNOTATION.to_string(), time.to_string())),
        None => drop(annotations.remove(triggertime::ANNOTATION)),
    }
    slice.metadata.annotations = Some(annotations).filter(|a| !a.is_empty());
}

impl Plan {
    fn merge(&mut self, other: Plan) {
        self.create.extend(other.create);
        self.update.extend(other.update);
        self.delete.extend(other.delete);
        self.left_out.extend(other.left_out);
    }
}

fn plan_type(
    view: &View<'_>,
    existing: &[&Arc<EndpointSlice>],
    node: &impl Fn(&str) -> Option<Arc<Node>>,
    address_type: &str,
) -> Plan {
    let (mut groups, left_out) = endpoints::wanted(view.service, view.pods, node, address_type);
    let hints = Hints::of(view.service, groups.values_mut());
    hints.apply(groups.values_mut());
    let mut by_ports: BTreeMap<String, Vec<&EndpointSlice>> = BTreeMap::new();
    let mut deleted: Vec<&EndpointSlice> = Vec::new();
    for slice in existing {
        if owned_by(slice, view.service) {
            by_ports.entry(ports_key(slice.ports.as_deref().unwrap_or_default())).or_default().push(slice);
        } else {
            deleted.push(slice);
        }
    }
    let (mut create, mut update) = (Vec::new(), Vec::new());
    for (key, group) in groups {
        let slices = by_ports.remove(&key).unwrap_or_default();
        let filled = fill(view, &slices, group, address_type);
        create.extend(filled.create);
        update.extend(filled.update);
        deleted.extend(
            slices.iter().filter(|s| s.metadata.name.as_ref().is_some_and(|n| filled.delete.contains(n))),
        );
    }
    deleted.extend(by_ports.into_values().flatten());
    // A Service without endpoints has one empty slice, which tells it from one that nobody looked at.
    if existing.len() == deleted.len() && create.is_empty() {
        let placeholder = new_slice(view.service, Vec::new(), address_type);
        match deleted.as_slice() {
            [only] if is_placeholder(only, &placeholder) => deleted.clear(),
            _ => create.push(placeholder),
        }
    }
    // Writing over a slice that would be deleted is one write instead of two.
    while let Some(at) = deleted.iter().position(|s| owned_by(s, view.service)).filter(|_| !create.is_empty())
    {
        let old = deleted.remove(at);
        if let Some(mut new) = create.pop() {
            new.metadata.name.clone_from(&old.metadata.name);
            new.metadata.generate_name.clone_from(&old.metadata.generate_name);
            update.push(new);
        }
    }
    let delete = deleted.iter().filter_map(|s| s.metadata.name.clone()).collect();
    Plan { create, update, delete, left_out }
}

/// Puts one port set's endpoints into slices: those that stay where they are, then the rest into slices that are
/// written anyway, then into the unchanged one they fill best, then into new ones.
fn fill(view: &View<'_>, existing: &[&EndpointSlice], mut group: Group, address_type: &str) -> Plan {
    let (mut changed, mut unchanged): (Vec<EndpointSlice>, Vec<EndpointSlice>) = (Vec::new(), Vec::new());
    let mut plan = Plan::default();
    for old in existing {
        let had = old.endpoints.as_deref().unwrap_or_default();
        let kept: Vec<Endpoint> = had.iter().filter_map(|e| group.endpoints.remove(&identity(e))).collect();
        let labels = labels_for(view.service);
        let relabelled = old.metadata.labels.as_ref() != Some(&labels);
        if kept.is_empty() && !had.is_empty() {
            plan.delete.extend(old.metadata.name.clone());
        } else if relabelled || kept.as_slice() != had {
            let mut slice = (*old).clone();
            slice.endpoints = Some(kept);
            slice.metadata.labels = Some(labels);
            changed.push(slice);
        } else {
            unchanged.push((*old).clone());
        }
    }
    let mut rest: Vec<Endpoint> = group.endpoints.into_values().rev().collect();
    changed.sort_by_key(|s| std::cmp::Reverse(size(s)));
    for slice in &mut changed {
        top_up(slice, &mut rest, view.max_per_slice);
    }
    while !rest.is_empty() {
        let best = best_fit(&unchanged, rest.len(), view.max_per_slice);
        let mut slice = match best {
            Some(at) => unchanged.remove(at),
            None => new_slice(view.service, group.ports.clone(), address_type),
        };
        top_up(&mut slice, &mut rest, view.max_per_slice);
        if best.is_some() { changed.push(slice) } else { plan.create.push(slice) }
    }
    plan.update = changed;
    plan
}

fn size(slice: &EndpointSlice) -> usize {
    slice.endpoints.as_ref().map_or(0, Vec::len)
}

fn top_up(slice: &mut EndpointSlice, rest: &mut Vec<Endpoint>, max: usize) {
    let endpoints = slice.endpoints.get_or_insert_default();
    while endpoints.len() < max {
        match rest.pop() {
            Some(endpoint) => endpoints.push(endpoint),
            None => return,
        }
    }
}

/// The unchanged slice that would be fullest with `count` more.
fn best_fit(slices: &[EndpointSlice], count: usize, max: usize) -> Option<usize> {
    let fitting =
        slices.iter().enumerate().filter(|(_, s)| count < max && size(s) + count <= max && size(s) > 0);
    fitting.max_by_key(|(_, s)| size(s)).map(|(at, _)| at)
}

fn new_slice(service: &Service, ports: Vec<EndpointPort>, address_type: &str) -> EndpointSlice {
    let name = service.metadata.name.as_deref().unwrap_or_default();
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{name}-")),
            namespace: service.metadata.namespace.clone(),
            labels: Some(labels_for(service)),
            owner_references: Some(vec![controller_ref(service)]),
            ..ObjectMeta::default()
        },
        address_type: address_type.to_string(),
        endpoints: Some(Vec::new()),
        ports: Some(ports),
    }
}

fn is_placeholder(slice: &EndpointSlice, placeholder: &EndpointSlice) -> bool {
    size(slice) == 0
        && slice.ports.as_ref().is_none_or(Vec::is_empty)
        && slice.metadata.labels == placeholder.metadata.labels
}

/// The Service's labels and ours.
fn labels_for(service: &Service) -> BTreeMap<String, String> {
    let reserved = [MANAGED_BY, SERVICE_NAME, HEADLESS];
    let own = service.metadata.labels.iter().flatten().filter(|(k, _)| !reserved.contains(&k.as_str()));
    let mut labels: BTreeMap<String, String> = own.map(|(k, v)| (k.clone(), v.clone())).collect();
    let cluster_ip = service.spec.as_ref().and_then(|s| s.cluster_ip.as_deref()).unwrap_or_default();
    if cluster_ip.is_empty() || cluster_ip == "None" {
        labels.insert(HEADLESS.to_string(), String::new());
    }
    labels.insert(SERVICE_NAME.to_string(), service.metadata.name.clone().unwrap_or_default());
    labels.insert(MANAGED_BY.to_string(), MANAGER.to_string());
    labels
}

fn owned_by(slice: &EndpointSlice, service: &Service) -> bool {
    let owners = slice.metadata.owner_references.iter().flatten();
    owners.into_iter().any(|o| {
        Some(&o.uid) == service.metadata.uid.as_ref() && o.kind == "Service" && o.api_version == "v1"
    })
}

/// Address types the Service has endpoints of.
fn address_types(service: &Service) -> BTreeSet<&'static str> {
    let spec = service.spec.as_ref();
    let families = spec.and_then(|s| s.ip_families.as_ref()).into_iter().flatten();
    let types: BTreeSet<_> = families
        .filter_map(|f| match f.as_str() {
            "IPv4" => Some("IPv4"),
            "IPv6" => Some("IPv6"),
            _ => None,
        })
        .collect();
    if !types.is_empty() {
        return types;
    }
    // Written by a server that knew no families: the address tells; a headless Service may have either.
    match spec.and_then(|s| s.cluster_ip.as_deref()).unwrap_or_default() {
        "" | "None" => BTreeSet::from(["IPv4", "IPv6"]),
        ip if ip.contains(':') => BTreeSet::from(["IPv6"]),
        _ => BTreeSet::from(["IPv4"]),
    }
}

/// Which places endpoints are meant for. Upstream: k8s.io/endpointslice/trafficdist.
enum Hints {
    None,
    SameZone,
    SameNode,
}

impl Hints {
    fn of<'a>(service: &Service, groups: impl Iterator<Item = &'a mut Group>) -> Self {
        let wanted = service.spec.as_ref().and_then(|s| s.traffic_distribution.as_deref());
        // One endpoint without a zone makes zone hints useless for all.
        let zoned =
            groups.flat_map(|g| g.endpoints.values()).filter(|e| is_ready(e)).all(|e| e.zone.is_some());
        match wanted {
            Some("PreferClose" | "PreferSameZone") if zoned => Self::SameZone,
            Some("PreferSameNode") => Self::SameNode,
            _ => Self::None,
        }
    }

    fn apply<'a>(&self, groups: impl Iterator<Item = &'a mut Group>) {
        for endpoint in groups.flat_map(|g| g.endpoints.values_mut()).filter(|e| is_ready(e)) {
            let zones = endpoint.zone.clone().map(|name| vec![ForZone { name }]);
            endpoint.hints = match self {
                Self::None => None,
                Self::SameZone => Some(EndpointHints { for_zones: zones, for_nodes: None }),
                Self::SameNode => Some(EndpointHints {
                    for_zones: zones,
                    for_nodes: endpoint.node_name.clone().map(|name| vec![ForNode { name }]),
                }),
            };
        }
    }
}

fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().and_then(|c| c.ready).unwrap_or(false)
}
