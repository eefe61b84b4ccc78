//! The type table's codecs behind one face: bodies, stored bytes, wire encodings, defaults, strategic patches.

use std::borrow::Cow;

use ::api::resources::{RowKind, StoredRow};
use ::api::{defaults, types};
use bytes::Bytes;
use machinery::schema::TypeId;
use machinery::{Map, Value, json, proto};

use crate::api::{Body, Format, MediaType};
use crate::errors::ApiError;
use crate::gates;

/// Why a body is not the object asked for.
pub enum Refusal {
    /// Its kind could not be told.
    Unrecognized(String),
    /// It says that it is something else.
    WrongVersion(String),
    /// It is of the right kind, as far as it says, but malformed.
    Malformed {
        /// The kind it says it is.
        kind: String,
        /// Upstream's text.
        why: String,
    },
}

/// A body that was read.
pub struct Read {
    /// The canonical tree.
    pub value: Value,
    /// Strict problems.
    pub strict: Vec<String>,
}

fn type_of(kind: RowKind) -> Result<TypeId, String> {
    types()
        .kind(&kind.api_version(), kind.kind)
        .ok_or_else(|| format!("no type {} in version {}", kind.kind, kind.api_version()))
}

/// Reads a body of the given kind. What it leaves out of apiVersion and kind is taken for granted.
pub fn read(kind: RowKind, body: &Body, strict: bool) -> Result<Read, Refusal> {
    let malformed = |sent: &str, why: String| Refusal::Malformed {
        kind: if sent.is_empty() { kind.kind.to_owned() } else { sent.to_owned() },
        why,
    };
    let id = type_of(kind).map_err(Refusal::Unrecognized)?;
    if body.media_type == MediaType::Protobuf {
        // Fine as an envelope; upstream's serializer does not take it (protobuf.go `Serializer.Decode`).
        if body.bytes[..] == proto::MAGIC {
            return Err(Refusal::Unrecognized("empty body".to_owned()));
        }
        let envelope =
            proto::Envelope::open(&body.bytes).map_err(|e| Refusal::Unrecognized(e.to_string()))?;
        check_kind(kind, envelope.api_version, envelope.kind)?;
        let value = proto::decode_message(types(), id, envelope.raw)
            .map_err(|e| malformed(envelope.kind, e.to_string()))?;
        return Ok(Read { value, strict: Vec::new() });
    }
    let document = match body.media_type {
        MediaType::Yaml => Cow::Owned(
            machinery::yaml::to_json(&body.bytes).map_err(|e| Refusal::Unrecognized(e.to_string()))?,
        ),
        _ => Cow::Borrowed(&*body.bytes),
    };
    if let Some(value) = plain(kind, id, &document) {
        return Ok(Read { value, strict: Vec::new() });
    }
    let (version, sent) = json::type_meta(&document).map_err(|e| Refusal::Unrecognized(e.to_string()))?;
    check_kind(kind, &version, &sent)?;
    let decoded =
        json::decode(types(), id, &document, strict).map_err(|e| malformed(&sent, e.to_string()))?;
    Ok(Read { value: decoded.value, strict: decoded.strict })
}

/// The object of a document that is in perfect order and says what it is: all problems are told by slower ways.
fn plain(kind: RowKind, id: TypeId, document: &[u8]) -> Option<Value> {
    let decoded = json::decode(types(), id, document, true).ok().filter(|d| d.strict.is_empty())?;
    let says = |field: &str| decoded.value.str_at(&[field]).unwrap_or_default();
    (says("kind") == kind.kind && says("apiVersion") == kind.api_version()).then_some(decoded.value)
}

/// Absent apiVersion and kind mean the expected ones; anything else must be them.
fn check_kind(kind: RowKind, version: &str, sent: &str) -> Result<(), Refusal> {
    let expected = kind.api_version();
    let known = |version: &str, sent: &str| types().kind(version, sent).is_some();
    let (full_version, full_kind) = (
        if version.is_empty() { &expected } else { version },
        if sent.is_empty() { kind.kind } else { sent },
    );
    if !known(full_version, full_kind) {
        return Err(Refusal::Malformed {
            kind: full_kind.to_owned(),
            why: format!(
                "no kind {full_kind:?} is registered for version {full_version:?} in scheme \"pkg/api/legacyscheme/scheme.go:30\""
            ),
        });
    }
    if full_version != expected {
        return Err(Refusal::WrongVersion(format!(
            "the API version in the data ({full_version}) does not match the expected API version ({expected})"
        )));
    }
    if full_kind != kind.kind {
        return Err(Refusal::Malformed {
            kind: full_kind.to_owned(),
            why: format!("converting ({full_kind}) to ({}): unknown conversion", kind.kind),
        });
    }
    Ok(())
}

