//! Which requests a rule is about. Upstream: `predicates/rules/rules.go`.

use machinery::Value;

use super::super::Operation;

/// One rule of a webhook.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Rule {
    operations: Vec<String>,
    groups: Vec<String>,
    versions: Vec<String>,
    resources: Vec<String>,
    scope: Scope,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Scope {
    #[default]
    All,
    Cluster,
    Namespaced,
    Unknown,
}

/// What a rule is held against.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// What is done.
    pub operation: Operation,
    /// API group.
    pub group: &'a str,
    /// API version.
    pub version: &'a str,
    /// Plural resource.
    pub resource: &'a str,
    /// Subresource, or empty.
    pub subresource: &'a str,
    /// Namespace; of a namespace object, its name.
    pub namespace: &'a str,
}

/// An operation as the API spells it.
pub fn operation_text(operation: Operation) -> &'static str {
    match operation {
        Operation::Create => "CREATE",
        Operation::Update => "UPDATE",
        Operation::Delete => "DELETE",
        Operation::Connect => "CONNECT",
    }
}

fn texts(rule: &Value, field: &str) -> Vec<String> {
    let list = rule.list_at(&[field]).into_iter().flat_map(|l| l.iter());
    list.filter_map(|v| v.as_str().map(str::to_owned)).collect()
}

fn exact_or_any(items: &[String], wanted: &str) -> bool {
    items.iter().any(|item| item == "*" || item == wanted)
}

impl Rule {
    /// Reads a `RuleWithOperations`.
    pub fn read(rule: &Value) -> Self {
        Rule {
            operations: texts(rule, "operations"),
            groups: texts(rule, "apiGroups"),
            versions: texts(rule, "apiVersions"),
            resources: texts(rule, "resources"),
            scope: match rule.str_at(&["scope"]) {
                None | Some("*") => Scope::All,
                Some("Cluster") => Scope::Cluster,
                Some("Namespaced") => Scope::Namespaced,
                Some(_) => Scope::Unknown,
            },
        }
    }

    /// Whether the rule is about this request.
    pub fn matches(&self, s: Subject<'_>) -> bool {
        self.matches_scope(s)
            && exact_or_any(&self.operations, operation_text(s.operation))
            && exact_or_any(&self.groups, s.group)
            && exact_or_any(&self.versions, s.version)
            && self.resources.iter().any(|r| {
                let (resource, sub) = r.split_once('/').unwrap_or((r, ""));
                (resource == "*" || resource == s.resource) && (sub == "*" || sub == s.subresource)
            })
    }

    fn matches_scope(&self, s: Subject<'_>) -> bool {
        let is_namespace = (s.group, s.version, s.resource) == ("", "v1", "namespaces");
        let cluster = is_namespace || s.namespace.is_empty();
        match self.scope {
            Scope::All => true,
            Scope::Cluster => cluster,
            Scope::Namespaced => !cluster,
            Scope::Unknown => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rules() {
        let pod = Subject {
            operation: Operation::Create,
            group: "",
            version: "v1",
            resource: "pods",
            subresource: "",
            namespace: "a",
        };
        let exec = Subject { operation: Operation::Connect, subresource: "exec", ..pod };
        let namespace = Subject { resource: "namespaces", namespace: "a", ..pod };
        let check = |op: &str, group: &str, version: &str, resource: &str, scope: &str, want: [bool; 3]| {
            let rule = Rule::read(&Value::from(json!({
                "operations": [op], "apiGroups": [group], "apiVersions": [version], "resources": [resource],
                "scope": scope})));
            assert_eq!([pod, exec, namespace].map(|s| rule.matches(s)), want, "{rule:?}");
        };
        check("*", "*", "*", "*", "*", [true, false, true]);
        check("*", "*", "*", "*/*", "*", [true, true, true]);
        check("CREATE", "", "v1", "pods", "Namespaced", [true, false, false]);
        check("*", "", "v1", "*", "Cluster", [false, false, true]);
        check("CONNECT", "", "v1", "pods/exec", "*", [false, true, false]);
        check("CONNECT", "", "v1", "*/exec", "*", [false, true, false]);
        check("*", "apps", "*", "*", "*", [false, false, false]);
        check("*", "", "v2", "*", "*", [false, false, false]);
        check("*", "*", "*", "*", "?", [false, false, false]);
    }
}
