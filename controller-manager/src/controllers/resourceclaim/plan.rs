//! What pods that want devices, and the claims they use, need next. Pure.
//! Upstream: resourceclaim/controller.go syncPod, handleClaim, syncClaim; dynamic-resource-allocation/resourceclaim.

use std::sync::Arc;

use client::Meta;
use controller::controller_of;
use k8s_openapi::api::core::v1::{PodResourceClaim, PodResourceClaimStatus};
use k8s_openapi::api::resource::v1::{
    ResourceClaim, ResourceClaimConsumerReference as Consumer, ResourceClaimTemplate,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::kept::Pod;
use crate::pods;

/// Which of a pod's claims a claim was made for.
pub const ANNOTATION: &str = "resource.kubernetes.io/pod-claim-name";
const FINALIZER: &str = "resource.kubernetes.io/delete-protection";
/// Consumers that one claim may have.
const MOST_CONSUMERS: usize = 256;
/// Generated names leave room for a hyphen and five letters.
const NAME_BASE: usize = 57;

/// The claim that serves one of a pod's claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Served {
    /// One that somebody made.
    Named(String),
    /// One that was made here, for this pod alone.
    Generated(String),
    NotNeeded,
    NotYet,
}

/// Finds the claim. Upstream: resourceclaim.Name.
///
/// # Errors
/// The pod names its claim in a way of a newer version.
pub fn served(pod: &Pod, wanted: &PodResourceClaim) -> Result<Served, String> {
    if let Some(name) = &wanted.resource_claim_name {
        return Ok(Served::Named(name.clone()));
    }
    if wanted.resource_claim_template_name.is_none() {
        return Err(format!(
            "pod claim {}: unsupported source, a newer version of the API is needed",
            wanted.name
        ));
    }
    let statuses = pod.status.iter().flat_map(|s| s.resource_claim_statuses.iter().flatten());
    let told = statuses.into_iter().find(|s| s.name == wanted.name);
    Ok(match told.map(|s| s.resource_claim_name.clone()) {
        None => Served::NotYet,
        Some(None) => Served::NotNeeded,
        Some(Some(name)) => Served::Generated(name),
    })
}

/// Names of all claims of a pod that are known.
pub fn claim_names(pod: &Pod) -> Vec<String> {
    let wanted = pod.spec.iter().flat_map(|s| s.resource_claims.iter().flatten());
    let named = wanted.filter_map(|w| match served(pod, w) {
        Ok(Served::Named(name) | Served::Generated(name)) => Some(name),
        _ => None,
    });
    let extended = pod.status.as_ref().and_then(|s| s.extended_resource_claim_status.as_ref());
    named.chain(extended.map(|e| e.resource_claim_name.clone())).collect()
}

/// The pod will never run any more.
pub fn is_done(pod: &Pod) -> bool {
    pods::is_terminal(pod) || (pod.metadata.deletion_timestamp.is_some() && pods::node_name(pod).is_empty())
}

/// The pod that a claim was made for: name and uid.
pub fn owning_pod(claim: &ResourceClaim) -> Option<(&str, &str)> {
    let owner = controller_of(&claim.metadata).filter(|o| o.api_version == "v1" && o.kind == "Pod")?;
    Some((&owner.name, &owner.uid))
}

fn is_for(pod: &Pod, claim: &ResourceClaim) -> bool {
    owning_pod(claim).is_some_and(|(_, uid)| uid == pod.uid())
}

/// Everything a decision about a pod depends on.
pub struct PodView<'a> {
    pub pod: &'a Pod,
    pub claim: &'a dyn Fn(&str) -> Option<Arc<ResourceClaim>>,
    /// Claims that were made for this pod, also those the cache does not know yet.
    pub owned: &'a [Arc<ResourceClaim>],
    pub template: &'a dyn Fn(&str) -> Option<Arc<ResourceClaimTemplate>>,
}

