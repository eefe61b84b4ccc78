//! The selectors of an access review, as the text a request would have sent.
//!
//! What cannot be read is left out: requirements narrow a question, so leaving one out asks for more.
//! Upstream: `pkg/registry/authorization/util/helpers.go`, `ResourceAttributesFrom`.

use ::api::validation::field::{Error as FieldError, Path};
use machinery::{Value, fields, labels};

use super::strings;

/// One selector.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Selector {
    /// What was understood.
    pub(super) text: String,
    /// Whether something was not.
    failed: bool,
}

/// Both selectors of a review.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Selectors {
    pub(super) field: Selector,
    pub(super) label: Selector,
}

fn selector<'a>(review: &'a Value, name: &str) -> Option<&'a Value> {
    review.get_path(&["spec", "resourceAttributes", name]).filter(|v| !v.is_null())
}

impl Selectors {
    pub(super) fn of(review: &Value) -> Self {
        let read = |name: &str, parses: fn(&str) -> bool, requirement: fn(&Value) -> Option<String>| {
            selector(review, name).map(|s| Selector::of(s, parses, requirement)).unwrap_or_default()
        };
        Self {
            field: read("fieldSelector", |text| fields::parse(text).is_ok(), field_requirement),
            label: read("labelSelector", |text| labels::parse(text).is_ok(), label_requirement),
        }
    }

    /// What the answer says about requirements that were left out.
    pub(super) fn ignored(&self) -> Vec<String> {
        let failed = [("fieldSelector", &self.field), ("labelSelector", &self.label)]
            .into_iter()
            .filter(|(_, s)| s.failed);
        let word = |s: &Selector| if s.text.is_empty() { "ignored" } else { "partially ignored" };
        failed
            .map(|(name, s)| format!("spec.resourceAttributes.{name} {} due to parse error", word(s)))
            .collect()
    }
}

impl Selector {
    fn of(value: &Value, parses: fn(&str) -> bool, requirement: fn(&Value) -> Option<String>) -> Self {
        let all = value.list_at(&["requirements"]).filter(|l| !l.is_empty());
        let Some(all) = all else {
            let raw = value.str_at(&["rawSelector"]).unwrap_or_default();
            let good = parses(raw);
            return Self { text: if good { raw.to_owned() } else { String::new() }, failed: !good };
        };
        let read: Vec<Option<String>> =
            all.iter().map(|r| requirement(r).filter(|text| parses(text))).collect();
        let failed = read.iter().any(Option::is_none);
        let texts: Vec<String> = read.into_iter().flatten().collect();
        Self { text: texts.join(","), failed }
    }
}

fn parts(requirement: &Value) -> (&str, &str, Vec<String>) {
    let text = |field: &str| requirement.str_at(&[field]).unwrap_or_default();
    (text("key"), text("operator"), strings(requirement.get("values")))
}

fn field_requirement(requirement: &Value) -> Option<String> {
    let (key, operator, values) = parts(requirement);
    let [value] = values.as_slice() else { return None };
    let value = value.replace('\\', r"\\").replace(',', r"\,").replace('=', r"\=");
    match operator {
        "In" => Some(format!("{key}={value}")),
        "NotIn" => Some(format!("{key}!={value}")),
        _ => None,
    }
}

fn label_requirement(requirement: &Value) -> Option<String> {
    let (key, operator, values) = parts(requirement);
    // What only a quoted text could hold is no label value.
    let plain = |v: &String| !v.contains([',', '(', ')', ' ', '!', '=']);
    match (operator, values.is_empty()) {
        ("In", false) if values.iter().all(plain) => Some(format!("{key} in ({})", values.join(","))),
        ("NotIn", false) if values.iter().all(plain) => Some(format!("{key} notin ({})", values.join(","))),
        ("Exists", true) => Some(key.to_owned()),
        ("DoesNotExist", true) => Some(format!("!{key}")),
        _ => None,
    }
}

/// A selector is given as text or as requirements.
pub(super) fn validate(review: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = Path::new("spec");
    let attributes = spec.child("resourceAttributes");
    for name in ["fieldSelector", "labelSelector"] {
        let Some(selector) = selector(review, name) else { continue };
        let path = attributes.child(name);
        let raw = selector.str_at(&["rawSelector"]).unwrap_or_default();
        let listed = selector.list_at(&["requirements"]).is_some_and(|l| !l.is_empty());
        match (raw.is_empty(), listed) {
            (false, true) => errors.push(FieldError::invalid(
                &path.child("rawSelector"),
                raw,
                "may not specified at the same time as requirements",
            )),
            (true, false) => {
                let detail = format!("when {path} is specified, requirements or rawSelector is required");
                errors.push(FieldError::required(&path.child("requirements"), detail));
            }
            _ => {}
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn review(field: serde_json::Value, label: serde_json::Value) -> Value {
        Value::from(json!({"spec": {"resourceAttributes": {"fieldSelector": field, "labelSelector": label}}}))
    }

    #[test]
    fn texts() {
        let requirement = |key: &str, operator: &str, values: &[&str]| json!({"key": key, "operator": operator, "values": values});
        let fields = json!({"requirements": [
            requirement("spec.nodeName", "In", &["a"]), requirement("x", "NotIn", &["b,c"]),
            requirement("y", "Exists", &[])]});
        let labels = json!({"requirements": [
            requirement("x", "In", &["1", "2"]), requirement("y", "DoesNotExist", &[])]});
        let read = Selectors::of(&review(fields, labels));
        assert_eq!(read.field.text, r"spec.nodeName=a,x!=b\,c");
        assert_eq!(read.label.text, "x in (1,2),!y");
        let said = "spec.resourceAttributes.fieldSelector partially ignored due to parse error";
        assert_eq!(read.ignored(), [said]);
        let read = Selectors::of(&review(json!({"rawSelector": "a=b"}), json!({"rawSelector": "a in"})));
        assert_eq!((read.field.text.as_str(), read.label.text.as_str()), ("a=b", ""));
        assert_eq!(read.ignored(), ["spec.resourceAttributes.labelSelector ignored due to parse error"]);
        assert_eq!(validate(&review(json!({}), json!(null))).len(), 1);
    }
}
