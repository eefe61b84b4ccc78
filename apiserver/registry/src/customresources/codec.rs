//! Reads and writes instances: pruned, defaulted and coerced as upstream does at each step.
//! Upstream: `unstructuredSchemaCoercer` and the codecs around it in `customresource_handler.go`.

use std::collections::HashMap;

use ::api::resources::{ResourceRow, RowKind};
use ::api::validation::field::{Error as FieldError, Path};
use apiextensions::rules::Validator;
use apiextensions::schema::{Schema, coerce, default, prune};
use bytes::Bytes;
use machinery::{Value, json};

use crate::api::{Body, FieldValidation, MediaType, RequestContext};
use crate::codec as typed;
use crate::errors::ApiError;
use crate::meta;

/// The schemas of a definition.
#[derive(Debug)]
pub(crate) struct Schemas {
    /// Group and kind; the version is empty.
    pub(crate) kind: RowKind,
    /// `spec.preserveUnknownFields`
    pub(crate) preserve: bool,
    /// The names of all versions.
    pub(crate) versions: Vec<String>,
    /// Compiled, by version.
    pub(crate) by_version: HashMap<String, Schema>,
    /// The compiled rules of the schemas that have some, by version.
    pub(crate) rules: HashMap<String, Validator>,
    /// As written, by version: field managers make their types of them.
    pub(crate) documents: HashMap<String, Value>,
    /// Who converts between versions that differ in more than their name.
    pub(crate) webhook: Option<super::convert::Webhook>,
}

/// What a step of reading does beside pruning.
#[derive(Clone, Copy, Default)]
struct Step {
    drop_invalid: bool,
    repair_generation: bool,
    track: bool,
}

impl Schemas {
    /// The schema of a version.
    pub(crate) fn of(&self, version: &str) -> Option<&Schema> {
        self.by_version.get(version)
    }

