//! Random expressions, most of them well-typed, over fixed variables and objects.

use serde_json::{Value as Json, json};

/// A small generator of pseudo-random numbers (SplitMix64): same seed, same expression, forever.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn pick<'t>(&mut self, from: &[&'t str]) -> &'t str {
        from[self.below(from.len())]
    }
}

const KINDS: &[&str] =
    &["int", "uint", "double", "string", "bool", "bytes", "list", "map", "dyn", "duration", "timestamp"];

/// Productions: `$kind` is replaced by an expression of that kind, `@` by a loop variable's name.
#[allow(clippy::too_many_lines, reason = "a table")]
fn productions(kind: &str) -> &'static [&'static str] {
    match kind {
        "int" => &[
            "$int + $int",
            "$int - $int",
            "$int * $int",
            "$int / $int",
            "$int % $int",
            "-$int",
            "int($string)",
            "int($double)",
            "int($uint)",
            "size($string)",
            "$list.size()",
            "size($map)",
            "size($bytes)",
            "$list[$int]",
            "$map[$string]",
            "m.a",
            "$bool ? $int : $int",
            "$list.sum()",
            "$list.max()",
            "$list.min()",
            "$list.indexOf($int)",
            "$string.indexOf($string)",
            "$string.lastIndexOf($string, $int)",
            "$timestamp.getFullYear()",
            "$duration.getSeconds()",
            "$timestamp.getHours('America/New_York')",
            "cel.bind(@, $int, @ + $int)",
            "$list.first().orValue($int)",
            "$list[?$int].orValue($int)",
            "m[?$string].orValue($int)",
            "quantity('1Ki').compareTo(quantity('1k'))",
            "semver('1.2.3').minor()",
            "cidr('10.0.0.0/8').prefixLength()",
            "ip('::1').family()",
            "dyn($int)",
            "int($timestamp)",
        ],
        "uint" => &[
            "$uint + $uint",
            "$uint - $uint",
            "$uint * $uint",
            "$uint / $uint",
            "$uint % $uint",
            "uint($int)",
            "uint($string)",
        ],
        "double" => &[
            "$double + $double",
            "$double - $double",
            "$double * $double",
            "$double / $double",
            "-$double",
            "double($int)",
            "double($string)",
            "quantity('1.5').asApproximateFloat()",
        ],
        "string" => &[
            "$string + $string",
            "string($int)",
            "string($double)",
            "string($bool)",
            "string($uint)",
            "string($duration)",
            "string($timestamp)",
            "$string.lowerAscii()",
            "$string.upperAscii()",
            "$string.substring($int)",
            "$string.substring($int, $int)",
            "$string.replace($string, $string)",
            "$string.replace($string, $string, $int)",
            "$string.trim()",
            "$string.charAt($int)",
            "$list.map(@, string(@)).join($string)",
            "$string.find('[a-z]+')",
            "strings.quote($string)",
            "'%s-%d'.format([$string, $int])",
            "'%s'.format([$dyn])",
            "'%.2f %e %x'.format([$double, $double, $int])",
            "$string.split($string)[0]",
            "url('https://a.b:80/c?d=e').getHost()",
            "$bool ? $string : $string",
            "string($bytes)",
            "type($dyn) == int ? $string : $string",
            "'%b %o %X'.format([$int, $int, $string])",
        ],
        "bool" => &[
            "$int < $int",
            "$int <= $double",
            "$uint > $int",
            "$string < $string",
            "$int == $int",
            "$dyn == $dyn",
            "$string == $string",
            "$list == $list",
            "$map == $map",
            "$double != $double",
            "$bool && $bool",
            "$bool || $bool",
            "!$bool",
            "$int in $list",
            "$string in $map",
            "$int in [1, 2, 3]",
            "$string in ['a', 'héllo']",
            "$dyn in $list",
            "$string.contains($string)",
            "$string.startsWith($string)",
            "$string.endsWith($string)",
            "$string.matches('^h.*o$')",
            "$string.matches($string)",
            "$list.all(@, @ > $int)",
            "$list.exists(@, @ == $int)",
            "$list.exists_one(@, @ > $int)",
            "$map.all(@, @ != $string)",
            "$list.all(@, k9, @ < k9 || $bool)",
            "has(m.a)",
            "has($dyn.k)",
            "has($map.a)",
            "$list.isSorted()",
            "sets.contains($list, $list)",
            "sets.equivalent($list, $list)",
            "sets.intersects($list, $list)",
            "isIP($string)",
            "isURL($string)",
            "isQuantity($string)",
            "isSemver($string)",
            "ip('10.1.2.3').isLoopback()",
            "cidr('10.0.0.0/8').containsIP('10.1.2.3')",
            "quantity('1').isLessThan(quantity('2'))",
            "$duration < $duration",
            "$timestamp < $timestamp",
            "$list[?$int].hasValue()",
            "$bytes == $bytes",
            "optional.of($int) == optional.of($int)",
            "type($dyn) == type($dyn)",
            "format.dns1123Label().validate($string).hasValue()",
            "$list.includes($dyn)",
            "bool($string)",
        ],
        "bytes" => &["bytes($string)", "$bytes + $bytes"],
        "list" => &[
            "[$int, $int]",
            "[$int, ?m[?$string]]",
            "$list + $list",
            "$list.map(@, @ + $int)",
            "$list.map(@, @ > $int, @ * 2)",
            "$list.filter(@, @ > $int)",
            "$list.slice($int, $int)",
            "$list.sort()",
            "$list.reverse()",
            "$list.distinct()",
            "[$list, $list].flatten()",
            "lists.range($int)",
            "$list.sortBy(@, -@)",
            "$list.transformList(@, k9, @ + k9)",
            "$map.map(@, size(@))",
            "$bool ? $list : $list",
            "$map.transformList(@, k9, k9 > $int, k9)",
        ],
        "map" => &[
            "{'a': $int}",
            "{$string: $int, 'z': $int}",
            "$map.transformMap(@, k9, k9 + $int)",
            "{?'q': m[?$string]}",
            "$list.transformMapEntry(@, k9, {string(@): k9})",
        ],
        "dyn" => &[
            "dyn($int)",
            "dyn($string)",
            "dyn($list)",
            "x.k[$int]",
            "x.k",
            "dyn($double)",
            "x[$string]",
            "dyn($map)",
            "x.k.map(@, @)",
            "x.?k[?$int].orValue($dyn)",
            "dyn($bool)",
            "dyn($uint)",
            "$dyn + $dyn",
            "dyn(null)",
            "$list.exists(@, @ + $dyn == 3) ? $dyn : $dyn",
        ],
        "duration" => {
            &["duration('1h')", "$duration + $duration", "duration($string)", "$timestamp - $timestamp"]
        }
        "timestamp" => &[
            "timestamp('2020-02-29T01:02:03.5Z')",
            "$timestamp + $duration",
            "timestamp($int)",
            "timestamp('1999-12-31T23:59:59+05:30')",
        ],
        _ => &["0"],
    }
}

