//! The text that brings the kernel to what Services need.
//!
//! A full load states every shared chain anew and drops chains nobody owns. An incremental load names only what
//! changed: removed lines, added lines, own chains that differ. Should the kernel disagree (a rule it is to remove is
//! not there), the load fails as a whole and a full one follows. What a Service was before is rendered again rather
//! than kept. Pure: text in, text out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::IpAddr;

use super::chain;
use super::jumps::{JUMPS, Jump};
use super::nfacct;
use super::render::{Block, Comments, render};
use crate::model::table::{Entry, Table};
use crate::model::{Family, ServiceKey};
use crate::settings::{Common, Settings};

/// Above this many endpoints rules carry no comments. Upstream: largeClusterEndpointsThreshold.
const LARGE_CLUSTER_ENDPOINTS: usize = 1000;

/// How many rules Services have.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Counts {
    pub filter: usize,
    pub nat: usize,
    /// Service ports whose internal or external policy finds no endpoint on this node.
    pub no_local: (usize, usize),
}

/// A load, ready for `iptables-restore --noflush`.
#[derive(Debug, PartialEq, Eq, Default)]
pub struct Load {
    pub text: String,
    /// Rules in it: filter, nat.
    pub written: (usize, usize),
}

/// The state besides the table of Services.
#[derive(Default)]
pub struct Ruleset {
    counts: Counts,
}

impl Ruleset {
    /// Everything. `saved` is what iptables-save printed: jumps that are missing are added, stale chains removed.
    pub fn full(
        &mut self,
        common: &Common,
        settings: &Settings,
        table: &Table,
        saved: &Saved,
        local: &[IpAddr],
    ) -> Load {
        let (mut filter, mut nat) = (Section::new("filter"), Section::new("nat"));
        filter.jumps(saved);
        nat.jumps(saved);
        for name in [
            chain::SERVICES,
            chain::EXTERNAL_SERVICES,
            chain::FORWARD,
            chain::NODEPORTS,
            chain::PROXY_FIREWALL,
        ] {
            filter.chain(name);
        }
        for name in [chain::SERVICES, chain::NODEPORTS, chain::POSTROUTING, chain::MARK_MASQ] {
            nat.chain(name);
        }
        common.begin(&mut filter, &mut nat);
        self.counts = Counts::default();
        let mut owned: BTreeSet<String> = BTreeSet::new();
        for (key, entry) in table.iter() {
            for block in blocks(settings, table, key, entry) {
                block.filter.iter().for_each(|line| filter.rule(line));
                block.nat.iter().for_each(|line| nat.rule(line));
                block.chains.iter().for_each(|own| nat.own_chain(&own.name, &own.rules));
                self.count(&block, true);
                owned.extend(block.chains.into_iter().map(|own| own.name));
            }
        }
        for stale in saved.chains_of("nat").filter(|name| chain::is_owned(name) && !owned.contains(*name)) {
            nat.chain(stale);
            nat.remove_chain(stale);
        }
        common.end(&mut filter, &mut nat, local);
        let written = (filter.count, nat.count);
        Load { text: filter.finish() + &nat.finish(), written }
    }

    /// Only what differs from `before`; empty when nothing does.
    pub fn incremental(
        &mut self,
        settings: &Settings,
        table: &Table,
        before: &BTreeMap<ServiceKey, Entry>,
    ) -> Load {
        let (mut filter, mut nat) = (Section::new("filter"), Section::new("nat"));
        let mut removed: BTreeSet<String> = BTreeSet::new();
        for (key, entry) in before {
            let old = blocks(settings, table, key, entry);
            let new = table.get(key).map(|e| blocks(settings, table, key, e)).unwrap_or_default();
            // Own chains first: a line that is added may lead to them.
            let known: BTreeMap<&str, &Vec<String>> = chains(&old).collect();
            let wanted: BTreeMap<&str, &Vec<String>> = chains(&new).collect();
            for (name, rules) in &wanted {
                if known.get(name) != Some(rules) {
                    nat.own_chain(name, rules);
                }
            }
            filter.differences(lines(&old, |b| &b.filter), lines(&new, |b| &b.filter));
            nat.differences(lines(&old, |b| &b.nat), lines(&new, |b| &b.nat));
            removed.extend(known.keys().filter(|n| !wanted.contains_key(*n)).map(ToString::to_string));
            old.iter().for_each(|b| self.count(b, false));
            new.iter().for_each(|b| self.count(b, true));
        }
        // A chain is emptied before any is removed, as they lead to each other.
        removed.iter().for_each(|name| nat.chain(name));
        removed.iter().for_each(|name| nat.remove_chain(name));
        let written = (filter.count, nat.count);
        Load { text: filter.finish_changed() + &nat.finish_changed(), written }
    }

