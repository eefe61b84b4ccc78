//! The revisions of a daemon set: which one is current, which go. The decisions are pure, the writes are the shell's.
//! Upstream: pkg/controller/daemon/update.go constructHistory, snapshot, dedupCurHistories, cleanupHistory.

use std::collections::BTreeSet;
use std::sync::Arc;

use client::{DeleteParams, Meta, Patch, PatchParams};
use controller::{RefManager, Related, controller_ref};
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use machinery::labels::Selector;
use serde_json::json;

use super::Shell;
use super::node::HASH_LABEL;
use crate::controllers::shared::revisions;
use crate::controllers::shared::template_hash::template_hash;
use crate::kept::Pod;

/// The revisions of a set: the current one, and the others.
pub struct History {
    pub current: ControllerRevision,
    pub old: Vec<Arc<ControllerRevision>>,
}

/// The label of a revision's pods.
pub fn hash_of(meta: &impl Related) -> &str {
    meta.labels().label(HASH_LABEL).unwrap_or_default()
}

/// Names of revisions that go: the oldest that no pod has, beyond the limit.
pub fn surplus(old: &[Arc<ControllerRevision>], live: &BTreeSet<String>, limit: i32) -> Vec<String> {
    let excess = old.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
    let mut all: Vec<_> = old.iter().collect();
    all.sort_by_key(|r| r.revision);
    let dead = all.into_iter().filter(|r| !live.contains(hash_of(&r.metadata)));
    dead.take(excess).filter_map(|r| r.metadata.name.clone()).collect()
}

/// Of several revisions with the current template, the one that stays: the last with the highest number.
pub fn keep(current: &[Arc<ControllerRevision>]) -> Option<&Arc<ControllerRevision>> {
    current.iter().max_by_key(|r| r.revision)
}

impl Shell {
    /// Finds or makes the current revision.
    pub(super) async fn history(&self, set: &DaemonSet, matches: &Selector) -> Result<History, String> {
        let template = set.spec.template.clone();
        let patch = revisions::bytes(&revisions::patch(&template)?);
        let (mut current, mut old) = (Vec::new(), Vec::new());
        for revision in self.own_revisions(set, matches).await? {
            let revision = self.labelled(revision).await?;
            let same = revisions::stored_bytes(&revision) == patch;
            if same { current.push(revision) } else { old.push(revision) }
        }
        let next = old.iter().map(|r| r.revision).max().flatten().unwrap_or(0).max(0) + 1;
        let Some(kept) = keep(&current).cloned() else {
            return Ok(History { current: self.snapshot(set, &patch, next).await?, old });
        };
        if current.len() > 1 {
            self.drop_duplicates(set, matches, &current, &kept).await?;
        }
        if kept.revision.unwrap_or(0) < next {
            let mut newer = (*kept).clone();
            newer.revision = Some(next);
            let api = self.client.namespaced::<ControllerRevision>(set.namespace());
            api.replace(&newer).await.map_err(|e| format!("renumbering revision {}: {e}", kept.name()))?;
        }
        Ok(History { current: (*kept).clone(), old })
    }

    async fn own_revisions(
        &self,
        set: &DaemonSet,
        matches: &Selector,
    ) -> Result<Vec<Arc<ControllerRevision>>, String> {
        let namespace = set.namespace();
        let own_key = crate::pods::controller_key(namespace, super::KIND, set.name(), set.uid());
        let own = self.revisions.by_index(revisions::BY_CONTROLLER, &own_key);
        let orphans = self.revisions.by_index(revisions::BY_CONTROLLER, namespace);
        let manager = RefManager::new(
            self.client.namespaced(namespace),
            self.client.namespaced(namespace),
            set,
            |labels| matches.matches(labels),
        );
        manager.claim(own.into_iter().chain(orphans), |_| true).await.map_err(|e| e.to_string())
    }

    /// A revision without the label that pods get is named by itself.
    async fn labelled(&self, revision: Arc<ControllerRevision>) -> Result<Arc<ControllerRevision>, String> {
        if revision.metadata.labels.as_ref().is_some_and(|l| l.contains_key(HASH_LABEL)) {
            return Ok(revision);
        }
        let mut new = (*revision).clone();
        let labels = new.metadata.labels.get_or_insert_default();
        labels.insert(HASH_LABEL.to_string(), revision.name().to_string());
        let api = self.client.namespaced::<ControllerRevision>(revision.namespace());
        let made =
            api.replace(&new).await.map_err(|e| format!("labelling revision {}: {e}", revision.name()))?;
        Ok(Arc::new(made))
    }

