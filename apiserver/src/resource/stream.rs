//! Lists written as the client reads: items are encoded and compressed a chunk at a time, so that a list of any size costs
//! a chunk of memory beside what the watch cache holds.
//!
//! Plain lists share the bytes of the watch cache ([`Out`]). Compressed ones are joined from pieces that the objects keep; what is
//! made per request (tables, partial metadata) is compressed as it goes. Start at [`Body`].

use std::io::Write;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use component::serving::{Data, Pieces};
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body::Frame;
use registry::api::{Format, Gvk, List, ObjectRef};
use registry::deflate::{Deflater, Member, Piece};
use registry::errors::ApiError;

use super::framing;
use crate::tables;
use crate::web::body::{BodyError, FRAME, GZIP_THRESHOLD};

/// How much is made at a time: large enough that starting costs nothing, small enough that a slow reader holds little.
const CHUNK: usize = 64 << 10;

/// Shorter pieces are copied.
const SHARED: usize = 512;

/// What is ready to be sent: shared pieces, and copies of what is short or made for this list.
#[derive(Default)]
struct Out {
    pieces: Pieces,
    /// What comes after them.
    copied: BytesMut,
}

impl Out {
    fn len(&self) -> usize {
        self.pieces.len() + self.copied.len()
    }

    fn share(&mut self, piece: Bytes) {
        if piece.len() < SHARED {
            self.copied.extend_from_slice(&piece);
            return;
        }
        self.close();
        self.pieces.push(piece);
    }

    fn close(&mut self) {
        self.pieces.push(self.copied.split().freeze());
        if self.copied.capacity() < SHARED {
            // Enough for what is between several objects.
            self.copied.reserve(8 * SHARED);
        }
    }

    fn frame(&mut self) -> Data {
        if self.pieces.len() < FRAME {
            self.close();
        }
        self.pieces.take(FRAME)
    }

    /// All in one piece.
    fn join(mut self) -> Bytes {
        self.close();
        self.pieces.take(usize::MAX).into()
    }
}

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
    fn append(&self, object: &ObjectRef, first: bool, to: &mut Out) -> Result<(), ApiError> {
        let out = &mut to.copied;
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
                to.share(wire.body);
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
    out: Out,
    gzip: Option<Gzip>,
    done: bool,
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
        let out = Out { pieces: Pieces::default(), copied: BytesMut::from(&head[..]) };
        Ok(Self { items: list.items, next: 0, style, head, tail, out, gzip: None, done: false })
    }

    /// Everything at once, without the final newline of JSON, for what has to be rewritten as a whole.
    pub(super) fn whole(mut self) -> Result<Bytes, ApiError> {
        self.fill(usize::MAX)?;
        let all = self.out.join();
        Ok(all.slice(..all.len() - usize::from(all.ends_with(b"]}\n"))))
    }

    /// Starts writing. Small lists are finished at once; larger ones are compressed if the client takes that.
    ///
    /// # Errors
    /// When one of the first items cannot be encoded: later there is no way to say so.
    pub(super) fn start(mut self, gzip: bool) -> Result<Written, ApiError> {
        self.fill(if gzip { GZIP_THRESHOLD + 1 } else { CHUNK })?;
        let small = self.out.len() <= GZIP_THRESHOLD || !gzip;
        if self.done && small {
            return Ok(Written::Whole(self.out.join()));
        }
        if gzip {
            self.compress()?;
        }
        Ok(Written::Stream(Box::new(self), gzip))
    }

    /// Begins again, compressed.
    fn compress(&mut self) -> Result<(), ApiError> {
        (self.next, self.done) = (0, false);
        self.out = Out::default();
        let Style::Objects(format) = self.style else {
            let mut encoder = GzEncoder::new(Vec::with_capacity(CHUNK), Compression::new(1));
            encoder.write_all(&self.head).map_err(ApiError::internal)?;
            self.gzip = Some(Gzip::Stream(encoder));
            return Ok(());
        };
        let (mut deflater, mut member) = (Deflater::default(), Member::default());
        self.out.copied.extend_from_slice(Member::HEAD);
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
            self.out.copied.extend_from_slice(self.tail);
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
            self.out.copied.extend_from_slice(&encoder.finish().map_err(ApiError::internal)?);
            self.finish();
            return Ok(());
        };
        let mut item = Out::default();
        self.style.append(object, self.next == 0, &mut item)?;
        encoder.write_all(&item.join()).map_err(ApiError::internal)?;
        self.out.copied.extend_from_slice(encoder.get_ref());
        encoder.get_mut().clear();
        self.next += 1;
        self.gzip = Some(Gzip::Stream(encoder));
        Ok(())
    }

    fn joined(&mut self, mut deflater: Deflater, mut member: Member, format: Format) -> Result<(), ApiError> {
        let Some(object) = self.items.get(self.next) else {
            let tail = deflater.piece(&[self.tail]).map_err(ApiError::internal)?;
            join(&tail, &mut member, &mut self.out);
            self.out.copied.extend_from_slice(&member.tail());
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

fn join(piece: &Piece, member: &mut Member, out: &mut Out) {
    member.push(piece);
    out.share(piece.bytes.clone());
}

impl http_body::Body for Body {
    type Data = Data;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Data>, BodyError>>> {
        if self.out.len() < FRAME
            && let Err(error) = self.fill(CHUNK)
        {
            // The connection is cut: the head has been sent.
            tracing::error!(err = %error, "Unable to encode an item of a list");
            return Poll::Ready(Some(Err(error.into())));
        }
        if self.out.len() == 0 {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(Ok(Frame::data(self.out.frame()))))
    }

    fn is_end_stream(&self) -> bool {
        self.done && self.out.len() == 0
    }
}
