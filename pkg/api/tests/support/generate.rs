//! Random JSON documents for the types of the table: sound ones with every spelling JSON and the API allow, and
//! ones with mistakes that strict decoding must name.

use super::Rng;
use machinery::schema::{Choice, Field, Shape, TypeId, TypeTable};

/// What to generate.
#[derive(Clone, Copy)]
pub struct Options {
    /// One in so many fields is unknown, repeated or spelt in another case; 0 for none.
    pub strict_faults: usize,
    /// One in so many values does not fit its field; 0 for none.
    pub misfits: usize,
    /// Percentage of fields present at the top.
    pub fill: usize,
}

pub struct Generator<'t> {
    pub table: &'t TypeTable,
    pub rng: Rng,
    pub options: Options,
    /// Inside a repeated field. Upstream reads the second occurrence over the memory of the first, where numbers
    /// behind texts and elements behind the end of a list survive unseen; what could show them is not generated.
    repeating: bool,
    out: String,
}

const STRINGS: &[&str] = &[
    "",
    "a",
    "name",
    "Always",
    "é<&>",
    "\u{2028}\u{2029}",
    "tab\\tnew\\nline",
    "\\u00e9\\ud83d\\ude00",
    "\\ud800x",
    "quote\\\"slash\\/back\\\\",
    "\u{1f600}",
    "\\u0000\\u001f\u{7f}",
    "x.y/z-1",
    "0",
    "true",
    "null",
    "~",
    "\\b\\f\\r",
];
pub const QUANTITIES: &[&str] = &[
    "0",
    "1",
    "100m",
    "1.5",
    "0.5",
    "1Gi",
    "1.5Gi",
    "1024Mi",
    "1025Ki",
    "12e6",
    "1E3",
    "1e-3",
    "100k",
    "1000k",
    "5M",
    "3T",
    "2P",
    "1E",
    "7Ei",
    "+1",
    "-1",
    "-1.5Gi",
    "01",
    "1.",
    ".5",
    "0.0001Ki",
    "1n",
    "0.1n",
    "1u",
    "123456789012345678901234567890",
    "9223372036854775807",
    "9223372036854775808",
    "9223372036854775807Ki",
    "0.000000001",
    "1e30",
    "1e-30",
    "1000000",
    "1e2",
    "3.14159265358979",
    "1000m",
    "1500m",
    "1.000",
    "100000000000000000000m",
    "1e18",
    "1e19",
];
const BAD_QUANTITIES: &[&str] = &["", "x", "1x", "1Kii", "--1", "1e", "1 1", "1.2.3", "e5", "1K"];
const TIMES: &[&str] = &[
    "2026-11-23T08:27:40Z",
    "1970-01-01T00:00:00Z",
    "2000-02-29T23:59:59+01:30",
    "1999-12-31T00:00:00-08:00",
    "2020-01-01T05:06:07.123456789Z",
    "0002-01-01T00:00:00Z",
    "9999-12-31T23:59:59Z",
    "2020-06-01T5:00:00Z",
    "2020-06-01T05:00:00,5Z",
];
const BAD_TIMES: &[&str] = &[
    "",
    "x",
    "2020-01-01",
    "2020-13-01T00:00:00Z",
    "2021-02-29T00:00:00Z",
    "2020-01-01T24:00:00Z",
    "2020-01-01T00:00:00",
    "2020-01-01T00:00:00Zx",
    "20200101T000000Z",
];
const MICROTIMES: &[&str] =
    &["2026-11-23T08:27:40.000000Z", "2020-01-01T00:00:00.123456+02:00", "1970-01-01T00:00:00.000001Z"];
const DURATIONS: &[&str] =
    &["0", "0s", "1s", "1h30m", "1.5h", "100ms", "-5m", "1us", "1µs", "2540400h", "1h0m0.5s"];
const RAWS: &[&str] = &[
    "{}",
    "[]",
    "1",
    "\"x\"",
    "true",
    "{\"a\": 1, \"b\" : [ 1,2 ] }",
    "{\"kind\":\"K\",\"apiVersion\":\"v1\",\"<\":\"&\"}",
    "1.50",
    "{\"z\":1,\"a\":2}",
    "\"\\u003c\"",
];
const UNKNOWN: &[&str] = &["bogus", "Spec", "x-y", "", "metaData", "\\\"", "é", "a.b", "KIND"];
const ANY: &[&str] = &[
    "null",
    "1",
    "-1",
    "1.5",
    "\"x\"",
    "true",
    "{}",
    "[]",
    "{\"a\":[{}]}",
    "[1,\"a\"]",
    "1e3",
    "99999999999",
    "\"\"",
];

