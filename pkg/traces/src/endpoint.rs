//! The collector's address, as gRPC names servers: `host:port`, `dns:///host:port`, `unix:///path`, `unix-abstract:name`.

use machinery::golang::quote;
use std::fmt;

/// gRPC's port where none is named. Upstream: grpc-go `defaultPort`.
const PORT: u16 = 443;

/// Where the collector is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// `host:port`, plain HTTP/2.
    Tcp(String),
    /// A socket's path; a leading NUL names one without a file.
    Unix(String),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Tcp(address) => f.write_str(address),
            Target::Unix(path) => write!(f, "unix:{}", path.replace('\0', "@")),
        }
    }
}

impl Target {
    /// Reads an endpoint that [`check`] let pass.
    ///
    /// # Errors
    /// The endpoint names no server: the text says what to write.
    pub fn parse(endpoint: &str) -> Result<Self, String> {
        let refuse = |why: &str| Err(format!("endpoint {}: {why}", quote(endpoint)));
        let (scheme, rest) = endpoint.split_once(':').unwrap_or(("", endpoint));
        // `unix:/path` and `unix:///path` are the same; what stands between two and three slashes is an authority.
        let (authority, rest) = match rest.strip_prefix("//") {
            Some(rest) => rest.find('/').map_or((rest, ""), |at| rest.split_at(at)),
            None => ("", rest),
        };
        match scheme.to_ascii_lowercase().as_str() {
            "unix" | "unix-abstract" | "dns" if !authority.is_empty() => {
                refuse("what stands after // is no part of the address; write three slashes")
            }
            "unix" if rest.is_empty() => refuse("no path of a socket; write unix:///path"),
            "unix" => Ok(Target::Unix(rest.to_owned())),
            "unix-abstract" if rest.is_empty() => refuse("no name of a socket; write unix-abstract:name"),
            "unix-abstract" => Ok(Target::Unix(format!("\0{rest}"))),
            "dns" => tcp(rest.trim_start_matches('/')).map_or_else(|| refuse(TCP), Ok),
            _ => tcp(endpoint).map_or_else(|| refuse(TCP), Ok),
        }
    }
}

const TCP: &str = "no host and port; write host:port, with an IPv6 address in brackets";

/// `host`, `host:port`, `[v6]`, `[v6]:port` or `v6`.
fn tcp(text: &str) -> Option<Target> {
    let bare = text.matches(':').count() > 1 && !text.starts_with('[');
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !bare && !port.ends_with(']') => (host, port.parse().ok()?),
        _ => (text, PORT),
    };
    let host = match host {
        "" if !text.is_empty() => "localhost".to_owned(),
        host if bare => format!("[{host}]"),
        host => host.to_owned(),
    };
    let address = format!("{host}:{port}");
    let usable = !host.is_empty()
        && !host.contains('@')
        && address.parse::<http::uri::Authority>().is_ok_and(|a| a.as_str() == address);
    usable.then_some(Target::Tcp(address))
}

/// What upstream's validation says of an endpoint: the text it shows, and why it is refused.
/// Upstream: `validateEndpoint` of component-base/tracing/api/v1, which asks Go's `url.Parse`.
pub(crate) fn check(endpoint: &str) -> Result<(), (String, String)> {
    let url = if endpoint.contains("//") { endpoint.to_owned() } else { format!("dns://{endpoint}") };
    let scheme = match parse(&url) {
        Ok(scheme) => scheme,
        Err(why) => return Err((url.clone(), format!("parse {}: {why}", quote(&url)))),
    };
    match scheme.to_ascii_lowercase().as_str() {
        "dns" | "unix" | "unix-abstract" => Ok(()),
        other => Err((
            url,
            format!(
                "unsupported scheme: {other}.  Options are none, dns, unix, or unix-abstract.  See https://github.com/grpc/grpc/blob/master/doc/naming.md"
            ),
        )),
    }
}

