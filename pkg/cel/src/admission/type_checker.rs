//! Whether the expressions of a policy fit the types of the objects it is about.
//! Upstream: `k8s.io/apiserver/pkg/admission/plugin/policy/validating/typechecking.go` (`TypeChecker`).

use super::{namespace_type, object, request_type, variable_type};
use crate::library::authz;
use crate::{CompileError, DeclType, Env, EnvBuilder, Type, Version};

/// The environments of the expressions of one policy, one for each kind of objects.
pub struct TypeChecker(Vec<(String, Env)>);

impl TypeChecker {
    /// For a policy about these kinds, which warnings call by their names; objects of a kind without a type are dynamic.
    /// `params` is none where the policy has no parameters, and parameters without a type are dynamic. Variables are
    /// names and expressions, in order.
    pub fn new(
        kinds: &[(String, Option<DeclType>)],
        params: Option<Option<&DeclType>>,
        variables: &[(&str, &str)],
    ) -> Self {
        let env = |of_kind: &Option<DeclType>| environment(of_kind.as_ref(), params, variables);
        TypeChecker(kinds.iter().map(|(name, of_kind)| (name.clone(), env(of_kind))).collect())
    }

    /// What is wrong with an expression, for each kind it does not fit. What it comes to is not looked at, nor whether
    /// its constants work.
    pub fn warning(&self, expression: &str) -> Option<String> {
        let mut all = Vec::new();
        for (name, env) in &self.0 {
            if let Err(CompileError::Issues(issues)) = env.compile(expression, None) {
                all.push(format!("{name}: {issues}\n"));
            }
        }
        (!all.is_empty()).then(|| all.join("\n"))
    }
}

fn declare(env: EnvBuilder, name: &str, declared: Option<&DeclType>) -> EnvBuilder {
    match declared {
        Some(declared) => env.declare(name, declared),
        None => env.variable(name, Type::Dyn),
    }
}

/// Upstream's `buildEnvSet`: it does not know `authorizer.requestResource`, so neither does this.
fn environment(
    of_kind: Option<&DeclType>,
    params: Option<Option<&DeclType>>,
    variables: &[(&str, &str)],
) -> Env {
    let mut base = Env::builder(Version::Stored)
        .declare("namespaceObject", &namespace_type())
        .declare("request", &request_type())
        .variable("authorizer", authz::authorizer_type());
    for name in ["object", "oldObject"] {
        base = declare(base, name, of_kind);
    }
    if let Some(params) = params {
        base = declare(base, "params", params);
    }
    let base = base.build();
    let mut declared: Vec<(&str, DeclType)> = Vec::new();
    for (name, expression) in variables {
        let env = base.extend().declare("variables", &object("kubernetes.variables", &declared)).build();
        let program = env.compile(expression, None);
        let output = program.as_ref().map_or(&Type::Dyn, crate::Program::output_type);
        declared.push((name, variable_type(output)));
    }
    base.extend().declare("variables", &object("kubernetes.variables", &declared)).build()
}

#[cfg(test)]
mod tests {
    use machinery::Value;
    use serde_json::json;

    use super::*;
    use crate::Schema;

    fn of_kind(name: &str) -> (String, Option<DeclType>) {
        let spec = json!({"type": "object", "properties": {"replicas": {"type": "integer"}}});
        let schema = Schema::parse(&Value::from(json!({"type": "object", "properties": {"spec": spec}})));
        (format!("apps/v1, Kind={name}"), DeclType::from_schema(&schema, true).map(|t| t.named(name)))
    }

    #[test]
    fn each_kind_has_its_own_warning() {
        let kinds = [of_kind("Deployment"), ("/v1, Kind=Any".into(), None), of_kind("ReplicaSet")];
        let checker = TypeChecker::new(&kinds, None, &[("n", "object.spec.replicas"), ("bad", "1 + 'a'")]);
        for fine in [
            "object.spec.replicas > 1 && oldObject.metadata.name == 'a' && request.operation == 'CREATE'",
            "variables.n > 1 && variables.bad",
            "authorizer.group('').resource('pods').check('get').allowed()",
            "1",
            "[].matches('(')",
        ] {
            let warning = checker.warning(fine);
            assert!(fine.starts_with('[') || warning.is_none(), "{fine}: {warning:?}");
        }
        let at = "ERROR: <input>:1:7: undefined field 'nope'\n | object.nope\n | ......^\n";
        let want = format!("apps/v1, Kind=Deployment: {at}\napps/v1, Kind=ReplicaSet: {at}");
        assert_eq!(checker.warning("object.nope").as_deref(), Some(&*want));
        let unknown = checker.warning("params.a").unwrap_or_default();
        assert_eq!(unknown.matches("undeclared reference to 'params'").count(), 3, "{unknown}");
        assert!(checker.warning("variables.n == 'a'").is_some());
        assert!(checker.warning("variables.x").is_some());
    }

    #[test]
    fn parameters_have_types_where_they_are_known() {
        let kind = of_kind("ReplicaSet");
        let dynamic = TypeChecker::new(std::slice::from_ref(&kind), Some(None), &[]);
        assert_eq!(dynamic.warning("params.nope == 1"), None);
        let typed = TypeChecker::new(std::slice::from_ref(&kind), Some(kind.1.as_ref()), &[]);
        assert_eq!(typed.warning("params.spec.replicas == object.spec.replicas"), None);
        assert!(typed.warning("params.nope == 1").is_some());
    }
}
