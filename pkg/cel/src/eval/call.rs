//! Function calls: evaluating arguments, choosing the code.

use super::node::{Call, Dispatch, Node, PatternCall, Slot};
use super::{EvalError, Frame, Local, Res};
use crate::decls::{Overload, Passing};
use crate::regexp::Regexp;
use crate::types::Type;
use crate::val::{Val, ops};
use smallvec::SmallVec;

pub(super) type Args<'a> = SmallVec<[Val<'a>; 3]>;

/// Whether a value is of a type, as far as can be told at a glance (upstream's `IsAssignableRuntimeType`).
pub(crate) fn is_of(v: &Val<'_>, t: &Type) -> bool {
    match (t, v) {
        (Type::Dyn | Type::Any | Type::Param(_), _) => true,
        (Type::List(element), Val::List(l)) => match l.get(0) {
            Some(Ok(first)) => is_of(&first, element),
            _ => true,
        },
        (Type::Map(kv), Val::Map(m)) => match m.keys().first() {
            None => true,
            Some(k) => {
                is_of(k, &kv.0)
                    && (kv.1.is_dyn() || m.find(k).and_then(Result::ok).is_none_or(|v| is_of(&v, &kv.1)))
            }
        },
        (Type::Nullable(inner), v) => matches!(v, Val::Null) || is_of(v, inner),
        (Type::String, Val::Str(_)) | (Type::Int, Val::Int(_)) | (Type::Bool, Val::Bool(_)) => true,
        (t, v) => t.runtime_name() == v.type_name(),
    }
}

