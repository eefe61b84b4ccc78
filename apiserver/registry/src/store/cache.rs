//! Watch caches and what they hold: one [`Cacher`] per stored resource, shared by all its served versions, and how
//! stored bytes become a cached object's header.
//!
//! Nothing is decoded here beyond the header: names, labels, the fields a selector may name, and the places at which
//! the bytes are cut when a resource version is put in. [`super::handle`] makes the wire forms.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ::api::resources::{ResourceRow, StoredRow};
use ::api::types;
use bytes::Bytes;
use compact_str::CompactString;
use hashbrown::HashMap;
use machinery::proto::wire::{self, Wire};
use machinery::proto::{self, Envelope};
use machinery::schema::TypeId;
use parking_lot::Mutex;
use storage::cacher::{Cacher, Config, Decode, Decoded, Header, Object};
use storage::store::{KeyValue, Store};

use crate::api::Gvk;
use crate::errors::ApiError;
use crate::{codec, conversion, filter, meta, shape};

/// Nothing is known about the bytes yet.
pub const UNCHECKED: u8 = 0;
/// The bytes are what today's server would write: they may be served.
pub const CANONICAL: u8 = 1;
/// The object has to be decoded to be served: defaults or conversions are missing, or it is stored as JSON.
pub const DECODED: u8 = 2;

/// Wire type of length-delimited fields.
const BYTES: u8 = 2;
/// Number of `resourceVersion` in ObjectMeta.
const RESOURCE_VERSION: u32 = 6;
/// The two empty fields at the end of every envelope.
const ENVELOPE_TAIL: usize = 4;

/// How a served row reads its cache.
pub struct Source {
    /// The cache.
    pub cacher: Cacher,
    /// The selectable fields in the order of [`Header::fields`].
    pub fields: Arc<[String]>,
    /// The type by which stored messages can be served as they are; `None` when serving means converting.
    pub splice: Option<TypeId>,
    /// Names this row's encodings among those of the other versions of the resource.
    pub slot: u32,
    /// The kind of its lists.
    pub list_gvk: Gvk,
    /// Frames of recent watch events.
    pub frames: Frames,
    /// What cached objects may keep.
    pub budget: Arc<Budget>,
}

/// Builds the caches of the served rows. Nothing runs before the first use.
pub struct Builder {
    store: Arc<dyn Store>,
    prefix: String,
    trusted: Arc<Trusted>,
    budget: Arc<Budget>,
    caches: HashMap<&'static str, (Cacher, Arc<[String]>)>,
}

impl Builder {
    /// A builder of caches over `store`, below `prefix`.
    pub fn new(store: Arc<dyn Store>, prefix: &str, trusted: Arc<Trusted>) -> Self {
        Builder { store, prefix: prefix.to_owned(), trusted, budget: Arc::default(), caches: HashMap::new() }
    }

    /// The source of a row; `None` for what is not stored. `slot` is unique among rows.
    pub fn source(&mut self, row: &'static ResourceRow, slot: u32) -> Option<Source> {
        let stored = row.stored.as_ref()?;
        let (cacher, fields) = self
            .caches
            .entry(stored.key)
            .or_insert_with(|| cache(&self.store, &self.prefix, row, stored, &self.trusted))
            .clone();
        let splice = conversion::same_wire(stored.kind, row.kind).then(|| shape::message_type(row.kind));
        let list_gvk = Gvk {
            group: row.kind.group.into(),
            version: row.kind.version.into(),
            kind: format!("{}List", row.kind.kind),
        };
        Some(Source {
            cacher,
            fields,
            splice: splice.flatten(),
            slot,
            list_gvk,
            frames: Frames::default(),
            budget: Arc::clone(&self.budget),
        })
    }

    /// Ends building: the budget now knows all caches.
    pub fn finish(self) {
        self.budget.watch_over(self.caches.into_values().map(|(cacher, _)| cacher).collect());
    }
}

