//! core/v1. Upstream: `pkg/apis/core/validation/validation.go`.

pub mod container;
pub mod data;
pub mod node;
pub mod pod;
pub mod service;
pub mod volume;
