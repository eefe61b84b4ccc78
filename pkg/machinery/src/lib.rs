//! API machinery: the generic object tree, its codecs, and the small value types of the Kubernetes API.
//!
//! Start at [`value`], the tree every write path works on. [`schema`] holds the type table that drives
//! [`json`] and [`proto`].
//!
//! Nothing here knows a resource, a store or a network.

pub mod patch;
pub mod value;

pub use value::{List, Map, Str, Value};