fn leaves(kind: &str) -> &'static [&'static str] {
    match kind {
        "int" => &["0", "1", "-3", "42", "i", "9223372036854775807", "2"],
        "uint" => &["0u", "3u", "u", "18446744073709551615u"],
        "double" => &["0.0", "1.5", "-2e10", "d", "1e300"],
        "string" => {
            &["''", "'a'", "'héllo'", "s", "'7'", "'1.5'", "\"x\\ty\"", "'a,b,c'", "','", "'z'", "'1h'"]
        }
        "bool" => &["true", "false", "b"],
        "bytes" => &["b'ab'", "b'\\xff'", "b''"],
        "list" => &["l", "[]", "[1, 2]", "[3]"],
        "map" => &["m", "{}", "{'a': 1, 'b': 2}"],
        "dyn" => &["x", "dyn(1)", "dyn('a')", "dyn(2.5)", "dyn([1])"],
        "duration" => &["duration('90s')", "duration('-1.5s')"],
        "timestamp" => &["timestamp(0)", "timestamp('2001-02-03T04:05:06Z')"],
        _ => &["null"],
    }
}

fn expression(rng: &mut Rng, kind: &str, depth: usize, names: &[String]) -> String {
    // Now and then an expression of another type, or a loop variable.
    let kind = if rng.below(40) == 0 { rng.pick(KINDS) } else { kind };
    if !names.is_empty() && rng.below(6) == 0 {
        return names[rng.below(names.len())].clone();
    }
    if depth == 0 || rng.below(5) == 0 {
        return rng.pick(leaves(kind)).to_owned();
    }
    let all = productions(kind);
    let template = all[rng.below(all.len())];
    let name = format!("v{depth}");
    let mut inner = names.to_vec();
    if template.contains('@') && rng.below(3) > 0 {
        inner.push(name.clone());
    }
    let mut out = String::new();
    let mut rest = template;
    while let Some(at) = rest.find(['$', '@']) {
        out.push_str(&rest[..at]);
        if rest[at..].starts_with('@') {
            out.push_str(&name);
            rest = &rest[at + 1..];
            continue;
        }
        let end = rest[at + 1..].find(|c: char| !c.is_ascii_lowercase()).map_or(rest.len(), |n| at + 1 + n);
        let sub = expression(rng, &rest[at + 1..end], depth - 1, if at > 0 { &inner } else { names });
        let simple = sub.chars().all(|c| c.is_ascii_alphanumeric())
            || sub.starts_with(['[', '{', '\'']) && !sub.contains(' ');
        out.push_str(&if simple { sub } else { format!("({sub})") });
        rest = &rest[end..];
    }
    out + rest
}

