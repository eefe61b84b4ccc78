//! The server's own way to its resources: registry calls as `system:apiserver`, without HTTP.
//!
//! Hooks create and update objects through it; authorizers follow resources through [`Local::follow`].
//! Upstream uses a loopback HTTP client and informers for the same.

use std::sync::Arc;
use std::time::Duration;

use auth::{API_SERVER_USER, SYSTEM_PRIVILEGED_GROUP, UserInfo};
use bytes::Bytes;
use futures::StreamExt;
use machinery::Value;
use machinery::proto::Kept;
use registry::api::{
    Body, FieldValidation, ListOptions, MediaType, ObjectRef, Patch, PatchType, Registry, RequestContext,
    RequestInfo, Warnings, WatchEvent,
};
use registry::errors::ApiError;
use tokio_util::sync::CancellationToken;

/// A resource in a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Gvr(pub(crate) &'static str, pub(crate) &'static str, pub(crate) &'static str);

impl Gvr {
    pub(crate) const NAMESPACES: Gvr = Gvr("", "v1", "namespaces");
    pub(crate) const SERVICES: Gvr = Gvr("", "v1", "services");
    pub(crate) const ENDPOINTS: Gvr = Gvr("", "v1", "endpoints");
    pub(crate) const CONFIG_MAPS: Gvr = Gvr("", "v1", "configmaps");
    pub(crate) const SECRETS: Gvr = Gvr("", "v1", "secrets");
    pub(crate) const PODS: Gvr = Gvr("", "v1", "pods");
    pub(crate) const NODES: Gvr = Gvr("", "v1", "nodes");
    pub(crate) const VOLUMES: Gvr = Gvr("", "v1", "persistentvolumes");
    pub(crate) const SLICES: Gvr = Gvr("discovery.k8s.io", "v1", "endpointslices");
    pub(crate) const SERVICE_CIDRS: Gvr = Gvr("networking.k8s.io", "v1", "servicecidrs");
    pub(crate) const PRIORITY_CLASSES: Gvr = Gvr("scheduling.k8s.io", "v1", "priorityclasses");
    pub(crate) const FLOW_SCHEMAS: Gvr = Gvr(FLOWCONTROL, "v1", "flowschemas");
    pub(crate) const PRIORITY_LEVELS: Gvr = Gvr(FLOWCONTROL, "v1", "prioritylevelconfigurations");
    pub(crate) const ROLES: Gvr = Gvr(RBAC, "v1", "roles");
    pub(crate) const ROLE_BINDINGS: Gvr = Gvr(RBAC, "v1", "rolebindings");
    pub(crate) const CLUSTER_ROLES: Gvr = Gvr(RBAC, "v1", "clusterroles");
    pub(crate) const CLUSTER_ROLE_BINDINGS: Gvr = Gvr(RBAC, "v1", "clusterrolebindings");
    pub(crate) const LEASES: Gvr = Gvr("coordination.k8s.io", "v1", "leases");
    pub(crate) const ATTACHMENTS: Gvr = Gvr("storage.k8s.io", "v1", "volumeattachments");
    pub(crate) const RESOURCE_SLICES: Gvr = Gvr("resource.k8s.io", "v1", "resourceslices");
    pub(crate) const API_SERVICES: Gvr = Gvr("apiregistration.k8s.io", "v1", "apiservices");
    pub(crate) const CUSTOM_RESOURCES: Gvr = Gvr("apiextensions.k8s.io", "v1", "customresourcedefinitions");
    pub(crate) const MUTATING_POLICIES: Gvr = Gvr(ADMISSION, "v1", "mutatingadmissionpolicies");
    pub(crate) const MUTATING_POLICY_BINDINGS: Gvr = Gvr(ADMISSION, "v1", "mutatingadmissionpolicybindings");
    pub(crate) const MUTATING_WEBHOOKS: Gvr = Gvr(ADMISSION, "v1", "mutatingwebhookconfigurations");
    pub(crate) const VALIDATING_POLICIES: Gvr = Gvr(ADMISSION, "v1", "validatingadmissionpolicies");
    pub(crate) const VALIDATING_POLICY_BINDINGS: Gvr =
        Gvr(ADMISSION, "v1", "validatingadmissionpolicybindings");
    pub(crate) const VALIDATING_WEBHOOKS: Gvr = Gvr(ADMISSION, "v1", "validatingwebhookconfigurations");
    pub(crate) const POD_CERTIFICATES: Gvr = Gvr("certificates.k8s.io", "v1", "podcertificaterequests");
}

const ADMISSION: &str = "admissionregistration.k8s.io";
const FLOWCONTROL: &str = "flowcontrol.apiserver.k8s.io";
const RBAC: &str = "rbac.authorization.k8s.io";

/// A change of a followed resource.
pub(crate) enum Change {
    /// The complete state; what is not in it is gone.
    Replace(Vec<Arc<Value>>),
    /// Added or modified.
    Set(Arc<Value>),
    /// Deleted, with its last state.
    Remove(Arc<Value>),
}

