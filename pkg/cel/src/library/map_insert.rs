//! The function that map-building macros expand to (cel-go ext/comprehensions.go). The planner usually inserts in
//! place instead of calling it.

use crate::decls::short::*;
use crate::eval::Res;
use crate::parser::macros::MAP_INSERT;
use crate::val::Val;
use crate::val::ops::no_overload;

fn insert<'a>(args: &[Val<'a>]) -> Res<'a> {
    let Val::Map(mut m) = args[0].clone() else { return Err(no_overload()) };
    m.insert(args[1].clone(), args[2].clone())?;
    Ok(Val::Map(m))
}

fn insert_all<'a>(args: &[Val<'a>]) -> Res<'a> {
    let (Val::Map(mut m), Val::Map(more)) = (args[0].clone(), &args[1]) else { return Err(no_overload()) };
    for k in more.keys() {
        if let Some(v) = more.find(&k) {
            m.insert(k, v?)?;
        }
    }
    Ok(Val::Map(m))
}

pub(crate) fn functions() -> Vec<Function> {
    let (k, v) = (Type::param("K"), Type::param("V"));
    let m = || map(k.clone(), v.clone());
    vec![
        func(MAP_INSERT)
            .global("@mapInsert_map_key_value", vec![m(), k.clone(), v.clone()], m())
            .code(insert)
            .global("@mapInsert_map_map", vec![m(), m()], m())
            .code(insert_all),
    ]
}
