//! Owner references: who controls an object, and how a controller adopts and releases objects by its selector.
//! Upstream: apimachinery/pkg/apis/meta/v1/controller_ref.go, pkg/controller/controller_ref_manager.go.

use std::sync::Arc;

use client::{Api, Error, Kept, Object, Patch, PatchParams};
use k8s_openapi::Resource;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use machinery::labels::Labels;
use serde_json::json;
use tokio::sync::OnceCell;

/// What of an object's metadata says whose it is: [`ObjectMeta`], and what is kept of it.
pub trait Related {
    /// `uid`, "" when unset.
    fn uid(&self) -> &str;
    /// `namespace`, "" when unset.
    fn namespace(&self) -> &str;
    /// `labels`.
    fn labels(&self) -> &dyn Labels;
    /// `ownerReferences`.
    fn owners(&self) -> &[OwnerReference];
    /// The finalizer is set.
    fn has_finalizer(&self, name: &str) -> bool;
    /// Its deletion has been asked for.
    fn is_dying(&self) -> bool;
}

impl Related for ObjectMeta {
    fn uid(&self) -> &str {
        self.uid.as_deref().unwrap_or("")
    }
    fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or("")
    }
    fn labels(&self) -> &dyn Labels {
        &self.labels
    }
    fn owners(&self) -> &[OwnerReference] {
        self.owner_references.as_deref().unwrap_or_default()
    }
    fn has_finalizer(&self, name: &str) -> bool {
        self.finalizers.iter().flatten().any(|f| f == name)
    }
    fn is_dying(&self) -> bool {
        self.deletion_timestamp.is_some()
    }
}

/// An object whose relations are known.
pub trait HasRelations: Kept {
    /// What of its metadata is kept.
    type Relations: Related;
    /// Its relations.
    fn relations(&self) -> &Self::Relations;
}

impl<K: client::Meta> HasRelations for K {
    type Relations = ObjectMeta;
    fn relations(&self) -> &ObjectMeta {
        self.meta()
    }
}

/// The reference to the controlling owner.
pub fn controller_of<M: Related>(meta: &M) -> Option<&OwnerReference> {
    meta.owners().iter().find(|r| r.controller == Some(true))
}

/// Whether `owner` controls the object.
pub fn is_controlled_by(meta: &impl Related, owner: &impl Related) -> bool {
    controller_of(meta).is_some_and(|r| !r.uid.is_empty() && r.uid == owner.uid())
}