/// Calls the registry. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Local {
    registry: Arc<dyn Registry>,
    user: Arc<UserInfo>,
    manager: &'static str,
    /// What followers see of objects; everything if there is none.
    seen: Option<Arc<Kept>>,
}

impl Local {
    pub(crate) fn new(registry: Arc<dyn Registry>) -> Self {
        let user = Arc::new(UserInfo::new(API_SERVER_USER, &[SYSTEM_PRIVILEGED_GROUP]));
        Self { registry, user, manager: "kube-apiserver", seen: None }
    }

    /// The same, as another field manager.
    pub(crate) fn as_manager(&self, manager: &'static str) -> Self {
        Self { manager, ..self.clone() }
    }

    /// Whether a resource is served.
    pub(crate) fn serves(&self, gvr: Gvr) -> bool {
        self.registry.lookup(gvr.0, gvr.1, gvr.2).is_some()
    }

    /// The context of a request of the server's own.
    pub(crate) fn context(&self, verb: &str, gvr: Gvr, namespace: &str, name: &str) -> RequestContext {
        let Gvr(group, version, resource) = gvr;
        let text = |t: &str| t.to_owned();
        let parts = [resource, name].iter().filter(|p| !p.is_empty()).map(|p| text(p)).collect();
        let info = RequestInfo {
            is_resource_request: true,
            verb: text(verb),
            api_prefix: text(if group.is_empty() { "api" } else { "apis" }),
            api_group: text(group),
            api_version: text(version),
            namespace: text(namespace),
            resource: text(resource),
            name: text(name),
            parts,
            ..RequestInfo::default()
        };
        RequestContext {
            user: self.user.clone(),
            info: Arc::new(info),
            dry_run: false,
            field_manager: text(self.manager),
            field_validation: FieldValidation::Strict,
            user_agent: text("kube-apiserver"),
            audit_id: uuid::Uuid::new_v4().to_string(),
            warnings: Warnings::default(),
            audit: Default::default(),
        }
    }

