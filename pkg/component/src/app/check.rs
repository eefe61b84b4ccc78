//! `--check-config`: whether the files that flags and configuration files name are there and are what they should be.
//!
//! Flags are known by name, as they mean the same in every daemon. What a configuration file names is the daemon's to
//! say ([`super::Daemon::references`]). Nothing is started, and nothing is asked of other machines.

use std::path::{Path, PathBuf};

use auth::x509::CaBundle;
use client::Config;

use crate::flags::{FlagSet, NamedCertKey};
use crate::serving::{CertSource, Certificates};

/// A file that a configuration names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The flag or field.
    pub by: String,
    /// What the file should be.
    pub file: File,
}

/// What a file should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum File {
    /// A kubeconfig; the files it names are checked too.
    Kubeconfig(PathBuf),
    /// PEM certificates of authorities.
    Authorities(PathBuf),
    /// A certificate and its key.
    Pair(PathBuf, PathBuf),
    /// A PEM key.
    Key(PathBuf),
    /// A YAML document.
    Yaml(PathBuf),
}

const KUBECONFIGS: [&str; 5] = [
    "kubeconfig",
    "bootstrap-kubeconfig",
    "authentication-kubeconfig",
    "authorization-kubeconfig",
    "authentication-token-webhook-config-file",
];
const AUTHORITIES: [&str; 8] = [
    "client-ca-file",
    "requestheader-client-ca-file",
    "root-ca-file",
    "etcd-cafile",
    "kubelet-certificate-authority",
    "oidc-ca-file",
    "peer-ca-file",
    "proxy-client-ca-file",
];
const PAIRS: [(&str, &str); 9] = [
    ("tls-cert-file", "tls-private-key-file"),
    ("etcd-certfile", "etcd-keyfile"),
    ("kubelet-client-certificate", "kubelet-client-key"),
    ("proxy-client-cert-file", "proxy-client-key-file"),
    ("cluster-signing-cert-file", "cluster-signing-key-file"),
    ("cluster-signing-kubelet-serving-cert-file", "cluster-signing-kubelet-serving-key-file"),
    ("cluster-signing-kubelet-client-cert-file", "cluster-signing-kubelet-client-key-file"),
    ("cluster-signing-kube-apiserver-client-cert-file", "cluster-signing-kube-apiserver-client-key-file"),
    ("cluster-signing-legacy-unknown-cert-file", "cluster-signing-legacy-unknown-key-file"),
];
const KEYS: [&str; 3] =
    ["service-account-private-key-file", "service-account-signing-key-file", "service-account-key-file"];
const YAML: [&str; 9] = [
    "config",
    "authentication-config",
    "authorization-config",
    "admission-control-config-file",
    "audit-policy-file",
    "encryption-provider-config",
    "egress-selector-config-file",
    "tracing-config-file",
    "allow-metric-labels-manifest",
];

/// The files that flags name.
fn named_by(flags: &FlagSet) -> Vec<Reference> {
    let mut out = Vec::new();
    let mut add = |by: &str, file| out.push(Reference { by: format!("--{by}"), file });
    let path = |name: &str| flags.has(name).then(|| flags.non_empty(name)).flatten().map(PathBuf::from);
    type Make = fn(PathBuf) -> File;
    let kinds: [(&[&str], Make); 3] =
        [(&KUBECONFIGS, File::Kubeconfig), (&AUTHORITIES, File::Authorities), (&YAML, File::Yaml)];
    for (names, file) in kinds {
        for name in names {
            if let Some(path) = path(name) {
                add(name, file(path));
            }
        }
    }
    for (name, key) in PAIRS {
        if let (Some(certificate), Some(key)) = (path(name), path(key)) {
            add(name, File::Pair(certificate, key));
        }
    }
    for name in KEYS.iter().filter(|n| flags.has(n)) {
        let one = path(name).into_iter();
        let files: Vec<PathBuf> = match flags.list(name) {
            [] => one.collect(),
            many => many.iter().map(PathBuf::from).collect(),
        };
        files.into_iter().for_each(|file| add(name, File::Key(file)));
    }
    if flags.has("tls-sni-cert-key") {
        for NamedCertKey { cert_file, key_file, .. } in flags.cert_keys("tls-sni-cert-key") {
            add("tls-sni-cert-key", File::Pair(cert_file.into(), key_file.into()));
        }
    }
    out
}

