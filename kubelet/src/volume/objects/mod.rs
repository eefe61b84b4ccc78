//! ConfigMaps and Secrets that pods refer to, kept as fresh as `configMapAndSecretChangeDetectionStrategy` says.
//!
//! The node may read only objects that its own pods refer to, so each is asked for by name: watched ([`watched`]), kept
//! for a while ([`cached`]), or asked for each time. Upstream: pkg/kubelet/{configmap,secret,util/manager}, v1.37.

mod cached;
mod references;
mod watched;

use std::sync::Arc;
use std::time::{Duration, Instant};

use client::{Client, GetParams, Object};
use informer::Store;
use k8s_openapi::api::core::v1::{Node, Pod};
use tokio_util::sync::CancellationToken;

use crate::container::env::Fetched;
use crate::pod::view::PodView;
use cached::Cached;
pub use references::{config_maps, secrets};
use watched::Watched;

/// How changes of the objects are noticed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// By a watch for each object.
    #[default]
    Watch,
    /// By asking again once an answer is old, or a pod comes that refers to the object.
    Cache,
    /// By asking each time.
    Get,
}

impl Strategy {
    /// Reads `configMapAndSecretChangeDetectionStrategy`.
    ///
    /// # Errors
    /// Upstream's text, if there is no such strategy.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "" | "Watch" => Ok(Self::Watch),
            "Cache" => Ok(Self::Cache),
            "Get" => Ok(Self::Get),
            other => Err(format!("unknown configmap and secret manager mode: {other}")),
        }
    }
}

/// Asks the API server for objects of one kind.
#[derive(Clone)]
struct Question {
    client: Client,
    /// `configmap` or `secret`, for messages.
    kind: &'static str,
    plural: &'static str,
}

impl Question {
    async fn ask<K: Object>(&self, namespace: &str, name: &str, version: &str) -> Fetched<K> {
        let params = GetParams { resource_version: version.to_owned() };
        match self.client.namespaced::<K>(namespace).get_with(name, &params).await {
            Ok(object) => Fetched::Found(Arc::new(object)),
            Err(error) if error.is_not_found() => {
                Fetched::NotFound(format!("{} {name:?} not found", self.plural))
            }
            Err(error) => Fetched::Failed(error.to_string()),
        }
    }
}

/// Where the names of the objects are that a pod refers to: [`config_maps`] or [`secrets`].
type Names = fn(&Pod) -> std::collections::BTreeSet<String>;

enum Way<K> {
    Watch(Watched<K>),
    Cache(Cached<K>, Names, Store<Node>),
    Get,
}

/// Objects of one kind, by namespace and name.
pub struct Objects<K> {
    question: Question,
    way: Way<K>,
}

/// What [`Objects`] are made from besides their kind.
#[derive(Clone)]
pub struct Settings {
    /// The API server.
    pub client: Client,
    /// How changes are noticed.
    pub strategy: Strategy,
    /// The node's own object, which may say how long answers hold.
    pub node: Store<Node>,
    /// Ends watches.
    pub stop: CancellationToken,
}

impl<K: Object> Objects<K> {
    /// `kind` and `plural` are for messages; `names` tells which objects a pod refers to.
    pub fn new(settings: Settings, kind: &'static str, plural: &'static str, names: Names) -> Self {
        let question = Question { client: settings.client, kind, plural };
        let way = match settings.strategy {
            Strategy::Watch => Way::Watch(Watched::new(question.clone(), settings.stop)),
            Strategy::Cache => Way::Cache(Cached::default(), names, settings.node),
            Strategy::Get => Way::Get,
        };
        Self { question, way }
    }

    /// Takes note of what the pod refers to.
    pub fn register(&self, pod: &Pod) {
        if let Way::Cache(cached, names, _) = &self.way {
            cached.register(pod.uid(), pod.namespace(), names(pod));
        }
    }

    /// The object for a pod.
    pub async fn get(&self, pod_uid: &str, namespace: &str, name: &str) -> Fetched<K> {
        match &self.way {
            Way::Watch(watched) => watched.get(pod_uid, namespace, name).await,
            Way::Cache(cached, _, node) => {
                let annotation = node.list().first().and_then(|n| ttl_of(n));
                let ttl = annotation.unwrap_or(cached::DEFAULT_TTL);
                let ask = |version| self.question.ask(namespace, name, version);
                cached.get((namespace, name), ttl, Instant::now, ask).await
            }
            Way::Get => self.question.ask(namespace, name, "").await,
        }
    }

    /// Forgets what only this pod needed.
    pub fn forget(&self, pod_uid: &str) {
        match &self.way {
            Way::Watch(watched) => watched.forget(pod_uid),
            Way::Cache(cached, ..) => cached.forget(pod_uid),
            Way::Get => {}
        }
    }
}

/// How long answers hold by the node's annotation, which the controller manager sets by the size of the cluster.
fn ttl_of(node: &Node) -> Option<Duration> {
    let value = node.metadata.annotations.as_ref()?.get("node.alpha.kubernetes.io/ttl")?;
    let seconds: i64 = value.parse().ok()?;
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn strategies() {
        let known = ["", "Watch", "Cache", "Get"].map(|text| Strategy::parse(text).unwrap());
        assert_eq!(known, [Strategy::Watch, Strategy::Watch, Strategy::Cache, Strategy::Get]);
        let error = Strategy::parse("get").unwrap_err();
        assert_eq!(error, "unknown configmap and secret manager mode: get");
    }

    #[test]
    fn annotations() {
        let ttl = |value: &str| {
            let node = json!({"metadata": {"annotations": {"node.alpha.kubernetes.io/ttl": value}}});
            ttl_of(&serde_json::from_value(node).unwrap()).map(|ttl| ttl.as_secs())
        };
        assert_eq!(
            ["0", "15", "+300", "-1", "", "1s"].map(ttl),
            [Some(0), Some(15), Some(300), Some(0), None, None]
        );
        assert_eq!(ttl_of(&Node::default()), None);
    }
}
