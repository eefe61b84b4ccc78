//! Watched objects, reduced to what is read: there are many of them, and the informers hold them for good.
//!
//! What is not listed here is not even decoded. Texts that many objects share are kept once ([`informer::Name`]).

mod node;
mod service;
mod slice;

pub use node::node;
pub use service::{LoadBalancerIngress, Service, ServicePort, ServiceSpec};
pub use slice::{Endpoint, EndpointSlice};

use client::Named;
use informer::Name;
use serde::Deserialize;

/// Which object it is, in which state.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Meta {
    pub name: Option<Box<str>>,
    pub namespace: Option<Name>,
    uid: Option<Box<str>>,
    resource_version: Option<Box<str>>,
}

impl Meta {
    fn named(&self) -> Named<'_> {
        Named {
            namespace: self.namespace.as_deref().unwrap_or_default(),
            name: self.name.as_deref().unwrap_or_default(),
            uid: self.uid.as_deref().unwrap_or_default(),
            version: self.resource_version.as_deref().unwrap_or_default(),
        }
    }

    /// `namespace/name`.
    pub fn key(&self) -> String {
        self.named().key()
    }
}
