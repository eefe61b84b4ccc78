//! Lists written as the client reads: items are encoded, copied and compressed a chunk at a time, so that a list of any
//! size costs a chunk of memory beside what the watch cache holds.
//!
//! Plain lists are gathered from shared bytes. Compressed ones are joined from pieces that the objects keep; what is
//! made per request (tables, partial metadata) is compressed as it goes. Start at [`Body`].

use std::io::Write;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body::Frame;
use registry::api::{Format, Gvk, List, ObjectRef};
use registry::deflate::{Deflater, Member, Piece};
use registry::errors::ApiError;

use super::framing;
use crate::tables;
use crate::web::body::{BodyError, GZIP_THRESHOLD};

/// How much is handed to the connection at a time: large enough that framing costs nothing, small enough that a slow
/// reader holds little.
const CHUNK: usize = 64 << 10;

/// What the items are written as.
pub(super) enum Style {
    /// Whole objects.
    Objects(Format),
    /// `PartialObjectMetadata` with this start, in JSON.
    PartialJson(String),
    /// `PartialObjectMetadata` in protobuf.
    PartialProtobuf,
    /// Rows of a table.
    Rows(tables::Renderer),
}

impl Style {
    fn protobuf(&self) -> bool {
        matches!(self, Self::Objects(Format::ProtobufItem) | Self::PartialProtobuf)
    }

    /// Appends an item with what separates it from the one before.
    fn append(&self, object: &ObjectRef, first: bool, out: &mut BytesMut) -> Result<(), ApiError> {
        if !self.protobuf() && !first {
            out.put_u8(b',');
        }
        match self {
            Self::Objects(format) => {
                let wire = object.wire(*format, true)?;
                if self.protobuf() {
                    out.extend_from_slice(&registry::api::lead(*format, wire.head.len() + wire.body.len()));
                }
                out.extend_from_slice(&wire.head);
                out.extend_from_slice(&wire.body);
            }
            Self::PartialJson(head) => {
                out.extend_from_slice(head.as_bytes());
                out.extend_from_slice(&object.metadata(false)?);
                out.put_u8(b'}');
            }
            Self::PartialProtobuf => {
                let meta = object.metadata(true)?;
                let message = framing::protobuf_item_len(meta.len());
                out.extend_from_slice(&registry::api::lead(Format::ProtobufItem, message));
                framing::field(out, 1, &meta);
            }
            Self::Rows(renderer) => {
                let mut row = Vec::with_capacity(1024);
                renderer.row(object, &mut row)?;
                out.extend_from_slice(&row);
            }
        }
        Ok(())
    }

    /// Bytes of all items with their tags, in protobuf.
    fn protobuf_len(&self, items: &[ObjectRef]) -> Result<usize, ApiError> {
        let len = |object: &ObjectRef| match self {
            Self::PartialProtobuf => object.metadata(true).map(|m| framing::protobuf_item_len(m.len())),
            _ => object.wire_len(Format::ProtobufItem),
        };
        items.iter().map(|object| len(object).map(framing::protobuf_item_len)).sum()
    }
}

/// How the body is compressed.
enum Gzip {
    /// As it goes.
    Stream(GzEncoder<Vec<u8>>),
    /// From pieces.
    Join { deflater: Deflater, member: Member, format: Format },
}

/// The body of a list.
pub(super) struct Body {
    items: Vec<ObjectRef>,
    next: usize,
    style: Style,
    head: Bytes,
    tail: &'static [u8],
    out: BytesMut,
    gzip: Option<Gzip>,
    done: bool,
    /// The length of the largest chunk sent.
    largest: usize,
}

/// A list ready to be sent.
pub(super) enum Written {
    /// It was small.
    Whole(Bytes),
    /// It is written as the client reads; compressed or not.
    Stream(Box<Body>, bool),
}

impl Body {
    /// A body of the list's items.
    ///
    /// # Errors
    /// When an item cannot be encoded.
    pub(super) fn new(gvk: &Gvk, list: List, style: Style) -> Result<Self, ApiError> {
        let (head, tail): (Bytes, &[u8]) = if style.protobuf() {
            let len = style.protobuf_len(&list.items)?;
            (framing::protobuf_list_head(gvk, &list, len).freeze(), framing::ENVELOPE_TAIL)
        } else if let Style::Rows(renderer) = &style {
            (renderer.head(&list).into(), b"]}\n")
        } else {
            (framing::json_list_head(gvk, &list).into(), b"]}\n")
        };
        let out = BytesMut::from(&head[..]);
        Ok(Self { items: list.items, next: 0, style, head, tail, out, gzip: None, done: false, largest: 0 })
    }

    /// Everything at once, without the final newline of JSON, for what has to be rewritten as a whole.
    pub(super) fn whole(mut self) -> Result<Bytes, ApiError> {
        self.fill(usize::MAX)?;
        let end = self.out.len() - usize::from(self.out.ends_with(b"]}\n"));
        Ok(self.out.split_to(end).freeze())
    }

