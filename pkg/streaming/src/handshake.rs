//! Handshakes of WebSockets: what a request offers, and the answer.
//! Upstream: k8s.io/streaming/pkg/httpstream/wsstream/conn.go, apiserver/pkg/util/proxy/streamtunnel.go, v1.37.

use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use http::{HeaderMap, HeaderValue};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

/// Channels that can be closed one by one.
pub const CHANNELS: &str = "v5.channel.k8s.io";

const TUNNEL: &str = "SPDY/3.1+";
const KUBERNETES: &str = ".k8s.io";

/// The longest message that is taken. Upstream: `DefaultMaxPayloadBytes` of golang.org/x/net/websocket.
const MESSAGE: usize = 32 << 20;

/// A handshake that is not one: a bad request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the WebSocket handshake failed: {0}")]
pub struct Refused(pub &'static str);

fn text<'a>(headers: &'a HeaderMap, name: &http::header::HeaderName) -> &'a str {
    headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
}

/// Whether a WebSocket is asked for.
pub fn is_websocket(headers: &HeaderMap) -> bool {
    let upgrade = headers.get_all(CONNECTION).iter().filter_map(|v| v.to_str().ok());
    text(headers, &UPGRADE).eq_ignore_ascii_case("websocket")
        && upgrade.into_iter().any(|v| v.to_ascii_lowercase().contains("upgrade"))
}

fn offered(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let all = if is_websocket(headers) { text(headers, &SEC_WEBSOCKET_PROTOCOL) } else { "" };
    all.split(',').map(str::trim).filter(|protocol| !protocol.is_empty())
}

/// Whether channels are asked for that can be closed: what is translated.
pub fn wants_channels(headers: &HeaderMap) -> bool {
    offered(headers).any(|protocol| protocol == CHANNELS)
}

/// The protocols of SPDY that are offered through a tunnel; none when no tunnel is asked for.
pub fn tunnelled(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    offered(headers).filter(|p| p.ends_with(KUBERNETES)).filter_map(|p| p.strip_prefix(TUNNEL))
}

/// The headers of the answer that accepts, with the first protocol of SPDY or WebSocket that is known to both sides.
///
/// # Errors
/// No handshake of version 13.
pub fn accept(headers: &HeaderMap, known: impl Fn(&str) -> bool) -> Result<HeaderMap, Refused> {
    if !is_websocket(headers) {
        return Err(Refused("no WebSocket is asked for"));
    }
    if text(headers, &SEC_WEBSOCKET_VERSION) != "13" {
        return Err(Refused("only version 13 is spoken"));
    }
    let key = text(headers, &SEC_WEBSOCKET_KEY);
    if key.is_empty() {
        return Err(Refused("the key is missing"));
    }
    let value =
        |text: &str| HeaderValue::from_str(text).map_err(|_| Refused("a header has strange characters"));
    let mut answer = HeaderMap::new();
    answer.insert(UPGRADE, HeaderValue::from_static("websocket"));
    answer.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    answer.insert(SEC_WEBSOCKET_ACCEPT, value(&derive_accept_key(key.as_bytes()))?);
    if let Some(protocol) = offered(headers).find(|protocol| known(protocol)) {
        answer.insert(SEC_WEBSOCKET_PROTOCOL, value(protocol)?);
    }
    Ok(answer)
}

/// Whether an offered protocol is the tunnel of `spdy`.
pub(crate) fn is_tunnel_of(offer: &str, spdy: &str) -> bool {
    offer.strip_prefix(TUNNEL).is_some_and(|rest| rest == spdy)
}

/// The limits of a connection.
pub(crate) fn limits() -> WebSocketConfig {
    WebSocketConfig::default().max_message_size(Some(MESSAGE)).max_frame_size(Some(MESSAGE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(protocols: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            (UPGRADE, "WebSocket"),
            (CONNECTION, "keep-alive, Upgrade"),
            (SEC_WEBSOCKET_VERSION, "13"),
            (SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ=="),
            (SEC_WEBSOCKET_PROTOCOL, protocols),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn offers() {
        for (protocols, channels, tunnels) in [
            ("v4.channel.k8s.io", false, &[][..]),
            ("v5.channel.k8s.io,v4.channel.k8s.io", true, &[]),
            ("v4.channel.k8s.io, v5.channel.k8s.io", true, &[]),
            ("SPDY/3.1+portforward.k8s.io", false, &["portforward.k8s.io"]),
            ("SPDY/3.1+a, SPDY/3.1+v2.k8s.io,SPDY/3.1+v1.k8s.io", false, &["v2.k8s.io", "v1.k8s.io"]),
        ] {
            let headers = headers(protocols);
            assert_eq!(wants_channels(&headers), channels, "{protocols}");
            assert_eq!(tunnelled(&headers).collect::<Vec<_>>(), tunnels, "{protocols}");
        }
        let mut spdy = headers(CHANNELS);
        spdy.insert(UPGRADE, "SPDY/3.1".parse().unwrap());
        assert!(!wants_channels(&spdy));
    }

    #[test]
    fn answers() {
        let answer = accept(&headers("v4.channel.k8s.io, v5.channel.k8s.io"), |p| p == CHANNELS).unwrap();
        assert_eq!(answer[SEC_WEBSOCKET_PROTOCOL], CHANNELS);
        // The example of RFC 6455.
        assert_eq!(answer[SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert!(!accept(&headers("x"), |_| false).unwrap().contains_key(SEC_WEBSOCKET_PROTOCOL));
        for missing in [SEC_WEBSOCKET_VERSION, SEC_WEBSOCKET_KEY, UPGRADE] {
            let mut headers = headers(CHANNELS);
            headers.remove(&missing);
            assert!(accept(&headers, |_| true).is_err(), "{missing}");
        }
    }
}
