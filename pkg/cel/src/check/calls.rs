//! Checking calls: finding the overloads that fit.

use super::{Checker, Reference};
use crate::ast::{Expr, Id, Kind, ops};
use crate::decls::Function;
use crate::types::Type;

impl Checker<'_> {
    pub(super) fn call(&mut self, e: &mut Expr) {
        let id = e.id;
        let Kind::Call { target, function, args } = &mut e.kind else { return };
        if function == ops::OPT_SELECT && target.is_none() {
            return self.optional_select(id, args);
        }
        for arg in args.iter_mut() {
            self.check(arg);
        }
        let mut name = function.clone();
        if let Some(receiver) = target {
            // `a.b.f()` may be the function `a.b.f`.
            let qualified = receiver.qualified_name().map(|prefix| format!("{prefix}.{function}"));
            match qualified.filter(|q| self.env.function(q.trim_start_matches('.')).is_some()) {
                Some(qualified) => {
                    name = qualified.into();
                    *target = None;
                }
                None => self.check(receiver),
            }
        }
        let bare = name.trim_start_matches('.');
        let Some(found) = self.env.function(bare) else {
            self.set(id, Type::Error);
            return self.undeclared(id, &name);
        };
        *function = bare.into();
        let receiver = target.as_ref().map(|t| t.id);
        let ids: Vec<Id> = receiver.into_iter().chain(args.iter().map(|a| a.id)).collect();
        let t = self.resolve(id, found, receiver.is_some(), &ids);
        self.set(id, t);
    }

    fn optional_select(&mut self, id: Id, args: &mut [Expr]) {
        let [operand, field] = args else { return };
        let Some(name) = field.as_str_literal().cloned() else { return };
        let found = self.field_of(id, operand, &name, true);
        let t = self.mapping.substitute(&found, false);
        self.set(id, t);
        self.refer(id, Reference::Overloads(vec!["select_optional_field"]));
    }

    fn resolve(&mut self, id: Id, function: &Function, member: bool, args: &[Id]) -> Type {
        if matches!(function.name, ops::AND | ops::OR) {
            return self.logical(id, function, args);
        }
        let types: Vec<Type> = args.iter().map(|a| self.get(*a)).collect();
        let mut result: Option<Type> = None;
        let mut fitting = Vec::new();
        for overload in &function.overloads {
            if (self.filtered && self.env.is_disabled(overload.id))
                || overload.member != member
                || overload.args.len() != types.len()
            {
                // Upstream numbers parameters even of overloads whose count of arguments differs; the numbers do
                // not show.
                continue;
            }
            let (wanted, returned) = self.instantiate(overload);
            if !self.mapping.assignable(types.iter().zip(&wanted)) {
                continue;
            }
            fitting.push(overload.id);
            let returned = self.mapping.substitute(&returned, false);
            result = Some(match result {
                None => returned,
                Some(known) if !known.is_dyn() && !returned.same(&known) => Type::Dyn,
                Some(known) => known,
            });
        }
        let Some(result) = result else {
            let shown: Vec<Type> = types.iter().map(|t| self.mapping.substitute(t, true)).collect();
            let signature = signature(&shown, member);
            self.report(
                id,
                format!("found no matching overload for '{}' applied to '{signature}'", function.name),
            );
            return Type::Error;
        };
        self.refer(id, Reference::Overloads(fitting));
        result
    }

    /// The overload's types with its type parameters made unique to this call.
    fn instantiate(&mut self, overload: &crate::decls::Overload) -> (Vec<Type>, Type) {
        if overload.params.is_empty() {
            return (overload.args.clone(), overload.result.clone());
        }
        let mut fresh = super::Mapping::default();
        for name in &overload.params {
            let t = self.fresh();
            fresh.add(&Type::Param(name.clone()), t);
        }
        let args = overload.args.iter().map(|t| fresh.substitute(t, false)).collect();
        (args, fresh.substitute(&overload.result, false))
    }

    fn logical(&mut self, id: Id, function: &Function, args: &[Id]) -> Type {
        let mut result = Type::Bool;
        for arg in args {
            let found = self.get(*arg);
            if !self.fits(&found, &Type::Bool) {
                self.mismatch(*arg, &Type::Bool, &found);
                result = Type::Error;
            }
        }
        if !result.is_error() {
            self.refer(id, Reference::Overloads(function.overloads.iter().map(|o| o.id).collect()));
        }
        result
    }
}

fn signature(types: &[Type], member: bool) -> String {
    let (receiver, args) = match types {
        [receiver, args @ ..] if member => (format!("{receiver}."), args),
        args => (String::new(), args),
    };
    let args: Vec<String> = args.iter().map(Type::to_string).collect();
    format!("{receiver}({})", args.join(", "))
}
