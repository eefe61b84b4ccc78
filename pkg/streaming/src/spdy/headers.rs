//! Blocks of headers: names and values with their lengths, compressed over the whole connection.

use bytes::{BufMut, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::{Error, Headers};

/// What every block is compressed with from the start: SPDY/3, section 2.6.10.1.
const DICTIONARY: &[u8] = include_bytes!("dictionary.bin");

/// What a block may be uncompressed.
const BLOCK: usize = 64 << 10;

/// Pairs of a block. Upstream: `defaultMaxHeaderCount` of spdystream.
const PAIRS: usize = 1000;

/// Reads the blocks of one direction, each after the other.
#[derive(Debug)]
pub(super) struct Inflater(Decompress);

impl Inflater {
    pub(super) fn new() -> Self {
        Self(Decompress::new(true))
    }

    pub(super) fn read(&mut self, block: &[u8]) -> Result<Headers, Error> {
        parse(&self.inflate(block)?)
    }

    fn inflate(&mut self, mut block: &[u8]) -> Result<Vec<u8>, Error> {
        let mut out = Vec::new();
        let mut part = [0; 4096];
        loop {
            let (read, written) = (self.0.total_in(), self.0.total_out());
            let step = self.0.decompress(block, &mut part, FlushDecompress::Sync);
            let used = usize::try_from(self.0.total_in() - read).unwrap_or(usize::MAX);
            block = block.get(used..).unwrap_or_default();
            let status = match step {
                Ok(status) => status,
                Err(error) if error.needs_dictionary().is_some() => {
                    let set = self.0.set_dictionary(DICTIONARY);
                    set.map_err(|_| Error::Headers("another dictionary"))?;
                    continue;
                }
                Err(_) => return Err(Error::Headers("not compressed as zlib does")),
            };
            let made = usize::try_from(self.0.total_out() - written).unwrap_or(usize::MAX);
            out.extend_from_slice(part.get(..made).unwrap_or_default());
            if out.len() > BLOCK {
                return Err(Error::Headers("too long"));
            }
            if status == Status::StreamEnd {
                return Err(Error::Headers("the compressed stream ended"));
            }
            if made < part.len() && (block.is_empty() || used == 0) {
                break;
            }
        }
        if block.is_empty() { Ok(out) } else { Err(Error::Headers("bytes left over")) }
    }
}

fn take<'a>(block: &mut &'a [u8], length: usize) -> Result<&'a [u8], Error> {
    let (head, rest) = block.split_at_checked(length).ok_or(Error::Headers("shorter than they say"))?;
    *block = rest;
    Ok(head)
}

fn number(block: &mut &[u8]) -> Result<usize, Error> {
    let (head, rest) = block.split_first_chunk::<4>().ok_or(Error::Headers("shorter than they say"))?;
    *block = rest;
    usize::try_from(u32::from_be_bytes(*head)).map_err(|_| Error::Headers("too long"))
}

fn text(block: &mut &[u8]) -> Result<String, Error> {
    let length = number(block)?;
    Ok(String::from_utf8_lossy(take(block, length)?).into_owned())
}

fn parse(mut block: &[u8]) -> Result<Headers, Error> {
    let count = number(&mut block)?;
    if count > PAIRS {
        return Err(Error::Headers("too many"));
    }
    let mut headers = Headers::new();
    for _ in 0..count {
        let pair = (text(&mut block)?, text(&mut block)?);
        if headers.iter().any(|(name, _)| *name == pair.0) {
            return Err(Error::Headers("a name twice"));
        }
        headers.push(pair);
    }
    if block.is_empty() { Ok(headers) } else { Err(Error::Headers("bytes left over")) }
}

/// Writes the blocks of one direction.
#[derive(Debug)]
pub(super) struct Deflater(Compress);

impl Deflater {
    pub(super) fn new() -> Result<Self, Error> {
        let mut compress = Compress::new(Compression::fast(), true);
        let set = compress.set_dictionary(DICTIONARY);
        set.map(|_| Self(compress)).map_err(|_| Error::Headers("the dictionary is refused"))
    }

    pub(super) fn write(&mut self, headers: &[(String, String)], out: &mut BytesMut) -> Result<(), Error> {
        let plain = plain(headers)?;
        let mut rest = plain.as_slice();
        let mut part = [0; 1024];
        loop {
            let (read, written) = (self.0.total_in(), self.0.total_out());
            let step = self.0.compress(rest, &mut part, FlushCompress::Sync);
            step.map_err(|_| Error::Headers("compressing them failed"))?;
            let used = usize::try_from(self.0.total_in() - read).unwrap_or(usize::MAX);
            let made = usize::try_from(self.0.total_out() - written).unwrap_or(usize::MAX);
            rest = rest.get(used..).unwrap_or_default();
            out.extend_from_slice(part.get(..made).unwrap_or_default());
            if rest.is_empty() && made < part.len() {
                return Ok(());
            }
        }
    }
}

fn plain(headers: &[(String, String)]) -> Result<Vec<u8>, Error> {
    let long = |length: usize| u32::try_from(length).map_err(|_| Error::Headers("too long"));
    let mut out = Vec::new();
    out.put_u32(long(headers.len())?);
    for text in headers.iter().flat_map(|(name, value)| [name, value]) {
        out.put_u32(long(text.len())?);
        out.put_slice(text.as_bytes());
    }
    if out.len() > BLOCK { Err(Error::Headers("too long")) } else { Ok(out) }
}
