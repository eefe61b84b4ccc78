//! APIServices of what this server serves: built-in group-versions once after the start, those of custom resource
//! definitions always. Upstream: `kube-aggregator/pkg/controllers/autoregister`, `controlplane/controller/crdregistration`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use machinery::Value;
use registry::errors::ApiError;
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Aggregator, priority};
use crate::endpoints::health::Hook;
use crate::local::{Change, Gvr, Local};

const LABEL: &str = "kube-aggregator.kubernetes.io/automanaged";
const ON_START: &str = "onstart";
const ALWAYS: &str = "true";

/// An APIService that should exist.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    group: String,
    version: String,
    priorities: (i64, i64),
    managed: &'static str,
}

/// What to do about one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Nothing,
    Create,
    Update,
    Delete,
}

/// What is known about one name.
#[derive(Debug, Clone, Copy, Default)]
struct Known<'a> {
    /// The managed label of the wanted object, if one is wanted.
    wanted: Option<&'a str>,
    /// The managed label of the present object, if there is one; empty when it has none.
    present: Option<&'a str>,
    /// Whether both have the same spec.
    same: bool,
    /// Whether the present object existed at the start.
    at_start: bool,
    /// Whether this name was dealt with before.
    synced: bool,
}

/// `checkAPIService`
fn decide(k: Known<'_>) -> Step {
    match (k.wanted, k.present) {
        (None, None) => Step::Nothing,
        (Some(ON_START), _) if k.synced => Step::Nothing,
        (Some(_), None) => Step::Create,
        // Somebody else's.
        (_, Some(label)) if label != ON_START && label != ALWAYS => Step::Nothing,
        (_, Some(ON_START)) if !k.at_start || k.synced => Step::Nothing,
        (None, Some(_)) => Step::Delete,
        (Some(_), Some(_)) if k.same => Step::Nothing,
        (Some(_), Some(_)) => Step::Update,
    }
}

fn custom(crd: &Value) -> Vec<(String, String)> {
    let group = crd.str_at(&["spec", "group"]).unwrap_or_default();
    let versions = crd.list_at(&["spec", "versions"]).into_iter().flat_map(|l| l.iter());
    let served = versions.filter(|v| v.bool_at(&["served"]) == Some(true));
    served.map(|v| (group.to_owned(), v.str_at(&["name"]).unwrap_or_default().to_owned())).collect()
}

/// The group-versions of custom resource definitions, by definition.
type Customs = watch::Sender<Option<BTreeMap<String, Vec<(String, String)>>>>;

fn follow_customs(change: Change, customs: &Customs) {
    let name = |o: &Value| o.str_at(&["metadata", "name"]).unwrap_or_default().to_owned();
    customs.send_modify(|all| {
        let all = all.get_or_insert_default();
        match change {
            Change::Replace(objects) => *all = objects.iter().map(|o| (name(o), custom(o))).collect(),
            Change::Set(o) => {
                all.insert(name(&o), custom(&o));
            }
            Change::Remove(o) => {
                all.remove(&name(&o));
            }
        }
    });
}

fn built_in(local: &Local) -> BTreeMap<String, Wanted> {
    let wanted = |(group, version): (String, String)| {
        let priorities = priority::of(&group, &version).filter(|_| group != priority::OWN)?;
        let name = format!("{version}.{group}");
        Some((name, Wanted { group, version, priorities, managed: ON_START }))
    };
    local.group_versions().into_iter().filter_map(wanted).collect()
}

struct Registrar {
    local: Local,
    aggregator: Arc<Aggregator>,
    built_in: BTreeMap<String, Wanted>,
    at_start: BTreeSet<String>,
    synced: BTreeSet<String>,
    complete: Option<Hook>,
}

/// Keeps the APIServices as they should be until `stop`; `complete` finishes when all built-in ones were seen available.
pub(super) async fn run(local: Local, aggregator: Arc<Aggregator>, stop: CancellationToken, complete: Hook) {
    let mut changed = aggregator.changed.subscribe();
    let customs: Arc<Customs> = Arc::new(watch::Sender::new(None));
    let mut customs_changed = customs.subscribe();
    if local.serves(Gvr::CUSTOM_RESOURCES) {
        let sink = move |change| follow_customs(change, &customs);
        let following = local.clone().follow(Gvr::CUSTOM_RESOURCES, stop.clone(), || {}, sink);
        // Ends with the server, as this does.
        tokio::spawn(following);
    } else {
        customs.send_replace(Some(BTreeMap::new()));
    }
    // Both states must be complete: what looks superfluous before may be a custom resource's.
    let ready = async {
        let services = changed.wait_for(|n| *n > 0).await.is_ok();
        services && customs_changed.wait_for(Option::is_some).await.is_ok()
    };
    tokio::select! { () = stop.cancelled() => return, _ = ready => {} }
    let mut registrar = Registrar {
        built_in: built_in(&local),
        at_start: aggregator.services.all().keys().cloned().collect(),
        synced: BTreeSet::new(),
        complete: Some(complete),
        local,
        aggregator,
    };
    let mut pause = Duration::from_millis(50);
    loop {
        let customs = customs_changed.borrow_and_update().clone().unwrap_or_default();
        changed.mark_unchanged();
        let clean = registrar.sync_all(&customs).await;
        pause = if clean { Duration::from_millis(50) } else { (pause * 2).min(Duration::from_secs(10)) };
        tokio::select! {
            () = stop.cancelled() => return,
            _ = changed.changed() => {}
            _ = customs_changed.changed() => {}
            () = tokio::time::sleep(pause), if !clean => {}
        }
    }
}

