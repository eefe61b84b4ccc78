//! ConfigMaps and Secrets that pods refer to: one watch per object, as long as some pod refers to it.
//!
//! The node may read only objects that its own pods refer to, so there is no shared watch over all of them.
//! Upstream: pkg/kubelet/util/manager/watch_based_manager.go, v1.37.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use client::{Client, Object};
use informer::{Informer, Options};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::container::env::Fetched;

/// How long a first answer is waited for.
const FIRST_ANSWER: Duration = Duration::from_secs(10);

struct Watched<K> {
    informer: Informer<K>,
    token: CancellationToken,
    pods: HashSet<String>,
}

/// Objects of one kind, by namespace and name.
pub struct Objects<K> {
    client: Client,
    stop: CancellationToken,
    /// `configmap` or `secret`, for messages.
    kind: &'static str,
    plural: &'static str,
    watched: Mutex<HashMap<(String, String), Watched<K>>>,
}

impl<K: Object> Objects<K> {
    /// Watches end with `stop`.
    pub fn new(client: Client, kind: &'static str, plural: &'static str, stop: CancellationToken) -> Self {
        Self { client, stop, kind, plural, watched: Mutex::default() }
    }

    /// The object for a pod; keeps watching it until the pod is forgotten.
    pub async fn get(&self, pod_uid: &str, namespace: &str, name: &str) -> Fetched<K> {
        let informer = self.watch(pod_uid, namespace, name);
        if !informer.has_synced() {
            let wait = tokio::time::timeout(FIRST_ANSWER, informer.wait_synced(&self.stop));
            if !matches!(wait.await, Ok(true)) {
                // The watch may be refused for good; the plain answer tells why.
                return self.ask(namespace, name).await;
            }
        }
        match informer.store().get_by(namespace, name) {
            Some(object) => Fetched::Found(object),
            None => Fetched::NotFound(format!("{} {name:?} not found", self.kind)),
        }
    }

    async fn ask(&self, namespace: &str, name: &str) -> Fetched<K> {
        match self.client.namespaced::<K>(namespace).get(name).await {
            Ok(object) => Fetched::Found(std::sync::Arc::new(object)),
            Err(error) if error.is_not_found() => {
                Fetched::NotFound(format!("{} {name:?} not found", self.plural))
            }
            Err(error) => Fetched::Failed(format!("failed to sync {} cache: {error}", self.kind)),
        }
    }

    fn watch(&self, pod_uid: &str, namespace: &str, name: &str) -> Informer<K> {
        let mut watched = self.watched.lock();
        let entry = watched.entry((namespace.to_owned(), name.to_owned())).or_insert_with(|| {
            let api = self.client.namespaced::<K>(namespace);
            let options = Options::default().namespace(namespace).fields(&format!("metadata.name={name}"));
            let informer = Informer::new(api, options);
            let token = self.stop.child_token();
            informer.start(&token);
            Watched { informer, token, pods: HashSet::new() }
        });
        entry.pods.insert(pod_uid.to_owned());
        entry.informer.clone()
    }

    /// Ends watches that only this pod needed.
    pub fn forget(&self, pod_uid: &str) {
        self.watched.lock().retain(|_, entry| {
            entry.pods.remove(pod_uid);
            if entry.pods.is_empty() {
                entry.token.cancel();
            }
            !entry.pods.is_empty()
        });
    }
}
