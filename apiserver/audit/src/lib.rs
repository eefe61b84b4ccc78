//! Audit events: what a policy says about a request, the events of its stages, and where they go.
//!
//! [`policy`] decides how much of a request is recorded, [`event`] is what is recorded, [`sink`] is where it goes:
//! [`log`] to a file that [`rotate`]s; [`buffered`] and [`truncate`] stand before any. Webhooks are the server's own sink.
//! Knows nothing of HTTP requests: `apiserver/src/chain/audit.rs` makes the events. Start at [`config`].
//! Upstream: `k8s.io/apiserver/pkg/audit`, `plugin/pkg/audit`.

pub mod buffered;
pub mod config;
pub mod event;
mod legacy;
pub mod log;
mod metrics;
pub mod policy;
pub mod rotate;
pub mod sink;
pub mod strip;
#[cfg(test)]
mod tests;
pub mod truncate;
mod validation;

pub use config::{Auditor, Config, StartError};
pub use event::{Event, Level, Stage};
pub use metrics::{lost, observe_level, rejected};
pub use policy::{Policy, Settled};
pub use sink::Sink;
