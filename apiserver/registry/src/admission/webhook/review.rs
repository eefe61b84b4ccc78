//! AdmissionReview: the question, and what is accepted as an answer.
//! Upstream: `plugin/webhook/request/admissionreview.go`, `plugin/webhook/errors/statuserror.go`.

use std::collections::BTreeMap;

use ::api::resources::RowKind;
use base64::Engine as _;
use bytes::Bytes;
use machinery::json::write_str;
use serde::Deserialize;
use serde_json::json;

use super::super::{Attributes, Operation};
use super::hook::Invocation;
use super::rules::operation_text;
use super::versioned::View;
use crate::api::{DeleteOptions, FieldValidation, RequestContext};
use crate::core::Resource;
use crate::errors::{ApiError, Cause, Details};

const GROUP: &str = "admission.k8s.io";
/// The only patch type there is.
pub const JSON_PATCH: &str = "JSONPatch";

/// The versions of AdmissionReview.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    V1,
    V1Beta1,
}

impl Version {
    /// The first that both sides know.
    pub fn chosen(by_webhook: &[String]) -> Option<Version> {
        by_webhook.iter().find_map(|v| match v.as_str() {
            "v1" => Some(Version::V1),
            "v1beta1" => Some(Version::V1Beta1),
            _ => None,
        })
    }

    fn api_version(self) -> String {
        format!("{GROUP}/{}", if self == Version::V1 { "v1" } else { "v1beta1" })
    }
}

/// Writes members of a JSON object.
struct Writer(Vec<u8>);

impl Writer {
    fn raw(&mut self, name: &str, value: &[u8]) {
        if !matches!(self.0.last(), Some(b'{')) {
            self.0.push(b',');
        }
        write_str(name, &mut self.0);
        self.0.push(b':');
        self.0.extend_from_slice(value);
    }

    fn value(&mut self, name: &str, value: &serde_json::Value) {
        self.raw(name, value.to_string().as_bytes());
    }

    /// Left out when empty.
    fn text(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.value(name, &value.into());
        }
    }
}

fn gvk(kind: RowKind) -> serde_json::Value {
    json!({"group": kind.group, "version": kind.version, "kind": kind.kind})
}

fn gvr(row: &::api::resources::ResourceRow) -> serde_json::Value {
    json!({"group": row.kind.group, "version": row.kind.version, "resource": row.resource})
}

/// The review of a request, as JSON.
pub fn question(
    a: &Attributes<'_>,
    view: &View<'_>,
    invocation: &Invocation<'_>,
    version: Version,
    uid: &str,
) -> Result<Bytes, ApiError> {
    let request = a.call.request;
    let encoded = |object: &Option<machinery::Value>| match object {
        Some(object) => view.encode(object),
        None => Ok(Bytes::from_static(b"null")),
    };
    let mut w = Writer(b"{".to_vec());
    w.text("uid", uid);
    w.value("kind", &gvk(view.kind));
    w.value("resource", &gvr(invocation.resource.row));
    w.text("subResource", a.subresource());
    w.value("requestKind", &gvk(view.request_kind));
    w.value("requestResource", &gvr(a.call.resource.row));
    w.text("requestSubResource", a.subresource());
    // Deletes of a collection are admitted under no name.
    let name = if request.info.verb == "deletecollection" { "" } else { &a.name };
    w.text("name", name);
    w.text("namespace", &a.namespace);
    w.text("operation", operation_text(a.operation));
    w.value("userInfo", &user(request));
    w.raw("object", &encoded(&a.object)?);
    w.raw("oldObject", &encoded(&a.old)?);
    w.value("dryRun", &request.dry_run.into());
    w.value("options", &options(a));
    w.0.push(b'}');
    let mut out = Writer(b"{".to_vec());
    out.text("kind", "AdmissionReview");
    out.text("apiVersion", &version.api_version());
    out.raw("request", &w.0);
    out.0.push(b'}');
    Ok(out.0.into())
}

/// The request as expressions see it: the review's, without uid and objects.
pub fn request(a: &Attributes<'_>, view: &View<'_>, resource: &Resource) -> serde_json::Value {
    let request = a.call.request;
    let mut out = json!({
        "kind": gvk(view.kind), "resource": gvr(resource.row),
        "requestKind": gvk(view.request_kind), "requestResource": gvr(a.call.resource.row),
        "operation": operation_text(a.operation), "userInfo": user(request),
        "dryRun": request.dry_run, "options": options(a),
    });
    let name = if request.info.verb == "deletecollection" { "" } else { &a.name };
    for (field, text) in [
        ("subResource", a.subresource()),
        ("requestSubResource", a.subresource()),
        ("name", name),
        ("namespace", &a.namespace),
    ] {
        if !text.is_empty() {
            out[field] = text.into();
        }
    }
    out
}

