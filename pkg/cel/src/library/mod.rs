//! The functions of the base environment, one library per file, named as upstream names them.
//!
//! Each file declares its overloads, upstream's ids and order included, and has their code. Costs are elsewhere
//! (`cost`), macros in the parser.

pub mod authz;
pub(crate) mod cidr;
pub(crate) mod ext_lists;
pub(crate) mod format;
pub(crate) mod format_string;
pub(crate) mod ip;
mod jsonpatch;
pub(crate) mod lists;
pub(crate) mod map_insert;
pub(crate) mod operators;
pub(crate) mod optional;
pub(crate) mod quantity;
pub(crate) mod regex;
pub(crate) mod semver;
pub(crate) mod sets;
pub(crate) mod standard;
pub(crate) mod strings;
pub(crate) mod times;
pub(crate) mod types;
mod url;
pub(crate) mod urls;

use crate::decls::Function;
use crate::env::Library;
use crate::eval::EvalError;
use crate::val::Val;
use crate::val::ops::no_overload;

/// The functions of a library outside the base environment.
pub(crate) fn extra(library: Library) -> Vec<Function> {
    match library {
        Library::Bindings => Vec::new(),
        Library::JsonPatch => jsonpatch::functions(),
        Library::Includes => lists::includes(),
    }
}

/// An argument that must be a string.
fn text<'v>(args: &'v [Val<'_>], i: usize) -> Result<&'v str, EvalError> {
    args.get(i).and_then(Val::as_str).ok_or_else(no_overload)
}

/// An argument that must be an integer.
fn int(args: &[Val<'_>], i: usize) -> Result<i64, EvalError> {
    args.get(i).and_then(Val::as_i64).ok_or_else(no_overload)
}

/// An argument that must be a list.
fn list<'v, 'a>(args: &'v [Val<'a>], i: usize) -> Result<&'v crate::val::List<'a>, EvalError> {
    match args.get(i) {
        Some(Val::List(list)) => Ok(list),
        _ => Err(no_overload()),
    }
}

/// An argument that must be an object of one type.
fn object<'v, T: crate::val::Object + 'static>(args: &'v [Val<'_>], i: usize) -> Result<&'v T, EvalError> {
    args.get(i).and_then(Val::as_object).ok_or_else(no_overload)
}
