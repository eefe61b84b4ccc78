use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::ServerName;
use rustls_pki_types::pem::PemObject;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::body::{self, Body};
use super::*;

fn secure(dir: &str) -> SecureServing {
    SecureServing {
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        port: 0,
        bind: BindOptions::default(),
        pair: None,
        cert_dir: dir.to_string(),
        pair_name: "test".into(),
        by_name: Vec::new(),
        parameters: TlsParameters::default(),
        http2_max_streams: 0,
        http2: true,
        own: OwnNames::default(),
    }
}

/// Answers with the number of peer certificates, whether HTTP/2 is spoken, and the path; echoes upgraded bytes.
async fn answer(mut request: Request<Incoming>) -> Response<Body> {
    if request.uri().path() == "/panic" {
        panic!("on purpose");
    }
    if request.uri().path() == "/upgrade" {
        tokio::spawn(async move {
            let upgraded = hyper::upgrade::on(&mut request).await.unwrap();
            let mut io = TokioIo::new(upgraded);
            let mut data = [0; 4];
            io.read_exact(&mut data).await.unwrap();
            io.write_all(&data).await.unwrap();
        });
        let mut response = Response::new(body::empty());
        *response.status_mut() = http::StatusCode::SWITCHING_PROTOCOLS;
        response.headers_mut().insert("upgrade", "echo".parse().unwrap());
        response.headers_mut().insert("connection", "Upgrade".parse().unwrap());
        return response;
    }
    if request.uri().path().starts_with("/pieces/") {
        return pieces(request.uri().path());
    }
    let info = request.extensions().get::<Arc<ConnInfo>>().unwrap();
    let peers = info.tls.as_ref().map_or(0, |t| t.peer_certificates.len());
    let http2 = info.tls.as_ref().is_some_and(|t| t.http2);
    body::text(http::StatusCode::OK, format!("{peers} {http2} {}", request.uri().path()))
}

/// The path two hundred thousand times, in frames of several pieces.
fn pieces(path: &str) -> Response<Body> {
    let mut pieces = Pieces::default();
    (0..1_000).for_each(|_| pieces.push(path.repeat(200).into()));
    let frames = std::iter::from_fn(move || {
        (!pieces.is_empty()).then(|| Ok::<_, BoxError>(http_body::Frame::data(pieces.take(16_375))))
    });
    Response::new(http_body_util::StreamBody::new(futures::stream::iter(frames)).boxed_unsync())
}

struct Client {
    config: Arc<rustls::ClientConfig>,
    address: std::net::SocketAddr,
}

impl Client {
    fn new(cert_pem: &[u8], address: std::net::SocketAddr, alpn: &str, with_certificate: bool) -> Self {
        let mut roots = rustls::RootCertStore::empty();
        for cert in rustls_pki_types::CertificateDer::pem_slice_iter(cert_pem) {
            roots.add(cert.unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = if with_certificate {
            let (cert, key) = self_signed::generate("client", &[], &[]).unwrap();
            let chain = rustls_pki_types::CertificateDer::pem_slice_iter(cert.as_bytes())
                .map(Result::unwrap)
                .collect();
            let key = rustls_pki_types::PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        } else {
            builder.with_no_client_auth()
        };
        config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        Client { config: Arc::new(config), address }
    }

    async fn connect(&self) -> tokio_rustls::client::TlsStream<TcpStream> {
        let tcp = TcpStream::connect(self.address).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(self.config.clone());
        connector.connect(ServerName::try_from("localhost").unwrap(), tcp).await.unwrap()
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let io = TokioIo::new(self.connect().await);
        let request = Request::get(format!("https://localhost{path}")).body(body::empty()).unwrap();
        let response = if self.config.alpn_protocols[0] == b"h2" {
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
            tokio::spawn(connection);
            sender.send_request(request).await.unwrap()
        } else {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
            tokio::spawn(connection);
            sender.send_request(request).await.unwrap()
        };
        let status = response.status().as_u16();
        let data = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(data.to_vec()).unwrap())
    }
}

/// A server with a certificate of its own, in a folder that is there as long as it.
struct Running {
    _dir: tempfile::TempDir,
    pem: Vec<u8>,
    address: std::net::SocketAddr,
    /// Drains the server.
    token: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    fn begin() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = secure(dir.path().to_str().unwrap()).bind_port(0, &[]).unwrap();
        let address = server.listener.address();
        let pem = std::fs::read(dir.path().join("test.crt")).unwrap();
        let token = CancellationToken::new();
        let task = tokio::spawn(serve(server.listener, server.options, answer, token.clone()));
        Running { _dir: dir, pem, address, token, task }
    }
}

