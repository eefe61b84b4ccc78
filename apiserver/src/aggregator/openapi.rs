//! OpenAPI of other servers: their index of v3 documents, of which the paths of their group-versions are added to this
//! server's, and their v2 document, of which the same parts are added to this server's.
//! Upstream: `kube-aggregator/pkg/controllers/{openapi,openapiv3}/aggregator`.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use auth::UserInfo;
use bytes::Bytes;
use http::Request;
use http::header::ACCEPT;
use serde_json::{Map, Value};

use super::{Remote, Service, proxy};
use crate::web::body;

const FETCH: std::time::Duration = std::time::Duration::from_secs(5);
const MOST: usize = 32 << 20;

/// What is known of the specifications of remote group-versions.
#[derive(Default)]
pub(crate) struct Specs(ArcSwap<Known>);

#[derive(Default)]
struct Known {
    /// By path (`apis/g/v`): the URL with its hash.
    v3: BTreeMap<String, String>,
    /// Parts of v2 documents, by path of the group-version.
    v2: BTreeMap<String, Arc<Value>>,
}

fn path_of(service: &Service) -> String {
    match service.group.as_str() {
        "" => format!("api/{}", service.version),
        group => format!("apis/{group}/{}", service.version),
    }
}

async fn get(remote: &Remote, path: &str) -> Result<Bytes, String> {
    let pool = remote.pool.as_ref().map_err(Clone::clone)?;
    let request = Request::get(path).header(ACCEPT, "application/json");
    let mut request = request.body(body::empty()).map_err(|e| e.to_string())?;
    let user = UserInfo::new("system:aggregator", &["system:authenticated"]);
    proxy::identify(request.headers_mut(), &user);
    let sent = tokio::time::timeout(FETCH, pool.send(request, MOST)).await;
    match sent.map_err(|_| "request timed out".to_owned())?? {
        answer if answer.status == 200 => Ok(answer.body),
        answer => Err(format!("status {}", answer.status)),
    }
}

impl Specs {
    /// The v3 documents of other servers: path and URL.
    pub(crate) fn v3(&self) -> BTreeMap<String, String> {
        self.0.load().v3.clone()
    }

    /// Parts of v2 documents that are to be merged.
    pub(crate) fn v2(&self) -> Vec<Arc<Value>> {
        self.0.load().v2.values().cloned().collect()
    }

    /// Asks available servers again; what others said before stays known while they are registered.
    pub(super) async fn refresh(&self, services: &[Arc<Service>]) {
        let before = self.0.load_full();
        let mut known = Known::default();
        for service in services {
            let Some(remote) = &service.remote else { continue };
            let path = path_of(service);
            let keep = |known: &mut Known| {
                known.v3.extend(before.v3.get_key_value(&path).map(|(k, v)| (k.clone(), v.clone())));
                known.v2.extend(before.v2.get_key_value(&path).map(|(k, v)| (k.clone(), v.clone())));
            };
            if !remote.available {
                keep(&mut known);
                continue;
            }
            match v3_url(remote, &path).await {
                Ok(url) => {
                    // The hash tells whether anything changed at all.
                    let same = before.v3.get(&path) == Some(&url) && before.v2.contains_key(&path);
                    known.v3.insert(path.clone(), url);
                    let part = match same {
                        true => before.v2.get(&path).cloned(),
                        false => v2_part(remote, &path).await.ok().map(Arc::new),
                    };
                    known.v2.extend(part.map(|part| (path.clone(), part)));
                }
                Err(why) => {
                    tracing::debug!(service = remote.key(), err = why, "no OpenAPI document");
                    keep(&mut known);
                }
            }
        }
        self.0.store(Arc::new(known));
    }
}

/// The URL of a group-version's document in the server's index.
async fn v3_url(remote: &Remote, path: &str) -> Result<String, String> {
    let index = get(remote, "/openapi/v3").await?;
    let index: Value = serde_json::from_slice(&index).map_err(|e| e.to_string())?;
    let url = index["paths"][path]["serverRelativeURL"].as_str();
    url.map(str::to_owned).ok_or_else(|| format!("no document of {path}"))
}

/// The paths of a group-version in the server's v2 document, with the definitions and parameters they use.
async fn v2_part(remote: &Remote, path: &str) -> Result<Value, String> {
    let document = get(remote, "/openapi/v2").await?;
    let document: Value = serde_json::from_slice(&document).map_err(|e| e.to_string())?;
    Ok(part(&document, path))
}

