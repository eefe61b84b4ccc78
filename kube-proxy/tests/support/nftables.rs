//! nft -f, for the commands that the proxy uses.

use std::collections::{BTreeMap, BTreeSet};

/// Our table; objects as the commands that add them.
#[derive(Default)]
pub struct Table {
    head: String,
    chains: BTreeMap<String, (String, Vec<String>)>,
    /// Sets and maps: how they are added, and elements by key.
    containers: BTreeMap<String, (String, BTreeMap<String, String>)>,
    counters: BTreeSet<String>,
}

impl Table {
    pub fn run(&mut self, text: &str) {
        for line in text.lines() {
            let mut words = line.splitn(5, ' ');
            let mut word = || words.next().unwrap_or_default();
            let (verb, kind, _, table, rest) = (word(), word(), word(), word(), word());
            assert_eq!(table, "kube-proxy", "{line}");
            let (name, more) = rest.split_once(' ').unwrap_or((rest, ""));
            match (verb, kind) {
                ("add", "table") => self.head = line.to_string(),
                ("add", "chain") => drop(self.chains.entry(name.into()).or_insert((line.into(), Vec::new()))),
                ("flush", "chain") => self.chain(name, line).1.clear(),
                ("delete", "chain") => {
                    assert!(self.chain(name, line).1.is_empty(), "{line}");
                    self.chains.remove(name);
                }
                ("add", "rule") => {
                    self.check(more);
                    self.chain(name, line).1.push(line.into());
                }
                ("add", "set" | "map") => {
                    let known = self.containers.entry(name.into()).or_insert((line.into(), BTreeMap::new()));
                    assert_eq!(known.0, line, "another kind of the same name");
                }
                ("flush", "set" | "map") => self.container(name, line).1.clear(),
                ("delete", "set" | "map") => {
                    let used = format!("@{name}");
                    let uses = |rule: &String| rule.split(' ').any(|w| w == used);
                    assert!(!self.chains.values().flat_map(|c| &c.1).any(uses), "{line}: in use");
                    self.containers.remove(name).unwrap_or_else(|| panic!("{line}"));
                }
                ("add", "element") => {
                    let key = key(more);
                    self.check(more);
                    assert_eq!(
                        self.container(name, line).1.insert(key, line.into()),
                        None,
                        "{line}: there is one"
                    );
                }
                ("delete", "element") => {
                    let removed = self.container(name, line).1.remove(&key(more));
                    assert!(removed.is_some(), "{line}: there is none");
                }
                ("add", "counter") => drop(self.counters.insert(name.into())),
                ("delete", "counter") => assert!(self.counters.remove(name), "{line}"),
                _ => panic!("{line}"),
            }
        }
    }

    /// What a rule or element leads to must exist.
    fn check(&self, text: &str) {
        let words: Vec<&str> = text.split(' ').collect();
        for pair in words.windows(2) {
            if matches!(pair[0], "goto" | "jump") {
                assert!(self.chains.contains_key(pair[1]), "{text}");
            }
        }
        for set in words.iter().filter_map(|w| w.strip_prefix('@')) {
            assert!(self.containers.contains_key(set), "{text}");
        }
    }

    fn chain(&mut self, name: &str, line: &str) -> &mut (String, Vec<String>) {
        self.chains.get_mut(name).unwrap_or_else(|| panic!("{line}"))
    }

    fn container(&mut self, name: &str, line: &str) -> &mut (String, BTreeMap<String, String>) {
        self.containers.get_mut(name).unwrap_or_else(|| panic!("{line}"))
    }

    /// As e2e/oracle/proxy prints them: sorted, and without emptied chains that wait for their removal.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![(self.head.clone(), self.head.clone())];
        for (name, (add, rules)) in &self.chains {
            if !(name.contains('/') && rules.is_empty()) {
                lines.push((add.clone(), add.clone()));
            }
            for rule in rules {
                lines.push((rule.split(' ').take(5).collect::<Vec<_>>().join(" "), rule.clone()));
            }
        }
        for (add, elements) in self.containers.values() {
            lines.push((add.clone(), add.clone()));
            lines.extend(elements.values().map(|e| (e.clone(), e.clone())));
        }
        lines.sort_by(|a, b| a.0.cmp(&b.0));
        lines.into_iter().map(|(_, line)| line).collect()
    }
}

/// `{ key comment "..." : value }`.
fn key(element: &str) -> String {
    let inner = element.trim_start_matches("{ ").trim_end_matches(" }");
    let inner = inner.split(" comment ").next().unwrap_or(inner);
    inner.split(" : ").next().unwrap_or(inner).to_string()
}
