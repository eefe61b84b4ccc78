//! The grammar's rules for operands: names, calls, literals, lists, maps and messages.

use super::grammar::{BRACE, BRACKET, COLON, COMMA, EXPR, PAREN, PRIMARY};
use super::lexer::T;
use super::recover::{Follow, Set, Site};
use super::{Node, Parsed, Parser, Stop, literal};
use crate::ast::{Entry, Expr, Field, Kind, Literal};
use crate::escape::RESERVED;
use crate::source::BEFORE;

const QUESTION: Set = Set::of(&[T::Question]);

impl Parser<'_, '_> {
    pub(super) fn primary(&mut self, follow: Follow) -> Parsed<Node> {
        let result = self.primary_rule(follow);
        // It is not known what it was to be: upstream then knows no place either.
        self.caught(Site::Primary, BEFORE, follow, result)
    }

    fn primary_rule(&mut self, follow: Follow) -> Parsed<Node> {
        self.sync(PRIMARY)?;
        match self.la() {
            T::Dot | T::Ident => self.named(follow),
            T::LParen => {
                self.accept();
                let inner = self.expr(follow.within(PAREN))?;
                if let Err(stop) = self.expect(T::RParen, follow.next) {
                    self.unfinished(stop, follow)?;
                }
                Ok(inner)
            }
            T::LBracket => self.list(follow),
            T::LBrace => self.map(follow),
            _ => self.literal(),
        }
    }

    /// Whether the names from here on end in an opening brace: a message.
    fn message_ahead(&self, from: usize) -> Option<usize> {
        let kind = |i: usize| self.tokens.get(i).map_or(T::Eof, |t| t.kind);
        let mut i = from;
        while kind(i) == T::Ident {
            match kind(i + 1) {
                T::LBrace => return Some(i + 1),
                T::Dot => i += 2,
                _ => return None,
            }
        }
        None
    }

    fn named(&mut self, follow: Follow) -> Parsed<Node> {
        let start = self.at();
        let leading = if self.la() == T::Dot { "." } else { "" };
        if !leading.is_empty() {
            if self.la2() != T::Ident {
                return self.not_viable();
            }
            self.accept();
        }
        if let Some(brace) = self.message_ahead(self.pos) {
            return self.message(leading, brace, follow);
        }
        let (at, text) = (self.at(), self.tokens[self.pos].text);
        self.accept();
        if self.la() != T::LParen {
            if RESERVED.contains(&text) {
                return Ok(self.error(start, format!("reserved identifier: {text}")));
            }
            return Ok(self.leaf(at, Kind::Ident(format!("{leading}{text}").into())));
        }
        let paren = self.at();
        self.accept();
        let reported = self.errors.count();
        let (args, _) = self.arguments(Site::Call, follow, follow)?;
        if RESERVED.contains(&text) {
            // Upstream then does not look at the arguments.
            self.errors.retract(reported);
            return Ok(self.error(start, format!("reserved identifier: {text}")));
        }
        let id = self.id(Some(paren));
        let depth = args.iter().map(|a| a.depth).max().unwrap_or(0);
        let args = args.into_iter().map(|a| a.expr).collect();
        let expr = self.call_or_macro(id, &format!("{leading}{text}"), None, args)?;
        Ok(Node { expr, depth })
    }

