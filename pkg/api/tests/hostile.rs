//! Every parser on damaged input: an answer, never a panic, a hang or a deep stack.
//!
//! Inputs are generated documents with bytes changed, dropped, repeated and spliced; `FUZZ_COUNT` asks for more of
//! them than the daily run. What a parser accepts must survive being written and read again.

mod support;

use machinery::schema::Field;
use machinery::{Quantity, fields, json, labels, proto, time, yaml};
use support::Rng;

fn damage(rng: &mut Rng, data: &[u8]) -> Vec<u8> {
    let mut out = data.to_vec();
    for _ in 0..1 + rng.below(4) {
        if out.is_empty() {
            break;
        }
        let at = rng.below(out.len());
        match rng.below(6) {
            0 => out[at] = rng.next() as u8,
            1 => out[at] ^= 1 << rng.below(8),
            2 => out.truncate(at),
            3 => {
                out.remove(at);
            }
            4 => {
                let part = out[at..(at + rng.below(40)).min(out.len())].to_vec();
                let to = rng.below(out.len());
                out.splice(to..to, part);
            }
            _ => out.insert(at, *b"{}[]\",:\\0\x80\xff".get(rng.below(11)).unwrap_or(&0)),
        }
    }
    out
}

fn count() -> u64 {
    std::env::var("FUZZ_COUNT").ok().and_then(|v| v.parse().ok()).unwrap_or(400)
}

#[test]
fn documents() {
    let table = api::types();
    let kinds: Vec<_> = table.types().filter(|id| table.get(*id).kind).collect();
    for seed in 0..count() {
        let mut rng = Rng::new(seed ^ 0xfa22);
        let id = kinds[rng.below(kinds.len())];
        let (gv, kind) = (table.package(id).api_version(), table.get(id).name.to_string());
        let document = support::document(table, seed, id, &gv, &kind).into_bytes();
        let bad = damage(&mut rng, &document);
        let _ = json::header(&bad);
        let _ = json::with_resource_version(&bad, "1");
        let _ = json::decode_any(&bad, true);
        if let Ok((id, d)) = json::decode_kind(table, &bad, true) {
            let text = json::encode(table, id, &d.value);
            let again = json::decode(table, id, &text, true).expect("own output");
            assert_eq!(json::encode(table, id, &again.value), text, "seed {seed}");
        }
        let Ok((id, d)) = json::decode_kind(table, &document, true) else { continue };
        let pb = proto::encode(table, id, &d.value);
        let bad = damage(&mut rng, &pb);
        let _ = proto::header(&bad);
        let _ = proto::with_resource_version(&bad, "12345");
        let _ = proto::WatchEvent::parse(&bad);
        let mut out = Vec::new();
        let direct = proto::to_json(table, &bad, &mut out);
        if let Ok((id, tree)) = proto::decode(table, &bad) {
            let wire = proto::encode(table, id, &tree);
            let (_, again) = proto::decode(table, &wire).expect("own output");
            assert_eq!(again, tree, "seed {seed}");
            assert!(direct.is_ok(), "seed {seed}: only the tree reader accepts");
        }
    }
}

/// The records of a message in another order, some of them twice: the direct way to JSON must not depend on it.
fn shuffled(rng: &mut Rng, message: &[u8]) -> Vec<u8> {
    let mut w = proto::wire::Wire::new(message);
    let mut records = Vec::new();
    while !w.is_empty() {
        let from = w.at;
        let (_, wire) = w.tag().expect("own output");
        w.skip(wire).expect("own output");
        records.push(&message[from..w.at]);
    }
    for at in (1..records.len()).rev() {
        records.swap(at, rng.below(at + 1));
    }
    if !records.is_empty() && rng.below(2) == 0 {
        records.push(records[rng.below(records.len())]);
    }
    records.concat()
}

#[test]
fn messages_in_any_order() {
    let table = api::types();
    // Configuration files are never on the wire.
    let on_wire = |f: &Field| f.tag > 0 || matches!(f.name.as_str(), "kind" | "apiVersion");
    let kinds: Vec<_> =
        table.types().filter(|id| table.get(*id).kind && table.own_fields(*id).iter().all(on_wire)).collect();
    for seed in 0..count() {
        let mut rng = Rng::new(seed ^ 0x0bde);
        let id = kinds[rng.below(kinds.len())];
        let (gv, kind) = (table.package(id).api_version(), table.get(id).name.to_string());
        let document = support::document(table, seed, id, &gv, &kind).into_bytes();
        let Ok((id, d)) = json::decode_kind(table, &document, true) else { continue };
        let message = shuffled(&mut rng, &proto::encode_message(table, id, &d.value));
        let tree = proto::decode_message(table, id, &message).expect("own output");
        let mut out = Vec::new();
        proto::message_to_json(table, id, &message, None, &mut out).expect("the tree reader accepts it");
        assert_eq!(
            String::from_utf8_lossy(&out),
            String::from_utf8_lossy(&json::encode(table, id, &tree)),
            "seed {seed} {kind}"
        );
    }
}

#[test]
fn yaml_documents() {
    let source = "a: &x {b: [1, yes, ~, 'q'], c: |\n  text\n  more\nd: *x\ne:\n  <<: *x\n  f: !!str 5\n- g: \"\\u00e9\"\n";
    for seed in 0..count() * 4 {
        let mut rng = Rng::new(seed ^ 0x9a31);
        let bad = damage(&mut rng, source.as_bytes());
        let _ = yaml::parse_strict(&bad);
        if let Ok(tree) = yaml::parse(&bad) {
            let mut text = String::new();
            yaml::write(&tree, &mut text);
            let again = yaml::parse(text.as_bytes()).unwrap_or_else(|e| panic!("{e} in {text:?}"));
            assert_eq!(again.to_string(), tree.to_string(), "{text:?}");
        }
    }
}

