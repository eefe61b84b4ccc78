//! The kubelet's first client certificate, and the client that uses it.
//!
//! With rotation the client starts at once and the certificate arrives when it is signed; without it the start waits for
//! the certificate. Upstream: pkg/kubelet/certificate/bootstrap/bootstrap.go and cmd/kubelet/app/server.go
//! buildKubeletClientConfig, v1.37.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use client::kubeconfig::{Cluster, Kubeconfig, Selected, Source, User};
use client::{Client, ClientCert, Config};
use k8s_openapi::jiff::{Timestamp, Zoned};
use rcgen::{KeyPair, PublicKeyData as _};
use tokio_util::sync::CancellationToken;

use super::manager::{Manager, Parts};
use super::pair::Pair;
use super::request::{self, Request, Template};
use super::store::FileStore;
use super::{CLIENT_SIGNER, metrics};

const USAGES: [&str; 2] = ["digital signature", "client auth"];
/// Name of the stored pairs.
const STORE: &str = "kubelet-client";
/// A key that has been used for a request that is not answered yet.
const PENDING_KEY: &str = "kubelet-client.key.tmp";
/// How long a request may wait for its approval.
const PATIENCE: Duration = Duration::from_secs(3600);

/// Where credentials are.
#[derive(Clone, Copy, Debug)]
pub struct Places<'a> {
    /// `--kubeconfig`.
    pub kubeconfig: &'a Path,
    /// `--bootstrap-kubeconfig`.
    pub bootstrap: Option<&'a Path>,
    /// `--cert-dir`.
    pub cert_dir: &'a Path,
    /// The node's name.
    pub node: &'a str,
}

fn select(path: &Path) -> Result<Selected, String> {
    Kubeconfig::read(path).and_then(|config| config.select("")).map_err(|e| e.to_string())
}

fn sources(user: &User) -> Result<Option<(Source, Source)>, String> {
    let read =
        |what, file: &str, data: &str| Source::from_fields(what, file, data).map_err(|e| e.to_string());
    let cert = read("client-certificate-data", &user.client_certificate, &user.client_certificate_data)?;
    let key = read("client-key-data", &user.client_key, &user.client_key_data)?;
    Ok(cert.zip(key))
}

fn pair_of(sources: &(Source, Source)) -> Result<Pair, String> {
    let cert = sources.0.read("client certificate").map_err(|e| e.to_string())?;
    Pair::from_pem(&cert, &sources.1.read("client key").map_err(|e| e.to_string())?)
}

/// True if the kubeconfig has a client certificate that has not expired.
fn is_still_valid(path: &Path, now: Timestamp) -> bool {
    if !path.exists() {
        return false;
    }
    let pair = select(path).and_then(|s| match sources(&s.user)? {
        Some(sources) => pair_of(&sources),
        None => Err("it has no client certificate".to_owned()),
    });
    match pair {
        Ok(pair) if !pair.is_expired(now) => true,
        Ok(pair) => {
            let end = pair.leaf.not_after;
            tracing::error!(path = %path.display(), %end, "The client certificate of the kubeconfig is expired");
            false
        }
        Err(error) => {
            tracing::error!(path = %path.display(), error, "Unable to use the client certificate of the kubeconfig");
            false
        }
    }
}

/// A kubeconfig that names a server and the file with the current pair.
fn kubeconfig_text(cluster: &Cluster, pem: &Path) -> String {
    let quote = |text: &str| serde_json::Value::from(text).to_string();
    let mut out = String::from("apiVersion: v1\nclusters:\n- cluster:\n");
    let (file, data) = (&cluster.certificate_authority, &cluster.certificate_authority_data);
    let authority =
        if file.is_empty() { ("certificate-authority-data", data) } else { ("certificate-authority", file) };
    for (key, value) in
        [authority, ("server", &cluster.server), ("tls-server-name", &cluster.tls_server_name)]
    {
        if !value.is_empty() {
            out += &format!("    {key}: {}\n", quote(value));
        }
    }
    if cluster.insecure_skip_tls_verify {
        out += "    insecure-skip-tls-verify: true\n";
    }
    let pem = quote(&pem.display().to_string());
    out + "  name: default-cluster\ncontexts:\n- context:\n    cluster: default-cluster\n    namespace: default\n    user: default-auth\n  name: default-context\ncurrent-context: default-context\nkind: Config\nusers:\n- name: default-auth\n  user:\n"
        + &format!("    client-certificate: {pem}\n    client-key: {pem}\n")
}

