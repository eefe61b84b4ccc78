//! iptables-restore --noflush and iptables-save.

use std::collections::BTreeMap;

/// Tables, their chains, their rules.
pub struct Tables(BTreeMap<String, BTreeMap<String, Vec<String>>>);

/// Chains whose rules upstream writes in the order of a map.
const ANY_ORDER: &[&str] =
    &["KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-EXTERNAL-SERVICES", "KUBE-PROXY-FIREWALL"];
const LAST: &str = "NOTE: this must be the last rule in this chain";

impl Tables {
    pub fn new() -> Self {
        let chains = |names: &[&str]| names.iter().map(|n| ((*n).to_string(), Vec::new())).collect();
        Self(BTreeMap::from([
            ("nat".to_string(), chains(&["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"])),
            ("filter".to_string(), chains(&["INPUT", "FORWARD", "OUTPUT"])),
        ]))
    }

    pub fn save(&self) -> String {
        let mut text = String::new();
        for (name, chains) in &self.0 {
            text.push_str(&format!("*{name}\n"));
            text.extend(chains.keys().map(|c| format!(":{c} - [0:0]\n")));
            for (chain, rules) in chains {
                text.extend(rules.iter().map(|r| format!("-A {chain} {r}\n")));
            }
            text.push_str("COMMIT\n");
        }
        text
    }

    pub fn restore(&mut self, text: &str) {
        let mut table = String::new();
        for line in text.lines() {
            if let Some(name) = line.strip_prefix('*') {
                table = name.to_string();
                continue;
            }
            if line == "COMMIT" {
                self.check(&table);
                continue;
            }
            let chains = self.0.get_mut(&table).expect("a table");
            if let Some(chain) = line.strip_prefix(':') {
                let name = chain.split(' ').next().expect("a name");
                chains.insert(name.to_string(), Vec::new());
                continue;
            }
            let (verb, rest) = line.split_once(' ').expect("a verb");
            let (chain, rule) = rest.split_once(' ').unwrap_or((rest, ""));
            if verb == "-X" {
                assert_eq!(chains.remove(chain), Some(Vec::new()), "{chain} is not empty");
                continue;
            }
            let rules = chains.get_mut(chain).unwrap_or_else(|| panic!("no chain for {line}"));
            match verb {
                "-A" => rules.push(rule.to_string()),
                "-I" => rules.insert(0, rule.to_string()),
                "-D" => {
                    let at =
                        rules.iter().position(|r| r == rule).unwrap_or_else(|| panic!("no rule for {line}"));
                    rules.remove(at);
                }
                _ => panic!("{line}"),
            }
        }
    }

    /// Targets must exist once a table is committed.
    fn check(&self, table: &str) {
        let chains = &self.0[table];
        for rule in chains.values().flatten() {
            let target = rule.split(" -j ").nth(1).and_then(|t| t.split(' ').next()).unwrap_or_default();
            assert!(!target.starts_with("KUBE-") || chains.contains_key(target), "{rule}");
        }
    }

    /// As e2e/oracle/proxy prints them.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (table, chains) in &self.0 {
            lines.extend(chains.keys().map(|chain| format!("{table} :{chain}")));
            for (chain, rules) in chains {
                let mut rules: Vec<String> = rules.iter().map(|r| format!("{table} {chain} {r}")).collect();
                if ANY_ORDER.contains(&chain.as_str()) {
                    let at = rules.iter().position(|r| r.contains(LAST)).unwrap_or(rules.len());
                    assert!(rules[at..].iter().all(|r| r.contains(LAST)), "{rules:?}");
                    rules.sort_by_key(|r| (r.contains(LAST), r.clone()));
                }
                lines.extend(rules);
            }
        }
        lines
    }
}
