//! `APIGroupDiscoveryList` of `apidiscovery.k8s.io/v2`.

use std::fmt::Write;

use registry::api::{Gvk, ResourceRow};
use sha2::{Digest, Sha512};

use super::{Group, Version};

/// Upper-case hexadecimal SHA-512, as upstream forms the ETag.
pub(super) fn hash(bytes: &[u8]) -> String {
    Sha512::digest(bytes).iter().fold(String::with_capacity(128), |mut out, byte| {
        let _ = write!(out, "{byte:02X}");
        out
    })
}

fn quoted(values: &[String]) -> String {
    let all: Vec<String> = values.iter().map(|v| format!("{v:?}")).collect();
    format!("[{}]", all.join(","))
}

/// The whole document.
pub(super) fn document(groups: &[Group]) -> String {
    let items: Vec<String> = groups.iter().map(group).collect();
    format!(
        "{{\"kind\":\"APIGroupDiscoveryList\",\"apiVersion\":\"apidiscovery.k8s.io/v2\",\"metadata\":{{}},\"items\":[{}]}}",
        items.join(",")
    )
}

fn group(group: &Group) -> String {
    let name = if group.name.is_empty() { String::new() } else { format!("\"name\":{:?}", group.name) };
    let versions: Vec<String> = group.versions.iter().map(version).collect();
    format!("{{\"metadata\":{{{name}}},\"versions\":[{}]}}", versions.join(","))
}

fn version(version: &Version) -> String {
    if let Some(remote) = &version.remote {
        return (**remote).to_owned();
    }
    let resources: Vec<String> = version.resources.iter().map(|row| resource(row)).collect();
    format!(
        "{{\"version\":{:?},\"resources\":[{}],\"freshness\":\"Current\"}}",
        version.name,
        resources.join(",")
    )
}

/// Group and version are given only where they differ from the place the kind is listed in, and of custom resources
/// (`apiextensions-apiserver/pkg/apiserver/customresource_discovery_controller.go`).
fn kind(row: &ResourceRow, kind: &Gvk) -> String {
    let foreign = !kind.version.is_empty()
        && (row.custom.is_some() || kind.group != row.gvk.group || kind.version != row.gvk.version);
    let (group, version) = if foreign { (kind.group.as_str(), kind.version.as_str()) } else { ("", "") };
    format!("{{\"group\":{group:?},\"version\":{version:?},\"kind\":{:?}}}", kind.kind)
}

fn resource(row: &ResourceRow) -> String {
    let scope = if row.namespaced { "Namespaced" } else { "Cluster" };
    let mut out = format!(
        "{{\"resource\":{:?},\"responseKind\":{},\"scope\":\"{scope}\",\"singularResource\":{:?},\"verbs\":{}",
        row.resource,
        kind(row, &row.gvk),
        row.singular,
        quoted(&row.verbs)
    );
    if !row.short_names.is_empty() {
        let _ = write!(out, ",\"shortNames\":{}", quoted(&row.short_names));
    }
    if !row.categories.is_empty() {
        let _ = write!(out, ",\"categories\":{}", quoted(&row.categories));
    }
    if !row.subresources.is_empty() {
        let all: Vec<String> = row
            .subresources
            .iter()
            .map(|sub| {
                format!(
                    "{{\"subresource\":{:?},\"responseKind\":{},\"verbs\":{}}}",
                    sub.name,
                    kind(row, &sub.kind),
                    quoted(&sub.verbs)
                )
            })
            .collect();
        let _ = write!(out, ",\"subresources\":[{}]", all.join(","));
    }
    out.push('}');
    out
}
