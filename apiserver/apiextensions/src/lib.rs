//! Custom resource definitions as pure functions: what a definition may say, what its schema makes of an instance, and
//! what the controllers write to its status.
//!
//! Nothing here stores or serves; that is the registry's `customresources`. Start at [`schema::Schema`],
//! [`validation::validate_new`] and [`rules::Validator`].
//! Upstream: `k8s.io/apiextensions-apiserver/pkg`.

pub mod conditions;
pub mod definition;
pub mod jsonpath;
pub mod names;
pub mod rules;
pub mod schema;
pub mod validation;
