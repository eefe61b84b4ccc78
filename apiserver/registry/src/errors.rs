//! API errors: a `Status` with upstream's code, reason, causes and wording.
//! Upstream: `k8s.io/apimachinery/pkg/api/errors/errors.go`.

use std::borrow::Cow;
use std::fmt;

/// One cause of a failure, or one field error of a 422.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cause {
    /// Machine-readable type (`FieldValueInvalid`, ...).
    pub reason: String,
    /// What is wrong.
    pub message: String,
    /// Path of the field.
    pub field: String,
}

/// `status.details`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Details {
    /// Name of the object, or of the resource for namespaced 404s.
    pub name: String,
    /// Group of `kind`.
    pub group: String,
    /// Kind, or resource name, as upstream writes it for this reason.
    pub kind: String,
    /// Uid of the object.
    pub uid: String,
    /// Causes.
    pub causes: Vec<Cause>,
    /// Seconds to wait before a retry; 0 means no advice.
    pub retry_after_seconds: i32,
}

/// A failed request, as the client sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ApiError {
    /// HTTP status code.
    pub code: u16,
    /// Machine-readable reason (`NotFound`); empty for unknown.
    pub reason: Cow<'static, str>,
    /// Human-readable text.
    pub message: String,
    /// Details; `None` leaves the field out.
    pub details: Option<Box<Details>>,
    /// `metadata.continue`: where a list whose snapshot is gone may go on.
    pub continue_token: Option<Box<str>>,
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ApiError {}

/// `resource.group`, or `resource` for core: how upstream prints a GroupResource (and a GroupKind).
pub fn group_resource(group: &str, resource: &str) -> String {
    if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") }
}

fn details(group: &str, kind: &str, name: &str) -> Option<Box<Details>> {
    Some(Box::new(Details {
        group: group.into(),
        kind: kind.into(),
        name: name.into(),
        ..Details::default()
    }))
}

impl ApiError {
    /// Any error, without details.
    pub fn new(code: u16, reason: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self { code, reason: reason.into(), message: message.into(), details: None, continue_token: None }
    }

    /// 404 for an object.
    pub fn not_found(group: &str, resource: &str, name: &str) -> Self {
        Self {
            details: details(group, resource, name),
            ..Self::new(404, "NotFound", format!("{} {name:?} not found", group_resource(group, resource)))
        }
    }

    /// 404 for an unknown path or resource.
    pub fn page_not_found() -> Self {
        Self {
            details: Some(Box::default()),
            ..Self::new(404, "NotFound", "the server could not find the requested resource")
        }
    }

    /// 409 for a name that is taken.
    pub fn already_exists(group: &str, resource: &str, name: &str) -> Self {
        Self {
            details: details(group, resource, name),
            ..Self::new(
                409,
                "AlreadyExists",
                format!("{} {name:?} already exists", group_resource(group, resource)),
            )
        }
    }

    /// 409 for a failed precondition or a stale write.
    pub fn conflict(group: &str, resource: &str, name: &str, why: impl fmt::Display) -> Self {
        let resource_text = group_resource(group, resource);
        Self {
            details: details(group, resource, name),
            ..Self::new(
                409,
                "Conflict",
                format!("Operation cannot be fulfilled on {resource_text} {name:?}: {why}"),
            )
        }
    }

    /// 403 from admission or a registry.
    pub fn forbidden(group: &str, resource: &str, name: &str, why: impl fmt::Display) -> Self {
        let resource_text = group_resource(group, resource);
        let message = match (resource.is_empty(), name.is_empty()) {
            (true, _) => format!("forbidden: {why}"),
            (false, true) => format!("{resource_text} is forbidden: {why}"),
            (false, false) => format!("{resource_text} {name:?} is forbidden: {why}"),
        };
        Self { details: details(group, resource, name), ..Self::new(403, "Forbidden", message) }
    }

