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
