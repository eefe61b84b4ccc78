//! Operations of the served resources, by path and method.
//! Upstream: `k8s.io/apiserver/pkg/endpoints/installer.go`.

use std::sync::Arc;

use registry::api::{Gvk, ResourceRow, SubresourceRow};
use serde_json::{Map, Value, json};

use super::schemas::Schemas;
use super::{Dialect, custom, descriptions};

const MEDIA: [&str; 3] = ["application/json", "application/vnd.kubernetes.protobuf", "application/yaml"];
const CUSTOM_MEDIA: [&str; 2] = ["application/json", "application/yaml"];
/// All but the last are taken for custom resources.
const PATCHES: [&str; 4] = [
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];
/// Query parameters of a list, a watch, and a deletecollection.
const LIST: [(&str, &str); 10] = [
    ("allowWatchBookmarks", "boolean"),
    ("continue", "string"),
    ("fieldSelector", "string"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("sendInitialEvents", "boolean"),
    ("timeoutSeconds", "integer"),
    ("watch", "boolean"),
];
const WRITE: [(&str, &str); 3] =
    [("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string")];
const PATCH: [(&str, &str); 4] =
    [("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string"), ("force", "boolean")];
const DELETE: [(&str, &str); 5] = [
    ("dryRun", "string"),
    ("gracePeriodSeconds", "integer"),
    ("ignoreStoreReadErrorWithClusterBreakingPotential", "boolean"),
    ("orphanDependents", "boolean"),
    ("propagationPolicy", "string"),
];

/// All paths of some rows.
pub(super) fn all(rows: &[Arc<ResourceRow>], schemas: &mut Schemas) -> Map<String, Value> {
    let mut out = Map::new();
    for row in rows {
        let prefix = if row.gvk.group.is_empty() { "/api" } else { "/apis" };
        let base = format!("{prefix}/{}", row.gvk.api_version());
        let scope = if row.namespaced { format!("{base}/namespaces/{{namespace}}") } else { base.clone() };
        let collection = format!("{scope}/{}", row.resource);
        if row.namespaced && has(&row.verbs, "list") {
            let all = format!("{base}/{}", row.resource);
            let op = List { row, everywhere: true };
            put(&mut out, all, &[], vec![("get", op.build(schemas))], schemas);
        }
        let parameters: &[&str] = if row.namespaced { &["namespace"] } else { &[] };
        let operations = collection_operations(row, schemas);
        put(&mut out, collection.clone(), parameters, operations, schemas);
        let item = format!("{collection}/{{name}}");
        let parameters: &[&str] = if row.namespaced { &["name", "namespace"] } else { &["name"] };
        put(&mut out, item.clone(), parameters, item_operations(row, None, schemas), schemas);
        for sub in &row.subresources {
            let path = format!("{item}/{}", sub.name);
            put(&mut out, path, parameters, item_operations(row, Some(sub), schemas), schemas);
        }
    }
    out
}

fn has(verbs: &[String], verb: &str) -> bool {
    verbs.iter().any(|v| v == verb)
}

fn put(
    out: &mut Map<String, Value>,
    path: String,
    parameters: &[&str],
    operations: Vec<(&'static str, Value)>,
    schemas: &Schemas,
) {
    if operations.is_empty() {
        return;
    }
    let mut item = Map::new();
    for (method, operation) in operations {
        item.insert(method.to_owned(), operation);
    }
    let mut all: Vec<Value> = parameters
        .iter()
        .map(|name| {
            let mut p = parameter(name, "string", schemas.dialect);
            p["in"] = json!("path");
            p["required"] = json!(true);
            p
        })
        .collect();
    all.push(parameter("pretty", "string", schemas.dialect));
    item.insert("parameters".to_owned(), Value::Array(all));
    out.insert(path, Value::Object(item));
}

fn parameter(name: &str, kind: &str, dialect: Dialect) -> Value {
    let mut out = match dialect {
        Dialect::V2 => json!({"name": name, "in": "query", "type": kind, "uniqueItems": true}),
        Dialect::V3 => json!({"name": name, "in": "query", "schema": {"type": kind, "uniqueItems": true}}),
    };
    if let Some(text) = descriptions::parameter(name) {
        out["description"] = json!(text);
    }
    out
}

/// `CoreV1NamespacedPod` and the like.
fn subject(row: &ResourceRow, kind: &Gvk, namespaced: bool) -> String {
    let scope = if namespaced { "Namespaced" } else { "" };
    format!("{}{scope}{}", group_version(row), kind.kind)
}

fn group_version(row: &ResourceRow) -> String {
    capital(&group_name(row)) + &capital(&row.gvk.version)
}

/// The group as one word: the first label of Kubernetes' own, all of others.
fn group_name(row: &ResourceRow) -> String {
    let mut labels = row.gvk.group.split('.');
    let first = labels.next().filter(|g| !g.is_empty()).unwrap_or("core").to_owned();
    if row.custom.is_none() {
        return first;
    }
    labels
        .map(|label| capital(&label.replace('-', "")))
        .fold(first.replace('-', ""), |name, label| name + &label)
}

/// A reference to the schema of what a (sub)resource takes and gives.
fn kind_schema(row: &ResourceRow, kind: &Gvk, schemas: &mut Schemas) -> Value {
    let own = row.custom.as_ref().filter(|_| *kind == row.gvk);
    let reference = match own {
        Some(custom) => Some(custom::object(row, custom, schemas)),
        None => schemas.reference(kind),
    };
    reference.unwrap_or_else(|| json!({"type": "object"}))
}

fn capital(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map(|c| c.to_ascii_uppercase().to_string() + characters.as_str()).unwrap_or_default()
}

/// One operation, before it is written.
struct Operation<'a> {
    id: String,
    action: &'a str,
    kind: &'a Gvk,
    parameters: &'a [(&'a str, &'a str)],
    body: Option<(Value, &'a [&'a str])>,
    answer: Value,
    codes: &'a [&'a str],
}

