//! IPVS, ipset and the device, for the changes that the proxy makes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use kube_proxy::ipvs::draining::{Draining, Fate, fate};
use kube_proxy::ipvs::part::NodeAddresses;
use kube_proxy::ipvs::ruleset::{Changes, Kernel, Step};
use kube_proxy::ipvs::server::{Key, Manner, Real};
use kube_proxy::model::{Family, Protocol};
use kube_proxy::settings::Common;

use super::iptables::Tables;

/// What the kernel has.
pub struct Node {
    pub tables: Tables,
    servers: BTreeMap<Key, (Manner, BTreeMap<SocketAddr, Real>)>,
    /// By name: how it was made, entries.
    sets: BTreeMap<String, (String, BTreeSet<Box<str>>)>,
    bound: Option<BTreeSet<IpAddr>>,
    addresses: Vec<IpAddr>,
    draining: Draining,
}

impl Node {
    /// With servers that are somebody else's.
    pub fn new(addresses: Vec<IpAddr>, foreign: &[SocketAddr]) -> Self {
        let manner = Manner { scheduler: "wlc".into(), flags: 0, timeout: 0 };
        let servers = foreign.iter().map(|address| {
            (Key { address: *address, protocol: Protocol::Tcp }, (manner.clone(), BTreeMap::new()))
        });
        Self {
            tables: Tables::new(),
            servers: servers.collect(),
            sets: BTreeMap::new(),
            bound: None,
            addresses,
            draining: Draining::default(),
        }
    }

    /// A new proxy knows nothing of those that wait.
    pub fn restart(&mut self) {
        self.draining = Draining::default();
    }

    pub fn look(&self, common: &Common) -> Kernel {
        let ours = |key: &Key| Family::of(&key.address.ip()) == common.family;
        Kernel {
            servers: self.servers.iter().filter(|(k, _)| ours(k)).map(|(k, v)| (*k, v.clone())).collect(),
            sets: self.sets.iter().map(|(name, (_, entries))| (name.clone(), entries.clone())).collect(),
            bound: self.bound.clone(),
            node: NodeAddresses::new(common, self.addresses.iter().copied()),
            rules: kube_proxy::iptables::ruleset::Saved::parse(&self.tables.save()),
        }
    }

    /// Those have a connection, and no others.
    pub fn connect(&mut self, connected: &[String]) {
        for (key, (_, reals)) in &mut self.servers {
            for (address, real) in reals {
                real.connections = u64::from(connected.contains(&format!("{key} {address}")));
            }
        }
    }

    pub fn load(&mut self, changes: &Changes) {
        if changes.device {
            assert_eq!(self.bound.replace(BTreeSet::new()), None, "the device is there");
        }
        changes.steps.iter().for_each(|step| self.step(step));
        let bound = self.bound.as_mut().expect("the device");
        changes.bind.iter().for_each(|ip| assert!(bound.insert(*ip), "{ip} is bound"));
        changes.sets.lines().for_each(|line| self.command(line));
        self.tables.restore(&changes.rules);
        let bound = self.bound.as_mut().expect("the device");
        changes.unbind.iter().for_each(|ip| assert!(bound.remove(ip), "{ip} is not bound"));
        for key in &changes.delete {
            self.draining.forget(key);
            self.servers.remove(key).unwrap_or_else(|| panic!("no server {key}"));
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Add(key, manner) => {
                let before = self.servers.insert(*key, (manner.clone(), BTreeMap::new()));
                assert!(before.is_none(), "{key} is there");
            }
            Step::Change(key, manner) => self.servers.get_mut(key).expect("a server").0 = manner.clone(),
            Step::AddReal(key, real) | Step::Revive(key, real) => {
                let reals = &mut self.servers.get_mut(key).expect("a server").1;
                let revived = self.draining.has(key, real) || matches!(step, Step::Revive(..));
                assert_eq!(reals.contains_key(real), revived, "{key} {real}");
                reals.entry(*real).or_default().weight = 1;
                self.draining.remove(key, real);
            }
            Step::Drain(key, real) => {
                let reals = &mut self.servers.get_mut(key).expect("a server").1;
                match fate(key.protocol, reals.get(real)) {
                    Fate::Drain => {
                        reals.get_mut(real).expect("a real server").weight = 0;
                        self.draining.add(*key, *real);
                    }
                    Fate::Delete | Fate::Gone => drop(reals.remove(real)),
                }
            }
        }
    }

    fn command(&mut self, line: &str) {
        let (verb, rest) = line.split_once(' ').expect("a command");
        let (name, rest) = rest.split_once(' ').expect("a set");
        if verb == "create" {
            assert!(self.sets.insert(name.to_string(), (rest.to_string(), BTreeSet::new())).is_none());
            return;
        }
        let entries = &mut self.sets.get_mut(name).unwrap_or_else(|| panic!("no set for {line}")).1;
        match verb {
            "add" => assert!(entries.insert(rest.into()), "{line}: it is there"),
            "del" => assert!(entries.remove(rest), "{line}: it is not there"),
            _ => panic!("{line}"),
        }
    }

    /// As e2e/oracle/proxy prints them.
    pub fn lines(&self, no_local: (usize, usize)) -> Vec<String> {
        let mut lines = self.tables.lines();
        for (key, (manner, reals)) in &self.servers {
            lines.push(format!("server {key} {} {:#x} {}", manner.scheduler, manner.flags, manner.timeout));
            lines.extend(reals.iter().map(|(address, real)| format!("real {key} {address} {}", real.weight)));
        }
        for (name, (made, entries)) in &self.sets {
            lines.push(format!("set {name} {made}"));
            lines.extend(entries.iter().map(|entry| format!("entry {name} {entry}")));
        }
        lines.extend(self.bound.iter().flatten().map(|ip| format!("address {ip}")));
        lines.push(format!("nolocal {} {}", no_local.0, no_local.1));
        lines.sort_by_cached_key(|line| key_of(line));
        lines
    }
}

/// Keeps the order of iptables rules and sorts everything else.
fn key_of(line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().take(2).collect();
    let ordered = matches!(words[0], "nat" | "filter") && words[1] != "KUBE-IPVS-OUT-FILTER";
    if ordered { words.join(" ") } else { line.to_string() }
}
