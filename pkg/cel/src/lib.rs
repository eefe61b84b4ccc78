//! The Common Expression Language, as Kubernetes v1.37 speaks it.
//!
//! An [`Env`] knows variables, types and functions; [`Env::compile`] turns an expression into a [`Program`];
//! [`Program::eval`] evaluates it over an [`Activation`] within a [`Budget`]. Texts of errors and their positions,
//! static cost estimates and charged costs follow upstream's engine (cel-go v0.29.2) and its Kubernetes libraries.
//!
//! ```
//! use cel::{Activation, Budget, Env, Type, Val, Version};
//! let env = Env::builder(Version::Stored).variable("n", Type::Int).build();
//! let program = env.compile("[1, 2, 3].exists(i, i == n)", Some(&Type::Bool)).unwrap();
//! let activation = Activation::new().bind("n", Ok(Val::Int(2)));
//! assert_eq!(program.eval(&activation, &Budget::cost(1000)).unwrap().as_bool(), Some(true));
//! ```
//!
//! Stages, each a module: `parser`, `check`, `validate`, `eval` (planning and evaluation); `cost` beside them,
//! `library` below, `well_known` for the messages of protocol buffers that Kubernetes' environments have. Not done:
//! partial evaluation, and making objects other than those of patches ([`Made`]).

pub mod admission;
mod ast;
mod check;
mod cost;
mod decl_type;
mod decls;
mod env;
mod environment;
mod escape;
mod eval;
mod library;
pub mod openapi;
mod parser;
mod program;
mod regexp;
mod schema;
mod source;
mod types;
mod val;
mod validate;
mod well_known;

pub use cost::estimate::Sizes;
pub use cost::range::Range;
pub use decl_type::{DeclSizes, DeclType};
pub use env::{CompileError, Env, EnvBuilder, Library};
pub use environment::Version;
pub use escape::{escape, unescape};
pub use eval::{Activation, Budget, CHECK_EVERY, EvalError, Res};
pub use library::authz;
pub use library::quantity::QuantityVal;
pub use library::semver::Semver;
pub use program::Program;
pub use schema::{Kind, Schema};
pub use source::{Issue, Issues, Offset};
pub use types::Type;
pub use val::made::{JSON_PATCH, OBJECT};
pub use val::object::Identity;
pub use val::{Lazy, List, Made, Map, MapBuilder, Object, Text, Timestamp, Val};