    async fn drop_duplicates(
        &self,
        set: &DaemonSet,
        matches: &Selector,
        current: &[Arc<ControllerRevision>],
        kept: &ControllerRevision,
    ) -> Result<(), String> {
        let hash = hash_of(&kept.metadata);
        let pods = self.client.namespaced::<Pod>(set.namespace());
        for pod in self.claim(set, matches).await? {
            if hash_of(&pod.metadata) != hash {
                let patch = Patch::Merge(json!({"metadata": {"labels": {HASH_LABEL: hash}}}));
                pods.patch_unread(pod.name(), "", &patch, &PatchParams::default())
                    .await
                    .map_err(|e| format!("relabelling pod {}: {e}", pod.name()))?;
            }
        }
        for revision in current.iter().filter(|r| r.name() != kept.name()) {
            self.delete_revision(set, revision.name()).await?;
        }
        Ok(())
    }

    async fn delete_revision(&self, set: &DaemonSet, name: &str) -> Result<(), String> {
        let api = self.client.namespaced::<ControllerRevision>(set.namespace());
        api.delete(name, &DeleteParams::default()).await.map_err(|e| format!("deleting revision {name}: {e}"))
    }

    /// Writes the current template down.
    async fn snapshot(
        &self,
        set: &DaemonSet,
        patch: &[u8],
        number: i64,
    ) -> Result<ControllerRevision, String> {
        let collisions = set.status.as_ref().and_then(|s| s.collision_count);
        let template = set.spec.template.clone();
        let hash = template_hash(&template, collisions);
        let mut labels = template.metadata.as_ref().and_then(|m| m.labels.clone()).unwrap_or_default();
        labels.insert(HASH_LABEL.to_string(), hash.clone());
        let name = format!("{}-{hash}", set.name());
        let revision = ControllerRevision {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: set.metadata.namespace.clone(),
                labels: Some(labels),
                annotations: set.metadata.annotations.clone(),
                owner_references: Some(vec![controller_ref(set)]),
                ..ObjectMeta::default()
            },
            data: revisions::data(&revisions::patch(&template)?)?,
            revision: Some(number),
        };
        let api = self.client.namespaced::<ControllerRevision>(set.namespace());
        let error = match api.create(&revision).await {
            Ok(made) => return Ok(made),
            Err(error) if error.is_already_exists() => error,
            Err(error) => return Err(format!("creating revision {name}: {error}")),
        };
        let found = api.get(&name).await.map_err(|e| format!("reading revision {name}: {e}"))?;
        if revisions::stored_bytes(&found) == patch {
            return Ok(found);
        }
        self.note_collision(set, collisions).await?;
        Err(format!("creating revision {name}: {error}"))
    }

    /// Another template has the same hash: the next name will differ. The count is raised only if it is not stale.
    async fn note_collision(&self, set: &DaemonSet, known: Option<i32>) -> Result<(), String> {
        let api = self.client.namespaced::<DaemonSet>(set.namespace());
        let mut fresh =
            api.get(set.name()).await.map_err(|e| format!("reading daemon set {}: {e}", set.name()))?;
        let status = fresh.status.get_or_insert_default();
        if status.collision_count != known {
            return Err(format!(
                "found a stale collision count ({}, expected {}) of DaemonSet {:?} while processing; will retry until it is updated",
                known.unwrap_or(0),
                status.collision_count.unwrap_or(0),
                set.name()
            ));
        }
        status.collision_count = Some(known.unwrap_or(0) + 1);
        api.replace_status(&fresh)
            .await
            .map(drop)
            .map_err(|e| format!("writing the collision count of daemon set {}: {e}", set.name()))
    }

    /// Deletes old revisions beyond the limit.
    pub(super) async fn clean_up(
        &self,
        set: &DaemonSet,
        old: &[Arc<ControllerRevision>],
        pods: &[Arc<Pod>],
    ) -> Result<(), String> {
        let limit = set.spec.revision_history_limit.unwrap_or(10);
        let live = pods.iter().map(|p| hash_of(&p.metadata).to_string()).filter(|h| !h.is_empty()).collect();
        for name in surplus(old, &live, limit) {
            self.delete_revision(set, &name)
                .await
                .map_err(|e| format!("failed to clean up revisions of DaemonSet: {e}"))?;
        }
        Ok(())
    }
}