    fn count(&mut self, block: &Block, add: bool) {
        let own: usize = block.chains.iter().map(|c| c.rules.len()).sum();
        let counts = &mut self.counts;
        for (sum, part) in [
            (&mut counts.filter, block.filter.len()),
            (&mut counts.nat, block.nat.len() + own),
            (&mut counts.no_local.0, usize::from(block.no_local.0)),
            (&mut counts.no_local.1, usize::from(block.no_local.1)),
        ] {
            *sum = if add { *sum + part } else { sum.saturating_sub(part) };
        }
    }

    /// What Services have in the kernel.
    pub fn counts(&self) -> Counts {
        self.counts
    }
}

/// What one Service renders to.
pub fn blocks(settings: &Settings, table: &Table, key: &ServiceKey, entry: &Entry) -> Vec<Block> {
    let comments = Comments(table.endpoint_count() <= LARGE_CLUSTER_ENDPOINTS);
    let endpoints = entry.endpoints(key, table.node(), table.family());
    let of = |id| endpoints.get(id).map_or(&[][..], Vec::as_slice);
    entry.ports.iter().map(|port| render(settings, comments, port, of(&port.id))).collect()
}

fn lines<'a>(blocks: &'a [Block], of: impl Fn(&'a Block) -> &'a Vec<String>) -> Vec<&'a str> {
    blocks.iter().flat_map(of).map(String::as_str).collect()
}

fn chains(blocks: &[Block]) -> impl Iterator<Item = (&str, &Vec<String>)> {
    blocks.iter().flat_map(|b| &b.chains).map(|c| (c.name.as_str(), &c.rules))
}

/// What iptables-save said, reduced to what a full load needs.
#[derive(Default)]
pub struct Saved {
    chains: Vec<(&'static str, String)>,
    jumps: Vec<(&'static str, String)>,
}

impl Saved {
    /// Reads the output of iptables-save for all tables.
    pub fn parse(text: &str) -> Self {
        let mut saved = Self::default();
        let mut table = "";
        for line in text.lines() {
            if let Some(name) = line.strip_prefix('*') {
                table = ["filter", "nat"].into_iter().find(|t| *t == name).unwrap_or("");
            } else if let Some(chain) = line.strip_prefix(':') {
                saved.chains.extend(chain.split(' ').next().map(|name| (table, name.to_string())));
            } else if !table.is_empty()
                && line.starts_with("-A ")
                && !line.starts_with("-A KUBE-")
                && line.contains("-j KUBE-")
            {
                // Lines of our own chains are most of a large node's, and of no interest.
                saved.jumps.push((table, line.trim_end().to_string()));
            }
        }
        saved
    }

    /// Tables that somebody else put things into that iptables cannot show, so that nothing of them is known.
    pub fn hidden(text: &str) -> Vec<&'static str> {
        ["filter", "nat"]
            .into_iter()
            .filter(|t| text.contains(&format!("# Table `{t}' is incompatible")))
            .collect()
    }

    /// A jump that was found otherwise.
    pub fn found(&mut self, jump: &Jump) {
        self.jumps.push((jump.table, format!("-A {}", jump.rule())));
    }

    /// The chains of a table.
    pub fn chains_of<'a>(&'a self, table: &'a str) -> impl Iterator<Item = &'a str> {
        self.chains.iter().filter(move |(t, _)| *t == table).map(|(_, name)| name.as_str())
    }

    /// A table has a chain.
    pub fn has_chain(&self, table: &str, name: &str) -> bool {
        self.chains_of(table).any(|n| n == name)
    }

    /// The rules that lead into our chains, as `-A ...` lines, with their table.
    pub fn jumps(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.jumps.iter().map(|(table, line)| (*table, line.as_str()))
    }
}

/// One table's part of a load.
struct Section {
    table: &'static str,
    chains: String,
    rules: String,
    count: usize,
}

impl Section {
    fn new(table: &'static str) -> Self {
        Self { table, chains: String::new(), rules: String::new(), count: 0 }
    }

    fn chain(&mut self, name: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.chains, ":{name} - [0:0]");
    }

    fn rule(&mut self, line: &str) {
        self.rules.push_str(line);
        self.rules.push('\n');
        self.count += 1;
    }

    fn own_chain(&mut self, name: &str, rules: &[String]) {
        self.chain(name);
        for rule in rules {
            let _ = writeln!(self.rules, "-A {name} {rule}");
        }
        self.count += rules.len();
    }

    fn remove_chain(&mut self, name: &str) {
        let _ = writeln!(self.rules, "-X {name}");
    }

