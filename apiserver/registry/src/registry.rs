//! The implementation of the contract with the server: looks resources up and dispatches to the generic operations
//! and the subresources.

use std::sync::Arc;

use async_trait::async_trait;
use storage::cacher::Cacher;

use crate::api::{
    Body, DeleteOptions, Deleted, DeletionState, Gvk, List, ListOptions, ObjectRef, Patch, Registry,
    RequestContext, ResourceRow, WatchStream, Written,
};
use crate::core::{Config, Core, Resource};
use crate::errors::ApiError;
use crate::filter::Filter;
use crate::object::Owned;
use crate::store::{self, delete};
use crate::strategy::Call;
use crate::{check, meta, subresources};

/// The registry the server calls.
#[derive(Clone)]
pub struct ApiRegistry {
    core: Arc<Core>,
}

impl ApiRegistry {
    /// Builds a registry.
    pub fn new(config: Config) -> Self {
        ApiRegistry { core: Core::new(config) }
    }

    /// The state behind it, for the parts of the server that read objects themselves.
    pub fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// What would be stored of an object, as a new one or in the place of `old`, or what its strategy refuses; nothing
    /// is stored.
    ///
    /// # Errors
    /// What the client would be answered.
    pub fn check(
        &self,
        context: &RequestContext,
        new: &Body,
        old: Option<&Body>,
    ) -> Result<machinery::Value, ApiError> {
        let resource = self.resource(context)?;
        check::check(&self.call(context, &resource), new, old)
    }

    fn resource(&self, context: &RequestContext) -> Result<Arc<Resource>, ApiError> {
        let info = &context.info;
        self.core
            .resource(&info.api_group, &info.api_version, &info.resource)
            .ok_or_else(ApiError::page_not_found)
    }

    fn with_cacher<T>(
        &self,
        group: &str,
        version: &str,
        resource: &str,
        look: impl FnOnce(&Cacher) -> T,
    ) -> Option<T> {
        let resource = self.core.resource(group, version, resource)?;
        let cacher = &resource.source().ok()?.cacher;
        cacher.is_cached().then(|| look(cacher))
    }

    pub(crate) fn call<'a>(&'a self, context: &'a RequestContext, resource: &'a Resource) -> Call<'a> {
        if let Some(warning) = resource.custom.as_ref().and_then(|c| c.warning.as_ref()) {
            context.warnings.add(warning.clone());
        }
        Call {
            request: context,
            resource,
            subresource: &context.info.subresource,
            now: self.core.now(),
            core: &self.core,
        }
    }
}

/// 405 unless the (sub)resource offers the verb.
fn check_verb(resource: &Resource, subresource: &str, verb: &str) -> Result<(), ApiError> {
    let row = resource.row;
    let offered = match subresource {
        "" => row.has_verb(verb),
        name => {
            let sub = row.subresource(name).ok_or_else(ApiError::page_not_found)?;
            sub.verbs.contains(&verb)
        }
    };
    if offered { Ok(()) } else { Err(ApiError::method_not_supported(row.kind.group, row.resource, verb)) }
}

#[async_trait]
impl Registry for ApiRegistry {
    fn lookup(&self, group: &str, version: &str, resource: &str) -> Option<Arc<ResourceRow>> {
        self.core.resource(group, version, resource).map(|r| r.published.clone())
    }

    fn built_in(&self, gvk: &Gvk) -> bool {
        self.core.resources().iter().any(|r| r.published.gvk == *gvk)
    }

    fn resources(&self) -> Vec<Arc<ResourceRow>> {
        let built_in = self.core.resources().iter().map(|r| r.published.clone());
        built_in.chain(self.core.custom().published()).collect()
    }

    fn object_count(&self, group: &str, version: &str, resource: &str) -> Option<usize> {
        self.with_cacher(group, version, resource, |cacher| cacher.size().0)
    }

