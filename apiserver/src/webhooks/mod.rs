//! The server's side of admission webhooks: HTTP, metrics, and the followers that keep their configurations up to date.
//!
//! Which webhooks are called when, and what becomes of their answers, is decided in `registry::admission::webhook`.
//! Upstream: `k8s.io/apiserver/pkg/util/webhook/client.go`, `pkg/admission/configuration`.
pub(crate) mod accounts;
mod metrics;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use client::Identity;
use component::app::Tasks;
use http::Request;
use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use machinery::Value;
use parking_lot::Mutex;
use registry::Core;
use registry::admission::Operation;
use registry::admission::webhook::{Backend, CallFailed, ClientConfig, Observation, Phase, Target};

use accounts::{Accounts, Plugins};

use crate::local::{Change, Gvr, Local};
use crate::outbound::pool::{Answer, Place, Pool};
use crate::outbound::resolve::Resolver;
use crate::outbound::tls::{self, Trust};
use crate::web::body;

/// Servers whose connections are kept (upstream's `defaultCacheSize`).
const MAX_POOLS: usize = 200;
/// The largest answer that is read: an object may be patched from end to end.
const MAX_ANSWER: usize = 16 << 20;

/// The server of one client configuration.
struct Server {
    pool: Arc<Pool>,
    /// `https://host:port`, as errors name it.
    base: String,
    path: String,
    identity: Option<Identity>,
}

/// The way to webhooks.
struct Http {
    resolver: Resolver,
    accounts: Accounts,
    servers: Mutex<Servers>,
}

#[derive(Default)]
struct Servers {
    /// With the tick of the last use.
    known: hashbrown::HashMap<ClientConfig, (Arc<Server>, u64)>,
    tick: u64,
}

impl Servers {
    fn get(&mut self, client: &ClientConfig) -> Option<Arc<Server>> {
        self.tick += 1;
        let (server, used) = self.known.get_mut(client)?;
        *used = self.tick;
        Some(server.clone())
    }

    /// Adds a server; the one not used for longest makes room.
    fn add(&mut self, client: &ClientConfig, server: Arc<Server>) {
        if self.known.len() >= MAX_POOLS
            && let Some(oldest) = self.known.iter().min_by_key(|(_, (_, used))| *used).map(|(c, _)| c.clone())
        {
            self.known.remove(&oldest);
        }
        self.known.insert(client.clone(), (server, self.tick));
    }
}

/// Host, port and path of a URL that validation let pass.
fn split_url(url: &str) -> Option<(String, u16, String)> {
    let uri: http::Uri = url.parse().ok()?;
    let host = uri.host()?.trim_start_matches('[').trim_end_matches(']').to_owned();
    Some((host, uri.port_u16().unwrap_or(443), uri.path().to_owned()))
}

impl Http {
    fn server(&self, client: &ClientConfig) -> Result<Arc<Server>, String> {
        if let Some(server) = self.servers.lock().get(client) {
            return Ok(server);
        }
        let server = Arc::new(self.build(client)?);
        self.servers.lock().add(client, server.clone());
        Ok(server)
    }

    fn build(&self, client: &ClientConfig) -> Result<Server, String> {
        let (place, base, path) = match &client.target {
            Target::Service { namespace, name, path, port } => {
                let place = Place::Service { namespace: namespace.clone(), name: name.clone(), port: *port };
                let base = format!("https://{}", place.authority());
                (place, base, path.clone())
            }
            Target::Url(url) => {
                let (host, port, path) = split_url(url).ok_or_else(|| format!("Unparsable URL: {url}"))?;
                // Errors name the URL as it was written.
                let rest = url.get("https://".len()..).unwrap_or_default();
                let authority = rest.split('/').next().unwrap_or_default();
                (Place::Host(host, port), format!("https://{authority}"), path)
            }
            Target::None => {
                return Err("webhook configuration must have either service or URL".to_owned());
            }
        };
        let identity = match &place {
            Place::Service { namespace, name, port } => {
                self.accounts.identity(&format!("{name}.{namespace}.svc"), *port)
            }
            Place::Host(host, port) => self.accounts.identity(host, *port),
        }?;
        let cert = identity.as_ref().and_then(Identity::client_cert);
        let config = tls::config(Trust::Bundle(&client.ca_bundle), cert)?;
        let path = if path.starts_with('/') { path } else { format!("/{path}") };
        Ok(Server { pool: Pool::new(place, self.resolver.clone(), config), base, path, identity })
    }
}

