//! Errors about definitions and instances, against what upstream's API server said of them
//! (`hack/customresources/run.py`).

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use api::validation::field::{Error, Path};
use apiextensions::schema::{Schema, lists, resource_meta, validate};
use apiextensions::validation;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps,
};
use machinery::Value;
use serde_json::Value as Json;

fn cases(text: &str) -> Vec<Json> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn texts(errors: &[Error]) -> Vec<String> {
    let mut out: Vec<String> = errors.iter().map(ToString::to_string).collect();
    out.sort();
    out
}

fn wanted(case: &Json) -> Vec<String> {
    let mut out: Vec<String> =
        case["errors"].as_array().unwrap().iter().map(|e| e.as_str().unwrap().to_owned()).collect();
    out.sort();
    out
}

fn check(all: Vec<(Json, Vec<String>, Vec<String>)>) {
    let wrong: Vec<String> = all
        .into_iter()
        .filter(|(_, got, want)| got != want)
        .map(|(case, got, want)| format!("{case}\n  got  {got:#?}\n  want {want:#?}"))
        .collect();
    assert!(wrong.is_empty(), "{} cases differ\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn definitions() {
    let one = |case: Json| {
        let mut definition: CustomResourceDefinition =
            serde_json::from_value(case["definition"].clone()).unwrap();
        // What the strategy does first.
        let stored: Vec<String> =
            definition.spec.versions.iter().filter(|v| v.storage).take(1).map(|v| v.name.clone()).collect();
        let status = definition.status.get_or_insert_default();
        status.stored_versions = (!stored.is_empty()).then_some(stored);
        let got = texts(&validation::validate_new(&definition));
        (case["definition"]["spec"].clone(), got, wanted(&case))
    };
    check(cases(include_str!("data/definitions.jsonl")).into_iter().map(one).collect());
}

#[test]
fn instances() {
    let props: JSONSchemaProps = serde_json::from_str(include_str!("data/schema.json")).unwrap();
    let schema = Schema::new(&props).unwrap();
    let one = |case: Json| {
        let object = Value::from(case["object"].clone());
        let mut errors = validate::validate(&Path::ROOT, &object, &schema);
        errors.extend(resource_meta::validate(&Path::ROOT, &object, &schema, false));
        errors.extend(lists::validate(&Path::ROOT, &object, &schema));
        (case["object"]["spec"].clone(), texts(&errors), wanted(&case))
    };
    check(cases(include_str!("data/instances.jsonl")).into_iter().map(one).collect());
}
