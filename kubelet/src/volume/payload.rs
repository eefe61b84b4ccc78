//! The files of ConfigMap, Secret and downward API volumes.
//!
//! Upstream: MakePayload in pkg/volume/configmap and pkg/volume/secret, CollectData in pkg/volume/downwardapi, v1.37.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, DownwardAPIVolumeFile, KeyToPath, Pod, Secret};

use crate::container::downward::{self, Addresses, NodeAllocatable};

/// One file of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its contents.
    pub data: Vec<u8>,
    /// Its permissions.
    pub mode: u32,
    /// Its owner, if not root.
    pub user: Option<u32>,
}

/// Files by path below the volume.
pub type Files = BTreeMap<String, File>;

/// Contents that cannot be made.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum Error {
    #[error("{kind} references non-existent {kind} key: {key}")]
    ConfigMapKey { kind: &'static str, key: String },
    #[error("references non-existent secret key: {0}")]
    SecretKey(String),
    #[error(transparent)]
    Field(#[from] downward::Error),
    #[error("{0}")]
    Source(String),
}

/// Permissions and owner of files that do not say otherwise.
#[derive(Clone, Copy, Debug)]
pub struct Defaults {
    /// Permissions.
    pub mode: u32,
    /// Owner.
    pub user: Option<u32>,
}

impl Defaults {
    /// From the API's fields; the API server sets the mode, static pods may lack it.
    pub fn new(mode: Option<i32>, user: Option<i64>) -> Self {
        Self { mode: mode_bits(mode).unwrap_or(0o644), user: user.and_then(|u| u32::try_from(u).ok()) }
    }
}

fn mode_bits(mode: Option<i32>) -> Option<u32> {
    u32::try_from(mode?).ok().map(|m| m & 0o7777)
}

fn pick(
    all: BTreeMap<String, Vec<u8>>,
    items: Option<&[KeyToPath]>,
    optional: bool,
    defaults: Defaults,
    missing: impl Fn(String) -> Error,
) -> Result<Files, Error> {
    let file = |data, mode: Option<i32>, user: Option<i64>| File {
        data,
        mode: mode_bits(mode).unwrap_or(defaults.mode),
        user: user.and_then(|u| u32::try_from(u).ok()).or(defaults.user),
    };
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        return Ok(all.into_iter().map(|(name, data)| (name, file(data, None, None))).collect());
    };
    let mut out = Files::new();
    for item in items {
        match all.get(&item.key) {
            Some(data) => drop(out.insert(item.path.clone(), file(data.clone(), item.mode, item.user))),
            None if optional => {}
            None => return Err(missing(item.key.clone())),
        }
    }
    Ok(out)
}

/// Files of a ConfigMap; `None` is an absent optional one.
///
/// # Errors
/// If a key that is asked for does not exist.
pub fn config_map(
    map: Option<&ConfigMap>,
    items: Option<&[KeyToPath]>,
    optional: bool,
    defaults: Defaults,
) -> Result<Files, Error> {
    let text = map.into_iter().flat_map(|m| m.data.iter().flatten());
    let binary = map.into_iter().flat_map(|m| m.binary_data.iter().flatten());
    let all = text
        .map(|(k, v)| (k.clone(), v.clone().into_bytes()))
        .chain(binary.map(|(k, v)| (k.clone(), v.0.clone())))
        .collect();
    pick(all, items, optional, defaults, |key| Error::ConfigMapKey { kind: "configmap", key })
}

/// Files of a Secret; `None` is an absent optional one.
///
/// # Errors
/// If a key that is asked for does not exist.
pub fn secret(
    secret: Option<&Secret>,
    items: Option<&[KeyToPath]>,
    optional: bool,
    defaults: Defaults,
) -> Result<Files, Error> {
    let data = secret.into_iter().flat_map(|s| s.data.iter().flatten());
    let all = data.map(|(k, v)| (k.clone(), v.0.clone())).collect();
    pick(all, items, optional, defaults, Error::SecretKey)
}

/// Files of the downward API.
///
/// # Errors
/// If a field or resource is unknown.
pub fn downward_api(
    items: &[DownwardAPIVolumeFile],
    pod: &Pod,
    addresses: &Addresses,
    node: &NodeAllocatable,
    defaults: Defaults,
) -> Result<Files, Error> {
    let mut out = Files::new();
    for item in items {
        let value = if let Some(field) = &item.field_ref {
            downward::field(pod, &field.field_path, addresses)?
        } else if let Some(selector) = &item.resource_field_ref {
            downward::resource(selector, pod, None, node)?
        } else {
            String::new()
        };
        let file = File {
            data: value.into_bytes(),
            mode: mode_bits(item.mode).unwrap_or(defaults.mode),
            user: item.user.and_then(|u| u32::try_from(u).ok()).or(defaults.user),
        };
        out.insert(item.path.clone(), file);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn picks_keys() {
        let map: ConfigMap =
            serde_json::from_value(json!({"data": {"a": "1", "b": "2"}, "binaryData": {"c": "AQ=="}}))
                .unwrap();
        let defaults = Defaults::new(Some(0o600), None);
        let all = config_map(Some(&map), None, false, defaults).unwrap();
        assert_eq!(all.keys().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(all["c"].data, [1]);
        let items: Vec<KeyToPath> =
            serde_json::from_value(json!([{"key": "a", "path": "x/y", "mode": 256}])).unwrap();
        let some = config_map(Some(&map), Some(&items), false, defaults).unwrap();
        assert_eq!((some["x/y"].mode, some.len()), (0o400, 1));
        let missing: Vec<KeyToPath> = serde_json::from_value(json!([{"key": "z", "path": "z"}])).unwrap();
        assert_eq!(
            config_map(Some(&map), Some(&missing), false, defaults).unwrap_err().to_string(),
            "configmap references non-existent configmap key: z"
        );
        assert!(config_map(None, Some(&missing), true, defaults).unwrap().is_empty());
    }
}
