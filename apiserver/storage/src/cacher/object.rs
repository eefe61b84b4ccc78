//! What the cache holds of an object: the stored bytes, and the few parsed facts that selecting needs.

use std::any::Any;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use compact_str::CompactString;
use parking_lot::Mutex;

use super::tree::Keyed;
use crate::store::{KeyValue, Revision};

/// The parsed facts of an object. The caller's decode function fills it in; this crate never looks at the payload.
#[derive(Clone, Debug, Default)]
pub struct Header {
    /// `metadata.namespace`; empty for cluster-scoped kinds.
    pub namespace: CompactString,
    /// `metadata.name`.
    pub name: CompactString,
    /// `metadata.uid`.
    pub uid: CompactString,
    /// `metadata.labels`, sorted by key.
    pub labels: Box<[(CompactString, CompactString)]>,
    /// Values of the resource's further selectable fields, in an order the caller fixes per resource.
    pub fields: Box<[CompactString]>,
    /// Offsets into the payload at which the caller cuts it.
    pub marks: [u32; 4],
    /// What the caller knows about the payload so far; see [`Object::note`].
    pub note: u8,
}

impl Header {
    /// The value of a label.
    pub fn label(&self, key: &str) -> Option<&str> {
        let at = self.labels.binary_search_by(|(k, _)| k.as_str().cmp(key)).ok()?;
        self.labels.get(at).map(|(_, value)| value.as_str())
    }
}

/// What a decode function makes of a stored value.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// The parsed facts.
    pub header: Header,
    /// The object's bytes: usually the stored value itself, or its plain text when it is stored encrypted.
    pub payload: Bytes,
}

/// Turns a stored value into what is kept. An error names what is wrong with the bytes.
pub type Decode = Arc<dyn Fn(&KeyValue) -> Result<Decoded, String> + Send + Sync>;

/// Decides whether an object is selected. Called for every candidate: it must be cheap and must not block.
pub type Filter = Arc<dyn Fn(&Object) -> bool + Send + Sync>;

/// One version of an object.
pub struct Object {
    /// The complete key.
    pub key: Bytes,
    /// The `resourceVersion` to show. For a deleted object the revision of the deletion, or of the change by which it
    /// left a selection; header and payload are then of the last version before.
    pub revision: Revision,
    /// The revision of the version that header and payload are of.
    pub content_revision: Revision,
    /// The parsed facts.
    pub header: Arc<Header>,
    /// The bytes, without the resource version (which is not stored in them).
    pub payload: Bytes,
    /// What has been made of the bytes so far.
    pub encodings: Encodings,
    /// Something the caller has made of the object and wants to find again.
    pub memo: OnceLock<Arc<dyn Any + Send + Sync>>,
    note: AtomicU8,
}

impl Object {
    /// Decodes a stored version.
    pub fn decode(decode: &Decode, kv: KeyValue) -> Result<Self, String> {
        let Decoded { header, payload } = decode(&kv)?;
        Ok(Self {
            key: kv.key,
            revision: kv.mod_revision,
            content_revision: kv.mod_revision,
            note: AtomicU8::new(header.note),
            header: Arc::new(header),
            payload,
            encodings: Encodings::default(),
            memo: OnceLock::new(),
        })
    }

    /// What the caller has found out about the payload: 0 until it says otherwise.
    pub fn note(&self) -> u8 {
        self.note.load(Ordering::Relaxed)
    }

    /// Remembers what the caller has found out about the payload.
    pub fn set_note(&self, note: u8) {
        self.note.store(note, Ordering::Relaxed);
    }

    /// The same content as of a later revision.
    pub fn at(&self, revision: Revision) -> Self {
        Self {
            key: self.key.clone(),
            revision,
            content_revision: self.content_revision,
            header: Arc::clone(&self.header),
            payload: self.payload.clone(),
            encodings: Encodings::default(),
            memo: OnceLock::new(),
            note: AtomicU8::new(self.note()),
        }
    }

    /// Bytes this version keeps in memory, roughly.
    pub fn weight(&self) -> usize {
        self.payload.len() + self.key.len() + 300
    }
}

impl std::fmt::Debug for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let key = String::from_utf8_lossy(&self.key);
        write!(f, "{key} at {} ({} bytes)", self.revision, self.payload.len())
    }
}

impl Keyed for Object {
    fn key(&self) -> &[u8] {
        &self.key
    }
}

/// Names an encoding: the server numbers its media types, versions and frame kinds as it likes.
pub type Format = u32;

/// Encodings of one object version, made on first demand and shared by everyone who asks for the same.
#[derive(Default)]
pub struct Encodings {
    slots: Mutex<Vec<(Format, Bytes)>>,
    /// Whether anyone has asked since the last sweep.
    used: AtomicBool,
}

impl Encodings {
    /// The encoding in `format`, made by `encode` when nobody has asked for it yet. Those who ask at the same time wait
    /// for the first rather than repeat the work. An error is not remembered.
    pub fn get_or_try_init<E>(
        &self,
        format: Format,
        encode: impl FnOnce() -> Result<Bytes, E>,
    ) -> Result<Bytes, E> {
        let mut slots = self.slots.lock();
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
        if let Some((_, bytes)) = slots.iter().find(|(known, _)| *known == format) {
            return Ok(bytes.clone());
        }
        let bytes = encode()?;
        slots.reserve_exact(1);
        slots.push((format, bytes.clone()));
        Ok(bytes)
    }

    /// The encoding in `format` if it has been made.
    pub fn get(&self, format: Format) -> Option<Bytes> {
        self.slots.lock().iter().find(|(known, _)| *known == format).map(|(_, bytes)| bytes.clone())
    }

    /// The encoding in `format` if it has been made; counts as a use of it.
    pub fn get_used(&self, format: Format) -> Option<Bytes> {
        let found = self.get(format);
        if found.is_some() && !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
        found
    }

    /// Forgets all encodings; those in use live on with their users. Returns the bytes given up.
    pub fn clear(&self) -> usize {
        std::mem::take(&mut *self.slots.lock()).iter().map(|(_, bytes)| bytes.len()).sum()
    }

    /// Forgets the encodings nobody has asked for since the last sweep; the bytes that stay.
    pub fn sweep(&self) -> usize {
        if self.used.swap(false, Ordering::Relaxed) {
            return self.slots.lock().iter().map(|(_, bytes)| bytes.len()).sum();
        }
        self.clear();
        0
    }
}

impl std::fmt::Debug for Encodings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.slots.lock().iter().map(|(format, bytes)| (*format, bytes.len())))
            .finish()
    }
}
