//! Patches: document and patch.

use crate::{inputs, values::tree};
use bytes::Bytes;
use machinery::patch::{self, strategic as sm};
use machinery::{Map, Value};

fn bytes(data: &[u8]) -> [Bytes; 2] {
    inputs::<2>(data).map(Bytes::copy_from_slice)
}

/// A document that is JSON stays JSON. Numbers that are too large come through; who reads the result refuses them.
fn valid(before: &[u8], after: &[u8]) {
    if machinery::json::check_syntax(before).is_ok() {
        machinery::json::check_syntax(after).expect("JSON");
    }
}

pub fn json_patch(data: &[u8]) {
    let [doc, change] = bytes(data);
    let _ = patch::json_patch::strict_errors(&change);
    if let Ok(out) = patch::json_patch(&doc, &change) {
        valid(&doc, &out);
    }
}

pub fn merge_patch(data: &[u8]) {
    let [doc, change] = bytes(data);
    let _ = patch::merge_patch::strict_errors(&change);
    if let Ok(out) = patch::merge_patch(&doc, &change) {
        valid(&doc, &out);
    }
}

fn map(v: Value) -> Option<Map> {
    v.as_map().cloned()
}

pub fn strategic(data: &[u8]) {
    let [doc, change] = inputs::<2>(data).map(tree);
    let table = api::types();
    let named = |v: &Value| table.kind(v.str_at(&["apiVersion"])?, v.str_at(&["kind"])?);
    let id = named(&doc).or_else(|| table.kind("v1", "Pod"));
    if let (Some(doc), Some(change), Some(id)) = (map(doc), map(change), id) {
        let _ = sm::merge(doc, change, sm::TableType::new(table, id));
    }
}
