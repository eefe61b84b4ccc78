//! Removes everything this mode and mode ipvs ever wrote: jumps, shared chains, chains of Services. Pure: text in, text
//! out. Upstream: pkg/proxy/iptables/cleanup.go, pkg/proxy/ipvs/cleanup.go.

use std::fmt::Write;

use super::chain;
use super::ruleset::Saved;
use crate::ipvs::rules;

const FILTER: &[&str] =
    &[chain::SERVICES, chain::EXTERNAL_SERVICES, chain::FORWARD, chain::NODEPORTS, chain::PROXY_FIREWALL];
const NAT: &[&str] = &[chain::SERVICES, chain::NODEPORTS, chain::POSTROUTING, chain::MARK_MASQ];

/// The load that removes what `saved` has of ours; empty when there is nothing.
pub fn load(saved: &Saved) -> String {
    table(saved, "filter", FILTER, rules::FILTER_CHAINS) + &table(saved, "nat", NAT, rules::NAT_CHAINS)
}

/// Rules of a chain are ours alone, and counted.
pub fn is_counted(table: &str, name: &str) -> bool {
    match table {
        "filter" => FILTER.contains(&name),
        "nat" => NAT.contains(&name) || chain::is_owned(name),
        _ => false,
    }
}

fn table(saved: &Saved, table: &'static str, shared: &[&str], of_ipvs: &[&str]) -> String {
    let owned = saved.chains_of(table).filter(|name| {
        shared.contains(name)
            || of_ipvs.contains(name)
            || *name == chain::CANARY
            || (table == "nat" && chain::is_owned(name))
    });
    let owned: Vec<&str> = owned.collect();
    if owned.is_empty() {
        return String::new();
    }
    let mut text = format!("*{table}\n");
    for name in &owned {
        // Writing to a String cannot fail.
        let _ = writeln!(text, ":{name} - [0:0]");
    }
    for (of, line) in saved.jumps() {
        let outside = line.strip_prefix("-A ").filter(|l| !l.starts_with("KUBE-"));
        let leads_here = line.rsplit(' ').next().is_some_and(|target| owned.contains(&target));
        if let (true, true, Some(rule)) = (of == table, leads_here, outside) {
            let _ = writeln!(text, "-D {rule}");
        }
    }
    for name in &owned {
        let _ = writeln!(text, "-X {name}");
    }
    text + "COMMIT\n"
}