const SCHEMA: &str = r#"{"type":"object","properties":{
    "name":{"type":"string","maxLength":20},"count":{"type":"integer"},"ratio":{"type":"number"},
    "on":{"type":"boolean"},"port":{"x-kubernetes-int-or-string":true},
    "tags":{"type":"array","x-kubernetes-list-type":"set","maxItems":10,"items":{"type":"string","maxLength":5}},
    "items":{"type":"array","x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["k"],"items":{"type":"object",
        "properties":{"k":{"type":"string"},"v":{"type":"integer"}}}},
    "labels":{"type":"object","additionalProperties":{"type":"string"}},
    "when":{"type":"string","format":"date-time"},"took":{"type":"string","format":"duration"},
    "raw":{"type":"string","format":"byte"},"namespace":{"type":"string","nullable":true},
    "a-b":{"type":"string","enum":["x","yy"]},"deep":{"type":"object","properties":{"inner":{"type":"array","items":{"type":"integer"}}}}}}"#;

const OBJECT: &str = r#"{"name":"web","count":3,"ratio":2,"on":true,"port":"http","tags":["a","b"],
    "items":[{"k":"one","v":1},{"k":"two","v":2}],"labels":{"x":"1","y":"2"},"when":"2020-01-02T03:04:05Z",
    "took":"1m","raw":"aGk=","namespace":"ns","a-b":"yy","deep":{"inner":[5,6]}}"#;

/// What rules say about an object with a schema; `#` is the object.
const ABOUT_OBJECT: &[&str] = &[
    "#.name == $string",
    "#.count > $int",
    "#.ratio < $double",
    "#.on || $bool",
    "#.port == $string",
    "#.port == 80",
    "#.tags.exists(@, @ == $string)",
    "#.tags == ['b', 'a']",
    "#.tags + ['c', 'a']",
    "'a' in #.tags",
    "#.items.all(@, @.v > $int)",
    "#.items.map(@, @.k)",
    "#.items.filter(@, @.v > 1).size()",
    "#.items == #.items",
    "#.labels['x']",
    "#.labels.x",
    "#.labels.exists(@, @ == $string)",
    "has(#.labels.q)",
    "has(#.name)",
    "#.?name",
    "#.when < $timestamp",
    "#.took > $duration",
    "#.raw",
    "#.__namespace__",
    "#.namespace",
    "#.a__dash__b.size()",
    "#.deep.inner[$int]",
    "#.deep.inner.sum()",
    "#.deep.?inner[?$int].orValue($int)",
    "#.missing",
    "#.deep == #.deep",
    "#.items.exists_one(@, @.k.startsWith($string))",
    "#.tags.isSorted()",
    "#.name.replace($string, 'abc')",
    "#.tags.join($string)",
    "#.labels.all(@, #.labels[@].size() < $int)",
    "#.name.split($string).size() > $int",
    "#.items.transformMap(@, k9, k9.v)",
    "size(#.labels)",
    "#.name + $int",
    "#.tags.map(@, @.upperAscii()).join(',')",
];

