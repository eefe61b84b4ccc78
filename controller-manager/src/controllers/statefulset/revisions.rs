//! Which revision a stateful set is at and which it goes to. The decisions are pure, the writes are the shell's.
//! Upstream: pkg/controller/statefulset/stateful_set_control.go getStatefulSetRevisions, truncateHistory.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::defaults;
use client::{DeleteParams, Meta};
use controller::controller_ref;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use machinery::value;

use super::Shell;
use super::identity::revision as revision_of;
use super::plan::Version;
use crate::controllers::shared::revisions;
use crate::kept::Pod;

/// Label with the hash of a revision's data.
const HASH_LABEL: &str = "controller.kubernetes.io/hash";
/// Remembered comparisons; beyond that they are made anew.
const MEMORY: usize = 10_000;

/// How the revision of the set's template comes about.
#[derive(Debug, PartialEq, Eq)]
pub enum Choice {
    /// It is the newest one.
    Newest,
    /// It is an older one, which becomes the newest: a roll-back. By position.
    Renumber(usize),
    /// There is none with the same bytes.
    New,
}

/// Finds the template's bytes among the revisions, which are in order.
pub fn choose(all: &[Arc<ControllerRevision>], data: &[u8]) -> Choice {
    match all.iter().rposition(|r| revisions::stored_bytes(r) == data) {
        Some(at) if at + 1 == all.len() => Choice::Newest,
        Some(at) => Choice::Renumber(at),
        None => Choice::New,
    }
}

/// The template that a revision holds.
///
/// # Errors
/// The data is no patch of a template.
pub fn template_of(revision: &ControllerRevision) -> Result<PodTemplateSpec, String> {
    let name = revision.metadata.name.as_deref().unwrap_or_default();
    let mut template = revision.data.0.pointer("/spec/template").cloned();
    if let Some(fields) = template.as_mut().and_then(|t| t.as_object_mut()) {
        fields.remove("$patch");
    }
    let template = template.ok_or_else(|| format!("revision {name} holds no template"))?;
    serde_json::from_value(template).map_err(|e| format!("reading the template of revision {name}: {e}"))
}

/// The bytes that going back to a revision would give: its template as this version's defaults complete it.
fn restored(set: &StatefulSet, revision: &ControllerRevision) -> Result<Vec<u8>, String> {
    let mut back = set.clone();
    back.spec.template = template_of(revision)?;
    let mut tree = value::to_value(&back).map_err(|e| e.to_string())?;
    let context = defaults::Context { gates: defaults::Gates::default(), now: "" };
    defaults::apply(&mut tree, "apps/v1", "StatefulSet", &context);
    let back: StatefulSet = value::from_value(&tree).map_err(|e| e.to_string())?;
    let template = back.spec.template;
    Ok(revisions::bytes(&revisions::patch(&template)?))
}

/// Names of revisions that go: the oldest that neither a pod nor the status names, beyond the limit.
pub fn surplus(all: &[Arc<ControllerRevision>], live: &BTreeSet<&str>, limit: i32) -> Vec<String> {
    let Ok(limit) = usize::try_from(limit) else { return Vec::new() };
    let dead: Vec<&str> = all.iter().map(|r| r.name()).filter(|name| !live.contains(name)).collect();
    let excess = dead.len().saturating_sub(limit);
    dead.into_iter().take(excess).map(str::to_string).collect()
}

/// The revisions of one round.
pub struct Revisions {
    /// In order, as they were found.
    pub all: Vec<Arc<ControllerRevision>>,
    pub current: Version,
    pub update: Version,
    pub collisions: i32,
}

