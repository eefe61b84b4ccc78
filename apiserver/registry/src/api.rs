//! The contract between the HTTP server and the registry.
//!
//! The server resolves the request, authenticates and authorizes it, decodes query parameters and negotiates formats;
//! then it calls one operation here with the body still encoded. The registry decodes, admits, validates, stores, and
//! hands back handles that can give their bytes in any wire form, cached and shared where they come from the store.
//! Nothing here knows HTTP. Start at [`Registry`].

use std::borrow::Cow;
use std::sync::Arc;

use async_trait::async_trait;
use auth::UserInfo;
use bytes::Bytes;
use futures::stream::BoxStream;
use machinery::Value;
use machinery::proto::Kept;
use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::audit::Audit;
use crate::deflate::{Deflater, Piece};
use crate::errors::ApiError;

/// The part of a request that names what it is about. Upstream: `request.RequestInfo`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestInfo {
    /// Whether the path addresses an API resource.
    pub is_resource_request: bool,
    /// The path as sent.
    pub path: String,
    /// Kubernetes verb, or lower-case HTTP method for non-resource paths.
    pub verb: String,
    /// `api` or `apis`.
    pub api_prefix: String,
    /// API group, empty for core.
    pub api_group: String,
    /// API version.
    pub api_version: String,
    /// Namespace, empty when the request is not namespaced.
    pub namespace: String,
    /// Plural resource name.
    pub resource: String,
    /// Subresource, or empty.
    pub subresource: String,
    /// Object name, or empty.
    pub name: String,
    /// Path segments from the resource on.
    pub parts: Vec<String>,
    /// `fieldSelector` of list, watch and deletecollection.
    pub field_selector: String,
    /// `labelSelector` of list, watch and deletecollection.
    pub label_selector: String,
}

/// Warnings for the client (`Warning: 299` headers), collected while a request is handled.
#[derive(Debug, Clone, Default)]
pub struct Warnings(Arc<Mutex<Vec<String>>>);

impl Warnings {
    /// Adds a warning once.
    pub fn add(&self, text: impl Into<String>) {
        let (text, mut all) = (text.into(), self.0.lock());
        if !all.contains(&text) {
            all.push(text);
        }
    }

    /// What was collected, in order.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock())
    }
}

/// `fieldValidation`: what happens to unknown and duplicate fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FieldValidation {
    /// Drop silently.
    Ignore,
    /// Drop and warn.
    #[default]
    Warn,
    /// Refuse.
    Strict,
}

/// Everything about one request that is not its body or its options.
#[derive(Debug, Clone)]
pub struct RequestContext {
    /// The effective user (after impersonation).
    pub user: Arc<UserInfo>,
    /// What the request addresses.
    pub info: Arc<RequestInfo>,
    /// `dryRun=All`: do everything except storing.
    pub dry_run: bool,
    /// Field manager: the parameter, else the user agent up to the first `/`, at most 128 bytes.
    pub field_manager: String,
    /// Unknown and duplicate field handling.
    pub field_validation: FieldValidation,
    /// The client's `User-Agent`.
    pub user_agent: String,
    /// `Audit-ID` of the request.
    pub audit_id: String,
    /// Collected warnings.
    pub warnings: Warnings,
    /// What is contributed to the audit event.
    pub audit: Audit,
}

/// How a body is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MediaType {
    /// `application/json`
    Json,
    /// `application/yaml`
    Yaml,
    /// `application/vnd.kubernetes.protobuf`
    Protobuf,
}

/// A request body, undecoded.
#[derive(Debug, Clone)]
pub struct Body {
    /// Its encoding.
    pub media_type: MediaType,
    /// Its bytes.
    pub bytes: Bytes,
}

/// The patch formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatchType {
    /// `application/json-patch+json`
    Json,
    /// `application/merge-patch+json`
    Merge,
    /// `application/strategic-merge-patch+json`
    Strategic,
    /// `application/apply-patch+yaml`
    Apply,
}

/// A patch, undecoded.
#[derive(Debug, Clone)]
pub struct Patch {
    /// Its format.
    pub kind: PatchType,
    /// Its bytes.
    pub bytes: Bytes,
    /// `force`, for apply.
    pub force: Option<bool>,
}

