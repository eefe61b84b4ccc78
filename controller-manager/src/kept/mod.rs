//! What informers keep of objects of which there are many: the fields that some controller reads, and nothing else.
//!
//! Fields have the names and the nesting of the generated types. What objects of one owner have alike (labels, owners, most
//! of the spec) is kept once: see [`informer::Shared`]. These types cannot be written; who writes a whole pod reads it from
//! the server, and who changes a part sends a patch. A controller that comes to need one more field adds it here, for serde
//! and for [`machinery::message!`], by which nearly all objects come.

/// The test that fields have the numbers that the table of types has for them.
#[cfg(test)]
macro_rules! numbered_as_the_table {
    ($($read:ty),+) => {
        #[test]
        fn fields_have_the_numbers_of_the_table() {
            let table = api::types();
            let wrong = [$(machinery::proto::read::misnamed::<$read>(table)),+];
            assert!(wrong.iter().all(Option::is_none), "{wrong:?}");
        }
    };
}

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
