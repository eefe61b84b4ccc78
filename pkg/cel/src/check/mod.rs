//! The type checker (cel-go checker/checker.go): resolves names and overloads, gives every node a type.
//!
//! Start at [`check`]; [`assign`] decides which types fit.

mod assign;
mod calls;
mod comprehension;
mod scope;

use crate::ast::{Ast, Expr, Id, Kind, Literal};
use crate::env::Env;
use crate::source::{Offset, Reporter};
use crate::types::Type;
use crate::well_known;
use assign::{Mapping, most_general};
use machinery::Str;
use scope::Scopes;

/// What a name turned out to be.
#[derive(Clone, Debug)]
pub(crate) enum Reference {
    /// A variable of the environment.
    Variable(Str),
    /// A variable of a comprehension around.
    Local(Str),
    /// A type used as a value, by its name.
    Type(Str, Type),
    /// The value of an enumeration's name.
    Enum(i64),
    /// Overloads of a call that fit, by id.
    Overloads(Vec<&'static str>),
}

/// Types and references by node id.
#[derive(Debug, Default)]
pub(crate) struct Checked {
    pub types: Vec<Option<Type>>,
    pub references: Vec<Option<Reference>>,
}

impl Checked {
    pub fn type_of(&self, id: Id) -> &Type {
        self.types.get(id as usize).and_then(Option::as_ref).unwrap_or(&Type::Error)
    }

    pub fn reference(&self, id: Id) -> Option<&Reference> {
        self.references.get(id as usize)?.as_ref()
    }

    pub fn overloads(&self, id: Id) -> &[&'static str] {
        match self.reference(id) {
            Some(Reference::Overloads(ids)) => ids,
            _ => &[],
        }
    }
}

struct Checker<'e> {
    env: &'e Env,
    scopes: Scopes,
    mapping: Mapping,
    out: Checked,
    offsets: Vec<Offset>,
    errors: &'e mut Reporter,
    free: u32,
    /// Whether overloads the environment disables are left out. Upstream loses their list when it enters the first
    /// comprehension (checker.Env.enterScope and exitScope), so from there on cross-type comparisons pass.
    filtered: bool,
}

/// Checks and rewrites the tree: qualified names become single identifiers, namespaced calls plain ones.
pub(crate) fn check(ast: &mut Ast, env: &Env, errors: &mut Reporter) -> Checked {
    let nodes = ast.offsets.len();
    let mut checker = Checker {
        env,
        scopes: Scopes::default(),
        mapping: Mapping::default(),
        out: Checked { types: vec![None; nodes], references: vec![None; nodes] },
        offsets: std::mem::take(&mut ast.offsets),
        errors,
        free: 0,
        filtered: true,
    };
    checker.check(&mut ast.root);
    let Checker { mapping, mut out, offsets, .. } = checker;
    for t in out.types.iter_mut().flatten() {
        *t = mapping.substitute(t, true);
    }
    ast.offsets = offsets;
    out
}

