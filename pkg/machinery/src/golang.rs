//! Go's formatting and reading of words, where error texts depend on it.

use std::fmt::Write;

/// The words that Go's `strconv.ParseBool` knows: `1 t T TRUE true True 0 f F FALSE false False`.
pub fn parse_bool(s: &str) -> Option<bool> {
    match s {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// Quotes as Go's `%q` (`strconv.Quote`).
pub fn quote(s: &str) -> String {
    let mut out = String::with_capacity(s.len() + 2);
    push_quoted(&mut out, s);
    out
}

/// Appends what [`quote`] makes.
pub fn push_quoted(out: &mut String, s: &str) {
    out.push('"');
    for c in s.chars() {
        push_escaped(out, c);
    }
    out.push('"');
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

/// Standard base64 with padding.
pub fn encode_base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// Reads base64 as Go's `base64.StdEncoding`: line breaks are skipped, unused bits may be set. The error is Go's.
pub fn decode_base64(text: &[u8]) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let mut group = [0_u8; 4];
    let mut filled = 0;
    let corrupt = |at: usize| Err(format!("illegal base64 data at input byte {at}"));
    let mut input = text.iter().enumerate().filter(|(_, b)| !matches!(b, b'\r' | b'\n'));
    while let Some((at, b)) = input.next() {
        match sextet(*b) {
            Some(v) => {
                group[filled] = v;
                filled += 1;
                if filled == 4 {
                    out.extend_from_slice(&unpack(group));
                    filled = 0;
                }
            }
            None if *b != b'=' || filled < 2 => return corrupt(at),
            None => {
                if filled == 2 {
                    match input.next() {
                        None => return corrupt(text.len()),
                        Some((at, b)) if *b != b'=' => return corrupt(at),
                        Some(_) => {}
                    }
                }
                if let Some((at, _)) = input.next() {
                    return corrupt(at);
                }
                group[filled..].fill(0);
                out.extend_from_slice(&unpack(group)[..filled - 1]);
                return Ok(out);
            }
        }
    }
    if filled == 0 { Ok(out) } else { corrupt(text.len() - filled) }
}

fn unpack(g: [u8; 4]) -> [u8; 3] {
    [g[0] << 2 | g[1] >> 4, g[1] << 4 | g[2] >> 2, g[2] << 6 | g[3]]
}

fn sextet(b: u8) -> Option<u8> {
    Some(match b {
        b'A'..=b'Z' => b - b'A',
        b'a'..=b'z' => b - b'a' + 26,
        b'0'..=b'9' => b - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn words_of_truth() {
        for (word, want) in
            [("t", Some(true)), ("False", Some(false)), ("tRUE", None), ("", None), ("yes", None)]
        {
            assert_eq!(super::parse_bool(word), want, "{word}");
        }
    }

    #[test]
    fn quoting() {
        for (input, want) in [
            ("plain", r#""plain""#),
            ("é✓", r#""é✓""#),
            ("\u{0}", r#""\x00""#),
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

    #[test]
    fn base64() {
        for (text, want) in [
            ("", Ok(vec![])),
            ("AAEC", Ok(vec![0, 1, 2])),
            ("AA\n==\n", Ok(vec![0])),
            ("AB==", Ok(vec![0])),
            ("AAE=", Ok(vec![0, 1])),
            ("A", Err(0)),
            ("AAECAA", Err(4)),
            ("AA=", Err(3)),
            ("AA=A", Err(3)),
            ("AAE=A", Err(4)),
            ("A*", Err(1)),
        ] {
            let want = want.map_err(|n: usize| format!("illegal base64 data at input byte {n}"));
            assert_eq!(super::decode_base64(text.as_bytes()), want, "{text}");
        }
        assert_eq!(super::encode_base64(&[0, 1]), "AAE=");
    }
}
