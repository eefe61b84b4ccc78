//! Patterns as Go's `regexp` reads them, run by the `regex` crate. Both match in linear time.
//!
//! A pattern is read once, checked by Go's rules (with Go's error texts) and rewritten where the crate's syntax
//! means something else: Perl classes are ASCII, `\Q...\E` is literal, `\<` is a plain `<`, a brace that starts no
//! repetition stands for itself, classes know no set operations, and there is no `(?x)`.

use machinery::golang::quote;
use regex::Regex;

#[derive(Clone, Debug)]
pub(crate) struct Regexp(Regex);

/// Groups within groups; Go stops at 1,000 levels of its tree.
const MAX_NESTING: usize = 250;
/// Compiled size. Go limits programs to about the same.
const MAX_SIZE: usize = 10 << 20;

impl Regexp {
    /// Compiles; the error is Go's text.
    pub fn new(pattern: &str) -> Result<Regexp, String> {
        let translated = Reader::new(pattern).read().map_err(|(what, at)| {
            let shown = at.map(|s| format!(": `{s}`")).unwrap_or_default();
            format!("error parsing regexp: {what}{shown}")
        })?;
        let built = regex::RegexBuilder::new(&translated).size_limit(MAX_SIZE).nest_limit(1000).build();
        built.map(Regexp).map_err(|e| match e {
            regex::Error::CompiledTooBig(_) => "error parsing regexp: expression too large".into(),
            _ => format!("error parsing regexp: invalid or unsupported Perl syntax: {}", quote(pattern)),
        })
    }

    pub fn is_match(&self, text: &str) -> bool {
        self.0.is_match(text)
    }

    /// The leftmost match, or nothing.
    pub fn find<'t>(&self, text: &'t str) -> &'t str {
        self.0.find(text).map_or("", |m| m.as_str())
    }

    /// All matches, at most `limit` of them unless it is negative. An empty match right after another is skipped.
    pub fn find_all<'t>(&self, text: &'t str, limit: i64) -> Vec<&'t str> {
        let mut out = Vec::new();
        let mut end = None;
        for m in self.0.find_iter(text) {
            if usize::try_from(limit).is_ok_and(|limit| out.len() >= limit) {
                break;
            }
            if !(m.is_empty() && end == Some(m.start())) {
                out.push(m.as_str());
            }
            end = Some(m.end());
        }
        out
    }
}

type Failure<'p> = (&'static str, Option<&'p str>);
type Checked<'p, T> = Result<T, Failure<'p>>;

const BAD_ESCAPE: &str = "invalid escape sequence";
const BAD_CLASS_RANGE: &str = "invalid character class range";
const MISSING_BRACKET: &str = "missing closing ]";
const BAD_PERL: &str = "invalid or unsupported Perl syntax";
const BAD_REPEAT: &str = "invalid repeat count";

struct Reader<'p> {
    pattern: &'p str,
    rest: &'p str,
    out: String,
    /// For each open group, whether flags set inside end with it.
    open: usize,
    names: Vec<&'p str>,
}

impl<'p> Reader<'p> {
    fn new(pattern: &'p str) -> Self {
        Reader {
            pattern,
            rest: pattern,
            out: String::with_capacity(pattern.len()),
            open: 0,
            names: Vec::new(),
        }
    }

