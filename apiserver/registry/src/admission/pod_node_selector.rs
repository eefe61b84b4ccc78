//! PodNodeSelector: a namespace's pods go to the nodes that its annotation, or the configuration, selects.
//! Upstream: `plugin/pkg/admission/podnodeselector/admission.go`.

use std::collections::BTreeMap;

use ::api::validation::content;
use async_trait::async_trait;
use machinery::{Map, Value};

use super::{Attributes, Operation, Plugin};
use crate::errors::ApiError;
use crate::meta;

/// The annotation of namespaces.
const ANNOTATION: &str = "scheduler.alpha.kubernetes.io/node-selector";
/// The entry of the configuration that is of no namespace.
const DEFAULT: &str = "clusterDefaultNodeSelector";

type Labels = BTreeMap<String, String>;

/// The plugin, with the selectors of `podNodeSelectorPluginConfig`: what pods of a namespace may select, and the default.
#[derive(Debug, Default)]
pub struct PodNodeSelector(pub BTreeMap<String, String>);

#[async_trait]
impl Plugin for PodNodeSelector {
    fn name(&self) -> &'static str {
        "PodNodeSelector"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    async fn admit(&self, a: &mut Attributes<'_>) -> Result<(), ApiError> {
        if !a.is("", "pods") {
            return Ok(());
        }
        let namespace = namespace(a).await?;
        let Some(pod) = a.object.as_mut() else { return Ok(()) };
        let own = selector(pod);
        let mut merged = self.of_namespace(&namespace).map_err(plain)?;
        if conflicts(&merged, &own) {
            return Err(refusal(pod, CONFLICT));
        }
        merged.extend(own);
        let map: Map = merged.into_iter().collect();
        pod.set_path(&["spec", "nodeSelector"], map).map_err(ApiError::internal)?;
        self.check(pod, &namespace, &a.namespace)
    }

    async fn validate(&self, a: &Attributes<'_>) -> Result<(), ApiError> {
        let Some(pod) = a.object.as_ref().filter(|_| a.is("", "pods")) else { return Ok(()) };
        self.check(pod, &namespace(a).await?, &a.namespace)
    }
}

const CONFLICT: &str = "pod node label selector conflicts with its namespace node label selector";
const NOT_ALLOWED: &str = "pod node label selector labels conflict with its namespace whitelist";

impl PodNodeSelector {
    fn check(&self, pod: &Value, namespace: &Value, name: &str) -> Result<(), ApiError> {
        let own = selector(pod);
        if conflicts(&self.of_namespace(namespace).map_err(plain)?, &own) {
            return Err(refusal(pod, CONFLICT));
        }
        let allowed = self.0.get(name).map_or("", String::as_str);
        let allowed = parse(allowed).map_err(plain)?;
        if !allowed.is_empty() && !own.iter().all(|(key, value)| allowed.get(key) == Some(value)) {
            return Err(refusal(pod, NOT_ALLOWED));
        }
        Ok(())
    }

    fn of_namespace(&self, namespace: &Value) -> Result<Labels, String> {
        let annotation = meta::annotation(namespace, ANNOTATION);
        parse(annotation.unwrap_or_else(|| self.0.get(DEFAULT).map_or("", String::as_str)))
    }
}

/// An error without a status of its own.
fn plain(text: String) -> ApiError {
    ApiError::new(500, "", text)
}

fn refusal(pod: &Value, why: &str) -> ApiError {
    ApiError::forbidden("", "pods", meta::name(pod), why)
}

async fn namespace(a: &Attributes<'_>) -> Result<Value, ApiError> {
    let found = a.call.core.find("", "namespaces", "", &a.namespace).await?;
    found.ok_or_else(|| ApiError::internal(format!("namespace {} does not exist", a.namespace)))
}

fn selector(pod: &Value) -> Labels {
    let map = pod.map_at(&["spec", "nodeSelector"]);
    let entries = map.into_iter().flat_map(|map| map.iter());
    entries.filter_map(|(key, value)| Some((key.to_string(), value.as_str()?.to_owned()))).collect()
}

fn conflicts(a: &Labels, b: &Labels) -> bool {
    a.iter().any(|(key, value)| b.get(key).is_some_and(|other| other != value))
}

