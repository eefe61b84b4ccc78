//! Admission policies, from their objects to what becomes of a request.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;

use common::{create, registry_with};
use registry::ApiRegistry;
use registry::admission::Chain;
use registry::admission::policy::mutating::MutatingAdmissionPolicy;
use registry::admission::policy::validating::ValidatingAdmissionPolicy;
use registry::errors::ApiError;
use serde_json::{Value, json};

const GROUP: &str = "admissionregistration.k8s.io/v1";

struct Cluster {
    registry: ApiRegistry,
    _dir: tempfile::TempDir,
}

impl Cluster {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let chain = Chain::new(vec![Arc::new(MutatingAdmissionPolicy), Arc::new(ValidatingAdmissionPolicy)]);
        let registry = registry_with(dir.path(), chain);
        create(&registry, "v1 /namespaces", &json!({"metadata": {"name": "ns"}})).await.unwrap();
        Cluster { registry, _dir: dir }
    }

    /// Creates a policy of a kind and a binding, and puts both in force.
    async fn policy(&self, kind: &str, spec: Value, binding: Value) -> Result<(), ApiError> {
        let (of, rule) = (
            kind.to_lowercase(),
            |group: &str, resource: &str| json!({"apiGroups": [group], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": [resource]}),
        );
        let rules = json!({"resourceRules": [rule("", "configmaps"), rule("apps", "deployments")]});
        let mut policy = json!({"metadata": {"name": "p"}, "spec": spec});
        policy["spec"]["matchConstraints"] = rules;
        let mut bound = json!({"metadata": {"name": "b"}, "spec": binding});
        bound["spec"]["policyName"] = json!("p");
        let policy = create(&self.registry, &format!("{GROUP} /{of}admissionpolicies"), &policy).await?;
        let bound = create(&self.registry, &format!("{GROUP} /{of}admissionpolicybindings"), &bound).await?;
        let (policy, bound) = (machinery::Value::from(policy), machinery::Value::from(bound));
        let core = self.registry.core();
        match kind {
            "Mutating" => {
                core.mutating_policies.set_policies([&policy].into_iter());
                core.mutating_policies.set_bindings([&bound].into_iter());
                core.mutating_policies.follow();
            }
            _ => {
                core.validating_policies.set_policies([&policy].into_iter());
                core.validating_policies.set_bindings([&bound].into_iter());
                core.validating_policies.follow();
            }
        }
        Ok(())
    }

    async fn config_map(&self) -> Result<Value, ApiError> {
        let object = json!({"metadata": {"name": "a"}, "data": {"k": "v"}});
        create(&self.registry, "v1 ns/configmaps", &object).await
    }

    async fn deployment(&self) -> Result<Value, ApiError> {
        let pod = json!({"metadata": {"labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c", "image": "i", "args": ["x"]}]}});
        let spec = json!({"replicas": 3, "selector": {"matchLabels": {"a": "b"}}, "template": pod});
        let object = json!({"metadata": {"name": "a"}, "spec": spec});
        create(&self.registry, "apps/v1 ns/deployments", &object).await
    }
}

fn mutation(expression: &str) -> Value {
    let (kind, field) = match expression.trim_start().starts_with('[') {
        true => ("JSONPatch", "jsonPatch"),
        false => ("ApplyConfiguration", "applyConfiguration"),
    };
    json!({"patchType": kind, field: {"expression": expression}})
}

fn mutations(expressions: &[&str]) -> Value {
    let all: Vec<Value> = expressions.iter().map(|e| mutation(e)).collect();
    json!({"reinvocationPolicy": "Never", "mutations": all})
}

async fn mutated(expressions: &[&str]) -> Result<Value, String> {
    let cluster = Cluster::new().await;
    cluster.policy("Mutating", mutations(expressions), json!({})).await.unwrap();
    cluster.config_map().await.map(|o| o["data"].clone()).map_err(|e| e.message)
}

#[tokio::test]
async fn mutations_see_what_those_before_made() {
    let configuration = r#"Object{data: {"z": object.data.k + "1"}}"#;
    let patch =
        r#"[JSONPatch{op: "add", path: "/data/" + jsonpatch.escapeKey("y"), value: object.data.z + "2"}]"#;
    assert_eq!(mutated(&[configuration, patch]).await, Ok(json!({"k": "v", "y": "v12", "z": "v1"})));
}