    fn read(mut self) -> Checked<'p, String> {
        // Where the last repetition operator started, while another may not follow.
        let mut repeated: Option<&'p str> = None;
        let mut operand = false;
        while let Some(c) = self.rest.chars().next() {
            let before = self.rest;
            let mut next_repeated = None;
            match c {
                '(' => {
                    self.group()?;
                    operand = false;
                }
                ')' => {
                    if self.open == 0 {
                        return Err(("unexpected )", Some(self.pattern)));
                    }
                    self.open -= 1;
                    self.take(1);
                    operand = true;
                }
                '|' => {
                    self.take(1);
                    operand = false;
                }
                '*' | '+' | '?' => {
                    self.repetition(1, before, operand, repeated)?;
                    next_repeated = Some(repeated.unwrap_or(before));
                }
                '{' => match repeat_count(self.rest) {
                    None => {
                        self.out.push_str("\\{");
                        self.rest = &self.rest[1..];
                        operand = true;
                    }
                    Some((length, low, high)) => {
                        if low > 1000 || high.is_some_and(|h| h > 1000 || h < low) {
                            return Err((BAD_REPEAT, Some(&before[..length])));
                        }
                        self.repetition(length, before, operand, repeated)?;
                        next_repeated = Some(before);
                    }
                },
                '[' => {
                    self.class()?;
                    operand = true;
                }
                '\\' => {
                    self.escape()?;
                    operand = true;
                }
                '}' | ']' => {
                    self.out.push('\\');
                    self.take(1);
                    operand = true;
                }
                _ => {
                    self.take(c.len_utf8());
                    operand = true;
                }
            }
            repeated = next_repeated;
        }
        if self.open > 0 {
            return Err(("missing closing )", Some(self.pattern)));
        }
        Ok(self.out)
    }

    /// Copies `n` bytes as they are.
    fn take(&mut self, n: usize) {
        let (taken, rest) = self.rest.split_at(n);
        self.out.push_str(taken);
        self.rest = rest;
    }

    fn repetition(
        &mut self,
        length: usize,
        at: &'p str,
        operand: bool,
        repeated: Option<&'p str>,
    ) -> Checked<'p, ()> {
        if !operand {
            return Err(("missing argument to repetition operator", Some(&at[..length])));
        }
        let lazy = usize::from(at[length..].starts_with('?'));
        if let Some(first) = repeated {
            // Go shows both operators; a lazy mark belongs to its operator.
            let shown = &first[..first.len() - at.len() + length];
            return Err(("invalid nested repetition operator", Some(shown)));
        }
        self.take(length + lazy);
        Ok(())
    }

    fn group(&mut self) -> Checked<'p, ()> {
        if self.open >= MAX_NESTING {
            return Err(("expression nests too deeply", Some(self.pattern)));
        }
        let at = self.rest;
        if !at.starts_with("(?") {
            self.open += 1;
            self.take(1);
            return Ok(());
        }
        if at.starts_with("(?P<")
            || at.starts_with("(?<") && !at.starts_with("(?<=") && !at.starts_with("(?<!")
        {
            return self.named_group();
        }
        self.flags()
    }

    fn named_group(&mut self) -> Checked<'p, ()> {
        let at = self.rest;
        let start = if at.starts_with("(?P<") { 4 } else { 3 };
        let Some(end) = at.find('>') else { return Err(("invalid named capture", Some(at))) };
        let name = &at[start..end];
        let capture = &at[..=end];
        if name.is_empty() || !name.chars().all(|c| c == '_' || c.is_ascii_alphanumeric()) {
            return Err(("invalid named capture", Some(capture)));
        }
        if self.names.contains(&name) {
            return Err(("duplicate capture group name", Some(name)));
        }
        self.names.push(name);
        // Names do not matter for matching, and the crate allows fewer of them.
        self.out.push('(');
        self.open += 1;
        self.rest = &at[end + 1..];
        Ok(())
    }

    fn flags(&mut self) -> Checked<'p, ()> {
        let at = self.rest;
        let (mut minus, mut any) = (false, false);
        for (i, c) in at.char_indices().skip(2) {
            match c {
                'i' | 'm' | 's' | 'U' => any = true,
                '-' if !minus => {
                    minus = true;
                    any = false;
                }
                ':' | ')' if !minus || any => {
                    if c == ':' {
                        self.open += 1;
                    }
                    if i == 2 && c == ')' {
                        self.rest = &at[3..];
                    } else {
                        self.take(i + 1);
                    }
                    return Ok(());
                }
                _ => return Err((BAD_PERL, Some(&at[..i + c.len_utf8()]))),
            }
        }
        Err(("missing closing )", Some(self.pattern)))
    }

    fn escape(&mut self) -> Checked<'p, ()> {
        let at = self.rest;
        let Some(c) = at[1..].chars().next() else {
            return Err(("trailing backslash at end of expression", Some("")));
        };
        match c {
            'Q' => {
                let body = &at[2..];
                let (literal, rest) = body.split_once("\\E").unwrap_or((body, ""));
                self.out.push_str(&regex::escape(literal));
                self.rest = rest;
                return Ok(());
            }
            'C' => return Err((BAD_ESCAPE, Some(&at[..2]))),
            'A' | 'z' => self.out.push_str(&at[..2]),
            'b' => self.out.push_str("(?-u:\\b)"),
            'B' => self.out.push_str("(?-u:\\B)"),
            'p' | 'P' => return self.property(),
            _ => match perl_class(c) {
                Some((negated, set)) => {
                    self.out.push_str(&format!("[{}{set}]", if negated { "^" } else { "" }));
                }
                None => {
                    let (value, rest) = escaped_char(at)?;
                    self.out.push_str(&regex::escape(&value.to_string()));
                    self.rest = rest;
                    return Ok(());
                }
            },
        }
        self.rest = &at[2..];
        Ok(())
    }

    /// `\pL`, `\p{Greek}`.
    fn property(&mut self) -> Checked<'p, ()> {
        let at = self.rest;
        const BAD: &str = "invalid character class range";
        let Some(c) = at[2..].chars().next() else { return Err((BAD, Some(&at[..2]))) };
        let length = match c {
            '{' => match at.find('}') {
                Some(end) => end + 1,
                None => return Err((BAD, Some(at))),
            },
            c => 2 + c.len_utf8(),
        };
        let whole = &at[..length];
        let plain = whole.replace("{^", "{");
        let negated = plain.len() != whole.len();
        let text = if !negated {
            plain
        } else if plain.starts_with("\\p") {
            plain.replacen("\\p", "\\P", 1)
        } else {
            plain.replacen("\\P", "\\p", 1)
        };
        let known = text.replacen("\\p{Any}", "(?s:.)", 1);
        if Regex::new(&known).is_err() {
            return Err((BAD, Some(whole)));
        }
        self.out.push_str(&known);
        self.rest = &at[length..];
        Ok(())
    }

    fn class(&mut self) -> Checked<'p, ()> {
        let class = self.rest;
        self.take(1);
        if self.rest.starts_with('^') {
            self.take(1);
        }
        let mut first = true;
        loop {
            let Some(c) = self.rest.chars().next() else { return Err((MISSING_BRACKET, Some(class))) };
            if c == ']' && !first {
                self.take(1);
                return Ok(());
            }
            if c == '-' && !first && !self.rest[1..].starts_with(']') {
                // A dash in the middle must be part of a range.
                let next = self.rest[1..].chars().next().map_or(0, char::len_utf8);
                return Err((BAD_CLASS_RANGE, Some(&self.rest[..1 + next])));
            }
            first = false;
            if self.posix_or_perl(class)? {
                continue;
            }
            let range = self.rest;
            let low = self.class_char(class)?;
            let mut high = low;
            if self.rest.starts_with('-') && !self.rest[1..].starts_with(']') && self.rest.len() > 1 {
                self.rest = &self.rest[1..];
                high = self.class_char(class)?;
                if high < low {
                    let shown = &range[..range.len() - self.rest.len()];
                    return Err((BAD_CLASS_RANGE, Some(shown)));
                }
            }
            push_class_char(&mut self.out, low);
            if high != low {
                self.out.push('-');
                push_class_char(&mut self.out, high);
            }
        }
    }

    fn posix_or_perl(&mut self, class: &'p str) -> Checked<'p, bool> {
        let at = self.rest;
        if at.starts_with("[:")
            && let Some(end) = at.find(":]")
        {
            let name = &at[..end + 2];
            if Regex::new(&format!("[{name}]")).is_err() {
                return Err((BAD_CLASS_RANGE, Some(name)));
            }
            self.take(end + 2);
            return Ok(true);
        }
        if !at.starts_with('\\') {
            return Ok(false);
        }
        match at[1..].chars().next() {
            Some('p' | 'P') => {
                self.property()?;
                Ok(true)
            }
            Some(c) if perl_class(c).is_some() => {
                // Negated ones are a class within the class.
                if let Some((negated, set)) = perl_class(c) {
                    self.out.push_str(&format!("[{}{set}]", if negated { "^" } else { "" }));
                }
                self.rest = &at[2..];
                Ok(true)
            }
            None => Err((MISSING_BRACKET, Some(class))),
            _ => Ok(false),
        }
    }

    fn class_char(&mut self, class: &'p str) -> Checked<'p, char> {
        let at = self.rest;
        match at.chars().next() {
            None => Err((MISSING_BRACKET, Some(class))),
            Some('\\') => {
                let (c, rest) = escaped_char(at)?;
                self.rest = rest;
                Ok(c)
            }
            Some(c) => {
                self.rest = &at[c.len_utf8()..];
                Ok(c)
            }
        }
    }
}

fn push_class_char(out: &mut String, c: char) {
    if c.is_ascii_punctuation() {
        out.push('\\');
    }
    out.push(c);
}

fn perl_class(c: char) -> Option<(bool, &'static str)> {
    let set = match c.to_ascii_lowercase() {
        'd' => "0-9",
        's' => "\\t\\n\\x0C\\r ",
        'w' => "0-9A-Za-z_",
        _ => return None,
    };
    Some((c.is_ascii_uppercase(), set))
}

/// The counts of `{n}`, `{n,}` or `{n,m}` and its length; nothing if it is none of these.
fn repeat_count(s: &str) -> Option<(usize, u32, Option<u32>)> {
    let end = s.find('}')?;
    let body = &s[1..end];
    let number = |t: &str| {
        let plain =
            !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit()) && (t.len() == 1 || !t.starts_with('0'));
        plain.then(|| t.parse().unwrap_or(u32::MAX))
    };
    let (low, high) = match body.split_once(',') {
        None => (number(body)?, Some(number(body)?)),
        Some((low, "")) => (number(low)?, None),
        Some((low, high)) => (number(low)?, Some(number(high)?)),
    };
    Some((end + 1, low, high))
}

