//! Hostile expressions end at a limit; answers of an authorizer reach an expression.

use cel::authz::{self, Authorizer, Decision, Query, Subject};
use cel::{Activation, Budget, Env, EvalError, MapBuilder, Type, Val, Version};
use std::sync::Arc;

#[test]
fn costs_end_what_would_not_end() {
    let env = Env::builder(Version::Stored).variable("s", Type::String).build();
    let text = "a".repeat(100_000);
    for source in [
        "lists.range(1000000).map(i, lists.range(1000000).map(j, i * j)).size() > 0",
        "lists.range(1000).all(a, lists.range(1000).all(b, lists.range(1000).all(c, a + b + c >= 0)))",
        "lists.range(10000).map(i, s + s).size() > 0",
        "s.matches('(a*)*b' + s)",
        "s.contains(s + s)",
    ] {
        let program = env.compile(source, Some(&Type::Bool)).unwrap();
        let activation = Activation::new().bind("s", Ok(Val::from(text.as_str())));
        let (result, cost) = program.eval_with_cost(&activation, &Budget::cost(Budget::PER_CALL));
        assert!(matches!(result, Err(EvalError::CostLimit)), "{source}");
        assert!(cost > Budget::PER_CALL, "{source}");
    }
}

/// What is small because its parts are shared would take forever to walk through, or too deep a stack.
#[test]
fn shared_parts_count_each_time() {
    let env = Env::builder(Version::Stored).variable("s", Type::String).build();
    let text = "a".repeat(1_000_000);
    let chain = |step: &str, links: usize| format!("[[1]]{}", format!(".map(x, {step})").repeat(links));
    let nested = chain(&format!("{}dyn(x){}", "[".repeat(200), "]".repeat(200)), 200);
    let mut sources: Vec<String> =
        ["[x, x]", "x + x", "{'a': x, 'b': x}", "[x, x].map(y, y)"].map(|step| chain(step, 60)).into();
    sources.push(nested);
    sources.push("lists.range(1000).map(i, s.replace('', 'bb')).size() > 0".into());
    sources.push("lists.range(1000).map(i, s.split('')).size() > 0".into());
    // A message copies what it is made of.
    let copied = "google.protobuf.ListValue{values: l}.size()";
    sources.push(format!("[lists.range(100000)].map(l, lists.range(1000).map(i, {copied}))"));
    for source in sources {
        let program = env.compile(&format!("dyn({source}) == null"), None).unwrap();
        let activation = Activation::new().bind("s", Ok(Val::from(text.as_str())));
        let result = program.eval(&activation, &Budget::cost(u64::MAX));
        assert!(matches!(result, Err(EvalError::CostLimit)), "{source}");
    }
}

#[test]
fn types_are_bounded() {
    let env = Env::builder(Version::Stored).build();
    for step in [format!("{}x{}", "[".repeat(200), "]".repeat(200)), "{x: x}".into()] {
        let source = format!("[1]{}", format!(".map(x, {step})").repeat(100));
        let error = env.compile(&source, None).unwrap_err().to_string();
        assert!(error.contains("type is too large"), "{error}");
    }
}

#[test]
fn the_caller_may_stop() {
    let env = Env::builder(Version::Stored).build();
    let program = env.compile("lists.range(1000).all(i, i >= 0)", None).unwrap();
    let budget = Budget { cost: None, stop: Some(&|| true) };
    let result = program.eval(&Activation::new(), &budget);
    assert!(matches!(result, Err(EvalError::Interrupted)));
}

struct OnlyPods;

impl Authorizer for OnlyPods {
    fn authorize(&self, subject: &Subject, query: &Query, verb: &str) -> Decision {
        let allowed = *subject == Subject::Requester
            && verb == "get"
            && matches!(query, Query::Resource(q) if q.resource == "pods" && q.namespace == "ns");
        Decision { allowed, reason: "because".into(), error: None }
    }
}

#[test]
fn authorizers_answer() {
    let env = Env::builder(Version::Stored).variable("authorizer", authz::authorizer_type()).build();
    for (source, expected) in [
        ("authorizer.group('').resource('pods').namespace('ns').check('get').allowed()", true),
        ("authorizer.group('').resource('pods').namespace('ns').check('list').allowed()", false),
        ("authorizer.serviceAccount('ns', 'sa').group('').resource('pods').check('get').allowed()", false),
        ("authorizer.path('/healthz').check('get').reason() == 'because'", true),
    ] {
        let program = env.compile(source, Some(&Type::Bool)).unwrap();
        let activation = Activation::new().bind("authorizer", Ok(authz::authorizer(Arc::new(OnlyPods))));
        let (result, cost) = program.eval_with_cost(&activation, &Budget::cost(Budget::PER_CALL));
        assert_eq!(result.unwrap().as_bool(), Some(expected), "{source}");
        assert!(cost > 350_000, "{source}");
    }
}

#[test]
fn maps_may_have_a_default() {
    let env = Env::builder(Version::Stored).variable("m", Type::map(Type::String, Type::Int)).build();
    let mut m = MapBuilder::default();
    m.set(Val::from("a"), Val::Int(1));
    m.set_default(Val::Int(7));
    let program = env.compile("m.a + m['other'] == 8 && has(m.other)", None).unwrap();
    let activation = Activation::new().bind("m", Ok(m.build()));
    assert_eq!(program.eval(&activation, &Budget::default()).unwrap().as_bool(), Some(true));
}
