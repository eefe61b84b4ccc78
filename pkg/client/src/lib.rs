//! Client of a Kubernetes API server.
//!
//! Configuration ([`Config`]: kubeconfig, in-cluster), HTTP/2 over TLS with certificates that may change while in use,
//! credentials, rate limit, retries ([`Client`]), and calls on typed and untyped objects ([`Api`]). Watches are opened
//! and read here; keeping one alive is the business of crate `informer`. Start reading at `client.rs`.
//! Upstream: k8s.io/client-go (rest, tools/clientcmd, transport, dynamic, metadata, discovery).

mod ahead;
mod api;
mod client;
mod codec;
pub mod config;
pub mod discovery;
pub mod dynamic;
mod error;
mod exec;
mod http2;
mod identity;
pub mod kubeconfig;
pub mod limiter;
pub mod metrics;
mod object;
mod params;
mod provider;
pub mod spans;
pub mod tls;
mod token;
pub mod transport;
mod watch;

pub use api::{Api, Form, Gvr, Prepared};
pub use client::{Answer, Client, ContentType, Options, Request, user_agent};
pub use config::{Config, ConfigError};
pub use discovery::ApiResource;
pub use dynamic::DynamicObject;
pub use error::{Error, Result, generic_status};
pub use identity::Identity;
pub use object::{Earlier, Kept, Meta, Named, Object, ObjectList, PartialObjectMetadata, Receipt, split_key};
pub use params::{
    DeleteParams, GetParams, ListParams, Patch, PatchParams, Propagation, Query, WatchParams, WriteParams,
    segment,
};
pub use provider::TokenProvider;
pub use tls::ClientCert;
pub use watch::{INITIAL_EVENTS_END, WatchEvent, WatchStream};
