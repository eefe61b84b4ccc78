//! Expressions of rules.

use ipnet::IpNet;

use super::attribute::Attributes;
use super::set::{Verdict, octets};

/// How `cmp` compares.
pub const EQUAL: u32 = 0;
pub const UNEQUAL: u32 = 1;
/// Keys of `meta`.
pub const MARK: u32 = 3;
const INPUT_NAME: u32 = 6;
pub const L4PROTO: u32 = 16;
/// Of the longest name of an interface, with its end.
const NAME_LENGTH: usize = 16;

/// A part of a packet that is compared or looked up.
pub enum Field {
    /// Header, offset, length.
    Payload(u32, u32, u32),
    Protocol,
}

/// Expressions being written.
#[derive(Default)]
pub struct Expressions(pub Attributes);

impl Expressions {
    /// An expression and what it is made of.
    pub fn push(&mut self, name: &str, fill: impl FnOnce(&mut Attributes)) {
        self.0.nest(1, |at| {
            at.text(1, name).nest(2, fill);
        });
    }

    /// Loads a field into a register.
    pub fn load(&mut self, field: &Field, register: u32) {
        match *field {
            Field::Payload(base, offset, length) => self.push("payload", |at| {
                at.number(1, register).number(2, base).number(3, offset).number(4, length);
            }),
            Field::Protocol => self.meta(L4PROTO, register),
        }
    }

    /// Loads something about the packet.
    pub fn meta(&mut self, key: u32, register: u32) {
        self.push("meta", |at| {
            at.number(2, key).number(1, register);
        });
    }

    /// Compares the first register.
    pub fn compare(&mut self, how: u32, value: &[u8]) {
        self.push("cmp", |at| {
            at.number(1, 1).number(2, how);
            at.nest(3, |data| {
                data.bytes(1, value);
            });
        });
    }

    /// `operation` is nft's way to tell arithmetic from the comparison of a part.
    pub fn mask(&mut self, operation: bool, mask: &[u8], xor: &[u8]) {
        self.push("bitwise", |at| {
            at.number(1, 1).number(2, 1);
            if operation {
                at.number(6, 0);
            }
            at.number(3, u32::try_from(mask.len()).unwrap_or(0));
            at.nest(4, |data| {
                data.bytes(1, mask);
            });
            at.nest(5, |data| {
                data.bytes(1, xor);
            });
        });
    }

    /// Looks the first registers up.
    pub fn lookup(&mut self, to: Option<u32>, set: &str, id: Option<u32>, not: bool) {
        self.push("lookup", |at| {
            at.number(2, 1);
            to.iter().for_each(|register| {
                at.number(3, *register);
            });
            at.text(1, set);
            id.iter().for_each(|id| {
                at.number(4, *id);
            });
            if not {
                at.number(5, 1);
            }
        });
    }

    /// Ends the rule.
    pub fn verdict(&mut self, verdict: &Verdict) {
        self.push("immediate", |at| {
            at.number(1, 0).nest(2, |data| verdict.write(data));
        });
    }

    /// Loads a constant.
    pub fn immediate(&mut self, register: u32, value: &[u8]) {
        self.push("immediate", |at| {
            at.number(1, register).nest(2, |data| {
                data.bytes(1, value);
            });
        });
    }

    /// Changes the packet's mark.
    pub fn set_mark(&mut self, mask: u32, xor: u32) {
        self.meta(MARK, 1);
        self.mask(true, &mask.to_ne_bytes(), &xor.to_ne_bytes());
        self.push("meta", |at| {
            at.number(2, MARK).number(3, 1);
        });
    }
}

/// Registers of four bytes; those that begin one of sixteen go by its name.
pub fn register(slot: u32) -> u32 {
    if slot.is_multiple_of(4) { 1 + slot / 4 } else { 8 + slot }
}

/// Connection tracking knows a bit of this packet's connection.
pub fn track<'a, 'b>(rule: &mut Expressions, key: u32, bit: u32, rest: &'a [&'b str]) -> &'a [&'b str] {
    rule.push("ct", |at| {
        at.number(2, key).number(1, 1);
    });
    rule.mask(false, &bit.to_ne_bytes(), &[0; 4]);
    rule.compare(UNEQUAL, &[0; 4]);
    rest
}

/// `[!=] name`, or the beginning of one with `*`.
pub fn interface<'a, 'b>(rule: &mut Expressions, words: &'a [&'b str]) -> Option<&'a [&'b str]> {
    let (how, words) = if let ["!=", rest @ ..] = words { (UNEQUAL, rest) } else { (EQUAL, words) };
    let (name, rest) = words.split_first()?;
    rule.meta(INPUT_NAME, 1);
    match name.strip_suffix('*') {
        Some(prefix) => rule.compare(how, prefix.as_bytes()),
        None => {
            let mut padded = name.as_bytes().to_vec();
            padded.resize(NAME_LENGTH, 0);
            rule.compare(how, &padded);
        }
    }
    Some(rest)
}

/// An address within a range: whole bytes are compared without a mask.
pub fn prefix(rule: &mut Expressions, field: &Field, how: u32, range: IpNet) -> Option<()> {
    let Field::Payload(base, offset, length) = *field else { return None };
    let (bytes, bits) = (octets(range.network()), range.prefix_len());
    if bytes.len() != length as usize {
        return None;
    }
    if bits > 0 && bits.is_multiple_of(8) {
        let length = u32::from(bits / 8);
        rule.load(&Field::Payload(base, offset, length), 1);
        rule.compare(how, &bytes[..length as usize]);
    } else {
        rule.load(field, 1);
        rule.mask(false, &octets(range.netmask()), &vec![0; bytes.len()]);
        rule.compare(how, &bytes);
    }
    Some(())
}

/// A random number below a count.
pub fn random(rule: &mut Expressions, count: u32) {
    rule.push("numgen", |at| {
        at.number(1, 1).number(2, count).number(3, 1).number(4, 0);
    });
}