fn write_kubeconfig(path: &Path, cluster: &Cluster, pem: &Path) -> Result<(), String> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let go = || {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let mut file =
            std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        std::io::Write::write_all(&mut file, kubeconfig_text(cluster, pem).as_bytes())
    };
    go().map_err(|e| format!("cannot write kubeconfig {}: {e}", path.display()))
}

/// The client of a kubelet whose certificate rotates, and what renews it.
///
/// # Errors
/// If no kubeconfig can be used.
pub fn rotating(
    places: &Places<'_>,
    options: &client::Options,
) -> Result<(Client, std::sync::Arc<Manager>), String> {
    let now = Timestamp::now();
    let unloaded = |e: String| format!("unable to load kubeconfig: {e}");
    let bootstrap = places.bootstrap.filter(|_| !is_still_valid(places.kubeconfig, now));
    let (asking, user) = match bootstrap {
        None => {
            let user = select(places.kubeconfig).map_err(unloaded)?;
            (Config::from_selected(user.clone()), user)
        }
        Some(path) => {
            let first = select(path).map_err(|e| format!("unable to load bootstrap kubeconfig: {e}"))?;
            let pem = FileStore::open(STORE, places.cert_dir, None)?.current_path();
            write_kubeconfig(places.kubeconfig, &first.cluster, &pem)?;
            let user = Selected {
                user: User {
                    client_certificate: pem.display().to_string(),
                    client_key: pem.display().to_string(),
                    ..User::default()
                },
                ..first.clone()
            };
            (Config::from_selected(first), user)
        }
    };
    let given = sources(&user.user)?;
    let files = match &given {
        Some((Source::File(cert), Source::File(key))) => Some((cert.clone(), key.clone())),
        _ => None,
    };
    // A privileged certificate inside the kubeconfig is good for the first request only.
    let initial = match &given {
        Some(sources @ (Source::Inline(_), Source::Inline(_))) => Some(pair_of(sources)?),
        _ => None,
    };
    let cell = ClientCert::empty();
    let mut own =
        Config::from_selected(Selected { user: User::default(), ..user }).map_err(|e| e.to_string())?;
    own.client_cert = Some(cell.clone());
    let own = Client::new(own, options.clone()).map_err(|e| e.to_string())?;
    // Without a certificate there is only what the bootstrap kubeconfig (or the kubeconfig itself) holds.
    let first = match asking.and_then(|config| Client::new(config, options.clone())) {
        Ok(client) => client,
        Err(error) if bootstrap.is_some() => return Err(error.to_string()),
        Err(_) => own.clone(),
    };
    let user_client = own.clone();
    let parts = Parts {
        signer: CLIENT_SIGNER,
        usages: USAGES,
        template: Template::of_node(places.node),
        store: FileStore::open(STORE, places.cert_dir, files)?,
        client: Box::new(move |valid| if valid { own.clone() } else { first.clone() }),
        deliver: Box::new(move |pair| {
            if let Err(error) = cell.set_pem(&pair.cert, &pair.key) {
                tracing::error!(%error, "Cannot use the client certificate");
            }
        }),
        errors: metrics::client_errors(),
        ages: None,
    };
    let manager = Manager::new(parts, initial, now)?;
    metrics::show_time_left(
        "kubelet_certificate_manager_client_ttl_seconds",
        "Gauge of the TTL (time-to-live) of the Kubelet's client certificate. The value is in seconds until certificate expiry (negative if already expired). If client certificate is invalid or unused, the value will be +INF.",
        manager.current(),
    );
    Ok((user_client, manager))
}

