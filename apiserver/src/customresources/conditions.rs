//! What the controllers write to a definition's status, decided in one step.

use apiextensions::conditions;
use apiextensions::names::{self, Used};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use machinery::Value;

/// A definition with the status it should have.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) definition: Value,
    /// Others of the group may have to look at their names again.
    pub(super) names_changed: bool,
}

/// Decides; `None` when the status is as it should be. `group` are all definitions of the group, this one too.
///
/// `bad_bundle` says that the conversion webhook's CA bundle is no use. Establishing waits for the next look: by then the accepted names are served.
pub(super) fn plan(
    definition: &Value,
    group: &[std::sync::Arc<Value>],
    now: &str,
    bad_bundle: bool,
) -> Option<Plan> {
    let mut out = definition.clone();
    let mut used = Used::default();
    group.iter().for_each(|other| used.add(other));
    let names = names::plan(definition, &used);
    let mut changed = false;
    let names_changed = names.is_some();
    if let Some(plan) = names {
        // A status that is no object does not pass decoding.
        let _ = out.set_path(&["status", "acceptedNames"], plan.accepted);
        conditions::set(&mut out, &plan.names, now);
        if let Some(established) = plan.established {
            conditions::set(&mut out, &established, now);
        }
        changed = true;
    } else if let Some(established) = conditions::established(definition, bad_bundle) {
        conditions::set(&mut out, &established, now);
        changed = true;
    }
    changed |= schema_condition(definition, &mut out, now);
    if let Some(approved) = conditions::approved(definition).filter(|c| !c.holds(definition)) {
        conditions::set(&mut out, &approved, now);
        changed = true;
    }
    changed.then_some(Plan { definition: out, names_changed })
}

fn schema_condition(definition: &Value, out: &mut Value, now: &str) -> bool {
    let typed = machinery::value::from_value::<CustomResourceDefinition>(definition);
    let wanted = typed.ok().and_then(|typed| conditions::non_structural(&typed));
    match wanted {
        Some(condition) if !condition.holds(definition) => {
            conditions::set(out, &condition, now);
            true
        }
        None if conditions::find(definition, "NonStructuralSchema").is_some() => {
            conditions::remove(out, "NonStructuralSchema");
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::sync::Arc;

    const NOW: &str = "2030-01-01T00:00:00Z";

    fn shown(definition: &Value) -> Vec<String> {
        let all = definition.list_at(&["status", "conditions"]).cloned().unwrap_or_default();
        let text = |c: &Value, f: &str| c.str_at(&[f]).unwrap_or_default().to_owned();
        all.iter()
            .map(|c| format!("{}={} {}", text(c, "type"), text(c, "status"), text(c, "reason")))
            .collect()
    }

    #[test]
    fn names_then_established_then_nothing() {
        let names = json!({"plural": "a", "singular": "a", "kind": "A", "listKind": "AList"});
        let version = json!({"name": "v1", "served": true, "storage": true,
            "schema": {"openAPIV3Schema": {"type": "object"}}});
        let fresh = Value::from(json!({
            "metadata": {"name": "a.example.com"},
            "spec": {"group": "example.com", "scope": "Cluster", "names": names, "versions": [version]},
            "status": {"acceptedNames": {"plural": "", "kind": ""}, "storedVersions": ["v1"], "conditions": []}}));
        let next = |d: &Value| plan(d, &[Arc::new(d.clone())], NOW, false);
        let named = next(&fresh).unwrap();
        assert!(named.names_changed);
        assert_eq!(
            shown(&named.definition),
            ["NamesAccepted=True NoConflicts", "Established=False Installing"]
        );
        let established = next(&named.definition).unwrap().definition;
        assert_eq!(shown(&established)[1], "Established=True InitialNamesAccepted");
        assert!(next(&established).is_none());
    }
}
