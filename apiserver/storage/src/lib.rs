//! The API server's storage: one trait, two stores, and the watch cache.
//!
//! Start reading at [`store::Store`], the contract that everything above relies on. [`embedded`] is the store in a
//! directory, used when no etcd is named; [`etcd`] is the one on etcd; [`routed`] keeps some resources elsewhere; [`cacher`]
//! is the watch cache that serves reads. Objects are bytes here: this crate never decodes one, and knows neither HTTP nor
//! kinds. Keys are complete etcd keys (`/registry/pods/default/web`); the caller owns the prefix.

pub mod cacher;
pub mod embedded;
pub mod error;
pub mod etcd;
pub mod facade;
pub mod lease;
pub mod routed;
pub mod store;
pub mod update;

pub use cacher::Cacher;
pub use embedded::Embedded;
pub use error::{Error, Result};
pub use etcd::{Etcd, EtcdOptions};
pub use routed::Routed;
pub use store::{
    Event, EventKind, Get, KeyValue, ListOptions, Page, ProgressHandle, Revision, Store, Watch, WatchItem,
    WatchOptions,
};
pub use update::{Change, guaranteed_update};
