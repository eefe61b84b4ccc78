//! Netlink attributes: a length, a type, and bytes or further attributes, padded to four.

/// Holds further attributes.
const NESTED: u16 = 0x8000;
const HEADER: usize = 4;
/// A length has two bytes; what is around a list needs some.
pub const LONGEST: usize = 60_000;

/// Attributes being written.
#[derive(Default, Debug, Clone)]
pub struct Attributes(pub Vec<u8>);

impl Attributes {
    /// Bytes as they are.
    pub fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let start = self.open(kind);
        self.0.extend_from_slice(value);
        self.close(start)
    }

    /// A name, with the zero that ends it.
    pub fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        let start = self.open(kind);
        self.0.extend_from_slice(value.as_bytes());
        self.0.push(0);
        self.close(start)
    }

    /// A number, most significant byte first as in all of nf_tables.
    pub fn number(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// Further attributes.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.open(kind | NESTED);
        fill(self);
        self.close(start)
    }

    fn open(&mut self, kind: u16) -> usize {
        let start = self.0.len();
        self.0.extend_from_slice(&[0, 0]);
        self.0.extend_from_slice(&kind.to_ne_bytes());
        start
    }

    fn close(&mut self, start: usize) -> &mut Self {
        // Lists that might be longer than [`LONGEST`] are left to nft, which cuts them.
        let length = u16::try_from(self.0.len() - start).unwrap_or(u16::MAX);
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.0.resize(self.0.len().next_multiple_of(HEADER), 0);
        self
    }
}
