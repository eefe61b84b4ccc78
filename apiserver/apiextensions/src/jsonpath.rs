//! The JSON paths of printer columns: fields, indexes, slices, wildcards, recursion and filters.
//!
//! Not templates: no ranges, no text, no functions. Missing keys yield nothing. Upstream: `client-go/util/jsonpath`.

use machinery::Value;

/// A parsed path.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPath(Vec<Step>);

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    Wildcard,
    Recursive,
    Slice { from: Option<i64>, to: Option<i64>, step: i64, single: bool },
    Filter { left: Operand, test: Test, right: Operand },
}

#[derive(Clone, Debug, PartialEq)]
enum Operand {
    Path(JsonPath),
    Literal(Value),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Test {
    Exists,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Two-character operators first: they begin with the others.
const TESTS: [(&str, Test); 6] = [
    ("==", Test::Equal),
    ("!=", Test::NotEqual),
    ("<=", Test::LessOrEqual),
    (">=", Test::GreaterOrEqual),
    ("<", Test::Less),
    (">", Test::Greater),
];

impl JsonPath {
    /// Parses a path such as `.status.conditions[?(@.type=="Ready")].status`; `None` when it is malformed.
    pub fn parse(text: &str) -> Option<JsonPath> {
        let mut steps = Vec::new();
        let mut rest = text.trim();
        rest = rest.strip_prefix('$').unwrap_or(rest);
        while !rest.is_empty() {
            if let Some(tail) = rest.strip_prefix("..") {
                steps.push(Step::Recursive);
                rest = tail;
                if !rest.starts_with('[') {
                    rest = field(rest, &mut steps)?;
                }
            } else if let Some(tail) = rest.strip_prefix('.') {
                rest = if tail.is_empty() || tail.starts_with('[') { tail } else { field(tail, &mut steps)? };
            } else {
                let inner = rest.strip_prefix('[')?;
                let end = closing(inner)?;
                steps.push(bracket(inner.get(..end)?.trim())?);
                rest = inner.get(end + 1..)?;
            }
        }
        Some(JsonPath(steps))
    }

    /// Everything the path leads to.
    pub fn find<'a>(&self, root: &'a Value) -> Vec<&'a Value> {
        self.0.iter().fold(vec![root], |at, step| at.into_iter().flat_map(|v| step.from(v)).collect())
    }
}

/// A field name, in which a backslash protects the next character.
fn field<'a>(text: &'a str, steps: &mut Vec<Step>) -> Option<&'a str> {
    let mut name = String::new();
    let mut chars = text.char_indices();
    let mut end = text.len();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => name.push(chars.next()?.1),
            '.' | '[' => {
                end = at;
                break;
            }
            _ => name.push(c),
        }
    }
    steps.push(if name == "*" { Step::Wildcard } else { Step::Field(name) });
    text.get(end..)
}

/// Where the bracket that is open ends, quotes and brackets within apart.
fn closing(text: &str) -> Option<usize> {
    let (mut depth, mut quote) = (0_usize, None);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '[') => depth += 1,
            (None, ']') if depth == 0 => return Some(at),
            (None, ']') => depth -= 1,
            _ => {}
        }
    }
    None
}

fn bracket(text: &str) -> Option<Step> {
    if text == "*" {
        return Some(Step::Wildcard);
    }
    for quote in ['\'', '"'] {
        if let Some(name) = text.strip_prefix(quote).and_then(|t| t.strip_suffix(quote)) {
            return Some(Step::Field(name.to_owned()));
        }
    }
    if let Some(filter) = text.strip_prefix("?(").and_then(|t| t.strip_suffix(')')) {
        return parse_filter(filter);
    }
    let parts: Vec<&str> = text.split(':').collect();
    let number = |part: &str| match part.trim() {
        "" => Some(None),
        part => part.parse::<i64>().ok().map(Some),
    };
    match parts.as_slice() {
        [index] => {
            let from = number(index)??;
            Some(Step::Slice { from: Some(from), to: None, step: 1, single: true })
        }
        [from, to] => Some(Step::Slice { from: number(from)?, to: number(to)?, step: 1, single: false }),
        [from, to, step] => {
            let step = number(step)?.unwrap_or(1);
            Some(Step::Slice { from: number(from)?, to: number(to)?, step, single: false })
        }
        _ => None,
    }
}

fn parse_filter(text: &str) -> Option<Step> {
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, _) => {
                let rest = text.get(at..)?;
                if let Some((sign, test)) = TESTS.iter().find(|(sign, _)| rest.starts_with(sign)) {
                    let (left, right) = (text.get(..at)?, rest.get(sign.len()..)?);
                    return Some(Step::Filter { left: operand(left)?, test: *test, right: operand(right)? });
                }
            }
            _ => {}
        }
    }
    Some(Step::Filter { left: operand(text)?, test: Test::Exists, right: Operand::Literal(Value::Null) })
}

