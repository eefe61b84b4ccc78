//! Writes the objects of a resource anew. Upstream: storageversionmigrator.go (`runMigration`).

use client::{ApiResource, Error, ListParams, Meta, PartialObjectMetadata, Patch, PatchParams};
use jiff::Timestamp;
use k8s_openapi::api::storagemigration::v1::StorageVersionMigration as Migration;
use serde_json::json;

use super::plan::{self, FAILED, Progress, RUNNING, SUCCEEDED};
use super::{FAILS, Found, RUNS, Resource, Shell};

/// Objects listed at once.
const PAGE: u32 = 500;
const MANAGER: &str = "storage-version-migrator-controller";

/// An object to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    namespace: String,
    name: String,
    resource_version: String,
}

/// What came of writing one.
#[derive(Debug, PartialEq)]
pub enum Outcome {
    /// It is stored as it should be; what somebody else wrote or deleted meanwhile is, too.
    Done,
    /// Another time it may work.
    Later(String),
    Failed(String),
}

/// The object, if it was written before the checkpoint.
///
/// # Errors
/// When its version is not one.
pub fn candidate(object: &PartialObjectMetadata, checkpoint: &str) -> Result<Option<Candidate>, String> {
    if plan::version(object.resource_version())? > plan::version(checkpoint)? {
        return Ok(None);
    }
    Ok(Some(Candidate {
        namespace: object.namespace().to_owned(),
        name: object.name().to_owned(),
        resource_version: object.resource_version().to_owned(),
    }))
}

pub fn outcome(result: Result<(), &Error>) -> Outcome {
    match result {
        Ok(()) => Outcome::Done,
        Err(e) if e.is_conflict() || e.is_not_found() => Outcome::Done,
        Err(e) if may_work_later(e) => Outcome::Later(e.to_string()),
        Err(e) => Outcome::Failed(e.to_string()),
    }
}

fn may_work_later(e: &Error) -> bool {
    e.is_connection()
        || e.is_too_many_requests()
        || e.is_service_unavailable()
        || e.is_internal()
        || e.is_timeout()
}

/// Migrates, and says how it went.
pub async fn run(shell: &Shell, migration: &Migration, of: &Resource, now: Timestamp) -> Result<(), String> {
    let mut migration = migration.clone();
    let unhandled = |why: &str| format!("migration encountered unhandled error: {why}");
    let served = match shell.find(&migration, of, now).await? {
        Found::Served(served) => served,
        Found::NotYet => {
            return Err("resource does not exist in rest mapper, requeuing to attempt again".into());
        }
        Found::No => {
            return shell.fail(migration, &unhandled("unable to obtain GVR from discovery"), now).await;
        }
    };
    let (candidates, total) = match list(shell, &served, plan::checkpoint(&migration)).await? {
        Ok(found) => found,
        Err(why) => return shell.fail(migration, &unhandled(&why), now).await,
    };
    let mut progress = Progress { left: candidates.len(), total };
    for candidate in &candidates {
        match write(shell, &served, candidate).await {
            Outcome::Done => progress.left -= 1,
            Outcome::Later(why) => {
                let message = plan::running(Some(progress), Some(&why));
                if plan::set(&mut migration, RUNNING, true, (RUNS, &message), now) {
                    shell.write(&migration).await?;
                }
                return Err(why);
            }
            Outcome::Failed(why) => {
                let why =
                    format!("{}/{} not yet migrated. {}", progress.left, progress.total, unhandled(&why));
                let running = plan::running(Some(progress), None);
                plan::set(&mut migration, RUNNING, true, (RUNS, &running), now);
                plan::set(&mut migration, FAILED, true, (FAILS, &why), now);
                return shell.write(&migration).await;
            }
        }
    }
    plan::set(&mut migration, RUNNING, true, (RUNS, &plan::running(Some(progress), None)), now);
    plan::set(
        &mut migration,
        SUCCEEDED,
        true,
        ("StorageVersionMigrationSucceeded", "Migration completed"),
        now,
    );
    shell.write(&migration).await
}

/// Objects to be written, and how many there are in all; the inner error ends the migration.
type Listed = Result<(Vec<Candidate>, usize), String>;

async fn list(shell: &Shell, served: &ApiResource, checkpoint: &str) -> Result<Listed, String> {
    let api = shell.client.metadata(&served.gvr, "");
    let mut params = ListParams { limit: PAGE, ..ListParams::default() };
    let (mut candidates, mut total) = (Vec::new(), 0);
    loop {
        let page = api.list(&params).await.map_err(|e| e.to_string())?;
        total += page.items.len();
        for object in &page.items {
            match candidate(object, checkpoint) {
                Ok(found) => candidates.extend(found),
                Err(why) => return Ok(Err(why)),
            }
        }
        match page.metadata.continue_.filter(|c| !c.is_empty()) {
            Some(token) => params.continue_token = token,
            None => return Ok(Ok((candidates, total))),
        }
    }
}

/// A merge patch that changes nothing, but only if nobody else wrote the object.
async fn write(shell: &Shell, served: &ApiResource, candidate: &Candidate) -> Outcome {
    let patch = Patch::Merge(json!({
        "apiVersion": served.gvr.group_version(), "kind": served.kind,
        "metadata": {"resourceVersion": candidate.resource_version},
    }));
    let params = PatchParams { field_manager: MANAGER.to_owned(), ..PatchParams::default() };
    let api = shell.client.metadata(&served.gvr, &candidate.namespace);
    let result = api.patch(&candidate.name, &patch, &params).await;
    outcome(result.as_ref().map(|_| ()))
}
