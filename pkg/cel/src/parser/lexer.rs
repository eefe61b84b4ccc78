//! Tokens of the language, by longest match as upstream's generated lexer.

use crate::source::Reporter;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum T {
    Eof,
    Equals,
    NotEquals,
    In,
    Less,
    LessEquals,
    GreaterEquals,
    Greater,
    And,
    Or,
    LBracket,
    RBracket,
    LBrace,
    RBrace,
    LParen,
    RParen,
    Dot,
    Comma,
    Minus,
    Exclam,
    Question,
    Colon,
    Plus,
    Star,
    Slash,
    Percent,
    True,
    False,
    Null,
    Float,
    Int,
    Uint,
    String,
    Bytes,
    Ident,
    EscIdent,
}

impl T {
    /// The token as error texts name it in lists of what was expected.
    pub fn display(self) -> &'static str {
        match self {
            T::Eof => "<EOF>",
            T::Equals => "'=='",
            T::NotEquals => "'!='",
            T::In => "'in'",
            T::Less => "'<'",
            T::LessEquals => "'<='",
            T::GreaterEquals => "'>='",
            T::Greater => "'>'",
            T::And => "'&&'",
            T::Or => "'||'",
            T::LBracket => "'['",
            T::RBracket => "']'",
            T::LBrace => "'{'",
            T::RBrace => "'}'",
            T::LParen => "'('",
            T::RParen => "')'",
            T::Dot => "'.'",
            T::Comma => "','",
            T::Minus => "'-'",
            T::Exclam => "'!'",
            T::Question => "'?'",
            T::Colon => "':'",
            T::Plus => "'+'",
            T::Star => "'*'",
            T::Slash => "'/'",
            T::Percent => "'%'",
            T::True => "'true'",
            T::False => "'false'",
            T::Null => "'null'",
            T::Float => "NUM_FLOAT",
            T::Int => "NUM_INT",
            T::Uint => "NUM_UINT",
            T::String => "STRING",
            T::Bytes => "BYTES",
            T::Ident => "IDENTIFIER",
            T::EscIdent => "ESC_IDENTIFIER",
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Token<'s> {
    pub kind: T,
    pub text: &'s str,
    /// In code points.
    pub offset: u32,
    /// In bytes.
    pub start: usize,
}

struct Lexer<'s> {
    text: &'s str,
    pos: usize,
    offset: u32,
}

/// All tokens, ending with end of file. What is no token is reported and left out.
pub(crate) fn lex<'s>(text: &'s str, errors: &mut Reporter) -> Vec<Token<'s>> {
    let mut lexer = Lexer { text, pos: 0, offset: 0 };
    let mut tokens = Vec::with_capacity(text.len() / 3 + 1);
    loop {
        lexer.skip_hidden();
        let rest = lexer.rest();
        if rest.is_empty() {
            tokens.push(Token { kind: T::Eof, text: "<EOF>", offset: lexer.offset, start: lexer.pos });
            return tokens;
        }
        match scan(rest) {
            Ok((kind, len)) => {
                tokens.push(Token { kind, text: &rest[..len], offset: lexer.offset, start: lexer.pos });
                lexer.advance(len);
            }
            Err(stuck) => {
                let end = rest[stuck..].chars().next().map_or(stuck, |c| stuck + c.len_utf8());
                let shown = &rest[..end];
                errors.report(
                    Some(lexer.offset),
                    format!("Syntax error: token recognition error at: '{shown}'"),
                );
                lexer.advance(end);
            }
        }
    }
}

impl<'s> Lexer<'s> {
    fn rest(&self) -> &'s str {
        &self.text[self.pos..]
    }

    fn advance(&mut self, len: usize) {
        self.offset += self.text[self.pos..self.pos + len].chars().count() as u32;
        self.pos += len;
    }

    fn skip_hidden(&mut self) {
        loop {
            let rest = self.rest();
            let blank = rest.find(|c| !matches!(c, '\t' | ' ' | '\r' | '\n' | '\u{c}')).unwrap_or(rest.len());
            self.advance(blank);
            if !self.rest().starts_with("//") {
                return;
            }
            let line = self.rest().find('\n').unwrap_or(self.rest().len());
            self.advance(line);
        }
    }
}

fn symbol(b: &[u8]) -> Result<(T, usize), usize> {
    let next = b.get(1).copied();
    Ok(match b[0] {
        b'=' if next == Some(b'=') => (T::Equals, 2),
        b'!' if next == Some(b'=') => (T::NotEquals, 2),
        b'<' if next == Some(b'=') => (T::LessEquals, 2),
        b'>' if next == Some(b'=') => (T::GreaterEquals, 2),
        b'&' if next == Some(b'&') => (T::And, 2),
        b'|' if next == Some(b'|') => (T::Or, 2),
        b'=' | b'&' | b'|' => return Err(1),
        b'<' => (T::Less, 1),
        b'>' => (T::Greater, 1),
        b'[' => (T::LBracket, 1),
        b']' => (T::RBracket, 1),
        b'{' => (T::LBrace, 1),
        b'}' => (T::RBrace, 1),
        b'(' => (T::LParen, 1),
        b')' => (T::RParen, 1),
        b'.' => (T::Dot, 1),
        b',' => (T::Comma, 1),
        b'-' => (T::Minus, 1),
        b'!' => (T::Exclam, 1),
        b'?' => (T::Question, 1),
        b':' => (T::Colon, 1),
        b'+' => (T::Plus, 1),
        b'*' => (T::Star, 1),
        b'/' => (T::Slash, 1),
        b'%' => (T::Percent, 1),
        _ => return Err(0),
    })
}