impl Operation<'_> {
    fn build(self, row: &ResourceRow, dialect: Dialect) -> Value {
        let tag = format!("{}_{}", group_name(row), row.gvk.version);
        let media: &[&str] = if row.custom.is_some() { &CUSTOM_MEDIA } else { &MEDIA };
        let mut parameters: Vec<Value> =
            self.parameters.iter().map(|(name, kind)| parameter(name, kind, dialect)).collect();
        let mut out = json!({
            "tags": [tag],
            "operationId": self.id,
            "x-kubernetes-action": self.action,
            "x-kubernetes-group-version-kind":
                {"group": self.kind.group, "version": self.kind.version, "kind": self.kind.kind},
        });
        let content = |schema: &Value, media: &[&str]| -> Value {
            media.iter().map(|m| ((*m).to_owned(), json!({"schema": schema}))).collect::<Map<_, _>>().into()
        };
        let mut responses = Map::new();
        for code in self.codes {
            let text = match *code {
                "200" => "OK",
                "201" => "Created",
                _ => "Accepted",
            };
            let response = match dialect {
                Dialect::V2 => json!({"description": text, "schema": self.answer}),
                Dialect::V3 => json!({"description": text, "content": content(&self.answer, media)}),
            };
            responses.insert((*code).to_owned(), response);
        }
        responses.insert("401".to_owned(), json!({"description": "Unauthorized"}));
        out["responses"] = Value::Object(responses);
        if let Some((schema, media)) = self.body {
            match dialect {
                Dialect::V2 => {
                    parameters
                        .push(json!({"name": "body", "in": "body", "required": true, "schema": schema}));
                    out["consumes"] = json!(media);
                }
                Dialect::V3 => {
                    out["requestBody"] = json!({"required": true, "content": content(&schema, media)})
                }
            }
        }
        if dialect == Dialect::V2 {
            out["produces"] = json!(media);
            out["schemes"] = json!(["https"]);
        }
        if !parameters.is_empty() {
            out["parameters"] = Value::Array(parameters);
        }
        out
    }
}

struct List<'a> {
    row: &'a ResourceRow,
    everywhere: bool,
}

