//! Carries a plan out: pods and claims are written, and every write is told.
//! Upstream: pkg/controller/statefulset/stateful_pod_control.go.

use std::sync::atomic::{AtomicI32, Ordering};

use client::{DeleteParams, Kept, Meta};
use controller::{NORMAL, WARNING, reference, slow_start};
use k8s_openapi::Resource;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod as WholePod};

use super::plan::{Plan, Step, Task};
use super::{CONFLICTS, Shell, claims, identity};
use crate::controllers::shared::key;
use crate::kept::Pod;

impl Shell {
    /// Runs the phases in order until one fails. Also says how many pods of old revisions were deleted.
    pub(super) async fn carry_out(&self, set: &StatefulSet, plan: &Plan) -> (i32, Result<(), String>) {
        let replaced = AtomicI32::new(0);
        for phase in &plan.phases {
            let failure = if plan.together {
                slow_start(phase.len(), 1, |at| self.run(set, &phase[at], &replaced)).await.1
            } else {
                self.one_by_one(set, phase, &replaced).await.err()
            };
            if let Some(failure) = failure {
                return (replaced.into_inner(), Err(failure));
            }
        }
        (replaced.into_inner(), Ok(()))
    }

    async fn one_by_one(
        &self,
        set: &StatefulSet,
        phase: &[Task],
        replaced: &AtomicI32,
    ) -> Result<(), String> {
        for task in phase {
            self.run(set, task, replaced).await?;
        }
        Ok(())
    }

    async fn run(&self, set: &StatefulSet, task: &Task, replaced: &AtomicI32) -> Result<(), String> {
        for step in task {
            match step {
                Step::Create(pod) => self.create(set, pod).await?,
                Step::Delete(pod) => self.delete(set, pod).await?,
                Step::Replace(pod) => {
                    self.delete(set, pod).await?;
                    replaced.fetch_add(1, Ordering::Relaxed);
                }
                Step::Claims(pod) => {
                    self.create_claims(set, &**pod).await?;
                    self.own_claims(set, &**pod)
                        .await
                        .inspect_err(|e| self.tell(set, "Update", pod.name(), Some(e)))?;
                }
                Step::Restore(pod) => self.restore(set, pod).await?,
                Step::Owners(pod) => self.own_claims(set, &**pod).await?,
            }
        }
        Ok(())
    }

    /// Tells of a write to a pod. Upstream: recordPodEvent.
    fn tell(&self, set: &StatefulSet, verb: &str, pod: &str, failure: Option<&str>) {
        let name = set.name();
        let (kind, outcome, message) = match failure {
            None => (NORMAL, "Successful", format!("{verb} Pod {pod} in StatefulSet {name} successful")),
            Some(e) => {
                (WARNING, "Failed", format!("{verb} Pod {pod} in StatefulSet {name} failed error: {e}"))
            }
        };
        self.recorder.event(&reference(set), kind, &format!("{outcome}{verb}"), &message);
    }

    /// Claims come first: a pod without them would only wait. A pod that is there already is the next round's.
    async fn create(&self, set: &StatefulSet, pod: &WholePod) -> Result<(), String> {
        self.create_claims(set, pod).await.inspect_err(|e| self.tell(set, "Create", pod.name(), Some(e)))?;
        let made = self.client.namespaced::<WholePod>(set.namespace()).create_for_receipt(pod).await;
        let mut own = pod.clone();
        let failure = match &made {
            Ok(made) => {
                self.writes.wrote(&key(set), "pods", made);
                own.metadata.uid = Some(made.named().uid.to_string());
                None
            }
            Err(e) if e.is_already_exists() => return Err(e.to_string()),
            Err(e) => Some(e.to_string()),
        };
        self.own_claims(set, &own).await.inspect_err(|e| self.tell(set, "Update", pod.name(), Some(e)))?;
        self.tell(set, "Create", pod.name(), failure.as_deref());
        failure.map_or(Ok(()), Err)
    }

    async fn delete(&self, set: &StatefulSet, pod: &Pod) -> Result<(), String> {
        let api = self.client.namespaced::<Pod>(set.namespace());
        let failure = match api.delete(pod.name(), &DeleteParams::default()).await {
            Err(e) if !e.is_not_found() => Some(e.to_string()),
            _ => None,
        };
        self.tell(set, "Delete", pod.name(), failure.as_deref());
        failure.map_or(Ok(()), Err)
    }

