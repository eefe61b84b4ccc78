//! PVC and PV protection: storage that is in use is not deleted before it is let go.
//!
//! A finalizer keeps claims that pods on nodes use, and volumes that are bound. Start reading at [`plan`]. The
//! condition `Unused` tells since when no pod names a bound claim (gate PersistentVolumeClaimUnusedSinceTime).
//! Upstream: pkg/controller/volume/pvcprotection, pvprotection.

use std::collections::BTreeSet;

use client::{Client, ListParams, Meta, Object};
use component::app::Error;
use component::features::{self, Gate};
use controller::{WorkQueue, is_controlled_by};
use informer::{Event, Options, Store};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimCondition as ClaimCondition,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

use super::shared::key;
use crate::context::Context;
use crate::descriptor::Running;
use crate::kept::Pod;
use crate::pods;

const CLAIM_FINALIZER: &str = "kubernetes.io/pvc-protection";
const VOLUME_FINALIZER: &str = "kubernetes.io/pv-protection";
const UNUSED: &str = "Unused";
/// Pods by the keys of the claims they name.
pub const BY_CLAIM: &str = "pod-pvc-index";

/// What to do with the finalizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    Nothing,
    Add,
    /// Take it off, unless the object is in use.
    RemoveIfUnused,
}

/// Decides about the finalizer alone.
pub fn plan(meta: &ObjectMeta, finalizer: &str) -> Plan {
    let has = meta.finalizers.iter().flatten().any(|f| f == finalizer);
    match (meta.deletion_timestamp.is_some(), has) {
        (false, false) => Plan::Add,
        (true, true) => Plan::RemoveIfUnused,
        _ => Plan::Nothing,
    }
}

/// The object with the change that was decided.
pub fn changed<K: Meta>(object: &K, finalizer: &str, plan: Plan) -> K {
    let mut new = object.clone();
    let finalizers = new.meta_mut().finalizers.get_or_insert_default();
    match plan {
        Plan::Nothing => {}
        Plan::Add => finalizers.push(finalizer.to_string()),
        Plan::RemoveIfUnused => finalizers.retain(|f| f != finalizer),
    }
    new
}

/// Keys of the claims that a pod names.
pub fn by_claim(pod: &Pod) -> Vec<String> {
    claims(pod).iter().map(|(name, _)| format!("{}/{name}", pod.namespace())).collect()
}

/// Names of the claims that a pod's volumes mean; those made for the pod are marked.
fn claims(pod: &Pod) -> BTreeSet<(String, bool)> {
    let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    volumes
        .filter_map(|v| {
            if let Some(claim) = &v.persistent_volume_claim {
                return Some((claim.claim_name.to_string(), false));
            }
            v.ephemeral.is_some().then(|| (format!("{}-{}", pod.name(), v.name), true))
        })
        .collect()
}

/// A pod keeps a claim once it is on a node: no kubelet starts a pod whose claim is being deleted.
fn uses(pod: &Pod, claim: &PersistentVolumeClaim) -> bool {
    if pods::node_name(pod).is_empty() {
        return false;
    }
    let meta = &pod.metadata;
    let shut_down = meta.deletion_timestamp.is_some() && meta.deletion_grace_period_seconds == Some(0);
    claims(pod).iter().any(|(name, ephemeral)| {
        name == claim.name() && (!ephemeral || (!shut_down && is_controlled_by(&claim.metadata, meta)))
    })
}

/// No container of the pod runs any more. Upstream: pkg/volume/util IsPodTerminated.
pub fn has_ended(pod: &Pod) -> bool {
    let mut containers = pod.status.iter().flat_map(|s| s.container_statuses.iter().flatten());
    let stopped =
        containers.all(|c| c.state.as_ref().is_some_and(|s| s.terminated.is_some() || s.waiting.is_some()));
    pods::is_terminal(pod) || (pod.metadata.deletion_timestamp.is_some() && stopped)
}

