//! Tables of custom resources: the columns a definition names, found by JSON path.
//! Upstream: `apiextensions-apiserver/pkg/registry/customresource/tableconvertor`.

use std::sync::Arc;

use apiextensions::jsonpath::JsonPath;
use machinery::Value;
use registry::customresources::Column;
use serde_json::{Value as Cell, json};

use super::view::View;

/// Columns with their parsed paths.
pub(super) struct Columns(Vec<(Column, Option<JsonPath>)>);

impl Columns {
    pub(super) fn new(columns: &Arc<[Column]>) -> Self {
        Columns(columns.iter().map(|c| (c.clone(), JsonPath::parse(&c.json_path))).collect())
    }

    /// Column definitions as JSON.
    pub(super) fn definitions(&self) -> String {
        let name =
            json!({"name": "Name", "type": "string", "format": "name", "description": "", "priority": 0});
        let one = |(column, _): &(Column, _)| {
            let about =
                format!("Custom resource definition column (in JSONPath format): {}", column.json_path);
            let description = column.description.clone().filter(|d| !d.is_empty()).unwrap_or(about);
            let format = column.format.clone().unwrap_or_default();
            let priority = column.priority.unwrap_or(0);
            json!({"name": column.name, "type": column.type_, "format": format, "description": description,
                "priority": priority})
        };
        let all: Vec<String> =
            std::iter::once(name).chain(self.0.iter().map(one)).map(|c| c.to_string()).collect();
        format!("[{}]", all.join(","))
    }

    pub(super) fn cells(&self, view: &View<'_>) -> Vec<Cell> {
        let cell = |(column, path): &(Column, Option<JsonPath>)| {
            let found = path.as_ref().map(|p| p.find(view.tree)).unwrap_or_default();
            found.first().map_or(Cell::Null, |value| cell(&column.type_, value, view))
        };
        std::iter::once(view.name().into()).chain(self.0.iter().map(cell)).collect()
    }
}

/// `cellForJSONValue`.
fn cell(kind: &str, value: &Value, view: &View<'_>) -> Cell {
    match (kind, value) {
        ("string", Value::Str(text)) => text.as_str().into(),
        ("string", Value::Null) => "<nil>".into(),
        ("string", other) => other.to_string().into(),
        ("integer", Value::Int(number)) => (*number).into(),
        ("integer", Value::Float(number)) => (*number as i64).into(),
        ("number", Value::Int(number)) => (*number as f64).into(),
        ("number", Value::Float(number)) => (*number).into(),
        ("boolean", Value::Bool(flag)) => (*flag).into(),
        ("date", Value::Str(text)) => match text.parse() {
            Ok(at) => view.ago(at).into(),
            Err(_) => "<invalid>".into(),
        },
        _ => Cell::Null,
    }
}
