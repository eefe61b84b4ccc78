//! Composes the transactions that bring the kernel to what Services need.
//!
//! A full transaction states everything anew: nothing is missing in between, as the kernel switches at its end. An
//! incremental one names chains and elements that differ. Removed chains are emptied at once and deleted later: before
//! Linux 6.2 a chain counts as used for a moment after the last element that leads to it is gone. Pure: text out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use hashbrown::HashMap;

use super::base::{self, Transaction};
use super::names::{self, Container};
use super::render::{AffinitySet, Block, Element, Key, OwnChain, render};
use crate::model::ServiceKey;
use crate::model::table::{Entry, Table};
use crate::settings::{Common, Settings};

/// How long an emptied chain waits for its removal. Upstream: syncProxyRules, oneSecondAgo.
const STALE_FOR: Duration = Duration::from_secs(1);

/// What our table has in the kernel, as far as a full transaction has to know.
#[derive(Default, Debug, PartialEq, Eq)]
pub struct Existing {
    pub chains: BTreeSet<String>,
    /// Sets of clients, with their timeouts in seconds.
    pub affinity: BTreeMap<String, u32>,
}

/// The state besides the table of Services.
#[derive(Default)]
pub struct Ruleset {
    /// How many service ports have an element; kept small, as there are several per port.
    owners: HashMap<Key, u32>,
    stale: BTreeMap<String, Instant>,
    no_local: (usize, usize),
}

/// Two Services claim the same address and port; who has it is settled by a full transaction.
#[derive(Debug, PartialEq, Eq)]
pub struct Conflict;

impl Ruleset {
    /// Everything. Where Services claim the same address and port, the first by name has it.
    pub fn full(
        &mut self,
        common: &Common,
        settings: &Settings,
        table: &Table,
        existing: &Existing,
        local: &[IpAddr],
        now: Instant,
    ) -> String {
        let mut tx = Transaction::new(common.family);
        base::write(&mut tx, common, settings, local);
        self.owners.clear();
        self.no_local = (0, 0);
        // What leads to a set must be gone before the set is.
        existing
            .chains
            .iter()
            .filter(|c| names::is_owned(c))
            .for_each(|chain| tx.line("flush", "chain", chain));
        let (mut chains, mut affinity) = (BTreeSet::new(), BTreeSet::new());
        for (key, entry) in table.iter() {
            for block in blocks(common, settings, table, key, entry) {
                block.affinity.iter().for_each(|set| {
                    put_affinity(&mut tx, existing.affinity.get(&set.name).copied(), set);
                    affinity.insert(set.name.clone());
                });
                put_chains(&mut tx, &block.chains.iter().collect::<Vec<_>>());
                chains.extend(block.chains.iter().map(|c| c.name.clone()));
                for element in &block.elements {
                    let owners = self.owners.entry(element.key).or_default();
                    *owners += 1;
                    if *owners == 1 {
                        put(&mut tx, element);
                    }
                }
                self.count(&block, true);
            }
        }
        for set in existing.affinity.keys().filter(|name| !affinity.contains(*name)) {
            tx.line("delete", "set", set);
        }
        self.stale = existing
            .chains
            .iter()
            .filter(|c| names::is_owned(c) && !chains.contains(*c))
            .map(|c| (c.clone(), now))
            .collect();
        tx.text
    }

    /// Only what differs from `before`; empty when nothing does.
    ///
    /// # Errors
    /// A full transaction has to decide a conflict; this ruleset must not be used for anything else until then.
    pub fn incremental(
        &mut self,
        common: &Common,
        settings: &Settings,
        table: &Table,
        before: &BTreeMap<ServiceKey, Entry>,
        now: Instant,
    ) -> Result<String, Conflict> {
        let mut tx = Transaction::new(common.family);
        let mut leftovers = Vec::new();
        for (key, entry) in before {
            let old = blocks(common, settings, table, key, entry);
            let new = table.get(key).map(|e| blocks(common, settings, table, key, e)).unwrap_or_default();
            leftovers.extend(self.chains(&mut tx, &old, &new, now));
            self.elements(&mut tx, &old, &new)?;
            old.iter().for_each(|b| self.count(b, false));
            new.iter().for_each(|b| self.count(b, true));
        }
        // After the chains that use them were emptied.
        leftovers.iter().for_each(|set| tx.line("delete", "set", set));
        Ok(tx.text)
    }

    /// Brings chains and sets of clients up to date; returns the sets to delete.
    fn chains(&mut self, tx: &mut Transaction, old: &[Block], new: &[Block], now: Instant) -> Vec<String> {
        let had: BTreeMap<&str, &OwnChain> = by_name(old);
        let wants: BTreeMap<&str, &OwnChain> = by_name(new);
        let had_sets: BTreeMap<&str, u32> = sets(old);
        let wants_sets: BTreeMap<&str, u32> = sets(new);
        for chain in had.keys().filter(|name| !wants.contains_key(*name)) {
            tx.line("flush", "chain", chain);
            self.stale.insert((*chain).to_string(), now);
        }
        let retimed =
            wants_sets.iter().any(|(name, seconds)| had_sets.get(name).is_some_and(|s| s != seconds));
        let mut changed: Vec<&OwnChain> = Vec::new();
        for (name, chain) in &wants {
            self.stale.remove(*name);
            // Rules that use a set have to be written again when it is made anew.
            if retimed || had.get(name) != Some(chain) {
                changed.push(chain);
            }
        }
        if retimed {
            changed.iter().for_each(|chain| tx.empty_chain(&chain.name));
        }
        for (name, seconds) in &wants_sets {
            if had_sets.get(name) != Some(seconds) {
                let set = AffinitySet { name: (*name).to_string(), seconds: *seconds };
                put_affinity(tx, had_sets.get(name).copied(), &set);
            }
        }
        put_chains(tx, &changed);
        had_sets
            .keys()
            .filter(|name| !wants_sets.contains_key(*name))
            .map(|name| (*name).to_string())
            .collect()
    }

