//! Operators of the standard library, except those the planner knows itself.

use crate::ast::ops::{self as op, *};
use crate::decls::short::{Bool as BoolT, *};
use crate::eval::Res;
use crate::val::{Val, ops};
use std::cmp::Ordering;

/// Overloads that compare numbers of different types.
pub(crate) fn is_cross_type(overload: &str) -> bool {
    let Some((_, pair)) = overload
        .strip_prefix("less_equals_")
        .or_else(|| overload.strip_prefix("less_"))
        .or_else(|| overload.strip_prefix("greater_equals_"))
        .or_else(|| overload.strip_prefix("greater_"))
        .map(|pair| ((), pair))
    else {
        return false;
    };
    matches!(
        pair,
        "int64_double" | "int64_uint64" | "uint64_double" | "uint64_int64" | "double_int64" | "double_uint64"
    )
}

macro_rules! ordering {
    ($name:expr, $prefix:literal, $holds:expr) => {
        func($name)
            .global(concat!($prefix, "_bool"), vec![BoolT, BoolT], BoolT)
            .global(concat!($prefix, "_int64"), vec![Int, Int], BoolT)
            .global(concat!($prefix, "_int64_double"), vec![Int, Double], BoolT)
            .global(concat!($prefix, "_int64_uint64"), vec![Int, Uint], BoolT)
            .global(concat!($prefix, "_uint64"), vec![Uint, Uint], BoolT)
            .global(concat!($prefix, "_uint64_double"), vec![Uint, Double], BoolT)
            .global(concat!($prefix, "_uint64_int64"), vec![Uint, Int], BoolT)
            .global(concat!($prefix, "_double"), vec![Double, Double], BoolT)
            .global(concat!($prefix, "_double_int64"), vec![Double, Int], BoolT)
            .global(concat!($prefix, "_double_uint64"), vec![Double, Uint], BoolT)
            .global(concat!($prefix, "_string"), vec![String, String], BoolT)
            .global(concat!($prefix, "_bytes"), vec![Bytes, Bytes], BoolT)
            .global(concat!($prefix, "_timestamp"), vec![Timestamp, Timestamp], BoolT)
            .global(concat!($prefix, "_duration"), vec![Duration, Duration], BoolT)
            .singleton(Trait::Compare, |args| {
                let holds: fn(Ordering) -> bool = $holds;
                Ok(Val::Bool(holds(ops::compare(&args[0], &args[1])?)))
            })
    };
}

fn no_code<'a>(_: &[Val<'a>]) -> Res<'a> {
    Err(ops::no_overload())
}

fn arithmetic() -> Vec<Function> {
    vec![
        func(ADD)
            .global("add_bytes", vec![Bytes, Bytes], Bytes)
            .global("add_double", vec![Double, Double], Double)
            .global("add_duration_duration", vec![Duration, Duration], Duration)
            .global("add_duration_timestamp", vec![Duration, Timestamp], Timestamp)
            .global("add_timestamp_duration", vec![Timestamp, Duration], Timestamp)
            .global("add_int64", vec![Int, Int], Int)
            .global("add_list", vec![list(a()), list(a())], list(a()))
            .global("add_string", vec![String, String], String)
            .global("add_uint64", vec![Uint, Uint], Uint)
            .singleton(Trait::None, |args| ops::add(&args[0], &args[1])),
        func(DIVIDE)
            .global("divide_double", vec![Double, Double], Double)
            .global("divide_int64", vec![Int, Int], Int)
            .global("divide_uint64", vec![Uint, Uint], Uint)
            .singleton(Trait::None, |args| ops::divide(&args[0], &args[1])),
        func(MODULO)
            .global("modulo_int64", vec![Int, Int], Int)
            .global("modulo_uint64", vec![Uint, Uint], Uint)
            .singleton(Trait::None, |args| ops::modulo(&args[0], &args[1])),
        func(MULTIPLY)
            .global("multiply_double", vec![Double, Double], Double)
            .global("multiply_int64", vec![Int, Int], Int)
            .global("multiply_uint64", vec![Uint, Uint], Uint)
            .singleton(Trait::None, |args| ops::multiply(&args[0], &args[1])),
        func(NEGATE)
            .global("negate_double", vec![Double], Double)
            .global("negate_int64", vec![Int], Int)
            .singleton(Trait::None, |args| ops::negate(&args[0])),
        func(SUBTRACT)
            .global("subtract_double", vec![Double, Double], Double)
            .global("subtract_duration_duration", vec![Duration, Duration], Duration)
            .global("subtract_int64", vec![Int, Int], Int)
            .global("subtract_timestamp_duration", vec![Timestamp, Duration], Timestamp)
            .global("subtract_timestamp_timestamp", vec![Timestamp, Timestamp], Duration)
            .global("subtract_uint64", vec![Uint, Uint], Uint)
            .singleton(Trait::None, |args| ops::subtract(&args[0], &args[1])),
    ]
}

fn logic() -> Vec<Function> {
    vec![
        func(CONDITIONAL).global("conditional", vec![BoolT, a(), a()], a()).singleton(Trait::None, no_code),
        func(AND).global("logical_and", vec![BoolT, BoolT], BoolT).singleton(Trait::None, no_code),
        func(OR).global("logical_or", vec![BoolT, BoolT], BoolT).singleton(Trait::None, no_code),
        func(NOT).global("logical_not", vec![BoolT], BoolT).singleton(Trait::None, |args| match args[0] {
            Val::Bool(b) => Ok(Val::Bool(!b)),
            _ => Err(ops::no_overload()),
        }),
        func(NOT_STRICTLY_FALSE).global("not_strictly_false", vec![BoolT], BoolT).code(no_code),
        func(EQUALS).global("equals", vec![a(), a()], BoolT).singleton(Trait::None, no_code),
        func(NOT_EQUALS).global("not_equals", vec![a(), a()], BoolT).singleton(Trait::None, no_code),
    ]
}

pub(crate) fn functions() -> Vec<Function> {
    let mut all = logic();
    all.extend(arithmetic());
    all.extend([
        ordering!(LESS, "less", Ordering::is_lt),
        ordering!(LESS_EQUALS, "less_equals", Ordering::is_le),
        ordering!(GREATER, "greater", Ordering::is_gt),
        ordering!(GREATER_EQUALS, "greater_equals", Ordering::is_ge),
        func(INDEX)
            .global("index_list", vec![list(a()), Int], a())
            .global("index_map", vec![map(a(), b()), a()], b())
            .singleton(Trait::None, no_code),
        func(op::IN)
            .global("in_list", vec![a(), list(a())], BoolT)
            .global("in_map", vec![a(), map(a(), b())], BoolT)
            .singleton(Trait::None, |args| ops::contains(&args[0], &args[1]).map(Val::Bool)),
    ]);
    all
}
