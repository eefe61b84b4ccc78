//! Who needs what, and the changes that bring the kernel to it.
//!
//! A full load compares everything with what the kernel has; an incremental one renders changed Services as they were
//! and as they are. Sets' entries and addresses may belong to several Services, so their needs are counted. Two Services
//! that claim one virtual server are for a full load to settle: the first by name has it. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;

use super::part::{Context, NodeAddresses, Part};
use super::rules::{Inputs, Rules};
use super::server::{DEFAULT_SCHEDULER, Key, Manner, Real, Server, WEIGHT};
use super::set::{self, Set};
use crate::iptables::ruleset::Saved;
use crate::model::table::{Entry, Table};
use crate::model::{Family, ServiceKey};
use crate::settings::{Common, Settings};

/// What the mode is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    pub scheduler: Arc<str>,
    /// Virtual servers in these ranges are somebody else's.
    pub excluded: Vec<IpNet>,
}

impl Config {
    /// An empty scheduler is the default one.
    pub fn new(scheduler: &str, excluded: Vec<IpNet>) -> Self {
        let scheduler = if scheduler.is_empty() { DEFAULT_SCHEDULER } else { scheduler };
        Self { scheduler: scheduler.into(), excluded }
    }
}

/// What the kernel has, of one family.
#[derive(Default)]
pub struct Kernel {
    pub servers: BTreeMap<Key, (Manner, BTreeMap<SocketAddr, Real>)>,
    /// By the set's name; absent = there is no such set.
    pub sets: BTreeMap<String, BTreeSet<Box<str>>>,
    /// Addresses on our device; none = there is no device.
    pub bound: Option<BTreeSet<IpAddr>>,
    pub node: NodeAddresses,
    pub rules: Saved,
}

/// One step on the kernel's servers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    Add(Key, Manner),
    Change(Key, Manner),
    AddReal(Key, SocketAddr),
    /// It is there with another weight.
    Revive(Key, SocketAddr),
    /// Gracefully: it may still have connections.
    Drain(Key, SocketAddr),
}

/// What to do, in the order of the fields.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Changes {
    pub device: bool,
    pub bind: Vec<IpAddr>,
    pub steps: Vec<Step>,
    /// For `ipset restore`.
    pub sets: String,
    /// For iptables-restore.
    pub rules: String,
    pub unbind: Vec<IpAddr>,
    pub delete: Vec<Key>,
}

impl Changes {
    /// Nothing to do.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Bytes of text and commands.
    pub fn len(&self) -> usize {
        self.sets.len() + self.rules.len() + self.steps.len() + self.delete.len()
    }
}

/// A full load has to settle it.
#[derive(Debug)]
pub struct Conflict;

/// How many Services need a thing.
#[derive(Debug)]
struct Tally<T>(BTreeMap<T, u32>);

impl<T> Default for Tally<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: Ord> Tally<T> {
    /// True = it was not needed before.
    fn add(&mut self, thing: T) -> bool {
        let count = self.0.entry(thing).or_default();
        *count += 1;
        *count == 1
    }

    /// True = it is not needed any more.
    fn remove(&mut self, thing: &T) -> bool {
        match self.0.get_mut(thing) {
            Some(count) if *count > 1 => {
                *count -= 1;
                false
            }
            Some(_) => self.0.remove(thing).is_some(),
            None => false,
        }
    }
}

/// The state besides the table of Services.
pub struct Ruleset {
    config: Config,
    node: NodeAddresses,
    servers: Tally<Key>,
    entries: Tally<(Set, Box<str>)>,
    bound: Tally<IpAddr>,
    barred: Tally<Box<str>>,
    no_local: (usize, usize),
    rules: Rules,
}