/// The character an escape stands for, and what follows it.
fn escaped_char(at: &str) -> Checked<'_, (char, &str)> {
    let Some(c) = at[1..].chars().next() else {
        return Err(("trailing backslash at end of expression", Some("")));
    };
    let end = 1 + c.len_utf8();
    let rest = &at[end..];
    let bad = Err((BAD_ESCAPE, Some(&at[..end])));
    let simple = match c {
        'a' => '\u{7}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\u{b}',
        '0'..='7' => return octal(at),
        'x' => return hexadecimal(at),
        c if c.is_ascii_punctuation() => c,
        _ => return bad,
    };
    Ok((simple, rest))
}

fn octal(at: &str) -> Checked<'_, (char, &str)> {
    let digits = at[1..].bytes().take(3).take_while(|b| matches!(b, b'0'..=b'7')).count();
    if !at.starts_with("\\0") && digits < 2 {
        return Err((BAD_ESCAPE, Some(&at[..2])));
    }
    let value = u32::from_str_radix(&at[1..1 + digits], 8).unwrap_or(0);
    Ok((char::from_u32(value).unwrap_or('\0'), &at[1 + digits..]))
}

fn hexadecimal(at: &str) -> Checked<'_, (char, &str)> {
    let body = &at[2..];
    if let Some(inner) = body.strip_prefix('{') {
        let end = inner.find('}');
        let value = end.and_then(|end| u32::from_str_radix(&inner[..end], 16).ok()).and_then(char::from_u32);
        return match (value, end) {
            (Some(c), Some(end)) => Ok((c, &inner[end + 1..])),
            (_, end) => Err((BAD_ESCAPE, Some(&at[..end.map_or(at.len(), |end| end + 4)]))),
        };
    }
    let pair = body.get(..2).and_then(|d| u8::from_str_radix(d, 16).ok());
    match pair {
        Some(b) => Ok((b as char, &body[2..])),
        None => Err((BAD_ESCAPE, Some(at.get(..4).or(at.get(..3)).unwrap_or(at)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_as_go_does() {
        for (pattern, text, found) in [
            (r"\d+", "a١2", "2"),
            (r"[^\w]", "aé", "é"),
            (r"\Qa.b\E+", "a.bbb", "a.bbb"),
            (r"a{,2}", "xa{,2}", "a{,2}"),
            (r"[[a]+", "x[a[", "[a["),
            (r"\bé", " é", ""),
            (r"\<a\>", "<a>", "<a>"),
            (r"(?i)K", "k", "k"),
        ] {
            assert_eq!(Regexp::new(pattern).unwrap().find(text), found, "{pattern}");
        }
    }

    #[test]
    fn go_errors() {
        for (pattern, error) in [
            ("(", "missing closing ): `(`"),
            ("a)", "unexpected ): `a)`"),
            ("*", "missing argument to repetition operator: `*`"),
            ("a**", "invalid nested repetition operator: `**`"),
            ("[a", "missing closing ]: `[a`"),
            ("[b-a]", "invalid character class range: `b-a`"),
            ("\\", "trailing backslash at end of expression: ``"),
            ("(?x)a", "invalid or unsupported Perl syntax: `(?x`"),
            ("a{1001}", "invalid repeat count: `{1001}`"),
            ("\\8", "invalid escape sequence: `\\8`"),
        ] {
            assert_eq!(Regexp::new(pattern).unwrap_err(), format!("error parsing regexp: {error}"));
        }
    }
}
