//! Shared by the differential tests: random numbers, the object generator, the oracle process.

#![allow(dead_code, reason = "each test program uses a part")]

pub mod generate;
pub mod oracle;

use generate::{Generator, Options};
use machinery::schema::{TypeId, TypeTable};
use machinery::{json, proto};

/// The options of a seed: sound documents, full ones, ones with strict faults, ones with misfits.
pub fn options(seed: u64) -> Options {
    match seed % 4 {
        0 => Options { strict_faults: 0, misfits: 0, fill: 60 },
        1 => Options { strict_faults: 0, misfits: 0, fill: 95 },
        2 => Options { strict_faults: 12, misfits: 0, fill: 60 },
        _ => Options { strict_faults: 30, misfits: 60, fill: 70 },
    }
}

pub fn document(table: &TypeTable, seed: u64, id: TypeId, api_version: &str, kind: &str) -> String {
    Generator::new(table, seed, options(seed)).document(id, api_version, kind)
}

/// FNV-1a over everything our codecs make of a document.
pub fn digest(table: &TypeTable, document: &str) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |bytes: &[u8]| {
        for b in bytes.iter().chain(&[0xff]) {
            hash = (hash ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    match json::decode_kind(table, document.as_bytes(), true) {
        Err(e) => add(e.to_string().as_bytes()),
        Ok((id, decoded)) => {
            add(decoded.strict_error().unwrap_or_default().as_bytes());
            add(&json::encode(table, id, &decoded.value));
            let pb = proto::encode(table, id, &decoded.value);
            add(&pb);
            let mut back = Vec::new();
            match proto::to_json(table, &pb, &mut back) {
                Ok(()) => add(&back),
                Err(e) => add(e.to_string().as_bytes()),
            }
        }
    }
    hash
}

/// SplitMix64: small, seedable, the same everywhere.
#[derive(Clone)]
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }
}
