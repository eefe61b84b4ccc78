//! The cluster's certificates, keys and kubeconfigs, under kubeadm's file names.
//!
//! Existing files are kept, so that a second `up` changes nothing; delete a file to have it made anew.
//! Does not renew: everything is valid for ten years, as suits a cluster on one machine.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};

/// Where the files lie: `dir/pki/*.{crt,key}` and `dir/*.conf`.
pub struct Pki {
    pub dir: PathBuf,
}

/// What one end-entity certificate says.
struct Leaf<'a> {
    file: &'a str,
    common_name: &'a str,
    organization: Option<&'a str>,
    names: Vec<String>,
    addresses: Vec<IpAddr>,
}

impl<'a> Leaf<'a> {
    fn client(file: &'a str, common_name: &'a str, organization: Option<&'a str>) -> Self {
        Self { file, common_name, organization, names: Vec::new(), addresses: Vec::new() }
    }
}

/// One certificate authority: its certificate file exists, its key signs.
struct Authority {
    params: CertificateParams,
    key: KeyPair,
}

impl Pki {
    /// Creates what is missing for one node and an API server at `address`, `server` being its URL.
    pub fn create(dir: &Path, node: &str, address: IpAddr, service_ip: IpAddr, server: &str) -> Result<Self> {
        let pki = Self { dir: dir.to_path_buf() };
        fs::create_dir_all(pki.dir.join("pki")).with_context(|| format!("creating {}", dir.display()))?;
        let ca = pki.authority("ca", "kubernetes")?;
        let front = pki.authority("front-proxy-ca", "front-proxy-ca")?;
        let local: IpAddr = [127, 0, 0, 1].into();
        let apiserver = Leaf {
            file: "apiserver",
            common_name: "kube-apiserver",
            organization: None,
            names: ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"]
                .iter()
                .map(ToString::to_string)
                .chain(["kubernetes.default.svc.cluster.local".to_string(), node.to_string()])
                .collect(),
            addresses: vec![local, address, service_ip],
        };
        pki.leaf(&ca, &apiserver)?;
        pki.kubelet(&ca, node, address)?;
        for leaf in [
            Leaf::client("apiserver-kubelet-client", "kube-apiserver-kubelet-client", Some("system:masters")),
            Leaf::client("admin", "kubernetes-admin", Some("system:masters")),
            Leaf::client("controller-manager", "system:kube-controller-manager", None),
            Leaf::client("scheduler", "system:kube-scheduler", None),
            Leaf::client("kube-proxy", "system:kube-proxy", None),
            // A user that no binding knows: what a stranger with a valid certificate may do.
            Leaf::client("nobody", "nobody", None),
        ] {
            pki.leaf(&ca, &leaf)?;
        }
        pki.leaf(&front, &Leaf::client("front-proxy-client", "front-proxy-client", None))?;
        pki.service_account_keys()?;
        for user in ["admin", "controller-manager", "scheduler", "kube-proxy", "kubelet", "nobody"] {
            pki.kubeconfig(user, server)?;
        }
        Ok(pki)
    }

    /// What another host of the control plane needs: the cluster's authorities with their keys, everything else its own.
    pub fn control_plane(
        &self,
        dir: &Path,
        node: &str,
        address: IpAddr,
        service_ip: IpAddr,
        server: &str,
    ) -> Result<Self> {
        fs::create_dir_all(dir.join("pki/etcd")).with_context(|| format!("creating {}", dir.display()))?;
        let to = Self { dir: dir.to_path_buf() };
        for file in
            ["ca", "front-proxy-ca", "etcd/ca"].iter().flat_map(|f| [format!("{f}.crt"), format!("{f}.key")])
        {
            fs::copy(self.path(&file), to.path(&file))
                .with_context(|| format!("copying {file} to {node}"))?;
        }
        for file in ["sa.key", "sa.pub"] {
            fs::copy(self.path(file), to.path(file)).with_context(|| format!("copying {file} to {node}"))?;
        }
        let own = Self::create(dir, node, address, service_ip, server)?;
        own.etcd(node, address)?;
        Ok(own)
    }

    /// The certificates of the etcd member at `address`, and that of its clients.
    pub fn etcd(&self, node: &str, address: IpAddr) -> Result<()> {
        fs::create_dir_all(self.dir.join("pki/etcd"))?;
        let ca = self.authority("etcd/ca", "etcd-ca")?;
        for file in ["etcd/server", "etcd/peer"] {
            let (names, addresses) = (vec![node.to_string(), "localhost".to_string()], vec![address]);
            self.leaf(&ca, &Leaf { file, common_name: node, organization: None, names, addresses })?;
        }
        self.leaf(&ca, &Leaf::client("apiserver-etcd-client", "kube-apiserver-etcd-client", None))
    }

