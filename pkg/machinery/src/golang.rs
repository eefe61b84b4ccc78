//! Go's formatting, where error texts depend on it.

use std::fmt::Write;

/// Quotes as Go's `%q` (`strconv.Quote`).
pub fn quote(s: &str) -> String {
    let mut out = String::with_capacity(s.len() + 2);
    out.push('"');
    for c in s.chars() {
        push_escaped(&mut out, c);
    }
    out.push('"');
    out
}

/// As [`quote`] for bytes; what is not UTF-8 becomes `\xNN`.
pub fn quote_bytes(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + 2);
    out.push('"');
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            push_escaped(&mut out, c);
        }
        for b in chunk.invalid() {
            // Writing to a String cannot fail.
            let _ = write!(out, "\\x{b:02x}");
        }
    }
    out.push('"');
    out
}

fn push_escaped(out: &mut String, c: char) {
    let simple = match c {
        '"' => "\\\"",
        '\\' => "\\\\",
        '\u{7}' => "\\a",
        '\u{8}' => "\\b",
        '\u{c}' => "\\f",
        '\n' => "\\n",
        '\r' => "\\r",
        '\t' => "\\t",
        '\u{b}' => "\\v",
        _ => "",
    };
    if !simple.is_empty() {
        out.push_str(simple);
        return;
    }
    let code = u32::from(c);
    // Writing to a String cannot fail.
    let _ = match code {
        0x20..0x7f => out.write_char(c),
        0..0x20 | 0x7f => write!(out, "\\x{code:02x}"),
        _ if is_printable(c) => out.write_char(c),
        0x80..0x10000 => write!(out, "\\u{code:04x}"),
        0x10000.. => write!(out, "\\U{code:08x}"),
    };
}

/// Go's `unicode.IsPrint` for characters beyond ASCII, by way of the standard library's own table.
fn is_printable(c: char) -> bool {
    // escape_debug also escapes combining marks, which Go prints.
    let escaped = c.escape_debug().len() > 1;
    !escaped || c.is_alphanumeric() || ('\u{300}'..='\u{36f}').contains(&c)
}

/// A list of strings in `[a, b]` form without repeats: how an aggregate of errors prints.
pub fn aggregate(errors: &[String]) -> String {
    let mut seen: Vec<&str> = Vec::new();
    for e in errors {
        if !seen.contains(&e.as_str()) {
            seen.push(e);
        }
    }
    match seen.as_slice() {
        [one] => (*one).to_owned(),
        many => format!("[{}]", many.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn quoting() {
        for (input, want) in [
            ("a\"b\\", r#""a\"b\\""#),
            ("\n\t\u{1}\u{7f}", r#""\n\t\x01\x7f""#),
            ("é日", "\"é日\""),
            ("\u{a0}\u{200b}\u{feff}", r#""\u00a0\u200b\ufeff""#),
            ("\u{10ffff}", r#""\U0010ffff""#),
        ] {
            assert_eq!(super::quote(input), want);
        }
        assert_eq!(super::quote_bytes(b"a\xffb"), r#""a\xffb""#);
    }
}
