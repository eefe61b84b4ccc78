//! ResourceClaims: makes claims from templates for pods, reserves them where no scheduler does, and takes them back.
//!
//! Does not allocate devices: that is the scheduler's. Claims of pod groups (gate DRAWorkloadResourceClaims, off by
//! default) are not made: with that gate on the controller refuses to start. Start reading at [`plan`].
//! Upstream: pkg/controller/resourceclaim/controller.go.

pub mod plan;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use client::{Client, DeleteParams, Meta, Patch, PatchParams};
use component::app::Error;
use component::features::{self, Gate};
use controller::{EventRecorder, WARNING, WorkQueue, reference};
use hashbrown::HashMap;
use informer::{Event, Informer, Options, Store};
use k8s_openapi::api::resource::v1::{ResourceClaim, ResourceClaimTemplate};
use parking_lot::Mutex;
use serde_json::json;

use self::plan::{
    ClaimPlan, PodPlan, PodView, claim_names, is_done, owning_pod, plan_claim, plan_pod, statuses,
};
use crate::context::Context;
use crate::descriptor::Running;
use crate::kept::Pod;

const MANAGER: &str = "ResourceClaimController";
/// Pods by the claims they use, by the templates they name; claims by the pod they were made for.
const BY_CLAIM: &str = "pod-resource-claim-index";
const BY_TEMPLATE: &str = "pod-resource-claim-template-index";
const BY_OWNER: &str = "claim-pod-owner-index";
/// Writes that one sync of a claim makes at most.
const MOST_WRITES: usize = 4;

/// What is to be looked at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Item {
    Pod(String),
    Claim(String),
}

struct Shell {
    client: Client,
    pods: Store<Pod>,
    claims: Store<ResourceClaim>,
    templates: Store<ResourceClaimTemplate>,
    queue: WorkQueue<Item>,
    recorder: EventRecorder,
    /// Claims that were made and that the cache may not know yet, by key.
    made: Mutex<HashMap<String, Arc<ResourceClaim>>>,
}

fn by_claim(pod: &Pod) -> Vec<String> {
    claim_names(pod).iter().map(|name| format!("{}/{name}", pod.namespace())).collect()
}

