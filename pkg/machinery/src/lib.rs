//! API machinery: the generic object tree, its codecs, and the small value types of the Kubernetes API.
//!
//! Start at [`value`], the tree every write path works on. [`quantity`], [`labels`] and [`fields`] stand alone.
//!
//! Nothing here knows a resource, a store or a network.

pub mod apply;
pub mod content;
pub mod cron;
pub mod fields;
pub mod golang;
pub mod json;
pub mod labels;
pub mod meta;
pub mod patch;
pub mod pem;
pub mod proto;
pub mod quantity;
pub mod schema;
pub mod time;
pub mod value;
pub mod yaml;

pub use quantity::Quantity;
pub use value::{List, Map, Str, Value};
