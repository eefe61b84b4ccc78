//! Carries a plan out: pods and claims are written, and every write is told.
//! Upstream: pkg/controller/statefulset/stateful_pod_control.go.

use std::sync::atomic::{AtomicI32, Ordering};

use client::{DeleteParams, Meta};
use controller::{NORMAL, WARNING, reference, slow_start};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};

use super::plan::{Plan, Step, Task};
use super::{CONFLICTS, Shell, claims, identity};
use crate::controllers::shared::key;

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
                    self.create_claims(set, pod).await?;
                    self.own_claims(set, pod)
                        .await
                        .inspect_err(|e| self.tell(set, "Update", pod, Some(e)))?;
                }
                Step::Restore(pod) => self.restore(set, pod).await?,
                Step::Owners(pod) => self.own_claims(set, pod).await?,
            }
        }
        Ok(())
    }

    /// Tells of a write to a pod. Upstream: recordPodEvent.
    fn tell(&self, set: &StatefulSet, verb: &str, pod: &Pod, failure: Option<&str>) {
        let (pod, name) = (pod.name(), set.name());
        let (kind, outcome, message) = match failure {
            None => (NORMAL, "Successful", format!("{verb} Pod {pod} in StatefulSet {name} successful")),
            Some(e) => {
                (WARNING, "Failed", format!("{verb} Pod {pod} in StatefulSet {name} failed error: {e}"))
            }
        };
        self.recorder.event(&reference(set), kind, &format!("{outcome}{verb}"), &message);
    }

    /// Claims come first: a pod without them would only wait. A pod that is there already is the next round's.
    async fn create(&self, set: &StatefulSet, pod: &Pod) -> Result<(), String> {
        self.create_claims(set, pod).await.inspect_err(|e| self.tell(set, "Create", pod, Some(e)))?;
        let made = self.client.namespaced::<Pod>(set.namespace()).create(pod).await;
        let failure = match &made {
            Ok(made) => {
                self.writes.wrote(&key(set), "pods", made);
                None
            }
            Err(e) if e.is_already_exists() => return Err(e.to_string()),
            Err(e) => Some(e.to_string()),
        };
        self.own_claims(set, made.as_ref().unwrap_or(pod))
            .await
            .inspect_err(|e| self.tell(set, "Update", pod, Some(e)))?;
        self.tell(set, "Create", pod, failure.as_deref());
        failure.map_or(Ok(()), Err)
    }

    async fn delete(&self, set: &StatefulSet, pod: &Pod) -> Result<(), String> {
        let api = self.client.namespaced::<Pod>(set.namespace());
        let failure = match api.delete(pod.name(), &DeleteParams::default()).await {
            Err(e) if !e.is_not_found() => Some(e.to_string()),
            _ => None,
        };
        self.tell(set, "Delete", pod, failure.as_deref());
        failure.map_or(Ok(()), Err)
    }

    /// Makes the claims that are not there. Upstream: createPersistentVolumeClaims.
    async fn create_claims(&self, set: &StatefulSet, pod: &Pod) -> Result<(), String> {
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

    fn tell_claim(&self, set: &StatefulSet, pod: &Pod, claim: &str, failure: Option<&str>) {
        let (pod, name) = (pod.name(), set.name());
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
    async fn own_claims(&self, set: &StatefulSet, pod: &Pod) -> Result<(), String> {
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

    /// Upstream: UpdateStatefulPod. A conflict is met with a fresh read.
    async fn restore(&self, set: &StatefulSet, pod: &Pod) -> Result<(), String> {
        let api = self.client.namespaced::<Pod>(set.namespace());
        let mut new = pod.clone();
        let mut failure = String::new();
        for _ in 0..CONFLICTS {
            let mut sound = true;
            if !identity::identity_matches(set, &new) {
                identity::set_identity(set, &mut new);
                sound = false;
            }
            if !identity::storage_matches(set, &new) {
                identity::set_storage(set, &mut new);
                sound = false;
                self.create_claims(set, &new)
                    .await
                    .inspect_err(|e| self.tell(set, "Update", pod, Some(e)))?;
            }
            // Owners of claims are no part of the pod.
            self.own_claims(set, &new).await.inspect_err(|e| self.tell(set, "Update", pod, Some(e)))?;
            if sound {
                return Ok(());
            }
            match api.replace(&new).await {
                Ok(made) => {
                    self.writes.wrote(&key(set), "pods", &made);
                    self.tell(set, "Update", pod, None);
                    return Ok(());
                }
                Err(e) if e.is_conflict() => {
                    failure = e.to_string();
                    new =
                        api.get(pod.name()).await.map_err(|e| format!("reading pod {}: {e}", pod.name()))?;
                }
                Err(e) => {
                    failure = e.to_string();
                    break;
                }
            }
        }
        self.tell(set, "Update", pod, Some(&failure));
        Err(failure)
    }
}
