//! The syntax tree, and where each node came from.

use crate::source::Offset;
use machinery::Str;
use std::sync::Arc;

/// A node's number: an index into [`Ast::offsets`] and the checker's tables. 0 is no node.
pub(crate) type Id = u32;

#[derive(Clone, Debug)]
pub(crate) struct Expr {
    pub id: Id,
    pub kind: Kind,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// What an erroneous part of the source becomes.
    Unspecified,
    Literal(Literal),
    Ident(Str),
    Select {
        operand: Box<Expr>,
        field: Str,
        test_only: bool,
    },
    Call {
        target: Option<Box<Expr>>,
        function: Str,
        args: Vec<Expr>,
    },
    List {
        elements: Vec<Expr>,
        /// Indices of elements written `?e`.
        optional: Vec<u32>,
    },
    Map(Vec<Entry>),
    Struct {
        name: Str,
        fields: Vec<Field>,
    },
    Comprehension(Box<Comprehension>),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Str(Arc<str>),
    Bytes(Arc<[u8]>),
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub key: Expr,
    pub value: Expr,
    pub optional: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub id: Id,
    pub name: Str,
    pub value: Expr,
    pub optional: bool,
}

/// A loop over a range with an accumulator; every macro that iterates or binds becomes one.
#[derive(Clone, Debug)]
pub(crate) struct Comprehension {
    pub range: Expr,
    pub var: Str,
    pub var2: Option<Str>,
    pub accu: Str,
    pub init: Expr,
    pub condition: Expr,
    pub step: Expr,
    pub result: Expr,
}

/// The accumulator's name in expanded macros; not writable in source.
pub(crate) const ACCUMULATOR: &str = "@result";
/// The accumulator's former name, still refused as a variable.
pub(crate) const OLD_ACCUMULATOR: &str = "__result__";
/// The loop variable of macros that only bind.
pub(crate) const UNUSED: &str = "#unused";

#[derive(Debug)]
pub(crate) struct Ast {
    pub root: Expr,
    /// Start of each node by id.
    pub offsets: Vec<Offset>,
}

impl Ast {
    pub fn offset(&self, id: Id) -> Offset {
        self.offsets.get(id as usize).copied().flatten()
    }
}

impl Expr {
    pub fn call(id: Id, function: &str, args: Vec<Expr>) -> Expr {
        Expr { id, kind: Kind::Call { target: None, function: function.into(), args } }
    }

    pub fn as_ident(&self) -> Option<&Str> {
        match &self.kind {
            Kind::Ident(name) => Some(name),
            _ => None,
        }
    }

    pub fn as_str_literal(&self) -> Option<&Arc<str>> {
        match &self.kind {
            Kind::Literal(Literal::Str(s)) => Some(s),
            _ => None,
        }
    }

    /// The name a chain of selections spells, `a.b.c`, if it is one.
    pub fn qualified_name(&self) -> Option<String> {
        match &self.kind {
            Kind::Ident(name) => Some(name.to_string()),
            Kind::Select { operand, field, test_only: false } => {
                Some(format!("{}.{field}", operand.qualified_name()?))
            }
            _ => None,
        }
    }

    /// Direct children, in evaluation order of the source.
    pub fn children(&self) -> Vec<&Expr> {
        match &self.kind {
            Kind::Unspecified | Kind::Literal(_) | Kind::Ident(_) => Vec::new(),
            Kind::Select { operand, .. } => vec![operand],
            Kind::Call { target, args, .. } => target.iter().map(|t| &**t).chain(args).collect(),
            Kind::List { elements, .. } => elements.iter().collect(),
            Kind::Map(entries) => entries.iter().flat_map(|e| [&e.key, &e.value]).collect(),
            Kind::Struct { fields, .. } => fields.iter().map(|f| &f.value).collect(),
            Kind::Comprehension(c) => vec![&c.range, &c.init, &c.condition, &c.step, &c.result],
        }
    }
}

/// Operator names, as upstream spells them in errors and overload tables.
pub(crate) mod ops {
    pub const CONDITIONAL: &str = "_?_:_";
    pub const AND: &str = "_&&_";
    pub const OR: &str = "_||_";
    pub const NOT: &str = "!_";
    pub const EQUALS: &str = "_==_";
    pub const NOT_EQUALS: &str = "_!=_";
    pub const LESS: &str = "_<_";
    pub const LESS_EQUALS: &str = "_<=_";
    pub const GREATER: &str = "_>_";
    pub const GREATER_EQUALS: &str = "_>=_";
    pub const ADD: &str = "_+_";
    pub const SUBTRACT: &str = "_-_";
    pub const MULTIPLY: &str = "_*_";
    pub const DIVIDE: &str = "_/_";
    pub const MODULO: &str = "_%_";
    pub const NEGATE: &str = "-_";
    pub const INDEX: &str = "_[_]";
    pub const OPT_INDEX: &str = "_[?_]";
    pub const OPT_SELECT: &str = "_?._";
    pub const IN: &str = "@in";
    pub const NOT_STRICTLY_FALSE: &str = "@not_strictly_false";
}
