use super::*;

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(http::header::HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
    }
    headers
}

fn asked() -> HeaderMap {
    headers(&[
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-protocol", "SPDY/3.1+portforward.k8s.io, SPDY/3.1+other.k8s.io"),
        ("x-forwarded-for", "10.0.0.1"),
    ])
}

#[test]
fn requests_become_spdy() {
    let want = headers(&[
        ("connection", "Upgrade"),
        ("upgrade", "SPDY/3.1"),
        ("x-forwarded-for", "10.0.0.1"),
        ("x-stream-protocol-version", "portforward.k8s.io"),
        ("x-stream-protocol-version", "other.k8s.io"),
    ]);
    assert_eq!(unwrapped(&asked()), Some(want));
    assert_eq!(unwrapped(&headers(&[("connection", "Upgrade"), ("upgrade", "SPDY/3.1")])), None);
}

#[test]
fn answers() {
    let spdy = [("connection", "Upgrade"), ("upgrade", "SPDY/3.1")];
    let chosen = [spdy[0], spdy[1], ("x-stream-protocol-version", "other.k8s.io")];
    let answered = answer(&asked(), &headers(&chosen)).unwrap();
    assert_eq!(answered[SEC_WEBSOCKET_PROTOCOL], "SPDY/3.1+other.k8s.io");
    assert!(!answer(&asked(), &headers(&spdy)).unwrap().contains_key(SEC_WEBSOCKET_PROTOCOL));
    assert!(answer(&asked(), &headers(&[("upgrade", "SPDY/3.1")])).is_err());
}

#[tokio::test]
async fn bytes_go_both_ways() {
    let (client, near) = tokio::io::duplex(1 << 10);
    let (far, mut backend) = tokio::io::duplex(1 << 10);
    let joined = tokio::spawn(join(near, far));
    let mut client = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
    let text = vec![7; 100_000];
    let back = text.clone();
    let echo = tokio::spawn(async move {
        let mut got = vec![0; back.len()];
        backend.read_exact(&mut got).await.unwrap();
        assert_eq!(got, back);
        backend.write_all(&got).await.unwrap();
    });
    client.send(Message::Binary(Bytes::from(text.clone()))).await.unwrap();
    let mut got = Vec::new();
    loop {
        match client.next().await.unwrap().unwrap() {
            Message::Binary(bytes) => got.extend_from_slice(&bytes),
            Message::Close(frame) => {
                assert_eq!(frame.unwrap().code, CloseCode::Normal);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(got, text);
    echo.await.unwrap();
    joined.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_client_that_leaves_closes_the_other_side() {
    let (client, near) = tokio::io::duplex(1 << 10);
    let (far, mut backend) = tokio::io::duplex(1 << 10);
    let joined = tokio::spawn(join(near, far));
    drop(client);
    assert_eq!(backend.read(&mut [0; 8]).await.unwrap(), 0);
    // Whether a broken connection is an error does not matter, that it ends does.
    let _ = joined.await.unwrap();
}
