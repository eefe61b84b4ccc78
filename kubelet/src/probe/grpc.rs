//! The health question of gRPC, spoken directly: one call with one tiny message each way.
//!
//! Upstream: pkg/probe/grpc/grpc.go, v1.37; the messages are `grpc.health.v1.HealthCheckRequest` and `-Response`.

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::http_get::io_text;

/// Most of an answer that is read.
const ANSWER_LIMIT: usize = 64 << 10;

/// Asks; the text says what was wrong.
pub(super) async fn health(host: &str, port: u16, service: &str) -> Result<(), String> {
    let address = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let stream = TcpStream::connect((host, port)).await.map_err(|e| {
        format!(
            "error: failed to connect service at {address:?}: dial tcp {address}: connect: {}",
            io_text(&e)
        )
    })?;
    let failed = |what: String| format!("error: health rpc probe failed: {what}");
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .map_err(|e| failed(e.to_string()))?;
    let exchange = async {
        let request = http::Request::builder()
            .method("POST")
            .uri(format!("http://{address}/grpc.health.v1.Health/Check"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("user-agent", "kube-probe/1.37")
            .body(Full::new(request_frame(service)))
            .map_err(|e| failed(e.to_string()))?;
        let answer = sender.send_request(request).await.map_err(|e| failed(e.to_string()))?;
        let (parts, body) = answer.into_parts();
        let body = Limited::new(body, ANSWER_LIMIT).collect().await.map_err(|e| failed(e.to_string()))?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        let header = |name: &str| {
            let value = trailers.get(name).or_else(|| parts.headers.get(name));
            value.and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned()
        };
        let (code, message) = (header("grpc-status"), header("grpc-message"));
        match code.as_str() {
            "0" => verdict(&body.to_bytes()),
            "12" => Err(format!(
                "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {message}"
            )),
            _ => Err(failed(format!("rpc error: code = {code} desc = {message}"))),
        }
    };
    tokio::select! {
        result = exchange => result,
        ended = connection => Err(failed(ended.err().map_or_else(|| "connection closed".into(), |e| e.to_string()))),
    }
}

/// The request in gRPC's framing: not compressed, length, field 1 as text.
fn request_frame(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.extend_from_slice(&[0x0a]);
        let mut length = service.len();
        while length >= 0x80 {
            message.extend_from_slice(&[(length & 0x7f) as u8 | 0x80]);
            length >>= 7;
        }
        message.extend_from_slice(&[(length & 0x7f) as u8]);
        message.extend_from_slice(service.as_bytes());
    }
    let mut frame = BytesMut::from(&[0u8][..]);
    frame.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    frame.extend_from_slice(&message);
    frame.freeze()
}

/// Field 1 of the answer is the state; 1 is serving.
fn verdict(frame: &[u8]) -> Result<(), String> {
    let state = match frame.get(5..) {
        Some([0x08, state, ..]) => *state,
        _ => 0,
    };
    match state {
        1 => Ok(()),
        0 => Err("service unhealthy (responded with \"UNKNOWN\")".to_owned()),
        2 => Err("service unhealthy (responded with \"NOT_SERVING\")".to_owned()),
        3 => Err("service unhealthy (responded with \"SERVICE_UNKNOWN\")".to_owned()),
        other => Err(format!("service unhealthy (responded with \"{other}\")")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames() {
        assert_eq!(request_frame("").as_ref(), [0, 0, 0, 0, 0]);
        assert_eq!(request_frame("ab").as_ref(), [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        assert!(verdict(&[0, 0, 0, 0, 2, 8, 1]).is_ok());
        assert_eq!(verdict(&[0, 0, 0, 0, 0]).unwrap_err(), "service unhealthy (responded with \"UNKNOWN\")");
    }
}