/// List and watch options as sent; the registry parses the selectors and validates the combination.
#[derive(Debug, Clone, Default)]
pub struct ListOptions {
    /// Label selector, unparsed.
    pub label_selector: String,
    /// Field selector, unparsed. The server adds `metadata.name=` for requests that name an object.
    pub field_selector: String,
    /// Resource version, unparsed.
    pub resource_version: String,
    /// `Exact`, `NotOlderThan`, or empty.
    pub resource_version_match: String,
    /// Page size; 0 means all.
    pub limit: i64,
    /// Continue token.
    pub continue_token: String,
    /// Watch timeout.
    pub timeout_seconds: Option<i64>,
    /// Whether the client understands bookmarks.
    pub allow_watch_bookmarks: bool,
    /// WatchList.
    pub send_initial_events: Option<bool>,
}

/// Delete options, from the body or from query parameters (the server refuses a mix as upstream does).
#[derive(Debug, Clone, Default)]
pub struct DeleteOptions {
    /// `gracePeriodSeconds`.
    pub grace_period_seconds: Option<i64>,
    /// `propagationPolicy`.
    pub propagation_policy: Option<String>,
    /// `orphanDependents` (deprecated).
    pub orphan_dependents: Option<bool>,
    /// `preconditions.uid`.
    pub uid: Option<String>,
    /// `preconditions.resourceVersion`.
    pub resource_version: Option<String>,
    /// `ignoreStoreReadErrorWithClusterBreakingPotential`.
    pub ignore_store_read_error: Option<bool>,
}

/// A wire form of one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// JSON with `kind` and `apiVersion`, without a final newline.
    Json,
    /// JSON as an item of a typed list: built-in kinds have no `kind` and `apiVersion` there, custom resources do.
    JsonItem,
    /// Protobuf with the `k8s\0` envelope.
    Protobuf,
    /// Bare protobuf message: an item of a list.
    ProtobufItem,
}

/// Group, version and kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Gvk {
    /// API group, empty for core.
    pub group: String,
    /// Version.
    pub version: String,
    /// Kind.
    pub kind: String,
}

impl Gvk {
    /// `group/version`, or `version` for core.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }
}

/// An object in the version of the request, able to give each wire form. Stored objects cache their encodings.
pub trait Object: Send + Sync + 'static {
    /// Its kind, in the version of the request.
    fn gvk(&self) -> &Gvk;
    /// `metadata.name`.
    fn name(&self) -> &str;
    /// `metadata.namespace`, empty for cluster-scoped objects.
    fn namespace(&self) -> &str;
    /// `metadata.resourceVersion`.
    fn resource_version(&self) -> Cow<'_, str>;
    /// Bytes in a wire form.
    ///
    /// # Errors
    /// When the kind has no such form (protobuf of a custom resource: 406), or the stored bytes are corrupt.
    fn encode(&self, format: Format) -> Result<Bytes, ApiError>;
    /// The object as a tree, for table cells.
    ///
    /// # Errors
    /// When the stored bytes are corrupt.
    fn value(&self) -> Result<Arc<Value>, ApiError>;
    /// At least the given fields, perhaps without their defaults: for readers of a little of many objects.
    ///
    /// # Errors
    /// As for [`Object::value`].
    fn fields(&self, _kept: &Kept) -> Result<Arc<Value>, ApiError> {
        self.value()
    }
    /// Bytes in a wire form, in two parts of which the second may be shared with the store and with other requests.
    /// `keep` allows the object to remember what it had to encode, for objects that will be asked again.
    ///
    /// # Errors
    /// As for [`Object::encode`].
    fn wire(&self, format: Format, _keep: bool) -> Result<Wire, ApiError> {
        Ok(Wire { head: SmallVec::new(), body: self.encode(format)? })
    }
    /// How long [`Object::wire`] is.
    ///
    /// # Errors
    /// As for [`Object::encode`].
    fn wire_len(&self, format: Format) -> Result<usize, ApiError> {
        self.encode(format).map(|bytes| bytes.len())
    }
    /// The object as an item of a list, compressed so that it can be joined with others: the separator or tag before it
    /// is part of the piece.
    ///
    /// # Errors
    /// As for [`Object::encode`].
    fn piece(&self, format: Format, deflater: &mut Deflater) -> Result<Piece, ApiError> {
        let bytes = self.encode(format)?;
        let lead = lead(format, bytes.len());
        deflater.piece(&[&lead, &bytes]).map_err(ApiError::internal)
    }
    /// `metadata` alone: its JSON value, or its bare protobuf message.
    ///
    /// # Errors
    /// As for [`Object::encode`].
    fn metadata(&self, protobuf: bool) -> Result<Bytes, ApiError>;
    /// Printer columns of custom resources.
    fn columns(&self) -> Option<Columns> {
        None
    }
    /// A rendering that every watch of this object sends alike, made by the first that asks. `slot` names it.
    ///
    /// # Errors
    /// Whatever `make` answers; errors are not remembered.
    fn frame(
        &self,
        _slot: u32,
        make: &mut dyn FnMut() -> Result<Bytes, ApiError>,
    ) -> Result<Bytes, ApiError> {
        make()
    }
}

