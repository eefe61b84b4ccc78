//! URLs read as Go's `net/url` reads them, with its errors.

use super::ip;
use machinery::golang::quote;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Url {
    pub scheme: String,
    opaque: String,
    user: Option<(Vec<u8>, Option<Vec<u8>>)>,
    host: Vec<u8>,
    path: Vec<u8>,
    raw_path: String,
    pub query: String,
    force_query: bool,
    fragment: String,
    omit_host: bool,
}

/// Which part of a URL a text is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Path,
    Host,
    Zone,
    User,
    Query,
    Fragment,
}

fn must_escape(c: u8, part: Part) -> bool {
    match c {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => false,
        b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' | b':' | b'[' | b']'
        | b'<' | b'>' | b'"'
            if matches!(part, Part::Host | Part::Zone) =>
        {
            false
        }
        b'$' | b'&' | b'+' | b',' | b'/' | b':' | b';' | b'=' | b'?' | b'@' => match part {
            Part::Path => c == b'?',
            Part::User => matches!(c, b'@' | b'/' | b'?' | b':'),
            Part::Query => true,
            Part::Fragment => false,
            Part::Host | Part::Zone => true,
        },
        b'!' | b'(' | b')' | b'*' if part == Part::Fragment => false,
        _ => true,
    }
}

fn hex(b: u8) -> Option<u8> {
    (b as char).to_digit(16).map(|d| d as u8)
}

fn bad_escape(s: &[u8]) -> String {
    let shown = String::from_utf8_lossy(&s[..s.len().min(3)]);
    format!("invalid URL escape {}", quote(&shown))
}

fn unescape(s: &str, part: Part) -> Result<Vec<u8>, String> {
    let b = s.as_bytes();
    let mut out = Vec::with_capacity(b.len());
    let mut i = 0;
    while i < b.len() {
        match b[i] {
            b'%' => {
                let pair = (b.get(i + 1).copied().and_then(hex), b.get(i + 2).copied().and_then(hex));
                let (Some(high), Some(low)) = pair else { return Err(bad_escape(&b[i..])) };
                let value = high << 4 | low;
                let percent = value == b'%';
                if part == Part::Host && high < 8 && !percent {
                    return Err(bad_escape(&b[i..]));
                }
                if part == Part::Zone && !percent && value != b' ' && must_escape(value, Part::Host) {
                    return Err(bad_escape(&b[i..]));
                }
                out.push(value);
                i += 3;
                continue;
            }
            b'+' if part == Part::Query => out.push(b' '),
            c if matches!(part, Part::Host | Part::Zone) && c < 0x80 && must_escape(c, part) => {
                return Err(format!("invalid character {} in host name", quote(&(c as char).to_string())));
            }
            c => out.push(c),
        }
        i += 1;
    }
    Ok(out)
}

fn escape(s: &[u8], part: Part) -> String {
    let mut out = String::with_capacity(s.len());
    for c in s {
        if must_escape(*c, part) {
            out.push_str(&format!("%{c:02X}"));
        } else {
            out.push(*c as char);
        }
    }
    out
}

fn scheme(s: &str) -> Result<(&str, &str), String> {
    for (i, c) in s.bytes().enumerate() {
        match c {
            b'a'..=b'z' | b'A'..=b'Z' => {}
            b'0'..=b'9' | b'+' | b'-' | b'.' if i > 0 => {}
            b':' if i == 0 => return Err("missing protocol scheme".into()),
            b':' => return Ok((&s[..i], &s[i + 1..])),
            _ => break,
        }
    }
    Ok(("", s))
}

fn valid_port(port: &str) -> bool {
    port.is_empty() || port.strip_prefix(':').is_some_and(|p| p.bytes().all(|b| b.is_ascii_digit()))
}

fn bad_port(port: &str) -> String {
    format!("invalid port {} after host", quote(port))
}