impl Ruleset {
    /// Knows nothing yet.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            node: NodeAddresses::default(),
            servers: Tally::default(),
            entries: Tally::default(),
            bound: Tally::default(),
            barred: Tally::default(),
            no_local: (0, 0),
            rules: Rules::default(),
        }
    }

    /// Services whose internal or external policy finds no endpoint on this node.
    pub fn without_local(&self) -> (usize, usize) {
        self.no_local
    }

    /// This node's addresses as they were at the last full load.
    pub fn node(&self) -> &NodeAddresses {
        &self.node
    }

    /// Virtual servers that are wanted.
    pub fn servers(&self) -> impl Iterator<Item = &Key> {
        self.servers.0.keys()
    }

    /// One Service's share.
    pub fn part(&self, settings: &Settings, table: &Table, key: &ServiceKey, entry: &Entry) -> Part {
        let context = Context { settings, scheduler: &self.config.scheduler, node: &self.node };
        Part::new(&context, &entry.ports, &entry.endpoints(key, table.node(), table.family()))
    }

    /// Everything.
    pub fn full(&mut self, common: &Common, settings: &Settings, table: &Table, kernel: &Kernel) -> Changes {
        *self = Self { node: kernel.node.clone(), ..Self::new(self.config.clone()) };
        let mut wanted: BTreeMap<Key, Server> = BTreeMap::new();
        for (key, entry) in table.iter() {
            let mut part = self.part(settings, table, key, entry);
            for (key, server) in std::mem::take(&mut part.servers) {
                self.servers.add(key);
                wanted.entry(key).or_insert(server);
            }
            self.count(part);
        }
        let mut changes = Changes { device: kernel.bound.is_none(), ..Changes::default() };
        self.addresses(kernel, &mut changes);
        compare_servers(&wanted, kernel, &self.config.excluded, &mut changes);
        changes.sets = self.sets(common.family, kernel);
        self.rules = self.render(common, settings);
        changes.rules = self.rules.load(Some(&kernel.rules));
        changes
    }

    fn count(&mut self, part: Part) {
        for ip in part.bound {
            self.bound.add(ip);
        }
        for entry in part.entries {
            self.entries.add(entry);
        }
        for rule in part.barred {
            self.barred.add(rule);
        }
        self.no_local.0 += usize::from(part.no_local.0);
        self.no_local.1 += usize::from(part.no_local.1);
    }

    fn addresses(&self, kernel: &Kernel, changes: &mut Changes) {
        let none = BTreeSet::new();
        let there = kernel.bound.as_ref().unwrap_or(&none);
        changes.bind = self.bound.0.keys().filter(|ip| !there.contains(ip)).copied().collect();
        changes.unbind = there.iter().filter(|ip| !self.bound.0.contains_key(ip)).copied().collect();
    }

    fn sets(&self, family: Family, kernel: &Kernel) -> String {
        let mut wanted: BTreeMap<Set, BTreeSet<String>> = BTreeMap::new();
        for (set, entry) in self.entries.0.keys() {
            wanted.entry(*set).or_default().insert(entry.to_string());
        }
        wanted.insert(Set::IpvsIps, self.bound.0.keys().map(ToString::to_string).collect());
        let (none, nothing) = (BTreeSet::new(), BTreeSet::new());
        let mut script = Script::default();
        for set in set::ALL {
            let name = set.name(family);
            let there = kernel.sets.get(&name);
            if there.is_none() {
                script.creates.push(set.create(family));
            }
            // As compared and as written.
            let wanted: BTreeMap<&str, &str> =
                wanted.get(&set).unwrap_or(&none).iter().map(|e| (plain(e), e.as_str())).collect();
            let there: BTreeMap<&str, &str> =
                there.unwrap_or(&nothing).iter().map(|e| (plain(e), &**e)).collect();
            for (_, entry) in wanted.iter().filter(|(plain, _)| !there.contains_key(*plain)) {
                script.adds.push(format!("{name} {entry}"));
            }
            for (_, entry) in there.iter().filter(|(plain, _)| !wanted.contains_key(*plain)) {
                script.deletes.push(format!("{name} {entry}"));
            }
        }
        script.text()
    }

    fn render(&self, common: &Common, settings: &Settings) -> Rules {
        let mut filled: BTreeSet<Set> = BTreeSet::new();
        for set in set::ALL {
            let from = (set, Box::from(""));
            if self.entries.0.range(from..).next().is_some_and(|((s, _), _)| *s == set) {
                filled.insert(set);
            }
        }
        let barred: BTreeSet<&str> = self.barred.0.keys().map(|rule| &**rule).collect();
        Rules::new(&Inputs { common, settings, filled: &filled, barred: &barred })
    }

    /// Only what differs from `before`.
    ///
    /// # Errors
    /// Two Services claim the same virtual server; nothing is changed.
    pub fn incremental(
        &mut self,
        common: &Common,
        settings: &Settings,
        table: &Table,
        before: &BTreeMap<ServiceKey, Entry>,
    ) -> Result<Changes, Conflict> {
        let (mut old, mut new) = (Vec::new(), Vec::new());
        for (key, entry) in before {
            old.push(self.part(settings, table, key, entry));
            new.push(table.get(key).map(|e| self.part(settings, table, key, e)).unwrap_or_default());
        }
        self.check(&old, &new)?;
        let mut changes = Changes::default();
        let mut script = Script::default();
        let (was, is) = (servers_of(&old), servers_of(&new));
        for key in was.keys() {
            self.servers.remove(key);
        }
        for key in is.keys() {
            self.servers.add(*key);
        }
        changes_of_servers(&was, &is, &mut changes);
        self.move_entries(common.family, old, new, &mut changes, &mut script);
        changes.sets = script.text();
        let rules = self.render(common, settings);
        if rules != self.rules {
            changes.rules = rules.load(None);
            self.rules = rules;
        }
        Ok(changes)
    }

    /// No virtual server of the changed Services is, was or becomes another one's too.
    fn check(&self, old: &[Part], new: &[Part]) -> Result<(), Conflict> {
        let mut claims: BTreeMap<Key, u32> = BTreeMap::new();
        for key in new.iter().flat_map(|part| part.servers.keys()) {
            *claims.entry(*key).or_default() += 1;
        }
        let mut own: BTreeMap<Key, u32> = BTreeMap::new();
        for key in old.iter().flat_map(|part| part.servers.keys()) {
            *own.entry(*key).or_default() += 1;
        }
        for key in claims.keys().chain(own.keys()) {
            let of = |map: &BTreeMap<Key, u32>| map.get(key).copied().unwrap_or_default();
            let known = self.servers.0.get(key).copied().unwrap_or_default();
            if known > 1 || known - known.min(of(&own)) + of(&claims) > 1 {
                return Err(Conflict);
            }
        }
        Ok(())
    }

    fn move_entries(
        &mut self,
        family: Family,
        old: Vec<Part>,
        new: Vec<Part>,
        changes: &mut Changes,
        script: &mut Script,
    ) {
        // New needs first: what stays is never without.
        let held = Set::IpvsIps.name(family);
        for part in new {
            for (set, entry) in part.entries {
                let command = format!("{} {entry}", set.name(family));
                if self.entries.add((set, entry)) {
                    script.adds.push(command);
                }
            }
            for address in part.bound {
                if self.bound.add(address) {
                    changes.bind.push(address);
                    script.adds.push(format!("{held} {address}"));
                }
            }
            for rule in part.barred {
                self.barred.add(rule);
            }
            self.no_local.0 += usize::from(part.no_local.0);
            self.no_local.1 += usize::from(part.no_local.1);
        }
        for part in old {
            for key in part.entries {
                if self.entries.remove(&key) {
                    script.deletes.push(format!("{} {}", key.0.name(family), key.1));
                }
            }
            for address in part.bound {
                if self.bound.remove(&address) {
                    changes.unbind.push(address);
                    script.deletes.push(format!("{held} {address}"));
                }
            }
            for rule in &part.barred {
                self.barred.remove(rule);
            }
            self.no_local.0 = self.no_local.0.saturating_sub(usize::from(part.no_local.0));
            self.no_local.1 = self.no_local.1.saturating_sub(usize::from(part.no_local.1));
        }
    }
}

