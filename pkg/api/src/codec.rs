//! Typed objects from and to bytes, in the three media types of the API.
//!
//! JSON is read leniently by the type itself; protobuf is read with the help of the type table. Writing always goes
//! through the table, so the bytes are the ones upstream would write for the same object.

use crate::types;
use machinery::schema::TypeId;
use machinery::value::{self, Value};
use machinery::{json, proto, yaml};
pub use proto::ManagedFields;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A media type of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MediaType {
    Json,
    Protobuf,
    Yaml,
}

impl MediaType {
    /// The media type of a Content-Type header, parameters ignored.
    pub fn of(content_type: &str) -> Option<Self> {
        match content_type.split(';').next()?.trim() {
            "application/json" => Some(MediaType::Json),
            "application/vnd.kubernetes.protobuf" => Some(MediaType::Protobuf),
            "application/yaml" => Some(MediaType::Yaml),
            _ => None,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            MediaType::Json => "application/json",
            MediaType::Protobuf => "application/vnd.kubernetes.protobuf",
            MediaType::Yaml => "application/yaml",
        }
    }
}

/// Why an object could not be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Json(#[from] json::Error),
    #[error(transparent)]
    Protobuf(#[from] proto::Error),
    /// The document is sound but is not the wanted type.
    #[error("{0}")]
    Type(String),
    #[error("no kind {kind:?} is registered for version {api_version:?}; only JSON can carry it")]
    Unknown { api_version: String, kind: String },
    #[error(transparent)]
    Yaml(#[from] yaml::Error),
}

impl From<value::Error> for Error {
    fn from(e: value::Error) -> Self {
        Error::Type(e.to_string())
    }
}

/// Reads a typed object: any k8s-openapi kind, `List<K>`, `Status`.
pub fn decode<K: DeserializeOwned>(media: MediaType, data: &[u8]) -> Result<K, Error> {
    decode_with(media, data, ManagedFields::Read)
}

/// As [`decode`]; managed fields may be left unread where the medium allows it.
pub fn decode_with<K: DeserializeOwned>(
    media: MediaType,
    data: &[u8],
    managed: ManagedFields,
) -> Result<K, Error> {
    match media {
        MediaType::Json => serde_json::from_slice(data).map_err(|e| Error::Type(e.to_string())),
        MediaType::Protobuf => proto::from_slice(types(), data, managed).map_err(|e| match e {
            proto::TypedError::Protobuf(e) => Error::Protobuf(e),
            proto::TypedError::Type(e) => e.into(),
        }),
        MediaType::Yaml => Ok(value::from_value(&yaml::parse(data)?)?),
    }
}

/// Writes a typed object. Its `apiVersion` and `kind` say which type of the table it is; of kinds that the table
/// does not know (custom resources) JSON can be written.
pub fn encode<K: Serialize + ?Sized>(media: MediaType, object: &K) -> Result<Vec<u8>, Error> {
    encode_tree(media, &value::to_value(object)?)
}

/// As [`encode`] for types that do not carry `apiVersion` and `kind` themselves, such as DeleteOptions.
pub fn encode_as<K: Serialize + ?Sized>(
    media: MediaType,
    api_version: &str,
    kind: &str,
    object: &K,
) -> Result<Vec<u8>, Error> {
    let mut tree = value::to_value(object)?;
    if let Some(m) = tree.as_map_mut() {
        m.insert("apiVersion", api_version);
        m.insert("kind", kind);
    }
    encode_tree(media, &tree)
}

/// Writes a tree by its `apiVersion` and `kind`.
pub fn encode_tree(media: MediaType, tree: &Value) -> Result<Vec<u8>, Error> {
    match (media, type_of(tree)) {
        (MediaType::Json, Ok(id)) => Ok(json::encode(types(), id, tree)),
        (MediaType::Json, Err(_)) => Ok(json::encode_any(tree)),
        (MediaType::Protobuf, id) => Ok(proto::encode(types(), id?, tree)),
        (MediaType::Yaml, id) => {
            let text = id.map_or_else(|_| json::encode_any(tree), |id| json::encode(types(), id, tree));
            let mut out = String::new();
            yaml::write(&json::parse(&text)?, &mut out);
            Ok(out.into_bytes())
        }
    }
}

/// The table's type of a tree, by its `apiVersion` and `kind`.
pub fn type_of(tree: &Value) -> Result<TypeId, Error> {
    let text = |key| tree.get(key).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let unknown = || Error::Unknown { api_version: api_version.to_owned(), kind: kind.to_owned() };
    types().kind(api_version, kind).ok_or_else(unknown)
}

/// The table's type of a k8s-openapi kind.
pub fn type_id<K: k8s_openapi::Resource>() -> Option<TypeId> {
    types().kind(K::API_VERSION, K::KIND)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::apps::v1::Deployment;
    use k8s_openapi::api::core::v1::{Pod, Secret};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{DeleteOptions, Status};
    use k8s_openapi::{ByteString, List};
    use serde_json::json;

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "p", "creationTimestamp": "2026-01-02T03:04:05Z", "managedFields": [
                {"manager": "m", "fieldsV1": {"f:spec": {}}, "time": "2026-01-02T03:04:05Z"}]},
            "spec": {"containers": [{"name": "c", "image": "i", "resources": {"limits": {"cpu": "100m"}},
                "livenessProbe": {"httpGet": {"port": "http"}, "periodSeconds": 5}}],
                "volumes": [{"name": "v", "emptyDir": {}}, {"name": "w", "configMap": {"name": "cm"}}]},
            "status": {"phase": "Running", "startTime": "2026-01-02T03:04:05Z"}
        }))
        .unwrap()
    }

    #[test]
    fn typed_objects_survive_every_medium() {
        for media in [MediaType::Json, MediaType::Protobuf, MediaType::Yaml] {
            let bytes = encode(media, &pod()).unwrap();
            assert_eq!(decode::<Pod>(media, &bytes).unwrap(), pod());
            let secret = Secret {
                data: Some([("k".to_owned(), ByteString(vec![0, 255]))].into()),
                ..Default::default()
            };
            let bytes = encode(media, &secret).unwrap();
            assert_eq!(decode::<Secret>(media, &bytes).unwrap(), secret);
            let list = List { items: vec![pod(), pod()], ..Default::default() };
            let bytes = encode(media, &list).unwrap();
            assert_eq!(decode::<List<Pod>>(media, &bytes).unwrap(), list);
            assert!(decode::<Deployment>(media, &encode(media, &pod()).unwrap()).is_err());
        }
        let options = DeleteOptions { grace_period_seconds: Some(0), ..Default::default() };
        let bytes = encode_as(MediaType::Protobuf, "v1", "DeleteOptions", &options).unwrap();
        let back: DeleteOptions = decode(MediaType::Protobuf, &bytes).unwrap();
        assert_eq!(back.grace_period_seconds, Some(0));
        let status = Status { code: Some(404), reason: Some("NotFound".into()), ..Default::default() };
        let bytes = encode(MediaType::Protobuf, &status).unwrap();
        assert_eq!(decode::<Status>(MediaType::Protobuf, &bytes).unwrap().code, Some(404));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let cr = json!({"apiVersion": "x.org/v1", "kind": "X"});
        assert_eq!(encode(MediaType::Json, &cr).unwrap(), br#"{"apiVersion":"x.org/v1","kind":"X"}"#);
        let e = encode(MediaType::Protobuf, &cr).unwrap_err().to_string();
        assert_eq!(e, "no kind \"X\" is registered for version \"x.org/v1\"; only JSON can carry it");
        assert!(decode::<Pod>(MediaType::Protobuf, b"{}").is_err());
        assert_eq!(MediaType::of("application/json; charset=utf-8"), Some(MediaType::Json));
        assert_eq!(type_id::<Pod>(), types().by_name("core/v1.Pod"));
    }
}
