//! What a frame of a body carries: one piece of bytes, or several that go out together without being joined first.
//!
//! TLS copies what it encrypts in any case, and takes it from as many places as there are. Start at [`Data`].

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

/// The bytes of a frame.
#[derive(Debug)]
pub enum Data {
    /// In one piece.
    One(Bytes),
    /// In several, none of them empty.
    Several(Pieces),
}

/// Pieces of bytes, none of them empty, in their order.
#[derive(Debug, Default)]
pub struct Pieces {
    pieces: VecDeque<Bytes>,
    len: usize,
}

impl Pieces {
    /// Appends a piece.
    pub fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.len += piece.len();
            self.pieces.push_back(piece);
        }
    }

    /// Bytes of all of them.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes the first `most` bytes, or all if they are fewer. A piece that is cut is shared by both.
    pub fn take(&mut self, most: usize) -> Data {
        let mut out = Pieces::default();
        while let Some(mut piece) = self.pieces.pop_front() {
            let room = most - out.len;
            if piece.len() > room {
                out.push(piece.split_to(room));
                self.pieces.push_front(piece);
                break;
            }
            out.push(piece);
        }
        self.len -= out.len;
        match out.pieces.len() {
            0 | 1 => Data::One(out.pieces.pop_front().unwrap_or_default()),
            _ => Data::Several(out),
        }
    }
}

impl From<Bytes> for Data {
    fn from(bytes: Bytes) -> Self {
        Data::One(bytes)
    }
}

impl From<Data> for Bytes {
    fn from(mut data: Data) -> Self {
        data.copy_to_bytes(data.remaining())
    }
}

impl Buf for Data {
    fn remaining(&self) -> usize {
        match self {
            Data::One(bytes) => bytes.len(),
            Data::Several(several) => several.len,
        }
    }

    fn chunk(&self) -> &[u8] {
        match self {
            Data::One(bytes) => bytes,
            Data::Several(several) => several.pieces.front().map_or(&[], |piece| piece),
        }
    }

    fn chunks_vectored<'a>(&'a self, to: &mut [IoSlice<'a>]) -> usize {
        match self {
            Data::One(bytes) => bytes.chunks_vectored(to),
            Data::Several(several) => {
                let filled = to.iter_mut().zip(&several.pieces);
                filled.map(|(to, piece)| *to = IoSlice::new(piece)).count()
            }
        }
    }

    fn advance(&mut self, mut count: usize) {
        match self {
            Data::One(bytes) => bytes.advance(count),
            Data::Several(several) => {
                assert!(count <= several.len, "advanced beyond the end");
                several.len -= count;
                while count > 0 {
                    let Some(piece) = several.pieces.front_mut() else { break };
                    if count < piece.len() {
                        piece.advance(count);
                        break;
                    }
                    count -= piece.len();
                    several.pieces.pop_front();
                }
            }
        }
    }

    fn copy_to_bytes(&mut self, len: usize) -> Bytes {
        match self {
            Data::One(bytes) => bytes.copy_to_bytes(len),
            Data::Several(several) => {
                assert!(len <= several.len, "copied beyond the end");
                let mut out = bytes::BytesMut::with_capacity(len);
                let mut part = several.take(len);
                while part.has_remaining() {
                    out.extend_from_slice(part.chunk());
                    part.advance(part.chunk().len());
                }
                out.freeze()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pieces_are_the_bytes_they_were_made_of(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..12),
            most in 1usize..50,
            step in 1usize..50,
        ) {
            let want: Vec<u8> = parts.concat();
            let mut pieces = Pieces::default();
            parts.into_iter().for_each(|part| pieces.push(part.into()));
            let mut got = Vec::new();
            while !pieces.is_empty() {
                let before = pieces.len();
                let mut data = pieces.take(most);
                prop_assert_eq!(data.remaining(), most.min(before));
                while data.has_remaining() {
                    let mut slices = [IoSlice::new(&[]); 64];
                    let filled = data.chunks_vectored(&mut slices);
                    let seen: usize = slices[..filled].iter().map(|slice| slice.len()).sum();
                    prop_assert_eq!(seen, data.remaining());
                    let n = step.min(data.remaining());
                    if step % 2 == 0 {
                        got.extend_from_slice(&data.copy_to_bytes(n));
                    } else {
                        got.extend(slices.iter().flat_map(|slice| slice.iter()).take(n));
                        data.advance(n);
                    }
                }
            }
            prop_assert_eq!(got, want);
        }
    }
}
