//! A cached object in one served version: wire forms spliced from the stored bytes.
//!
//! Stored protobuf that today's server would write in the same way is served as it is, with the resource version put
//! in; its JSON is written straight from the message. Everything else goes through the tree, once per object and form.
//! Start at [`Cached::wire`].

use std::borrow::Cow;
use std::sync::Arc;

use ::api::types;
use bytes::Bytes;
use machinery::Value;
use machinery::proto::wire::{push_varint, varint_len};
use machinery::proto::{self, Kept};
use machinery::schema::TypeId;
use smallvec::SmallVec;
use storage::cacher::Object as Stored;

use super::cache::{CANONICAL, DECODED, Source, UNCHECKED};
use crate::api::{Format, Gvk, Object, ObjectRef, Wire, lead};
use crate::core::Resource;
use crate::deflate::{Deflater, Piece};
use crate::errors::ApiError;
use crate::meta;
use crate::shape;
use crate::{codec, conversion};

/// Encodings per served row: the four wire forms, plain and compressed.
const FORMS: u32 = 8;
/// Added to a form's number for its compressed piece.
const COMPRESSED: u32 = 4;

/// An object of the watch cache as one resource serves it.
pub struct Cached {
    object: Arc<Stored>,
    resource: Arc<Resource>,
}

impl Cached {
    /// A handle for the server.
    pub fn handle(object: Arc<Stored>, resource: &Arc<Resource>) -> ObjectRef {
        Arc::new(Cached { object, resource: Arc::clone(resource) })
    }

    fn source(&self) -> Result<&Source, ApiError> {
        self.resource.source()
    }

    fn corrupt(&self, why: impl std::fmt::Display) -> ApiError {
        let key = String::from_utf8_lossy(&self.object.key);
        ApiError::internal(format!("unable to decode the object stored at {key}: {why}"))
    }

    /// The type to read the stored message by, if the message may be served as it is. The first to ask finds out.
    fn splice(&self) -> Result<Option<TypeId>, ApiError> {
        let Some(id) = self.source()?.splice.filter(|_| self.resource.custom.is_none()) else {
            return Ok(None);
        };
        let note = match self.object.note() {
            UNCHECKED => {
                let row = self.resource.row;
                let tree = codec::decode_stored(row, &self.object.payload)?;
                let same = codec::encode_stored(row, &tree)? == self.object.payload;
                let note = if same { CANONICAL } else { DECODED };
                self.object.set_note(note);
                note
            }
            known => known,
        };
        Ok((note == CANONICAL).then_some(id))
    }

    /// The object in the hub version.
    fn tree(&self) -> Result<Value, ApiError> {
        hub(&self.resource, &self.object)
    }

    fn part(&self, from: u32, to: u32) -> Bytes {
        self.object.payload.slice(from as usize..to as usize)
    }

    fn sizes(&self) -> Sizes {
        let [start, from, to, end] = self.object.header.marks;
        let version = self.object.revision.checked_ilog10().unwrap_or(0) as usize + 1;
        let metadata = (from - start) as usize + 2 + version + (end - to) as usize;
        let rest = self.object.payload.len() - TAIL - end as usize;
        Sizes { metadata, message: 1 + varint_len(metadata as u64) + metadata + rest }
    }

    /// The bare message with its resource version.
    fn message(&self) -> Wire {
        let [start, from, to, _] = self.object.header.marks;
        let mut head: SmallVec<[u8; 192]> = SmallVec::new();
        push(&mut head, 0x0a, self.sizes().metadata);
        head.extend_from_slice(&self.object.payload[start as usize..from as usize]);
        let version = self.object.revision.to_string();
        push(&mut head, 0x32, version.len());
        head.extend_from_slice(version.as_bytes());
        let end = self.object.payload.len() - TAIL;
        Wire { head, body: self.object.payload.slice(to as usize..end) }
    }

    /// The message in its envelope.
    fn enveloped(&self) -> Bytes {
        let gvk = self.gvk();
        let message = self.message().join();
        proto::seal(&gvk.api_version(), &gvk.kind, &message).into()
    }

