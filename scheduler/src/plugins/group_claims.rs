//! Claims that pods have because their group has them: who owns them, for whom they are reserved, and what is done
//! about them when the group is not placed (gate DRAWorkloadResourceClaims).
//! Upstream: dynamic-resource-allocation/resourceclaim/resourceclaim.go, dynamicresources.go deallocatePodGroupClaims.

use std::sync::Arc;

use client::Meta;
use k8s_openapi::api::core::v1::PodResourceClaim;
use k8s_openapi::api::resource::v1::{ResourceClaim, ResourceClaimConsumerReference};
use k8s_openapi::api::scheduling::v1beta1::{PodGroup, PodGroupResourceClaim};

use super::dynamic_resources::Free;
use crate::listers::Listers;
use crate::model::{GroupObject, PodInfo};

const API_GROUP: &str = "scheduling.k8s.io";
const RESOURCE: &str = "podgroups";

/// Name of a pod's group.
fn name(pod: &PodInfo) -> Option<&str> {
    pod.group.as_deref()?.split_once('/').map(|(_, name)| name)
}

/// Whether a claim was made for the pod's group, of which a pod knows nothing but the name; an error if not.
/// Upstream: IsForPod, isForPodGroupByPod.
pub fn is_for_group(claim: &ResourceClaim, pod: &PodInfo) -> Result<(), String> {
    let not_for = |why: String| {
        let (claim, pod) = (claim.key(), pod.key());
        Err(format!("ResourceClaim {claim} was not created for Pod {pod} ({why})"))
    };
    let Some(group) = name(pod) else { return not_for("Pod is not owner".into()) };
    let owner = claim.metadata.owner_references.iter().flatten().find(|o| o.controller == Some(true));
    let ours = owner.is_some_and(|o| {
        o.name == group && o.kind == "PodGroup" && o.api_version.split('/').next() == Some(API_GROUP)
    });
    if ours { Ok(()) } else { not_for(format!("neither Pod nor PodGroup {group} is the owner")) }
}

/// Whether a reservation is for the pod's group.
pub fn is_reservation(by: &ResourceClaimConsumerReference, pod: &PodInfo) -> bool {
    by.api_group.as_deref() == Some(API_GROUP)
        && by.resource == RESOURCE
        && name(pod) == Some(by.name.as_str())
}

fn reference(group: &PodGroup) -> ResourceClaimConsumerReference {
    ResourceClaimConsumerReference {
        api_group: Some(API_GROUP.into()),
        name: group.name().to_string(),
        resource: RESOURCE.into(),
        uid: group.uid().to_string(),
    }
}

/// For whom a claim of a pod is reserved, if it is not the pod itself. Upstream: BindTo.
pub fn holder(
    pod: &PodInfo,
    object: Option<&GroupObject>,
    claim: &PodResourceClaim,
) -> Result<Option<ResourceClaimConsumerReference>, String> {
    let unset = |name: Option<&String>, template: Option<&String>| name.is_none() && template.is_none();
    let none = |what: String, claim: &str| {
        Err(format!("{what} claim {claim}: none of the supported fields are set"))
    };
    if unset(claim.resource_claim_name.as_ref(), claim.resource_claim_template_name.as_ref()) {
        return none(format!("Pod {}", pod.key()), &claim.name);
    }
    let Some(key) = pod.group.as_deref() else { return Ok(None) };
    let Some(GroupObject::Pods(group)) = object else {
        return Err(format!("pod group object not found for pod group {key}"));
    };
    for own in group.spec.resource_claims.iter().flatten() {
        if unset(own.resource_claim_name.as_ref(), own.resource_claim_template_name.as_ref()) {
            return none(format!("PodGroup {}", group.key()), &own.name);
        }
        if own.name == claim.name
            && own.resource_claim_name == claim.resource_claim_name
            && own.resource_claim_template_name == claim.resource_claim_template_name
        {
            return Ok(Some(reference(group)));
        }
    }
    Ok(None)
}

/// Name of a claim of a group, and whether it was made for it; nothing if none is needed. Upstream: NameFromPodGroup.
fn claim_name<'a>(
    group: &'a PodGroup,
    claim: &'a PodGroupResourceClaim,
) -> Result<Option<(&'a str, bool)>, String> {
    if let Some(name) = &claim.resource_claim_name {
        return Ok(Some((name, false)));
    }
    let key = group.key();
    if claim.resource_claim_template_name.is_none() {
        let name = &claim.name;
        return Err(format!(
            "PodGroup {key}, spec.resourceClaim {name}: none of the supported fields are set"
        ));
    }
    let mut made = group.status.iter().flat_map(|s| s.resource_claim_statuses.iter().flatten());
    match made.find(|m| m.name == claim.name) {
        Some(made) => Ok(made.resource_claim_name.as_deref().map(|name| (name, true))),
        None => Err(format!("PodGroup {key}: ResourceClaim not created yet")),
    }
}

/// What is done for a group none of whose pods has a node, where nothing could be done for one of its pods.
#[derive(Clone, Debug)]
pub enum GroupFree {
    /// A claim that some node could not use is given back.
    Deallocate(Arc<ResourceClaim>),
    /// A claim is not the group's any more. Nothing else is tried then.
    Unreserve(Arc<ResourceClaim>, Box<str>),
}

impl GroupFree {
    /// In upstream's words.
    pub fn message(&self) -> &'static str {
        match self {
            GroupFree::Deallocate(_) => "deallocation of PodGroup ResourceClaim completed",
            GroupFree::Unreserve(..) => "ResourceClaim unreserved for PodGroup",
        }
    }

    pub fn write(self) -> Free {
        match self {
            GroupFree::Deallocate(claim) => Free::Deallocate(claim),
            GroupFree::Unreserve(claim, uid) => Free::Unreserve(claim, uid),
        }
    }
}

/// Chooses it. `blocked`: claims of its pods that some node could not use. Upstream: deallocatePodGroupClaims.
pub fn to_free(
    listers: &Listers,
    group: &PodGroup,
    blocked: &[Arc<ResourceClaim>],
) -> Result<Option<GroupFree>, String> {
    let holders = |claim: &ResourceClaim| {
        claim.status.as_ref().and_then(|s| s.reserved_for.clone()).unwrap_or_default()
    };
    let free = blocked.iter().find(|claim| match holders(claim).as_slice() {
        [] => true,
        [one] => one.uid == group.uid(),
        _ => false,
    });
    if let Some(claim) = free {
        return Ok(Some(GroupFree::Deallocate(claim.clone())));
    }
    for own in group.spec.resource_claims.iter().flatten() {
        let Some((name, made)) = claim_name(group, own)? else { continue };
        let key = format!("{}/{name}", group.namespace());
        let claim = listers.resource_claims.get(&key);
        let claim = claim.ok_or_else(|| format!("could not find ResourceClaim {key:?}"))?;
        let mut owners = claim.metadata.owner_references.iter().flatten();
        if made && !owners.any(|o| o.controller == Some(true) && o.uid == group.uid()) {
            continue;
        }
        let allocated = claim.status.as_ref().is_some_and(|s| s.allocation.is_some());
        let ours = |by: &ResourceClaimConsumerReference| {
            by.api_group.as_deref() == Some(API_GROUP) && by.resource == RESOURCE && by.name == group.name()
        };
        if allocated && holders(&claim).iter().any(ours) {
            return Ok(Some(GroupFree::Unreserve(claim, group.uid().into())));
        }
    }
    Ok(None)
}