impl Checker<'_> {
    fn check(&mut self, e: &mut Expr) {
        match &mut e.kind {
            Kind::Unspecified => self.set(e.id, Type::Error),
            Kind::Literal(literal) => {
                let t = literal_type(literal);
                self.set(e.id, t);
            }
            Kind::Ident(_) => self.ident(e),
            Kind::Select { .. } => self.select(e),
            Kind::Call { .. } => self.call(e),
            Kind::List { .. } => self.list(e),
            Kind::Map(_) => self.map(e),
            Kind::Struct { .. } => self.object(e),
            Kind::Comprehension(c) => {
                let t = self.comprehension(c);
                self.set(e.id, t);
            }
        }
    }

    /// Gives a node its type. Upstream takes types of any size, which loops can make exponential.
    fn set(&mut self, id: Id, t: Type) {
        let t = if t.is_too_large() {
            self.report(id, "type is too large".into());
            Type::Error
        } else {
            t
        };
        self.out.types[id as usize] = Some(t);
    }

    fn get(&self, id: Id) -> Type {
        self.out.type_of(id).clone()
    }

    fn refer(&mut self, id: Id, reference: Reference) {
        self.out.references[id as usize] = Some(reference);
    }

    fn report(&mut self, id: Id, message: String) {
        let at = self.offsets.get(id as usize).copied().flatten();
        self.errors.report(at, message);
    }

    fn mismatch(&mut self, id: Id, expected: &Type, found: &Type) {
        self.report(id, format!("expected type '{expected}' but found '{found}'"));
    }

    fn undeclared(&mut self, id: Id, name: &str) {
        self.report(id, format!("undeclared reference to '{name}' (in container '')"));
    }

    fn fresh(&mut self) -> Type {
        self.free += 1;
        Type::param(&format!("_var{}", self.free - 1))
    }

    fn fits(&mut self, t1: &Type, t2: &Type) -> bool {
        self.mapping.assignable([(t1, t2)])
    }

    fn global(&self, name: &str) -> Option<(Type, Reference)> {
        if let Some(t) = self.env.variable(name) {
            return Some((t.clone(), Reference::Variable(name.into())));
        }
        if name == well_known::NULL_VALUE {
            return Some((Type::Int, Reference::Enum(0)));
        }
        let t = self.env.type_named(name)?;
        Some((Type::type_of(t.clone()), Reference::Type(name.into(), t)))
    }

    fn ident(&mut self, e: &mut Expr) {
        let Kind::Ident(name) = &e.kind else { return };
        let (leading, bare) = (name.starts_with('.'), name.trim_start_matches('.'));
        if !leading && let Some(t) = self.scopes.find(bare) {
            let (t, reference) = (t.clone(), Reference::Local(bare.into()));
            self.set(e.id, t);
            return self.refer(e.id, reference);
        }
        match self.global(bare) {
            Some((t, reference)) => {
                self.set(e.id, t);
                self.refer(e.id, reference);
            }
            None => {
                let name = name.clone();
                self.set(e.id, Type::Error);
                self.undeclared(e.id, &name);
            }
        }
    }

    fn select(&mut self, e: &mut Expr) {
        if let Some(name) = e.qualified_name()
            && let Some((t, reference)) = self.qualified(&name)
        {
            self.set(e.id, t);
            self.refer(e.id, reference);
            e.kind = Kind::Ident(name.trim_start_matches('.').into());
            return;
        }
        let id = e.id;
        let Kind::Select { operand, field, test_only } = &mut e.kind else { return };
        let found = self.field_of(id, operand, field, false);
        let t = if *test_only { Type::Bool } else { self.mapping.substitute(&found, false) };
        self.set(id, t);
    }

    /// A variable or type whose own name has dots.
    fn qualified(&self, name: &str) -> Option<(Type, Reference)> {
        let first = name.split('.').next().unwrap_or_default();
        if !name.starts_with('.') && self.scopes.find(first).is_some() {
            return None;
        }
        self.global(name.trim_start_matches('.'))
    }

    fn field_of(&mut self, id: Id, operand: &mut Expr, field: &str, optional: bool) -> Type {
        self.check(operand);
        let whole = self.mapping.substitute(&self.get(operand.id), false);
        let (target, was_optional) = whole.unwrap_optional();
        let result = match target {
            Type::Map(kv) => kv.1.clone(),
            Type::Struct(name) => self.field_type(id, name, field).unwrap_or(Type::Error),
            Type::Param(_) => {
                self.fits(&Type::Dyn, target);
                Type::Dyn
            }
            t if t.is_dyn() || t.is_error() => Type::Dyn,
            t => {
                self.report(id, format!("type '{t}' does not support field selection"));
                Type::Dyn
            }
        };
        if was_optional || optional { Type::optional(result) } else { result }
    }

    fn field_type(&mut self, id: Id, name: &str, field: &str) -> Option<Type> {
        if !self.env.has_struct(name) {
            self.report(id, format!("unexpected failed resolution of '{name}'"));
            return None;
        }
        let found = self.env.field_type(name, field);
        if found.is_none() {
            self.report(id, format!("undefined field '{field}'"));
        }
        found
    }

    /// An element's type where it may be optional.
    fn element_type(&mut self, id: Id, optional: bool) -> Type {
        let t = self.get(id);
        if !optional {
            return t;
        }
        let (inner, is_optional) = t.unwrap_optional();
        if !is_optional && !inner.is_dyn() {
            self.mismatch(id, &Type::optional(inner.clone()), inner);
        }
        inner.clone()
    }

    /// The common type of an aggregate's elements so far and one more. That they must not differ is checked later, by
    /// `validate`.
    fn join(&mut self, previous: Option<Type>, current: Type) -> Type {
        let Some(previous) = previous else { return current };
        if self.fits(&previous, &current) {
            return most_general(&previous, &current).clone();
        }
        Type::Dyn
    }

    fn list(&mut self, e: &mut Expr) {
        let Kind::List { elements, optional } = &mut e.kind else { return };
        let mut joined = None;
        for (i, element) in elements.iter_mut().enumerate() {
            self.check(element);
            let t = self.element_type(element.id, optional.contains(&(i as u32)));
            joined = Some(self.join(joined, t));
        }
        let element = joined.unwrap_or_else(|| self.fresh());
        self.set(e.id, Type::list(element));
    }

    fn map(&mut self, e: &mut Expr) {
        let Kind::Map(entries) = &mut e.kind else { return };
        let mut joined = None;
        for entry in entries.iter_mut() {
            let (keys, values) = joined.map_or((None, None), |(k, v)| (Some(k), Some(v)));
            self.check(&mut entry.key);
            let key = self.get(entry.key.id);
            let keys = self.join(keys, key);
            self.check(&mut entry.value);
            let value = self.element_type(entry.value.id, entry.optional);
            joined = Some((keys, self.join(values, value)));
        }
        let (key, value) = joined.unwrap_or_else(|| (self.fresh(), self.fresh()));
        self.set(e.id, Type::map(key, value));
    }

    fn object(&mut self, e: &mut Expr) {
        let id = e.id;
        let Kind::Struct { name, fields } = &mut e.kind else { return };
        let bare: Str = name.trim_start_matches('.').into();
        let Some(t) = self.env.type_named(&bare) else {
            let name = name.clone();
            self.undeclared(id, &name);
            return self.set(id, Type::Error);
        };
        *name = bare.clone();
        let message = match &t {
            Type::Struct(name) => Some(Str::from(&**name)),
            t => well_known::message_of(t).map(Str::from),
        };
        if message.is_none() {
            self.report(id, format!("'{}' is not a message type", t.runtime_name()));
        }
        self.set(id, if message.is_some() { t } else { Type::Error });
        let message = message.unwrap_or(bare);
        for field in fields.iter_mut() {
            self.check(&mut field.value);
            let wanted = self.field_type(field.id, &message, &field.name).unwrap_or(Type::Error);
            let found = self.element_type(field.value.id, field.optional);
            if !self.fits(&wanted, &found) {
                let name = &field.name;
                self.report(
                    field.id,
                    format!("expected type of field '{name}' is '{wanted}' but provided type is '{found}'"),
                );
            }
        }
    }
}

fn literal_type(literal: &Literal) -> Type {
    match literal {
        Literal::Null => Type::Null,
        Literal::Bool(_) => Type::Bool,
        Literal::Int(_) => Type::Int,
        Literal::Uint(_) => Type::Uint,
        Literal::Double(_) => Type::Double,
        Literal::Str(_) => Type::String,
        Literal::Bytes(_) => Type::Bytes,
    }
}
