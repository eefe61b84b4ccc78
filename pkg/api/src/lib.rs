//! The Kubernetes API as data: the type table and, on top of it, typed objects' codecs.
//!
//! Start at [`types`]; [`resources`] lists what is served and how it is stored, [`validation`] holds shared checks,
//! [`warnings`] what is warned about,
//! [`codec`] reads and writes typed objects.

pub mod apply;
pub mod codec;
pub mod defaults;
pub mod resources;
pub mod validation;
pub mod warnings;

pub use codec::{MediaType, decode, encode};

use machinery::schema::TypeTable;
use std::sync::LazyLock;

/// The text of the type table, as `make update` extracted it.
pub const TYPES: &str = include_str!("../data/types.txt");

static TABLE: LazyLock<TypeTable> = LazyLock::new(|| {
    #[expect(clippy::panic, reason = "the text is part of the program; a unit test reads it")]
    TypeTable::parse(TYPES).unwrap_or_else(|e| panic!("{e}"))
});

/// All API types, parsed once.
pub fn types() -> &'static TypeTable {
    &TABLE
}

#[cfg(test)]
mod tests {
    use super::types;

    #[test]
    fn the_table_is_sound() {
        let t = types();
        assert!(t.types().count() > 1300);
        let pod = t.kind("v1", "Pod").expect("Pod");
        assert_eq!(t.full_name(pod), "core/v1.Pod");
        assert!(t.kind("apps/v1", "DeleteOptions").is_some());
        assert!(t.kind("v1", "Status").is_some());
        assert!(t.kind("apps/v1", "Pod").is_none());
        assert!(t.kind("nope/v1", "DeleteOptions").is_none());
        let started = std::time::Instant::now();
        assert!(machinery::schema::TypeTable::parse(super::TYPES).is_ok());
        println!("parsed in {:?}", started.elapsed());
    }
}
