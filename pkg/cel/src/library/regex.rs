//! Finding patterns (upstream's pkg/cel/library/regex.go).

use super::{int, text};
use crate::decls::short::*;
use crate::eval::{EvalError, Res};
use crate::regexp::Regexp;
use crate::val::Val;

fn pattern(args: &[Val<'_>]) -> Result<Regexp, EvalError> {
    Regexp::new(text(args, 1)?).map_err(|e| EvalError::new(format!("Illegal regex: {e}")))
}

fn find_all<'a>(args: &[Val<'a>]) -> Res<'a> {
    let limit = if args.len() == 3 { int(args, 2)? } else { -1 };
    Ok(Val::strings(pattern(args)?.find_all(text(args, 0)?, limit)))
}

pub(crate) fn functions() -> Vec<Function> {
    vec![
        func("find")
            .member("string_find_string", vec![String, String], String)
            .code(|args| Ok(Val::str(pattern(args)?.find(text(args, 0)?)))),
        func("findAll")
            .member("string_find_all_string", vec![String, String], list(String))
            .code(find_all)
            .member("string_find_all_string_int", vec![String, String, Int], list(String))
            .code(find_all),
    ]
}
