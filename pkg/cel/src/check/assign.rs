//! Which types fit where, and what type parameters thereby stand for (cel-go checker/types.go).

use crate::types::Type;
use std::collections::HashMap;
use std::sync::Arc;

/// What type parameters stand for. Changes can be undone, so that overloads can be tried.
#[derive(Default)]
pub(super) struct Mapping {
    bound: HashMap<Arc<str>, Type>,
    log: Vec<(Arc<str>, Option<Type>)>,
}

impl Mapping {
    fn find(&self, t: &Type) -> Option<&Type> {
        match t {
            Type::Param(name) => self.bound.get(name),
            _ => None,
        }
    }

    pub fn add(&mut self, t: &Type, to: Type) {
        if let Type::Param(name) = t {
            let old = self.bound.insert(name.clone(), to);
            self.log.push((name.clone(), old));
        }
    }

    fn undo(&mut self, mark: usize) {
        for (name, old) in self.log.drain(mark..).rev() {
            match old {
                Some(t) => self.bound.insert(name, t),
                None => self.bound.remove(&name),
            };
        }
    }

    /// Whether every `from` fits its `to`; what parameters are found to be stays only if so.
    pub fn assignable<'t>(&mut self, pairs: impl IntoIterator<Item = (&'t Type, &'t Type)>) -> bool {
        let mark = self.log.len();
        let fits = pairs.into_iter().all(|(a, b)| self.fits(a, b));
        if fits {
            self.log.clear();
        } else {
            self.undo(mark);
        }
        fits
    }

    fn fits(&mut self, t1: &Type, t2: &Type) -> bool {
        if matches!(t2, Type::Param(_)) {
            match self.substitutes(t1, t2) {
                (true, _) => return true,
                (false, true) => return false,
                _ => {}
            }
        }
        if matches!(t1, Type::Param(_)) {
            return self.substitutes(t2, t1).0;
        }
        if t1.is_dyn() || t2.is_dyn() || t1.is_error() || t2.is_error() {
            return true;
        }
        if *t1 == Type::Null {
            return takes_null(t2);
        }
        if *t2 == Type::Null {
            return takes_null(t1);
        }
        match t1 {
            Type::Type(_) => matches!(t2, Type::Type(_)),
            Type::Opaque(..) | Type::List(_) | Type::Map(_) => {
                let same = std::mem::discriminant(t1) == std::mem::discriminant(t2);
                let (p1, p2) = (t1.parameters(), t2.parameters());
                same && t1.runtime_name() == t2.runtime_name()
                    && p1.len() == p2.len()
                    && p1.iter().zip(p2).all(|(a, b)| self.fits(a, b))
            }
            _ => t2.accepts(t1),
        }
    }

    /// Whether `t1` can be what the parameter `t2` stands for, and whether it stood for something already.
    fn substitutes(&mut self, t1: &Type, t2: &Type) -> (bool, bool) {
        if t1.same(t2) {
            return (true, true);
        }
        if let Some(known) = self.find(t2).cloned() {
            if t1.same(&known) {
                return (true, true);
            }
            if self.fits(t1, &known) {
                let general = most_general(t1, &known).clone();
                if self.unrelated(t2, &general) {
                    self.add(t2, general);
                }
                return (true, true);
            }
            return (false, true);
        }
        if self.unrelated(t2, t1) {
            self.add(t2, t1.clone());
            return (true, false);
        }
        (false, false)
    }

    /// Whether `t` does not occur within `within`.
    fn unrelated(&self, t: &Type, within: &Type) -> bool {
        if t.same(within) {
            return false;
        }
        match within {
            Type::Param(_) => self.find(within).is_none_or(|known| self.unrelated(t, known)),
            _ => within.parameters().iter().all(|p| self.unrelated(t, p)),
        }
    }

    /// The type with parameters replaced by what they stand for; unbound ones by `dyn` if wanted.
    pub fn substitute(&self, t: &Type, to_dyn: bool) -> Type {
        if let Some(known) = self.find(t) {
            return self.substitute(known, to_dyn);
        }
        match t {
            Type::Param(_) if to_dyn => Type::Dyn,
            Type::Opaque(_, params) if params.is_empty() => t.clone(),
            Type::Opaque(name, params) => {
                Type::Opaque(name.clone(), params.iter().map(|p| self.substitute(p, to_dyn)).collect())
            }
            Type::List(e) => Type::list(self.substitute(e, to_dyn)),
            Type::Map(kv) => Type::map(self.substitute(&kv.0, to_dyn), self.substitute(&kv.1, to_dyn)),
            Type::Type(Some(inner)) => Type::type_of(self.substitute(inner, to_dyn)),
            _ => t.clone(),
        }
    }
}

fn takes_null(t: &Type) -> bool {
    matches!(
        t,
        Type::Opaque(..)
            | Type::Struct(_)
            | Type::Duration
            | Type::Timestamp
            | Type::Nullable(_)
            | Type::Null
    )
}

pub(super) fn most_general<'t>(t1: &'t Type, t2: &'t Type) -> &'t Type {
    if less_specific(t1, t2) { t1 } else { t2 }
}

fn less_specific(t1: &Type, t2: &Type) -> bool {
    if t1.is_dyn() || matches!(t1, Type::Param(_)) {
        return true;
    }
    if t2.is_dyn() || matches!(t2, Type::Param(_)) {
        return false;
    }
    match (t1, t2) {
        (Type::Type(_), Type::Type(_)) => true,
        (Type::Opaque(..), Type::Opaque(..))
        | (Type::List(_), Type::List(_))
        | (Type::Map(_), Type::Map(_)) => {
            let (p1, p2) = (t1.parameters(), t2.parameters());
            t1.runtime_name() == t2.runtime_name()
                && p1.len() == p2.len()
                && p1.iter().zip(p2).all(|(a, b)| less_specific(a, b))
        }
        _ => t1.same(t2),
    }
}