    fn average_size(&self, group: &str, version: &str, resource: &str) -> u64 {
        self.with_cacher(group, version, resource, Cacher::average_size).unwrap_or(0)
    }

    async fn get(&self, context: &RequestContext, resource_version: &str) -> Result<ObjectRef, ApiError> {
        let resource = self.resource(context)?;
        check_verb(&resource, &context.info.subresource, "get")?;
        let call = self.call(context, &resource);
        subresources::get(&call, &resource, resource_version).await
    }

    async fn list(&self, context: &RequestContext, options: &ListOptions) -> Result<List, ApiError> {
        let resource = self.resource(context)?;
        check_verb(&resource, "", "list")?;
        let call = self.call(context, &resource);
        if resource.row.stored.is_none() {
            return subresources::list_unstored(&call);
        }
        store::read::list_handles(&call, &resource, options).await
    }

    async fn watch(&self, context: &RequestContext, options: &ListOptions) -> Result<WatchStream, ApiError> {
        let resource = self.resource(context)?;
        check_verb(&resource, "", "watch")?;
        let call = self.call(context, &resource);
        store::watch::watch(&call, &resource, options).await
    }

    async fn create(&self, context: &RequestContext, body: Body) -> Result<Written, ApiError> {
        let resource = self.resource(context)?;
        check_verb(&resource, &context.info.subresource, "create")?;
        let call = self.call(context, &resource);
        subresources::create(&call, &body).await
    }

    async fn update(&self, context: &RequestContext, body: Body) -> Result<Written, ApiError> {
        let resource = self.resource(context)?;
        check_verb(&resource, &context.info.subresource, "update")?;
        let call = self.call(context, &resource);
        subresources::update(&call, &body).await
    }

    async fn patch(&self, context: &RequestContext, patch: Patch) -> Result<Written, ApiError> {
        let resource = self.resource(context)?;
        check_verb(&resource, &context.info.subresource, "patch")?;
        let call = self.call(context, &resource);
        subresources::patch(&call, &patch).await
    }

    fn check_selectors(&self, context: &RequestContext, options: &ListOptions) -> Result<(), ApiError> {
        let row = self.resource(context)?.row;
        Filter::parse(row, &options.label_selector, &options.field_selector).map(drop)
    }

    async fn delete(&self, context: &RequestContext, options: DeleteOptions) -> Result<Deleted, ApiError> {
        let resource = self.resource(context)?;
        check_verb(&resource, &context.info.subresource, "delete")?;
        delete::validate_options(&options)?;
        let call = self.call(context, &resource);
        let deleted = delete::delete(&call, &context.info.name, &options).await?;
        Ok(answer(&resource, deleted))
    }

    async fn delete_collection(
        &self,
        context: &RequestContext,
        options: DeleteOptions,
        list: &ListOptions,
    ) -> Result<List, ApiError> {
        let resource = self.resource(context)?;
        check_verb(&resource, "", "deletecollection")?;
        delete::validate_options(&options)?;
        let call = self.call(context, &resource);
        delete::delete_collection(&call, &options, list).await
    }

    async fn connect(&self, context: &RequestContext, options: Body) -> Result<(), ApiError> {
        let resource = self.resource(context)?;
        let call = self.call(context, &resource);
        subresources::connect(&call, &options).await
    }
}

/// The object while it still exists or where the resource returns deleted objects, else a Status about it.
fn answer(resource: &Resource, deleted: delete::Deleted) -> Deleted {
    let kind = resource.row.kind;
    if deleted.returns_object {
        let state = if deleted.gone { DeletionState::Complete } else { DeletionState::Pending };
        return Deleted::Object(Owned::handle(deleted.object, kind), state);
    }
    Deleted::Status {
        name: meta::name(&deleted.object).to_owned(),
        uid: meta::uid(&deleted.object).to_owned(),
        kind: resource.row.resource.to_owned(),
        group: kind.group.to_owned(),
    }
}
