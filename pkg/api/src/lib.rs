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

/// Fields whose empty list or map upstream tells from nothing, by comparing with nil: in defaults, in validation, or by
/// `reflect.DeepEqual` with the stored object. It does so for what JSON says only; none is stored.
const TOLD_EMPTY: &[(&str, &str)] = &[
    ("admissionregistration/v1.MutatingWebhookConfiguration", "webhooks"),
    ("admissionregistration/v1.ValidatingWebhookConfiguration", "webhooks"),
    ("autoscaling/v2.HPAScalingRules", "policies"),
    ("core/v1.EphemeralContainerCommon", "ports"),
    ("core/v1.EphemeralContainerCommon", "resizePolicy"),
    ("core/v1.EphemeralContainerCommon", "restartPolicyRules"),
    ("core/v1.VolumeResourceRequirements", "requests"),
    ("resource/v1.ResourceSliceSpec", "devices"),
    ("resource/v1.ResourceSliceSpec", "sharedCounters"),
    ("storage/v1.VolumeAttributesClass", "parameters"),
];

static TABLE: LazyLock<TypeTable> = LazyLock::new(|| {
    #[expect(clippy::panic, reason = "the text is part of the program; a unit test reads it")]
    let mut table = TypeTable::parse(TYPES).unwrap_or_else(|e| panic!("{e}"));
    for (name, field) in TOLD_EMPTY {
        table.keep_empty(name, field);
    }
    table
});

/// All API types, parsed once.
pub fn types() -> &'static TypeTable {
    &TABLE
}

#[cfg(test)]
mod tests {
    use super::{TOLD_EMPTY, types};

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
        for (name, field) in TOLD_EMPTY {
            let id = t.by_name(name).expect(name);
            assert!(t.field(id, field).is_some_and(|f| f.flags.tells_empty), "{name}.{field}");
        }
        let started = std::time::Instant::now();
        assert!(machinery::schema::TypeTable::parse(super::TYPES).is_ok());
        println!("parsed in {:?}", started.elapsed());
    }
}