    fn version_of<'a>(&self, object: &'a Value) -> Option<&'a str> {
        let (group, version) = object.str_at(&["apiVersion"])?.rsplit_once('/')?;
        (group == self.kind.group && object.str_at(&["kind"]) == Some(self.kind.kind)).then_some(version)
    }

    /// Brings an object into shape; answers with the paths of unknown fields, if asked for.
    fn apply(&self, object: &mut Value, step: Step) -> Result<Vec<String>, String> {
        let mut unknown = Vec::new();
        let mut metadata = None;
        if let Some(present) = object.get("metadata") {
            let (coerced, more) = coerce::object_meta(present, step.drop_invalid, step.track)?;
            unknown.extend(more.into_iter().map(|field| format!("metadata.{field}")));
            metadata = Some(coerced);
        }
        if let Some(version) = self.version_of(object).map(str::to_owned) {
            let empty = Schema::default();
            let schema = self.of(&version);
            if !self.preserve {
                unknown.extend(prune::prune(object, schema.unwrap_or(&empty), true, step.track));
                prune::prune_nulls(object, schema);
            }
            if let Some(schema) = schema {
                let more = coerce::coerce(object, schema, false, step.drop_invalid, step.track);
                unknown.extend(more.map_err(|e| e.to_string())?);
            }
            if let Some(Value::Map(metadata)) = metadata.as_mut().filter(|_| step.repair_generation)
                && !metadata.contains_key("generation")
            {
                metadata.insert("generation", 1_i64);
            }
        }
        if let (Some(metadata), Value::Map(map)) = (metadata, object) {
            map.insert("metadata", metadata);
        }
        Ok(unknown)
    }

    fn default(&self, object: &mut Value) {
        let version = self.version_of(object).map(str::to_owned);
        if let Some(schema) = version.and_then(|v| self.of(&v)) {
            default::default(object, schema);
        }
    }

    /// Changes the version, and drops what the other version's schema does not know.
    pub(crate) fn convert(&self, object: &mut Value, to: RowKind) -> Result<(), String> {
        if self.version_of(object).is_none_or(|v| v == to.version) {
            return Ok(());
        }
        self.relabel(object, &to.api_version())?;
        self.apply(object, Step::default()).map(drop)
    }

    /// Changes the version and leaves the rest to the webhook, if there is one.
    pub(crate) fn relabel(&self, object: &mut Value, api_version: &str) -> Result<(), String> {
        match (&self.webhook, object) {
            (Some(webhook), object) => *object = webhook.convert(object, api_version)?,
            (None, Value::Map(map)) => drop(map.insert("apiVersion", api_version)),
            _ => {}
        }
        Ok(())
    }

    /// Decodes stored bytes into a version, with today's defaults.
    pub(crate) fn decode_stored(&self, kind: RowKind, bytes: &[u8]) -> Result<Value, String> {
        let mut object = json::parse(bytes).map_err(|e| e.to_string())?;
        // An object of a version that is gone would lose everything that its schema knew.
        if let Some(version) = self.version_of(&object).filter(|v| !self.versions.iter().any(|w| w == v)) {
            let group = self.kind.group;
            return Err(format!("request to convert CR from an invalid group/version: {group}/{version}"));
        }
        self.apply(&mut object, Step { drop_invalid: true, repair_generation: true, track: false })?;
        self.default(&mut object);
        self.convert(&mut object, kind)?;
        Ok(object)
    }

    /// Encodes an object as it is stored.
    pub(crate) fn encode_stored(&self, row: &ResourceRow, object: &Value) -> Result<Bytes, ApiError> {
        let stored = row.stored.as_ref().ok_or_else(|| ApiError::internal("resource is not stored"))?;
        let mut object = object.clone();
        meta::remove(&mut object, "resourceVersion");
        meta::remove(&mut object, "selfLink");
        self.convert(&mut object, stored.kind).map_err(ApiError::internal)?;
        let mut bytes = json::encode_any(&object);
        bytes.push(b'\n');
        Ok(bytes.into())
    }

    /// Decodes, checks and defaults a request body.
    ///
    /// # Errors
    /// 400 for what is no object of this kind, or has unknown or duplicate fields under `Strict`.
    pub(crate) fn decode_body(
        &self,
        request: &RequestContext,
        kind: RowKind,
        body: &Body,
    ) -> Result<Value, ApiError> {
        let document = match body.media_type {
            MediaType::Yaml => machinery::yaml::to_json(&body.bytes).map(Bytes::from),
            _ => Ok(body.bytes.clone()),
        };
        let document = document.map_err(|e| typed::unrecognized(kind, body, &e.to_string()))?;
        let (version, sent) =
            json::type_meta(&document).map_err(|e| typed::unrecognized(kind, body, &e.to_string()))?;
        if sent.is_empty() {
            let text = String::from_utf8_lossy(&document);
            let why = format!("Object 'Kind' is missing in '{text}'");
            return Err(typed::unrecognized(kind, body, &why));
        }
        let refuse = |why: &str| typed::cannot_be_handled(kind, &sent, why);
        let strict = request.field_validation != FieldValidation::Ignore;
        let decoded = json::decode_any(&document, strict).map_err(|e| refuse(&e.to_string()))?;
        let mut object = decoded.value;
        if let (true, Value::Map(map)) = (version.is_empty(), &mut object) {
            // As good as the version asked for.
            map.insert("apiVersion", kind.api_version());
        }
        let mut problems = decoded.strict;
        let unknown =
            self.apply(&mut object, Step { track: strict, ..Step::default() }).map_err(|e| refuse(&e))?;
        problems.extend(unknown.iter().map(|path| format!("unknown field \"{path}\"")));
        let expected = kind.api_version();
        if !version.is_empty() && *version != expected {
            return Err(ApiError::bad_request(format!(
                "the API version in the data ({version}) does not match the expected API version ({expected})"
            )));
        }
        typed::report_strict(request, kind, &problems)?;
        if *sent != *kind.kind {
            let path = Path::new("kind");
            let error = FieldError::invalid(&path, &*sent, format!("must be {}", kind.kind));
            return Err(ApiError::invalid_fields(kind.group, &sent, meta::name(&object), &[error]));
        }
        self.default(&mut object);
        Ok(object)
    }

    /// An object with nothing set.
    pub(crate) fn empty(&self, kind: RowKind) -> Value {
        let mut object = Value::Map(machinery::Map::new());
        typed::stamp(&mut object, kind);
        object
    }

    /// An object that a field manager made, in shape and with defaults.
    pub(crate) fn canonical(&self, object: &mut Value) -> Result<(), ApiError> {
        self.apply(object, Step::default()).map_err(ApiError::internal_plain)?;
        self.default(object);
        Ok(())
    }
}
