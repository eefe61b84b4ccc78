//! What policies' statuses say.

use client::{ApiResource, Gvr};
use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy as Policy;
use machinery::Value;
use proptest::prelude::*;
use serde_json::json;

use super::Types;
use super::kinds::{Kind, param_kind, to_check};
use super::plan::{Plan, View, plan};
use crate::scenario;

/// What a server serves: resources and their kinds.
const SERVED: [(&str, &str, &str); 6] = [
    ("", "configmaps", "ConfigMap"),
    ("", "events", "Event"),
    ("events.k8s.io", "events", "Event"),
    ("apps", "deployments", "Deployment"),
    ("apps", "replicasets", "ReplicaSet"),
    ("apps", "unknowns", "Unknown"),
];

fn served() -> Vec<ApiResource> {
    let resource = |(group, resource, kind): (&str, &str, &str)| ApiResource {
        gvr: Gvr::new(group, "v1", resource),
        kind: kind.into(),
        singular: String::new(),
        namespaced: true,
        verbs: Vec::new(),
        short_names: Vec::new(),
        categories: Vec::new(),
        subresources: Vec::new(),
    };
    SERVED.into_iter().map(resource).collect()
}

/// What it says of all but one of these kinds.
fn types() -> Types {
    let text = json!({"type": "string"});
    let fields = |kind: &str| match kind {
        "ConfigMap" => json!({"data": {"type": "object", "additionalProperties": text}}),
        "Event" => json!({"note": text}),
        _ => json!({"spec": {"allOf": [{"$ref": "#/components/schemas/Spec"}]}}),
    };
    let described = SERVED.into_iter().filter(|(_, _, kind)| *kind != "Unknown").map(|(group, _, kind)| {
        let kinds = json!([{"group": group, "version": "v1", "kind": kind}]);
        (
            format!("{group}.{kind}"),
            json!({"type": "object", "properties": fields(kind), "x-kubernetes-group-version-kind": kinds}),
        )
    });
    let mut schemas: serde_json::Map<String, serde_json::Value> = described.collect();
    let spec = json!({"replicas": {"type": "integer"}, "paused": {"type": "boolean"}});
    schemas.insert("Spec".into(), json!({"type": "object", "properties": spec}));
    let document = Value::from(json!({"components": {"schemas": schemas}}));
    let types = SERVED.into_iter().filter_map(|(group, _, kind)| {
        let schema = cel::openapi::schema_of(&document, group, "v1", kind).expect("a schema")?;
        let kind = Kind { group: group.into(), version: "v1".into(), kind: kind.into() };
        Some((kind, cel::DeclType::from_schema(&schema, true)))
    });
    types.collect()
}

fn decide(policy: &Policy) -> Plan {
    plan(&View { policy, kinds: &to_check(policy, &served()), types: &types() })
}

#[test]
fn scenarios() {
    scenario::check("validatingadmissionpolicystatus/testdata", |given| match decide(&given.one()) {
        Plan::Tell(status) => scenario::yaml(&status),
        other => format!("{other:?}"),
    });
}

fn policy(rules: &serde_json::Value, expressions: &[String]) -> Policy {
    let validations: Vec<_> = expressions.iter().map(|e| json!({"expression": e})).collect();
    let spec = json!({"matchConstraints": {"resourceRules": rules}, "validations": validations});
    serde_json::from_value(json!({"metadata": {"name": "p", "generation": 3}, "spec": spec}))
        .expect("a policy")
}

fn rule(groups: &[&str], versions: &[&str], resources: &[&str]) -> serde_json::Value {
    json!({"apiGroups": groups, "apiVersions": versions, "resources": resources, "operations": ["CREATE"]})
}

