//! The list extension, version 3 (cel-go ext/lists.go).

use super::{int, list as list_arg};
use crate::decls::short::*;
use crate::eval::{EvalError, Res};
use crate::val::{List as Items, Val, equal::equal, ops};
use std::cmp::Ordering;

/// The longest list `lists.range` makes.
const MAX_RANGE: i64 = 1_000_000;

fn slice<'a>(args: &[Val<'a>]) -> Res<'a> {
    let (items, start, end) = (list_arg(args, 0)?, int(args, 1)?, int(args, 2)?);
    let why = if start < 0 || end < 0 {
        "negative indexes not supported".to_owned()
    } else if start > end {
        "start index must be less than or equal to end index".to_owned()
    } else if (items.len() as i64) < end {
        format!("list is length {}", items.len())
    } else {
        let part = (start..end).filter_map(|i| items.get(i as usize)).collect::<Result<_, _>>()?;
        return Ok(Val::list(part));
    };
    Err(EvalError::new(format!("cannot slice({start}, {end}), {why}")))
}

fn flatten_into<'a>(items: &Items<'a>, depth: i64, out: &mut Vec<Val<'a>>) -> Result<(), EvalError> {
    for item in items.iter() {
        match item? {
            Val::List(inner) if depth > 0 => flatten_into(&inner, depth - 1, out)?,
            other => out.push(other),
        }
    }
    Ok(())
}

fn flatten<'a>(args: &[Val<'a>]) -> Res<'a> {
    let depth = if args.len() == 2 { int(args, 1)? } else { 1 };
    let Val::List(items) = &args[0] else {
        let t = crate::val::convert::plain_type(&args[0].type_value());
        let with = if args.len() == 2 { "int" } else { "" };
        return Err(EvalError::new(format!("no such overload: {t}.flatten({with})")));
    };
    if depth < 0 {
        return Err(EvalError::new("level must be non-negative"));
    }
    let mut out = Vec::new();
    flatten_into(items, depth, &mut out)?;
    Ok(Val::list(out))
}

fn range<'a>(args: &[Val<'a>]) -> Res<'a> {
    let n = int(args, 0)?;
    if n < 0 {
        return Err(EvalError::new(format!("lists.range: size must be non-negative, got {n}")));
    }
    if n > MAX_RANGE {
        return Err(EvalError::new(format!("lists.range: size {n} exceeds maximum allowed ({MAX_RANGE})")));
    }
    Ok(Val::list((0..n).map(Val::Int).collect()))
}

fn distinct<'a>(args: &[Val<'a>]) -> Res<'a> {
    let mut out: Vec<Val<'a>> = Vec::new();
    for item in list_arg(args, 0)?.iter() {
        let item = item?;
        if !out.iter().any(|known| equal(&item, known).unwrap_or(false)) {
            out.push(item);
        }
    }
    Ok(Val::list(out))
}

fn sort_by<'a>(items: &Items<'a>, keys: &Items<'a>) -> Res<'a> {
    let (n, m) = (items.len(), keys.len());
    if n != m {
        return Err(EvalError::new(format!(
            "@sortByAssociatedKeys() expected a list of the same size as the associated keys list, but got {n} and \
             {m} elements respectively"
        )));
    }
    let keys = keys.to_vec()?;
    let Some(first) = keys.first() else { return Ok(Val::List(items.clone())) };
    if ops::require(first, Trait::Compare, "").is_err() {
        return Err(EvalError::new("list elements must be comparable"));
    }
    if keys.iter().any(|k| k.type_name() != first.type_name()) {
        return Err(EvalError::new("list elements must have the same type"));
    }
    let mut order: Vec<usize> = (0..n).collect();
    // Upstream's sort is not stable; equal keys keep their order here.
    order.sort_by(|a, b| ops::compare(&keys[*a], &keys[*b]).unwrap_or(Ordering::Equal));
    Ok(Val::list(order.into_iter().filter_map(|i| items.get(i)).collect::<Result<_, _>>()?))
}

macro_rules! templated {
    ($f:expr, $make:ident) => {
        $make!(
            $f, "int" Int, "uint" Uint, "double" Double, "bool" Bool, "google.protobuf.Duration" Duration,
            "google.protobuf.Timestamp" Timestamp, "string" String, "bytes" Bytes
        )
    };
}

macro_rules! sorts {
    ($f:expr, $($name:literal $t:expr),*) => {
        $f$(.member(concat!("list_", $name, "_sort"), vec![list($t)], list($t)))*
    };
}

macro_rules! sorts_by {
    ($f:expr, $($name:literal $t:expr),*) => {
        $f$(.member(
            concat!("list_", $name, "_sortByAssociatedKeys"),
            vec![list(Type::param("T")), list($t)],
            list(Type::param("T")),
        ))*
    };
}

pub(crate) fn functions() -> Vec<Function> {
    let t = || list(Type::param("T"));
    vec![
        func("slice").member("list_slice", vec![t(), Int, Int], t()).code(slice),
        func("flatten")
            .member("list_flatten", vec![list(t())], t())
            .code(flatten)
            .member("list_flatten_int", vec![list(Dyn), Int], list(Dyn))
            .code(flatten)
            .unguarded(),
        templated!(func("sort"), sorts).singleton(Trait::List, |args| {
            let items = list_arg(args, 0)?;
            sort_by(items, items)
        }),
        templated!(func("@sortByAssociatedKeys"), sorts_by)
            .singleton(Trait::List, |args| sort_by(list_arg(args, 0)?, list_arg(args, 1)?)),
        func("lists.range").global("lists_range", vec![Int], list(Int)).code(range),
        func("reverse").member("list_reverse", vec![t()], t()).code(|args| {
            let mut items = list_arg(args, 0)?.to_vec()?;
            items.reverse();
            Ok(Val::list(items))
        }),
        func("distinct").member("list_distinct", vec![t()], t()).code(distinct),
    ]
}