fn user(request: &RequestContext) -> serde_json::Value {
    let user = &request.user;
    let mut out = json!({"username": user.name});
    if !user.uid.is_empty() {
        out["uid"] = user.uid.clone().into();
    }
    if !user.groups.is_empty() {
        out["groups"] = user.groups.clone().into();
    }
    if !user.extra.is_empty() {
        out["extra"] = json!(user.extra);
    }
    out
}

/// The options of the operation, as they were sent.
fn options(a: &Attributes<'_>) -> serde_json::Value {
    let kind = match a.operation {
        Operation::Create => "CreateOptions",
        Operation::Update => "UpdateOptions",
        Operation::Delete => "DeleteOptions",
        Operation::Connect => return serde_json::Value::Null,
    };
    let request = a.call.request;
    let mut out = json!({"kind": kind, "apiVersion": "meta.k8s.io/v1"});
    if request.dry_run {
        out["dryRun"] = json!(["All"]);
    }
    if let Some(options) = &a.delete_options {
        delete_options(options, &mut out);
        return out;
    }
    // A manager that is the name of the client's program is what the server supplied itself.
    let derived = request.user_agent.split('/').next().unwrap_or_default();
    if !request.field_manager.is_empty() && request.field_manager != derived {
        out["fieldManager"] = request.field_manager.clone().into();
    }
    match request.field_validation {
        FieldValidation::Strict => out["fieldValidation"] = "Strict".into(),
        FieldValidation::Ignore => out["fieldValidation"] = "Ignore".into(),
        // The default, which clients leave out.
        FieldValidation::Warn => {}
    }
    out
}

