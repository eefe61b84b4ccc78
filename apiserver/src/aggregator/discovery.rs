//! Discovery documents of other servers: fetched when an APIService changes and every minute, merged with this server's own
//! where they are asked for. Upstream: `kube-aggregator/pkg/apiserver/handler_discovery.go`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use auth::UserInfo;
use http::Request;
use http::header::{ACCEPT, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Aggregator, Remote, Service, proxy};
use crate::outbound::pool::{Answer, Pool};
use crate::web::body;

const REFRESH: Duration = Duration::from_secs(60);
const FETCH: Duration = Duration::from_secs(5);
const FIRST_RETRY: Duration = Duration::from_millis(500);
const MOST: usize = 16 << 20;
const KIND: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// What one server said it serves: `APIVersionDiscovery` by group and version.
#[derive(Debug, Clone, Default)]
struct Document {
    versions: BTreeMap<(String, String), Value>,
    etag: String,
}

/// The `APIVersionDiscovery` of remote group-versions, each with its freshness.
#[derive(Default)]
pub(crate) struct Documents(ArcSwap<BTreeMap<(String, String), Arc<str>>>);

impl Documents {
    /// The entry of a group-version, as JSON.
    pub(crate) fn get(&self, group: &str, version: &str) -> Arc<str> {
        let all = self.0.load();
        all.get(&(group.to_owned(), version.to_owned())).cloned().unwrap_or_else(|| stale(version).into())
    }
}

/// What is known of a version whose server was never heard.
fn stale(version: &str) -> String {
    json!({"version": version, "freshness": "Stale"}).to_string()
}

fn entry(version: &str, known: Option<&Value>, fresh: bool) -> Arc<str> {
    let Some(mut entry) = known.cloned() else { return stale(version).into() };
    entry["freshness"] = if fresh { "Current" } else { "Stale" }.into();
    entry.to_string().into()
}

/// Reads an `APIGroupDiscoveryList`.
fn aggregated(list: &Value) -> BTreeMap<(String, String), Value> {
    let mut out = BTreeMap::new();
    for group in list["items"].as_array().into_iter().flatten() {
        let name = group["metadata"]["name"].as_str().unwrap_or_default();
        for version in group["versions"].as_array().into_iter().flatten() {
            let key = (name.to_owned(), version["version"].as_str().unwrap_or_default().to_owned());
            out.insert(key, version.clone());
        }
    }
    out
}

/// Reads an `APIResourceList` of a server that knows no other form (`ConvertGroupVersionIntoToDiscovery`).
fn legacy(list: &Value, group: &str, version: &str) -> Value {
    let mut resources: Vec<Value> = Vec::new();
    for resource in list["resources"].as_array().into_iter().flatten() {
        let text = |field: &str| resource[field].as_str().unwrap_or_default();
        let or = |value: &str, default: &str| if value.is_empty() { default } else { value }.to_owned();
        let kind = json!({"group": or(text("group"), group), "version": or(text("version"), version),
            "kind": text("kind")});
        let name = text("name");
        if let Some((parent, sub)) = name.split_once('/') {
            let sub = json!({"subresource": sub, "responseKind": kind, "verbs": resource["verbs"]});
            let Some(parent) = resources.iter_mut().find(|r| r["resource"] == parent) else { continue };
            match parent["subresources"].as_array_mut() {
                Some(all) => all.push(sub),
                None => parent["subresources"] = json!([sub]),
            }
            continue;
        }
        let scope = if resource["namespaced"] == true { "Namespaced" } else { "Cluster" };
        let mut out = json!({"resource": name, "responseKind": kind, "scope": scope,
            "singularResource": text("singularName"), "verbs": resource["verbs"]});
        for field in ["shortNames", "categories"] {
            if resource[field].is_array() {
                out[field] = resource[field].clone();
            }
        }
        resources.push(out);
    }
    json!({"version": version, "resources": resources})
}

async fn get(pool: &Arc<Pool>, path: &str, accept: &str, etag: &str) -> Result<Answer, String> {
    let mut request = Request::get(path).header(ACCEPT, accept);
    if !etag.is_empty() {
        request = request.header(IF_NONE_MATCH, etag);
    }
    let mut request = request.body(body::empty()).map_err(|e| e.to_string())?;
    proxy::identify(request.headers_mut(), &UserInfo::new("system:kube-aggregator", &["system:masters"]));
    let sent = tokio::time::timeout(FETCH, pool.send(request, MOST)).await;
    sent.map_err(|_| "request timed out".to_owned())?
}

fn header(answer: &Answer, name: http::header::HeaderName) -> &str {
    answer.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
}

