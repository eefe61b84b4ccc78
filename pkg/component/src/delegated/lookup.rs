//! Settings that a cluster keeps for its daemons: ConfigMap kube-system/extension-apiserver-authentication.
//!
//! What a flag states wins; the rest comes from the ConfigMap and follows its changes.
//! Upstream: apiserver/pkg/server/options/authentication.go, authentication_dynamic_request_header.go.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use auth::request_header::RequestHeaderConfig;
use auth::x509::CaBundle;
use client::{Client, WatchEvent, WatchParams};
use k8s_openapi::api::core::v1::ConfigMap;
use tokio_util::sync::CancellationToken;

use super::identity::{Authentication, AuthenticationOptions, TokenReviews};
use crate::app::Error;

const NAMESPACE: &str = "kube-system";
const NAME: &str = "extension-apiserver-authentication";

/// The ConfigMap's content.
#[derive(Debug, Clone, Default)]
pub struct ClusterSettings {
    /// `client-ca-file`.
    pub client_ca: Option<CaBundle>,
    /// `requestheader-*`.
    pub front_proxy: Option<(RequestHeaderConfig, CaBundle)>,
}

impl ClusterSettings {
    /// Reads the ConfigMap's data.
    ///
    /// # Errors
    /// A bundle or a list that cannot be read, with its key.
    pub fn from_data(data: &BTreeMap<String, String>) -> Result<Self, String> {
        let bundle = |key: &str| match data.get(key).filter(|t| !t.is_empty()) {
            None => Ok(None),
            Some(pem) => CaBundle::from_pem(pem.as_bytes()).map(Some).map_err(|e| format!("{key}: {e}")),
        };
        let list = |key: &str| match data.get(key).filter(|t| !t.is_empty()) {
            None => Ok(Vec::new()),
            Some(text) => serde_json::from_str::<Vec<String>>(text).map_err(|e| format!("{key}: {e}")),
        };
        let front_proxy = match bundle("requestheader-client-ca-file")? {
            None => None,
            Some(ca) => Some((
                RequestHeaderConfig {
                    username_headers: list("requestheader-username-headers")?,
                    uid_headers: list("requestheader-uid-headers")?,
                    group_headers: list("requestheader-group-headers")?,
                    extra_header_prefixes: list("requestheader-extra-headers-prefix")?,
                    allowed_names: list("requestheader-allowed-names")?,
                },
                ca,
            )),
        };
        Ok(ClusterSettings { client_ca: bundle("client-ca-file")?, front_proxy })
    }
}

/// Which parts come from the cluster because no flag states them.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    client_ca: bool,
    front_proxy: bool,
}

