//! System calls that the standard library does not offer, each behind a small safe function.
//!
//! The only crate that may contain `unsafe`; so far it needs none because `rustix` and `nix` cover what is used.

mod beneath;
pub mod mounts;

pub use beneath::{make_dir_beneath, open_beneath, open_path_beneath};
