//! What informers keep of objects of which there are many: the fields that some controller reads, and nothing else.
//!
//! Fields have the names and the nesting of the generated types. What objects of one owner have alike (labels, owners, most
//! of the spec) is kept once: see [`informer::Shared`]. These types cannot be written; who writes a whole pod reads it from
//! the server, and who changes a part sends a patch. A controller that comes to need one more field adds it here, for serde
//! and for [`machinery::message!`], by which nearly all objects come.

mod foreign;
mod labels;
mod meta;
mod pod;
mod second;
mod spec;
mod status;
#[cfg(test)]
mod tests;
mod unread;

pub use labels::LabelSet;
pub use meta::{Item, KeptMeta};
pub use pod::Pod;
pub use second::Second;
pub use spec::{Container, PodSpec};
pub use status::{ContainerStatus, PodCondition, PodStatus};
