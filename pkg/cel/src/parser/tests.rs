//! Syntax errors against upstream's texts (cel-go parser/parser_test.go's own expectations).

use crate::{Env, Type, Version};

fn errors(source: &str) -> String {
    let env = Env::builder(Version::Stored).variable("a", Type::Dyn).variable("b", Type::Dyn).build();
    env.compile(source, None)
        .map_or_else(|e| e.to_string().replace("compilation failed: ", ""), |_| String::new())
}

#[test]
fn syntax_errors_read_as_upstreams() {
    for (source, error) in [
        (
            "1 + $",
            "ERROR: <input>:1:5: Syntax error: token recognition error at: '$'\n | 1 + $\n | ....^\n\
             ERROR: <input>:1:6: Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!', \
             'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}\n | 1 + $\n | .....^",
        ),
        (
            "*@a | b",
            "ERROR: <input>:1:1: Syntax error: extraneous input '*' expecting {'[', '{', '(', '.', '-', '!', 'true', \
             'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}\n | *@a | b\n | ^\n\
             ERROR: <input>:1:2: Syntax error: token recognition error at: '@'\n | *@a | b\n | .^\n\
             ERROR: <input>:1:5: Syntax error: token recognition error at: '| '\n | *@a | b\n | ....^\n\
             ERROR: <input>:1:7: Syntax error: extraneous input 'b' expecting <EOF>\n | *@a | b\n | ......^",
        ),
        (
            "!!-@",
            "ERROR: <input>:1:4: Syntax error: token recognition error at: '@'\n | !!-@\n | ...^\n\
             ERROR: <input>:1:5: Syntax error: no viable alternative at input '-'\n | !!-@\n | ....^\n\
             ERROR: <input>:1:5: Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!', \
             'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}\n | !!-@\n | ....^",
        ),
        (
            "has((a",
            "ERROR: <input>:1:6: invalid argument to has() macro\n | has((a\n | .....^\n\
             ERROR: <input>:1:7: Syntax error: mismatched input '<EOF>' expecting ')'\n | has((a\n | ......^",
        ),
        (
            "has(a{",
            "ERROR: <input>:1:6: invalid argument to has() macro\n | has(a{\n | .....^\n\
             ERROR: <input>:1:7: Syntax error: mismatched input '<EOF>' expecting {'}', ',', '?', IDENTIFIER, \
             ESC_IDENTIFIER}\n | has(a{\n | ......^",
        ),
        ("1.all(2, 3)", "ERROR: <input>:1:7: argument must be a simple name\n | 1.all(2, 3)\n | ......^"),
        ("has(a)", "ERROR: <input>:1:5: invalid argument to has() macro\n | has(a)\n | ....^"),
        (
            "a.true",
            "ERROR: <input>:1:3: Syntax error: mismatched input 'true' expecting IDENTIFIER\n | a.true\n | ..^",
        ),
    ] {
        assert_eq!(errors(source), error, "{source}");
    }
}

#[test]
fn deep_nesting_is_refused() {
    for source in [
        format!("{}1{}", "(".repeat(10_000), ")".repeat(10_000)),
        format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000)),
        format!("1{}", " + 1".repeat(1000)),
        format!("{}1", "true ? 1 : ".repeat(1000)),
        format!("a{}", ".b".repeat(1000)),
    ] {
        assert!(errors(&source).contains("recursion"), "{}", &source[..40]);
    }
    // As deep as is accepted: checked, planned and evaluated on a test's stack.
    let nested = format!("{}true{}", "[1].all(x, ".repeat(120), ")".repeat(120));
    let program = Env::builder(Version::Stored).build().compile(&nested, None).unwrap();
    let result = program.eval(&crate::Activation::new(), &crate::Budget::default());
    assert_eq!(result.unwrap().as_bool(), Some(true));
    assert!(errors(&format!("a{}", ".optMap(x, x)".repeat(60))).contains("nodes after macro expansion"));
    assert!(!errors(&"!".repeat(50_000)).is_empty());
}
