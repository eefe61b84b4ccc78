//! The object as a webhook sees it: in the version its rule names, and of a Scale as a Scale.
//! Upstream: `admission/conversion.go`, `pkg/endpoints/handlers/fieldmanager/equivalentresources.go`.

use ::api::resources::RowKind;
use bytes::Bytes;
use machinery::Value;

use super::super::Attributes;
use crate::api::{Body, FieldValidation, Format, MediaType, RequestContext};
use crate::codec;
use crate::conversion;
use crate::core::Resource;
use crate::errors::ApiError;
use crate::subresources::scale::{SCALE, replicas_path, scale_of};

/// How objects of a request are shown to a webhook.
pub struct View<'a> {
    /// The kind the webhook sees.
    pub kind: RowKind,
    /// The kind of the request.
    pub request_kind: RowKind,
    /// Whether the kinds are versions of one another.
    converts: bool,
    call: &'a crate::strategy::Call<'a>,
}

impl<'a> View<'a> {
    /// The view of a webhook that is told of `resource`.
    pub fn new(a: &Attributes<'a>, resource: &Resource) -> View<'a> {
        let (own, sub) = (a.call.resource.row, a.subresource());
        let request_kind = if sub == "scale" { SCALE } else { a.kind };
        let same = resource.row.kind == own.kind;
        let kind = match resource.row.subresource(sub) {
            _ if same || request_kind == SCALE => request_kind,
            Some(row) => row.kind,
            None => resource.row.kind,
        };
        View { kind, request_kind, converts: kind != request_kind, call: a.call }
    }

    /// An object of the request as a tree.
    pub fn tree(&self, object: &Value) -> Result<Value, ApiError> {
        if self.request_kind == SCALE {
            return scale_of(self.call, object);
        }
        let mut object = object.clone();
        if let (true, Some(custom)) = (self.converts, &self.call.resource.custom) {
            custom.schemas.convert(&mut object, self.kind).map_err(ApiError::internal)?;
        } else if self.converts {
            conversion::hub_to_stored(&mut object, self.request_kind, conversion::hub(self.kind))?;
        }
        codec::served(&object, self.kind)
    }

    /// The JSON of an object of the request.
    pub fn encode(&self, object: &Value) -> Result<Bytes, ApiError> {
        if self.request_kind == SCALE {
            return codec::encode(&scale_of(self.call, object)?, SCALE, Format::Json);
        }
        if !self.converts {
            return codec::encode(object, self.kind, Format::Json);
        }
        let mut object = object.clone();
        if let Some(custom) = &self.call.resource.custom {
            custom.schemas.convert(&mut object, self.kind).map_err(ApiError::internal)?;
            return codec::encode(&object, self.kind, Format::Json);
        }
        conversion::hub_to_stored(&mut object, self.request_kind, conversion::hub(self.kind))?;
        codec::encode(&object, self.kind, Format::Json)
    }

    /// The object of the request that a webhook or policy made of `before`. Warnings about its fields are not passed on.
    pub fn decode(
        &self,
        json: Vec<u8>,
        before: &Value,
        field_validation: FieldValidation,
    ) -> Result<Value, ApiError> {
        let request = RequestContext {
            field_validation,
            warnings: crate::api::Warnings::default(),
            audit: Default::default(),
            ..self.call.request.clone()
        };
        let body = Body { media_type: MediaType::Json, bytes: json.into() };
        let custom = self.call.resource.custom.as_ref().filter(|_| self.kind != SCALE);
        let decoded = match custom {
            Some(custom) => custom.schemas.decode_body(&request, self.kind, &body),
            None => codec::decode_body(&request, self.kind, &body),
        };
        let mut object = decoded.map_err(|e| {
            // What the decoder says, without what the handler of a request would put before it.
            let (_, why) = e.message.split_once(": ").unwrap_or(("", &e.message));
            ApiError::internal(why)
        })?;
        if self.request_kind == SCALE {
            let replicas = object.i64_at(&["spec", "replicas"]).unwrap_or(0);
            let mut parent = before.clone();
            let path = replicas_path(self.call);
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            parent.set_path(&path, replicas).map_err(ApiError::internal)?;
            return Ok(parent);
        }
        if let (true, Some(custom)) = (self.converts, custom) {
            custom.schemas.convert(&mut object, self.request_kind).map_err(ApiError::internal)?;
        } else if self.converts {
            conversion::stored_to_hub(&mut object, conversion::hub(self.kind), self.request_kind)?;
        }
        Ok(object)
    }
}
