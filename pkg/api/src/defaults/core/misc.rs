//! Everything of the core group that is small.

use crate::defaults::Context;
use crate::defaults::fields::{child, fill, if_empty, is_nil, peek, text};
use machinery::{Map, Value};

pub(super) fn namespace(m: &mut Map, _: &Context) {
    let name = text(&peek(m, "metadata"), "name").to_owned();
    // A namespace that is to get a generated name has none yet.
    if !name.is_empty() {
        child(child(m, "metadata"), "labels").insert("kubernetes.io/metadata.name", name);
    }
}

pub(super) fn namespace_status(m: &mut Map, _: &Context) {
    if_empty(m, "phase", "Active");
}

pub(super) fn node_status(m: &mut Map, _: &Context) {
    if is_nil(m, "allocatable")
        && let Some(capacity @ Value::Map(_)) = m.get("capacity").cloned()
    {
        m.insert("allocatable", capacity);
    }
}

pub(super) fn object_field_selector(m: &mut Map, _: &Context) {
    if_empty(m, "apiVersion", "v1");
}

pub(super) fn secret(m: &mut Map, _: &Context) {
    if_empty(m, "type", "Opaque");
}

pub(super) fn limit_range_item(m: &mut Map, _: &Context) {
    if text(m, "type") != "Container" {
        return;
    }
    let max = peek(m, "max");
    fill(m, "default", &max);
    let default = peek(m, "default");
    fill(m, "defaultRequest", &default);
    let min = peek(m, "min");
    fill(m, "defaultRequest", &min);
}

pub(super) fn replication_controller(m: &mut Map, _: &Context) {
    let labels = peek(&peek(&peek(&peek(m, "spec"), "template"), "metadata"), "labels");
    if labels.is_empty() {
        return;
    }
    let spec = child(m, "spec");
    if peek(spec, "selector").is_empty() {
        spec.insert("selector", labels.clone());
    }
    let meta = child(m, "metadata");
    if peek(meta, "labels").is_empty() {
        meta.insert("labels", labels);
    }
}
