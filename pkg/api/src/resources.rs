//! The resource table: one row per API resource, parsed once from `resources.txt`.
//!
//! A row says how a resource is named, served, stored and treated by the generic store operations. It is written by
//! `hack/resources/gen.py` from upstream's discovery documents and strategies. It deliberately does not hold code:
//! per-kind behaviour is in the API server's registry crate. Start reading at [`ResourceRow`].

use std::sync::OnceLock;

/// Maturity of a group-version; only `Ga` is served by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Served by default.
    Ga,
    /// Served on `--runtime-config`.
    Beta,
    /// Served on `--runtime-config`.
    Alpha,
}

/// What happens to dependents when a delete request names no policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GcPolicy {
    /// The garbage collector deletes them in the background.
    Delete,
    /// The orphan finalizer is set.
    Orphan,
    /// The resource takes no part in garbage collection (events).
    Unsupported,
}

/// Group, version and kind of a row or subresource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RowKind {
    /// API group, empty for core.
    pub group: &'static str,
    /// Version inside the group.
    pub version: &'static str,
    /// Kind.
    pub kind: &'static str,
}

impl RowKind {
    /// `group/version`, or the bare version for core.
    pub fn api_version(&self) -> String {
        join_gv(self.group, self.version)
    }
}

/// A subresource of a row.
#[derive(Clone, Debug)]
pub struct SubresourceRow {
    /// Name after the slash.
    pub name: &'static str,
    /// Kind it takes and returns.
    pub kind: RowKind,
    /// Verbs in alphabetical order.
    pub verbs: Vec<&'static str>,
}

/// How a resource is kept in the store.
#[derive(Clone, Debug)]
pub struct StoredRow {
    /// Group, version and kind of the stored bytes.
    pub kind: RowKind,
    /// Key below the store's prefix, without slashes at its ends (`services/specs`).
    pub key: &'static str,
    /// JSON instead of the protobuf envelope.
    pub json: bool,
}

/// One API resource in one version.
#[derive(Clone, Debug)]
pub struct ResourceRow {
    /// Group, version and kind served.
    pub kind: RowKind,
    /// Plural name in paths.
    pub resource: &'static str,
    /// Singular name, empty where upstream publishes none.
    pub singular: &'static str,
    /// Whether objects live in a namespace.
    pub namespaced: bool,
    /// Maturity of the version.
    pub stage: Stage,
    /// Verbs in alphabetical order.
    pub verbs: Vec<&'static str>,
    /// Short names for kubectl.
    pub short_names: Vec<&'static str>,
    /// Categories for kubectl.
    pub categories: Vec<&'static str>,
    /// Absent for resources that are answered but never stored (reviews, bindings).
    pub stored: Option<StoredRow>,
    /// Feature gate without which the resource is not served.
    pub gate: Option<&'static str>,
    /// Field labels a field selector may name, beside `metadata.name` and `metadata.namespace`.
    pub fields: Vec<&'static str>,
    /// PUT to a missing name creates it.
    pub create_on_update: bool,
    /// An update must carry a resourceVersion.
    pub rv_required: bool,
    /// DELETE answers with the object instead of a Status.
    pub returns_deleted: bool,
    /// The server keeps `metadata.generation`.
    pub generation: bool,
    /// Deletion has a grace period (pods only).
    pub graceful: bool,
    /// Default propagation of deletes.
    pub gc: GcPolicy,
    /// Subresources in upstream's order.
    pub subresources: Vec<SubresourceRow>,
}

impl ResourceRow {
    /// `resource.group`, or the bare resource for core: upstream's GroupResource text.
    pub fn group_resource(&self) -> String {
        if self.kind.group.is_empty() {
            self.resource.to_owned()
        } else {
            format!("{}.{}", self.resource, self.kind.group)
        }
    }

    /// The named subresource.
    pub fn subresource(&self, name: &str) -> Option<&SubresourceRow> {
        self.subresources.iter().find(|s| s.name == name)
    }

    /// Whether the verb is offered on the resource itself.
    pub fn has_verb(&self, verb: &str) -> bool {
        self.verbs.contains(&verb)
    }
}

/// All rows in upstream's discovery order (core, then groups by priority).
pub fn resources() -> &'static [ResourceRow] {
    static ROWS: OnceLock<Vec<ResourceRow>> = OnceLock::new();
    ROWS.get_or_init(|| parse(include_str!("resources.txt")))
}

/// The row of a resource in a group-version.
pub fn resource(group: &str, version: &str, resource: &str) -> Option<&'static ResourceRow> {
    resources().iter().find(|r| r.resource == resource && r.kind.group == group && r.kind.version == version)
}