#[test]
fn small_values() {
    let seeds = [
        "1.5Gi",
        "-12e-30m",
        "a in (b,c),!d,e!=f",
        "metadata.name=x,a!=\\,",
        "2020-01-01T00:00:00.123456Z",
        "1h2m3.5s",
    ];
    for seed in 0..count() * 10 {
        let mut rng = Rng::new(seed ^ 0x51a11);
        let source = rng.pick(&seeds);
        let bad = damage(&mut rng, source.as_bytes());
        let text = String::from_utf8_lossy(&bad);
        if let Ok(q) = Quantity::parse(&text) {
            let (mut sum, mut product, mut rounded) = (q.clone(), q.clone(), q.clone());
            sum.add(&q);
            sum.sub(&q);
            product.mul(i64::MAX);
            rounded.round_up(-3);
            let _ = (
                sum.to_string(),
                product.to_string(),
                rounded.milli_value(),
                q.value(),
                q.as_f64(),
                q.cmp(&rounded),
            );
        }
        if let Ok(s) = labels::parse(&text) {
            assert_eq!(labels::parse(&s.to_string()).map(|s| s.to_string()), Ok(s.to_string()));
        }
        if let Ok(s) = fields::parse(&text) {
            // Terms sort by their text, which the first reading may have changed ("==", empty terms).
            let once = fields::parse(&s.to_string()).expect("own output");
            assert_eq!(fields::parse(&once.to_string()).map(|s| s.to_string()), Ok(once.to_string()));
        }
        if let Ok(t) = time::parse_rfc3339(&text) {
            assert_eq!(
                time::parse_rfc3339(&time::format_rfc3339(t.seconds)).map(|t| t.seconds),
                Ok(t.seconds)
            );
        }
        if let Ok(d) = time::parse_duration(&text) {
            assert_eq!(time::parse_duration(&time::format_duration(d)), Ok(d));
        }
    }
    for text in ["1e400", "1e2147483647", "-1e-2147483648", "9e9223372036854775807"] {
        let q = Quantity::parse(text).expect("a quantity");
        let mut sum = q.clone();
        sum.add(&Quantity::parse("1").expect("a quantity"));
        let _ = (sum.to_string(), q.value(), q.as_f64());
    }
}

/// The inputs that break parsers, each to every parser that could take it.
#[test]
fn known_bad_input() {
    let table = api::types();
    let refused = |text: &str| {
        assert!(json::decode_kind(table, text.as_bytes(), true).is_err(), "{}", &text[..text.len().min(60)]);
    };
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        for depth in [10_000, 10_001, 1_000_000] {
            let deep = open.repeat(depth) + "1" + &close.repeat(depth);
            assert!(json::parse(deep.as_bytes()).is_err());
            assert!(json::parse(&deep.as_bytes()[..deep.len() / 2]).is_err());
            refused(&format!("{{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"spec\":{deep}}}"));
            // Fields the type does not have are skipped, and limited like others.
            if depth > 10_000 {
                refused(&format!("{{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"unknown\":{deep}}}"));
            }
        }
    }
    for deep in ["[".repeat(10_000), "- ".repeat(10_000), "{a: ".repeat(10_000), "? ".repeat(10_000)] {
        assert!(yaml::parse(deep.as_bytes()).is_err());
    }
    let nested: String = (0..10_000).map(|i| " ".repeat(i.min(300)) + "a:\n").collect();
    let _ = yaml::parse(nested.as_bytes());
    let schema = table.by_name("apiextensions/v1.JSONSchemaProps").expect("a type");
    let not = table.field(schema, "not").expect("a field").tag;
    let message = (0..10_000).fold(Vec::new(), |inner, _| {
        let mut outer = Vec::with_capacity(inner.len() + 8);
        proto::wire::push_field(&mut outer, not, &inner);
        outer
    });
    assert!(matches!(proto::decode_message(table, schema, &message), Err(proto::Error::Depth(_))));
    for bytes in [&b"{\"a\":\"\xff\"}"[..], b"\xff\xfe{", b"{\"\xc3\x28\":1}"] {
        let _ = (json::parse(bytes), yaml::parse(bytes), proto::decode(table, bytes));
    }
    let twice = json::decode_any(b"{\"a\":1,\"a\":2}", true).expect("JSON");
    assert!(twice.strict_error().is_some_and(|e| e.contains("duplicate field")), "duplicates are named");
    assert!(yaml::parse_strict(b"a: 1\na: 2\n").is_err());
    for exponent in ["1e99999999999", "1e-99999999999", "9e9223372036854775807"] {
        let number = format!(
            "{{\"apiVersion\":\"v1\",\"kind\":\"ResourceQuota\",\"spec\":{{\"hard\":{{\"cpu\":{exponent}}}}}}}"
        );
        let _ = json::decode_kind(table, number.as_bytes(), true);
    }
    let huge = "{\"apiVersion\":\"v1\",\"kind\":\"ResourceQuota\",\"spec\":{\"hard\":{\"cpu\":\"1e400\"}}}";
    let (_, d) = json::decode_kind(table, huge.as_bytes(), true).expect("upstream takes it and caps it");
    assert!(d.value.str_at(&["spec", "hard", "cpu"]).is_some_and(|q| q.len() < 30), "{}", d.value);
    assert!(json::parse(b"1e400").is_err(), "no float");
}
