//! Serving HTTP/1.1 and HTTP/2, plain or with TLS, with a drain.
//!
//! [`Listener::bind`] early, so that a busy port fails the start; then [`serve`] with a service closure. Every request
//! carries an `Arc<ConnInfo>` extension (remote address, peer certificates). Upgrades work (`hyper::upgrade::on`).
//! Upstream: apiserver/pkg/server/secure_serving.go.

pub mod body;
mod certs;
mod connection;
mod data;
mod gather;
mod listener;
pub mod mux;
mod names;
mod secure;
pub mod self_signed;
mod tls;
mod turns;

pub use body::{Body, BoxError};
pub use certs::{CertError, CertSource, Certificates};
pub use connection::{ConnInfo, ServeOptions, TlsInfo, serve, serve_each};
pub use data::{Data, Pieces};
pub use listener::{BindOptions, Listener};
pub use mux::Mux;
pub use names::TlsParameters;
pub use secure::{OwnNames, SecureServer, SecureServing};
pub use tls::server_config;

#[cfg(test)]
mod tests;
