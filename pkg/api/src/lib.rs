//! Kubernetes API facts: the resource table, and (being written) the type table, defaults and validation.

pub mod resources;
pub mod validation;
