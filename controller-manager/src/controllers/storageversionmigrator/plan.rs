//! Which migration of a resource does what next. Pure.
//! Upstream: migrationrunner.go (`getSVMsForResource`), resourceversion.go and storageversionmigrator.go (`sync`).

use std::sync::Arc;

use client::Meta;
use jiff::Timestamp;
use k8s_openapi::api::storagemigration::v1::StorageVersionMigration as Migration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

pub const RUNNING: &str = "Running";
pub const SUCCEEDED: &str = "Succeeded";
pub const FAILED: &str = "Failed";

/// What is to be done for one resource, in order. Each step changes a status, which asks for the next.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// It is over: its definition is told, then it runs no more.
    Finish(Arc<Migration>),
    /// It is the next to run: its definition is told, then it runs.
    Start(Arc<Migration>),
    /// Note up to where objects are to be migrated.
    Checkpoint(Arc<Migration>),
    /// Write all objects up to there anew.
    Migrate(Arc<Migration>),
}

pub fn condition<'m>(migration: &'m Migration, kind: &str) -> Option<&'m Condition> {
    let all = migration.status.as_ref().and_then(|s| s.conditions.as_ref());
    all.into_iter().flatten().find(|c| c.type_ == kind)
}

pub fn is(migration: &Migration, kind: &str) -> bool {
    condition(migration, kind).is_some_and(|c| c.status == "True")
}

fn is_over(migration: &Migration) -> bool {
    is(migration, SUCCEEDED) || is(migration, FAILED)
}

/// Up to which version objects are migrated; empty if that is not known yet.
pub fn checkpoint(migration: &Migration) -> &str {
    migration.status.as_ref().and_then(|s| s.resource_version.as_deref()).unwrap_or("")
}

/// The steps for the migrations of one resource: one at a time, the oldest first.
pub fn steps(migrations: &[Arc<Migration>]) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut next: Option<&Arc<Migration>> = None;
    let mut runs = false;
    let age = |m: &Migration| (m.metadata.creation_timestamp.as_ref().map(|t| t.0), m.name().to_owned());
    for migration in migrations {
        match (is(migration, RUNNING), is_over(migration)) {
            (true, true) => steps.push(Step::Finish(migration.clone())),
            (true, false) if checkpoint(migration).is_empty() => {
                runs = true;
                steps.push(Step::Checkpoint(migration.clone()));
            }
            (true, false) => {
                runs = true;
                steps.push(Step::Migrate(migration.clone()));
            }
            (false, true) => {}
            (false, false) => {
                if next.is_none_or(|n| age(migration) < age(n)) {
                    next = Some(migration);
                }
            }
        }
    }
    steps.extend(next.filter(|_| !runs).map(|m| Step::Start(m.clone())));
    steps
}

/// Sets a condition; whether that changed anything. The time is that of the last change of its status
/// (`meta.SetStatusCondition`).
pub fn set(migration: &mut Migration, kind: &str, status: bool, why: (&str, &str), now: Timestamp) -> bool {
    let (reason, message) = why;
    let status = if status { "True" } else { "False" };
    let all = migration.status.get_or_insert_default().conditions.get_or_insert_default();
    let new = Condition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        last_transition_time: Time(now),
        observed_generation: None,
    };
    let Some(old) = all.iter_mut().find(|c| c.type_ == kind) else {
        all.push(new);
        return true;
    };
    let changed = old.status != new.status || old.reason != new.reason || old.message != new.message;
    let last_transition_time =
        if old.status == new.status { old.last_transition_time.clone() } else { new.last_transition_time };
    *old = Condition { last_transition_time, observed_generation: old.observed_generation, ..new };
    changed
}

/// How far a migration is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Objects still to be written.
    pub left: usize,
    pub total: usize,
}

/// `migrationRunningMessage`.
pub fn running(progress: Option<Progress>, trouble: Option<&str>) -> String {
    let mut message = "The migration is running".to_owned();
    match progress {
        Some(Progress { left, total }) if total > 0 && left > 0 => {
            message += &format!(", {left}/{total} objects not yet migrated");
        }
        Some(Progress { total, .. }) if total > 0 => {
            message += &format!(", {total} objects verified migrated")
        }
        _ => {}
    }
    if let Some(trouble) = trouble {
        message += &format!("; transient error: {trouble}");
    }
    message
}

/// A resource version as something that compares as the number it is, however long.
///
/// # Errors
/// When it is no number.
pub fn version(text: &str) -> Result<(usize, &str), String> {
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    if is_number {
        Ok((text.len(), text))
    } else {
        Err(format!("resource version is not well formed: {text}"))
    }
}
