//! Checking comprehensions, what iterating macros expand to.

use super::Checker;
use crate::ast::{Comprehension, Id};
use crate::types::Type;

impl Checker<'_> {
    pub(super) fn comprehension(&mut self, c: &mut Comprehension) -> Type {
        self.check(&mut c.range);
        self.check(&mut c.init);
        let range = self.mapping.substitute(&self.get(c.range.id), false);
        let accu = self.get(c.init.id);
        let outside = self.scopes.depth();
        self.filtered = false;
        self.scopes.push(c.accu.clone(), accu.clone());
        let (first, second) = self.variable_types(c.range.id, &range, c.var2.is_some());
        let around = self.scopes.depth();
        self.scopes.push(c.var.clone(), first);
        if let Some(name) = &c.var2 {
            self.scopes.push(name.clone(), second);
        }
        self.check(&mut c.condition);
        self.assert(c.condition.id, &Type::Bool);
        self.check(&mut c.step);
        self.assert(c.step.id, &accu);
        self.scopes.truncate(around);
        self.check(&mut c.result);
        self.scopes.truncate(outside);
        self.mapping.substitute(&self.get(c.result.id), false)
    }

    fn variable_types(&mut self, id: Id, range: &Type, two: bool) -> (Type, Type) {
        match range {
            Type::List(element) if two => (Type::Int, (**element).clone()),
            Type::List(element) => ((**element).clone(), Type::Dyn),
            Type::Map(kv) => (kv.0.clone(), kv.1.clone()),
            Type::Dyn | Type::Error | Type::Param(_) => {
                self.fits(&Type::Dyn, range);
                (Type::Dyn, Type::Dyn)
            }
            _ => {
                self.report(
                    id,
                    format!(
                        "expression of type '{range}' cannot be range of a comprehension (must be list, map, or dynamic)"
                    ),
                );
                (Type::Error, Type::Error)
            }
        }
    }

    fn assert(&mut self, id: Id, wanted: &Type) {
        let found = self.get(id);
        if !self.fits(wanted, &found) {
            self.mismatch(id, wanted, &found);
        }
    }
}
