//! The iptables programs of one family.
//!
//! The programs wait for the lock of the legacy back end themselves; the nft back end has none.

use super::jumps::JUMPS;
use super::ruleset::Saved;
use crate::model::Family;
use crate::program::{Program, Result};

/// The programs of one family.
#[derive(Clone, Copy, Debug)]
pub struct Iptables {
    pub family: Family,
}

/// Seconds to wait for the lock that other users of iptables may hold.
const LOCK_WAIT: &str = "5";

/// From so many chains on, a listing of the table costs less than it saves.
const MANY_CHAINS: usize = 1000;

/// Lets iptables-restore list the table of Services before it changes it. It then reads all chains at once; otherwise it
/// keeps a sorted list of the chains that it has met, and walks it from the front for each line: at 10,000 Services a
/// minute of processor time for what then takes one second. iptables 1.8.9: nft-cache.c nft_cache_level_set.
fn listed_first(text: &str) -> Option<String> {
    let at = text.find("*nat\n")? + "*nat\n".len();
    let (before, section) = text.split_at(at);
    if section.lines().filter(|line| line.starts_with(':')).count() < MANY_CHAINS {
        return None;
    }
    // Jumps are inserted where the kernel's own chains may not be there yet; after a listing they would not be made.
    let is_jump = |line: &&str| line.starts_with("-I ");
    let lines = || section.split_inclusive('\n');
    let targets = lines().filter(is_jump).filter_map(|line| line.split_whitespace().last());
    let mut listed = String::with_capacity(text.len() + 256);
    listed.push_str(before);
    targets.for_each(|chain| listed.extend([":", chain, " - [0:0]\n"]));
    listed.extend(lines().filter(is_jump));
    listed.push_str("-S\n");
    listed.extend(lines().filter(|line| !is_jump(line)));
    Some(listed)
}

impl Iptables {
    fn program(self, v4: &'static str, v6: &'static str) -> Program {
        let name = match self.family {
            Family::V4 => v4,
            Family::V6 => v6,
        };
        Program { name, package: "iptables" }
    }

    /// All tables as text.
    pub async fn save(self) -> Result<String> {
        self.program("iptables-save", "ip6tables-save").run(&[], "").await
    }

    /// What the kernel has. Of tables that iptables cannot show, jumps are asked for one by one: they would be added again
    /// with each load.
    pub async fn saved(self) -> Result<Saved> {
        let text = self.save().await?;
        let mut saved = Saved::parse(&text);
        for jump in JUMPS.iter().filter(|jump| Saved::hidden(&text).contains(&jump.table)) {
            let rule = split(&jump.rule());
            let words = ["-t", jump.table, "-C"].into_iter().chain(rule.iter().map(String::as_str));
            if self.call(&words.collect::<Vec<_>>()).await.is_ok() {
                saved.found(jump);
            }
        }
        Ok(saved)
    }

    /// Applies a load; all of it or nothing per table.
    pub async fn restore(self, text: &str) -> Result<()> {
        match listed_first(text) {
            // Should a version not take the listing, the load itself says what is wrong.
            Some(quick) if self.feed(&quick).await.is_ok() => Ok(()),
            _ => self.feed(text).await,
        }
    }

    async fn feed(self, text: &str) -> Result<()> {
        let arguments = ["-w", LOCK_WAIT, "--noflush", "--counters"];
        self.program("iptables-restore", "ip6tables-restore").feed(&arguments, text).await
    }

    /// One call of iptables itself.
    pub async fn call(self, arguments: &[&str]) -> Result<String> {
        let all: Vec<&str> = ["-w", LOCK_WAIT].iter().chain(arguments).copied().collect();
        self.program("iptables", "ip6tables").run(&all, "").await
    }

    /// Says whether the program and the kernel's table can be used at all.
    pub async fn present(self) -> Result<()> {
        self.call(&["-t", "nat", "-n", "-L", "POSTROUTING"]).await.map(drop)
    }

    /// The rules are still there: a chain that vanishes when tables are flushed, and rules that vanish when chains are.
    pub async fn intact(self) -> bool {
        use super::chain::{CANARY, FORWARD, POSTROUTING};
        for (table, chain, rule) in [
            ("mangle", CANARY, ""),
            ("nat", "PREROUTING", "-j KUBE-SERVICES"),
            ("nat", "OUTPUT", "-j KUBE-SERVICES"),
            ("nat", POSTROUTING, "-j MASQUERADE"),
            ("filter", FORWARD, "-j ACCEPT"),
        ] {
            let listed = self.call(&["-t", table, "-S", chain]).await;
            if !listed.is_ok_and(|text| text.contains(rule)) {
                return false;
            }
        }
        true
    }
}

/// Splits a rule as iptables-restore does: quotes keep words together.
pub fn split(rule: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in rule.chars() {
        match c {
            '"' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            c => words.last_mut().into_iter().for_each(|w| w.push(c)),
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_keep_words_together() {
        assert_eq!(
            split("KUBE-SERVICES --comment \"ns/a cluster IP\" -j X"),
            ["KUBE-SERVICES", "--comment", "ns/a cluster IP", "-j", "X"]
        );
    }

    #[test]
    fn only_large_loads_are_listed_first() {
        let load = |chains: usize| {
            let chains: String = (0..chains).map(|i| format!(":KUBE-SEP-{i} - [0:0]\n")).collect();
            format!("*filter\nCOMMIT\n*nat\n{chains}-A KUBE-SEP-0 -j DROP\nCOMMIT\n")
        };
        assert_eq!(listed_first(&load(3)), None);
        assert_eq!(listed_first("*filter\nCOMMIT\n"), None);
        let listed = listed_first(&load(MANY_CHAINS)).expect("a large load");
        assert!(listed.starts_with("*filter\nCOMMIT\n*nat\n-S\n:KUBE-SEP-0 - [0:0]\n"), "{}", &listed[..60]);
        assert_eq!(listed.len(), load(MANY_CHAINS).len() + 3);
        let jumping = load(MANY_CHAINS).replace("-A KUBE-SEP-0", "-I OUTPUT -j KUBE-SERVICES\n-A KUBE-SEP-0");
        let listed = listed_first(&jumping).expect("a large load");
        let start =
            "*filter\nCOMMIT\n*nat\n:KUBE-SERVICES - [0:0]\n-I OUTPUT -j KUBE-SERVICES\n-S\n:KUBE-SEP-0 ";
        assert!(listed.starts_with(start), "{}", &listed[..120]);
        assert!(listed.ends_with("]\n-A KUBE-SEP-0 -j DROP\nCOMMIT\n"));
    }
}