fn host(scheme: &str, s: &str) -> Result<Vec<u8>, String> {
    match s.rfind('[') {
        Some(0) => return literal_host(s),
        Some(_) => return Err("invalid IP-literal".into()),
        None => {}
    }
    if let Some(first) = s.find(':') {
        // Of several colons only http and https complain; elsewhere the last one starts the port.
        let last = s.rfind(':').unwrap_or(first);
        let at = if matches!(scheme, "http" | "https") { first } else { last };
        if !valid_port(&s[at..]) {
            return Err(bad_port(&s[at..]));
        }
    }
    unescape(s, Part::Host)
}

fn literal_host(s: &str) -> Result<Vec<u8>, String> {
    let close = s.rfind(']').ok_or("missing ']' in host")?;
    let port = &s[close + 1..];
    if !valid_port(port) {
        return Err(bad_port(port));
    }
    let name = &s[1..close];
    let name = match name.find("%25") {
        Some(zone) => [unescape(&name[..zone], Part::Host)?, unescape(&name[zone..], Part::Zone)?].concat(),
        None => unescape(name, Part::Host)?,
    };
    let text = String::from_utf8_lossy(&name);
    let address = ip::parse(&text).map_err(|e| format!("invalid host: {e}"))?;
    if address.is_ipv4() {
        return Err("invalid IP-literal".into());
    }
    Ok([b"[", &name[..], b"]", port.as_bytes()].concat())
}

fn valid_user(s: &str) -> bool {
    s.chars().all(|c| c.is_ascii_alphanumeric() || "-._:~!$&'()*+,;=%@".contains(c))
}

impl Url {
    /// Go's `url.ParseRequestURI`.
    pub fn parse_request(s: &str) -> Result<Url, String> {
        Self::read(s, true).map_err(|e| format!("parse {}: {e}", quote(s)))
    }

    /// Go's `url.Parse`.
    pub fn parse(s: &str) -> Result<Url, String> {
        let (whole, fragment) = s.split_once('#').unwrap_or((s, ""));
        let mut url = Self::read(whole, false).map_err(|e| format!("parse {}: {e}", quote(whole)))?;
        let decoded = unescape(fragment, Part::Fragment).map_err(|e| format!("parse {}: {e}", quote(s)))?;
        let plain =
            fragment.bytes().all(|b| !must_escape(b, Part::Fragment) || b"!$&'()*+,;=:@[]%".contains(&b));
        url.fragment = if plain { fragment.to_owned() } else { escape(&decoded, Part::Fragment) };
        Ok(url)
    }

    fn read(s: &str, request: bool) -> Result<Url, String> {
        if s.bytes().any(|b| b < b' ' || b == 0x7f) {
            return Err("net/url: invalid control character in URL".into());
        }
        if s.is_empty() && request {
            return Err("empty url".into());
        }
        let mut url = Url::default();
        if s == "*" {
            url.path = b"*".to_vec();
            return Ok(url);
        }
        let (scheme, mut rest) = scheme(s)?;
        url.scheme = scheme.to_ascii_lowercase();
        if rest.ends_with('?') && rest.matches('?').count() == 1 {
            url.force_query = true;
            rest = &rest[..rest.len() - 1];
        } else if let Some((before, query)) = rest.split_once('?') {
            url.query = query.to_owned();
            rest = before;
        }
        if !rest.starts_with('/') {
            if !url.scheme.is_empty() {
                url.opaque = rest.to_owned();
                return Ok(url);
            }
            if request {
                return Err("invalid URI for request".into());
            }
            if rest.split('/').next().is_some_and(|segment| segment.contains(':')) {
                return Err("first path segment in URL cannot contain colon".into());
            }
        }
        let authority = !url.scheme.is_empty() || !request && !rest.starts_with("///");
        if authority && let Some(after) = rest.strip_prefix("//") {
            let end = after.find('/').unwrap_or(after.len());
            url.set_authority(&after[..end])?;
            rest = &after[end..];
        } else if !url.scheme.is_empty() && rest.starts_with('/') {
            url.omit_host = true;
        }
        url.path = unescape(rest, Part::Path)?;
        if escape(&url.path, Part::Path) != rest {
            url.raw_path = rest.to_owned();
        }
        Ok(url)
    }

