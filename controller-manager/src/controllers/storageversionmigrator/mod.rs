//! Storage version migration: writes all objects of a resource anew, so that the store holds them in the version they are
//! stored in now, and tells the custom resource's definition which versions are stored.
//!
//! One migration of a resource runs at a time. [`plan`] says what comes next, [`migrate`] writes the objects, [`definitions`]
//! tells definitions. Objects are listed page by page and only those are kept that are to be written; upstream reads them
//! from the garbage collector's caches instead, waiting until those have seen the checkpoint.
//! Upstream: pkg/controller/storageversionmigrator.

mod definitions;
mod migrate;
mod plan;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use client::{ApiResource, Client, ListParams, Meta};
use component::app::Error;
use controller::WorkQueue;
use informer::{Options, Store};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::storagemigration::v1::StorageVersionMigration as Migration;

use self::plan::{FAILED, RUNNING, Step};
use crate::context::Context;
use crate::descriptor::Running;

/// No namespace has this name.
const NOWHERE: &str = "@fake:svm_ns!";
const VERBS: [&str; 3] = ["update", "patch", "list"];
/// How long a resource that is not served may still come: definitions may be newer than what is known of them.
const PATIENCE: SignedDuration = SignedDuration::from_secs(60);
const RUNS: &str = "MigrationRunning";
const FAILS: &str = "StorageVersionMigrationFailed";

/// Group and resource.
type Resource = (String, String);

fn resource(migration: &Migration) -> Resource {
    let named = migration.spec.as_ref().map(|s| s.resource.clone()).unwrap_or_default();
    (named.group, named.resource)
}

struct Shell {
    client: Client,
    migrations: Store<Migration>,
}

/// Builds the controller.
pub fn build(context: &Context) -> Result<Running, Error> {
    if !context.flags.bool("enable-garbage-collector") {
        return Err("storage version migrator requires garbage collector".into());
    }
    let migrations = context.factory.informer::<Migration>(Options::default());
    let shell = Arc::new(Shell { client: context.client(), migrations: migrations.store() });
    let queue: WorkQueue<Resource> = WorkQueue::new("storage-version-migrator-controller");
    let to = queue.clone();
    migrations.subscribe(move |event| to.add(resource(event.object())));
    let token = context.token.clone();
    Ok(Box::pin(async move {
        if !migrations.wait_synced(&token).await {
            return;
        }
        // Five, as upstream's shell has it.
        queue
            .run(5, &token, move |of: Resource| {
                let shell = shell.clone();
                async move { shell.sync(&of).await }
            })
            .await;
    }))
}

/// What a resource is served as.
enum Found {
    Served(Box<ApiResource>),
    /// It may still come.
    NotYet,
    No,
}

impl Shell {
    async fn sync(&self, of: &Resource) -> Result<Option<Duration>, String> {
        let mut mine = self.migrations.list();
        mine.retain(|m| resource(m) == *of);
        for step in plan::steps(&mine) {
            let now = Timestamp::now();
            match step {
                Step::Finish(migration) => self.finish(&migration, of, now).await?,
                Step::Start(migration) => self.start(&migration, of, now).await?,
                Step::Checkpoint(migration) => self.checkpoint(&migration, of, now).await?,
                Step::Migrate(migration) => migrate::run(self, &migration, of, now).await?,
            }
        }
        Ok(None)
    }

    async fn start(&self, migration: &Migration, of: &Resource, now: Timestamp) -> Result<(), String> {
        let message = format!("Migration {} is running", migration.name());
        definitions::tell(&self.client, of, &definitions::Started { message }, now).await?;
        let mut migration = migration.clone();
        plan::set(&mut migration, RUNNING, true, (RUNS, &plan::running(None, None)), now);
        self.write(&migration).await
    }

    async fn finish(&self, migration: &Migration, of: &Resource, now: Timestamp) -> Result<(), String> {
        let done = definitions::Done { success: plan::is(migration, plan::SUCCEEDED) };
        definitions::tell(&self.client, of, &done, now).await?;
        let mut migration = migration.clone();
        plan::set(&mut migration, RUNNING, false, ("MigrationCompleted", "Migration completed"), now);
        self.write(&migration).await
    }

    async fn checkpoint(&self, migration: &Migration, of: &Resource, now: Timestamp) -> Result<(), String> {
        let mut migration = migration.clone();
        let served = match self.find(&migration, of, now).await? {
            Found::Served(served) => served,
            Found::NotYet => {
                return Err("resource does not exist in our rest mapper, requeuing to attempt again".into());
            }
            Found::No => return self.fail(migration, "resource does not exist in discovery", now).await,
        };
        let gvr = format!("{}/{}, Resource={}", served.gvr.group, served.gvr.version, served.gvr.resource);
        if !served.supports(&VERBS) {
            let verbs = VERBS.join(" ");
            let why = format!("resource {gvr:?} does not support discovery operations: [{verbs}]");
            return self.fail(migration, &why, now).await;
        }
        let namespace = if served.namespaced { NOWHERE } else { "" };
        let params = ListParams { limit: 1, ..ListParams::default() };
        let list = self.client.metadata(&served.gvr, namespace).list(&params).await;
        let list = list.map_err(|e| format!("error getting latest resourceVersion for {gvr}: {e}"))?;
        let latest = list.metadata.resource_version.unwrap_or_default();
        if let Err(why) = plan::version(&latest) {
            let why = format!("latest resourceVersion for {gvr} is not valid: {why}");
            return self.fail(migration, &why, now).await;
        }
        migration.status.get_or_insert_default().resource_version = Some(latest);
        self.write(&migration).await
    }

    async fn find(&self, migration: &Migration, of: &Resource, now: Timestamp) -> Result<Found, String> {
        let found = self.client.discover().await.map_err(|e| e.to_string())?;
        let served =
            found.preferred().into_iter().find(|r| (&r.gvr.group, &r.gvr.resource) == (&of.0, &of.1));
        if let Some(served) = served {
            return Ok(Found::Served(Box::new(served.clone())));
        }
        let created = migration.metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |t| t.0);
        Ok(if now.duration_since(created) < PATIENCE { Found::NotYet } else { Found::No })
    }

    async fn fail(&self, mut migration: Migration, why: &str, now: Timestamp) -> Result<(), String> {
        if !plan::set(&mut migration, FAILED, true, (FAILS, why), now) {
            return Ok(());
        }
        self.write(&migration).await
    }

    async fn write(&self, migration: &Migration) -> Result<(), String> {
        match self.client.all::<Migration>().replace_status(migration).await {
            Err(error) if !error.is_not_found() => {
                Err(format!("StorageVersionMigration {}: {error}", migration.name()))
            }
            _ => Ok(()),
        }
    }
}
