//! The event and its bytes: fields in Go's order, HTML characters escaped, as upstream's encoder writes it.
//! Upstream: `k8s.io/apiserver/pkg/apis/audit/v1/types.go`.

use std::collections::BTreeMap;
use std::sync::Arc;

use auth::UserInfo;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// How much of a request is recorded; each level includes what the one before records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Level {
    /// Nothing.
    #[default]
    None,
    /// Who did what to which object, and the outcome.
    Metadata,
    /// The body of the request too.
    Request,
    /// The body of the response too.
    RequestResponse,
}

impl Level {
    /// All levels, in order.
    pub const ALL: [Level; 4] = [Level::None, Level::Metadata, Level::Request, Level::RequestResponse];

    /// Its name.
    pub fn text(self) -> &'static str {
        match self {
            Level::None => "None",
            Level::Metadata => "Metadata",
            Level::Request => "Request",
            Level::RequestResponse => "RequestResponse",
        }
    }
}

/// When in the life of a request an event is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Stage {
    /// Before it is handled.
    RequestReceived,
    /// Response headers are sent and the body is not: long-running requests only.
    ResponseStarted,
    /// Nothing more is sent.
    ResponseComplete,
    /// A panic ended it.
    Panic,
}

impl Stage {
    /// All stages.
    pub const ALL: [Stage; 4] =
        [Stage::RequestReceived, Stage::ResponseStarted, Stage::ResponseComplete, Stage::Panic];

    /// Its name.
    pub fn text(self) -> &'static str {
        match self {
            Stage::RequestReceived => "RequestReceived",
            Stage::ResponseStarted => "ResponseStarted",
            Stage::ResponseComplete => "ResponseComplete",
            Stage::Panic => "Panic",
        }
    }
}

/// A user as events show it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct User {
    /// Name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub username: String,
    /// Uid.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Groups.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Further facts.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, Vec<String>>,
}

impl From<&UserInfo> for User {
    fn from(user: &UserInfo) -> Self {
        Self {
            username: user.name.clone(),
            uid: user.uid.clone(),
            groups: user.groups.clone(),
            extra: user.extra.clone(),
        }
    }
}

/// How the user became the user.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthenticationMetadata {
    /// The verb that allowed the impersonation.
    pub impersonation_constraint: String,
}

/// What a request is about.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectReference {
    /// Plural resource.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource: String,
    /// Namespace.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Uid, of objects that were sent.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// API group.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub api_group: String,
    /// API version.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub api_version: String,
    /// Resource version, of objects that were sent.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
    /// Subresource.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subresource: String,
}

/// Always written, always empty.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct NoMeta {}

fn is_zero(code: &i32) -> bool {
    *code == 0
}

/// The outcome.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// Always there.
    #[serde(skip_deserializing)]
    pub metadata: NoMeta,
    /// `Success` or `Failure`; empty for responses that are no status.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub status: String,
    /// Text.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Reason.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Details, as JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<Arc<RawValue>>,
    /// HTTP status code.
    #[serde(skip_serializing_if = "is_zero")]
    pub code: i32,
}

impl Status {
    /// The bounded part of a `Status` document.
    pub fn of_document(json: &[u8]) -> Self {
        serde_json::from_slice(json).unwrap_or_default()
    }
}

/// One event. `kind` and `apiVersion` are left out in lists.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// How much was to be recorded.
    pub level: Level,
    /// The request's id.
    #[serde(rename = "auditID")]
    pub audit_id: String,
    /// When.
    pub stage: Stage,
    /// Path and query as sent.
    #[serde(rename = "requestURI")]
    pub request_uri: String,
    /// Kubernetes verb or lower-case method.
    pub verb: String,
    /// Who.
    pub user: User,
    /// As whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub impersonated_user: Option<User>,
    /// How the user became the user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authentication_metadata: Option<AuthenticationMetadata>,
    /// From where, proxies first.
    #[serde(rename = "sourceIPs", skip_serializing_if = "Vec::is_empty")]
    pub source_ips: Vec<String>,
    /// The client's name for itself.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user_agent: String,
    /// What.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object_ref: Option<ObjectReference>,
    /// The outcome, once there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_status: Option<Status>,
    /// The body of the request, as JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_object: Option<Arc<RawValue>>,
    /// The body of the response, as JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_object: Option<Arc<RawValue>>,
    /// When the request came.
    #[serde(serialize_with = "micro_time")]
    pub request_received_timestamp: Timestamp,
    /// When this stage was reached.
    #[serde(serialize_with = "micro_time")]
    pub stage_timestamp: Timestamp,
    /// What the parts of the server have to say.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// `metav1.MicroTime`.
fn micro_time<S: serde::Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&time.strftime("%Y-%m-%dT%H:%M:%S%.6fZ"))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Typed<'a> {
    kind: &'static str,
    api_version: &'static str,
    #[serde(flatten)]
    event: &'a Event,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct List<'a> {
    kind: &'static str,
    api_version: &'static str,
    metadata: NoMeta,
    items: &'a [Arc<Event>],
}

const VERSION: &str = "audit.k8s.io/v1";

fn encode(value: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    let text = serde_json::to_vec(value)?;
    let mut out = Vec::with_capacity(text.len() + 64);
    // Go escapes what HTML would take for markup.
    machinery::json::write_compact(&text, &mut out);
    out.push(b'\n');
    Ok(out)
}

impl Event {
    /// The event as a line of JSON.
    ///
    /// # Errors
    /// A body that cannot be written, which JSON bodies never are.
    pub fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        encode(&Typed { kind: "Event", api_version: VERSION, event: self })
    }
}

/// An `EventList` of events.
///
/// # Errors
/// As [`Event::to_json`].
pub fn list(items: &[Arc<Event>]) -> Result<Vec<u8>, serde_json::Error> {
    encode(&List { kind: "EventList", api_version: VERSION, metadata: NoMeta {}, items })
}