    /// What another node at `address` needs, in a folder of its own: this cluster's authority, a certificate for its
    /// kubelet, kube-proxy's.
    pub fn join(&self, dir: &Path, node: &str, address: IpAddr, server: &str) -> Result<Self> {
        let pki = Self { dir: dir.to_path_buf() };
        fs::create_dir_all(pki.dir.join("pki")).with_context(|| format!("creating {}", dir.display()))?;
        for file in ["ca.crt", "kube-proxy.crt", "kube-proxy.key"] {
            fs::copy(self.path(file), pki.path(file)).with_context(|| format!("copying {file} to {node}"))?;
        }
        pki.kubelet(&self.authority("ca", "kubernetes")?, node, address)?;
        for user in ["kube-proxy", "kubelet"] {
            pki.kubeconfig(user, server)?;
        }
        Ok(pki)
    }

    /// Gives kube-proxy's kubeconfig to another node, which has the cluster's authority already.
    pub fn hand_proxy(&self, to: &Self, server: &str) -> Result<()> {
        for file in ["kube-proxy.crt", "kube-proxy.key"] {
            fs::copy(self.path(file), to.path(file)).with_context(|| format!("copying {file}"))?;
        }
        to.kubeconfig("kube-proxy", server)
    }

    /// True if the kubelet gets its certificate by a bootstrap kubeconfig.
    pub fn bootstraps(&self) -> bool {
        Path::new(&self.kubeconfig_path("bootstrap-kubelet")).exists()
    }

    /// The certificate that a kubelet both serves and shows.
    fn kubelet(&self, ca: &Authority, node: &str, address: IpAddr) -> Result<()> {
        self.leaf(
            ca,
            &Leaf {
                file: "kubelet",
                common_name: &format!("system:node:{node}"),
                organization: Some("system:nodes"),
                names: vec![node.to_string()],
                addresses: vec![[127, 0, 0, 1].into(), address],
            },
        )
    }

    /// Path of a file under `pki/`, as text for a command line.
    pub fn path(&self, file: &str) -> String {
        self.dir.join("pki").join(file).display().to_string()
    }

    /// Path of `user`'s kubeconfig.
    pub fn kubeconfig_path(&self, user: &str) -> String {
        self.dir.join(format!("{user}.conf")).display().to_string()
    }

    fn authority(&self, file: &str, name: &str) -> Result<Authority> {
        let mut params = CertificateParams::default();
        params.distinguished_name = named(name, None);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
        ];
        lifetime(&mut params);
        let key_path = self.path(&format!("{file}.key"));
        let key = if Path::new(&key_path).exists() {
            KeyPair::from_pem(&fs::read_to_string(&key_path)?)
                .with_context(|| format!("reading {key_path}"))?
        } else {
            let key = KeyPair::generate()?;
            write_secret(&key_path, &key.serialize_pem())?;
            write(&self.path(&format!("{file}.crt")), &params.self_signed(&key)?.pem())?;
            key
        };
        Ok(Authority { params, key })
    }

    fn leaf(&self, ca: &Authority, leaf: &Leaf<'_>) -> Result<()> {
        let (crt, key_path) =
            (self.path(&format!("{}.crt", leaf.file)), self.path(&format!("{}.key", leaf.file)));
        if Path::new(&crt).exists() && Path::new(&key_path).exists() {
            return Ok(());
        }
        let mut params = CertificateParams::new(leaf.names.clone())?;
        params.subject_alt_names.extend(leaf.addresses.iter().map(|a| SanType::IpAddress(*a)));
        params.distinguished_name = named(leaf.common_name, leaf.organization);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        lifetime(&mut params);
        let key = KeyPair::generate()?;
        let cert = params.signed_by(&key, &Issuer::from_params(&ca.params, &ca.key))?;
        write(&crt, &cert.pem())?;
        write_secret(&key_path, &key.serialize_pem())
    }

    fn service_account_keys(&self) -> Result<()> {
        let path = self.path("sa.key");
        if !Path::new(&path).exists() {
            let key = KeyPair::generate()?;
            write_secret(&path, &key.serialize_pem())?;
            write(&self.path("sa.pub"), &key.public_key_pem())?;
        }
        Ok(())
    }

    fn kubeconfig(&self, user: &str, server: &str) -> Result<()> {
        let text = format!(
            "apiVersion: v1\nkind: Config\n\
             clusters:\n- name: kubernetes\n  cluster:\n    server: {server}\n    certificate-authority: {ca}\n\
             users:\n- name: {user}\n  user:\n    client-certificate: {crt}\n    client-key: {key}\n\
             contexts:\n- name: {user}@kubernetes\n  context:\n    cluster: kubernetes\n    user: {user}\n\
             current-context: {user}@kubernetes\n",
            ca = self.path("ca.crt"),
            crt = self.path(&format!("{user}.crt")),
            key = self.path(&format!("{user}.key")),
        );
        write_secret(&self.kubeconfig_path(user), &text)
    }
}

fn named(common_name: &str, organization: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    if let Some(organization) = organization {
        name.push(DnType::OrganizationName, organization);
    }
    name.push(DnType::CommonName, common_name);
    name
}

fn lifetime(params: &mut CertificateParams) {
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = date_time_ymd(2036, 1, 1);
}

fn write(path: &str, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("writing {path}"))
}

fn write_secret(path: &str, text: &str) -> Result<()> {
    write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).with_context(|| format!("protecting {path}"))
}