    /// 422 with field errors; `kind` is the kind, not the resource.
    pub fn invalid(group: &str, kind: &str, name: &str, causes: Vec<Cause>) -> Self {
        let texts: Vec<String> =
            causes
                .iter()
                .map(|c| {
                    if c.field.is_empty() { c.message.clone() } else { format!("{}: {}", c.field, c.message) }
                })
                .collect();
        let mut message = format!("{} {name:?} is invalid", group_resource(group, kind));
        match texts.as_slice() {
            [] => {}
            [one] => message += &format!(": {one}"),
            all => message += &format!(": [{}]", all.join(", ")),
        }
        let mut details = details(group, kind, name);
        if let Some(details) = details.as_mut() {
            details.causes = causes;
        }
        Self { details, ..Self::new(422, "Invalid", message) }
    }

    /// 422 from validation errors; equal texts are said once, all causes are listed.
    pub fn invalid_fields(
        group: &str,
        kind: &str,
        name: &str,
        errors: &[api::validation::field::Error],
    ) -> Self {
        let cause = |e: &api::validation::field::Error| Cause {
            reason: e.kind.cause().into(),
            message: e.body(),
            field: e.field.clone(),
        };
        let causes = errors.iter().map(cause).collect();
        let mut error = Self::invalid(group, kind, name, causes);
        let quoted = api::validation::field::quote(name);
        error.message = match errors {
            [] => format!("{} {quoted} is invalid", group_resource(group, kind)),
            _ => format!(
                "{} {quoted} is invalid: {}",
                group_resource(group, kind),
                api::validation::field::aggregate(errors)
            ),
        };
        error
    }

    /// 403 for a request the authorizer did not allow (`responsewriters.ForbiddenStatusError`).
    pub fn forbidden_request(attributes: &auth::authorizer::Attributes, reason: &str) -> Self {
        let a = attributes;
        let resource = match a.subresource.as_str() {
            "" => a.resource.clone(),
            sub => format!("{}/{sub}", a.resource),
        };
        let place = match a.namespace.as_str() {
            "" => "at the cluster scope".to_owned(),
            ns => format!("in the namespace {ns:?}"),
        };
        let mut text = format!(
            "User {:?} cannot {} resource {resource:?} in API group {:?} {place}",
            a.user.name, a.verb, a.api_group
        );
        if !reason.is_empty() {
            text = format!("{text}: {reason}");
        }
        Self::forbidden(&a.api_group, &a.resource, &a.name, text)
    }

    /// Whether the store refused the object for its size, so that a smaller form may be tried.
    pub fn is_too_large(&self) -> bool {
        self.message == "etcdserver: request is too large"
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 401.
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// 405.
    pub fn method_not_supported(group: &str, resource: &str, verb: &str) -> Self {
        let resource_text = group_resource(group, resource);
        Self {
            details: details(group, resource, ""),
            ..Self::new(
                405,
                "MethodNotAllowed",
                format!("{verb} is not supported on resources of kind {resource_text:?}"),
            )
        }
    }

    /// 406: nothing the client accepts can be produced.
    pub fn not_acceptable(accepted: &[&str]) -> Self {
        let list = accepted.join(", ");
        Self::new(406, "NotAcceptable", format!("only the following media types are accepted: {list}"))
    }

    /// The answer of the routes themselves, before any handler: no such path, method or media type.
    pub fn of_route(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { details: Some(Box::default()), ..Self::new(code, reason, message) }
    }

    /// 415.
    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        Self::new(
            415,
            "UnsupportedMediaType",
            format!(
                "the body of the request was in an unknown format - accepted media types include: {}",
                accepted.join(", ")
            ),
        )
    }

    /// 410 for a resource version or continue token that is too old.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// 500.
    pub fn internal(why: impl fmt::Display) -> Self {
        let message = format!("Internal error occurred: {why}");
        let causes = vec![Cause { message: why.to_string(), ..Cause::default() }];
        Self {
            details: Some(Box::new(Details { causes, ..Details::default() })),
            ..Self::new(500, "InternalError", message)
        }
    }

    /// 500 for an error that upstream returns without a Status of its own.
    pub fn internal_plain(message: impl Into<String>) -> Self {
        Self::new(500, "", message)
    }

