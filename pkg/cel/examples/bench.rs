//! Compiling and evaluating typical rules, beside upstream's engine (`make bench-cel`).
//!
//! Takes the file of rules and one of what upstream needs for each: nanoseconds to compile and to evaluate.

#![allow(clippy::unwrap_used, reason = "a tool for this repository: what cannot be read ends it")]

use cel::{Activation, Budget, DeclSizes, DeclType, Env, Library, Program, Schema, Type, Version};
use machinery::Value;
use serde_json::Value as Json;

/// Nanoseconds this thread has been on a processor.
fn processor_time() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    stat.split(' ').next().unwrap().parse().unwrap()
}

/// Nanoseconds one call takes, over about half a second.
fn measure(mut call: impl FnMut()) -> f64 {
    let mut n = 16u32;
    loop {
        let start = processor_time();
        (0..n).for_each(|_| call());
        let spent = processor_time() - start;
        if spent >= 500_000_000 {
            return spent as f64 / f64::from(n);
        }
        n *= 2;
    }
}

fn tree(v: &Json) -> Value {
    machinery::json::parse(v.to_string().as_bytes()).unwrap()
}

/// The same environment as the oracle's.
fn environment(rule: &Json) -> (Env, DeclSizes, Option<Schema>) {
    let mut builder = Env::builder(Version::Stored);
    for (name, t) in [("i", Type::Int), ("s", Type::String), ("l", Type::list(Type::Int)), ("x", Type::Dyn)] {
        builder = builder.variable(name, t);
    }
    if rule["schema"].is_null() {
        return (builder.variable("object", Type::Dyn).build(), DeclSizes::default(), None);
    }
    let schema = Schema::parse(&tree(&rule["schema"]));
    let root = DeclType::from_schema(&schema, false).unwrap().named("selfType");
    let env = builder.declare("self", &root).library(Library::Bindings).build();
    (env, DeclSizes::new([("self", root)]), Some(schema))
}

fn rule(rule: &Json) -> [f64; 2] {
    let (env, sizes, schema) = environment(rule);
    let source = rule["expr"].as_str().unwrap();
    let compile = || -> Program {
        let program = env.compile(source, None).unwrap();
        std::hint::black_box(program.cost_estimate(&sizes));
        program
    };
    let compiling = measure(|| drop(std::hint::black_box(compile())));
    let (program, object) = (compile(), tree(&rule["object"]));
    let activation = match &schema {
        Some(schema) => Activation::new().bind_typed("self", &object, schema),
        None => Activation::new().bind_tree("object", &object),
    };
    let budget = Budget::cost(Budget::PER_CALL);
    let evaluating = measure(|| drop(std::hint::black_box(program.eval(&activation, &budget).unwrap())));
    [compiling, evaluating]
}

fn main() {
    let [rules, upstream] =
        [1, 2].map(|i| std::fs::read_to_string(std::env::args().nth(i).unwrap()).unwrap());
    let mut sums = [[0.0; 2]; 2];
    println!(
        "{:>9} {:>9} {:>6}  {:>9} {:>9} {:>6}  (ns)",
        "compile", "upstream", "share", "evaluate", "upstream", "share"
    );
    for (line, theirs) in rules.lines().zip(upstream.lines()) {
        let question: Json = serde_json::from_str(line).unwrap();
        let ours = rule(&question);
        let mut numbers = theirs.split(' ').map(|n| n.parse::<f64>().unwrap());
        let theirs = [0, 1].map(|_| numbers.next().unwrap());
        for (sum, (ours, theirs)) in sums.iter_mut().zip(ours.iter().zip(theirs)) {
            *sum = [sum[0] + ours, sum[1] + theirs];
        }
        row(ours, theirs, question["expr"].as_str().unwrap());
    }
    row([sums[0][0], sums[1][0]], [sums[0][1], sums[1][1]], "all");
}

fn row(ours: [f64; 2], theirs: [f64; 2], name: &str) {
    for (ours, theirs) in ours.iter().zip(theirs) {
        print!("{ours:>9.0} {theirs:>9.0} {:>6.2}  ", ours / theirs);
    }
    println!("{name}");
}
