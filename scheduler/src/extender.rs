//! HTTP extenders: services that filter and rank nodes, choose victims or bind, beside the plugins.
//! Upstream: pkg/scheduler/extender.go.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use client::config::Credentials;
use client::kubeconfig::Source;
use client::{Client, ClientCert, Config, Options, Request};
use http::Method;
use informer::Store;
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Map, Value, json};

use crate::config::{Extender as Settings, unreadable};
use crate::model::PodInfo;
use crate::preemption::Candidate;

/// Time limit of a call unless configured. Upstream: DefaultExtenderTimeout.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Scores of extenders are out of 10.
const SCALE: i64 = 100 / 10;

/// An extender.
pub struct Extender {
    settings: Settings,
    client: Client,
    timeout: Duration,
}

/// What an extender's filter left, and why nodes went.
pub struct Filtered {
    pub nodes: Vec<String>,
    pub failed: BTreeMap<String, String>,
    pub unresolvable: BTreeMap<String, String>,
}

/// A node on which an extender would have pods go.
pub struct Left {
    pub node: String,
    pub uids: Vec<String>,
    pub violations: usize,
}

/// Why nobody answered, as Go says it.
fn unreached(error: &client::Error) -> String {
    match error {
        client::Error::Connect { server, reason, .. } => {
            let reason = reason.split_once(" (os error").map_or(reason.as_str(), |(why, _)| why);
            format!("dial tcp {server}: connect: {}", reason.to_lowercase())
        }
        client::Error::Timeout { .. } => {
            "context deadline exceeded (Client.Timeout exceeded while awaiting headers)".into()
        }
        client::Error::Transport { reason, .. } if reason.contains("closed") => "EOF".into(),
        other => other.to_string(),
    }
}

/// A field by its name, whatever its case, as Go reads JSON.
fn field<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    let fields = value.as_object()?;
    fields.iter().find(|(k, v)| k.eq_ignore_ascii_case(name) && !v.is_null()).map(|(_, v)| v)
}

fn texts(value: &Value, name: &str) -> BTreeMap<String, String> {
    let fields = field(value, name).and_then(Value::as_object).into_iter().flatten();
    fields.map(|(k, v)| (k.clone(), v.as_str().unwrap_or_default().to_string())).collect()
}

fn error_of(value: &Value) -> Result<(), String> {
    match field(value, "Error").and_then(Value::as_str) {
        None | Some("") => Ok(()),
        Some(error) => Err(error.to_string()),
    }
}

impl Extender {
    /// # Errors
    /// A URL or TLS file that cannot be used.
    pub fn new(settings: &Settings) -> Result<Self, String> {
        let wrong = |e: client::ConfigError| format!("couldn't build extenders: {e}");
        let mut config = Config::new(&settings.url_prefix);
        let tls = settings.tls_config.clone().unwrap_or_default();
        for file in [&tls.ca_file, &tls.cert_file, &tls.key_file].into_iter().filter(|f| !f.is_empty()) {
            std::fs::read(file).map_err(|e| format!("couldn't build extenders: {}", unreadable(file, &e)))?;
        }
        config.ca = Source::from_fields("caData", &tls.ca_file, &tls.ca_data).map_err(wrong)?;
        let cert = Source::from_fields("certData", &tls.cert_file, &tls.cert_data).map_err(wrong)?;
        let key = Source::from_fields("keyData", &tls.key_file, &tls.key_data).map_err(wrong)?;
        if let (Some(cert), Some(key)) = (cert, key) {
            config.client_cert = Some(ClientCert::from_sources(cert, key).map_err(wrong)?);
        }
        config.insecure = tls.insecure || (settings.enable_https && config.ca.is_none());
        if config.insecure && config.ca.is_some() {
            let why = "specifying a root certificates file with the insecure flag is not allowed";
            return Err(format!("couldn't build extenders: {why}"));
        }
        config.tls_server_name = tls.server_name;
        config.credentials = Credentials::None;
        let client = Client::new(config, Options { qps: -1.0, ..Options::default() }).map_err(wrong)?;
        let own = settings.http_timeout.to_std();
        let timeout = if own.is_zero() { TIMEOUT } else { own };
        Ok(Self { settings: settings.clone(), client, timeout })
    }

    pub fn ignorable(&self) -> bool {
        self.settings.ignorable
    }

    pub fn binds(&self) -> bool {
        !self.settings.bind_verb.is_empty()
    }

    pub fn wants_nodes(&self) -> bool {
        !self.settings.node_cache_capable
    }

