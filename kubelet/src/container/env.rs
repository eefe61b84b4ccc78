//! The environment of a container.
//!
//! Order of precedence: `env` over `envFrom` over service variables. References may point at what was set before them.
//! Upstream: pkg/kubelet/kubelet_pods.go makeEnvironmentVariables, v1.37.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVarSource, Pod, Secret};

use super::downward::{self, Addresses, NodeAllocatable};
use super::expansion::expand;
use crate::pod::view::PodView;

/// Why an environment cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Fetch(String),
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    Key { kind: &'static str, namespace: String, name: String, key: String },
    #[error(transparent)]
    Field(#[from] downward::Error),
    #[error("cannot find the volume {0:?} referenced by FileKeyRef")]
    Volume(String),
    #[error("couldn't parse env file")]
    File,
    #[error("environment variable key {key:?} not found in file {file:?}")]
    FileKey { key: String, file: String },
}

/// An object that was looked up: there, absent, or not to be had (with the API's words).
#[derive(Clone, Debug)]
pub enum Fetched<T> {
    /// The object.
    Found(Arc<T>),
    /// It does not exist; the API's words.
    NotFound(String),
    /// It could not be read; the reason.
    Failed(String),
}

impl<T> Fetched<T> {
    /// The object; `None` if it is absent and that is allowed.
    fn get(&self, optional: bool) -> Result<Option<&T>, Error> {
        match self {
            Fetched::Found(object) => Ok(Some(object)),
            Fetched::NotFound(_) if optional => Ok(None),
            Fetched::NotFound(text) | Fetched::Failed(text) => Err(Error::Fetch(text.clone())),
        }
    }
}

/// Names of the objects that a container's environment refers to.
#[derive(Debug, Default, PartialEq)]
pub struct References {
    /// ConfigMaps in the pod's namespace.
    pub config_maps: BTreeSet<String>,
    /// Secrets in the pod's namespace.
    pub secrets: BTreeSet<String>,
}

/// What has to be read before [`environment`] can be called.
pub fn references(container: &Container) -> References {
    let mut out = References::default();
    for from in container.env_from.iter().flatten() {
        out.config_maps.extend(from.config_map_ref.iter().map(|r| r.name.clone()));
        out.secrets.extend(from.secret_ref.iter().map(|r| r.name.clone()));
    }
    for source in container.env.iter().flatten().filter_map(|var| var.value_from.as_ref()) {
        out.config_maps.extend(source.config_map_key_ref.iter().map(|r| r.name.clone()));
        out.secrets.extend(source.secret_key_ref.iter().map(|r| r.name.clone()));
    }
    out
}

/// Everything that an environment may be made from.
pub struct Inputs<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// Addresses of node and pod.
    pub addresses: &'a Addresses,
    /// What the node has for pods.
    pub node: &'a NodeAllocatable,
    /// Variables of services.
    pub services: &'a BTreeMap<String, String>,
    /// ConfigMaps by name.
    pub config_maps: &'a HashMap<String, Fetched<ConfigMap>>,
    /// Secrets by name.
    pub secrets: &'a HashMap<String, Fetched<Secret>>,
    /// Host paths of volumes by name.
    pub volumes: &'a HashMap<String, std::path::PathBuf>,
}

/// The container's variables by name.
///
/// # Errors
/// If something it refers to is missing and not optional.
pub fn environment(container: &Container, inputs: &Inputs<'_>) -> Result<BTreeMap<String, String>, Error> {
    let mut set: BTreeMap<String, String> = BTreeMap::new();
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        if let Some(r) = &from.config_map_ref
            && let Some(map) = lookup(inputs.config_maps, &r.name, r.optional)?
        {
            set.extend(map.data.iter().flatten().map(|(k, v)| (format!("{prefix}{k}"), v.clone())));
        } else if let Some(r) = &from.secret_ref
            && let Some(secret) = lookup(inputs.secrets, &r.name, r.optional)?
        {
            let text = |v: &[u8]| String::from_utf8_lossy(v).into_owned();
            set.extend(secret.data.iter().flatten().map(|(k, v)| (format!("{prefix}{k}"), text(&v.0))));
        }
    }
    for var in container.env.iter().flatten() {
        let given = var.value.as_deref().unwrap_or_default();
        let value = if !given.is_empty() {
            expand(given, |name| set.get(name).or_else(|| inputs.services.get(name)).cloned())
        } else if let Some(source) = &var.value_from {
            match from_source(source, container, inputs)? {
                Some(value) => value,
                None => continue,
            }
        } else {
            String::new()
        };
        set.insert(var.name.clone(), value);
    }
    for (name, value) in inputs.services {
        set.entry(name.clone()).or_insert_with(|| value.clone());
    }
    Ok(set)
}

fn lookup<'a, T>(
    from: &'a HashMap<String, Fetched<T>>,
    name: &str,
    optional: Option<bool>,
) -> Result<Option<&'a T>, Error> {
    match from.get(name) {
        Some(fetched) => fetched.get(optional.unwrap_or(false)),
        None => Err(Error::Fetch(format!("object {name:?} was not read"))),
    }
}

