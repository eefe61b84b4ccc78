//! VolumeAttributesClass protection: a class that a claim or a volume names does not go.
//!
//! Upstream: pkg/controller/volume/vacprotection/vac_protection_controller.go.

#[cfg(test)]
mod tests;

use client::Meta;
use component::app::Error;
use controller::WorkQueue;
use informer::{Event, Options};
use k8s_openapi::api::core::v1::{PersistentVolume as Volume, PersistentVolumeClaim as Claim};
use k8s_openapi::api::storage::v1::VolumeAttributesClass as Class;

use super::protection::{Plan, plan, write};
use crate::context::Context;
use crate::descriptor::Running;

const FINALIZER: &str = "kubernetes.io/vac-protection";
/// Claims and volumes by the classes they name.
const BY_CLASS: &str = "vac-name";

fn of_claim(claim: &Claim) -> Vec<String> {
    let status = claim.status.as_ref();
    let all = [
        claim.spec.as_ref().and_then(|s| s.volume_attributes_class_name.as_ref()),
        status.and_then(|s| s.current_volume_attributes_class_name.as_ref()),
        status
            .and_then(|s| s.modify_volume_status.as_ref())
            .and_then(|m| m.target_volume_attributes_class_name.as_ref()),
    ];
    let mut names: Vec<String> = all.into_iter().flatten().filter(|n| !n.is_empty()).cloned().collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn of_volume(volume: &Volume) -> Vec<String> {
    let name = volume.spec.as_ref().and_then(|s| s.volume_attributes_class_name.as_ref());
    name.filter(|n| !n.is_empty()).cloned().into_iter().collect()
}

/// Decides about a class. Pure.
fn plan_class(class: &Class, is_used: bool) -> Plan {
    match plan(&class.metadata, FINALIZER) {
        Plan::RemoveIfUnused if is_used => Plan::Nothing,
        other => other,
    }
}

/// Names that were there before a change, and are not any more.
fn lost<K>(event: &Event<K>, names: fn(&K) -> Vec<String>) -> Vec<String> {
    match event {
        Event::Added(_) => Vec::new(),
        Event::Deleted(object) => names(object),
        Event::Updated { old, new } => {
            let still = names(new);
            names(old).into_iter().filter(|n| !still.contains(n)).collect()
        }
    }
}

/// Builds the controller.
pub fn build(context: &Context) -> Result<Running, Error> {
    let classes = context.factory.informer::<Class>(Options::default());
    let claims = context.factory.informer::<Claim>(Options::default().index(BY_CLASS, of_claim));
    let volumes = context.factory.informer::<Volume>(Options::default().index(BY_CLASS, of_volume));
    let queue: WorkQueue<String> = WorkQueue::new("vacprotection");
    let to = queue.clone();
    classes.subscribe(move |event| {
        if !matches!(event, Event::Deleted(_)) {
            to.add(event.object().name().to_string());
        }
    });
    let to = queue.clone();
    claims.subscribe(move |event| lost(&event, of_claim).into_iter().for_each(|n| to.add(n)));
    let to = queue.clone();
    volumes.subscribe(move |event| lost(&event, of_volume).into_iter().for_each(|n| to.add(n)));
    let (client, token) = (context.client(), context.token.clone());
    Ok(Box::pin(async move {
        let synced = classes.wait_synced(&token).await
            && claims.wait_synced(&token).await
            && volumes.wait_synced(&token).await;
        if !synced {
            return;
        }
        let (classes, claims, volumes) = (classes.store(), claims.store(), volumes.store());
        queue
            .run(1, &token, move |name: String| {
                let class = classes.get(&name);
                let used = !claims.index_keys(BY_CLASS, &name).is_empty()
                    || !volumes.index_keys(BY_CLASS, &name).is_empty();
                let client = client.clone();
                async move {
                    let Some(class) = class else { return Ok(None) };
                    let plan = plan_class(&class, used);
                    write(&client, &*class, FINALIZER, plan).await.map(|()| None)
                }
            })
            .await;
    }))
}
