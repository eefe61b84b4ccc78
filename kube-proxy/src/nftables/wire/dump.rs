//! What the kernel has: chains, sets, how many rules and elements, and the number of its last change.

use std::collections::BTreeSet;
use std::io;

use super::attribute::Attributes;
use super::batch::{self, ACKNOWLEDGE, HEADER, REQUEST};
use super::socket::{self, ERROR};
use crate::model::Family;
use crate::nftables::names::{self, Container, NODE_PORT_IPS, TABLE};
use crate::nftables::ruleset::Existing;
use crate::tally::Tally;

const CHAINS: u8 = 4;
const RULES: u8 = 7;
const SETS: u8 = 10;
const ELEMENTS: u8 = 13;
const GENERATION: u8 = 16;
/// NLM_F_DUMP, NLMSG_DONE, NLM_F_DUMP_INTR.
const DUMP: u16 = 0x300;
const DONE: u16 = 3;
const INTERRUPTED: u16 = 0x10;

/// Attributes, with their kinds.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?) & 0x3fff;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(k, _)| *k == kind).map(|(_, value)| value)
}

fn text(value: &[u8]) -> &str {
    std::str::from_utf8(value).unwrap_or_default().trim_end_matches('\0')
}

/// Asks; hands over the attributes of each answer.
fn ask(
    family: u8,
    kind: u8,
    flags: u16,
    body: impl FnOnce(&mut Attributes),
    mut each: impl FnMut(&[u8]),
) -> io::Result<()> {
    let socket = socket::open()?;
    let mut request = Vec::new();
    batch::frame(&mut request, batch::kind(kind), REQUEST | flags, 1, (family, 0), body);
    socket.send(&request, 0)?;
    loop {
        let (answer, _) = socket.recv_from_full()?;
        let mut rest = answer.as_slice();
        while let Some(header) = socket::header(rest) {
            if header.flags & INTERRUPTED != 0 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            match header.kind {
                DONE | ERROR if header.code < 0 => return Err(io::Error::from_raw_os_error(-header.code)),
                DONE | ERROR => return Ok(()),
                _ => each(rest.get(HEADER + 4..header.length).unwrap_or_default()),
            }
            rest = rest.get(header.length.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

/// The number of the last change of any rules in this network namespace, whoever made it.
///
/// # Errors
/// What the system says.
pub fn generation() -> io::Result<u32> {
    let mut number = None;
    ask(
        0,
        GENERATION,
        ACKNOWLEDGE,
        |_| {},
        |answer| {
            number = find(answer, 1).and_then(|value| value.try_into().ok()).map(u32::from_be_bytes);
        },
    )?;
    number.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Chains and sets of clients that our table has.
///
/// # Errors
/// What the system says.
pub fn existing(family: Family) -> io::Result<Existing> {
    let (mut existing, family) = (Existing::default(), batch::number(family));
    let ours = |answer: &[u8]| find(answer, 1).is_some_and(|table| text(table) == TABLE);
    let mut chains = BTreeSet::new();
    ask(
        family,
        CHAINS,
        DUMP,
        |_| {},
        |answer| {
            if ours(answer) {
                chains.extend(find(answer, 3).map(|name| text(name).to_string()));
            }
        },
    )?;
    existing.chains = chains;
    ask(
        family,
        SETS,
        DUMP,
        |_| {},
        |answer| {
            let name = find(answer, 2).map_or("", text);
            if ours(answer) && name.starts_with(names::AFFINITY) {
                let milliseconds =
                    find(answer, 11).and_then(|v| v.try_into().ok()).map_or(0, u64::from_be_bytes);
                let seconds = u32::try_from(milliseconds / 1000).unwrap_or(u32::MAX);
                existing.affinity.insert(name.to_string(), seconds);
            }
        },
    )?;
    Ok(existing)
}

/// Rules and elements of our table.
///
/// # Errors
/// What the system says; a set that is not there is an error too.
pub fn tally(family: Family, node_port_ips: bool) -> io::Result<Tally> {
    let (mut tally, family) = (Tally::default(), batch::number(family));
    let of_table = |body: &mut Attributes| {
        body.text(1, TABLE);
    };
    ask(family, RULES, DUMP, of_table, |answer| {
        find(answer, 2).iter().for_each(|chain| tally.add("rule", text(chain)));
    })?;
    let more = node_port_ips.then_some(NODE_PORT_IPS);
    for set in Container::ALL.into_iter().map(Container::name).chain(more) {
        let of_set = |body: &mut Attributes| {
            body.text(1, TABLE).text(2, set);
        };
        ask(family, ELEMENTS, DUMP, of_set, |answer| {
            let count = find(answer, 3).map_or(0, |list| attributes(list).count());
            tally.add_many("element", set, count);
        })?;
    }
    Ok(tally)
}