/// A pod that has not ended names the claim, on a node or not.
fn names(pod: &Pod, claim: &PersistentVolumeClaim) -> bool {
    let owned = is_controlled_by(&claim.metadata, &pod.metadata);
    !has_ended(pod)
        && claims(pod).iter().any(|(name, ephemeral)| name == claim.name() && (!ephemeral || owned))
}

fn unused(claim: &PersistentVolumeClaim) -> Option<&ClaimCondition> {
    claim.status.as_ref()?.conditions.iter().flatten().find(|c| c.type_ == UNUSED)
}

/// The claim with the condition that tells whether it is in use; nothing if that is told already.
fn told(claim: &PersistentVolumeClaim, in_use: bool, now: Timestamp) -> Option<PersistentVolumeClaim> {
    let known = unused(claim).map(|c| c.status.as_str());
    if if in_use { known.is_some_and(|s| s != "True") } else { known == Some("True") } {
        return None;
    }
    let (status, reason, message) = if in_use {
        ("False", "PodUsingPVC", "A pod is currently referencing this PVC")
    } else {
        ("True", "NoPodsUsingPVC", "No pods are currently referencing this PVC")
    };
    let condition = ClaimCondition {
        type_: UNUSED.to_string(),
        status: status.to_string(),
        reason: Some(reason.to_string()),
        message: Some(message.to_string()),
        last_transition_time: Some(Time(now)),
        last_probe_time: None,
    };
    let mut new = claim.clone();
    let all = new.status.get_or_insert_default().conditions.get_or_insert_default();
    match all.iter_mut().find(|c| c.type_ == UNUSED) {
        Some(old) => *old = condition,
        None => all.push(condition),
    }
    Some(new)
}

/// A pod that may have let go of its claims.
fn lets_go(pod: &Pod, deleted: bool) -> bool {
    deleted || pods::is_terminal(pod) || pods::node_name(pod).is_empty()
}

/// Builds the controller of claims.
pub fn build_claims(context: &Context) -> Result<Running, Error> {
    let claims_informer = context.factory.informer::<PersistentVolumeClaim>(Options::default());
    let all_pods = context.factory.informer::<Pod>(Options::default().index(BY_CLAIM, by_claim));
    let tells = features::enabled(Gate::PersistentVolumeClaimUnusedSinceTime);
    let queue: WorkQueue<String> = WorkQueue::new("pvcprotection");
    let to = queue.clone();
    claims_informer.subscribe(move |event| {
        if let Event::Added(claim) | Event::Updated { new: claim, .. } = event
            && (plan(&claim.metadata, CLAIM_FINALIZER) != Plan::Nothing
                || (tells && unused(&claim).is_none()))
        {
            to.add(key(&*claim));
        }
    });
    let to = queue.clone();
    all_pods.subscribe(move |event| {
        let wake = |pod: &Pod, deleted: bool| {
            if tells || lets_go(pod, deleted) {
                claims(pod).iter().for_each(|(name, _)| to.add(format!("{}/{name}", pod.namespace())));
            }
        };
        match &event {
            Event::Added(pod) => wake(pod, false),
            Event::Deleted(pod) => wake(pod, true),
            Event::Updated { old, new } => {
                wake(new, false);
                if old.metadata.uid != new.metadata.uid {
                    wake(old, true);
                }
            }
        }
    });
    let (client, token) = (context.client(), context.token.clone());
    let (stored, users) = (claims_informer.store(), all_pods.store());
    Ok(Box::pin(async move {
        if !(claims_informer.wait_synced(&token).await && all_pods.wait_synced(&token).await) {
            return;
        }
        queue
            .run(1, &token, move |claim: String| {
                let (client, stored, users) = (client.clone(), stored.clone(), users.clone());
                async move {
                    if tells {
                        tell(&client, &stored, &users, &claim).await?;
                    }
                    sync_claim(&client, &stored, &users, &claim).await.map(|()| None)
                }
            })
            .await;
    }))
}