/// The source of a version of a custom resource, with a cache of its own: versions differ in their selectable fields.
pub fn custom(
    store: &Arc<dyn Store>,
    prefix: &str,
    row: &'static ResourceRow,
    version: &Arc<crate::customresources::Version>,
) -> Source {
    let fields: Arc<[String]> = filter::field_names(row).into();
    let (schemas, names) = (Arc::clone(&version.schemas), Arc::clone(&fields));
    let decode: Decode = Arc::new(move |kv| {
        let tree = schemas.decode_stored(row.kind, &kv.value)?;
        Ok(Decoded { header: header(row, &names, &tree), payload: kv.value.clone() })
    });
    let key = row.stored.as_ref().map_or("", |s| s.key);
    Source {
        cacher: Cacher::new(Config::new(Arc::clone(store), format!("{prefix}/{key}/"), decode)),
        fields,
        splice: None,
        slot: 0,
        list_gvk: Gvk {
            group: row.kind.group.into(),
            version: row.kind.version.into(),
            kind: version.list_kind.clone(),
        },
        frames: Frames::default(),
        budget: Arc::default(),
    }
}

/// The header of an object that was decoded.
fn header(row: &ResourceRow, fields: &[String], tree: &machinery::Value) -> Header {
    let text = |t: &str| CompactString::from(t);
    let labels = meta::labels(tree).into_iter().flatten();
    let mut labels: Vec<_> =
        labels.filter_map(|(k, v)| Some((text(k.as_str()), text(v.as_str()?)))).collect();
    labels.sort();
    let fields = fields.iter().map(|f| text(&filter::field_value(row, tree, f))).collect();
    Header {
        namespace: text(meta::namespace(tree)),
        name: text(meta::name(tree)),
        uid: text(meta::uid(tree)),
        labels: labels.into(),
        fields,
        note: DECODED,
        ..Header::default()
    }
}

fn cache(
    store: &Arc<dyn Store>,
    prefix: &str,
    row: &'static ResourceRow,
    stored: &'static StoredRow,
    trusted: &Arc<Trusted>,
) -> (Cacher, Arc<[String]>) {
    let fields: Arc<[String]> = filter::field_names(row).into();
    let decoder = Decoder {
        row,
        stored,
        api_version: stored.kind.api_version(),
        id: shape::message_type(stored.kind),
        fields: Arc::clone(&fields),
        trusted: Arc::clone(trusted),
    };
    let decode: Decode = Arc::new(move |kv| decoder.decode(kv));
    let root = format!("{prefix}/{}/", stored.key);
    let store = store.part(&root).unwrap_or_else(|| Arc::clone(store));
    let config = Config {
        // The one field by which upstream indexes: kubelets watch the pods of their node.
        index: fields.iter().position(|f| row.resource == "pods" && f == "spec.nodeName"),
        // Upstream's default watch cache size of events is 0.
        cached: row.resource != "events",
        ..Config::new(store, root, decode)
    };
    (Cacher::new(config), fields)
}

/// Makes headers of stored bytes.
struct Decoder {
    row: &'static ResourceRow,
    stored: &'static StoredRow,
    api_version: String,
    id: Option<TypeId>,
    fields: Arc<[String]>,
    trusted: Arc<Trusted>,
}

impl Decoder {
    fn decode(&self, kv: &KeyValue) -> Result<Decoded, String> {
        let header = match self.id {
            Some(id) if kv.value.starts_with(&proto::MAGIC) => self.protobuf(id, &kv.value)?,
            _ => self.json(&kv.value)?,
        };
        Ok(Decoded { header, payload: kv.value.clone() })
    }

