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
use std::sync::{LazyLock, OnceLock};

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

/// What clients among the daemons read and write; of the rest they know nothing, and speak JSON where they meet it.
const CLIENTS: &[&str] = &[
    "admissionregistration/v1",
    "apiextensions/v1",
    "apiregistration/v1",
    "apiserverinternal/v1alpha1",
    "apps/v1",
    "authentication/v1",
    "authorization/v1",
    "autoscaling/v1",
    "autoscaling/v2",
    "batch/v1",
    "certificates/v1",
    "coordination/v1",
    "core/v1",
    "discovery/v1",
    "events/v1",
    "meta/v1",
    "networking/v1",
    "node/v1",
    "policy/v1",
    "rbac/v1",
    "resource/v1",
    "resource/v1alpha3",
    "scheduling/v1",
    "scheduling/v1alpha3",
    "scheduling/v1beta1",
    "storage/v1",
    "storagemigration/v1",
];

static CLIENT: OnceLock<()> = OnceLock::new();

/// This process serves no API: it needs half of the table, which is most of a megabyte less in each daemon.
/// Has no effect once the table has been read.
pub fn only_a_client() {
    // Said before or now.
    let _ = CLIENT.set(());
}

fn table(known: impl Fn(&str) -> bool) -> TypeTable {
    #[expect(clippy::panic, reason = "the text is part of the program; a unit test reads it")]
    let mut table = TypeTable::parse_some(TYPES, known).unwrap_or_else(|e| panic!("{e}"));
    for (name, field) in TOLD_EMPTY {
        table.keep_empty(name, field);
    }
    table
}

static TABLE: LazyLock<TypeTable> = LazyLock::new(|| match CLIENT.get() {
    Some(()) => table(|package| CLIENTS.contains(&package)),
    None => table(|_| true),
});

/// The API types of this process, parsed once: all, or those that clients use ([`only_a_client`]).
pub fn types() -> &'static TypeTable {
    &TABLE
}

#[cfg(test)]
mod tests {
    use super::{CLIENTS, TOLD_EMPTY, table, types};

    #[test]
    fn what_clients_know_is_what_is_served_first() {
        let (all, some) = (types(), table(|package| CLIENTS.contains(&package)));
        let count =
            |t: &machinery::schema::TypeTable| t.types().map(|id| t.own_fields(id).len()).sum::<usize>();
        assert!(count(&some) * 2 < count(all) + count(all) / 10, "{} of {}", count(&some), count(all));
        for (name, field) in TOLD_EMPTY {
            let known = |t: &machinery::schema::TypeTable| {
                t.by_name(name).and_then(|id| t.field(id, field).map(|f| format!("{f:?}").len()))
            };
            assert!(known(&some).is_some() && known(all).is_some(), "{name}.{field}");
        }
        // Nobody but the server reads these two.
        let not_read = ["flowcontrol.apiserver.k8s.io", "internal.apiserver.k8s.io"];
        let stable = super::resources::resources().iter().map(|r| r.kind);
        for kind in stable.filter(|k| matches!(k.version, "v1" | "v2") && !not_read.contains(&k.group)) {
            let version = kind.api_version();
            assert!(some.kind(&version, kind.kind).is_some(), "{version} {}", kind.kind);
        }
    }

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