/// A reference that makes `owner` the controller.
pub fn controller_ref<K: Kept + Resource>(owner: &K) -> OwnerReference {
    let named = owner.named();
    OwnerReference {
        api_version: K::API_VERSION.to_string(),
        kind: K::KIND.to_string(),
        name: named.name.to_string(),
        uid: named.uid.to_string(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// What a controller does with an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// It is ours and stays.
    Keep,
    /// It is ours but no longer matches.
    Release,
    /// It has no controller and matches.
    Adopt,
    /// It is none of our business.
    Ignore,
}

/// Decides about one object. Upstream: BaseControllerRefManager.ClaimObject.
pub fn claim(controller: &ObjectMeta, object: &impl Related, matches: bool) -> Claim {
    let dying = controller.is_dying();
    match controller_of(object) {
        Some(owner) if Some(&owner.uid) != controller.uid.as_ref() => Claim::Ignore,
        Some(_) if matches => Claim::Keep,
        // A controller that is being deleted lets the garbage collector decide.
        Some(_) if dying => Claim::Ignore,
        Some(_) => Claim::Release,
        None if dying || !matches || object.is_dying() => Claim::Ignore,
        None if !controller.namespace().is_empty() && controller.namespace() != object.namespace() => {
            Claim::Ignore
        }
        None => Claim::Adopt,
    }
}

/// Patch by which an object gets a controller. Upstream: ownerRefControllerPatch.
pub fn adopt_patch(owner: &OwnerReference, uid: &str, finalizers: &[&str]) -> Patch {
    let mut metadata = json!({
        "ownerReferences": [{
            "apiVersion": owner.api_version, "kind": owner.kind, "name": owner.name, "uid": owner.uid,
            "controller": true, "blockOwnerDeletion": true,
        }],
        "uid": uid,
    });
    if !finalizers.is_empty() {
        metadata["finalizers"] = json!(finalizers);
    }
    Patch::Strategic(json!({ "metadata": metadata }))
}

/// Patch by which an object loses owners. Upstream: GenerateDeleteOwnerRefStrategicMergeBytes.
pub fn release_patch(uid: &str, owner_uids: &[&str], finalizers: &[&str]) -> Patch {
    let owners: Vec<_> = owner_uids.iter().map(|u| json!({"$patch": "delete", "uid": u})).collect();
    let mut metadata = json!({"uid": uid, "ownerReferences": owners});
    if !finalizers.is_empty() {
        metadata["$deleteFromPrimitiveList/finalizers"] = json!(finalizers);
    }
    Patch::Strategic(json!({ "metadata": metadata }))
}

type Matcher<'a> = Box<dyn Fn(&dyn Labels) -> bool + Send + Sync + 'a>;

/// Claims objects for one controller object, for the time of one sync.
pub struct RefManager<'a, C, K> {
    controllers: Api<C>,
    objects: Api<K>,
    controller: &'a C,
    matches: Matcher<'a>,
    finalizers: Vec<&'static str>,
    can_adopt: OnceCell<Result<(), String>>,
}

impl<'a, C: Object, K: HasRelations> RefManager<'a, C, K> {
    /// For `controller`, whose selector is `matches`. `controllers` and `objects` are in the controller's namespace.
    pub fn new(
        controllers: Api<C>,
        objects: Api<K>,
        controller: &'a C,
        matches: impl Fn(&dyn Labels) -> bool + Send + Sync + 'a,
    ) -> Self {
        Self {
            controllers,
            objects,
            controller,
            matches: Box::new(matches),
            finalizers: Vec::new(),
            can_adopt: OnceCell::new(),
        }
    }

    /// Finalizers set when adopting and removed when releasing (jobs).
    #[must_use]
    pub fn finalizers(mut self, finalizers: Vec<&'static str>) -> Self {
        self.finalizers = finalizers;
        self
    }

    /// Goes through the objects: adopts orphans that match and `filter` admits, releases those that match no longer.
    /// Returns what is ours now; failures do not stop the others and come back together.
    pub async fn claim(
        &self,
        objects: impl IntoIterator<Item = Arc<K>>,
        filter: impl Fn(&K) -> bool,
    ) -> Result<Vec<Arc<K>>, ClaimError> {
        let (mut claimed, mut errors) = (Vec::new(), Vec::new());
        for object in objects {
            let relations = object.relations();
            let matches = (self.matches)(relations.labels()) && filter(&object);
            let result = match claim(self.controller.meta(), relations, matches) {
                Claim::Keep => Ok(true),
                Claim::Ignore => Ok(false),
                Claim::Adopt => self.adopt(&object).await,
                Claim::Release => self.release(&object).await.map(|()| false),
            };
            match result {
                Ok(true) => claimed.push(object),
                Ok(false) => {}
                Err(e) => errors.push(e),
            }
        }
        if errors.is_empty() { Ok(claimed) } else { Err(ClaimError(errors)) }
    }

    /// Whether the controller still exists and lives, asked from the server once: the cache may be stale, and an
    /// adoption by a dead controller would lose the object. Upstream: RecheckDeletionTimestamp.
    async fn check(&self) -> Result<(), String> {
        let own = self.controller.meta();
        let check = async {
            let fresh = self.controllers.get(self.controller.name()).await.map_err(|e| e.to_string())?;
            let (namespace, name) = (self.controller.namespace(), self.controller.name());
            if fresh.meta().uid != own.uid {
                let (new, old) = (fresh.uid(), self.controller.uid());
                return Err(format!(
                    "original {} {namespace}/{name} is gone: got uid {new}, wanted {old}",
                    C::KIND
                ));
            }
            if fresh.meta().deletion_timestamp.is_some() {
                return Err(format!("{namespace}/{name} has just been deleted"));
            }
            Ok(())
        };
        self.can_adopt.get_or_init(|| check).await.clone()
    }

    async fn adopt(&self, object: &K) -> Result<bool, String> {
        let named = object.named();
        let key = named.key();
        let what = |e: &dyn std::fmt::Display| format!("adopting {} {key}: {e}", self.objects.gvr().resource);
        self.check().await.map_err(|e| format!("can't adopt {key} {}: {e}", named.uid))?;
        let patch = adopt_patch(&controller_ref(self.controller), named.uid, &self.finalizers);
        match self.patch(object, &patch).await {
            Ok(()) => Ok(true),
            Err(e) if e.is_not_found() => Ok(false),
            Err(e) => Err(what(&e)),
        }
    }

    async fn release(&self, object: &K) -> Result<(), String> {
        let named = object.named();
        let patch = release_patch(named.uid, &[self.controller.uid()], &self.finalizers);
        match self.patch(object, &patch).await {
            Ok(()) => Ok(()),
            // Gone, or no longer ours (the patch did not apply): both are what we wanted.
            Err(e) if e.is_not_found() || e.is_invalid() => Ok(()),
            Err(e) => Err(format!("releasing {} {}: {e}", self.objects.gvr().resource, named.key())),
        }
    }

    async fn patch(&self, object: &K, patch: &Patch) -> Result<(), Error> {
        let named = object.named();
        let api = self.objects.within(named.namespace);
        api.patch_unread(named.name, "", patch, &PatchParams::default()).await
    }
}

/// Failures of a claim, together.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct ClaimError(pub Vec<String>);

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(uid: &str, owner: Option<&str>) -> ObjectMeta {
        ObjectMeta {
            uid: Some(uid.into()),
            namespace: Some("ns".into()),
            owner_references: owner.map(|o| {
                vec![OwnerReference { uid: o.into(), controller: Some(true), ..OwnerReference::default() }]
            }),
            ..ObjectMeta::default()
        }
    }

    fn dying(mut m: ObjectMeta) -> ObjectMeta {
        m.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH));
        m
    }

    #[test]
    fn claims() {
        let c = || meta("c", None);
        let cases = [
            (c(), meta("o", None), true, Claim::Adopt),
            (c(), meta("o", None), false, Claim::Ignore),
            (c(), meta("o", Some("c")), true, Claim::Keep),
            (c(), meta("o", Some("c")), false, Claim::Release),
            (c(), meta("o", Some("x")), true, Claim::Ignore),
            (dying(c()), meta("o", None), true, Claim::Ignore),
            (dying(c()), meta("o", Some("c")), true, Claim::Keep),
            (dying(c()), meta("o", Some("c")), false, Claim::Ignore),
            (c(), dying(meta("o", None)), true, Claim::Ignore),
            (c(), dying(meta("o", Some("c"))), false, Claim::Release),
            (c(), ObjectMeta { namespace: Some("other".into()), ..meta("o", None) }, true, Claim::Ignore),
        ];
        for (i, (controller, object, matches, want)) in cases.into_iter().enumerate() {
            assert_eq!(claim(&controller, &object, matches), want, "case {i}");
        }
    }
}
