//! The string extension, versions 0 to 2 (cel-go ext/strings.go).

use super::{format_string, int, list as list_arg, text};
use crate::decls::short::*;
use crate::eval::{EvalError, Res};
use crate::val::Val;
use crate::val::ops::no_overload;

fn out_of_range(i: i64) -> EvalError {
    EvalError::new(format!("index out of range: {i}"))
}

fn char_at<'a>(args: &[Val<'a>]) -> Res<'a> {
    let (s, i) = (text(args, 0)?, int(args, 1)?);
    let at = usize::try_from(i).map_err(|_| out_of_range(i))?;
    match s.chars().nth(at) {
        Some(c) => Ok(Val::str(c.to_string())),
        None if at == s.chars().count() => Ok(Val::from("")),
        None => Err(out_of_range(i)),
    }
}

/// Where `part` starts in `whole`, in code points, looking from `from` on.
fn find(whole: &[char], part: &[char], from: usize) -> i64 {
    let last = whole.len().checked_sub(part.len());
    let found = last.and_then(|last| (from..=last).find(|i| whole[*i..].starts_with(part)));
    found.map_or(-1, |i| i as i64)
}

fn rfind(whole: &[char], part: &[char], from: usize) -> i64 {
    let Some(last) = whole.len().checked_sub(part.len()) else { return -1 };
    (0..=from.min(last)).rev().find(|i| whole[*i..].starts_with(part)).map_or(-1, |i| i as i64)
}

fn index_of<'a>(args: &[Val<'a>]) -> Res<'a> {
    let (s, part) = (text(args, 0)?, text(args, 1)?);
    let from = if args.len() == 3 { int(args, 2)? } else { 0 };
    let start = usize::try_from(from).map_err(|_| out_of_range(from))?;
    let whole: Vec<char> = s.chars().collect();
    if part.is_empty() {
        return Ok(Val::Int(from.min(whole.len() as i64)));
    }
    if start >= whole.len() {
        return Ok(Val::Int(-1));
    }
    let part: Vec<char> = part.chars().collect();
    Ok(Val::Int(find(&whole, &part, start)))
}

fn last_index_of<'a>(args: &[Val<'a>]) -> Res<'a> {
    let (s, part) = (text(args, 0)?, text(args, 1)?);
    let whole: Vec<char> = s.chars().collect();
    let from = if args.len() == 3 {
        int(args, 2)?
    } else if part.is_empty() {
        whole.len() as i64
    } else if s.len() < part.len() {
        return Ok(Val::Int(-1));
    } else {
        whole.len() as i64 - 1
    };
    let start = usize::try_from(from).map_err(|_| out_of_range(from))?;
    if part.is_empty() {
        return Ok(Val::Int(from.min(whole.len() as i64)));
    }
    if start >= whole.len() {
        return Ok(Val::Int(-1));
    }
    let part: Vec<char> = part.chars().collect();
    Ok(Val::Int(rfind(&whole, &part, start)))
}

/// The longest text a replacement may make: the API server's largest request, many times over. Upstream leaves
/// this to memory.
const MAX_TEXT: usize = 256 << 20;

fn replace<'a>(args: &[Val<'a>]) -> Res<'a> {
    let (s, old, new) = (text(args, 0)?, text(args, 1)?, text(args, 2)?);
    let limit = if args.len() == 4 { int(args, 3)? } else { -1 };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let count = s.matches(old).take(limit).count();
    if count.saturating_mul(new.len()).saturating_add(s.len()) > MAX_TEXT {
        return Err(EvalError::new("replace: result too large"));
    }
    Ok(Val::str(s.replacen(old, new, count)))
}

/// Go's `strings.Split`: an empty separator splits into characters, without empty ends.
fn pieces<'s>(s: &'s str, separator: &'s str) -> Vec<&'s str> {
    if separator.is_empty() {
        return s.char_indices().map(|(i, c)| &s[i..i + c.len_utf8()]).collect();
    }
    s.split(separator).collect()
}

fn split<'a>(args: &[Val<'a>]) -> Res<'a> {
    let (s, separator) = (text(args, 0)?, text(args, 1)?);
    let limit = if args.len() == 3 { int(args, 2)? } else { -1 };
    let parts = match usize::try_from(limit) {
        Err(_) => pieces(s, separator),
        Ok(0) => Vec::new(),
        Ok(n) if separator.is_empty() => {
            let mut parts = pieces(s, separator);
            if parts.len() > n {
                let head: usize = parts[..n - 1].iter().map(|p| p.len()).sum();
                parts.truncate(n - 1);
                parts.push(&s[head..]);
            }
            parts
        }
        Ok(n) => s.splitn(n, separator).collect(),
    };
    Ok(Val::strings(parts))
}

