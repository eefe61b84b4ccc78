//! Which legacy tokens go.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use proptest::prelude::*;
use serde_json::json;

use super::{Action, View, plan, uses};
use crate::kept::Pod;
use crate::scenario;

const DAYS: i64 = 24;

fn decide(
    secrets: &[Arc<Secret>],
    accounts: &[Arc<ServiceAccount>],
    pods: &[Pod],
    since: &str,
    now: &str,
) -> Vec<Action> {
    let find = |namespace: &str, name: &str| {
        let fits = |a: &&Arc<ServiceAccount>| {
            a.metadata.namespace.as_deref() == Some(namespace) && a.metadata.name.as_deref() == Some(name)
        };
        accounts.iter().find(fits).cloned()
    };
    let mut used: BTreeMap<String, _> = BTreeMap::new();
    for pod in pods {
        used.insert(pod.namespace().to_string(), uses::of(pod));
    }
    let view = View {
        secrets,
        accounts: &find,
        used: &used,
        tracked_since: since.parse().expect("a date"),
        clean_up_period: SignedDuration::from_hours(30 * DAYS),
    };
    plan(&view, now.parse::<Timestamp>().expect("a time"))
}

#[test]
fn scenarios() {
    scenario::check("legacy_serviceaccount_token_cleaner/testdata", |given| {
        let since: String = given.setting("trackedSince").unwrap_or_else(|| "2025-01-01".to_string());
        let actions =
            decide(&given.shared(), &given.shared(), &given.all::<Pod>(), &since, "2026-06-30T12:00:00Z");
        match actions.as_slice() {
            [] => "everything stays".to_string(),
            actions => actions.iter().map(|a| format!("{a:?}\n")).collect(),
        }
    });
}

fn token(created: i64, used: Option<String>, invalid: Option<String>) -> Arc<Secret> {
    let mut labels = serde_json::Map::new();
    labels.extend(used.map(|d| ("kubernetes.io/legacy-token-last-used".to_string(), json!(d))));
    labels.extend(invalid.map(|d| ("kubernetes.io/legacy-token-invalid-since".to_string(), json!(d))));
    let created = Timestamp::from_second(created * 86400).expect("a time");
    let secret = json!({
        "metadata": {"name": "t", "namespace": "n", "labels": labels, "creationTimestamp": created,
                     "annotations": {"kubernetes.io/service-account.name": "a"}},
        "type": "kubernetes.io/service-account-token",
    });
    Arc::new(serde_json::from_value(secret).expect("a secret"))
}

fn account() -> Arc<ServiceAccount> {
    let account = json!({"metadata": {"name": "a", "namespace": "n"}, "secrets": [{"name": "t"}]});
    Arc::new(serde_json::from_value(account).expect("an account"))
}

fn date(day: i64) -> String {
    let time = Timestamp::from_second(day * 86400).expect("a time");
    time.to_zoned(jiff::tz::TimeZone::UTC).date().to_string()
}

proptest! {
    /// A token goes at least twice the period after its last use: first it is marked, which is not done again, and after
    /// the period deleted. Then there is nothing left to do.
    #[test]
    fn plan_then_apply_settles(used in proptest::option::of(100i64..200), start in 100i64..300) {
        let (mut secret, mut marked) = (token(0, used.map(date), None), None);
        for day in start..start + 400 {
            let now = format!("{}T12:00:00Z", date(day));
            match decide(&[secret.clone()], &[account()], &[], "1970-01-02", &now).as_slice() {
                [] => {}
                [Action::Invalidate { since, .. }] => {
                    prop_assert_eq!(marked, None, "marked twice");
                    prop_assert!(used.is_none_or(|u| day - u > 30));
                    marked = Some(day);
                    secret = token(0, used.map(date), Some(since.to_string()));
                }
                [Action::Delete { .. }] => {
                    prop_assert!(marked.is_some_and(|m| day - m == 31), "{marked:?} {day}");
                    return Ok(());
                }
                other => prop_assert!(false, "{other:?}"),
            }
        }
        prop_assert!(false, "it was never deleted");
    }

    /// What was used within the period, or is not old enough, needs nothing.
    #[test]
    fn a_satisfied_view_needs_nothing(created in 0i64..300, used in 0i64..300) {
        let now = format!("{}T12:00:00Z", date(300));
        let actions = decide(&[token(created, Some(date(used)), None)], &[account()], &[], "1970-01-02", &now);
        prop_assert_eq!(actions.is_empty(), created > 270 || used >= 270);
    }
}
