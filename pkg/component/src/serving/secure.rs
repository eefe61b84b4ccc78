//! A daemon's secure port from the shared "Secure serving" flags.
//! Upstream: apiserver/pkg/server/options/serving.go.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;

use super::body::Body;
use super::certs::{CertSource, Certificates};
use super::connection::{ServeOptions, serve};
use super::listener::{BindOptions, Listener};
use super::names::TlsParameters;
use super::{self_signed, tls};
use crate::app::{Error, Tasks};
use crate::flags::{FlagSet, NamedCertKey};

/// What the flags say.
#[derive(Debug, Clone)]
pub struct SecureServing {
    /// `--bind-address`.
    pub address: IpAddr,
    /// `--secure-port`; 0 serves nothing.
    pub port: u16,
    /// Socket options.
    pub bind: BindOptions,
    /// `--tls-cert-file`, `--tls-private-key-file`.
    pub pair: Option<(PathBuf, PathBuf)>,
    /// `--cert-dir`.
    pub cert_dir: String,
    /// Base name of files in `cert_dir`.
    pub pair_name: String,
    /// `--tls-sni-cert-key`.
    pub by_name: Vec<NamedCertKey>,
    /// Versions, suites, curves.
    pub parameters: TlsParameters,
    /// `--http2-max-streams-per-connection`.
    pub http2_max_streams: u32,
    /// Not `--disable-http2-serving`.
    pub http2: bool,
    /// Who a certificate made for lack of another is for.
    pub own: OwnNames,
}

/// Names and addresses of a self-signed certificate.
#[derive(Debug, Clone)]
pub struct OwnNames {
    /// The first, also its common name.
    pub host: String,
    /// Further addresses.
    pub ips: Vec<IpAddr>,
    /// Further DNS names.
    pub names: Vec<String>,
}

impl Default for OwnNames {
    fn default() -> Self {
        OwnNames { host: "localhost".into(), ips: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)], names: Vec::new() }
    }
}

/// A bound secure port, ready to [`super::serve`].
#[derive(Debug)]
pub struct SecureServer {
    /// The port.
    pub listener: Listener,
    /// TLS and limits.
    pub options: ServeOptions,
    /// Certificates, to be watched.
    pub certificates: Arc<Certificates>,
}

impl SecureServing {
    /// Reads the flags. `required` says that port 0 is not permitted; `pair_name` names generated files.
    ///
    /// # Errors
    /// Upstream's texts, all of them.
    pub fn from_flags(flags: &FlagSet, pair_name: &str, required: bool) -> Result<Self, Vec<String>> {
        let mut errors = Vec::new();
        let port = flags.int("secure-port");
        let lowest = i64::from(required);
        if !(lowest..=65535).contains(&port) {
            let rest =
                if required { "It cannot be turned off with 0" } else { "0 for turning off secure port" };
            errors
                .push(format!("--secure-port {port} must be between {lowest} and 65535, inclusive. {rest}"));
        }
        let parameters = TlsParameters::from_flags(flags);
        if let Err(e) = parameters.versions() {
            errors.push(e);
        }
        if let Err(e) = parameters.provider() {
            errors.push(e);
        }
        let pair = match (flags.non_empty("tls-cert-file"), flags.non_empty("tls-private-key-file")) {
            (Some(cert), Some(key)) => Some((cert.into(), key.into())),
            (None, None) => None,
            _ => {
                errors.push("--tls-cert-file and --tls-private-key-file must be given together".into());
                None
            }
        };
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(SecureServing {
            address: flags.ip("bind-address").unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            port: u16::try_from(port).unwrap_or(0),
            bind: BindOptions {
                share_port: flags.bool("permit-port-sharing"),
                share_address: flags.bool("permit-address-sharing"),
                own_family: false,
            },
            pair,
            cert_dir: flags.string("cert-dir").to_string(),
            pair_name: pair_name.to_string(),
            by_name: flags.cert_keys("tls-sni-cert-key").to_vec(),
            parameters,
            http2_max_streams: u32::try_from(flags.int("http2-max-streams-per-connection")).unwrap_or(0),
            http2: !flags.bool("disable-http2-serving"),
            own: OwnNames::default(),
        })
    }

