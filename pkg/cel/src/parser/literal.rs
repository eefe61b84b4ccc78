//! The value of a string or bytes literal (upstream's parser/unescape.go).

/// The bytes a literal stands for; quotes and the `r` prefix included in `text`, the `b` prefix not.
pub(super) fn unescape(text: &str, bytes: bool) -> Result<Vec<u8>, &'static str> {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let (raw, body) = match text.strip_prefix(['r', 'R']) {
        Some(rest) => (true, rest),
        None => (false, text.as_str()),
    };
    let n = body.len();
    let body = if n >= 6 && (body.starts_with("'''") || body.starts_with("\"\"\"")) {
        &body[3..n - 3]
    } else if n >= 2 {
        &body[1..n - 1]
    } else {
        return Err("unable to unescape string");
    };
    if raw || !body.contains('\\') {
        return Ok(body.as_bytes().to_vec());
    }
    let mut out = Vec::with_capacity(body.len());
    let mut rest = body;
    while let Some(at) = rest.find('\\') {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        rest = escape(&rest[at + 1..], bytes, &mut out)?;
    }
    out.extend_from_slice(rest.as_bytes());
    Ok(out)
}

const FAILED: &str = "unable to unescape string";

fn escape<'s>(rest: &'s str, bytes: bool, out: &mut Vec<u8>) -> Result<&'s str, &'static str> {
    let c = rest.bytes().next().ok_or("unable to unescape string, found '\\' as last character")?;
    let simple = match c {
        b'a' => 7,
        b'b' => 8,
        b'f' => 12,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 11,
        b'\\' | b'\'' | b'"' | b'`' | b'?' => c,
        b'x' | b'X' => return code(&rest[1..], 2, 16, bytes, out),
        b'u' | b'U' if bytes => return Err(FAILED),
        b'u' => return code(&rest[1..], 4, 16, false, out),
        b'U' => return code(&rest[1..], 8, 16, false, out),
        b'0'..=b'3' => {
            return code(rest, 3, 8, bytes, out).map_err(|e| match e {
                FAILED => "unable to unescape octal sequence in string",
                other => other,
            });
        }
        _ => return Err(FAILED),
    };
    out.push(simple);
    Ok(&rest[1..])
}

fn code<'s>(
    rest: &'s str,
    len: usize,
    radix: u32,
    byte: bool,
    out: &mut Vec<u8>,
) -> Result<&'s str, &'static str> {
    let digits = rest.get(..len).ok_or(FAILED)?;
    let value = u32::from_str_radix(digits, radix).map_err(|_| FAILED)?;
    if byte {
        out.push(value as u8);
    } else {
        let c = char::from_u32(value).ok_or("invalid unicode code point")?;
        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    }
    Ok(&rest[len..])
}
