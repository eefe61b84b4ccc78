//! One operation and one path, before they are written in a dialect.
//! Upstream: `kube-openapi/pkg/{builder,builder3}/openapi.go`.

use registry::api::Gvk;
use serde_json::{Map, Value, json};

use super::Dialect;
use super::parameters::{self, Parameter};

/// One operation.
#[derive(Debug)]
pub(super) struct Operation {
    /// HTTP method in lower case.
    pub(super) method: &'static str,
    pub(super) id: String,
    pub(super) tag: String,
    /// What is done to objects of which kind; nothing for documents.
    pub(super) action: Option<(&'static str, Gvk)>,
    pub(super) consumes: Vec<&'static str>,
    pub(super) produces: Vec<&'static str>,
    pub(super) parameters: Vec<Parameter>,
    /// Its schema and whether it must be there.
    pub(super) body: Option<(Value, bool)>,
    pub(super) answer: Value,
    pub(super) codes: &'static [u16],
}

/// What an operation's name and tag begin with, by its path: of `/apis/g/v` both group and version.
/// Upstream: `apiserver/pkg/endpoints/openapi/openapi.go` `GetOperationIDAndTags`.
pub(super) fn group_version(group: &str, version: &str) -> (String, String) {
    let group = if group.is_empty() { "core" } else { group.strip_suffix(".k8s.io").unwrap_or(group) };
    let tag = match version {
        "" => camel(group, false),
        version => format!("{}_{}", camel(group, false), camel(version, false)),
    };
    (camel(group, true) + &camel(version, true), tag)
}

/// Leaves out what is no letter and capitalizes what follows.
fn camel(text: &str, first: bool) -> String {
    let mut capital = first;
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_alphanumeric() || c == '_' {
            out.push(if std::mem::take(&mut capital) { c.to_ascii_uppercase() } else { c });
        } else {
            capital = true;
        }
    }
    out
}

/// `status` as part of a name.
pub(super) fn capital(text: &str) -> String {
    camel(text, true)
}

/// A path's operations, with what all of them take said once.
pub(super) fn path_item(operations: &[Operation], dialect: Dialect, aside: &mut Map<String, Value>) -> Value {
    let in_all = |p: &&Parameter| operations.iter().all(|o| o.parameters.iter().any(|q| q.is(p)));
    let first = operations.first().map(|o| o.parameters.as_slice()).unwrap_or_default();
    let common: Vec<&Parameter> = first.iter().filter(in_all).collect();
    let mut item = Map::new();
    for operation in operations {
        let own = operation.parameters.iter().filter(|p| !common.iter().any(|c| c.is(p)));
        item.insert(operation.method.to_owned(), operation.write(own.collect(), dialect, aside));
    }
    let common = sorted(common, None, dialect, aside);
    if !common.is_empty() {
        item.insert("parameters".to_owned(), Value::Array(common));
    }
    Value::Object(item)
}

/// Parameters by name, then place.
fn sorted(
    mut all: Vec<&Parameter>,
    body: Option<Value>,
    dialect: Dialect,
    aside: &mut Map<String, Value>,
) -> Vec<Value> {
    all.sort_by_key(|p| (p.name.as_str(), p.place));
    let at = all.partition_point(|p| p.name.as_str() < "body");
    let mut out: Vec<Value> = all.iter().map(|p| p.write(dialect, aside)).collect();
    if let Some(body) = body {
        out.insert(at, body);
    }
    out
}

fn content(schema: &Value, media: &[&str]) -> Value {
    media.iter().map(|m| ((*m).to_owned(), json!({"schema": schema}))).collect::<Map<_, _>>().into()
}

impl Operation {
    fn write(&self, parameters: Vec<&Parameter>, dialect: Dialect, aside: &mut Map<String, Value>) -> Value {
        let mut out =
            json!({"tags": [self.tag], "operationId": self.id, "responses": self.responses(dialect)});
        let mut in_parameters = None;
        match (dialect, &self.body) {
            (Dialect::V2, Some((schema, required))) => {
                in_parameters = Some(parameters::body(schema, *required, aside));
            }
            (Dialect::V3, Some((schema, required))) => {
                out["requestBody"] = json!({"content": content(schema, &self.consumes)});
                if *required {
                    out["requestBody"]["required"] = json!(true);
                }
            }
            (_, None) => {}
        }
        if dialect == Dialect::V2 {
            if !self.consumes.is_empty() {
                out["consumes"] = json!(self.consumes);
            }
            out["produces"] = json!(self.produces);
            out["schemes"] = json!(["https"]);
        }
        let parameters = sorted(parameters, in_parameters, dialect, aside);
        if !parameters.is_empty() {
            out["parameters"] = Value::Array(parameters);
        }
        if let Some((action, kind)) = &self.action {
            out["x-kubernetes-action"] = json!(action);
            out["x-kubernetes-group-version-kind"] =
                json!({"group": kind.group, "version": kind.version, "kind": kind.kind});
        }
        out
    }

    fn responses(&self, dialect: Dialect) -> Value {
        let mut out = Map::new();
        for code in self.codes {
            let text = match code {
                200 => "OK",
                201 => "Created",
                _ => "Accepted",
            };
            let response = match dialect {
                Dialect::V2 => json!({"description": text, "schema": self.answer}),
                Dialect::V3 => json!({"description": text, "content": content(&self.answer, &self.produces)}),
            };
            out.insert(code.to_string(), response);
        }
        out.insert("401".to_owned(), json!({"description": "Unauthorized"}));
        out.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_in_names() {
        for (group, version, name, tag) in [
            ("", "v1", "CoreV1", "core_v1"),
            ("apps", "", "Apps", "apps"),
            ("rbac.authorization.k8s.io", "v1", "RbacAuthorizationV1", "rbacAuthorization_v1"),
            ("stable.my-example.com", "v1beta1", "StableMyExampleComV1beta1", "stableMyExampleCom_v1beta1"),
        ] {
            assert_eq!(group_version(group, version), (name.to_owned(), tag.to_owned()));
        }
    }
}
