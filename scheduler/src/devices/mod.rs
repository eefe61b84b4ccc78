//! Devices for claims: which devices of a node's pools satisfy which claims. Pure: what there is ([`Supply`]), a node
//! and claims go in, allocations come out; the first solution in the order of pools, slices and devices wins.
//!
//! Upstream: k8s.io/dynamic-resource-allocation/structured, the "experimental" allocator, of which the others are
//! subsets; what is switched off is as in those ([`Features`]). Upstream's "stable" one, which serves where neither
//! capacity is shared nor devices are made ready, tries pools in any order; here they have the same order always.
//! Not here: who reads claims and writes allocations; that is `plugins/dynamic_resources.rs` and `prebind_claims.rs`.
//! Start reading at [`allocate`].

mod capacity;
mod constraint;
mod counters;
pub mod extended;
mod features;
#[cfg(test)]
mod oracle;
mod pools;
mod request;
mod result;
mod search;
mod selector;
mod slice;
mod supply;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use k8s_openapi::api::resource::v1::{AllocationResult, ResourceClaim};

use informer::Name;

use crate::model::NodeLabels;

pub use features::Features;
pub use pools::{device_meant, meant};
pub use selector::Programs;
pub use slice::{Device, ResourceSlice};
pub use supply::{DeviceRef, Inventory, PoolId, PoolRef, Supply, Taken, quantity};

/// A node, as devices are chosen for it.
#[derive(Clone, Copy)]
pub struct Site<'a> {
    pub name: &'a str,
    pub labels: &'a NodeLabels,
    /// Features that it declares.
    pub declared: &'a [Name],
}

/// What nodes declare that may have less to do for a device. Upstream:
/// nodedeclaredfeatures/features/draoptionalnodeoperations.
pub const OPTIONAL_NODE_OPERATIONS: &str = "DRAOptionalNodeOperations";

impl Site<'_> {
    pub fn has_optional_operations(&self) -> bool {
        self.declared.iter().any(|f| f == OPTIONAL_NODE_OPERATIONS)
    }
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

/// The pools that what a node would give depends on, and nothing else that is taken.
pub fn pools(supply: &Supply, site: Site<'_>) -> Vec<Arc<PoolId>> {
    let pools = pools::gather(supply, site);
    let id = |p: &pools::Pool<'_>| {
        supply.inventory.pool(supply::PoolRef { driver: p.driver, pool: p.name }).cloned()
    };
    pools.iter().filter_map(id).collect()
}

/// `namespace/name`, or the name alone.
fn key(claim: &ResourceClaim) -> String {
    let name = claim.metadata.name.as_deref().unwrap_or_default();
    match claim.metadata.namespace.as_deref().unwrap_or_default() {
        "" => name.into(),
        namespace => format!("{namespace}/{name}"),
    }
}
