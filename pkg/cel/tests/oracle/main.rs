//! Compares with upstream's engine: its Kubernetes environment, linked into `e2e/oracle/cel`.
//!
//! `testdata/*.jsonl` holds questions with upstream's answers, so the tests run without Go. To ask upstream itself,
//! build the oracle and set `CEL_ORACLE` to its path: then `CEL_COUNT` generated expressions and
//! `CEL_BROKEN` broken texts (from `CEL_SEED` on) and the questions of `CEL_QUESTIONS` (a file) are asked, differences are printed, and with `CEL_RECORD` the answers
//! are written there.

#![allow(clippy::unwrap_used, reason = "a test: what cannot be read fails it")]

mod generate;
mod show;
mod variables;

use cel::{Activation, Budget, DeclSizes, DeclType, Env, Library, MapBuilder, Schema, Type, Val, Version};
use machinery::Value;
use serde_json::{Value as Json, json};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

struct Setup {
    env: Env,
    sizes: DeclSizes,
    schema: Option<Schema>,
}

fn tree(v: &Json) -> Value {
    machinery::json::parse(v.to_string().as_bytes()).unwrap()
}

fn setup(question: &Json) -> Setup {
    let version = question["version"].as_u64().map_or(Version::Stored, |n| Version::Minor(n as u32));
    let mut builder = Env::builder(version);
    if question["bind"] == json!(true) {
        builder = builder.library(Library::Bindings).library(Library::JsonPatch);
    }
    if question["patch"] == json!(true) {
        builder = builder.patch_types();
    }
    for (name, t) in [
        ("i", Type::Int),
        ("u", Type::Uint),
        ("d", Type::Double),
        ("s", Type::String),
        ("b", Type::Bool),
        ("l", Type::list(Type::Int)),
        ("m", Type::map(Type::String, Type::Int)),
        ("x", Type::Dyn),
    ] {
        builder = builder.variable(name, t);
    }
    for v in question["vars"].as_array().into_iter().flatten() {
        builder =
            builder.variable(v["name"].as_str().unwrap(), variables::parse_type(v["type"].as_str().unwrap()));
    }
    if question["schema"].is_null() {
        let env = builder.variable("object", Type::Dyn).build();
        return Setup { env, sizes: DeclSizes::default(), schema: None };
    }
    let schema = Schema::parse(&tree(&question["schema"]));
    let root = DeclType::from_schema(&schema, false).unwrap().named("selfType");
    let env = builder.declare("self", &root).build();
    Setup { env, sizes: DeclSizes::new([("self", root)]), schema: Some(schema) }
}

fn plain_variables(x: &Value) -> Activation<'_> {
    let mut m = MapBuilder::default();
    m.set(Val::from("a"), Val::Int(1));
    Activation::new()
        .bind("i", Ok(Val::Int(7)))
        .bind("u", Ok(Val::Uint(3)))
        .bind("d", Ok(Val::Double(1.5)))
        .bind("s", Ok(Val::from("héllo")))
        .bind("b", Ok(Val::Bool(true)))
        .bind("l", Ok(Val::list(vec![Val::Int(3), Val::Int(1), Val::Int(2)])))
        .bind("m", Ok(m.build()))
        .bind_tree("x", x)
}

/// Where a variable has no value that could be bound.
const UNBOUND: &str = "bind: ";

