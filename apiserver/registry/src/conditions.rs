//! Conditions in `status.conditions` of a tree.

use machinery::{List, Map, Value};

/// Sets a condition of the pod kind (`podutil.UpdatePodCondition`): the transition time moves only with the status.
pub fn set(object: &mut Value, kind: &str, status: &str, reason: &str, message: &str, now: &str) {
    let mut condition = Map::new();
    condition.insert("type", kind);
    condition.insert("status", status);
    for (field, text) in [("reason", reason), ("message", message)] {
        if !text.is_empty() {
            condition.insert(field, text);
        }
    }
    let mut conditions: List = object.list_at(&["status", "conditions"]).cloned().unwrap_or_default();
    let present = conditions.iter().position(|c| c.str_at(&["type"]) == Some(kind));
    let kept = present.map(|i| &conditions[i]).filter(|c| c.str_at(&["status"]) == Some(status));
    let since = kept.and_then(|c| c.get("lastTransitionTime")).cloned().unwrap_or_else(|| now.into());
    condition.insert("lastTransitionTime", since);
    match present {
        Some(i) => conditions[i] = Value::Map(condition),
        None => conditions.push(Value::Map(condition)),
    }
    // Status of a stored object is a map or absent.
    let _ = object.set_path(&["status", "conditions"], conditions);
}

/// The status of a condition.
pub fn status<'a>(object: &'a Value, kind: &str) -> Option<&'a str> {
    let conditions = object.list_at(&["status", "conditions"])?;
    conditions.iter().find(|c| c.str_at(&["type"]) == Some(kind))?.str_at(&["status"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transition_time_moves_with_status() {
        let mut pod = Value::Map(Map::new());
        set(&mut pod, "Ready", "True", "", "", "t1");
        set(&mut pod, "Ready", "True", "Why", "", "t2");
        let first = &pod.list_at(&["status", "conditions"]).unwrap()[0];
        assert_eq!(
            (first.str_at(&["lastTransitionTime"]), first.str_at(&["reason"])),
            (Some("t1"), Some("Why"))
        );
        set(&mut pod, "Ready", "False", "", "", "t3");
        assert_eq!(
            pod.list_at(&["status", "conditions"]).unwrap()[0].str_at(&["lastTransitionTime"]),
            Some("t3")
        );
        assert_eq!(status(&pod, "Ready"), Some("False"));
    }
}
