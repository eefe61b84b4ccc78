//! The program nft, for our table of one family.

use serde::Deserialize;
use tracing::warn;

use super::base::word;
use super::names::TABLE;
use super::ruleset::Existing;
use super::wire;
use crate::model::Family;
use crate::program::{Error, Program, Result};
use crate::tally::Tally;

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
    rule: Option<serde::de::IgnoredAny>,
}

impl Nft {
    /// Runs a transaction; all of it or nothing. What [`wire`] knows goes to the kernel directly; nft has the last word
    /// where the kernel refuses, and the only one about everything else.
    pub async fn run(self, transaction: &str) -> Result<()> {
        let nft = NFT.feed(&["-f", "-"], transaction);
        let Some(messages) = wire::compile(self.family, transaction) else { return nft.await };
        let sent = tokio::task::spawn_blocking(move || wire::socket::run(&messages)).await;
        let refused = match sent {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(refused)) => refused,
            // The runtime ends.
            Err(error) => wire::socket::Refused { line: None, error: std::io::Error::other(error) },
        };
        match nft.await {
            Err(Error::Start { .. }) => {
                let line =
                    refused.line.and_then(|at| transaction.lines().nth(at)).unwrap_or("the transaction");
                Err(Error::Refused { what: line.to_string(), cause: refused.error })
            }
            other => other,
        }
    }

    /// The same in a table that is made anew: somebody put things into ours that are in the way.
    pub async fn run_alone(self, transaction: &str) -> Result<()> {
        let table = format!("{} {TABLE}", word(self.family));
        let text = format!("add table {table}\ndelete table {table}\n{transaction}");
        // Nothing is missing in between; clients may change their endpoint.
        self.run(&text).await?;
        warn!(table, "Objects of somebody else were in the way in our table; it was made anew without them");
        Ok(())
    }

    /// Chains and sets of clients that our table has.
    pub async fn existing(self) -> Result<Existing> {
        looked(move || wire::dump::existing(self.family)).await
    }

    /// How many rules and elements our table has.
    pub async fn tally(self, node_port_ips: bool) -> Result<Tally> {
        looked(move || wire::dump::tally(self.family, node_port_ips)).await
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

    /// Removes the table. One that is not there is no error, and neither is a machine without nftables: it has none.
    pub async fn remove(self) -> Result<()> {
        let table = format!("{} {TABLE}", word(self.family));
        match self.run(&format!("add table {table}\ndelete table {table}\n")).await {
            Err(Error::Refused { cause, .. }) if cause.kind() != std::io::ErrorKind::PermissionDenied => {
                Ok(())
            }
            other => other,
        }
    }
}

/// Looks at the kernel, on a thread that may wait.
async fn looked<T: Send + 'static>(look: impl FnOnce() -> std::io::Result<T> + Send + 'static) -> Result<T> {
    let refused = |cause| Error::Refused { what: "to list its rules".to_string(), cause };
    let looked = tokio::task::spawn_blocking(look).await;
    // Without an answer the runtime ends.
    looked.unwrap_or_else(|error| Err(std::io::Error::other(error))).map_err(refused)
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
