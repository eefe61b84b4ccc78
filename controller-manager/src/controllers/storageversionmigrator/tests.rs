//! Which migration does what next, and what definitions are told.

use std::sync::Arc;

use client::{Meta, PartialObjectMetadata};
use jiff::Timestamp;
use k8s_openapi::api::storagemigration::v1::StorageVersionMigration as Migration;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition as Definition;
use proptest::prelude::*;
use serde_json::json;

use super::definitions::{Done, Started, Told};
use super::migrate::candidate;
use super::plan::{self, FAILED, Progress, RUNNING, SUCCEEDED, Step, running, set, steps, version};
use crate::scenario;

fn now() -> Timestamp {
    "2026-01-01T00:00:10Z".parse().expect("a time")
}

fn shown(step: &Step) -> String {
    match step {
        Step::Finish(m) => format!("finish {}", m.name()),
        Step::Start(m) => format!("start {}", m.name()),
        Step::Checkpoint(m) => format!("checkpoint {}", m.name()),
        Step::Migrate(m) => format!("migrate {} up to {}", m.name(), plan::checkpoint(m)),
    }
}

#[test]
fn scenarios() {
    scenario::check("storageversionmigrator/testdata", |given| {
        let mut out: Vec<String> = steps(&given.shared()).iter().map(shown).collect();
        if let Some(definition) = given.maybe::<Definition>() {
            let message = "Migration a is running".to_owned();
            out.push(scenario::yaml(&Started { message }.status(&definition, now())));
            for success in [true, false] {
                out.push(scenario::yaml(&Done { success }.status(&definition, now())));
            }
        }
        out.join("\n")
    });
}

#[test]
fn messages() {
    let progress = |left, total| Some(Progress { left, total });
    assert_eq!(running(None, None), "The migration is running");
    assert_eq!(running(progress(2, 5), None), "The migration is running, 2/5 objects not yet migrated");
    assert_eq!(running(progress(0, 5), None), "The migration is running, 5 objects verified migrated");
    assert_eq!(running(progress(0, 0), Some("x")), "The migration is running; transient error: x");
}

#[test]
fn only_what_is_not_newer_is_written() {
    let object = |version: &str| -> PartialObjectMetadata {
        serde_json::from_value(json!({"metadata": {"name": "a", "resourceVersion": version}}))
            .expect("an object")
    };
    let check = |version: &str| candidate(&object(version), "100").map(|c| c.is_some());
    assert_eq!(["99", "100", "101", "1000"].map(check), [Ok(true), Ok(true), Ok(false), Ok(false)]);
    assert_eq!(check("0"), Err("resource version is not well formed: 0".to_owned()));
    assert!(version("99999999999999999999999999999999999999999999") > version("100"));
    assert!(version("").is_err() && version("1a").is_err());
}

fn migration(name: &str, conditions: &[&str], checkpoint: &str) -> Migration {
    let at = now().to_string();
    let conditions: Vec<_> = conditions
        .iter()
        .map(|c| json!({"type": c, "status": "True", "reason": "R", "message": "", "lastTransitionTime": at}))
        .collect();
    serde_json::from_value(json!({
        "metadata": {"name": name, "creationTimestamp": at}, "spec": {"resource": {"group": "", "resource": "pods"}},
        "status": {"conditions": conditions, "resourceVersion": checkpoint},
    }))
    .expect("a migration")
}

/// The migration after a step, as the shell leaves it when everything works.
fn after(step: &Step) -> Migration {
    let (Step::Finish(m) | Step::Start(m) | Step::Checkpoint(m) | Step::Migrate(m)) = step;
    let mut m = (**m).clone();
    let (kind, status) = match step {
        Step::Finish(_) => (RUNNING, false),
        Step::Start(_) => (RUNNING, true),
        Step::Migrate(_) => (SUCCEEDED, true),
        Step::Checkpoint(_) => {
            m.status.get_or_insert_default().resource_version = Some("7".into());
            return m;
        }
    };
    set(&mut m, kind, status, ("R", ""), now());
    m
}

proptest! {
    /// One after the other all succeed, and never do two run at once.
    #[test]
    fn plan_then_apply_settles(states in prop::collection::vec(0usize..5, 1..6)) {
        let of = |(i, state): (usize, &usize)| {
            let conditions: &[&str] = [&[][..], &[], &[SUCCEEDED], &[FAILED], &[RUNNING, FAILED]][*state];
            Arc::new(migration(&format!("m{i}"), conditions, ""))
        };
        let mut all: Vec<Arc<Migration>> = states.iter().enumerate().map(of).collect();
        for _ in 0..4 * all.len() + 2 {
            let todo = steps(&all);
            if todo.is_empty() {
                prop_assert!(all.iter().all(|m| plan::is(m, SUCCEEDED) || plan::is(m, FAILED)));
                prop_assert!(all.iter().all(|m| !plan::is(m, RUNNING)));
                return Ok(());
            }
            for step in &todo {
                let new = Arc::new(after(step));
                all.iter_mut().filter(|m| m.name() == new.name()).for_each(|m| *m = new.clone());
            }
            let active = |m: &&Arc<Migration>| plan::is(m, RUNNING) && !plan::is(m, SUCCEEDED) && !plan::is(m, FAILED);
            prop_assert!(all.iter().filter(active).count() < 2);
        }
        prop_assert!(false, "it never settles");
    }

    /// What is over needs nothing, and a condition that says the same changes nothing.
    #[test]
    fn a_satisfied_view_needs_nothing(over in prop::collection::vec(any::<bool>(), 0..6)) {
        let of = |(i, ok): (usize, &bool)| {
            Arc::new(migration(&format!("m{i}"), &[if *ok { SUCCEEDED } else { FAILED }], "7"))
        };
        let all: Vec<Arc<Migration>> = over.iter().enumerate().map(of).collect();
        prop_assert_eq!(steps(&all), vec![]);
        if let Some(one) = all.first() {
            let mut one = (**one).clone();
            let kind = if over[0] { SUCCEEDED } else { FAILED };
            prop_assert!(!set(&mut one, kind, true, ("R", ""), Timestamp::UNIX_EPOCH));
            prop_assert_eq!(&one, &*all[0]);
        }
    }
}