/// Fetches the document of a server; one that only knows the older form is asked for one group-version.
async fn fetch(remote: &Remote, service: &Service, known: &Document) -> Result<Document, String> {
    let pool = remote.pool.as_ref().map_err(Clone::clone)?;
    let answer = get(pool, "/apis", KIND, &known.etag).await?;
    let parse = |answer: &Answer| serde_json::from_slice::<Value>(&answer.body).map_err(|e| e.to_string());
    match answer.status {
        304 => return Ok(known.clone()),
        503 => return Err("service unavailable".to_owned()),
        200 if header(&answer, CONTENT_TYPE).contains("as=APIGroupDiscoveryList") => {
            let etag = header(&answer, ETAG).to_owned();
            return Ok(Document { versions: aggregated(&parse(&answer)?), etag });
        }
        _ => {}
    }
    let (group, version) = (service.group.as_str(), service.version.as_str());
    let path = if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") };
    let answer = get(pool, &path, "application/json", "").await?;
    if answer.status != 200 {
        return Err(format!("failed to download legacy discovery for {path}: {}", answer.status));
    }
    let mut versions = known.versions.clone();
    versions.insert((group.to_owned(), version.to_owned()), legacy(&parse(&answer)?, group, version));
    Ok(Document { versions, etag: String::new() })
}

/// Keeps the documents until `stop`.
pub(super) async fn run(aggregator: Arc<Aggregator>, stop: CancellationToken) {
    let mut changed = aggregator.changed.subscribe();
    let mut known: BTreeMap<String, Document> = BTreeMap::new();
    let mut pause = FIRST_RETRY;
    loop {
        let remotes = aggregator.services.remotes();
        let mut entries = BTreeMap::new();
        let mut clean = true;
        for service in &remotes {
            let Some(remote) = &service.remote else { continue };
            let key = remote.key();
            let fetched = if remote.available {
                let before = known.get(&key).cloned().unwrap_or_default();
                fetch(remote, service, &before).await
            } else {
                Err("not available".to_owned())
            };
            let fresh = match fetched {
                Ok(document) => {
                    known.insert(key.clone(), document);
                    true
                }
                Err(why) => {
                    // Nobody is asked before the condition says that there is somebody.
                    clean &= !remote.available;
                    tracing::debug!(service = key, err = why, "no discovery document");
                    false
                }
            };
            let gv = (service.group.clone(), service.version.clone());
            let found = known.get(&key).and_then(|d| d.versions.get(&gv));
            entries.insert(gv, entry(&service.version, found, fresh));
        }
        known.retain(|k, _| remotes.iter().any(|s| s.remote.as_ref().is_some_and(|r| r.key() == *k)));
        aggregator.documents.0.store(Arc::new(entries));
        aggregator.specs.refresh(&remotes).await;
        pause = if clean { FIRST_RETRY } else { (pause * 2).min(REFRESH) };
        let next = Instant::now() + if clean { REFRESH } else { pause };
        tokio::select! {
            () = stop.cancelled() => return,
            _ = changed.changed() => {}
            () = tokio::time::sleep_until(next), if !remotes.is_empty() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries() {
        let list = json!({"items": [{"metadata": {"name": "g"}, "versions": [
            {"version": "v1", "resources": [{"resource": "a"}], "freshness": "Current"}]}]});
        let read = aggregated(&list);
        let known = read.get(&("g".to_owned(), "v1".to_owned()));
        let want = r#"{"freshness":"Stale","resources":[{"resource":"a"}],"version":"v1"}"#;
        let sorted = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        assert_eq!(sorted(&entry("v1", known, false)), sorted(want));
        assert_eq!(sorted(&entry("v1", None, true)), json!({"version": "v1", "freshness": "Stale"}));
    }

    #[test]
    fn older_form() {
        let list = json!({"resources": [
            {"name": "as", "singularName": "a", "namespaced": true, "kind": "A", "verbs": ["get"], "shortNames": ["x"]},
            {"name": "as/status", "singularName": "", "namespaced": true, "kind": "A", "verbs": ["patch"]}]});
        let kind = json!({"group": "g", "version": "v1", "kind": "A"});
        assert_eq!(
            legacy(&list, "g", "v1"),
            json!({"version": "v1", "resources": [{"resource": "as", "responseKind": kind, "scope": "Namespaced",
                "singularResource": "a", "verbs": ["get"], "shortNames": ["x"],
                "subresources": [{"subresource": "status", "responseKind": kind, "verbs": ["patch"]}]}]})
        );
    }
}
