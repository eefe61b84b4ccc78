//! The node's heartbeat. Upstream: k8s.io/component-helpers/apimachinery/lease/controller.go, v1.37.

use std::time::Duration;

use client::Client;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use k8s_openapi::jiff::Timestamp;
use tokio_util::sync::CancellationToken;

const NAMESPACE: &str = "kube-node-lease";
/// A conflict is retried so often before the next regular renewal.
const TRIES: usize = 5;

/// Renews the lease until `stop`: four times in its duration.
pub async fn run(client: Client, node: String, seconds: i32, stop: CancellationToken) {
    let period = Duration::from_secs(u64::from(seconds.max(4).unsigned_abs())).mul_f64(0.25);
    let mut last: Option<Lease> = None;
    loop {
        last = renew(&client, &node, seconds, last).await;
        // Up to a twentieth more, so that nodes do not all come at once.
        let pause = period.mul_f64(1.0 + rand::random::<f64>() * 0.04);
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn renew(client: &Client, node: &str, seconds: i32, mut last: Option<Lease>) -> Option<Lease> {
    let api = client.namespaced::<Lease>(NAMESPACE);
    for _ in 0..TRIES {
        let base = match last.take() {
            Some(lease) => lease,
            None => match api.get_opt(node).await {
                Ok(Some(lease)) => lease,
                Ok(None) => Lease {
                    metadata: ObjectMeta {
                        name: Some(node.to_owned()),
                        namespace: Some(NAMESPACE.to_owned()),
                        ..ObjectMeta::default()
                    },
                    spec: None,
                },
                Err(error) => {
                    tracing::error!(%error, "Failed to ensure lease exists, will retry");
                    return None;
                }
            },
        };
        let owned = base.metadata.owner_references.as_ref().is_some_and(|list| !list.is_empty());
        let owner = if owned { None } else { owner(client, node).await };
        let next = renewed(base, node, seconds, owner, Timestamp::now());
        let result = if next.metadata.resource_version.is_some() {
            api.replace(&next).await
        } else {
            api.create(&next).await
        };
        match result {
            Ok(lease) => return Some(lease),
            Err(error) => tracing::error!(%error, "Failed to update lease"),
        }
    }
    None
}

async fn owner(client: &Client, node: &str) -> Option<OwnerReference> {
    // Without the node's id the lease would outlive the node; it is added at the next renewal.
    let found = client.all::<Node>().get(node).await.ok()?;
    Some(OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: node.to_owned(),
        uid: found.metadata.uid?,
        ..OwnerReference::default()
    })
}

fn renewed(
    mut lease: Lease,
    node: &str,
    seconds: i32,
    owner: Option<OwnerReference>,
    now: Timestamp,
) -> Lease {
    if lease.metadata.owner_references.as_ref().is_none_or(Vec::is_empty) {
        lease.metadata.owner_references = owner.map(|o| vec![o]);
    }
    lease.metadata.managed_fields = None;
    let spec: &mut LeaseSpec = lease.spec.get_or_insert_default();
    spec.holder_identity = Some(node.to_owned());
    spec.lease_duration_seconds = Some(seconds);
    spec.renew_time = Some(MicroTime(now));
    lease
}
