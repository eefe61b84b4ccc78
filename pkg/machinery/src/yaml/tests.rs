use super::*;

#[test]
fn meaning() {
    for (input, want) in [
        (
            "a: 1\nb: yes\nc: ~\nd: 0644\ne: 0x1F\nf: 1.50\ng: '1'",
            r#"{"a":1,"b":true,"c":null,"d":420,"e":31,"f":1.5,"g":"1"}"#,
        ),
        ("1: a\ntrue: b\n1.5: c\nx: d", r#"{"1":"a","1.5":"c","true":"b","x":"d"}"#),
        (
            "- 1_000\n- +5\n- -0b11\n- 08\n- 1e3\n- .5\n- 1:30\n- 2020-01-01\n- '~'\n- !!str 5\n- !!float 5",
            r#"[1000,5,-3,8,1000,0.5,"1:30","2020-01-01","~","5",5]"#,
        ),
        ("a: &x {b: 1}\nc: *x\nd:\n  <<: *x\n  e: 2", r#"{"a":{"b":1},"c":{"b":1},"d":{"b":1,"e":2}}"#),
        ("a: 18446744073709551615", r#"{"a":18446744073709551615}"#),
        ("", "null"),
        ("a: 1\n---\nb: 2", r#"{"a":1}"#),
        ("a: |\n  x\n  y\nb: >-\n  x\n  y", r#"{"a":"x\ny\n","b":"x y"}"#),
        ("{\"a\": [1, \"\\u00e9\"]}", "{\"a\":[1,\"\u{e9}\"]}"),
        ("a: 1\na: 2", r#"{"a":2}"#),
        ("a: !!binary aGk=", r#"{"a":"hi"}"#),
        ("a: 0o17\nb: 1e400\nc: 09.5", r#"{"a":15,"b":"1e400","c":9.5}"#),
    ] {
        let got = to_json(input.as_bytes()).map(|b| String::from_utf8(b).unwrap());
        assert_eq!(got, Ok(want.to_owned()), "{input}");
    }
}

/// As read from the JSON that upstream makes of it.
#[test]
fn whole_numbers_are_integers() {
    for (text, want) in [
        ("9.0", Value::Int(9)),
        ("-0.0", Value::Int(0)),
        ("1e3", Value::Int(1000)),
        ("9007199254740993.0", Value::Int(9_007_199_254_740_992)),
        ("1e20", Value::Float(1e20)),
        ("1.5", Value::Float(1.5)),
    ] {
        assert_eq!(parse(text.as_bytes()), Ok(want), "{text}");
    }
}

#[test]
fn refused() {
    let e = |s: &str| parse_strict(s.as_bytes()).unwrap_err().to_string();
    assert_eq!(e("a: 1\na: 2\n"), "yaml: unmarshal errors:\n  line 2: key \"a\" already set in map");
    assert!(e("a: b: c").starts_with("yaml: line 1: "));
    assert!(e("[1,").starts_with("yaml: line "));
    assert_eq!(e("a: .inf"), "json: unsupported value: +Inf");
    assert_eq!(e("a: !!int x"), "yaml: cannot decode !!str `x` as a !!int");
    assert!(e("a: *x").starts_with("yaml: "));
    assert!(e("a: &x [*x]").starts_with("yaml: "));
    assert_eq!(e("<<: 1"), "yaml: map merge requires map or sequence of maps as the value");
    let tab = "found character that cannot start any token";
    assert_eq!(e("\t"), format!("yaml: {tab}"));
    assert_eq!(e(" \t\n"), format!("yaml: {tab}"));
    assert_eq!(e("\n\ta: 1"), format!("yaml: line 2: {tab}"));
    assert_eq!(parse(b"a: \xff").unwrap_err(), Error::Utf8);
}

#[test]
fn bombs() {
    let mut bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for (prev, next) in "abcdefghijklmnop".chars().zip("bcdefghijklmnopq".chars()) {
        let refs = vec![format!("*{prev}"); 9].join(",");
        bomb.push_str(&format!("{next}: &{next} [{refs}]\n"));
    }
    assert_eq!(parse(bomb.as_bytes()).unwrap_err().to_string(), "yaml: document contains excessive aliasing");
    for deep in [
        "[".repeat(10_000),
        "{a: ".repeat(10_000),
        "- ".repeat(10_000),
        "[".repeat(10_000) + &"]".repeat(10_000),
    ] {
        assert!(parse(deep.as_bytes()).is_err());
    }
    let mut chain = "a0: &a0 [x]\n".to_owned();
    for i in 1..2000 {
        chain.push_str(&format!("a{i}: &a{i} [*a{}]\n", i - 1));
    }
    assert!(parse(chain.as_bytes()).is_err());
}

#[test]
fn written_text_reads_back() {
    for json in [
        r#"{"a":"x","b":[1,{"c":null,"d":[]},[2,[3]]],"e":{},"f":true,"g":1.5}"#,
        r##"{"a":"yes","b":"1","c":"","d":"- x","e":"a: b","f":"a #b","g":" x ","h":"x\ny\n","i":"\ttab","j":"null","k":"2020-01-01"}"##,
        r#"{"a":"x\n\ny","b":"\nx","c":"x\n\n","d":"  x\ny","e":"é\u0007","f":"'","g":"\"","h":"*a","i":"1:30"}"#,
        r#"["a",{"b":["c"]},[],{}]"#,
    ] {
        let tree = crate::json::parse(json.as_bytes()).unwrap();
        let mut out = String::new();
        write(&tree, &mut out);
        assert_eq!(parse(out.as_bytes()).map(|v| v.to_string()), Ok(tree.to_string()), "{out}");
    }
}
