//! Functions of the standard library: sizes, conversions, string tests.

use super::text;
use crate::decls::short::*;
use crate::eval::{EvalError, Res};
use crate::regexp::Regexp;
use crate::val::Val;
use crate::val::ops::no_overload;
use std::sync::Arc;

fn same<'a>(args: &[Val<'a>]) -> Res<'a> {
    Ok(args[0].clone())
}

macro_rules! to {
    ($t:expr) => {
        |args| args[0].convert(&$t)
    };
}

fn size<'a>(args: &[Val<'a>]) -> Res<'a> {
    args[0].size().map(|n| Val::Int(n as i64)).ok_or_else(no_overload)
}

fn sizes() -> Function {
    func("size")
        .global("size_bytes", vec![Bytes], Int)
        .member("bytes_size", vec![Bytes], Int)
        .global("size_list", vec![list(a())], Int)
        .member("list_size", vec![list(a())], Int)
        .global("size_map", vec![map(a(), b())], Int)
        .member("map_size", vec![map(a(), b())], Int)
        .global("size_string", vec![String], Int)
        .member("string_size", vec![String], Int)
        .singleton(Trait::Size, size)
}

fn conversions() -> Vec<Function> {
    vec![
        func("type")
            .global("type", vec![a()], Type::type_of(a()))
            .singleton(Trait::None, |args| Ok(Val::Type(Arc::new(args[0].type_value())))),
        func("bool")
            .global("bool_to_bool", vec![Bool], Bool)
            .code(same)
            .global("string_to_bool", vec![String], Bool)
            .code(to!(Bool)),
        func("bytes")
            .global("bytes_to_bytes", vec![Bytes], Bytes)
            .code(same)
            .global("string_to_bytes", vec![String], Bytes)
            .code(to!(Bytes)),
        func("double")
            .global("double_to_double", vec![Double], Double)
            .code(same)
            .global("int64_to_double", vec![Int], Double)
            .code(to!(Double))
            .global("string_to_double", vec![String], Double)
            .code(to!(Double))
            .global("uint64_to_double", vec![Uint], Double)
            .code(to!(Double)),
        func("duration")
            .global("duration_to_duration", vec![Duration], Duration)
            .code(same)
            .global("string_to_duration", vec![String], Duration)
            .code(to!(Duration)),
        func("dyn").global("to_dyn", vec![a()], Dyn).singleton(Trait::None, same),
        func("int")
            .global("int64_to_int64", vec![Int], Int)
            .code(same)
            .global("double_to_int64", vec![Double], Int)
            .code(to!(Int))
            .global("duration_to_int64", vec![Duration], Int)
            .code(to!(Int))
            .global("string_to_int64", vec![String], Int)
            .code(to!(Int))
            .global("timestamp_to_int64", vec![Timestamp], Int)
            .code(to!(Int))
            .global("uint64_to_int64", vec![Uint], Int)
            .code(to!(Int)),
        func("timestamp")
            .global("timestamp_to_timestamp", vec![Timestamp], Timestamp)
            .code(same)
            .global("int64_to_timestamp", vec![Int], Timestamp)
            .code(to!(Timestamp))
            .global("string_to_timestamp", vec![String], Timestamp)
            .code(to!(Timestamp)),
        func("uint")
            .global("uint64_to_uint64", vec![Uint], Uint)
            .code(same)
            .global("double_to_uint64", vec![Double], Uint)
            .code(to!(Uint))
            .global("int64_to_uint64", vec![Int], Uint)
            .code(to!(Uint))
            .global("string_to_uint64", vec![String], Uint)
            .code(to!(Uint)),
    ]
}

fn to_string() -> Function {
    func("string")
        .global("string_to_string", vec![String], String)
        .code(same)
        .global("bool_to_string", vec![Bool], String)
        .code(to!(String))
        .global("bytes_to_string", vec![Bytes], String)
        .code(to!(String))
        .global("double_to_string", vec![Double], String)
        .code(to!(String))
        .global("duration_to_string", vec![Duration], String)
        .code(to!(String))
        .global("int64_to_string", vec![Int], String)
        .code(to!(String))
        .global("timestamp_to_string", vec![Timestamp], String)
        .code(to!(String))
        .global("uint64_to_string", vec![Uint], String)
        .code(to!(String))
}

fn matches<'a>(args: &[Val<'a>]) -> Res<'a> {
    let (subject, pattern) = (text(args, 0)?, text(args, 1)?);
    Ok(Val::Bool(Regexp::new(pattern).map_err(EvalError::new)?.is_match(subject)))
}

pub(crate) fn functions() -> Vec<Function> {
    let mut all = conversions();
    all.extend([
        sizes(),
        to_string(),
        func("contains")
            .member("contains_string", vec![String, String], Bool)
            .code(|args| Ok(Val::Bool(text(args, 0)?.contains(text(args, 1)?))))
            .unguarded(),
        func("endsWith")
            .member("ends_with_string", vec![String, String], Bool)
            .code(|args| Ok(Val::Bool(text(args, 0)?.ends_with(text(args, 1)?))))
            .unguarded(),
        func("startsWith")
            .member("starts_with_string", vec![String, String], Bool)
            .code(|args| Ok(Val::Bool(text(args, 0)?.starts_with(text(args, 1)?))))
            .unguarded(),
        func("matches")
            .global("matches", vec![String, String], Bool)
            .member("matches_string", vec![String, String], Bool)
            .singleton(Trait::Match, matches),
    ]);
    all
}
