//! Spans of what the store does for a request, under the names that upstream's stores give them, whichever store it is.
//! Upstream: `k8s.io/apiserver/pkg/storage/{etcd3/store.go,cacher/cacher.go}`.

use traces::{KeyValue, Span, audit_id, child};

use crate::admission::Attributes;
use crate::admission::webhook::operation_text;
use crate::strategy::Call;

fn text(key: &'static str, value: &str) -> KeyValue {
    KeyValue::new(key, value.to_owned())
}

/// A key as upstream's stores name it: without the prefix of all keys.
fn key_of(call: &Call<'_>, key: &str) -> KeyValue {
    KeyValue::new("key", key.strip_prefix(&*call.core.prefix).unwrap_or(key).to_owned())
}

/// What Go calls the type of an object.
fn type_of(call: &Call<'_>) -> String {
    if call.resource.custom.is_some() {
        return "*unstructured.Unstructured".to_owned();
    }
    let kind = &call.resource.row.kind;
    let package = kind.group.split('.').next().filter(|g| !g.is_empty()).unwrap_or("core");
    format!("*{package}.{}", kind.kind)
}

/// A read of one object in the store.
pub(crate) fn get(call: &Call<'_>, key: &str) -> Span {
    child("Get etcd3", || {
        let row = call.resource.row;
        vec![
            KeyValue::new("audit-id", audit_id()),
            key_of(call, key),
            text("group", row.kind.group),
            text("resource", row.resource),
        ]
    })
}

/// A write of an object of that name: `Create etcd3`, `GuaranteedUpdate etcd3`.
pub(crate) fn write(name: &'static str, call: &Call<'_>, object: &str) -> Span {
    child(name, || {
        let row = call.resource.row;
        // A name that makes no key is refused before anything is written.
        let key = call.core.key(row, &call.request.info.namespace, object).unwrap_or_default();
        vec![
            KeyValue::new("audit-id", audit_id()),
            key_of(call, &key),
            KeyValue::new("type", type_of(call)),
            text("group", row.kind.group),
            text("resource", row.resource),
        ]
    })
}

/// A read of one object in the watch cache.
pub(crate) fn cached(call: &Call<'_>, key: &str, version: &str) -> Span {
    child("cacher.Get", || {
        vec![KeyValue::new("audit-id", audit_id()), key_of(call, key), text("resource-version", version)]
    })
}

/// A list or a watch: `cacher.GetList`, `cacher.Watch`.
pub(crate) fn many(name: &'static str, call: &Call<'_>) -> Span {
    child(name, || {
        let row = call.resource.row;
        let resource = match row.kind.group {
            "" => row.resource.to_owned(),
            group => format!("{}.{group}", row.resource),
        };
        vec![KeyValue::new("audit-id", audit_id()), KeyValue::new("type", resource)]
    })
}

/// How many objects something found.
pub(crate) fn count(span: &Span, name: &'static str, items: usize) {
    span.event(name, || vec![KeyValue::new("count", i64::try_from(items).unwrap_or(i64::MAX))]);
}

/// A call of an admission webhook.
pub(crate) fn webhook(
    name: &'static str,
    a: &Attributes<'_>,
    configuration: &str,
    webhook: &str,
    uid: &str,
) -> Span {
    child(name, || {
        let info = &a.call.request.info;
        let resource = format!("{}/{}, Resource={}", info.api_group, info.api_version, info.resource);
        vec![
            text("configuration", configuration),
            text("webhook", webhook),
            KeyValue::new("resource", resource),
            text("subresource", &info.subresource),
            text("operation", operation_text(a.operation)),
            text("UID", uid),
        ]
    })
}

/// A call of the webhook that converts a custom resource.
pub(crate) fn conversion(definition: &str, api_version: &str, uid: &str) -> Span {
    child("Call conversion webhook", || {
        vec![
            text("custom-resource-definition", definition),
            text("desired-api-version", api_version),
            KeyValue::new("object-count", 1_i64),
            text("UID", uid),
        ]
    })
}