    fn set_authority(&mut self, s: &str) -> Result<(), String> {
        let (user, name) = s.rsplit_once('@').map_or((None, s), |(user, name)| (Some(user), name));
        self.host = host(&self.scheme, name)?;
        let Some(user) = user else { return Ok(()) };
        if !valid_user(user) {
            return Err("net/url: invalid userinfo".into());
        }
        self.user = Some(match user.split_once(':') {
            None => (unescape(user, Part::User)?, None),
            Some((name, password)) => (unescape(name, Part::User)?, Some(unescape(password, Part::User)?)),
        });
        Ok(())
    }

    pub fn host(&self) -> String {
        String::from_utf8_lossy(&self.host).into_owned()
    }

    fn split_host(&self) -> (String, String) {
        let host = self.host();
        let (mut name, mut port) = (host.as_str(), "");
        if let Some(at) = host.rfind(':')
            && valid_port(&host[at..])
        {
            (name, port) = (&host[..at], &host[at + 1..]);
        }
        if let Some(inner) = name.strip_prefix('[').and_then(|n| n.strip_suffix(']')) {
            name = inner;
        }
        (name.to_owned(), port.to_owned())
    }

    pub fn hostname(&self) -> String {
        self.split_host().0
    }

    pub fn port(&self) -> String {
        self.split_host().1
    }

    pub fn escaped_path(&self) -> String {
        let valid = |b: u8| b"!$&'()*+,;=:@[]%".contains(&b) || !must_escape(b, Part::Path);
        if !self.raw_path.is_empty() && self.raw_path.bytes().all(valid) {
            return self.raw_path.clone();
        }
        if self.path == b"*" {
            return "*".into();
        }
        escape(&self.path, Part::Path)
    }

    /// The query's values by key, in the order keys first appear; malformed pairs left out.
    pub fn values(&self) -> Vec<(String, Vec<String>)> {
        let mut out: Vec<(String, Vec<String>)> = Vec::new();
        if self.query.matches('&').count() >= 10_000 {
            return out;
        }
        let text = |s: &str| unescape(s, Part::Query).map(|b| String::from_utf8_lossy(&b).into_owned());
        let mut known = std::collections::HashMap::new();
        for pair in self.query.split('&').filter(|p| !p.is_empty() && !p.contains(';')) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (Ok(key), Ok(value)) = (text(key), text(value)) else { continue };
            let at = *known.entry(key.clone()).or_insert_with(|| {
                out.push((key, Vec::new()));
                out.len() - 1
            });
            out[at].1.push(value);
        }
        out
    }
}

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.scheme.is_empty() {
            write!(f, "{}:", self.scheme)?;
        }
        if self.opaque.is_empty() {
            self.write_hierarchy(f)?;
        } else {
            f.write_str(&self.opaque)?;
        }
        if self.force_query || !self.query.is_empty() {
            write!(f, "?{}", self.query)?;
        }
        if !self.fragment.is_empty() {
            write!(f, "#{}", self.fragment)?;
        }
        Ok(())
    }
}

impl Url {
    fn write_hierarchy(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let nobody = self.host.is_empty() && self.user.is_none();
        let bare = self.scheme.is_empty() && nobody;
        if !(bare || self.omit_host && nobody) {
            if !self.host.is_empty() || !self.path.is_empty() || self.user.is_some() {
                f.write_str("//")?;
            }
            if let Some((name, password)) = &self.user {
                f.write_str(&escape(name, Part::User))?;
                if let Some(password) = password {
                    write!(f, ":{}", escape(password, Part::User))?;
                }
                f.write_str("@")?;
            }
            f.write_str(&escape(&self.host, Part::Host))?;
        }
        let path = self.escaped_path();
        if !path.is_empty() && !path.starts_with('/') && !self.host.is_empty() {
            f.write_str("/")?;
        }
        if bare && path.split('/').next().is_some_and(|segment| segment.contains(':')) {
            f.write_str("./")?;
        }
        f.write_str(&path)
    }
}
