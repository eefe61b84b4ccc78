//! Asks a runtime's server, or a kubelet, for streams over SPDY.
//! Upstream: k8s.io/streaming/pkg/httpstream/spdy/roundtripper.go, client-go/tools/remotecommand/spdy.go, v1.37.

use bytes::Bytes;
use http::header::{CONNECTION, HOST, HeaderName, UPGRADE};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};

/// The protocol that is upgraded to.
pub const SPDY: &str = "SPDY/3.1";

/// Protocols are proposed in it, the first of several wins, and the chosen one is answered.
pub static PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");

/// What an answer that refuses is read up to.
const REFUSAL: usize = 50_000;

/// How a command's streams are used: newer ones know more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// Its input cannot be closed.
    V1,
    /// Errors are text.
    V2,
    /// Terminals can be resized.
    V3,
    /// Errors are a `Status`.
    V4,
    /// As the one before; over WebSockets, channels can be closed.
    V5,
}

/// The newest first, as they are proposed.
const PROTOCOLS: [(&str, Protocol); 5] = [
    ("v5.channel.k8s.io", Protocol::V5),
    ("v4.channel.k8s.io", Protocol::V4),
    ("v3.channel.k8s.io", Protocol::V3),
    ("v2.channel.k8s.io", Protocol::V2),
    ("channel.k8s.io", Protocol::V1),
];

impl Protocol {
    /// A server that answers none speaks the first.
    fn chosen(answer: &str) -> Result<Self, String> {
        if answer.is_empty() {
            return Ok(Protocol::V1);
        }
        let known = PROTOCOLS.iter().find(|(name, _)| *name == answer);
        known
            .map(|(_, protocol)| *protocol)
            .ok_or_else(|| format!("the server chose the protocol {answer:?}, which was not proposed"))
    }
}

/// A connection that speaks SPDY from here on.
pub type Connection = TokioIo<Upgraded>;

/// Asks for a command's streams on a connection; the error is text for the client.
///
/// # Errors
/// The server refuses, or does not speak HTTP.
pub async fn propose<S>(io: S, host: &str, target: &str) -> Result<(Connection, Protocol), String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let failed = |error: &dyn std::fmt::Display| format!("error sending request: {error}");
    let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await.map_err(|e| failed(&e))?;
    // Ends with the connection, which ends with the streams.
    tokio::spawn(connection.with_upgrades());
    let mut request =
        Request::post(target).header(HOST, host).header(CONNECTION, "Upgrade").header(UPGRADE, SPDY);
    for (name, _) in PROTOCOLS {
        request = request.header(&PROTOCOL, name);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|e| failed(&e))?;
    let mut answer = sender.send_request(request).await.map_err(|e| failed(&e))?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS || !is_spdy(answer.headers()) {
        return Err(format!("unable to upgrade connection: {}", refusal(answer).await));
    }
    let protocol = Protocol::chosen(text(answer.headers(), &PROTOCOL).trim())?;
    let upgraded = hyper::upgrade::on(&mut answer).await.map_err(|e| failed(&e))?;
    Ok((TokioIo::new(upgraded), protocol))
}

/// Whether an answer is about SPDY.
pub fn is_spdy(headers: &HeaderMap) -> bool {
    let has = |name, what: &str| text(headers, &name).to_ascii_lowercase().contains(what);
    has(CONNECTION, "upgrade") && has(UPGRADE, "spdy/3.1")
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> &'a str {
    headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
}

async fn refusal(answer: Response<Incoming>) -> String {
    match Limited::new(answer.into_body(), REFUSAL).collect().await {
        Ok(body) => reason(&body.to_bytes()),
        Err(_) => "unable to read error from server response".to_owned(),
    }
}

/// What an answer says. Upstream: `upgradeErrorMessage`.
fn reason(body: &[u8]) -> String {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Like {
        message: String,
        error: String,
    }
    let said = serde_json::from_slice::<Like>(body).unwrap_or_default();
    let body = String::from_utf8_lossy(body);
    let all = [said.message.as_str(), said.error.as_str(), body.as_ref()];
    let said = all.into_iter().map(str::trim).find(|text| !text.is_empty());
    said.unwrap_or("empty server response").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols() {
        assert_eq!(Protocol::chosen(""), Ok(Protocol::V1));
        assert_eq!(Protocol::chosen("v4.channel.k8s.io"), Ok(Protocol::V4));
        assert!(Protocol::chosen("v6.channel.k8s.io").is_err());
        assert!(PROTOCOLS.is_sorted_by(|a, b| a.1 > b.1));
    }

    #[test]
    fn reasons() {
        for (body, want) in [
            ("", "empty server response"),
            (" no \n", "no"),
            (r#"{"message":"a ","error":"b"}"#, "a"),
            (r#"{"error":"b"}"#, "b"),
            (r#"{"x":1}"#, r#"{"x":1}"#),
        ] {
            assert_eq!(reason(body.as_bytes()), want, "{body}");
        }
    }
}