    /// 413.
    pub fn request_entity_too_large(why: impl fmt::Display) -> Self {
        Self::new(413, "RequestEntityTooLarge", format!("Request entity too large: {why}"))
    }

    /// 503.
    pub fn service_unavailable(message: impl Into<String>) -> Self {
        Self::new(503, "ServiceUnavailable", message)
    }

    /// 504 with advice when to retry.
    pub fn timeout(message: impl fmt::Display, retry_after_seconds: i32) -> Self {
        Self {
            details: Some(Box::new(Details { retry_after_seconds, ..Details::default() })),
            ..Self::new(504, "Timeout", format!("Timeout: {message}"))
        }
    }

    /// 429 with advice when to retry.
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: i32) -> Self {
        Self {
            details: Some(Box::new(Details { retry_after_seconds, ..Details::default() })),
            ..Self::new(429, "TooManyRequests", message)
        }
    }

    /// 500 with reason `ServerTimeout`: the operation could not be completed in time.
    pub fn server_timeout(group: &str, resource: &str, operation: &str, retry_after_seconds: i32) -> Self {
        let resource_text = group_resource(group, resource);
        let mut error = Self {
            details: details(group, resource, ""),
            ..Self::new(
                500,
                "ServerTimeout",
                format!(
                    "The {operation} operation against {resource_text} could not be completed at this time, please try again."
                ),
            )
        };
        if let Some(details) = error.details.as_mut() {
            details.retry_after_seconds = retry_after_seconds;
        }
        error
    }

    /// The `Status` document in protobuf, with its envelope.
    pub fn to_protobuf(&self) -> Vec<u8> {
        let mut raw = Vec::new();
        let mut meta = EMPTY_LIST_META[..4].to_vec();
        put(&mut meta, 3, self.continue_token.as_deref().unwrap_or_default().as_bytes());
        put(&mut raw, 1, &meta);
        put(&mut raw, 2, b"Failure");
        put(&mut raw, 3, self.message.as_bytes());
        put(&mut raw, 4, self.reason.as_bytes());
        if let Some(details) = &self.details {
            put(&mut raw, 5, &details_protobuf(details));
        }
        raw.push(6 << 3);
        put_varint(&mut raw, self.code.into());
        enveloped(&raw)
    }

    /// The `Status` document, with fields in Go's declaration order.
    pub fn to_json(&self) -> Vec<u8> {
        // serde_json sorts keys of `json!` objects, so the order Go prints is assembled by hand.
        let text = go_json;
        let token = self.continue_token.as_deref().map(|t| format!("\"continue\":{}", text(t)));
        let token = token.unwrap_or_default();
        let mut out =
            format!(r#"{{"kind":"Status","apiVersion":"v1","metadata":{{{token}}},"status":"Failure""#);
        let mut push = |name: &str, value: &str| {
            out.push_str(",\"");
            out.push_str(name);
            out.push_str("\":");
            out.push_str(value);
        };
        if !self.message.is_empty() {
            push("message", &text(&self.message));
        }
        if !self.reason.is_empty() {
            push("reason", &text(&self.reason));
        }
        if let Some(details) = &self.details {
            push("details", &details_json(details));
        }
        push("code", &self.code.to_string());
        out.push('}');
        out.into_bytes()
    }
}

/// The `Status` of a completed operation that has no object to return.
#[derive(Debug, Clone, Copy)]
pub struct Success<'a> {
    /// Name of the object.
    pub name: &'a str,
    /// Group of the details.
    pub group: &'a str,
    /// Kind of the details.
    pub kind: &'a str,
    /// Uid of the object.
    pub uid: &'a str,
}