fn part(document: &Value, path: &str) -> Value {
    let prefix = format!("/{path}/");
    let own = |p: &str| p.starts_with(&prefix) || format!("{p}/") == prefix;
    let all = document["paths"].as_object().into_iter().flatten();
    let paths: Map<String, Value> =
        all.filter(|(p, _)| own(p)).map(|(p, v)| (p.clone(), v.clone())).collect();
    let mut out = serde_json::json!({"definitions": {}, "parameters": {}});
    let mut open: Vec<Value> = vec![Value::Object(paths.clone())];
    while let Some(value) = open.pop() {
        let mut names = Vec::new();
        references(&value, &mut names);
        for (kind, name) in names {
            let Some(found) = document.get(kind).and_then(|all| all.get(&name)) else { continue };
            if out[kind].get(&name).is_none() {
                out[kind][name.as_str()] = found.clone();
                open.push(found.clone());
            }
        }
    }
    out["paths"] = Value::Object(paths);
    out
}

/// Names of definitions and parameters that are referred to.
fn references(value: &Value, out: &mut Vec<(&'static str, String)>) {
    match value {
        Value::Object(map) => {
            if let Some(name) = map.get("$ref").and_then(Value::as_str) {
                out.extend(name.strip_prefix("#/definitions/").map(|n| ("definitions", n.to_owned())));
                out.extend(name.strip_prefix("#/parameters/").map(|n| ("parameters", n.to_owned())));
            }
            map.values().for_each(|v| references(v, out));
        }
        Value::Array(list) => list.iter().for_each(|v| references(v, out)),
        _ => {}
    }
}

/// Adds parts to this server's document. Definitions both know stay this server's; of two that differ under one name,
/// the other's gets a number and its references with it. Names of parameters have a hash of what they say.
pub(crate) fn merge(document: &mut Value, parts: &[Arc<Value>]) {
    for part in parts {
        let mut part = (**part).clone();
        rename(document, &mut part);
        for field in ["definitions", "parameters", "paths"] {
            let (Some(own), Some(add)) = (document[field].as_object_mut(), part[field].as_object()) else {
                continue;
            };
            for (name, value) in add {
                own.entry(name.clone()).or_insert_with(|| value.clone());
            }
        }
    }
}

/// Kinds of `meta/v1` and the like are the same in all servers but for their prose, so only other names are compared.
fn rename(document: &Value, part: &mut Value) {
    let own = document["definitions"].as_object();
    let shared = |name: &str| name.starts_with("io.k8s.apimachinery.");
    let clashes: Vec<String> = part["definitions"]
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, value)| {
            !shared(name) && own.and_then(|o| o.get(*name)).is_some_and(|have| have != *value)
        })
        .map(|(name, _)| name.clone())
        .collect();
    for name in clashes {
        let is_free =
            |n: &String| own.is_none_or(|o| !o.contains_key(n)) && part["definitions"].get(n).is_none();
        let Some(new) = (2..1000).map(|i| format!("{name}_v{i}")).find(is_free) else { continue };
        if let Some(all) = part["definitions"].as_object_mut()
            && let Some(value) = all.remove(&name)
        {
            all.insert(new.clone(), value);
        }
        let (from, to) = (format!("#/definitions/{name}"), format!("#/definitions/{new}"));
        redirect(part, &from, &to);
    }
}

fn redirect(value: &mut Value, from: &str, to: &str) {
    match value {
        Value::Object(map) => {
            if map.get("$ref").and_then(Value::as_str) == Some(from) {
                map.insert("$ref".to_owned(), to.into());
            }
            map.values_mut().for_each(|v| redirect(v, from, to));
        }
        Value::Array(list) => list.iter_mut().for_each(|v| redirect(v, from, to)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn parts_are_cut_out_and_merged() {
        let reference = |name: &str| json!({"$ref": format!("#/definitions/{name}")});
        let other = json!({
            "paths": {"/apis/g/v1/": {}, "/apis/g/v1/as": {"get": reference("A"), "parameters": [{"$ref": "#/parameters/p-1"}]}, "/apis/h/v1/": {"get": reference("H")}},
            "definitions": {"A": {"properties": {"b": reference("B"), "a": reference("A")}}, "B": {"type": "string"}, "H": {}},
            "parameters": {"p-1": {"name": "p"}, "q-1": {"name": "q"}},
        });
        let part = part(&other, "apis/g/v1");
        assert_eq!(part["paths"].as_object().unwrap().len(), 2);
        assert_eq!(part["definitions"].as_object().unwrap().keys().collect::<Vec<_>>(), ["A", "B"]);
        assert_eq!(part["parameters"], json!({"p-1": {"name": "p"}}));
        let definitions = json!({"B": {"type": "integer"}});
        let mut own = json!({"paths": {"/api/": {}}, "definitions": definitions, "parameters": {}});
        merge(&mut own, &[Arc::new(part)]);
        assert_eq!(own["definitions"]["A"]["properties"]["b"], reference("B_v2"));
        assert_eq!(own["definitions"]["B"]["type"], "integer");
        assert!(own["paths"].get("/apis/g/v1/as").is_some());
        assert!(own["parameters"].get("p-1").is_some());
    }
}