fn by_template(pod: &Pod) -> Vec<String> {
    let wanted = pod.spec.iter().flat_map(|s| s.resource_claims.iter().flatten());
    let names = wanted.filter_map(|w| w.resource_claim_template_name.as_ref());
    let mut keys: Vec<String> = names.map(|name| format!("{}/{name}", pod.namespace())).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

fn by_owner(claim: &ResourceClaim) -> Vec<String> {
    owning_pod(claim).map(|(_, uid)| uid.to_string()).into_iter().collect()
}

/// Builds the controller.
pub fn build(context: &Context) -> Result<Running, Error> {
    if features::enabled(Gate::DRAWorkloadResourceClaims) {
        return Err(
            "feature gate DRAWorkloadResourceClaims is not supported: claims of pod groups are not made"
                .into(),
        );
    }
    let options = Options::default().index(BY_CLAIM, by_claim).index(BY_TEMPLATE, by_template);
    let pods = context.factory.informer::<Pod>(options);
    let claims = context.factory.informer::<ResourceClaim>(Options::default().index(BY_OWNER, by_owner));
    let templates = context.factory.informer::<ResourceClaimTemplate>(Options::default());
    let shell = Arc::new(Shell {
        client: context.client(),
        pods: pods.store(),
        claims: claims.store(),
        templates: templates.store(),
        queue: WorkQueue::new("resource_claim"),
        recorder: context.recorder("resource_claim"),
        made: Mutex::default(),
    });
    shell.follow(&pods, &claims, &templates);
    let (workers, token) = (context.workers("concurrent-resourceclaim-syncs"), context.token.clone());
    Ok(Box::pin(async move {
        let synced = pods.wait_synced(&token).await
            && claims.wait_synced(&token).await
            && templates.wait_synced(&token).await;
        if !synced {
            return;
        }
        let queue = shell.queue.clone();
        queue
            .run(workers, &token, move |item: Item| {
                let shell = shell.clone();
                async move {
                    match item {
                        Item::Pod(key) => shell.sync_pod(&key).await.map(|()| None),
                        Item::Claim(key) => shell.sync_claim(&key).await.map(|()| None),
                    }
                }
            })
            .await;
    }))
}

impl Shell {
    fn follow(
        self: &Arc<Self>,
        pods: &Informer<Pod>,
        claims: &Informer<ResourceClaim>,
        templates: &Informer<ResourceClaimTemplate>,
    ) {
        let to = self.clone();
        pods.subscribe(move |event| {
            let pod = event.object();
            let deleted = matches!(event, Event::Deleted(_));
            if deleted || is_done(pod) {
                by_claim(pod).into_iter().for_each(|key| to.queue.add(Item::Claim(key)));
            }
            if !deleted {
                to.queue_pod(pod);
            }
        });
        let to = self.clone();
        claims.subscribe(move |event| {
            let key = event.object().key();
            to.made.lock().remove(&key);
            to.pods.by_index(BY_CLAIM, &key).iter().for_each(|pod| to.queue_pod(pod));
            if !matches!(event, Event::Deleted(_)) {
                to.queue.add(Item::Claim(key));
            }
        });
        let to = self.clone();
        templates.subscribe(move |event| {
            if !matches!(event, Event::Deleted(_)) {
                to.pods.by_index(BY_TEMPLATE, &event.object().key()).iter().for_each(|pod| to.queue_pod(pod));
            }
        });
    }

    fn queue_pod(&self, pod: &Pod) {
        let asks =
            pod.spec.as_ref().is_some_and(|s| s.resource_claims.as_ref().is_some_and(|c| !c.is_empty()));
        if asks && pod.metadata.deletion_timestamp.is_none() {
            self.queue.add(Item::Pod(pod.key()));
        }
    }

    fn claim(&self, namespace: &str, name: &str) -> Option<Arc<ResourceClaim>> {
        let key = format!("{namespace}/{name}");
        self.claims.get(&key).or_else(|| self.made.lock().get(&key).cloned())
    }

    fn owned(&self, uid: &str) -> Vec<Arc<ResourceClaim>> {
        let mut owned = self.claims.by_index(BY_OWNER, uid);
        let made = self.made.lock();
        owned.extend(made.values().filter(|c| owning_pod(c).is_some_and(|(_, u)| u == uid)).cloned());
        owned
    }

    fn decide(&self, pod: &Pod) -> PodPlan {
        let namespace = pod.namespace();
        plan_pod(&PodView {
            pod,
            claim: &|name| self.claim(namespace, name),
            owned: &self.owned(pod.uid()),
            template: &|name| self.templates.get_by(namespace, name),
        })
    }

    async fn sync_pod(&self, key: &str) -> Result<(), String> {
        let Some(pod) = self.pods.get(key) else { return Ok(()) };
        let (plan, namespace) = (self.decide(&pod), pod.namespace());
        let api = self.client.namespaced::<ResourceClaim>(namespace);
        let (mut told, mut failure) = (plan.tell, plan.failure);
        for (wanted, claim) in plan.create {
            match api.create(&claim).await {
                Ok(made) => {
                    told.push((wanted, made.name().to_string()));
                    self.made.lock().insert(made.key(), Arc::new(made));
                }
                Err(error) => {
                    failure = Some(format!("PodResourceClaim {wanted}: create ResourceClaim : {error}"));
                    break;
                }
            }
        }
        if let Some(failure) = failure {
            self.recorder.event(&reference(&*pod), WARNING, "FailedResourceClaimCreation", &failure);
            return Err(format!("pod {key}, {failure}"));
        }
        if !told.is_empty() {
            self.tell(&pod, &told)
                .await
                .map_err(|e| format!("update pod {key} ResourceClaimStatuses: {e}"))?;
        }
        for claim in plan.reserve {
            let name = claim.name().to_string();
            api.replace_status(&claim)
                .await
                .map_err(|e| format!("reserve claim {name} for pod {key}: {e}"))?;
        }
        Ok(())
    }

    async fn tell(&self, pod: &Pod, new: &[(String, String)]) -> client::Result<()> {
        let patch = Patch::Apply(json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": pod.name(), "namespace": pod.namespace()},
            "status": {"resourceClaimStatuses": statuses(pod, new)},
        }));
        let params =
            PatchParams { field_manager: MANAGER.to_string(), force: true, ..PatchParams::default() };
        let api = self.client.namespaced::<Pod>(pod.namespace());
        api.patch_unread(pod.name(), "status", &patch, &params).await
    }

    /// Whether each pod that a claim is reserved for may still run. Of one that the cache does not know the server is
    /// asked: the scheduler may know more than the cache.
    async fn running(&self, claim: &ResourceClaim) -> client::Result<BTreeMap<String, bool>> {
        let mut running = BTreeMap::new();
        let reserved = claim.status.iter().flat_map(|s| s.reserved_for.iter().flatten());
        for consumer in reserved.filter(|c| c.resource == "pods") {
            let cached = self.pods.get_by(claim.namespace(), &consumer.name);
            let runs = match cached {
                Some(pod) => pod.uid() == consumer.uid && !is_done(&pod),
                None => {
                    let api = self.client.namespaced::<Pod>(claim.namespace());
                    api.get_opt(&consumer.name).await?.is_some_and(|p| p.uid() == consumer.uid)
                }
            };
            running.insert(consumer.uid.clone(), runs);
        }
        Ok(running)
    }

    fn owner_is_done(&self, claim: &ResourceClaim) -> bool {
        let Some((name, uid)) = owning_pod(claim) else { return false };
        // Of a pod that is not known nothing is known: the garbage collector takes care of it.
        self.pods.get_by(claim.namespace(), name).is_some_and(|p| p.uid() != uid || is_done(&p))
    }

    async fn sync_claim(&self, key: &str) -> Result<(), String> {
        let told = |e: client::Error| format!("claim {key}: {e}");
        let Some(mut claim) = self.claims.get(key) else { return Ok(()) };
        let running = self.running(&claim).await.map_err(told)?;
        let api = self.client.namespaced::<ResourceClaim>(claim.namespace());
        let mut released = false;
        for _ in 0..MOST_WRITES {
            let runs = |_: &str, uid: &str| running.get(uid).copied().unwrap_or(true);
            match plan_claim(&claim, runs, self.owner_is_done(&claim), released) {
                ClaimPlan::Nothing => return Ok(()),
                ClaimPlan::UpdateStatus(new) => {
                    claim = Arc::new(api.replace_status(&new).await.map_err(told)?);
                    released = true;
                }
                ClaimPlan::Update(new) => claim = Arc::new(api.replace(&new).await.map_err(told)?),
                ClaimPlan::Delete => {
                    return match api.delete(claim.name(), &DeleteParams::with_uid(claim.uid())).await {
                        Err(error) if !error.is_not_found() => {
                            Err(format!("delete unused generated claim {key}: {error}"))
                        }
                        _ => Ok(()),
                    };
                }
            }
        }
        Ok(())
    }
}
