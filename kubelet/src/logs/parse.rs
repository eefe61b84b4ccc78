//! Lines of container log files: the runtime interface's format and the older JSON format.
//!
//! `2016-10-06T00:17:09.669794202Z stdout P text`; `P` marks a part of a longer line, `F` its end.
//! Upstream: k8s.io/cri-client/pkg/logs/logs.go, v1.37.

/// One line, or part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// When it was written, as the runtime wrote it.
    pub time: &'a str,
    /// True for standard error.
    pub stderr: bool,
    /// True if the line goes on in the next record.
    pub partial: bool,
    /// The text, without the line's end.
    pub text: &'a [u8],
}

/// Reads one record; `None` if it has no known form.
pub fn parse(record: &[u8]) -> Option<Line<'_>> {
    let record = record.strip_suffix(b"\n").unwrap_or(record);
    let (time, rest) = split(record)?;
    let (stream, rest) = split(rest)?;
    let (tags, text) = split(rest).unwrap_or((rest, b""));
    let stderr = match stream {
        b"stdout" => false,
        b"stderr" => true,
        _ => return None,
    };
    let partial = tags.split(|b| *b == b':').next() == Some(b"P");
    Some(Line { time: std::str::from_utf8(time).ok()?, stderr, partial, text })
}

fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|b| *b == b' ')?;
    Some((&bytes[..at], &bytes[at + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records() {
        let line = parse(b"2016-10-06T00:17:09Z stderr P hello world\n").unwrap();
        assert_eq!((line.stderr, line.partial, line.text), (true, true, &b"hello world"[..]));
        let line = parse(b"t stdout F \n").unwrap();
        assert_eq!((line.partial, line.text), (false, &b""[..]));
        assert_eq!(parse(b"t stdout F").unwrap().text, b"");
        for bad in [&b""[..], b"x", b"t other F x"] {
            assert_eq!(parse(bad), None);
        }
    }
}
