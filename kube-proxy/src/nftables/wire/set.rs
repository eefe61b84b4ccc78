//! What sets and maps hold: types of keys, keys, verdicts, and sets without a name that rules bring along.

use std::net::IpAddr;

use ipnet::IpNet;

use super::attribute::Attributes;
use super::remark;
use crate::model::Family;

/// Numbers of types are nft's own; the kernel keeps them for it.
const TYPES: [(&str, u32, u32); 4] =
    [("ipv4_addr", 7, 4), ("ipv6_addr", 8, 16), ("inet_proto", 12, 4), ("inet_service", 13, 4)];
const VERDICT: u32 = 0xffff_ff00;
const CONCATENATED: [u8; 8] = [0, 4, 13, 0, 0, 0, 1, 0];
const BITS_OF_TYPE: u32 = 6;

/// Flags of sets.
pub mod flag {
    pub const ANONYMOUS: u32 = 1;
    pub const CONSTANT: u32 = 2;
    pub const INTERVAL: u32 = 4;
    pub const MAP: u32 = 8;
    pub const TIMEOUT: u32 = 0x10;
    pub const EVAL: u32 = 0x20;
}

/// A number of a protocol.
pub fn protocol(name: &str) -> Option<u8> {
    match name {
        "tcp" => Some(6),
        "udp" => Some(17),
        "sctp" => Some(132),
        _ => None,
    }
}

