//! The error strategy of upstream's parser runtime (antlr4-go DefaultErrorStrategy and the limits cel-go adds).

use super::lexer::T;
use super::{Parsed, Parser, Stop};

/// A set of token kinds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Set(u64);

impl Set {
    pub const EMPTY: Set = Set(0);

    pub const fn of(kinds: &[T]) -> Set {
        let mut bits = 0;
        let mut i = 0;
        while i < kinds.len() {
            bits |= 1 << kinds[i] as u64;
            i += 1;
        }
        Set(bits)
    }

    pub const fn or(self, other: Set) -> Set {
        Set(self.0 | other.0)
    }

    pub fn has(self, kind: T) -> bool {
        self.0 & (1 << kind as u64) != 0
    }
}

/// What may come after a rule.
#[derive(Clone, Copy)]
pub(super) struct Follow {
    /// After it or any rule around it: where parsing may resume.
    pub any: Set,
    /// Right after it, as things stand: what shows that a token before is only missing.
    pub next: Set,
}

impl Follow {
    pub const fn only(set: Set) -> Follow {
        Follow { any: set, next: set }
    }

    /// For a part after which `more` may come, or what comes after the whole.
    pub fn or(self, more: Set) -> Follow {
        Follow { any: self.any.or(more), next: self.next.or(more) }
    }

    /// For a part that one of `closing` must come after.
    pub fn within(self, closing: Set) -> Follow {
        Follow { any: self.any.or(closing), next: closing }
    }
}

const ALL: [T; 36] = [
    T::Eof,
    T::Equals,
    T::NotEquals,
    T::In,
    T::Less,
    T::LessEquals,
    T::GreaterEquals,
    T::Greater,
    T::And,
    T::Or,
    T::LBracket,
    T::RBracket,
    T::LBrace,
    T::RBrace,
    T::LParen,
    T::RParen,
    T::Dot,
    T::Comma,
    T::Minus,
    T::Exclam,
    T::Question,
    T::Colon,
    T::Plus,
    T::Star,
    T::Slash,
    T::Percent,
    T::True,
    T::False,
    T::Null,
    T::Float,
    T::Int,
    T::Uint,
    T::String,
    T::Bytes,
    T::Ident,
    T::EscIdent,
];

impl std::fmt::Display for Set {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = ALL.iter().filter(|t| self.has(**t)).map(|t| t.display()).collect();
        match names.as_slice() {
            [one] => f.write_str(one),
            many => write!(f, "{{{}}}", many.join(", ")),
        }
    }
}

const MAX_SYNTAX_ERRORS: usize = 100;
const MAX_ATTEMPTS: usize = 30;
const MAX_SKIPPED: usize = 256;

pub(super) struct Recovery {
    /// Between an error and the next matched token: further errors are consequences and not reported.
    active: bool,
    last_position: Option<usize>,
    last_sites: Vec<(Site, Set)>,
    /// What was expected where the last error was found: it tells places within a rule apart.
    expected: Set,
    attempts: usize,
    reported: usize,
}

/// The rule an error was caught in; the same one twice at one token means no progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Site {
    Start,
    Expr,
    Unary,
    Member,
    Primary,
    /// The arguments of a function.
    Call,
    Entry,
    Name,
}

impl Recovery {
    pub fn new(reported: usize) -> Self {
        Recovery {
            active: false,
            last_position: None,
            last_sites: Vec::new(),
            expected: Set::EMPTY,
            attempts: 0,
            reported,
        }
    }
}

impl Parser<'_, '_> {
    pub(super) fn la(&self) -> T {
        self.tokens[self.pos].kind
    }

    pub(super) fn la2(&self) -> T {
        self.tokens.get(self.pos + 1).map_or(T::Eof, |t| t.kind)
    }

    pub(super) fn at(&self) -> u32 {
        self.tokens[self.pos].offset
    }

    /// The current token's text as errors show it.
    fn shown(&self) -> String {
        let text = self.tokens[self.pos].text;
        format!("'{}'", text.replace('\n', "\\n").replace('\r', "\\r").replace('\t', "\\t"))
    }

    pub(super) fn consume(&mut self) {
        if self.pos + 1 < self.tokens.len() {
            self.pos += 1;
        }
    }

    /// Moves past a token known to be right.
    pub(super) fn accept(&mut self) {
        self.recovery.active = false;
        self.recovery.last_position = None;
        self.recovery.last_sites.clear();
        self.consume();
    }

    pub(super) fn accept_if(&mut self, kind: T) -> bool {
        let found = self.la() == kind;
        if found {
            self.accept();
        }
        found
    }

    fn syntax_error(&mut self, message: &str) -> Parsed<()> {
        if self.recovery.reported >= MAX_SYNTAX_ERRORS {
            let at = self.at();
            self.errors
                .report(Some(at), format!("Syntax error: More than {MAX_SYNTAX_ERRORS} syntax errors"));
            return Err(Stop::Abort);
        }
        self.recovery.reported += 1;
        let at = self.at();
        self.errors.report(Some(at), format!("Syntax error: {message}"));
        Ok(())
    }

    fn report(&mut self, message: &str) -> Parsed<()> {
        if self.recovery.active {
            return Ok(());
        }
        self.recovery.active = true;
        self.syntax_error(message)
    }

