//! Messages one after the other, as they are sent: a beginning, those of a transaction, an end.

use super::attribute::Attributes;
use crate::model::Family;

/// The subsystem.
const NFTABLES: u16 = 10;
const BEGIN: u16 = 16;
const END: u16 = 17;
/// NLM_F_REQUEST, NLM_F_ACK.
pub const REQUEST: u16 = 1;
pub const ACKNOWLEDGE: u16 = 4;
/// Of netlink's header, and of the place of flags in it.
pub const HEADER: usize = 16;
const FLAGS: usize = 6;

/// A transaction.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Batch {
    pub bytes: Vec<u8>,
    /// Of the text that messages come from, one each.
    pub lines: Vec<u32>,
    /// Where the last message begins.
    last: usize,
}

/// A kind of message, as netlink numbers it.
pub fn kind(message: u8) -> u16 {
    NFTABLES << 8 | u16::from(message)
}

/// A family, as the system numbers it.
pub fn number(family: Family) -> u8 {
    match family {
        Family::V4 => 2,
        Family::V6 => 10,
    }
}

/// Appends a message: netlink's header, that of netfilter, attributes.
pub fn frame(
    bytes: &mut Vec<u8>,
    kind: u16,
    flags: u16,
    sequence: u32,
    (family, about): (u8, u16),
    fill: impl FnOnce(&mut Attributes),
) {
    let start = bytes.len();
    bytes.extend([0; 4]);
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]);
    // Family and version, then the subsystem where it is asked for.
    bytes.extend([family, 0]);
    bytes.extend(about.to_be_bytes());
    let mut attributes = Attributes(std::mem::take(bytes));
    fill(&mut attributes);
    *bytes = attributes.0;
    let length = u32::try_from(bytes.len() - start).unwrap_or(u32::MAX);
    bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
}

impl Batch {
    /// A transaction of nothing.
    pub fn begin() -> Self {
        let mut batch = Self::default();
        frame(&mut batch.bytes, BEGIN, REQUEST, 0, (0, NFTABLES), |_| {});
        batch
    }

    /// Adds a message.
    pub fn push(
        &mut self,
        line: usize,
        family: Family,
        message: u8,
        flags: u16,
        fill: impl FnOnce(&mut Attributes),
    ) {
        self.last = self.bytes.len();
        self.lines.push(u32::try_from(line).unwrap_or(u32::MAX));
        let sequence = u32::try_from(self.lines.len()).unwrap_or(u32::MAX);
        let about = (number(family), 0);
        frame(&mut self.bytes, kind(message), REQUEST | flags, sequence, about, fill);
    }

    /// Ends it. The last message is answered when all is done; those that fail are in any case.
    pub fn end(mut self) -> Self {
        if !self.lines.is_empty() {
            self.bytes[self.last + FLAGS] |= ACKNOWLEDGE.to_ne_bytes()[0];
        }
        frame(&mut self.bytes, END, REQUEST, 0, (0, NFTABLES), |_| {});
        self
    }
}
