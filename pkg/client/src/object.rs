//! The traits that say what an API object is, and the forms that have no generated type.

use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ListMeta, ObjectMeta};
use machinery::proto::read;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Anything with object metadata that can travel: generated types, [`PartialObjectMetadata`], [`crate::dynamic::DynamicObject`].
pub trait Meta: Serialize + DeserializeOwned + Clone + Debug + Send + Sync + 'static {
    /// `apiVersion` and `kind`, when the type fixes them; only then can protobuf be asked for.
    const TYPE: Option<(&'static str, &'static str)>;

    /// The object's metadata.
    fn meta(&self) -> &ObjectMeta;
    /// The object's metadata, to change.
    fn meta_mut(&mut self) -> &mut ObjectMeta;

    /// `metadata.name`, "" when unset.
    fn name(&self) -> &str {
        self.meta().name.as_deref().unwrap_or("")
    }
    /// `metadata.namespace`, "" for cluster-scoped objects.
    fn namespace(&self) -> &str {
        self.meta().namespace.as_deref().unwrap_or("")
    }
    /// `metadata.uid`, "" when unset.
    fn uid(&self) -> &str {
        self.meta().uid.as_deref().unwrap_or("")
    }
    /// `metadata.resourceVersion`, "" when unset.
    fn resource_version(&self) -> &str {
        self.meta().resource_version.as_deref().unwrap_or("")
    }
    /// The store key: `namespace/name`, or `name` for cluster-scoped objects.
    /// Upstream: client-go/tools/cache MetaNamespaceKeyFunc.
    fn key(&self) -> String {
        match self.namespace() {
            "" => self.name().to_string(),
            namespace => [namespace, "/", self.name()].concat(),
        }
    }
}

impl<K> Meta for K
where
    K: k8s_openapi::Metadata<Ty = ObjectMeta>
        + Serialize
        + DeserializeOwned
        + Clone
        + Debug
        + Send
        + Sync
        + 'static,
{
    const TYPE: Option<(&'static str, &'static str)> = Some((K::API_VERSION, K::KIND));

    fn meta(&self) -> &ObjectMeta {
        self.metadata()
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.metadata_mut()
    }
}

/// Where an object is and which state of it this is; empty texts for what is unset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Named<'a> {
    /// `metadata.namespace`.
    pub namespace: &'a str,
    /// `metadata.name`.
    pub name: &'a str,
    /// `metadata.uid`.
    pub uid: &'a str,
    /// `metadata.resourceVersion`.
    pub version: &'a str,
}

impl Named<'_> {
    /// The store key, as [`Meta::key`].
    pub fn key(&self) -> String {
        match self.namespace {
            "" => self.name.to_string(),
            namespace => [namespace, "/", self.name].concat(),
        }
    }
}

/// Finds the state of an object that is known already, by namespace and name.
pub type Earlier<K> = dyn Fn(&str, &str) -> Option<Arc<K>> + Send + Sync;

/// Says that a kept type is read from where another is: the same group, version, kind and path.
#[macro_export]
macro_rules! same_resource {
    ($kept:ty, $of:ty) => {
        impl ::k8s_openapi::Resource for $kept {
            const API_VERSION: &'static str = <$of as ::k8s_openapi::Resource>::API_VERSION;
            const GROUP: &'static str = <$of as ::k8s_openapi::Resource>::GROUP;
            const KIND: &'static str = <$of as ::k8s_openapi::Resource>::KIND;
            const VERSION: &'static str = <$of as ::k8s_openapi::Resource>::VERSION;
            const URL_PATH_SEGMENT: &'static str = <$of as ::k8s_openapi::Resource>::URL_PATH_SEGMENT;
            type Scope = <$of as ::k8s_openapi::Resource>::Scope;
        }
    };
}

/// What a reader keeps of the objects of a kind: the whole object ([`Meta`]), or a type of its own with the fields that
/// are read. What such a type does not name is passed over in the message: it costs neither time nor room. It has no
/// [`Meta`], so it cannot be written back and lose fields.
pub trait Kept: DeserializeOwned + Debug + Send + Sync + 'static {
    /// `apiVersion` and `kind`, when the type fixes them; only then can protobuf be asked for.
    const TYPE: Option<(&'static str, &'static str)>;

    /// Which object it is.
    fn named(&self) -> Named<'_>;

    /// Reads the message of such an object, if the type can do that by itself ([`machinery::proto::read`]); none sends the
    /// caller the long way.
    fn from_message(_message: &[u8]) -> Option<Self> {
        None
    }

    /// As [`Kept::from_message`], of an object of which an earlier state may be known: what is as it was need not be read
    /// again.
    fn from_later_message(message: &[u8], _earlier: &Earlier<Self>) -> Option<Self> {
        Self::from_message(message)
    }

    /// Drops what nobody reads, and shares what others hold, too. Called once, before the object is stored; `old` is
    /// the state that it takes the place of, most of which is usually the same.
    fn settle(&mut self, _old: Option<&Self>) {}
}