/// What a pod needs.
#[derive(Debug, Default, PartialEq)]
pub struct PodPlan {
    /// Claims to be made, by the pod's names for them.
    pub create: Vec<(String, ResourceClaim)>,
    /// Claims that were made, but that the pod's status does not tell.
    pub tell: Vec<(String, String)>,
    /// Claims to be reserved for the pod: it came to its node without the scheduler.
    pub reserve: Vec<ResourceClaim>,
    /// Why it goes on no further.
    pub failure: Option<String>,
}

/// Decides about a pod.
pub fn plan_pod(view: &PodView<'_>) -> PodPlan {
    let mut plan = PodPlan::default();
    let Some(spec) = view.pod.spec.as_ref().filter(|_| view.pod.metadata.deletion_timestamp.is_none()) else {
        return plan;
    };
    for wanted in spec.resource_claims.iter().flatten() {
        if let Err(error) = make(view, wanted, &mut plan) {
            plan.failure = Some(format!("PodResourceClaim {}: {error}", wanted.name));
            return plan;
        }
    }
    // Otherwise the scheduler reserves.
    if plan.create.is_empty() && plan.tell.is_empty() && !pods::node_name(view.pod).is_empty() {
        plan.reserve = to_reserve(view);
    }
    plan
}

fn make(view: &PodView<'_>, wanted: &PodResourceClaim, plan: &mut PodPlan) -> Result<(), String> {
    match served(view.pod, wanted)? {
        Served::Named(_) | Served::NotNeeded => return Ok(()),
        Served::Generated(name) if (view.claim)(&name).is_some_and(|c| is_for(view.pod, &c)) => return Ok(()),
        // Somebody deleted it, or it is another pod's: a new one is made.
        Served::Generated(_) | Served::NotYet => {}
    }
    let mine = |c: &&Arc<ResourceClaim>| {
        c.metadata.annotations.as_ref().and_then(|a| a.get(ANNOTATION)) == Some(&wanted.name)
    };
    if let Some(found) = view.owned.iter().find(mine) {
        plan.tell.push((wanted.name.clone(), found.name().to_string()));
        return Ok(());
    }
    let template_name = wanted.resource_claim_template_name.as_deref().unwrap_or_default();
    let template = (view.template)(template_name).ok_or_else(|| {
        format!("resource claim template {template_name:?}: resourceclaimtemplate.resource.k8s.io {template_name:?} not found")
    })?;
    plan.create.push((wanted.name.clone(), generated(view.pod, &wanted.name, &template)));
    Ok(())
}

/// A claim from a template, named after both pod and claim, each cut by its share if they are too long.
fn generated(pod: &Pod, wanted: &str, template: &ResourceClaimTemplate) -> ResourceClaim {
    let mut base = format!("{}-{wanted}-", pod.name());
    let length = base.len();
    if length > NAME_BASE {
        let cut = |text: &str, of: usize| text[..text.len() * NAME_BASE / of].to_string();
        let first = cut(pod.name(), length);
        base = format!("{first}-{}", cut(wanted, length));
    }
    let content = template.spec.clone().unwrap_or_default();
    let meta = content.metadata.unwrap_or_default();
    let mut annotations = meta.annotations.unwrap_or_default();
    annotations.insert(ANNOTATION.to_string(), wanted.to_string());
    ResourceClaim {
        metadata: ObjectMeta {
            generate_name: Some(base),
            namespace: Some(pod.namespace().to_string()),
            owner_references: Some(vec![OwnerReference {
                api_version: "v1".to_string(),
                kind: "Pod".to_string(),
                name: pod.name().to_string(),
                uid: pod.uid().to_string(),
                controller: Some(true),
                block_owner_deletion: None,
            }]),
            labels: meta.labels,
            annotations: Some(annotations),
            ..ObjectMeta::default()
        },
        spec: content.spec,
        status: None,
    }
}

fn consumers(claim: &ResourceClaim) -> &[Consumer] {
    claim.status.as_ref().and_then(|s| s.reserved_for.as_deref()).unwrap_or_default()
}

fn is_allocated(claim: &ResourceClaim) -> bool {
    claim.status.as_ref().is_some_and(|s| s.allocation.is_some())
}

