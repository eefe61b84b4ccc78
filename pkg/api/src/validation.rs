//! Validation shared by the API server and by clients that must reject what it would reject.
//!
//! Field errors carry upstream's paths and texts (`apimachinery/pkg/util/validation/field`), name and label formats
//! those of `apimachinery/pkg/util/validation`. Validation of kinds is in one file per API group. Start at [`field`].

pub mod content;
pub mod field;
pub mod objectmeta;