#[tokio::test]
async fn patches_that_do_not_fit_refuse() {
    let check = async |expression: &str, want: &str| {
        let prefix = "policy 'p' with binding 'b' denied request: ";
        assert_eq!(mutated(&[expression]).await, Err(format!("{prefix}{want}")), "{expression}");
    };
    check(
        r#"[JSONPatch{op: "remove", path: "/data/x"}]"#,
        "JSON Patch: error in remove for path: '/data/x': Unable to remove nonexistent key: x: missing value",
    )
    .await;
    check(
        r#"Object{data: {"z": object.data.x}}"#,
        r#"expression 'Object{data: {"z": object.data.x}}' resulted in error: no such key: x"#,
    )
    .await;
    check(
        "Object{nope: 1}",
        "error applying patch: failed to convert patch object to typed object: .nope: field not declared in schema",
    )
    .await;
    check(
        r#"Object{data: Object.spec{z: "1"}}"#,
        r#"type mismatch: unexpected type name "Object.spec", expected "Object.data", which matches field name path from root Object type"#,
    )
    .await;
}

#[tokio::test]
async fn a_failed_test_changes_nothing() {
    let patch =
        r#"[JSONPatch{op: "test", path: "/data/k", value: "x"}, JSONPatch{op: "remove", path: "/data/k"}]"#;
    assert_eq!(mutated(&[patch]).await, Ok(json!({"k": "v"})));
}

#[tokio::test]
async fn unknown_fields_are_an_error() {
    let error = mutated(&[r#"[JSONPatch{op: "add", path: "/nope", value: 1}]"#]).await.unwrap_err();
    assert_eq!(error, "Internal error occurred: strict decoding error: unknown field \"nope\"");
}

#[tokio::test]
async fn lists_merge_by_key_and_what_is_one_value_is_left_alone() {
    let cluster = Cluster::new().await;
    let containers = |fields: &str| {
        format!(
            "Object{{spec: Object.spec{{replicas: 7, template: Object.spec.template{{spec: Object.spec.template.spec{{
             containers: [Object.spec.template.spec.containers{{name: 'c', {fields}}},
             Object.spec.template.spec.containers{{name: 'd', image: 'j'}}]}}}}}}}}"
        )
    };
    cluster.policy("Mutating", mutations(&[&containers("tty: true")]), json!({})).await.unwrap();
    let made = cluster.deployment().await.unwrap();
    assert_eq!(made["spec"]["replicas"], 7);
    let pod = &made["spec"]["template"]["spec"]["containers"];
    let field = |i: usize, name: &str| pod[i][name].clone();
    assert_eq!([field(0, "image"), field(1, "image")], ["i", "j"]);
    assert_eq!([field(0, "tty"), field(1, "imagePullPolicy")], [json!(true), json!("Always")]);

    let cluster = Cluster::new().await;
    cluster.policy("Mutating", mutations(&[&containers("args: ['y']")]), json!({})).await.unwrap();
    let error = cluster.deployment().await.unwrap_err();
    let why = "may not mutate atomic arrays, maps or structs: .spec.template.spec.containers[0].args";
    assert!(error.message.ends_with(why), "{}", error.message);
    assert_eq!((error.code, &*error.reason), (403, "Invalid"));
}

#[tokio::test]
async fn a_denied_request_names_policy_and_binding() {
    let cluster = Cluster::new().await;
    let spec = json!({"variables": [{"name": "n", "expression": "object.data.k"}],
        "validations": [{"expression": "variables.n == 'w'", "messageExpression": "variables.n + ' in ' + namespaceObject.metadata.name"}]});
    cluster.policy("Validating", spec, json!({"validationActions": ["Deny"]})).await.unwrap();
    let error = cluster.config_map().await.unwrap_err();
    let why = "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: v in ns";
    assert_eq!(error.message, format!("configmaps \"a\" is forbidden: {why}"));
    assert_eq!((error.code, &*error.reason), (422, "Invalid"));
}

#[tokio::test]
async fn parameters_must_be_there() {
    let cluster = Cluster::new().await;
    let spec = json!({"paramKind": {"apiVersion": "v1", "kind": "ConfigMap"}, "failurePolicy": "Fail",
        "validations": [{"expression": "params.data.k != object.data.k"}]});
    let params = json!({"name": "none", "parameterNotFoundAction": "Deny"});
    cluster
        .policy("Validating", spec, json!({"validationActions": ["Deny"], "paramRef": params}))
        .await
        .unwrap();
    let error = cluster.config_map().await.unwrap_err();
    let why =
        "failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction";
    assert!(error.message.ends_with(why), "{}", error.message);
}

#[tokio::test]
async fn policies_that_do_not_compile_are_refused() {
    let cluster = Cluster::new().await;
    let check = async |spec: Value, want: &str| {
        let error = cluster.policy("Mutating", spec, json!({})).await.unwrap_err();
        assert!(error.message.contains(want), "{}", error.message);
    };
    check(mutations(&["1"]), "must evaluate to Object but got int").await;
    check(mutations(&["[1]"]), "must evaluate to list(JSONPatch) but got list(int)").await;
    check(mutations(&["Foo{}"]), "undeclared reference to 'Foo'").await;
    check(mutations(&[]), "spec.mutations: Required value: mutations must contain at least one item").await;
}
