//! Compressed pieces that can be joined into one gzip member in any order, so that a list is compressed once per
//! object rather than once per request.
//!
//! A piece is deflated by itself and ends on a byte boundary (a sync flush), so pieces may follow each other; the
//! checksum of the whole is combined from theirs. Pieces cannot refer to each other, which costs some size.

use bytes::{BufMut, Bytes, BytesMut};
use flate2::{Compress, Compression, Crc, FlushCompress, Status};

/// A little more than the 1 that upstream compresses every response with: pieces are used again.
const LEVEL: u32 = 4;
/// Generator polynomial of CRC-32, bits reversed.
const POLYNOMIAL: u32 = 0xedb8_8320;

/// A compressed piece.
#[derive(Clone, Debug)]
pub struct Piece {
    /// The deflated bytes.
    pub bytes: Bytes,
    /// CRC-32 of the plain bytes.
    pub crc: u32,
    /// What a checksum is multiplied by when this piece follows: x to the number of plain bits.
    pub power: u32,
    /// Number of plain bytes.
    pub len: u32,
}

/// Bytes before the deflated ones when a piece is kept as one.
const HEAD: usize = 12;

impl Piece {
    /// The piece as one run of bytes.
    pub fn pack(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(HEAD + self.bytes.len());
        out.put_u32(self.crc);
        out.put_u32(self.power);
        out.put_u32(self.len);
        out.extend_from_slice(&self.bytes);
        out.freeze()
    }

    /// A packed piece.
    pub fn unpack(packed: &Bytes) -> Option<Self> {
        let word = |at: usize| Some(u32::from_be_bytes(packed.get(at..at + 4)?.try_into().ok()?));
        let (crc, power, len) = (word(0)?, word(4)?, word(8)?);
        Some(Piece { bytes: packed.slice(HEAD..), crc, power, len })
    }
}

/// Compresses pieces; its tables are reused.
pub struct Deflater(Compress);

impl Default for Deflater {
    fn default() -> Self {
        Deflater(Compress::new(Compression::new(LEVEL), false))
    }
}

impl Deflater {
    /// Compresses the parts as one piece.
    ///
    /// # Errors
    /// When the compressor fails, which it does for want of memory only.
    pub fn piece(&mut self, parts: &[&[u8]]) -> Result<Piece, flate2::CompressError> {
        self.0.reset();
        let (mut crc, mut out) = (Crc::new(), Vec::with_capacity(1024));
        for part in parts {
            crc.update(part);
            self.write(part, FlushCompress::None, &mut out)?;
        }
        self.write(&[], FlushCompress::Sync, &mut out)?;
        out.shrink_to_fit();
        let len = crc.amount();
        Ok(Piece { bytes: out.into(), crc: crc.sum(), power: power(len), len })
    }

    fn write(
        &mut self,
        mut input: &[u8],
        flush: FlushCompress,
        out: &mut Vec<u8>,
    ) -> Result<(), flate2::CompressError> {
        loop {
            if out.capacity() - out.len() < 64 {
                out.reserve(out.capacity().max(1024));
            }
            let before = self.0.total_in();
            let status = self.0.compress_vec(input, out, flush)?;
            let taken = usize::try_from(self.0.total_in() - before).unwrap_or(input.len());
            input = input.get(taken..).unwrap_or_default();
            // A flush is complete when the output was not what stopped it.
            let room = out.capacity() > out.len();
            if input.is_empty() && (room || status == Status::BufError) {
                return Ok(());
            }
        }
    }
}

/// A gzip member under construction: the checksum and length of what has been joined.
#[derive(Default)]
pub struct Member {
    crc: u32,
    len: u32,
}

impl Member {
    /// What a member starts with: deflate, no name, no time, unknown system (as Go writes it).
    pub const HEAD: &'static [u8] = &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

    /// Notes that a piece follows.
    pub fn push(&mut self, piece: &Piece) {
        self.crc = multiply(piece.power, self.crc) ^ piece.crc;
        self.len = self.len.wrapping_add(piece.len);
    }

    /// What a member ends with: an empty last block, checksum, length.
    pub fn tail(&self) -> [u8; 10] {
        let ([a, b, c, d], [e, f, g, h]) = (self.crc.to_le_bytes(), self.len.to_le_bytes());
        [0x03, 0x00, a, b, c, d, e, f, g, h]
    }
}

/// x to the power of eight times `len`, modulo the polynomial. Bits are reversed: the top bit is the constant term.
fn power(len: u32) -> u32 {
    let (mut result, mut square, mut n) = (1 << 31, 1 << 23, len);
    while n > 0 {
        if n & 1 == 1 {
            result = multiply(square, result);
        }
        square = multiply(square, square);
        n >>= 1;
    }
    result
}

/// Multiplies two polynomials modulo the polynomial of CRC-32.
fn multiply(a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    for bit in (0..32).rev() {
        product ^= b & 0_u32.wrapping_sub(a >> bit & 1);
        b = (b >> 1) ^ (POLYNOMIAL & 0_u32.wrapping_sub(b & 1));
    }
    product
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn joined_pieces_are_one_gzip_member() {
        let large = b"0123456789abcdef".repeat(20_000);
        let noise: Vec<u8> = (0..70_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let parts: [&[u8]; 6] = [b"{", &large, b"", b",", &noise, b"}"];
        let mut deflater = Deflater::default();
        let (mut member, mut out) = (Member::default(), Member::HEAD.to_vec());
        for part in parts {
            let piece = deflater.piece(&[part]).unwrap();
            let piece = Piece::unpack(&piece.pack()).unwrap();
            member.push(&piece);
            out.extend_from_slice(&piece.bytes);
        }
        out.extend_from_slice(&member.tail());
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(&out[..]).read_to_end(&mut plain).unwrap();
        assert_eq!(plain, parts.concat());
    }

    #[test]
    fn a_piece_of_parts_is_the_piece_of_their_whole() {
        let mut deflater = Deflater::default();
        let apart = deflater.piece(&[b"ab", b"", b"c"]).unwrap();
        let whole = deflater.piece(&[b"abc"]).unwrap();
        assert_eq!((apart.crc, apart.power, apart.len), (whole.crc, whole.power, whole.len));
    }
}