    /// Upstream: IsInterested.
    pub fn interested(&self, pod: &PodInfo) -> bool {
        let managed = &self.settings.managed_resources;
        managed.is_empty() || managed.iter().any(|r| pod.requests.names().any(|n| n == r.name))
    }

    fn arguments(&self, pod: &Pod, nodes: &[String], store: &Store<Node>) -> Value {
        if self.settings.node_cache_capable {
            return json!({ "Pod": pod, "Nodes": null, "NodeNames": nodes });
        }
        let items: Vec<_> = nodes.iter().filter_map(|n| store.get(n)).collect();
        json!({ "Pod": pod, "Nodes": { "metadata": {}, "items": items }, "NodeNames": null })
    }

    async fn send(&self, verb: &str, arguments: &Value) -> Result<Value, String> {
        let mut request = Request::new(Method::POST, format!("/{verb}"))
            .body("application/json", arguments.to_string().into_bytes());
        request.timeout = Some(self.timeout);
        let url = format!("{}/{verb}", self.settings.url_prefix.trim_end_matches('/'));
        match self.client.call(&request).await {
            Ok(answer) if answer.body.is_empty() => Err("EOF".into()),
            Ok(answer) => serde_json::from_slice(&answer.body).map_err(|e| {
                machinery::json::parse(&answer.body).map_or_else(|go| go.to_string(), |_| e.to_string())
            }),
            Err(client::Error::Api(status)) => Err(format!(
                "failed {verb} with extender at URL {url}, code {}",
                status.code.unwrap_or_default()
            )),
            Err(error) => Err(format!("Post {url:?}: {}", unreached(&error))),
        }
    }

    /// Upstream: HTTPExtender.Filter.
    pub async fn filter(
        &self,
        pod: &Pod,
        nodes: Vec<String>,
        store: &Store<Node>,
    ) -> Result<Filtered, String> {
        if self.settings.filter_verb.is_empty() {
            return Ok(Filtered { nodes, failed: BTreeMap::new(), unresolvable: BTreeMap::new() });
        }
        let result = self.send(&self.settings.filter_verb, &self.arguments(pod, &nodes, store)).await?;
        error_of(&result)?;
        let names = field(&result, "NodeNames").and_then(Value::as_array);
        let left: Vec<String> = match names.filter(|_| self.settings.node_cache_capable) {
            Some(names) => names.iter().filter_map(|n| n.as_str().map(str::to_string)).collect(),
            None => {
                let items = field(&result, "Nodes").and_then(|n| field(n, "items")).and_then(Value::as_array);
                let name = |n: &Value| Some(n.get("metadata")?.get("name")?.as_str()?.to_string());
                items.into_iter().flatten().filter_map(name).collect()
            }
        };
        let known: BTreeSet<&String> = nodes.iter().collect();
        if let Some(odd) = left.iter().find(|n| !known.contains(n)) {
            return Err(format!(
                "extender {:?} claims a filtered node {odd:?} which is not found in the input node list",
                self.settings.url_prefix
            ));
        }
        let unresolvable = texts(&result, "FailedAndUnresolvableNodes");
        Ok(Filtered { nodes: left, failed: texts(&result, "FailedNodes"), unresolvable })
    }

    /// Scores to add, scaled to those of plugins. Upstream: HTTPExtender.Prioritize, prioritizeNodes.
    pub async fn prioritize(
        &self,
        pod: &Pod,
        nodes: &[String],
        store: &Store<Node>,
    ) -> Result<Vec<(String, i64)>, String> {
        if self.settings.prioritize_verb.is_empty() {
            return Ok(Vec::new());
        }
        let result = self.send(&self.settings.prioritize_verb, &self.arguments(pod, nodes, store)).await?;
        let one = |entry: &Value| {
            let host = field(entry, "Host")?.as_str()?.to_string();
            let score = field(entry, "Score").and_then(Value::as_i64).unwrap_or(0);
            Some((host, score.saturating_mul(self.settings.weight).saturating_mul(SCALE)))
        };
        Ok(result.as_array().into_iter().flatten().filter_map(one).collect())
    }

    pub fn preempts(&self) -> bool {
        !self.settings.preempt_verb.is_empty()
    }