    fn message(&mut self, leading: &str, brace: usize, follow: Follow) -> Parsed<Node> {
        let names: Vec<&str> =
            self.tokens[self.pos..brace].iter().filter(|t| t.kind == T::Ident).map(|t| t.text).collect();
        let name = format!("{leading}{}", names.join("."));
        self.pos = brace;
        let at = self.at();
        self.accept();
        let keys = Set::of(&[T::Question, T::Ident, T::EscIdent]);
        if let Err(stop) = self.sync(keys.or(COMMA).or(BRACE)) {
            self.unfinished(stop, follow)?;
            return Ok(Node {
                expr: self.node(at, Kind::Struct { name: name.into(), fields: Vec::new() }),
                depth: 0,
            });
        }
        let first = self.at();
        let mut fields = Vec::new();
        let mut depth = 0;
        while keys.has(self.la()) {
            let inner = follow.within(BRACE.or(COMMA));
            match self.field(first, inner) {
                Ok((field, below)) => {
                    fields.extend(field);
                    depth = depth.max(below);
                }
                Err(Stop::Syntax) => {
                    self.recover(Site::Entry, inner)?;
                    break;
                }
                Err(Stop::Abort) => return Err(Stop::Abort),
            }
            if !(self.la() == T::Comma && keys.has(self.la2())) {
                break;
            }
            self.accept();
        }
        if let Err(stop) = self.close(T::RBrace, follow) {
            self.unfinished(stop, follow)?;
        }
        Ok(Node { expr: self.node(at, Kind::Struct { name: name.into(), fields }), depth })
    }

    fn field(&mut self, first: u32, follow: Follow) -> Parsed<(Option<Field>, u32)> {
        let at = self.at();
        let optional = self.accept_if(T::Question);
        let name = self.field_name(follow.within(COLON))?.map(str::to_owned);
        let colon = self.at();
        self.expect(T::Colon, EXPR)?;
        let id = self.id(Some(colon));
        let reported = self.errors.count();
        let value = self.expr(follow)?;
        if name.is_none() {
            // Upstream then does not look at the value.
            self.errors.retract(reported);
        }
        if optional && !self.options.optional_syntax {
            self.errors.report(Some(at), "unsupported syntax '?'");
            return Ok((None, value.depth));
        }
        let Some(name) = name else {
            self.errors.report(Some(first), "unsupported ident kind");
            return Ok((None, value.depth));
        };
        Ok((Some(Field { id, name: name.into(), value: value.expr, optional }), value.depth))
    }

    /// After an operand's end was not found: what was read of it is there all the same, for macros to look at.
    fn unfinished(&mut self, stop: Stop, follow: Follow) -> Parsed<()> {
        match stop {
            Stop::Syntax => self.recover(Site::Primary, follow),
            Stop::Abort => Err(stop),
        }
    }

    /// An optional trailing comma and the closing token.
    fn close(&mut self, kind: T, follow: Follow) -> Parsed<()> {
        self.sync(COMMA.or(Set::of(&[kind])))?;
        self.accept_if(T::Comma);
        self.expect(kind, follow.next)
    }

    fn list(&mut self, follow: Follow) -> Parsed<Node> {
        let at = self.at();
        self.accept();
        let first = EXPR.or(QUESTION);
        let id = self.id(Some(at));
        if let Err(stop) = self.sync(first.or(COMMA).or(BRACKET)) {
            self.unfinished(stop, follow)?;
            let kind = Kind::List { elements: Vec::new(), optional: Vec::new() };
            return Ok(Node { expr: Expr { id, kind }, depth: 0 });
        }
        let mut elements = Vec::new();
        let mut optional = Vec::new();
        let mut depth = 0;
        if first.has(self.la()) {
            loop {
                let mark = self.at();
                if self.accept_if(T::Question) {
                    if self.options.optional_syntax {
                        optional.push(elements.len() as u32);
                    } else {
                        self.errors.report(Some(mark), "unsupported syntax '?'");
                    }
                }
                let element = self.expr(follow.within(BRACKET.or(COMMA)))?;
                depth = depth.max(element.depth);
                elements.push(element.expr);
                if !(self.la() == T::Comma && first.has(self.la2())) {
                    break;
                }
                self.accept();
            }
        }
        if let Err(stop) = self.close(T::RBracket, follow) {
            self.unfinished(stop, follow)?;
        }
        Ok(Node { expr: Expr { id, kind: Kind::List { elements, optional } }, depth })
    }

