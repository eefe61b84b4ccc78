//! Parameters of operations: those of paths, `pretty`, and the fields of options kinds.
//! Upstream: `apiserver/pkg/endpoints/installer.go` `AddObjectParams`, `kube-openapi/pkg/builder/parameters.go`.

use machinery::schema::{Shape, TypeTable};
use serde_json::{Map, Value, json};

use super::{Dialect, descriptions};

/// A parameter of an operation, beside its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parameter {
    pub(super) name: String,
    /// `path` or `query`.
    pub(super) place: &'static str,
    kind: &'static str,
    /// Its name among the parameters that version 2 shares between operations.
    shared: Option<&'static str>,
}

/// Names of shared parameters in version 2. What follows the dash is upstream's hash of the parameter with its
/// description, which is not ours to carry, so the hashes are facts here.
const SHARED: [&str; 30] = [
    "allowWatchBookmarks-HC2hJt-J",
    "command-Py3eQybp",
    "continue-QfD61s0i",
    "fieldManager-Qy4HdaTW",
    "fieldSelector-xIcQKXFG",
    "follow-9OIXh_2R",
    "force-tOGGb0Yi",
    "gracePeriodSeconds--K5HaBOS",
    "ignoreStoreReadErrorWithClusterBreakingPotential-QbNkfIqj",
    "insecureSkipTLSVerifyBackend-gM00jVbe",
    "labelSelector-5Zw57w4C",
    "limit-1NfNmdNH",
    "limitBytes-zwd1RXuc",
    "namespace-vgWSWtn3",
    "orphanDependents-uRB25kX5",
    "path-z6Ciiujn",
    "ports-91KROJmm",
    "pretty-tJGM1-ng",
    "previous-1jxDPu3y",
    "propagationPolicy-6jk3prlO",
    "resourceVersion-5WAnf1kx",
    "resourceVersionMatch-t8XhRHeC",
    "sendInitialEvents-rLXlEK_k",
    "shardSelector-Kgyki_3_",
    "sinceSeconds-vE2NLdnP",
    "stream-l-48cgXv",
    "tailLines-9xQLWHMV",
    "timeoutSeconds-yvYezaOC",
    "timestamps-c17fW1w_",
    "watch-XNNPZGbK",
];

/// Those whose description differs by the options they are of.
const SHARED_OF: [(&str, &str); 15] = [
    ("PatchOptions", "fieldManager-7c6nTn1T"),
    ("PodLogOptions", "container-1GeXxFDC"),
    ("PodExecOptions", "container-i5dOmRiM"),
    ("PodExecOptions", "stderr-W_1TNlWc"),
    ("PodExecOptions", "stdin-PSzNhyUC"),
    ("PodExecOptions", "stdout--EZLRwV1"),
    ("PodExecOptions", "tty-s0flW37O"),
    ("PodAttachOptions", "container-_Q-EJ3nR"),
    ("PodAttachOptions", "stderr-26jJhFUR"),
    ("PodAttachOptions", "stdin-sEFnN3IS"),
    ("PodAttachOptions", "stdout-005YMKE6"),
    ("PodAttachOptions", "tty-g7MlET_l"),
    ("NodeProxyOptions", "path-rFDtV0x9"),
    ("PodProxyOptions", "path-oPbzgLUj"),
    ("ServiceProxyOptions", "path-QCf0eosM"),
];

fn shared(options: &str, name: &str) -> Option<&'static str> {
    let is = |shared: &&str| shared.split_once('-').is_some_and(|(n, _)| n == name);
    let own = SHARED_OF.iter().filter(|(of, _)| *of == options).map(|(_, shared)| *shared).find(is);
    own.or_else(|| SHARED.into_iter().find(is))
}

fn made(options: &str, name: &str, place: &'static str, kind: &'static str) -> Parameter {
    Parameter { name: name.to_owned(), place, kind, shared: shared(options, name) }
}