impl Authentication {
    /// Authentication by the shared flags: reads CA files, and the cluster's settings unless told not to. `client` is
    /// the one of `--authentication-kubeconfig`; without it tokens and lookups are off.
    ///
    /// # Errors
    /// A file that cannot be used; a failed lookup unless tolerated.
    pub async fn from_options(
        options: &AuthenticationOptions,
        client: Option<&Client>,
    ) -> Result<Arc<Self>, Error> {
        let mut built = Authentication { anonymous: true, ..Authentication::default() };
        let read = |path: &str| -> Result<CaBundle, Error> {
            let pem = std::fs::read(path).map_err(|e| format!("reading {path}: {e}"))?;
            Ok(CaBundle::from_pem(&pem).map_err(|e| format!("{path}: {e}"))?)
        };
        if !options.client_ca_file.is_empty() {
            built.client_ca.store(Some(Arc::new(read(&options.client_ca_file)?)));
        }
        if !options.request_header_ca_file.is_empty() {
            let ca = read(&options.request_header_ca_file)?;
            built.front_proxy.store(Some(Arc::new((options.request_header.clone(), ca))));
        }
        let Some(client) = client else { return Ok(Arc::new(built)) };
        built.tokens = Some(Arc::new(TokenReviews::new(client, options.cache_ttl)));
        let wanted = options.wanted();
        if !options.skip_lookup && (wanted.client_ca || wanted.front_proxy) {
            match fetch(client).await {
                Ok((settings, _)) => built.apply(settings, wanted),
                Err(error) if options.tolerate_lookup_failure => {
                    tracing::warn!(err = error, "Error looking up in-cluster authentication configuration");
                    tracing::warn!(
                        "Continuing without authentication configuration. This may treat all requests as anonymous."
                    );
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Arc::new(built))
    }

    fn apply(&self, settings: ClusterSettings, wanted: Wanted) {
        if wanted.client_ca && settings.client_ca.is_some() {
            self.client_ca.store(settings.client_ca.map(Arc::new));
        }
        if wanted.front_proxy && settings.front_proxy.is_some() {
            self.front_proxy.store(settings.front_proxy.map(Arc::new));
        }
    }

    /// Follows the cluster's settings and the CA files until `shutdown`.
    pub async fn follow(
        self: Arc<Self>,
        options: AuthenticationOptions,
        client: Option<Client>,
        shutdown: CancellationToken,
    ) {
        let wanted = options.wanted();
        let files = self.clone().follow_files(options.clone(), shutdown.clone());
        match client.filter(|_| !options.skip_lookup && (wanted.client_ca || wanted.front_proxy)) {
            None => files.await,
            Some(client) => {
                let cluster = async {
                    tokio::select! {
                        () = self.follow_cluster(&client, wanted) => {}
                        () = shutdown.cancelled() => {}
                    }
                };
                futures::future::join(files, cluster).await;
            }
        }
    }

    async fn follow_files(self: Arc<Self>, options: AuthenticationOptions, shutdown: CancellationToken) {
        let named = [&options.client_ca_file, &options.request_header_ca_file];
        let paths: Vec<std::path::PathBuf> =
            named.iter().filter(|p| !p.is_empty()).map(|p| p.as_str().into()).collect();
        if paths.is_empty() {
            return shutdown.cancelled().await;
        }
        let load = |path: &str| {
            let pem = std::fs::read(path).map_err(|e| e.to_string())?;
            CaBundle::from_pem(&pem).map_err(|e| e.to_string())
        };
        crate::files::watch(paths, shutdown, move || {
            for (path, front_proxy) in
                [(&options.client_ca_file, false), (&options.request_header_ca_file, true)]
            {
                match load(path) {
                    _ if path.is_empty() => {}
                    Ok(ca) if front_proxy => {
                        self.front_proxy.store(Some(Arc::new((options.request_header.clone(), ca))));
                    }
                    Ok(ca) => self.client_ca.store(Some(Arc::new(ca))),
                    Err(why) => tracing::error!(
                        path = path.as_str(),
                        err = why,
                        "Reloading a CA bundle failed; the old one stays"
                    ),
                }
            }
        })
        .await;
    }

    async fn follow_cluster(&self, client: &Client, wanted: Wanted) {
        const FIRST: Duration = Duration::from_secs(1);
        const LONGEST: Duration = Duration::from_secs(60);
        let mut wait = FIRST;
        loop {
            match self.follow_once(client, wanted).await {
                // A watch that ended is normal; its server limits it.
                Ok(()) => wait = FIRST,
                Err(error) => {
                    crate::v!(2, err = error, "Following the cluster's authentication settings failed");
                    wait = (wait * 2).min(LONGEST);
                }
            }
            tokio::time::sleep(wait).await;
        }
    }

    async fn follow_once(&self, client: &Client, wanted: Wanted) -> Result<(), String> {
        let (settings, resource_version) = fetch(client).await?;
        self.apply(settings, wanted);
        let params = WatchParams {
            field_selector: format!("metadata.name={NAME}"),
            resource_version,
            ..WatchParams::default()
        };
        let mut watch =
            client.namespaced::<ConfigMap>(NAMESPACE).watch(&params).await.map_err(|e| e.to_string())?;
        while let Some(event) = watch.next().await {
            match event.map_err(|e| e.to_string())? {
                WatchEvent::Added(map) | WatchEvent::Modified(map) => {
                    self.apply(ClusterSettings::from_data(&map.data.unwrap_or_default())?, wanted);
                }
                WatchEvent::Error(status) => return Err(status.message.unwrap_or_default()),
                WatchEvent::Deleted(_) | WatchEvent::Bookmark { .. } => {}
            }
        }
        Ok(())
    }
}

impl AuthenticationOptions {
    fn wanted(&self) -> Wanted {
        Wanted {
            client_ca: self.client_ca_file.is_empty(),
            front_proxy: self.request_header_ca_file.is_empty(),
        }
    }
}

async fn fetch(client: &Client) -> Result<(ClusterSettings, String), String> {
    let map = client
        .namespaced::<ConfigMap>(NAMESPACE)
        .get(NAME)
        .await
        .map_err(|e| format!("unable to load configmap based request-header-client-ca-file: {e}"))?;
    let version = map.metadata.resource_version.clone().unwrap_or_default();
    Ok((ClusterSettings::from_data(&map.data.unwrap_or_default())?, version))
}