fn substring<'a>(args: &[Val<'a>]) -> Res<'a> {
    let (s, start) = (text(args, 0)?, int(args, 1)?);
    let len = s.chars().count() as i64;
    let end = if args.len() == 3 { int(args, 2)? } else { len };
    if args.len() == 3 && start > end {
        return Err(EvalError::new(format!("invalid substring range. start: {start}, end: {end}")));
    }
    for i in [start, end] {
        if !(0..=len).contains(&i) {
            return Err(out_of_range(i));
        }
    }
    let part: std::string::String = s.chars().skip(start as usize).take((end - start) as usize).collect();
    Ok(Val::str(part))
}

/// White space as Go's `strings.TrimSpace` knows it.
fn is_space(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\u{b}' | '\u{c}' | '\r' | ' ' | '\u{85}' | '\u{a0}') || c.is_whitespace()
}

fn join<'a>(args: &[Val<'a>]) -> Res<'a> {
    let separator = if args.len() == 2 { text(args, 1)? } else { "" };
    let mut out = std::string::String::new();
    for (i, item) in list_arg(args, 0)?.iter().enumerate() {
        if i > 0 {
            out.push_str(separator);
        }
        match item {
            Ok(Val::Str(s)) => out.push_str(&s),
            Ok(other) => return Err(EvalError::new(format!("join: invalid input: {}", other.display()))),
            Err(e) if e.is_final() => return Err(e),
            Err(e) => return Err(EvalError::new(format!("join: invalid input: {e}"))),
        }
        if out.len() > MAX_TEXT {
            return Err(EvalError::new("join: result too large"));
        }
    }
    Ok(Val::str(out))
}

fn quote(s: &str) -> std::string::String {
    let mut out = std::string::String::with_capacity(s.len() + 2);
    out.push('"');
    for c in s.chars() {
        match c {
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn format<'a>(args: &[Val<'a>]) -> Res<'a> {
    let Some(Val::Str(pattern)) = args.first() else { return Err(no_overload()) };
    format_string::format(pattern, list_arg(args, 1)?).map(Val::str).map_err(EvalError::new)
}

pub(crate) fn functions(version: u32) -> Vec<Function> {
    let mut all = vec![
        func("charAt").member("string_char_at_int", vec![String, Int], String).code(char_at),
        func("indexOf")
            .member("string_index_of_string", vec![String, String], Int)
            .code(index_of)
            .member("string_index_of_string_int", vec![String, String, Int], Int)
            .code(index_of),
        func("lastIndexOf")
            .member("string_last_index_of_string", vec![String, String], Int)
            .code(last_index_of)
            .member("string_last_index_of_string_int", vec![String, String, Int], Int)
            .code(last_index_of),
        func("lowerAscii")
            .member("string_lower_ascii", vec![String], String)
            .code(|args| Ok(Val::str(text(args, 0)?.to_ascii_lowercase()))),
        func("replace")
            .member("string_replace_string_string", vec![String, String, String], String)
            .code(replace)
            .member("string_replace_string_string_int", vec![String, String, String, Int], String)
            .code(replace),
        func("split")
            .member("string_split_string", vec![String, String], list(String))
            .code(split)
            .member("string_split_string_int", vec![String, String, Int], list(String))
            .code(split),
        func("substring")
            .member("string_substring_int", vec![String, Int], String)
            .code(substring)
            .member("string_substring_int_int", vec![String, Int, Int], String)
            .code(substring),
        func("trim")
            .member("string_trim", vec![String], String)
            .code(|args| Ok(Val::str(text(args, 0)?.trim_matches(is_space)))),
        func("upperAscii")
            .member("string_upper_ascii", vec![String], String)
            .code(|args| Ok(Val::str(text(args, 0)?.to_ascii_uppercase()))),
        func("join")
            .member("list_join", vec![list(String)], String)
            .code(join)
            .member("list_join_string", vec![list(String), String], String)
            .code(join),
    ];
    if version >= 1 {
        all.push(func("format").member("string_format", vec![String, list(Dyn)], String).variadic(format));
        all.push(
            func("strings.quote")
                .global("strings_quote", vec![String], String)
                .code(|args| Ok(Val::str(quote(text(args, 0)?)))),
        );
    }
    all
}