/// Value of a `valueFrom`; `None` if what it names is absent and optional.
fn from_source(
    source: &EnvVarSource,
    container: &Container,
    inputs: &Inputs<'_>,
) -> Result<Option<String>, Error> {
    let namespace = || inputs.pod.namespace().to_owned();
    if let Some(r) = &source.field_ref {
        return Ok(Some(downward::field(inputs.pod, &r.field_path, inputs.addresses)?));
    }
    if let Some(r) = &source.resource_field_ref {
        return Ok(Some(downward::resource(r, inputs.pod, Some(container), inputs.node)?));
    }
    if let Some(r) = &source.config_map_key_ref {
        let optional = r.optional.unwrap_or(false);
        let Some(map) = lookup(inputs.config_maps, &r.name, r.optional)? else { return Ok(None) };
        return match map.data.as_ref().and_then(|data| data.get(&r.key)) {
            Some(value) => Ok(Some(value.clone())),
            None if optional => Ok(None),
            None => {
                let (name, key) = (r.name.clone(), r.key.clone());
                Err(Error::Key { kind: "ConfigMap", namespace: namespace(), name, key })
            }
        };
    }
    if let Some(r) = &source.secret_key_ref {
        let optional = r.optional.unwrap_or(false);
        let Some(secret) = lookup(inputs.secrets, &r.name, r.optional)? else { return Ok(None) };
        return match secret.data.as_ref().and_then(|data| data.get(&r.key)) {
            Some(value) => Ok(Some(String::from_utf8_lossy(&value.0).into_owned())),
            None if optional => Ok(None),
            None => {
                let (name, key) = (r.name.clone(), r.key.clone());
                Err(Error::Key { kind: "Secret", namespace: namespace(), name, key })
            }
        };
    }
    if let Some(r) = &source.file_key_ref {
        let root = inputs.volumes.get(&r.volume_name).ok_or_else(|| Error::Volume(r.volume_name.clone()))?;
        return match file_key(root, &r.path, &r.key)? {
            Some(value) => Ok(Some(value)),
            None if r.optional.unwrap_or(false) => Ok(None),
            None => {
                Err(Error::FileKey { key: r.key.clone(), file: root.join(&r.path).display().to_string() })
            }
        };
    }
    Ok(Some(String::new()))
}

/// Longest environment file that is read; the API allows much less per value.
const ENV_FILE_LIMIT: u64 = 64 << 10;

/// Value of `key` in an environment file of a volume: lines `KEY='value'`, `#` comments, blank lines.
fn file_key(root: &Path, path: &str, key: &str) -> Result<Option<String>, Error> {
    use std::io::Read as _;
    let file = sys::open_beneath(root, Path::new(path)).map_err(|_| Error::File)?;
    let mut text = String::new();
    file.take(ENV_FILE_LIMIT).read_to_string(&mut text).map_err(|_| Error::File)?;
    for line in text.lines() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = line.split_once('=').ok_or(Error::File)?;
        if name.trim() != key {
            continue;
        }
        let value = value.trim();
        let quoted = value.strip_prefix('\'').and_then(|v| v.strip_suffix('\'')).ok_or(Error::File)?;
        return Ok(Some(quoted.to_owned()));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn build(container: serde_json::Value) -> Result<BTreeMap<String, String>, String> {
        let container: Container = serde_json::from_value(container).unwrap();
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n"}})).unwrap();
        let map: ConfigMap = serde_json::from_value(json!({"data": {"k": "v", "A": "from"}})).unwrap();
        let config_maps = HashMap::from([
            ("m".to_owned(), Fetched::Found(Arc::new(map))),
            ("gone".to_owned(), Fetched::NotFound("configmap \"gone\" not found".into())),
        ]);
        let inputs = Inputs {
            pod: &pod,
            addresses: &Addresses::default(),
            node: &NodeAllocatable::default(),
            services: &BTreeMap::from([("SVC".to_owned(), "10.0.0.1".to_owned())]),
            config_maps: &config_maps,
            secrets: &HashMap::new(),
            volumes: &HashMap::new(),
        };
        environment(&container, &inputs).map_err(|e| e.to_string())
    }

    #[test]
    fn precedence_and_references() {
        let env = build(json!({"name": "c", "envFrom": [{"prefix": "P_", "configMapRef": {"name": "m"}}, {"configMapRef": {"name": "m"}}],
            "env": [{"name": "A", "value": "$(P_k)-$(SVC)-$(NO)"}, {"name": "B", "value": "$(A)"},
                {"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "SVC", "value": "mine"}]}))
        .unwrap();
        assert_eq!(env["A"], "v-10.0.0.1-$(NO)");
        assert_eq!(env["B"], env["A"]);
        assert_eq!(env["P_A"], "from");
        assert_eq!(env["N"], "p");
        assert_eq!(env["SVC"], "mine");
    }

    #[test]
    fn missing_objects() {
        let key = |optional: bool| json!({"name": "c", "env": [{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "none", "optional": optional}}}]});
        assert_eq!(build(key(false)).unwrap_err(), "couldn't find key none in ConfigMap n/m");
        assert!(!build(key(true)).unwrap().contains_key("X"));
        let gone = json!({"name": "c", "envFrom": [{"configMapRef": {"name": "gone"}}]});
        assert_eq!(build(gone).unwrap_err(), "configmap \"gone\" not found");
    }
}