    /// Makes the claims that are not there. Upstream: createPersistentVolumeClaims.
    async fn create_claims(&self, set: &StatefulSet, pod: &impl Kept) -> Result<(), String> {
        let api = self.client.namespaced::<PersistentVolumeClaim>(set.namespace());
        let mut errors = Vec::new();
        for claim in identity::claims(set, pod) {
            let name = claim.name();
            if let Some(found) = self.claims.get_by(set.namespace(), name) {
                if found.metadata.deletion_timestamp.is_some() {
                    errors.push(format!("pvc {name} is being deleted"));
                }
                continue;
            }
            match api.create(&claim).await {
                Ok(made) => {
                    self.writes.wrote(&key(set), "persistentvolumeclaims", &made);
                    self.tell_claim(set, pod, name, None);
                }
                Err(e) => {
                    errors.push(format!("failed to create PVC {name}: {e}"));
                    if !e.is_already_exists() {
                        self.tell_claim(set, pod, name, Some(&e.to_string()));
                    }
                }
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(machinery::golang::aggregate(&errors)) }
    }

    fn tell_claim(&self, set: &StatefulSet, pod: &impl Kept, claim: &str, failure: Option<&str>) {
        let (pod, name) = (pod.named().name, set.name());
        let (kind, reason, message) = match failure {
            None => (
                NORMAL,
                "SuccessfulCreate",
                format!("Create Claim {claim} Pod {pod} in StatefulSet {name} success"),
            ),
            Some(e) => (
                WARNING,
                "FailedCreate",
                format!("Create Claim {claim} for Pod {pod} in StatefulSet {name} failed error: {e}"),
            ),
        };
        self.recorder.event(&reference(set), kind, reason, &message);
    }

    /// Gives claims the owners that the policy wants. Upstream: UpdatePodClaimForRetentionPolicy.
    async fn own_claims<P: Kept + Resource>(&self, set: &StatefulSet, pod: &P) -> Result<(), String> {
        let api = self.client.namespaced::<PersistentVolumeClaim>(set.namespace());
        for name in identity::claim_names(set, pod) {
            let Some(claim) = self.claims.get_by(set.namespace(), &name) else { continue };
            if claims::has_stranger(&claim, set, pod) {
                let message = format!(
                    "PersistentVolumeClaim {name} has a conflicting OwnerReference that acts as a manging controller, the retention policy is ignored for this claim"
                );
                self.recorder.event(&reference(set), WARNING, "ConflictingController", &message);
            }
            if claims::is_up_to_date(&claim, set, pod) {
                continue;
            }
            let mut new = (*claim).clone();
            claims::set_owners(&mut new, set, pod);
            let made = api.replace(&new).await;
            let made =
                made.map_err(|e| format!("could not update claim {name} for delete policy ownerRefs: {e}"))?;
            self.writes.wrote(&key(set), "persistentvolumeclaims", &made);
        }
        Ok(())
    }

    /// Upstream: UpdateStatefulPod. The cache has only a part of the pod: what is written is read from the server.
    async fn restore(&self, set: &StatefulSet, pod: &Pod) -> Result<(), String> {
        let outcome = self.try_restore(set, pod).await;
        if let Err(failure) = &outcome {
            self.tell(set, "Update", pod.name(), Some(failure));
        }
        outcome
    }

    async fn try_restore(&self, set: &StatefulSet, pod: &Pod) -> Result<(), String> {
        // Owners of claims are no part of the pod.
        if identity::identity_matches(set, pod) && identity::storage_matches(set, pod) {
            return self.own_claims(set, pod).await;
        }
        let api = self.client.namespaced::<WholePod>(set.namespace());
        let mut failure = String::new();
        for _ in 0..CONFLICTS {
            let new = api.get(pod.name()).await;
            let mut new = new.map_err(|e| format!("reading pod {}: {e}", pod.name()))?;
            let mut sound = true;
            if !identity::identity_matches(set, &new) {
                identity::set_identity(set, &mut new);
                sound = false;
            }
            if !identity::storage_matches(set, &Pod::of(&new)?) {
                identity::set_storage(set, &mut new);
                sound = false;
                self.create_claims(set, &new).await?;
            }
            self.own_claims(set, &new).await?;
            if sound {
                return Ok(());
            }
            match api.replace(&new).await {
                Ok(made) => {
                    self.writes.wrote(&key(set), "pods", &made);
                    self.tell(set, "Update", pod.name(), None);
                    return Ok(());
                }
                Err(e) if e.is_conflict() => failure = e.to_string(),
                Err(e) => return Err(e.to_string()),
            }
        }
        Err(failure)
    }
}