/// `key=value` pairs separated by commas. Upstream: `labels.ConvertSelectorToLabelsMap`.
fn parse(selector: &str) -> Result<Labels, String> {
    let mut labels = Labels::new();
    if selector.is_empty() {
        return Ok(labels);
    }
    for pair in selector.split(',') {
        let parts: Vec<&str> = pair.split('=').collect();
        let [key, value] = parts.as_slice() else {
            return Err(format!("invalid selector: [{}]", parts.join(" ")));
        };
        let (key, value) = (key.trim(), value.trim());
        let refusals = content::qualified_name(key);
        if !refusals.is_empty() {
            return Err(format!("<nil>: Invalid value: {key:?}: {}", refusals.join("; ")));
        }
        let refusals = content::label_value(value);
        if !refusals.is_empty() {
            return Err(format!("[{key}]: Invalid value: {value:?}: {}", refusals.join("; ")));
        }
        labels.insert(key.to_owned(), value.to_owned());
    }
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Of upstream's `TestPodAdmission`, without the annotation of a namespace that ignores it.
    #[test]
    fn selectors_are_merged_and_limited() {
        let plugin = |default: &str, allowed: &str| {
            PodNodeSelector([(DEFAULT, default), ("n", allowed)].map(|(k, v)| (k.into(), v.into())).into())
        };
        let namespace = |selector: Option<&str>| {
            let annotations = selector.map(|s| json!({ANNOTATION: s}));
            Value::from(json!({"metadata": {"name": "n", "annotations": annotations}}))
        };
        let env = "env = test, infra = true";
        // Default of the cluster, what is allowed, of the namespace, of the pod; the sum or why not.
        type Pairs = &'static [(&'static str, &'static str)];
        type Case<'a> = (&'a str, &'a str, Option<&'a str>, Pairs, Result<Pairs, &'a str>);
        let cases: [Case<'_>; 9] = [
            ("", "", None, &[], Ok(&[])),
            ("infra=false", "", None, &[], Ok(&[("infra", "false")])),
            ("infra = false", "", Some("infra=true"), &[], Ok(&[("infra", "true")])),
            (env, "", None, &[("env", "test")], Ok(&[("env", "test"), ("infra", "true")])),
            ("", "", Some("infra=true"), &[("infra", "false")], Err(CONFLICT)),
            (env, env, None, &[("color", "red")], Err(NOT_ALLOWED)),
            (env, env, None, &[("env", "test")], Ok(&[("env", "test"), ("infra", "true")])),
            ("", "infra=false", Some("infra=true"), &[], Err(NOT_ALLOWED)),
            ("", env, Some(""), &[("env", "dev")], Err(NOT_ALLOWED)),
        ];
        for (default, allowed, own, pod, want) in cases {
            let (plugin, namespace) = (plugin(default, allowed), namespace(own));
            let labels = |pairs: Pairs| -> Labels {
                pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
            };
            let mut merged = plugin.of_namespace(&namespace).unwrap();
            merged.extend(labels(pod));
            let plain = json!({"metadata": {"name": "p"}, "spec": {"nodeSelector": labels(pod)}});
            let sum = json!({"metadata": {"name": "p"}, "spec": {"nodeSelector": merged}});
            let checked = plugin
                .check(&Value::from(plain), &namespace, "none")
                .and_then(|()| plugin.check(&Value::from(sum), &namespace, "n"));
            let checked = checked.map(|()| merged);
            match (checked, want) {
                (Ok(merged), Ok(want)) => assert_eq!(merged, labels(want), "{default} {allowed} {own:?}"),
                (Err(error), Err(want)) => {
                    assert_eq!(error.message, format!("pods \"p\" is forbidden: {want}"));
                }
                (got, want) => panic!("{default} {allowed}: {got:?} {want:?}"),
            }
        }
    }

    #[test]
    fn odd_selectors() {
        assert_eq!(parse("a=b,c").unwrap_err(), "invalid selector: [c]");
        assert_eq!(parse("a=b=c").unwrap_err(), "invalid selector: [a b c]");
        assert!(parse("!=c").is_err());
        assert!(parse("a=-").is_err());
    }
}
