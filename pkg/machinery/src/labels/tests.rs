use super::*;
use std::collections::BTreeMap;

fn labels(text: &str) -> BTreeMap<String, String> {
    let pair = |p: &str| p.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned()));
    text.split(',').filter_map(pair).collect()
}

#[test]
fn parse_and_print() {
    for (input, want) in [
        ("", ""),
        (" a = b ", "a=b"),
        ("b=1,a!=2", "a!=2,b=1"),
        ("x in (b,a,a)", "x in (a,b)"),
        ("x in ()", "x in ()"),
        ("x in (,)", "x in ()"),
        ("x notin (a,,b)", "x notin (,a,b)"),
        ("!x,y", "!x,y"),
        ("in=in,notin in (in)", "in=in,notin in (in)"),
        ("a==b", "a==b"),
        ("a=", "a="),
        ("a>5,b<7", "a>5,b<7"),
    ] {
        assert_eq!(parse(input).map(|s| s.to_string()), Ok(want.to_owned()), "{input}");
    }
}

#[test]
fn errors() {
    let key = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
    for (input, want) in [
        (",", "found ',', expected: !, identifier, or 'end of string'".to_owned()),
        ("a,", "found '', expected: identifier after ','".to_owned()),
        ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt".to_owned()),
        ("a in b", "unable to parse requirement: found 'b' expected: '('".to_owned()),
        ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'".to_owned()),
        ("a=(b", "unable to parse requirement: found '(', expected: identifier".to_owned()),
        ("!", "unable to parse requirement: found '', expected: identifier".to_owned()),
        ("-a", format!("unable to parse requirement: <nil>: Invalid value: \"-a\": {key}")),
        (
            "a>b",
            "unable to parse requirement: values[0]: Invalid value: \"b\": for 'Gt', 'Lt' operators, the value must be an integer".to_owned(),
        ),
        ("a=b c", "found 'c', expected: ',' or 'end of string'".to_owned()),
    ] {
        assert_eq!(parse(input).map_err(|e| e.to_string()).err(), Some(want), "{input}");
    }
}

#[test]
fn matching() {
    let check = |selector: &str, set: &str, want: bool| {
        assert_eq!(parse(selector).unwrap().matches(&labels(set)), want, "{selector} on {set}");
    };
    check("", "", true);
    check("a=b", "a=b,c=d", true);
    check("a=b", "", false);
    check("a!=b", "", true);
    check("a!=b", "a=b", false);
    check("a in (b,c)", "a=c", true);
    check("a notin (b,c)", "a=c", false);
    check("a", "a=", true);
    check("!a", "a=", false);
    check("a>1", "a=2", true);
    check("a<1", "a=2", false);
    check("a>1", "a=x", false);
    assert!(!Selector::nothing().matches(&labels("a=b")));
    assert_eq!(parse("a in (b)").unwrap().requires_exact_match("a"), Some("b"));
}

#[test]
fn api_type() {
    let v = |j| Value::from(j);
    let s = v(serde_json::json!({"matchLabels": {"a": "b"}, "matchExpressions": [
        {"key": "c", "operator": "NotIn", "values": ["x"]}, {"key": "d", "operator": "Exists"}]}));
    let s = Selector::from_value(Some(&s)).unwrap();
    assert_eq!(s.to_string(), "a=b,c notin (x),d");
    assert!(Selector::from_value(None).unwrap().is_nothing());
    assert!(Selector::from_value(Some(&Value::Map(Map::new()))).unwrap().is_empty());
    let bad = v(serde_json::json!({"matchExpressions": [{"key": "c", "operator": "Gt"}]}));
    let e = Selector::from_value(Some(&bad)).unwrap_err();
    assert_eq!(e.to_string(), "\"Gt\" is not a valid label selector operator");
    let bad = v(serde_json::json!({"matchExpressions": [{"key": "c", "operator": "In"}]}));
    let e = Selector::from_value(Some(&bad)).unwrap_err();
    assert_eq!(
        e.to_string(),
        "values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty"
    );
}
