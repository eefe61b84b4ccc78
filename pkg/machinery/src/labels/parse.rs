//! The text form of label selectors: `a=b,c!=d,e in (f,g),!h,i>5`.

use super::{Error, Operator, Requirement, Selector, Str};
use crate::{content, golang};
use std::collections::BTreeSet;

/// The binary operators, in the order in which upstream lists them in errors.
const BINARY: &str = "in, notin, =, ==, !=, gt, lt";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Error,
    End,
    Close,
    Comma,
    Not,
    DoubleEquals,
    Equals,
    Greater,
    Identifier,
    In,
    Less,
    NotEquals,
    NotIn,
    Open,
}

fn keyword(text: &[u8]) -> Option<Token> {
    Some(match text {
        b")" => Token::Close,
        b"," => Token::Comma,
        b"!" => Token::Not,
        b"==" => Token::DoubleEquals,
        b"=" => Token::Equals,
        b">" => Token::Greater,
        b"in" => Token::In,
        b"<" => Token::Less,
        b"!=" => Token::NotEquals,
        b"notin" => Token::NotIn,
        b"(" => Token::Open,
        _ => return None,
    })
}

fn is_space(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\r' | b'\n')
}

fn is_special(b: u8) -> bool {
    matches!(b, b'=' | b'!' | b'(' | b')' | b',' | b'>' | b'<')
}

/// Splits the text. A NUL byte ends it, as in upstream's lexer.
fn lex(text: &str) -> Vec<(Token, String)> {
    let text = text.split('\0').next().unwrap_or_default();
    let bytes = text.as_bytes();
    let mut out = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        if is_space(bytes[at]) {
            at += 1;
            continue;
        }
        let rest = &bytes[at..];
        if is_special(rest[0]) {
            let run = rest.iter().take_while(|b| is_special(**b)).count();
            // The longest prefix that is a token, if the ones before it were tokens too.
            let len = (1..=run).take_while(|n| keyword(&rest[..*n]).is_some()).last();
            match len {
                Some(n) => {
                    let token = keyword(&rest[..n]).unwrap_or(Token::Error);
                    out.push((token, text[at..at + n].to_owned()));
                    at += n;
                }
                None => {
                    out.push((
                        Token::Error,
                        format!("error expected: keyword found '{}'", &text[at..at + run]),
                    ));
                    at += run;
                }
            }
        } else {
            let n = rest.iter().take_while(|b| !is_special(**b) && !is_space(**b)).count();
            let word = &text[at..at + n];
            out.push((keyword(word.as_bytes()).unwrap_or(Token::Identifier), word.to_owned()));
            at += n;
        }
    }
    out.push((Token::End, String::new()));
    out
}

/// Whether `in` and `notin` are operators here or plain words.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Context {
    Operator,
    Values,
}

struct Parser {
    items: Vec<(Token, String)>,
    at: usize,
}

fn expected<T>(found: &str, what: &str) -> Result<T, Error> {
    Err(Error(format!("found '{found}', expected: {what}")))
}

impl Parser {
    fn look(&self, context: Context) -> (Token, String) {
        // Past the end the last token, which is End, stays.
        let at = self.at.min(self.items.len() - 1);
        let (token, text) = &self.items[at];
        let word = context == Context::Values && matches!(token, Token::In | Token::NotIn);
        (if word { Token::Identifier } else { *token }, text.clone())
    }

    fn next(&mut self, context: Context) -> (Token, String) {
        let item = self.look(context);
        self.at += 1;
        item
    }

