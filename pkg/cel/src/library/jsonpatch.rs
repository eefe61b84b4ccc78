//! Keys in JSON Patch paths (upstream's pkg/cel/library/jsonpatch.go).

use super::text;
use crate::decls::short::*;
use crate::val::Val;

pub(super) fn functions() -> Vec<Function> {
    vec![
        func("jsonpatch.escapeKey")
            .global("string_jsonpatch_escapeKey_string", vec![String], String)
            .code(|args| Ok(Val::str(text(args, 0)?.replace('~', "~0").replace('/', "~1")))),
    ]
}
