//! The iptables rules of this mode. Pure. Upstream: proxier.go writeIptablesRules.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::set::Set;
use crate::iptables::jumps::{Jump, jump};
use crate::iptables::ruleset::Saved;
use crate::model::Family;
use crate::settings::{Common, Settings};

pub const SERVICES: &str = "KUBE-SERVICES";
pub const PROXY_FIREWALL: &str = "KUBE-PROXY-FIREWALL";
pub const SOURCE_RANGES: &str = "KUBE-SOURCE-RANGES-FIREWALL";
pub const POSTROUTING: &str = "KUBE-POSTROUTING";
pub const MARK_MASQ: &str = "KUBE-MARK-MASQ";
pub const NODE_PORT: &str = "KUBE-NODE-PORT";
pub const FORWARD: &str = "KUBE-FORWARD";
pub const LOAD_BALANCER: &str = "KUBE-LOAD-BALANCER";
pub const FILTER: &str = "KUBE-IPVS-FILTER";
pub const OUT_FILTER: &str = "KUBE-IPVS-OUT-FILTER";

/// Chains of the nat table.
pub const NAT_CHAINS: &[&str] = &[SERVICES, POSTROUTING, NODE_PORT, LOAD_BALANCER, MARK_MASQ];
/// Chains of the filter table.
pub const FILTER_CHAINS: &[&str] = &[FORWARD, NODE_PORT, PROXY_FIREWALL, SOURCE_RANGES, FILTER, OUT_FILTER];

const PORTALS: &str = "kubernetes service portals";
const FIREWALL: &str = "kube-proxy firewall rules";
const ACCESS: &str = "kubernetes ipvs access filter";

/// Upstream: proxier.go iptablesJumpChain.
pub const JUMPS: &[Jump] = &[
    jump("nat", "OUTPUT", SERVICES, PORTALS, false),
    jump("nat", "PREROUTING", SERVICES, PORTALS, false),
    jump("nat", "POSTROUTING", POSTROUTING, "kubernetes postrouting rules", false),
    jump("filter", "FORWARD", FORWARD, "kubernetes forwarding rules", false),
    jump("filter", "INPUT", NODE_PORT, "kubernetes health check rules", false),
    jump("filter", "INPUT", PROXY_FIREWALL, FIREWALL, false),
    jump("filter", "FORWARD", PROXY_FIREWALL, FIREWALL, false),
    jump("filter", "INPUT", FILTER, ACCESS, false),
    jump("filter", "OUTPUT", OUT_FILTER, ACCESS, false),
];

/// Rules that match a set, while it has entries: set, chain, target, directions, protocol.
/// Upstream: proxier.go ipsetWithIptablesChain.
const NAT_MATCHES: &[(Set, &str, &str, &str, &str)] = &[
    (Set::LoopBack, POSTROUTING, "MASQUERADE", "dst,dst,src", ""),
    (Set::LoadBalancer, SERVICES, LOAD_BALANCER, "dst,dst", ""),
    (Set::LoadBalancerLocal, LOAD_BALANCER, "RETURN", "dst,dst", ""),
    (Set::NodePortLocalTcp, NODE_PORT, "RETURN", "dst", "-p tcp "),
    (Set::NodePortTcp, NODE_PORT, MARK_MASQ, "dst", "-p tcp "),
    (Set::NodePortLocalUdp, NODE_PORT, "RETURN", "dst", "-p udp "),
    (Set::NodePortUdp, NODE_PORT, MARK_MASQ, "dst", "-p udp "),
    (Set::NodePortLocalSctp, NODE_PORT, "RETURN", "dst,dst", "-p sctp "),
    (Set::NodePortSctp, NODE_PORT, MARK_MASQ, "dst,dst", "-p sctp "),
];

const FILTER_MATCHES: &[(Set, &str, &str, &str, &str)] = &[
    (Set::LoadBalancerFw, PROXY_FIREWALL, SOURCE_RANGES, "dst,dst", ""),
    (Set::LoadBalancerSourceCidr, SOURCE_RANGES, "RETURN", "dst,dst,src", ""),
    (Set::LoadBalancerSourceIp, SOURCE_RANGES, "RETURN", "dst,dst,src", ""),
];

/// Both tables' rules, without chains.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Rules {
    nat: String,
    filter: String,
}

/// What decides about the rules.
pub struct Inputs<'a> {
    pub common: &'a Common,
    pub settings: &'a Settings,
    /// Sets that have entries.
    pub filled: &'a BTreeSet<Set>,
    /// Rules of [`OUT_FILTER`].
    pub barred: &'a BTreeSet<&'a str>,
}

impl Rules {
    /// Renders.
    pub fn new(inputs: &Inputs<'_>) -> Self {
        let mut rules = Self::default();
        inputs.nat(&mut rules.nat);
        inputs.filter(&mut rules.filter);
        rules
    }

    /// The text for `iptables-restore --noflush`: all chains anew, and jumps that `saved` lacks.
    pub fn load(&self, saved: Option<&Saved>) -> String {
        let part = |table: &str, chains: &[&str], rules: &str| {
            let mut text = format!("*{table}\n");
            chains.iter().for_each(|chain| line(&mut text, format_args!(":{chain} - [0:0]")));
            for jump in saved.iter().flat_map(|saved| missing(saved)).filter(|jump| jump.table == table) {
                line(&mut text, format_args!("-I {}", jump.rule()));
            }
            text + rules + "COMMIT\n"
        };
        part("nat", NAT_CHAINS, &self.nat) + &part("filter", FILTER_CHAINS, &self.filter)
    }
}