/// Every problem with the files that flags and `more` name.
pub(super) fn problems(flags: &FlagSet, more: Vec<Reference>) -> Vec<String> {
    let mut all = named_by(flags);
    all.extend(more);
    let worded = |r: &Reference| check(&r.file).err().map(|why| format!("{}: {why}", r.by));
    let mut out: Vec<String> = Vec::new();
    for problem in all.iter().filter_map(worded) {
        // A file may be named twice.
        if !out.contains(&problem) {
            out.push(problem);
        }
    }
    out
}

fn check(file: &File) -> Result<(), String> {
    match file {
        File::Kubeconfig(path) => {
            let config = Config::from_kubeconfig(path).map_err(|e| e.to_string())?;
            config.check().map_err(|e| format!("{}: {e}", path.display()))?;
        }
        File::Authorities(path) => {
            CaBundle::from_pem(&read(path)?).map_err(|e| format!("{}: {e}", path.display()))?;
        }
        File::Pair(cert, key) => {
            let source = CertSource::Files { cert: cert.clone(), key: key.clone(), names: Vec::new() };
            Certificates::load(source, Vec::new()).map_err(|e| e.to_string())?;
        }
        File::Key(path) => {
            let text = read(path)?;
            let is_key = |line: &[u8]| line.starts_with(b"-----BEGIN ") && line.ends_with(b" KEY-----");
            if !text.split(|b| *b == b'\n').any(|l| is_key(l.trim_ascii_end())) {
                return Err(format!("{}: no PEM key in it", path.display()));
            }
        }
        File::Yaml(path) => {
            crate::config::read::<serde_json::Value>(path, &[]).map_err(|e| e.to_string())?;
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use crate::flags::{Command, Layout, Section, sections, shared};

    static COMMAND: Command = Command {
        name: "kube-example",
        about: "",
        layout: Layout::Sections,
        sections: &[
            Section { title: "Serving", flags: &sections::secure_serving("1", "") },
            Section {
                title: "Misc",
                flags: &[
                    shared::CONFIG,
                    shared::KUBECONFIG,
                    shared::CLIENT_CA_FILE,
                    shared::HELP,
                    shared::VERSION,
                ],
            },
        ],
        defaults: &[],
    };

    #[test]
    fn every_problem_names_its_flag_and_file() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.to_string_lossy().into_owned()
        };
        let own = rcgen::generate_simple_self_signed(["example".to_string()]).unwrap();
        let cert = write("tls.crt", &own.cert.pem());
        let key = write("tls.key", &own.signing_key.serialize_pem());
        let other = write("other.key", &rcgen::KeyPair::generate().unwrap().serialize_pem());
        let sound = write(
            "config",
            &format!(
                "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{{name: k, cluster: {{server: \"https://h\", certificate-authority: {cert}}}}}]\ncontexts: [{{name: c, context: {{cluster: k, user: \"\"}}}}]\n"
            ),
        );
        let broken = write("broken.yaml", "apiVersion: v1\nkind: X\na: [1\nb: {\n");
        let problems = |arguments: &[String]| {
            let mut flags = COMMAND.flag_set();
            flags.parse(arguments.iter().cloned()).unwrap();
            super::problems(&flags, Vec::new())
        };
        let flag = |name: &str, value: &str| format!("--{name}={value}");
        let good = [
            flag("kubeconfig", &sound),
            flag("tls-cert-file", &cert),
            flag("tls-private-key-file", &key),
            flag("client-ca-file", &cert),
        ];
        assert_eq!(problems(&good), Vec::<String>::new());
        let bad = [
            flag("kubeconfig", &format!("{sound}.missing")),
            flag("tls-cert-file", &cert),
            flag("tls-private-key-file", &other),
            flag("client-ca-file", &key),
            flag("config", &broken),
        ];
        let found = problems(&bad);
        for (name, file) in [
            ("kubeconfig", "config.missing"),
            ("tls-cert-file", "tls"),
            ("client-ca-file", "tls.key"),
            ("config", "broken.yaml:"),
        ] {
            assert!(
                found.iter().any(|p| p.starts_with(&format!("--{name}: ")) && p.contains(file)),
                "{name} in {found:#?}"
            );
        }
        assert_eq!(found.len(), 4, "{found:#?}");
    }
}
