//! core/v1. Upstream: `pkg/apis/core/validation/validation.go`.

pub mod claim;
pub(crate) mod container;
pub mod data;
pub mod endpoints;
mod env;
pub mod event;
pub mod ip;
pub mod limit_range;
pub mod namespace;
pub mod node;
mod path;
pub mod persistent_volume;
pub mod pod;
pub mod pod_status;
pub mod pod_subresources;
mod probe;
pub mod projected;
pub mod resource_quota;
pub(crate) mod resources;
pub mod scheduling;
mod security;
pub mod service;
mod service_addresses;
mod volume;
pub(crate) mod volume_source;
