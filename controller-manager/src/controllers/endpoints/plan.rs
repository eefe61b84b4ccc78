//! What the Endpoints of a Service should be. Pure. Upstream: endpoints_controller.go syncService.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, Endpoints, ObjectReference, Service,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::subsets::repack;
use crate::controllers::endpointslice::endpoints as pod_endpoints;
use crate::controllers::triggertime;
use crate::kept::Pod;
use crate::pods;

/// Addresses that one object may hold; more are cut off.
const MAX_CAPACITY: usize = 1000;
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";
const HEADLESS: &str = "service.kubernetes.io/headless";

/// Everything a decision depends on.
pub struct View<'a> {
    pub service: &'a Service,
    /// Those that the Service selects.
    pub pods: &'a [Arc<Pod>],
    pub current: Option<&'a Endpoints>,
    /// When the change happened that this is about.
    pub triggered: Option<Timestamp>,
}

/// What to write.
#[derive(Debug, Clone, PartialEq)]
pub enum Plan {
    Nothing,
    Create(Box<Endpoints>),
    Update(Box<Endpoints>),
}

/// The Service's endpoints are made here at all.
pub fn is_ours(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    spec.is_some_and(|s| s.selector.is_some() && s.type_.as_deref() != Some("ExternalName"))
}

/// Decides.
pub fn plan(view: &View<'_>) -> Plan {
    let wanted = subsets(view.service, view.pods);
    if view.current.is_some_and(|current| is_right(current, &wanted, view.service)) {
        return Plan::Nothing;
    }
    let mut new = view.current.cloned().unwrap_or_else(|| Endpoints {
        metadata: ObjectMeta {
            name: view.service.metadata.name.clone(),
            namespace: view.service.metadata.namespace.clone(),
            ..ObjectMeta::default()
        },
        subsets: None,
    });
    let mut annotations = new.metadata.annotations.take().unwrap_or_default();
    let mut note = |key: &str, value: Option<String>| match value {
        Some(value) => drop(annotations.insert(key.to_string(), value)),
        None => drop(annotations.remove(key)),
    };
    note(triggertime::ANNOTATION, view.triggered.map(|t| t.to_string()));
    let (kept, truncated) = truncate(wanted);
    note(OVER_CAPACITY, truncated.then(|| "truncated".to_string()));
    new.metadata.annotations = Some(annotations).filter(|a| !a.is_empty());
    new.metadata.labels = Some(labels(view.service));
    new.subsets = Some(kept).filter(|s| !s.is_empty());
    let new = Box::new(new);
    if view.current.is_some() { Plan::Update(new) } else { Plan::Create(new) }
}

fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    let ip = service.spec.as_ref().and_then(|s| s.cluster_ip.as_deref()).unwrap_or_default();
    if ip.is_empty() || ip == "None" {
        labels.insert(HEADLESS.to_string(), String::new());
    } else {
        labels.remove(HEADLESS);
    }
    labels.insert(MANAGED_BY.to_string(), MANAGER.to_string());
    labels
}

fn is_right(current: &Endpoints, wanted: &[EndpointSubset], service: &Service) -> bool {
    let has = current.subsets.as_deref().unwrap_or_default();
    let wanted = normal(wanted);
    // The order of subsets follows a hash, which has been another one in older versions.
    let same = normal(has) == wanted || normal(&repack(has)) == wanted;
    same && labels_are_right(current, service) && capacity_is_right(current, has)
}

/// Nothing and empty are the same; so are two states of one pod.
fn normal(subsets: &[EndpointSubset]) -> Vec<EndpointSubset> {
    fn text(field: &mut Option<String>) {
        if field.as_ref().is_some_and(String::is_empty) {
            *field = None;
        }
    }
    let mut all = subsets.to_vec();
    for subset in &mut all {
        let lists = [&mut subset.addresses, &mut subset.not_ready_addresses];
        for list in lists {
            for address in list.iter_mut().flatten() {
                text(&mut address.hostname);
                if let Some(target) = &mut address.target_ref {
                    target.resource_version = None;
                }
            }
            *list = list.take().filter(|l| !l.is_empty());
        }
        subset.ports.iter_mut().flatten().for_each(|p| text(&mut p.name));
        subset.ports = subset.ports.take().filter(|p| !p.is_empty());
    }
    all
}

/// All labels are the Service's, but for those set here; the headless label alone calls for no write.
fn labels_are_right(current: &Endpoints, service: &Service) -> bool {
    let none = BTreeMap::new();
    let (has, of_service) = (
        current.metadata.labels.as_ref().unwrap_or(&none),
        service.metadata.labels.as_ref().unwrap_or(&none),
    );
    let own = |key: &str| key == HEADLESS || key == MANAGED_BY;
    has.get(MANAGED_BY).is_some_and(|m| m == MANAGER)
        && has.iter().filter(|(k, _)| !own(k)).all(|(k, v)| of_service.get(k) == Some(v))
        && of_service.len() == has.keys().filter(|k| !own(k)).count()
}

