//! The grammar's rules from the whole expression down to postfix operators.
//!
//! Every rule takes what may follow it in any rule around it; a failed rule skips to one of those.

use super::lexer::T;
use super::recover::{Follow, Set, Site};
use super::{MAX_DEPTH, Node, Parsed, Parser, Stop, logic};
use crate::ast::{Expr, Kind, Literal, ops};
use crate::source::BEFORE;

/// What an operand starts with.
pub(super) const PRIMARY: Set = Set::of(&[
    T::LBracket,
    T::LBrace,
    T::LParen,
    T::Dot,
    T::Minus,
    T::True,
    T::False,
    T::Null,
    T::Float,
    T::Int,
    T::Uint,
    T::String,
    T::Bytes,
    T::Ident,
]);
/// What an expression starts with.
pub(super) const EXPR: Set = PRIMARY.or(Set::of(&[T::Exclam]));
const RELATIONS: Set =
    Set::of(&[T::Equals, T::NotEquals, T::In, T::Less, T::LessEquals, T::GreaterEquals, T::Greater]);
const ARITHMETIC: Set = Set::of(&[T::Star, T::Slash, T::Percent, T::Plus, T::Minus]);

pub(super) const COMMA: Set = Set::of(&[T::Comma]);
pub(super) const COLON: Set = Set::of(&[T::Colon]);
pub(super) const PAREN: Set = Set::of(&[T::RParen]);
pub(super) const BRACKET: Set = Set::of(&[T::RBracket]);
pub(super) const BRACE: Set = Set::of(&[T::RBrace]);
const EOF: Set = Set::of(&[T::Eof]);

fn relation_op(kind: T) -> Option<&'static str> {
    Some(match kind {
        T::Equals => ops::EQUALS,
        T::NotEquals => ops::NOT_EQUALS,
        T::In => ops::IN,
        T::Less => ops::LESS,
        T::LessEquals => ops::LESS_EQUALS,
        T::GreaterEquals => ops::GREATER_EQUALS,
        T::Greater => ops::GREATER,
        _ => return None,
    })
}

/// The operator and how strongly it binds.
fn calc_op(kind: T) -> Option<(&'static str, u8)> {
    Some(match kind {
        T::Star => (ops::MULTIPLY, 2),
        T::Slash => (ops::DIVIDE, 2),
        T::Percent => (ops::MODULO, 2),
        T::Plus => (ops::ADD, 1),
        T::Minus => (ops::SUBTRACT, 1),
        _ => return None,
    })
}

impl Parser<'_, '_> {
    pub(super) fn start(&mut self) -> Parsed<Expr> {
        let root = self.expr(Follow::only(EOF))?;
        if let Err(stop) = self.expect(T::Eof, Set::EMPTY) {
            match stop {
                Stop::Syntax => self.recover(Site::Start, Follow::only(Set::EMPTY))?,
                Stop::Abort => return Err(Stop::Abort),
            }
        }
        Ok(root.expr)
    }

    fn enter(&mut self, depth: u32) -> Parsed<()> {
        if depth > MAX_DEPTH {
            self.errors.report(None, format!("expression recursion limit exceeded: {MAX_DEPTH}"));
            return Err(Stop::Abort);
        }
        Ok(())
    }

    /// Catches a failed rule.
    pub(super) fn caught(
        &mut self,
        site: Site,
        start: u32,
        follow: Follow,
        result: Parsed<Node>,
    ) -> Parsed<Node> {
        match result {
            Err(Stop::Syntax) => {
                self.recover(site, follow)?;
                Ok(self.leaf(start, Kind::Unspecified))
            }
            other => other,
        }
    }

    pub(super) fn expr(&mut self, follow: Follow) -> Parsed<Node> {
        self.expr_depth += 1;
        self.enter(self.expr_depth)?;
        let start = self.at();
        let result = self.ternary(follow);
        self.expr_depth -= 1;
        self.caught(Site::Expr, start, follow, result)
    }

