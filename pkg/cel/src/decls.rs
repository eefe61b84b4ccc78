//! Declarations: functions with their overloads and code, and variables.

use crate::eval::Res;
use crate::types::Type;
use crate::val::Val;
use std::sync::Arc;

/// A function's code. Arguments: the receiver first, if there is one.
pub(crate) type Code = for<'a> fn(&[Val<'a>]) -> Res<'a>;

/// How arguments reach the code, which decides what is still evaluated (and charged) after one has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passing {
    /// One or two arguments, all evaluated first.
    Fixed,
    /// Any number; evaluation ends at the first error.
    Variadic,
}

#[derive(Clone, Debug)]
pub(crate) struct Overload {
    pub id: &'static str,
    pub member: bool,
    pub args: Vec<Type>,
    pub result: Type,
    /// The code also sees errors as arguments.
    pub code: Option<(Passing, Code)>,
    /// Names of type parameters in `args` and `result`.
    pub params: Vec<Arc<str>>,
}

/// What the receiver of a function with one code for all overloads must be able to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trait {
    None,
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Negate,
    Compare,
    Size,
    Match,
    List,
}

#[derive(Clone, Debug)]
pub(crate) struct Function {
    pub name: &'static str,
    pub overloads: Vec<Overload>,
    /// One code for all overloads.
    pub singleton: Option<(Trait, Passing, Code)>,
    /// The code checks its arguments' types itself.
    pub unguarded: bool,
}

impl Function {
    pub fn new(name: &'static str) -> Self {
        Function { name, overloads: Vec::new(), singleton: None, unguarded: false }
    }

    fn overload(mut self, id: &'static str, member: bool, args: Vec<Type>, result: Type) -> Self {
        let mut params = Vec::new();
        for t in args.iter().chain([&result]) {
            collect_params(t, &mut params);
        }
        self.overloads.push(Overload { id, member, args, result, code: None, params });
        self
    }

    pub fn global(self, id: &'static str, args: Vec<Type>, result: Type) -> Self {
        self.overload(id, false, args, result)
    }

    pub fn member(self, id: &'static str, args: Vec<Type>, result: Type) -> Self {
        self.overload(id, true, args, result)
    }

    /// The code of the overload declared last.
    pub fn code(mut self, code: Code) -> Self {
        if let Some(last) = self.overloads.last_mut() {
            let passing = if last.args.len() <= 2 { Passing::Fixed } else { Passing::Variadic };
            last.code = Some((passing, code));
        }
        self
    }

    pub fn variadic(mut self, code: Code) -> Self {
        if let Some(last) = self.overloads.last_mut() {
            last.code = Some((Passing::Variadic, code));
        }
        self
    }

    pub fn singleton(mut self, needs: Trait, code: Code) -> Self {
        self.singleton = Some((needs, Passing::Fixed, code));
        self
    }

    pub fn unguarded(mut self) -> Self {
        self.unguarded = true;
        self
    }

    /// Adds another declaration of the same function: overloads of new ids, and its code for all if this has none.
    pub fn merge(&mut self, other: Function) {
        for overload in other.overloads {
            match self.overloads.iter_mut().find(|o| o.id == overload.id) {
                Some(known) => *known = overload,
                None => self.overloads.push(overload),
            }
        }
        if self.singleton.is_none() {
            self.singleton = other.singleton;
        }
        self.unguarded |= other.unguarded;
    }
}

fn collect_params(t: &Type, into: &mut Vec<Arc<str>>) {
    if let Type::Param(name) = t
        && !into.contains(name)
    {
        into.push(name.clone());
    }
    for p in t.parameters() {
        collect_params(p, into);
    }
}

/// The shorthand function tables are written in.
pub(crate) mod short {
    pub(crate) use super::{Function, Trait};
    pub use crate::types::Type::{self, *};

    pub fn a() -> Type {
        Type::param("A")
    }

    pub fn b() -> Type {
        Type::param("B")
    }

    pub fn list(t: Type) -> Type {
        Type::list(t)
    }

    pub fn map(k: Type, v: Type) -> Type {
        Type::map(k, v)
    }

    pub fn func(name: &'static str) -> Function {
        Function::new(name)
    }
}
