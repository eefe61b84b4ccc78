//! Trees to YAML in block style, keys sorted, as yaml.v2 lays it out: two spaces, sequences level with their key.
//!
//! Long lines are not folded, unlike upstream's writer; every text reads back as the same tree.

use super::resolve::{Scalar, is_timestamp, plain};
use crate::json::write_f64;
use crate::value::Value;
use std::cmp::Ordering;

/// Appends the tree as a YAML document.
pub fn write(value: &Value, out: &mut String) {
    match value {
        Value::Map(m) if !m.is_empty() => block(value, 0, out),
        Value::List(l) if !l.is_empty() => block(value, 0, out),
        scalar => {
            inline(scalar, 0, out);
            out.push('\n');
        }
    }
}

fn indent(n: usize, out: &mut String) {
    out.extend(std::iter::repeat_n("  ", n));
}

/// A non-empty map or list, starting on a new line at `level`.
fn block(value: &Value, level: usize, out: &mut String) {
    match value {
        Value::Map(m) => {
            let mut entries: Vec<_> = m.iter().collect();
            entries.sort_by(|a, b| natural(a.0, b.0));
            for (i, (k, v)) in entries.into_iter().enumerate() {
                if i > 0 {
                    indent(level, out);
                }
                scalar_text(k, level, out);
                out.push(':');
                entry(v, level, out);
            }
        }
        Value::List(l) => {
            for (i, v) in l.iter().enumerate() {
                if i > 0 {
                    indent(level, out);
                }
                out.push('-');
                if is_block(v) {
                    out.push(' ');
                    block(v, level + 1, out);
                } else {
                    out.push(' ');
                    inline(v, level, out);
                    out.push('\n');
                }
            }
        }
        _ => {}
    }
}

fn is_block(v: &Value) -> bool {
    match v {
        Value::Map(m) => !m.is_empty(),
        Value::List(l) => !l.is_empty(),
        _ => false,
    }
}

/// What follows a key and its colon.
fn entry(v: &Value, level: usize, out: &mut String) {
    if !is_block(v) {
        out.push(' ');
        inline(v, level, out);
        out.push('\n');
        return;
    }
    out.push('\n');
    // Lists stand level with their key, maps one step in.
    let inner = if matches!(v, Value::List(_)) { level } else { level + 1 };
    indent(inner, out);
    block(v, inner, out);
}

fn inline(v: &Value, level: usize, out: &mut String) {
    match v {
        Value::Null => out.push_str("null"),
        Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Value::Int(i) => out.push_str(itoa::Buffer::new().format(*i)),
        Value::Float(f) => {
            let mut text = Vec::new();
            write_f64(*f, &mut text);
            out.push_str(&String::from_utf8_lossy(&text));
        }
        Value::Str(s) => scalar_text(s, level, out),
        Value::List(_) => out.push_str("[]"),
        Value::Map(_) => out.push_str("{}"),
        Value::Raw(b) => match crate::json::parse(b) {
            Ok(inner) if is_block(&inner) => out.push_str(&inner.to_string()),
            Ok(inner) => inline(&inner, level, out),
            Err(_) => out.push_str("null"),
        },
    }
}

/// A string: plain if it would read back as the same string, a block for lines, else quoted.
fn scalar_text(s: &str, level: usize, out: &mut String) {
    if s.contains('\n') && is_literal(s) {
        return literal(s, level, out);
    }
    let means_itself = matches!(plain(s), Scalar::Str(_)) && !is_timestamp(s) && !is_base60(s) && s != "<<";
    if means_itself && is_plain(s) {
        out.push_str(s);
        return;
    }
    quoted(s, means_itself, out);
}

