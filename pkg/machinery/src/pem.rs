//! PEM, read as leniently and written exactly as Go's `encoding/pem`.
//!
//! Text around and between blocks is skipped, and so is everything that is no proper block. Start at [`blocks`].

use crate::golang::{decode_base64, encode_base64};

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const DASHES: &[u8] = b"-----";
/// Characters on a line of base64.
const LINE: usize = 64;

/// One block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// What stands between `BEGIN` and the dashes, e.g. `CERTIFICATE`.
    pub label: String,
    /// True if headers (`name: value`) come before the data.
    pub has_headers: bool,
    /// The data.
    pub bytes: Vec<u8>,
}

/// All proper blocks of a text, in order.
pub fn blocks(text: &[u8]) -> Vec<Block> {
    let mut out = Vec::new();
    // Label and body of the block that has begun.
    let mut open: Option<(&[u8], Vec<&[u8]>)> = None;
    for (number, raw) in text.split(|b| *b == b'\n').enumerate() {
        let line = trimmed(raw);
        // The end of a block is not looked for on the first line.
        if let Some(rest) = raw.strip_prefix(END).filter(|_| number > 0) {
            if let Some((label, body)) = open.take() {
                let same = rest.strip_prefix(label).and_then(|r| r.strip_prefix(DASHES));
                if same.is_some_and(|after| trimmed(after).is_empty()) {
                    out.extend(block(label, &body));
                }
            }
        } else if let Some(at) = last_begin(raw) {
            // One in the middle of a line spoils what has begun before it.
            let label = line.get(BEGIN.len()..).and_then(|l| l.strip_suffix(DASHES)).filter(|_| at == 0);
            open = label.map(|label| (label, Vec::new()));
        } else if let Some((_, body)) = &mut open {
            body.push(line);
        }
    }
    out
}

fn last_begin(line: &[u8]) -> Option<usize> {
    line.windows(BEGIN.len()).rposition(|w| w == BEGIN)
}

/// A line without the blanks at its end.
fn trimmed(line: &[u8]) -> &[u8] {
    let mut line = line.strip_suffix(b"\r").unwrap_or(line);
    while let [start @ .., b' ' | b'\t'] = line {
        line = start;
    }
    line
}

fn block(label: &[u8], lines: &[&[u8]]) -> Option<Block> {
    let headers = lines.iter().take_while(|line| line.contains(&b':')).count();
    let body = &lines[headers..];
    // Headers are separated from the end by a line at least.
    if headers > 0 && body.is_empty() {
        return None;
    }
    let data: Vec<u8> = body.concat().into_iter().filter(|b| !matches!(b, b' ' | b'\t')).collect();
    Some(Block {
        label: String::from_utf8_lossy(label).into_owned(),
        has_headers: headers > 0,
        bytes: decode_base64(&data).ok()?,
    })
}

/// A block without headers, with a line break at the end.
pub fn encode(label: &str, bytes: &[u8]) -> String {
    let data = encode_base64(bytes);
    let mut out = String::with_capacity(data.len() + data.len() / LINE + 64);
    out.extend(["-----BEGIN ", label, "-----\n"]);
    let mut rest = data.as_str();
    while !rest.is_empty() {
        // Base64 is ASCII, so that every index is a boundary.
        let (line, after) = rest.split_at(rest.len().min(LINE));
        out.extend([line, "\n"]);
        rest = after;
    }
    out.extend(["-----END ", label, "-----\n"]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Recorded from Go's `pem.Decode`, called until it finds nothing: `label h? base64` of each block.
    const CASES: &[(&str, &[&str])] = include!("../testdata/pem.in");

    #[test]
    fn reads_as_go() {
        for (text, want) in CASES {
            let got: Vec<String> = blocks(text.as_bytes())
                .into_iter()
                .map(|b| format!("{} {} {}", b.label, u8::from(b.has_headers), encode_base64(&b.bytes)))
                .collect();
            assert_eq!(got, *want, "{text:?}");
        }
    }

    #[test]
    fn writes_lines_of_64() {
        let text = encode("X", &[0; 49]);
        assert_eq!(text.lines().map(str::len).collect::<Vec<_>>(), [17, 64, 4, 15]);
        assert_eq!(encode("X", &[]), "-----BEGIN X-----\n-----END X-----\n");
        assert_eq!(blocks(text.as_bytes())[0].bytes, [0; 49]);
    }
}
