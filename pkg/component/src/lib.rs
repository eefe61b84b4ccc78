//! What every daemon is made of besides its own work: flags as data, feature gates, logs, metrics, health checks,
//! serving with TLS, delegated authentication and authorization, and the process shell.
//!
//! Start reading at [`flags`] and [`app`]. Does not do: anything about API objects beyond the reviews that delegated
//! authentication needs; nothing here knows which daemon it serves.
//! Upstream: k8s.io/component-base, k8s.io/apiserver/pkg/server.

pub mod app;
pub mod config;
pub mod delegated;
pub mod duration;
pub mod features;
pub mod files;
pub mod flags;
pub mod health;
pub mod logs;
pub mod metrics;
pub mod serving;
pub mod version;
pub mod zpages;