/// The scheme of a URL; an error is that of Go's parser.
fn parse(url: &str) -> Result<&str, String> {
    if url.bytes().any(|b| b < b' ' || b == 0x7f) {
        return Err("net/url: invalid control character in URL".into());
    }
    if url.starts_with(':') {
        return Err("missing protocol scheme".into());
    }
    let first = url.split(['/', '?', '#']).next().unwrap_or_default();
    let (scheme, rest) = match first.split_once(':') {
        Some((scheme, _)) if is_scheme(scheme) => (scheme, url.get(scheme.len() + 1..).unwrap_or_default()),
        Some(_) => return Err("first path segment in URL cannot contain colon".into()),
        None => ("", url),
    };
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let path = match rest.strip_prefix("//") {
        Some(rest) if !scheme.is_empty() || !rest.starts_with('/') => {
            let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
            check_host(authority.rsplit_once('@').map_or(authority, |(_, host)| host))?;
            path
        }
        _ => rest,
    };
    match bad_escape(path) {
        Some(shown) => Err(format!("invalid URL escape {}", quote(&shown))),
        None => Ok(scheme),
    }
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
}

fn check_host(host: &str) -> Result<(), String> {
    let port = match host.strip_prefix('[') {
        Some(inner) => inner.rsplit_once(']').ok_or("missing ']' in host")?.1,
        None => host.rfind(':').map_or("", |at| &host[at..]),
    };
    if !port.is_empty() && !port.strip_prefix(':').is_some_and(|p| p.bytes().all(|b| b.is_ascii_digit())) {
        return Err(format!("invalid port {} after host", quote(port)));
    }
    // Only what is no ASCII may be written with percent signs, and in brackets the sign of a zone.
    if let Some(shown) = bad_escape(host).filter(|_| !host.starts_with('[')) {
        return Err(format!("invalid URL escape {}", quote(&shown)));
    }
    let odd = |c: char| c.is_ascii() && !c.is_ascii_alphanumeric() && !"-_.~!$&'()*+,;=:[]<>\"%".contains(c);
    match host.chars().find(|c| odd(*c)) {
        Some(c) => Err(format!("invalid character {} in host name", quote(&c.to_string()))),
        None => Ok(()),
    }
}

/// What stands where two hexadecimal digits should follow a percent sign.
fn bad_escape(text: &str) -> Option<String> {
    let pair = |s: &str| s.bytes().skip(1).take(2).filter(u8::is_ascii_hexdigit).count() == 2;
    let mut signs = text.match_indices('%').filter_map(|(at, _)| text.get(at..));
    signs.find(|s| !pair(s)).map(|s| s.chars().take(3).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        let tcp = |text: &str| Ok(Target::Tcp(text.into()));
        let unix = |text: &str| Ok(Target::Unix(text.into()));
        for (endpoint, want) in [
            ("localhost:4317", tcp("localhost:4317")),
            ("collector", tcp("collector:443")),
            ("dns:///collector:1", tcp("collector:1")),
            ("dns:collector:1", tcp("collector:1")),
            ("[::1]:4317", tcp("[::1]:4317")),
            ("[::1]", tcp("[::1]:443")),
            ("::1", tcp("[::1]:443")),
            (":4317", tcp("localhost:4317")),
            ("unix:///run/c.sock", unix("/run/c.sock")),
            ("unix:/run/c.sock", unix("/run/c.sock")),
            ("unix:c.sock", unix("c.sock")),
            ("unix-abstract:c", unix("\0c")),
        ] {
            assert_eq!(Target::parse(endpoint), want, "{endpoint}");
        }
        for bad in ["", "h:99999", "dns://google.com:4317", "unix://path/to/socket", "unix:", "user@h:1"] {
            let why = Target::parse(bad).unwrap_err();
            assert!(why.contains("write"), "{why}");
        }
        assert_eq!(Target::Unix("\0c".into()).to_string(), "unix:@c");
    }
}
