//! Our codecs against upstream's on generated input (`make oracle`).
//!
//! The oracle is the Go program e2e/oracle/codec; `ORACLE_CODEC` names its binary and `ORACLE_COUNT` the number of
//! documents. Without it the tests print a line and pass. Seeds count up from `ORACLE_SEED`; a difference prints its
//! seed.

mod support;

use machinery::schema::{TypeId, TypeTable};
use machinery::{json, proto};
use serde_json::Value as Json;
use support::Rng;
use support::oracle::Oracle;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

fn oracle() -> Option<Oracle> {
    let o = Oracle::from_env("ORACLE_CODEC");
    if o.is_none() {
        println!("skipped: ORACLE_CODEC is not set (make oracle sets it)");
    }
    o
}

/// Documents whose answers are kept for the tests without Go (tests/recorded.rs).
const RECORDED: u64 = 1000;

/// Differences found, at most a page of them printed.
#[derive(Default)]
struct Report {
    checked: usize,
    differences: Vec<String>,
}

impl Report {
    fn compare(&mut self, what: &str, input: &str, ours: Option<String>, theirs: Option<String>) {
        self.checked += 1;
        if ours != theirs {
            let (o, t) = (ours.unwrap_or_else(|| "-".into()), theirs.unwrap_or_else(|| "-".into()));
            let at = o.bytes().zip(t.bytes()).take_while(|(a, b)| a == b).count();
            let cut = |s: &str| -> String { s.chars().skip(at.saturating_sub(60)).take(160).collect() };
            self.differences.push(format!(
                "{what}\n   input {input}\n    ours {}\n  theirs {}",
                cut(&o),
                cut(&t)
            ));
        }
    }

    fn finish(self, what: &str) {
        println!("{what}: {} comparisons, {} differences", self.checked, self.differences.len());
        let shown = self.differences.iter().take(12).cloned().collect::<Vec<_>>().join("\n");
        assert!(self.differences.is_empty(), "{} of {}:\n{shown}", self.differences.len(), self.checked);
    }
}

fn text(answer: &Json, key: &str) -> Option<String> {
    match answer.get(key)? {
        Json::String(s) => Some(s.clone()),
        other => Some(other.to_string()),
    }
}

