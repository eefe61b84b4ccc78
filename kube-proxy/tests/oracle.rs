//! Our rules against upstream's proxiers on generated Services and endpoint slices (e2e/oracle/proxy).
//!
//! The recorded cases are compared always. `ORACLE_PROXY` names the Go program to compare with live, `ORACLE_COUNT` the
//! number of cases, `ORACLE_SEED` the first; `make oracle-proxy` does, and records anew. Each case has steps: the first
//! is a full load, the others incremental ones; after each, what our texts leave in a kernel (support/) must be what
//! upstream's leave.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use ipnet::IpNet;
use jiff::Timestamp;
use kube_proxy::iptables;
use kube_proxy::ipvs;
use kube_proxy::kept::{EndpointSlice, Service};
use kube_proxy::model::Family;
use kube_proxy::model::table::Table;
use kube_proxy::model::traffic::Place;
use kube_proxy::nftables::{self, wire};
use kube_proxy::settings::{Common, LocalDetector, NodePortAddresses, Settings};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Case {
    seed: u64,
    setup: Setup,
    steps: Vec<Step>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Setup {
    mode: String,
    family: String,
    masquerade_all: bool,
    masquerade_bit: u32,
    detect: String,
    detect_by: String,
    node_port_addresses: Vec<String>,
    localhost_node_ports: bool,
    accounts: bool,
    node: String,
    zone: String,
    #[serde(rename = "nodeIP")]
    node_ip: String,
    #[serde(rename = "serviceCIDRs")]
    service_cidrs: Vec<String>,
    scheduler: String,
    #[serde(rename = "excludeCIDRs")]
    exclude_cidrs: Vec<String>,
    node_addresses: Vec<String>,
    foreign: Vec<String>,
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Step {
    services: Vec<Service>,
    slices: Vec<EndpointSlice>,
    gone: Vec<String>,
    rules: Vec<String>,
    /// ipvs: the proxy is a new one, what iptables-restore was given, and real servers with a connection afterwards.
    restart: bool,
    text: Vec<String>,
    connected: Vec<String>,
}

enum Kernel {
    Iptables(support::iptables::Tables, iptables::ruleset::Ruleset),
    /// And all texts so far.
    Nftables(support::nftables::Table, nftables::ruleset::Ruleset, Vec<String>),
    Ipvs(Box<support::ipvs::Node>, Box<ipvs::ruleset::Ruleset>, ipvs::ruleset::Config),
}

struct Rig {
    common: Common,
    settings: Settings,
    table: Table,
    kernel: Kernel,
    /// Slices by name, as removal needs the object.
    slices: std::collections::BTreeMap<String, Arc<EndpointSlice>>,
}

impl Rig {
    fn new(setup: &Setup) -> Self {
        let family = if setup.family == "IPv6" { Family::V6 } else { Family::V4 };
        let nets: Vec<IpNet> =
            setup.node_port_addresses.iter().map(|a| a.parse().expect("a range")).collect();
        let node_ports = NodePortAddresses::new(family, &nets);
        let iptables = setup.mode == "iptables";
        let common = Common {
            family,
            masquerade_mark: 1 << setup.masquerade_bit,
            localhost_node_ports: setup.localhost_node_ports
                && node_ports.loopback()
                && iptables
                && family == Family::V4,
            node_ports,
            conntrack_tcp_liberal: false,
            invalid_accounted: setup.accounts,
        };
        let own = |range: &&String| range.contains(':') == (family == Family::V6);
        let settings = Settings {
            place: Place { node: setup.node.clone(), zone: setup.zone.clone() },
            node_ip: setup.node_ip.parse().expect("an address"),
            masquerade_all: setup.masquerade_all,
            detector: match setup.detect.as_str() {
                "cidr" => LocalDetector::Cidr(setup.detect_by.parse().expect("a range")),
                "bridge" => LocalDetector::Bridge(setup.detect_by.clone()),
                "prefix" => LocalDetector::Prefix(setup.detect_by.clone()),
                _ => LocalDetector::None,
            },
            external_ips: true,
            service_cidrs: setup.service_cidrs.iter().filter(own).cloned().collect(),
            localhost_accounted: setup.accounts && common.localhost_node_ports,
        };
        let kernel = match setup.mode.as_str() {
            "iptables" => {
                Kernel::Iptables(support::iptables::Tables::new(), iptables::ruleset::Ruleset::default())
            }
            "ipvs" => Self::ipvs(setup),
            _ => Kernel::Nftables(support::nftables::Table::default(), Default::default(), Vec::new()),
        };
        let table = Table::new(family, &setup.node, Timestamp::UNIX_EPOCH);
        Self { common, settings, table, kernel, slices: std::collections::BTreeMap::new() }
    }

    fn ipvs(setup: &Setup) -> Kernel {
        let excluded = setup.exclude_cidrs.iter().map(|r| r.parse().expect("a range")).collect();
        let config = ipvs::ruleset::Config::new(&setup.scheduler, excluded);
        let addresses = setup.node_addresses.iter().map(|a| a.parse().expect("an address")).collect();
        let foreign: Vec<_> = setup.foreign.iter().map(|a| a.parse().expect("an address")).collect();
        let node = support::ipvs::Node::new(addresses, &foreign);
        Kernel::Ipvs(Box::new(node), Box::new(ipvs::ruleset::Ruleset::new(config.clone())), config)
    }

    fn change(&mut self, step: &Step) {
        for name in &step.gone {
            match name.split_once('/') {
                Some(("service", name)) => drop(self.table.set_service(&format!("ns/{name}"), None)),
                Some((_, name)) => {
                    let slice = self.slices.remove(name).expect("a known slice");
                    self.table.remove_slice(&slice);
                }
                None => unreachable!("{name}"),
            }
        }
        for service in &step.services {
            let name = service.metadata.name.as_deref().expect("a name");
            self.table.set_service(&format!("ns/{name}"), Some(service));
        }
        for slice in &step.slices {
            let slice = Arc::new(slice.clone());
            self.slices.insert(slice.metadata.name.as_deref().expect("a name").to_string(), slice.clone());
            self.table.set_slice(&slice);
        }
    }

    /// Whether the text for iptables-restore is byte for byte upstream's, where it is written.
    fn same_text(text: &str, step: &Step) {
        let first: Vec<&str> = text.lines().filter(|line| !line.starts_with("-I ")).collect();
        assert!(text.is_empty() || first == step.text, "{first:#?}\n{:#?}", step.text);
    }

    fn load(&mut self, full: bool, step: &Step) -> Vec<String> {
        let loopback = ["127.0.0.1", "::1"].map(|a| a.parse().expect("an address"));
        let changes = self.table.take_changes();
        match &mut self.kernel {
            Kernel::Iptables(tables, rules) => {
                let load = if full {
                    let saved = iptables::ruleset::Saved::parse(&tables.save());
                    rules.full(&self.common, &self.settings, &self.table, &saved, &loopback)
                } else {
                    rules.incremental(&self.settings, &self.table, &changes.before)
                };
                tables.restore(&load.text);
                let program =
                    if self.common.family == Family::V6 { "ip6tables-restore" } else { "iptables-restore" };
                real(program, &["--noflush", "--counters"], &load.text);
                tables.lines()
            }
            Kernel::Nftables(table, rules, texts) => {
                let now = Instant::now();
                let text = if full {
                    let existing = nftables::ruleset::Existing::default();
                    rules.full(&self.common, &self.settings, &self.table, &existing, &loopback, now)
                } else {
                    let made =
                        rules.incremental(&self.common, &self.settings, &self.table, &changes.before, now);
                    made.expect("no conflict")
                };
                table.run(&text);
                assert!(wire::compile(self.common.family, &text).is_some(), "left to nft:\n{text}");
                texts.push(text);
                table.lines()
            }
            Kernel::Ipvs(node, rules, config) => {
                let full_load = |node: &support::ipvs::Node, rules: &mut ipvs::ruleset::Ruleset| {
                    rules.full(&self.common, &self.settings, &self.table, &node.look(&self.common))
                };
                if step.restart {
                    **rules = ipvs::ruleset::Ruleset::new(config.clone());
                    node.restart();
                }
                let changes = if full || step.restart {
                    full_load(node, rules)
                } else {
                    rules
                        .incremental(&self.common, &self.settings, &self.table, &changes.before)
                        .unwrap_or_else(|_| full_load(node, rules))
                };
                Self::same_text(&changes.rules, step);
                node.load(&changes);
                // What is left to do after a load is nothing, but for the rules, which are always written.
                let mut again = full_load(node, rules);
                again.steps.retain(|step| !matches!(step, ipvs::ruleset::Step::Drain(..)));
                again.rules.clear();
                assert!(again.is_empty(), "{again:?}");
                let lines = node.lines(rules.without_local());
                node.connect(&step.connected);
                lines
            }
        }
    }
}

/// With ORACLE_KERNEL the real programs have to take the texts too; run it in a network namespace of its own.
fn real(program: &str, arguments: &[&str], text: &str) {
    if std::env::var_os("ORACLE_KERNEL").is_none() || text.is_empty() {
        return;
    }
    let mut child = std::process::Command::new(program)
        .args(arguments)
        .stdin(std::process::Stdio::piped())
        .spawn()
        .expect("the program");
    std::io::Write::write_all(&mut child.stdin.take().expect("a pipe"), text.as_bytes()).expect("its input");
    assert!(child.wait().expect("its end").success(), "{program} refuses\n{text}");
}

/// With ORACLE_KERNEL what we send the kernel has to leave there what nft leaves.
fn both_ways(rig: &Rig) {
    let Kernel::Nftables(_, _, texts) = &rig.kernel else { return };
    if std::env::var_os("ORACLE_KERNEL").is_none() {
        return;
    }
    let list = || std::process::Command::new("nft").args(["list", "ruleset"]).output().expect("nft").stdout;
    let mut left = Vec::new();
    for direct in [true, false] {
        real("nft", &["-f", "-"], "flush ruleset\n");
        for text in texts {
            if direct {
                let messages = wire::compile(rig.common.family, text).expect("known words");
                let sent = wire::socket::run(&messages);
                sent.unwrap_or_else(|refused| {
                    let line = refused.line.and_then(|at| text.lines().nth(at));
                    panic!("{line:?}: {}", refused.error)
                });
            } else {
                real("nft", &["-f", "-"], text);
            }
        }
        left.push(String::from_utf8_lossy(&list()).into_owned());
    }
    assert_eq!(left[0], left[1]);
}

/// Differences of one case, as a text.
fn check(case: &Case) -> Option<String> {
    let mut rig = Rig::new(&case.setup);
    real("nft", &["-f", "-"], "flush ruleset\n");
    for (i, step) in case.steps.iter().enumerate() {
        rig.change(step);
        let ours = rig.load(i == 0, step);
        let theirs: Vec<String> = step.rules.iter().map(|l| l.replace('"', "")).collect();
        let ours: Vec<String> = ours.iter().map(|l| l.replace('"', "")).collect();
        if ours != theirs {
            let only = |a: &[String], b: &[String]| {
                a.iter().filter(|l| !b.contains(l)).take(6).cloned().collect::<Vec<_>>()
            };
            let (more, less) = (only(&ours, &theirs).join("\n    "), only(&theirs, &ours).join("\n    "));
            return Some(format!(
                "{} seed {} step {i} ({} lines, upstream {}):\n  ours only:\n    {more}\n  upstream only:\n    {less}",
                case.setup.mode,
                case.seed,
                ours.len(),
                theirs.len()
            ));
        }
    }
    both_ways(&rig);
    None
}

fn check_all(lines: impl BufRead) -> usize {
    let mut checked = 0;
    let mut differences = Vec::new();
    for line in lines.lines() {
        let case: Case = serde_json::from_str(&line.expect("a line")).expect("a case");
        checked += 1;
        differences.extend(check(&case));
    }
    assert!(
        differences.is_empty(),
        "{} of {checked} differ\n{}",
        differences.len(),
        differences[..differences.len().min(4)].join("\n")
    );
    checked
}

fn recorded(mode: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/{mode}.jsonl.gz"));
    let file = std::fs::File::open(&path).expect("recorded cases");
    let checked = check_all(BufReader::new(flate2::read::GzDecoder::new(file)));
    assert!(checked >= 100, "{checked} cases are recorded");
}

fn live(mode: &str) {
    let Ok(program) = std::env::var("ORACLE_PROXY") else {
        println!("skipped: ORACLE_PROXY is not set (make oracle-proxy sets it)");
        return;
    };
    let setting = |name, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_string());
    let script = format!(
        "ip link set lo up; exec {program} {mode} {} {}",
        setting("ORACLE_SEED", "1"),
        setting("ORACLE_COUNT", "1000")
    );
    // A network namespace of its own: upstream's code looks at interfaces and connections.
    let mut child = std::process::Command::new("unshare")
        .args(["-n", "sh", "-c", &script])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("unshare");
    let mut text = String::new();
    child.stdout.take().expect("a pipe").read_to_string(&mut text).expect("text");
    assert!(child.wait().expect("its end").success());
    println!("{mode}: {} cases equal upstream's", check_all(text.as_bytes()));
}

#[test]
fn recorded_iptables() {
    recorded("iptables");
}

#[test]
fn recorded_nftables() {
    recorded("nftables");
}

#[test]
fn recorded_ipvs() {
    recorded("ipvs");
}

#[test]
fn live_ipvs() {
    live("ipvs");
}

#[test]
fn live_iptables() {
    live("iptables");
}

#[test]
fn live_nftables() {
    live("nftables");
}