/// The bytes of an address.
pub fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// A key of one or more parts, each padded to four bytes.
pub fn key(words: &[&str]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for part in words.split(|w| *w == ".") {
        let [part] = part else { return None };
        if let Some(protocol) = protocol(part) {
            bytes.push(protocol);
        } else if let Ok(port) = part.parse::<u16>() {
            bytes.extend(port.to_be_bytes());
        } else {
            bytes.extend(octets(part.parse().ok()?));
        }
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    Some(bytes)
}

/// Where a packet goes.
#[derive(Debug, PartialEq, Eq)]
pub struct Verdict {
    code: i32,
    chain: Option<String>,
}

impl Verdict {
    /// `drop`, `jump X`, `goto X`.
    pub fn parse(words: &[&str]) -> Option<Self> {
        match words {
            ["drop"] => Some(Self { code: 0, chain: None }),
            ["jump", chain] => Some(Self { code: -3, chain: Some((*chain).to_string()) }),
            ["goto", chain] => Some(Self { code: -4, chain: Some((*chain).to_string()) }),
            _ => None,
        }
    }

    /// As data of an element or expression.
    pub fn write(&self, data: &mut Attributes) {
        data.nest(2, |verdict| {
            verdict.bytes(1, &self.code.to_be_bytes());
            self.chain.iter().for_each(|chain| {
                verdict.text(2, chain);
            });
        });
    }
}

/// How a set or map with a name is declared.
#[derive(Default)]
pub struct Shape {
    flags: u32,
    key: (u32, u32),
    parts: usize,
    /// In milliseconds.
    pub timeout: Option<u64>,
    comment: Option<String>,
}

impl Shape {
    /// `{ type A . B : verdict ; flags dynamic,timeout ; timeout 5s ; comment "..." ; }`.
    pub fn parse(words: &[&str]) -> Option<Self> {
        let ["{", inside @ .., "}"] = words else { return None };
        let mut shape = Self::default();
        for clause in inside.split(|w| *w == ";").filter(|clause| !clause.is_empty()) {
            match clause {
                ["type", types @ ..] => shape.types(types)?,
                ["flags", "dynamic,timeout"] => shape.flags |= flag::TIMEOUT | flag::EVAL,
                ["timeout", time] => {
                    shape.timeout = Some(time.strip_suffix('s')?.parse::<u64>().ok()? * 1000);
                }
                ["comment", text] => shape.comment = Some(super::unquoted(text)?.to_string()),
                _ => return None,
            }
        }
        (shape.parts > 0).then_some(shape)
    }

    fn types(&mut self, words: &[&str]) -> Option<()> {
        let types = match words {
            [types @ .., ":", "verdict"] => {
                self.flags |= flag::MAP;
                types
            }
            types => types,
        };
        for part in types.split(|w| *w == ".") {
            let [part] = part else { return None };
            let (_, number, length) = TYPES.iter().find(|(name, ..)| name == part)?;
            self.key = (self.key.0 << BITS_OF_TYPE | number, self.key.1 + length);
            self.parts += 1;
        }
        Some(())
    }

    /// Flags and types.
    pub fn write(&self, body: &mut Attributes) {
        body.number(3, self.flags).number(4, self.key.0).number(5, self.key.1);
        if self.flags & flag::MAP != 0 {
            body.number(6, VERDICT).number(7, 0);
        }
    }

    /// What nft wants to find when it lists the set: byte order and structure of keys and data, the comment.
    pub fn extra(&self) -> Option<Vec<u8>> {
        let several = self.parts > 1;
        let mut extra = vec![0, 4, if several { 0 } else { 2 }, 0, 0, 0];
        let map = self.flags & flag::MAP != 0;
        if map {
            extra.extend([1, 4, 0, 0, 0, 0]);
        }
        if several {
            extra.extend([3, 8]);
            extra.extend(CONCATENATED);
        }
        if map {
            extra.extend([6, 4, 0, 0, 0, 0]);
        }
        if let Some(comment) = &self.comment {
            extra.extend(remark(7, comment)?);
        }
        Some(extra)
    }
}

/// A map from small numbers, without a name.
pub struct Choices {
    /// Type and length of the data.
    data: (u32, u32),
    extra: &'static [u8],
}

impl Choices {
    /// To addresses and ports.
    pub fn endpoints(family: Family) -> Self {
        let (kind, length) = match family {
            Family::V4 => (7, 4),
            Family::V6 => (8, 16),
        };
        let extra = &[0, 4, 1, 0, 0, 0, 1, 4, 0, 0, 0, 0, 6, 4, 0, 0, 0, 0];
        Self { data: (kind << BITS_OF_TYPE | 13, length + 4), extra }
    }

    /// To verdicts.
    pub fn verdicts() -> Self {
        let extra = &[0, 4, 1, 0, 0, 0, 1, 4, 0, 0, 0, 0, 4, 8, 0, 4, 1, 0, 0, 0, 1, 0, 6, 4, 0, 0, 0, 0];
        Self { data: (VERDICT, 0), extra }
    }

    /// The declaration, with its name left to the kernel.
    pub fn write(&self, body: &mut Attributes, id: u32, size: u32) {
        body.text(2, "__map%d").number(3, flag::ANONYMOUS | flag::CONSTANT | flag::MAP);
        body.number(4, 4).number(5, 4).number(6, self.data.0).number(7, self.data.1).number(10, id);
        body.nest(9, |about| {
            about.number(1, size);
        });
        body.bytes(13, self.extra);
    }
}

/// Ends of ranges: where one begins, or where it is over.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub struct Edge {
    pub at: IpAddr,
    pub over: bool,
}

/// Ranges as edges, joined where they touch, with what is before the first marked as outside.
pub fn edges(ranges: &[IpNet]) -> Vec<Edge> {
    let (Some(width), mut spans) = (ranges.first().map(|r| r.max_prefix_len()), Vec::new()) else {
        return Vec::new();
    };
    let number = |address: IpAddr| match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    };
    let address = |value: u128| match u32::try_from(value) {
        Ok(value) if width == 32 => IpAddr::V4(value.into()),
        _ => IpAddr::V6(value.into()),
    };
    let most = if width == 32 { u128::from(u32::MAX) } else { u128::MAX };
    spans.extend(ranges.iter().map(|r| (number(r.network()), number(r.broadcast()))));
    spans.sort_unstable();
    let mut joined: Vec<(u128, u128)> = Vec::new();
    for (from, to) in spans {
        match joined.last_mut() {
            Some((_, end)) if from <= end.saturating_add(1) => *end = to.max(*end),
            _ => joined.push((from, to)),
        }
    }
    let mut edges = Vec::new();
    if joined.first().is_some_and(|(from, _)| *from > 0) {
        edges.push(Edge { at: address(0), over: true });
    }
    for (from, to) in joined {
        edges.push(Edge { at: address(from), over: false });
        edges.extend((to < most).then(|| Edge { at: address(to + 1), over: true }));
    }
    edges
}