impl<'t> Generator<'t> {
    pub fn new(table: &'t TypeTable, seed: u64, options: Options) -> Self {
        Generator { table, rng: Rng::new(seed), options, repeating: false, out: String::new() }
    }

    /// A document of the kind.
    pub fn document(mut self, id: TypeId, api_version: &str, kind: &str) -> String {
        self.out.push_str(&format!("{{\"apiVersion\":\"{api_version}\",\"kind\":\"{kind}\""));
        let fields: Vec<Field> =
            self.table.fields(id).filter(|f| f.name != "kind" && f.name != "apiVersion").cloned().collect();
        self.fields(fields, self.options.fill, 0, false);
        self.space();
        self.out.push('}');
        self.out
    }

    fn space(&mut self) {
        if self.rng.one_in(40) {
            let s = self.rng.pick(&[" ", "\n", "\t ", "\r\n"]);
            self.out.push_str(s);
        }
    }

    fn text(&mut self, s: &str) {
        self.out.push('"');
        self.out.push_str(s);
        self.out.push('"');
    }

    fn structure(&mut self, id: TypeId, fill: usize, depth: usize) {
        if let Some(choice) = self.table.get(id).choice {
            return self.choice(id, choice, fill, depth);
        }
        self.out.push('{');
        let fields: Vec<Field> = self.table.fields(id).cloned().collect();
        self.fields(fields, fill, depth, true);
        self.out.push('}');
    }

    fn choice(&mut self, id: TypeId, choice: Choice, fill: usize, depth: usize) {
        let schema = self
            .table
            .own_fields(id)
            .iter()
            .find_map(|f| if let Shape::Struct(s) = f.shape { Some(s) } else { None });
        let schema = schema.expect("a choice has a schema");
        match (choice, self.rng.below(3)) {
            (_, 0) if depth < 8 => self.structure(schema, fill / 2, depth + 1),
            (Choice::Bool, _) => {
                let b = self.rng.pick(&["true", "false"]);
                self.out.push_str(b);
            }
            (Choice::Array, 1) if depth < 8 => {
                self.out.push('[');
                self.structure(schema, fill / 2, depth + 1);
                self.out.push(']');
            }
            (Choice::StringArray, 1) => self.out.push_str("[\"a\",\"b\"]"),
            _ => self.out.push_str("[]"),
        }
    }

    fn fields(&mut self, mut fields: Vec<Field>, fill: usize, depth: usize, mut first: bool) {
        if self.rng.one_in(3) {
            for i in (1..fields.len()).rev() {
                let j = self.rng.below(i + 1);
                fields.swap(i, j);
            }
        }
        for f in &fields {
            if f.name == "-" || self.rng.below(100) >= fill {
                continue;
            }
            let fault = self.options.strict_faults > 0 && self.rng.one_in(self.options.strict_faults);
            let repeat = fault && !self.repeating && self.rng.one_in(2);
            self.repeating |= repeat;
            self.member(f, &mut first, fill, depth);
            if repeat {
                self.member(f, &mut first, fill, depth);
                self.repeating = false;
            } else if fault {
                self.separator(&mut first);
                let name = self.rng.pick(UNKNOWN);
                self.text(name);
                self.out.push(':');
                let v = self.rng.pick(ANY);
                self.out.push_str(v);
            }
        }
    }

    fn separator(&mut self, first: &mut bool) {
        if !std::mem::replace(first, false) {
            self.out.push(',');
        }
        self.space();
    }

    fn member(&mut self, f: &Field, first: &mut bool, fill: usize, depth: usize) {
        self.separator(first);
        self.text(&f.name.clone());
        self.space();
        self.out.push(':');
        self.space();
        if self.rng.one_in(25) && f.shape != Shape::Duration {
            self.out.push_str("null");
        } else {
            self.value(f.shape, fill, depth);
        }
        self.space();
    }