fn capacity_is_right(current: &Endpoints, subsets: &[EndpointSubset]) -> bool {
    let noted = current.metadata.annotations.as_ref().is_some_and(|a| a.contains_key(OVER_CAPACITY));
    count(subsets, true) + count(subsets, false) <= MAX_CAPACITY && !noted
}

fn list(subset: &EndpointSubset, ready: bool) -> &Option<Vec<EndpointAddress>> {
    if ready { &subset.addresses } else { &subset.not_ready_addresses }
}

fn count(subsets: &[EndpointSubset], ready: bool) -> usize {
    subsets.iter().map(|s| list(s, ready).as_ref().map_or(0, Vec::len)).sum()
}

/// Cuts to the capacity: unready addresses first, each subset by its share, rounded up.
fn truncate(mut subsets: Vec<EndpointSubset>) -> (Vec<EndpointSubset>, bool) {
    let (ready, unready) = (count(&subsets, true), count(&subsets, false));
    if ready + unready <= MAX_CAPACITY {
        return (subsets, false);
    }
    let cut_ready = ready > MAX_CAPACITY;
    let (room, total) = if cut_ready { (MAX_CAPACITY, ready) } else { (MAX_CAPACITY - ready, unready) };
    let mut left = room;
    for subset in &mut subsets {
        let has = list(subset, cut_ready).as_ref().map_or(0, Vec::len);
        let share = (has * room).div_ceil(total).min(left);
        let cut = if cut_ready { &mut subset.addresses } else { &mut subset.not_ready_addresses };
        if let Some(addresses) = cut {
            addresses.truncate(share);
            left -= addresses.len();
        }
        if cut_ready {
            subset.not_ready_addresses = None;
        }
    }
    (subsets, true)
}

fn subsets(service: &Service, all_pods: &[Arc<Pod>]) -> Vec<EndpointSubset> {
    let spec = service.spec.as_ref();
    let unready_too = spec.and_then(|s| s.publish_not_ready_addresses).unwrap_or(false);
    let ports = spec.and_then(|s| s.ports.as_deref()).unwrap_or_default();
    let headless = spec.and_then(|s| s.cluster_ip.as_deref()) == Some("None");
    let mut all = Vec::new();
    for pod in all_pods.iter().filter(|p| belongs(p, unready_too)) {
        let Some(address) = address(service, pod) else { continue };
        let ready = unready_too || pods::is_ready(pod);
        let mut add = |port: Option<EndpointPort>| {
            let (here, ports) = (Some(vec![address.clone()]), port.map(|p| vec![p]));
            all.push(if ready {
                EndpointSubset { addresses: here, not_ready_addresses: None, ports }
            } else {
                EndpointSubset { addresses: None, not_ready_addresses: here, ports }
            });
        };
        if ports.is_empty() && headless {
            add(None);
        }
        for port in ports {
            if let Some(number) = pod_endpoints::find_port(pod, port) {
                add(Some(EndpointPort {
                    name: port.name.clone(),
                    port: number,
                    protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_string())),
                    app_protocol: port.app_protocol.clone(),
                }));
            }
        }
    }
    repack(&all)
}

/// Terminating pods belong only where unready addresses are wanted.
fn belongs(pod: &Pod, terminating_too: bool) -> bool {
    pod_endpoints::belongs(pod) && (terminating_too || pod.metadata.deletion_timestamp.is_none())
}

/// A pod's address in the Service's first family.
fn address(service: &Service, pod: &Pod) -> Option<EndpointAddress> {
    let spec = service.spec.as_ref()?;
    let has_colon = |ip: Option<&str>| ip.is_some_and(|ip| ip.contains(':'));
    let v6 = match spec.ip_families.iter().flatten().next() {
        Some(family) => family == "IPv6",
        None => match spec.cluster_ip.as_deref() {
            None | Some("" | "None") => has_colon(pod.status.as_ref().and_then(|s| s.pod_ip.as_deref())),
            Some(_) => has_colon(spec.cluster_ip.as_deref()),
        },
    };
    let family = if v6 { "IPv6" } else { "IPv4" };
    Some(EndpointAddress {
        ip: pod_endpoints::addresses_of(pod, family).into_iter().next()?,
        hostname: pod_endpoints::hostname_of(pod, service),
        node_name: Some(pods::node_name(pod).to_string()),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_string()),
            namespace: pod.metadata.namespace.as_deref().map(str::to_string),
            name: pod.metadata.name.as_deref().map(str::to_string),
            uid: pod.metadata.uid.as_deref().map(str::to_string),
            ..ObjectReference::default()
        }),
    })
}
