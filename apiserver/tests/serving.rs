//! The whole server in this process, on a free port: TLS, client certificates, errors, health, discovery.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::sync::Arc;

use component::app::Process;
use component::serving::{BindOptions, Listener};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use kube_apiserver::app;
use kube_apiserver::options::{Config, flags};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use testing::collector::{Collector, Span};
use tokio::net::TcpStream;
use traces::{Configuration, Traces};

struct Cluster {
    address: std::net::SocketAddr,
    ca: String,
    admin: (String, String),
    stranger: (String, String),
    _files: tempfile::TempDir,
    _stop: tokio_util::sync::DropGuard,
}

fn authority(name: &str) -> (Issuer<'static, KeyPair>, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = params.self_signed(&key).unwrap().pem();
    (Issuer::new(params, key), pem)
}

fn leaf(issuer: &Issuer<'_, KeyPair>, name: &str, group: &str) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.distinguished_name.push(DnType::OrganizationName, group);
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    (params.signed_by(&key, issuer).unwrap().pem(), key.serialize_pem())
}

async fn start() -> Cluster {
    start_with(None).await
}

async fn start_with(traces: Option<Traces>) -> Cluster {
    let files = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| -> String {
        let path = files.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (issuer, ca) = authority("ca");
    let (other, _) = authority("other");
    let serving = leaf(&issuer, "server", "x");
    let account_key = write("sa.key", &KeyPair::generate().unwrap().serialize_pem());
    let listener = Listener::bind([127, 0, 0, 1].into(), 0, BindOptions::default()).unwrap();
    let address = listener.address();
    let mut set = flags::COMMAND.flag_set();
    let arguments = [
        format!("--tls-cert-file={}", write("tls.crt", &serving.0)),
        format!("--tls-private-key-file={}", write("tls.key", &serving.1)),
        format!("--client-ca-file={}", write("ca.crt", &ca)),
        format!("--service-account-key-file={account_key}"),
        format!("--service-account-signing-key-file={account_key}"),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        "--authorization-mode=Node,RBAC".to_owned(),
        // Nobody else reaches this server, and an address that others reach may not exist here.
        "--endpoint-reconciler-type=none".to_owned(),
    ];
    set.parse(arguments).unwrap();
    let config = Config::from_flags(&set).unwrap();
    let store = storage::Embedded::open(storage::embedded::Options::new(files.path().join("data"))).unwrap();
    let process = Process::detached(set);
    let stop = process.shutdown.clone();
    let running = app::build(config, Arc::new(store), listener, traces, &process).await.unwrap();
    tokio::spawn(running.serve());
    Cluster {
        address,
        ca,
        admin: leaf(&issuer, "admin", "system:masters"),
        stranger: leaf(&other, "admin", "system:masters"),
        _files: files,
        _stop: stop.drop_guard(),
    }
}

async fn send(
    cluster: &Cluster,
    who: Option<&(String, String)>,
    method: &str,
    path: &str,
) -> http::Response<hyper::body::Incoming> {
    send_accepting(cluster, who, method, path, "*/*").await
}

async fn send_accepting(
    cluster: &Cluster,
    who: Option<&(String, String)>,
    method: &str,
    path: &str,
    accept: &str,
) -> http::Response<hyper::body::Incoming> {
    exchange(cluster, who, method, path, &[("accept", accept)], "").await
}

async fn exchange(
    cluster: &Cluster,
    who: Option<&(String, String)>,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &'static str,
) -> http::Response<hyper::body::Incoming> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(cluster.ca.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match who {
        Some((cert, key)) => builder
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
            )
            .unwrap(),
        None => builder.with_no_client_auth(),
    };
    let tcp = TcpStream::connect(cluster.address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let tls = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tls)).await.unwrap();
    tokio::spawn(connection);
    let mut request = http::Request::builder().method(method).uri(path).header("host", "localhost");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    sender.send_request(request.body(Full::new(bytes::Bytes::from(body))).unwrap()).await.unwrap()
}

