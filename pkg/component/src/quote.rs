//! Go's `%q`: log values and flag errors quote text exactly as upstream's do. Upstream: strconv.Quote.

use std::fmt::Write;

/// Appends `text` in double quotes with Go's escapes.
pub fn push_quoted(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if (c as u32) < 0x20 || c == '\u{7f}' => {
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            c if printable(c) => out.push(c),
            c if (c as u32) < 0x10000 => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => {
                let _ = write!(out, "\\U{:08x}", c as u32);
            }
        }
    }
    out.push('"');
}

/// `text` in double quotes with Go's escapes.
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    push_quoted(&mut out, text);
    out
}

/// An approximation of Go's `unicode.IsPrint` by the standard library's tables: controls, separators other than the
/// space, format characters and unassigned code points are escaped.
fn printable(c: char) -> bool {
    if c.is_ascii() {
        return true;
    }
    if c.is_whitespace() || c == char::REPLACEMENT_CHARACTER {
        return c == char::REPLACEMENT_CHARACTER;
    }
    // `escape_debug` leaves graphic characters alone and escapes the rest, also combining marks, which Go prints.
    c.is_alphanumeric() || c.escape_debug().count() == 1
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn quotes_as_go_does() {
        for (input, expected) in [
            ("plain", r#""plain""#),
            ("a\"b\\c", r#""a\"b\\c""#),
            ("tab\tnl\ncr\r", r#""tab\tnl\ncr\r""#),
            ("\u{0}\u{7f}", r#""\x00\x7f""#),
            ("é✓", r#""é✓""#),
            ("\u{200b}", r#""\u200b""#),
        ] {
            assert_eq!(quoted(input), expected);
        }
    }
}