    fn attempt(&mut self) -> Parsed<()> {
        if self.recovery.attempts == MAX_ATTEMPTS {
            self.syntax_error(&format!("error recovery attempt limit exceeded: {MAX_ATTEMPTS}"))?;
            return Err(Stop::Abort);
        }
        self.recovery.attempts += 1;
        Ok(())
    }

    /// Reports that the current token fits none of `expected`; the rule ends.
    pub(super) fn mismatch<V>(&mut self, expected: Set) -> Parsed<V> {
        self.recovery.expected = expected;
        let message = format!("mismatched input {} expecting {expected}", self.shown());
        self.report(&message)?;
        Err(Stop::Syntax)
    }

    /// Reports tokens from `from` up to the current one that begin nothing; the rule ends.
    pub(super) fn no_viable<V>(&mut self, from: usize) -> Parsed<V> {
        self.recovery.expected = Set::EMPTY;
        let mut text = String::new();
        for i in from..=self.pos {
            let token = &self.tokens[i];
            if i > from {
                let before = &self.tokens[i - 1];
                push_hidden(&mut text, &self.text[before.start + before.text.len()..token.start]);
            }
            text.push_str(if token.kind == T::Eof { "" } else { token.text });
        }
        // Upstream rewrites this one text (parser.SyntaxError).
        let message = match text.as_str() {
            ".true" | ".false" | ".null" => format!("mismatched input '{}' expecting IDENTIFIER", &text[1..]),
            _ => {
                let text = text.replace('\n', "\\n").replace('\r', "\\r").replace('\t', "\\t");
                format!("no viable alternative at input '{text}'")
            }
        };
        self.report(&message)?;
        Err(Stop::Syntax)
    }

    fn drop_one(&mut self, expected: Set) -> Parsed<bool> {
        if !expected.has(self.la2()) {
            return Ok(false);
        }
        if !self.recovery.active {
            let message = format!("extraneous input {} expecting {expected}", self.shown());
            self.report(&message)?;
        }
        self.consume();
        self.recovery.active = false;
        Ok(true)
    }

    /// After `!`: reports a token that no operand starts with, and skips to one that does.
    pub(super) fn unwanted(&mut self, expected: Set, follow: Follow) -> Parsed<()> {
        if self.recovery.active || expected.has(self.la()) {
            return Ok(());
        }
        let message = format!("extraneous input {} expecting {expected}", self.shown());
        self.report(&message)?;
        while self.la() != T::Eof && !follow.any.or(expected).has(self.la()) {
            self.consume();
        }
        if expected.has(self.la()) { Ok(()) } else { Err(Stop::Syntax) }
    }

    /// Before a choice: lets a token pass that one of the alternatives starts with, drops a stray one, else fails.
    pub(super) fn sync(&mut self, expected: Set) -> Parsed<()> {
        if self.recovery.active || expected.has(self.la()) || self.drop_one(expected)? {
            return Ok(());
        }
        self.mismatch(expected)
    }

    /// Matches one token; `after` is what may follow it. Drops a stray token before it, or imagines it.
    pub(super) fn expect(&mut self, kind: T, after: Set) -> Parsed<()> {
        if self.accept_if(kind) {
            return Ok(());
        }
        self.attempt()?;
        let expected = Set::of(&[kind]);
        if self.drop_one(expected)? {
            self.consume();
            return Ok(());
        }
        if after.has(self.la()) {
            let message = format!("missing {} at {}", kind.display(), self.shown());
            return self.report(&message);
        }
        self.mismatch(expected)
    }

    /// After a failed rule: skips to a token one of the enclosing rules can go on with.
    pub(super) fn recover(&mut self, site: Site, follow: Follow) -> Parsed<()> {
        self.attempt()?;
        let site = (site, self.recovery.expected);
        if self.recovery.last_position == Some(self.pos) && self.recovery.last_sites.contains(&site) {
            self.consume();
        }
        if self.recovery.last_position != Some(self.pos) {
            self.recovery.last_sites.clear();
        }
        self.recovery.last_position = Some(self.pos);
        self.recovery.last_sites.push(site);
        let mut skipped = 0;
        while self.la() != T::Eof && !follow.any.has(self.la()) {
            if skipped >= MAX_SKIPPED {
                let message = format!("error recovery token lookahead limit exceeded: {MAX_SKIPPED}");
                self.errors.report(None, message);
                return Err(Stop::Abort);
            }
            skipped += 1;
            self.consume();
        }
        Ok(())
    }
}

/// White space and comments between two tokens; what was no token at all is left out.
fn push_hidden(out: &mut String, gap: &str) {
    let mut rest = gap;
    while let Some(c) = rest.chars().next() {
        let length = match c {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            // The lexer looks for a second one, and drops what it finds instead too.
            '&' | '|' | '=' => rest.chars().take(2).map(char::len_utf8).sum(),
            '"' | '\'' | '`' => rest.len(),
            c => c.len_utf8(),
        };
        if c.is_whitespace() || rest.starts_with("//") {
            out.push_str(&rest[..length]);
        }
        rest = &rest[length..];
    }
}
