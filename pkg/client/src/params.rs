//! Options of calls, and how they become query strings.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{DeleteOptions, Preconditions};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Collects `name=value` pairs.
#[derive(Debug, Default, Clone)]
pub struct Query(String);

impl Query {
    /// Appends a pair, escaped.
    pub fn push(&mut self, name: &str, value: &str) {
        if !self.0.is_empty() {
            self.0.push('&');
        }
        self.0.extend(utf8_percent_encode(name, QUERY));
        self.0.push('=');
        self.0.extend(utf8_percent_encode(value, QUERY));
    }

    /// Appends a pair unless the value is empty.
    pub fn push_some(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.push(name, value);
        }
    }

    /// `path` or `path?query`.
    pub fn on(&self, path: &str) -> String {
        if self.0.is_empty() { path.to_string() } else { format!("{path}?{}", self.0) }
    }
}

/// Escapes one path segment.
pub fn segment(text: &str) -> String {
    utf8_percent_encode(text, QUERY).to_string()
}

/// Options of `get`.
#[derive(Debug, Default, Clone)]
pub struct GetParams {
    /// "" reads the newest, "0" any cached state.
    pub resource_version: String,
}

/// Options of `list` and, in part, of `watch` and `delete_collection`.
#[derive(Debug, Default, Clone)]
pub struct ListParams {
    /// Label selector in text form.
    pub label_selector: String,
    /// Field selector in text form.
    pub field_selector: String,
    /// Page size, 0 for none.
    pub limit: u32,
    /// Continuation token of the previous page.
    pub continue_token: String,
    /// Resource version.
    pub resource_version: String,
    /// `NotOlderThan` or `Exact`.
    pub resource_version_match: String,
    /// Server-side time limit in seconds, 0 for none.
    pub timeout_seconds: u32,
}

impl ListParams {
    /// Everything that matches the label selector.
    pub fn labels(selector: &str) -> Self {
        Self { label_selector: selector.to_string(), ..Self::default() }
    }

    /// Everything that matches the field selector.
    pub fn fields(selector: &str) -> Self {
        Self { field_selector: selector.to_string(), ..Self::default() }
    }

    pub(crate) fn query(&self) -> Query {
        let mut q = Query::default();
        q.push_some("labelSelector", &self.label_selector);
        q.push_some("fieldSelector", &self.field_selector);
        if self.limit > 0 {
            q.push("limit", &self.limit.to_string());
        }
        q.push_some("continue", &self.continue_token);
        q.push_some("resourceVersion", &self.resource_version);
        q.push_some("resourceVersionMatch", &self.resource_version_match);
        if self.timeout_seconds > 0 {
            q.push("timeoutSeconds", &self.timeout_seconds.to_string());
        }
        q
    }
}

/// Options of `watch`.
#[derive(Debug, Default, Clone)]
pub struct WatchParams {
    /// Label selector in text form.
    pub label_selector: String,
    /// Field selector in text form.
    pub field_selector: String,
    /// Start after this version; "" starts with synthetic additions.
    pub resource_version: String,
    /// Server-side time limit in seconds, 0 for the server's default.
    pub timeout_seconds: u32,
    /// Ask for bookmarks.
    pub bookmarks: bool,
    /// Ask for the present state first, ended by an annotated bookmark (WatchList).
    pub send_initial_events: bool,
}

impl WatchParams {
    pub(crate) fn query(&self) -> Query {
        let mut q = Query::default();
        q.push("watch", "true");
        q.push_some("labelSelector", &self.label_selector);
        q.push_some("fieldSelector", &self.field_selector);
        q.push_some("resourceVersion", &self.resource_version);
        if self.bookmarks || self.send_initial_events {
            q.push("allowWatchBookmarks", "true");
        }
        if self.send_initial_events {
            q.push("sendInitialEvents", "true");
            q.push("resourceVersionMatch", "NotOlderThan");
        }
        if self.timeout_seconds > 0 {
            q.push("timeoutSeconds", &self.timeout_seconds.to_string());
        }
        q
    }
}