    /// Nodes and victims that the extender leaves of those it is shown: uids and how many budgets are broken, by node.
    /// `full` are the victims as the API server has them, for an extender that knows no pods.
    /// Upstream: HTTPExtender.ProcessPreemption.
    pub async fn preempt(
        &self,
        pod: &Pod,
        candidates: &[Candidate],
        full: &BTreeMap<String, Pod>,
    ) -> Result<Vec<Left>, String> {
        let of = |c: &Candidate, pods: Vec<Value>| {
            (c.node.clone(), json!({ "Pods": pods, "NumPDBViolations": c.violations }))
        };
        let mut arguments = json!({ "Pod": pod, "NodeNameToVictims": null, "NodeNameToMetaVictims": null });
        if self.settings.node_cache_capable {
            let one = |c: &Candidate| of(c, c.victims.iter().map(|v| json!({ "UID": &*v.uid })).collect());
            arguments["NodeNameToMetaVictims"] = candidates.iter().map(one).collect::<Map<_, _>>().into();
        } else {
            let one = |c: &Candidate| {
                of(c, c.victims.iter().filter_map(|v| full.get(&*v.uid)).map(|p| json!(p)).collect())
            };
            arguments["NodeNameToVictims"] = candidates.iter().map(one).collect::<Map<_, _>>().into();
        }
        let result = self.send(&self.settings.preempt_verb, &arguments).await?;
        let nodes = field(&result, "NodeNameToMetaVictims").and_then(Value::as_object);
        let one = |(node, victims): (&String, &Value)| {
            let pods = field(victims, "Pods").and_then(Value::as_array).into_iter().flatten();
            let uids = pods.filter_map(|p| field(p, "UID")?.as_str().map(str::to_string)).collect();
            let violations = field(victims, "NumPDBViolations").and_then(Value::as_u64).unwrap_or(0);
            Left { node: node.clone(), uids, violations: usize::try_from(violations).unwrap_or(usize::MAX) }
        };
        Ok(nodes.into_iter().flatten().map(one).collect())
    }

    /// For messages.
    pub fn url(&self) -> &str {
        &self.settings.url_prefix
    }

    /// Has the extender bind the pod.
    pub async fn bind(&self, pod: &PodInfo, node: &str) -> Result<(), String> {
        let arguments = json!({ "PodName": pod.name, "PodNamespace": &*pod.namespace, "PodUID": &*pod.uid, "Node": node });
        error_of(&self.send(&self.settings.bind_verb, &arguments).await?)
    }
}

/// The extenders in the order in which they are asked: those that may fail come last. Upstream: buildExtenders.
pub fn build(settings: &[Settings]) -> Result<Vec<Extender>, Vec<String>> {
    let (mut extenders, mut problems) = (Vec::new(), Vec::new());
    for one in settings {
        match Extender::new(one) {
            Ok(extender) => extenders.push(extender),
            Err(problem) => problems.push(problem),
        }
    }
    extenders.sort_by_key(Extender::ignorable);
    if problems.is_empty() { Ok(extenders) } else { Err(problems) }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    /// Answers every call with the text; `None`: never.
    fn serve(answer: Option<&'static str>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let mut silent = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let Some(answer) = answer else {
                    silent.push(stream);
                    continue;
                };
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        url
    }

    async fn asked(url: &str) -> String {
        let settings: Settings = serde_json::from_value(json!({
            "urlPrefix": url, "filterVerb": "filter", "nodeCacheCapable": true, "httpTimeout": "300ms",
        }))
        .unwrap();
        let extender = Extender::new(&settings).unwrap();
        extender.filter(&Pod::default(), Vec::new(), &Store::default()).await.err().unwrap_or_default()
    }

    /// Upstream's HTTPExtender.Filter said so of the same servers.
    #[tokio::test]
    async fn dead_extenders_are_spoken_of_as_upstream_does() {
        let check = async |url: &str, expected: &str| {
            assert_eq!(asked(url).await, expected.replace("{}", url.trim_end_matches('/')));
        };
        let refused = "Post \"{}/filter\": dial tcp 127.0.0.1:1: connect: connection refused";
        check("http://127.0.0.1:1", refused).await;
        check("http://127.0.0.1:1/", refused).await;
        check("http://127.0.0.1:1/base", refused).await;
        let late =
            "Post \"{}/filter\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)";
        check(&serve(None), late).await;
        check(&serve(Some("")), "Post \"{}/filter\": EOF").await;
        let failed = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\n\r\nno";
        check(&serve(Some(failed)), "failed filter with extender at URL {}/filter, code 500").await;
        let no_json = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno";
        check(&serve(Some(no_json)), "invalid character 'o' in literal null (expecting 'u')").await;
        check(&serve(Some("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")), "EOF").await;
        let said = "HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{\"Error\":\"nah\"}";
        check(&serve(Some(said)), "nah").await;
    }
}
