//! Flags to validated options; all problems are reported together. The table is in [`crate::flags`].

use std::collections::BTreeMap;
use std::path::PathBuf;

use component::features::Gates;
use component::flags::{Command, FlagSet, Layout};
use component::{logs, metrics};

use crate::config::{self, Settings};
use crate::runtime::garbage::Policy;

/// The command line.
pub static COMMAND: Command = Command {
    name: "kubelet",
    about: "The node agent: registers the node, runs the pods that the API server (or a manifest file or URL) \
            assigns to it on a container runtime, keeps their containers healthy, and reports their status.",
    layout: Layout::Flat,
    sections: crate::flags::SECTIONS,
    defaults: &[],
};

/// What the flags and the configuration files say.
#[derive(Debug, Clone)]
pub struct Options {
    /// The configuration, merged and checked.
    pub settings: Settings,
    /// The same as one document, for `/configz`.
    pub document: serde_json::Value,
    /// `--kubeconfig`; absent without an API server.
    pub kubeconfig: Option<String>,
    /// `--bootstrap-kubeconfig`.
    pub bootstrap_kubeconfig: Option<String>,
    /// `--image-credential-provider-config` and `--image-credential-provider-bin-dir`.
    pub credential_providers: Option<(String, String)>,
    /// `--hostname-override`.
    pub hostname: Option<String>,
    /// `--cloud-provider=external`.
    pub external_cloud: bool,
    /// `--lock-file`, and whether to end when another kubelet wants it (`--exit-on-lock-contention`).
    pub lock_file: Option<(String, bool)>,
    /// `--runtime-cgroups`; empty if it is not known.
    pub runtime_cgroups: String,
    /// `--node-ip`.
    pub node_ips: Vec<String>,
    /// `--root-dir`.
    pub root_dir: String,
    /// `--cert-dir`.
    pub cert_dir: String,
    /// How many dead containers are kept.
    pub garbage: Policy,
    /// `--experimental-mounter-path`.
    pub mounter: Option<PathBuf>,
    /// `--node-labels`.
    pub labels: BTreeMap<String, String>,
    /// "Logs" flags.
    pub logging: logs::Options,
    /// "Metrics" flags.
    pub metrics: metrics::Options,
    /// `--feature-gates`.
    pub gates: Gates,
}

impl Options {
    /// Reads the flags.
    ///
    /// # Errors
    /// Every problem found.
    pub fn from_flags(flags: &FlagSet) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        let mut gates = Gates::default();
        let document = config::load::load(flags).unwrap_or_else(|mut e| {
            problems.append(&mut e);
            serde_json::Value::Null
        });
        let mut settings = if problems.is_empty() {
            Settings::from_document(&document).unwrap_or_else(|mut e| {
                problems.append(&mut e);
                Settings::default()
            })
        } else {
            Settings::default()
        };
        settings.ignores_evictions = flags.bool("experimental-allocatable-ignore-eviction");
        if let Err(e) = gates.set_map(&settings.feature_gates) {
            problems.push(e.to_string());
        }
        if flags.non_empty("bootstrap-kubeconfig").is_some() && flags.non_empty("kubeconfig").is_none() {
            problems.push("--bootstrap-kubeconfig needs --kubeconfig: the path to which the obtained credentials are written".into());
        }
        problems.extend(config::support::flag_problems(flags));
        let given = |name: &str| flags.non_empty(name).is_some();
        if flags.bool("exit-on-lock-contention") && !given("lock-file") {
            problems.push("cannot exit on lock file contention: no lock file specified".into());
        }
        if given("image-credential-provider-config") != given("image-credential-provider-bin-dir") {
            problems.push("--image-credential-provider-config and --image-credential-provider-bin-dir must be set together".into());
        }
        if settings.fail_cgroup_v1 && std::path::Path::new("/sys/fs/cgroup/memory").exists() {
            problems.push("kubelet is configured to not run on a host using cgroup v1. cgroup v1 support is unsupported and will be removed in a future release".into());
        }
        let logging = config::logging::read(&settings.logging, flags, &gates).unwrap_or_else(|mut e| {
            problems.append(&mut e);
            logs::Options::default()
        });
        let mut metrics = metrics::Options::from_flags(flags).unwrap_or_else(|mut e| {
            problems.append(&mut e);
            metrics::Options::default()
        });
        let hidden = settings.show_hidden_metrics_for_version.as_str();
        let previous = format!("1.{}", component::version::MINOR - 1);
        metrics.show_hidden = hidden == previous;
        if !hidden.is_empty() && !metrics.show_hidden {
            problems.push(format!("showHiddenMetricsForVersion must be omitted or have the value '{previous}'. Only the previous minor version is allowed"));
        }
        let garbage = Policy::new(
            flags.go_duration("minimum-container-ttl-duration"),
            flags.int("maximum-dead-containers-per-container"),
            flags.int("maximum-dead-containers"),
        );
        let garbage = match garbage {
            Ok(garbage) if problems.is_empty() => garbage,
            found => {
                problems.extend(found.err());
                return Err(problems);
            }
        };
        let text = |name: &str| flags.non_empty(name).map(str::to_owned);
        Ok(Options {
            settings,
            document,
            kubeconfig: text("kubeconfig"),
            bootstrap_kubeconfig: text("bootstrap-kubeconfig"),
            credential_providers: text("image-credential-provider-config")
                .zip(text("image-credential-provider-bin-dir")),
            hostname: text("hostname-override"),
            external_cloud: flags.string("cloud-provider") == "external",
            lock_file: text("lock-file").map(|path| (path, flags.bool("exit-on-lock-contention"))),
            runtime_cgroups: flags.string("runtime-cgroups").to_owned(),
            node_ips: text("node-ip")
                .map(|ips| ips.split(',').map(|ip| ip.trim().to_owned()).collect())
                .unwrap_or_default(),
            root_dir: flags.string("root-dir").to_owned(),
            cert_dir: flags.string("cert-dir").to_owned(),
            garbage,
            mounter: text("experimental-mounter-path").map(PathBuf::from),
            labels: flags.map("node-labels"),
            logging,
            metrics,
            gates,
        })
    }
}

#[cfg(test)]
mod tests {
    use component::app::OWN_FLAGS;
    use component::flags::golden;

    use super::*;

    #[test]
    fn flags_are_upstreams() {
        let upstream = include_str!("../../hack/data/flags/kubelet.txt");
        assert_eq!(golden::differences(&COMMAND, upstream, OWN_FLAGS), Vec::<String>::new());
    }
}