fn fits(args: &[Val<'_>], types: &[Type]) -> bool {
    args.len() == types.len() && args.iter().zip(types).all(|(v, t)| is_of(v, t))
}

fn none_fits(function: &str, args: &[Val<'_>]) -> EvalError {
    let types: Vec<&str> = args.iter().map(Val::type_name).collect();
    EvalError::new(format!("no such overload: {function}({})", types.join(", ")))
}

impl<'a> Frame<'a, '_> {
    /// The call's outcome, and its arguments where upstream would charge for it.
    pub(super) fn dispatch(&mut self, call: &'a Call) -> (Res<'a>, Option<Args<'a>>) {
        match &call.dispatch {
            Dispatch::Singleton(needs, passing, code) => self.with_args(call, *passing, |args| {
                if let Some(receiver) = args.first() {
                    ops::require(receiver, *needs, call.function)?;
                }
                code(args)
            }),
            Dispatch::One { passing, code, guard } => self.with_args(call, *passing, |args| match guard {
                Some(types) if !fits(args, types) => Err(none_fits(call.function, args)),
                _ => code(args),
            }),
            Dispatch::Many(overloads, unguarded) => self
                .with_args(call, Passing::Variadic, |args| many(call.function, overloads, *unguarded, args)),
            Dispatch::NotStrictlyFalse => self.not_strictly_false(call),
            Dispatch::Pattern(kind, pattern) => {
                self.with_args(call, Passing::Variadic, |args| matched(*kind, pattern, args))
            }
            Dispatch::Missing => self.with_args(call, Passing::Fixed, |args| match args.first() {
                Some(Val::Str(_) | Val::Duration(_) | Val::Timestamp(_)) => Err(ops::no_overload()),
                _ => Err(EvalError::new(format!("no such overload: {}", call.function))),
            }),
        }
    }

    fn with_args(
        &mut self,
        call: &'a Call,
        passing: Passing,
        code: impl FnOnce(&[Val<'a>]) -> Res<'a>,
    ) -> (Res<'a>, Option<Args<'a>>) {
        let mut args = Args::new();
        let mut failed = None;
        for (i, arg) in call.args.iter().enumerate() {
            match self.eval(arg) {
                Ok(v) => args.push(v),
                Err(e) if e.is_final() => return (Err(e), None),
                Err(e) => {
                    args.push(Val::Null);
                    if passing == Passing::Variadic {
                        let last = i + 1 == call.args.len();
                        return (Err(e), last.then_some(args));
                    }
                    failed = failed.or(Some(e));
                }
            }
        }
        let result = match failed {
            Some(e) => Err(e),
            None => code(&args),
        };
        (result, Some(args))
    }

    fn not_strictly_false(&mut self, call: &'a Call) -> (Res<'a>, Option<Args<'a>>) {
        let result = match call.args.first().map(|arg| self.eval(arg)) {
            Some(Ok(Val::Bool(b))) => Val::Bool(b),
            Some(Err(e)) if e.is_final() => return (Err(e), None),
            _ => Val::Bool(true),
        };
        (Ok(result), Some(Args::new()))
    }

    /// Takes a comprehension's accumulator to change it in place; the step's result takes its place again.
    fn take_local(&mut self, slot: Slot) -> Result<Res<'a>, EvalError> {
        // Makes it ready first.
        let value = self.local(slot);
        if let Err(e) = &value
            && e.is_final()
        {
            return Err(e.clone());
        }
        self.locals[slot] = Local::Unset;
        self.charge(crate::cost::IDENT)?;
        Ok(value)
    }

    pub(super) fn append(&mut self, slot: Slot, list: &'a Node) -> Res<'a> {
        let accu = self.take_local(slot)?;
        let more = self.operand(list)?;
        let result = match (accu, more) {
            (Err(e), _) | (_, Err(e)) => Err(e),
            (Ok(Val::List(mut accu)), Ok(Val::List(more))) => {
                let pushed = more.iter().try_for_each(|item| accu.push(item?));
                pushed.map(|()| Val::List(accu))
            }
            (Ok(l), Ok(r)) => ops::add(&l, &r),
        };
        self.charge(1)?;
        super::passed(result)
    }

    pub(super) fn insert(&mut self, slot: Slot, args: &'a [Node]) -> Res<'a> {
        let accu = match self.take_local(slot)? {
            Err(e) if args.len() == 2 => return Err(e),
            accu => accu,
        };
        let mut values = Args::new();
        for (i, arg) in args.iter().enumerate() {
            match self.operand(arg)? {
                Ok(v) => values.push(v),
                Err(e) => {
                    if i + 1 == args.len() {
                        self.charge(1)?;
                    }
                    return Err(e);
                }
            }
        }
        let result = accu.and_then(|accu| insert_into(accu, &values));
        self.charge(1)?;
        super::passed(result)
    }
}

fn insert_into<'a>(accu: Val<'a>, args: &[Val<'a>]) -> Res<'a> {
    let Val::Map(mut map) = accu else { return Err(ops::no_overload()) };
    match args {
        [Val::Map(entries)] => {
            for k in entries.keys() {
                if let Some(v) = entries.find(&k) {
                    map.insert(k, v?)?;
                }
            }
        }
        [k, v] => map.insert(k.clone(), v.clone())?,
        _ => return Err(ops::no_overload()),
    }
    Ok(Val::Map(map))
}

fn many<'a>(function: &str, overloads: &[Overload], unguarded: bool, args: &[Val<'a>]) -> Res<'a> {
    for overload in overloads {
        if let Some((_, code)) = overload.code
            && args.len() == overload.args.len()
            && (unguarded || fits(args, &overload.args))
        {
            return code(args);
        }
    }
    Err(none_fits(function, args))
}

fn matched<'a>(kind: PatternCall, pattern: &Regexp, args: &[Val<'a>]) -> Res<'a> {
    let Some(Val::Str(text)) = args.first() else { return Err(ops::no_overload()) };
    match (kind, args.get(2)) {
        (PatternCall::Matches, None) => Ok(Val::Bool(pattern.is_match(text))),
        (PatternCall::Find, None) => Ok(Val::str(pattern.find(text))),
        (PatternCall::FindAll, None) => Ok(Val::strings(pattern.find_all(text, -1))),
        (PatternCall::FindAll, Some(Val::Int(n))) => Ok(Val::strings(pattern.find_all(text, *n))),
        _ => Err(ops::no_overload()),
    }
}
