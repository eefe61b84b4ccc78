//! Deleting all instances of a definition, whether or not their version is served.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;

use crate::api::{DeleteOptions, ListOptions, RequestContext, RequestInfo, WatchEvent};
use crate::core::Resource;
use crate::errors::ApiError;
use crate::registry::ApiRegistry;
use crate::store::{delete, read, watch};
use crate::strategy::Call;

impl ApiRegistry {
    fn stored(&self, group: &str, plural: &str) -> Result<Arc<Resource>, ApiError> {
        let family = self.core().custom().family(group, plural);
        family.and_then(|f| f.stored()).ok_or_else(|| {
            ApiError::internal(format!("unable to find a custom resource client for {plural}.{group}"))
        })
    }

    /// Asks for the deletion of every instance, namespace by namespace.
    ///
    /// # Errors
    /// What the first failing list or delete answered.
    pub async fn delete_instances(
        &self,
        context: &RequestContext,
        group: &str,
        plural: &str,
    ) -> Result<(), ApiError> {
        let resource = self.stored(group, plural)?;
        let everywhere = within(context, &resource, "");
        let (items, _) = read::list(&self.call(&everywhere, &resource), &ListOptions::default()).await?;
        let namespaces: BTreeSet<&str> = items.iter().map(crate::meta::namespace).collect();
        for namespace in namespaces {
            let context = within(context, &resource, namespace);
            let call = self.call(&context, &resource);
            delete::delete_collection(&call, &DeleteOptions::default(), &ListOptions::default()).await?;
        }
        Ok(())
    }

    /// Waits until there are no instances, for some time.
    ///
    /// # Errors
    /// Why it cannot be said.
    pub async fn await_no_instances(
        &self,
        context: &RequestContext,
        group: &str,
        plural: &str,
        patience: Duration,
    ) -> Result<(), String> {
        let resource = self.stored(group, plural).map_err(|e| e.to_string())?;
        let context = within(context, &resource, "");
        let call = self.call(&context, &resource);
        let none = self.until_none(&call, &resource);
        match tokio::time::timeout(patience, none).await {
            Ok(result) => result.map_err(|e| e.to_string()),
            Err(_) => Err("timed out waiting for the condition".to_owned()),
        }
    }

    async fn until_none(&self, call: &Call<'_>, resource: &Arc<Resource>) -> Result<(), ApiError> {
        loop {
            let (items, list) = read::list(call, &ListOptions::default()).await?;
            if items.is_empty() {
                return Ok(());
            }
            let options = ListOptions { resource_version: list.resource_version, ..ListOptions::default() };
            let mut events = watch::watch(call, resource, &options).await?;
            while let Some(event) = events.next().await {
                match event {
                    WatchEvent::Deleted(_) => break,
                    WatchEvent::Error(error) => return Err(error),
                    _ => {}
                }
            }
        }
    }
}

/// The context of a request about all instances in a namespace, or everywhere.
fn within(context: &RequestContext, resource: &Resource, namespace: &str) -> RequestContext {
    let kind = resource.row.kind;
    let info = RequestInfo {
        api_group: kind.group.to_owned(),
        api_version: kind.version.to_owned(),
        resource: resource.row.resource.to_owned(),
        namespace: namespace.to_owned(),
        ..(*context.info).clone()
    };
    RequestContext { info: Arc::new(info), ..context.clone() }
}
