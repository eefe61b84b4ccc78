//! Ephemeral volumes: makes the claims that pods ask for inline; they go with their pods, by owner reference.
//!
//! Upstream: pkg/controller/volume/ephemeral/controller.go.

#[cfg(test)]
mod tests;

use std::sync::{Arc, LazyLock};

use client::{Client, Meta};
use component::app::Error;
use component::metrics::{Counter, Family, Opts};
use controller::{EventRecorder, WARNING, WorkQueue, controller_ref, is_controlled_by, reference};
use informer::{Event, Options, Store};
use k8s_openapi::api::core::v1::PersistentVolumeClaim as Claim;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::protection::{self, BY_CLAIM};
use crate::context::Context;
use crate::descriptor::Running;
use crate::kept::Pod;

static ATTEMPTS: LazyLock<(Family<Counter>, Family<Counter>)> = LazyLock::new(|| {
    let counter = |name, help| Family::counter(Opts::new(name, help));
    (
        counter(
            "ephemeral_volume_controller_create_total",
            "Number of PersistentVolumeClaim creation requests",
        ),
        counter(
            "ephemeral_volume_controller_create_failures_total",
            "Number of PersistentVolumeClaim creation request failures",
        ),
    )
});

/// The claims that a pod lacks, in the order of its volumes, up to the first that another has taken.
fn plan(pod: &Pod, claim: impl Fn(&str) -> Option<Arc<Claim>>) -> (Vec<Claim>, Option<String>) {
    let mut missing = Vec::new();
    if pod.metadata.deletion_timestamp.is_some() {
        return (missing, None);
    }
    for volume in pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()) {
        let Some(source) = &volume.ephemeral else { continue };
        let name = format!("{}-{}", pod.name(), volume.name);
        if let Some(existing) = claim(&name) {
            if is_controlled_by(&existing.metadata, &pod.metadata) {
                continue;
            }
            let (namespace, pod_name) = (pod.namespace(), pod.name());
            let why = format!(
                "ephemeral volume {}: PVC {namespace}/{name} was not created for pod {namespace}/{pod_name} (pod is \
                 not owner)",
                volume.name
            );
            return (missing, Some(why));
        }
        let Some(template) = &source.volume_claim_template else { continue };
        let meta = template.metadata.clone().unwrap_or_default();
        missing.push(Claim {
            metadata: ObjectMeta {
                name: Some(name),
                namespace: Some(pod.namespace().to_string()),
                owner_references: Some(vec![controller_ref(pod)]),
                labels: meta.labels,
                annotations: meta.annotations,
                ..ObjectMeta::default()
            },
            spec: Some(template.spec.clone()),
            status: None,
        });
    }
    (missing, None)
}

fn asks(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none()
        && pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()).any(|v| v.ephemeral.is_some())
}

struct Shell {
    client: Client,
    pods: Store<Pod>,
    claims: Store<Claim>,
    recorder: EventRecorder,
}

/// Builds the controller.
pub fn build(context: &Context) -> Result<Running, Error> {
    LazyLock::force(&ATTEMPTS);
    let pods = context.factory.informer::<Pod>(Options::default().index(BY_CLAIM, protection::by_claim));
    let claims = context.factory.informer::<Claim>(Options::default());
    let shell = Arc::new(Shell {
        client: context.client(),
        pods: pods.store(),
        claims: claims.store(),
        recorder: context.recorder("ephemeral_volume"),
    });
    let queue: WorkQueue<String> = WorkQueue::new("ephemeral_volume");
    let to = queue.clone();
    pods.subscribe(move |event| {
        // What a pod asks for never changes.
        if let Event::Added(pod) = event
            && asks(&pod)
        {
            to.add(pod.key());
        }
    });
    let (to, users) = (queue.clone(), pods.store());
    claims.subscribe(move |event| {
        if let Event::Deleted(claim) = event {
            users.by_index(BY_CLAIM, &claim.key()).iter().filter(|p| asks(p)).for_each(|p| to.add(p.key()));
        }
    });
    let (workers, token) = (context.workers("concurrent-ephemeralvolume-syncs"), context.token.clone());
    Ok(Box::pin(async move {
        if !(pods.wait_synced(&token).await && claims.wait_synced(&token).await) {
            return;
        }
        queue
            .run(workers, &token, move |key: String| {
                let shell = shell.clone();
                async move { shell.sync(&key).await.map(|()| None) }
            })
            .await;
    }))
}

impl Shell {
    async fn sync(&self, key: &str) -> Result<(), String> {
        let Some(pod) = self.pods.get(key) else { return Ok(()) };
        let (missing, taken) = plan(&pod, |name| self.claims.get_by(pod.namespace(), name));
        let mut failure = taken;
        for claim in missing {
            ATTEMPTS.0.with(&[]).inc();
            if let Err(error) = self.client.namespaced::<Claim>(pod.namespace()).create(&claim).await {
                ATTEMPTS.1.with(&[]).inc();
                let volume = claim.name().strip_prefix(&format!("{}-", pod.name())).unwrap_or_default();
                failure = Some(format!("ephemeral volume {volume}: create PVC {}: {error}", claim.name()));
                break;
            }
        }
        let Some(failure) = failure else { return Ok(()) };
        self.recorder.event(&reference(&*pod), WARNING, "FailedBinding", &failure);
        Err(format!("pod {key}, {failure}"))
    }
}
