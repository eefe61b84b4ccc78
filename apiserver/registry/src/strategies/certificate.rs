//! Certificate signing requests: the requester's identity is the server's word; approval and status are apart.
//! Upstream: `pkg/registry/certificates/certificates/strategy.go`.

use ::api::validation::field::{Error as FieldError, Path};
use machinery::{List, Map, Value};

use crate::meta;
use crate::strategy::{Call, Strategy, keep, validate_kube_metadata};

/// The strategy.
pub struct SigningRequests;

impl Strategy for SigningRequests {
    fn name_rule(&self) -> ::api::validation::objectmeta::NameRule {
        ::api::validation::objectmeta::name_is_path_segment
    }

    fn prepare_for_create(&self, call: &Call<'_>, csr: &mut Value) {
        let user = &call.request.user;
        let mut spec: Map = csr.map_at(&["spec"]).cloned().unwrap_or_default();
        for field in ["username", "uid", "groups", "extra"] {
            spec.remove(field);
        }
        for (field, text) in [("username", &user.name), ("uid", &user.uid)] {
            if !text.is_empty() {
                spec.insert(field, text);
            }
        }
        if !user.groups.is_empty() {
            spec.insert("groups", user.groups.clone());
        }
        if !user.extra.is_empty() {
            let extra: Map = user.extra.iter().map(|(k, v)| (k.as_str(), Value::from(v.clone()))).collect();
            spec.insert("extra", extra);
        }
        if let Value::Map(map) = csr {
            map.insert("spec", spec);
            map.remove("status");
        }
    }

    fn validate(&self, call: &Call<'_>, csr: &Value) -> Vec<FieldError> {
        let mut errors = validate_kube_metadata(call, csr, self.name_rule());
        let spec = Path::new("spec");
        let signer = csr.str_at(&["spec", "signerName"]).unwrap_or("");
        if signer.is_empty() {
            errors.push(FieldError::required(&spec.child("signerName"), ""));
        } else if !signer.contains('/') {
            let detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
            errors.push(FieldError::invalid(&spec.child("signerName"), signer, detail));
        }
        if csr.list_at(&["spec", "usages"]).is_none_or(|l| l.is_empty()) {
            errors.push(FieldError::required(&spec.child("usages"), "usages must be provided"));
        }
        errors
    }

    fn prepare_for_update(&self, call: &Call<'_>, csr: &mut Value, old: &Value) {
        keep(csr, old, "spec");
        match call.subresource {
            "status" => {
                keep_decisions(csr, old);
                stamp_conditions(call, csr, old);
            }
            "approval" => {
                stamp_conditions(call, csr, old);
                let conditions = csr.get_path(&["status", "conditions"]).cloned();
                keep(csr, old, "status");
                match conditions {
                    Some(conditions) => {
                        // Status is an object or absent.
                        let _ = csr.set_path(&["status", "conditions"], conditions);
                    }
                    None => {
                        csr.remove_path(&["status", "conditions"]);
                    }
                }
            }
            _ => keep(csr, old, "status"),
        }
    }

    fn validate_update(&self, call: &Call<'_>, csr: &Value, old: &Value) -> Vec<FieldError> {
        if call.subresource == "approval" { decisions_stay(csr, old) } else { Vec::new() }
    }
}

fn conditions(csr: &Value) -> List {
    csr.list_at(&["status", "conditions"]).cloned().unwrap_or_default()
}

fn is(condition: &Value, kind: &str) -> bool {
    condition.str_at(&["type"]) == Some(kind)
}

/// Status writers can neither approve nor deny.
fn keep_decisions(csr: &mut Value, old: &Value) {
    let decided = |c: &&Value| is(c, "Approved") || is(c, "Denied");
    let mut all: Vec<Value> = conditions(old).iter().filter(decided).cloned().collect();
    all.extend(conditions(csr).iter().filter(|c| !decided(c)).cloned());
    if !all.is_empty() {
        let _ = csr.set_path(&["status", "conditions"], List::from(all));
    }
}

/// Times that a writer left out: now, or the old transition time while the status stays.
fn stamp_conditions(call: &Call<'_>, csr: &mut Value, old: &Value) {
    let now = meta::rfc3339(call.now);
    let before = conditions(old);
    let Some(Value::List(list)) = csr.get_path_mut(&["status", "conditions"]) else { return };
    for condition in list.iter_mut() {
        let same = before.iter().find(|c| {
            c.str_at(&["type"]) == condition.str_at(&["type"])
                && c.str_at(&["status"]) == condition.str_at(&["status"])
        });
        let since = same.and_then(|c| c.get("lastTransitionTime")).cloned();
        if let Value::Map(map) = condition {
            if map.get("lastUpdateTime").is_none_or(Value::is_null) {
                map.insert("lastUpdateTime", now.as_str());
            }
            if map.get("lastTransitionTime").is_none_or(Value::is_null) {
                map.insert("lastTransitionTime", since.unwrap_or_else(|| now.as_str().into()));
            }
        }
    }
}

/// Approval and denial are final.
fn decisions_stay(csr: &Value, old: &Value) -> Vec<FieldError> {
    let status = Path::new("status");
    let at = status.child("conditions");
    let (new, before) = (conditions(csr), conditions(old));
    let mut errors = Vec::new();
    for kind in ["Approved", "Denied"] {
        let count = |list: &List| list.iter().filter(|c| is(c, kind)).count();
        if count(&before) > 0 && count(&new) != count(&before) {
            let detail = format!("updates may not remove a condition of type {kind:?}");
            errors.push(FieldError::forbidden(&at, detail));
        }
    }
    let has = |kind: &str| new.iter().any(|c| is(c, kind));
    if has("Approved") && has("Denied") {
        errors.push(FieldError::invalid(
            &at,
            "Denied",
            "Approved and Denied conditions are mutually exclusive",
        ));
    }
    errors
}