    fn value(&mut self, shape: Shape, fill: usize, depth: usize) {
        if self.options.misfits > 0 && self.rng.one_in(self.options.misfits) {
            let v = self.rng.pick(ANY);
            return self.out.push_str(v);
        }
        let bad = self.options.misfits > 0 && self.rng.one_in(self.options.misfits);
        match shape {
            Shape::String => {
                let s = self.rng.pick(STRINGS);
                self.text(s);
            }
            Shape::Bool => {
                let b = self.rng.pick(&["true", "false"]);
                self.out.push_str(b);
            }
            Shape::Int32 | Shape::Int64 => {
                let s = match (shape, bad) {
                    (_, true) => self.rng.pick(&["1.0", "1e2", "2147483648", "9223372036854775808", "-0.5"]),
                    (Shape::Int32, _) => {
                        self.rng.pick(&["0", "1", "-1", "2147483647", "-2147483648", "-0", "8080"])
                    }
                    _ => {
                        self.rng.pick(&["0", "7", "-7", "9223372036854775807", "-9223372036854775808", "300"])
                    }
                };
                self.out.push_str(s);
            }
            Shape::Double => {
                let s = self.rng.pick(&["0", "1", "1.5", "-2.25e10", "1e-7", "1e21", "123456789", "0.1"]);
                self.out.push_str(s);
            }
            Shape::Bytes => {
                let s = if bad {
                    self.rng.pick(&["A", "AA", "*", "AAA=A"])
                } else {
                    self.rng.pick(&["", "AA==", "AB==", "AAECAwQ=", "AAEC\\nAwQF", "/+8="])
                };
                self.text(s);
            }
            Shape::Time => {
                let s = if bad { self.rng.pick(BAD_TIMES) } else { self.rng.pick(TIMES) };
                self.text(s);
            }
            Shape::MicroTime => {
                let s = if bad { self.rng.pick(BAD_TIMES) } else { self.rng.pick(MICROTIMES) };
                self.text(s);
            }
            Shape::Duration => {
                let s = if bad { self.rng.pick(&["", "1", "1x", "-"]) } else { self.rng.pick(DURATIONS) };
                self.text(s);
            }
            Shape::Quantity => {
                let s = if bad { self.rng.pick(BAD_QUANTITIES) } else { self.rng.pick(QUANTITIES) };
                if self.rng.one_in(10)
                    && s.starts_with(|c: char| c.is_ascii_digit())
                    && s.parse::<f64>().is_ok()
                    && !s.starts_with("01")
                    && !s.ends_with('.')
                {
                    self.out.push_str(s);
                } else {
                    self.text(s);
                }
            }
            Shape::IntOrString => match self.rng.below(3) {
                0 if !self.repeating => {
                    let s = self.rng.pick(STRINGS);
                    self.text(s);
                }
                1 if bad => self.out.push_str("3000000000"),
                _ => {
                    let s = self.rng.pick(&["0", "80", "-1", "2147483647"]);
                    self.out.push_str(s);
                }
            },
            Shape::Raw => {
                let s = self.rng.pick(RAWS);
                self.out.push_str(s);
            }
            Shape::Any => {
                let s = self.rng.pick(ANY);
                self.out.push_str(s);
            }
            Shape::Struct(id) if depth > 12 => {
                let _ = id;
                self.out.push_str("{}");
            }
            Shape::Struct(id) => self.structure(id, (fill * 4 / 5).max(15), depth + 1),
            Shape::List(e) | Shape::Wrapped(e) => self.list(self.table.elem(e), fill, depth),
            Shape::Map(e) => self.map(self.table.elem(e), fill, depth),
        }
    }

    fn list(&mut self, elem: Shape, fill: usize, depth: usize) {
        let n = if depth > 8 { 0 } else { self.rng.below(3) };
        self.out.push('[');
        for i in 0..n {
            if i > 0 {
                self.out.push(',');
            }
            self.space();
            if self.rng.one_in(30) {
                self.out.push_str("null");
            } else {
                self.value(elem, fill / 2 + 10, depth + 1);
            }
        }
        self.space();
        self.out.push(']');
    }

    fn map(&mut self, elem: Shape, fill: usize, depth: usize) {
        const KEYS: &[&str] =
            &["b", "a", "", "app.kubernetes.io/name", "é", "Z", "a.b", "cpu", "\\u0041", "<"];
        let n = self.rng.below(4);
        let start = self.rng.below(KEYS.len());
        let step = if self.options.strict_faults > 0 && self.rng.one_in(10) { 0 } else { 3 };
        self.out.push('{');
        for i in 0..n {
            if i > 0 {
                self.out.push(',');
            }
            self.text(KEYS[(start + i * step) % KEYS.len()]);
            self.out.push(':');
            if self.rng.one_in(30) {
                self.out.push_str("null");
            } else {
                self.value(elem, fill / 2, depth + 1);
            }
        }
        self.out.push('}');
    }
}
