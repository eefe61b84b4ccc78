//! Optional values (cel-go cel/library.go `OptionalTypes`).

use super::list as list_arg;
use crate::ast::ops::{INDEX, OPT_INDEX, OPT_SELECT};
use crate::decls::short::*;
use crate::eval::{EvalError, Res};
use crate::val::Val;
use crate::val::ops::no_overload;

fn optional<'v, 'a>(args: &'v [Val<'a>]) -> Result<Option<&'v Val<'a>>, EvalError> {
    match &args[0] {
        Val::Optional(v) => Ok(v.as_deref()),
        _ => Err(no_overload()),
    }
}

fn end<'a>(args: &[Val<'a>], last: bool) -> Res<'a> {
    let items = list_arg(args, 0)?;
    let at = if last { items.len().wrapping_sub(1) } else { 0 };
    items.get(at).map_or(Ok(Val::Optional(None)), |v| v.map(Val::some))
}

fn unwrap<'a>(args: &[Val<'a>]) -> Res<'a> {
    let mut out = Vec::new();
    for item in list_arg(args, 0)?.iter() {
        match item? {
            Val::Optional(Some(v)) => out.push((*v).clone()),
            Val::Optional(None) => {}
            other => return Err(EvalError::new(format!("value {} is not optional", other.display()))),
        }
    }
    Ok(Val::list(out))
}

pub(crate) fn functions() -> Vec<Function> {
    let (k, v) = (Type::param("K"), Type::param("V"));
    let opt = || Type::optional(v.clone());
    let list_v = || list(v.clone());
    let map_kv = || map(k.clone(), v.clone());
    vec![
        func("optional.of")
            .global("optional_of", vec![v.clone()], opt())
            .code(|args| Ok(Val::some(args[0].clone()))),
        func("optional.ofNonZeroValue").global("optional_ofNonZeroValue", vec![v.clone()], opt()).code(
            |args| Ok(if args[0].is_zero() { Val::Optional(None) } else { Val::some(args[0].clone()) }),
        ),
        func("optional.none").global("optional_none", vec![], opt()).code(|_| Ok(Val::Optional(None))),
        func("value").member("optional_value", vec![opt()], v.clone()).code(|args| {
            optional(args)?.cloned().ok_or_else(|| EvalError::new("optional.none() dereference"))
        }),
        func("hasValue")
            .member("optional_hasValue", vec![opt()], Bool)
            .code(|args| Ok(Val::Bool(optional(args)?.is_some()))),
        func("or").member("optional_or_optional", vec![opt(), opt()], opt()),
        func("orValue").member("optional_orValue_value", vec![opt(), v.clone()], v.clone()),
        func(OPT_SELECT).global("select_optional_field", vec![Dyn, String], opt()),
        func(OPT_INDEX)
            .global("list_optindex_optional_int", vec![list_v(), Int], opt())
            .global("optional_list_optindex_optional_int", vec![Type::optional(list_v()), Int], opt())
            .global("map_optindex_optional_value", vec![map_kv(), k.clone()], opt())
            .global("optional_map_optindex_optional_value", vec![Type::optional(map_kv()), k.clone()], opt()),
        func(INDEX).global("optional_list_index_int", vec![Type::optional(list_v()), Int], opt()).global(
            "optional_map_index_value",
            vec![Type::optional(map_kv()), k.clone()],
            opt(),
        ),
        func("last").member("list_last", vec![list_v()], opt()).code(|args| end(args, true)),
        func("first").member("list_first", vec![list_v()], opt()).code(|args| end(args, false)),
        func("optional.unwrap").global("optional_unwrap", vec![list(opt())], list_v()).code(unwrap),
        func("unwrapOpt").member("optional_unwrapOpt", vec![list(opt())], list_v()).code(unwrap),
    ]
}