    /// Starts writing. Small lists are finished at once; larger ones are compressed if the client takes that.
    ///
    /// # Errors
    /// When one of the first items cannot be encoded: later there is no way to say so.
    pub(super) fn start(mut self, gzip: bool) -> Result<Written, ApiError> {
        self.fill(if gzip { GZIP_THRESHOLD + 1 } else { CHUNK })?;
        let small = self.out.len() <= GZIP_THRESHOLD || !gzip;
        if self.done && small {
            return Ok(Written::Whole(self.out.freeze()));
        }
        if gzip {
            self.compress()?;
        }
        Ok(Written::Stream(Box::new(self), gzip))
    }

    /// Begins again, compressed.
    fn compress(&mut self) -> Result<(), ApiError> {
        (self.next, self.done) = (0, false);
        self.out.clear();
        let Style::Objects(format) = self.style else {
            let mut encoder = GzEncoder::new(Vec::with_capacity(CHUNK), Compression::new(1));
            encoder.write_all(&self.head).map_err(ApiError::internal)?;
            self.gzip = Some(Gzip::Stream(encoder));
            return Ok(());
        };
        let (mut deflater, mut member) = (Deflater::default(), Member::default());
        self.out.extend_from_slice(Member::HEAD);
        join(&deflater.piece(&[&self.head]).map_err(ApiError::internal)?, &mut member, &mut self.out);
        self.gzip = Some(Gzip::Join { deflater, member, format });
        Ok(())
    }

    /// Writes until `until` bytes are ready or the list is done.
    fn fill(&mut self, until: usize) -> Result<(), ApiError> {
        while !self.done && self.out.len() < until {
            match self.gzip.take() {
                None => self.plain()?,
                Some(Gzip::Stream(encoder)) => self.streamed(encoder)?,
                Some(Gzip::Join { deflater, member, format }) => self.joined(deflater, member, format)?,
            }
        }
        Ok(())
    }

    fn plain(&mut self) -> Result<(), ApiError> {
        let Some(object) = self.items.get(self.next) else {
            self.out.extend_from_slice(self.tail);
            self.finish();
            return Ok(());
        };
        self.style.append(object, self.next == 0, &mut self.out)?;
        self.next += 1;
        Ok(())
    }

    fn streamed(&mut self, mut encoder: GzEncoder<Vec<u8>>) -> Result<(), ApiError> {
        let Some(object) = self.items.get(self.next) else {
            encoder.write_all(self.tail).map_err(ApiError::internal)?;
            self.out.extend_from_slice(&encoder.finish().map_err(ApiError::internal)?);
            self.finish();
            return Ok(());
        };
        let mut item = BytesMut::with_capacity(2048);
        self.style.append(object, self.next == 0, &mut item)?;
        encoder.write_all(&item).map_err(ApiError::internal)?;
        self.out.extend_from_slice(encoder.get_ref());
        encoder.get_mut().clear();
        self.next += 1;
        self.gzip = Some(Gzip::Stream(encoder));
        Ok(())
    }

    fn joined(&mut self, mut deflater: Deflater, mut member: Member, format: Format) -> Result<(), ApiError> {
        let Some(object) = self.items.get(self.next) else {
            let tail = deflater.piece(&[self.tail]).map_err(ApiError::internal)?;
            join(&tail, &mut member, &mut self.out);
            self.out.extend_from_slice(&member.tail());
            self.finish();
            return Ok(());
        };
        let piece = if self.next == 0 && !self.style.protobuf() {
            // Kept pieces begin with a comma; the first item has none before it.
            let wire = object.wire(format, false)?;
            deflater.piece(&[&wire.head, &wire.body]).map_err(ApiError::internal)?
        } else {
            object.piece(format, &mut deflater)?
        };
        join(&piece, &mut member, &mut self.out);
        self.next += 1;
        self.gzip = Some(Gzip::Join { deflater, member, format });
        Ok(())
    }

    fn finish(&mut self) {
        self.done = true;
        self.items = Vec::new();
    }
}

fn join(piece: &Piece, member: &mut Member, out: &mut BytesMut) {
    member.push(piece);
    out.extend_from_slice(&piece.bytes);
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Err(error) = self.fill(CHUNK) {
            // The connection is cut: the head has been sent.
            tracing::error!(err = %error, "Unable to encode an item of a list");
            return Poll::Ready(Some(Err(error.into())));
        }
        if self.out.is_empty() {
            return Poll::Ready(None);
        }
        // As large as the largest so far, so that the last item of a chunk rarely moves all of it.
        self.largest = self.largest.max(self.out.len()).min(4 * CHUNK);
        let next = if self.done { 0 } else { self.largest.max(CHUNK + 8192) };
        let chunk = std::mem::replace(&mut self.out, BytesMut::with_capacity(next)).freeze();
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.done && self.out.is_empty()
    }
}
