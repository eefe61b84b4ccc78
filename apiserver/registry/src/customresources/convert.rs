//! Conversion by webhook. Upstream: `apiextensions-apiserver/pkg/apiserver/conversion/webhook_converter.go`.
//!
//! Objects are decoded in places that cannot wait (the watch cache, the bodies of lists), so the thread that needs a
//! converted object lends itself to the call; the runtime brings up another for the rest of its work meanwhile.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ::api::validation::field::{Error as FieldError, Path, aggregate};
use ::api::validation::objectmeta;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use machinery::{Map, Value};
use serde_json::json;

use crate::admission::webhook::{Backend, ClientConfig, Target};
use crate::meta;
use crate::spans;

/// Upstream's default of HTTP clients of webhooks.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The way to webhooks, handed over when the server has one.
pub(crate) type Way = Arc<OnceLock<Arc<dyn Backend>>>;

/// The conversion webhook of a definition.
pub(crate) struct Webhook {
    /// The definition's name.
    definition: String,
    client: ClientConfig,
    review_versions: Vec<String>,
    way: Way,
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhook").field("client", &self.client).finish_non_exhaustive()
    }
}

/// `group/version, Kind=kind`, as Go prints it.
fn named(object: &Value) -> String {
    let text = |field: &str| object.str_at(&[field]).unwrap_or_default();
    format!("{}, Kind={}", text("apiVersion"), text("kind"))
}

impl Webhook {
    /// The webhook of a definition that has one.
    pub(crate) fn of(definition: &CustomResourceDefinition, way: &Way) -> Option<Webhook> {
        let conversion = definition.spec.conversion.as_ref().filter(|c| c.strategy == "Webhook")?;
        let webhook = conversion.webhook.as_ref()?;
        let config = webhook.client_config.as_ref()?;
        let service = config.service.as_ref().map(|s| Target::Service {
            namespace: s.namespace.clone(),
            name: s.name.clone(),
            path: s.path.clone().unwrap_or_default(),
            port: s.port.and_then(|p| u16::try_from(p).ok()).unwrap_or(443),
        });
        let url = config.url.clone().map(Target::Url);
        let bundle = config.ca_bundle.as_ref().map(|b| b.0.clone()).unwrap_or_default();
        let blank = bundle.iter().all(u8::is_ascii_whitespace);
        Some(Webhook {
            definition: definition.metadata.name.clone().unwrap_or_default(),
            client: ClientConfig {
                target: service.or(url).unwrap_or(Target::None),
                ca_bundle: if blank { Vec::new() } else { bundle },
            },
            review_versions: webhook.conversion_review_versions.clone(),
            way: Arc::clone(way),
        })
    }

    /// Converts an object to another version of its group.
    ///
    /// # Errors
    /// Upstream's text about what failed.
    pub(crate) fn convert(&self, object: &Value, api_version: &str) -> Result<Value, String> {
        let bare = object.as_map().is_some_and(|m| m.len() == 2) && object.get("kind").is_some();
        if bare && object.get("apiVersion").is_some() {
            let mut object = object.clone();
            if let Value::Map(map) = &mut object {
                map.insert("apiVersion", api_version);
            }
            return Ok(object);
        }
        let failed =
            |what: &str, why: String| format!("conversion webhook for {} {what}: {why}", named(object));
        let version = self.review_versions.iter().find(|v| matches!(v.as_str(), "v1" | "v1beta1"));
        let version = version.ok_or("no supported conversion review versions")?;
        let uid = uuid::Uuid::new_v4().to_string();
        let span = spans::conversion(&self.definition, api_version, &uid);
        let current = span.enter();
        let answer =
            self.ask(&review(version, &uid, api_version, object)).map_err(|e| failed("failed", e))?;
        drop(current);
        span.event("Request completed", Vec::new);
        let all = converted_objects(version, &uid, answer).map_err(|e| failed("failed", e))?;
        let [converted] = &all[..] else {
            let text = format!("returned {} objects, expected 1", all.len());
            return Err(format!("conversion webhook for {} {text}", named(object)));
        };
        let mut converted = converted.clone();
        check(object, &converted, api_version).map_err(|(what, why)| failed(what, why))?;
        restore_metadata(object, &mut converted).map_err(|e| failed("returned invalid metadata", e))?;
        Ok(converted)
    }

