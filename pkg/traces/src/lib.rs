//! OpenTelemetry traces: what a request or a pod's sync did, told to a collector.
//!
//! A daemon reads a [`Configuration`], starts [`Traces`] and hands them to what begins spans: requests
//! ([`Traces::request`]), calls of its own ([`Traces::call`], [`grpc::Traced`]), work ([`Traces::work`]). Everything below
//! takes the span that is current in its task: [`child`] and [`event`] need no handle, and do nothing in a process that
//! started no traces, at the price of one branch.
//!
//! Spans wait in a queue of bounded length; what does not fit is dropped and counted. Neither a slow collector nor an absent
//! one makes anybody wait. Upstream: k8s.io/component-base/tracing, v1.37.
//!
//! Differs: with traces off nothing is passed on of the trace a client's request belongs to; upstream then still copies
//! `traceparent` to etcd and webhooks. Texts of clients are cut after 4 KiB in attributes, so that the queue is bounded in
//! bytes too.

mod config;
mod endpoint;
mod export;
pub mod grpc;
pub mod http;
mod propagate;
mod provider;
mod span;

pub use config::{Configuration, Invalid};
pub use endpoint::Target;
pub use opentelemetry::{KeyValue, Value};
pub use propagate::inject;
pub use provider::{Incoming, StartError, Traces};
pub use span::{AuditId, Scope, Span, Traced, audit_id, child, child_of, event, is_on, text};