fn missing(saved: &Saved) -> impl Iterator<Item = &'static Jump> {
    JUMPS.iter().filter(|jump| {
        !saved.jumps().any(|(table, line)| {
            let comment = line.contains(&format!("\"{}\"", jump.comment)) || line.contains(jump.comment);
            table == jump.table && jump.is(line) && comment
        })
    })
}

fn line(text: &mut String, rule: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{rule}");
}

impl Inputs<'_> {
    fn matching(&self, set: Set, directions: &str) -> String {
        format!("-m set --match-set {} {directions}", set.name(self.common.family))
    }

    fn commented(&self, set: Set, directions: &str) -> String {
        format!("-m comment --comment \"{}\" {}", set.comment(), self.matching(set, directions))
    }

    fn matches(&self, table: &[(Set, &str, &str, &str, &str)], text: &mut String) {
        for (set, from, to, directions, protocol) in table {
            if self.filled.contains(set) {
                line(text, format_args!("-A {from} {protocol}{} -j {to}", self.commented(*set, directions)));
            }
        }
    }

    fn nat(&self, text: &mut String) {
        let loopback = if self.common.family == Family::V4 { "127.0.0.0/8" } else { "::1/128" };
        line(text, format_args!("-A {SERVICES} -s {loopback} -j RETURN"));
        self.matches(NAT_MATCHES, text);
        self.masquerade_cluster(text);
        if self.filled.contains(&Set::ExternalIp) {
            let matching = self.commented(Set::ExternalIp, "dst,dst");
            line(text, format_args!("-A {SERVICES} {matching} -j {MARK_MASQ}"));
        }
        for set in [Set::ExternalIp, Set::ExternalIpLocal].iter().filter(|s| self.filled.contains(s)) {
            let matching = self.commented(*set, "dst,dst");
            // Not from a bridge and not from this node: from outside.
            line(
                text,
                format_args!(
                    "-A {SERVICES} {matching} -m physdev ! --physdev-is-in -m addrtype ! --src-type LOCAL -j ACCEPT"
                ),
            );
            line(text, format_args!("-A {SERVICES} {matching} -m addrtype --dst-type LOCAL -j ACCEPT"));
        }
        line(text, format_args!("-A {SERVICES} -m addrtype --dst-type LOCAL -j {NODE_PORT}"));
        line(text, format_args!("-A {LOAD_BALANCER} -j {MARK_MASQ}"));
        for set in [Set::ClusterIp, Set::LoadBalancer].iter().filter(|s| self.filled.contains(s)) {
            line(text, format_args!("-A {SERVICES} {} -j ACCEPT", self.matching(*set, "dst,dst")));
        }
        let mark = self.common.mark();
        line(text, format_args!("-A {POSTROUTING} -m mark ! --mark {mark}/{mark} -j RETURN"));
        // Cleared, so that a packet that passes here again is not masqueraded again.
        line(text, format_args!("-A {POSTROUTING} -j MARK --xor-mark {mark}"));
        line(
            text,
            format_args!(
                "-A {POSTROUTING} -m comment --comment \"kubernetes service traffic requiring SNAT\" -j MASQUERADE --random-fully"
            ),
        );
        line(text, format_args!("-A {MARK_MASQ} -j MARK --or-mark {mark}"));
    }

    /// Where local traffic is not told from other, this node's own traffic is: it comes from a Service's address, as
    /// those are on a device of this node.
    fn masquerade_cluster(&self, text: &mut String) {
        if !self.filled.contains(&Set::ClusterIp) {
            return;
        }
        let matching = match (self.settings.masquerade_all, self.settings.detector.iptables(false)) {
            (true, _) => self.commented(Set::ClusterIp, "dst,dst"),
            (false, Some(not_local)) => format!("{} {not_local}", self.commented(Set::ClusterIp, "dst,dst")),
            (false, None) => self.commented(Set::ClusterIp, "src,dst"),
        };
        line(text, format_args!("-A {SERVICES} {matching} -j {MARK_MASQ}"));
    }

    fn filter(&self, text: &mut String) {
        self.matches(FILTER_MATCHES, text);
        line(text, format_args!("-A {SOURCE_RANGES} -j DROP"));
        self.barred.iter().for_each(|rule| line(text, format_args!("-A {OUT_FILTER} {rule}")));
        let mark = self.common.mark();
        line(
            text,
            format_args!(
                "-A {FORWARD} -m comment --comment \"kubernetes forwarding rules\" -m mark --mark {mark}/{mark} -j ACCEPT"
            ),
        );
        line(
            text,
            format_args!(
                "-A {FORWARD} -m comment --comment \"kubernetes forwarding conntrack rule\" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
            ),
        );
        let health = Set::HealthCheckNodePort;
        line(text, format_args!("-A {NODE_PORT} {} -j ACCEPT", self.commented(health, "dst")));
        // What listens on this node is not reached by a Service's address.
        let served = [Set::LoadBalancer, Set::ClusterIp, Set::ExternalIp, Set::ExternalIpLocal];
        for (set, directions) in served.map(|set| (set, "dst,dst")).into_iter().chain([(health, "dst")]) {
            line(text, format_args!("-A {FILTER} {} -j RETURN", self.matching(set, directions)));
        }
        let held = self.matching(Set::IpvsIps, "dst");
        line(text, format_args!("-A {FILTER} -m conntrack --ctstate NEW {held} -j REJECT"));
    }
}
