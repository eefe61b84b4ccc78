//! Lists as sets (cel-go ext/sets.go).

use super::list as list_arg;
use crate::decls::short::*;
use crate::eval::EvalError;
use crate::val::{List as Items, Val, equal::list_contains};

fn contains(whole: &Items<'_>, part: &Items<'_>) -> Result<bool, EvalError> {
    for item in part.iter() {
        if !list_contains(whole, &item?)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn intersects(one: &Items<'_>, other: &Items<'_>) -> Result<bool, EvalError> {
    for item in one.iter() {
        match item.and_then(|item| list_contains(other, &item)) {
            Ok(true) => return Ok(true),
            Err(e) if e.is_final() => return Err(e),
            _ => {}
        }
    }
    Ok(false)
}

pub(crate) fn functions() -> Vec<Function> {
    let t = || list(Type::param("T"));
    vec![
        func("sets.contains")
            .global("list_sets_contains_list", vec![t(), t()], Bool)
            .code(|args| contains(list_arg(args, 0)?, list_arg(args, 1)?).map(Val::Bool)),
        func("sets.equivalent").global("list_sets_equivalent_list", vec![t(), t()], Bool).code(|args| {
            let (one, other) = (list_arg(args, 0)?, list_arg(args, 1)?);
            Ok(Val::Bool(contains(one, other)? && contains(other, one)?))
        }),
        func("sets.intersects")
            .global("list_sets_intersects_list", vec![t(), t()], Bool)
            .code(|args| intersects(list_arg(args, 0)?, list_arg(args, 1)?).map(Val::Bool)),
    ]
}
