//! The lowest level of reading: literals at a position.
//!
//! Functions answer `None` where the text is broken; the caller then asks [`super::scan`] for the explanation.

use super::plain::before_end;
use crate::value::{Number, Str};
use std::borrow::Cow;

pub(super) struct Cursor<'a> {
    pub data: &'a [u8],
    pub at: usize,
    /// The data, if all of it is known to be UTF-8.
    text: Option<&'a str>,
}

/// The members of an object or the elements of an array: a loop asks for each of them whether it is there.
pub(super) struct Items {
    close: u8,
    first: bool,
}

impl Items {
    /// Goes to the next one; answers false, behind the end, if there is none.
    #[inline]
    pub fn more(&mut self, c: &mut Cursor<'_>) -> Option<bool> {
        let first = std::mem::take(&mut self.first);
        match c.peek()? {
            b if b == self.close => {
                c.at += 1;
                Some(false)
            }
            b',' if !first => {
                c.at += 1;
                Some(true)
            }
            _ => first.then_some(true),
        }
    }
}

impl<'a> Cursor<'a> {
    pub fn new(data: &'a [u8]) -> Self {
        Self::at(data, 0)
    }

    /// At a position of the data.
    pub fn at(data: &'a [u8], at: usize) -> Self {
        Cursor { data, at, text: None }
    }

    /// For reading the whole of it: the encoding is checked once and not for every string.
    pub fn whole(data: &'a [u8]) -> Self {
        Cursor { data, at: 0, text: std::str::from_utf8(data).ok() }
    }

    /// The next byte that is no space, which stays unread.
    #[inline]
    pub fn peek(&mut self) -> Option<u8> {
        while let Some(b) = self.data.get(self.at) {
            match b {
                b' ' | b'\t' | b'\r' | b'\n' => self.at += 1,
                _ => return Some(*b),
            }
        }
        None
    }

    /// Reads the byte `want`, spaces before it skipped.
    #[inline]
    pub fn expect(&mut self, want: u8) -> Option<()> {
        let found = self.peek()? == want;
        self.at += 1;
        found.then_some(())
    }

    /// Enters an object or array, at whose first byte the cursor stands.
    pub fn enter(&mut self, close: u8) -> Items {
        self.at += 1;
        Items { close, first: true }
    }

    /// Reads a keyword.
    pub fn word(&mut self, word: &[u8]) -> Option<()> {
        self.data.get(self.at..)?.starts_with(word).then(|| self.at += word.len())
    }

    /// The raw text of the next value.
    pub fn raw(&mut self) -> Option<&'a [u8]> {
        self.peek()?;
        let from = self.at;
        self.at = super::scan::skip(self.data, from)?;
        Some(&self.data[from..self.at])
    }

    /// A string, borrowed where it has neither escapes nor invalid UTF-8.
    pub fn string(&mut self) -> Option<Cow<'a, str>> {
        self.expect(b'"')?;
        let from = self.at;
        let rest = self.data.get(from..)?;
        let end = before_end(rest);
        self.at += end;
        match rest.get(end)? {
            b'"' => {}
            b'\\' => return self.escaped(from).map(Cow::Owned),
            _ => return None,
        }
        let end = self.at;
        self.at += 1;
        match self.text {
            Some(text) => text.get(from..end).map(Cow::Borrowed),
            None => Some(lossy(&self.data[from..end])),
        }
    }

    /// The rest of a string from its first escape on.
    #[cold]
    fn escaped(&mut self, from: usize) -> Option<String> {
        let mut out: Vec<u8> = self.data[from..self.at].to_vec();
        loop {
            let b = *self.data.get(self.at)?;
            self.at += 1;
            match b {
                b'"' => break,
                0..0x20 => return None,
                b'\\' => {
                    let e = *self.data.get(self.at)?;
                    self.at += 1;
                    let plain = match e {
                        b'"' | b'\\' | b'/' => e,
                        b'b' => 8,
                        b'f' => 12,
                        b'n' => b'\n',
                        b'r' => b'\r',
                        b't' => b'\t',
                        b'u' => {
                            let c = self.unicode()?;
                            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                            continue;
                        }
                        _ => return None,
                    };
                    out.push(plain);
                }
                _ => out.push(b),
            }
        }
        Some(lossy(&out).into_owned())
    }

    fn hex4(&self, at: usize) -> Option<u32> {
        let text = std::str::from_utf8(self.data.get(at..at + 4)?).ok()?;
        if !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        u32::from_str_radix(text, 16).ok()
    }

    /// The character behind `\u`; half a surrogate pair becomes U+FFFD.
    fn unicode(&mut self) -> Option<char> {
        let first = self.hex4(self.at)?;
        self.at += 4;
        if let Some(c) = char::from_u32(first) {
            return Some(c);
        }
        if first < 0xdc00
            && self.data.get(self.at..self.at + 2) == Some(b"\\u")
            && let Some(second @ 0xdc00..0xe000) = self.hex4(self.at + 2)
        {
            self.at += 6;
            return char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00));
        }
        Some(char::REPLACEMENT_CHARACTER)
    }

    /// The text of a number.
    pub fn number(&mut self) -> Option<&'a str> {
        let from = self.at;
        let digits = |c: &mut Self| {
            let from = c.at;
            while c.data.get(c.at).is_some_and(u8::is_ascii_digit) {
                c.at += 1;
            }
            (c.at > from).then_some(())
        };
        if self.data.get(self.at) == Some(&b'-') {
            self.at += 1;
        }
        match self.data.get(self.at) {
            Some(b'0') => self.at += 1,
            _ => digits(self)?,
        }
        if self.data.get(self.at) == Some(&b'.') {
            self.at += 1;
            digits(self)?;
        }
        if matches!(self.data.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.data.get(self.at), Some(b'+' | b'-')) {
                self.at += 1;
            }
            digits(self)?;
        }
        std::str::from_utf8(&self.data[from..self.at]).ok()
    }
}

/// Bytes as text; each invalid byte becomes one U+FFFD, as Go's decoder does.
pub(crate) fn lossy(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(s) = std::str::from_utf8(bytes) {
        return Cow::Borrowed(s);
    }
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        out.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    Cow::Owned(out)
}

/// A number for an untyped place, after Go's PreserveInts. `None` if it overflows a float.
pub(crate) fn untyped_number(text: &str) -> Option<Number> {
    if !text.contains('.')
        && let Ok(i) = text.parse::<i64>()
    {
        return Some(Number::Int(i));
    }
    text.parse::<f64>().ok().filter(|f| f.is_finite()).map(Number::Float)
}

/// A key as a tree string.
pub(super) fn key_str(key: Cow<'_, str>) -> Str {
    match key {
        Cow::Borrowed(s) => Str::from(s),
        Cow::Owned(s) => Str::from(s),
    }
}
