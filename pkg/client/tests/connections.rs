//! Connections over TLS: certificates that change while in use, dead servers, stream limits, upgrades.

#![expect(clippy::unwrap_used, reason = "a test: failing is what it is for")]

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use client::kubeconfig::Source;
use client::{Client, ClientCert, Config, Options, Request};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

fn ca() -> Ca {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, "ca");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = params.self_signed(&key).unwrap().pem();
    Ca { issuer: Issuer::new(params, key), pem }
}

impl Ca {
    fn issue(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["server".to_string()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

/// What the server saw.
#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    names: Mutex<Vec<String>>,
}

fn tls_config(ca: &Ca) -> Arc<rustls::ServerConfig> {
    let (cert, key) = ca.issue("server");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.pem.as_bytes()).unwrap()).unwrap();
    let provider = client::tls::provider();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .unwrap();
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
        )
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
}

/// `/watch` never ends; `/upgrade` switches to an echo; everything else is answered.
async fn answer(
    mut request: http::Request<hyper::body::Incoming>,
) -> Result<http::Response<BoxBody<Bytes, Infallible>>, Infallible> {
    if request.uri().path() == "/watch" {
        let never = futures::stream::pending::<Result<http_body::Frame<Bytes>, Infallible>>();
        return Ok(http::Response::new(BodyExt::boxed(StreamBody::new(never))));
    }
    let mut response = http::Response::new(Full::new(Bytes::from_static(b"{}")).boxed());
    if request.uri().path() == "/upgrade" {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut io = TokioIo::new(upgrade.await.unwrap());
            let mut buffer = [0; 4];
            io.read_exact(&mut buffer).await.unwrap();
            io.write_all(&buffer).await.unwrap();
        });
        *response.status_mut() = http::StatusCode::SWITCHING_PROTOCOLS;
        response.headers_mut().insert("upgrade", http::HeaderValue::from_static("echo"));
    }
    Ok(response)
}

/// A configuration whose connections are served over pipes. With `freeze`, bytes stop flowing once it is set.
fn config(ca: &Arc<Ca>, seen: &Arc<Seen>, streams: u32) -> Config {
    let mut config = Config::new("https://server:6443");
    config.ca = Some(Source::Inline(ca.pem.clone().into_bytes()));
    let (tls, seen) = (tls_config(ca), seen.clone());
    config.dialer = Some(Arc::new(move || {
        let (near, far) = tokio::io::duplex(64 << 10);
        let (tls, seen) = (tls.clone(), seen.clone());
        seen.connections.fetch_add(1, Ordering::SeqCst);
        tokio::spawn(async move {
            let Ok(io) = tokio_rustls::TlsAcceptor::from(tls).accept(far).await else { return };
            let subject = io.get_ref().1.peer_certificates().map(|c| {
                let (_, cert) = x509_parser::parse_x509_certificate(&c[0]).unwrap();
                cert.subject().iter_common_name().next().unwrap().as_str().unwrap().to_string()
            });
            seen.names.lock().push(subject.unwrap_or_default());
            let mut builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            builder.http2().max_concurrent_streams(streams);
            let service = hyper::service::service_fn(answer);
            let _ = builder.serve_connection_with_upgrades(TokioIo::new(io), service).await;
        });
        let io: Box<dyn client::transport::Io> = Box::new(near);
        Box::pin(async move { Ok(io) })
    }));
    config
}

fn options() -> Options {
    Options { qps: -1.0, ..Options::default() }
}

fn watch() -> Request {
    Request { streaming: true, ..Request::get("/watch") }
}

#[tokio::test]
async fn a_new_client_certificate_closes_old_connections() {
    let (ca, seen) = (Arc::new(ca()), Arc::new(Seen::default()));
    let mut config = config(&ca, &seen, 100);
    let cell = ClientCert::empty();
    config.client_cert = Some(cell.clone());
    let client = Client::new(config, options()).unwrap();
    client.call(&Request::get("/a")).await.unwrap();
    client.call(&Request::get("/b")).await.unwrap();
    assert_eq!(*seen.names.lock(), [""], "one connection, without a certificate");

    let mut open = client.stream(&watch()).await.unwrap().into_body();
    let (cert, key) = ca.issue("node-2");
    cell.set_pem(cert.as_bytes(), key.as_bytes()).unwrap();
    client.call(&Request::get("/c")).await.unwrap();
    assert_eq!(*seen.names.lock(), ["", "node-2"]);
    let ended = tokio::time::timeout(Duration::from_secs(5), open.frame()).await.unwrap();
    assert!(ended.is_some_and(|f| f.is_err()), "the watch on the old connection ends with an error");

    let (_, other) = ca.issue("x");
    assert!(
        cell.set_pem(cert.as_bytes(), other.as_bytes()).is_err(),
        "a key of another certificate is refused"
    );
}