    /// Loads or makes certificates without binding; also what `--check-config` calls, with given files only.
    ///
    /// # Errors
    /// A file is unreadable or no certificate.
    pub fn certificates(&self) -> Result<Arc<Certificates>, Error> {
        let default = match &self.pair {
            Some((cert, key)) => {
                CertSource::Files { cert: cert.clone(), key: key.clone(), names: Vec::new() }
            }
            None => {
                let mut ips = self.own.ips.clone();
                let mut names = self.own.names.clone();
                if self.address.is_unspecified() {
                    names.push("localhost".into())
                } else {
                    ips.push(self.address)
                }
                ips.dedup();
                names.dedup();
                self_signed::in_directory(&self.cert_dir, &self.pair_name, &self.own.host, &ips, &names)?
            }
        };
        let by_name = self.by_name.iter().map(|p| CertSource::Files {
            cert: p.cert_file.clone().into(),
            key: p.key_file.clone().into(),
            names: p.names.clone(),
        });
        Ok(Certificates::load(default, by_name.collect())?)
    }

    /// Binds the port and loads certificates; `None` when the port is 0. `ca_subjects` hint clients at their CA.
    ///
    /// # Errors
    /// The port is taken, or a certificate cannot be used.
    pub fn bind(&self, ca_subjects: &[Vec<u8>]) -> Result<Option<SecureServer>, Error> {
        if self.port == 0 {
            return Ok(None);
        }
        self.bind_port(self.port, ca_subjects).map(Some)
    }

    /// As [`SecureServing::bind`] on a port of its own choice; 0 lets the system pick (tests).
    ///
    /// # Errors
    /// As [`SecureServing::bind`].
    pub fn bind_port(&self, port: u16, ca_subjects: &[Vec<u8>]) -> Result<SecureServer, Error> {
        self.bind_with(port, self.certificates()?, ca_subjects)
    }

    /// As [`SecureServing::bind_port`] with certificates of the caller's, who may exchange them later.
    ///
    /// # Errors
    /// As [`SecureServing::bind`].
    pub fn bind_with(
        &self,
        port: u16,
        certificates: Arc<Certificates>,
        ca_subjects: &[Vec<u8>],
    ) -> Result<SecureServer, Error> {
        self.with(Listener::bind(self.address, port, self.bind)?, certificates, ca_subjects)
    }

    /// As [`SecureServing::bind`] on a port that is bound already.
    ///
    /// # Errors
    /// A certificate cannot be used.
    pub fn on(&self, listener: Listener, ca_subjects: &[Vec<u8>]) -> Result<SecureServer, Error> {
        self.with(listener, self.certificates()?, ca_subjects)
    }

    fn with(
        &self,
        listener: Listener,
        certificates: Arc<Certificates>,
        ca_subjects: &[Vec<u8>],
    ) -> Result<SecureServer, Error> {
        let config = tls::server_config(certificates.clone(), &self.parameters, ca_subjects, self.http2)?;
        let options = ServeOptions {
            tls: Some(config),
            http2_max_streams: self.http2_max_streams,
            ..ServeOptions::default()
        };
        Ok(SecureServer { listener, options, certificates })
    }
}

impl SecureServer {
    /// Serves as named tasks until the tasks' shutdown, and follows the certificates' files.
    pub fn spawn<S, Fut>(self, tasks: &Tasks, service: S)
    where
        S: Fn(Request<Incoming>) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Response<Body>> + Send + 'static,
    {
        let shutdown = tasks.shutdown();
        tracing::info!(address = %self.listener.address(), "Serving securely");
        tasks.spawn("certificate-reload", self.certificates.watch(shutdown.clone()));
        tasks.spawn("secure-serving", serve(self.listener, self.options, service, shutdown.clone()));
    }
}
