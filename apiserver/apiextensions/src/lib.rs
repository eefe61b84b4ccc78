//! Custom resource definitions as pure functions: what a definition may say, what its schema makes of an instance, and
//! what the controllers write to its status.
//!
//! Nothing here stores or serves; that is the registry's `customresources`. CEL rules are not evaluated yet: definitions
//! that have some are refused ([`validation`]). Start at [`schema::Schema`] and [`validation::validate_new`].
//! Upstream: `k8s.io/apiextensions-apiserver/pkg`.

pub mod conditions;
pub mod definition;
pub mod jsonpath;
pub mod names;
pub mod schema;
pub mod validation;
