//! One watch per object, as long as some pod refers to it.
//!
//! Upstream: pkg/kubelet/util/manager/watch_based_manager.go, v1.37.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use client::Object;
use informer::{Informer, Options};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::Question;
use crate::container::env::Fetched;

/// How long a first answer is waited for.
const FIRST_ANSWER: Duration = Duration::from_secs(10);

struct Entry<K> {
    informer: Informer<K>,
    token: CancellationToken,
    pods: HashSet<String>,
}

/// Objects of one kind, by namespace and name.
pub(super) struct Watched<K> {
    question: Question,
    stop: CancellationToken,
    watched: Mutex<HashMap<(String, String), Entry<K>>>,
}

impl<K: Object> Watched<K> {
    /// Watches end with `stop`.
    pub(super) fn new(question: Question, stop: CancellationToken) -> Self {
        Self { question, stop, watched: Mutex::default() }
    }

    /// The object for a pod; keeps watching it until the pod is forgotten.
    pub(super) async fn get(&self, pod_uid: &str, namespace: &str, name: &str) -> Fetched<K> {
        let informer = self.watch(pod_uid, namespace, name);
        let kind = self.question.kind;
        if !informer.has_synced() {
            let wait = tokio::time::timeout(FIRST_ANSWER, informer.wait_synced(&self.stop));
            if !matches!(wait.await, Ok(true)) {
                // The watch may be refused for good; the plain answer tells why.
                return match self.question.ask(namespace, name, "").await {
                    Fetched::Failed(error) => {
                        Fetched::Failed(format!("failed to sync {kind} cache: {error}"))
                    }
                    other => other,
                };
            }
        }
        match informer.store().get_by(namespace, name) {
            Some(object) => Fetched::Found(object),
            None => Fetched::NotFound(format!("{kind} {name:?} not found")),
        }
    }

    fn watch(&self, pod_uid: &str, namespace: &str, name: &str) -> Informer<K> {
        let mut watched = self.watched.lock();
        let entry = watched.entry((namespace.to_owned(), name.to_owned())).or_insert_with(|| {
            let api = self.question.client.namespaced::<K>(namespace);
            let options = Options::default().namespace(namespace).fields(&format!("metadata.name={name}"));
            let informer = Informer::new(api, options);
            let token = self.stop.child_token();
            informer.start(&token);
            Entry { informer, token, pods: HashSet::new() }
        });
        entry.pods.insert(pod_uid.to_owned());
        entry.informer.clone()
    }

    /// Ends watches that only this pod needed.
    pub(super) fn forget(&self, pod_uid: &str) {
        self.watched.lock().retain(|_, entry| {
            entry.pods.remove(pod_uid);
            if entry.pods.is_empty() {
                entry.token.cancel();
            }
            !entry.pods.is_empty()
        });
    }
}