/// Fills defaults.
pub fn default(object: &mut Value, kind: RowKind, now: &str) {
    let context = defaults::Context { gates: gates::of_defaults(), now };
    defaults::apply(object, &kind.api_version(), kind.kind, &context);
}

/// As [`default`], for an object made of `known` by changing a part of it.
pub fn default_changed(object: &mut Value, known: &Value, kind: RowKind, now: &str) {
    let context = defaults::Context { gates: gates::of_defaults(), now };
    defaults::apply_changed(object, known, &kind.api_version(), kind.kind, &context);
}

/// The canonical tree of an object made of `known`, which is one, by changing a part of it; none if its text has to be
/// read ([`json::decode_changed`]).
pub fn read_changed(object: &Value, known: &Value, kind: RowKind) -> Option<Value> {
    json::decode_changed(types(), type_of(kind).ok()?, object, known)
}

/// Decodes stored bytes; they name their own kind, which must be one of the resource's.
pub fn decode_stored(stored: &StoredRow, bytes: &Bytes) -> Result<Value, String> {
    let (version, value) = if bytes.starts_with(&proto::MAGIC) {
        let envelope = proto::Envelope::open(bytes).map_err(|e| e.to_string())?;
        let version = envelope.api_version.to_owned();
        let id = types()
            .kind(&version, envelope.kind)
            .ok_or_else(|| format!("stored as unknown {} {}", version, envelope.kind))?;
        (version, proto::decode_message(types(), id, envelope.raw).map_err(|e| e.to_string())?)
    } else {
        let (id, decoded) = json::decode_kind(types(), bytes, false).map_err(|e| e.to_string())?;
        (types().package(id).api_version(), decoded.value)
    };
    if version != stored.kind.api_version() {
        return Err(format!("stored in version {version} instead of {}", stored.kind.api_version()));
    }
    Ok(value)
}

/// The given fields of an object stored as protobuf in the version of `kind`; none if it is stored in another way.
pub fn decode_fields(
    kind: RowKind,
    bytes: &Bytes,
    kept: &proto::Kept,
) -> Option<Result<Value, proto::Error>> {
    let envelope = proto::Envelope::open(bytes).ok()?;
    if envelope.kind != kind.kind || envelope.api_version != kind.api_version() {
        return None;
    }
    let id = type_of(kind).ok()?;
    let part = proto::keep(types(), id, envelope.raw, kept);
    Some(part.and_then(|part| proto::decode_message(types(), id, &part)))
}

/// Encodes a tree that says its kind.
pub fn encode(object: &Value, kind: RowKind, format: Format) -> Result<Bytes, String> {
    let id = type_of(kind)?;
    Ok(match format {
        Format::Json => json::encode(types(), id, object).into(),
        Format::JsonItem => {
            let mut item = object.clone();
            item.remove_path(&["apiVersion"]);
            item.remove_path(&["kind"]);
            json::encode(types(), id, &item).into()
        }
        Format::Protobuf => proto::encode(types(), id, object).into(),
        Format::ProtobufItem => proto::encode_message(types(), id, object).into(),
    })
}

/// Whether a kind is not one of the type table's: that of a custom resource.
pub fn is_custom(kind: RowKind) -> bool {
    kind.group.contains('.') && type_of(kind).is_err()
}

/// The type of `metadata`.
pub fn object_meta() -> Result<TypeId, String> {
    let object = RowKind { group: "", version: "v1", kind: "Pod" };
    let field = types().field(type_of(object)?, "metadata");
    match field.map(|f| f.shape) {
        Some(machinery::schema::Shape::Struct(id)) => Ok(id),
        _ => Err("the type table has no object metadata".to_owned()),
    }
}

