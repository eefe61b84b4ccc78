//! kube-apiserver: HTTP, filter chain, endpoints and assembly. Resources live in the `registry` crate, the store in
//! `storage`. Start at `chain`: it shows the way of a request; `app` shows how the parts are put together.
mod aggregator;
pub mod app;
mod assemble;
mod chain;
pub mod connect;
mod customresources;
mod discovery;
mod endpoints;
pub mod flowcontrol;
mod hooks;
pub mod lifecycle;
mod local;
mod metrics;
mod oidc;
pub mod openapi;
pub mod options;
mod outbound;
mod reconcilers;
mod resource;
mod reviewers;
pub mod server;
mod tables;
mod web;
mod webhooks;

#[cfg(test)]
#[path = "../../pkg/api/tests/generate/mod.rs"]
mod generate;
#[cfg(test)]
#[path = "../../pkg/machinery/tests/oracle/mod.rs"]
mod oracle;