    fn protobuf(&self, id: TypeId, payload: &Bytes) -> Result<Header, String> {
        let envelope = Envelope::open(payload).map_err(|e| e.to_string())?;
        if envelope.api_version != self.api_version || envelope.kind != self.stored.kind.kind {
            let (version, kind) = (envelope.api_version, envelope.kind);
            let wanted = &self.api_version;
            return Err(format!("stored as {kind} in version {version} instead of {wanted}"));
        }
        let mut header = Header::default();
        let cuts = cuts(payload, envelope.raw, &mut header).map_err(|e| e.to_string())?;
        header.note = match cuts {
            Some(marks) => {
                header.marks = marks;
                if self.trusted.knows(payload) { CANONICAL } else { UNCHECKED }
            }
            None => DECODED,
        };
        let mut fields = Vec::with_capacity(self.fields.len());
        for field in self.fields.iter() {
            let pick = |path: &[&str]| proto::pick(types(), id, envelope.raw, path);
            fields.push(filter::stored_field(self.row, field, pick).map_err(|e| e.to_string())?);
        }
        header.fields = fields.into();
        Ok(header)
    }

    fn json(&self, payload: &Bytes) -> Result<Header, String> {
        let tree = codec::decode_stored(self.row, payload).map_err(|e| e.message)?;
        Ok(header(self.row, &self.fields, &tree))
    }
}

fn lossy(bytes: &[u8]) -> CompactString {
    CompactString::from_utf8_lossy(bytes)
}

/// Reads name, namespace, uid and labels, and finds the places at which a resource version is put in: the start of the
/// metadata, the start and end of what the version replaces, and the end of the metadata. `None` when the message is
/// not laid out as upstream's encoder does it.
fn cuts(payload: &Bytes, raw: &[u8], header: &mut Header) -> wire::Result<Option<[u32; 4]>> {
    let offset = |part: &[u8]| (part.as_ptr() as usize).wrapping_sub(payload.as_ptr() as usize);
    let mut message = Wire::new(raw);
    let mut metadata: Option<&[u8]> = None;
    let mut regular = offset(raw) + raw.len() + ENVELOPE_TAIL == payload.len();
    while !message.is_empty() {
        let first = message.at == 0;
        match message.tag()? {
            (1, BYTES) => {
                regular &= first && metadata.is_none();
                metadata = Some(message.bytes()?);
            }
            (_, wire) => message.skip(wire)?,
        }
    }
    let Some(metadata) = metadata else { return Ok(None) };
    let start = offset(metadata);
    let (mut from, mut to) = (None, None);
    let mut labels = Vec::new();
    let mut w = Wire::new(metadata);
    while !w.is_empty() {
        let at = w.at;
        let (tag, wire) = w.tag()?;
        if tag > RESOURCE_VERSION && from.is_none() {
            (from, to) = (Some(at), Some(at));
        }
        match (tag, wire) {
            (1, BYTES) => header.name = lossy(w.bytes()?),
            (3, BYTES) => header.namespace = lossy(w.bytes()?),
            (5, BYTES) => header.uid = lossy(w.bytes()?),
            (11, BYTES) => labels.push(pair(w.bytes()?)?),
            (_, wire) => w.skip(wire)?,
        }
        if tag == RESOURCE_VERSION {
            regular &= from.is_none();
            (from, to) = (Some(at), Some(w.at));
        }
    }
    labels.sort();
    header.labels = labels.into();
    let end = metadata.len();
    let marks = [start, start + from.unwrap_or(end), start + to.unwrap_or(end), start + end];
    Ok(regular.then(|| marks.map(|mark| u32::try_from(mark).unwrap_or(u32::MAX))))
}

fn pair(entry: &[u8]) -> wire::Result<(CompactString, CompactString)> {
    let mut w = Wire::new(entry);
    let mut out = (CompactString::default(), CompactString::default());
    while !w.is_empty() {
        match w.tag()? {
            (1, BYTES) => out.0 = lossy(w.bytes()?),
            (2, BYTES) => out.1 = lossy(w.bytes()?),
            (_, wire) => w.skip(wire)?,
        }
    }
    Ok(out)
}

/// How many values of our own are remembered: more than can be on their way from the store at a time.
const REMEMBERED: usize = 4096;

/// Remembers what this server has encoded itself, so that it need not check it when it comes back from the store.
#[derive(Default)]
pub struct Trusted {
    state: foldhash::quality::RandomState,
    recent: Mutex<(HashSet<u64>, VecDeque<u64>)>,
}