    fn slot(&self, format: Format) -> Result<u32, ApiError> {
        let form = match format {
            Format::Json => 0,
            Format::JsonItem => 1,
            Format::Protobuf => 2,
            Format::ProtobufItem => 3,
        };
        Ok(self.source()?.slot * FORMS + form)
    }

    /// An encoding that is remembered where `keep` says so and the budget allows.
    fn remembered(
        &self,
        slot: u32,
        keep: bool,
        expected: usize,
        make: impl FnOnce() -> Result<Bytes, ApiError>,
    ) -> Result<Bytes, ApiError> {
        if let Some(bytes) = self.object.encodings.get_used(slot) {
            return Ok(bytes);
        }
        let keep = keep && self.resource.custom.is_none();
        if keep && self.source()?.cacher.is_cached() && self.source()?.budget.allows(expected) {
            return self.object.encodings.get_or_try_init(slot, make);
        }
        make()
    }

    /// The JSON of a list item.
    fn json_item(&self, id: TypeId, keep: bool) -> Result<Bytes, ApiError> {
        self.remembered(self.slot(Format::JsonItem)?, keep, self.json_len(), || {
            let message = self.message().join();
            let mut out = Vec::with_capacity(message.len() * 3 / 2);
            proto::message_to_json(types(), id, &message, None, &mut out).map_err(|e| self.corrupt(e))?;
            out.shrink_to_fit();
            Ok(out.into())
        })
    }

    /// Roughly, before it is known: JSON takes a third more than protobuf.
    fn json_len(&self) -> usize {
        self.object.payload.len() * 4 / 3
    }

    fn through_tree(&self, format: Format, keep: bool) -> Result<Bytes, ApiError> {
        let kind = self.resource.row.kind;
        let slot = self.slot(format)?;
        self.remembered(slot, keep, self.json_len(), || codec::encode(&self.tree()?, kind, format))
    }
}

/// The empty fields that end an envelope.
const TAIL: usize = 4;

struct Sizes {
    metadata: usize,
    message: usize,
}

/// Appends a tag and a length.
fn push(out: &mut SmallVec<[u8; 192]>, tag: u8, len: usize) {
    let mut bytes = Vec::with_capacity(6);
    bytes.push(tag);
    push_varint(&mut bytes, len as u64);
    out.extend_from_slice(&bytes);
}

/// A stored object as a tree in the hub version, with its resource version.
pub fn hub(resource: &Resource, object: &Stored) -> Result<Value, ApiError> {
    // What a webhook has converted is kept: versions of a custom resource have caches of their own.
    let kept = resource.custom.as_ref().is_some_and(|c| c.schemas.webhook.is_some());
    if let Some(tree) = object.memo.get().and_then(|memo| memo.downcast_ref::<Value>()).filter(|_| kept) {
        return Ok(tree.clone());
    }
    let mut tree = resource.decode_stored(&object.payload, object.note() == CANONICAL)?;
    meta::set(&mut tree, "resourceVersion", object.revision.to_string());
    resource.strategy.decorate(&mut tree);
    if kept {
        // Another request may have been first; its tree is the same.
        let _ = object.memo.set(Arc::new(tree.clone()));
    }
    Ok(tree)
}

impl Object for Cached {
    fn gvk(&self) -> &Gvk {
        &self.resource.published.gvk
    }

    fn name(&self) -> &str {
        &self.object.header.name
    }

    fn namespace(&self) -> &str {
        &self.object.header.namespace
    }

