//! The program ipset.

use std::collections::{BTreeMap, BTreeSet};

use super::set;
use crate::model::Family;
use crate::program::{Error, Program, Result};

const IPSET: Program = Program { name: "ipset", package: "ipset" };
/// Upstream: ipset.go MinIPSetCheckVersion.
const OLDEST: [u32; 2] = [6, 0];

/// Applies commands; those that find things done already are no errors.
pub async fn restore(text: &str) -> Result<()> {
    if text.is_empty() { Ok(()) } else { IPSET.run(&["-exist", "restore"], text).await.map(drop) }
}

/// Entries of our sets of a family, by the set's name.
pub async fn list(family: Family) -> Result<BTreeMap<String, BTreeSet<Box<str>>>> {
    let ours: BTreeSet<String> = set::ALL.iter().map(|s| s.name(family)).collect();
    Ok(parse(&IPSET.run(&["save"], "").await?, &ours))
}

/// Reads the output of `ipset save`.
fn parse(text: &str, ours: &BTreeSet<String>) -> BTreeMap<String, BTreeSet<Box<str>>> {
    let mut sets: BTreeMap<String, BTreeSet<Box<str>>> = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let (Some(verb), Some(name)) = (words.next(), words.next()) else { continue };
        if !ours.contains(name) {
            continue;
        }
        let entries = sets.entry(name.to_string()).or_default();
        if verb == "add" {
            entries.extend(words.next().map(Box::from));
        }
    }
    sets
}

/// A set has an entry.
pub async fn has(name: &str, entry: &str) -> bool {
    IPSET.run(&["test", name, entry], "").await.is_ok()
}

/// Removes our sets of a family. Where there is no program, there are none.
pub async fn destroy(family: Family) -> Result<()> {
    let sets = match list(family).await {
        Err(Error::Start { .. }) => return Ok(()),
        other => other?,
    };
    let text: String = sets.keys().map(|name| format!("destroy {name}\n")).collect();
    restore(&text).await
}

/// Says whether the program is new enough. Upstream: supported.go CanUseIPVSProxier.
pub async fn usable() -> Result<()> {
    let text = IPSET
        .run(&["--version"], "")
        .await
        .map_err(|e| Error::Unusable(format!("error getting ipset version, error: {e}")))?;
    let version = text.split_ascii_whitespace().find_map(|word| word.strip_prefix('v')).unwrap_or_default();
    let version = version.trim_end_matches(',');
    let numbers: Vec<u32> = version.split('.').map_while(|part| part.parse().ok()).collect();
    if numbers.as_slice() < OLDEST.as_slice() {
        return Err(Error::Unusable(format!(
            "ipset version: v{version} is less than min required version: 6.0"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_ipset_saves() {
        let text = "create KUBE-CLUSTER-IP hash:ip,port family inet hashsize 1024 maxelem 65536\n\
                    add KUBE-CLUSTER-IP 10.96.0.1,tcp:443\nadd OTHER 10.0.0.1\ncreate KUBE-6-CLUSTER-IP hash:ip,port\n";
        let ours = ["KUBE-CLUSTER-IP".to_string()].into();
        let sets = parse(text, &ours);
        assert_eq!(sets, [("KUBE-CLUSTER-IP".to_string(), [Box::from("10.96.0.1,tcp:443")].into())].into());
    }
}
