//! Device taint eviction: deletes pods that use devices with NoExecute taints they do not tolerate, at once or in time, and
//! says in the status of rules how far that is.
//!
//! [`plan`] decides when a pod leaves, [`status`] what a rule's status says. Claims reserved for groups of pods are not
//! looked at (feature DRAWorkloadResourceClaims). Upstream: pkg/controller/devicetainteviction/device_taint_eviction.go.

mod metrics;
pub mod plan;
mod status;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use client::{Client, DeleteParams, Meta, Patch, PatchParams};
use component::app::Error;
use component::features::{self, Gate};
use controller::{EventRecorder, NORMAL, WorkQueue, reference};
use informer::{Event, Informer, Options, Store};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod as WholePod, PodCondition};
use k8s_openapi::api::resource::v1::{
    DeviceTaintRule as Rule, ResourceClaim as Claim, ResourceSlice as Slice,
};
use parking_lot::Mutex;
use serde_json::json;

use self::plan::{Eviction, NO_EXECUTE, View, allocated, selects};
use self::status::{Counts, DRY, PERIOD};
use super::shared::{fail_pod, key};
use crate::context::Context;
use crate::descriptor::Running;
use crate::kept::Pod;
use crate::pods;

const NAME: &str = "device-taint-eviction-controller";
/// Slices, and claims by the pools their devices are of.
const BY_POOL: &str = "device-pool";

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Item {
    /// By key.
    Pod(String),
    /// By name.
    Rule(String),
}

struct Shell {
    client: Client,
    pods: Store<Pod>,
    claims: Store<Claim>,
    slices: Store<Slice>,
    /// None where the feature DRADeviceTaintRules is off.
    rules: Option<Store<Rule>>,
    recorder: EventRecorder,
    queue: WorkQueue<Item>,
    /// Uids of pods that are to leave in some time.
    leaving: Mutex<HashSet<String>>,
    /// Pods evicted because of rules, by their uids.
    evicted: Mutex<HashMap<String, u64>>,
}

/// No driver's name has a slash.
fn pool(driver: &str, pool: &str) -> String {
    format!("{driver}/{pool}")
}

fn pools_of_claim(claim: &Claim) -> Vec<String> {
    let mut all: Vec<String> = allocated(claim).map(|a| pool(&a.driver, &a.pool)).collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn pool_of_slice(slice: &Slice) -> Vec<String> {
    vec![pool(&slice.spec.driver, &slice.spec.pool.name)]
}

/// Builds the controller.
pub fn build(context: &Context) -> Result<Running, Error> {
    let factory = &context.factory;
    let all_pods = factory.informer::<Pod>(Options::default());
    let claims = factory.informer::<Claim>(Options::default().index(BY_POOL, pools_of_claim));
    let slices = factory.informer::<Slice>(Options::default().index(BY_POOL, pool_of_slice));
    let rules =
        features::enabled(Gate::DRADeviceTaintRules).then(|| factory.informer::<Rule>(Options::default()));
    let shell = Arc::new(Shell {
        client: context.client(),
        pods: all_pods.store(),
        claims: claims.store(),
        slices: slices.store(),
        rules: rules.as_ref().map(Informer::store),
        recorder: context.recorder(NAME),
        queue: WorkQueue::new(NAME),
        leaving: Mutex::default(),
        evicted: Mutex::default(),
    });
    shell.follow(&all_pods, &claims, &slices);
    if let Some(rules) = &rules {
        shell.follow_rules(rules);
    }
    let workers = context.workers("concurrent-device-taint-eviction-syncs");
    let token = context.token.clone();
    Ok(Box::pin(async move {
        let mut synced = all_pods.wait_synced(&token).await
            && claims.wait_synced(&token).await
            && slices.wait_synced(&token).await;
        if let Some(rules) = &rules {
            synced = synced && rules.wait_synced(&token).await;
        }
        if !synced {
            return;
        }
        let queue = shell.queue.clone();
        queue
            .run(workers, &token, move |item: Item| {
                let shell = shell.clone();
                async move {
                    match item {
                        Item::Pod(key) => shell.sync_pod(&key).await,
                        Item::Rule(name) => shell.sync_rule(&name).await,
                    }
                }
            })
            .await;
    }))
}

/// What of a pod says which claims it uses where.
fn uses(pod: &Pod) -> impl PartialEq + '_ {
    let status = pod.status.as_ref();
    (
        pods::node_name(pod),
        status.and_then(|s| s.resource_claim_statuses.as_ref()),
        status.and_then(|s| s.extended_resource_claim_status.as_ref()),
    )
}

