//! Regular expressions as Go's `regexp` reads them, run by an engine with the same guarantees.

use regex::Regex;

/// A `pattern`.
#[derive(Clone, Debug)]
pub struct Pattern {
    /// As written.
    pub source: String,
    regex: Result<Regex, String>,
}

/// Compiled expressions larger than this are refused: upstream bounds repetitions, and so the size, alike.
const SIZE_LIMIT: usize = 10 << 20;

impl Pattern {
    /// Compiles an expression; one that cannot be is kept with its error.
    pub fn new(source: &str) -> Pattern {
        if let Some(operator) = nested_repetition(source) {
            let why = format!("error parsing regexp: invalid nested repetition operator: `{operator}`");
            return Pattern { source: source.to_owned(), regex: Err(why) };
        }
        let regex = regex::RegexBuilder::new(&translate(source)).size_limit(SIZE_LIMIT).build();
        Pattern { source: source.to_owned(), regex: regex.map_err(|e| explain(source, &e)) }
    }

    /// Why it cannot be used.
    pub fn error(&self) -> Option<&str> {
        self.regex.as_ref().err().map(String::as_str)
    }

    /// Whether it matches somewhere; one that cannot be used matches nothing.
    pub fn is_match(&self, text: &str) -> bool {
        self.regex.as_ref().is_ok_and(|r| r.is_match(text))
    }
}

/// A repetition of a repetition (`a**`), which Go refuses.
fn nested_repetition(source: &str) -> Option<String> {
    let bytes = source.as_bytes();
    let (mut at, mut in_class, mut last) = (0, false, None::<usize>);
    while at < bytes.len() {
        let (from, repeats) = (at, !in_class && repetition_len(&source[at..]) > 0);
        match bytes[at] {
            b'\\' => at += 1 + source[at + 1..].chars().next().map_or(0, char::len_utf8),
            b'[' if !in_class => {
                in_class = true;
                at += 1;
                // The first bracket of a class stands for itself.
                at += usize::from(bytes.get(at) == Some(&b'^'));
                at += usize::from(bytes.get(at) == Some(&b']'));
            }
            b']' if in_class => {
                in_class = false;
                at += 1;
            }
            _ if repeats => {
                at += repetition_len(&source[at..]);
                at += usize::from(bytes.get(at) == Some(&b'?'));
                if let Some(start) = last {
                    return source.get(start..at).map(str::to_owned);
                }
            }
            _ => at += source[at..].chars().next().map_or(1, char::len_utf8),
        }
        // A question mark after a bracket opens a flag, not a repetition.
        last = (repeats && bytes.get(from.wrapping_sub(1)) != Some(&b'(')).then_some(from);
    }
    None
}

/// How long the repetition operator at the start is, without the mark of laziness.
fn repetition_len(text: &str) -> usize {
    match text.as_bytes().first() {
        Some(b'*' | b'+' | b'?') => 1,
        Some(b'{') => {
            let end = text.find('}').unwrap_or_default();
            let inner = text.get(1..end).unwrap_or_default();
            let counts = inner.starts_with(|c: char| c.is_ascii_digit())
                && inner.bytes().all(|b| b.is_ascii_digit() || b == b',');
            if counts { end + 1 } else { 0 }
        }
        _ => 0,
    }
}

/// Go's wording of the commonest mistake, else the engine's own in one line.
fn explain(source: &str, error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
    let go = match last {
        "unclosed group" => format!("missing closing ): `{source}`"),
        "unopened group" => format!("unexpected ): `{source}`"),
        "unclosed character class" => {
            let at = source.rfind('[').unwrap_or_default();
            format!("missing closing ]: `{}`", source.get(at..).unwrap_or_default())
        }
        "repetition operator missing expression" => {
            let at = source.find(['*', '+', '?']).unwrap_or_default();
            format!("missing argument to repetition operator: `{}`", source.get(at..=at).unwrap_or_default())
        }
        other => format!("{other}: `{source}`"),
    };
    format!("error parsing regexp: {go}")
}

/// Go's Perl classes and word boundaries are ASCII only, and it knows `\Q...\E`.
fn translate(source: &str) -> String {
    let mut out = String::with_capacity(source.len() + 16);
    let mut chars = source.chars().peekable();
    let mut in_class = false;
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('Q') => quote_literal(&mut chars, &mut out),
                Some(escaped) => push_escape(escaped, in_class, &mut out),
                None => out.push('\\'),
            },
            '[' if !in_class => {
                in_class = true;
                out.push('[');
                if chars.peek() == Some(&'^') {
                    out.extend(chars.next());
                }
                // A bracket that comes first stands for itself.
                if chars.peek() == Some(&']') {
                    chars.next();
                    out.push_str("\\]");
                }
            }
            // Inside a class Go knows neither nesting nor set operations, only `[:name:]`.
            '[' if chars.peek() != Some(&':') => out.push_str("\\["),
            '[' => {
                out.push('[');
                for c in chars.by_ref() {
                    out.push(c);
                    if c == ']' {
                        break;
                    }
                }
            }
            ']' => {
                in_class = false;
                out.push(']');
            }
            '&' | '~' if in_class => out.extend(['\\', c]),
            _ => out.push(c),
        }
    }
    out
}

fn push_escape(escaped: char, in_class: bool, out: &mut String) {
    let (plain, class) = match escaped {
        'd' => ("[0-9]", "0-9"),
        'D' => ("[^0-9]", "[^0-9]"),
        'w' => ("[0-9A-Za-z_]", "0-9A-Za-z_"),
        'W' => ("[^0-9A-Za-z_]", "[^0-9A-Za-z_]"),
        's' => ("[\\t\\n\\x0c\\r ]", "\\t\\n\\x0c\\r "),
        'S' => ("[^\\t\\n\\x0c\\r ]", "[^\\t\\n\\x0c\\r ]"),
        'b' if !in_class => ("(?-u:\\b)", ""),
        'B' if !in_class => ("(?-u:\\B)", ""),
        other => {
            out.extend(['\\', other]);
            return;
        }
    };
    out.push_str(if in_class { class } else { plain });
}

fn quote_literal(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, out: &mut String) {
    while let Some(c) = chars.next() {
        if c == '\\' && chars.peek() == Some(&'E') {
            chars.next();
            return;
        }
        out.push_str(&regex::escape(c.encode_utf8(&mut [0; 4])));
    }
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    #[test]
    fn reads_go_syntax() {
        for (source, text, want) in [
            (r"^\d+$", "12", true),
            (r"^\d+$", "١", false),
            (r"^[\w-]+$", "a-b", true),
            (r"^[^\s]+$", "a b", false),
            (r"^\Qa.b\E$", "a.b", true),
            (r"^\Qa.b\E$", "axb", false),
            (r"^[a&&b]+$", "&", true),
            (r"^[]a]+$", "]", true),
            (r"^[[:alpha:]]$", "x", true),
        ] {
            assert_eq!(Pattern::new(source).is_match(text), want, "{source} {text}");
        }
        assert!(Pattern::new("(a").error().is_some());
        let nested = |source: &str| Pattern::new(source).error().unwrap_or_default().to_owned();
        assert!(nested("a**").ends_with("`**`"));
        assert!(nested("a{2}+").ends_with("`{2}+`"));
        for fine in ["a*?", "(?:a)+", "[*+]+", r"\*+", "(a*)*", "(?i)x?"] {
            assert_eq!(nested(fine), "", "{fine}");
        }
    }
}