/// The token at the start of `rest`, or the index of the character no token can contain.
fn scan(rest: &str) -> Result<(T, usize), usize> {
    let b = rest.as_bytes();
    match b[0] {
        b'0'..=b'9' => Ok(number(b)),
        b'.' if b.get(1).is_some_and(u8::is_ascii_digit) => Ok(number(b)),
        b'"' | b'\'' => string(rest, 0, false).map(|end| (T::String, end)),
        b'`' => escaped_ident(b),
        b'_' | b'a'..=b'z' | b'A'..=b'Z' => Ok(word(rest)),
        _ => symbol(b),
    }
}

fn digits(b: &[u8], from: usize) -> usize {
    b[from..].iter().position(|c| !c.is_ascii_digit()).map_or(b.len(), |n| from + n)
}

fn number(b: &[u8]) -> (T, usize) {
    if b.starts_with(b"0x") && b.get(2).is_some_and(u8::is_ascii_hexdigit) {
        let end = b[2..].iter().position(|c| !c.is_ascii_hexdigit()).map_or(b.len(), |n| n + 2);
        return if matches!(b.get(end), Some(b'u' | b'U')) { (T::Uint, end + 1) } else { (T::Int, end) };
    }
    let whole = digits(b, 0);
    let mut end = whole;
    let mut float = false;
    if b.get(end) == Some(&b'.') && b.get(end + 1).is_some_and(u8::is_ascii_digit) {
        end = digits(b, end + 1);
        float = true;
    }
    if matches!(b.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(b.get(end + 1), Some(b'+' | b'-')));
        if b.get(end + 1 + sign).is_some_and(u8::is_ascii_digit) {
            end = digits(b, end + 1 + sign);
            float = true;
        }
    }
    if float {
        (T::Float, end)
    } else if matches!(b.get(end), Some(b'u' | b'U')) {
        (T::Uint, end + 1)
    } else {
        (T::Int, end)
    }
}

fn escaped_ident(b: &[u8]) -> Result<(T, usize), usize> {
    let ok = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'.' | b'-' | b'/' | b' ');
    let end = b[1..].iter().position(|c| !ok(*c)).map_or(b.len(), |n| n + 1);
    if end > 1 && b.get(end) == Some(&b'`') { Ok((T::EscIdent, end + 1)) } else { Err(end) }
}

fn word(rest: &str) -> (T, usize) {
    let b = rest.as_bytes();
    let end = b.iter().position(|c| !(c.is_ascii_alphanumeric() || *c == b'_')).unwrap_or(b.len());
    // r"", b"", br"" and their upper-case forms; an identifier of the same length wins only if no quote follows.
    let (bytes, raw, prefix) = match (b[0].to_ascii_lowercase(), b.get(1).map(u8::to_ascii_lowercase)) {
        (b'b', Some(b'r')) => (true, true, 2),
        (b'b', _) => (true, false, 1),
        (b'r', _) => (false, true, 1),
        _ => (false, false, 0),
    };
    if prefix == end
        && matches!(b.get(prefix), Some(b'"' | b'\''))
        && let Ok(len) = string(rest, prefix, raw)
    {
        return (if bytes { T::Bytes } else { T::String }, len);
    }
    let kind = match &rest[..end] {
        "in" => T::In,
        "true" => T::True,
        "false" => T::False,
        "null" => T::Null,
        _ => T::Ident,
    };
    (kind, end)
}

/// End of the string literal whose quote is at `at`; triple quotes if they close, else the longest single-quoted.
fn string(rest: &str, at: usize, raw: bool) -> Result<usize, usize> {
    let b = rest.as_bytes();
    let quote = b[at];
    let triple = [quote; 3];
    if b[at..].starts_with(&triple) {
        match quoted(b, at + 3, &triple, raw, true) {
            Ok(end) => return Ok(end),
            // `""` followed by a quote that never closes is an empty string and whatever follows.
            Err(_) => return Ok(at + 2),
        }
    }
    quoted(b, at + 1, &triple[..1], raw, false)
}

fn quoted(b: &[u8], from: usize, close: &[u8], raw: bool, lines: bool) -> Result<usize, usize> {
    let mut i = from;
    loop {
        let Some(c) = b.get(i) else { return Err(b.len()) };
        if b[i..].starts_with(close) {
            return Ok(i + close.len());
        }
        match c {
            b'\\' if !raw => i = escape(b, i)?,
            b'\n' | b'\r' if !lines => return Err(i),
            _ => i += 1,
        }
    }
}

/// End of the escape sequence at `at`, or where it goes wrong.
fn escape(b: &[u8], at: usize) -> Result<usize, usize> {
    let run = |n: usize, ok: fn(&u8) -> bool| {
        (at + 2..at + 2 + n).find(|i| !b.get(*i).is_some_and(ok)).map_or(Ok(at + 2 + n), Err)
    };
    let octal = |c: &u8| matches!(c, b'0'..=b'7');
    let end = match b.get(at + 1) {
        Some(b'a' | b'b' | b'f' | b'n' | b'r' | b't' | b'v' | b'"' | b'\'' | b'\\' | b'?' | b'`') => {
            Ok(at + 2)
        }
        Some(b'x' | b'X') => run(2, u8::is_ascii_hexdigit),
        Some(b'u') => run(4, u8::is_ascii_hexdigit),
        Some(b'U') => run(8, u8::is_ascii_hexdigit),
        Some(b'0'..=b'3') => run(2, octal),
        _ => Err(at + 1),
    };
    end.map_err(|i| i.min(b.len()))
}