/// Somebody may be using the claim, by the cache or else by the server.
async fn is_used(
    client: &Client,
    users: &Store<Pod>,
    claim: &PersistentVolumeClaim,
    by: fn(&Pod, &PersistentVolumeClaim) -> bool,
) -> Result<bool, String> {
    if users.by_index(BY_CLAIM, &key(claim)).iter().any(|pod| by(pod, claim)) {
        return Ok(true);
    }
    // The cache may not know of a new pod yet: data is at stake, so the server is asked.
    let live = client.namespaced::<Pod>(claim.namespace()).list(&ListParams::default()).await;
    let live = live.map_err(|e| format!("live list of pods failed: {e}"))?;
    Ok(live.items.iter().any(|pod| by(pod, claim)))
}

async fn tell(
    client: &Client,
    stored: &Store<PersistentVolumeClaim>,
    users: &Store<Pod>,
    claim_key: &str,
) -> Result<(), String> {
    let bound =
        |c: &PersistentVolumeClaim| c.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Bound");
    let claim = stored.get(claim_key).filter(|c| bound(c) && c.metadata.deletion_timestamp.is_none());
    let Some(claim) = claim else { return Ok(()) };
    let in_use = is_used(client, users, &claim, names).await?;
    let Some(new) = told(&claim, in_use, Timestamp::now()) else { return Ok(()) };
    match client.namespaced::<PersistentVolumeClaim>(claim.namespace()).replace_status(&new).await {
        Err(error) if !error.is_not_found() => {
            Err(format!("writing the status of claim {claim_key}: {error}"))
        }
        _ => Ok(()),
    }
}

async fn sync_claim(
    client: &Client,
    stored: &Store<PersistentVolumeClaim>,
    users: &Store<Pod>,
    claim_key: &str,
) -> Result<(), String> {
    let Some(claim) = stored.get(claim_key) else { return Ok(()) };
    let plan = plan(&claim.metadata, CLAIM_FINALIZER);
    if plan == Plan::RemoveIfUnused && is_used(client, users, &claim, uses).await? {
        return Ok(());
    }
    write(client, &*claim, CLAIM_FINALIZER, plan).await
}

/// Writes the object with the change that was decided.
///
/// # Errors
/// The call's.
pub async fn write<K: Object>(
    client: &Client,
    object: &K,
    finalizer: &str,
    plan: Plan,
) -> Result<(), String> {
    if plan == Plan::Nothing {
        return Ok(());
    }
    let api = client.namespaced::<K>(object.namespace());
    match api.replace(&changed(object, finalizer, plan)).await {
        Err(error) if !error.is_not_found() => {
            Err(format!("writing finalizer {finalizer} of {}: {error}", object.key()))
        }
        _ => Ok(()),
    }
}

/// Builds the controller of volumes.
pub fn build_volumes(context: &Context) -> Result<Running, Error> {
    let volumes = context.factory.informer::<PersistentVolume>(Options::default());
    let queue: WorkQueue<String> = WorkQueue::new("pvprotection");
    let to = queue.clone();
    volumes.subscribe(move |event| {
        if let Event::Added(volume) | Event::Updated { new: volume, .. } = event
            && plan(&volume.metadata, VOLUME_FINALIZER) != Plan::Nothing
        {
            to.add(key(&*volume));
        }
    });
    let (client, store, token) = (context.client(), volumes.store(), context.token.clone());
    Ok(Box::pin(async move {
        if !volumes.wait_synced(&token).await {
            return;
        }
        queue
            .run(1, &token, move |name: String| {
                let (client, store) = (client.clone(), store.clone());
                async move {
                    let Some(volume) = store.get(&name) else { return Ok(None) };
                    let plan = plan_volume(&volume);
                    write(&client, &*volume, VOLUME_FINALIZER, plan).await.map(|()| None)
                }
            })
            .await;
    }))
}

