//! An endpoint slice: whose it is, what its change began with, and endpoints without where they come from.

use std::fmt;

use client::{Kept, Named};
use informer::Name;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::model::endpoint::SERVICE_NAME;
use crate::model::table::TRIGGER_TIME;

/// A slice, as far as rules depend on it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EndpointSlice {
    pub metadata: SliceMeta,
    pub address_type: Name,
    pub ports: Option<Box<[EndpointPort]>>,
    pub endpoints: Option<Box<[Endpoint]>>,
}

/// Its metadata.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SliceMeta {
    pub name: Option<Box<str>>,
    pub namespace: Option<Name>,
    uid: Option<Box<str>>,
    resource_version: Option<Box<str>>,
    /// The label that names the Service.
    #[serde(rename = "labels", deserialize_with = "service_name")]
    pub service: Option<Box<str>>,
    /// The annotation that says when the change of endpoints began.
    #[serde(rename = "annotations", deserialize_with = "trigger_time")]
    pub triggered: Option<Box<str>>,
}

impl SliceMeta {
    fn named(&self) -> Named<'_> {
        Named {
            namespace: self.namespace.as_deref().unwrap_or_default(),
            name: self.name.as_deref().unwrap_or_default(),
            uid: self.uid.as_deref().unwrap_or_default(),
            version: self.resource_version.as_deref().unwrap_or_default(),
        }
    }

    /// `namespace/name`.
    pub fn key(&self) -> String {
        self.named().key()
    }
}

/// A port of all its endpoints.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct EndpointPort {
    pub name: Option<Name>,
    pub protocol: Option<Name>,
    pub port: Option<i32>,
}

/// An endpoint.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Endpoint {
    /// Others are of no use: the API asks consumers to take the first.
    #[serde(rename = "addresses", deserialize_with = "first")]
    pub address: Option<Box<str>>,
    pub conditions: Option<EndpointConditions>,
    pub node_name: Option<Name>,
    pub hints: Option<Box<EndpointHints>>,
}

/// What it can do.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct EndpointConditions {
    pub ready: Option<bool>,
    pub serving: Option<bool>,
    pub terminating: Option<bool>,
}

/// Who should use it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EndpointHints {
    pub for_zones: Option<Box<[For]>>,
    pub for_nodes: Option<Box<[For]>>,
}

/// A zone or node.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct For {
    pub name: Name,
}

/// The first of a list of texts.
struct First;

impl<'de> Visitor<'de> for First {
    type Value = Option<Box<str>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of texts")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let first = seq.next_element()?;
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(first)
    }
}

fn first<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Box<str>>, D::Error> {
    from.deserialize_seq(First)
}

/// The value of one key.
struct Value(&'static str);

impl<'de> Visitor<'de> for Value {
    type Value = Option<Box<str>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of texts")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<Box<str>>()? {
            if *key == *self.0 {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

fn service_name<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Box<str>>, D::Error> {
    from.deserialize_map(Value(SERVICE_NAME))
}

fn trigger_time<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Box<str>>, D::Error> {
    from.deserialize_map(Value(TRIGGER_TIME))
}

impl Kept for EndpointSlice {
    const TYPE: Option<(&'static str, &'static str)> = Some(("discovery.k8s.io/v1", "EndpointSlice"));

    fn named(&self) -> Named<'_> {
        self.metadata.named()
    }
}

client::same_resource!(EndpointSlice, k8s_openapi::api::discovery::v1::EndpointSlice);

#[cfg(test)]
mod tests {
    use super::EndpointSlice;

    #[test]
    fn what_counts_is_read() {
        let slice: EndpointSlice = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "a-x", "namespace": "ns", "labels": {"a": "b", "kubernetes.io/service-name": "a"},
                "annotations": {"x": "y"}, "managedFields": [{}]},
            "addressType": "IPv4", "ports": null,
            "endpoints": [{"addresses": ["10.0.0.1", "10.0.0.2"], "targetRef": {"kind": "Pod"}}, {"addresses": []}],
        }))
        .expect("a slice");
        assert_eq!(slice.metadata.service.as_deref(), Some("a"));
        assert_eq!(slice.metadata.triggered, None);
        let endpoints = slice.endpoints.expect("endpoints");
        assert_eq!(endpoints[0].address.as_deref(), Some("10.0.0.1"));
        assert_eq!(endpoints[1].address, None);
    }
}
