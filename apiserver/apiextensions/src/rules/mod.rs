//! Validation rules of schemas (`x-kubernetes-validations`): compiled with what they may cost ([`compile`]), and
//! evaluated over instances ([`Validator`]).
//!
//! Whether a definition may have its rules is decided in [`crate::validation`]. Rules below `allOf` and its kin are
//! not looked for: a structural schema has none there. Upstream: `pkg/apiserver/schema/cel`.

mod compile;
mod eval;
mod field_path;
mod types;
mod validator;

pub use compile::{Compiled, CompiledRules, Message, Ready, Role, compile};
pub use eval::Outcome;
pub use field_path::{Notation, resolve};
pub use types::{Declared, Step, cel_schema};
pub use validator::Validator;

/// What the rules of one instance may cost together (`RuntimeCELCostBudget`).
pub const BUDGET: i64 = 10_000_000;

/// The largest request, in bytes.
const MAX_REQUEST: u64 = 3 * 1024 * 1024;