/// A bound volume is in use.
fn plan_volume(volume: &PersistentVolume) -> Plan {
    let bound = volume.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Bound");
    match plan(&volume.metadata, VOLUME_FINALIZER) {
        Plan::RemoveIfUnused if bound => Plan::Nothing,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::scenario;

    #[test]
    fn scenarios_of_claims() {
        scenario::check("protection/testdata/claims", |given| {
            let claim: PersistentVolumeClaim = given.one();
            let pods: Vec<Pod> = given.all();
            let plan = match plan(&claim.metadata, CLAIM_FINALIZER) {
                Plan::RemoveIfUnused if pods.iter().any(|p| uses(p, &claim)) => {
                    "in use: the finalizer stays".to_string()
                }
                other => format!("{other:?}"),
            };
            let in_use = pods.iter().any(|p| names(p, &claim));
            match told(&claim, in_use, "2026-01-01T00:00:00Z".parse().expect("a time")) {
                None => plan,
                Some(new) => format!("{plan}\n{}", scenario::yaml(&new.status)),
            }
        });
    }

    #[test]
    fn scenarios_of_volumes() {
        scenario::check("protection/testdata/volumes", |given| format!("{:?}", plan_volume(&given.one())));
    }

    fn meta(deleted: bool, finalizers: &[&str]) -> ObjectMeta {
        serde_json::from_value(json!({
            "name": "data", "namespace": "n", "finalizers": finalizers,
            "deletionTimestamp": deleted.then_some("2026-01-01T00:00:00Z"),
        }))
        .expect("metadata")
    }

    fn check(deleted: bool, finalizers: &[&str], expected: Plan) {
        assert_eq!(plan(&meta(deleted, finalizers), CLAIM_FINALIZER), expected, "{deleted} {finalizers:?}");
    }

    #[test]
    fn living_claims_get_the_finalizer_and_dying_ones_lose_it() {
        check(false, &[], Plan::Add);
        check(false, &["other"], Plan::Add);
        check(false, &[CLAIM_FINALIZER], Plan::Nothing);
        check(true, &[CLAIM_FINALIZER, "other"], Plan::RemoveIfUnused);
        check(true, &["other"], Plan::Nothing);
    }

    /// `"node=n1 claim=data"`, `"node=n1 ephemeral=x gone"`; the pod is `p`.
    fn pod(text: &str) -> Pod {
        let words: Vec<&str> = text.split(' ').collect();
        let value = |p: &str| words.iter().find_map(|w| w.strip_prefix(p));
        let mut volumes = Vec::new();
        volumes
            .extend(value("claim=").map(|c| json!({"name": "v", "persistentVolumeClaim": {"claimName": c}})));
        volumes.extend(value("ephemeral=").map(|v| json!({"name": v, "ephemeral": {}})));
        let gone = words.contains(&"gone");
        serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u",
                "deletionTimestamp": gone.then_some("2026-01-01T00:00:00Z"),
                "deletionGracePeriodSeconds": gone.then_some(0)},
            "spec": {"nodeName": value("node="), "containers": [], "volumes": volumes},
        }))
        .expect("a pod")
    }

    fn check_use(text: &str, claim: &str, owner: Option<&str>, expected: bool) {
        let owners: Vec<_> = owner
            .map(
                |uid| json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": uid, "controller": true}),
            )
            .into_iter()
            .collect();
        let claim: PersistentVolumeClaim =
            serde_json::from_value(json!({"metadata": {"name": claim, "ownerReferences": owners}}))
                .expect("a claim");
        assert_eq!(uses(&pod(text), &claim), expected, "{text}");
    }

    #[test]
    fn pods_on_nodes_keep_their_claims() {
        check_use("node=n1 claim=data", "data", None, true);
        check_use("claim=data", "data", None, false);
        check_use("node=n1 claim=other", "data", None, false);
        check_use("node=n1 claim=data gone", "data", None, true);
    }

    #[test]
    fn claims_made_for_a_pod_are_kept_by_that_pod_only() {
        check_use("node=n1 ephemeral=tmp", "p-tmp", Some("u"), true);
        check_use("node=n1 ephemeral=tmp", "p-tmp", Some("other"), false);
        check_use("node=n1 ephemeral=tmp", "p-tmp", None, false);
        check_use("node=n1 ephemeral=tmp gone", "p-tmp", Some("u"), false);
    }

    #[test]
    fn use_is_told_when_it_changes() {
        let now = Timestamp::UNIX_EPOCH;
        let claim = PersistentVolumeClaim { metadata: meta(false, &[]), ..Default::default() };
        let used = told(&claim, true, now).expect("a change");
        assert_eq!(unused(&used).map(|c| c.status.as_str()), Some("False"));
        assert_eq!(told(&used, true, now), None);
        let free = told(&used, false, now).expect("a change");
        assert_eq!(unused(&free).and_then(|c| c.reason.as_deref()), Some("NoPodsUsingPVC"));
        assert_eq!(told(&free, false, now), None);
        assert!(names(&pod("claim=data"), &claim), "a pod without node counts here");
        assert!(!names(&pod("claim=data gone"), &claim));
    }

    #[test]
    fn bound_volumes_are_kept() {
        let volume = |phase: &str| PersistentVolume {
            metadata: meta(true, &[VOLUME_FINALIZER]),
            status: serde_json::from_value(json!({"phase": phase})).ok(),
            ..PersistentVolume::default()
        };
        assert_eq!(plan_volume(&volume("Bound")), Plan::Nothing);
        assert_eq!(plan_volume(&volume("Released")), Plan::RemoveIfUnused);
    }

    proptest! {
        /// One write is enough, and finalizers of others stay.
        #[test]
        fn one_write_is_enough(deleted: bool, has: bool, other: bool) {
            let mut finalizers = Vec::new();
            if has { finalizers.push(CLAIM_FINALIZER); }
            if other { finalizers.push("other"); }
            let claim = PersistentVolumeClaim { metadata: meta(deleted, &finalizers), ..Default::default() };
            let new = changed(&claim, CLAIM_FINALIZER, plan(&claim.metadata, CLAIM_FINALIZER));
            prop_assert_eq!(plan(&new.metadata, CLAIM_FINALIZER), Plan::Nothing);
            prop_assert_eq!(new.metadata.finalizers.iter().flatten().any(|f| f == "other"), other);
        }

        /// One write is enough for volumes too; a bound one keeps its finalizer, and one that is guarded and lives is left
        /// alone.
        #[test]
        fn volumes_settle(deleted: bool, has: bool, phase in "Bound|Available|Released|Failed") {
            let volume = PersistentVolume {
                metadata: meta(deleted, if has { &[VOLUME_FINALIZER] } else { &[] }),
                status: serde_json::from_value(json!({"phase": phase})).ok(),
                ..PersistentVolume::default()
            };
            let first = plan_volume(&volume);
            let new = changed(&volume, VOLUME_FINALIZER, first);
            prop_assert_eq!(plan_volume(&new), Plan::Nothing);
            let kept = new.metadata.finalizers.iter().flatten().any(|f| f == VOLUME_FINALIZER);
            prop_assert_eq!(kept, if deleted { has && phase == "Bound" } else { true });
            prop_assert_eq!(first == Plan::Nothing, new == volume || kept == has);
        }

        /// A protected living claim needs nothing.
        #[test]
        fn satisfied_claims_are_left_alone(others in prop::collection::vec("[a-z]{1,5}", 0..4)) {
            let mut finalizers: Vec<&str> = others.iter().map(String::as_str).collect();
            finalizers.push(CLAIM_FINALIZER);
            prop_assert_eq!(plan(&meta(false, &finalizers), CLAIM_FINALIZER), Plan::Nothing);
        }
    }
}
