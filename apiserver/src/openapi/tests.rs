//! Parts of the documents as upstream's server prints them, without descriptions.
//! `e2e/oracle/samedata` compares whole documents with upstream's binary.

use std::sync::Arc;

use ::api::resources::{RowKind, Stage, resources};
use registry::api::{CustomRow, Gvk, ResourceRow, SubresourceRow};
use serde_json::{Value, json};

use super::documents;

fn gvk(kind: RowKind) -> Gvk {
    Gvk { group: kind.group.into(), version: kind.version.into(), kind: kind.kind.into() }
}

fn built_in() -> Vec<Arc<ResourceRow>> {
    let owned = |texts: &[&str]| texts.iter().map(|s| (*s).to_owned()).collect();
    let served = resources().iter().filter(|row| row.stage == Stage::Ga);
    let rows = served.map(|row| ResourceRow {
        gvk: gvk(row.kind),
        resource: row.resource.into(),
        namespaced: row.namespaced,
        verbs: owned(&row.verbs),
        subresources: row
            .subresources
            .iter()
            .map(|s| SubresourceRow { name: s.name.into(), kind: gvk(s.kind), verbs: owned(&s.verbs) })
            .collect(),
        ..ResourceRow::default()
    });
    rows.map(Arc::new).collect()
}

fn thing() -> Arc<ResourceRow> {
    let a = json!({"type": "array", "nullable": true, "items": {"type": "string"}});
    let name = json!({"type": "object", "properties": {"name": {"type": "string", "maxLength": 5}}});
    let spec = json!({"type": "object", "nullable": true, "properties": {"a": a}});
    let schema = json!({"type": "object", "properties": {"spec": spec, "metadata": name}});
    let all = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
    Arc::new(ResourceRow {
        gvk: Gvk { group: "k8s.example".into(), version: "v1".into(), kind: "Thing".into() },
        resource: "things".into(),
        verbs: all.map(str::to_owned).into(),
        custom: Some(Arc::new(CustomRow {
            list_kind: "ThingList".into(),
            schema: Some(schema),
            preserve: false,
            selectable: Vec::new(),
        })),
        ..ResourceRow::default()
    })
}

/// Descriptions of ours are no part of the comparison.
fn without_prose(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.into_iter().filter(|(name, value)| name != "description" || !value.is_string());
            kept.map(|(name, value)| (name, without_prose(value))).collect()
        }
        Value::Array(list) => list.into_iter().map(without_prose).collect(),
        other => other,
    }
}

fn rows() -> Vec<Arc<ResourceRow>> {
    let mut rows = built_in();
    rows.push(thing());
    rows
}

#[test]
fn parts_are_as_upstream_prints_them() {
    let rows = rows();
    let mut open: (String, Value) = Default::default();
    for line in include_str!("testdata/upstream.jsonl").lines() {
        let (name, pointer, wanted): (String, String, Value) = serde_json::from_str(line).expect("a line");
        if open.0 != name {
            let made = if name == "v2" { documents::v2(&rows, true) } else { documents::v3(&rows, &name) };
            open = (name.clone(), without_prose(serde_json::from_slice(&made).expect("JSON")));
        }
        let found = open.1.pointer(&pointer).unwrap_or(&Value::Null);
        assert_eq!(found, &wanted, "{name} {pointer}");
    }
}

#[test]
fn all_group_versions_and_groups_have_documents() {
    let names = documents::names(&rows(), true);
    for name in ["api", "api/v1", "apis", "apis/apps", "apis/apps/v1", "apis/k8s.example/v1", "version"] {
        assert!(names.contains(name), "{name}");
    }
    assert!(!names.contains("apis/k8s.example"), "definitions make documents of versions alone");
    assert_eq!(names.len(), 50);
    assert_eq!(documents::names(&rows(), false).len(), 48);
}