/// Others have no devices to lose.
fn has_claims(pod: &Pod) -> bool {
    let of_spec = pod.spec.as_ref().and_then(|s| s.resource_claims.as_ref());
    let extended = pod.status.as_ref().and_then(|s| s.extended_resource_claim_status.as_ref());
    of_spec.is_some_and(|claims| !claims.is_empty()) || extended.is_some()
}

fn is_tainted(slice: &Slice) -> bool {
    let taints = slice.spec.devices.iter().flatten().flat_map(|d| d.taints.iter().flatten());
    taints.into_iter().any(|t| t.effect == NO_EXECUTE)
}

impl Shell {
    fn follow(self: &Arc<Self>, pods: &Informer<Pod>, claims: &Informer<Claim>, slices: &Informer<Slice>) {
        let to = self.clone();
        pods.subscribe(move |event| {
            match &event {
                Event::Updated { old, new } if uses(old) == uses(new) => return,
                Event::Updated { old, new } if !has_claims(old) && !has_claims(new) => return,
                Event::Added(pod) if !has_claims(pod) => return,
                _ => {}
            }
            if let Event::Deleted(pod) = &event {
                to.leaving.lock().remove(pod.uid());
                return;
            }
            to.queue.add(Item::Pod(key(&**event.object())));
        });
        let to = self.clone();
        claims.subscribe(move |event| match &event {
            Event::Added(claim) | Event::Deleted(claim) => to.queue_users(claim),
            Event::Updated { old, new } => {
                to.queue_users(old);
                to.queue_users(new);
            }
        });
        let to = self.clone();
        slices.subscribe(move |event| {
            let known = |slice: &Slice| to.slices.by_index(BY_POOL, &pool_of_slice(slice).concat());
            let matters = match &event {
                Event::Updated { old, new } => is_tainted(old) || is_tainted(new),
                Event::Added(slice) | Event::Deleted(slice) => is_tainted(slice),
            };
            // Slices of an older generation count no more.
            let slice = event.object();
            if matters || known(slice).iter().any(|s| is_tainted(s)) {
                let claims = to.claims.by_index(BY_POOL, &pool_of_slice(slice).concat());
                claims.iter().for_each(|c| to.queue_users(c));
            }
        });
    }

    fn follow_rules(self: &Arc<Self>, rules: &Informer<Rule>) {
        let to = self.clone();
        rules.subscribe(move |event| {
            if let Event::Updated { old, new } = &event
                && old.uid() == new.uid()
                && old.spec == new.spec
            {
                return;
            }
            let rule = event.object();
            if let Event::Deleted(rule) = &event {
                to.evicted.lock().remove(rule.uid());
            } else {
                to.queue.add(Item::Rule(rule.name().to_owned()));
            }
            let old = if let Event::Updated { old, .. } = &event { old } else { rule };
            let concerns = |claim: &Claim| {
                let mut devices = allocated(claim);
                devices.any(|a| [old, rule].iter().any(|r| selects(r, &a.driver, &a.pool, &a.device)))
            };
            to.claims.list().iter().filter(|c| concerns(c)).for_each(|c| to.queue_users(c));
        });
    }

    fn queue_users(&self, claim: &Claim) {
        for user in claim.status.iter().flat_map(|s| s.reserved_for.iter().flatten()) {
            if user.api_group.as_deref().unwrap_or_default().is_empty() && user.resource == "pods" {
                self.queue.add(Item::Pod(format!("{}/{}", claim.namespace(), user.name)));
            }
        }
    }

