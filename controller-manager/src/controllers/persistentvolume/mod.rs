//! PersistentVolume binder: gives claims their volumes, has volumes provisioned, and lets them go.
//!
//! A volume and its claim name each other; each sync finds out the one write that is next, so that a crash between any
//! two leaves nothing undone. Does not provision, recycle or delete volumes itself: that is for CSI drivers. Start
//! reading at `claims.rs` and `volumes.rs`, then `bind.rs`. Upstream: pkg/controller/volume/persistentvolume.

mod bind;
mod claims;
pub mod facts;
mod latest;
mod matching;
#[cfg(test)]
mod tests;
mod volumes;

use std::sync::Arc;

use client::{Client, Meta, split_key};
use component::app::Error;
use controller::{EventRecorder, WARNING, WorkQueue, reference};
use informer::{Event, Informer, Options, Store};
use k8s_openapi::api::core::v1::{PersistentVolume as Volume, PersistentVolumeClaim as Claim};
use k8s_openapi::api::storage::v1::StorageClass;

use self::bind::Write;
use self::facts::{claim_key, volume_name};
use self::latest::Latest;
use self::volumes::Known;
use super::protection::{self, BY_CLAIM};
use crate::context::Context;
use crate::descriptor::Running;
use crate::kept::Pod;
use crate::pods;

/// Writes that one sync may make; binding takes four.
const MOST_WRITES: usize = 8;

/// What is to be looked at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Item {
    Claim(String),
    Volume(String),
}

struct Shell {
    client: Client,
    claims: Latest<Claim>,
    volumes: Latest<Volume>,
    classes: Store<StorageClass>,
    pods: Store<Pod>,
    queue: WorkQueue<Item>,
    recorder: EventRecorder,
    provisions: bool,
}

/// Builds the controller.
pub fn build(context: &Context) -> Result<Running, Error> {
    if context.flags.bool("enable-hostpath-provisioner") {
        return Err(
            "--enable-hostpath-provisioner is not supported: volumes are provisioned by CSI drivers".into()
        );
    }
    let claims = context.factory.informer::<Claim>(Options::default());
    let all_volumes = context.factory.informer::<Volume>(Options::default());
    let classes = context.factory.informer::<StorageClass>(Options::default());
    let all_pods = context.factory.informer::<Pod>(Options::default().index(BY_CLAIM, protection::by_claim));
    let shell = Arc::new(Shell {
        client: context.client(),
        claims: Latest::new(claims.store()),
        volumes: Latest::new(all_volumes.store()),
        classes: classes.store(),
        pods: all_pods.store(),
        queue: WorkQueue::new("claims"),
        recorder: context.recorder("persistentvolume-controller"),
        provisions: context.flags.bool("enable-dynamic-provisioning"),
    });
    shell.follow(&claims, &all_volumes, &classes);
    let (token, period) = (context.token.clone(), context.flags.duration("pvclaimbinder-sync-period"));
    Ok(Box::pin(async move {
        let synced = claims.wait_synced(&token).await
            && all_volumes.wait_synced(&token).await
            && classes.wait_synced(&token).await
            && all_pods.wait_synced(&token).await;
        if !synced {
            return;
        }
        let (queue, of_resync) = (shell.queue.clone(), shell.clone());
        // What fails or waits for something that nobody tells of is looked at again after a while, as upstream does.
        let resync = async {
            loop {
                tokio::select! {
                    () = token.cancelled() => return,
                    () = tokio::time::sleep(period), if !period.is_zero() => of_resync.queue_all(),
                }
            }
        };
        // One worker: two claims must not be offered the same volume.
        let work = queue.run(1, &token, move |item: Item| {
            let shell = shell.clone();
            async move {
                match item {
                    Item::Claim(key) => shell.sync_claim(&key).await.map(|()| None),
                    Item::Volume(name) => shell.sync_volume(&name).await.map(|()| None),
                }
            }
        });
        tokio::join!(work, resync);
    }))
}

impl Shell {
    fn follow(
        self: &Arc<Self>,
        claims: &Informer<Claim>,
        volumes: &Informer<Volume>,
        classes: &Informer<StorageClass>,
    ) {
        let to = self.clone();
        claims.subscribe(move |event| {
            let claim = event.object();
            match &event {
                // Its volume is to be released.
                Event::Deleted(_) if volume_name(claim).is_empty() => {}
                Event::Deleted(_) => to.queue.add(Item::Volume(volume_name(claim).to_string())),
                _ => to.queue.add(Item::Claim(claim.key())),
            }
        });
        let to = self.clone();
        volumes.subscribe(move |event| {
            let volume = event.object();
            match &event {
                Event::Deleted(_) => {}
                _ => to.queue.add(Item::Volume(volume.name().to_string())),
            }
            match claim_key(volume) {
                Some(claim) => to.queue.add(Item::Claim(claim)),
                // It may be what somebody waits for.
                None => to.queue_waiting(),
            }
        });
        let to = self.clone();
        classes.subscribe(move |_| to.queue_waiting());
    }