impl Registrar {
    /// Goes over all names; tells whether all went well.
    async fn sync_all(&mut self, customs: &BTreeMap<String, Vec<(String, String)>>) -> bool {
        let mut wanted = self.built_in.clone();
        for (group, version) in customs.values().flatten() {
            let entry = wanted.entry(format!("{version}.{group}"));
            entry.or_insert_with(|| Wanted {
                group: group.clone(),
                version: version.clone(),
                priorities: priority::CUSTOM,
                managed: ALWAYS,
            });
        }
        let present = self.aggregator.services.all();
        let names: BTreeSet<String> = wanted.keys().chain(present.keys()).cloned().collect();
        let mut clean = true;
        for name in names {
            match self.sync(&name, wanted.get(&name)).await {
                Ok(()) => {
                    self.synced.insert(name);
                }
                Err(error) => {
                    clean = false;
                    tracing::warn!(name, err = %error, "an APIService could not be registered, will retry");
                }
            }
        }
        self.check_complete();
        clean
    }

    fn check_complete(&mut self) {
        let present = self.aggregator.services.all();
        let is_there = |name: &String| {
            present.get(name).is_some_and(|s| super::services::is_true(&s.object, "Available"))
        };
        if self.built_in.keys().all(is_there)
            && let Some(hook) = self.complete.take()
        {
            hook.finish();
        }
    }

    async fn sync(&self, name: &str, wanted: Option<&Wanted>) -> Result<(), ApiError> {
        let present = self.aggregator.services.all().get(name).cloned();
        let label = present
            .as_ref()
            .map(|s| s.object.str_at(&["metadata", "labels", LABEL]).unwrap_or_default().to_owned());
        let spec = wanted.map(|w| {
            json!({"group": w.group, "version": w.version,
                "groupPriorityMinimum": w.priorities.0, "versionPriority": w.priorities.1})
        });
        let same = match (&spec, &present) {
            (Some(spec), Some(p)) => {
                p.object.get("spec").is_some_and(|have| have.semantic_eq(&Value::from(spec.clone())))
            }
            _ => false,
        };
        let known = Known {
            wanted: wanted.map(|w| w.managed),
            present: label.as_deref(),
            same,
            at_start: self.at_start.contains(name),
            synced: self.synced.contains(name),
        };
        let done = match (decide(known), wanted, present) {
            (Step::Create, Some(wanted), _) => {
                let object = json!({
                    "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
                    "metadata": {"name": name, "labels": {LABEL: wanted.managed}}, "spec": spec});
                self.local.create(Gvr::API_SERVICES, "", &object).await
            }
            (Step::Update, _, Some(present)) => {
                let bytes = machinery::json::encode_any(&present.object);
                let mut object: serde_json::Value =
                    serde_json::from_slice(&bytes).map_err(ApiError::internal)?;
                object["spec"] = spec.unwrap_or_default();
                self.local.update(Gvr::API_SERVICES, "", &object).await
            }
            (Step::Delete, _, Some(present)) => {
                let uid = present.object.str_at(&["metadata", "uid"]).unwrap_or_default();
                self.local.delete_exact(Gvr::API_SERVICES, name, uid).await
            }
            _ => Ok(()),
        };
        match done {
            // Somebody was faster; what they did comes back as a change.
            Err(error) if matches!(error.code, 404 | 409) => Ok(()),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps() {
        let on_start = Known { wanted: Some(ON_START), ..Known::default() };
        let always = Known { wanted: Some(ALWAYS), ..Known::default() };
        let check = |k: Known<'_>, want: Step| assert_eq!(decide(k), want, "{k:?}");
        check(Known::default(), Step::Nothing);
        check(on_start, Step::Create);
        check(Known { synced: true, ..on_start }, Step::Nothing);
        check(Known { synced: true, ..always }, Step::Create);
        check(Known { present: Some(""), ..on_start }, Step::Nothing);
        check(Known { present: Some(ON_START), at_start: true, ..on_start }, Step::Update);
        check(Known { present: Some(ON_START), at_start: true, same: true, ..on_start }, Step::Nothing);
        check(Known { present: Some(ON_START), ..on_start }, Step::Nothing);
        check(Known { present: Some(ON_START), at_start: true, ..Known::default() }, Step::Delete);
        check(Known { present: Some(ALWAYS), ..Known::default() }, Step::Delete);
        check(Known { present: Some(ALWAYS), ..always }, Step::Update);
        check(Known { present: Some("x"), ..always }, Step::Nothing);
    }
}