    fn ternary(&mut self, follow: Follow) -> Parsed<Node> {
        let condition = self.or(follow.or(Set::of(&[T::Question])))?;
        if self.la() != T::Question {
            return Ok(condition);
        }
        let id = self.id(Some(self.at()));
        self.accept();
        let rest = self.branches(follow);
        let (yes, no) = match rest {
            Ok(both) => both,
            // What was read so far is still a choice, for macros to refuse.
            Err(Stop::Syntax) => {
                self.recover(Site::Expr, follow)?;
                return Ok(Node { expr: Expr { id, kind: Kind::Unspecified }, depth: condition.depth });
            }
            Err(Stop::Abort) => return Err(Stop::Abort),
        };
        let depth = self.deeper(condition.depth.max(yes.depth).max(no.depth))?;
        let args = vec![condition.expr, yes.expr, no.expr];
        Ok(Node { expr: Expr::call(id, ops::CONDITIONAL, args), depth })
    }

    fn branches(&mut self, follow: Follow) -> Parsed<(Node, Node)> {
        let yes = self.or(follow.within(COLON))?;
        self.expect(T::Colon, EXPR)?;
        Ok((yes, self.expr(follow)?))
    }

    fn or(&mut self, follow: Follow) -> Parsed<Node> {
        let follow = follow.or(Set::of(&[T::Or]));
        let mut terms = logic::Terms::new(self.and(follow)?);
        while self.la() == T::Or {
            let at = self.at();
            self.accept();
            let term = self.and(follow)?;
            terms.push(self.id(Some(at)), term);
        }
        Ok(terms.finish(ops::OR))
    }

    fn and(&mut self, follow: Follow) -> Parsed<Node> {
        let follow = follow.or(Set::of(&[T::And]));
        let mut terms = logic::Terms::new(self.relation(0, follow)?);
        while self.la() == T::And {
            let at = self.at();
            self.accept();
            let term = self.relation(0, follow)?;
            terms.push(self.id(Some(at)), term);
        }
        Ok(terms.finish(ops::AND))
    }

    fn binary(&mut self, at: u32, op: &str, left: Node, right: Node) -> Parsed<Node> {
        let depth = self.deeper(left.depth.max(right.depth))?;
        let id = self.id(Some(at));
        Ok(Node { expr: Expr::call(id, op, vec![left.expr, right.expr]), depth })
    }

    fn relation(&mut self, precedence: u8, follow: Follow) -> Parsed<Node> {
        self.relation_depth += 1;
        self.enter(self.relation_depth)?;
        let follow = follow.or(RELATIONS);
        let mut left = self.calc(0, follow)?;
        while precedence < 1
            && let Some(op) = relation_op(self.la())
        {
            let at = self.at();
            self.accept();
            let right = self.relation(1, follow)?;
            left = self.binary(at, op, left, right)?;
        }
        self.relation_depth -= 1;
        Ok(left)
    }

    fn calc(&mut self, precedence: u8, follow: Follow) -> Parsed<Node> {
        self.calc_depth += 1;
        self.enter(self.calc_depth)?;
        let follow = follow.or(ARITHMETIC);
        let mut left = self.unary(follow)?;
        while let Some((op, strength)) = calc_op(self.la())
            && strength > precedence
        {
            let at = self.at();
            self.accept();
            let right = self.calc(strength, follow)?;
            left = self.binary(at, op, left, right)?;
        }
        self.calc_depth -= 1;
        Ok(left)
    }

    fn unary(&mut self, follow: Follow) -> Parsed<Node> {
        let start = self.at();
        let result = self.unary_rule(follow);
        self.caught(Site::Unary, start, follow, result)
    }