pub(super) fn pretty() -> Parameter {
    made("", "pretty", "query", "string")
}

/// A part of the path: `name`, `namespace` or `path`.
pub(super) fn in_path(name: &str) -> Parameter {
    made("", name, "path", "string")
}

/// The fields of an options kind (`meta/v1.ListOptions`) that can stand in a query.
pub(super) fn of(types: &TypeTable, options: &str, except: &[&str]) -> Vec<Parameter> {
    let Some(id) = types.by_name(options) else { return Vec::new() };
    let short = options.rsplit('.').next().unwrap_or_default();
    let fields = types.fields(id).filter(|f| !["kind", "apiVersion"].contains(&f.name.as_str()));
    fields
        .filter(|f| !except.contains(&f.name.as_str()))
        .filter_map(|f| Some(made(short, &f.name, "query", kind(types, f.shape)?)))
        .collect()
}

/// Structs cannot stand in a query; of a list, each element is one.
fn kind(types: &TypeTable, shape: Shape) -> Option<&'static str> {
    match shape {
        Shape::String => Some("string"),
        Shape::Bool => Some("boolean"),
        Shape::Int32 | Shape::Int64 => Some("integer"),
        Shape::List(element) => kind(types, types.elem(element)),
        _ => None,
    }
}

impl Parameter {
    pub(super) fn is(&self, other: &Parameter) -> bool {
        self.name == other.name && self.place == other.place
    }

    /// As it stands in an operation; what version 2 shares is put aside and referred to.
    pub(super) fn write(&self, dialect: Dialect, aside: &mut Map<String, Value>) -> Value {
        let mut out = json!({"name": self.name, "in": self.place});
        if self.place == "path" {
            out["required"] = json!(true);
        }
        if let Some(text) = descriptions::parameter(&self.name) {
            out["description"] = json!(text);
        }
        match dialect {
            Dialect::V2 => {
                out["type"] = json!(self.kind);
                out["uniqueItems"] = json!(true);
                self.shared.map_or(out.clone(), |name| put_aside(name, out, aside))
            }
            Dialect::V3 => {
                out["schema"] = json!({"type": self.kind, "uniqueItems": true});
                out
            }
        }
    }
}

fn put_aside(name: &str, parameter: Value, aside: &mut Map<String, Value>) -> Value {
    aside.insert(name.to_owned(), parameter);
    json!({"$ref": format!("#/parameters/{name}")})
}

/// The body as version 2's parameter. Those that every kind has are shared.
pub(super) fn body(schema: &Value, required: bool, aside: &mut Map<String, Value>) -> Value {
    let mut out = json!({"name": "body", "in": "body", "schema": schema});
    if required {
        out["required"] = json!(true);
    }
    let reference = schema.get("$ref").and_then(Value::as_str).unwrap_or_default();
    match reference.rsplit('.').next() {
        Some("DeleteOptions") => put_aside("body-2Y1dVQaQ", out, aside),
        Some("Patch") if reference.contains("meta.v1.") => put_aside("body-78PwaGsr", out, aside),
        _ => out,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_become_parameters() {
        let text = |options: &str, except: &[&str]| {
            let all = of(::api::types(), options, except);
            all.iter().map(|p| format!("{}:{} ", p.shared.unwrap_or(&p.name), p.kind)).collect::<String>()
        };
        assert_eq!(
            text("core/v1.PodExecOptions", &["stdin"]),
            "stdout--EZLRwV1:boolean stderr-W_1TNlWc:boolean tty-s0flW37O:boolean container-i5dOmRiM:string \
             command-Py3eQybp:string "
        );
        assert_eq!(
            text("meta/v1.PatchOptions", &[]),
            "dryRun:string force-tOGGb0Yi:boolean fieldManager-7c6nTn1T:string fieldValidation:string "
        );
        // `sinceTime` is a struct.
        assert!(!text("core/v1.PodLogOptions", &[]).contains("sinceTime"));
    }
}