fn to_reserve(view: &PodView<'_>) -> Vec<ResourceClaim> {
    let wanted = view.pod.spec.iter().flat_map(|s| s.resource_claims.iter().flatten());
    let claims = wanted.filter_map(|w| match served(view.pod, w) {
        Ok(Served::Named(name)) => (view.claim)(&name),
        Ok(Served::Generated(name)) => (view.claim)(&name).filter(|c| is_for(view.pod, c)),
        _ => None,
    });
    let uid = view.pod.uid();
    let lacks = |c: &Arc<ResourceClaim>| {
        is_allocated(c) && consumers(c).len() < MOST_CONSUMERS && !consumers(c).iter().any(|r| r.uid == uid)
    };
    claims
        .filter(lacks)
        .map(|claim| {
            let mut new = (*claim).clone();
            let list = new.status.get_or_insert_default().reserved_for.get_or_insert_default();
            list.push(Consumer {
                api_group: None,
                resource: "pods".to_string(),
                name: view.pod.name().to_string(),
                uid: uid.to_string(),
            });
            new
        })
        .collect()
}

/// The status entries of a pod, with those that are new.
pub fn statuses(pod: &Pod, new: &[(String, String)]) -> Vec<PodResourceClaimStatus> {
    let old = pod.status.iter().flat_map(|s| s.resource_claim_statuses.iter().flatten());
    let mut all: std::collections::BTreeMap<String, Option<String>> = old
        .filter(|s| s.resource_claim_name.is_some())
        .map(|s| (s.name.clone(), s.resource_claim_name.clone()))
        .collect();
    all.extend(new.iter().map(|(wanted, claim)| (wanted.clone(), Some(claim.clone()))));
    all.into_iter()
        .map(|(name, resource_claim_name)| PodResourceClaimStatus { name, resource_claim_name })
        .collect()
}

/// What is next for a claim.
#[derive(Debug, PartialEq)]
pub enum ClaimPlan {
    Nothing,
    UpdateStatus(Box<ResourceClaim>),
    Update(Box<ResourceClaim>),
    /// Its pod needs it no more, although it may stay for long.
    Delete,
}

/// Decides about a claim. `runs` says of a pod's name and uid whether that pod may still run; `owner_is_done` that the pod
/// which the claim was made for is known and does not; `released` that its last consumer has just been taken off: otherwise
/// the finalizer stays, as the scheduler sets it before it allocates.
pub fn plan_claim(
    claim: &ResourceClaim,
    runs: impl Fn(&str, &str) -> bool,
    owner_is_done: bool,
    released: bool,
) -> ClaimPlan {
    let is_pod =
        |c: &&Consumer| c.api_group.as_deref().unwrap_or_default().is_empty() && c.resource == "pods";
    let remaining: Vec<Consumer> =
        consumers(claim).iter().filter(|c| !is_pod(c) || runs(&c.name, &c.uid)).cloned().collect();
    let guarded = claim.metadata.finalizers.iter().flatten().any(|f| f == FINALIZER);
    let deleted = claim.metadata.deletion_timestamp.is_some();
    let mut new = claim.clone();
    if remaining.len() < consumers(claim).len() {
        let status = new.status.get_or_insert_default();
        // The last one gone, what was allocated is free for others.
        if remaining.is_empty() && guarded {
            status.allocation = None;
        }
        status.reserved_for = Some(remaining).filter(|r| !r.is_empty());
        return ClaimPlan::UpdateStatus(Box::new(new));
    }
    if !remaining.is_empty() {
        return ClaimPlan::Nothing;
    }
    if deleted && guarded && is_allocated(claim) {
        new.status.get_or_insert_default().allocation = None;
        return ClaimPlan::UpdateStatus(Box::new(new));
    }
    if guarded && !is_allocated(claim) && (deleted || released) {
        let finalizers = new.metadata.finalizers.get_or_insert_default();
        finalizers.retain(|f| f != FINALIZER);
        return ClaimPlan::Update(Box::new(new));
    }
    if owner_is_done && !deleted { ClaimPlan::Delete } else { ClaimPlan::Nothing }
}
