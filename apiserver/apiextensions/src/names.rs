//! Which names a definition gets: those that no other of its group has. Upstream: `controller/status/naming_controller.go`.

use std::collections::HashSet;

use machinery::Value;

use crate::conditions::{self, Condition};

/// What the naming controller writes: accepted names, and the two conditions that follow from them.
#[derive(Debug, PartialEq)]
pub struct Plan {
    /// `status.acceptedNames`
    pub accepted: Value,
    /// `NamesAccepted`
    pub names: Condition,
    /// `Established`, if it changes.
    pub established: Option<Condition>,
}

/// Names in use by the definitions of a group.
#[derive(Debug, Default)]
pub struct Used {
    resources: HashSet<String>,
    kinds: HashSet<String>,
}

impl Used {
    /// Counts the accepted names of a definition of the group.
    pub fn add(&mut self, definition: &Value) {
        let text = |field: &str| {
            definition.str_at(&["status", "acceptedNames", field]).unwrap_or_default().to_owned()
        };
        self.resources.extend([text("plural"), text("singular")]);
        let short = definition.list_at(&["status", "acceptedNames", "shortNames"]);
        self.resources.extend(short.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned));
        self.kinds.extend([text("kind"), text("listKind")]);
    }
}

fn clash(wanted: &str, accepted: &str, used: &HashSet<String>) -> Option<String> {
    (wanted != accepted && used.contains(wanted))
        .then(|| format!("{} is already in use", machinery::golang::quote(wanted)))
}

/// Decides; `None` when everything is as it should be. `used` counts the definition itself too.
pub fn plan(definition: &Value, used: &Used) -> Option<Plan> {
    let spec = definition.get_path(&["spec", "names"]).cloned().unwrap_or_default();
    let old = definition.get_path(&["status", "acceptedNames"]).cloned().unwrap_or_default();
    if spec.semantic_eq(&old) {
        return None;
    }
    let mut accepted = old.as_map().cloned().unwrap_or_default();
    let mut conflict: Option<(&'static str, String)> = None;
    let text = |of: &Value, field: &str| of.str_at(&[field]).unwrap_or_default().to_owned();
    let mut single = |field: &str, reason, used: &HashSet<String>, conflict: &mut Option<_>| match clash(
        &text(&spec, field),
        &text(&old, field),
        used,
    ) {
        Some(why) => *conflict = Some((reason, why)),
        None => drop(accepted.insert(field, text(&spec, field))),
    };
    single("plural", "PluralConflict", &used.resources, &mut conflict);
    single("singular", "SingularConflict", &used.resources, &mut conflict);
    single("kind", "KindConflict", &used.kinds, &mut conflict);
    single("listKind", "ListKindConflict", &used.kinds, &mut conflict);
    short_names(&spec, &old, used, &mut accepted, &mut conflict);
    match spec.get("categories").filter(|c| !c.is_null()) {
        Some(categories) => drop(accepted.insert("categories", categories.clone())),
        None => drop(accepted.remove("categories")),
    }
    let names = match conflict {
        Some((reason, message)) => Condition::new("NamesAccepted", "False", reason, message),
        None => Condition::new("NamesAccepted", "True", "NoConflicts", "no conflicts found"),
    };
    let accepted = Value::Map(accepted);
    if accepted.semantic_eq(&old) && names.holds(definition) {
        return None;
    }
    let established = established(definition, names.status == "True");
    Some(Plan { accepted, names, established })
}

fn short_names(
    spec: &Value,
    old: &Value,
    used: &Used,
    accepted: &mut machinery::Map,
    conflict: &mut Option<(&'static str, String)>,
) {
    let list = |of: &Value| -> Vec<String> {
        let list = of.list_at(&["shortNames"]).into_iter().flatten();
        list.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let (wanted, present) = (list(spec), list(old));
    if wanted == present {
        return;
    }
    let new = wanted.iter().filter(|name| !present.contains(name));
    let clashes: Vec<String> = new.filter_map(|name| clash(name, "", &used.resources)).collect();
    if clashes.is_empty() {
        if wanted.is_empty() {
            accepted.remove("shortNames");
        } else {
            accepted.insert("shortNames", wanted);
        }
    } else if conflict.as_ref().is_none_or(|(reason, _)| !reason.contains("Kind")) {
        // Upstream looks at kinds last, and the last conflict is the one it reports.
        *conflict = Some(("ShortNamesConflict", machinery::golang::aggregate(&clashes)));
    }
}

fn established(definition: &Value, accepted: bool) -> Option<Condition> {
    let present = conditions::find(definition, "Established");
    let is_true = present.and_then(|c| c.str_at(&["status"])) == Some("True");
    if is_true {
        return None;
    }
    if accepted {
        let message = "the initial names have been accepted";
        return Some(Condition::new("Established", "False", "Installing", message));
    }
    let message = "not all names are accepted";
    present.is_none().then(|| Condition::new("Established", "False", "NotAccepted", message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn definition(plural: &str, kind: &str, accepted: serde_json::Value) -> Value {
        let names =
            json!({"plural": plural, "singular": "s", "kind": kind, "listKind": format!("{kind}List")});
        Value::from(json!({"spec": {"names": names}, "status": {"acceptedNames": accepted}}))
    }

    #[test]
    fn first_takes_all_second_gets_what_is_left() {
        let names = json!({"plural": "a", "singular": "s", "kind": "A", "listKind": "AList"});
        let first = definition("a", "A", names.clone());
        let mut used = Used::default();
        used.add(&first);
        assert_eq!(plan(&first, &used), None);
        let fresh = definition("b", "B", json!({"plural": "", "kind": ""}));
        let plan = plan(&fresh, &used).unwrap();
        assert_eq!(plan.names.reason, "SingularConflict");
        assert_eq!(plan.names.message, "\"s\" is already in use");
        assert_eq!(plan.accepted.str_at(&["plural"]), Some("b"));
        assert_eq!(plan.established.unwrap().reason, "NotAccepted");
    }
}
