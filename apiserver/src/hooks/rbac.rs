//! The default roles and bindings: created when missing, completed when something of theirs was removed, left alone
//! when annotated `rbac.authorization.kubernetes.io/autoupdate: "false"`.
//!
//! The policy is data, recorded from upstream's code by `e2e/oracle/bootstrap` (`make oracle-bootstrap`). It is what the
//! server's feature gates leave of it.
//! Upstream: `pkg/registry/rbac/rest/storage_rbac.go`, `pkg/registry/rbac/reconciliation`,
//! `plugin/pkg/auth/authorizer/rbac/bootstrappolicy`.

use auth::rbac::Rbac;
use auth::rbac::state::State;
use component::features::{Gate, Gates};
use registry::errors::ApiError;
use serde_json::{Value, json};

use crate::local::{Gvr, Local};

/// All objects, cluster roles first.
pub(crate) fn policy(gates: &Gates) -> Vec<Value> {
    const DATA: &str = include_str!("../../data/rbac-bootstrap.jsonl");
    // The file is part of the program; a test reads every line.
    let recorded = DATA.lines().filter_map(|line| serde_json::from_str(line).ok());
    recorded.filter_map(|object| gated(object, gates)).collect()
}

/// A recorded value without what its `when` asks more gates for than are on; a text with conditions is a `value` beside
/// them.
fn gated(value: Value, gates: &Gates) -> Option<Value> {
    match value {
        Value::Object(mut map) => {
            if let Some(when) = map.remove("when") {
                let on =
                    |name: &Value| name.as_str().and_then(Gate::from_name).is_some_and(|g| gates.enabled(g));
                if !when.as_array().is_some_and(|names| names.iter().all(on)) {
                    return None;
                }
                if let Some(value) = map.remove("value") {
                    return Some(value);
                }
            }
            let left = map.into_iter().filter_map(|(field, value)| Some((field, gated(value, gates)?)));
            Some(Value::Object(left.collect()))
        }
        Value::Array(list) => Some(list.into_iter().filter_map(|item| gated(item, gates)).collect()),
        value => Some(value),
    }
}

/// Writes the policy, then waits until the authorizer decides by it: a server that is ready refuses no component.
pub(super) async fn establish(local: Local, gates: &Gates, authorizer: Rbac) -> Result<(), ApiError> {
    let policy = policy(gates);
    reconcile(local, &policy).await?;
    authorizer.until(|state| policy.iter().all(|object| is_known(state, object))).await;
    Ok(())
}

fn is_known(state: &State, object: &Value) -> bool {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    match object["kind"].as_str() {
        Some("ClusterRole" | "Role") => state.has_role(text("namespace"), text("name")),
        _ => state.has_binding(text("namespace"), text("name")),
    }
}

async fn reconcile(local: Local, policy: &[Value]) -> Result<(), ApiError> {
    for wanted in policy {
        let gvr = match wanted["kind"].as_str().unwrap_or_default() {
            "ClusterRole" => Gvr::CLUSTER_ROLES,
            "ClusterRoleBinding" => Gvr::CLUSTER_ROLE_BINDINGS,
            "Role" => Gvr::ROLES,
            _ => Gvr::ROLE_BINDINGS,
        };
        let text = |field: &str| wanted["metadata"][field].as_str().unwrap_or_default().to_owned();
        let (namespace, name) = (text("namespace"), text("name"));
        let Some(found) = local.get(gvr, &namespace, &name).await? else {
            local.ensure(gvr, &namespace, wanted).await?;
            continue;
        };
        let found: Value = machinery::value::from_value(&found).map_err(ApiError::internal)?;
        match plan(&found, wanted) {
            Plan::Nothing => {}
            Plan::Update(object) => local.update(gvr, &namespace, &object).await?,
            Plan::Recreate => {
                local.delete(gvr, &namespace, &name).await?;
                local.create(gvr, &namespace, wanted).await?;
            }
        }
    }
    Ok(())
}

#[derive(Debug, PartialEq)]
enum Plan {
    Nothing,
    Update(Value),
    /// A binding's role cannot be changed in place.
    Recreate,
}

/// What brings an existing object up to the policy. Additions by others stay.
fn plan(found: &Value, wanted: &Value) -> Plan {
    if found["metadata"]["annotations"]["rbac.authorization.kubernetes.io/autoupdate"] == "false" {
        return Plan::Nothing;
    }
    if wanted.get("roleRef").is_some_and(|role| *role != found["roleRef"]) {
        return Plan::Recreate;
    }
    let mut object = found.clone();
    for field in ["labels", "annotations"] {
        for (key, value) in wanted["metadata"][field].as_object().into_iter().flatten() {
            object["metadata"][field][key] = value.clone();
        }
    }
    let aggregated = wanted.get("aggregationRule").is_some_and(|rule| !rule.is_null());
    if aggregated {
        object["aggregationRule"] = wanted["aggregationRule"].clone();
    }
    for field in ["rules", "subjects"] {
        // The rules of an aggregated role are its controller's business.
        let Some(list) = wanted[field].as_array().filter(|_| !(aggregated && field == "rules")) else {
            continue;
        };
        let mut present = object[field].as_array().cloned().unwrap_or_default();
        let missing: Vec<Value> = list.iter().filter(|item| !present.contains(item)).cloned().collect();
        if !missing.is_empty() {
            present.extend(missing);
            object[field] = json!(present);
        }
    }
    if object == *found { Plan::Nothing } else { Plan::Update(object) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn policy_is_upstreams_with_every_gate() {
        let cases = include_str!("testdata/rbac-gates.jsonl").lines();
        let cases: Vec<Value> = cases.map(|line| serde_json::from_str(line).unwrap()).collect();
        let key = |o: &Value| {
            let text = |field: &str| o["metadata"][field].as_str().unwrap_or_default();
            format!("{} {}/{}", o["kind"].as_str().unwrap(), text("namespace"), text("name"))
        };
        let keyed = |list: &[Value]| list.iter().map(|o| (key(o), o.clone())).collect::<BTreeMap<_, _>>();
        let usual = cases[0]["changed"].as_array().unwrap();
        assert_eq!(&policy(&Gates::default()), usual);
        for case in &cases {
            let set: Vec<String> = serde_json::from_value(case["set"].clone()).unwrap();
            let mut gates = Gates::default();
            gates.set(&set).unwrap();
            let mut wanted = keyed(usual);
            wanted.retain(|key, _| !case["gone"].as_array().unwrap().iter().any(|gone| gone == key));
            wanted.extend(keyed(case["changed"].as_array().unwrap()));
            assert_eq!(keyed(&policy(&gates)), wanted, "{set:?}");
        }
        assert!(usual.len() > 130 && cases.len() > 150);
    }

    #[test]
    fn plans() {
        let role = |rules: &[&str], note: &str| {
            json!({"metadata": {"name": "r", "annotations": {
                "rbac.authorization.kubernetes.io/autoupdate": note}}, "rules": rules})
        };
        assert_eq!(plan(&role(&["a"], "true"), &role(&["a"], "true")), Plan::Nothing);
        assert_eq!(plan(&role(&["x"], "false"), &role(&["a"], "true")), Plan::Nothing);
        assert_eq!(
            plan(&role(&["x"], "true"), &role(&["a"], "true")),
            Plan::Update(role(&["x", "a"], "true"))
        );
        let binding = |role: &str| json!({"metadata": {"name": "b"}, "roleRef": role, "subjects": ["s"]});
        assert_eq!(plan(&binding("x"), &binding("y")), Plan::Recreate);
    }
}