fn operand(text: &str) -> Option<Operand> {
    let text = text.trim();
    if let Some(path) = text.strip_prefix('@') {
        return JsonPath::parse(path).map(Operand::Path);
    }
    for quote in ['\'', '"'] {
        if let Some(literal) = text.strip_prefix(quote).and_then(|t| t.strip_suffix(quote)) {
            return Some(Operand::Literal(literal.into()));
        }
    }
    machinery::json::parse(text.as_bytes()).ok().map(Operand::Literal)
}

impl Step {
    fn from<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        match (self, value) {
            (Step::Field(name), Value::Map(map)) => map.get(name).into_iter().collect(),
            (Step::Wildcard, value) => children(value),
            (Step::Recursive, value) => {
                let mut all = vec![value];
                let mut at = 0;
                while let Some(next) = all.get(at).copied() {
                    all.extend(children(next));
                    at += 1;
                }
                all
            }
            (Step::Slice { from, to, step, single }, Value::List(list)) => {
                slice(list, *from, *to, *step, *single)
            }
            (Step::Filter { left, test, right }, Value::List(list)) => {
                list.iter().filter(|item| holds(item, left, *test, right)).collect()
            }
            _ => Vec::new(),
        }
    }
}

fn children(value: &Value) -> Vec<&Value> {
    match value {
        Value::Map(map) => map.values().collect(),
        Value::List(list) => list.iter().collect(),
        _ => Vec::new(),
    }
}

fn slice(list: &[Value], from: Option<i64>, to: Option<i64>, step: i64, single: bool) -> Vec<&Value> {
    let len = i64::try_from(list.len()).unwrap_or(i64::MAX);
    let place = |i: i64| if i < 0 { i + len } else { i };
    let from = place(from.unwrap_or(0));
    let to = if single { from + 1 } else { place(to.unwrap_or(len)) };
    let Ok(step) = usize::try_from(step.max(1)) else { return Vec::new() };
    let (Ok(from), Ok(to)) = (usize::try_from(from), usize::try_from(to.min(len))) else { return Vec::new() };
    list.get(from..to).unwrap_or_default().iter().step_by(step).collect()
}

fn holds(item: &Value, left: &Operand, test: Test, right: &Operand) -> bool {
    let resolve = |operand: &Operand| match operand {
        Operand::Literal(value) => Some(value.clone()),
        Operand::Path(path) => path.find(item).first().map(|v| (*v).clone()),
    };
    let Some(left) = resolve(left) else { return false };
    if test == Test::Exists {
        return true;
    }
    let Some(right) = resolve(right) else { return false };
    let order = match (&left, &right) {
        (Value::Str(a), Value::Str(b)) => a.partial_cmp(b),
        (a, b) => match (a.as_f64(), b.as_f64()) {
            (Some(a), Some(b)) => a.partial_cmp(&b),
            _ => (left == right).then_some(std::cmp::Ordering::Equal),
        },
    };
    match test {
        Test::Equal => order.is_some_and(|o| o.is_eq()),
        Test::NotEqual => !order.is_some_and(|o| o.is_eq()),
        Test::Less => order.is_some_and(|o| o.is_lt()),
        Test::LessOrEqual => order.is_some_and(|o| o.is_le()),
        Test::Greater => order.is_some_and(|o| o.is_gt()),
        Test::GreaterOrEqual => order.is_some_and(|o| o.is_ge()),
        Test::Exists => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn finds() {
        let object = Value::from(json!({"a": {"b.c": 1, "list": [{"t": "x", "v": 1}, {"t": "y", "v": 2}]}}));
        let check = |path: &str, want: serde_json::Value| {
            let found = JsonPath::parse(path).unwrap();
            let found: Vec<serde_json::Value> = found.find(&object).into_iter().map(Into::into).collect();
            assert_eq!(serde_json::Value::from(found), want, "{path}");
        };
        check(".a.list[0].v", json!([1]));
        check(".a.list[-1].v", json!([2]));
        check(".a.list[*].v", json!([1, 2]));
        check(".a.list[?(@.t==\"y\")].v", json!([2]));
        check(".a.list[?(@.v>1)].t", json!(["y"]));
        check(r".a.b\.c", json!([1]));
        check(".a['b.c']", json!([1]));
        check("..t", json!(["x", "y"]));
        check(".missing.x", json!([]));
        assert_eq!(JsonPath::parse(".a[?(@.b"), None);
    }
}