    fn unary_rule(&mut self, follow: Follow) -> Parsed<Node> {
        self.sync(EXPR)?;
        let kind = self.la();
        let op = match kind {
            T::Exclam => ops::NOT,
            // A minus right before a number belongs to it.
            T::Minus if !matches!(self.la2(), T::Int | T::Float) => ops::NEGATE,
            _ => return self.member(follow),
        };
        let at = self.at();
        let mut count = 0;
        while self.la() == kind {
            if kind == T::Minus && !PRIMARY.has(self.la2()) {
                return self.not_viable();
            }
            self.accept();
            count += 1;
            if kind == T::Exclam
                && let Err(stop) = self.unwanted(EXPR, follow)
            {
                // What was negated is not there, but that it was is known.
                let operand = self.caught(Site::Unary, BEFORE, follow, Err(stop))?;
                return Ok(self.negated(op, at, count, operand));
            }
        }
        let operand = self.member(follow)?;
        Ok(self.negated(op, at, count, operand))
    }

    fn negated(&mut self, op: &str, at: u32, count: u32, operand: Node) -> Node {
        if count.is_multiple_of(2) {
            return operand;
        }
        let id = self.id(Some(at));
        Node { expr: Expr::call(id, op, vec![operand.expr]), depth: operand.depth }
    }

    fn member(&mut self, follow: Follow) -> Parsed<Node> {
        let inner = follow.or(Set::of(&[T::Dot, T::LBracket]));
        let start = self.at();
        let mut operand = self.primary(inner)?;
        loop {
            let result = match self.la() {
                T::Dot if !self.is_selection() => {
                    if let Err(Stop::Abort) = self.not_viable::<()>() {
                        return Err(Stop::Abort);
                    }
                    self.recover(Site::Member, follow)?;
                    return Ok(operand);
                }
                T::Dot => self.selection(operand, inner, follow),
                T::LBracket => self.index(operand, inner, follow),
                _ => return Ok(operand),
            };
            match result {
                Ok((next, true)) => operand = next,
                // The rule has failed and recovered: it ends, whatever comes next.
                Ok((next, false)) => return Ok(next),
                Err(stop) => return self.caught(Site::Member, start, follow, Err(stop)),
            }
        }
    }

    fn is_selection(&self) -> bool {
        matches!(self.la2(), T::Ident | T::EscIdent | T::Question)
    }

    /// A field's name, quoted or not; `None` where there is none.
    pub(super) fn field_name(&mut self, follow: Follow) -> Parsed<Option<&str>> {
        let names = Set::of(&[T::Ident, T::EscIdent]);
        let found = match self.sync(names) {
            Ok(()) if !names.has(self.la()) => self.no_viable(self.pos),
            other => other,
        };
        match found {
            Ok(()) => {
                let at = self.pos;
                self.accept();
                Ok(Some(self.tokens[at].text.trim_matches('`')))
            }
            Err(Stop::Syntax) => {
                self.recover(Site::Name, follow)?;
                Ok(None)
            }
            Err(Stop::Abort) => Err(Stop::Abort),
        }
    }

    /// Reports the current token and the next, which together begin nothing.
    pub(super) fn not_viable<V>(&mut self) -> Parsed<V> {
        let from = self.pos;
        self.pos += 1;
        let result = self.no_viable(from);
        self.pos = from;
        result
    }

    /// `.field`, `.?field` or `.method(...)`, and whether it is complete. `outer` follows the whole operand.
    fn selection(&mut self, operand: Node, follow: Follow, outer: Follow) -> Parsed<(Node, bool)> {
        let at = self.at();
        self.accept();
        if self.accept_if(T::Question) {
            return self.optional_selection(at, operand, follow).map(|node| (node, true));
        }
        let plain = self.la() == T::Ident;
        let text = self.tokens[self.pos].text;
        self.accept();
        if plain && self.la() == T::LParen {
            return self.method(operand, text, follow, outer);
        }
        let field = text.trim_matches('`');
        let depth = self.deeper(operand.depth)?;
        let kind = Kind::Select { operand: Box::new(operand.expr), field: field.into(), test_only: false };
        Ok((Node { expr: self.node(at, kind), depth }, true))
    }

