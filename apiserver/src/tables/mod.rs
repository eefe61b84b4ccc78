//! Server-side printing: objects as rows of a `Table`.
//!
//! Column sets and cells per kind are in the submodules; kinds without one get Name and Created At.
//! Upstream: `pkg/printers/internalversion/printers.go`, `apiserver/pkg/registry/rest/table.go`.

use bytes::Bytes;
use machinery::Value;
use registry::api::{Format, List, ObjectRef};
use registry::errors::ApiError;

use crate::web::query::Query;

/// One column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) format: &'static str,
    pub(crate) priority: i32,
    pub(crate) description: &'static str,
}

/// What a row carries besides its cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Include {
    /// `PartialObjectMetadata`
    Metadata,
    /// The object
    Object,
    /// Nothing
    None,
}

/// `TableOptions`.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) include: Include,
    pub(crate) no_headers: bool,
}

impl Options {
    /// Decodes and validates `includeObject`.
    pub(crate) fn from_query(query: &Query) -> Result<Self, ApiError> {
        let include = match query.get("includeObject").unwrap_or_default() {
            "" | "Metadata" => Include::Metadata,
            "Object" => Include::Object,
            "None" => Include::None,
            other => {
                let why = format!(
                    "Unable to convert to Table as requested: includeObject: Invalid value: {other:?}: \
                     must be 'Metadata', 'Object', 'None', or empty"
                );
                return Err(ApiError { details: None, ..ApiError::bad_request(why) });
            }
        };
        Ok(Self { include, no_headers: false })
    }
}

/// Columns of kinds without their own. Descriptions are ours.
const DEFAULT: &[Column] = &[
    Column { name: "Name", kind: "string", format: "name", priority: 0, description: "Name of the object" },
    Column {
        name: "Created At",
        kind: "date",
        format: "",
        priority: 0,
        description: "When the object was created",
    },
];

/// Renders objects as one `Table` document.
pub(crate) fn render(
    version: &str,
    options: &Options,
    objects: &[ObjectRef],
    list: Option<&List>,
) -> Result<Bytes, ApiError> {
    let mut out = String::with_capacity(256 + objects.len() * 512);
    out.push_str(&format!("{{\"kind\":\"Table\",\"apiVersion\":\"meta.k8s.io/{version}\",\"metadata\":"));
    match (list, objects) {
        (Some(list), _) => out.push_str(&crate::resource::list_meta(list)),
        (None, [one]) => out.push_str(&format!("{{\"resourceVersion\":{:?}}}", one.resource_version())),
        (None, _) => out.push_str("{}"),
    }
    out.push_str(",\"columnDefinitions\":");
    if options.no_headers {
        out.push_str("null")
    } else {
        push_columns(&mut out, DEFAULT)
    }
    out.push_str(",\"rows\":[");
    for (index, object) in objects.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        push_row(&mut out, version, options, object)?;
    }
    out.push_str("]}");
    Ok(out.into())
}

fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn push_columns(out: &mut String, columns: &[Column]) {
    let one = |c: &Column| {
        format!(
            "{{\"name\":{},\"type\":{},\"format\":{},\"description\":{},\"priority\":{}}}",
            json(c.name),
            json(c.kind),
            json(c.format),
            json(c.description),
            c.priority
        )
    };
    let all: Vec<String> = columns.iter().map(one).collect();
    out.push_str(&format!("[{}]", all.join(",")));
}

fn push_row(out: &mut String, version: &str, options: &Options, object: &ObjectRef) -> Result<(), ApiError> {
    let tree = object.value()?;
    out.push_str("{\"cells\":[");
    out.push_str(&cells(&tree).iter().map(ToString::to_string).collect::<Vec<_>>().join(","));
    out.push_str("],\"object\":");
    match options.include {
        Include::None => out.push_str("null"),
        Include::Object => out.push_str(&String::from_utf8_lossy(&object.encode(Format::Json)?)),
        Include::Metadata => {
            let bytes = crate::resource::partial_json(object, version)?;
            out.push_str(&String::from_utf8_lossy(&bytes));
        }
    }
    out.push('}');
    Ok(())
}

fn cells(tree: &Value) -> Vec<serde_json::Value> {
    let text = |path: &[&str]| serde_json::Value::from(tree.str_at(path).unwrap_or_default());
    vec![text(&["metadata", "name"]), text(&["metadata", "creationTimestamp"])]
}