    /// Adds the jumps that are missing, first in their chain.
    fn jumps(&mut self, saved: &Saved) {
        let table = self.table;
        for jump in JUMPS.iter().filter(|j| j.table == table) {
            if jump.to == chain::KUBELET_FIREWALL {
                // Declared without being emptied: the rules in it are the kubelet's as well.
                self.declare_kept(jump.to, saved);
            }
            if !saved.jumps.iter().any(|(table, line)| *table == jump.table && jump.is(line)) {
                let _ = writeln!(self.rules, "-I {}", jump.rule());
            }
        }
    }

    fn declare_kept(&mut self, name: &str, saved: &Saved) {
        let line = format!(":{name} - [0:0]\n");
        if !saved.has_chain(self.table, name) && !self.chains.contains(&line) {
            self.chains.push_str(&line);
        }
    }

    fn differences(&mut self, old: Vec<&str>, new: Vec<&str>) {
        let (old_set, new_set): (BTreeSet<&str>, BTreeSet<&str>) =
            (old.into_iter().collect(), new.into_iter().collect());
        for line in new_set.difference(&old_set) {
            self.count += 1;
            // At the front: in KUBE-SERVICES the last rule must stay the last. The last of the order comes first, which
            // is where a rule for loopback (-d) must be, before that for all addresses (--dport).
            let _ = writeln!(self.rules, "-I {}", line.strip_prefix("-A ").unwrap_or(line));
        }
        for line in old_set.difference(&new_set) {
            let _ = writeln!(self.rules, "-D {}", line.strip_prefix("-A ").unwrap_or(line));
        }
    }

    fn finish(self) -> String {
        format!("*{}\n{}{}COMMIT\n", self.table, self.chains, self.rules)
    }

    fn finish_changed(self) -> String {
        if self.chains.is_empty() && self.rules.is_empty() { String::new() } else { self.finish() }
    }
}

impl Common {
    fn begin(&self, filter: &mut Section, nat: &mut Section) {
        let mark = self.mark();
        let post = chain::POSTROUTING;
        nat.rule(&format!("-A {post} -m mark ! --mark {mark}/{mark} -j RETURN"));
        // Cleared, so that a packet that passes here again is not masqueraded again.
        nat.rule(&format!("-A {post} -j MARK --xor-mark {mark}"));
        nat.rule(&format!(
            "-A {post} -m comment --comment \"kubernetes service traffic requiring SNAT\" -j MASQUERADE --random-fully"
        ));
        nat.rule(&format!("-A {} -j MARK --or-mark {mark}", chain::MARK_MASQ));
        if self.family == Family::V4 && self.localhost_node_ports {
            let name = chain::KUBELET_FIREWALL;
            filter.chain(name);
            filter.rule(&format!(
                "-A {name} -m comment --comment \"block incoming localnet connections\" -d 127.0.0.0/8 ! -s 127.0.0.0/8 \
                 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP"
            ));
        }
    }

    fn end(&self, filter: &mut Section, nat: &mut Section, local: &[IpAddr]) {
        let comment = "-m comment --comment \"kubernetes service nodeports; NOTE: this must be the last rule in this chain\"";
        let (services, node_ports) = (chain::SERVICES, chain::NODEPORTS);
        if self.node_ports.all() {
            let but = match (self.family, self.localhost_node_ports) {
                (Family::V6, _) => " ! -d ::1/128",
                (Family::V4, false) => " ! -d 127.0.0.0/8",
                (Family::V4, true) => "",
            };
            nat.rule(&format!("-A {services} {comment} -m addrtype --dst-type LOCAL{but} -j {node_ports}"));
        } else {
            let loopback_too = self.family == Family::V4 && self.localhost_node_ports;
            for address in self.node_ports.among(local).iter().filter(|a| loopback_too || !a.is_loopback()) {
                nat.rule(&format!("-A {services} {comment} -d {address} -j {node_ports}"));
            }
        }
        let forward = chain::FORWARD;
        if !self.conntrack_tcp_liberal {
            let count = format!(" -m nfacct --nfacct-name {}", nfacct::INVALID_DROPPED);
            let count = if self.invalid_accounted { count.as_str() } else { "" };
            filter.rule(&format!("-A {forward} -m conntrack --ctstate INVALID{count} -j DROP"));
        }
        let mark = self.mark();
        filter.rule(&format!(
            "-A {forward} -m comment --comment \"kubernetes forwarding rules\" -m mark --mark {mark}/{mark} -j ACCEPT"
        ));
        filter.rule(&format!(
            "-A {forward} -m comment --comment \"kubernetes forwarding conntrack rule\" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
        ));
    }
}
