//! Connections to servers that objects name: admission webhooks and aggregated API servers.
//!
//! [`resolve`] finds the address of a service, [`tls`] makes the TLS settings, [`pool`] keeps HTTP/1.1 connections. Error
//! texts are those of Go's HTTP client, because users see them in the answers to their requests.
pub(crate) mod endpoint;
pub(crate) mod pool;
pub(crate) mod resolve;
pub(crate) mod tls;
