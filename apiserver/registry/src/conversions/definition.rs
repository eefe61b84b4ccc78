//! Custom resource definitions, served as v1 and stored as v1beta1, where what all versions share stands once.
//! Upstream: `apis/apiextensions/v1/conversion.go`, `v1beta1/conversion.go` by way of the internal type.

use machinery::{Map, Value};

use crate::errors::ApiError;

/// Fields of a version that move to the spec when all versions have them alike, and their names there.
const SHARED: [(&str, &str); 4] = [
    ("subresources", "subresources"),
    ("schema", "validation"),
    ("additionalPrinterColumns", "additionalPrinterColumns"),
    ("selectableFields", "selectableFields"),
];

fn spec(object: &mut Value) -> Option<&mut Map> {
    object.get_mut("spec")?.as_map_mut()
}

fn is_nothing(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::List(list)) => list.is_empty(),
        Some(_) => false,
    }
}

/// Renames a field of all printer columns, wherever they stand.
fn rename_paths(spec: &mut Map, from: &str, to: &str) {
    const COLUMNS: &str = "additionalPrinterColumns";
    let rename = |columns: Option<&mut Value>| {
        let columns = columns.and_then(Value::as_list_mut).into_iter().flat_map(|l| l.iter_mut());
        for column in columns.filter_map(Value::as_map_mut) {
            if let Some(path) = column.remove(from) {
                column.insert(to, path);
            }
        }
    };
    rename(spec.get_mut(COLUMNS));
    let versions =
        spec.get_mut("versions").and_then(Value::as_list_mut).into_iter().flat_map(|l| l.iter_mut());
    versions.filter_map(Value::as_map_mut).for_each(|version| rename(version.get_mut(COLUMNS)));
}

/// v1 to v1beta1.
pub fn to_stored(object: &mut Value) -> Result<(), ApiError> {
    let Some(spec) = spec(object) else { return Ok(()) };
    rename_paths(spec, "jsonPath", "JSONPath");
    let mut versions = spec.get("versions").and_then(Value::as_list).cloned().unwrap_or_default();
    if let Some(first) = versions.first().cloned() {
        spec.insert("version", first.str_at(&["name"]).unwrap_or_default());
        for (field, top) in SHARED {
            let own = first.get(field);
            let same = |v: &Value| {
                let other = v.get(field);
                (is_nothing(own) && is_nothing(other))
                    || own.zip(other).is_some_and(|(a, b)| a.semantic_eq(b))
            };
            if !versions.iter().all(same) {
                continue;
            }
            if let Some(value) = own.filter(|_| !is_nothing(own)) {
                spec.insert(top, value.clone());
            }
            for version in versions.iter_mut().filter_map(Value::as_map_mut) {
                version.remove(field);
            }
        }
        spec.insert("versions", versions);
    }
    if spec.get("preserveUnknownFields").is_none_or(Value::is_null) {
        spec.insert("preserveUnknownFields", false);
    }
    if let Some(conversion) = spec.get_mut("conversion").and_then(Value::as_map_mut)
        && let Some(Value::Map(webhook)) = conversion.remove("webhook")
    {
        for (from, to) in [
            ("clientConfig", "webhookClientConfig"),
            ("conversionReviewVersions", "conversionReviewVersions"),
        ] {
            if let Some(value) = webhook.get(from).filter(|v| !is_nothing(Some(v))) {
                conversion.insert(to, value.clone());
            }
        }
    }
    Ok(())
}

/// v1beta1 to v1.
pub fn from_stored(object: &mut Value) -> Result<(), ApiError> {
    let Some(spec) = spec(object) else { return Ok(()) };
    rename_paths(spec, "JSONPath", "jsonPath");
    let version = spec.remove("version");
    let mut versions = spec.get("versions").and_then(Value::as_list).cloned().unwrap_or_default();
    if let (true, Some(name)) = (versions.is_empty(), version.as_ref().and_then(Value::as_str))
        && !name.is_empty()
    {
        let only = Map::from_iter([
            ("name", Value::from(name)),
            ("served", Value::Bool(true)),
            ("storage", Value::Bool(true)),
        ]);
        versions.push(Value::Map(only));
    }
    for (field, top) in SHARED {
        let Some(value) = spec.remove(top).filter(|v| !v.is_null()) else { continue };
        for version in versions.iter_mut().filter_map(Value::as_map_mut) {
            version.insert(field, value.clone());
        }
    }
    spec.insert("versions", versions);
    if spec.get("preserveUnknownFields").and_then(Value::as_bool) != Some(true) {
        spec.remove("preserveUnknownFields");
    }
    if let Some(conversion) = spec.get_mut("conversion").and_then(Value::as_map_mut) {
        let config = conversion.remove("webhookClientConfig").filter(|v| !v.is_null());
        let reviews = conversion.remove("conversionReviewVersions").filter(|v| !is_nothing(Some(v)));
        if config.is_some() || reviews.is_some() {
            let mut webhook = Map::new();
            if let Some(config) = config {
                webhook.insert("clientConfig", config);
            }
            webhook.insert("conversionReviewVersions", reviews.unwrap_or_default());
            conversion.insert("webhook", webhook);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn round_trips() {
        let schema = json!({"openAPIV3Schema": {"type": "object"}});
        let version = |name: &str, schema: &serde_json::Value| json!({"name": name, "served": true, "storage": name == "v1", "schema": schema});
        let same = json!({"spec": {"versions": [version("v1", &schema), version("v2", &schema)],
            "conversion": {"strategy": "None"}}});
        let mut object = Value::from(same.clone());
        to_stored(&mut object).unwrap();
        assert_eq!(object.str_at(&["spec", "version"]), Some("v1"));
        assert_eq!(object.str_at(&["spec", "validation", "openAPIV3Schema", "type"]), Some("object"));
        from_stored(&mut object).unwrap();
        assert_eq!(object, Value::from(same));
        let other = json!({"openAPIV3Schema": {"type": "object", "nullable": true}});
        let mut object =
            Value::from(json!({"spec": {"versions": [version("v1", &schema), version("v2", &other)]}}));
        to_stored(&mut object).unwrap();
        assert_eq!(object.get_path(&["spec", "validation"]), None);
    }
}
