//! Source text to syntax tree.
//!
//! A recursive-descent rendering of upstream's grammar (cel-go parser/gen/CEL.g4) that also follows the error
//! strategy of the ANTLR runtime upstream generates its parser with: which token is reported, what was expected
//! there, which single tokens are dropped or imagined, and where parsing resumes. So syntax errors read as
//! upstream's do.
//!
//! Start at [`parse`]; [`grammar`] has the rules, [`recover`] the error strategy, [`macros`] what `has`, `all` and
//! the others turn into.

mod expand;
mod grammar;
mod lexer;
mod literal;
mod logic;
pub(crate) mod macros;
mod primary;
mod recover;
#[cfg(test)]
mod tests;

use crate::ast::{Ast, Expr, Id, Kind};
use crate::source::{Offset, Reporter};
use lexer::Token;
use macros::Macro;
use recover::Recovery;

/// Nesting of any one grammar rule, and of the tree.
const MAX_DEPTH: u32 = 250;
/// Nodes a tree may have after macros are expanded. Upstream has no such limit: `optMap` copies its receiver, so a
/// chain of them doubles the tree at each link.
const MAX_NODES: usize = 1_000_000;

pub(crate) struct Options<'m> {
    pub macros: &'m [Macro],
    pub optional_syntax: bool,
}

/// A tree and how deeply it nests what upstream's visitor counts.
pub(crate) struct Node {
    expr: Expr,
    depth: u32,
}

/// Why a rule gave up.
pub(crate) enum Stop {
    /// The rule's text is wrong; reported, to be recovered from.
    Syntax,
    /// A limit was hit; parsing ends.
    Abort,
}

type Parsed<T> = Result<T, Stop>;

pub(crate) struct Parser<'s, 'm> {
    text: &'s str,
    tokens: Vec<Token<'s>>,
    pos: usize,
    options: &'m Options<'m>,
    errors: &'m mut Reporter,
    recovery: Recovery,
    offsets: Vec<Offset>,
    expr_depth: u32,
    relation_depth: u32,
    calc_depth: u32,
}

/// Parses; errors go to `errors`, and the tree is then of no use.
pub(crate) fn parse(text: &str, options: &Options<'_>, errors: &mut Reporter) -> Ast {
    let tokens = lexer::lex(text, errors);
    let mut parser = Parser {
        text,
        tokens,
        pos: 0,
        options,
        recovery: Recovery::new(errors.count()),
        errors,
        offsets: vec![None],
        expr_depth: 0,
        relation_depth: 0,
        calc_depth: 0,
    };
    let root = parser.start().unwrap_or(Expr { id: 0, kind: Kind::Unspecified });
    Ast { root, offsets: parser.offsets }
}

impl Parser<'_, '_> {
    fn id(&mut self, at: Offset) -> Id {
        self.offsets.push(at);
        (self.offsets.len() - 1) as Id
    }

    fn node(&mut self, at: u32, kind: Kind) -> Expr {
        let id = self.id(Some(at));
        Expr { id, kind }
    }

    fn leaf(&mut self, at: u32, kind: Kind) -> Node {
        Node { expr: self.node(at, kind), depth: 0 }
    }

    fn error(&mut self, at: u32, message: impl Into<String>) -> Node {
        self.errors.report(Some(at), message);
        self.leaf(at, Kind::Unspecified)
    }

    /// The depth of a node above others, or the limit's error.
    fn deeper(&mut self, below: u32) -> Parsed<u32> {
        if below >= MAX_DEPTH {
            self.errors.report(None, "max recursion depth exceeded");
            return Err(Stop::Abort);
        }
        Ok(below + 1)
    }

    fn check_size(&mut self) -> Parsed<()> {
        if self.offsets.len() > MAX_NODES {
            self.errors
                .report(None, format!("expression has more than {MAX_NODES} nodes after macro expansion"));
            return Err(Stop::Abort);
        }
        Ok(())
    }
}
