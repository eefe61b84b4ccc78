//! SELinux warnings: tells pods that use the same volume with different SELinux labels that they cannot share a node.
//!
//! Off unless `--controllers` names it: only clusters with SELinux need it. Writes nothing but events, and a metric. Looks
//! at all pods, also those that will never meet on a node. Start reading at [`plan`], then [`cache`].
//! Upstream: pkg/controller/volume/selinuxwarning.
//!
//! Differs: upstream tries a pod again and again until its claims are bound, or for ever where its own containers disagree;
//! here what can change the answer wakes the pod.

mod cache;
mod label;
mod metrics;
mod names;
mod plan;
mod pod;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use client::Meta;
use component::app::Error;
use controller::{EventRecorder, NORMAL, WARNING, WorkQueue, reference};
use informer::{Event, Informer, Options, Store};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim as Claim};
use k8s_openapi::api::storage::v1::CSIDriver;
use parking_lot::Mutex;

use self::cache::{Cache, Conflict};
use self::plan::{Plan, View};
use self::pod::Pod;
use super::persistentvolume::facts::{claim_key, claim_phase, claim_uid, volume_name};
use super::protection::BY_CLAIM;
use super::shared::key;
use crate::context::Context;
use crate::descriptor::Running;

struct Shell {
    pods: Store<Pod>,
    claims: Store<Claim>,
    volumes: Store<PersistentVolume>,
    drivers: Store<CSIDriver>,
    cache: Arc<Mutex<Cache>>,
    recorder: EventRecorder,
    queue: WorkQueue<String>,
}

/// Builds the controller.
pub fn build(context: &Context) -> Result<Running, Error> {
    let factory = &context.factory;
    let pods = factory.informer::<Pod>(Options::default().index(BY_CLAIM, Pod::claims));
    let claims = factory.informer::<Claim>(Options::default());
    let volumes = factory.informer::<PersistentVolume>(Options::default());
    let drivers = factory.informer::<CSIDriver>(Options::default());
    let shell = Arc::new(Shell {
        pods: pods.store(),
        claims: claims.store(),
        volumes: volumes.store(),
        drivers: drivers.store(),
        cache: Arc::default(),
        recorder: context.recorder("selinux_warning"),
        queue: WorkQueue::new("selinux_warning"),
    });
    metrics::show(&shell.cache);
    shell.follow_pods(&pods);
    shell.follow_volumes(&claims, &volumes);
    shell.follow_drivers(&drivers);
    let token = context.token.clone();
    Ok(Box::pin(async move {
        let synced = pods.wait_synced(&token).await
            && claims.wait_synced(&token).await
            && volumes.wait_synced(&token).await
            && drivers.wait_synced(&token).await;
        if !synced {
            return;
        }
        let queue = shell.queue.clone();
        queue
            .run(1, &token, move |pod: String| {
                shell.sync(&pod);
                async { Ok::<_, String>(None) }
            })
            .await;
    }))
}

fn mounts_labels(driver: &CSIDriver) -> bool {
    driver.spec.se_linux_mount == Some(true)
}

/// Whether a pod's change can change what is known of it: nothing in a pod that matters here changes, but its end.
fn matters(event: &Event<Pod>) -> bool {
    match event {
        Event::Updated { old, new } => old.uid() != new.uid() || old.is_terminal() != new.is_terminal(),
        Event::Added(_) | Event::Deleted(_) => true,
    }
}

/// What of a claim says where its pods' data is.
fn bound(claim: &Claim) -> impl PartialEq + '_ {
    (claim.uid(), volume_name(claim), claim_phase(claim) == "Bound")
}

impl Shell {
    fn follow_pods(self: &Arc<Self>, pods: &Informer<Pod>) {
        let to = self.clone();
        pods.subscribe(move |event| {
            if matters(&event) {
                to.queue.add(key(&**event.object()));
            }
        });
    }

    fn follow_volumes(self: &Arc<Self>, claims: &Informer<Claim>, volumes: &Informer<PersistentVolume>) {
        let to = self.clone();
        claims.subscribe(move |event| {
            let changed = match &event {
                Event::Updated { old, new } => bound(old) != bound(new),
                Event::Added(claim) | Event::Deleted(claim) => !volume_name(claim).is_empty(),
            };
            if changed {
                to.queue_users(&event.object().key());
            }
        });
        let to = self.clone();
        volumes.subscribe(move |event| {
            let volume = event.object();
            if let Event::Updated { old, new } = &event
                && claim_uid(old) == claim_uid(new)
            {
                return;
            }
            if !claim_uid(volume).is_empty() {
                claim_key(volume).iter().for_each(|claim| to.queue_users(claim));
            }
        });
    }

    fn follow_drivers(self: &Arc<Self>, drivers: &Informer<CSIDriver>) {
        let to = self.clone();
        drivers.subscribe(move |event| {
            let changed = match &event {
                Event::Updated { old, new } => mounts_labels(old) != mounts_labels(new),
                Event::Added(driver) | Event::Deleted(driver) => mounts_labels(driver),
            };
            if changed {
                let users = to.cache.lock().pods_of(event.object().name());
                users.iter().for_each(|pod| to.queue.add(pod.to_string()));
            }
        });
    }

    fn queue_users(&self, claim: &str) {
        self.pods.index_keys(BY_CLAIM, claim).iter().for_each(|pod| self.queue.add(pod.to_string()));
    }

    fn decide(&self, pod: Option<&Pod>) -> Plan {
        let view = View {
            claim: &|key| self.claims.get(key),
            volume: &|name| self.volumes.get(name),
            mounts_labels: &|driver| self.drivers.get(driver).is_some_and(|d| mounts_labels(&d)),
        };
        pod.map(|pod| plan::plan(pod, &view)).unwrap_or_default()
    }

    fn sync(&self, key: &str) {
        let pod = self.pods.get(key);
        let plan = self.decide(pod.as_deref());
        if let Some(pod) = &pod {
            for volume in &plan.torn {
                let message = format!(
                    "Volume {volume:?} is mounted twice with different SELinux labels inside this pod"
                );
                self.recorder.event(&reference(&**pod), WARNING, "MultipleSELinuxLabels", &message);
            }
        }
        let conflicts = self.cache.lock().set(key, plan.uses);
        conflicts.iter().for_each(|conflict| self.tell(conflict));
    }

    /// A conflict that ended with its pod meanwhile is not told any more.
    fn tell(&self, conflict: &Conflict) {
        if let Some(pod) = self.pods.get(&conflict.pod) {
            let reason = conflict.property.reason();
            self.recorder.event(&reference(&*pod), NORMAL, reason, &conflict.message());
        }
    }
}