#[tokio::test]
async fn full_connections_are_not_waited_for() {
    let (ca, seen) = (Arc::new(ca()), Arc::new(Seen::default()));
    let client = Client::new(config(&ca, &seen, 10), options()).unwrap();
    client.call(&Request::get("/a")).await.unwrap();
    let mut open = Vec::new();
    for _ in 0..25 {
        open.push(client.stream(&watch()).await.unwrap());
    }
    tokio::time::timeout(Duration::from_secs(5), client.call(&Request::get("/b"))).await.unwrap().unwrap();
    assert_eq!(seen.connections.load(Ordering::SeqCst), 3);
    drop(open);
    client.call(&Request::get("/c")).await.unwrap();
    assert_eq!(seen.connections.load(Ordering::SeqCst), 3);
}

/// A server that says goodbye ends what is under way and takes nothing new: its next call goes elsewhere.
#[tokio::test]
async fn calls_leave_a_server_that_says_goodbye() {
    let (ca, connections) = (Arc::new(ca()), Arc::new(AtomicUsize::new(0)));
    let (tls, count, leave) = (tls_config(&ca), connections.clone(), Arc::new(tokio::sync::Notify::new()));
    let mut config = Config::new("https://server:6443");
    config.ca = Some(Source::Inline(ca.pem.clone().into_bytes()));
    let told = leave.clone();
    config.dialer = Some(Arc::new(move || {
        let (near, far) = tokio::io::duplex(64 << 10);
        let (tls, told) = (tls.clone(), told.clone());
        count.fetch_add(1, Ordering::SeqCst);
        tokio::spawn(async move {
            let io = tokio_rustls::TlsAcceptor::from(tls).accept(far).await.unwrap();
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let mut connection = std::pin::pin!(
                builder.serve_connection(TokioIo::new(io), hyper::service::service_fn(answer))
            );
            tokio::select! {
                _ = connection.as_mut() => return,
                () = told.notified() => connection.as_mut().graceful_shutdown(),
            }
            let _ = connection.await;
        });
        let io: Box<dyn client::transport::Io> = Box::new(near);
        Box::pin(async move { Ok(io) })
    }));
    let client = Client::new(config, options()).unwrap();
    let mut open = client.stream(&watch()).await.unwrap().into_body();
    client.call(&Request::get("/a")).await.unwrap();
    assert_eq!(connections.load(Ordering::SeqCst), 1);
    leave.notify_one();
    // The goodbye is on its way while calls are made; none of them may fail.
    for _ in 0..10 {
        client.call(&Request::get("/b")).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(connections.load(Ordering::SeqCst), 2);
    let more = tokio::time::timeout(Duration::from_millis(50), open.frame()).await;
    assert!(more.is_err(), "what is under way goes on");
}

#[tokio::test]
async fn upgrades_use_a_connection_of_their_own() {
    let (ca, seen) = (Arc::new(ca()), Arc::new(Seen::default()));
    let client = Client::new(config(&ca, &seen, 100), options()).unwrap();
    let mut request = Request::new(http::Method::POST, "/upgrade");
    for (name, value) in [("connection", "Upgrade"), ("upgrade", "echo")] {
        request.headers.push((http::HeaderName::from_static(name), http::HeaderValue::from_static(value)));
    }
    let (headers, io) = client.upgrade(&request).await.unwrap();
    assert_eq!(headers["upgrade"], "echo");
    let mut io = TokioIo::new(io);
    io.write_all(b"ping").await.unwrap();
    let mut buffer = [0; 4];
    io.read_exact(&mut buffer).await.unwrap();
    assert_eq!(&buffer, b"ping");
    assert!(client.upgrade(&Request::get("/a")).await.is_err());
}

#[tokio::test]
async fn unknown_authorities_are_refused() {
    let (ca, seen) = (Arc::new(ca()), Arc::new(Seen::default()));
    let mut strange = config(&ca, &seen, 100);
    strange.ca = Some(Source::Inline(self::ca().pem.into_bytes()));
    let e = Client::new(strange, options()).unwrap().call(&Request::get("/a")).await.unwrap_err();
    assert!(e.is_connection() && e.to_string().contains("certificate"), "{e}");
    let mut trusting = config(&ca, &seen, 100);
    (trusting.ca, trusting.insecure) = (None, true);
    Client::new(trusting, options()).unwrap().call(&Request::get("/a")).await.unwrap();
    let mut named = config(&ca, &seen, 100);
    named.server = "https://10.1.2.3:6443".to_string();
    assert!(Client::new(named.clone(), options()).unwrap().call(&Request::get("/a")).await.is_err());
    named.tls_server_name = "server".to_string();
    Client::new(named, options()).unwrap().call(&Request::get("/a")).await.unwrap();
}

/// A server that stops answering without closing is noticed by pings: 30 s of silence, 15 s without a pong.
#[tokio::test(start_paused = true)]
async fn a_silent_server_is_noticed() {
    let (ca, seen) = (Arc::new(ca()), Arc::new(Seen::default()));
    let mut config = config(&ca, &seen, 100);
    let inner = config.dialer.take().unwrap();
    let frozen = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let freeze = frozen.clone();
    // A wire between client and server that swallows everything once frozen.
    config.dialer = Some(Arc::new(move || {
        let (dial, frozen) = (inner(), frozen.clone());
        Box::pin(async move {
            let far = dial.await?;
            let (near, wire) = tokio::io::duplex(64 << 10);
            let (mut wr, mut ww) = tokio::io::split(wire);
            let (mut fr, mut fw) = tokio::io::split(far);
            let stop = frozen.clone();
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                while let Ok(n @ 1..) = wr.read(&mut buffer).await {
                    if !stop.load(Ordering::SeqCst) && fw.write_all(&buffer[..n]).await.is_err() {
                        return;
                    }
                }
            });
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                while let Ok(n @ 1..) = fr.read(&mut buffer).await {
                    if !frozen.load(Ordering::SeqCst) && ww.write_all(&buffer[..n]).await.is_err() {
                        return;
                    }
                }
            });
            let io: Box<dyn client::transport::Io> = Box::new(near);
            Ok(io)
        })
    }));
    let client = Client::new(config, options()).unwrap();
    let mut open = client.stream(&watch()).await.unwrap().into_body();
    assert!(
        tokio::time::timeout(Duration::from_secs(300), open.frame()).await.is_err(),
        "pings keep it open"
    );
    freeze.store(true, Ordering::SeqCst);
    let started = Instant::now();
    let ended = tokio::time::timeout(Duration::from_secs(300), open.frame()).await.unwrap();
    assert!(ended.is_some_and(|f| f.is_err()));
    assert!(started.elapsed() <= Duration::from_secs(46), "{:?}", started.elapsed());
    freeze.store(false, Ordering::SeqCst);
    client.call(&Request::get("/a")).await.unwrap();
}

