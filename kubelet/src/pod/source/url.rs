//! Static pods from a URL: one manifest, or a list of them. Upstream: pkg/kubelet/config/http.go, v1.37.

use std::sync::Arc;
use std::time::Duration;

use client::{Client, Config, Options, Request};
use http::{HeaderName, HeaderValue};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::manifest::{self, Origin};

/// An answer that takes longer is none.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where manifests are, and how to ask for them.
pub struct Source {
    client: Client,
    url: String,
    path: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    node: String,
}

impl Source {
    /// # Errors
    /// If the URL or a header makes no sense.
    pub fn new(url: &str, headers: &Value, node: &str) -> Result<Self, String> {
        let wrong = |e: String| format!("invalid staticPodURL (--manifest-url) {url:?}: {e}");
        let uri: http::Uri = url.parse().map_err(|e: http::uri::InvalidUri| wrong(e.to_string()))?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(wrong("it must be like http://host/path".to_owned()));
        };
        let options = Options { qps: -1.0, timeout: PATIENCE, ..Options::default() };
        let client = Client::new(Config::new(&format!("{scheme}://{authority}")), options);
        Ok(Self {
            client: client.map_err(|e| wrong(e.to_string()))?,
            url: url.to_owned(),
            path: uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string),
            headers: read_headers(headers)?,
            node: node.to_owned(),
        })
    }

    /// Asks every `period` until `stop`; hands over all pods whenever the answer is another one.
    pub async fn run(
        self,
        period: Duration,
        deliver: impl Fn(Vec<Arc<Pod>>) + Send,
        stop: CancellationToken,
    ) {
        let mut last = Vec::new();
        let mut failures = 0u32;
        loop {
            match self.look(&mut last).await {
                Ok(Some(pods)) => deliver(pods),
                Ok(None) => {}
                // What does not work for long is not said again and again.
                Err(error) if failures < 3 => tracing::info!(error, "Failed to read pods from URL"),
                Err(error) => tracing::debug!(error, "Failed to read pods from URL"),
            }
            failures = failures.saturating_add(1);
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(period) => {}
            }
        }
    }

    async fn look(&self, last: &mut Vec<u8>) -> Result<Option<Vec<Arc<Pod>>>, String> {
        let request =
            Request { accept: "*/*".into(), headers: self.headers.clone(), ..Request::get(&self.path) };
        let answer = self.client.call(&request).await.map_err(|e| format!("{}: {e}", self.url))?;
        if answer.body.is_empty() {
            return Ok(Some(Vec::new()));
        }
        if answer.body == last.as_slice() {
            return Ok(None);
        }
        *last = answer.body.to_vec();
        let text = String::from_utf8_lossy(&answer.body);
        let pods = parse(&text, &self.url, &self.node, &Timestamp::now().to_string())?;
        Ok(Some(pods.into_iter().map(Arc::new).collect()))
    }
}

/// One pod or a list of them; all of a list, or none.
fn parse(text: &str, url: &str, node: &str, now: &str) -> Result<Vec<Pod>, String> {
    let document = manifest::document(text).map_err(|e| e.to_string())?;
    let read = |document: Value| {
        manifest::pod(document, Origin::Url(url), node, now).map_err(|e| format!("{url}: {e}"))
    };
    let list = document.get("kind").and_then(Value::as_str) == Some("PodList");
    match document.get("items").and_then(Value::as_array).filter(|_| list) {
        None => Ok(vec![read(document)?]),
        Some(items) => items.iter().cloned().map(with_kind).map(read).collect(),
    }
}

/// Items of a list carry no kind.
fn with_kind(mut item: Value) -> Value {
    if let Value::Object(map) = &mut item {
        map.entry("kind").or_insert_with(|| "Pod".into());
        map.entry("apiVersion").or_insert_with(|| "v1".into());
    }
    item
}

/// Headers as the file (`{name: [values]}`) or the flag (`name:value,name:value`) has them.
fn read_headers(headers: &Value) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
    let mut out = Vec::new();
    let mut add = |name: &str, value: &str| -> Result<(), String> {
        let wrong = |e: String| format!("invalid staticPodURLHeader (--manifest-url-header) {name:?}: {e}");
        let parsed: HeaderName =
            name.trim().parse().map_err(|e: http::header::InvalidHeaderName| wrong(e.to_string()))?;
        let value = HeaderValue::from_str(value.trim()).map_err(|e| wrong(e.to_string()))?;
        out.push((parsed, value));
        Ok(())
    };
    match headers {
        Value::Object(map) => {
            for (name, values) in map {
                for value in values.as_array().into_iter().flatten().filter_map(Value::as_str) {
                    add(name, value)?;
                }
            }
        }
        Value::String(text) => {
            for pair in text.split(',').filter(|pair| !pair.is_empty()) {
                let (name, value) = pair.split_once(':').unwrap_or((pair, ""));
                add(name, value)?;
            }
        }
        _ => {}
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::view::PodView;
    use serde_json::json;

    #[test]
    fn one_or_many() {
        let pod = |name: &str| json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
        let one = with_kind(pod("a")).to_string();
        let names = |text: &str| -> Vec<String> {
            parse(text, "http://h/p", "n", "t").unwrap().iter().map(|p| p.name().to_owned()).collect()
        };
        assert_eq!(names(&one), ["a-n"]);
        assert_eq!(
            names(&json!({"kind": "PodList", "apiVersion": "v1", "items": [pod("a"), pod("b")]}).to_string()),
            ["a-n", "b-n"]
        );
        let read = parse(&one, "http://h/p", "n", "t").unwrap();
        assert_eq!(read[0].annotation("kubernetes.io/config.source"), Some("http"));
        assert!(read[0].spec().tolerations.is_none());
        assert!(parse(&json!({"kind": "PodList", "items": [{}]}).to_string(), "u", "n", "t").is_err());
    }

    #[test]
    fn headers() {
        let read = |value: Value| read_headers(&value).map(|list| list.len());
        assert_eq!(read(json!({"A": ["1", "2"]})), Ok(2));
        assert_eq!(read(json!("a:b,c:d")), Ok(2));
        assert_eq!(read(Value::Null), Ok(0));
        assert!(read(json!({"a b": ["1"]})).is_err());
        assert!(Source::new("host/path", &Value::Null, "n").is_err());
        assert!(Source::new("http://host/path?x=1", &Value::Null, "n").is_ok());
    }
}
