//! The kubelet's port and the certificate that it serves with: the given one, one that the API server signs, or one made
//! here. Upstream: InitializeTLS in cmd/kubelet/app/server.go and pkg/kubelet/certificate/kubelet.go, v1.37.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use component::app::{Error, Process};
use component::serving::{BindOptions, SecureServer, SecureServing, TlsParameters};
use k8s_openapi::jiff::Timestamp;

use crate::certificate::manager::{Manager, Parts};
use crate::certificate::request::Template;
use crate::certificate::store::FileStore;
use crate::certificate::{SERVING_SIGNER, metrics};
use crate::kubelet::Kubelet;
use crate::options::Options;
use component::serving::Certificates;

/// Binds the port; certificates are followed or renewed by tasks of `process`.
pub(super) fn bind(
    options: &Options,
    kubelet: &Kubelet,
    ca_subjects: &[Vec<u8>],
    process: &Process,
) -> Result<SecureServer, Error> {
    let settings = &options.settings;
    let address: IpAddr =
        settings.address.parse().map_err(|_| format!("invalid address {:?}", settings.address))?;
    let given = (!settings.tls_cert_file.is_empty() && !settings.tls_private_key_file.is_empty())
        .then(|| (PathBuf::from(&settings.tls_cert_file), PathBuf::from(&settings.tls_private_key_file)));
    let cert_dir = cert_dir(options, kubelet);
    crate::paths::make_dir(Path::new(&cert_dir), 0o755)?;
    let serving = SecureServing {
        address,
        port: settings.port,
        bind: BindOptions::default(),
        pair: given.clone(),
        cert_dir: cert_dir.clone(),
        pair_name: "kubelet".to_owned(),
        by_name: Vec::new(),
        parameters: tls_parameters(options),
        http2_max_streams: 0,
        http2: true,
        own: Default::default(),
    };
    let certificates = if settings.server_tls_bootstrap {
        signed(kubelet, Path::new(&cert_dir), given, process)?
    } else {
        serving.certificates()?
    };
    let watched = certificates.clone();
    process.tasks.spawn("certificate-reload", watched.watch(process.shutdown.clone()));
    serving.bind_with(settings.port, certificates, ca_subjects)
}

fn tls_parameters(options: &Options) -> TlsParameters {
    let settings = &options.settings;
    TlsParameters {
        min_version: settings.tls_min_version.clone(),
        cipher_suites: settings.tls_cipher_suites.clone(),
        curves: settings.tls_curve_preferences.clone(),
    }
}

fn cert_dir(options: &Options, kubelet: &Kubelet) -> String {
    if options.cert_dir.is_empty() {
        kubelet.paths.pki().display().to_string()
    } else {
        options.cert_dir.clone()
    }
}

/// Certificates that the API server signs; none until the first one is.
fn signed(
    kubelet: &Kubelet,
    dir: &Path,
    given: Option<(PathBuf, PathBuf)>,
    process: &Process,
) -> Result<Arc<Certificates>, Error> {
    let certificates = Certificates::empty();
    let Some(client) = kubelet.client.clone() else {
        return Err("serverTLSBootstrap needs an API server: give a --kubeconfig".into());
    };
    let sink = certificates.clone();
    let host = kubelet.node.name.clone();
    let mut ips: Vec<IpAddr> = kubelet.node.host_ips.read().iter().filter_map(|ip| ip.parse().ok()).collect();
    ips.sort_by_key(ToString::to_string);
    let template = Template { dns_names: vec![host.clone()], ips, ..Template::of_node(&host) };
    let parts = Parts {
        signer: SERVING_SIGNER,
        usages: ["digital signature", "server auth"],
        template,
        store: FileStore::open("kubelet-server", dir, given)?,
        client: Box::new(move |_| client.clone()),
        deliver: Box::new(move |pair| {
            if let Err(error) = sink.replace_default(&pair.cert, &pair.key) {
                tracing::error!(%error, "Cannot use the serving certificate");
            }
        }),
        errors: metrics::server_errors(),
        ages: Some(metrics::server_ages()),
    };
    let manager = Manager::new(parts, None, Timestamp::now())?;
    metrics::show_time_left(
        "kubelet_certificate_manager_server_ttl_seconds",
        "Gauge of the shortest TTL (time-to-live) of the Kubelet's serving certificate. The value is in seconds until certificate expiry (negative if already expired). If serving certificate is invalid or unused, the value will be +INF.",
        manager.current(),
    );
    process.tasks.spawn("serving-certificate", manager.run(process.shutdown.clone()));
    Ok(certificates)
}