/// Makes sure that the kubeconfig has a valid client certificate; waits until one is signed.
///
/// # Errors
/// If none can be had.
pub async fn obtain(
    places: &Places<'_>,
    options: &client::Options,
    stop: &CancellationToken,
) -> Result<(), String> {
    let Some(path) = places.bootstrap.filter(|_| !is_still_valid(places.kubeconfig, Timestamp::now())) else {
        return Ok(());
    };
    tracing::info!("Using bootstrap kubeconfig to generate TLS client cert, key and kubeconfig file");
    let failed = |e: String| format!("unable to load bootstrap kubeconfig: {e}");
    let first = select(path).map_err(failed)?;
    let config = Config::from_selected(first.clone()).map_err(|e| failed(e.to_string()))?;
    let client = Client::new(config, options.clone()).map_err(|e| failed(e.to_string()))?;
    let store = FileStore::open(STORE, places.cert_dir, None)?;
    let pending = places.cert_dir.join(PENDING_KEY);
    let key = load_or_make_key(&pending)?;
    let template = Template::of_node(places.node);
    let (pem, name) = (template.sign(&key)?, digested_name(&key, &template));
    let request = Request { name: &name, signer: CLIENT_SIGNER, usages: &USAGES, pem: &pem };
    let sent = request::send(&client, &request)
        .await
        .map_err(|e| format!("cannot create certificate signing request: {e}"))?;
    tracing::info!(csr = name, "Waiting for client certificate to be issued");
    let certificate = request::wait(&client, (&sent.0, &sent.1), PATIENCE, stop).await?;
    store.update(&certificate, key.serialize_pem().as_bytes(), &Zoned::now())?;
    if let Err(error) = std::fs::remove_file(&pending) {
        tracing::info!(path = %pending.display(), %error, "Failed cleaning up private key file");
    }
    write_kubeconfig(places.kubeconfig, &first.cluster, &store.current_path())
}

/// The key is kept until its request is answered, so that a restart finds the request again.
fn load_or_make_key(path: &PathBuf) -> Result<KeyPair, String> {
    use std::os::unix::fs::OpenOptionsExt as _;
    if let Some(key) = std::fs::read_to_string(path).ok().and_then(|text| KeyPair::from_pem(&text).ok()) {
        return Ok(key);
    }
    let key = KeyPair::generate().map_err(|e| format!("unable to generate a new private key: {e}"))?;
    let write = || {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let mut file =
            std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        std::io::Write::write_all(&mut file, key.serialize_pem().as_bytes())
    };
    write().map_err(|e| format!("cannot write {}: {e}", path.display()))?;
    Ok(key)
}

/// A name that the same key and wish lead to again. Upstream: digestedName.
fn digested_name(key: &KeyPair, template: &Template) -> String {
    use sha2::Digest as _;
    let mut hash = sha2::Sha512_256::new();
    let public = key.subject_public_key_info();
    let texts = [template.common_name.as_bytes(), template.organization.as_bytes()];
    let parts = std::iter::once(public.as_slice()).chain(texts).chain(USAGES.iter().map(|u| u.as_bytes()));
    for part in parts {
        hash.update(URL_SAFE_NO_PAD.encode(part));
        hash.update("|");
    }
    format!("node-csr-{}", URL_SAFE_NO_PAD.encode(hash.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubeconfig_reads_back() {
        let cluster = Cluster {
            server: "https://h:6443".into(),
            certificate_authority_data: "YWJj".into(),
            ..Cluster::default()
        };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kubeconfig");
        write_kubeconfig(&path, &cluster, Path::new("/pki/kubelet-client-current.pem")).unwrap();
        let read = select(&path).unwrap();
        assert_eq!(read.cluster.server, cluster.server);
        assert_eq!(read.cluster.certificate_authority_data, "YWJj");
        assert_eq!(read.user.client_certificate, "/pki/kubelet-client-current.pem");
        assert_eq!(read.namespace, "default");
        assert!(!is_still_valid(&path, Timestamp::now()));
    }

    #[test]
    fn names_depend_on_all_parts() {
        let (a, b) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let (n, m) = (Template::of_node("n"), Template::of_node("m"));
        assert_eq!(digested_name(&a, &n), digested_name(&a, &n));
        assert_ne!(digested_name(&a, &n), digested_name(&b, &n));
        assert_ne!(digested_name(&a, &n), digested_name(&a, &m));
        assert_eq!(digested_name(&a, &n).len(), "node-csr-".len() + 43);
    }
}
