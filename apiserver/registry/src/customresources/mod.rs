//! Custom resources: definitions become resources beside the built-in ones, with the same store operations.
//!
//! The server hands over every definition it sees ([`Table::set`]); [`family`] compiles what one serves. [`codec`]
//! reads and writes instances as their schema says, [`strategy`] validates them. Objects are served as they are stored,
//! as JSON; [`convert`] asks the webhook of definitions that have one. Upstream: `apiextensions-apiserver/pkg/apiserver/
//! customresource_handler.go`.

mod cleanup;
pub(crate) mod codec;
pub(crate) mod convert;
pub(crate) mod family;
pub(crate) mod rows;
pub(crate) mod strategy;

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use machinery::Value;
use storage::store::Store;

use crate::admission::webhook::Backend;
use crate::api;
use crate::core::Resource;
pub use family::{Column, Family, Version};

/// The definitions in force, by name (`<plural>.<group>`).
pub struct Table {
    store: Arc<dyn Store>,
    prefix: String,
    families: ArcSwap<BTreeMap<String, Arc<Family>>>,
    webhooks: convert::Way,
    /// One change at a time.
    changing: parking_lot::Mutex<()>,
}

impl Table {
    /// A table without definitions over a store, whose keys begin with `prefix`.
    pub(crate) fn new(store: Arc<dyn Store>, prefix: &str) -> Self {
        Table {
            store,
            prefix: prefix.to_owned(),
            families: ArcSwap::default(),
            webhooks: Default::default(),
            changing: Default::default(),
        }
    }

    /// Hands over the way to conversion webhooks. Only the first call counts.
    pub fn set_backend(&self, backend: Arc<dyn Backend>) {
        let _ = self.webhooks.set(backend);
    }

    /// Takes note of a definition as it is now. What is served changes only with its spec and accepted names.
    pub fn set(&self, definition: &Value) {
        let _one = self.changing.lock();
        let name = crate::meta::name(definition).to_owned();
        let mut families = BTreeMap::clone(&self.families.load());
        match families.get(&name).filter(|f| f.is_of(definition)) {
            Some(family) => family.follow(definition),
            None => {
                let old = match Family::build(definition, &self.store, &self.prefix, &self.webhooks) {
                    Ok(family) => families.insert(name, Arc::new(family)),
                    Err(why) => {
                        tracing::error!(
                            definition = name,
                            why,
                            "Unable to serve a custom resource definition"
                        );
                        families.remove(&name)
                    }
                };
                self.families.store(Arc::new(families));
                old.inspect(|family| family.end());
            }
        }
    }

    /// Forgets a definition: its watches end.
    pub fn remove(&self, name: &str) {
        let _one = self.changing.lock();
        let mut families = BTreeMap::clone(&self.families.load());
        let old = families.remove(name);
        self.families.store(Arc::new(families));
        old.inspect(|family| family.end());
    }

    /// Takes note of all definitions; others are gone.
    pub fn replace(&self, definitions: &[Arc<Value>]) {
        let names: Vec<&str> = definitions.iter().map(|d| crate::meta::name(d)).collect();
        let gone: Vec<String> =
            self.families.load().keys().filter(|n| !names.contains(&n.as_str())).cloned().collect();
        gone.iter().for_each(|name| self.remove(name));
        definitions.iter().for_each(|definition| self.set(definition));
    }

    /// A definition's resources.
    pub(crate) fn family(&self, group: &str, resource: &str) -> Option<Arc<Family>> {
        self.families.load().get(&format!("{resource}.{group}")).cloned()
    }

    /// A served version.
    pub(crate) fn resource(&self, group: &str, version: &str, resource: &str) -> Option<Arc<Resource>> {
        self.family(group, resource)?.served(version)
    }

    /// A served version by its kind.
    pub(crate) fn of_kind(&self, group: &str, version: &str, kind: &str) -> Option<Arc<Resource>> {
        let families = self.families.load();
        let served = families.values().filter_map(|family| family.served(version));
        served.into_iter().find(|r| r.row.kind.group == group && r.row.kind.kind == kind)
    }

    /// What discovery lists.
    pub(crate) fn published(&self) -> Vec<Arc<api::ResourceRow>> {
        self.families.load().values().flat_map(|family| family.published()).collect()
    }
}
