//! Deletes the instances of a definition that is being deleted, then lets it go.

use std::sync::Arc;
use std::time::Duration;

use apiextensions::conditions::{self, Condition};
use apiextensions::definition::CLEANUP_FINALIZER;
use machinery::{List, Value};

use super::{Controllers, RETRY, group_of, name_of};
use crate::local::Gvr;

/// How long instances with finalizers of their own are waited for before the status says so. Upstream's minute.
const PATIENCE: Duration = Duration::from_secs(60);

fn finalizers(definition: &Value) -> impl Iterator<Item = &Value> {
    definition.list_at(&["metadata", "finalizers"]).into_iter().flatten()
}

/// Whether the definition waits for its instances to be deleted.
pub(super) fn wants(definition: &Value) -> bool {
    let deleted = definition.str_at(&["metadata", "deletionTimestamp"]).is_some_and(|t| !t.is_empty());
    deleted && finalizers(definition).any(|f| f.as_str() == Some(CLEANUP_FINALIZER))
}

impl Controllers {
    /// Deletes the instances, and the finalizer. Looks again later where that did not succeed.
    pub(super) async fn finalize(self, name: String, definition: Arc<Value>) {
        let stop = self.tasks.shutdown().clone();
        let done = tokio::select! {
            done = self.try_finalize(&definition) => done,
            () = stop.cancelled() => return,
        };
        self.state.lock().finalizing.remove(&name);
        if let Err(why) = done {
            tracing::warn!(definition = name, why, "instances of a custom resource definition remain");
        }
        // Whatever happened meanwhile went by the one at work.
        self.again(name, RETRY);
    }

    async fn try_finalize(&self, definition: &Value) -> Result<(), String> {
        let message = "CustomResource deletion is in progress";
        let begun = Condition::new("Terminating", "True", "InstanceDeletionInProgress", message);
        let mut object = definition.clone();
        if !self.write(&mut object, &begun).await? {
            return Ok(());
        }
        let outcome = self.delete_all(&object).await;
        let (Ok(condition) | Err(condition)) = &outcome;
        if outcome.is_ok() {
            let rest: Vec<Value> =
                finalizers(&object).filter(|f| f.as_str() != Some(CLEANUP_FINALIZER)).cloned().collect();
            // The metadata is an object: it has a name.
            let _ = object.set_path(&["metadata", "finalizers"], List::from(rest));
        }
        self.write(&mut object, condition).await?;
        outcome.map(drop).map_err(|condition| condition.message)
    }

    /// Writes a condition, and reads what was stored. Whether it was.
    async fn write(&self, object: &mut Value, condition: &Condition) -> Result<bool, String> {
        conditions::set(object, condition, &crate::local::now());
        if !self.update_status(object).await.map_err(|e| e.to_string())? {
            return Ok(false);
        }
        let name = name_of(object);
        match self.local.get(Gvr::CUSTOM_RESOURCES, "", &name).await.map_err(|e| e.to_string())? {
            Some(stored) => *object = (*stored).clone(),
            None => return Ok(false),
        }
        Ok(true)
    }

    /// The condition of success, or that of failure.
    async fn delete_all(&self, definition: &Value) -> Result<Condition, Condition> {
        let group = group_of(definition).to_owned();
        let plural = definition.str_at(&["status", "acceptedNames", "plural"]).unwrap_or_default();
        let built_in =
            |r: &Arc<registry::core::Resource>| r.row.kind.group == group && r.row.resource == plural;
        if self.registry.core().resources().iter().any(built_in) {
            let message = "instances overlap with built-in resources in storage";
            return Ok(Condition::new("Terminating", "False", "OverlappingBuiltInResource", message));
        }
        if !conditions::is_true(definition, "Established") {
            let message = "resource was never established";
            return Ok(Condition::new("Terminating", "False", "NeverEstablished", message));
        }
        let context = self.local.context("deletecollection", Gvr::CUSTOM_RESOURCES, "", "");
        let failed = |reason, why: String| Condition::new("Terminating", "True", reason, why);
        let deleted = self.registry.delete_instances(&context, &group, plural).await;
        deleted.map_err(|e| failed("InstanceDeletionFailed", format!("could not issue all deletes: {e}")))?;
        let gone = self.registry.await_no_instances(&context, &group, plural, PATIENCE).await;
        gone.map_err(|why| {
            let text = format!("could not confirm zero CustomResources remaining: {why}");
            failed("InstanceDeletionCheck", text)
        })?;
        Ok(Condition::new("Terminating", "False", "InstanceDeletionCompleted", "removed all instances"))
    }
}
