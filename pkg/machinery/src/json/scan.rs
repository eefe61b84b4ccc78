//! Checks the grammar of a JSON text and words what is wrong as Go's `encoding/json` scanner does.
//!
//! The reader proper only notices *that* a text is broken; this module then says where. It also finds the end of
//! values that are kept raw or skipped. An explicit stack holds the nesting, so depth costs no stack.

/// Go's limit on nesting.
pub const MAX_NESTING: usize = 10_000;

/// A character as Go prints it in syntax errors.
fn quote_char(c: u8) -> String {
    match c {
        b'\'' => r"'\''".to_owned(),
        b'"' => "'\"'".to_owned(),
        // Go converts the byte to the code point of the same number first.
        _ => {
            let quoted = crate::golang::quote(&char::from(c).to_string());
            format!("'{}'", &quoted[1..quoted.len() - 1])
        }
    }
}

const END: &str = "unexpected end of JSON input";

struct Scanner<'a> {
    data: &'a [u8],
    at: usize,
}

type Scan<T> = Result<T, String>;

impl Scanner<'_> {
    fn fail<T>(&self, context: &str) -> Scan<T> {
        Err(match self.data.get(self.at) {
            Some(c) => format!("invalid character {} {context}", quote_char(*c)),
            // At the end Go's scanner tries a space, which only these places mind.
            None if [
                "in literal",
                "in string escape",
                "in \\u",
                "in numeric",
                "after decimal",
                "in exponent",
            ]
            .iter()
            .any(|c| context.starts_with(c)) =>
            {
                format!("invalid character ' ' {context}")
            }
            None => END.to_owned(),
        })
    }

    fn peek(&self) -> Option<u8> {
        self.data.get(self.at).copied()
    }

    fn spaces(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn string(&mut self) -> Scan<()> {
        self.at += 1;
        loop {
            self.at += super::plain::before_end(&self.data[self.at..]);
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => {
                    self.at += 1;
                    match self.peek() {
                        Some(b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"') => self.at += 1,
                        Some(b'u') => {
                            self.at += 1;
                            for _ in 0..4 {
                                match self.peek() {
                                    Some(c) if c.is_ascii_hexdigit() => self.at += 1,
                                    _ => return self.fail("in \\u hexadecimal character escape"),
                                }
                            }
                        }
                        _ => return self.fail("in string escape code"),
                    }
                }
                Some(c) if c < 0x20 => return self.fail("in string literal"),
                Some(_) => self.at += 1,
                None => return self.fail(""),
            }
        }
    }

    fn digits(&mut self) {
        while self.peek().is_some_and(|c| c.is_ascii_digit()) {
            self.at += 1;
        }
    }

    fn number(&mut self) -> Scan<()> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits(),
            _ => return self.fail("in numeric literal"),
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            match self.peek() {
                Some(b'0'..=b'9') => self.digits(),
                _ => return self.fail("after decimal point in numeric literal"),
            }
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            match self.peek() {
                Some(b'0'..=b'9') => self.digits(),
                _ => return self.fail("in exponent of numeric literal"),
            }
        }
        Ok(())
    }

    fn word(&mut self, word: &str) -> Scan<()> {
        for c in word.bytes() {
            if self.peek() != Some(c) {
                return self.fail(&format!("in literal {word} (expecting '{}')", char::from(c)));
            }
            self.at += 1;
        }
        Ok(())
    }

    /// One value; leaves the position right behind it.
    fn value(&mut self) -> Scan<()> {
        // True for an object, false for an array.
        let mut stack: Vec<bool> = Vec::new();
        loop {
            self.spaces();
            match self.peek() {
                Some(open @ (b'{' | b'[')) => {
                    if stack.len() == MAX_NESTING {
                        return self.fail("exceeded max depth");
                    }
                    stack.push(open == b'{');
                    self.at += 1;
                    self.spaces();
                    match (open, self.peek()) {
                        (b'{', Some(b'}')) | (b'[', Some(b']')) => {
                            self.at += 1;
                            stack.pop();
                        }
                        (b'{', _) => {
                            self.key()?;
                            continue;
                        }
                        _ => continue,
                    }
                }
                Some(b'"') => self.string()?,
                Some(b'-' | b'0'..=b'9') => self.number()?,
                Some(b't') => self.word("true")?,
                Some(b'f') => self.word("false")?,
                Some(b'n') => self.word("null")?,
                _ => return self.fail("looking for beginning of value"),
            }
            if self.after_value(&mut stack)? {
                return Ok(());
            }
        }
    }

    /// Key and colon.
    fn key(&mut self) -> Scan<()> {
        if self.peek() != Some(b'"') {
            return self.fail("looking for beginning of object key string");
        }
        self.string()?;
        self.spaces();
        if self.peek() != Some(b':') {
            return self.fail("after object key");
        }
        self.at += 1;
        Ok(())
    }

    /// Closes what ends here; answers whether the outermost value is complete.
    fn after_value(&mut self, stack: &mut Vec<bool>) -> Scan<bool> {
        while let Some(object) = stack.last() {
            self.spaces();
            match (object, self.peek()) {
                (_, Some(b',')) => {
                    self.at += 1;
                    if *object {
                        self.spaces();
                        self.key()?;
                    }
                    return Ok(false);
                }
                (true, Some(b'}')) | (false, Some(b']')) => {
                    self.at += 1;
                    stack.pop();
                }
                (true, _) => return self.fail("after object key:value pair"),
                (false, _) => return self.fail("after array element"),
            }
        }
        Ok(true)
    }
}