    fn ask(&self, review: &serde_json::Value) -> Result<Value, String> {
        let backend = self.way.get().ok_or("this server has no way to webhooks")?;
        let handle = tokio::runtime::Handle::try_current().map_err(|e| e.to_string())?;
        if handle.runtime_flavor() == tokio::runtime::RuntimeFlavor::CurrentThread {
            return Err("a runtime of one thread cannot wait for a webhook".to_owned());
        }
        let bytes = bytes::Bytes::from(review.to_string());
        let call = backend.call(&self.client, bytes, TIMEOUT);
        let answer = tokio::task::block_in_place(|| handle.block_on(call));
        let answer = answer.map_err(|e| e.why.trim_start_matches("failed to call webhook: ").to_owned())?;
        machinery::json::parse(&answer).map_err(|e| e.to_string())
    }
}

fn review(version: &str, uid: &str, api_version: &str, object: &Value) -> serde_json::Value {
    json!({
        "kind": "ConversionReview", "apiVersion": format!("apiextensions.k8s.io/{version}"),
        "request": {"uid": uid, "desiredAPIVersion": api_version, "objects": [serde_json::Value::from(object)]},
        "response": {"uid": "", "convertedObjects": null, "result": {"metadata": {}}},
    })
}

/// `getConvertedObjectsFromResponse`
fn converted_objects(version: &str, uid: &str, answer: Value) -> Result<Vec<Value>, String> {
    let text = |path: &[&str]| answer.str_at(path).unwrap_or_default();
    if version == "v1" {
        let expected = "apiextensions.k8s.io/v1, Kind=ConversionReview";
        if named(&answer) != expected {
            return Err(format!("expected webhook response of {expected}, got {}", named(&answer)));
        }
    }
    if !matches!(answer.get("response"), Some(Value::Map(_))) {
        return Err("no response provided".to_owned());
    }
    let got = text(&["response", "uid"]);
    if version == "v1" && got != uid {
        return Err(format!("expected response.uid={uid:?}, got {got:?}"));
    }
    let status = text(&["response", "result", "status"]);
    if status != "Success" {
        let message = text(&["response", "result", "message"]);
        return Err(match message {
            "" => format!("response.result.status was '{status}', not 'Success'"),
            message => message.to_owned(),
        });
    }
    Ok(answer.list_at(&["response", "convertedObjects"]).cloned().unwrap_or_default().into_vec())
}

/// What a webhook may not change: what it was asked for, and who the object is.
fn check(object: &Value, converted: &Value, api_version: &str) -> Result<(), (&'static str, String)> {
    let text = |of: &Value, field: &str| of.str_at(&[field]).unwrap_or_default().to_owned();
    let at_first = "returned invalid object at index 0";
    let got = text(converted, "apiVersion");
    if got != api_version {
        return Err((at_first, format!("invalid groupVersion (expected {api_version}, received {got})")));
    }
    let (wanted, got) = (text(object, "kind"), text(converted, "kind"));
    if wanted != got {
        return Err((at_first, format!("invalid kind (expected {wanted}, received {got})")));
    }
    for (what, wanted, got) in [
        ("name", meta::name(object), meta::name(converted)),
        ("namespace", meta::namespace(object), meta::namespace(converted)),
        ("UID", meta::uid(object), meta::uid(converted)),
    ] {
        if wanted != got {
            return Err(("returned invalid object", format!("must have the same {what}: {wanted} != {got}")));
        }
    }
    Ok(())
}

/// Of the metadata a webhook may change labels and annotations only.
fn restore_metadata(object: &Value, converted: &mut Value) -> Result<(), String> {
    let Some(sent) = converted.get("metadata").cloned() else {
        return Err("missing metadata in converted object".to_owned());
    };
    let Value::Map(sent) = sent else {
        return Err(format!("invalid metadata of type {} in converted object", sent.type_name()));
    };
    let mut metadata = object.map_at(&["metadata"]).cloned().unwrap_or_default();
    for field in ["labels", "annotations"] {
        match sent.get(field) {
            None | Some(Value::Null) => drop(metadata.remove(field)),
            Some(Value::Map(new)) => {
                if metadata.get(field).and_then(Value::as_map) != Some(new) {
                    check_texts(field, new)?;
                }
                metadata.insert(field, new.clone());
            }
            Some(other) => {
                let kind = other.type_name();
                return Err(format!("invalid metadata.{field} of type {kind} in converted object"));
            }
        }
    }
    if let Value::Map(map) = converted {
        map.insert("metadata", metadata);
    }
    Ok(())
}