/// Commands for `ipset restore`. Everything that is there already, or not any more, is no error: the programs of
/// several proxies may overlap.
#[derive(Default)]
struct Script {
    creates: Vec<String>,
    adds: Vec<String>,
    deletes: Vec<String>,
}

impl Script {
    /// The set that holds packets up is the last to grow and the first to shrink.
    fn text(mut self) -> String {
        let held = |command: &String| {
            command.starts_with("KUBE-IPVS-IPS ") || command.starts_with("KUBE-6-IPVS-IPS ")
        };
        self.adds.sort_by_key(held);
        self.deletes.sort_by_key(|command| !held(command));
        let mut text = String::new();
        // Writing to a String cannot fail.
        for command in &self.creates {
            let _ = writeln!(text, "{command}");
        }
        for command in &self.adds {
            let _ = writeln!(text, "add {command}");
        }
        for command in &self.deletes {
            let _ = writeln!(text, "del {command}");
        }
        text
    }
}

/// A range of one address is printed without its length.
fn plain(entry: &str) -> &str {
    let host = if entry.contains(':') && entry.matches(':').count() > 1 { "/128" } else { "/32" };
    entry.strip_suffix(host).unwrap_or(entry)
}

fn servers_of(parts: &[Part]) -> BTreeMap<Key, Server> {
    parts.iter().flat_map(|part| part.servers.clone()).collect()
}