/// Checks a whole document.
pub fn check(data: &[u8]) -> Result<(), String> {
    let mut s = Scanner { data, at: 0 };
    s.value()?;
    s.spaces();
    if s.at < data.len() { s.fail("after top-level value") } else { Ok(()) }
}

/// The end of the value that starts at `from`; `None` if it is malformed.
pub(super) fn skip(data: &[u8], from: usize) -> Option<usize> {
    let mut s = Scanner { data, at: from };
    s.value().ok()?;
    Some(s.at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages() {
        for (input, want) in [
            ("", END),
            ("{", END),
            ("{\"a\":1", END),
            ("\"abc", END),
            ("tru", "invalid character ' ' in literal true (expecting 'e')"),
            ("-", "invalid character ' ' in numeric literal"),
            ("1", ""),
            ("x", "invalid character 'x' looking for beginning of value"),
            ("{]", "invalid character ']' looking for beginning of object key string"),
            ("{\"a\" 1}", "invalid character '1' after object key"),
            ("{\"a\":1 2}", "invalid character '2' after object key:value pair"),
            ("{\"a\":1,}", "invalid character '}' looking for beginning of object key string"),
            ("[1 2]", "invalid character '2' after array element"),
            ("[1,]", "invalid character ']' looking for beginning of value"),
            ("1 2", "invalid character '2' after top-level value"),
            ("01", "invalid character '1' after top-level value"),
            ("-x", "invalid character 'x' in numeric literal"),
            ("1.x", "invalid character 'x' after decimal point in numeric literal"),
            ("1ex", "invalid character 'x' in exponent of numeric literal"),
            ("nulx", "invalid character 'x' in literal null (expecting 'l')"),
            ("\"\\x\"", "invalid character 'x' in string escape code"),
            ("\"\\u12x\"", "invalid character 'x' in \\u hexadecimal character escape"),
            ("\"\n\"", "invalid character '\\n' in string literal"),
            ("'", r"invalid character '\'' looking for beginning of value"),
            ("\u{e9}", "invalid character '\u{c3}' looking for beginning of value"),
        ] {
            let want = if want.is_empty() { Ok(()) } else { Err(want.to_owned()) };
            assert_eq!(check(input.as_bytes()), want, "{input}");
        }
        for input in ["{}", " [ ] ", "{\"a\":[1,{\"b\":null}],\"c\":-1.5e+3}", "\"\\u00e9\""] {
            assert_eq!(check(input.as_bytes()), Ok(()), "{input}");
        }
        let deep = |n: usize| "[".repeat(n) + &"]".repeat(n);
        assert_eq!(check(deep(MAX_NESTING).as_bytes()), Ok(()));
        let e = "invalid character '[' exceeded max depth".to_owned();
        assert_eq!(check(deep(MAX_NESTING + 1).as_bytes()), Err(e));
    }
}