    fn optional_selection(&mut self, at: u32, operand: Node, follow: Follow) -> Parsed<Node> {
        let name_at = self.at();
        let field = self.field_name(follow)?.map(str::to_owned);
        if field.is_none() {
            self.errors.report(Some(name_at), "unsupported ident kind");
        }
        let field = field.unwrap_or_default();
        let depth = self.deeper(operand.depth)?;
        if !self.options.optional_syntax {
            return Ok(self.error(at, "unsupported syntax '.?'"));
        }
        let name = self.node(name_at, Kind::Literal(Literal::Str(field.into())));
        let id = self.id(Some(at));
        Ok(Node { expr: Expr::call(id, ops::OPT_SELECT, vec![operand.expr, name]), depth })
    }

    fn method(&mut self, operand: Node, name: &str, follow: Follow, outer: Follow) -> Parsed<(Node, bool)> {
        let id = self.id(Some(self.at()));
        self.accept();
        let (args, complete) = self.arguments(Site::Member, follow, outer)?;
        let depth = self.deeper(args.iter().map(|a| a.depth).fold(operand.depth, u32::max))?;
        let args = args.into_iter().map(|a| a.expr).collect();
        let expr = self.call_or_macro(id, name, Some(operand.expr), args)?;
        Ok((Node { expr, depth }, complete))
    }

    fn index(&mut self, operand: Node, follow: Follow, outer: Follow) -> Parsed<(Node, bool)> {
        let at = self.at();
        self.accept();
        if let Err(stop) = self.sync(EXPR.or(Set::of(&[T::Question]))) {
            let index = self.caught(Site::Member, BEFORE, outer, Err(stop))?;
            let id = self.id(Some(at));
            let depth = self.deeper(operand.depth)?;
            return Ok((
                Node { expr: Expr::call(id, ops::INDEX, vec![operand.expr, index.expr]), depth },
                false,
            ));
        }
        let optional = self.accept_if(T::Question);
        let index = self.expr(outer.within(BRACKET))?;
        let complete = match self.expect(T::RBracket, follow.next) {
            Err(Stop::Syntax) => {
                self.recover(Site::Member, outer)?;
                false
            }
            Err(Stop::Abort) => return Err(Stop::Abort),
            Ok(()) => true,
        };
        let depth = self.deeper(operand.depth.max(index.depth))?;
        if optional && !self.options.optional_syntax {
            return Ok((self.error(at, "unsupported syntax '[?'"), complete));
        }
        let id = self.id(Some(at));
        let op = if optional { ops::OPT_INDEX } else { ops::INDEX };
        Ok((Node { expr: Expr::call(id, op, vec![operand.expr, index.expr]), depth }, complete))
    }

    /// Arguments and the closing parenthesis, and whether that was there. Where it is missing, the call is still
    /// looked at: a macro may find more to report. `outer` follows the rule that then ends.
    pub(super) fn arguments(
        &mut self,
        site: Site,
        follow: Follow,
        outer: Follow,
    ) -> Parsed<(Vec<Node>, bool)> {
        let mut args = Vec::new();
        match self.list_of_arguments(&mut args, follow, outer) {
            Err(Stop::Syntax) => {
                self.recover(site, outer)?;
                Ok((args, false))
            }
            Err(Stop::Abort) => Err(Stop::Abort),
            Ok(()) => Ok((args, true)),
        }
    }

    fn list_of_arguments(&mut self, args: &mut Vec<Node>, follow: Follow, outer: Follow) -> Parsed<()> {
        self.sync(EXPR.or(PAREN))?;
        if EXPR.has(self.la()) {
            args.push(self.expr(outer.within(PAREN.or(COMMA)))?);
            while self.accept_if(T::Comma) {
                args.push(self.expr(outer.within(PAREN.or(COMMA)))?);
            }
        }
        self.expect(T::RParen, follow.next)
    }
}
