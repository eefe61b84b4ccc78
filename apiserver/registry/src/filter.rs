//! Which objects a list or watch selects: parsed label and field selectors, and the field values of an object.
//! Upstream: `ToSelectableFields` of the strategies and `AddFieldLabelConversionFuncs` of the API groups.

use ::api::resources::ResourceRow;
use machinery::{Value, fields, labels};

use crate::errors::ApiError;
use crate::meta;

/// A parsed selection.
#[derive(Clone, Debug)]
pub struct Filter {
    labels: labels::Selector,
    fields: fields::Selector,
}

impl Filter {
    /// Parses both selectors; field labels must be ones the kind can select by.
    pub fn parse(row: &ResourceRow, label_text: &str, field_text: &str) -> Result<Self, ApiError> {
        let labels = labels::parse(label_text).map_err(|e| ApiError::bad_request(e.to_string()))?;
        let fields = fields::parse(field_text).map_err(|e| ApiError::bad_request(e.to_string()))?;
        let fields = fields
            .transform(|label, value| Ok::<_, String>((canonical_label(row, label)?, value.to_owned())))
            .map_err(ApiError::bad_request)?;
        Ok(Filter { labels, fields })
    }

    /// Whether everything is selected.
    pub fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// The one name or namespace the field selector allows, to narrow the read.
    pub fn requires(&self, field: &str) -> Option<&str> {
        self.fields.requires_exact_match(field)
    }

    /// Whether the object (hub version) is selected.
    pub fn matches(&self, row: &ResourceRow, object: &Value) -> bool {
        if !self.labels.is_empty() {
            let empty = machinery::Map::new();
            if !self.labels.matches(meta::labels(object).unwrap_or(&empty)) {
                return false;
            }
        }
        self.fields
            .requirements()
            .iter()
            .all(|r| (field_value(row, object, &r.field) == r.value) != r.negated)
    }
}

/// The hub's name of a field label, or upstream's refusal.
fn canonical_label(row: &ResourceRow, label: &str) -> Result<String, String> {
    if label == "metadata.name" || (label == "metadata.namespace" && row.resource != "nodes") {
        return Ok(label.to_owned());
    }
    if row.resource == "pods" && label == "spec.host" {
        return Ok("spec.nodeName".into());
    }
    if row.fields.contains(&label) {
        let renamed = label
            .strip_prefix("regarding.")
            .map(|rest| format!("involvedObject.{rest}"))
            .or_else(|| (label == "reportingController").then(|| "reportingComponent".to_owned()));
        return Ok(renamed.unwrap_or_else(|| label.to_owned()));
    }
    if row.fields.is_empty() {
        return Err(format!(
            "{label:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
        ));
    }
    Err(format!("field label not supported: {label}"))
}

/// The text a field selector compares with.
pub fn field_value(row: &ResourceRow, object: &Value, field: &str) -> String {
    match (row.resource, field) {
        (_, "metadata.name") => return meta::name(object).to_owned(),
        (_, "metadata.namespace") => return meta::namespace(object).to_owned(),
        // Selectable by name upstream, but never filled in.
        ("pods", "status.podIPs") => return String::new(),
        ("events", "source") => {
            return [&["source", "component"][..], &["reportingComponent"][..]]
                .iter()
                .find_map(|p| object.str_at(p).filter(|s| !s.is_empty()))
                .unwrap_or("")
                .to_owned();
        }
        ("jobs", "status.successful") => return text(object.get_path(&["status", "succeeded"]), "0"),
        _ => {}
    }
    let path: Vec<&str> = field.split('.').collect();
    let zero = match field {
        "spec.unschedulable" | "spec.hostNetwork" => "false",
        "status.replicas" => "0",
        _ => "",
    };
    text(object.get_path(&path), zero)
}

fn text(value: Option<&Value>, zero: &str) -> String {
    match value {
        Some(Value::Str(s)) => s.to_string(),
        Some(Value::Bool(b)) => b.to_string(),
        Some(Value::Int(i)) => i.to_string(),
        _ => zero.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::api::resources::resource;
    use serde_json::json;

    #[test]
    fn selects_by_fields_and_labels() {
        let pods = resource("", "v1", "pods").unwrap();
        let pod = Value::from(json!({
            "metadata": {"name": "a", "namespace": "d", "labels": {"app": "x"}},
            "spec": {"nodeName": "n1"}, "status": {"phase": "Running"}}));
        let check = |labels: &str, fields: &str, want: bool| {
            let filter = Filter::parse(pods, labels, fields).unwrap();
            assert_eq!(filter.matches(pods, &pod), want, "{labels} {fields}");
        };
        check("", "", true);
        check("app=x", "spec.host=n1,status.phase!=Failed", true);
        check("app in (y)", "", false);
        check("", "spec.hostNetwork=false", true);
        check("", "metadata.name=b", false);
        let refuse = |row: &str, field: &str| {
            let row = resource("", "v1", row).unwrap();
            Filter::parse(row, "", &format!("{field}=a")).unwrap_err().message
        };
        assert_eq!(refuse("pods", "spec.x"), "field label not supported: spec.x");
        assert_eq!(
            refuse("configmaps", "data"),
            "\"data\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
        );
    }
}