impl Shell {
    /// Finds or makes the revision of the set's template.
    pub(super) async fn find_revisions(
        &self,
        set: &StatefulSet,
        mut all: Vec<Arc<ControllerRevision>>,
    ) -> Result<Revisions, String> {
        all.sort_by(|a, b| revisions::order(a, b));
        let spec = set.spec.clone();
        let tree = revisions::patch(&spec.template)?;
        let data = revisions::bytes(&tree);
        let mut collisions = set.status.as_ref().and_then(|s| s.collision_count).unwrap_or(0);
        let next = all.last().map_or(1, |r| r.revision.unwrap_or(0) + 1);
        let update = match (choose(&all, &data), all.last()) {
            (Choice::Newest, Some(newest)) => (**newest).clone(),
            (Choice::Renumber(at), _) => self.renumber(&all[at], next).await?,
            (_, Some(newest)) if self.means_the_same(set, newest, &data) => (**newest).clone(),
            _ => {
                let mut labels = spec.template.metadata.and_then(|m| m.labels).unwrap_or_default();
                labels.insert(HASH_LABEL.to_string(), revisions::hash(&data, Some(collisions)));
                let made = ControllerRevision {
                    metadata: ObjectMeta {
                        labels: Some(labels),
                        annotations: set.metadata.annotations.clone(),
                        owner_references: Some(vec![controller_ref(set)]),
                        ..ObjectMeta::default()
                    },
                    data: revisions::data(&tree)?,
                    revision: Some(next),
                };
                self.create_revision(set, made, &data, &mut collisions).await?
            }
        };
        let named = set.status.as_ref().and_then(|s| s.current_revision.as_deref()).unwrap_or_default();
        let current = all.iter().find(|r| r.name() == named).map_or(&update, |r| &**r);
        let version = |r: &ControllerRevision| {
            Ok::<_, String>(Version { name: r.name().to_string(), template: template_of(r)? })
        };
        Ok(Revisions { current: version(current)?, update: version(&update)?, collisions, all })
    }

    /// A new version of the API may write the same template with more fields: that is no new revision.
    /// Upstream: setMatchesLatestExistingRevision, feature StatefulSetSemanticRevisionComparison.
    fn means_the_same(&self, set: &StatefulSet, newest: &ControllerRevision, data: &[u8]) -> bool {
        use component::features::{Gate, enabled};
        if !enabled(Gate::StatefulSetSemanticRevisionComparison) {
            return false;
        }
        let generation = set.metadata.generation.unwrap_or(0);
        let known = format!("{}/{generation}/{}", set.uid(), newest.resource_version());
        if self.same.lock().contains(&known) {
            return true;
        }
        let same = restored(set, newest).is_ok_and(|bytes| bytes == data);
        if same {
            let mut memory = self.same.lock();
            if memory.len() >= MEMORY {
                memory.clear();
            }
            memory.insert(known);
        }
        same
    }

    async fn renumber(
        &self,
        revision: &ControllerRevision,
        number: i64,
    ) -> Result<ControllerRevision, String> {
        let api = self.client.namespaced::<ControllerRevision>(revision.namespace());
        let mut new = revision.clone();
        for _ in 0..super::CONFLICTS {
            if new.revision == Some(number) {
                break;
            }
            new.revision = Some(number);
            match api.replace(&new).await {
                Ok(made) => return Ok(made),
                Err(e) if e.is_conflict() => {
                    let fresh = api.get(revision.name()).await;
                    new = fresh.map_err(|e| format!("reading revision {}: {e}", revision.name()))?;
                }
                Err(e) => return Err(format!("renumbering revision {}: {e}", revision.name())),
            }
        }
        if new.revision == Some(number) {
            Ok(new)
        } else {
            Err(format!("renumbering revision {}: too many conflicts", revision.name()))
        }
    }

    /// A name that is taken by other data is a collision, which another count avoids.
    async fn create_revision(
        &self,
        set: &StatefulSet,
        mut revision: ControllerRevision,
        data: &[u8],
        collisions: &mut i32,
    ) -> Result<ControllerRevision, String> {
        let api = self.client.namespaced::<ControllerRevision>(set.namespace());
        loop {
            let name = revisions::name(set.name(), &revisions::hash(data, Some(*collisions)));
            revision.metadata.name = Some(name.clone());
            match api.create(&revision).await {
                Ok(made) => return Ok(made),
                Err(e) if e.is_already_exists() => {
                    let found = api.get(&name).await.map_err(|e| format!("reading revision {name}: {e}"))?;
                    if revisions::stored_bytes(&found) == data {
                        return Ok(found);
                    }
                    *collisions += 1;
                }
                Err(e) => return Err(format!("creating revision {name}: {e}")),
            }
        }
    }

    /// Deletes old revisions beyond the limit.
    pub(super) async fn truncate(
        &self,
        set: &StatefulSet,
        pods: &[Arc<Pod>],
        revisions: &Revisions,
    ) -> Result<(), String> {
        let limit = set.spec.revision_history_limit.unwrap_or(10);
        let named = [revisions.current.name.as_str(), revisions.update.name.as_str()];
        let live = pods.iter().map(|p| revision_of(&**p)).chain(named).collect();
        let api = self.client.namespaced::<ControllerRevision>(set.namespace());
        for name in surplus(&revisions.all, &live, limit) {
            api.delete(&name, &DeleteParams::default())
                .await
                .map_err(|e| format!("deleting revision {name}: {e}"))?;
        }
        Ok(())
    }
}