/// What stands before an item of a list: a comma in JSON, tag and length in protobuf.
pub fn lead(format: Format, len: usize) -> SmallVec<[u8; 8]> {
    let mut out = Vec::with_capacity(8);
    match format {
        Format::Json | Format::JsonItem => out.push(b','),
        Format::Protobuf | Format::ProtobufItem => {
            out.push(2 << 3 | 2);
            machinery::proto::wire::push_varint(&mut out, len as u64);
        }
    }
    SmallVec::from_slice(&out)
}

/// Bytes in two parts.
#[derive(Debug, Clone)]
pub struct Wire {
    /// What differs from the stored bytes: comes first.
    pub head: SmallVec<[u8; 192]>,
    /// The rest.
    pub body: Bytes,
}

impl Wire {
    /// The bytes as one.
    pub fn join(self) -> Bytes {
        if self.head.is_empty() {
            return self.body;
        }
        let mut out = Vec::with_capacity(self.head.len() + self.body.len());
        out.extend_from_slice(&self.head);
        out.extend_from_slice(&self.body);
        out.into()
    }
}

/// A shared object handle.
pub type ObjectRef = Arc<dyn Object>;

/// A list: metadata plus handles.
#[derive(Clone)]
pub struct List {
    /// The list kind (`PodList`), in the version of the request.
    pub gvk: Gvk,
    /// `metadata.resourceVersion`.
    pub resource_version: String,
    /// `metadata.continue`, or empty.
    pub continue_token: String,
    /// `metadata.remainingItemCount`.
    pub remaining_item_count: Option<i64>,
    /// The items in key order.
    pub items: Vec<ObjectRef>,
    /// Printer columns of custom resources.
    pub columns: Option<Columns>,
}

/// The printer columns of a custom resource.
pub type Columns = Arc<[crate::customresources::Column]>;

/// One watch event.
#[derive(Clone)]
pub enum WatchEvent {
    /// `ADDED`
    Added(ObjectRef),
    /// `MODIFIED`
    Modified(ObjectRef),
    /// `DELETED`
    Deleted(ObjectRef),
    /// `BOOKMARK`: an object of the resource's kind with only a resource version, and the annotation
    /// `k8s.io/initial-events-end` where the initial events of a WatchList end.
    Bookmark(ObjectRef),
    /// `ERROR`; the stream ends after it.
    Error(ApiError),
}

/// A running watch; dropping it ends it.
pub type WatchStream = BoxStream<'static, WatchEvent>;

/// The outcome of create, update and patch.
pub struct Written {
    /// The object as it is now.
    pub object: ObjectRef,
    /// Whether it was created (201) rather than changed (200).
    pub created: bool,
}

/// The outcome of a delete.
pub enum Deleted {
    /// The object itself: it still exists (finalizers, grace period), or its resource returns the deleted object.
    Object(ObjectRef, DeletionState),
    /// A `Status` of `Success` with details (name, group, kind, uid).
    Status {
        /// Name of the deleted object.
        name: String,
        /// Its uid.
        uid: String,
        /// Kind of the details: the resource name, as upstream writes it.
        kind: String,
        /// Group of the details.
        group: String,
    },
}

/// Whether a deletion is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeletionState {
    /// Gone: 200.
    Complete,
    /// Marked; finalizers or a grace period remain: 200 or, where the request asked for orphaning, 202.
    Pending,
}