fn delete_options(options: &DeleteOptions, out: &mut serde_json::Value) {
    if let Some(seconds) = options.grace_period_seconds {
        out["gracePeriodSeconds"] = seconds.into();
    }
    let mut preconditions = serde_json::Map::new();
    for (field, value) in [("uid", &options.uid), ("resourceVersion", &options.resource_version)] {
        if let Some(value) = value {
            preconditions.insert(field.into(), value.clone().into());
        }
    }
    if !preconditions.is_empty() {
        out["preconditions"] = preconditions.into();
    }
    if let Some(orphan) = options.orphan_dependents {
        out["orphanDependents"] = orphan.into();
    }
    if let Some(policy) = &options.propagation_policy {
        out["propagationPolicy"] = policy.clone().into();
    }
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Review {
    api_version: String,
    kind: String,
    response: Option<Response>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Response {
    uid: String,
    allowed: bool,
    status: Option<StatusIn>,
    patch: Option<String>,
    patch_type: Option<String>,
    audit_annotations: Option<BTreeMap<String, String>>,
    warnings: Option<Vec<String>>,
}

/// The refusal as the webhook words it.
#[derive(Deserialize, Default, Debug)]
#[serde(default, rename_all = "camelCase")]
pub struct StatusIn {
    message: String,
    reason: String,
    code: i64,
    details: Option<DetailsIn>,
}

#[derive(Deserialize, Default, Debug)]
#[serde(default, rename_all = "camelCase")]
struct DetailsIn {
    name: String,
    group: String,
    kind: String,
    uid: String,
    causes: Option<Vec<CauseIn>>,
    retry_after_seconds: i32,
}

#[derive(Deserialize, Default, Debug)]
#[serde(default)]
struct CauseIn {
    reason: String,
    message: String,
    field: String,
}

/// What a webhook says.
pub struct Answer {
    pub verdict: Verdict,
    pub warnings: Vec<String>,
    pub audit_annotations: BTreeMap<String, String>,
}

/// Its decision.
pub enum Verdict {
    /// As it is.
    Allowed,
    /// With this patch, of this type.
    Patched(Bytes, String),
    /// Not.
    Refused(Option<StatusIn>),
}

/// Why there is no decision to be had from an answer: at which step, and why.
#[derive(Debug, PartialEq, Eq)]
pub enum Unusable {
    /// The body is no review.
    Body(String),
    /// The review is not an answer to the question.
    Review(String),
}

/// Reads an answer.
pub fn answer(body: &[u8], version: Version, uid: &str, mutating: bool) -> Result<Answer, Unusable> {
    // What is no JSON object at all is refused as upstream's decoder words it.
    machinery::json::type_meta(body).map_err(|e| Unusable::Body(e.to_string()))?;
    let review: Review = serde_json::from_slice(body).map_err(|e| Unusable::Body(e.to_string()))?;
    verified(review, version, uid, mutating).map_err(Unusable::Review)
}

fn verified(review: Review, version: Version, uid: &str, mutating: bool) -> Result<Answer, String> {
    let (api_version, kind) = (review.api_version, review.kind);
    let response = review.response.ok_or("webhook response was absent")?;
    let patch = match &response.patch {
        Some(text) => base64::engine::general_purpose::STANDARD
            .decode(text)
            .map_err(|e| format!("webhook returned response.patch that is not base64: {e}"))?,
        None => Vec::new(),
    };
    if version == Version::V1 {
        if response.uid != uid {
            return Err(format!("expected response.uid={uid:?}, got {:?}", response.uid));
        }
        if api_version != version.api_version() || kind != "AdmissionReview" {
            let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
            return Err(format!(
                "expected webhook response of {GROUP}/v1, Kind=AdmissionReview, got {group}/{version}, Kind={kind}"
            ));
        }
        check_patch(&patch, response.patch_type.as_deref(), mutating)?;
    }
    let verdict = match response.allowed {
        false => Verdict::Refused(response.status),
        true if patch.is_empty() || !mutating => Verdict::Allowed,
        // The older version did not look at the type.
        true if version == Version::V1Beta1 => Verdict::Patched(patch.into(), JSON_PATCH.to_owned()),
        true => Verdict::Patched(patch.into(), response.patch_type.unwrap_or_default()),
    };
    Ok(Answer {
        verdict,
        warnings: response.warnings.unwrap_or_default(),
        audit_annotations: response.audit_annotations.unwrap_or_default(),
    })
}

fn check_patch(patch: &[u8], kind: Option<&str>, mutating: bool) -> Result<(), String> {
    let why = match (mutating, patch.is_empty(), kind) {
        (true, false, None) => "webhook returned response.patch but not response.patchType",
        (true, true, Some(_)) => "webhook returned response.patchType but not response.patch",
        (true, _, Some("")) => "webhook returned invalid response.patchType of \"\"",
        (false, false, _) => "validating webhook may not return response.patch",
        (false, _, Some(_)) => "validating webhook may not return response.patchType",
        _ => return Ok(()),
    };
    Err(why.to_owned())
}

/// The status of a request that a webhook refused (`ToStatusErr`).
pub fn refusal(webhook: &str, status: Option<StatusIn>) -> ApiError {
    let denied = format!("admission webhook {webhook:?} denied the request");
    let status = status.unwrap_or_default();
    let message = match (status.message.as_str(), status.reason.as_str()) {
        ("", "") => format!("{denied} without explanation"),
        ("", why) | (why, _) => format!("{denied}: {why}"),
    };
    // Three digits is what HTTP can say.
    let code = u16::try_from(status.code.clamp(400, 999)).unwrap_or(400);
    let details = status.details.map(|d| {
        let causes = d.causes.unwrap_or_default().into_iter();
        Box::new(Details {
            name: d.name,
            group: d.group,
            kind: d.kind,
            uid: d.uid,
            causes: causes.map(|c| Cause { reason: c.reason, message: c.message, field: c.field }).collect(),
            retry_after_seconds: d.retry_after_seconds,
        })
    });
    ApiError { details, ..ApiError::new(code, status.reason, message) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: serde_json::Value, mutating: bool) -> Result<Answer, Unusable> {
        answer(body.to_string().as_bytes(), Version::V1, "u", mutating)
    }

    fn review(response: serde_json::Value) -> serde_json::Value {
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
    }

    #[test]
    fn answers_that_are_none() {
        let check = |body: serde_json::Value, mutating: bool, want: &str| {
            assert_eq!(read(body, mutating).err(), Some(Unusable::Review(want.into())));
        };
        check(json!({}), true, "webhook response was absent");
        check(review(json!({"uid": "x"})), true, "expected response.uid=\"u\", got \"x\"");
        check(
            json!({"response": {"uid": "u"}}),
            true,
            "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got /, Kind=",
        );
        let patched = review(json!({"uid": "u", "allowed": true, "patch": "W10=", "patchType": "JSONPatch"}));
        check(patched, false, "validating webhook may not return response.patch");
        let untyped = review(json!({"uid": "u", "allowed": true, "patch": "W10="}));
        check(untyped, true, "webhook returned response.patch but not response.patchType");
        assert!(matches!(answer(b"x", Version::V1, "u", true), Err(Unusable::Body(_))));
    }

    #[test]
    fn refusals() {
        let check = |status: serde_json::Value, code: u16, message: &str| {
            let status: Option<StatusIn> = serde_json::from_value(status).unwrap();
            let error = refusal("w", status);
            assert_eq!((error.code, error.message.as_str()), (code, message));
        };
        let denied = "admission webhook \"w\" denied the request";
        check(json!(null), 400, &format!("{denied} without explanation"));
        check(json!({"message": "no", "reason": "Forbidden", "code": 403}), 403, &format!("{denied}: no"));
        check(json!({"reason": "Mine", "code": 200}), 400, &format!("{denied}: Mine"));
        check(json!({"code": 500}), 500, &format!("{denied} without explanation"));
    }
}
