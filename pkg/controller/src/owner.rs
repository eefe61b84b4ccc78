//! Owner references: who controls an object, and how a controller adopts and releases objects by its selector.
//! Upstream: apimachinery/pkg/apis/meta/v1/controller_ref.go, pkg/controller/controller_ref_manager.go.

use std::collections::BTreeMap;
use std::sync::Arc;

use client::{Api, Error, Meta, Object, Patch, PatchParams};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::json;
use tokio::sync::OnceCell;

/// The reference to the controlling owner.
pub fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.iter().flatten().find(|r| r.controller == Some(true))
}

/// Whether `owner` controls the object.
pub fn is_controlled_by(meta: &ObjectMeta, owner: &ObjectMeta) -> bool {
    controller_of(meta).is_some_and(|r| Some(&r.uid) == owner.uid.as_ref())
}

/// A reference that makes `owner` the controller.
pub fn controller_ref<K: Object>(owner: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::API_VERSION.to_string(),
        kind: K::KIND.to_string(),
        name: owner.name().to_string(),
        uid: owner.uid().to_string(),
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
pub fn claim(controller: &ObjectMeta, object: &ObjectMeta, matches: bool) -> Claim {
    let dying = controller.deletion_timestamp.is_some();
    match controller_of(object) {
        Some(owner) if Some(&owner.uid) != controller.uid.as_ref() => Claim::Ignore,
        Some(_) if matches => Claim::Keep,
        // A controller that is being deleted lets the garbage collector decide.
        Some(_) if dying => Claim::Ignore,
        Some(_) => Claim::Release,
        None if dying || !matches || object.deletion_timestamp.is_some() => Claim::Ignore,
        None if controller.namespace.as_deref().is_some_and(|ns| !ns.is_empty())
            && controller.namespace != object.namespace =>
        {
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

type Matcher<'a> = Box<dyn Fn(&BTreeMap<String, String>) -> bool + Send + Sync + 'a>;

/// Claims objects for one controller object, for the time of one sync.
pub struct RefManager<'a, C, K> {
    controllers: Api<C>,
    objects: Api<K>,
    controller: &'a C,
    matches: Matcher<'a>,
    finalizers: Vec<&'static str>,
    can_adopt: OnceCell<Result<(), String>>,
}

impl<'a, C: Object, K: Meta> RefManager<'a, C, K> {
    /// For `controller`, whose selector is `matches`. `controllers` and `objects` are in the controller's namespace.
    pub fn new(
        controllers: Api<C>,
        objects: Api<K>,
        controller: &'a C,
        matches: impl Fn(&BTreeMap<String, String>) -> bool + Send + Sync + 'a,
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
        let none = BTreeMap::new();
        for object in objects {
            let matches = (self.matches)(object.meta().labels.as_ref().unwrap_or(&none)) && filter(&object);
            let result = match claim(self.controller.meta(), object.meta(), matches) {
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
        let what = |e: &dyn std::fmt::Display| {
            format!("adopting {} {}: {e}", self.objects.gvr().resource, object.key())
        };
        self.check().await.map_err(|e| format!("can't adopt {} {}: {e}", object.key(), object.uid()))?;
        let patch = adopt_patch(&controller_ref(self.controller), object.uid(), &self.finalizers);
        match self.patch(object, &patch).await {
            Ok(()) => Ok(true),
            Err(e) if e.is_not_found() => Ok(false),
            Err(e) => Err(what(&e)),
        }
    }

    async fn release(&self, object: &K) -> Result<(), String> {
        let patch = release_patch(object.uid(), &[self.controller.uid()], &self.finalizers);
        match self.patch(object, &patch).await {
            Ok(()) => Ok(()),
            // Gone, or no longer ours (the patch did not apply): both are what we wanted.
            Err(e) if e.is_not_found() || e.is_invalid() => Ok(()),
            Err(e) => Err(format!("releasing {} {}: {e}", self.objects.gvr().resource, object.key())),
        }
    }

    async fn patch(&self, object: &K, patch: &Patch) -> Result<(), Error> {
        let api = self.objects.within(object.namespace());
        api.patch(object.name(), patch, &PatchParams::default()).await.map(|_| ())
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