/// The row whose objects are of the given kind.
pub fn resource_for_kind(group: &str, version: &str, kind: &str) -> Option<&'static ResourceRow> {
    resources().iter().find(|r| r.kind.kind == kind && r.kind.group == group && r.kind.version == version)
}

fn join_gv(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

fn split_gv(gv: &'static str) -> (&'static str, &'static str) {
    gv.rsplit_once('/').unwrap_or(("", gv))
}

const STANDARD_VERBS: [&str; 8] =
    ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// Parses the table. The text is part of the program, so a malformed line is a programming error; lines that cannot
/// be read are skipped and the test below counts rows.
fn parse(text: &'static str) -> Vec<ResourceRow> {
    let mut rows: Vec<ResourceRow> = Vec::new();
    for line in text.lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
        if let Some(sub) = line.strip_prefix("  ") {
            if let (Some(row), Some(sub)) = (rows.last_mut(), parse_subresource(sub)) {
                row.subresources.push(sub);
            }
        } else if let Some(row) = parse_row(line) {
            rows.push(row);
        }
    }
    rows
}

fn parse_subresource(line: &'static str) -> Option<SubresourceRow> {
    let mut words = line.split(' ');
    let name = words.next()?;
    let (group, version) = split_gv(words.next()?);
    let kind = words.next()?;
    let verbs = words.next()?.strip_prefix("verbs=")?.split(',').collect();
    Some(SubresourceRow { name, kind: RowKind { group, version, kind }, verbs })
}

fn parse_row(line: &'static str) -> Option<ResourceRow> {
    let mut words = line.split(' ');
    let (group, version) = split_gv(words.next()?);
    let resource = words.next()?;
    let kind = words.next()?;
    let singular = words.next().map(|s| if s == "-" { "" } else { s })?;
    let namespaced = words.next()? == "namespaced";
    let stage = match words.next()? {
        "ga" => Stage::Ga,
        "beta" => Stage::Beta,
        _ => Stage::Alpha,
    };
    let options: Vec<(&str, &str)> = words.filter_map(|w| w.split_once('=')).collect();
    let option = |name: &str| options.iter().find(|(k, _)| *k == name).map(|(_, v)| *v);
    let list = |name: &str| option(name).map(|v| v.split(',').collect()).unwrap_or_default();
    let flags: Vec<&str> = list("flags");
    let flag = |name: &str| flags.contains(&name);
    let stored = option("stored").zip(option("key")).map(|(gv, key)| {
        let (group, version) = split_gv(gv);
        StoredRow { kind: RowKind { group, version, kind }, key, json: option("media") == Some("json") }
    });
    Some(ResourceRow {
        kind: RowKind { group, version, kind },
        resource,
        singular,
        namespaced,
        stage,
        verbs: if option("verbs") == Some("*") { STANDARD_VERBS.to_vec() } else { list("verbs") },
        short_names: list("short"),
        categories: list("categories"),
        stored,
        gate: option("gate"),
        fields: list("fields"),
        create_on_update: flag("create-on-update"),
        rv_required: flag("rv-required"),
        returns_deleted: flag("returns-deleted"),
        generation: flag("generation"),
        graceful: flag("graceful"),
        gc: if flag("orphan") {
            GcPolicy::Orphan
        } else if flag("unsupported") {
            GcPolicy::Unsupported
        } else {
            GcPolicy::Delete
        },
        subresources: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_a_row() {
        assert_eq!(resources().len(), 100);
        assert_eq!(resources().iter().map(|r| r.subresources.len()).sum::<usize>(), 62);
        let ga: Vec<_> = resources().iter().filter(|r| r.stage == Stage::Ga).collect();
        assert_eq!(ga.len(), 72);
        assert_eq!(ga.iter().map(|r| r.subresources.len()).sum::<usize>(), 49);
    }

    #[test]
    fn rows_carry_exceptions() {
        let nodes = resource("", "v1", "nodes").unwrap();
        assert_eq!(nodes.stored.as_ref().unwrap().key, "minions");
        let crd = resource_for_kind("apiextensions.k8s.io", "v1", "CustomResourceDefinition").unwrap();
        let stored = crd.stored.as_ref().unwrap();
        assert_eq!((stored.kind.version, stored.json), ("v1beta1", true));
        assert_eq!(resource("batch", "v1", "jobs").unwrap().gc, GcPolicy::Orphan);
        assert!(resource("", "v1", "pods").unwrap().graceful);
        assert_eq!(resource("apps", "v1", "deployments").unwrap().group_resource(), "deployments.apps");
    }
}