    fn map(&mut self, follow: Follow) -> Parsed<Node> {
        let at = self.at();
        self.accept();
        let first = EXPR.or(QUESTION);
        let id = self.id(Some(at));
        if let Err(stop) = self.sync(first.or(COMMA).or(BRACE)) {
            self.unfinished(stop, follow)?;
            return Ok(Node { expr: Expr { id, kind: Kind::Map(Vec::new()) }, depth: 0 });
        }
        let mut entries = Vec::new();
        let mut depth = 0;
        if first.has(self.la()) {
            loop {
                let inner = follow.within(BRACE.or(COMMA));
                let reported = self.errors.count();
                match self.map_entry(inner) {
                    Ok((entry, below)) => {
                        entries.push(entry);
                        depth = depth.max(below);
                    }
                    Err(Stop::Syntax) => {
                        // Upstream does not look at entries that are incomplete.
                        self.errors.retract(reported);
                        self.recover(Site::Entry, inner)?;
                        break;
                    }
                    Err(Stop::Abort) => return Err(Stop::Abort),
                }
                if !(self.la() == T::Comma && first.has(self.la2())) {
                    break;
                }
                self.accept();
            }
        }
        if let Err(stop) = self.close(T::RBrace, follow) {
            self.unfinished(stop, follow)?;
        }
        Ok(Node { expr: Expr { id, kind: Kind::Map(entries) }, depth })
    }

    fn map_entry(&mut self, follow: Follow) -> Parsed<(Entry, u32)> {
        let mark = self.at();
        let optional = self.accept_if(T::Question);
        let key = self.expr(follow.within(COLON))?;
        self.expect(T::Colon, EXPR)?;
        let value = self.expr(follow)?;
        if optional && !self.options.optional_syntax {
            self.errors.report(Some(mark), "unsupported syntax '?'");
        }
        let depth = key.depth.max(value.depth);
        Ok((Entry { key: key.expr, value: value.expr, optional }, depth))
    }

    fn literal(&mut self) -> Parsed<Node> {
        let at = self.at();
        if self.la() == T::Minus && !matches!(self.la2(), T::Int | T::Float) {
            return self.not_viable();
        }
        let negative = self.accept_if(T::Minus);
        let (kind, text) = (self.la(), self.tokens[self.pos].text);
        self.accept();
        let value = match kind {
            T::True => Literal::Bool(true),
            T::False => Literal::Bool(false),
            T::Null => Literal::Null,
            T::Int => match int(text, negative) {
                Some(v) => Literal::Int(v),
                None => return Ok(self.error(at, "invalid int literal")),
            },
            T::Uint => match uint(&text[..text.len() - 1]) {
                Some(v) => Literal::Uint(v),
                None => return Ok(self.error(at, "invalid uint literal")),
            },
            T::Float => match text.parse::<f64>() {
                Ok(v) if v.is_finite() => Literal::Double(if negative { -v } else { v }),
                _ => return Ok(self.error(at, "invalid double literal")),
            },
            _ => return Ok(self.text_literal(at, kind == T::Bytes, text)),
        };
        Ok(self.leaf(at, Kind::Literal(value)))
    }

    fn text_literal(&mut self, at: u32, bytes: bool, text: &str) -> Node {
        let body = if bytes { &text[1..] } else { text };
        match literal::unescape(body, bytes) {
            Ok(value) if bytes => self.leaf(at, Kind::Literal(Literal::Bytes(value.into()))),
            // Escapes only ever write whole characters into a string.
            Ok(value) => {
                let text = String::from_utf8_lossy(&value);
                self.leaf(at, Kind::Literal(Literal::Str(text.into())))
            }
            Err(message) => self.error(at, message),
        }
    }
}

fn int(text: &str, negative: bool) -> Option<i64> {
    let magnitude = uint(text)?;
    if negative { 0i64.checked_sub_unsigned(magnitude) } else { magnitude.try_into().ok() }
}

fn uint(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}
