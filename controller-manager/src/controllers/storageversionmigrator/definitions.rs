//! What a migration tells the definition of its custom resource. Upstream: migrationrunner.go (`markAsActive`,
//! `finishCRDMigration`).

use client::{Client, Gvr, Meta, Patch, PatchParams};
use jiff::Timestamp;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition as Definition;
use serde_json::{Value, json};

use super::Resource;

const MANAGER: &str = "migration-runner-controller";
const MIGRATING: &str = "StorageMigrating";

/// What is told.
pub trait Told: Sync {
    /// The status to apply.
    fn status(&self, definition: &Definition, now: Timestamp) -> Value;
}

/// A migration starts.
pub struct Started {
    pub message: String,
}

/// A migration is over.
pub struct Done {
    pub success: bool,
}

fn condition(definition: &Definition, status: &str, why: (&str, &str), now: Timestamp) -> Value {
    let at = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now);
    json!({
        "type": MIGRATING, "status": status, "reason": why.0, "message": why.1, "lastTransitionTime": at,
        "observedGeneration": definition.metadata.generation.unwrap_or(0),
    })
}

impl Told for Started {
    fn status(&self, definition: &Definition, now: Timestamp) -> Value {
        json!({"conditions": [condition(definition, "True", ("MigrationRunning", &self.message), now)]})
    }
}

impl Told for Done {
    fn status(&self, definition: &Definition, now: Timestamp) -> Value {
        let conditions = definition.status.iter().flat_map(|s| s.conditions.iter().flatten());
        let observed = conditions.into_iter().find(|c| c.type_ == MIGRATING).map(|c| c.observed_generation);
        // A definition that changed meanwhile may have another storage version by now.
        let same = observed.is_some_and(|o| o.unwrap_or(0) == definition.metadata.generation.unwrap_or(0));
        let why = match (self.success, same) {
            (true, true) => (
                "MigrationSucceeded",
                "The migration has succeeded and the stored versions have been updated",
            ),
            (true, false) => (
                "MigrationSucceeded",
                "The migration has succeeded but the stored versions have not been updated due to a generation mismatch",
            ),
            (false, _) => ("MigrationFailed", "The migration has failed"),
        };
        let mut status = json!({"conditions": [condition(definition, "False", why, now)]});
        let stored = definition.spec.versions.iter().find(|v| v.storage).filter(|_| same);
        if let (Some(version), Value::Object(fields)) = (stored, &mut status) {
            fields.insert("storedVersions".into(), json!([version.name]));
        }
        status
    }
}

/// Tells the definition of a resource, if it has one. A change in between is a conflict, and tried again later.
pub async fn tell(client: &Client, of: &Resource, told: &impl Told, now: Timestamp) -> Result<(), String> {
    let name = format!("{}.{}", of.1, of.0);
    let api = client.all::<Definition>();
    let failed = |e: client::Error| format!("CustomResourceDefinition {name}: {e}");
    let Some(definition) = api.get_opt(&name).await.map_err(failed)? else { return Ok(()) };
    let patch = Patch::Apply(json!({
        "apiVersion": Gvr::of::<Definition>().group_version(), "kind": "CustomResourceDefinition",
        "metadata": {"name": name, "resourceVersion": definition.resource_version()},
        "status": told.status(&definition, now),
    }));
    let params = PatchParams { field_manager: MANAGER.to_owned(), force: true, ..PatchParams::default() };
    api.patch_status(&name, &patch, &params).await.map(drop).map_err(failed)
}
