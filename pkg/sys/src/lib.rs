//! System calls that the standard library does not offer, each behind a small safe function.
//!
//! The only crate that may contain `unsafe`. `rustix` and `nix` cover the calls; what needs it is an allocator, and advice about
//! memory.

mod beneath;
#[allow(unsafe_code, reason = "an allocator is unsafe to implement")]
pub mod counting;
#[allow(unsafe_code, reason = "the allocator is not written in Rust")]
mod heap;
pub mod mounts;
#[allow(unsafe_code, reason = "advice about memory is given for an address")]
mod text;
#[allow(unsafe_code, reason = "advice about memory is given for an address")]
mod unmap;

pub use beneath::{make_dir_beneath, open_beneath, open_path_beneath};
pub use heap::collect_heap;
pub use text::{ProgramUse, look_at_program, page_out_program};
pub use unmap::{MappedText, trim_stack};
