//! Upstream's etcd and kube-apiserver as child processes, for tests that compare with the real thing.
//!
//! The binaries are looked for in the folder that `CORTEN_UPSTREAM_BIN` names (`make upstream` fills one); tests print a
//! line and pass when the variable is not set. Everything else (certificates, data) lives in a temporary directory.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A running control plane; dropping it ends the processes.
pub struct ControlPlane {
    directory: tempfile::TempDir,
    binaries: PathBuf,
    etcd: Child,
    apiserver: Child,
    etcd_port: u16,
    port: u16,
    flags: Vec<String>,
}

/// Where the binaries are, if they are.
pub fn binaries() -> Option<PathBuf> {
    let bin = std::env::var_os("CORTEN_UPSTREAM_BIN").map(PathBuf::from)?;
    let there = ["etcd", "kube-apiserver"].iter().all(|b| bin.join(b).is_file());
    there.then_some(bin)
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        for child in [&mut self.apiserver, &mut self.etcd] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl ControlPlane {
    /// Starts both; `None` with a printed line if there are no binaries. `flags` are added to the API server's.
    pub fn start(flags: &[&str]) -> Option<std::io::Result<Self>> {
        let Some(binaries) = binaries() else {
            println!("skipped: $CORTEN_UPSTREAM_BIN names no folder with upstream's etcd and kube-apiserver");
            return None;
        };
        Some(Self::start_with(binaries, flags))
    }

    fn start_with(binaries: PathBuf, flags: &[&str]) -> std::io::Result<Self> {
        let directory = tempfile::Builder::new().prefix("control-plane-").tempdir()?;
        write_pki(directory.path()).map_err(std::io::Error::other)?;
        let (etcd_port, peer_port, port) = (free_port()?, free_port()?, free_port()?);
        let etcd = Command::new(binaries.join("etcd"))
            .arg(format!("--data-dir={}", directory.path().join("etcd").display()))
            .arg(format!("--listen-client-urls=http://127.0.0.1:{etcd_port}"))
            .arg(format!("--advertise-client-urls=http://127.0.0.1:{etcd_port}"))
            .arg(format!("--listen-peer-urls=http://127.0.0.1:{peer_port}"))
            .arg("--unsafe-no-fsync")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(directory.path().join("etcd.log"))?)
            .spawn()?;
        let flags: Vec<String> = flags.iter().map(ToString::to_string).collect();
        let apiserver = spawn_apiserver(&binaries, directory.path(), etcd_port, port, &flags)?;
        Ok(Self { directory, binaries, etcd, apiserver, etcd_port, port, flags })
    }

    /// Kills the API server without notice and starts it again on the same port.
    pub fn restart_apiserver(&mut self) -> std::io::Result<()> {
        self.stop_apiserver()?;
        self.start_apiserver()
    }

    /// Kills the API server without notice.
    pub fn stop_apiserver(&mut self) -> std::io::Result<()> {
        self.apiserver.kill()?;
        self.apiserver.wait().map(|_| ())
    }

    /// Starts the API server again.
    pub fn start_apiserver(&mut self) -> std::io::Result<()> {
        self.apiserver =
            spawn_apiserver(&self.binaries, self.directory.path(), self.etcd_port, self.port, &self.flags)?;
        Ok(())
    }

    /// Whether the API server's process runs (false also for one that ended by itself).
    pub fn alive(&mut self) -> bool {
        matches!(self.apiserver.try_wait(), Ok(None))
    }

    /// A kubeconfig of a cluster administrator.
    pub fn kubeconfig(&self) -> std::io::Result<PathBuf> {
        let path = self.directory.path().join("admin.conf");
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: x\n\
             clusters: [{{name: c, cluster: {{server: \"https://127.0.0.1:{}\", certificate-authority: ca.crt}}}}]\n\
             users: [{{name: u, user: {{client-certificate: admin.crt, client-key: admin.key}}}}]\n\
             contexts: [{{name: x, context: {{cluster: c, user: u}}}}]\n",
            self.port
        );
        std::fs::write(&path, text)?;
        Ok(path)
    }

    /// The API server's log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("apiserver.log")).unwrap_or_default()
    }
}

fn spawn_apiserver(
    binaries: &Path,
    directory: &Path,
    etcd_port: u16,
    port: u16,
    flags: &[String],
) -> std::io::Result<Child> {
    let file = |name: &str| directory.join(name).display().to_string();
    let log = std::fs::OpenOptions::new().create(true).append(true).open(directory.join("apiserver.log"))?;
    Command::new(binaries.join("kube-apiserver"))
        .arg(format!("--etcd-servers=http://127.0.0.1:{etcd_port}"))
        .arg("--bind-address=127.0.0.1")
        .arg("--advertise-address=127.0.0.1")
        .arg("--endpoint-reconciler-type=none")
        .arg(format!("--secure-port={port}"))
        .arg(format!("--client-ca-file={}", file("ca.crt")))
        .arg(format!("--tls-cert-file={}", file("apiserver.crt")))
        .arg(format!("--tls-private-key-file={}", file("apiserver.key")))
        .arg(format!("--service-account-key-file={}", file("sa.crt")))
        .arg(format!("--service-account-signing-key-file={}", file("sa.key")))
        .arg("--service-account-issuer=https://kubernetes.default.svc")
        .arg("--service-cluster-ip-range=10.96.0.0/16")
        .arg("--authorization-mode=RBAC")
        .arg("--disable-admission-plugins=ServiceAccount")
        .args(flags)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
}

fn write_pki(directory: &Path) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    use rcgen::{
        BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    };
    let ca_key = KeyPair::generate()?;
    let mut ca = CertificateParams::new(Vec::new())?;
    ca.distinguished_name.push(DnType::CommonName, "test-ca");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_cert = ca.self_signed(&ca_key)?;
    std::fs::write(directory.join("ca.crt"), ca_cert.pem())?;
    let issuer = Issuer::new(ca, ca_key);
    let leaf = |name: &str,
                cn: &str,
                org: &str,
                hosts: &[&str]|
     -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(hosts.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        params.distinguished_name.push(DnType::CommonName, cn);
        if !org.is_empty() {
            params.distinguished_name.push(DnType::OrganizationName, org);
        }
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        std::fs::write(directory.join(format!("{name}.crt")), params.signed_by(&key, &issuer)?.pem())?;
        std::fs::write(directory.join(format!("{name}.key")), key.serialize_pem())?;
        Ok(())
    };
    leaf("apiserver", "kube-apiserver", "", &["127.0.0.1", "localhost"])?;
    leaf("admin", "admin", "system:masters", &[])?;
    // The API server takes the public key of service accounts from a certificate too.
    leaf("sa", "service-accounts", "", &[])?;
    Ok(())
}
