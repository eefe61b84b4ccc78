//! The claim that stands for a pod's extended resources, where a device class stands behind them: it is made up anew
//! for every node (a node may offer some of the resources itself) and written when the pod goes there.
//! Upstream: plugins/dynamicresources/extendeddynamicresources.go.
//!
//! Differs from upstream in one thing: a pod with claims of its own whose extended resources the node offers itself
//! gets no claim for them, where upstream makes one that asks for nothing and then fails to mention it in the pod.
//! Not here: scores that count such devices (a profile has to name the resources for that).

use std::sync::Arc;

use k8s_openapi::api::core::v1::ContainerExtendedResourceRequest;
use k8s_openapi::api::resource::v1::{DeviceClaim, ResourceClaim, ResourceClaimSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use parking_lot::Mutex;

use super::dynamic_resources::NAME;
use crate::devices::extended;
use crate::framework::{Reject, View};
use crate::model::backing::may_be_devices;
use crate::model::{NodeRow, PodInfo};

/// Marks such claims. Upstream: resourceapi.ExtendedResourceClaimAnnotation.
const ANNOTATION: &str = "resource.kubernetes.io/extended-resource-claim";
/// Name of a claim that is not written yet: no valid one. Upstream: specialClaimInMemName.
const UNWRITTEN: &str = "<extended-resources>";

/// The claim of a pod within a cycle.
pub enum Special {
    /// An attempt made it that did not get as far as binding; it has to go first.
    Stale(Arc<ResourceClaim>),
    /// Claims by the resources that devices stand in for.
    New(Mutex<Vec<(Vec<String>, Arc<Made>)>>),
}

/// A claim that can be written.
#[derive(Debug)]
pub struct Made {
    pub claim: Arc<ResourceClaim>,
    pub mappings: Vec<ContainerExtendedResourceRequest>,
}

/// Uid of the pod that an extended resource claim was made for.
pub fn owner(claim: &ResourceClaim) -> Option<&str> {
    let marked = claim.metadata.annotations.as_ref()?.get(ANNOTATION).is_some_and(|v| v == "true");
    let owner = claim.metadata.owner_references.iter().flatten().find(|o| o.controller == Some(true))?;
    marked.then_some(owner.uid.as_str())
}

/// Resources of a pod for which there can be devices.
fn resources(pod: &PodInfo) -> impl Iterator<Item = &str> {
    let scalars = pod.requests.scalars.iter().filter(|(_, amount)| *amount != 0);
    scalars.map(|(name, _)| &**name).filter(|name| may_be_devices(name))
}

impl Special {
    /// Upstream: preFilterExtendedResources.
    pub fn of(view: View<'_>, pod: &PodInfo) -> Option<Self> {
        if pod.extended.is_empty() {
            return None;
        }
        let backing = view.cache.backing();
        resources(pod).find(|name| backing.class_of(name).is_some())?;
        let known = view.listers.resource_claims.by_index(crate::listers::OWNER, &pod.uid);
        Some(known.into_iter().next().map_or_else(|| Special::New(Mutex::default()), Special::Stale))
    }

    /// The claim for a node, if devices are needed there. Upstream: filterExtendedResources.
    pub fn on(&self, view: View<'_>, pod: &PodInfo, row: &NodeRow) -> Result<Option<Arc<Made>>, Reject> {
        let Special::New(made) = self else {
            return Err(Reject::unresolvable(NAME, "cannot schedule extended resource claim"));
        };
        let backing = view.cache.backing();
        let mut needed: Vec<&str> = Vec::new();
        for name in resources(pod) {
            if row.allocatable.get(name) == 0 && backing.class_of(name).is_some() {
                needed.push(name);
            } else if !row.allocatable.scalars.iter().any(|(n, _)| **n == *name) {
                return Err(Reject::unresolvable(NAME, "cannot fit resource"));
            }
        }
        if needed.is_empty() {
            return Ok(None);
        }
        needed.sort_unstable();
        let mut made = made.lock();
        if let Some((_, known)) = made.iter().find(|(of, _)| *of == needed) {
            return Ok(Some(known.clone()));
        }
        let classes = needed.iter().filter_map(|name| Some((*name, backing.class_of(name)?)));
        let new = Arc::new(make(pod, &classes.collect::<Vec<_>>()));
        made.push((needed.iter().map(|n| (*n).to_string()).collect(), new.clone()));
        Ok(Some(new))
    }

    /// What is left over from an earlier attempt.
    pub fn stale(&self) -> Option<&Arc<ResourceClaim>> {
        match self {
            Special::Stale(claim) => Some(claim),
            Special::New(_) => None,
        }
    }
}

fn make(pod: &PodInfo, classes: &[(&str, &str)]) -> Made {
    let (requests, mappings) = extended::requests(&pod.extended, classes);
    let owner = OwnerReference {
        api_version: "v1".into(),
        kind: "Pod".into(),
        name: pod.name.to_string(),
        uid: pod.uid.to_string(),
        controller: Some(true),
        block_owner_deletion: None,
    };
    let claim = ResourceClaim {
        metadata: ObjectMeta {
            name: Some(UNWRITTEN.into()),
            namespace: Some(pod.namespace.to_string()),
            generate_name: Some(format!("{}-extended-resources-", pod.name)),
            // Stands for it until it is written.
            uid: Some(format!("{}{UNWRITTEN}", pod.uid)),
            annotations: Some([(ANNOTATION.to_string(), "true".to_string())].into()),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(ResourceClaimSpec {
            devices: Some(DeviceClaim { requests: Some(requests), ..DeviceClaim::default() }),
        }),
        status: None,
    };
    Made { claim: Arc::new(claim), mappings }
}

/// The claim as it is to be created.
pub fn to_create(claim: &ResourceClaim) -> ResourceClaim {
    let mut claim = claim.clone();
    claim.metadata.name = None;
    claim.metadata.uid = None;
    claim
}
