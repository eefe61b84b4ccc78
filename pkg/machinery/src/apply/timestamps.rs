//! Keeps the times of managed fields when nothing but them would change, so that such a write is none.
//!
//! Upstream: apiserver endpoints/handlers/fieldmanager/equality.go (`IgnoreManagedFieldsTimestampsTransformer`).

use crate::value::Value;

const PATH: [&str; 2] = ["metadata", "managedFields"];

/// If `new` differs from `old` only in times of managed fields, they become the old ones. Typed objects compare as
/// upstream's semantic equality does; custom resources exactly.
pub fn keep_unchanged_times(new: &mut Value, old: &Value, custom: bool) {
    let (Some(Value::List(a)), Some(Value::List(b))) = (new.get_path(&PATH), old.get_path(&PATH)) else {
        return;
    };
    if a.is_empty() || a.len() != b.len() {
        return;
    }
    let time = |v: &Value| v.get("time").and_then(Value::as_str).map(str::to_owned);
    if a.iter().zip(b.iter()).all(|(x, y)| time(x) == time(y)) {
        return;
    }
    let timeless = |v: &Value| {
        let mut v = v.clone();
        v.remove_path(&["time"]);
        v
    };
    if !a.iter().zip(b.iter()).all(|(x, y)| timeless(x) == timeless(y)) {
        return;
    }
    let mut candidate = new.clone();
    let old_entries = Value::List(b.clone());
    if candidate.set_path(&PATH, old_entries).is_err() {
        return;
    }
    let same = if custom { candidate == *old } else { candidate.semantic_eq(old) };
    if same {
        *new = candidate;
    }
}