/// Puts the schema and the object in the place of what stands for them in recorded questions.
pub fn expand(question: &mut Json) {
    for (name, text) in [("schema", SCHEMA), ("object", OBJECT)] {
        if question[name] == json!("$") {
            question[name] = serde_json::from_str(text).unwrap();
        }
    }
}

/// One edit somewhere: the rest cut off, a token put in, a character taken out.
fn damage(rng: &mut Rng, expr: &mut String, tokens: &[&str]) {
    let Some(at) = (0..9).map(|_| rng.below(expr.len().max(1))).find(|at| expr.is_char_boundary(*at)) else {
        return;
    };
    match rng.below(3) {
        0 => expr.truncate(at.max(expr.chars().next().map_or(0, char::len_utf8))),
        1 => expr.insert_str(at, rng.pick(tokens)),
        _ => {
            let character = expr[at..].chars().next().map_or(0, char::len_utf8);
            drop(expr.drain(at..at + character));
        }
    }
}

/// Tokens put where they do not belong.
const STRAY: &[&str] = &[
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ",",
    ".",
    "?",
    ":",
    "!",
    "-",
    "+",
    "*",
    "==",
    "in",
    "&&",
    "||",
    " a ",
    "1",
    "2.5",
    "'s'",
    "true",
    "null",
    "`a-b`",
    "#",
    "'",
    "x.all(y, y)",
    "has(a.b)",
    "if",
    "a.b{c: 1}",
    "!!",
    "--",
    "?.",
    "[?",
    "{?",
    "@",
];

/// A question about a broken text: one of `sources` with up to three edits.
pub fn broken(seed: u64, sources: &[String]) -> Json {
    let mut rng = Rng(seed);
    let mut expr = sources[rng.below(sources.len())].clone();
    for _ in 0..=rng.below(3) {
        damage(&mut rng, &mut expr, STRAY);
    }
    json!({"expr": expr, "bind": true})
}

/// The question a seed stands for.
pub fn question(seed: u64) -> Json {
    let mut rng = Rng(seed);
    let depth = 1 + rng.below(4);
    let fill = |rng: &mut Rng, template: &str| {
        let mut out = String::new();
        let mut rest = template;
        while let Some(at) = rest.find('$') {
            out.push_str(&rest[..at]);
            let end =
                rest[at + 1..].find(|c: char| !c.is_ascii_lowercase()).map_or(rest.len(), |n| at + 1 + n);
            out.push_str(&format!("({})", expression(rng, &rest[at + 1..end], depth - 1, &[])));
            rest = &rest[end..];
        }
        out + rest
    };
    match rng.below(4) {
        0 => {
            let template = ABOUT_OBJECT[rng.below(ABOUT_OBJECT.len())].replace('@', "e");
            let expr = fill(&mut rng, &template.replace('#', "self"));
            json!({"expr": expr, "schema": "$", "object": "$", "bind": true})
        }
        1 => {
            let template = ABOUT_OBJECT[rng.below(ABOUT_OBJECT.len())].replace('@', "e");
            let expr = fill(&mut rng, &template.replace('#', "object"));
            json!({"expr": expr, "object": "$", "bind": true})
        }
        _ => {
            let kind = rng.pick(KINDS);
            let mut expr = expression(&mut rng, kind, depth, &[]);
            // Now and then broken text.
            if rng.below(25) == 0 && expr.len() > 2 {
                damage(&mut rng, &mut expr, &["(", ")", "]", ",", "+", " a ", "#", "'", ".", "?", "!"]);
            }
            json!({"expr": expr, "bind": true})
        }
    }
}