    fn resource_version(&self) -> Cow<'_, str> {
        self.object.revision.to_string().into()
    }

    fn encode(&self, format: Format) -> Result<Bytes, ApiError> {
        self.wire(format, false).map(Wire::join)
    }

    fn wire(&self, format: Format, keep: bool) -> Result<Wire, ApiError> {
        let whole = |body| Wire { head: SmallVec::new(), body };
        let Some(id) = self.splice()? else { return self.through_tree(format, keep).map(whole) };
        Ok(match format {
            Format::ProtobufItem => self.message(),
            Format::Protobuf => whole(self.enveloped()),
            Format::JsonItem => whole(self.json_item(id, keep)?),
            Format::Json => {
                let (gvk, item) = (self.gvk(), self.json_item(id, keep)?);
                let head = format!("{{\"kind\":\"{}\",\"apiVersion\":\"{}\",", gvk.kind, gvk.api_version());
                Wire { head: SmallVec::from_slice(head.as_bytes()), body: item.slice(1..) }
            }
        })
    }

    fn wire_len(&self, format: Format) -> Result<usize, ApiError> {
        match self.splice()? {
            Some(_) if format == Format::ProtobufItem => Ok(self.sizes().message),
            _ => self.wire(format, true).map(|wire| wire.head.len() + wire.body.len()),
        }
    }

    fn piece(&self, format: Format, deflater: &mut Deflater) -> Result<Piece, ApiError> {
        let slot = self.slot(format)? + COMPRESSED;
        let packed = match self.object.encodings.get_used(slot) {
            Some(packed) => packed,
            None => {
                // Before the encodings are locked: this looks at them too.
                let wire = self.wire(format, false)?;
                let lead = lead(format, wire.head.len() + wire.body.len());
                self.remembered(slot, true, self.object.payload.len() / 3, || {
                    let piece = deflater.piece(&[&lead, &wire.head, &wire.body]);
                    piece.map(|p| p.pack()).map_err(ApiError::internal)
                })?
            }
        };
        Piece::unpack(&packed).ok_or_else(|| ApiError::internal("a compressed piece is too short"))
    }

    fn metadata(&self, protobuf: bool) -> Result<Bytes, ApiError> {
        let kind = self.resource.row.kind;
        let carries = |key: &str| memchr::memmem::find(&self.object.payload, key.as_bytes()).is_some();
        if self.splice()?.is_none() || conversion::carrier(kind).is_some_and(carries) {
            return codec::metadata(&self.tree()?, kind, protobuf).map_err(|e| self.corrupt(e));
        }
        let [start, from, to, end] = self.object.header.marks;
        let version = self.object.revision.to_string();
        let mut message = Vec::with_capacity(self.sizes().metadata);
        message.extend_from_slice(&self.part(start, from));
        proto::wire::push_field(&mut message, 6, version.as_bytes());
        message.extend_from_slice(&self.part(to, end));
        if protobuf {
            return Ok(message.into());
        }
        let id = shape::object_meta().map_err(ApiError::internal)?;
        let mut out = Vec::with_capacity(message.len() * 3 / 2);
        proto::message_to_json(types(), id, &message, None, &mut out).map_err(|e| self.corrupt(e))?;
        Ok(out.into())
    }

    fn value(&self) -> Result<Arc<Value>, ApiError> {
        codec::served(&self.tree()?, self.resource.row.kind).map(Arc::new)
    }

    fn fields(&self, kept: &Kept) -> Result<Arc<Value>, ApiError> {
        match shape::decode_fields(self.resource.row.kind, &self.object.payload, kept) {
            Some(tree) => tree.map(Arc::new).map_err(|e| self.corrupt(e)),
            None => self.value(),
        }
    }

    fn columns(&self) -> Option<crate::api::Columns> {
        self.resource.custom.as_ref().map(|c| Arc::clone(&c.columns))
    }

    fn frame(&self, slot: u32, make: &mut dyn FnMut() -> Result<Bytes, ApiError>) -> Result<Bytes, ApiError> {
        let source = self.source()?;
        // What a webhook converts is waited for, which must not happen while others wait for the lock: their threads
        // are those that drive the call. The converted object is kept (`hub`), so its frames are cheap to make again.
        let waits = self.resource.custom.as_ref().is_some_and(|c| c.schemas.webhook.is_some());
        // A lone watch has nobody to share with.
        if waits || source.cacher.watchers() < 2 {
            return make();
        }
        source.frames.get_or_make(&self.object, slot, make)
    }
}