async fn ask(cluster: &Cluster, who: Option<&(String, String)>, method: &str, path: &str) -> (u16, String) {
    let response = send(cluster, who, method, path).await;
    let code = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (code, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn answers() {
    let cluster = start().await;
    let admin = Some(&cluster.admin);
    let (code, version) = ask(&cluster, admin, "GET", "/version").await;
    assert_eq!(code, 200);
    assert!(version.contains("\"gitVersion\": \"v1.37."), "{version}");
    assert_eq!(ask(&cluster, admin, "GET", "/livez/ping").await, (200, "ok".to_owned()));
    assert_eq!(ask(&cluster, admin, "GET", "/nowhere").await, (404, "404 page not found\n".to_owned()));

    let status = |message: &str, rest: &str| {
        format!(
            "{{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{{}},\"status\":\"Failure\",\
             \"message\":{message:?},{rest}}}\n"
        )
    };
    let (code, text) = ask(&cluster, None, "GET", "/api/v1/namespaces/a/pods").await;
    assert_eq!(code, 403);
    let why = "pods is forbidden: User \"system:anonymous\" cannot list resource \"pods\" in API group \"\" in the \
               namespace \"a\"";
    assert_eq!(text, status(why, r#""reason":"Forbidden","details":{"kind":"pods"},"code":403"#));

    let (code, text) = ask(&cluster, Some(&cluster.stranger), "GET", "/api/v1/pods").await;
    assert_eq!((code, text), (401, status("Unauthorized", r#""reason":"Unauthorized","code":401"#)));

    let (code, text) = ask(&cluster, admin, "GET", "/api/v1/pods").await;
    assert_eq!(code, 200);
    assert!(
        text.starts_with(r#"{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":""#),
        "{text}"
    );
    assert!(text.ends_with("\"},\"items\":[]}\n"), "{text}");

    let (code, text) = ask(&cluster, admin, "GET", "/api/v1/namespaces/a/pods/x").await;
    let details = r#""reason":"NotFound","details":{"name":"x","kind":"pods"},"code":404"#;
    assert_eq!((code, text), (404, status("pods \"x\" not found", details)));
    assert_eq!(ask(&cluster, admin, "POST", "/api/v1/pods").await.0, 405);
    assert_eq!(ask(&cluster, admin, "GET", "/apis/x/v1/y").await, (404, "404 page not found\n".to_owned()));

    let (_, text) = ask(&cluster, admin, "GET", "/api/v1").await;
    let head = "{\"kind\":\"APIResourceList\",\"groupVersion\":\"v1\",\"resources\":[{\"name\":\"bindings\",\
                \"singularName\":\"binding\",\"namespaced\":true,\"kind\":\"Binding\",\"verbs\":[\"create\"]},";
    assert!(text.starts_with(head), "{text}");
}

/// What upstream's routers make of empty names and of slashes too many.
#[tokio::test]
async fn odd_paths() {
    let cluster = start().await;
    for (method, path, code, text) in [
        ("GET", "/healthz/", 404, "404 page not found"),
        ("GET", "/openid/v1/jwks/", 200, "\"keys\""),
        ("GET", "/apis/apps//", 200, "\"APIGroup\""),
        ("DELETE", "/apis/apps//", 405, "\"MethodNotAllowed\""),
        ("DELETE", "/apis/apps/", 200, "\"APIGroup\""),
        ("GET", "/apis/apps/v9/deployments", 404, "\"NotFound\""),
        ("DELETE", "/api//v1", 404, "\"NotFound\""),
        ("GET", "/apis//apps/v1", 404, "404 page not found"),
        ("GET", "/api/v1/namespaces/default/pods//log", 400, "name must be provided"),
        ("GET", "/api/v1/nodes//status", 400, "name must be provided"),
        ("HEAD", "/api/v1/nodes//status", 405, ""),
        ("GET", "/api/v1/watch/namespaces/a/status", 404, "\"NotFound\""),
        ("GET", "/api/v1/namespaces//services/a/proxy", 400, "missing required namespace"),
        ("GET", "/api/v1/namespaces//services/a/proxy?dryRun=All", 400, "dryRun is not supported"),
        ("DELETE", "/api/v1/namespaces//pods", 200, "\"PodList\""),
        (
            "DELETE",
            "/api/v1/namespaces/default/pods?fieldSelector=spec.x%3D1&dryRun=Nope",
            400,
            "not supported: spec.x",
        ),
        ("DELETE", "/api/v1/namespaces/default/pods?watch=1", 200, "\"PodList\""),
    ] {
        let (got, answer) = ask(&cluster, Some(&cluster.admin), method, path).await;
        assert_eq!(got, code, "{method} {path}: {answer}");
        assert!(answer.contains(text), "{method} {path}: {answer}");
    }
}

/// Both forms of the document are sent as they are: a final newline would be a damaged field of the protobuf form.
#[tokio::test]
async fn openapi_is_sent_without_a_final_newline() {
    let cluster = start().await;
    let gnostic = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
    for (accept, media, last) in [
        ("application/json", "application/json", b'}'),
        // The end of the last text of the security definitions.
        (gnostic, "application/com.github.proto-openapi.spec.v2.v1.0+protobuf", b'n'),
    ] {
        let response = send_accepting(&cluster, Some(&cluster.admin), "GET", "/openapi/v2", accept).await;
        assert_eq!(response.status(), 200, "{accept}");
        assert_eq!(response.headers()["content-type"], media);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body.last(), Some(&last), "{accept}");
    }
}

/// The bootstrap objects come into being and say that their levels exist; requests are classified by them.
#[tokio::test]
async fn priority_and_fairness() {
    let cluster = start().await;
    let admin = Some(&cluster.admin);
    let schemas = "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas";
    let mut watch = send(&cluster, admin, "GET", &format!("{schemas}?watch=1")).await.into_body();
    let (mut seen, mut found) = (String::new(), std::collections::BTreeSet::new());
    while found.len() < 11 {
        let frame = watch.frame().await.unwrap().unwrap().into_data().unwrap();
        seen.push_str(std::str::from_utf8(&frame).unwrap());
        while let Some(end) = seen.find('\n') {
            let event: serde_json::Value = serde_json::from_str(seen.drain(..=end).as_str()).unwrap();
            if event["object"]["status"]["conditions"][0]["reason"] == "Found" {
                found.insert(event["object"]["metadata"]["name"].as_str().unwrap().to_owned());
            }
        }
    }
    let (_, list) = ask(&cluster, admin, "GET", schemas).await;
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    let exempt =
        list["items"].as_array().unwrap().iter().find(|s| s["metadata"]["name"] == "exempt").unwrap();
    let response = send(&cluster, admin, "GET", "/api/v1/namespaces").await;
    let header = response.headers().get("x-kubernetes-pf-flowschema-uid").unwrap();
    assert_eq!(Some(header.to_str().unwrap()), exempt["metadata"]["uid"].as_str());
    let (code, page) = ask(&cluster, admin, "GET", "/debug/api_priority_and_fairness/dump_requests").await;
    assert_eq!(code, 200);
    let own = page.lines().nth(1).unwrap();
    assert!(own.starts_with("exempt,") && own.contains(" exempt, "), "{page}");
    let (_, metrics) = ask(&cluster, admin, "GET", "/metrics").await;
    // How many seats it has may still change with a level that comes later; the figures are tested where they are made.
    for line in [
        "apiserver_flowcontrol_nominal_limit_seats{priority_level=\"workload-low\"} ",
        "apiserver_flowcontrol_dispatched_requests_total{flow_schema=\"exempt\",priority_level=\"exempt\"} ",
    ] {
        assert!(metrics.contains(line), "{line}");
    }
}

/// The spans at and below those of a parent: kind and name, indented.
fn tree(spans: &[Span], parent: &str, depth: usize, out: &mut Vec<String>) {
    for span in spans.iter().filter(|s| s.parent == parent) {
        out.push(format!("{}{} {}", " ".repeat(depth), &span.kind[..1], span.name));
        tree(spans, &span.id, depth + 1, out);
    }
}

/// Attributes of every request's span, and of a verb's.
const OF_REQUESTS: [&str; 13] = [
    "audit-id",
    "client.address",
    "http.request.method",
    "http.response.body.size",
    "http.response.status_code",
    "http.target",
    "network.peer.address",
    "network.peer.port",
    "network.protocol.version",
    "server.address",
    "url.path",
    "url.scheme",
    "user_agent.original",
];
const OF_VERBS: [&str; 14] = [
    "accept",
    "api-group",
    "api-version",
    "audit-id",
    "client",
    "name",
    "namespace",
    "protocol",
    "resource",
    "scope",
    "subresource",
    "url",
    "user-agent",
    "verb",
];

/// What upstream's server with the same flags told of the same requests, but for calls to etcd. A get and a list are
/// answered as there; an update reads in the span of the update.
#[tokio::test(flavor = "multi_thread")]
async fn requests_are_told_as_spans() {
    const CHAIN: [&str; 4] = ["audit", "constrainedimpersonation", "priorityandfairness", "authorization"];
    const MAPS: &str = "/api/v1/namespaces/default/configmaps";
    let collector = Collector::start().await;
    let config = Configuration {
        endpoint: Some(collector.endpoint.clone()),
        sampling_rate_per_million: Some(1_000_000),
    };
    let traces = Traces::start(&config, &[("service.name", "apiserver")]).unwrap();
    let cluster = start_with(Some(traces.clone())).await;
    let admin = Some(&cluster.admin);
    let object = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"x":"y"}}"#;
    let json = ("content-type", "application/json");
    let merge = ("content-type", "application/merge-patch+json");
    let name = "/api/v1/namespaces/{:namespace}/configmaps";
    let one = format!("{MAPS}/a");
    let made = [" Create", "  Create etcd3", "  SerializeObject"];
    let changed = [" Patch", "  GuaranteedUpdate etcd3", "  SerializeObject"];
    let read = [" Get", "  Get etcd3", "  SerializeObject"];
    let listed = [" List", "  cacher.GetList", "  SerializeObject"];
    let gone = [" Delete", "  Get etcd3", "  SerializeObject"];
    let cases = [
        ("create", "POST", MAPS, json, object, 201, format!("POST {name}"), made),
        ("get", "GET", &*one, json, "", 200, format!("GET {name}/{{:name}}"), read),
        ("list", "GET", MAPS, json, "", 200, format!("GET {name}"), listed),
        (
            "patch",
            "PATCH",
            &*one,
            merge,
            r#"{"data":{"x":"z"}}"#,
            200,
            format!("PATCH {name}/{{:name}}"),
            changed,
        ),
        ("delete", "DELETE", &*one, json, "", 200, format!("DELETE {name}/{{:name}}"), gone),
        ("missing", "GET", &*one, json, "", 404, format!("GET {name}/{{:name}}"), read),
    ];
    for (agent, method, path, kind, body, code, ..) in &cases {
        // Namespaces are made while the server starts.
        let response = loop {
            let response =
                exchange(&cluster, admin, method, path, &[*kind, ("user-agent", agent)], body).await;
            if *agent != "create" || response.status() != 404 {
                break response;
            }
        };
        assert_eq!(response.status().as_u16(), *code, "{agent}");
        response.into_body().collect().await.unwrap();
    }
    // What waits is sent when the server ends.
    drop(cluster._stop);
    for (agent, _, _, _, body, code, span, below) in cases {
        let told = format!("user_agent.original={agent}");
        let mine = |s: &&Span| {
            s.attributes.contains(&told)
                && s.attributes.contains(&format!("http.response.status_code={code}"))
        };
        let spans = collector
            .until(|spans| spans.iter().find(mine).is_some_and(|s| spans.iter().any(|p| p.id == s.parent)));
        let spans = spans.await;
        let server = spans.iter().find(mine).unwrap();
        let trace: Vec<Span> = spans.iter().filter(|s| s.trace == server.trace).cloned().collect();
        let mut found = Vec::new();
        tree(&trace, "", 0, &mut found);
        let mut want = vec!["i authentication".to_owned(), format!(" s {span}")];
        want.extend(CHAIN.iter().zip(2..).map(|(step, depth)| format!("{}i {step}", " ".repeat(depth))));
        for line in below {
            let text = line.trim_start();
            want.push(format!("{}i {text}", " ".repeat(5 + line.len() - text.len())));
        }
        assert_eq!(found, want, "{agent}");
        let mut keys = OF_REQUESTS.to_vec();
        if !body.is_empty() {
            keys.insert(2, "http.request.body.size");
        }
        assert_eq!(server.keys(), keys, "{agent}");
        let verb = trace.iter().find(|s| s.name == below[0].trim_start()).unwrap();
        assert_eq!(verb.keys(), OF_VERBS, "{agent}");
        assert!(verb.attributes.iter().any(|kv| kv.starts_with("audit-id=") && kv.len() == 45), "{verb:?}");
    }
}