impl<K: Meta> Kept for K {
    const TYPE: Option<(&'static str, &'static str)> = <K as Meta>::TYPE;

    fn named(&self) -> Named<'_> {
        Named {
            namespace: self.namespace(),
            name: self.name(),
            uid: self.uid(),
            version: self.resource_version(),
        }
    }

    fn settle(&mut self, _old: Option<&Self>) {
        self.meta_mut().managed_fields = None;
    }
}

/// What the answer to a write is read for: which object was made of it, in which state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Receipt {
    #[serde(default)]
    metadata: Written,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Written {
    namespace: String,
    name: String,
    uid: String,
    resource_version: String,
}

machinery::message!(Receipt, "meta/v1.PartialObjectMetadata" { 1 metadata (struct) });
machinery::message!(Written, "meta/v1.ObjectMeta" {
    1 name (value),
    3 namespace (value),
    5 uid (value),
    6 resource_version (value),
});

impl Kept for Receipt {
    const TYPE: Option<(&'static str, &'static str)> = PartialObjectMetadata::TYPE_OF;

    fn from_message(message: &[u8]) -> Option<Self> {
        read::message(message).ok()
    }

    fn named(&self) -> Named<'_> {
        let Written { namespace, name, uid, resource_version } = &self.metadata;
        Named { namespace, name, uid, version: resource_version }
    }
}

/// A kind known at compile time, so that its URL follows from the type.
pub trait Object: Meta + k8s_openapi::Resource {}

impl<K: Meta + k8s_openapi::Resource> Object for K {}

/// Splits a store key into namespace ("" if none) and name.
pub fn split_key(key: &str) -> (&str, &str) {
    key.split_once('/').unwrap_or(("", key))
}

/// An answer to a list call.
#[derive(Clone, Debug, Deserialize)]
#[serde(bound = "K: DeserializeOwned")]
pub struct ObjectList<K> {
    /// Resource version and continuation.
    #[serde(default)]
    pub metadata: ListMeta,
    /// The objects, in the server's order.
    #[serde(default = "Vec::new", deserialize_with = "null_as_empty")]
    pub items: Vec<K>,
}

fn null_as_empty<'de, D: serde::Deserializer<'de>, K: Deserialize<'de>>(d: D) -> Result<Vec<K>, D::Error> {
    Ok(Option::<Vec<K>>::deserialize(d)?.unwrap_or_default())
}

/// `meta.k8s.io/v1 PartialObjectMetadata`: any object reduced to its metadata.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PartialObjectMetadata {
    /// API version of this form or, inside a watch of typed objects, of the object.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub api_version: String,
    /// Kind, as above.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// The metadata.
    #[serde(default)]
    pub metadata: ObjectMeta,
}

impl PartialObjectMetadata {
    /// Its version and kind, for other types that read the same message.
    pub const TYPE_OF: Option<(&'static str, &'static str)> =
        Some(("meta.k8s.io/v1", "PartialObjectMetadata"));
}

impl Meta for PartialObjectMetadata {
    const TYPE: Option<(&'static str, &'static str)> = Self::TYPE_OF;

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_reads_itself_as_serde_reads_it() {
        let table = api::types();
        assert_eq!((read::misnamed::<Receipt>(table), read::misnamed::<Written>(table)), (None, None));
        let meta = serde_json::json!({"name": "a", "namespace": "n", "uid": "u", "resourceVersion": "7", "labels": {"k": "v"}});
        for meta in [meta, serde_json::json!({})] {
            let (api_version, kind) = PartialObjectMetadata::TYPE_OF.expect("a type");
            let object: PartialObjectMetadata = serde_json::from_value(
                serde_json::json!({"apiVersion": api_version, "kind": kind, "metadata": meta}),
            )
            .expect("metadata");
            let wire = api::encode(api::MediaType::Protobuf, &object).expect("protobuf");
            let long: Receipt = api::decode(api::MediaType::Protobuf, &wire).expect("a receipt");
            let raw = machinery::proto::Envelope::open(&wire).expect("an envelope").raw;
            assert_eq!(Receipt::from_message(raw), Some(long));
        }
    }
}