/// Encodes the tree of an object's metadata.
pub fn metadata(tree: &Value, protobuf: bool) -> Result<Bytes, String> {
    let id = object_meta()?;
    Ok(match protobuf {
        true => proto::encode_message(types(), id, tree).into(),
        false => json::encode(types(), id, tree).into(),
    })
}

/// The type whose fields a kind's messages have.
pub fn message_type(kind: RowKind) -> Option<TypeId> {
    type_of(kind).ok()
}

/// The canonical tree that a strategic merge patch makes of a canonical one, with what it leaves alone shared.
///
/// None where [`strategic_patch`] has to tell: where the patch or its result is not in order, and where the patch can
/// touch what the tree keeps as text.
pub fn strategic_patched(served: &Value, kind: RowKind, patch: &Bytes) -> Option<Value> {
    use machinery::patch::strategic;
    const OWNERS: [&str; 2] = ["metadata", "managedFields"];
    let id = type_of(kind).ok()?;
    let decoded = json::decode_any(patch, true).ok().filter(|d| d.strict.is_empty())?;
    let Value::Map(changes) = decoded.value else { return None };
    let directs = |m: &Map| m.keys().any(|k| k.starts_with('$'));
    let metadata = match changes.get("metadata") {
        None => false,
        Some(Value::Map(m)) => directs(m) || m.contains_key("managedFields"),
        Some(_) => true,
    };
    if metadata || directs(&changes) {
        return None;
    }
    let mut bare = served.clone();
    let owners = bare.remove_path(&OWNERS);
    if bare.has_raw() {
        return None;
    }
    let Value::Map(original) = bare.clone() else { return None };
    let merged = strategic::merge(original, changes, strategic::TableType::new(types(), id)).ok()?;
    let mut patched = json::decode_changed(types(), id, &Value::Map(merged), &bare)?;
    if let Some(owners) = owners {
        patched.set_path(&OWNERS, owners).ok()?;
    }
    Some(patched)
}

/// Applies a strategic merge patch; answers with JSON of the kind's served version and the problems of the patch.
pub fn strategic_patch(
    served: Value,
    kind: RowKind,
    patch: &Bytes,
    strict: bool,
) -> Result<(Vec<u8>, Vec<String>), ApiError> {
    use machinery::patch::strategic;
    let id = type_of(kind).map_err(ApiError::internal)?;
    // Upstream patches the JSON form of the object, zero values included.
    let original = json::parse(&json::encode(types(), id, &served)).map_err(ApiError::internal)?;
    let decoded = json::decode_any(patch, strict).map_err(|e| ApiError::bad_request(e.to_string()))?;
    let map = |value: Value| match value {
        Value::Map(map) => Ok(map),
        Value::Null => Ok(Map::new()),
        other => Err(ApiError::bad_request(format!(
            "json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
            other.type_name()
        ))),
    };
    let schema = strategic::TableType::new(types(), id);
    let mut merged = strategic::merge(map(original)?, map(decoded.value)?, schema).map_err(ApiError::from)?;
    // The result goes into an object of the kind, whatever kind the patch speaks of.
    for (field, own) in [("kind", kind.kind.to_owned()), ("apiVersion", kind.api_version())] {
        if merged.get(field).is_none_or(|value| value.as_str().is_some()) {
            merged.insert(field, Value::from(own));
        }
    }
    Ok((json::encode_any(&Value::Map(merged)), decoded.strict))
}

/// Why what a strategic patch made is no object of its kind, and the patch as upstream prints it; none when that is
/// for decoding to say.
pub fn unrestorable(kind: RowKind, patch: &[u8], patched: &[u8]) -> Option<(String, String)> {
    let id = type_of(kind).ok()?;
    let why = machinery::patch::strategic::restore_error(types(), id, &json::parse(patched).ok()?)?;
    Some((machinery::patch::display(&json::parse(patch).ok()?), why))
}

impl From<machinery::patch::Error> for ApiError {
    fn from(error: machinery::patch::Error) -> Self {
        match error.code() {
            400 => ApiError::bad_request(error.to_string()),
            413 => ApiError::request_entity_too_large(error),
            422 => ApiError::new(
                422,
                "Invalid",
                "the server rejected our request due to an error in our request",
            ),
            _ => ApiError::internal_plain(error.to_string()),
        }
    }
}
