//! A daemon that only has a port: how the parts of this crate are put together, and what is compared with upstream's
//! kube-scheduler (same flags, same pages, same answers to the same credentials).
//! Run: `cargo run -p component --example port -- --secure-port=12345 --authentication-kubeconfig=... \
//! --authorization-kubeconfig=...`

use std::sync::Arc;

use client::Client;
use component::app::{Daemon, Error, Process};
use component::delegated::{AccessReviews, Authentication, AuthenticationOptions, Guard};
use component::features::Gates;
use component::flags::{Command, FlagSet, Kind, Layout, Section, flag, shared};
use component::health::Check;
use component::serving::{Mux, SecureServing};
use component::{health, logs, metrics, zpages};

static COMMAND: Command = Command {
    name: "port",
    about: "Serves the pages every daemon has, behind delegated authentication and authorization.",
    layout: Layout::Sections,
    sections: &[Section {
        title: "Secure serving",
        flags: &[
            shared::BIND_ADDRESS,
            shared::CERT_DIR,
            shared::DISABLE_HTTP2_SERVING,
            shared::HTTP2_MAX_STREAMS_PER_CONNECTION,
            shared::PERMIT_ADDRESS_SHARING,
            shared::PERMIT_PORT_SHARING,
            shared::SECURE_PORT.with_default("10259"),
            shared::TLS_CERT_FILE,
            shared::TLS_CIPHER_SUITES,
            shared::TLS_CURVE_PREFERENCES,
            shared::TLS_MIN_VERSION,
            shared::TLS_PRIVATE_KEY_FILE,
            shared::TLS_SNI_CERT_KEY,
            shared::AUTHENTICATION_KUBECONFIG,
            shared::AUTHENTICATION_SKIP_LOOKUP,
            shared::AUTHENTICATION_TOKEN_WEBHOOK_CACHE_TTL,
            shared::AUTHENTICATION_TOLERATE_LOOKUP_FAILURE,
            shared::CLIENT_CA_FILE,
            shared::REQUESTHEADER_ALLOWED_NAMES,
            shared::REQUESTHEADER_CLIENT_CA_FILE,
            shared::REQUESTHEADER_EXTRA_HEADERS_PREFIX,
            shared::REQUESTHEADER_GROUP_HEADERS,
            shared::REQUESTHEADER_UID_HEADERS,
            shared::REQUESTHEADER_USERNAME_HEADERS,
            shared::AUTHORIZATION_ALWAYS_ALLOW_PATHS,
            shared::AUTHORIZATION_KUBECONFIG,
            shared::AUTHORIZATION_WEBHOOK_CACHE_AUTHORIZED_TTL,
            shared::AUTHORIZATION_WEBHOOK_CACHE_UNAUTHORIZED_TTL,
            flag("feature-gates", Kind::Multimap, "", "Feature gates to set. Options are:"),
            shared::LOG_JSON_SPLIT_STREAM,
            shared::LOG_TEXT_SPLIT_STREAM,
            shared::LOGGING_FORMAT,
            shared::V,
            shared::VERSION,
            shared::VMODULE,
            shared::HELP,
        ],
    }],
    defaults: &[],
};

struct Port {
    serving: SecureServing,
    logging: logs::Options,
    gates: Gates,
}

fn client(kubeconfig: &str) -> Result<Option<Client>, Error> {
    if kubeconfig.is_empty() {
        return Ok(None);
    }
    let config = client::Config::from_kubeconfig(kubeconfig)?;
    Ok(Some(Client::new(config, client::Options { qps: 200.0, burst: 400, ..client::Options::default() })?))
}

impl Daemon for Port {
    const COMMAND: &'static Command = &COMMAND;

    fn configure(flags: &FlagSet) -> Result<Self, Vec<String>> {
        let mut gates = Gates::default();
        gates.set(&flags.gate_settings("feature-gates")).map_err(|e| vec![e.to_string()])?;
        let serving = SecureServing::from_flags(flags, "port", false)?;
        Ok(Port { serving, logging: logs::Options::from_flags(flags, &gates)?, gates })
    }

    fn logging(&self) -> logs::Options {
        self.logging.clone()
    }

    async fn run(self, process: Process) -> Result<(), Error> {
        metrics::register_process(metrics::default_registry(), self.gates);
        metrics::rest_client::install();
        let flags = &process.flags;
        let Some(server) = self.serving.bind(&[])? else {
            return Err("nothing to do without --secure-port".into());
        };

        let options = AuthenticationOptions::from_flags(flags);
        let reviewer = client(&options.kubeconfig)?;
        let authentication = Authentication::from_options(&options, reviewer.as_ref()).await?;
        let follow = authentication.clone().follow(options, reviewer, process.shutdown.clone());
        process.tasks.spawn("authentication-settings", follow);

        let reviews = client(flags.string("authorization-kubeconfig"))?.map(|c| {
            let ttl = |flag: &str| flags.duration(&format!("authorization-webhook-cache-{flag}-ttl"));
            AccessReviews::new(&c, ttl("authorized"), ttl("unauthorized"))
        });
        let authorizer = AccessReviews::chain(reviews, flags.list("authorization-always-allow-paths"))?;

        let mut mux = Mux::default();
        let checks = vec![Check::ping(), Check::log(), Check::shutdown(process.shutdown.clone())];
        health::install(&mut mux, "/healthz", checks[..2].to_vec());
        health::install(&mut mux, "/livez", checks[..2].to_vec());
        health::install(&mut mux, "/readyz", checks);
        zpages::install(
            &mut mux,
            &zpages::Pages { name: "port", flags: process.flags.clone(), config: None },
        );
        server.spawn(&process.tasks, Guard { authentication, authorizer }.service(Arc::new(mux)));
        process.notifier.ready();
        process.shutdown.cancelled().await;
        Ok(())
    }
}

fn main() -> std::process::ExitCode {
    component::app::main::<Port>()
}