impl Success<'_> {
    fn details(&self) -> Details {
        Details {
            name: self.name.into(),
            group: self.group.into(),
            kind: self.kind.into(),
            uid: self.uid.into(),
            ..Details::default()
        }
    }

    /// The document in JSON.
    pub fn to_json(&self) -> Vec<u8> {
        let details = details_json(&self.details());
        let head = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Success","details":"#;
        format!("{head}{details}}}").into_bytes()
    }

    /// The document in protobuf, with its envelope.
    pub fn to_protobuf(&self) -> Vec<u8> {
        let mut raw = Vec::new();
        put(&mut raw, 1, EMPTY_LIST_META);
        put(&mut raw, 2, b"Success");
        put(&mut raw, 3, b"");
        put(&mut raw, 4, b"");
        put(&mut raw, 5, &details_protobuf(&self.details()));
        raw.extend_from_slice(&[6 << 3, 0]);
        enveloped(&raw)
    }
}

/// `ListMeta` with its three plain strings, which are always written.
const EMPTY_LIST_META: &[u8] = &[0x0a, 0, 0x12, 0, 0x1a, 0];

fn enveloped(raw: &[u8]) -> Vec<u8> {
    let (mut kind, mut out) = (Vec::new(), b"k8s\0".to_vec());
    put(&mut kind, 1, b"v1");
    put(&mut kind, 2, b"Status");
    put(&mut out, 1, &kind);
    put(&mut out, 2, raw);
    put(&mut out, 3, b"");
    put(&mut out, 4, b"");
    out
}

/// A JSON string as Go writes it, with `<`, `>` and `&` escaped.
fn go_json(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len() + 2);
    machinery::json::write_str(text, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

/// Appends one length-delimited protobuf field. Field numbers here are below 16, so the tag is one byte.
fn put(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn details_protobuf(details: &Details) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, 1, details.name.as_bytes());
    put(&mut out, 2, details.group.as_bytes());
    put(&mut out, 3, details.kind.as_bytes());
    for cause in &details.causes {
        let mut one = Vec::new();
        put(&mut one, 1, cause.reason.as_bytes());
        put(&mut one, 2, cause.message.as_bytes());
        put(&mut one, 3, cause.field.as_bytes());
        put(&mut out, 4, &one);
    }
    out.push(5 << 3);
    put_varint(&mut out, details.retry_after_seconds.max(0).unsigned_abs().into());
    put(&mut out, 6, details.uid.as_bytes());
    out
}

fn details_json(details: &Details) -> String {
    let text = go_json;
    let mut fields = Vec::new();
    for (name, value) in
        [("name", &details.name), ("group", &details.group), ("kind", &details.kind), ("uid", &details.uid)]
    {
        if !value.is_empty() {
            fields.push(format!("\"{name}\":{}", text(value)));
        }
    }
    if !details.causes.is_empty() {
        let causes: Vec<String> = details.causes.iter().map(cause_json).collect();
        fields.push(format!("\"causes\":[{}]", causes.join(",")));
    }
    if details.retry_after_seconds != 0 {
        fields.push(format!("\"retryAfterSeconds\":{}", details.retry_after_seconds));
    }
    format!("{{{}}}", fields.join(","))
}

fn cause_json(cause: &Cause) -> String {
    let mut fields = Vec::new();
    for (name, value) in [("reason", &cause.reason), ("message", &cause.message), ("field", &cause.field)] {
        if !value.is_empty() {
            fields.push(format!("\"{name}\":{}", go_json(value)));
        }
    }
    format!("{{{}}}", fields.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_in_go_order() {
        let error = ApiError::not_found("apps", "deployments", "web");
        assert_eq!(
            String::from_utf8(error.to_json()).unwrap(),
            r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"deployments.apps \"web\" not found","reason":"NotFound","details":{"name":"web","group":"apps","kind":"deployments"},"code":404}"#
        );
    }

    #[test]
    fn invalid_joins_causes() {
        let cause = |field: &str| Cause {
            reason: "FieldValueRequired".into(),
            message: "Required value".into(),
            field: field.into(),
        };
        let one = ApiError::invalid("", "Pod", "x", vec![cause("spec.a")]);
        assert_eq!(one.message, r#"Pod "x" is invalid: spec.a: Required value"#);
        let two = ApiError::invalid("", "Pod", "x", vec![cause("spec.a"), cause("spec.b")]);
        assert_eq!(two.message, r#"Pod "x" is invalid: [spec.a: Required value, spec.b: Required value]"#);
    }
}
