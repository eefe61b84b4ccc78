//! Checks of constants in an expression whose types are right (cel-go cel/validator.go, ext/formatting.go).

use crate::ast::{Ast, Expr, Id, Kind, Literal};
use crate::check::Checked;
use crate::env::Env;
use crate::library::format_string::check_call;
use crate::regexp::Regexp;
use crate::source::Reporter;
use crate::types::Type;
use crate::val::Val;
use std::sync::Arc;

struct Validator<'v> {
    ast: &'v Ast,
    checked: &'v Checked,
    errors: &'v mut Reporter,
    /// Whether constant durations, times and patterns are checked.
    constants: bool,
    patterns: Patterns,
}

/// Patterns that checking compiled already, which takes longer than all else.
pub(crate) type Patterns = Vec<(Arc<str>, Regexp)>;

pub(crate) fn validate(ast: &Ast, checked: &Checked, env: &Env, errors: &mut Reporter) -> Patterns {
    let features = env.features();
    let constants = features.validators;
    let mut validator = Validator { ast, checked, errors, constants, patterns: Vec::new() };
    validator.visit(&ast.root, false, features.format_validator);
    validator.patterns
}

impl Validator<'_> {
    fn report(&mut self, id: Id, message: String) {
        self.errors.report(self.ast.offset(id), message);
    }

    /// `exempt` within the arguments of `format`, whose lists may mix types.
    fn visit(&mut self, e: &Expr, exempt: bool, formats: bool) {
        let mut exempt_below = exempt;
        match &e.kind {
            Kind::Call { target, function, args } => {
                if self.constants {
                    self.constant_argument(function, args);
                }
                if function == "format" {
                    exempt_below = true;
                    if formats && let Some(target) = target {
                        self.format_call(e, target, args);
                    }
                }
            }
            Kind::List { elements, optional } if !exempt => self.elements(elements, optional),
            Kind::Map(entries) if !exempt => self.entries(entries),
            _ => {}
        }
        for child in e.children() {
            self.visit(child, exempt_below, formats);
        }
    }

    fn constant_argument(&mut self, function: &str, args: &[Expr]) {
        let Some(Expr { id, kind: Kind::Literal(literal) }) = args.first() else { return };
        let wanted = match function {
            "duration" => Type::Duration,
            "timestamp" => Type::Timestamp,
            "matches" => Type::Null,
            _ => return,
        };
        let bad = match literal {
            Literal::Str(s) if function == "matches" => match Regexp::new(s) {
                Ok(pattern) => {
                    self.patterns.push((s.clone(), pattern));
                    false
                }
                Err(_) => true,
            },
            Literal::Str(s) => Val::from(&**s).convert(&wanted).is_err(),
            Literal::Int(i) => Val::Int(*i).convert(&wanted).is_err(),
            _ => false,
        };
        if bad {
            self.report(*id, format!("invalid {function} argument"));
        }
    }

    fn type_of(&self, e: &Expr, optional: bool) -> Type {
        let t = self.checked.type_of(e.id);
        let t = if optional { t.unwrap_optional().0 } else { t };
        t.clone()
    }

    /// Answers whether the types differ, which is reported.
    fn differ(&mut self, id: Id, expected: &Type, found: &Type) -> bool {
        let differ = !expected.same(found);
        if differ {
            self.report(id, format!("expected type '{expected}' but found '{found}'"));
        }
        differ
    }

    fn elements(&mut self, elements: &[Expr], optional: &[u32]) {
        let mut first = None;
        for (i, element) in elements.iter().enumerate() {
            let t = self.type_of(element, optional.contains(&(i as u32)));
            let expected = first.get_or_insert_with(|| t.clone()).clone();
            if self.differ(element.id, &expected, &t) {
                return;
            }
        }
    }

    fn entries(&mut self, entries: &[crate::ast::Entry]) {
        let mut first: Option<(Type, Type)> = None;
        for entry in entries {
            let key = self.type_of(&entry.key, false);
            let value = self.type_of(&entry.value, entry.optional);
            let (keys, values) = first.get_or_insert_with(|| (key.clone(), value.clone())).clone();
            self.differ(entry.key.id, &keys, &key);
            self.differ(entry.value.id, &values, &value);
        }
    }

    fn format_call(&mut self, call: &Expr, target: &Expr, args: &[Expr]) {
        let (Some(text), [Expr { kind: Kind::List { elements, .. }, .. }]) = (target.as_str_literal(), args)
        else {
            return;
        };
        if !self.checked.overloads(call.id).contains(&"string_format") {
            return;
        }
        match check_call(text, elements, self.checked) {
            Err((id, message)) => self.report(id.unwrap_or(call.id), message),
            Ok(used) if used < elements.len() => {
                let message = format!(
                    "too many arguments supplied to string.format (expected {used}, got {})",
                    elements.len()
                );
                self.report(call.id, message);
            }
            Ok(_) => {}
        }
    }
}