/// One subresource of a resource, for discovery and routing.
#[derive(Debug, Clone, Default)]
pub struct SubresourceRow {
    /// Its name (`status`, `scale`, ...).
    pub name: String,
    /// Kind it reads or writes, with group and version where they differ from the resource's.
    pub kind: Gvk,
    /// Supported verbs, sorted.
    pub verbs: Vec<String>,
}

/// One served resource in one version.
#[derive(Debug, Clone, Default)]
pub struct ResourceRow {
    /// Its kind, group and version.
    pub gvk: Gvk,
    /// Plural name.
    pub resource: String,
    /// Singular name.
    pub singular: String,
    /// Whether it lives in namespaces.
    pub namespaced: bool,
    /// Supported verbs, sorted.
    pub verbs: Vec<String>,
    /// Short names.
    pub short_names: Vec<String>,
    /// Categories (`all`).
    pub categories: Vec<String>,
    /// Hash of the stored version, empty for resources that are not stored.
    pub storage_version_hash: String,
    /// Subresources, sorted by name.
    pub subresources: Vec<SubresourceRow>,
    /// What a definition says of a custom resource; `None` for built-in kinds.
    pub custom: Option<Arc<CustomRow>>,
}

/// What is published of a custom resource beside its row.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CustomRow {
    /// The kind of lists.
    pub list_kind: String,
    /// The version's schema, if it is structural.
    pub schema: Option<serde_json::Value>,
    /// `spec.preserveUnknownFields`
    pub preserve: bool,
    /// Selectable fields without the leading dot.
    pub selectable: Vec<String>,
}

/// All resources and the operations on them.
///
/// Every operation reads group, version, resource, subresource, namespace and name from the context. Dropping the
/// future cancels the wait, not a write that was handed to the store.
#[async_trait]
pub trait Registry: Send + Sync + 'static {
    /// A resource by group, version and plural name.
    fn lookup(&self, group: &str, version: &str, resource: &str) -> Option<Arc<ResourceRow>>;
    /// Whether a kind is built in: it has a protobuf form and knows strategic merge patches.
    fn built_in(&self, _gvk: &Gvk) -> bool {
        true
    }
    /// All served resources in discovery order. Changes with custom resource definitions.
    fn resources(&self) -> Vec<Arc<ResourceRow>>;
    /// How many objects of a resource there are; `None` for what is not kept in memory.
    fn object_count(&self, _group: &str, _version: &str, _resource: &str) -> Option<usize> {
        None
    }
    /// Their average stored size in bytes, from a sample; 0 when unknown.
    fn average_size(&self, _group: &str, _version: &str, _resource: &str) -> u64 {
        0
    }
    /// Reads one object or a readable subresource.
    async fn get(&self, context: &RequestContext, resource_version: &str) -> Result<ObjectRef, ApiError>;
    /// Lists.
    async fn list(&self, context: &RequestContext, options: &ListOptions) -> Result<List, ApiError>;
    /// Watches until `timeout_seconds`, an error, or the consumer drops the stream.
    async fn watch(&self, context: &RequestContext, options: &ListOptions) -> Result<WatchStream, ApiError>;
    /// Creates an object, or posts to a subresource (`binding`, `eviction`).
    async fn create(&self, context: &RequestContext, body: Body) -> Result<Written, ApiError>;
    /// Replaces an object or subresource.
    async fn update(&self, context: &RequestContext, body: Body) -> Result<Written, ApiError>;
    /// Patches an object or subresource.
    async fn patch(&self, context: &RequestContext, patch: Patch) -> Result<Written, ApiError>;
    /// Refuses selectors that do not parse, or that the resource cannot be selected by.
    fn check_selectors(&self, context: &RequestContext, options: &ListOptions) -> Result<(), ApiError>;
    /// Deletes one object.
    async fn delete(&self, context: &RequestContext, options: DeleteOptions) -> Result<Deleted, ApiError>;
    /// Deletes what a list would return, and answers with that list.
    async fn delete_collection(
        &self,
        context: &RequestContext,
        options: DeleteOptions,
        list: &ListOptions,
    ) -> Result<List, ApiError>;
    /// Runs admission for a connect request (exec, attach, portforward, proxy) with its options object.
    async fn connect(&self, context: &RequestContext, options: Body) -> Result<(), ApiError>;
}