    /// Calls with what decisions depend on, with these rules.
    fn with_view<T>(&self, rules: &[Arc<Rule>], call: impl FnOnce(&View<'_>) -> T) -> T {
        let claim = |namespace: &str, name: &str| self.claims.get_by(namespace, name);
        let slices = |driver: &str, of: &str| self.slices.by_index(BY_POOL, &pool(driver, of));
        call(&View { claim: &claim, slices: &slices, rules })
    }

    fn rules(&self) -> Vec<Arc<Rule>> {
        self.rules.as_ref().map(Store::list).unwrap_or_default()
    }

    async fn sync_pod(&self, pod_key: &str) -> Result<Option<Duration>, String> {
        let Some(pod) = self.pods.get(pod_key).filter(|p| p.metadata.deletion_timestamp.is_none()) else {
            return Ok(None);
        };
        let Some(eviction) = self.with_view(&self.rules(), |view| plan::of_pod(&pod, view)) else {
            if self.leaving.lock().remove(pod.uid()) {
                self.tell(&pod, "Cancelling deletion");
            }
            return Ok(None);
        };
        // More pods may have to leave for the same rule.
        eviction.rules().for_each(|(name, _)| self.queue.add_after(Item::Rule(name.to_owned()), PERIOD));
        let left = Duration::try_from(eviction.when.duration_since(Timestamp::now())).unwrap_or_default();
        if !left.is_zero() {
            self.leaving.lock().insert(pod.uid().to_owned());
            return Ok(Some(left));
        }
        self.evict(&pod, &eviction).await.map_err(|e| format!("evicting pod {pod_key}: {e}"))?;
        self.leaving.lock().remove(pod.uid());
        Ok(None)
    }

    fn tell(&self, pod: &Pod, what: &str) {
        self.recorder.event(&reference(pod), NORMAL, "DeviceTaintManagerEviction", what);
    }

    async fn evict(&self, known: &Pod, eviction: &Eviction) -> client::Result<()> {
        let api = self.client.namespaced::<WholePod>(known.namespace());
        let Some(mut pod) = api.get_opt(known.name()).await? else { return Ok(()) };
        if pod.uid() != known.uid() || pod.metadata.deletion_timestamp.is_some() {
            return Ok(());
        }
        self.tell(known, "Marking for deletion");
        let condition = PodCondition {
            type_: "DisruptionTarget".to_string(),
            status: "True".to_string(),
            reason: Some("DeletionByDeviceTaintManager".to_string()),
            message: Some("Device Taint manager: deleting due to NoExecute taint".to_string()),
            ..PodCondition::default()
        };
        let gone = |e: &client::Error| e.is_not_found();
        if pods::set_condition(&mut pod, condition, Timestamp::now()) {
            match fail_pod::patch_status(&api, &pod).await {
                Err(e) if gone(&e) => return Ok(()),
                other => other.map(drop)?,
            }
        }
        match api.delete(known.name(), &DeleteParams::with_uid(known.uid())).await {
            Err(e) if gone(&e) => return Ok(()),
            other => other?,
        }
        let late = Timestamp::now().duration_since(eviction.when);
        metrics::deleted(Duration::try_from(late).unwrap_or_default());
        for (name, uid) in eviction.rules() {
            *self.evicted.lock().entry(uid.to_owned()).or_default() += 1;
            self.queue.add_after(Item::Rule(name.to_owned()), PERIOD);
        }
        Ok(())
    }

    async fn sync_rule(&self, name: &str) -> Result<Option<Duration>, String> {
        let Some(rule) = self.rules.as_ref().and_then(|r| r.get(name)) else { return Ok(None) };
        if let Some(left) = status::wait(&rule, Timestamp::now()) {
            return Ok(Some(left));
        }
        let mut counts = self.count(&rule);
        counts.evicted = self.evicted.lock().get(rule.uid()).copied().unwrap_or(0);
        let Some(condition) = status::condition(&rule, &counts, Timestamp::now()) else { return Ok(None) };
        let patch = Patch::Apply(json!({
            "apiVersion": "resource.k8s.io/v1", "kind": "DeviceTaintRule",
            "metadata": {"name": name, "uid": rule.uid()}, "status": {"conditions": [condition]},
        }));
        let params = PatchParams { field_manager: NAME.to_string(), force: true, ..PatchParams::default() };
        match self.client.all::<Rule>().patch_status(name, &patch, &params).await {
            Err(e) if !e.is_not_found() => Err(format!("add condition to DeviceTaintRule status: {e}")),
            _ => Ok(None),
        }
    }

    fn count(&self, rule: &Rule) -> Counts {
        let effect = rule.spec.taint.effect.as_str();
        if effect != NO_EXECUTE && effect != DRY {
            return Counts::default();
        }
        let mut acting = rule.clone();
        acting.spec.taint.effect = NO_EXECUTE.to_string();
        let all = self.pods.list();
        let mut counts =
            self.with_view(&[Arc::new(acting)], |view| status::count_pods(rule, all.iter(), view));
        if effect == DRY {
            let mut slices = Vec::new();
            for of in self.slices.index_values(BY_POOL) {
                slices.extend(plan::current(&self.slices.by_index(BY_POOL, &of)).cloned());
            }
            status::count_devices(rule, slices.iter(), &self.claims.list(), &mut counts);
        }
        counts
    }
}