impl Trusted {
    fn digest(&self, bytes: &[u8]) -> u64 {
        use std::hash::BuildHasher;
        self.state.hash_one(bytes)
    }

    /// Notes bytes that were encoded from a complete object.
    pub fn add(&self, bytes: &[u8]) {
        let digest = self.digest(bytes);
        let mut recent = self.recent.lock();
        let (known, order) = &mut *recent;
        if known.insert(digest) {
            order.push_back(digest);
            if order.len() > REMEMBERED
                && let Some(oldest) = order.pop_front()
            {
                known.remove(&oldest);
            }
        }
    }

    /// Whether these bytes were noted, not long ago.
    pub fn knows(&self, bytes: &[u8]) -> bool {
        self.recent.lock().0.contains(&self.digest(bytes))
    }
}

/// Frames kept per resource at most, in number and bytes. Watches that keep up are a few events apart.
const FRAMES: usize = 64;
const FRAME_BYTES: usize = 1 << 20;

/// The frames most recently sent by the watches of a resource, so that each is encoded once.
#[derive(Default)]
pub struct Frames(Mutex<Recent>);

#[derive(Default)]
struct Recent {
    frames: VecDeque<(Arc<Object>, u32, Bytes)>,
    bytes: usize,
}

impl Frames {
    /// The frame of an object in a slot; made while others who want it wait.
    pub fn get_or_make(
        &self,
        object: &Arc<Object>,
        slot: u32,
        make: &mut dyn FnMut() -> Result<Bytes, ApiError>,
    ) -> Result<Bytes, ApiError> {
        let mut recent = self.0.lock();
        let same = |entry: &&(Arc<Object>, u32, Bytes)| Arc::ptr_eq(&entry.0, object) && entry.1 == slot;
        if let Some((_, _, frame)) = recent.frames.iter().rev().find(same) {
            return Ok(frame.clone());
        }
        let frame = make()?;
        if frame.len() <= FRAME_BYTES / 4 {
            recent.bytes += frame.len();
            recent.frames.push_back((Arc::clone(object), slot, frame.clone()));
        }
        while recent.frames.len() > FRAMES || recent.bytes > FRAME_BYTES {
            let Some((_, _, oldest)) = recent.frames.pop_front() else { break };
            recent.bytes -= oldest.len();
        }
        Ok(frame)
    }
}

/// How often encodings that nobody asks for any more are let go.
const SWEEP: Duration = Duration::from_secs(60);
/// Encodings kept in the whole process at most: the JSON of 10,000 large pods, and their compressed form.
const ENCODED: usize = 160 << 20;

/// Bounds the encodings that cached objects keep, over all resources.
#[derive(Default)]
pub struct Budget {
    bytes: AtomicUsize,
    sweeping: AtomicBool,
    caches: OnceLock<Vec<Cacher>>,
}

impl Budget {
    /// Names the caches whose objects keep encodings. Only the first call counts.
    pub fn watch_over(&self, caches: Vec<Cacher>) {
        let _ = self.caches.set(caches);
    }

    /// Whether another `len` bytes may be kept; counts them if so.
    pub fn allows(self: &Arc<Self>, len: usize) -> bool {
        if self.bytes.load(Ordering::Relaxed) + len > ENCODED {
            return false;
        }
        self.bytes.fetch_add(len, Ordering::Relaxed);
        if !self.sweeping.swap(true, Ordering::Relaxed) {
            tokio::spawn(Arc::clone(self).sweep());
        }
        true
    }

    /// Lets go of what is not asked for, until nothing is kept. The count is exact after every round; between rounds it
    /// errs on the high side, because objects that go take their encodings with them.
    async fn sweep(self: Arc<Self>) {
        loop {
            tokio::time::sleep(SWEEP).await;
            let caches = self.caches.get().map(Vec::as_slice).unwrap_or_default();
            let kept = caches.iter().map(Cacher::sweep_encodings).sum();
            self.bytes.store(kept, Ordering::Relaxed);
            if kept == 0 {
                self.sweeping.store(false, Ordering::Relaxed);
                return;
            }
        }
    }
}
