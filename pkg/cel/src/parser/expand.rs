//! Building the nodes a macro turns into; each gets the position of the macro's call.

use super::macros::{self, Failure, Macro};
use super::{Parsed, Parser};
use crate::ast::{ACCUMULATOR, Comprehension, Entry, Expr, Field, Id, Kind, Literal};
use crate::source::Offset;
use machinery::Str;

impl Parser<'_, '_> {
    pub(super) fn call_or_macro(
        &mut self,
        id: Id,
        function: &str,
        target: Option<Expr>,
        args: Vec<Expr>,
    ) -> Parsed<Expr> {
        let expander =
            self.options.macros.iter().rev().find(|m| m.matches(function, args.len(), target.is_some()));
        let mut call = Call { target, args };
        if let Some(Macro { expand, .. }) = expander {
            let at = self.offsets[id as usize];
            let mut builder = Builder { offsets: &mut self.offsets, at };
            match expand(&mut builder, &mut call) {
                Ok(Some(expr)) => {
                    self.check_size()?;
                    return Ok(expr);
                }
                Ok(None) => {}
                Err(Failure { at: id, message }) => {
                    let at = self.offsets.get(id as usize).copied().flatten();
                    self.errors.report(at, message);
                    return Ok(Expr { id: self.id(at), kind: Kind::Unspecified });
                }
            }
        }
        let Call { target, args } = call;
        let kind = Kind::Call { target: target.map(Box::new), function: function.into(), args };
        Ok(Expr { id, kind })
    }
}

/// A call about to be expanded; the expander takes what it needs.
pub(crate) struct Call {
    pub target: Option<Expr>,
    pub args: Vec<Expr>,
}

impl Call {
    /// Takes the argument at `i`, leaving nothing there.
    pub fn take(&mut self, i: usize) -> Expr {
        let nothing = Expr { id: 0, kind: Kind::Unspecified };
        self.args.get_mut(i).map_or(nothing.clone(), |arg| std::mem::replace(arg, nothing))
    }

    pub fn take_target(&mut self) -> Expr {
        self.target.take().unwrap_or(Expr { id: 0, kind: Kind::Unspecified })
    }
}

pub(crate) struct Builder<'a> {
    offsets: &'a mut Vec<Offset>,
    at: Offset,
}

impl Builder<'_> {
    fn id(&mut self, at: Offset) -> Id {
        self.offsets.push(at);
        (self.offsets.len() - 1) as Id
    }

    pub fn node(&mut self, kind: Kind) -> Expr {
        Expr { id: self.id(self.at), kind }
    }

    pub fn literal(&mut self, value: Literal) -> Expr {
        self.node(Kind::Literal(value))
    }

    pub fn bool(&mut self, value: bool) -> Expr {
        self.literal(Literal::Bool(value))
    }

    pub fn ident(&mut self, name: &str) -> Expr {
        self.node(Kind::Ident(name.into()))
    }

    pub fn accumulator(&mut self) -> Expr {
        self.ident(ACCUMULATOR)
    }

    pub fn list(&mut self, elements: Vec<Expr>) -> Expr {
        self.node(Kind::List { elements, optional: Vec::new() })
    }

    pub fn map(&mut self) -> Expr {
        self.node(Kind::Map(Vec::new()))
    }

    pub fn call(&mut self, function: &str, args: Vec<Expr>) -> Expr {
        self.node(Kind::Call { target: None, function: function.into(), args })
    }

    pub fn method(&mut self, target: Expr, function: &str, args: Vec<Expr>) -> Expr {
        self.node(Kind::Call { target: Some(Box::new(target)), function: function.into(), args })
    }

    /// Evaluates `result` with `name` standing for `init`.
    pub fn bind(&mut self, name: Str, init: Expr, result: Expr) -> Expr {
        let (range, condition, step) = (self.list(Vec::new()), self.bool(false), self.ident(&name));
        self.node(Kind::Comprehension(Box::new(Comprehension {
            range,
            var: crate::ast::UNUSED.into(),
            var2: None,
            accu: name,
            init,
            condition,
            step,
            result,
        })))
    }

    /// The same tree with new ids at the old positions. Stops early where the tree grows beyond reason; the caller
    /// checks the size afterwards.
    pub fn copy(&mut self, expr: &Expr) -> Expr {
        let at = self.offsets.get(expr.id as usize).copied().flatten();
        let id = self.id(at);
        if self.offsets.len() > super::MAX_NODES {
            return Expr { id, kind: Kind::Unspecified };
        }
        let kind = match &expr.kind {
            Kind::Unspecified | Kind::Literal(_) | Kind::Ident(_) => expr.kind.clone(),
            Kind::Select { operand, field, test_only } => Kind::Select {
                operand: Box::new(self.copy(operand)),
                field: field.clone(),
                test_only: *test_only,
            },
            Kind::Call { target, function, args } => Kind::Call {
                target: target.as_ref().map(|t| Box::new(self.copy(t))),
                function: function.clone(),
                args: args.iter().map(|a| self.copy(a)).collect(),
            },
            Kind::List { elements, optional } => Kind::List {
                elements: elements.iter().map(|e| self.copy(e)).collect(),
                optional: optional.clone(),
            },
            Kind::Map(entries) => Kind::Map(
                entries
                    .iter()
                    .map(|e| Entry {
                        key: self.copy(&e.key),
                        value: self.copy(&e.value),
                        optional: e.optional,
                    })
                    .collect(),
            ),
            Kind::Struct { name, fields } => {
                let fields = fields
                    .iter()
                    .map(|f| Field {
                        id: self.id(self.at),
                        name: f.name.clone(),
                        value: self.copy(&f.value),
                        optional: f.optional,
                    })
                    .collect();
                Kind::Struct { name: name.clone(), fields }
            }
            Kind::Comprehension(c) => Kind::Comprehension(Box::new(Comprehension {
                range: self.copy(&c.range),
                var: c.var.clone(),
                var2: c.var2.clone(),
                accu: c.accu.clone(),
                init: self.copy(&c.init),
                condition: self.copy(&c.condition),
                step: self.copy(&c.step),
                result: self.copy(&c.result),
            })),
        };
        Expr { id, kind }
    }
}

pub(crate) fn failure<V>(at: &Expr, message: impl Into<String>) -> Result<V, macros::Failure> {
    Err(Failure { at: at.id, message: message.into() })
}
