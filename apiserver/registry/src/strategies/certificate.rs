//! Certificate signing requests: the requester's identity is the server's word; approval and status are apart.
//! Upstream: `pkg/registry/certificates/certificates/strategy.go`.

use ::api::validation::certificates::{self, Readers, Write};
use ::api::validation::field::Error as FieldError;
use machinery::{List, Map, Value, pem};

use super::{validated, validated_update, with_declared};
use crate::meta;
use crate::strategy::{Call, Strategy, keep};

/// The strategy.
pub struct SigningRequests;

impl Strategy for SigningRequests {
    fn judges_finalizers(&self, _call: &Call<'_>) -> bool {
        false
    }

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
        let errors = validated(csr, |csr| certificates::validate(csr, READERS));
        with_declared(call, errors, csr, None)
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
        let write = match call.subresource {
            "status" => Write::Status,
            "approval" => Write::Approval,
            _ => Write::Main,
        };
        let check = |new: &_, old: &_| certificates::validate_update(new, old, write, READERS);
        let errors = validated_update(csr, old, check);
        with_declared(call, errors, csr, Some(old))
    }
}

const READERS: Readers = Readers { request: request_refusal, certificate: certificate_refusal };

/// A request that is none, or that its key did not sign.
fn request_refusal(bytes: &[u8]) -> Option<String> {
    let block = pem::blocks(bytes).into_iter().next().filter(|b| b.label == "CERTIFICATE REQUEST");
    let Some(block) = block else { return Some("PEM block type must be CERTIFICATE REQUEST".into()) };
    match auth::csr::SigningRequest::from_der(&block.bytes) {
        None => Some("asn1: structure error: the certificate request cannot be read".into()),
        Some(request) if !request.proven => {
            Some("x509: the certificate request is not signed by its key".into())
        }
        Some(_) => None,
    }
}

/// Blocks of certificates, and nothing else.
fn certificate_refusal(bytes: &[u8]) -> Option<String> {
    let blocks = pem::blocks(bytes);
    for block in &blocks {
        if block.label != "CERTIFICATE" {
            let label = machinery::golang::quote(&block.label);
            return Some(format!("only CERTIFICATE PEM blocks are allowed, found {label}"));
        }
        if block.has_headers {
            return Some("no PEM block headers are permitted".into());
        }
        let mut rest = block.bytes.as_slice();
        if rest.is_empty() {
            return Some("found CERTIFICATE PEM block containing 0 certificates".into());
        }
        while !rest.is_empty() {
            match x509_parser::parse_x509_certificate(rest) {
                Ok((tail, _)) => rest = tail,
                Err(_) => return Some("x509: malformed certificate".into()),
            }
        }
    }
    blocks.is_empty().then(|| "must contain at least one CERTIFICATE PEM block".into())
}

fn conditions(csr: &Value) -> List {
    csr.list_at(&["status", "conditions"]).cloned().unwrap_or_default()
}

fn is(condition: &Value, kind: &str) -> bool {
    condition.str_at(&["type"]) == Some(kind)
}

/// Status writers can neither approve nor deny, nor change how that was said (`preserveConditionInstances`).
fn keep_decisions(csr: &mut Value, old: &Value) {
    for kind in ["Approved", "Denied"] {
        let before: Vec<Value> = conditions(old).iter().filter(|c| is(c, kind)).cloned().collect();
        let Some(Value::List(list)) = csr.get_path_mut(&["status", "conditions"]) else { return };
        if list.iter().filter(|c| is(c, kind)).count() == before.len() {
            for (condition, before) in list.iter_mut().filter(|c| is(c, kind)).zip(before) {
                *condition = before;
            }
        }
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
