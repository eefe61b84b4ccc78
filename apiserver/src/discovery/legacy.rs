//! `APIVersions`, `APIGroupList`, `APIGroup` and `APIResourceList`, with fields in Go's order.

use registry::api::{Gvk, ResourceRow};

use super::{Group, Version};

fn quoted(values: &[String]) -> String {
    let all: Vec<String> = values.iter().map(|v| format!("{v:?}")).collect();
    format!("[{}]", all.join(","))
}

/// `/api`
pub(super) fn api_versions(advertise: &str) -> String {
    format!(
        "{{\"kind\":\"APIVersions\",\"versions\":[\"v1\"],\"serverAddressByClientCIDRs\":\
         [{{\"clientCIDR\":\"0.0.0.0/0\",\"serverAddress\":{advertise:?}}}]}}"
    )
}

/// `/apis`
pub(super) fn group_list(groups: &[Group]) -> String {
    let groups: Vec<String> = groups.iter().filter(|g| !g.name.is_empty()).map(|g| group(g, false)).collect();
    format!("{{\"kind\":\"APIGroupList\",\"apiVersion\":\"v1\",\"groups\":[{}]}}", groups.join(","))
}

fn group_version(group: &Group, version: &Version) -> String {
    let full =
        if group.name.is_empty() { version.name.clone() } else { format!("{}/{}", group.name, version.name) };
    format!("{{\"groupVersion\":{full:?},\"version\":{:?}}}", version.name)
}

/// `/apis/<group>`, or one entry of the list.
pub(super) fn group(group: &Group, with_kind: bool) -> String {
    let versions: Vec<String> = group.versions.iter().map(|v| group_version(group, v)).collect();
    let head = if with_kind { "\"kind\":\"APIGroup\",\"apiVersion\":\"v1\"," } else { "" };
    let preferred = versions.first().cloned().unwrap_or_default();
    format!(
        "{{{head}\"name\":{:?},\"versions\":[{}],\"preferredVersion\":{preferred}}}",
        group.name,
        versions.join(",")
    )
}

/// `/api/v1` and `/apis/<group>/<version>`
pub(super) fn resource_list(group: &Group, version: &Version) -> String {
    let (head, full) = if group.name.is_empty() {
        ("\"kind\":\"APIResourceList\"", version.name.clone())
    } else {
        ("\"kind\":\"APIResourceList\",\"apiVersion\":\"v1\"", format!("{}/{}", group.name, version.name))
    };
    let mut resources = Vec::new();
    for row in &version.resources {
        resources.push(main_resource(row));
        resources.extend(row.subresources.iter().map(|sub| {
            let name = format!("{}/{}", row.resource, sub.name);
            resource(&name, "", row, &sub.kind, &sub.verbs, "")
        }));
    }
    format!("{{{head},\"groupVersion\":{full:?},\"resources\":[{}]}}", resources.join(","))
}

fn main_resource(row: &ResourceRow) -> String {
    let mut tail = String::new();
    if !row.short_names.is_empty() {
        tail += &format!(",\"shortNames\":{}", quoted(&row.short_names));
    }
    if !row.categories.is_empty() {
        tail += &format!(",\"categories\":{}", quoted(&row.categories));
    }
    if !row.storage_version_hash.is_empty() {
        tail += &format!(",\"storageVersionHash\":{:?}", row.storage_version_hash);
    }
    resource(&row.resource, &row.singular, row, &row.gvk, &row.verbs, &tail)
}

fn resource(
    name: &str,
    singular: &str,
    row: &ResourceRow,
    kind: &Gvk,
    verbs: &[String],
    tail: &str,
) -> String {
    let namespaced = row.namespaced;
    let foreign =
        !kind.version.is_empty() && (kind.group != row.gvk.group || kind.version != row.gvk.version);
    let mut origin = String::new();
    if foreign {
        if !kind.group.is_empty() {
            origin += &format!("\"group\":{:?},", kind.group);
        }
        origin += &format!("\"version\":{:?},", kind.version);
    }
    format!(
        "{{\"name\":{name:?},\"singularName\":{singular:?},\"namespaced\":{namespaced},{origin}\"kind\":{:?},\
         \"verbs\":{}{tail}}}",
        kind.kind,
        quoted(verbs)
    )
}
