//! Reduces watched objects to what is read: there are many of them, and the informers hold them for good.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::model::endpoint::SERVICE_NAME;
use crate::model::table::TRIGGER_TIME;

/// Of a Service: all of the spec that leads traffic, and addresses of its load balancer.
pub fn service(service: &mut Service) {
    meta(&mut service.metadata);
    service.metadata.labels = None;
    service.metadata.annotations = None;
    if let Some(spec) = &mut service.spec {
        spec.selector = None;
    }
    if let Some(status) = &mut service.status {
        status.conditions = None;
    }
}

/// Of a slice: whose it is, what its change began with, and endpoints without where they come from.
pub fn slice(slice: &mut EndpointSlice) {
    meta(&mut slice.metadata);
    only(&mut slice.metadata.labels, SERVICE_NAME);
    only(&mut slice.metadata.annotations, TRIGGER_TIME);
    for endpoint in slice.endpoints.iter_mut().flatten() {
        // Others are of no use: the API asks consumers to take the first.
        endpoint.addresses.truncate(1);
        endpoint.target_ref = None;
        endpoint.hostname = None;
        endpoint.zone = None;
        endpoint.deprecated_topology = None;
    }
}

/// Of the node: addresses, labels, taints and ranges.
pub fn node(node: &mut Node) {
    meta(&mut node.metadata);
    node.metadata.annotations = None;
    if let Some(status) = &mut node.status {
        status.images = None;
        status.conditions = None;
        status.volumes_attached = None;
        status.volumes_in_use = None;
    }
}

fn meta(meta: &mut ObjectMeta) {
    meta.owner_references = None;
    meta.finalizers = None;
    meta.generate_name = None;
}

fn only(map: &mut Option<BTreeMap<String, String>>, key: &str) {
    if let Some(map) = map {
        map.retain(|k, _| k == key);
    }
}