    fn elements(&mut self, tx: &mut Transaction, old: &[Block], new: &[Block]) -> Result<(), Conflict> {
        let mut all: BTreeMap<Key, (Vec<&Element>, Vec<&Element>)> = BTreeMap::new();
        old.iter().flat_map(|b| &b.elements).for_each(|e| all.entry(e.key).or_default().0.push(e));
        new.iter().flat_map(|b| &b.elements).for_each(|e| all.entry(e.key).or_default().1.push(e));
        for (key, (old, new)) in all {
            let owners = self.owners.entry(key).or_default();
            let others = owners.saturating_sub(count(&old));
            *owners = others + count(&new);
            if *owners == 0 {
                self.owners.remove(&key);
            }
            let differ =
                old.first().map(|e| (&e.value, &e.comment)) != new.first().map(|e| (&e.value, &e.comment));
            if others > 0 && differ {
                if key.container.kind() == "map" {
                    return Err(Conflict);
                }
                continue;
            }
            if differ {
                if !old.is_empty() {
                    tx.line("delete", "element", &format!("{} {{ {} }}", key.container.name(), key.text()));
                }
                new.first().iter().for_each(|e| put(tx, e));
            }
        }
        Ok(())
    }

    fn count(&mut self, block: &Block, add: bool) {
        let (internal, external) = (usize::from(block.no_local.0), usize::from(block.no_local.1));
        if add {
            self.no_local = (self.no_local.0 + internal, self.no_local.1 + external);
        } else {
            self.no_local =
                (self.no_local.0.saturating_sub(internal), self.no_local.1.saturating_sub(external));
        }
    }

    /// Service ports whose internal or external policy finds no endpoint on this node.
    pub fn without_local(&self) -> (usize, usize) {
        self.no_local
    }

    /// A transaction that deletes chains which have been empty for long enough; none when there are none.
    pub fn delete_stale(&mut self, common: &Common, now: Instant) -> Option<String> {
        let old: Vec<String> = self
            .stale
            .iter()
            .filter(|(_, since)| now.duration_since(**since) > STALE_FOR)
            .map(|(name, _)| name.clone())
            .collect();
        let mut tx = Transaction::new(common.family);
        for chain in &old {
            self.stale.remove(chain);
            tx.line("delete", "chain", chain);
        }
        (!old.is_empty()).then_some(tx.text)
    }
}

/// What one Service renders to.
pub fn blocks(
    common: &Common,
    settings: &Settings,
    table: &Table,
    key: &ServiceKey,
    entry: &Entry,
) -> Vec<Block> {
    let endpoints = entry.endpoints(key, table.node(), common.family);
    let of = |id| endpoints.get(id).map_or(&[][..], Vec::as_slice);
    entry.ports.iter().map(|port| render(common, settings, port, of(&port.id))).collect()
}

/// Both chains first: they lead to each other.
fn put_chains(tx: &mut Transaction, chains: &[&OwnChain]) {
    chains.iter().for_each(|chain| tx.empty_chain(&chain.name));
    for chain in chains {
        chain.rules.iter().for_each(|rule| tx.rule(&chain.name, rule));
    }
}

/// A timeout cannot be changed in place.
fn put_affinity(tx: &mut Transaction, existing: Option<u32>, set: &AffinitySet) {
    if existing.is_some_and(|seconds| seconds != set.seconds) {
        tx.line("delete", "set", &set.name);
    }
    tx.affinity_set(&set.name, set.seconds);
}

/// Adds an element.
pub fn put(tx: &mut Transaction, element: &Element) {
    let comment = element.comment.as_ref().map(|c| format!(" comment \"{c}\"")).unwrap_or_default();
    let value = if element.value.is_empty() { String::new() } else { format!(" : {}", element.value) };
    let container: Container = element.key.container;
    tx.line("add", "element", &format!("{} {{ {}{comment}{value} }}", container.name(), element.key.text()));
}

fn by_name(blocks: &[Block]) -> BTreeMap<&str, &OwnChain> {
    blocks.iter().flat_map(|b| &b.chains).map(|c| (c.name.as_str(), c)).collect()
}

fn sets(blocks: &[Block]) -> BTreeMap<&str, u32> {
    blocks.iter().flat_map(|b| &b.affinity).map(|s| (s.name.as_str(), s.seconds)).collect()
}

fn count(elements: &[&Element]) -> u32 {
    u32::try_from(elements.len()).unwrap_or(u32::MAX)
}