    /// Reads one object; `None` when it does not exist.
    pub(crate) async fn get(
        &self,
        gvr: Gvr,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Arc<Value>>, ApiError> {
        match self.registry.get(&self.context("get", gvr, namespace, name), "").await {
            Ok(object) => object.value().map(Some),
            Err(error) if error.code == 404 => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Lists objects of a namespace that a label selector selects.
    pub(crate) async fn list(
        &self,
        gvr: Gvr,
        namespace: &str,
        labels: &str,
    ) -> Result<Vec<Arc<Value>>, ApiError> {
        let options = ListOptions { label_selector: labels.to_owned(), ..ListOptions::default() };
        let list = self.registry.list(&self.context("list", gvr, namespace, ""), &options).await?;
        list.items.iter().map(|i| i.value()).collect()
    }

    /// Creates an object.
    pub(crate) async fn create(
        &self,
        gvr: Gvr,
        namespace: &str,
        object: &serde_json::Value,
    ) -> Result<(), ApiError> {
        let context = self.context("create", gvr, namespace, "");
        self.registry.create(&context, json(object)).await.map(|_| ())
    }

    /// Creates an object unless it exists; tells whether it did.
    pub(crate) async fn ensure(
        &self,
        gvr: Gvr,
        namespace: &str,
        object: &serde_json::Value,
    ) -> Result<bool, ApiError> {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        if self.get(gvr, namespace, name).await?.is_some() {
            return Ok(false);
        }
        match self.create(gvr, namespace, object).await {
            Ok(()) => Ok(true),
            Err(error) if error.reason == "AlreadyExists" => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Replaces an object.
    pub(crate) async fn update(
        &self,
        gvr: Gvr,
        namespace: &str,
        object: &serde_json::Value,
    ) -> Result<(), ApiError> {
        self.replace(gvr, namespace, object, "").await
    }

    /// Replaces the status of an object.
    pub(crate) async fn update_status(
        &self,
        gvr: Gvr,
        namespace: &str,
        object: &serde_json::Value,
    ) -> Result<(), ApiError> {
        self.replace(gvr, namespace, object, "status").await
    }

    /// Applies the status of an object, by force.
    pub(crate) async fn apply_status(
        &self,
        gvr: Gvr,
        namespace: &str,
        object: &serde_json::Value,
    ) -> Result<(), ApiError> {
        let context = self.context_of("patch", gvr, namespace, object, "status");
        let bytes = Bytes::from(object.to_string());
        let patch = Patch { kind: PatchType::Apply, bytes, force: Some(true) };
        self.registry.patch(&context, patch).await.map(|_| ())
    }

    /// A context for an object or, unless `subresource` is empty, that part of it.
    fn context_of(
        &self,
        verb: &str,
        gvr: Gvr,
        namespace: &str,
        object: &serde_json::Value,
        subresource: &str,
    ) -> RequestContext {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let mut context = self.context(verb, gvr, namespace, name);
        if !subresource.is_empty() {
            let info = Arc::make_mut(&mut context.info);
            info.subresource = subresource.to_owned();
            info.parts.push(subresource.to_owned());
        }
        context
    }

    /// Replaces an object, or what a subresource holds of it.
    async fn replace(
        &self,
        gvr: Gvr,
        namespace: &str,
        object: &serde_json::Value,
        subresource: &str,
    ) -> Result<(), ApiError> {
        let context = self.context_of("update", gvr, namespace, object, subresource);
        self.registry.update(&context, json(object)).await.map(|_| ())
    }

    /// The group-versions that are served, each once.
    pub(crate) fn group_versions(&self) -> std::collections::BTreeSet<(String, String)> {
        self.registry.resources().iter().map(|r| (r.gvk.group.clone(), r.gvk.version.clone())).collect()
    }

    /// Deletes an object of this uid.
    pub(crate) async fn delete_exact(&self, gvr: Gvr, name: &str, uid: &str) -> Result<(), ApiError> {
        self.delete_exact_in(gvr, "", name, uid).await
    }

    /// Deletes an object of a namespace and of this uid.
    pub(crate) async fn delete_exact_in(
        &self,
        gvr: Gvr,
        namespace: &str,
        name: &str,
        uid: &str,
    ) -> Result<(), ApiError> {
        let options = registry::api::DeleteOptions { uid: Some(uid.to_owned()), ..Default::default() };
        self.registry.delete(&self.context("delete", gvr, namespace, name), options).await.map(|_| ())
    }

    /// Deletes an object; fine when it does not exist.
    pub(crate) async fn delete(&self, gvr: Gvr, namespace: &str, name: &str) -> Result<(), ApiError> {
        match self.registry.delete(&self.context("delete", gvr, namespace, name), Default::default()).await {
            Ok(_) => Ok(()),
            Err(error) if error.code == 404 => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Keeps `sink` informed about a resource until `stop`; calls `synced` after the first complete state.
    pub(crate) async fn follow(
        self,
        gvr: Gvr,
        stop: CancellationToken,
        synced: impl FnOnce() + Send,
        mut sink: impl FnMut(Change) + Send,
    ) {
        let mut synced = Some(synced);
        loop {
            let round = self.follow_once(gvr, &mut sink, &mut synced);
            let result = tokio::select! { result = round => result, () = stop.cancelled() => return };
            if let Err(error) = result {
                tracing::warn!(resource = gvr.2, err = %error, "following a resource failed, starting over");
            }
            tokio::select! { () = tokio::time::sleep(Duration::from_secs(1)) => {}, () = stop.cancelled() => return }
        }
    }

    /// Followers see nothing but these fields of objects, without defaults.
    pub(crate) fn seeing_only(self, kept: Kept) -> Self {
        Self { seen: Some(Arc::new(kept)), ..self }
    }

    fn seen(&self, object: &ObjectRef) -> Result<Arc<Value>, ApiError> {
        match &self.seen {
            Some(kept) => object.fields(kept),
            None => object.value(),
        }
    }

    /// One watch that starts with the objects there are, then watches from where the one before ended.
    async fn follow_once(
        &self,
        gvr: Gvr,
        sink: &mut impl FnMut(Change),
        synced: &mut Option<impl FnOnce()>,
    ) -> Result<(), ApiError> {
        // List and watch in one: between two calls that different sources answer, the position may already be too old.
        let mut options = ListOptions {
            send_initial_events: Some(true),
            resource_version_match: "NotOlderThan".to_owned(),
            allow_watch_bookmarks: true,
            timeout_seconds: Some(600),
            ..ListOptions::default()
        };
        let mut initial = Some(Vec::new());
        loop {
            let mut events = self.registry.watch(&self.context("watch", gvr, "", ""), &options).await?;
            while let Some(event) = events.next().await {
                let object = match event {
                    WatchEvent::Error(error) => return Err(error),
                    WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                        match &mut initial {
                            Some(all) => all.push(self.seen(&object)?),
                            None => sink(Change::Set(self.seen(&object)?)),
                        }
                        object
                    }
                    WatchEvent::Deleted(object) => {
                        sink(Change::Remove(self.seen(&object)?));
                        object
                    }
                    WatchEvent::Bookmark(object) => {
                        if let Some(all) = initial.take_if(|_| ends_initial_events(&object)) {
                            sink(Change::Replace(all));
                            if let Some(synced) = synced.take() {
                                synced();
                            }
                        }
                        object
                    }
                };
                options.resource_version = object.resource_version().into_owned();
            }
            if initial.is_some() {
                return Err(ApiError::internal(
                    "the watch ended before the objects there were had been sent",
                ));
            }
            options.send_initial_events = None;
            options.resource_version_match.clear();
        }
    }
}

fn ends_initial_events(object: &ObjectRef) -> bool {
    let path = ["metadata", "annotations", client::INITIAL_EVENTS_END];
    object.value().is_ok_and(|value| value.str_at(&path) == Some("true"))
}

/// Now, as conditions have it.
pub(crate) fn now() -> String {
    registry::meta::rfc3339(jiff::Timestamp::now())
}

fn json(object: &serde_json::Value) -> Body {
    Body { media_type: MediaType::Json, bytes: Bytes::from(object.to_string()) }
}