fn check_texts(field: &str, map: &Map) -> Result<(), String> {
    let mut texts = std::collections::BTreeMap::new();
    for (key, value) in map {
        let Value::Str(text) = value else {
            let kind = value.type_name();
            return Err(format!(
                "metadata.{field}[{key}] must be a string, but is {kind} in converted object"
            ));
        };
        texts.insert(key.to_string(), text.to_string());
    }
    let metadata = Path::new("metadata");
    let errors: Vec<FieldError> = match field {
        "labels" => objectmeta::validate_labels(Some(&texts), &metadata.child("labels")),
        _ => objectmeta::validate_annotations(Some(&texts), &metadata.child("annotation")),
    };
    if errors.is_empty() { Ok(()) } else { Err(aggregate(&errors)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::Operation;
    use crate::admission::webhook::{CallFailed, Observation, Phase};
    use async_trait::async_trait;
    use bytes::Bytes;

    /// Answers with the objects it is sent, changed by `change`.
    struct Fake(fn(&mut serde_json::Value));

    #[async_trait]
    impl Backend for Fake {
        async fn call(&self, _: &ClientConfig, review: Bytes, _: Duration) -> Result<Bytes, CallFailed> {
            let mut review: serde_json::Value = serde_json::from_slice(&review).unwrap();
            let mut objects = review["request"]["objects"].take();
            objects[0]["apiVersion"] = review["request"]["desiredAPIVersion"].clone();
            review["response"] = json!({"uid": review["request"]["uid"], "convertedObjects": objects,
                "result": {"status": "Success"}});
            (self.0)(&mut review);
            Ok(review.to_string().into())
        }

        fn observe(&self, _: Observation<'_>) {}

        fn excluded(&self, _: &str, _: Phase, _: Operation) {}
    }

    async fn converted(change: fn(&mut serde_json::Value)) -> Result<Value, String> {
        let way = Way::default();
        let backend: Arc<dyn Backend> = Arc::new(Fake(change));
        assert!(way.set(backend).is_ok());
        let client = ClientConfig { target: Target::None, ca_bundle: Vec::new() };
        let webhook =
            Webhook { definition: "foos.ex.com".into(), client, review_versions: vec!["v1".into()], way };
        let object = Value::from(json!({"apiVersion": "ex.com/v1", "kind": "Foo",
            "metadata": {"name": "a", "uid": "u", "labels": {"x": "y"}}, "spec": {}}));
        webhook.convert(&object, "ex.com/v2")
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn believes_what_it_may() {
        let object = converted(|r| {
            let object = &mut r["response"]["convertedObjects"][0];
            object["metadata"] = json!({"name": "a", "uid": "u", "labels": {"x": "z"}, "generation": 9});
            object["spec"]["new"] = json!(1);
        });
        let object = object.await.unwrap();
        assert_eq!(object.str_at(&["apiVersion"]), Some("ex.com/v2"));
        assert_eq!(object.str_at(&["metadata", "labels", "x"]), Some("z"));
        assert_eq!(object.i64_at(&["spec", "new"]), Some(1));
        assert_eq!(object.get_path(&["metadata", "generation"]), None);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn refuses_the_rest() {
        const FOR: &str = "conversion webhook for ex.com/v1, Kind=Foo";
        let name = converted(|r| r["response"]["convertedObjects"][0]["metadata"]["name"] = json!("b")).await;
        let text = format!("{FOR} returned invalid object: must have the same name: a != b");
        assert_eq!(name.unwrap_err(), text);
        let failed =
            converted(|r| r["response"]["result"] = json!({"status": "Failure", "message": "no"})).await;
        assert_eq!(failed.unwrap_err(), format!("{FOR} failed: no"));
        let none = converted(|r| r["response"]["convertedObjects"] = json!([])).await;
        assert_eq!(none.unwrap_err(), format!("{FOR} returned 0 objects, expected 1"));
        let label =
            converted(|r| r["response"]["convertedObjects"][0]["metadata"]["labels"]["x"] = json!(1)).await;
        let text = "metadata.labels[x] must be a string, but is number in converted object";
        assert_eq!(label.unwrap_err(), format!("{FOR} returned invalid metadata: {text}"));
    }
}