/// The kinds of the table that upstream's scheme knows.
fn kinds(table: &TypeTable, oracle: &mut Oracle) -> Vec<(TypeId, String, String)> {
    let served = |path: &str| {
        ["k8s.io/api/", "k8s.io/apiextensions-apiserver/", "k8s.io/kube-aggregator/"]
            .iter()
            .any(|p| path.starts_with(p))
    };
    let mut out = Vec::new();
    for id in table.types().filter(|id| table.get(*id).kind && served(&table.package(*id).path)) {
        let (gv, kind) = (table.package(id).api_version(), table.get(id).name.to_string());
        if oracle.ask("known", format!("{gv} {kind}").as_bytes())["known"] == Json::Bool(true) {
            out.push((id, gv, kind));
        }
    }
    out
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn protobuf(answer: &Json, key: &str) -> Option<Vec<u8>> {
    let text = answer.get(key)?.as_str()?;
    machinery::golang::decode_base64(text.as_bytes()).ok()
}

#[test]
fn documents() {
    let Some(mut oracle) = oracle() else { return };
    let table = api::types();
    let kinds = kinds(table, &mut oracle);
    assert!(kinds.len() > 300, "{} kinds", kinds.len());
    let (count, seed) = (number("ORACLE_COUNT", 2000), number("ORACLE_SEED", 1));
    let mut report = Report::default();
    let (mut refused, mut lax, mut recorded) = (0, 0, String::new());
    for n in seed..seed + count {
        let (id, gv, kind) = &kinds[Rng::new(n).below(kinds.len())];
        let document = support::document(table, n, *id, gv, kind);
        if n < seed + RECORDED {
            recorded.push_str(&format!("{n} {gv} {kind} {:016x}\n", support::digest(table, &document)));
        }
        let answer = oracle.ask("json", document.as_bytes());
        let what = |part: &str| format!("{part} of seed {n}, {gv} {kind}");
        let show: String = document.chars().take(300).collect();
        match json::decode_kind(table, document.as_bytes(), true) {
            Err(e) => {
                refused += 1;
                // The scheme's name is where upstream's program created it.
                let ours =
                    e.to_string().replace("pkg/api/legacyscheme/scheme.go:30", "pkg/runtime/scheme.go:111");
                report.compare(&what("error"), &show, Some(ours), text(&answer, "err"));
            }
            Ok((id, decoded)) => {
                lax += usize::from(!decoded.strict.is_empty());
                report.compare(&what("error"), &show, None, text(&answer, "err"));
                report.compare(&what("strict error"), &show, decoded.strict_error(), text(&answer, "strict"));
                let ours = String::from_utf8(json::encode(table, id, &decoded.value)).expect("UTF-8");
                report.compare(&what("JSON"), &show, Some(ours), text(&answer, "json"));
                let Some(pb) = protobuf(&answer, "pb") else { continue };
                let ours = proto::encode(table, id, &decoded.value);
                report.compare(&what("protobuf"), &show, Some(hex(&ours)), Some(hex(&pb)));
                let mut direct = Vec::new();
                let back = proto::to_json(table, &pb, &mut direct).map(|()| direct);
                let back = back.map_or_else(|e| e.to_string(), |b| String::from_utf8_lossy(&b).into_owned());
                report.compare(&what("protobuf to JSON"), &show, Some(back), text(&answer, "back"));
                let (_, tree) = proto::decode(table, &pb).expect("their protobuf");
                let through = String::from_utf8(json::encode(table, id, &tree)).expect("UTF-8");
                report.compare(
                    &what("protobuf to tree to JSON"),
                    &show,
                    Some(through),
                    text(&answer, "back"),
                );
                let again = protobuf(&answer, "again").map(|b| hex(&b));
                report.compare(
                    &what("protobuf again"),
                    &show,
                    Some(hex(&proto::encode(table, id, &tree))),
                    again,
                );
            }
        }
    }
    println!("{count} documents of {} kinds: {refused} refused, {lax} with strict errors", kinds.len());
    report.finish("documents");
    if let Some(path) = std::env::var_os("ORACLE_RECORD") {
        std::fs::write(path, recorded).expect("recorded answers");
    }
}

/// A random text over an alphabet that makes sense half of the time.
fn soup(rng: &mut Rng, alphabet: &[&str], max: usize) -> String {
    (0..rng.below(max + 1)).map(|_| rng.pick(alphabet)).collect()
}

fn quantity_text(rng: &mut Rng) -> String {
    const SUFFIXES: &[&str] = &[
        "", "", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei", "e3", "E-3",
        "e+6", "e0", "e20", "E-12",
    ];
    match rng.below(10) {
        0 => rng.pick(support::generate::QUANTITIES).to_owned(),
        1 => soup(rng, &["1", "0", ".", "-", "+", "e", "E", "K", "i", "m", "9", "M"], 7),
        _ => {
            let mut out = rng.pick(&["", "", "", "-", "+"]).to_owned();
            let most = if rng.one_in(5) { 24 } else { 6 };
            for _ in 0..1 + rng.below(most) {
                out.push_str(rng.pick(&["0", "0", "1", "2", "5", "7", "8", "9", "1024", "000"]));
            }
            if rng.one_in(3) {
                out.push('.');
                let most = if rng.one_in(4) { 14 } else { 4 };
                for _ in 0..rng.below(most) {
                    out.push_str(rng.pick(&["0", "0", "1", "5", "9"]));
                }
            }
            out + rng.pick(SUFFIXES)
        }
    }
}

#[test]
fn quantities() {
    use machinery::Quantity;
    let Some(mut oracle) = oracle() else { return };
    let mut report = Report::default();
    for n in 0..number("ORACLE_COUNT", 2000) {
        let mut rng = Rng::new(n ^ 0x5155);
        let (a, b) = (quantity_text(&mut rng).replace(' ', ""), quantity_text(&mut rng).replace(' ', ""));
        let by = *[0, 1, -1, 3, 1000, 1024, i64::MAX][rng.below(7)..].first().expect("within");
        let input = format!("{a} {b} {by}");
        let answer = oracle.ask("quantity", input.as_bytes());
        let mut check = |what: &str, ours: String, key: &str| {
            report.compare(what, &input, Some(ours), text(&answer, key));
        };
        let q = match Quantity::parse(&a) {
            Err(e) => {
                check("error", e.to_string(), "err");
                continue;
            }
            Ok(q) => q,
        };
        check("text", q.to_string(), "text");
        check("value", q.value().to_string(), "value");
        check("milli", q.milli_value().to_string(), "milli");
        check("sign", q.sign().to_string(), "sign");
        check("is an integer", q.as_i64().is_some().to_string(), "isint");
        if let Some(i) = q.as_i64() {
            check("integer", i.to_string(), "int");
        }
        let their_float: f64 = answer["float"].as_str().unwrap_or_default().parse().unwrap_or(f64::NAN);
        let close =
            q.as_f64() == their_float || (q.as_f64() - their_float).abs() <= their_float.abs() * 1e-12;
        check(
            "float",
            if close {
                answer["float"].as_str().unwrap_or_default().to_owned()
            } else {
                q.as_f64().to_string()
            },
            "float",
        );
        let r = match Quantity::parse(&b) {
            Err(e) => {
                check("second error", e.to_string(), "err2");
                continue;
            }
            Ok(r) => r,
        };
        let (mut sum, mut difference, mut product, mut rounded) =
            (q.clone(), q.clone(), q.clone(), q.clone());
        sum.add(&r);
        difference.sub(&r);
        check("fits", product.mul(by).to_string(), "fits");
        check("exact", rounded.round_up((by % 10) as i32).to_string(), "exact");
        check("sum", sum.to_string(), "sum");
        check("difference", difference.to_string(), "difference");
        check("product", product.to_string(), "product");
        check("rounded", rounded.to_string(), "rounded");
        check("order", (q.cmp(&r) as i32).to_string(), "cmp");
    }
    report.finish("quantities");
}

#[test]
fn selectors() {
    use machinery::{fields, labels};
    let Some(mut oracle) = oracle() else { return };
    let mut report = Report::default();
    let words = [
        "a", "b", "in", "notin", "x.io/y", "-", "A_b", "1", "5", "=", "==", "!=", "!", "(", ")", ",", ",",
        " ", " ", ">", "<", "\t", "/", "é",
    ];
    for n in 0..number("ORACLE_COUNT", 2000) {
        let mut rng = Rng::new(n ^ 0x1abe1);
        let mut selector = soup(&mut rng, &words, 12);
        if rng.one_in(2) {
            let op = rng.pick(&[
                "=b",
                "!=b",
                " in (a,b)",
                " notin (b)",
                ">1",
                "<5",
                "",
                " in ()",
                "==5",
                "=",
                " in (,)",
                "=in",
            ]);
            selector =
                format!("{}{}{op}", rng.pick(&["", "", "!", " "]), rng.pick(&["a", "b", "in", "x.io/y"]));
        }
        let set = format!("a={},x.io/y={}", rng.pick(&["b", "a", "3", ""]), rng.pick(&["b", "in", "5"]));
        let input = format!("{selector}\0{set}");
        let answer = oracle.ask("labels", input.as_bytes());
        let have: Vec<(String, String)> =
            set.split(',').filter_map(|p| p.split_once('=')).map(|(k, v)| (k.into(), v.into())).collect();
        match labels::parse(&selector) {
            Err(e) => report.compare("label error", &selector, Some(e.to_string()), text(&answer, "err")),
            Ok(s) => {
                report.compare("labels", &selector, Some(s.to_string()), text(&answer, "text"));
                report.compare("match", &input, Some(s.matches(&have).to_string()), text(&answer, "matches"));
            }
        }
        let selector = soup(
            &mut rng,
            &["a", "metadata.name", "=", "==", "!=", "\\", ",", "\\,", "\\=", "x", "é", "!"],
            9,
        );
        let answer = oracle.ask("fields", selector.as_bytes());
        let ours = fields::parse(&selector);
        report.compare(
            "field error",
            &selector,
            ours.as_ref().err().map(ToString::to_string),
            text(&answer, "err"),
        );
        report.compare("fields", &selector, ours.ok().map(|s| s.to_string()), text(&answer, "text"));
    }
    report.finish("selectors");
}

/// A date that is right most of the time.
fn date(rng: &mut Rng) -> String {
    let two = |rng: &mut Rng, max: usize| match rng.below(12) {
        0 => format!("{}", rng.below(max + 5)),
        1 => "x".to_owned(),
        _ => format!("{:02}", rng.below(max)),
    };
    let zone = match rng.below(5) {
        0 => format!("{}{}:{}", rng.pick(&["+", "-", "x"]), two(rng, 25), two(rng, 60)),
        1 => rng.pick(&["", "z", "+01", "+0100", "Zx"]).to_owned(),
        _ => "Z".to_owned(),
    };
    let fraction = rng.pick(&["", "", ".5", ",25", ".123456", ".123456789012", ".", ".000000"]).to_owned();
    let year = rng.pick(&["2020", "1999", "0001", "0000", "9999", "20x0", "-200", "2021"]).to_owned();
    format!(
        "{year}{}{}-{}{}{}:{}:{}{fraction}{zone}",
        rng.pick(&["-", "-", "-", "/"]),
        two(rng, 13),
        two(rng, 32),
        rng.pick(&["T", "T", "T", "T", "t", " "]),
        two(rng, 24),
        two(rng, 60),
        two(rng, 60)
    )
}

#[test]
fn times() {
    use machinery::{golang, time};
    let Some(mut oracle) = oracle() else { return };
    let mut report = Report::default();
    for n in 0..number("ORACLE_COUNT", 2000) {
        let mut rng = Rng::new(n ^ 0x71e);
        let input = match rng.below(3) {
            0 => soup(
                &mut rng,
                &[
                    "1",
                    "5",
                    "0",
                    ".",
                    "h",
                    "m",
                    "s",
                    "ms",
                    "us",
                    "µs",
                    "ns",
                    "-",
                    "+",
                    "d",
                    "1.5",
                    "9223372036",
                ],
                7,
            ),
            _ => date(&mut rng),
        };
        let answer = oracle.ask("time", input.as_bytes());
        let quoted = |t: time::Instant, f: &dyn Fn() -> String| {
            if t.is_zero() { "null".to_owned() } else { format!("\"{}\"", f()) }
        };
        match time::parse_rfc3339(&input) {
            Ok(t) => {
                let whole = time::Instant { nanos: 0, ..t };
                let _ = whole;
                report.compare(
                    "time",
                    &input,
                    Some(quoted(t, &|| time::format_rfc3339(t.seconds))),
                    text(&answer, "text"),
                );
            }
            Err(e) => report.compare("time error", &input, Some(e.to_string()), text(&answer, "err")),
        }
        match time::parse_micro(&input) {
            Ok(t) => report.compare(
                "microtime",
                &input,
                Some(quoted(t, &|| time::format_micro(t))),
                text(&answer, "micro"),
            ),
            Err(e) => {
                report.compare("microtime error", &input, Some(e.to_string()), text(&answer, "microerr"))
            }
        }
        match time::parse_duration(&input) {
            Ok(d) => {
                report.compare("duration", &input, Some(time::format_duration(d)), text(&answer, "duration"));
                report.compare("nanoseconds", &input, Some(d.to_string()), text(&answer, "nanos"));
            }
            Err(e) => {
                report.compare("duration error", &input, Some(e.to_string()), text(&answer, "durationerr"))
            }
        }
        let odd = soup(
            &mut rng,
            &[
                "a",
                "\"",
                "\\",
                "\n",
                "\u{1}",
                "é",
                "\u{200b}",
                "\u{301}",
                "\u{1f600}",
                "\u{a0}",
                "\u{e000}",
                "\u{ad}",
                "\u{378}",
            ],
            5,
        );
        report.compare(
            "quote",
            &odd,
            Some(golang::quote(&odd)),
            text(&oracle.ask("quote", odd.as_bytes()), "text"),
        );
    }
    report.finish("times");
}

const BITS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\"a\"",
    "\"b\"",
    "\"\\u00e9\"",
    "\"\\ud83d\"",
    "1",
    "-0",
    "1.5",
    "1e3",
    "1e400",
    "123456789012345678901",
    "true",
    "false",
    "null",
    " ",
    "\n",
    "\"<&>\u{2028}\"",
    "01",
    "nul",
    "\"",
    "\\",
    "'",
    "0.1e-10",
];

