//! Sets of fields, and applies to objects with them.

use crate::{inputs, text, values::tree};
use machinery::Value;
use machinery::apply::{Config, FieldManager, NoConversion, Set};
use std::collections::HashMap;
use std::sync::Arc;

pub fn fields_v1(data: &[u8]) {
    if let Ok(set) = Set::from_json(data) {
        let once = Set::from_json(set.to_json().as_bytes()).expect("own output");
        let again = Set::from_json(once.to_json().as_bytes()).expect("own output");
        assert_eq!(again.to_json(), once.to_json());
        let _ = (set.union(&once), set.difference(&once), set.intersection(&once), set.to_string());
    }
}

fn manager(kind: &str, version: &str) -> Option<FieldManager> {
    let ty = api::apply::type_of(version, kind)?;
    Some(FieldManager::new(Config {
        schema: api::apply::schema(),
        versions: HashMap::from([(version.to_string(), ty)]),
        api_version: version.into(),
        kind: kind.into(),
        subresource: String::new(),
        reset_fields: HashMap::new(),
        converter: Arc::new(NoConversion),
        empty: Value::from(serde_json::json!({"apiVersion": version, "kind": kind})),
        made_by_type: false,
    }))
}

/// A live object, an applied configuration, and the name of who applies.
pub fn apply(data: &[u8]) {
    let [live, config, name] = inputs(data);
    let table = api::types();
    let (Ok((id, live)), config) = (machinery::json::decode_kind(table, live, false), tree(config)) else { return };
    let at = |key| live.value.str_at(&[key]).unwrap_or_default().to_string();
    let Some(manager) = manager(&at("kind"), &at("apiVersion")) else { return };
    let now = "2000-01-01T00:00:00Z";
    if let Ok(out) = manager.apply(&live.value, &config, &text(name), true, now) {
        let written = machinery::json::encode(table, id, &out.object);
        if let Ok(again) = machinery::json::decode(table, id, &written, false) {
            let _ = manager.apply(&again.value, &config, "other", false, now);
        }
    }
    let _ = manager.try_update(&live.value, config, "m", now);
}
