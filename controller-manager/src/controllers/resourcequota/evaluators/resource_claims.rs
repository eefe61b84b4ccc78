//! Resource claims: themselves and the devices they may get, by class. Upstream: evaluator/core/resource_claims.go.

use std::collections::BTreeMap;
use std::sync::Arc;

use client::Meta;
use controller::controller_of;
use jiff::Timestamp;
use k8s_openapi::api::resource::v1::{DeviceClass, DeviceRequest, ResourceClaim};
use machinery::quantity::Quantity;

use super::super::resources::{Resources, count};
use super::pods;
use crate::kept::Pod;

const OF_CLASS: &str = ".deviceclass.resource.k8s.io/devices";
const IMPLICIT: &str = "requests.deviceclass.resource.kubernetes.io/";
const IMPLICIT_RESOURCE: &str = "deviceclass.resource.kubernetes.io/";
/// A claim that the scheduler made for a pod that asks for devices as for other extended resources.
const EXTENDED: &str = "resource.kubernetes.io/extended-resource-claim";
/// Devices that one claim can get; what "all" means in the worst case.
const MAX_DEVICES: i64 = 32;

/// Device classes and the extended resources they offer. Upstream: dynamic-resource-allocation extendedresourcecache.
#[derive(Debug, Clone, Default)]
pub struct Classes {
    resource_of: BTreeMap<String, Option<String>>,
}

impl Classes {
    pub fn new(all: &[Arc<DeviceClass>]) -> Self {
        let resource = |c: &DeviceClass| c.spec.as_ref().and_then(|s| s.extended_resource_name.clone());
        let name = |c: &Arc<DeviceClass>| (c.name().to_string(), resource(c));
        Self { resource_of: all.iter().map(name).collect() }
    }

    fn resource(&self, class: &str) -> Option<&str> {
        self.resource_of.get(class)?.as_deref().filter(|r| !r.is_empty())
    }

    fn has_class_of(&self, resource: &str) -> bool {
        resource.strip_prefix(IMPLICIT_RESOURCE).is_some_and(|class| self.resource_of.contains_key(class))
            || self.resource_of.values().any(|r| r.as_deref() == Some(resource))
    }
}

/// The name is about claims.
pub fn matches(name: &str, classes: &Classes) -> bool {
    name.ends_with(OF_CLASS)
        || name.strip_prefix(IMPLICIT).is_some_and(|class| classes.resource(class).is_some())
        || (pods::is_extended(name)
            && name.strip_prefix("requests.").is_some_and(|r| classes.has_class_of(r)))
}

fn devices(mode: Option<&str>, number: Option<i64>) -> i64 {
    match mode {
        Some("ExactCount") => number.unwrap_or(0),
        Some("All") => MAX_DEVICES,
        // Of a newer version: counts nothing.
        _ => 0,
    }
}

fn devices_of(claim: &ResourceClaim) -> impl Iterator<Item = &DeviceRequest> {
    let devices = claim.spec.as_ref().and_then(|s| s.devices.as_ref());
    devices.into_iter().flat_map(|d| d.requests.iter().flatten())
}

/// What a claim uses.
pub fn usage(
    claim: &ResourceClaim,
    claims: &[Arc<ResourceClaim>],
    all_pods: &[Arc<Pod>],
    classes: &Classes,
    now: Timestamp,
) -> Resources {
    let mut by_class: BTreeMap<&str, i64> = BTreeMap::new();
    for request in devices_of(claim) {
        let alternatives = request.first_available.iter().flatten();
        // Of several alternatives the worst counts, for each class.
        let mut worst: BTreeMap<&str, i64> = BTreeMap::new();
        for one in alternatives {
            let number = devices(one.allocation_mode.as_deref(), one.count);
            if number > 0 {
                let most = worst.entry(&one.device_class_name).or_default();
                *most = number.max(*most);
            }
        }
        if let Some(exact) = request.exactly.as_ref().filter(|_| worst.is_empty()) {
            let number = devices(exact.allocation_mode.as_deref(), exact.count);
            worst.insert(&exact.device_class_name, number);
        }
        for (class, number) in worst {
            *by_class.entry(class).or_default() += number;
        }
    }
    let amount = |number: i64| count(usize::try_from(number).unwrap_or(0));
    let mut usage: Resources =
        by_class.iter().map(|(class, number)| (format!("{class}{OF_CLASS}"), amount(*number))).collect();
    let of_pod = pod_usage(claim, claims, all_pods, now);
    for (class, number) in by_class {
        let names = [
            Some(format!("{IMPLICIT}{class}")),
            classes.resource(class).map(|resource| format!("requests.{resource}")),
        ];
        for name in names.into_iter().flatten() {
            // What the pod is charged for already is not charged twice.
            let mut left: Quantity = amount(number);
            if let Some(charged) = of_pod.get(&name) {
                left.sub(charged);
            }
            if left.sign() > 0 {
                usage.insert(name, left);
            }
        }
    }
    usage
}

/// What the pod uses that the claim was made for, if it is that pod's one such claim. Upstream: getVerifiedPodUsage.
fn pod_usage(
    claim: &ResourceClaim,
    claims: &[Arc<ResourceClaim>],
    all_pods: &[Arc<Pod>],
    now: Timestamp,
) -> Resources {
    let extended = claim.metadata.annotations.as_ref().and_then(|a| a.get(EXTENDED));
    let owner = controller_of(&claim.metadata).filter(|o| o.kind == "Pod" && o.api_version == "v1");
    let (Some("true"), Some(owner)) = (extended.map(String::as_str), owner) else { return Resources::new() };
    let Some(pod) = all_pods.iter().find(|p| p.name() == owner.name && p.uid() == owner.uid) else {
        return Resources::new();
    };
    let told = pod.status.as_ref().and_then(|s| s.extended_resource_claim_status.as_ref());
    let is_it = match told {
        Some(told) => told.resource_claim_name == claim.name(),
        None => {
            let order = |c: &ResourceClaim| {
                (c.metadata.creation_timestamp.clone().map(|t| t.0), c.name().to_string())
            };
            let of_pod = |c: &&Arc<ResourceClaim>| {
                c.metadata.annotations.as_ref().and_then(|a| a.get(EXTENDED)).is_some_and(|v| v == "true")
                    && controller_of(&c.metadata).is_some_and(|o| o.uid == owner.uid)
            };
            claims.iter().filter(of_pod).all(|other| order(other) >= order(claim))
        }
    };
    if is_it { pods::usage(pod, now) } else { Resources::new() }
}