#[async_trait]
impl Backend for Http {
    async fn call(
        &self,
        client: &ClientConfig,
        review: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, CallFailed> {
        let failed = |why: String| CallFailed { why: format!("failed to call webhook: {why}"), code: 503 };
        let server = self
            .server(client)
            .map_err(|why| CallFailed { why: format!("could not get REST client: {why}"), code: 500 })?;
        let uri = format!("{}?timeout={}s", server.path, timeout.as_secs());
        let mut request = Request::post(&uri)
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json, */*")
            .header(USER_AGENT, "kube-apiserver-admission")
            .body(body::full(review))
            .map_err(|e| failed(e.to_string()))?;
        if let Some(identity) = &server.identity {
            identity.apply(request.headers_mut()).await.map_err(|e| failed(e.to_string()))?;
        }
        let url = || format!("{}{uri}", server.base);
        let span = traces::http::outgoing(request.method().clone(), url, request.headers_mut());
        let sent = tokio::time::timeout(timeout, server.pool.send(request, MAX_ANSWER)).await;
        match &sent {
            Ok(Ok(answer)) => traces::http::received(&span, answer.status),
            Ok(Err(why)) => traces::http::failed(&span, why),
            Err(_) => traces::http::failed(&span, &"context deadline exceeded"),
        }
        drop(span);
        let why = match sent {
            Ok(Ok(answer)) if (200..300).contains(&answer.status) => return Ok(answer.body),
            Ok(Ok(answer)) => {
                if let (401, Some(identity)) = (answer.status, &server.identity) {
                    identity.refused();
                }
                return Err(refused(&answer));
            }
            Ok(Err(why)) => why,
            Err(_) => "context deadline exceeded".to_owned(),
        };
        Err(failed(format!("Post \"{}{uri}\": {why}", server.base)))
    }

    fn observe(&self, observation: Observation<'_>) {
        metrics::observe(observation);
    }

    fn excluded(&self, webhook: &str, phase: Phase, operation: Operation) {
        metrics::excluded(webhook, phase, operation);
    }
}

/// An answer that is no success: its own `Status`, or one for its code.
fn refused(answer: &Answer) -> CallFailed {
    let sent = serde_json::from_slice::<serde_json::Value>(&answer.body).ok();
    let sent = sent.filter(|v| v["kind"] == "Status").and_then(|v| v["message"].as_str().map(str::to_owned));
    let kind = answer.headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok());
    // Only text is repeated to users.
    let text = if kind.is_none_or(|k| k.starts_with("text/")) {
        String::from_utf8_lossy(&answer.body).trim().to_owned()
    } else {
        "unknown".to_owned()
    };
    let code = answer.status;
    let why =
        sent.unwrap_or_else(|| client::generic_status(code, "POST", &text, None).message.unwrap_or_default());
    CallFailed { why: format!("failed to call webhook: {why}"), code }
}

/// Connects the registry with webhooks, and follows their configurations and the policies. Converters of custom resources
/// are shown no account.
pub(crate) fn start(core: &Arc<Core>, local: &Local, tasks: &Tasks, resolver: Resolver, accounts: Plugins) {
    let http = |accounts| Arc::new(Http { resolver: resolver.clone(), accounts, servers: Mutex::default() });
    core.webhooks.set_backend(Phase::Mutating, http(accounts.mutating));
    core.webhooks.set_backend(Phase::Validating, http(accounts.validating));
    core.custom().set_backend(http(Accounts::default()));
    core.mutating_policies.follow();
    core.validating_policies.follow();
    for (gvr, phase) in
        [(Gvr::MUTATING_WEBHOOKS, Phase::Mutating), (Gvr::VALIDATING_WEBHOOKS, Phase::Validating)]
    {
        let core = core.clone();
        follow(local, tasks, gvr, move |all| core.webhooks.set(phase, all.values().map(|o| &**o)));
    }
    let (own, by) = (core.clone(), Gvr::VALIDATING_POLICIES);
    follow(local, tasks, by, move |all| own.validating_policies.set_policies(all.values().map(|o| &**o)));
    let (own, by) = (core.clone(), Gvr::VALIDATING_POLICY_BINDINGS);
    follow(local, tasks, by, move |all| own.validating_policies.set_bindings(all.values().map(|o| &**o)));
    let (own, by) = (core.clone(), Gvr::MUTATING_POLICIES);
    follow(local, tasks, by, move |all| own.mutating_policies.set_policies(all.values().map(|o| &**o)));
    let (own, by) = (core.clone(), Gvr::MUTATING_POLICY_BINDINGS);
    follow(local, tasks, by, move |all| own.mutating_policies.set_bindings(all.values().map(|o| &**o)));
}

/// Hands over all objects of a resource, by name, whenever one changes; none at all where it is not served.
fn follow(
    local: &Local,
    tasks: &Tasks,
    gvr: Gvr,
    set: impl Fn(&BTreeMap<String, Arc<Value>>) + Send + 'static,
) {
    let mut known: BTreeMap<String, Arc<Value>> = BTreeMap::new();
    if !local.serves(gvr) {
        set(&known);
        return;
    }
    let sink = move |change: Change| {
        let name = |o: &Value| o.str_at(&["metadata", "name"]).unwrap_or_default().to_owned();
        match change {
            Change::Replace(all) => known = all.into_iter().map(|o| (name(&o), o)).collect(),
            Change::Set(o) => {
                known.insert(name(&o), o);
            }
            Change::Remove(o) => {
                known.remove(&name(&o));
            }
        }
        set(&known);
    };
    let stop = tasks.shutdown().clone();
    tasks.spawn("admission-follower", local.clone().follow(gvr, stop, || {}, sink));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let check = |url: &str, host: &str, port: u16, path: &str| {
            assert_eq!(split_url(url), Some((host.to_owned(), port, path.to_owned())));
        };
        check("https://a.b", "a.b", 443, "/");
        check("https://[::1]:8443/x/y", "::1", 8443, "/x/y");
    }

    #[test]
    fn refusals() {
        let check = |status: u16, kind: &'static str, body: &'static str, want: &str| {
            let mut headers = http::HeaderMap::new();
            headers.insert(CONTENT_TYPE, http::HeaderValue::from_static(kind));
            let why = refused(&Answer { status, headers, body: body.into() }).why;
            assert_eq!(why, format!("failed to call webhook: {want}"));
        };
        let server = |text: &str| {
            format!("an error on the server ({text:?}) has prevented the request from succeeding")
        };
        check(500, "text/plain", "boom\n", &server("boom"));
        check(500, "application/json", "boom\n", &server("unknown"));
        check(404, "text/plain", "", "the server could not find the requested resource");
        check(403, "application/json", r#"{"kind":"Status","message":"no"}"#, "no");
    }
}