/// Our answer in the oracle's form.
fn ask(setups: &mut HashMap<String, Setup>, question: &Json) -> Json {
    let key = ["version", "bind", "patch", "schema", "vars"].map(|f| question[f].to_string()).concat();
    let setup = setups.entry(key).or_insert_with(|| setup(question));
    let program = match setup.env.compile(question["expr"].as_str().unwrap(), None) {
        Ok(program) => program,
        Err(cel::CompileError::Issues(issues)) => return json!({"error": issues.to_string()}),
        Err(cel::CompileError::Program(e)) => return json!({"error": format!("program: {e}")}),
    };
    let estimate = program.cost_estimate(&setup.sizes);
    let object = (!question["object"].is_null()).then(|| tree(&question["object"]));
    let x = tree(&json!({"k": [1, "two", null, 2.5]}));
    let mut activation = plain_variables(&x);
    if let Some(object) = &object {
        activation = match &setup.schema {
            Some(schema) => activation.bind_typed("self", object, schema),
            None => activation.bind_tree("object", object),
        };
    }
    for v in question["vars"].as_array().into_iter().flatten() {
        match variables::parse_value(&v["value"]) {
            Some(value) => activation.set(v["name"].as_str().unwrap(), Ok(value)),
            None if v["value"].is_null() => {}
            // The question cannot be put: the harness knows no such message, and neither does upstream's.
            None => return json!({"error": UNBOUND}),
        }
    }
    let (result, cost) = program.eval_with_cost(&activation, &Budget::cost(1_000_000));
    let mut out = json!({
        "type": program.output_type().to_string(), "min": estimate.min, "max": estimate.max, "cost": cost,
    });
    match result {
        Ok(v) => {
            out["value"] = json!(show::show(&v));
            if question["patch"] == json!(true) {
                out["json"] = json!(show::patch_json(&v));
                out["names"] = json!(
                    v.as_made()
                        .filter(|made| made.type_name() != cel::JSON_PATCH)
                        .and_then(cel::Made::misplaced)
                        .unwrap_or_default()
                );
            }
        }
        Err(e) => out["fail"] = json!(e.to_string()),
    }
    out
}

/// Fields whose values differ; empty ones are absent upstream.
fn differences_of(ours: &Json, theirs: &Json) -> Vec<String> {
    let field = |v: &Json, f: &str| match &v[f] {
        Json::String(s) if s.is_empty() => Json::Null,
        // Go's binaries choose once which space they print after "proto:", and how many between a message's fields.
        Json::String(s) => json!(s.replace("proto:\u{a0}", "proto: ").replace("  value:", " value:")),
        other => other.clone(),
    };
    if !field(ours, "error").is_null() || !field(theirs, "error").is_null() {
        let (a, b) = (field(ours, "error"), field(theirs, "error"));
        if a == json!(UNBOUND) && b.as_str().is_some_and(|e| e.starts_with(UNBOUND)) {
            return Vec::new();
        }
        return if a == b { Vec::new() } else { vec![format!("error\n  ours   {a}\n  theirs {b}")] };
    }
    ["type", "min", "max", "cost", "value", "fail", "json", "names"]
        .iter()
        .filter_map(|f| {
            let (a, b) = (field(ours, f), field(theirs, f));
            // A stopped evaluation's cost depends on where within a step it was stopped.
            let stopped = *f == "cost" && theirs["fail"].as_str().is_some_and(|e| e.contains("cost limit"));
            (a != b && !stopped).then(|| format!("{f}\n  ours   {a}\n  theirs {b}"))
        })
        .collect()
}

/// A question answered differently.
struct Difference {
    question: Json,
    ours: Json,
    shown: String,
}

fn compare(pairs: impl Iterator<Item = (Json, Json)>) -> (usize, Vec<Difference>) {
    let mut setups = HashMap::new();
    let (mut count, mut failures) = (0, Vec::new());
    for (mut question, theirs) in pairs {
        // Upstream panicked, where our engine has an error of its own.
        if theirs["error"].as_str().is_some_and(|e| e.starts_with("panic: runtime error")) {
            continue;
        }
        if theirs["fail"].as_str().is_some_and(|e| e.starts_with("internal error: interface conversion")) {
            continue;
        }
        count += 1;
        generate::expand(&mut question);
        let ours = ask(&mut setups, &question);
        let found = differences_of(&ours, &theirs);
        if !found.is_empty() {
            let shown = format!("{}\n {}", question["expr"], found.join("\n "));
            failures.push(Difference { question, ours, shown });
        }
    }
    (count, failures)
}

fn list(differences: &[Difference]) -> String {
    differences.iter().map(|d| d.shown.as_str()).collect::<Vec<_>>().join("\n")
}

/// How often upstream is asked what it answered differently.
const ASKED_AGAIN: usize = 100;