/// Options of `create`, `replace` and subresource posts.
#[derive(Debug, Default, Clone)]
pub struct WriteParams {
    /// Validate and admit, but store nothing.
    pub dry_run: bool,
    /// Name under which managed fields are recorded.
    pub field_manager: String,
    /// `Ignore`, `Warn` or `Strict`.
    pub field_validation: String,
}

impl WriteParams {
    pub(crate) fn query(&self) -> Query {
        let mut q = Query::default();
        if self.dry_run {
            q.push("dryRun", "All");
        }
        q.push_some("fieldManager", &self.field_manager);
        q.push_some("fieldValidation", &self.field_validation);
        q
    }
}

/// Options of `patch`.
#[derive(Debug, Default, Clone)]
pub struct PatchParams {
    /// Validate and admit, but store nothing.
    pub dry_run: bool,
    /// Name under which managed fields are recorded; needed by apply.
    pub field_manager: String,
    /// Take over fields of other managers; apply only.
    pub force: bool,
    /// `Ignore`, `Warn` or `Strict`.
    pub field_validation: String,
}

impl PatchParams {
    pub(crate) fn query(&self) -> Query {
        let mut q = Query::default();
        if self.dry_run {
            q.push("dryRun", "All");
        }
        q.push_some("fieldManager", &self.field_manager);
        if self.force {
            q.push("force", "true");
        }
        q.push_some("fieldValidation", &self.field_validation);
        q
    }
}

/// A patch and its format.
#[derive(Debug, Clone)]
pub enum Patch {
    /// RFC 6902: a list of operations.
    Json(serde_json::Value),
    /// RFC 7386.
    Merge(serde_json::Value),
    /// Kubernetes' strategic merge patch; built-in kinds only.
    Strategic(serde_json::Value),
    /// Server-side apply.
    Apply(serde_json::Value),
    /// Bytes as they are, with their media type.
    Raw(&'static str, bytes::Bytes),
}

impl Patch {
    pub(crate) fn content_type(&self) -> &'static str {
        match self {
            Self::Json(_) => "application/json-patch+json",
            Self::Merge(_) => "application/merge-patch+json",
            Self::Strategic(_) => "application/strategic-merge-patch+json",
            Self::Apply(_) => "application/apply-patch+yaml",
            Self::Raw(media_type, _) => media_type,
        }
    }

    pub(crate) fn body(&self) -> bytes::Bytes {
        match self {
            Self::Json(v) | Self::Merge(v) | Self::Strategic(v) | Self::Apply(v) => v.to_string().into(),
            Self::Raw(_, bytes) => bytes.clone(),
        }
    }
}

/// Options of `delete` and `delete_collection`.
#[derive(Debug, Default, Clone)]
pub struct DeleteParams {
    /// Grace period; `None` leaves it to the object.
    pub grace_period_seconds: Option<i64>,
    /// What happens to dependents; `None` leaves it to the resource.
    pub propagation: Option<Propagation>,
    /// Only delete the object with this uid.
    pub uid: Option<String>,
    /// Only delete the object in this version.
    pub resource_version: Option<String>,
    /// Validate and admit, but delete nothing.
    pub dry_run: bool,
}

/// `propagationPolicy` of a deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// Dependents live on without owner.
    Orphan,
    /// Dependents go after the owner.
    Background,
    /// The owner goes after its dependents.
    Foreground,
}

impl Propagation {
    /// The value on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Orphan => "Orphan",
            Self::Background => "Background",
            Self::Foreground => "Foreground",
        }
    }
}

impl DeleteParams {
    /// Delete only the object with this uid.
    pub fn with_uid(uid: &str) -> Self {
        Self { uid: Some(uid.to_string()), ..Self::default() }
    }

    pub(crate) fn options(&self) -> DeleteOptions {
        let preconditions = (self.uid.is_some() || self.resource_version.is_some()).then(|| Preconditions {
            uid: self.uid.clone(),
            resource_version: self.resource_version.clone(),
        });
        DeleteOptions {
            grace_period_seconds: self.grace_period_seconds,
            propagation_policy: self.propagation.map(|p| p.as_str().to_string()),
            preconditions,
            dry_run: self.dry_run.then(|| vec!["All".to_string()]),
            ..Default::default()
        }
    }
}
