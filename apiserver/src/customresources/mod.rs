//! The controllers of custom resource definitions, in the server itself as upstream has them.
//!
//! One follower hands every definition to the registry before anyone acts on it, so that what a status says is served
//! is served. [`conditions`] writes names, approval and establishment; [`finalizer`] deletes instances before their
//! definition. Work is keyed by name: a burst of events is one look at the latest state.
//! Upstream: `apiextensions-apiserver/pkg/controller/{status,establish,finalizer,nonstructuralschema,apiapproval}`.
mod conditions;
mod finalizer;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use component::app::Tasks;
use machinery::Value;
use parking_lot::Mutex;
use registry::ApiRegistry;
use registry::api::{Body, MediaType, Registry, RequestContext, RequestInfo};
use registry::errors::ApiError;
use tokio::sync::Notify;

use crate::endpoints::health::Health;
use crate::local::{Change, Gvr, Local};
use crate::outbound::tls::{self, Trust};

/// What is known of the definitions, and which of them to look at.
#[derive(Default)]
struct State {
    definitions: BTreeMap<String, Arc<Value>>,
    pending: BTreeSet<String>,
    /// Definitions whose instances are being deleted.
    finalizing: BTreeSet<String>,
}

/// The controllers' shared parts.
#[derive(Clone)]
struct Controllers {
    registry: ApiRegistry,
    local: Local,
    state: Arc<Mutex<State>>,
    wake: Arc<Notify>,
    tasks: Tasks,
}

/// How long after a failure a definition is looked at again.
const RETRY: Duration = Duration::from_secs(1);

/// Starts following definitions and acting on them.
pub(crate) fn start(tasks: &Tasks, health: &Health, local: &Local, registry: &ApiRegistry) {
    let hooks = ["start-apiextensions-informers", "start-apiextensions-controllers", "crd-informer-synced"];
    let hooks = hooks.map(|name| health.hook(name));
    let controllers = Controllers {
        registry: registry.clone(),
        local: local.clone(),
        state: Arc::default(),
        wake: Arc::default(),
        tasks: tasks.clone(),
    };
    let (each, stop) = (controllers.clone(), tasks.shutdown().clone());
    let sink = move |change| each.take(change);
    let synced = move || hooks.iter().for_each(|hook| hook.finish());
    tasks.spawn("crd-follower", local.clone().follow(Gvr::CUSTOM_RESOURCES, stop, synced, sink));
    tasks.spawn("crd-controllers", controllers.run());
}

fn name_of(definition: &Value) -> String {
    definition.str_at(&["metadata", "name"]).unwrap_or_default().to_owned()
}

fn group_of(definition: &Value) -> &str {
    definition.str_at(&["spec", "group"]).unwrap_or_default()
}

/// Whether the conversion webhook's CA bundle cannot be used to verify anyone.
fn has_bad_bundle(definition: &Value) -> bool {
    let bundle = definition.str_at(&["spec", "conversion", "webhook", "clientConfig", "caBundle"]);
    let Some(text) = bundle.filter(|b| !b.is_empty()) else { return false };
    let pem = machinery::golang::decode_base64(text.as_bytes()).unwrap_or_default();
    tls::config(Trust::Bundle(&pem), None).is_err()
}

impl Controllers {
    /// Serves a change, then leaves the rest to the controllers.
    fn take(&self, change: Change) {
        let mut state = self.state.lock();
        match change {
            Change::Set(definition) => {
                self.registry.core().custom().set(&definition);
                let name = name_of(&definition);
                state.pending.insert(name.clone());
                state.definitions.insert(name, definition);
            }
            Change::Remove(definition) => {
                let name = name_of(&definition);
                self.registry.core().custom().remove(&name);
                state.definitions.remove(&name);
                state.requeue_group(group_of(&definition), &name);
            }
            Change::Replace(all) => {
                self.registry.core().custom().replace(&all);
                state.definitions = all.into_iter().map(|d| (name_of(&d), d)).collect();
                state.pending = state.definitions.keys().cloned().collect();
            }
        }
        drop(state);
        self.wake.notify_one();
    }

    async fn run(self) {
        let stop = self.tasks.shutdown().clone();
        loop {
            let next = self.state.lock().pending.pop_first();
            let Some(name) = next else {
                tokio::select! { () = self.wake.notified() => continue, () = stop.cancelled() => return }
            };
            if let Err(error) = self.sync(&name).await {
                tracing::error!(definition = name, err = %error, "a custom resource definition could not be synced");
                self.again(name, RETRY);
            }
        }
    }

    /// Looks at a definition again after a pause.
    fn again(&self, name: String, after: Duration) {
        let (this, stop) = (self.clone(), self.tasks.shutdown().clone());
        self.tasks.spawn("crd-retry", async move {
            tokio::select! { () = tokio::time::sleep(after) => {}, () = stop.cancelled() => return }
            this.state.lock().pending.insert(name);
            this.wake.notify_one();
        });
    }

    async fn sync(&self, name: &str) -> Result<(), ApiError> {
        let (definition, others) = {
            let state = self.state.lock();
            let Some(definition) = state.definitions.get(name).cloned() else { return Ok(()) };
            let group = group_of(&definition).to_owned();
            let same = state.definitions.values().filter(|d| group_of(d) == group).cloned();
            let others: Vec<Arc<Value>> = same.collect();
            (definition, others)
        };
        if finalizer::wants(&definition) && self.state.lock().finalizing.insert(name.to_owned()) {
            let (this, name, definition) = (self.clone(), name.to_owned(), definition.clone());
            self.tasks.spawn("crd-finalizer", async move { this.finalize(name, definition).await });
        }
        let now = crate::local::now();
        let Some(plan) = conditions::plan(&definition, &others, &now, has_bad_bundle(&definition)) else {
            return Ok(());
        };
        self.update_status(&plan.definition).await?;
        if plan.names_changed {
            self.state.lock().requeue_group(group_of(&definition), name);
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Writes a definition's status. Someone else having been faster is no error: their event comes.
    async fn update_status(&self, definition: &Value) -> Result<bool, ApiError> {
        let name = name_of(definition);
        let context = self.local.context("update", Gvr::CUSTOM_RESOURCES, "", &name);
        let info = RequestInfo { subresource: "status".to_owned(), ..(*context.info).clone() };
        let context = RequestContext { info: Arc::new(info), ..context };
        let bytes = machinery::json::encode_any(definition).into();
        match self.registry.update(&context, Body { media_type: MediaType::Json, bytes }).await {
            Ok(_) => Ok(true),
            Err(error) if error.code == 404 || error.code == 409 => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl State {
    /// Names that became free may be what others of the group wait for.
    fn requeue_group(&mut self, group: &str, except: &str) {
        let same = self.definitions.iter().filter(|(n, d)| group_of(d) == group && *n != except);
        self.pending.extend(same.map(|(n, _)| n.clone()));
    }
}