const LINES: &[&str] = &[
    "a: 1",
    "b: yes",
    "c: [1, 2, {x: y}]",
    "a: again",
    "d:\n  - 1\n  - x: y",
    "e: |\n  text\n  more",
    "f: 'q'",
    "g: \"q\\n\"",
    "h: 0644",
    "i: 1_000",
    "j: ~",
    "k: 2020-01-01",
    "l: 0x1F",
    "1: int key",
    "true: bool key",
    "1.5: float key",
    "m: .5",
    "n: -0b11",
    "o: +1e3",
    "p: 1:30",
    "- x",
    "q: &a {r: s}",
    "t: *a",
    "u:\n  <<: *a\n  v: w",
    "x: !!str 5",
    "y: !!float 5",
    "z: 08",
    "aa: on",
    "bb: N",
    "cc: 0o17",
    "dd: 1.",
    "ee: .",
    "ff: +.5",
    "gg: 9223372036854775808",
];

#[test]
fn untyped_documents() {
    use machinery::yaml;
    let Some(mut oracle) = oracle() else { return };
    let mut report = Report::default();
    for n in 0..number("ORACLE_COUNT", 2000) {
        let mut rng = Rng::new(n ^ 0xa11);
        let mut document = soup(&mut rng, BITS, 10);
        if rng.one_in(2) {
            let member = |rng: &mut Rng| {
                format!(
                    "{}:{}",
                    rng.pick(&["\"a\"", "\"b\"", "\"\""]),
                    rng.pick(&["1", "[1.5,{}]", "{\"a\":1,\"a\":2}", "\"x\"", "1e21", "null"])
                )
            };
            document = format!("{{{},{}}}", member(&mut rng), member(&mut rng));
        }
        let answer = oracle.ask("any", document.as_bytes());
        match json::decode_any(document.as_bytes(), true) {
            Err(e) => report.compare("error", &document, Some(e.to_string()), text(&answer, "err")),
            Ok(d) => {
                let strict = (!d.strict.is_empty()).then(|| d.strict.join(", "));
                report.compare("strict", &document, strict, text(&answer, "strict"));
                let ours = String::from_utf8(json::encode_any(&d.value)).expect("UTF-8");
                report.compare("JSON", &document, Some(ours), text(&answer, "json"));
            }
        }
        let document: String = (0..rng.below(5)).map(|_| rng.pick(LINES).to_owned() + "\n").collect();
        let answer = oracle.ask("yaml", document.as_bytes());
        let ours = yaml::to_json(document.as_bytes());
        report.compare(
            "YAML accepted",
            &document,
            Some(ours.is_ok().to_string()),
            Some(answer.get("err").is_none().to_string()),
        );
        if let Ok(ours) = ours {
            report.compare("YAML", &document, String::from_utf8(ours).ok(), text(&answer, "json"));
            let strict = yaml::parse_strict(document.as_bytes()).err().map(|e| e.to_string());
            report.compare("strict YAML", &document, strict, text(&answer, "strict"));
        }
    }
    report.finish("untyped documents");
}
