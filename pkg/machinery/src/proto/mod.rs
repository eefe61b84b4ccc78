//! Protobuf as upstream stores and sends it, driven by the type table.
//!
//! An object is an [`Envelope`] around a message. [`decode`] and [`encode`] go through the tree,
//! [`to_json`] writes JSON straight from the message, [`from_slice`] reads typed objects from it. [`header`] reads only
//! an object's metadata, [`pick`] one value, [`with_resource_version`] edits the bytes. [`WatchEvent`] frames watches.
//! Types that keep little of an object read themselves: [`read`].

mod decode;
mod encode;
mod envelope;
mod kept;
mod meta;
pub mod read;
#[cfg(test)]
mod tests;
mod to_json;
mod typed;
pub mod wire;

use crate::schema::{TypeId, TypeTable};
use crate::value::Value;

pub use decode::decode_message;
pub use encode::encode_message;
pub use envelope::{Envelope, MAGIC, seal};
pub use kept::{Kept, keep};
pub use meta::{
    WatchEvent, header, is_protobuf, message_header, message_with_resource_version, metadata, pick,
    split_frame, with_resource_version,
};
pub use to_json::{message_to_json, to_json};
pub use typed::{ManagedFields, TypedError, from_message, from_slice, from_slice_direct};
pub use wire::Error;

fn type_of(table: &TypeTable, e: &Envelope<'_>) -> Result<TypeId, Error> {
    table.kind(e.api_version, e.kind).ok_or_else(|| Error::Part {
        what: "the type",
        why: format!(
            "no kind {} is registered for version {} in scheme \"pkg/api/legacyscheme/scheme.go:30\"",
            crate::golang::quote(e.kind),
            crate::golang::quote(e.api_version)
        ),
    })
}

/// Decodes an object in its envelope; `apiVersion` and `kind` are set in the tree.
pub fn decode(table: &TypeTable, data: &[u8]) -> Result<(TypeId, Value), Error> {
    let e = Envelope::open(data)?;
    let id = type_of(table, &e)?;
    let mut value = decode_message(table, id, e.raw)?;
    if let Some(m) = value.as_map_mut() {
        m.insert("apiVersion", e.api_version);
        m.insert("kind", e.kind);
    }
    Ok((id, value))
}

/// Encodes an object in an envelope that says what its tree says.
pub fn encode(table: &TypeTable, id: TypeId, value: &Value) -> Vec<u8> {
    let text = |key| value.get(key).and_then(Value::as_str).unwrap_or_default();
    seal(text("apiVersion"), text("kind"), &encode_message(table, id, value))
}