    fn queue_waiting(&self) {
        for claim in self.claims.list().iter().filter(|c| volume_name(c).is_empty()) {
            self.queue.add(Item::Claim(claim.key()));
        }
    }

    fn queue_all(&self) {
        self.claims.list().iter().for_each(|c| self.queue.add(Item::Claim(c.key())));
        self.volumes.list().iter().for_each(|v| self.queue.add(Item::Volume(v.name().to_string())));
    }

    /// Carries out a write; the server's answer is what the next decision is made on.
    async fn write(&self, write: Write) -> client::Result<()> {
        let volumes = self.client.all::<Volume>();
        match write {
            Write::Volume(new) => drop(self.volumes.note(volumes.replace(&new).await?)),
            Write::VolumeStatus(new) => drop(self.volumes.note(volumes.replace_status(&new).await?)),
            Write::Claim(new) => {
                let api = self.client.namespaced::<Claim>(new.namespace());
                drop(self.claims.note(api.replace(&new).await?));
            }
            Write::ClaimStatus(new) => {
                let api = self.client.namespaced::<Claim>(new.namespace());
                drop(self.claims.note(api.replace_status(&new).await?));
            }
        }
        Ok(())
    }

    fn waiting_pods(&self, claim: &str) -> Vec<String> {
        let waits = |p: &&Arc<Pod>| !protection::has_ended(p) && pods::node_name(p).is_empty();
        self.pods.by_index(BY_CLAIM, claim).iter().filter(waits).map(|p| p.name().to_string()).collect()
    }

    async fn sync_claim(&self, key: &str) -> Result<(), String> {
        for _ in 0..MOST_WRITES {
            let Some(claim) = self.claims.get(key) else { return Ok(()) };
            let (volumes, classes) = (self.volumes.list(), self.classes.list());
            let view = claims::View {
                claim: &claim,
                volumes: &volumes,
                classes: &classes,
                waiting_pods: &self.waiting_pods(key),
                provisions: self.provisions,
            };
            let (plan, error) = match claims::plan(&view) {
                Ok(plan) => (plan, None),
                Err((error, plan)) => (plan, Some(error)),
            };
            let done = plan.write.is_none();
            if let Some(write) = plan.write {
                self.write(write).await.map_err(|e| format!("claim {key}: {e}"))?;
            }
            if let Some((kind, reason, message)) = plan.told {
                self.recorder.event(&reference(&*claim), kind, reason, &message);
                if error.is_none() {
                    return Ok(());
                }
            }
            match error {
                Some(error) => return Err(error),
                None if done => return Ok(()),
                None => {}
            }
        }
        self.queue.add(Item::Claim(key.to_string()));
        Ok(())
    }

    async fn sync_volume(&self, name: &str) -> Result<(), String> {
        let mut live: Option<Option<Arc<Claim>>> = None;
        for _ in 0..MOST_WRITES {
            let Some(volume) = self.volumes.get(name) else { return Ok(()) };
            let key = claim_key(&volume).unwrap_or_default();
            let cached = self.claims.get(&key);
            let known = match &live {
                None => Known::Cached(cached.as_deref()),
                Some(claim) => Known::Live(claim.as_deref()),
            };
            let told = |e: client::Error| format!("volume {name}: {e}");
            match volumes::plan(&volume, known) {
                volumes::Plan::Nothing => return Ok(()),
                volumes::Plan::SyncClaim => {
                    self.queue.add(Item::Claim(key));
                    return Ok(());
                }
                volumes::Plan::Mismatch => {
                    let claim = live.flatten().or(cached);
                    claim.iter().for_each(|claim| self.tell_mismatch(&volume, claim));
                    return Ok(());
                }
                volumes::Plan::AskForClaim => {
                    let (namespace, claim) = split_key(&key);
                    let api = self.client.namespaced::<Claim>(namespace);
                    live = Some(api.get_opt(claim).await.map_err(told)?.map(Arc::new));
                }
                volumes::Plan::Write(write) => self.write(write).await.map_err(told)?,
                volumes::Plan::Tell(write, reason, message) => {
                    self.write(write).await.map_err(told)?;
                    self.recorder.event(&reference(&*volume), WARNING, reason, &message);
                }
            }
        }
        self.queue.add(Item::Volume(name.to_string()));
        Ok(())
    }

    fn tell_mismatch(&self, volume: &Volume, claim: &Claim) {
        let [of_volume, of_claim] = volumes::mismatch_messages(volume, claim);
        self.recorder.event(&reference(volume), of_volume.0, of_volume.1, &of_volume.2);
        self.recorder.event(&reference(claim), of_claim.0, of_claim.1, &of_claim.2);
    }
}
