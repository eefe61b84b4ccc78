//! Which objects a list or watch selects: parsed label and field selectors, and the field values of an object.
//! Upstream: `ToSelectableFields` of the strategies and `AddFieldLabelConversionFuncs` of the API groups.

use std::sync::Arc;

use ::api::resources::ResourceRow;
use compact_str::CompactString;
use machinery::{Value, fields, labels};
use smallvec::SmallVec;
use storage::cacher;

use crate::errors::ApiError;

/// A parsed selection.
#[derive(Clone, Debug)]
pub struct Filter {
    labels: labels::Selector,
    fields: fields::Selector,
}

/// Where a field requirement finds its value.
enum Place {
    Name,
    Namespace,
    Field(usize),
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

    /// The value the field selector demands of a field, to narrow the read.
    pub fn requires(&self, field: &str) -> Option<&str> {
        self.fields.requires_exact_match(field)
    }

    /// The selection as a test of cached objects, whose header has the named fields; `None` where everything is
    /// selected.
    pub fn on_headers(self, names: &[String]) -> Option<cacher::Filter> {
        if self.labels.is_empty() && self.fields.is_empty() {
            return None;
        }
        let place = |field: &str| match field {
            "metadata.name" => Place::Name,
            "metadata.namespace" => Place::Namespace,
            // Past the end stands for a field without value.
            other => Place::Field(names.iter().position(|n| n == other).unwrap_or(names.len())),
        };
        let fields: Vec<_> =
            self.fields.requirements().iter().map(|r| (place(&r.field), r.clone())).collect();
        let none = self.fields.is_nothing();
        let labels = self.labels;
        Some(Arc::new(move |object: &cacher::Object| {
            let header = &object.header;
            let holds = |(place, r): &(Place, fields::Requirement)| {
                let value = match place {
                    Place::Name => header.name.as_str(),
                    Place::Namespace => header.namespace.as_str(),
                    Place::Field(at) => header.fields.get(*at).map_or("", |value| value.as_str()),
                };
                (value == r.value) != r.negated
            };
            !none && fields.iter().all(holds) && (labels.is_empty() || labels.matches(&*header.labels))
        }))
    }
}

/// The hub's names of a row's selectable fields, in a fixed order.
pub fn field_names(row: &ResourceRow) -> Vec<String> {
    row.fields.iter().filter_map(|label| canonical_label(row, label).ok()).collect()
}

/// The hub's name of a field label, or upstream's refusal.
fn canonical_label(row: &ResourceRow, label: &str) -> Result<String, String> {
    let custom = crate::shape::is_custom(row.kind);
    let by_namespace = if custom { row.namespaced } else { row.resource != "nodes" };
    if label == "metadata.name" || (label == "metadata.namespace" && by_namespace) {
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
    if row.fields.is_empty() && !custom {
        return Err(format!(
            "{label:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
        ));
    }
    Err(format!("field label not supported: {label}"))
}

/// The text a field selector compares with.
pub fn field_value(row: &ResourceRow, object: &Value, field: &str) -> String {
    let get = |path: &[&str]| Ok::<_, std::convert::Infallible>(object.get_path(path).cloned());
    match stored_field(row, field, get) {
        Ok(text) => text.into(),
    }
}

/// The text a field selector compares with, where `get` finds the value at a path of the stored version.
pub fn stored_field<E>(
    row: &ResourceRow,
    field: &str,
    get: impl Fn(&[&str]) -> Result<Option<Value>, E>,
) -> Result<CompactString, E> {
    match (row.resource, field) {
        // Selectable by name upstream, but never filled in.
        ("pods", "status.podIPs") => return Ok(CompactString::default()),
        ("events", "source") => {
            for path in [&["source", "component"][..], &["reportingComponent"][..]] {
                if let Some(Value::Str(s)) = get(path)?
                    && !s.is_empty()
                {
                    return Ok(s.as_str().into());
                }
            }
            return Ok(CompactString::default());
        }
        ("jobs", "status.successful") => return Ok(text(get(&["status", "succeeded"])?, "0")),
        _ => {}
    }
    let path: SmallVec<[&str; 4]> = field.split('.').collect();
    let zero = match field {
        "spec.unschedulable" | "spec.hostNetwork" => "false",
        "status.replicas" => "0",
        _ => "",
    };
    Ok(text(get(&path)?, zero))
}

fn text(value: Option<Value>, zero: &str) -> CompactString {
    match value {
        Some(Value::Str(s)) => s.as_str().into(),
        Some(Value::Bool(b)) => if b { "true" } else { "false" }.into(),
        Some(Value::Int(i)) => compact_str::format_compact!("{i}"),
        _ => zero.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::api::resources::resource;
    use serde_json::json;

    fn cached(row: &'static ResourceRow, object: &Value, names: &[String]) -> cacher::Object {
        let pairs = crate::meta::labels(object).into_iter().flatten();
        let labels = pairs.map(|(k, v)| (k.as_str().into(), v.as_str().unwrap().into())).collect();
        let header = cacher::Header {
            name: crate::meta::name(object).into(),
            namespace: crate::meta::namespace(object).into(),
            labels,
            fields: names.iter().map(|n| field_value(row, object, n).into()).collect(),
            ..Default::default()
        };
        let decode: cacher::Decode =
            Arc::new(move |kv| Ok(cacher::Decoded { header: header.clone(), payload: kv.value.clone() }));
        let kv = storage::KeyValue {
            key: "/registry/pods/d/a".into(),
            value: Default::default(),
            mod_revision: 1,
            create_revision: 1,
            version: 1,
            lease: 0,
        };
        cacher::Object::decode(&decode, kv).unwrap()
    }

    #[test]
    fn selects_by_fields_and_labels() {
        let pods = resource("", "v1", "pods").unwrap();
        let pod = Value::from(json!({
            "metadata": {"name": "a", "namespace": "d", "labels": {"app": "x"}},
            "spec": {"nodeName": "n1"}, "status": {"phase": "Running"}}));
        let names = field_names(pods);
        let object = cached(pods, &pod, &names);
        let check = |labels: &str, fields: &str, want: bool| {
            let filter = Filter::parse(pods, labels, fields).unwrap().on_headers(&names);
            assert_eq!(filter.is_none_or(|f| f(&object)), want, "{labels} {fields}");
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