#[tokio::test]
async fn serves_tls_with_and_without_client_certificates() {
    let Running { _dir, pem, address, token, task } = Running::begin();
    for (alpn, with_certificate, expected) in [
        ("h2", false, "0 true /a"),
        ("h2", true, "2 true /a"),
        ("http/1.1", false, "0 false /a"),
        ("http/1.1", true, "2 false /a"),
    ] {
        let client = Client::new(&pem, address, alpn, with_certificate);
        assert_eq!(client.get("/a").await, (200, expected.to_string()), "{alpn}");
    }
    let client = Client::new(&pem, address, "h2", false);
    assert_eq!(client.get("/panic").await.0, 500);
    token.cancel();
    tokio::time::timeout(std::time::Duration::from_secs(5), task).await.unwrap().unwrap();
}

#[tokio::test]
async fn sends_many_long_answers_over_one_connection() {
    let Running { _dir, pem, address, token, task } = Running::begin();
    let io = TokioIo::new(Client::new(&pem, address, "h2", false).connect().await);
    let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let asked = (0..8).map(|n| {
        let (mut sender, path) = (sender.clone(), format!("/pieces/{n}"));
        async move {
            let request = Request::get(format!("https://localhost{path}")).body(body::empty()).unwrap();
            let answer = sender.send_request(request).await.unwrap().into_body();
            assert!(answer.collect().await.unwrap().to_bytes() == path.repeat(200_000), "{path}");
        }
    });
    // The drain begins while answers are under way: they come to their end.
    let begun = sender
        .clone()
        .send_request(Request::get("https://localhost/pieces/last").body(body::empty()).unwrap());
    let begun = begun.await.unwrap().into_body();
    futures::future::join_all(asked).await;
    token.cancel();
    assert!(begun.collect().await.unwrap().to_bytes() == "/pieces/last".repeat(200_000));
    drop(sender);
    tokio::time::timeout(std::time::Duration::from_secs(5), task).await.unwrap().unwrap();
}

#[tokio::test]
async fn upgrades_and_drains() {
    let server = secure("").bind_port(0, &[]).unwrap();
    let address = server.listener.address();
    let (cert, _) = self_signed::generate("unused", &[], &[]).unwrap();
    let token = CancellationToken::new();
    let listener = server.listener;
    let task = tokio::spawn(serve(listener, ServeOptions::default(), answer, token.clone()));
    let _ = cert;
    let mut plain = TcpStream::connect(address).await.unwrap();
    plain
        .write_all(b"GET /upgrade HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
        .await
        .unwrap();
    let mut head = vec![0; 12];
    plain.read_exact(&mut head).await.unwrap();
    assert_eq!(head, b"HTTP/1.1 101");
    plain.write_all(b"ping").await.unwrap();
    let mut rest = Vec::new();
    while !rest.ends_with(b"ping") {
        let mut byte = [0; 64];
        let n = plain.read(&mut byte).await.unwrap();
        assert_ne!(n, 0);
        rest.extend_from_slice(&byte[..n]);
    }
    // An idle keep-alive connection does not hold the drain up.
    let idle = TcpStream::connect(address).await.unwrap();
    token.cancel();
    tokio::time::timeout(std::time::Duration::from_secs(5), task).await.unwrap().unwrap();
    drop(idle);
}

#[test]
fn pairs_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, host: &str, names: &[&str]| {
        let names: Vec<String> = names.iter().map(|n| n.to_string()).collect();
        let (cert, key) = self_signed::generate(host, &[], &names).unwrap();
        let (c, k) = (dir.path().join(format!("{name}.crt")), dir.path().join(format!("{name}.key")));
        std::fs::write(&c, cert).unwrap();
        std::fs::write(&k, key).unwrap();
        (c, k)
    };
    let source = |(cert, key), names: &[&str]| CertSource::Files {
        cert,
        key,
        names: names.iter().map(|n| n.to_string()).collect(),
    };
    let default = source(write("d", "default", &[]), &[]);
    let found = source(write("a", "a.example", &["*.wild.example"]), &[]);
    let stated = source(write("b", "b.example", &[]), &["*.wild.example", "x.wild.example"]);
    let certificates = Certificates::load(default, vec![found, stated]).unwrap();
    let name = |asked: &str| {
        let key = certificates.find_for_test(asked);
        let (_, parsed) = x509_parser::parse_x509_certificate(&key.cert[0]).unwrap();
        let cn = parsed.subject().iter_common_name().next().unwrap().as_str().unwrap().to_string();
        cn.split('@').next().unwrap().to_string()
    };
    for (asked, expected) in [
        ("", "default"),
        ("other", "default"),
        ("A.example", "a.example"),
        ("y.wild.example", "b.example"),
        ("x.wild.example", "b.example"),
        ("deep.y.wild.example", "default"),
    ] {
        assert_eq!(name(asked), expected, "{asked}");
    }
}
