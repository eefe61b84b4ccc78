//! Kubernetes' list functions (upstream's pkg/cel/library/lists.go).

use super::list as list_arg;
use crate::decls::short::*;
use crate::eval::{EvalError, Res};
use crate::val::{Val, equal::equal, ops};
use std::cmp::Ordering;

fn is_sorted<'a>(args: &[Val<'a>]) -> Res<'a> {
    let mut previous: Option<Val<'a>> = None;
    for item in list_arg(args, 0)?.iter() {
        let item = item?;
        ops::require(&item, Trait::Compare, "isSorted").map_err(|_| ops::no_overload())?;
        if let Some(previous) = &previous
            && matches!(ops::compare(previous, &item), Ok(Ordering::Greater))
        {
            return Ok(Val::Bool(false));
        }
        previous = Some(item);
    }
    Ok(Val::Bool(true))
}

fn sum<'a>(args: &[Val<'a>], zero: Val<'a>) -> Res<'a> {
    let mut sum = zero;
    for item in list_arg(args, 0)?.iter() {
        sum = ops::add(&sum, &item?)?;
    }
    Ok(sum)
}

/// The first of the items that none other comes before in the order wanted.
fn extreme<'a>(args: &[Val<'a>], name: &str, replaces: Ordering) -> Res<'a> {
    let mut best: Option<Val<'a>> = None;
    for item in list_arg(args, 0)?.iter() {
        let item = item?;
        ops::require(&item, Trait::Compare, name).map_err(|_| ops::no_overload())?;
        match &best {
            Some(known) if ops::compare(known, &item).ok() != Some(replaces) => {}
            _ => best = Some(item),
        }
    }
    best.ok_or_else(|| EvalError::new(format!("{name} called on empty list")))
}

fn is(item: Res<'_>, wanted: &Val<'_>) -> bool {
    item.and_then(|item| equal(&item, wanted)).unwrap_or(false)
}

fn index_of<'a>(args: &[Val<'a>], last: bool) -> Res<'a> {
    let items = list_arg(args, 0)?;
    let found = |i: &usize| items.get(*i).is_some_and(|item| is(item, &args[1]));
    let at = if last { (0..items.len()).rev().find(found) } else { (0..items.len()).find(found) };
    Ok(Val::Int(at.map_or(-1, |i| i as i64)))
}

fn holds<'a>(args: &[Val<'a>]) -> Res<'a> {
    Ok(Val::Bool(match &args[0] {
        Val::List(items) => items.iter().any(|item| is(item, &args[1])),
        one => is(Ok(one.clone()), &args[1]),
    }))
}

/// `includes` alone.
pub(crate) fn includes() -> Vec<Function> {
    vec![func("includes").member("list_includes_dyn_dyn", vec![Dyn, Dyn], Bool).code(holds)]
}

macro_rules! templated {
    ($f:expr, $make:ident) => {
        $make!(
            $f, "int" Int, "uint" Uint, "double" Double, "bool" Bool, "duration" Duration, "timestamp" Timestamp,
            "string" String, "bytes" Bytes
        )
    };
}

macro_rules! sorted {
    ($f:expr, $($name:literal $t:expr),*) => {
        $f$(.member(concat!("list_", $name, "_is_sorted_bool"), vec![list($t)], Bool).code(is_sorted))*
    };
}

macro_rules! max {
    ($f:expr, $($name:literal $t:expr),*) => {
        $f$(.member(concat!("list_", $name, "_max_", $name), vec![list($t)], $t)
            .code(|args| extreme(args, "max", Ordering::Less)))*
    };
}

macro_rules! min {
    ($f:expr, $($name:literal $t:expr),*) => {
        $f$(.member(concat!("list_", $name, "_min_", $name), vec![list($t)], $t)
            .code(|args| extreme(args, "min", Ordering::Greater)))*
    };
}

pub(crate) fn functions(with_includes: bool) -> Vec<Function> {
    let mut all = vec![
        templated!(func("isSorted"), sorted),
        templated!(func("max"), max),
        templated!(func("min"), min),
        func("sum")
            .member("list_int_sum_int", vec![list(Int)], Int)
            .code(|args| sum(args, Val::Int(0)))
            .member("list_uint_sum_uint", vec![list(Uint)], Uint)
            .code(|args| sum(args, Val::Uint(0)))
            .member("list_double_sum_double", vec![list(Double)], Double)
            .code(|args| sum(args, Val::Double(0.0)))
            .member("list_duration_sum_duration", vec![list(Duration)], Duration)
            .code(|args| sum(args, Val::Duration(0))),
        func("indexOf")
            .member("list_a_index_of_int", vec![list(a()), a()], Int)
            .code(|args| index_of(args, false)),
        func("lastIndexOf")
            .member("list_a_last_index_of_int", vec![list(a()), a()], Int)
            .code(|args| index_of(args, true)),
    ];
    if with_includes {
        all.extend(includes());
    }
    all
}
