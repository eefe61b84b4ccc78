//! events.k8s.io/v1 and core/v1 Events are one object under two sets of field names.
//! Upstream: `pkg/apis/events/v1/conversion.go` and the generated conversions beside it.

use machinery::Value;

/// core name, events.k8s.io name.
const RENAMED: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("source", "deprecatedSource"),
    ("message", "note"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

fn rename(object: &mut Value, pairs: impl Iterator<Item = (&'static str, &'static str)>) {
    let Value::Map(map) = object else { return };
    for (from, to) in pairs {
        if let Some(value) = map.remove(from) {
            map.insert(to, value);
        }
    }
}

/// events.k8s.io to core.
pub fn to_core(object: &mut Value) {
    rename(object, RENAMED.iter().map(|(core, new)| (*new, *core)));
}

/// core to events.k8s.io.
pub fn from_core(object: &mut Value) {
    rename(object, RENAMED.iter().copied());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let core =
            serde_json::json!({"involvedObject": {"name": "a"}, "message": "m", "reason": "r", "count": 1});
        let mut object = Value::from(core.clone());
        from_core(&mut object);
        assert_eq!(object.str_at(&["regarding", "name"]), Some("a"));
        assert_eq!(object.str_at(&["note"]), Some("m"));
        to_core(&mut object);
        assert_eq!(object, Value::from(core));
    }
}
