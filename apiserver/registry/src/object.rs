//! Object handles: what the registry gives the server to encode.
//!
//! An [`Owned`] object is a tree in the hub version with its encodings cached, so that a watch event sent to many
//! clients is encoded once per format.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use ::api::resources::RowKind;
use bytes::Bytes;
use machinery::Value;

use crate::api::{Format, Gvk, Object, ObjectRef};
use crate::codec;
use crate::errors::ApiError;
use crate::meta;

/// A tree and its encodings.
pub struct Owned {
    value: Value,
    kind: RowKind,
    gvk: Gvk,
    encodings: [OnceLock<Bytes>; 4],
    served: OnceLock<Arc<Value>>,
}

impl Owned {
    /// Wraps a hub object that is served as `kind`.
    pub fn handle(value: Value, kind: RowKind) -> ObjectRef {
        Arc::new(Owned {
            value,
            kind,
            gvk: Gvk { group: kind.group.into(), version: kind.version.into(), kind: kind.kind.into() },
            encodings: Default::default(),
            served: OnceLock::new(),
        })
    }
}

impl Object for Owned {
    fn gvk(&self) -> &Gvk {
        &self.gvk
    }

    fn name(&self) -> &str {
        meta::name(&self.value)
    }

    fn namespace(&self) -> &str {
        meta::namespace(&self.value)
    }

    fn resource_version(&self) -> Cow<'_, str> {
        meta::resource_version(&self.value).into()
    }

    fn encode(&self, format: Format) -> Result<Bytes, ApiError> {
        let slot = &self.encodings[match format {
            Format::Json => 0,
            Format::JsonItem => 1,
            Format::Protobuf => 2,
            Format::ProtobufItem => 3,
        }];
        if let Some(bytes) = slot.get() {
            return Ok(bytes.clone());
        }
        let bytes = codec::encode(&self.value, self.kind, format)?;
        Ok(slot.get_or_init(|| bytes).clone())
    }

    fn metadata(&self, protobuf: bool) -> Result<Bytes, ApiError> {
        codec::metadata(&self.value, self.kind, protobuf).map_err(ApiError::internal)
    }

    fn value(&self) -> Result<Arc<Value>, ApiError> {
        if let Some(value) = self.served.get() {
            return Ok(value.clone());
        }
        let value = Arc::new(codec::served(&self.value, self.kind)?);
        Ok(self.served.get_or_init(|| value).clone())
    }
}