fn is_printable(c: char) -> bool {
    matches!(c, ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
        && c != '\u{feff}'
        && !matches!(c, '\u{2028}' | '\u{2029}')
}

/// Whether a text of lines can be a literal block: no line that would be misread.
fn is_literal(s: &str) -> bool {
    let odd = |c: char| c != '\n' && !is_printable(c);
    !s.starts_with([' ', '\n']) && !s.contains(odd) && !s.contains(" \n") && !s.ends_with(' ')
}

fn literal(s: &str, level: usize, out: &mut String) {
    let tail = s.len() - s.trim_end_matches('\n').len();
    out.push('|');
    match tail {
        0 => out.push('-'),
        1 => {}
        _ => out.push('+'),
    }
    let body = s.strip_suffix('\n').unwrap_or(s);
    for line in body.split('\n') {
        out.push('\n');
        if !line.is_empty() {
            indent(level + 1, out);
            out.push_str(line);
        }
    }
}

/// YAML 1.1's base 60 numbers are read as text here but not by everyone.
fn is_base60(s: &str) -> bool {
    let rest = s.strip_prefix(['-', '+']).unwrap_or(s);
    rest.contains(':') && rest.bytes().all(|b| b.is_ascii_digit() || matches!(b, b':' | b'.' | b'_'))
}

/// libyaml's rules for plain scalars in block context.
fn is_plain(s: &str) -> bool {
    let mut chars = s.chars();
    let Some(first) = chars.next() else { return false };
    if s.starts_with("---") || s.starts_with("...") {
        return false;
    }
    let second_space = s[first.len_utf8()..].chars().next().is_none_or(|c| c == ' ' || c == '\t');
    if matches!(
        first,
        '#' | ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%' | '@' | '`'
    ) {
        return false;
    }
    if matches!(first, '-' | '?' | ':') && second_space {
        return false;
    }
    if s.starts_with(' ') || s.ends_with(' ') || s.ends_with(':') {
        return false;
    }
    !s.contains(": ") && !s.contains(" #") && s.chars().all(is_printable)
}

/// Text that would be taken for something else goes into double quotes, text with odd characters into single ones if
/// that suffices.
fn quoted(s: &str, means_itself: bool, out: &mut String) {
    use std::fmt::Write;
    if means_itself && s.chars().all(is_printable) {
        out.push('\'');
        out.push_str(&s.replace('\'', "''"));
        out.push('\'');
        return;
    }
    out.push('"');
    for c in s.chars() {
        let short = match c {
            '\0' => "\\0",
            '\u{7}' => "\\a",
            '\u{8}' => "\\b",
            '\t' => "\\t",
            '\n' => "\\n",
            '\u{b}' => "\\v",
            '\u{c}' => "\\f",
            '\r' => "\\r",
            '\u{1b}' => "\\e",
            '"' => "\\\"",
            '\\' => "\\\\",
            '\u{85}' => "\\N",
            '\u{a0}' => "\\_",
            '\u{2028}' => "\\L",
            '\u{2029}' => "\\P",
            _ => "",
        };
        // Writing to a String cannot fail.
        let _ = match u32::from(c) {
            _ if !short.is_empty() => out.write_str(short),
            _ if is_printable(c) => out.write_char(c),
            n @ 0..0x100 => write!(out, "\\x{n:02X}"),
            n @ 0x100..0x10000 => write!(out, "\\u{n:04X}"),
            n => write!(out, "\\U{n:08X}"),
        };
    }
    out.push('"');
}

/// yaml.v2's order of keys: runs of digits by value, letters before other characters.
fn natural(a: &str, b: &str) -> Ordering {
    let (ar, br): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut digits = false;
    for i in 0..ar.len().min(br.len()) {
        if ar[i] == br[i] {
            digits = ar[i].is_ascii_digit();
            continue;
        }
        let (al, bl) = (ar[i].is_alphabetic(), br[i].is_alphabetic());
        if al && bl {
            return ar[i].cmp(&br[i]);
        }
        if al || bl {
            // Behind digits a letter comes first, else last.
            return match digits {
                true if al => Ordering::Less,
                true => Ordering::Greater,
                false if bl => Ordering::Less,
                false => Ordering::Greater,
            };
        }
        let number = |r: &[char]| {
            let run: String = r[i..].iter().take_while(|c| c.is_ascii_digit()).collect();
            (run.len(), run.parse::<u128>().unwrap_or(u128::MAX))
        };
        let ((alen, an), (blen, bn)) = (number(&ar), number(&br));
        if an != bn {
            return an.cmp(&bn);
        }
        if alen != blen {
            return alen.cmp(&blen);
        }
        return ar[i].cmp(&br[i]);
    }
    ar.len().cmp(&br.len())
}