#[test]
fn kinds_are_those_that_rules_name() {
    let check = |rules: serde_json::Value, want: &[&str]| {
        let kinds = to_check(&policy(&rules, &[]), &served());
        let names: Vec<String> = kinds.iter().map(ToString::to_string).collect();
        assert_eq!(names, want);
    };
    let deployments = rule(&["apps"], &["v1"], &["deployments", "deployments/status", "*", "replicaset"]);
    check(json!([deployments]), &["apps/v1, Kind=Deployment", "apps/v1, Kind=ReplicaSet"]);
    check(json!([rule(&["*"], &["v1"], &["deployments"]), rule(&["apps"], &["*"], &["deployments"])]), &[]);
    check(json!([rule(&["apps", "*"], &["v1"], &["deployments"])]), &[]);
    // The core group's name is empty, which stands for any.
    check(json!([rule(&[""], &["v1"], &["events"])]), &["/v1, Kind=Event", "events.k8s.io/v1, Kind=Event"]);
    check(json!([rule(&["apps"], &["v2", "v1"], &["nothing"])]), &[]);
    check(json!([]), &[]);
}

#[test]
fn a_rule_that_names_too_many_is_the_last() {
    let many: Vec<ApiResource> = (0..12)
        .map(|i| ApiResource {
            gvr: Gvr::new("g", "v1", &format!("k{i:02}s")),
            kind: format!("K{i:02}"),
            ..served().remove(0)
        })
        .collect();
    let names: Vec<String> = many.iter().map(|r| r.gvr.resource.clone()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let rules = json!([
        rule(&["g"], &["v1"], &names[..9]),
        rule(&["g"], &["v1"], &names),
        rule(&["g"], &["v1"], &names[11..])
    ]);
    let kinds = to_check(&policy(&rules, &[]), &many);
    assert_eq!(kinds.last().map(|k| k.kind.as_str()), Some("K09"));
}

#[test]
fn kinds_of_parameters() {
    let check = |api_version: &str, kind: &str, want: Option<&str>| {
        let param = json!({"apiVersion": api_version, "kind": kind});
        let policy: Policy =
            serde_json::from_value(json!({"metadata": {}, "spec": {"paramKind": param}})).expect("a policy");
        assert_eq!(param_kind(&policy).map(|k| k.document()).as_deref(), want, "{api_version}");
    };
    check("v1", "ConfigMap", Some("/openapi/v3/api/v1"));
    check("example.com/v1", "Limit", Some("/openapi/v3/apis/example.com/v1"));
    check("a/b/c", "Limit", None);
    check("", "", None);
}

proptest! {
    /// Once told, nothing is left to do, and a new generation is looked at again.
    #[test]
    fn plan_then_apply_settles(expressions in prop::collection::vec("[a-z.()+ ]{0,12}", 0..5)) {
        let mut one = policy(&json!([rule(&["apps"], &["v1"], &["deployments"])]), &expressions);
        let Plan::Tell(status) = decide(&one) else { panic!("it is told") };
        one.status = Some(status.clone());
        prop_assert_eq!(decide(&one), Plan::Nothing);
        one.metadata.generation = Some(4);
        let Plan::Tell(again) = decide(&one) else { panic!("it is told again") };
        prop_assert_eq!(again.type_checking, status.type_checking);
    }

    /// What fits the types is not warned of, whichever of the kinds it is about.
    #[test]
    fn a_satisfied_view_needs_nothing(n in 0i64..9, resource in "(deployments|replicasets)", observed in 3i64..5) {
        let expressions = [format!("object.spec.replicas > {n}"), "!has(oldObject.spec.paused)".to_string()];
        let mut one = policy(&json!([rule(&["apps"], &["v1"], &[&resource])]), &expressions);
        let Plan::Tell(status) = decide(&one) else { panic!("it is told") };
        prop_assert_eq!(status.type_checking.and_then(|t| t.expression_warnings), Some(Vec::new()));
        one.status.get_or_insert_default().observed_generation = Some(observed);
        prop_assert_eq!(decide(&one), Plan::Nothing);
    }
}
