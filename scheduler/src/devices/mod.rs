//! Devices for claims: which devices of a node's pools satisfy which claims. Pure: what there is ([`Supply`]), a node
//! and claims go in, allocations come out; the first solution in the order of pools, slices and devices wins.
//!
//! Upstream: k8s.io/dynamic-resource-allocation/structured, the "incubating" allocator, with the features that are on
//! by default in v1.37. Not here: list-valued and derived attributes, compatibility groups and optional node
//! operations (their gates are off); who reads claims and writes allocations is `plugins/dynamic_resources.rs` and
//! `prebind_claims.rs`. Start reading at [`allocate`].

mod capacity;
mod constraint;
mod counters;
pub mod extended;
mod pools;
mod request;
mod result;
mod search;
mod selector;
mod supply;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::resource::v1::{AllocationResult, ResourceClaim};

pub use selector::Programs;
pub use supply::{DeviceRef, Inventory, Supply, Taken};

/// A node, as devices are chosen for it.
#[derive(Clone, Copy)]
pub struct Site<'a> {
    pub name: &'a str,
    pub labels: &'a BTreeMap<String, String>,
}

/// Why nothing can be said about a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// Concerns this node only.
    Node(String),
    /// Something is wrong with an object: the attempt ends.
    Fatal(String),
    /// It took too long.
    Interrupted,
}

/// The most devices a claim can have. Upstream: resourceapi.AllocationResultsMaxSize.
const MOST_DEVICES: usize = 32;

/// Chooses devices for all the claims, or for none (`None`). `stop` is asked now and then whether to give up.
pub fn allocate(
    supply: &Supply,
    site: Site<'_>,
    claims: &[Arc<ResourceClaim>],
    stop: &dyn Fn() -> bool,
) -> Result<Option<Vec<AllocationResult>>, Problem> {
    let pools = pools::gather(supply, site);
    let mut search = search::Search::new(supply, site, claims, &pools, stop)?;
    if search.run()? {
        return search.results().map(Some);
    }
    if pools.iter().any(|p| p.state == pools::State::Invalid) {
        return Err(Problem::Node("invalid resource pools were encountered".into()));
    }
    Ok(None)
}

/// `namespace/name`, or the name alone.
fn key(claim: &ResourceClaim) -> String {
    let name = claim.metadata.name.as_deref().unwrap_or_default();
    match claim.metadata.namespace.as_deref().unwrap_or_default() {
        "" => name.into(),
        namespace => format!("{namespace}/{name}"),
    }
}