impl List<'_> {
    fn build(&self, schemas: &mut Schemas) -> Value {
        let row = self.row;
        let listed = Gvk { kind: format!("{}List", row.gvk.kind), ..row.gvk.clone() };
        let id = if self.everywhere {
            format!("list{}ForAllNamespaces", subject(row, &row.gvk, false))
        } else {
            format!("list{}", subject(row, &row.gvk, row.namespaced))
        };
        let answer = match &row.custom {
            Some(custom) => custom::list(row, custom, schemas),
            None => schemas.reference(&listed).unwrap_or_else(|| json!({"type": "object"})),
        };
        let operation = Operation {
            id,
            action: "list",
            kind: &row.gvk,
            parameters: &LIST,
            body: None,
            answer,
            codes: &["200"],
        };
        operation.build(row, schemas.dialect)
    }
}

fn collection_operations(row: &ResourceRow, schemas: &mut Schemas) -> Vec<(&'static str, Value)> {
    let mut out = Vec::new();
    if has(&row.verbs, "list") {
        out.push(("get", List { row, everywhere: false }.build(schemas)));
    }
    let object = kind_schema(row, &row.gvk, schemas);
    if has(&row.verbs, "create") {
        let operation = Operation {
            id: format!("create{}", subject(row, &row.gvk, row.namespaced)),
            action: "post",
            kind: &row.gvk,
            parameters: &WRITE,
            body: Some((object.clone(), &["*/*"])),
            answer: object,
            codes: &["200", "201", "202"],
        };
        out.push(("post", operation.build(row, schemas.dialect)));
    }
    if has(&row.verbs, "deletecollection") {
        let scope = if row.namespaced { "Namespaced" } else { "" };
        let parameters: Vec<(&str, &str)> =
            DELETE.iter().chain(LIST.iter().filter(|p| p.0 != "watch")).copied().collect();
        let operation = Operation {
            id: format!("delete{}Collection{scope}{}", group_version(row), row.gvk.kind),
            action: "deletecollection",
            kind: &row.gvk,
            parameters: &parameters,
            body: Some((schemas.meta("DeleteOptions"), &["*/*"])),
            answer: schemas.meta("Status"),
            codes: &["200"],
        };
        out.push(("delete", operation.build(row, schemas.dialect)));
    }
    out
}

fn item_operations(
    row: &ResourceRow,
    sub: Option<&SubresourceRow>,
    schemas: &mut Schemas,
) -> Vec<(&'static str, Value)> {
    let (kind, verbs) = match sub {
        Some(sub) => (if sub.kind.kind.is_empty() { &row.gvk } else { &sub.kind }, &sub.verbs),
        None => (&row.gvk, &row.verbs),
    };
    let mut who = subject(row, &row.gvk, row.namespaced);
    if let Some(sub) = sub {
        who += &capital(&sub.name);
    }
    let object = kind_schema(row, kind, schemas);
    let patches = if row.custom.is_some() { &PATCHES[..3] } else { &PATCHES[..] };
    let mut out = Vec::new();
    for verb in verbs {
        let (method, prefix, action) = match verb.as_str() {
            "get" => ("get", "read", "get"),
            "update" => ("put", "replace", "put"),
            "patch" => ("patch", "patch", "patch"),
            "delete" => ("delete", "delete", "delete"),
            "create" if sub.is_some() => ("post", "create", "post"),
            _ => continue,
        };
        let (parameters, body, answer, codes): (&[(&str, &str)], _, _, &[&str]) = match method {
            "get" => (&[], None, object.clone(), &["200"]),
            "put" => (&WRITE, Some((object.clone(), &["*/*"][..])), object.clone(), &["200", "201"]),
            "patch" => (&PATCH, Some((schemas.meta("Patch"), patches)), object.clone(), &["200", "201"]),
            "delete" => {
                let body = Some((schemas.meta("DeleteOptions"), &["*/*"][..]));
                (&DELETE, body, schemas.meta("Status"), &["200", "202"])
            }
            _ => (&WRITE, Some((object.clone(), &["*/*"][..])), object.clone(), &["200", "201", "202"]),
        };
        let operation =
            Operation { id: format!("{prefix}{who}"), action, kind, parameters, body, answer, codes };
        out.push((method, operation.build(row, schemas.dialect)));
    }
    out
}
