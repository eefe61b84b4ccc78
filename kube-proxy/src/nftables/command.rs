//! The program nft, for our table of one family.

use serde::Deserialize;

use super::base::word;
use super::names::{self, TABLE};
use super::ruleset::Existing;
use crate::model::Family;
use crate::program::{Error, Program, Result};

const NFT: Program = Program { name: "nft", package: "nftables" };

/// Older versions parse all tables at start, and stumble over what newer ones wrote. Upstream: knftables.New.
const OLDEST_NFT: [u32; 3] = [1, 0, 1];
/// Stands for the age of the nft that the host itself may use. Upstream: utilkernel.NFTablesKubeProxyKernelVersion.
const OLDEST_KERNEL: [u32; 2] = [5, 13];
/// Set to anything, the kernel's version does not count.
pub const SKIP_KERNEL_CHECK: &str = "KUBE_PROXY_NFTABLES_SKIP_KERNEL_VERSION_CHECK";

/// Our table of one family.
#[derive(Clone, Copy, Debug)]
pub struct Nft {
    pub family: Family,
}

#[derive(Deserialize)]
struct Listing {
    nftables: Vec<Item>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Item {
    chain: Option<Named>,
    set: Option<Named>,
    rule: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
    table: String,
    timeout: Option<u32>,
}

impl Nft {
    /// Runs a transaction; all of it or nothing.
    pub async fn run(self, transaction: &str) -> Result<()> {
        NFT.run(&["-f", "-"], transaction).await.map(drop)
    }

    /// Chains and sets of clients that our table has.
    pub async fn existing(self) -> Result<Existing> {
        let mut existing = Existing::default();
        for item in self.list("chains").await? {
            existing.chains.extend(item.chain.filter(|c| c.table == TABLE).map(|c| c.name));
        }
        for set in self.list("sets").await?.into_iter().filter_map(|item| item.set) {
            if set.table == TABLE && set.name.starts_with(names::AFFINITY) {
                existing.affinity.insert(set.name, set.timeout.unwrap_or(0));
            }
        }
        Ok(existing)
    }

    async fn list(self, what: &str) -> Result<Vec<Item>> {
        let text = NFT.run(&["--json", "list", what, word(self.family)], "").await?;
        let listing: Listing = serde_json::from_str(&text).map_err(|e| {
            Error::Unusable(format!("nft --json list {what}: what it printed cannot be read: {e}"))
        })?;
        Ok(listing.nftables)
    }

    /// The rules are still there: the kernel calls our chains and they look into our maps.
    pub async fn intact(self) -> bool {
        for (chain, rule) in [
            ("nat-prerouting", "jump services"),
            ("nat-output", "jump services"),
            ("services", "vmap @service-ips"),
            ("masquerading", "masquerade"),
        ] {
            let listed = NFT.run(&["list", "chain", word(self.family), TABLE, chain], "").await;
            if !listed.is_ok_and(|text| text.contains(rule)) {
                return false;
            }
        }
        true
    }

    /// Our table has an element, written `container { key }`.
    pub async fn has_element(self, element: &str) -> bool {
        let command = format!("get element {} {TABLE} {element}\n", word(self.family));
        NFT.run(&["-f", "-"], &command).await.is_ok()
    }

    /// How many rules a chain has; none if there is no such chain.
    pub async fn rules_of(self, chain: &str) -> Option<usize> {
        let text = NFT.run(&["--json", "list", "chain", word(self.family), TABLE, chain], "").await.ok()?;
        let listing: Listing = serde_json::from_str(&text).ok()?;
        Some(listing.nftables.iter().filter(|item| item.rule.is_some()).count())
    }

    /// Removes the table. One that is not there is no error, and neither is a missing program: it wrote none.
    pub async fn remove(self) -> Result<()> {
        let family = word(self.family);
        match NFT
            .run(&["-f", "-"], &format!("add table {family} {TABLE}\ndelete table {family} {TABLE}\n"))
            .await
        {
            Err(Error::Start { .. }) => Ok(()),
            other => other.map(drop),
        }
    }
}

/// Says whether nft and the kernel are new enough, `release` as of uname.
pub async fn usable(release: &str, skip_kernel_check: bool) -> Result<()> {
    let text = NFT.run(&["--version"], "").await?;
    let version = text.split_whitespace().find_map(|w| w.strip_prefix('v')).unwrap_or_default();
    if numbers(version).as_slice() < OLDEST_NFT.as_slice() {
        let text = format!("nft version must be v1.0.1 or later, this machine has {}", text.trim());
        return Err(Error::Unusable(text));
    }
    if !skip_kernel_check && numbers(release).as_slice() < OLDEST_KERNEL.as_slice() {
        return Err(Error::Unusable(format!(
            "kube-proxy in nftables mode requires kernel 5.13 or later, this one is {release}; with another nft than \
             the host's in use, {SKIP_KERNEL_CHECK} can be set"
        )));
    }
    Ok(())
}

fn numbers(version: &str) -> Vec<u32> {
    version.split(|c: char| !c.is_ascii_digit()).map_while(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        assert!(numbers("6.18.44-fc").as_slice() > OLDEST_KERNEL.as_slice());
        assert!(numbers("5.4.0").as_slice() < OLDEST_KERNEL.as_slice());
        assert!(numbers("1.0.6").as_slice() > OLDEST_NFT.as_slice());
        assert!(numbers("0.9.8").as_slice() < OLDEST_NFT.as_slice());
    }
}