/// What differs still when upstream is asked again and again: it goes through maps in any order, so where the order
/// shows, each of its answers is right, and if there are several, so is one of the same elements in another order.
fn insist(oracle: &str, differences: Vec<Difference>) -> Vec<Difference> {
    let each = differences.iter().flat_map(|d| std::iter::repeat_n(&d.question, ASKED_AGAIN));
    let questions: Vec<Json> = each.cloned().collect();
    let again = answers(oracle, &questions);
    let same = |d: &Difference, all: &[Json]| {
        let varied = all.iter().any(|theirs| *theirs != all[0]);
        let ours = unordered(&d.ours);
        all.iter().any(|theirs| {
            differences_of(&d.ours, theirs).is_empty()
                || varied && differences_of(&ours, &unordered(theirs)).is_empty()
        })
    };
    let pairs = differences.into_iter().zip(again.chunks(ASKED_AGAIN));
    pairs.filter(|(d, all)| !same(d, all)).map(|(d, _)| d).collect()
}

/// The answer with the elements of its value in one order.
fn unordered(answer: &Json) -> Json {
    let mut out = answer.clone();
    if let Some(value) = answer["value"].as_str() {
        let mut elements: Vec<&str> = value.trim_matches(['[', ']']).split(", ").collect();
        elements.sort_unstable();
        out["value"] = json!(elements.join(", "));
    }
    out
}

fn lines(path: &str) -> impl Iterator<Item = Json> {
    let file = std::fs::File::open(path).unwrap();
    BufReader::new(file).lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap())
}

/// Asks upstream all at once: a thread writes while the answers are read.
fn answers(oracle: &str, questions: &[Json]) -> Vec<Json> {
    let mut child = Command::new(oracle).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = std::io::BufWriter::new(child.stdin.take().unwrap());
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let answers = std::thread::scope(|scope| {
        scope.spawn(move || {
            for question in questions {
                let mut full = question.clone();
                generate::expand(&mut full);
                writeln!(stdin, "{full}").unwrap();
            }
        });
        stdout.lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect::<Vec<_>>()
    });
    child.wait().unwrap();
    assert_eq!(answers.len(), questions.len());
    answers
}

#[test]
fn recorded_answers() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/testdata");
    let mut total = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let pairs = lines(path.to_str().unwrap()).map(|mut q| {
            let answer = q["answer"].take();
            (q, answer)
        });
        let (count, failures) = compare(pairs);
        total += count;
        assert!(failures.is_empty(), "{}: {}\n{}", path.display(), failures.len(), list(&failures));
    }
    assert!(total > 100);
}

/// Texts to break: those of upstream's tables.
fn sources() -> Vec<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/testdata/upstream.jsonl");
    let mut texts: Vec<String> = lines(path).map(|q| q["expr"].as_str().unwrap().to_owned()).collect();
    texts.retain(|t| t.len() < 200);
    texts.sort();
    texts.dedup();
    texts
}

#[test]
fn live_answers() {
    let Ok(oracle) = std::env::var("CEL_ORACLE") else { return };
    let number = |name: &str, or: u64| std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(or);
    let mut questions: Vec<Json> =
        std::env::var("CEL_QUESTIONS").map(|p| lines(&p).collect()).unwrap_or_default();
    let seed = number("CEL_SEED", 1);
    questions.extend((seed..seed + number("CEL_COUNT", 0)).map(generate::question));
    let sources = sources();
    questions.extend((seed..seed + number("CEL_BROKEN", 0)).map(|seed| generate::broken(seed, &sources)));
    let mut record = std::env::var("CEL_RECORD").ok().map(|p| std::fs::File::create(p).unwrap());
    let all = answers(&oracle, &questions);
    let pairs = questions.into_iter().zip(all).map(|(question, theirs)| {
        if let Some(file) = &mut record {
            let mut with_answer = question.clone();
            with_answer["answer"] = theirs.clone();
            writeln!(file, "{with_answer}").unwrap();
        }
        (question, theirs)
    });
    let (count, failures) = compare(pairs);
    let first = failures.len();
    let failures = if failures.is_empty() { failures } else { insist(&oracle, failures) };
    let varied = first - failures.len();
    println!(
        "{} of {count} differ; {varied} upstream answers in several ways, ours among them",
        failures.len()
    );
    println!("{}", list(&failures));
    assert!(failures.is_empty());
}
