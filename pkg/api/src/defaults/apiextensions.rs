//! Defaults of the apiextensions group. v1beta1 is not served, but it is the stored version.
//!
//! Upstream: apiextensions-apiserver pkg/apis/apiextensions/{v1,v1beta1}/defaults.go.

use super::fields::{child, if_empty, if_nil, items, peek, text};
use super::{Context, Function};
use machinery::{Map, Value};

pub(super) const FUNCTIONS: &[(&str, Function)] = &[
    ("apiextensions/v1.CustomResourceDefinition", v1),
    ("apiextensions/v1.ServiceReference", service),
    ("apiextensions/v1beta1.CustomResourceDefinition", v1beta1),
    ("apiextensions/v1beta1.ServiceReference", service),
];

fn service(m: &mut Map, _: &Context) {
    if_nil(m, "port", 443);
}

fn names(spec: &mut Map) {
    let kind = text(&peek(spec, "names"), "kind").to_owned();
    let names = child(spec, "names");
    if !kind.is_empty() {
        if_empty(names, "singular", &kind.to_lowercase());
        if_empty(names, "listKind", &format!("{kind}List"));
    }
    if_nil(spec, "conversion", Map::from_iter([("strategy", "None")]));
}

/// The storage version counts as stored.
fn stored_versions(m: &mut Map) {
    let is_stored = |v: &&Value| v.get("storage").and_then(Value::as_bool) == Some(true);
    let spec = peek(m, "spec");
    let stored = items(&spec, "versions").iter().find(is_stored);
    let name = stored.map(|v| v.get("name").and_then(Value::as_str).unwrap_or_default().to_owned());
    if let Some(name) = name
        && items(&peek(m, "status"), "storedVersions").is_empty()
    {
        child(m, "status").insert("storedVersions", vec![name]);
    }
}

fn v1(m: &mut Map, _: &Context) {
    names(child(m, "spec"));
    stored_versions(m);
}

fn v1beta1(m: &mut Map, _: &Context) {
    let spec = child(m, "spec");
    if_empty(spec, "scope", "Namespaced");
    let version = text(spec, "version").to_owned();
    let first =
        items(spec, "versions").first().map(|v| v.get("name").and_then(Value::as_str).unwrap_or_default());
    match first.map(str::to_owned) {
        None if !version.is_empty() => {
            let only = Map::from_iter([
                ("name", Value::from(version)),
                ("storage", true.into()),
                ("served", true.into()),
            ]);
            spec.insert("versions", vec![Value::Map(only)]);
        }
        Some(first) if version.is_empty() && !first.is_empty() => drop(spec.insert("version", first)),
        _ => {}
    }
    names(spec);
    if let Some(Value::Map(conversion)) = spec.get_mut("conversion")
        && text(conversion, "strategy") == "Webhook"
        && items(conversion, "conversionReviewVersions").is_empty()
    {
        conversion.insert("conversionReviewVersions", vec!["v1beta1"]);
    }
    if_nil(spec, "preserveUnknownFields", true);
    stored_versions(m);
}
