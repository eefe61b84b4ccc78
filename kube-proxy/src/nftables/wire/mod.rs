//! Transactions without the program nft: our own text becomes the messages that nft would send, byte for byte.
//!
//! [`compile`] knows the words that [`super::base`] and [`super::render`] write and nothing else; what it does not know
//! is nft's to load. A change then costs what changed: nft reads all chains and sets before it does anything.
//! [`command`] writes tables, chains, sets and elements, [`rule`] and [`expression`] rules, [`set`] what sets are made
//! of, [`socket`] sends and [`dump`] looks (the parts that are not pure). Start reading at [`compile`].

pub mod attribute;
pub mod batch;
pub mod command;
pub mod dump;
pub mod expression;
pub mod rule;
pub mod set;
pub mod socket;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::model::Family;
use batch::Batch;

/// What lines refer to in each other.
pub struct Compiler {
    family: Family,
    /// Sets that the transaction itself adds; others are found by name.
    declared: BTreeMap<String, u32>,
    sets: u32,
    line: usize,
    batch: Batch,
}

/// The messages of a text; none if it has something that only nft knows.
pub fn compile(family: Family, text: &str) -> Option<Batch> {
    let mut compiler =
        Compiler { family, declared: BTreeMap::new(), sets: 0, line: 0, batch: Batch::begin() };
    for (line, words) in text.lines().map(words).enumerate() {
        compiler.line = line;
        compiler.command(&words)?;
    }
    Some(compiler.batch.end())
}

/// Words of a line; those in quotes are one, which keeps the first quote.
fn words(line: &str) -> Vec<&str> {
    let (mut words, mut rest) = (Vec::new(), line.trim_start());
    while !rest.is_empty() {
        let quoted = rest.strip_prefix('"').map(|text| text.find('"').map_or(rest.len(), |end| end + 1));
        let end = quoted.unwrap_or_else(|| rest.find(' ').unwrap_or(rest.len()));
        words.push(&rest[..end]);
        rest = &rest[end..];
        rest = rest.strip_prefix('"').filter(|_| quoted.is_some()).unwrap_or(rest).trim_start();
    }
    words
}

/// A comment's text, if the word is in quotes.
fn unquoted(word: &str) -> Option<&str> {
    word.strip_prefix('"')
}

/// What nft keeps with an object: a type, a length, a text with its end.
fn remark(kind: u8, text: &str) -> Option<Vec<u8>> {
    let mut data = vec![kind, u8::try_from(text.len() + 1).ok()?];
    data.extend_from_slice(text.as_bytes());
    data.push(0);
    Some(data)
}