#[tokio::test]
async fn credentials_are_renewed() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("cred");
    let count = directory.path().join("count");
    let script = format!(
        "#!/bin/sh\necho x >> {0}\necho '{{\"apiVersion\":\"client.authentication.k8s.io/v1\",\"kind\":\"ExecCredential\",\
         \"status\":{{\"token\":\"t\"}}}}'\n",
        count.display()
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let kubeconfig = directory.path().join("config");
    std::fs::write(
        &kubeconfig,
        "{current-context: c, clusters: [{name: k, cluster: {server: 'http://server'}}], \
         users: [{name: u, user: {exec: {command: ./cred, apiVersion: client.authentication.k8s.io/v1, \
         interactiveMode: Never}}}], contexts: [{name: c, context: {cluster: k, user: u}}]}",
    )
    .unwrap();
    let mut config = Config::from_kubeconfig(&kubeconfig).unwrap();
    let refuse = Arc::new(AtomicUsize::new(0));
    let flag = refuse.clone();
    config.dialer = Some(Arc::new(move || {
        let (near, far) = tokio::io::duplex(64 << 10);
        let flag = flag.clone();
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let flag = flag.clone();
                async move {
                    assert_eq!(request.headers()["authorization"], "Bearer t");
                    let mut response = http::Response::new(Full::new(Bytes::from_static(b"{}")));
                    if flag.swap(0, Ordering::SeqCst) == 1 {
                        *response.status_mut() = http::StatusCode::UNAUTHORIZED;
                    }
                    Ok::<_, Infallible>(response)
                }
            });
            let _ =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(far), service).await;
        });
        let io: Box<dyn client::transport::Io> = Box::new(near);
        Box::pin(async move { Ok(io) })
    }));
    let client = Client::new(config, options()).unwrap();
    let runs = || std::fs::read_to_string(&count).unwrap().lines().count();
    client.call(&Request::get("/a")).await.unwrap();
    client.call(&Request::get("/b")).await.unwrap();
    assert_eq!(runs(), 1, "cached");
    refuse.store(1, Ordering::SeqCst);
    assert!(client.call(&Request::get("/c")).await.unwrap_err().is_unauthorized());
    client.call(&Request::get("/d")).await.unwrap();
    assert_eq!(runs(), 2, "asked again after a refusal");
}