fn changes_of_servers(was: &BTreeMap<Key, Server>, is: &BTreeMap<Key, Server>, changes: &mut Changes) {
    for (key, server) in is {
        let none: Arc<[SocketAddr]> = Arc::new([]);
        let reals = match was.get(key) {
            None => {
                changes.steps.push(Step::Add(*key, server.manner.clone()));
                &none
            }
            Some(old) => {
                if old.manner != server.manner {
                    changes.steps.push(Step::Change(*key, server.manner.clone()));
                }
                &old.reals
            }
        };
        for real in server.reals.iter().filter(|r| reals.binary_search(r).is_err()) {
            changes.steps.push(Step::AddReal(*key, *real));
        }
        for real in reals.iter().filter(|r| server.reals.binary_search(r).is_err()) {
            changes.steps.push(Step::Drain(*key, *real));
        }
    }
    changes.delete.extend(was.keys().filter(|key| !is.contains_key(key)));
}

fn compare_servers(
    wanted: &BTreeMap<Key, Server>,
    kernel: &Kernel,
    excluded: &[IpNet],
    changes: &mut Changes,
) {
    let none = BTreeMap::new();
    for (key, server) in wanted {
        let there = match kernel.servers.get(key) {
            None => {
                changes.steps.push(Step::Add(*key, server.manner.clone()));
                &none
            }
            Some((manner, reals)) => {
                if *manner != server.manner {
                    changes.steps.push(Step::Change(*key, server.manner.clone()));
                }
                reals
            }
        };
        for real in server.reals.iter() {
            match there.get(real) {
                None => changes.steps.push(Step::AddReal(*key, *real)),
                Some(known) if known.weight != WEIGHT => changes.steps.push(Step::Revive(*key, *real)),
                Some(_) => {}
            }
        }
        for real in there.keys().filter(|r| server.reals.binary_search(r).is_err()) {
            changes.steps.push(Step::Drain(*key, *real));
        }
    }
    let ours = |key: &&Key| !excluded.iter().any(|range| range.contains(&key.address.ip()));
    changes.delete =
        kernel.servers.keys().filter(|key| !wanted.contains_key(key)).filter(ours).copied().collect();
}