    fn selector(&mut self) -> Result<Vec<Requirement>, Error> {
        let mut out = Vec::new();
        loop {
            let (token, text) = self.look(Context::Values);
            match token {
                Token::Identifier | Token::Not => {
                    let r = self.requirement();
                    out.push(r.map_err(|e| Error(format!("unable to parse requirement: {e}")))?);
                    let (token, text) = self.next(Context::Values);
                    match token {
                        Token::End => return Ok(out),
                        Token::Comma => {
                            let (next, text) = self.look(Context::Values);
                            if next != Token::Identifier && next != Token::Not {
                                return expected(&text, "identifier after ','");
                            }
                        }
                        _ => return expected(&text, "',' or 'end of string'"),
                    }
                }
                Token::End => return Ok(out),
                _ => return expected(&text, "!, identifier, or 'end of string'"),
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, Error> {
        let (mut token, mut key) = self.next(Context::Values);
        let negated = token == Token::Not;
        if negated {
            (token, key) = self.next(Context::Values);
        }
        if token != Token::Identifier {
            return expected(&key, "identifier");
        }
        if let Some(e) = key_error(&key, "<nil>") {
            return Err(Error(e));
        }
        let alone = matches!(self.look(Context::Values).0, Token::End | Token::Comma);
        if negated {
            return Requirement::new(&key, Operator::DoesNotExist, Vec::new());
        }
        if alone {
            return Requirement::new(&key, Operator::Exists, Vec::new());
        }
        let operator = self.operator()?;
        let values = match operator {
            Operator::In | Operator::NotIn => self.values()?,
            _ => self.exact_value()?,
        };
        Requirement::new(&key, operator, values.into_iter().map(Str::from).collect())
    }

    fn operator(&mut self) -> Result<Operator, Error> {
        let (token, text) = self.next(Context::Operator);
        Ok(match token {
            Token::In => Operator::In,
            Token::Equals => Operator::Equals,
            Token::DoubleEquals => Operator::DoubleEquals,
            Token::Greater => Operator::GreaterThan,
            Token::Less => Operator::LessThan,
            Token::NotIn => Operator::NotIn,
            Token::NotEquals => Operator::NotEquals,
            _ => return expected(&text, BINARY),
        })
    }

    fn values(&mut self) -> Result<BTreeSet<String>, Error> {
        let (token, text) = self.next(Context::Values);
        if token != Token::Open {
            return Err(Error(format!("found '{text}' expected: '('")));
        }
        let (token, text) = self.look(Context::Values);
        match token {
            Token::Identifier | Token::Comma => {
                let values = self.identifiers()?;
                match self.next(Context::Values).0 {
                    Token::Close => Ok(values),
                    _ => expected(&text, "')'"),
                }
            }
            Token::Close => {
                self.at += 1;
                Ok(BTreeSet::from([String::new()]))
            }
            _ => expected(&text, "',', ')' or identifier"),
        }
    }

    fn identifiers(&mut self) -> Result<BTreeSet<String>, Error> {
        let mut out = BTreeSet::new();
        loop {
            let (token, text) = self.next(Context::Values);
            match token {
                Token::Identifier => {
                    out.insert(text);
                    let (token, text) = self.look(Context::Values);
                    match token {
                        Token::Comma => {}
                        Token::Close => return Ok(out),
                        _ => return expected(&text, "',' or ')'"),
                    }
                }
                Token::Comma => {
                    if out.is_empty() {
                        out.insert(String::new());
                    }
                    match self.look(Context::Values).0 {
                        Token::Close => {
                            out.insert(String::new());
                            return Ok(out);
                        }
                        Token::Comma => {
                            out.insert(String::new());
                        }
                        _ => {}
                    }
                }
                _ => return expected(&text, "',', or identifier"),
            }
        }
    }

    fn exact_value(&mut self) -> Result<BTreeSet<String>, Error> {
        if matches!(self.look(Context::Values).0, Token::End | Token::Comma) {
            return Ok(BTreeSet::from([String::new()]));
        }
        let (token, text) = self.next(Context::Values);
        match token {
            Token::Identifier => Ok(BTreeSet::from([text])),
            _ => expected(&text, "identifier"),
        }
    }
}

/// What is wrong with a label key, as a field error at `path`.
pub(super) fn key_error(key: &str, path: &str) -> Option<String> {
    let errs = content::qualified_name(key);
    let text = || format!("{path}: Invalid value: {}: {}", golang::quote(key), errs.join("; "));
    (!errs.is_empty()).then(text)
}

/// Reads the text form, as in the `labelSelector` query parameter. The empty text matches everything.
pub fn parse(text: &str) -> Result<Selector, Error> {
    let mut parser = Parser { items: lex(text), at: 0 };
    Ok(Selector::new(parser.selector()?))
}
